"""Accuracy, losses, calibration and learning curves.

Predictions are averaged log-probabilities `[N, C]` with integer labels `[N]`, or a `Gaussian` or
`Mixture` with real labels `[N]`. Losses are means over points, lower is better; likelihoods are in
nats. `weights` `[N]` are how many points each stands for (importance weights, or a mask); None: 1.
"""

from bayesal.metrics._agreement import balanced_accuracy, confusion_matrix, f1
from bayesal.metrics._bins import classwise_ece, ece, reliability, squared_ece
from bayesal.metrics._classification import (
    accuracy,
    brier,
    brier_parts,
    dyads,
    joint_nll,
    nll,
)
from bayesal.metrics._curves import area_under_curve, labels_needed, mean_interval
from bayesal.metrics._ranking import auroc, average_precision, risk_coverage
from bayesal.metrics._regression import crps, density_nll, interval_coverage, pit, rmse

__all__ = [
    "accuracy",
    "area_under_curve",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "brier_parts",
    "classwise_ece",
    "confusion_matrix",
    "crps",
    "density_nll",
    "dyads",
    "ece",
    "f1",
    "interval_coverage",
    "joint_nll",
    "labels_needed",
    "mean_interval",
    "nll",
    "pit",
    "reliability",
    "risk_coverage",
    "rmse",
    "squared_ece",
]


def __dir__() -> list[str]:
    return __all__
