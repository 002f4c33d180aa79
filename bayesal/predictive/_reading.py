"""Arrays of any library, read where they lie; axes in any order; three kinds of numbers made into
one.
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, errors
from bayesal.types import Array, Gaussian

LETTERS = "KNC"
HALF = ("bfloat16", "float16")
HANDFUL = 20  # numbers, up to which logits may look like probabilities by chance
UNREAD = (
    BufferError,
    RuntimeError,
    TypeError,
    ValueError,
)  # what a library raises that cannot hand its numbers over


def read(values: Any, name: str) -> np.ndarray | jax.Array:
    """A NumPy or JAX array of what was passed: NumPy, JAX, anything with DLPack (torch: detached,
    CPU or GPU, bfloat16 too), lists.

    Nothing is written to and nothing is kept after the call, so memory is shared where it can be.
    """
    if isinstance(values, jax.Array) and not _checks.concrete(values):
        raise errors.WrongShape(
            name,
            f"`{name}` is being traced by jit or vmap, and this door answers with numbers on "
            "the host. Inside jit use `bayesal.select` "
            "and `bayesal.scores`.",
        )
    if isinstance(values, jax.Array | np.ndarray):
        return _checks.plain(values, name)
    if hasattr(values, "detach"):
        values = values.detach()
    if hasattr(values, "__dlpack__"):
        return _from_dlpack(values, name)
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise errors.WrongShape(
            name,
            f"`{name}` is no regular array ({error}). Every row needs the same length: stack "
            "it into one array.",
        ) from error


def _from_dlpack(values: Any, name: str) -> np.ndarray | jax.Array:
    try:
        if hasattr(values, "cpu") and jax.default_backend() == "cpu":
            values = values.cpu()
        if hasattr(values, "contiguous"):
            values = values.contiguous()
        with contextlib.suppress(*UNREAD):  # bfloat16, or not on the host
            return np.from_dlpack(values)  # first, because it keeps float64
        return jax.dlpack.from_dlpack(values)
    except UNREAD as error:
        raise errors.WrongShape(
            name,
            f"`{name}` of type {type(values).__name__} cannot be read over DLPack ({error}). "
            "Pass a dense array.",
        ) from error


def the_one(given: dict[str, Any]) -> tuple[str, Any]:
    """The one argument that was passed, and its name: what the numbers are is said by name."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        *names, last = (f"`{name}`" for name in given)
        raise errors.WrongShape(
            named[1] if named else next(iter(given)),
            f"exactly one of {', '.join(names)} or {last} must be passed; got "
            f"{' and '.join(named) or 'none'}.",
        )
    return named[0], given[named[0]]


def order(axes: Any) -> str:
    """`axes` as the letters in the order they have in the caller's array, for example "NCK"."""
    letters = "".join(axes.split()) if isinstance(axes, str) else ""
    if sorted(letters) not in (sorted("KNC"), sorted("NC")):
        raise errors.WrongShape(
            "axes",
            f"`axes` = {axes!r} must name each axis of the array once, in its order: K "
            "draws, N points, C classes, for example 'K N C', "
            "'N K C' or 'N C K'; 'N C' where there is one prediction per point.",
        )
    return letters


def laid_out(values: np.ndarray | jax.Array, letters: str, name: str) -> np.ndarray | jax.Array:
    """The same numbers as `[K, N, C]`, without a copy in NumPy."""
    if values.ndim != len(letters):
        raise errors.WrongShape(
            name,
            f"`{name}` has shape {tuple(values.shape)}, but axes={' '.join(letters)!r} names "
            f"{len(letters)} axes. Say which axis is which, for "
            "example axes='N C K', or axes='N C' for one prediction per point.",
        )
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise errors.WrongShape(
            name,
            f"`{name}` must be floating-point numbers, got dtype {values.dtype}; pass "
            "values.astype(float).",
        )
    return (
        values.transpose([letters.index(a) for a in LETTERS])
        if len(letters) == 3
        else values.transpose([letters.index(a) for a in "NC"])[None]
    )


def log_probs(
    kind: str, part: np.ndarray | jax.Array, name: str | None = None
) -> Float[Array, "K n C"]:
    """Checked, normalized float32 log-probabilities from `part [K, n, C]`, which is of the kind the
    caller said.

    Rows of NaN stay NaN, for strategies to count. All else is checked, inside `unseen` too: these
    numbers came from a person.
    """
    name = kind if name is None else name
    broken = broken_rows(part)
    if broken is not None:
        part = _with(part, broken[..., None], _HARMLESS[kind](part.shape[-1]))
    with _checks.unseen(False):
        found = _as_said(kind, part, name)
    return found if broken is None else jnp.where(broken[..., None], jnp.nan, found)


def broken_rows(part: np.ndarray | jax.Array) -> np.ndarray | None:
    """Which rows of the last axis hold NaN; None: no number is."""
    xp = _numbers_of(part)
    with np.errstate(invalid="ignore", over="ignore"):
        if not xp.isnan(xp.sum(part)):  # one cheap pass where nothing is broken
            return None
    found = np.asarray(xp.isnan(part).any(-1))
    return found if found.any() else None


def refuse_nan(part: np.ndarray | jax.Array, name: str) -> None:
    """NaN where values can be looked at: an error that names the rows."""
    if (broken := broken_rows(part)) is not None:
        why = "hold NaN. The usual cause is a diverged fit, or log(0) - log(0) on the way"
        _refuse(broken, errors.NonFinite, name, why)


