"""How good predictions and whole runs are. Predictions are averaged log-probabilities `[N, C]` and
labels int `[N]`, or real ones of both.

Losses are means over points: lower is better. Probabilities have no unit, likelihoods are in nats.
`weights` `[N]` say how many points each stands for (importance weights, or a mask); all are 1 if
None.
"""

from bayesal.metrics.bins import Bins, classwise_ece, ece, reliability, squared_ece
from bayesal.metrics.classification import (
    BrierParts,
    accuracy,
    brier,
    brier_parts,
    dyads,
    joint_nll,
    nll,
)
from bayesal.metrics.curves import area_under_curve, labels_needed
from bayesal.metrics.ranking import RiskCoverage, auroc, risk_coverage
from bayesal.metrics.regression import crps, density_nll, interval_coverage, pit, rmse

__all__ = [
    "Bins",
    "BrierParts",
    "RiskCoverage",
    "accuracy",
    "area_under_curve",
    "auroc",
    "brier",
    "brier_parts",
    "classwise_ece",
    "crps",
    "density_nll",
    "dyads",
    "ece",
    "interval_coverage",
    "joint_nll",
    "labels_needed",
    "nll",
    "pit",
    "reliability",
    "risk_coverage",
    "rmse",
    "squared_ece",
]
