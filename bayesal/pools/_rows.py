"""Rows of a pool as people pass them: checked, and in the form that JAX takes."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from bayesal import _checks, errors


def whole(x: Any, name: str = "x") -> Any:
    """A whole pool `[N, ...]`, or an error that says what is wrong with it."""
    x = _checks.plain(x, name)
    _checks.pool(x, name)
    return relaxed(native(x, name))


def native(x: Any, name: str) -> Any:
    """The array in the machine's byte order and without a mask; whole numbers that JAX can hold.

    Raises:
      OutOfRange: 64-bit numbers that 32 bits would change. WrongType: masked entries.
    """
    x = _checks.plain(x, name)
    wide = isinstance(x, np.ndarray) and x.dtype.kind in "iu" and x.dtype.itemsize == 8
    if not wide or jax.dtypes.canonicalize_dtype(x.dtype) == x.dtype:
        return x
    held = np.iinfo(jax.dtypes.canonicalize_dtype(x.dtype))
    if x.size and (x.min() < held.min or x.max() > held.max):
        bad = np.argwhere((x < held.min) | (x > held.max))
        raise errors.OutOfRange(
            name,
            f"`{name}` holds {x.dtype} numbers that {held.dtype} cannot, the first of them "
            f"{x[tuple(bad[0])]} at index {tuple(int(i) for i in bad[0])}. JAX would change them "
            "silently: subtract an offset, or set jax_enable_x64.",
            np.unique(bad[:, 0]),
        )
    return x


def relaxed(x: Any) -> Any:
    """The array along Auto axes of the same devices, where many operations refuse Explicit axes."""
    if not isinstance(x, jax.Array) or not _checks.concrete(x):
        return x
    sharding = x.sharding
    if not isinstance(sharding, NamedSharding):
        return x
    names = sharding.mesh.axis_names
    place = Mesh(sharding.mesh.devices, names, axis_types=(AxisType.Auto,) * len(names))
    return jax.device_put(x, NamedSharding(place, sharding.spec))
