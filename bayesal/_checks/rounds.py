"""Checks of what a round brings: the pool, its rows, their labels, hyperparameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _shown
from bayesal._checks.values import a, at_least, listed, plain
from bayesal.errors import (
    NonFinite,
    OutOfRange,
    UnknownName,
    WrongIndex,
    WrongShape,
    WrongSize,
    WrongType,
)
from bayesal.types import HParams


def indices(values: Any, rows: int, name: str = "indices") -> np.ndarray:
    """Distinct rows of a pool of `rows` points, as int32."""
    host = np.asarray(plain(values, name))
    if host.ndim != 1 or not np.issubdtype(host.dtype, np.integer):
        raise WrongIndex(
            name,
            f"`{name}` must be a vector of integers, rows of the pool; got shape "
            f"{host.shape}, dtype {host.dtype}.",
        )
    bad = np.flatnonzero((host < 0) | (host >= rows))
    if len(bad):
        raise WrongIndex(
            name,
            f"`{name}` must be rows of the pool, in [0, {rows}); got {listed(host[bad])}.",
            host[bad],
        )
    unique, counts = np.unique(host, return_counts=True)
    if (counts > 1).any():
        raise WrongIndex(
            name,
            f"`{name}` holds rows more than once: {listed(unique[counts > 1])}. Pass each "
            "row with one label.",
            unique[counts > 1],
        )
    return host.astype(np.int32)


def pool(x: Any, name: str = "x") -> None:
    """A pool is a numeric array with one example per row, and at least one row."""
    if not hasattr(x, "dtype") or len(x.shape) < 2:
        raise WrongShape(
            name,
            f"`{name}` must be the pool, an array [N, ...] with one example per row; got "
            f"{type(x).__name__} of shape {np.shape(x)}.",
        )
    if not (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool) or jnp.issubdtype(
        x.dtype, jnp.complexfloating
    ):
        raise WrongShape(
            name,
            f"`{name}` must be numbers, got dtype {x.dtype}; encode text and categories first.",
        )
    if plain(x, name) is not x:  # callers keep x itself
        raise WrongType(
            name,
            f"`{name}` must be a plain array in native byte order, got {type(x).__name__} of dtype "
            f"{x.dtype}. Pass np.asarray(x, dtype=x.dtype.newbyteorder('=')).",
        )
    if x.shape[0] == 0:
        raise WrongSize(
            name,
            f"`{name}` is an empty pool (shape {tuple(x.shape)}); there is nothing to ask about.",
        )


def new_labels(rows: np.ndarray, labeled: np.ndarray, capacity: int | None) -> None:
    """Rows that have no label yet, and room for them."""
    _some(rows, "tell")
    known = rows[np.isin(rows, labeled)]
    if len(known):
        raise WrongIndex(
            "indices",
            f"`indices` holds rows that are labeled already: {listed(known)}. Leave them "
            "out, or correct their labels by `learner.relabel(state, x, indices, labels)`.",
            known,
        )
    needed = len(labeled) + len(rows)
    if capacity is not None and needed > capacity:
        raise WrongSize(
            "indices",
            f"`indices` brings {len(rows)} labels, and the label capacity ({capacity}) has room "
            f"for {capacity - len(labeled)}. {make_room(needed)}",
        )


def known_labels(rows: np.ndarray, labeled: np.ndarray) -> None:
    """Rows that have a label."""
    _some(rows, "relabel")
    new = rows[~np.isin(rows, labeled)]
    if len(new):
        raise WrongIndex(
            "indices",
            f"`indices` holds rows that have no label yet: {listed(new)}. New labels are told by "
            "`learner.tell(state, x, indices, labels)`.",
            new,
        )


def _some(rows: np.ndarray, verb: str) -> None:
    if len(rows) == 0:
        raise WrongSize("indices", f"`indices` is empty: there is nothing to {verb}.")


def make_room(capacity: int) -> str:
    """What makes room for labels, in words."""
    return (
        f"`learner(..., capacity={capacity})` and `state = bayesal.grow(state, {capacity})` make "
        "room."
    )


MOST = 10_000_000  # labels; each of them is a row of the features that a fit takes at once
MOST_FOLDS = 1_000  # every fold is a fit


def capacity(value: Any, size: int) -> int | None:
    """The most labels there will be, room for a round of them at least; None: as many as come."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value > MOST:
        raise WrongSize(
            "capacity",
            f"`capacity` must be an int of at most {MOST:,}, the most labels in total, or None: it "
            f"grows with the labels. Got {value!r}.",
        )
    if value < size:
        raise WrongSize(
            "capacity",
            f"`capacity` ({value}, labels in total) must be at least `size` ({size}, labels per "
            "round).",
        )
    return int(value)


def num_folds(value: Any, capacity: int | None, used: bool) -> int:
    """Folds that the labels of a full ledger can fill, where they are used."""
    number = at_least(2, value, "num_folds")
    most = MOST_FOLDS if capacity is None or not used else min(capacity, MOST_FOLDS)
    if number > most:
        why = f"`capacity` ({capacity} labels)" if most == capacity else f"{MOST_FOLDS:,} fits"
        raise WrongSize(
            "num_folds", f"`num_folds` ({number}, one label each at least) must be at most {why}."
        )
    return number


