"""Approximate posteriors: one method per file, all of type `types.Posterior`."""

from bayesal.posteriors.any_of import any_of
from bayesal.posteriors.ensemble import ensemble
from bayesal.posteriors.from_numpyro import from_numpyro, numpyro_site
from bayesal.posteriors.gp import gp_classification, gp_regression
from bayesal.posteriors.hmc import nuts
from bayesal.posteriors.laplace import last_layer_laplace, linearized_laplace
from bayesal.posteriors.mc_dropout import mc_dropout
from bayesal.posteriors.point import point
from bayesal.posteriors.preference import preference
from bayesal.posteriors.r_hat import r_hat
from bayesal.posteriors.sgmcmc import sgmcmc
from bayesal.posteriors.svi import svi
from bayesal.posteriors.swag import swag
from bayesal.posteriors.variational import variational

__all__ = [
    "any_of",
    "ensemble",
    "from_numpyro",
    "gp_classification",
    "gp_regression",
    "last_layer_laplace",
    "linearized_laplace",
    "mc_dropout",
    "numpyro_site",
    "nuts",
    "point",
    "preference",
    "r_hat",
    "sgmcmc",
    "svi",
    "swag",
    "variational",
]
