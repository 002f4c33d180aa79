"""Ways to be uncertain: one method, one file, one shape (`types.Posterior`)."""

from bayesal.posteriors.ensemble import ensemble
from bayesal.posteriors.mc_dropout import mc_dropout
from bayesal.posteriors.point import point
from bayesal.posteriors.svi import svi
from bayesal.posteriors.variational import variational

__all__ = ["ensemble", "mc_dropout", "point", "svi", "variational"]