def same_pool(labeled: np.ndarray, rows: int) -> None:
    """The pool of every call is the one whose rows the ledger holds."""
    outside = labeled[labeled >= rows]
    if len(outside):
        raise WrongSize(
            "x",
            f"`x` has {rows} rows, but rows {listed(outside)} are labeled: this is not the "
            "pool the labels belong to. Pass the whole pool "
            "every time; labeled rows are left out by themselves.",
            outside,
        )


def finite_rows(features: np.ndarray, rows: np.ndarray, round: int) -> None:
    """Features of labeled rows hold neither NaN nor inf."""
    flat = features.reshape(len(rows), -1).astype(np.float32)
    bad = rows[~np.isfinite(flat).all(axis=1)]
    if len(bad):
        raise NonFinite(
            "x",
            f"round {round}: labeled rows {listed(bad)} of the pool hold NaN or "
            "inf, so no net can be fitted. Clean the pool, or leave these rows out.",
            bad,
        )


def groups(values: Any) -> jax.Array:
    """Whole numbers `[N]`, one for each row of a pool: rows of one number belong together."""
    array = np.asarray(plain(values, "groups"))
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise WrongType(
            "groups",
            "`groups` must be whole numbers of shape [N], one for each row of the pool; got "
            f"shape {array.shape} of {array.dtype}.",
        )
    if array.size and (array.min() < 0 or array.max() >= np.iinfo(np.int32).max):
        raise OutOfRange(
            "groups",
            f"`groups` must lie in [0, {np.iinfo(np.int32).max}); got {array.min()} to "
            f"{array.max()}.",
        )
    return jnp.asarray(array, jnp.int32)


def groups_of(found: Any, rows: int) -> None:
    """Every row of the pool has a group."""
    if found is not None and found.shape[0] != rows:
        raise WrongSize(
            "groups",
            f"`groups` has {found.shape[0]} entries and the pool `x` {rows} rows: give each "
            "row the number of its group.",
        )


def enough_groups(found: Any, labeled: np.ndarray, folds: int) -> None:
    """The labeled rows come from as many groups as there are folds."""
    if found is not None and (distinct := len(np.unique(np.asarray(found)[labeled]))) < folds:
        raise WrongSize(
            "groups",
            f"the labels come from {distinct} groups, and {folds} folds need one each: label "
            "rows of other groups, or pass a smaller `num_folds`.",
        )


WHOLE = ("steps", "architecture")  # hyperparameters that count something


def as_traced(values: HParams) -> HParams:
    """Hyperparameters as arrays of one type each, whatever they were: int32 where they are whole
    numbers, and else float32.
    """
    return HParams(
        *(
            jnp.asarray(v, jnp.int32 if name in WHOLE else jnp.float32)
            for name, v in zip(HParams._fields, values, strict=True)
        )
    )


def hparams(values: Any) -> None:
    """Hyperparameters in their ranges, whole numbers where they must be."""
    if isinstance(values, Mapping) and (
        unknown := sorted(map(str, set(values) - set(HParams._fields)))
    ):
        raise UnknownName("hparams", _shown.no_field(HParams, unknown))
    a(
        HParams,
        values,
        "hparams",
        "HParams(**values)" if isinstance(values, Mapping) else "HParams(steps=300)",
    )
    shares = dict.fromkeys(("dropout", "warmup", "final_rate", "label_smoothing"), (0, 1))
    for name, given in zip(HParams._fields, values, strict=True):
        try:
            value = float(given)
        except (TypeError, ValueError) as error:
            raise WrongType(
                "hparams", f"`hparams.{name}` must be a number, got {given!r}."
            ) from error
        low, high = {**shares, "prior_scale": (1e-12, np.inf)}.get(name, (0, np.inf))
        if not (low <= value < high or (name == "final_rate" and value == high)):
            raise WrongSize(
                "hparams",
                f"`hparams.{name}` = {value:g} must lie in [{low:g}, "
                f"{high:g}{']' if name == 'final_rate' else ')'}.",
            )
        if name in WHOLE and value % 1:
            raise WrongSize("hparams", f"`hparams.{name}` = {value:g} must be a whole number.")


def architectures(name: str, said: str, highest: int, count: int) -> None:
    """Architectures that a posterior has."""
    if not 0 <= highest < count:
        has = (
            f"{count} architectures, numbered from 0 to {count - 1}"
            if count > 1
            else "one architecture"
        )
        raise WrongSize(
            name,
            f"{said}, and the posterior has {has}. `posteriors.any_of(one, another)` has one "
            "for each of its posteriors, and `retune.space(architecture=2)` searches two. A "
            "`Posterior` of your own says how many it has by its field `architectures`.",
        )


def parameters(values: Any) -> None:
    """What a posterior begins with holds no NaN."""
    leaves = [
        (path, leaf)
        for path, leaf in jax.tree.leaves_with_path(values)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    broken = [
        jax.tree_util.keystr(path)
        for path, leaf in leaves
        if np.isnan(np.asarray(leaf, np.float32)).any()
    ]
    if broken:
        raise NonFinite(
            "posterior",
            f"the posterior begins with NaN in {', '.join(broken[:5])}: nothing can be "
            "learned from there. The usual cause is an initializer that "
            "divides by 0 or takes the logarithm or root of a negative number; look at what "
            "`network.init` returns.",
        )
