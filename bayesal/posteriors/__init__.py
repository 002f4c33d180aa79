"""Ways to be uncertain: one method, one file, one shape (`types.Posterior`)."""

from bayesal.posteriors.ensemble import ensemble
from bayesal.posteriors.from_numpyro import from_numpyro, numpyro_site
from bayesal.posteriors.hmc import nuts, r_hat
from bayesal.posteriors.mc_dropout import mc_dropout
from bayesal.posteriors.point import point
from bayesal.posteriors.sgmcmc import sgmcmc
from bayesal.posteriors.swag import swag
from bayesal.posteriors.variational import variational

__all__ = ["ensemble", "from_numpyro", "mc_dropout", "numpyro_site", "nuts", "point", "r_hat", "sgmcmc", "swag", "variational"]
