"""Checks of arrays that selectors and scores take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal._checks.values import _refuse, as_float, concrete, listed, plain
from bayesal.errors import (
    BayesalError,
    ConstantScores,
    NonFinite,
    OutOfRange,
    WrongShape,
    WrongSize,
)

# two draws at three points of two classes, confident and not, for trying a score
_TRIED = np.log(
    np.array(
        [[[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]], [[0.8, 0.2], [0.5, 0.5], [0.6, 0.4]]], np.float32
    )
)


def numbers(
    values: Any,
    name: str,
    layout: str,
    *,
    ndim: int | None = None,
    least: int = 0,
    shape: tuple[int, ...] | None = None,
    above: float | None = None,
    axis: int = 0,
) -> jax.Array:
    """Finite real numbers as float32, of `ndim` axes, of at least `least` axes or of one `shape`,
    all of them `above` a bound.

    `layout` names the axes for the message. Indices along `axis` are the error's rows.
    """
    values = plain(values, name)
    dtype = getattr(values, "dtype", None)
    if dtype is None or not (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    ):
        got = type(values).__name__ if dtype is None else f"dtype {dtype}"
        raise WrongShape(
            name,
            f"`{name}` must be an array of real numbers {layout}, got {got}; pass a NumPy or "
            "JAX array.",
        )
    found = tuple(values.shape)
    if (
        len(found) < least
        or (ndim is not None and len(found) != ndim)
        or (shape is not None and found != tuple(shape))
    ):
        wanted = (
            f"shape {tuple(shape)}"
            if shape is not None
            else f"{ndim} axes"
            if ndim is not None
            else f"at least {least} axes"
        )
        raise WrongShape(name, f"`{name}` must have {wanted}, {layout}; got shape {found}.")
    numbers = as_float(values)
    if concrete(numbers):
        with jax.ensure_compile_time_eval():
            host = np.asarray(numbers)
        _refuse(~np.isfinite(host), NonFinite, name, "is not finite (in float32)", axis)
        if above is not None:
            _refuse(
                host <= above, OutOfRange, name, f"is not greater than {above:g} (in float32)", axis
            )
    return numbers


def available_rows(available: Any, count: int, name: str = "available") -> jax.Array:
    """A boolean mask `[N]`; None means all."""
    if available is None:
        return jnp.ones(count, bool)
    available = plain(available, name)
    shape, dtype = np.shape(available), getattr(available, "dtype", None)
    if shape != (count,) or dtype != np.bool_:
        raise WrongShape(
            name,
            f"`{name}` must be a boolean mask of shape ({count},), one entry per pool point; "
            f"got shape {shape}, dtype {dtype}."
            " From row numbers: mask = np.zeros(N, bool); mask[rows] = True.",
        )
    return jnp.array(available)  # a copy: the caller may use the memory again


def features(values: Any, name: str = "features") -> jax.Array:
    """Features `[N, D]`: one row of finite numbers per pool point."""
    values = plain(values, name)
    if not hasattr(values, "dtype") or np.ndim(values) != 2 or np.shape(values)[1] == 0:
        raise WrongShape(
            name,
            f"`{name}` must be an array [N points, D features] with D >= 1; got "
            f"{type(values).__name__} of shape {np.shape(values)}. "
            "Images and sequences become rows by x.reshape(len(x), -1), or better by a "
            "network's `embed`.",
        )
    if not (
        jnp.issubdtype(values.dtype, jnp.floating) or jnp.issubdtype(values.dtype, jnp.integer)
    ):
        raise WrongShape(name, f"`{name}` must be real numbers, got dtype {values.dtype}.")
    if concrete(values):
        with np.errstate(over="ignore"):  # what float32 cannot hold is inf, and said to be
            bad = np.flatnonzero(~np.isfinite(np.asarray(values, dtype=np.float32)).all(axis=1))
        if len(bad):
            raise NonFinite(
                name,
                f"`{name}` has NaN or inf (in float32) in {len(bad)} rows: {listed(bad)}. "
                "The usual cause is a diverged fit; to leave points out, "
                "pass them as not `available` with any finite features.",
                bad,
            )
    return as_float(values)


def batch_size(size: Any, available: Any, name: str = "size") -> int:
    """A positive batch size that the available points can fill."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise WrongSize(
            name,
            f"`{name}` must be an int (it is a shape), got {size!r} of type {type(size).__name__}.",
        )
    if size < 1:
        raise WrongSize(name, f"`{name}` must be at least 1, got {size}.")
    if size > available.shape[0]:
        raise WrongSize(
            name,
            f"`{name}` = {size}, but the pool has only {available.shape[0]} points; pass at "
            "most that. (Points are axis 1 of log-probabilities "
            "[K draws, N points, C classes].)",
        )
    if concrete(available) and size > (left := int(np.sum(np.asarray(available)))):
        raise WrongSize(
            name,
            f"`{name}` = {size}, but only {left} points are available; pass size={left} or fewer.",
        )
    return int(size)


