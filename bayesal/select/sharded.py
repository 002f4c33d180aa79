"""BatchBALD over candidates that are spread over devices: what one device does of it. To be called
inside `jax.shard_map`.
"""

import functools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from bayesal import _maths, scores
from bayesal.select._lazy import held, share
from bayesal.select.batch_bald import greedy
from bayesal.types import Key, Selection


def batch_bald_shard(
    key: Key,
    log_probs: Float[Array, "K n C"],
    available: Bool[Array, " n"],
    size: int,
    *,
    axis: str,
    configurations: int = 1000,
) -> Selection:
    """`select.batch_bald` on all shards of the mesh axis `axis`: every device gets the same
    `Selection`, of rows of the whole.

    Every device keeps the configurations and evaluates its own candidates, as lazily as one device
    would; a step then costs one all-gather of K * C + 3 numbers a device: its best candidate's
    rank, gain, row and prediction. Ties go to the lowest row.

    Args:
      key: the same on every device.
      log_probs: this device's candidates, the same number on every device, in the order of the
        axis.
      available: which of them may be picked.
      size: how many to pick, of all.
      axis: the name of the mesh axis.
      configurations: see `select.batch_bald`.
    """
    bald, nonfinite = _maths.rankable(scores.bald(log_probs), available)
    picked, evaluated = greedy(
        key,
        held(log_probs),
        bald,
        size,
        configurations,
        functools.partial(_best_of_all, log_probs, axis),
    )
    counts = lax.psum(
        jnp.stack([(bald > -jnp.inf).sum(), jnp.round(evaluated).astype(jnp.int32), nonfinite]),
        axis,
    )
    low, high = lax.pmin(jnp.min(jnp.where(bald > -jnp.inf, bald, jnp.inf)), axis), picked.scores[0]
    return picked._replace(
        nonfinite=counts[2],
        evaluated=share(counts[1], counts[0], size),
        constant=(counts[0] > size) & (low == high) & (high <= 0.0),
    )


def _best_of_all(log_probs, axis, rank, gain):
    """The best candidate of all devices: its row of the whole (-1: there is none), its gain, its
    prediction, and a mask of it here.
    """
    rows = rank.shape[0]
    at = jnp.argmax(rank)
    first = lax.axis_index(axis) * rows
    probs = jnp.exp(log_probs[:, at])
    numbers = lax.bitcast_convert_type(
        jnp.concatenate([jnp.stack([rank[at], gain[at]]), probs.reshape(-1)]), jnp.int32
    )
    everyone = lax.all_gather(
        jnp.concatenate([jnp.stack([first + at]).astype(jnp.int32), numbers]), axis
    )
    floats = lax.bitcast_convert_type(everyone[:, 1:], jnp.float32)
    winner = jnp.argmax(
        floats[:, 0]
    )  # devices hold rows in order, so the first of equals is the lowest row
    row = jnp.where(floats[winner, 0] > -jnp.inf, everyone[winner, 0], -1)
    return (
        row,
        floats[winner, 1],
        floats[winner, 2:].reshape(probs.shape),
        first + jnp.arange(rows) == row,
    )
