"""Checks of single values: keys, functions, records, counts."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal.errors import BayesalError, WrongShape, WrongSize, WrongType

_UNSEEN: ContextVar[bool] = ContextVar("unseen", default=False)


@contextlib.contextmanager
def unseen(value: bool = True) -> Iterator[None]:
    """Treat values as under jit: what cannot be looked at there is not looked at here either.

    A pool that is walked on the host then answers as a compiled program does: NaN is counted and
    left out, not refused. Inside, `unseen(False)` looks again.
    """
    token = _UNSEEN.set(value)
    try:
        yield
    finally:
        _UNSEEN.reset(token)


@contextlib.contextmanager
def installed(package: str, requirement: str) -> Iterator[None]:
    """An import of an optional package inside; where there is none, how to get it.

    Args:
      requirement: what pip installs: the package, or an extra of bayesal.
    Raises:
      ImportError: the package is not installed. A fault inside the package stays as it is.

    >>> with installed("nowhere", "bayesal[plots]"):
    ...     import nowhere
    Traceback (most recent call last):
    ...
    ImportError: this needs nowhere, which is not installed: pip install 'bayesal[plots]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ImportError(
            f"this needs {package}, which is not installed: pip install '{requirement}'",
            name=package,
        ) from error


def concrete(*arrays: Any) -> bool:
    """Whether all values are known: none is being traced by jit or vmap."""
    if _UNSEEN.get():
        return False
    try:
        for array in jax.tree.leaves(arrays):
            if isinstance(array, jax.Array):
                array.committed  # noqa: B018 - a traced value has no such fact, and says so
    except jax.errors.ConcretizationTypeError:
        return False
    return True


def listed(rows: Any, most: int = 5) -> str:
    """Row numbers for a message: the first few, and how many more there are."""
    rows = np.asarray(rows).ravel()
    shown = ", ".join(str(r) for r in rows[:most])
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")


def plain(values: Any, name: str) -> Any:
    """The array without a mask and in the machine's byte order; anything else unchanged.

    Every check of an array starts here: NumPy and JAX drop a mask silently, and JAX refuses foreign
    byte orders without naming an argument.
    """
    if isinstance(values, np.ma.MaskedArray):
        where = np.argwhere(np.ma.getmaskarray(values))
        if len(where):
            first = f", first at index {tuple(int(i) for i in where[0])}" if values.ndim else ""
            raise WrongType(
                name,
                f"`{name}` is a masked array with {len(where)} masked entries{first}. Fill or drop "
                "the masked entries: x.filled(...), x.compressed().",
                np.unique(where[:, 0]) if values.ndim else (),
            )
        values = np.asarray(values)
    if isinstance(values, np.ndarray) and not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return values


def as_float(values: Any, name: str = "values") -> jax.Array:
    """The array as float32, whatever its storage type.

    NumPy arrays are copied: a result may be computed after the caller has used the memory again.
    Known values stay known while a function that closes over them is traced, so that its checks see
    them.
    """
    values = plain(values, name)
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):  # what float32 cannot hold is inf, which checks refuse
            values = np.array(values, dtype=np.float32)
    if not concrete(values):
        return jnp.asarray(values, dtype=jnp.float32)
    with jax.ensure_compile_time_eval():
        return jnp.asarray(values, dtype=jnp.float32)


def _refuse(bad: Any, error: type[BayesalError], name: str, what: str, axis: int) -> None:
    if not np.any(bad):
        return
    where = np.argwhere(bad)
    places = (
        f", at {len(where)} places, first at index {tuple(int(i) for i in where[0])}"
        if np.ndim(bad)
        else ""
    )
    raise error(
        name, f"`{name}` {what}{places}.", np.unique(where[:, axis]) if np.ndim(bad) > axis else ()
    )


def key(value: Any, name: str = "key") -> jax.Array:
    """One typed JAX key; an int in [0, 2^32) is the key of that seed."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if not 0 <= value < 2**32:
            raise WrongSize(
                name,
                f"`{name}` = {value} must lie in [0, 2^32): larger seeds would be cut, and two of "
                "them could be the same.",
            )
        return jax.random.key(np.uint32(value))
    if (
        not hasattr(value, "dtype")
        or not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        or value.shape != ()
    ):
        raise WrongShape(
            name,
            f"`{name}` must be one typed key, as jax.random.key(0) makes, or an int; got "
            f"{value!r}.",
        )
    return value


def function(value: Any, name: str, example: str) -> Any:
    """Something that can be called."""
    if not callable(value):
        raise WrongType(name, f"`{name}` must be {example}, got {type(value).__name__}.")
    return value


def a(kind: type, value: Any, name: str, example: str) -> Any:
    """An instance of one of bayesal's records."""
    if not isinstance(value, kind):
        raise WrongType(
            name,
            f"`{name}` must be a {kind.__name__}, as {example} makes; got "
            f"{value if isinstance(value, type) else type(value).__name__}.",
        )
    return value


def at_least(least: int, value: Any, name: str, most: int | None = None) -> int:
    """An int of at least `least` and, where given, at most `most`.

    Sizes of arrays need a `most`: without one a typing error exhausts the memory.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise WrongSize(name, f"`{name}` must be an int of at least {least}, got {value!r}.")
    if most is not None and value > most:
        raise WrongSize(
            name, f"`{name}` must be at most {most:,} (it sizes an array), got {value!r}."
        )
    return int(value)
