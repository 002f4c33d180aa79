"""Checks of what a round brings: the pool, its rows, their labels, hyperparameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal._checks.values import a, concrete, listed, plain
from bayesal.errors import (
    NonFinite,
    OutOfRange,
    UnknownName,
    WrongIndex,
    WrongLabel,
    WrongShape,
    WrongSize,
    WrongType,
)
from bayesal.types import HParams


def labels(values: Any, classes: int, count: int | None = None, name: str = "labels") -> np.ndarray:
    """Integer labels `[n]` in `[0, C)`, as int32."""
    host = np.asarray(plain(values, name))
    if host.ndim != 1 or (count is not None and len(host) != count):
        wanted = f"({count},)" if count is not None else "[n]"
        raise WrongLabel(
            name, f"`{name}` must have shape {wanted}, one label per index; got shape {host.shape}."
        )
    if not np.issubdtype(host.dtype, np.integer):
        kind = (
            "one-hot or soft labels: pass labels.argmax(-1)"
            if host.ndim == 2
            else "pass labels.astype(int)"
        )
        if host.dtype.kind in "USO":
            kind = "number your classes: names, labels = np.unique(labels, return_inverse=True)"
        raise WrongLabel(
            name, f"`{name}` must be integers in [0, {classes}), got dtype {host.dtype}; {kind}."
        )
    bad = np.flatnonzero((host < 0) | (host >= classes))
    if len(bad):
        raise WrongLabel(
            name,
            f"`{name}` must lie in [0, {classes}); positions {listed(bad)} hold "
            f"{listed(host[bad])}. Labels count from 0, and the "
            "network's last layer has one output per class.",
            bad,
        )
    return host.astype(np.int32)


def class_labels(values: Any, classes: int, count: int) -> jax.Array:
    """`labels` as a JAX array; under jit, where their values cannot be looked at, as they are."""
    return jnp.asarray(labels(values, classes, count) if concrete(values) else values)


def real_labels(values: Any, count: int | None = None, name: str = "labels") -> np.ndarray:
    """Finite real labels `[n]`, as float32."""
    host = np.asarray(plain(values, name))
    if host.ndim != 1 or (count is not None and len(host) != count):
        wanted = f"({count},)" if count is not None else "[n]"
        raise WrongLabel(
            name,
            f"`{name}` must have shape {wanted}, one number per index; got shape {host.shape}.",
        )
    if host.dtype.kind not in "iuf":
        raise WrongLabel(
            name,
            f"`{name}` must be real numbers, got dtype {host.dtype}. For classes build the "
            "posterior without `likelihood=`.",
        )
    single = host.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(single))
    if len(bad):
        raise WrongLabel(
            name,
            f"`{name}` must be finite (in float32); positions {listed(bad)} hold "
            f"{listed(host[bad])}.",
            bad,
        )
    return single


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


def new_labels(rows: np.ndarray, labeled: np.ndarray, capacity: int) -> None:
    """Rows that have no label yet, and room for them."""
    if len(rows) == 0:
        raise WrongSize("indices", "`indices` is empty: there is nothing to tell.")
    known = rows[np.isin(rows, labeled)]
    if len(known):
        raise WrongIndex(
            "indices",
            f"`indices` holds rows that are labeled already: {listed(known)}. Leave them "
            "out; a label cannot be changed.",
            known,
        )
    if len(labeled) + len(rows) > capacity:
        raise WrongSize(
            "indices",
            f"`indices` brings {len(rows)} labels, but the ledger holds {len(labeled)} of "
            f"`capacity` = {capacity}. Build the learner with a "
            f"capacity of {len(labeled) + len(rows)} or more.",
        )


def were_asked(rows: np.ndarray, asked: np.ndarray) -> None:
    """Rows that the last `ask` gave."""
    never = rows[~np.isin(rows, asked)]
    if len(never):
        raise WrongIndex(
            "indices",
            f"`indices` holds rows that were never asked: {listed(never)}; this round asked "
            f"for {listed(asked, 20)}. If these are labels you chose to "
            "add yourself, pass unasked=True.",
            never,
        )


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
        raise UnknownName(
            "hparams",
            f"`hparams` has no field {', '.join(unknown)}; the fields are "
            f"{', '.join(HParams._fields)}.",
        )
    a(
        HParams,
        values,
        "hparams",
        "HParams(**values)" if isinstance(values, Mapping) else "HParams(steps=300)",
    )
    shares = dict.fromkeys(("dropout", "warmup", "final_rate", "label_smoothing"), (0, 1))
    for name, value in zip(HParams._fields, map(float, values), strict=True):
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
    """Structures that a posterior has."""
    if not 0 <= highest < count:
        has = (
            f"{count} architectures, numbered from 0 to {count - 1}"
            if count > 1
            else "one architecture"
        )
        raise WrongSize(
            name,
            f"{said}, and the posterior has {has}. Structures are what "
            "`posteriors.any_of(one, another)` is built of, and `retune.space(architecture=2)` "
            "searches two; a "
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
