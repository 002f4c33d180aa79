"""BatchBALD over candidates that are spread over devices: what one device does of it. To be called inside `jax.shard_map`."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from bayesal import maths, scores
from bayesal.select import configurations as labels
from bayesal.select.batch_bald import FEW, SLACK, TIE_BREAK, USED_UP, both
from bayesal.select.lazy import best_first, block_size
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
    draws, rows, classes = log_probs.shape
    bald, nonfinite = usable(scores.bald(log_probs), available)
    exact, limit, block = labels.exact_steps(classes, configurations), jnp.log(jnp.float32(draws)), block_size(configurations * classes, rows)

    def gains_of(state, few, at):
        part = log_probs[:, at]
        probs, noise = jnp.exp(part).transpose(1, 2, 0), maths.entropy(part).T
        head = jax.tree.map(lambda a: a[:FEW], state)
        gain = lax.cond(few, lambda: labels.information(head, probs, noise), lambda: labels.information(state, probs, noise))
        gain = jnp.clip(gain, 0.0, bald[at])
        return gain, gain  # a gain bounds the gains to come

    def pick(b, carry):
        state, bound, taken, last, indices, gains, joint, evaluated = carry
        state = labels.observe(jax.random.fold_in(key, b), state, last, indices[b - 1] >= 0, b - 1, exact)
        joint = joint.at[b - 1].set(labels.joint(state))
        tie = jnp.where(joint[b - 1] > USED_UP * limit, TIE_BREAK, 0.0) * jnp.maximum(bald, 0.0)
        few, waiting = classes**b <= FEW, jnp.where(taken | (b == size), -jnp.inf, bound)  # the last turn (b = size) only observes
        gain, bound, seen = best_first(waiting, tie, jnp.where(b <= exact, 0.0, SLACK), block, lambda at: gains_of(state, few, at))
        row, best, last, here = _agree(jnp.where(seen, gain + tie, -jnp.inf), gain, log_probs, axis)
        indices = indices.at[b].set(row)
        gains = gains.at[b].set(jnp.where(row >= 0, jnp.minimum(best, gains[b - 1]), -jnp.inf))
        return state, bound, taken | here, last, indices, gains, joint, evaluated + seen.sum()

    row, best, last, here = _agree(bald, bald, log_probs, axis)
    carry = (
        labels.nothing_observed(draws, classes, configurations, exact), bald, here | (bald == -jnp.inf), last,
        jnp.full(size, -1, jnp.int32).at[0].set(row), jnp.zeros(size).at[0].set(best), jnp.zeros(size), jnp.int32(0))
    *_, indices, gains, joint, evaluated = lax.fori_loop(1, size + 1, pick, carry)
    joint = both(joint, jnp.cumsum(jnp.maximum(gains, 0.0)), limit)
    before = jnp.concatenate([jnp.zeros(1), joint[:-1]])
    counts = lax.psum(jnp.stack([(bald > -jnp.inf).sum(), evaluated, nonfinite]), axis)
    low = lax.pmin(jnp.min(jnp.where(bald > -jnp.inf, bald, jnp.inf)), axis)
    return Selection(
        indices, gains, joint=joint, saturated=before > USED_UP * limit, nonfinite=counts[2],
        constant=(counts[0] > 1) & (low == best) & (best <= 0.0),  # equal but positive scores still have different joint gains
        evaluated=counts[1].astype(jnp.float32) / jnp.maximum(counts[0] * max(size - 1, 1), 1).astype(jnp.float32))


def usable(scores: Float[Array, " n"], available: Bool[Array, " n"]) -> tuple[Float[Array, " n"], Int[Array, ""]]:
    """Scores of one shard made safe to rank (unavailable, NaN and +inf become -inf), and how many available ones were NaN or +inf."""
    broken = jnp.isnan(scores) | (scores == jnp.inf)
    return jnp.where(available & ~broken, scores, -jnp.inf), jnp.sum(available & broken)


def _agree(rank, gain, log_probs, axis):
    """The best candidate of all devices: its row of the whole (-1: there is none), its gain, its probabilities [K, C], and a mask of it here."""
    rows = rank.shape[0]
    at = jnp.argmax(rank)
    first = lax.axis_index(axis) * rows
    numbers = lax.bitcast_convert_type(jnp.concatenate([jnp.stack([rank[at], gain[at]]), jnp.exp(log_probs[:, at]).reshape(-1)]), jnp.int32)
    everyone = lax.all_gather(jnp.concatenate([jnp.stack([first + at]).astype(jnp.int32), numbers]), axis)
    floats = lax.bitcast_convert_type(everyone[:, 1:], jnp.float32)
    winner = jnp.argmax(floats[:, 0])  # devices hold rows in order, so the first of equals is the lowest row
    row = jnp.where(floats[winner, 0] > -jnp.inf, everyone[winner, 0], -1)
    return row, floats[winner, 1], floats[winner, 2:].reshape(log_probs.shape[0], log_probs.shape[2]), first + jnp.arange(rows) == row
