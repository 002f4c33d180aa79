"""BatchBALD: the batch whose labels, together, tell most about which draw is right.

The labels of the points chosen so far are kept as S configurations, each as posterior weights over
the K draws (`weights [S, K]`, updated by Bayes' rule). The gain of a point is then the mean over
configurations of its BALD score under those weights: one matrix product, memory O(S * (K + C)), for
a batch of any length and without underflow. All configurations are enumerated while they fit in S;
after that S are kept, sampled from every draw in equal number.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, _random, errors
from bayesal import scores as score_functions
from bayesal.select import _configurations as labels
from bayesal.select._lazy import (
    BLOCK,
    SURE,
    TIE_BREAK,
    Evidence,
    best_first,
    block_size,
    held,
    share,
)
from bayesal.types import USED_UP, About, Array, ArrayLike, Key, Selection

SLACK = 0.1  # how far a sampled gain, as a share of the best, may lie below what it is a bound of
FEW = 128  # configurations that are enough while no more are in use
# nats: a difference of entropies has rounding errors of 2e-7, so gains below are summed in another
# form
SMALL = 1e-4


def batch_bald(
    key: int | Key,
    log_probs: Float[ArrayLike, "K N C"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    configurations: int = 1000,
) -> Selection:
    """Greedy BatchBALD: picks the points with the largest gain of joint information, in nats, one
    after another.

    I(y_1..y_B; w) = H[y_1..y_B] - sum_b mean_k H[p_k(y_b)];  0 <= I <= log K. The first pick is the
    highest BALD score. Exact while C^(b-1) <= configurations, then estimated from configurations
    sampled from every draw in equal number. A gain never exceeds the point's BALD score, nor its
    gain at an earlier step, so only candidates whose bound beats the best gain found are looked at:
    once configurations are sampled, first with an eighth of them, then, if three standard errors
    above that could still be the best, with all. Reported gains never increase along the batch and
    `joint` never exceeds log K.

    When the picks so far have used up 95 % of log K (`saturated`), later gains are mostly noise:
    they still order the picks, near ties by plain BALD. Ask for fewer points at a time, or use
    `power`; more draws help little, since log K grows slowly.

    Args:
      key: fixes the sampled configurations; unused while the enumeration is exact.
      log_probs: normalized log-probabilities of the same K functions at every point; at least 2
        draws.
      size: how many points to pick.
      available: which points may be picked; all if None.
      configurations: S, how many label configurations to keep.
    Raises:
      NotLogProbabilities, NonFinite, WrongShape, WrongSize, ConstantScores (all draws agree
      everywhere).
    References:
      Kirsch et al. 2019, https://arxiv.org/abs/1906.08158

    >>> # rows 0 and 1 are the same point
    >>> copies = jnp.log(jnp.array([[0.9, 0.9, 0.6], [0.1, 0.1, 0.4]]))
    >>> batch_bald(
    ...     jax.random.key(0), jnp.stack([copies, jnp.log1p(-jnp.exp(copies))], axis=-1), 2
    ... ).indices
    Array([0, 1], dtype=int32)
    """
    return with_bald(key, log_probs, None, size, available, configurations)


def with_bald(
    key: int | Key,
    log_probs: Float[ArrayLike, "K N C"],
    bald: Float[Array, " N"] | None,
    size: int,
    available: Bool[ArrayLike, " N"] | None,
    configurations: int,
) -> Selection:
    """`batch_bald` of points whose BALD scores may be known, which saves computing and compiling
    them.
    """
    log_probs = _checks.log_probs(log_probs, ndim=3)
    if log_probs.shape[0] < 2:
        raise errors.WrongSize(
            "log_probs",
            "`log_probs` has K = 1 draw, and mutual information with one draw is 0 for every "
            "point. Pass at least 2 draws.",
        )
    configurations = labels.checked(configurations, log_probs.shape[0])
    available = _checks.available_rows(available, log_probs.shape[1])
    size = _checks.batch_size(size, available)
    selection = _batch_bald(_checks.key(key), log_probs, available, size, configurations, bald)
    _checks.not_constant(selection)
    return selection


@functools.partial(jax.jit, static_argnames=("size", "configurations"))
def _batch_bald(key, log_probs, available, size, configurations, bald=None):
    bald = score_functions.bald(log_probs) if bald is None else bald
    return searched(key, held(log_probs), bald, available, size, configurations)


def searched(
    key: Key,
    pool: Evidence,
    bald: Float[Array, " N"],
    available: Bool[Array, " N"],
    size: int,
    configurations: int,
) -> Selection:
    """`batch_bald` in a pool that is held, or predicted where it is looked at, whose BALD scores
    are known.
    """
    bald, nonfinite, constant, candidates = _maths.counted(bald, available, size)
    search = _search(key, pool, bald, candidates, size, configurations)
    progress = lax.fori_loop(0, size, functools.partial(_turn, search), _start(search))
    joint = _both(progress.joint, jnp.cumsum(jnp.maximum(progress.gains, 0.0)), search.limit)
    return Selection(
        indices=progress.indices,
        scores=progress.gains,
        joint=joint,
        saturated=labels.used_up(joint, search.limit),
        about=About.DRAWS,
        ceiling=search.limit,
        nonfinite=nonfinite,
        evaluated=share(progress.evaluated, search.candidates, size),
        # equal but positive scores still have different joint gains
        constant=constant & (progress.gains[0] <= 0.0),
    )


class _Search(NamedTuple):
    """What stays the same from pick to pick."""

    key: Key  # fixes the sampled configurations
    pool: Evidence  # the candidates
    bald: Float[Array, " N"]  # -inf: may not be picked
    candidates: Int[Array, ""]  # how many may be
    size: int
    configurations: int
    exact: int  # picks whose label configurations are enumerated
    each: int  # configurations of each draw that a screening looks at; 0: there is none
    block: int  # candidates whose gains are computed together
    wide: int  # candidates that are screened together
    limit: Float[Array, ""]  # log K, the most that can be known


class _Progress(NamedTuple):
    """What is known after some picks: the carry of the loop."""

    state: labels.Configurations  # labels of the picks observed so far
    bound: Float[Array, " N"]  # no later gain of a point exceeds it; -inf: may not be picked
    row: Int[Array, ""]  # the next pick; -1: there is none
    gain: Float[Array, ""]  # its gain
    indices: Int[Array, " B"]
    gains: Float[Array, " B"]
    joint: Float[Array, " B"]  # information in the picks, by their configurations
    evaluated: Float[Array, ""]  # gains computed


def _search(key, pool: Evidence, bald, candidates, size: int, configurations: int) -> _Search:
    draws, rows, classes = pool.shape
    each = labels.screening(draws, configurations)
    return _Search(
        key=key,
        pool=pool,
        bald=bald,
        candidates=candidates,
        size=size,
        configurations=configurations,
        exact=labels.exact_steps(classes, configurations),
        each=each,
        block=block_size(configurations * classes, rows),
        wide=block_size(max(each, 1) * draws * classes, rows, 4 * BLOCK),
        limit=jnp.log(jnp.float32(draws)),
    )


def _start(search: _Search) -> _Progress:
    """The first pick, the highest BALD score: nothing has to be computed for it."""
    draws, _, classes = search.pool.shape
    row, gain = _best(search.bald, search.bald)
    nothing = jnp.asarray(np.zeros(search.size, np.float32))
    return _Progress(
        state=labels.nothing_observed(draws, classes, search.configurations, search.exact),
        bound=search.bald,
        row=row,
        gain=gain,
        indices=jnp.asarray(np.full(search.size, -1, np.int32)),
        gains=nothing,
        joint=nothing,
        evaluated=jnp.float32(0.0),
    )


def _turn(search: _Search, b: Int[Array, ""], progress: _Progress) -> _Progress:
    """Make pick b, observe its label, then find pick b + 1."""
    progress = _picked(search, b, progress)
    # near ties of a saturated batch go by plain BALD
    saturated = progress.joint[b] > USED_UP * search.limit
    tie = jnp.where(saturated, TIE_BREAK, 0.0) * jnp.maximum(search.bald, 0.0)
    # The last turn has no candidates.
    open_ = jnp.where(b + 1 == search.size, -jnp.inf, progress.bound)
    small = _maths.highest(open_)[0] < SMALL
    exact = b < search.exact
    # A bound that was sampled may lie below a gain; one from an enumeration may not.
    slack = jnp.where(exact, 0.0, SLACK)
    left = jnp.where(b + 1 == search.size, 0, jnp.maximum(search.candidates - 1 - b, 0))
    evaluated = progress.evaluated
    if search.each:
        screened, looked = _screened(search, progress, open_, tie, slack, exact | small)
        open_ = jnp.where(screened > -jnp.inf, screened, open_)
        slack = jnp.float32(0.0)  # what was not looked at has a bound too low even for the slack
        few = search.each * search.pool.shape[0] / search.configurations
        evaluated += jnp.minimum(looked, left).astype(jnp.float32) * few
    gains_of = functools.partial(_gains, search, progress.state, _form(search, b, small))
    gain, looked = best_first(open_, tie, slack, search.block, gains_of)
    row, won = _best(gain + tie, gain)
    return progress._replace(
        bound=jnp.where(gain > -jnp.inf, gain, open_),
        row=row,
        # Sampling may make a gain larger than one before it, which no true gain is.
        gain=jnp.where(row >= 0, jnp.minimum(won, progress.gain), -jnp.inf),
        evaluated=evaluated + jnp.minimum(looked, left).astype(jnp.float32),
    )


def _picked(search: _Search, b: Int[Array, ""], progress: _Progress) -> _Progress:
    """After pick b and its label, if there was a point to pick."""
    row = progress.row
    last = jnp.exp(search.pool.at(jnp.maximum(row, 0)[None])[:, 0])
    key = _random.fold_in(search.key, b + 1)
    state = labels.observe(key, progress.state, last, row >= 0, b, search.exact)
    return progress._replace(
        state=state,
        bound=jnp.where(jnp.arange(progress.bound.shape[0]) == row, -jnp.inf, progress.bound),
        indices=progress.indices.at[b].set(row),
        gains=progress.gains.at[b].set(progress.gain),
        joint=progress.joint.at[b].set(labels.joint(state)),
    )


def _laid_out(pool: Evidence, at: Int[Array, " n"]):
    """Probabilities `[K, C, n]` and entropies `[K, n]` of some candidates. Most are never looked
    at, so nothing is laid out anew for all of them.
    """
    part = pool.at(at).transpose(0, 2, 1)  # points last: sums over few classes stay fast
    return jnp.exp(part), jnp.sum(_maths.surprise(part), axis=1)


def _screened(search: _Search, progress: _Progress, open_, tie, slack, needless):
    """Bounds from a part of the configurations, of those candidates that could still be the best
    (-inf for the others), and how many were looked at. Where it is `needless`, none is.
    """
    few = labels.thinned(progress.state, search.pool.shape[0], search.each)

    def screen(at):
        gain, error = labels.estimate(few, *_laid_out(search.pool, at))
        most = jnp.clip(gain + SURE * error, 0.0, (1.0 + SLACK) * progress.bound[at])
        return gain - SURE * error, most

    waiting = jnp.where(needless, -jnp.inf, open_)
    return best_first(waiting, tie, slack, search.wide, screen)


def _form(search: _Search, b: Int[Array, ""], small: Bool[Array, ""]) -> Int[Array, ""]:
    """How gains are computed: 0 from all configurations, 1 from the first `FEW`, where no more are
    in use, 2 in the form for small ones.
    """
    classes = search.pool.shape[2]
    # no power beyond the enumeration: it would overflow
    used = jnp.minimum(b + 1, search.exact)
    few = (b < search.exact) & (classes**used <= FEW)
    return jnp.where(small, 2, few.astype(jnp.int32))


def _gains(search: _Search, state: labels.Configurations, form: Int[Array, ""], at):
    """Gains of some candidates. Each bounds the gains to come, and none exceeds the BALD score."""
    probs, entropies = _laid_out(search.pool, at)
    head = jax.tree.map(lambda a: a[:FEW], state)
    forms = (
        lambda: labels.information(state, probs, entropies),
        lambda: labels.information(head, probs, entropies),
        lambda: labels.small_information(state, probs),
    )
    gain = jnp.clip(lax.switch(form, forms), 0.0, search.bald[at])
    return gain, gain


def _best(rank: Float[Array, " N"], gain: Float[Array, " N"]):
    """The row of highest rank (-1: there is none), and its gain."""
    highest, at = _maths.highest(rank)
    return jnp.where(highest > -jnp.inf, at, -1), gain[at]


def _both(companion, summed, limit):
    """Joint information from its two estimates; never decreasing, never above log K.

    The sum of gains is the sharper one for short batches, the companion near log K. Spread over
    seeds (K = 100, C = 10, S = 1,000) at b = 10 / 20 / 50: sum 0.003 / 0.013 / 0.028, companion
    0.019 / 0.016 / 0.007, this mean of them < 0.010.
    """
    near = jnp.square(companion / limit)
    return lax.cummax(jnp.clip(near * companion + (1.0 - near) * summed, 0.0, limit))
