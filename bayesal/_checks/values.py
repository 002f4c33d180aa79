"""Checks of single values: keys, functions, records, counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal.errors import BayesalError, WrongShape, WrongSize, WrongType


def concrete(*arrays: Any) -> bool:
    """Whether all values can be looked at: none is being traced by jit or vmap."""
    try:
        for array in jax.tree.leaves(arrays):
            if isinstance(array, jax.Array):
                array.committed  # noqa: B018 - a traced value has no such fact, and says so
    except jax.errors.ConcretizationTypeError:
        return False
    return True


def listed(rows: Any, most: int = 5) -> str:
    """Rows as words: the first few, and how many more."""
    rows = np.asarray(rows).ravel()
    shown = ", ".join(str(r) for r in rows[:most])
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")


def as_float(values: Any) -> jax.Array:
    """Numbers in float32, as all arithmetic is. NumPy arrays are copied: a result may be computed
    after the caller has used the memory again.
    """
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):  # what float32 cannot hold is inf, which checks refuse
            values = np.array(values, dtype=np.float32)
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
    """One typed JAX key."""
    if (
        not hasattr(value, "dtype")
        or not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        or value.shape != ()
    ):
        raise WrongShape(
            name, f"`{name}` must be one typed key, as jax.random.key(0) makes; got {value!r}."
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


def at_least(least: int, value: Any, name: str) -> int:
    """An int that is not too small."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise WrongSize(name, f"`{name}` must be an int of at least {least}, got {value!r}.")
    return int(value)
