"""Bayesian linear models on given features: one convex problem, and no optimizer steps."""

from bayesal.posteriors._heads._linear import linear
from bayesal.posteriors._heads._logistic import logistic

__all__ = ["linear", "logistic"]
