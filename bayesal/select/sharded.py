"""BatchBALD over candidates that are spread over devices: what one device does of it. To be called inside `jax.shard_map`."""

import functools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from bayesal import scores
from bayesal.select.batch_bald import greedy
from bayesal.select.lazy import held
from bayesal.types import Key, Selection


def batch_bald_shard(
    key: Key, log_probs: Float[Array, "K n C"], available: Bool[Array, " n"], size: int, *, axis: str, configurations: int = 1000
) -> Selection:
    """`select.batch_bald` on all shards of the mesh axis `axis`: every device gets the same `Selection`, of rows of the whole.

    Every device keeps the configurations and evaluates its own candidates, as lazily as one device would; a step then costs one
    all-gather of K * C + 3 numbers a device: its best candidate's rank, gain, row and prediction. Ties go to the lowest row.

    Args:
      key: the same on every device.
      log_probs: this device's candidates, the same number on every device, in the order of the axis.
      available: which of them may be picked.
      size: how many to pick, of all.
      axis: the name of the mesh axis.
      configurations: see `select.batch_bald`.
    """
    bald, nonfinite = usable(scores.bald(log_probs), available)
    picked = greedy(key, held(log_probs), bald, size, configurations, functools.partial(_best_of_all, log_probs, axis))
    counts = lax.psum(jnp.stack([(bald > -jnp.inf).sum(), picked.evaluated, nonfinite]), axis)
    low, high = lax.pmin(jnp.min(jnp.where(bald > -jnp.inf, bald, jnp.inf)), axis), picked.gains[0]
    return Selection(
        picked.indices, picked.gains, joint=picked.joint, saturated=picked.saturated, nonfinite=counts[2],
        constant=(counts[0] > size) & (low == high) & (high <= 0.0),  # equal but positive scores still have different joint gains
        evaluated=counts[1].astype(jnp.float32) / jnp.maximum(counts[0] * max(size - 1, 1), 1).astype(jnp.float32))


def usable(scores: Float[Array, " n"], available: Bool[Array, " n"]) -> tuple[Float[Array, " n"], Int[Array, ""]]:
    """Scores of one shard made safe to rank (unavailable, NaN and +inf become -inf), and how many available ones were NaN or +inf."""
    broken = jnp.isnan(scores) | (scores == jnp.inf)
    return jnp.where(available & ~broken, scores, -jnp.inf), jnp.sum(available & broken)


def _best_of_all(log_probs, axis, rank, gain):
    """The best candidate of all devices: its row of the whole (-1: there is none), its gain, its prediction, and a mask of it here."""
    rows = rank.shape[0]
    at = jnp.argmax(rank)
    first = lax.axis_index(axis) * rows
    probs = jnp.exp(log_probs[:, at])
    numbers = lax.bitcast_convert_type(jnp.concatenate([jnp.stack([rank[at], gain[at]]), probs.reshape(-1)]), jnp.int32)
    everyone = lax.all_gather(jnp.concatenate([jnp.stack([first + at]).astype(jnp.int32), numbers]), axis)
    floats = lax.bitcast_convert_type(everyone[:, 1:], jnp.float32)
    winner = jnp.argmax(floats[:, 0])  # devices hold rows in order, so the first of equals is the lowest row
    row = jnp.where(floats[winner, 0] > -jnp.inf, everyone[winner, 0], -1)
    return row, floats[winner, 1], floats[winner, 2:].reshape(probs.shape), first + jnp.arange(rows) == row
