"""Checks of labels: classes, distributions over classes, real numbers, and what each counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal._checks.values import concrete, listed, plain
from bayesal.errors import OutOfRange, WrongLabel, WrongShape
from bayesal.types import REJECTED

TOTAL = 1e-3  # how far the sum of a soft label may be from 1
SPACED = 2**24  # from here on float32 does not hold every whole number
ROUNDED = 1e-6  # relative rounding that no number of normal size has in float32
SOURCES = ("a person", "a model (pseudo-label)", "an import")


def _one_per_index(host: np.ndarray, count: int | None, name: str, what: str) -> None:
    if host.ndim != 1 or (count is not None and len(host) != count):
        wanted = f"({count},)" if count is not None else "[n]"
        raise WrongLabel(
            name,
            f"`{name}` must have shape {wanted}, one {what} per index; got shape {host.shape}.",
        )


def labels(
    values: Any,
    classes: int,
    count: int | None = None,
    name: str = "labels",
    *,
    rejected: bool = False,
) -> np.ndarray:
    """Integer labels `[n]` in `[0, C)`, as int32; with `rejected` also REJECTED, which is -1. Of
    two classes bools are 0 and 1.
    """
    host = _whole(np.asarray(plain(values, name)))
    _one_per_index(host, count, name, "label")
    if host.dtype == bool:
        if classes != 2:
            raise WrongLabel(
                name,
                f"`{name}` are bools, which are the classes 0 and 1 of two, and there are "
                f"{classes} classes: pass whole numbers in [0, {classes}).",
            )
        host = host.astype(np.int32)
    if not np.issubdtype(host.dtype, np.integer):
        raise WrongLabel(
            name,
            f"`{name}` must be integers in [0, {classes}), got dtype {host.dtype}; {_cure(host)}.",
        )
    allowed = (host >= 0) & (host < classes)
    bad = np.flatnonzero(~(allowed | (rejected & (host == REJECTED))))
    if len(bad):
        none = ", and bayesal.REJECTED (-1) says that none of them applies" if rejected else ""
        raise WrongLabel(
            name,
            f"`{name}` must lie in [0, {classes}); positions {listed(bad)} hold "
            f"{listed(host[bad])}. Labels count from 0{none}. The "
            "network's last layer has one output per class.",
            bad,
        )
    return host.astype(np.int32)


def _whole(host: np.ndarray) -> np.ndarray:
    """Numbers that were stored as objects (data frames do) in a type of their own."""
    entries = host.ravel().tolist() if host.dtype == object else []
    whole = entries and all(isinstance(entry, int | np.integer) for entry in entries)
    return np.array(entries).reshape(host.shape) if whole else host


def _cure(host: np.ndarray) -> str:
    if host.dtype.kind in "USOT":
        return (
            "name the classes, learner(classes=[...]), or number them: "
            "names, labels = np.unique(labels, return_inverse=True)"
        )
    if host.dtype.kind == "f" and np.isnan(host).any():
        return (
            f"positions {listed(np.flatnonzero(np.isnan(host)))} are missing (NaN): leave these "
            "rows out, or give them weight 0 and any class"
        )
    return "pass labels.astype(int)"


def class_labels(values: Any, classes: int, count: int) -> jax.Array:
    """`labels` as a JAX array; under jit, where their values cannot be looked at, as they are."""
    return jnp.asarray(labels(values, classes, count) if concrete(values) else values)


def distributions(values: Any, classes: int, count: int, name: str = "labels") -> np.ndarray:
    """Soft labels `[n, C]`: rows of at least 0 that sum to 1, as float32."""
    host = np.asarray(plain(values, name))
    if host.shape != (count, classes) or host.dtype.kind != "f":
        raise WrongLabel(
            name,
            f"`{name}` must be soft labels: floats of shape ({count}, {classes}), a distribution "
            f"over the classes per index; got shape {host.shape}, dtype {host.dtype}. Classes "
            f"become soft labels by np.eye({classes}, dtype=np.float32)[labels].",
        )
    whole = np.abs(host.sum(axis=1, dtype=np.float64) - 1) <= TOTAL
    bad = np.flatnonzero(~(whole & (host >= 0).all(axis=1)))
    if len(bad):
        raise WrongLabel(
            name,
            f"`{name}` must be rows of at least 0 that sum to 1 (within {TOTAL:g}); row {bad[0]} "
            f"is {np.array2string(host[bad[0]], threshold=8, precision=4)}. Divide counts of votes "
            "by their sum.",
            bad,
        )
    return host.astype(np.float32)


def real_labels(values: Any, count: int | None = None, name: str = "labels") -> np.ndarray:
    """Finite real labels `[n]`, as float32, which must hold them: whole numbers exactly, others to
    rounding, and different labels as different numbers.
    """
    host = np.asarray(plain(values, name))
    _one_per_index(host, count, name, "number")
    if host.dtype.kind not in "iuf":
        raise WrongLabel(
            name,
            f"`{name}` must be real numbers, got dtype {host.dtype}. For classes build the "
            "posterior without `likelihood=`.",
        )
    with np.errstate(over="ignore", under="ignore"):
        single = host.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(single))
    if len(bad):
        raise WrongLabel(
            name,
            f"`{name}` must be finite (in float32); positions {listed(bad)} hold "
            f"{listed(host[bad])}.",
            bad,
        )
    if len(bad := _changed(host, single)):
        raise WrongLabel(
            name,
            f"`{name}` would change in float32: positions {listed(bad)} hold "
            f"{', '.join(repr(v.item()) for v in host[bad][:5])}. Shift or scale the labels first, "
            "as in (labels - labels.mean()) / labels.std(); predictions are then in that unit.",
            bad,
        )
    return single


def _changed(host: np.ndarray, single: np.ndarray) -> np.ndarray:
    """Positions of finite numbers that float32 does not hold."""
    if host.dtype.kind == "f":
        wide = host.astype(np.float64)
        rounded = np.abs(wide - single) <= ROUNDED * np.abs(wide)
        decimal = (wide != np.floor(wide)) & (np.abs(wide) < SPACED)
        exact = (wide == single) | (decimal & rounded)
    else:  # as Python's ints: float64 does not hold every int64
        pairs = zip(host.tolist(), single.tolist(), strict=True)
        exact = np.array([number == int(held) for number, held in pairs], bool)
    # labels that differ must not become one number
    different = np.unique(host, return_inverse=True)[1].reshape(-1)
    first = np.unique(single, return_index=True, return_inverse=True)
    merged = different != different[first[1]][first[2].reshape(-1)]
    return np.flatnonzero(~exact | merged)


def label_weights(values: Any, count: int, name: str = "weights") -> np.ndarray:
    """Weights `[n]` of labels, finite and at least 0, as float32; None: all 1."""
    if values is None:
        return np.ones(count, np.float32)
    host = np.asarray(plain(values, name))
    if host.shape != (count,) or host.dtype.kind not in "biuf":
        raise WrongShape(
            name,
            f"`{name}` must be numbers of shape ({count},), one weight per index; got shape "
            f"{host.shape}, dtype {host.dtype}.",
        )
    with np.errstate(over="ignore"):
        single = host.astype(np.float32)
    bad = np.flatnonzero(~(np.isfinite(single) & (single >= 0)))
    if len(bad):
        raise OutOfRange(
            name,
            f"`{name}` must be finite and at least 0; positions {listed(bad)} hold "
            f"{listed(host[bad])}. 0 keeps a label out of every fit, 2 counts it twice.",
            bad,
        )
    return single


def sources(values: Any, count: int, name: str = "source") -> np.ndarray:
    """Who gave each label `[n]`, a number of `SOURCES`; one number for all of them will do."""
    host = np.asarray(plain(values, name))
    if host.shape not in ((), (count,)) or not np.issubdtype(host.dtype, np.integer):
        raise WrongShape(
            name,
            f"`{name}` must be a whole number, or {count} of them, one per index; got shape "
            f"{host.shape}, dtype {host.dtype}.",
        )
    bad = np.flatnonzero((host < 0) | (host >= len(SOURCES)))
    if len(bad):
        known = ", ".join(f"{number} {who}" for number, who in enumerate(SOURCES))
        raise OutOfRange(
            name, f"`{name}` must be one of {known}; got {listed(host.ravel()[bad])}.", bad
        )
    return np.broadcast_to(host, count).astype(np.int32)
