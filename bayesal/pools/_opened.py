"""`of`: the pool of whatever a person passes."""

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from bayesal import errors
from bayesal.pools._in_memory import array
from bayesal.pools._meshes import mesh, sharded
from bayesal.pools._sequential import file
from bayesal.predictive import _reading
from bayesal.types import Pool


def of(x: Any) -> Pool:
    """The pool of what was passed; `choose`, `ask` and `tell` call it for you.

    A `Pool` is itself. A path, a memory map, a sparse matrix or a function that returns an iterator
    is `pools.file`. A JAX array that is split over several devices is `pools.sharded`, over the
    same devices. Any other array (of torch too), a data frame or a list of equal rows stays in
    memory, and is measured in chunks of 1,024 rows inside one compiled program.

    Args:
      x: examples, one per row.
    Raises:
      WrongShape: none of these, or columns of a data frame that are not numbers.

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
        x = _frame(x)
    elif isinstance(x, list | tuple) or hasattr(x, "__dlpack__"):
        x = _reading.read(x, "x")
    return array(x)


def _frame(x: Any) -> np.ndarray:
    """The numbers of a data frame `[N, columns]`.

    Mixed columns (bools beside floats, nullable integers) come as objects: each is read by itself.
    """
    values = np.asarray(x.to_numpy())
    if values.dtype.kind != "O" or values.ndim != 2 or not hasattr(x, "columns"):
        return values
    columns = [_column(column) for column in values.T]
    if bad := [str(n) for n, column in zip(x.columns, columns, strict=True) if column is None]:
        shown = ", ".join(map(repr, bad[:5])) + (f" and {len(bad) - 5} more" if bad[5:] else "")
        raise errors.WrongShape(
            "x",
            f"`x` has columns that are not numbers, or miss some: {shown}. Leave them out "
            "(x.drop(columns=[...])), or encode and fill them first.",
        )
    return np.column_stack([column for column in columns if column is not None])


def _column(objects: np.ndarray) -> np.ndarray | None:
    """One column of numbers in a type of its own; None: it holds something else."""
    try:
        column = np.array(objects.tolist())
    except (TypeError, ValueError):
        return None
    return column if column.ndim == 1 and column.dtype.kind in "biuf" else None
