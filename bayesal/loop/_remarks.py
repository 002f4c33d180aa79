"""What people should know of their data before they wonder: said once, where it does harm."""

import jax
import numpy as np

from bayesal import likelihoods
from bayesal._warnings import warn
from bayesal.loop._state import Ledger
from bayesal.retune import Retuner
from bayesal.retune._spaces import at_bounds
from bayesal.types import HParams, Posterior

LARGE = 100.0  # of a feature's or a label's standard deviation
FEW = 8  # labels of one class that may be chance


def on(
    posterior: Posterior, ledger: Ledger, features: np.ndarray, order: np.ndarray, first: bool
) -> None:
    """Warnings before a fit.

    Args:
      features: of the ledger's rows, `[count, ...]`.
      order: places in the ledger of the labels that count.
      first: whether these are the first labels: scales are looked at only then.
    """
    leaves = jax.tree.leaves(ledger.labels)
    values = np.asarray(leaves[0])[order] if len(leaves) == 1 and leaves[0].ndim == 1 else None
    if first:
        if posterior.scales:
            of_ids(features[order])
        else:
            of_features(features[order])
        standardizes = (
            posterior.likelihood is not None and posterior.likelihood.standard is not None
        )
        if values is not None and posterior.real and not standardizes:
            of_numbers(values)
    classes = likelihoods.labels_of(posterior).strata is likelihoods.CATEGORICAL.strata
    if values is not None and classes:
        of_classes(values)


def of_features(features: np.ndarray) -> None:
    """Warn of features far from scale 1. Vectors of whole numbers are taken for token ids.

    Args:
      features: of the labeled rows, `[n, ...]`.
    """
    ids = features.dtype.kind in "iu" and features.ndim <= 2
    if ids or features.size == 0 or features.dtype.kind not in "iuf":
        return
    finite = features[np.isfinite(features)].astype(np.float64)  # the others are a fit's business
    size = float(np.abs(finite).max(initial=0.0))
    if size <= LARGE:
        return
    cure = "x / 255" if features.dtype == np.uint8 else "(x - x.mean(0)) / x.std(0)"
    warn(
        f"features of `x` reach {size:.3g}, and networks begin with weights for inputs near 1: "
        f"most train badly on such a pool. Unless yours scales its inputs itself, pass {cure}."
    )


def of_ids(features: np.ndarray) -> None:
    """Warn of whole numbers where rows are taken as features.

    Args:
      features: of the labeled rows, `[n, ...]`.
    """
    if features.dtype.kind in "iu" and features.ndim == 2 and features.dtype != np.uint8:
        largest = int(np.abs(features).max(initial=0))
        if largest > LARGE:
            warn(
                f"rows of `x` are whole numbers up to {largest:,}, and this posterior takes them "
                "as features: if they are ids (tokens, categories), the distance of two ids means "
                "nothing. Pass embeddings of them; counts and measurements pass as floats."
            )


def of_numbers(labels: np.ndarray) -> None:
    """Warn of real labels far from scale 1, for a posterior that does not standardize them."""
    spread, center = float(np.std(labels)), float(np.mean(labels))
    if spread > LARGE or abs(center) > LARGE * max(spread, 1e-2):
        warn(
            f"`labels` have mean {center:.3g} and standard deviation {spread:.3g}, and this "
            "posterior expects labels near 0 and of size 1, unless its center= and scale= say "
            "otherwise. Leave both out of the likelihood (or of gp_regression), and every fit "
            "standardizes its labels; for a posterior of your own pass (labels - mean) / deviation."
        )


def of_classes(labels: np.ndarray) -> None:
    """Warn where all labels are of one class."""
    if len(labels) >= FEW and len(np.unique(labels)) == 1:
        warn(
            f"all {len(labels)} labels are of class {labels[0]}: a net of one class is sure "
            "of it everywhere, and its scores say nothing. Label rows of other classes, if you "
            "know any, or go on by features, such as acquire.k_center(), until a second class is "
            "found."
        )


def of_search(retune: Retuner, old: HParams, new: HParams) -> None:
    """Warn of hyperparameters that a round's search moved to a bound of its space.

    Args:
      old, new: the hyperparameters before and after the search.
    """
    if retune.space is None:
        return
    for name, (value, side) in at_bounds(retune.space, old, new).items():
        warn(
            f"`{name}` = {value:.3g}, found by `retune`, is the {side} bound of its space: the "
            f"best may lie outside. Widen it: retune.space({name}=(low, high))."
        )
