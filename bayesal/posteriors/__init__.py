"""Ways to be uncertain: one method, one file, one shape (`types.Posterior`)."""

from bayesal.posteriors.ensemble import ensemble
from bayesal.posteriors.gp import gp_classification, gp_regression
from bayesal.posteriors.laplace import laplace
from bayesal.posteriors.laplace_all import laplace_all
from bayesal.posteriors.mc_dropout import mc_dropout
from bayesal.posteriors.point import point
from bayesal.posteriors.preference import preference
from bayesal.posteriors.svi import svi
from bayesal.posteriors.variational import variational

__all__ = [
    "ensemble", "gp_classification", "gp_regression", "laplace", "laplace_all", "mc_dropout", "point", "preference", "svi",
    "variational",
]
