"""Checks of predictions: log-probabilities of classes, normals, mixtures of normals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _chunks, _maths
from bayesal._checks.values import _refuse, as_float, concrete, plain
from bayesal.errors import (
    NonFinite,
    NotLogProbabilities,
    OutOfRange,
    WrongShape,
    WrongSize,
    WrongType,
)
from bayesal.types import Gaussian, Mixture

# |log of a row's sum| that rounding in storage explains; 1e-3 for all other types
TOLERANCE = {"float16": 2e-2, "bfloat16": 2e-1}


def tolerance(values: Any) -> float:
    """The largest |log of a row's sum| that the storage of log-probabilities explains."""
    return TOLERANCE.get(str(values.dtype), 1e-3)


def prediction(
    value: Any,
    name: str = "prediction",
    *,
    axes: tuple[int, ...] = (),
    real: bool = False,
    draws: bool = False,
    nan: bool = False,
) -> Any:
    """A prediction in float32: log-probabilities, or a `Gaussian` or `Mixture` whose fields have
    one shape, with finite means, variances above 0 and normalized weights.

    Under jit only types and shapes are checked.

    Args:
      value: the prediction.
      axes: how many axes it may have, without classes or components: 1 is [N], 2 is [K, N]. Any
        number if empty.
      real: whether log-probabilities are refused.
      draws: whether the first axis is of draws, at least one.
      nan: for arithmetic: whether NaN passes, which stays NaN, and so does a single class.
    """
    if isinstance(value, Gaussian | Mixture):
        return _real(value, name, axes, draws, nan)
    if real:
        raise WrongType(
            name,
            f"`{name}` must be a Gaussian{_axes(axes)} or a Mixture{_axes(axes, ', J')}, as a "
            f"predictive of real labels gives; got {type(value).__name__}.",
        )
    if axes and np.ndim(value) - 1 not in axes:
        raise WrongShape(
            name,
            f"`{name}` must be log-probabilities{_axes(axes, ', C')}; got shape {np.shape(value)}.",
        )
    return log_probs(value, name, draws=draws, nan=nan)


def _axes(axes: tuple[int, ...], last: str = "") -> str:
    return " or".join(f" [{', '.join('KN'[2 - n :])}{last}]" for n in axes)


def _real(value: Any, name: str, axes: tuple[int, ...], draws: bool, nan: bool) -> Any:
    value = type(value)(*(plain(leaf, name) for leaf in value))
    for field, leaf in zip(value._fields, value, strict=True):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or not (
            jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
        ):
            raise WrongType(
                name,
                f"`{name}` needs arrays of real numbers; its `{field}` is "
                f"{type(leaf).__name__ if dtype is None else f'of dtype {dtype}'}.",
            )
    shapes = {field: tuple(leaf.shape) for field, leaf in zip(value._fields, value, strict=True)}
    if len(set(shapes.values())) > 1:
        raise WrongShape(
            name,
            f"`{name}` needs fields of one shape, one variance per mean; got "
            f"{', '.join(f'{field} {shape}' for field, shape in shapes.items())}. Nothing is "
            "broadcast: use jnp.broadcast_to(variance, mean.shape).",
        )
    mixed = isinstance(value, Mixture)
    if len(shapes["mean"]) < mixed or (axes and len(shapes["mean"]) - mixed not in axes):
        raise WrongShape(
            name,
            f"`{name}` must be a {type(value).__name__}{_axes(axes, ', J' if mixed else '')}; got "
            f"fields of shape {shapes['mean']}.",
        )
    several = draws or (2 in axes and len(shapes["mean"]) - mixed == 2)
    if several and (len(shapes["mean"]) == mixed or shapes["mean"][0] == 0):
        raise WrongSize(
            name, f"`{name}` needs at least one draw on axis 0; got shape {shapes['mean']}."
        )
    if mixed and shapes["mean"][-1] == 0:
        raise WrongShape(name, f"`{name}` has J = 0 components (shape {shapes['mean']}).")
    single = type(value)(*(as_float(leaf, name) for leaf in value))
    if concrete(single):
        with jax.ensure_compile_time_eval():
            _proper(type(value)(*(np.asarray(leaf) for leaf in single)), name, nan)
    return single


