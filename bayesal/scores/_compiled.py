"""The edge in front of every score."""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, _chunks, _maths
from bayesal.types import Array, ArrayLike, PyTree

AT_ONCE = 2**21  # numbers brought to the device together


def scored(kernel: Callable[[Array], PyTree]) -> Callable[[ArrayLike], PyTree]:
    """Put the edge before a kernel: check, convert, run compiled (bit-identity over chunks is
    promised under jit).

    Concrete values are checked in the same pass, which shares the kernel's exponentials, and looked
    at again only where something is off.
    """

    @jax.jit
    def compiled(log_probs):
        return _in_cache(kernel, log_probs)

    @jax.jit
    def checked(log_probs):
        values, off = _in_cache(lambda part: (kernel(part), _checks.unnormalized(part)), log_probs)
        return values, jnp.any(off)

    def score(log_probs):
        log_probs = _checks.plain(log_probs, "log_probs")
        _checks.layout(log_probs)
        if _checks.concrete(log_probs) and str(log_probs.dtype) not in _checks.TOLERANCE:
            with (
                jax.ensure_compile_time_eval()
            ):  # they may be closed over by a function that is being traced
                values, off = zip(
                    *[checked(_checks.as_float(part)) for part in _parts(log_probs)], strict=True
                )
                if not any(bool(o) for o in off):
                    return jax.tree.map(lambda *v: _together(v, log_probs.shape[1:-1]), *values)
        return compiled(_checks.log_probs(log_probs))

    return as_public(score, kernel)


def as_public(score: Callable, kernel: Callable) -> Callable:
    """`score` with the name, the docstring and the signature of its kernel, whose arguments may be
    NumPy arrays too.
    """
    functools.update_wrapper(score, kernel)
    score.__annotations__ = {
        name: note if name == "return" else Float[ArrayLike, note.dim_str]
        for name, note in kernel.__annotations__.items()
    }
    score.__dict__.pop("__wrapped__")  # signatures are looked for there first
    own = inspect.signature(kernel)
    noted = [
        parameter.replace(annotation=score.__annotations__.get(name, parameter.annotation))
        for name, parameter in own.parameters.items()
    ]
    score.__signature__ = own.replace(parameters=noted)  # type: ignore[attr-defined]
    return score


def _parts(log_probs: ArrayLike) -> list[ArrayLike]:
    """A pool that is not on the device yet, some points at a time: to copy all of it takes longer,
    and as much memory again. The last part ends with the pool, so all have one shape."""
    rows = log_probs.shape[1] if log_probs.ndim > 2 else 1
    each = max(1, AT_ONCE * rows // max(1, log_probs.size))
    if isinstance(log_probs, jax.Array) or rows <= each:
        return [log_probs]
    return [
        log_probs[:, start : start + each] for start in (*range(0, rows - each, each), rows - each)
    ]


def _together(parts: tuple[Array, ...], points: tuple[int, ...]) -> Array:
    if len(parts) == 1:
        return parts[0]
    fresh = (
        points[0] - (len(parts) - 1) * parts[0].shape[0]
    )  # rows of the last part that no other holds
    return jnp.concatenate([*parts[:-1], parts[-1][parts[-1].shape[0] - fresh :]])


def _in_cache(kernel: Callable[[Array], PyTree], log_probs: Float[Array, "K *B C"]) -> PyTree:
    if not _chunks.on_cpu():
        return kernel(log_probs)
    draws, *points, classes = log_probs.shape
    some = lambda part: kernel(part.reshape(draws, -1, classes))
    rows = _chunks.over_rows(
        some, _maths.flattened(log_probs), _chunks.in_cache(draws * classes), axis=1, width=classes
    )
    return jax.tree.map(lambda row: row.reshape(points), rows)
