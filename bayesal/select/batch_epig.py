"""Batch EPIG: the batch whose labels, together, tell most about the labels of targets."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from bayesal import _checks, _maths, errors, scores
from bayesal.scores.epig import ceiling, checked_target, spread, unchecked
from bayesal.select import _configurations as labels
from bayesal.select import _targets
from bayesal.select._lazy import SURE, TABLE, TIE_BREAK, Pool, best_first, block_size, held
from bayesal.types import USED_UP, About, ArrayLike, Key, Selection


def batch_epig(
    key: Key,
    log_probs: Float[ArrayLike, "K N C"],
    target_log_probs: Float[ArrayLike, "K T L"],
    size: int,
    *,
    weights: Float[ArrayLike, " T"] | None = None,
    available: Bool[ArrayLike, " N"] | None = None,
    configurations: int = 1000,
) -> Selection:
    """Greedy batch EPIG: picks the points with the largest gain of information about the targets,
    in nats, one after another.

    sum_t w_t I(y_1..y_B; y_t);  0 <= I <= sum_t w_t BALD(t) <= log K, the `ceiling`. The first pick
    is the highest EPIG, exactly. Later gains I(y; y_t | y_1..y_b) are means of KL(p(y | s, y_t) ||
    p(y | s)) over pairs of a label configuration s of the picks and a target's label
    y_t: configurations sampled from every draw in equal number, target labels by how much they
      tell. Memory is O(S * (K + C)) for any
    batch, and T * L for each configuration looked at together.

    Not all gains are computed. First pick: EPIG never exceeds log(1 + chi2), a bound that costs the
    same for any number of targets, so only points whose bound beats the best EPIG found are
    evaluated: certain. Later picks: a gain never exceeds BALD (data processing), which rules out
      little, and gains may rise along a batch (two labels can tell together what neither tells
      alone), so earlier ones bound nothing. So
    every candidate is screened with an eighth of the pairs, and those within three standard errors
    of the best are evaluated with all: statistical, not certain. `evaluated` counts a screened gain
    as an eighth.

    When the picks so far have used up 95 % of the ceiling (`saturated`), the draws hold next to
    nothing more about the targets: later gains are mostly noise. They still order the picks, near
    ties by the bound on plain EPIG.

    Args:
      key: fixes the sampled configurations.
      log_probs: normalized log-probabilities of the same K functions at every point; at least 2
        draws.
      target_log_probs: of the same K functions at T targets.
      size: how many points to pick.
      weights: how much each target matters; see `scores.epig`.
      available: which points may be picked; all if None.
      configurations: S, how many label configurations to keep.
    Raises:
      As `batch_bald` and `scores.epig`.
    References:
      Bickford Smith et al. 2023, https://arxiv.org/abs/2304.08151; Kirsch et al. 2019,
      https://arxiv.org/abs/1906.08158

    >>> draws = jnp.log(jnp.array([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]]))
    >>> batch_epig(jax.random.key(0), draws, draws[:, :1], 1).indices
    Array([0], dtype=int32)
    """
    log_probs = _checks.log_probs(log_probs, ndim=3)
    draws, rows, _ = log_probs.shape
    if draws < 2:
        raise errors.WrongSize(
            "log_probs",
            "`log_probs` has K = 1 draw, and mutual information with one draw is 0 for every "
            "point. Pass at least 2 draws.",
        )
    target, weights = checked_target(target_log_probs, weights, draws)
    available = _checks.available_rows(available, rows)
    size = _checks.batch_size(size, available)
    selection = _batch_epig(
        _checks.key(key),
        log_probs,
        target,
        weights,
        available,
        size,
        _checks.at_least(1, configurations, "configurations"),
    )
    _checks.not_constant(selection)
    return selection


@functools.partial(jax.jit, static_argnames=("size", "configurations"))
def _batch_epig(key, log_probs, target, weights, available, size, configurations):
    return searched(key, held(log_probs), target, weights, available, size, configurations)


def searched(
    key: Key,
    pool: Pool,
    target: Float[Array, "K T L"],
    weights: Float[Array, " T"],
    available: Bool[Array, " N"],
    size: int,
    configurations: int,
    chunk: int = TABLE,
) -> Selection:
    """`batch_epig` in a pool that is held, or predicted when it is looked at, `chunk` rows at a
    time: once for a pick.
    """
    draws, rows, classes = pool.shape
    pairs = draws * max(1, configurations // draws)
    step = max(1, min(labels.STEP, pairs // labels.FEWEST))
    points = max(1, min(rows, chunk, TABLE // (classes * max(draws, pairs // step))))
    block = block_size(2 * pairs * classes, rows)
    bound, bald = bounds(pool, target, weights, points)
    bound, nonfinite, constant = _maths.maskable(bound, available, size)
    gain, seen = highest(pool, target, weights, bound, 1)

    def pick(b, carry):
        state, taken, last, indices, gains, joint, computed = carry
        config_key, label_key = jax.random.split(jax.random.fold_in(key, b))
        state = labels.observe_sampled(config_key, state, last, indices[b - 1] >= 0)
        told = _targets.sampled(label_key, state, target, weights)
        open_ = jnp.where(taken, -jnp.inf, bald)
        limit = jnp.minimum(open_, screened(pool, told, step, points)) if step > 1 else open_
        tie = jnp.where(joint[b - 1] > USED_UP * most, TIE_BREAK, 0.0) * jnp.maximum(bound, 0.0)

        def gains_of(at):
            gain = jnp.clip(jnp.mean(_targets.revealed(told, pool.at(at)), axis=0), 0.0, bald[at])
            return gain, gain

        gain, _, seen = best_first(limit, tie, 0.0, block, gains_of)
        row, taken, last = _best(pool, jnp.where(seen, gain + tie, -jnp.inf), taken)
        gains = gains.at[b].set(jnp.where(row >= 0, gain[row], -jnp.inf))
        joint = joint.at[b].set(jnp.minimum(joint[b - 1] + jnp.maximum(gains[b], 0.0), most))
        computed += jnp.sum(seen, dtype=jnp.float32) + (
            jnp.sum(open_ > -jnp.inf, dtype=jnp.float32) / step if step > 1 else 0.0
        )
        return state, taken, last, indices.at[b].set(row), gains, joint, computed

    most = jnp.sum(weights * scores.bald(target))
    start = labels.Configurations(
        jnp.full((pairs, draws), 1.0 / draws, jnp.float32),
        jnp.full(pairs, 1.0 / pairs, jnp.float32),
    )
    row, taken, last = _best(pool, jnp.where(seen, gain, -jnp.inf), bound == -jnp.inf)
    first, zeros = jnp.where(row >= 0, gain[row], -jnp.inf), jnp.zeros(size, jnp.float32)
    carry = (
        start,
        taken,
        last,
        jnp.full(size, -1, jnp.int32).at[0].set(row),
        zeros.at[0].set(first),
        zeros.at[0].set(jnp.clip(first, 0.0, most)),
        jnp.sum(seen, dtype=jnp.float32),
    )
    *_, indices, gains, joint, computed = lax.fori_loop(1, size, pick, carry)
    return Selection(
        indices,
        gains,
        joint=joint,
        saturated=labels.used_up(joint, most),
        about=About.TARGETS,
        ceiling=most,
        nonfinite=nonfinite,
        constant=constant & (first <= 0.0),
        evaluated=computed / jnp.maximum(jnp.sum(bound > -jnp.inf, dtype=jnp.float32) * size, 1.0),
    )


def _best(pool: Pool, rank, taken):
    """The best row, or -1 if there is none; what is taken with it; its prediction [K, C]."""
    best = jnp.argmax(rank)
    return (
        jnp.where(rank[best] > -jnp.inf, best, -1).astype(jnp.int32),
        taken.at[best].set(True),
        jnp.exp(pool.at(best[None])[:, 0]),
    )


def bounds(
    pool: Pool, target: Float[Array, "K T L"], weights: Float[Array, " T"], points: int
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """What EPIG cannot exceed, and BALD, which no gain can exceed."""
    matrix = spread(target, weights)
    return pool.over(lambda part: (ceiling(part, matrix), scores.bald(part)), points)


def highest(
    pool: Pool,
    target: Float[Array, "K T L"],
    weights: Float[Array, " T"],
    bound: Float[Array, " N"],
    size: int,
) -> tuple[Float[Array, " N"], Bool[Array, " N"]]:
    """EPIG of every point that could be among the `size` highest, and where it was computed; -inf
    in `bound` rules a point out.
    """

    def exact(at):
        gain = unchecked(pool.at(at), target, weights)
        return gain, gain

    gain, _, seen = best_first(
        bound,
        jnp.zeros(bound.shape, jnp.float32),
        0.0,
        block_size(1, bound.shape[0]),
        exact,
        size,
        pool.loop,
    )
    return gain, seen


def screened(pool: Pool, pairs: _targets.Pairs, step: int, points: int) -> Float[Array, " N"]:
    """What a gain is taken not to exceed: its mean over one pair in `step`, plus standard errors
    against the mean over all.
    """
    few, count = _targets.every(pairs, step), pairs.worth.shape[0]
    error = SURE * math.sqrt(1 / few.worth.shape[0] - 1 / count)

    def most(part):
        values = _targets.revealed(few, part)
        return jnp.mean(values, axis=0) + error * jnp.std(values, axis=0)

    return pool.over(most, points)
