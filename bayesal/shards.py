"""Pools spread over devices: scored without any communication, picked from with one small exchange
a pick.

    mesh = shards.mesh()                 # all devices, one axis
    pool = shards.spread(x, mesh)        # rows in order, padded to a multiple of the devices
    picked = shards.batch_bald(key, predictive, pool, 10)

The batch is the one that a single device finds. Several processes work the same way:
`experiments/distributed.py`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from bayesal import _checks, _chunks, _maths, errors
from bayesal.predictive.bound import with_its_numbers
from bayesal.scores import bald
from bayesal.select._lazy import certified
from bayesal.select.sharded import batch_bald_shard
from bayesal.types import ArrayLike, Key, Score, Selection

AXIS = "pool"
CHUNK = 1024  # rows that one device scores at a time
SPLIT, WHOLE = PartitionSpec(AXIS), PartitionSpec()


class Pool(NamedTuple):
    """A pool over devices: `x [M, ...]` and `real [M]` are split along their first axis, and rows
    that are not real are padding.
    """

    x: Array
    real: Bool[Array, " M"]


def mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """One axis over `devices`, or over all there are (of all processes).

    >>> mesh(jax.devices()[:1]).axis_names
    ('pool',)
    """
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def spread(x: ArrayLike, mesh: Mesh) -> Pool:
    """A pool split evenly over the devices of a mesh, in order; zeros pad it to a multiple. Row
    numbers stay what they are.

    Args:
      x: the pool `[N, ...]`; an array that is sharded already, along Explicit axes too, is moved.
      mesh: of one axis, as `mesh()` makes.

    >>> pool = spread(np.ones((5, 3), np.float32), mesh(jax.devices()[:1]))
    >>> pool.x.shape, int(pool.real.sum())
    ((5, 3), 5)
    """
    if not hasattr(x, "shape") or np.ndim(x) < 1 or x.shape[0] < 1:
        raise errors.WrongShape(
            "x",
            f"`x` must be an array [N, ...] of at least one row; got {type(x).__name__} of "
            f"shape {np.shape(x)}.",
        )
    _one_axis(mesh)
    sharding, rows = NamedSharding(mesh, SPLIT), x.shape[0]
    padding = -rows % mesh.size
    if padding:  # jax pads no uneven array itself
        x = np.concatenate([np.asarray(x), np.zeros((padding, *x.shape[1:]), x.dtype)])
    return Pool(
        jax.device_put(x, sharding), jax.device_put(np.arange(rows + padding) < rows, sharding)
    )


def load(read: Callable[[int, int], np.ndarray], rows: int, mesh: Mesh) -> Pool:
    """A pool of which every process reads its own part only: nothing ever holds the whole.

    Args:
      read: `(start, stop) -> array [stop - start, ...]` of these rows; called for the parts that
        this process' devices hold.
      rows: N, how many rows the pool has.
      mesh: of one axis, as `mesh()` makes.

    >>> x = np.arange(10.0, dtype=np.float32).reshape(5, 2)
    >>> load(lambda start, stop: x[start:stop], 5, mesh(jax.devices()[:1])).x.shape
    (5, 2)
    """
    sharding = NamedSharding(_one_axis(mesh), SPLIT)
    _checks.at_least(1, rows, "rows")
    like = np.asarray(read(0, 1))
    whole = rows + (-rows % mesh.size)

    def part(index):
        start, stop, _ = index[0].indices(whole)
        x = np.asarray(read(min(start, rows), min(stop, rows)))
        if x.shape != (min(stop, rows) - min(start, rows), *like.shape[1:]):
            raise errors.WrongShape(
                "read",
                f"`read({start}, {min(stop, rows)})` gave shape {x.shape}; one row has shape "
                f"{like.shape[1:]}.",
            )
        return np.concatenate([x, np.zeros((stop - start - len(x), *like.shape[1:]), like.dtype)])

    real = jax.make_array_from_callback(
        (whole,), sharding, lambda index: np.arange(whole)[index[0]] < rows
    )
    return Pool(jax.make_array_from_callback((whole, *like.shape[1:]), sharding, part), real)


def scores(
    predictive: Callable[[Any], Any], pool: Pool, score: Score, *, chunk: int = CHUNK
) -> Float[Array, " M"]:
    """The score of every row, where the row is; -inf for padding. No device waits for another: the
    program holds no collective.

    Args:
      predictive: a `Predictive`, or any function of `x [n, ...]` that gives log-probabilities `[K,
        n, C]` and that JAX can trace.
      pool: as `spread` makes.
      score: one of `bayesal.scores`, or any function of `log_probs [K, n, C]` to `[n]`.
      chunk: rows that one device scores at a time.

    >>> pool = spread(np.array([[0.5, 0.5], [0.1, 0.9]], np.float32), mesh(jax.devices()[:1]))
    >>> predictive = lambda x: jnp.moveaxis(jnp.log(jnp.stack([x, 1 - x], axis=-1)), 0, 1)
    >>> [round(float(value), 3) for value in scores(predictive, pool, bald)]
    [0.0, 0.368]
    """
    place = _place(pool)
    return _scores(
        _everywhere(predictive, place), pool, score, _checks.at_least(1, chunk, "chunk"), place
    )


def top(values: Float[Array, " M"], size: int, *, available: ArrayLike | None = None) -> Selection:
    """The `size` rows with the highest of the `scores` of a spread pool; ties go to the lowest row.
    One exchange of `size` numbers a device.

    Args:
      values: what `scores` gave: -inf may not be picked, NaN and +inf are counted and not picked.
      size: how many to pick.
      available: mask `[N]` of the pool's rows that may be picked; all if None.
    Raises:
      WrongSize: fewer than `size` rows can be picked. ConstantScores: all have the same score.

    >>> values = jax.device_put(
    ...     jnp.array([0.1, 0.7, 0.3]), jax.NamedSharding(mesh(jax.devices()[:1]), jax.P("pool"))
    ... )
    >>> top(values, 2).indices
    Array([1, 2], dtype=int32)
    """
    if not isinstance(getattr(values, "sharding", None), NamedSharding):
        raise errors.WrongShape(
            "values",
            "`values` must be the scores of a spread pool, as `shards.scores` gives; of one "
            "device's scores use `select.top`.",
        )
    place = _one_axis(values.sharding.mesh)
    size = _checks.at_least(1, size, "size")
    selection, _, choices = _top(values, _mask(available, values.shape[0], place), size, place)
    _enough(size, int(choices))
    _checks.not_constant(selection)
    return selection


def batch_bald(
    key: Key,
    predictive: Callable[[Any], Any],
    pool: Pool,
    size: int,
    *,
    candidates: int = 1000,
    available: ArrayLike | None = None,
    configurations: int = 1000,
    chunk: int = CHUNK,
) -> Selection:
    """BatchBALD among the `candidates` rows of a spread pool with the highest BALD scores: what
    `acquire.batch_bald` finds on one device.

    The pool is scored without communication, the candidates are dealt out evenly, and each pick
    costs one all-gather of K * C + 3 numbers a device. `Selection.certified` as in
    `acquire.batch_bald`.

    Args:
      key: see `select.batch_bald`.
      predictive, pool, chunk: see `shards.scores`.
      size: how many to pick.
      candidates: how many rows enter the joint computation.
      available: mask `[N]` of the pool's rows that may be picked; all if None.
      configurations: see `select.batch_bald`.
    Raises:
      WrongSize: fewer than `size` rows can be picked. ConstantScores: all draws agree everywhere.
    References:
      Kirsch et al. 2019, https://arxiv.org/abs/1906.08158

    >>> predictive = lambda x: jnp.moveaxis(jnp.log(jnp.stack([x, 1 - x], axis=-1)), 0, 1)
    >>> x = np.array(
    ...     [[0.5, 0.5, 0.5], [0.1, 0.9, 0.9], [0.1, 0.9, 0.9], [0.9, 0.2, 0.9]], np.float32
    ... )
    >>> batch_bald(jax.random.key(0), predictive, spread(x, mesh(jax.devices()[:1])), 2).indices
    Array([1, 3], dtype=int32)
    """
    place, rows = _place(pool), pool.x.shape[0]
    size = _checks.at_least(1, size, "size")
    kept = min(max(_checks.at_least(1, candidates, "candidates"), size), rows)
    bound = _everywhere(predictive, place)
    values = _scores(bound, pool, bald, _checks.at_least(1, chunk, "chunk"), place)
    ranked, left_out, choices = _top(values, _mask(available, rows, place), kept, place)
    _enough(size, int(choices))
    dealt = jnp.pad(ranked.indices, (0, -kept % place.size), constant_values=-1)
    inner = _greedy(
        _checks.key(key),
        bound,
        pool.x,
        dealt,
        size,
        _checks.at_least(1, configurations, "configurations"),
        place,
    )
    selection = certified(inner, left_out)._replace(nonfinite=ranked.nonfinite)
    _checks.not_constant(selection)
    return selection


def _one_axis(mesh: Any) -> Mesh:
    if (
        not isinstance(mesh, Mesh)
        or mesh.axis_names != (AXIS,)
        or mesh.axis_types != (AxisType.Auto,)
    ):
        raise errors.WrongShape(
            "mesh",
            f"`mesh` must have one Auto axis named {AXIS!r}, as `shards.mesh()` makes; got "
            f"{mesh!r}.",
        )
    return mesh


def _place(pool: Any) -> Mesh:
    if not isinstance(pool, Pool) or not isinstance(
        getattr(pool.x, "sharding", None), NamedSharding
    ):
        raise errors.WrongShape(
            "pool",
            "`pool` must be a spread pool: pool = shards.spread(x, shards.mesh()); got "
            f"{type(pool).__name__}.",
        )
    return _one_axis(pool.x.sharding.mesh)


def _everywhere(predictive: Any, place: Mesh) -> Any:
    """The predictive with its numbers on every device; a plain function has none."""
    return jax.device_put(with_its_numbers(predictive), NamedSharding(place, WHOLE))


def _mask(available: ArrayLike | None, rows: int, place: Mesh) -> Array:
    """`[N]` becomes `[M]`, split like the pool; what is longer than the pool is refused, what is
    shorter by padding is not.
    """
    given = np.ones(rows, bool) if available is None else np.asarray(available)
    if given.ndim != 1 or given.dtype != np.bool_ or not rows - place.size < len(given) <= rows:
        _checks.available_rows(given, rows)
    whole = np.concatenate([given, np.zeros(rows - len(given), bool)])
    return jax.device_put(whole, NamedSharding(place, SPLIT))


def _enough(size: int, choices: int) -> None:
    if size > choices:
        raise errors.WrongSize(
            "size",
            f"`size` = {size}, but only {choices} points are available; pass size={choices} "
            "or fewer.",
        )


@functools.partial(jax.jit, static_argnames=("score", "chunk", "place"))
def _scores(predictive, pool, score, chunk, place):
    def shard(predictive, x, real):
        return jnp.where(
            real, _chunks.over_rows(lambda part: score(predictive(part)), x, chunk), -jnp.inf
        )

    return jax.shard_map(
        shard, mesh=place, in_specs=(WHOLE, SPLIT, SPLIT), out_specs=SPLIT, check_vma=False
    )(predictive, *pool)


@functools.partial(jax.jit, static_argnames=("size", "place"))
def _top(values, available, size, place):
    """The selection, the highest score left out, and how many rows could be picked."""

    def shard(values, available):
        rows = values.shape[0]
        safe, nonfinite = _maths.rankable(values, available)
        finite = safe > -jnp.inf
        some, at = jax.lax.top_k(safe, min(size + 1, rows))
        at = at + jax.lax.axis_index(AXIS) * rows
        facts = jnp.stack([nonfinite.astype(jnp.int32), finite.sum().astype(jnp.int32)])
        low = jnp.min(jnp.where(finite, safe, jnp.inf))[None]
        bits = jax.lax.bitcast_convert_type(jnp.concatenate([low, some]), jnp.int32)
        return jax.lax.all_gather(jnp.concatenate([facts, at.astype(jnp.int32), bits]), AXIS)

    everyone = jax.shard_map(
        shard, mesh=place, in_specs=(SPLIT, SPLIT), out_specs=WHOLE, check_vma=False
    )(values, available)
    each = (everyone.shape[1] - 3) // 2
    nonfinite, choices = everyone[:, 0].sum(), everyone[:, 1].sum()
    floats = jax.lax.bitcast_convert_type(everyone[:, 2 + each :], jnp.float32)
    both = jnp.concatenate(
        [floats[:, 1:].reshape(-1), jnp.full(size + 1, -jnp.inf)]
    )  # a pool may have fewer rows than that
    picked, at = jax.lax.top_k(
        both, size + 1
    )  # devices stand in the order of their rows: ties go to the lowest
    rows = jnp.concatenate(
        [everyone[:, 2 : 2 + each].reshape(-1), jnp.full(size + 1, -1, jnp.int32)]
    )[at]
    indices = jnp.where(picked > -jnp.inf, rows, -1)[:size]
    constant = (choices > size) & (jnp.min(floats[:, 0]) == picked[0])
    return (
        Selection(indices, picked[:size], constant=constant, nonfinite=nonfinite),
        picked[size],
        choices,
    )


@functools.partial(jax.jit, static_argnames=("size", "configurations", "place"))
def _greedy(key, predictive, x, dealt, size, configurations, place):
    def shard(key, predictive, x, real):
        return batch_bald_shard(
            key, predictive(x), real, size, axis=AXIS, configurations=configurations
        )

    near = jax.lax.with_sharding_constraint(x[jnp.maximum(dealt, 0)], NamedSharding(place, SPLIT))
    inner = jax.shard_map(
        shard, mesh=place, in_specs=(WHOLE, WHOLE, SPLIT, SPLIT), out_specs=WHOLE, check_vma=False
    )(key, predictive, near, dealt >= 0)
    return inner._replace(indices=jnp.where(inner.indices >= 0, dealt[inner.indices], -1))