def _proper(host: Any, name: str, nan: bool) -> None:
    """Refuse values on the host that are no means, variances and weights."""
    mixed = isinstance(host, Mixture)

    def refuse(bad, error, what):
        bad = bad.any(-1) if mixed and bad.ndim == host.mean.ndim else bad
        _refuse(bad, error, name, what, max(bad.ndim - 1, 0))

    known = lambda a: ~np.isnan(a) if nan else np.ones(a.shape, bool)
    refuse(
        ~np.isfinite(host.mean) & known(host.mean),
        NonFinite,
        "has means that are NaN or infinite (in float32)",
    )
    refuse(
        ~np.isfinite(host.variance) & known(host.variance),
        NonFinite,
        "has variances that are NaN or infinite (in float32)",
    )
    refuse(
        host.variance <= 0,
        OutOfRange,
        "has variances that are not above 0 (in float32); `variance` is the square of a standard "
        "deviation",
    )
    if mixed:
        total = np.exp(host.log_weight.astype(np.float64)).sum(-1)
        refuse(
            ~(np.abs(total - 1) < 1e-3) & known(total),
            OutOfRange,
            "has weights that do not sum to 1 over the components; `log_weight` are normalized "
            "logarithms: use jax.nn.log_softmax(weights, axis=-1)",
        )


def log_probs(
    values: Any,
    name: str = "log_probs",
    draws: bool = True,
    ndim: int | None = None,
    nan: bool = False,
) -> jax.Array:
    """Normalized log-probabilities `[K, *B, C]` (`[*B, C]` with `draws=False`) in float32, or an
    error that names what came instead.

    Rounding errors of a sum are divided out. With `nan`, rows of NaN pass, and a single class.
    """
    values = plain(values, name)
    layout(values, name, draws, ndim, classes=1 if nan else 2)
    if not concrete(values):
        return as_float(values)
    with jax.ensure_compile_time_eval():  # a traced function may close over concrete values
        numbers = as_float(values)
        total = _log_totals(numbers, TOLERANCE.get(str(values.dtype)), name, nan)
        return numbers if total is None else numbers - total[..., None]


def layout(
    values: Any,
    name: str = "log_probs",
    draws: bool = True,
    ndim: int | None = None,
    classes: int = 2,
) -> None:
    """Refuse what cannot be log-probabilities by its shape or dtype."""
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
    if values.shape[-1] < classes:
        raise WrongShape(
            name,
            f"`{name}` has C = {values.shape[-1]} classes on its last axis (shape "
            f"{tuple(values.shape)}). A binary "
            "problem has two: stack log p and log(1 - p) on the last axis.",
        )


def unnormalized(log_probs: jax.Array) -> jax.Array:
    """Points `[N]` of `[K, N, C]` whose probabilities in any draw are NaN or miss a sum of 1 by
    1e-5.
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


def _log_totals(
    numbers: jax.Array, tolerance: float | None, name: str, keep_nan: bool
) -> jax.Array | None:
    """The log-sum of each row, None where all are within 1e-5 of 0, or an error. Coarse storage has
    a `tolerance`.
    """
    if tolerance is None and not bool(_any_unnormalized(numbers)):
        return None
    total, nan = (np.asarray(a) for a in _row_totals(numbers))
    if nan.any() and not keep_nan:
        where = np.argwhere(nan)
        raise NonFinite(
            name,
            f"`{name}` has NaN in {len(where)} rows, first at index "
            f"{tuple(int(i) for i in where[0])} (without the class axis). The usual cause is a "
            "diverged fit, or log(0) - log(0): use jax.nn.log_softmax.",
            where[:, -1] if where.shape[1] else (),
        )
    total = np.where(nan, 0.0, total)
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