def positive(
    values: Any, count: int, name: str, error: type[BayesalError] = NonFinite
) -> jax.Array:
    """Positive, finite real numbers `[N]`, one per pool point; an `error` of choice for others."""
    values = plain(values, name)
    dtype = getattr(values, "dtype", None)
    if (
        dtype is None
        or np.shape(values) != (count,)
        or not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))
    ):
        raise WrongShape(
            name,
            f"`{name}` must be real numbers of shape ({count},), one per pool point; got "
            f"{type(values).__name__} of shape {np.shape(values)}, dtype {dtype}. One number for "
            f"all points: np.full({count}, number).",
        )
    if concrete(values):
        with np.errstate(over="ignore"):
            host = np.asarray(values, dtype=np.float32)
        bad = np.flatnonzero(~((host > 0) & (host < np.inf)))
        if len(bad):
            raise error(
                name,
                f"`{name}` must be positive and finite (in float32); rows {listed(bad)} hold "
                f"{listed(np.asarray(values)[bad])}.",
                bad,
            )
    return as_float(values)


def weights(values: Any, count: int, name: str = "weights") -> jax.Array:
    """Weights `[N]` of at least 0, one per point, not all 0; None means all 1. A weight of 0 leaves
    its point out.
    """
    if values is None:
        return jnp.ones(count, jnp.float32)
    if getattr(values, "dtype", None) == np.bool_:
        values = as_float(values, name)  # a mask
    found = numbers(values, name, "one per point", shape=(count,))
    if concrete(found):
        with jax.ensure_compile_time_eval():
            host = np.asarray(found)
        if len(bad := np.flatnonzero(host < 0)):
            raise OutOfRange(
                name,
                f"`{name}` is negative at {len(bad)} points: {listed(bad)}. A weight says "
                "how many points of the population one stands for.",
                bad,
            )
        if count and not host.any():
            raise WrongSize(
                name,
                f"`{name}` is 0 at all {count} points: nothing is left to average. Give at "
                "least one point a weight.",
            )
    return found


