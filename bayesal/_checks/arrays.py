"""Checks of arrays that selectors and scores take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _chunks, _maths
from bayesal._checks.values import _refuse, as_float, concrete, listed, plain
from bayesal.errors import (
    ConstantScores,
    NegativeScores,
    NonFinite,
    NotLogProbabilities,
    OutOfRange,
    WrongShape,
    WrongSize,
)

TOLERANCE = {
    "float16": 2e-2,
    "bfloat16": 2e-1,
}  # |log of a row's sum| that storage alone can explain; float32: 1e-3


def log_probs(
    values: Any, name: str = "log_probs", draws: bool = True, ndim: int | None = None
) -> jax.Array:
    """Normalized log-probabilities `[K, *B, C]` (`[*B, C]` with `draws=False`), or an error that
    says what they are.
    """
    layout(values, name, draws, ndim)
    if not concrete(values):
        return as_float(values)
    with (
        jax.ensure_compile_time_eval()
    ):  # concrete values may be closed over by a function that is being traced
        numbers = as_float(values)
        total = _log_totals(numbers, TOLERANCE.get(str(values.dtype)), name)
        return numbers if total is None else numbers - total[..., None]


def layout(
    values: Any, name: str = "log_probs", draws: bool = True, ndim: int | None = None
) -> None:
    """Whether numbers can be log-probabilities by their shape and dtype."""
    axes = "[K draws, ..., C classes]" if draws else "[..., C classes]"
    if not hasattr(values, "dtype"):
        raise WrongShape(
            name,
            f"`{name}` must be an array {axes}, got {type(values).__name__}; pass a NumPy or "
            "JAX array.",
        )
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise NotLogProbabilities(
            name,
            f"`{name}` must be floating-point log-probabilities {axes}, got {values.dtype}. "
            "One-hot votes become log-probabilities by jnp.log(votes.astype(float)).",
        )
    least = 1 + draws
    if values.ndim < least or (ndim is not None and values.ndim != ndim):
        wanted = f"{ndim} axes" if ndim is not None else f"at least {least} axes"
        raise WrongShape(
            name, f"`{name}` must have {wanted}, {axes}; got shape {tuple(values.shape)}."
        )
    if draws and values.shape[0] == 0:
        raise WrongSize(
            name,
            f"`{name}` has K = 0 draws (shape {tuple(values.shape)}); at least one draw is needed.",
        )
    if values.shape[-1] < 2:
        raise WrongShape(
            name,
            f"`{name}` has C = {values.shape[-1]} classes on its last axis (shape "
            f"{tuple(values.shape)}). A binary "
            "problem has two: stack log p and log(1 - p) on the last axis.",
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

    `layout` says in words what the axes are, `axis` is the one whose indices are the offending
    rows.
    """
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
    got = tuple(values.shape)
    if (
        len(got) < least
        or (ndim is not None and len(got) != ndim)
        or (shape is not None and got != tuple(shape))
    ):
        wanted = (
            f"shape {tuple(shape)}"
            if shape is not None
            else f"{ndim} axes"
            if ndim is not None
            else f"at least {least} axes"
        )
        raise WrongShape(name, f"`{name}` must have {wanted}, {layout}; got shape {got}.")
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


def unnormalized(log_probs: jax.Array) -> jax.Array:
    """Of `[K, N, C]`: points `[N]` whose probabilities miss a sum of 1 by 1e-5 or more, or are NaN,
    in any draw.
    """
    probs = jnp.exp(_maths.flattened(log_probs)).reshape(log_probs.shape)
    return jnp.any(~(jnp.abs(_maths.pairwise(probs, axis=-1) - 1.0) < 1e-5), axis=0)


@jax.jit
def _any_unnormalized(numbers):
    classes = numbers.shape[-1]
    some = lambda part: unnormalized(part.reshape(1, -1, classes))
    return jnp.any(
        _chunks.over_rows(
            some, numbers.reshape(1, -1), _chunks.in_cache(classes), axis=1, width=classes
        )
    )


@jax.jit
def _row_totals(numbers):
    return jax.nn.logsumexp(numbers, axis=-1), jnp.isnan(numbers).any(-1)