_HARMLESS = {
    "log_probs": lambda classes: -np.log(classes),
    "probs": lambda classes: 1 / classes,
    "logits": lambda classes: 0.0,
}


def _numbers_of(part):
    return jnp if isinstance(part, jax.Array) else np


def _with(part, where, value):
    """A copy with `value` in some places, of the same dtype."""
    xp = _numbers_of(part)
    return xp.where(where, xp.asarray(value, part.dtype), part)


def _as_said(kind, part, name):
    if kind in _MADE:
        return _checks.log_probs(_MADE[kind](part, name), name)
    try:
        checked = _checks.log_probs(part, name)
    except errors.NotLogProbabilities as error:
        if name != kind:
            raise
        hint = (
            "If they are log-probabilities: is `axes` right? Read as [K, N, C] this part has "
            f"shape {tuple(part.shape)}."
        )
        raise errors.NotLogProbabilities(kind, f"{error} {hint}", error.rows) from error
    # half precision sums to 1 roughly
    return jax.nn.log_softmax(checked, axis=-1) if str(part.dtype) in HALF else checked


def moments(mean: Any, variance: Any, name: str) -> Gaussian:
    """Checked means and variances `[K, n]`; pairs with NaN stay NaN, for strategies to count."""
    mean, variance = np.asarray(mean), np.asarray(variance)
    nan = lambda a: (
        np.isnan(a) if jnp.issubdtype(a.dtype, jnp.floating) else np.zeros(a.shape, bool)
    )
    broken = nan(mean) | nan(variance)
    filled = lambda a, value: np.where(broken, value, a) if broken.any() else a
    with _checks.unseen(False):
        pair = Gaussian(
            mean=_checks.numbers(filled(mean, 0), name, "means [K, N]", axis=1),
            variance=_checks.numbers(
                filled(variance, 1), name, "variances [K, N]", above=0.0, axis=1
            ),
        )
    return jax.tree.map(lambda a: jnp.where(broken, jnp.nan, a), pair) if broken.any() else pair


def on_host(kind: str, part: np.ndarray) -> np.ndarray:
    """What `log_probs` gives, without a call of JAX: inside a callback of a running JAX program one
    may wait for ever. Rows of NaN stay NaN.
    """
    if kind in _MADE:
        return _MADE[kind](part, kind).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        off = abs(np.log(np.exp(part.astype(np.float64)).sum(-1))) > _checks.tolerance(part)
    _refuse(
        off,
        errors.NotLogProbabilities,
        kind,
        "do not sum to 1 over the classes. Is `axes` right? If these are logits or "
        "probabilities, pass logits= or probs=",
    )
    return _of_logits(part, kind).astype(np.float32)


def _working(part):
    """NumPy stays on the host, where float64 keeps its digits through the logarithm; nothing is
    narrower than float32.
    """
    xp = _numbers_of(part)
    return xp, part.astype(xp.promote_types(part.dtype, np.float32))


def _of_probs(part, name):
    xp, p = _working(part)
    _refuse(
        (p < 0).any(-1),
        errors.NotLogProbabilities,
        name,
        "hold negative numbers, which are no probabilities. If these are logits, pass logits=",
    )
    total = p.sum(-1, keepdims=True)
    _refuse(
        abs(total[..., 0] - 1) > _checks.tolerance(part),
        errors.NotLogProbabilities,
        name,
        "do not sum to 1 over the classes. Is `axes` right? Divide by the sum if these are "
        "counts or weights",
    )
    with np.errstate(divide="ignore"):
        return xp.log(p / total)


def _of_logits(part, name):
    xp, z = _working(part)
    _refuse(
        (z == xp.inf).any(-1),
        errors.NonFinite,
        name,
        "hold +inf. The usual cause is a diverged fit",
    )
    _refuse_probabilities(part, z, name)
    top = z.max(-1, keepdims=True)
    _refuse(
        top[..., 0] == -xp.inf,
        errors.NonFinite,
        name,
        "are -inf for every class; at least one class must be possible",
    )
    z = z - top  # NaN makes its whole row NaN
    return z - xp.log(xp.exp(z).sum(-1, keepdims=True))


def _refuse_probabilities(part, z, name):
    """Rows in [0, 1] that all sum to 1 are no logits: their softmax would flatten them silently.

    Logits do so by chance only in a handful of numbers, which pass.
    """
    if z.size <= HANDFUL or bool((z < 0).any()) or bool((z > 1).any()):
        return
    near = _checks.tolerance(part)
    if bool((abs(z.sum(-1) - 1) <= near).all()):
        raise errors.NotLogProbabilities(
            name,
            f"`{name}` look like probabilities: all {z.size // z.shape[-1]} rows lie in [0, 1] and "
            "sum to 1. Pass probs=.",
        )


_MADE = {"probs": _of_probs, "logits": _of_logits}


def _refuse(bad, error, name, why):
    bad = np.asarray(bad)
    if bad.any():
        where = np.argwhere(bad)
        raise error(
            name,
            f"{len(where)} rows of `{name}` {why}; the first is draw {where[0][0]} of point "
            f"{where[0][1]}.",
            np.unique(where[:, 1]),
        )
