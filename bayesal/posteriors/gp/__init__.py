"""Gaussian processes: exact, and through inducing points."""

from bayesal.posteriors.gp.classification import gp_classification
from bayesal.posteriors.gp.kernels import MATERN52, RBF, Kernel
from bayesal.posteriors.gp.regression import gp_regression

__all__ = ["MATERN52", "RBF", "Kernel", "gp_classification", "gp_regression"]