def scores(values: Any, name: str = "scores") -> tuple[jax.Array, jax.Array]:
    """Scores `[N]` in float32, real numbers or -inf for what may not be picked, and numbers that
    order them.

    float64 and large integers merge in float32: their order is that of their ranks.
    """
    values = plain(values, name)
    if not hasattr(values, "dtype") or np.ndim(values) != 1:
        raise WrongShape(
            name,
            f"`{name}` must be an array with one score per pool point, shape [N]; got "
            f"{type(values).__name__} of shape {np.shape(values)}.",
        )
    if not (
        jnp.issubdtype(values.dtype, jnp.floating) or jnp.issubdtype(values.dtype, jnp.integer)
    ):
        raise WrongShape(name, f"`{name}` must be numbers, got dtype {values.dtype}.")
    if concrete(values):
        host = np.asarray(values)
        bad = np.flatnonzero(np.isnan(host) | np.isposinf(host))
        if len(bad):
            raise NonFinite(
                name,
                f"`{name}` is NaN or +inf at {len(bad)} rows: {listed(bad)}. The usual cause is a "
                "diverged fit, or 0 * log 0. -inf marks points that may not be picked.",
                bad,
            )
    single = as_float(values)
    if not concrete(values) or values.dtype in (np.float32, np.float16, jnp.bfloat16):
        return single, single
    ranks = np.unique(np.asarray(values), return_inverse=True)[1].astype(np.float32)
    return single, jnp.asarray(
        np.where(np.isneginf(np.asarray(values, np.float64)), -np.inf, ranks)
    )


def not_negative(values: Any, name: str = "scores") -> None:
    """Scores for a power or a sum: 0 or more, or -inf for what may not be picked."""
    if concrete(values) and len(
        bad := np.flatnonzero(((host := np.asarray(values)) < 0) & (host > -np.inf))
    ):
        raise OutOfRange(
            name,
            f"`{name}` is negative at {len(bad)} rows: {listed(bad)}. Powers need scores with a "
            "meaningful zero, such as information. For others, such as margin, use `softmax` or "
            "`softrank`.",
            bad,
        )


def never_negative(score: Any, name: str = "score") -> None:
    """A score of which a power is taken: at least 0, tried on a few predictions.

    Under jit negative scores could only be counted, like NaN. Scores of other arguments (real
    labels, a fixed number of classes) are not tried.
    """
    try:
        tried = np.asarray(score(_TRIED))
    except Exception:
        return
    if tried.dtype.kind in "iuf" and (tried < 0).any():
        raise OutOfRange(
            name,
            f"`{name}` = {getattr(score, '__name__', score)!r} gives negative scores, such as "
            f"{tried[tried < 0][0]:.3g}. Powers need scores with a meaningful zero, such as "
            "information. For others, such as margin, use `softmax` or `softrank`.",
        )


def finite(values: Any, name: str) -> None:
    """Rows `[N, ...]` without NaN or inf, where values are known."""
    values = plain(values, name)
    if not concrete(values) or not jnp.issubdtype(values.dtype, jnp.inexact):
        return
    with jax.ensure_compile_time_eval():
        host = np.asarray(values)
    bad = np.flatnonzero(~np.isfinite(host.reshape(len(host), -1)).all(axis=1))
    if len(bad):
        raise NonFinite(
            name, f"`{name}` has NaN or inf in {len(bad)} rows: {listed(bad)}. Leave them out.", bad
        )


def at_least_zero(value: Any, name: str) -> Any:
    """A finite number of at least 0, or a traced one, as float32."""
    if not concrete(value):
        return as_float(value)
    value = plain(value, name)
    if (
        isinstance(value, bool)
        or np.ndim(value)
        or not np.isrealobj(value)
        or not np.issubdtype(np.asarray(value).dtype, np.number)
    ):
        raise WrongShape(name, f"`{name}` must be a number, got {value!r}.")
    if not 0 <= float(value) < np.inf:
        raise WrongSize(name, f"`{name}` must be finite and at least 0, got {value!r}.")
    return jnp.float32(value)


def not_constant(selection: Any) -> None:
    """Refuse a ranking in which all available points have the same score."""
    if (
        selection.constant is not None
        and concrete(selection.constant)
        and bool(np.asarray(selection.constant))
    ):
        raise ConstantScores(
            "scores",
            "all available points have the same score, so the first rows of the pool would be "
            "picked. The usual causes: a network without dropout under `mc_dropout`, dropout rate "
            "0, a `point` posterior (its draws cannot disagree), or one draw (K = 1). To pick at "
            "random on purpose, use `uniform`.",
        )
