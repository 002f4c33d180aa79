"""Rankings by uncertainty: do errors, or out-of-distribution points, rank above the rest?"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Real

from bayesal import _checks, errors
from bayesal.metrics import _checked
from bayesal.types import ArrayLike


def _vector(values: Any, name: str) -> np.ndarray:
    host = np.asarray(_checks.plain(values, name))
    if host.ndim != 1 or host.dtype.kind not in "biuf":
        raise errors.WrongShape(
            name,
            f"`{name}` must be real numbers [N], one per point; got shape {host.shape}, "
            f"dtype {host.dtype}.",
        )
    _checked.some(host, name)
    host = host.astype(np.float64)
    if len(bad := np.flatnonzero(np.isnan(host))):
        raise errors.NonFinite(name, f"`{name}` is NaN at points {_checks.listed(bad)}.", bad)
    return host


class RiskCoverage(NamedTuple):
    """Risk-coverage curve: mean loss of the most confident points, for every share of them.

    coverage: 1/N, 2/N, ..., 1.
    risk:     mean loss of that share; equally confident points count with their mean loss.
    area:     mean of `risk`: the area under the curve (AURC), in the loss's unit.
    excess:   `area` minus the area of the best possible order; at least 0 (NaN where a loss is
      inf).
    """

    coverage: Float[np.ndarray, " N"]
    risk: Float[np.ndarray, " N"]
    area: float
    excess: float


def risk_coverage(confidence: Real[ArrayLike, " N"], loss: ArrayLike) -> RiskCoverage:
    """Selective prediction: mean loss of the most confident points against their share.

    risk(i) = mean loss of the i most confident points; area = mean_i risk(i). Each of several
    equally confident points counts with their mean loss.

    Args:
      confidence: higher is more confident, finite or infinite: `log_probs.max(-1)`, or minus a
        score.
      loss: the loss of each point: whether it is wrong, its NLL, or its squared error.
    References:
      Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500; excess over the optimum: Geifman et
      al. 2019, https://arxiv.org/abs/1805.08206

    >>> found = risk_coverage(np.array([0.9, 0.8, 0.7]), np.array([False, True, False]))
    >>> found.risk.round(4).tolist(), round(found.excess, 4)  # the best order has risks 0, 0, 1/3
    ([0.0, 0.5, 0.3333], 0.1667)
    """
    confidence, loss = _vector(confidence, "confidence"), _vector(loss, "loss")
    if confidence.shape != loss.shape:
        raise errors.WrongShape(
            "loss", f"`loss` has {len(loss)} points, but `confidence` has {len(confidence)}."
        )
    values, group = np.unique(-confidence, return_inverse=True)
    group = group.ravel()
    count = np.bincount(group, minlength=len(values))
    shared = (np.bincount(group, loss, len(values)) / count)[
        np.repeat(np.arange(len(values)), count)
    ]
    place = np.arange(1, len(loss) + 1)
    risk, best = np.cumsum(shared) / place, np.cumsum(np.sort(loss)) / place
    excess = max(risk.mean() - best.mean(), 0.0) if np.isfinite(loss).all() else np.nan
    return RiskCoverage(place / len(loss), risk, float(risk.mean()), float(excess))


def auroc(
    scores: Real[ArrayLike, " N"],
    positive: Bool[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> float:
    """Area under the ROC curve: probability that a positive point scores above a negative one.

    In [0, 1], 0.5 for scores without information; ties count half:
    sum over pairs w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / sum over pairs w_i w_j, i positive and
    j negative.

    For errors: `auroc(scores.entropy(log_probs), wrong)`. For out-of-distribution points: scores of
    both sets in one vector, and a mask of the foreign ones.

    Args:
      scores: higher means more positive, finite or infinite.
      positive: mask of the positive points.
      weights: how many points each stands for.
    Raises:
      WrongLabel: all points are of one kind, so there is no pair.
    References:
      Hanley & McNeil 1982; for errors and foreign points: Hendrycks & Gimpel 2017,
      https://arxiv.org/abs/1610.02136

    >>> # of four pairs three are right and one is tied
    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    scores, mask, weight = _split(scores, positive, weights)
    values, group = np.unique(scores, return_inverse=True)
    above, below = (np.bincount(group.ravel()[m], weight[m], len(values)) for m in (mask, ~mask))
    if above.sum() == 0 or below.sum() == 0:
        raise errors.WrongLabel(
            "positive",
            f"`positive` holds {int(mask.sum())} of {len(mask)} points: without points of "
            "both kinds (and of some weight) there is no pair to compare.",
        )
    lower = np.cumsum(below) - below
    return float(above @ (lower + 0.5 * below) / (above.sum() * below.sum()))


def average_precision(
    scores: Real[ArrayLike, " N"],
    positive: Bool[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> float:
    """Average precision: area under the precision-recall curve, for positives that are rare.

    sum over thresholds (R_n - R_(n-1)) P_n, from the highest score down, without interpolation;
    equal scores are one threshold. In [0, 1]; scores without information give the share of
    positives. One class against the rest: `average_precision(log_probs[:, c], labels == c)`.

    Args:
      scores: higher means more positive, finite or infinite.
      positive: mask of the positive points.
      weights: how many points each stands for.
    Raises:
      WrongLabel: no point (of some weight) is positive.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])).__round__(4)
    0.8333
    """
    scores, mask, weight = _split(scores, positive, weights)
    values, group = np.unique(-scores, return_inverse=True)
    hits, all_ = (np.bincount(group.ravel(), w, len(values)) for w in (weight * mask, weight))
    if hits.sum() == 0:
        raise errors.WrongLabel(
            "positive",
            f"`positive` holds none of {len(mask)} points (of some weight), so there is no recall. "
            "Pass a test set with at least one positive point.",
        )
    total = np.cumsum(all_)
    precision = np.divide(np.cumsum(hits), total, out=np.zeros(len(total)), where=total > 0)
    return float(np.sum(precision * hits) / hits.sum())


def _split(scores: Any, positive: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, mask of the positive points, and weights, on the host in float64."""
    scores = _vector(scores, "scores")
    mask = np.asarray(_checks.plain(positive, "positive"))
    if mask.shape != scores.shape or mask.dtype != bool:
        raise errors.WrongShape(
            "positive",
            f"`positive` must be a boolean mask of shape {scores.shape}; got shape "
            f"{mask.shape}, dtype {mask.dtype}.",
        )
    return scores, mask, np.asarray(_checks.weights(weights, len(scores)), np.float64)
