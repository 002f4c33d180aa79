"""How well predicted classes agree with the labels, class by class: for imbalanced data."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bayesal import errors
from bayesal.metrics import _checked
from bayesal.types import ArrayLike


def confusion_matrix(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> Float[np.ndarray, "C C"]:
    """Weight of the points of each class (row) that are predicted as each class (column).

    The prediction is the most probable class, the first of equals.

    >>> certain = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]))
    >>> confusion_matrix(certain, np.array([0, 0, 1])).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    log_probs, labels, weights = _checked.classes(log_probs, labels, weights)
    count = log_probs.shape[1]
    predicted = np.asarray(log_probs).argmax(axis=-1)
    pair = np.asarray(labels).astype(np.int64) * count + predicted
    weight = np.asarray(weights, np.float64)
    return np.bincount(pair, weight, count * count).reshape(count, count)


def balanced_accuracy(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> float:
    """Mean over classes of the share of its points that are predicted right; in [0, 1].

    Classes without a labeled point (of some weight) are left out. Always the same class gives 1 / C
    on a test set that holds all C classes, however rare some are.

    References:
      Brodersen et al. 2010, https://doi.org/10.1109/ICPR.2010.764

    >>> certain = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]))
    >>> balanced_accuracy(certain, np.array([0, 0, 1]))
    0.5
    """
    found = confusion_matrix(log_probs, labels, weights=weights)
    there = found.sum(axis=1) > 0
    return float(np.mean(found.diagonal()[there] / found.sum(axis=1)[there]))


def f1(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    average: str | None = "macro",
    weights: ArrayLike | None = None,
) -> Any:
    """F1: the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); in [0, 1].

    Args:
      average: "macro": the mean over the classes that occur among labels or predictions; "micro":
        of all classes' counts together, which is the accuracy; None: of each class `[C]`, NaN where
        a class does not occur. F1 of one class of two: `f1(..., average=None)[1]`.
    Raises:
      UnknownName: no such average.

    >>> certain = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]))
    >>> round(f1(certain, np.array([0, 0, 1])), 4)
    0.6667
    """
    if average not in ("macro", "micro", None):
        raise errors.UnknownName(
            "average", f"`average` must be 'macro', 'micro' or None; got {average!r}."
        )
    found = confusion_matrix(log_probs, labels, weights=weights)
    right, either = found.diagonal(), found.sum(axis=0) + found.sum(axis=1)
    if average == "micro":
        return float(2 * right.sum() / either.sum())
    each = np.divide(2 * right, either, out=np.full(len(right), np.nan), where=either > 0)
    return each if average is None else float(np.nanmean(each))
