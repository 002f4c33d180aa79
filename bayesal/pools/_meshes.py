"""Pools over devices and processes: measured where the rows are, without communication."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from bayesal import _checks, _chunks, errors
from bayesal.pools import _rows, _walk
from bayesal.predictive._bound import with_its_numbers
from bayesal.types import Array, ArrayLike, Pool, PyTree

_AXIS = "pool"
_SPLIT, _WHOLE = PartitionSpec(_AXIS), PartitionSpec()


def mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """One axis over `devices`, or over all there are (of all processes).

    >>> mesh(jax.devices()[:1]).axis_names
    ('pool',)
    """
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def sharded(x: ArrayLike, over: Mesh | None = None) -> Pool:
    """A pool split evenly over the devices of a mesh, in order; row numbers stay what they are.

    Every device measures its own rows, in chunks of 1,024, and waits for no other. What was
    measured (4 bytes a row for a score) is gathered, and the batch is picked as in any pool.

    Args:
      x: the pool `[N, ...]`. An array that is sharded already, along Explicit axes too, is moved.
      over: a mesh of one axis, as `mesh()` makes; all devices if None.
    Raises:
      WrongShape: not an array of numbers with a row per example; a mesh of another kind.

    >>> sharded(np.ones((5, 3), np.float32), mesh(jax.devices()[:1])).rows
    5
    """
    x = _rows.whole(x)
    place, rows = _one_axis(mesh() if over is None else over), x.shape[0]
    padding = -rows % place.size
    if padding:  # jax pads no uneven array itself
        x = np.concatenate([np.asarray(x), np.zeros((padding, *x.shape[1:]), x.dtype)])
    return _pool(jax.device_put(x, NamedSharding(place, _SPLIT)), rows, place)


def load(read: Callable[[int, int], np.ndarray], rows: int, over: Mesh | None = None) -> Pool:
    """A sharded pool of which every process reads only its own part: nothing ever holds the whole.

    Args:
      read: `(start, stop) -> array [stop - start, ...]` of these rows; called for the parts that
        this process' devices hold.
      rows: number of rows N of the pool.
      over: a mesh of one axis, as `mesh()` makes; all devices if None.
    Raises:
      WrongShape: `read` gives rows of another shape.

    >>> x = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    >>> load(lambda start, stop: x[start:stop], 5, mesh(jax.devices()[:1])).rows
    5
    """
    place = _one_axis(mesh() if over is None else over)
    _checks.at_least(1, rows, "rows")
    like = _rows.native(np.asanyarray(read(0, 1)), "read")
    _checks.pool(like, "read")
    whole = rows + (-rows % place.size)

    def part(index):
        start, stop, _ = index[0].indices(whole)
        x = _rows.native(np.asanyarray(read(min(start, rows), min(stop, rows))), "read")
        if x.shape != (min(stop, rows) - min(start, rows), *like.shape[1:]):
            raise errors.WrongShape(
                "read",
                f"`read({start}, {min(stop, rows)})` gave shape {x.shape}; one row has shape "
                f"{like.shape[1:]}.",
            )
        return np.concatenate([x, np.zeros((stop - start - len(x), *like.shape[1:]), like.dtype)])

    sharding = NamedSharding(place, _SPLIT)
    x = jax.make_array_from_callback((whole, *like.shape[1:]), sharding, part)
    return _pool(x, rows, place)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Without the mesh that the caller may have set: its Explicit axes forbid what pools do."""
    if jax.sharding.get_abstract_mesh().empty:
        yield
        return
    with jax.set_mesh(mesh(jax.local_devices()[:1])):
        yield


def _pool(x: Array, rows: int, place: Mesh) -> Pool:
    def map(predictive, fn):
        _traceable(predictive)
        fn, bound = (_everywhere(with_its_numbers(f), place) for f in (fn, predictive))
        with jax.set_mesh(place):  # not the caller's
            measured = _mapped(fn, bound, x, place)
        return jax.tree.map(lambda a: _here(a)[:rows], measured)

    def take(some):
        with jax.set_mesh(place):
            return _here(_taken(x, jnp.asarray(np.asarray(some)), place))

    return Pool(rows=rows, map=map, take=take)


def _one_axis(place: Any) -> Mesh:
    if (
        not isinstance(place, Mesh)
        or place.axis_names != (_AXIS,)
        or place.axis_types != (AxisType.Auto,)
    ):
        raise errors.WrongShape(
            "over",
            f"`over` must be a mesh of one Auto axis named {_AXIS!r}, as `pools.mesh()` makes; got "
            f"{place!r}.",
        )
    return place


def _traceable(predictive: Any) -> None:
    if isinstance(predictive, _walk.OnHost):
        raise errors.WrongType(
            "predictive",
            "`predictive` is a function that JAX cannot trace, and a pool over devices is measured "
            "by one program on every device. Give it as predictive.from_samples(..., "
            "host=True), or "
            "choose from the array or the file.",
        )


def _everywhere(tree: PyTree, place: Mesh) -> PyTree:
    """Arrays of a pytree, on every device."""
    return jax.device_put(tree, NamedSharding(place, _WHOLE))


def _here(a: Array) -> Array:
    """A whole array on this process' first device."""
    if jax.process_count() > 1:
        a = multihost_utils.process_allgather(a, tiled=True)
    return jax.device_put(a, jax.local_devices()[0])


@functools.partial(jax.jit, static_argnames="place")
def _mapped(fn, predictive, x, place):
    def shard(fn, predictive, x):
        return _chunks.over_rows(lambda rows: fn(predictive, rows), x, _walk.ON_DEVICE)

    return jax.shard_map(
        shard,
        mesh=place,
        in_specs=(_WHOLE, _WHOLE, _SPLIT),
        out_specs=_SPLIT,
        check_vma=False,
    )(fn, predictive, x)


@functools.partial(jax.jit, static_argnames="place")
def _taken(x, rows, place):
    return jax.lax.with_sharding_constraint(x[rows], NamedSharding(place, _WHOLE))
