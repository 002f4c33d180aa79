"""Batch EPIG: the batch whose labels, together, tell most about the labels of targets."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, errors, scores
from bayesal.scores._epig import ceiling, checked_target, spread, unchecked
from bayesal.select import _configurations as labels
from bayesal.select import _targets
from bayesal.select._lazy import SURE, TABLE, TIE_BREAK, Evidence, best_first, block_size, held
from bayesal.types import USED_UP, About, Array, ArrayLike, Key, Selection


def batch_epig(
    key: int | Key,
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
        labels.checked(configurations, draws),
    )
    _checks.not_constant(selection)
    return selection


@functools.partial(jax.jit, static_argnames=("size", "configurations"))
def _batch_epig(key, log_probs, target, weights, available, size, configurations):
    return searched(key, held(log_probs), target, weights, available, size, configurations)


def searched(
    key: Key,
    pool: Evidence,
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
    search = _search(key, pool, target, weights, configurations, chunk)
    bound, nonfinite, constant = _maths.maskable(search.bound, available, size)
    search = search._replace(bound=bound)
    progress = lax.fori_loop(1, size, functools.partial(_turn, search), _start(search, size))
    candidates = jnp.sum(bound > -jnp.inf, dtype=jnp.float32)
    return Selection(
        indices=progress.indices,
        scores=progress.gains,
        joint=progress.joint,
        saturated=labels.used_up(progress.joint, search.most),
        about=About.TARGETS,
        ceiling=search.most,
        nonfinite=nonfinite,
        constant=constant & (progress.gains[0] <= 0.0),
        evaluated=progress.computed / jnp.maximum(candidates * size, 1.0),
    )


class _Search(NamedTuple):
    """What stays the same from pick to pick."""

    key: Key  # fixes the sampled configurations
    pool: Evidence  # the candidates
    target: Float[Array, "K T L"]
    weights: Float[Array, " T"]
    bound: Float[Array, " N"]  # no EPIG exceeds it; -inf: may not be picked
    bald: Float[Array, " N"]  # no gain exceeds it
    most: Float[Array, ""]  # all that labels can tell about the targets
    pairs: int  # of a label configuration and a target's label
    step: int  # one pair in so many is screened with; 1: there is no screening
    points: int  # rows of the pool looked at together
    block: int  # candidates whose gains are computed together


class _Progress(NamedTuple):
    """What is known after some picks: the carry of the loop."""

    state: labels.Configurations  # labels of the picks observed so far
    taken: Bool[Array, " N"]  # picked, or never to be picked
    last: Float[Array, "K C"]  # prediction at the latest pick, to be observed next
    indices: Int[Array, " B"]
    gains: Float[Array, " B"]
    joint: Float[Array, " B"]  # information in the picks about the targets
    computed: Float[Array, ""]  # gains computed; a screened one counts as one in `step`


def _search(key, pool: Evidence, target, weights, configurations: int, chunk: int) -> _Search:
    """The problem in which every point may be picked."""
    draws, rows, classes = pool.shape
    pairs = draws * max(1, configurations // draws)
    step = max(1, min(labels.STEP, pairs // labels.FEWEST))
    points = max(1, min(rows, chunk, TABLE // (classes * max(draws, pairs // step))))
    bound, bald = bounds(pool, target, weights, points)
    return _Search(
        key=key,
        pool=pool,
        target=target,
        weights=weights,
        bound=bound,
        bald=bald,
        most=jnp.sum(weights * scores.bald(target)),
        pairs=pairs,
        step=step,
        points=points,
        block=block_size(2 * pairs * classes, rows),
    )


def _start(search: _Search, size: int) -> _Progress:
    """The first pick, the highest EPIG, exactly: no label is sampled for it."""
    draws = search.pool.shape[0]
    gain, seen = highest(search.pool, search.target, search.weights, search.bound, 1)
    row, taken, last = _best(search.pool, gain, search.bound == -jnp.inf)
    first = jnp.where(row >= 0, gain[row], -jnp.inf)
    zeros = jnp.zeros(size, jnp.float32)
    return _Progress(
        # every configuration starts with every draw as likely as any other
        state=labels.Configurations(
            jnp.full((search.pairs, draws), 1.0 / draws, jnp.float32),
            jnp.full(search.pairs, 1.0 / search.pairs, jnp.float32),
        ),
        taken=taken,
        last=last,
        indices=jnp.full(size, -1, jnp.int32).at[0].set(row),
        gains=zeros.at[0].set(first),
        joint=zeros.at[0].set(jnp.clip(first, 0.0, search.most)),
        computed=jnp.sum(seen, dtype=jnp.float32),
    )


def _turn(search: _Search, b: Int[Array, ""], progress: _Progress) -> _Progress:
    """Observe the label of pick b - 1, then make pick b."""
    config_key, label_key = jax.random.split(jax.random.fold_in(search.key, b))
    real = progress.indices[b - 1] >= 0
    state = labels.observe_sampled(config_key, progress.state, progress.last, real)
    pairs = _targets.sampled(label_key, state, search.target, search.weights)
    # Gains may rise along a batch, so earlier ones bound nothing: every candidate is open again,
    # up to its BALD score, and is screened anew.
    open_ = jnp.where(progress.taken, -jnp.inf, search.bald)
    limit, screened_count = open_, jnp.float32(0.0)
    if search.step > 1:
        limit = jnp.minimum(open_, screened(search.pool, pairs, search.step, search.points))
        screened_count = jnp.sum(open_ > -jnp.inf, dtype=jnp.float32) / search.step
    # near ties of a saturated batch go by the bound on plain EPIG
    saturated = progress.joint[b - 1] > USED_UP * search.most
    tie = jnp.where(saturated, TIE_BREAK, 0.0) * jnp.maximum(search.bound, 0.0)
    gains_of = functools.partial(_gains, search, pairs)
    gain, _ = best_first(limit, tie, 0.0, search.block, gains_of)
    seen = gain > -jnp.inf
    row, taken, last = _best(search.pool, gain + tie, progress.taken)
    won = jnp.where(row >= 0, gain[row], -jnp.inf)
    joint = jnp.minimum(progress.joint[b - 1] + jnp.maximum(won, 0.0), search.most)
    return _Progress(
        state=state,
        taken=taken,
        last=last,
        indices=progress.indices.at[b].set(row),
        gains=progress.gains.at[b].set(won),
        joint=progress.joint.at[b].set(joint),
        computed=progress.computed + (jnp.sum(seen, dtype=jnp.float32) + screened_count),
    )


def _gains(search: _Search, pairs: _targets.Pairs, at: Int[Array, " n"]):
    """Gains of some candidates from all pairs; none exceeds the BALD score."""
    every = _targets.revealed(pairs, search.pool.at(at))
    gain = jnp.clip(jnp.mean(every, axis=0), 0.0, search.bald[at])
    return gain, gain


def _best(pool: Evidence, rank, taken):
    """The best row, or -1 if there is none; what is taken with it; its prediction [K, C]."""
    best = jnp.argmax(rank)
    row = jnp.where(rank[best] > -jnp.inf, best, -1).astype(jnp.int32)
    return row, taken.at[best].set(True), jnp.exp(pool.at(best[None])[:, 0])


def bounds(
    pool: Evidence, target: Float[Array, "K T L"], weights: Float[Array, " T"], points: int
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """What EPIG cannot exceed, and BALD, which no gain can exceed."""
    matrix = spread(target, weights)
    return pool.over(lambda part: (ceiling(part, matrix), scores.bald(part)), points)


def highest(
    pool: Evidence,
    target: Float[Array, "K T L"],
    weights: Float[Array, " T"],
    bound: Float[Array, " N"],
    size: int,
) -> tuple[Float[Array, " N"], Bool[Array, " N"]]:
    """EPIG of every point that could be among the `size` highest (-inf elsewhere), and where it was
    computed; -inf in `bound` rules a point out.
    """

    def exact(at):
        gain = unchecked(pool.at(at), target, weights)
        return gain, gain

    gain, _ = best_first(
        bound,
        jnp.zeros(bound.shape, jnp.float32),
        0.0,
        block_size(1, bound.shape[0]),
        exact,
        size,
        pool.loop,
    )
    return gain, gain > -jnp.inf


def screened(pool: Evidence, pairs: _targets.Pairs, step: int, points: int) -> Float[Array, " N"]:
    """What a gain is taken not to exceed: its mean over one pair in `step`, plus standard errors
    against the mean over all.
    """
    few = _targets.every(pairs, step)
    count = pairs.worth.shape[0]
    error = SURE * math.sqrt(1 / few.worth.shape[0] - 1 / count)

    def most(part):
        values = _targets.revealed(few, part)
        return jnp.mean(values, axis=0) + error * jnp.std(values, axis=0)

    return pool.over(most, points)
