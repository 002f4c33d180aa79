"""Approximate posteriors: one method per file, all of type `types.Posterior`."""

from bayesal.posteriors._any_of import any_of
from bayesal.posteriors._ensemble import ensemble
from bayesal.posteriors._from_numpyro import from_numpyro, numpyro_site
from bayesal.posteriors._gp import gp_classification, gp_regression
from bayesal.posteriors._hmc import nuts
from bayesal.posteriors._laplace import last_layer_laplace, linearized_laplace
from bayesal.posteriors._mc_dropout import mc_dropout
from bayesal.posteriors._point import point
from bayesal.posteriors._preference import preference
from bayesal.posteriors._sgmcmc import sgmcmc
from bayesal.posteriors._svi import svi
from bayesal.posteriors._swag import swag
from bayesal.posteriors._variational import variational

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
    "sgmcmc",
    "svi",
    "swag",
    "variational",
]


def __dir__() -> list[str]:
    return __all__