def _log_totals(numbers: jax.Array, tolerance: float | None, name: str) -> jax.Array | None:
    """What rounding took from each row's log-sum (None: nothing to speak of), or an error. A
    `tolerance` is of coarse storage.
    """
    if tolerance is None and not bool(_any_unnormalized(numbers)):
        return None
    total, nan = (np.asarray(a) for a in _row_totals(numbers))
    if nan.any():
        where = np.argwhere(nan)
        raise NonFinite(
            name,
            f"`{name}` has NaN in {len(where)} rows, first at index "
            f"{tuple(int(i) for i in where[0])} "
            "(the class axis left out). The usual cause is a diverged fit, or log(0) - "
            "log(0) on the way here: use "
            "jax.nn.log_softmax.",
            where[:, -1] if where.shape[1] else (),
        )
    off = np.abs(total) > (tolerance or 1e-3)
    if not off.any():
        return None if np.max(np.abs(total), initial=0.0) < 1e-5 else jnp.asarray(total)
    where = np.argwhere(off)
    at = tuple(int(i) for i in where[0])
    row = np.asarray(numbers)[at].astype(np.float64)
    looks_like_probabilities = row.min() >= 0 and abs(row.sum() - 1) < 1e-2
    advice = (
        "They look like probabilities: pass jnp.log(probs)."
        if looks_like_probabilities
        else ("Logits become log-probabilities by jax.nn.log_softmax(logits, axis=-1).")
    )
    raise NotLogProbabilities(
        name,
        f"`{name}` must be normalized log-probabilities, but {len(where)} rows do not sum to "
        "1 over the last axis; "
        f"the first, at index {at}, sums to {np.exp(np.float64(total[at])):.4g}. {advice}",
        where[:, -1] if where.shape[1] else (),
    )


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
    return jnp.asarray(available)


def features(values: Any, name: str = "features") -> jax.Array:
    """Features `[N, D]`: one row of finite numbers per pool point."""
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


def positive(values: Any, count: int, name: str) -> jax.Array:
    """Positive, finite numbers `[N]`, one per pool point."""
    if (
        not hasattr(values, "dtype")
        or np.shape(values) != (count,)
        or not jnp.issubdtype(values.dtype, jnp.floating)
    ):
        raise WrongShape(
            name,
            f"`{name}` must be floating-point numbers of shape ({count},), one per pool "
            f"point; got {type(values).__name__} of shape "
            f"{np.shape(values)}. One number for all of them: np.full({count}, number).",
        )
    if concrete(values):
        host = np.asarray(values, dtype=np.float32)
        bad = np.flatnonzero(~((host > 0) & (host < np.inf)))
        if len(bad):
            raise NonFinite(
                name,
                f"`{name}` must be positive and finite; rows {listed(bad)} hold "
                f"{listed(host[bad])}.",
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
        values = as_float(values)  # a mask
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
    """Scores `[N]`: real numbers, or -inf for what may not be picked; in float32, and what orders
    them.

    float64 and large integers merge in float32, so there the order is that of ranks found before.
    """
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
                f"`{name}` is NaN or +inf at {len(bad)} rows: {listed(bad)}. -inf is the way "
                "to say `may not be picked`; "
                "NaN usually comes from a diverged fit or from 0 * log 0.",
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
    """Scores of which a power is taken: 0 or more, or -inf for what may not be picked."""
    if concrete(values) and len(
        bad := np.flatnonzero(((host := np.asarray(values)) < 0) & (host > -np.inf))
    ):
        raise NegativeScores(
            name,
            f"`{name}` is negative at {len(bad)} rows: {listed(bad)}; a power is taken of "
            "scores with a meaningful zero, as information has. For "
            "others (margin is one) use `softmax` or `softrank`.",
            bad,
        )


def at_least_zero(value: Any, name: str) -> Any:
    """A finite number of at least 0, or a traced one, as float32."""
    if not concrete(value):
        return as_float(value)
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


def not_constant(selection: Any, hint: str = "") -> None:
    """Refuse a ranking in which every available point had the same score."""
    if (
        selection.constant is not None
        and concrete(selection.constant)
        and bool(np.asarray(selection.constant))
    ):
        raise ConstantScores(
            "scores",
            "all available points have one and the same score, so the first rows of the pool "
            "would be picked. The usual causes: "
            "a network without dropout under `mc_dropout`, dropout rate 0, a `point` "
            "posterior (its draws cannot disagree), or one "
            "draw (K = 1). To pick at random on purpose, use `uniform`." + hint,
        )
