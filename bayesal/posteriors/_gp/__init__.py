"""Gaussian processes: exact, and through inducing points."""

from bayesal.posteriors._gp._classification import gp_classification
from bayesal.posteriors._gp._regression import gp_regression

__all__ = ["gp_classification", "gp_regression"]
