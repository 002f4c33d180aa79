"""Strategies by name, for recipes and command lines."""

from collections.abc import Callable

from bayesal import errors, scores
from bayesal.acquire._epig import batch_epig, epig
from bayesal.acquire._features import badge, bait, drop_query, k_center, k_means, typiclust
from bayesal.acquire._joint import batch_bald
from bayesal.acquire._ranking import top, uniform
from bayesal.acquire._sampling import power, softmax
from bayesal.types import Strategy

NAMES: dict[str, Callable[[], Strategy]] = {
    "badge": badge,
    "bait": bait,
    "bald": lambda: top(scores.bald),
    "batch_bald": batch_bald,
    "batch_epig": batch_epig,
    "chance": uniform,
    "drop_query": drop_query,
    "entropy": lambda: top(scores.entropy),
    "epig": epig,
    "k_center": k_center,
    "k_means": k_means,
    "least_confidence": lambda: top(scores.least_confidence),
    "margin": lambda: top(scores.margin),
    "power_bald": power,
    "softmax_margin": lambda: softmax(scores.margin),
    "typiclust": typiclust,
    "uniform": uniform,
    "variance": lambda: top(scores.regression.variance),  # type: ignore[arg-type]
}


def named(name: str) -> Strategy:
    """A strategy by its name, with its default options.

    Raises:
      UnknownName: no such strategy; the message lists all.

    >>> named("margin")
    Strategy: top(margin)
    """
    if name not in NAMES:
        raise errors.UnknownName(
            "name", f"`name` = {name!r} is no strategy; there are: {', '.join(NAMES)}."
        )
    return NAMES[name]()
