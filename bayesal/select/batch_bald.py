"""BatchBALD: the batch whose labels, together, tell most about which draw is right.

The labels of the points chosen so far are kept as S configurations, each as posterior weights over
the K draws (`weights [S, K]`, updated by Bayes' rule). The gain of a point is then the mean over
configurations of its BALD score under those weights: one matrix product, memory O(S * (K + C)), for
a batch of any length and without underflow. All configurations are enumerated while they fit in S;
after that S are kept, sampled from every draw in equal number.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from bayesal import _checks, _maths, errors
from bayesal import scores as score_functions
from bayesal.select import _configurations as labels
from bayesal.select._lazy import BLOCK, SURE, TIE_BREAK, Pool, best_first, block_size, held, share
from bayesal.types import USED_UP, About, ArrayLike, Key, Selection

SLACK = 0.1  # how far a sampled gain, as a share of the best, may lie below what it is a bound of
FEW = 128  # configurations that are enough while no more are in use


def batch_bald(
    key: Key,
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
    they still order the picks, near ties by plain BALD. More draws are the cure.

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
    log_probs = _checks.log_probs(log_probs, ndim=3)
    if log_probs.shape[0] < 2:
        raise errors.WrongSize(
            "log_probs",
            "`log_probs` has K = 1 draw, and mutual information with one draw is 0 for every "
            "point. Pass at least 2 draws.",
        )
    configurations = _checks.at_least(1, configurations, "configurations")
    available = _checks.available_rows(available, log_probs.shape[1])
    size = _checks.batch_size(size, available)
    selection = _batch_bald(_checks.key(key), log_probs, available, size, configurations)
    _checks.not_constant(selection)
    return selection


@functools.partial(jax.jit, static_argnames=("size", "configurations"))
def _batch_bald(key, log_probs, available, size, configurations):
    return searched(
        key, held(log_probs), score_functions.bald(log_probs), available, size, configurations
    )


def searched(
    key: Key,
    pool: Pool,
    bald: Float[Array, " N"],
    available: Bool[Array, " N"],
    size: int,
    configurations: int,
) -> Selection:
    """`batch_bald` in a pool that is held, or predicted where it is looked at, whose BALD scores
    are known.
    """
    bald, nonfinite, constant = _maths.maskable(bald, available, size)
    picked, evaluated = greedy(
        key, pool, bald, size, configurations, functools.partial(_best_here, pool)
    )
    return picked._replace(
        nonfinite=nonfinite,
        evaluated=share(evaluated, (bald > -jnp.inf).sum(), size),
        constant=constant & (picked.scores[0] <= 0.0),
    )  # equal but positive scores still have different joint gains


def _best_here(pool, rank, gain):
    at = jnp.argmax(rank).astype(jnp.int32)
    row = jnp.where(rank[at] > -jnp.inf, at, -1)
    return row, gain[at], jnp.exp(pool.at(at[None])[:, 0]), jnp.arange(rank.shape[0]) == row


def greedy(
    key: Key,
    pool: Pool,
    bald: Float[Array, " N"],
    size: int,
    configurations: int,
    best: Callable[[Array, Array], tuple],
) -> tuple[Selection, Float[Array, ""]]:
    """The greedy loop over candidates held here, of which `best` says which one is picked; and how
    many gains were computed.

    Args:
      key: fixes the sampled configurations.
      pool: the candidates.
      bald: their BALD scores, -inf where a point may not be picked.
      size: how many to pick.
      configurations: how many label configurations to keep.
      best: `(rank [N], gain [N]) -> (row or -1, its gain, its probabilities [K, C], mask of it
        among those held here)`: of these candidates, or of those of all devices.
    """
    draws, rows, classes = pool.shape
    exact = labels.exact_steps(classes, configurations)
    limit = jnp.log(jnp.float32(draws))
    each = labels.screening(draws, configurations)
    block, wide = (
        block_size(configurations * classes, rows),
        block_size(max(each, 1) * draws * classes, rows, 4 * BLOCK),
    )

    def laid_out(at):
        part = pool.at(
            at
        )  # most points are never looked at, so nothing is laid out anew for all of them
        return jnp.exp(part).transpose(1, 2, 0), _maths.entropy(part).T

    def screen(state, bound, at):
        gain, error = labels.estimate(labels.thinned(state, draws, each), *laid_out(at))
        return gain - SURE * error, jnp.clip(gain + SURE * error, 0.0, (1.0 + SLACK) * bound[at])

    def gains_of(state, few, at):
        probs, noise = laid_out(at)
        head = jax.tree.map(lambda a: a[:FEW], state)
        gain = lax.cond(
            few,
            lambda: labels.information(head, probs, noise),
            lambda: labels.information(state, probs, noise),
        )
        gain = jnp.clip(gain, 0.0, bald[at])
        return gain, gain  # a gain bounds the gains to come

    def pick(b, carry):
        state, bound, taken, last, indices, gains, joint, evaluated = carry
        state = labels.observe(
            jax.random.fold_in(key, b), state, last, indices[b - 1] >= 0, b - 1, exact
        )
        joint = joint.at[b - 1].set(labels.joint(state))
        slack = jnp.where(b <= exact, 0.0, SLACK)
        tie = jnp.where(joint[b - 1] > USED_UP * limit, TIE_BREAK, 0.0) * jnp.maximum(bald, 0.0)
        # the last turn (b = size) only observes: it has no candidates, and writes out of bounds,
        # which is dropped
        open_ = jnp.where(taken | (b == size), -jnp.inf, bound)
        if each:
            _, screened, looked = best_first(
                jnp.where(b <= exact, -jnp.inf, open_),
                tie,
                slack,
                wide,
                functools.partial(screen, state, bound),
            )
            open_, slack = (
                jnp.where(looked, screened, open_),
                0.0,
            )  # what was not looked at has a bound too low for the slack
            evaluated += looked.sum(dtype=jnp.float32) * each * draws / configurations
        few = (b <= exact) & (
            classes ** jnp.minimum(b, exact) <= FEW
        )  # no power beyond the enumeration: it would overflow
        gain, bound, seen = best_first(
            open_, tie, slack, block, functools.partial(gains_of, state, few)
        )
        row, won, last, here = best(jnp.where(seen, gain + tie, -jnp.inf), gain)
        gains = gains.at[b].set(jnp.where(row >= 0, jnp.minimum(won, gains[b - 1]), -jnp.inf))
        return (
            state,
            bound,
            taken | here,
            last,
            indices.at[b].set(row),
            gains,
            joint,
            evaluated + seen.sum(dtype=jnp.float32),
        )

    row, won, last, here = best(bald, bald)
    carry = (
        labels.nothing_observed(draws, classes, configurations, exact),
        bald,
        here | (bald == -jnp.inf),
        last,
        jnp.full(size, -1, jnp.int32).at[0].set(row),
        jnp.zeros(size, jnp.float32).at[0].set(won),
        jnp.zeros(size, jnp.float32),
        jnp.float32(0.0),
    )
    *_, indices, gains, joint, evaluated = lax.fori_loop(1, size + 1, pick, carry)
    joint = _both(joint, jnp.cumsum(jnp.maximum(gains, 0.0)), limit)
    return Selection(
        indices,
        gains,
        joint=joint,
        saturated=labels.used_up(joint, limit),
        about=About.DRAWS,
        ceiling=limit,
    ), evaluated


def _both(companion, summed, limit):
    """Joint information from its two estimates; never decreasing, never above log K.

    The sum of gains is the sharper one for short batches, the companion near log K. Spread over
    seeds (K = 100, C = 10, S = 1,000) at b = 10 / 20 / 50: sum 0.003 / 0.013 / 0.028, companion
    0.019 / 0.016 / 0.007, this mean of them < 0.010.
    """
    near = jnp.square(companion / limit)
    return lax.cummax(jnp.clip(near * companion + (1.0 - near) * summed, 0.0, limit))
