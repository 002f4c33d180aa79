"""The learner's classes: their names, and how much a label of each one counts."""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors, likelihoods
from bayesal.loop._gathered import Gathered
from bayesal.types import REJECTED, Posterior

BALANCED = "balanced"


class Classes(NamedTuple):
    """What a learner was told about its classes; empty where it was told nothing.

    names:   of the classes, in the order of the network's outputs; None: labels are numbers.
    weights: of a label of each class `[C]`; "balanced": the inverse of its frequency; None: 1.
    """

    names: tuple[str, ...] | None = None
    weights: np.ndarray | str | None = None


def of(posterior: Posterior, names: Any, weights: Any, update: str) -> Classes:
    """Names and weights as people pass them, checked as far as they can be without a pool.

    Raises:
      WrongType: names that are not strings, or anything at all where labels are not classes.
      WrongLabel: names that repeat. OutOfRange, WrongShape: weights.
    """
    likelihood = likelihoods.labels_of(posterior)
    for name, given in (("classes", names), ("class_weights", weights)):
        if given is not None and likelihood.strata is not likelihoods.CATEGORICAL.strata:
            raise errors.WrongType(
                name,
                f"`{name}` is for labels that are classes, and this posterior's labels are others "
                "(real numbers, distributions). Leave it out.",
            )
    if isinstance(weights, str) and weights == BALANCED and update == "online":
        raise errors.WrongType(
            "class_weights",
            "balanced weights change with every label, and with update='online' old labels are not "
            "fitted again: pass a number for each class, or update='fresh'.",
        )
    known = None if names is None else _names(names)
    return Classes(names=known, weights=class_weights(weights, known))


def _names(names: Any) -> tuple[str, ...]:
    listed = list(names) if hasattr(names, "__iter__") and not isinstance(names, str) else None
    if not listed or not all(isinstance(name, str) for name in listed):
        raise errors.WrongType(
            "classes",
            "`classes` must be the names of the classes, strings in the order of the network's "
            f"outputs, such as ['cat', 'dog']; got {names!r}. Whole-number labels need no names.",
        )
    known = tuple(str(name) for name in listed)
    if repeated := sorted({name for name in known if known.count(name) > 1}):
        raise errors.WrongLabel("classes", f"`classes` holds {repeated} more than once.")
    return known


def class_weights(weights: Any, names: tuple[str, ...] | None = None) -> np.ndarray | str | None:
    """Weights `[C]`, above 0 and finite, as float32; "balanced" and None are themselves."""
    if weights is None or (isinstance(weights, str) and weights == BALANCED):
        return weights
    if isinstance(weights, Mapping):
        if names is None or set(weights) != set(names):
            raise errors.UnknownName(
                "class_weights",
                "`class_weights` as a mapping needs one weight for each of `classes`: "
                f"{None if names is None else list(names)}; got {list(weights)}.",
            )
        weights = [weights[name] for name in names]
    host = np.asarray(_checks.plain(weights, "class_weights"))
    if host.ndim != 1 or host.dtype.kind not in "iuf":
        raise errors.WrongShape(
            "class_weights",
            f"`class_weights` must be one number for each class, or 'balanced'; got {weights!r}.",
        )
    with np.errstate(over="ignore", under="ignore"):
        single = host.astype(np.float32)
    if len(bad := np.flatnonzero(~(np.isfinite(single) & (single > 0)))):
        raise errors.OutOfRange(
            "class_weights",
            f"`class_weights` must be finite and above 0; classes {_checks.listed(bad)} have "
            f"{_checks.listed(host[bad])}.",
            bad,
        )
    return single


def fit_the(known: Classes, count: int | None) -> None:
    """Refuses names or weights of another number of classes than the network has."""
    for name, given in (("classes", known.names), ("class_weights", known.weights)):
        if given is not None and not isinstance(given, str) and len(given) != count:
            raise errors.WrongSize(
                name,
                f"`{name}` has {len(given)} entries, and the network has {count} outputs, one for "
                "each class.",
            )


def numbered(known: Classes, labels: Any) -> Any:
    """Labels as class numbers: names become their places; anything else is itself.

    Raises:
      WrongLabel: a name that is not among the classes, with the nearest one.
    """
    if known.names is None:
        return labels
    entries = _entries(labels)
    if entries is None or not any(isinstance(entry, str) for entry in entries):
        return labels
    place = {name: number for number, name in enumerate(known.names)}
    unknown = [i for i, e in enumerate(entries) if isinstance(e, str) and e not in place]
    if unknown:
        raise errors.WrongLabel("labels", _meant(entries, unknown, known.names), unknown)
    whole = (str, int, np.integer)
    if missing := [i for i, entry in enumerate(entries) if not isinstance(entry, whole)]:
        raise errors.WrongLabel(
            "labels",
            f"`labels` holds {entries[missing[0]]!r} at position {_checks.listed(missing)}, which "
            "is neither a name nor a class number. Leave these rows out, or give them weight 0 and "
            "any class.",
            missing,
        )
    # numbers among names (REJECTED, most often) are checked where all numbers are
    return np.array([place[e] if isinstance(e, str) else e for e in entries])


def _entries(labels: Any) -> list[Any] | None:
    """Labels one by one, without turning numbers among names into strings; None: no vector."""
    if isinstance(labels, list | tuple):
        return list(labels)
    host = np.asarray(_checks.plain(labels, "labels"))
    return host.tolist() if host.ndim == 1 and host.dtype.kind in "OUT" else None


def _meant(entries: list[Any], unknown: list[int], names: tuple[str, ...]) -> str:
    first = entries[unknown[0]]
    near = difflib.get_close_matches(first, names, n=1, cutoff=0.5)
    known = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
    return (
        f"`labels` holds {first!r} at position {_checks.listed(unknown)}, which is not one of "
        f"`classes`: {known}."
        + (f" Did you mean {near[0]!r}?" if near else "")
        + f" bayesal.REJECTED ({REJECTED}) says that none of them applies."
    )


def weighted(weights: np.ndarray | str | None, taken: Gathered) -> Gathered:
    """What a round learns from, every label's weight times that of its class.

    Balanced, class c has the weight `W / (P W_c)`, with W_c the weight of its labels, W that of all
    and P the number of classes that have any: each of those counts the same, and W stays.
    """
    if weights is None:
        return taken
    labeled = taken.labeled
    assert labeled.weight is not None  # a learner always says
    if isinstance(weights, str):  # on the host
        count = int(labeled.count)
        weights = balanced(np.asarray(labeled.y)[:count], np.asarray(labeled.weight)[:count])
    # beyond the count labels are 0 and so are weights
    each = jnp.asarray(weights, jnp.float32)[labeled.y] * labeled.weight
    return taken._replace(labeled=labeled._replace(weight=each))


def balanced(labels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weight of each class up to the highest label, inverse to its share of the labels.

    >>> balanced(np.array([0, 0, 0, 2]), np.ones(4)).round(4).tolist()
    [0.6667, 1.0, 2.0]
    """
    of_class = np.bincount(labels, weight.astype(np.float64))
    present = of_class > 0
    return np.divide(
        of_class.sum() / present.sum(), of_class, out=np.ones_like(of_class), where=present
    )
