"""`of`: the pool of whatever a person passes."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from bayesal.pools._arrays import array
from bayesal.pools._files import file
from bayesal.pools._meshes import mesh, sharded
from bayesal.predictive import _arrays
from bayesal.types import Pool


def of(x: Any) -> Pool:
    """The pool of what was passed; `choose`, `ask` and `tell` call it for you.

    A `Pool` is itself. A path, a memory map, a sparse matrix or a function that returns an iterator
    is `pools.file`. A JAX array that is split over several devices is `pools.sharded`, over the
    same devices. Any other array (of torch too), a data frame or a list of equal rows is
    `pools.array`.

    Args:
      x: examples, one per row.
    Raises:
      WrongShape: none of these.

    >>> of([[1.0, 2.0], [3.0, 4.0]]).rows
    2
    """
    if isinstance(x, Pool):
        return x
    if isinstance(x, str | os.PathLike | np.memmap) or hasattr(x, "tocsr") or callable(x):
        return file(x)
    if isinstance(x, jax.Array) and isinstance(getattr(x, "sharding", None), NamedSharding):
        sharding: Any = x.sharding
        if len(devices := sharding.mesh.devices.ravel().tolist()) > 1:
            return sharded(x, mesh(devices))
        return array(x)
    if hasattr(x, "to_numpy"):
        x = x.to_numpy()
    elif isinstance(x, list | tuple) or hasattr(x, "__dlpack__"):
        x = _arrays.read(x, "x")
    return array(x)
