"""Gaussian processes: exact, and through inducing points."""

from bayesal.posteriors.gp.process import gp_classification, gp_regression

__all__ = ["gp_classification", "gp_regression"]
