"""Pools: where the rows to choose from are. Every strategy runs on every pool.

    pools.of(x)                         # in memory
    pools.file("pool.npy")              # on disk, a memory map, or an iterator of chunks
    pools.sharded(x, pools.mesh())      # over devices and processes
    pools.numbers(log_probs=..., axes="K N C")    # a person's own predictions

A pool cuts its own chunks. `bayesal.choose` takes anything that `pools.of` takes. A learner does
too, apart from predictions (it makes its own) and iterators (it knows rows by their number).
"""

from bayesal.pools._given import numbers
from bayesal.pools._meshes import load, mesh, sharded
from bayesal.pools._opened import of
from bayesal.pools._sequential import file

__all__ = ["file", "load", "mesh", "numbers", "of", "sharded"]


def __dir__() -> list[str]:
    return __all__
