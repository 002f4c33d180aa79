"""BatchBALD: the batch whose labels, together, tell most about which draw is right.

The labels of the points chosen so far are kept as S configurations, each as posterior weights over the K draws
(`weights [S, K]`, updated by Bayes' rule). The gain of a point is then the mean over configurations of its BALD score under
those weights: one matrix product, memory O(S * (K + C)), for a batch of any length and without underflow. All configurations are
enumerated while they fit in S; after that S are kept, sampled from every draw in equal number.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float

from bayesal import checks, maths
from bayesal import scores as score_functions
from bayesal.select import configurations as labels
from bayesal.select.lazy import best_first, block_size
from bayesal.types import ArrayLike, Key, Selection

USED_UP = 0.95  # share of log K from which on the batch has identified the draw and later gains are mostly noise
SLACK = 0.1  # how far a sampled gain, as a share of the best, may lie below what it is a bound of
FEW = 128  # configurations that are enough while no more are in use
TIE_BREAK = 0.01  # weight of BALD beside the gain once the batch is saturated: gains near 0 must not decide by row number


def batch_bald(
    key: Key,
    log_probs: Float[ArrayLike, "K N C"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    configurations: int = 1000,
) -> Selection:
    """Greedy BatchBALD: picks the points with the largest gain of joint information, in nats, one after another.

    I(y_1..y_B; w) = H[y_1..y_B] - sum_b mean_k H[p_k(y_b)];  0 <= I <= log K. The first pick is the highest BALD score.
    Exact while C^(b-1) <= configurations, then estimated from configurations sampled from every draw in equal number. A
    gain never exceeds the point's BALD score, nor its gain at an earlier step, so only candidates whose bound beats the best
    gain found are evaluated. Reported gains never increase along the batch and `joint` never exceeds log K.

    When the picks so far have used up 95 % of log K (`saturated`), later gains are mostly noise: they still order the picks,
    near ties by plain BALD. More draws are the cure.

    Args:
      key: fixes the sampled configurations; unused while the enumeration is exact.
      log_probs: normalized log-probabilities of the same K functions at every point; at least 2 draws.
      size: how many points to pick.
      available: which points may be picked; all if None.
      configurations: S, how many label configurations to keep.
    Raises:
      NotLogProbabilities, NonFinite, WrongShape, WrongSize, ConstantScores (all draws agree everywhere).
    References:
      Kirsch et al. 2019, https://arxiv.org/abs/1906.08158

    >>> copies = jnp.log(jnp.array([[0.9, 0.9, 0.6], [0.1, 0.1, 0.4]]))  # rows 0 and 1 are the same point
    >>> batch_bald(jax.random.key(0), jnp.stack([copies, jnp.log1p(-jnp.exp(copies))], axis=-1), 2).indices
    Array([0, 1], dtype=int32)
    """
    log_probs = checks.log_probs(log_probs, ndim=3)
    if log_probs.shape[0] < 2:
        raise checks.WrongSize(
            "log_probs", "`log_probs` has K = 1 draw, and mutual information with one draw is 0 for every point. Pass at least 2 draws.")
    configurations = checks.at_least(1, configurations, "configurations")
    available = checks.available_rows(available, log_probs.shape[1])
    size = checks.batch_size(size, available)
    selection = _batch_bald(checks.key(key), log_probs, available, size, configurations)
    checks.not_constant(selection)
    return selection


@functools.partial(jax.jit, static_argnames=("size", "configurations"))
def _batch_bald(key, log_probs, available, size, configurations):
    draws, rows, classes = log_probs.shape
    bald, nonfinite, constant = maths.maskable(score_functions.bald(log_probs), available, size)
    exact = labels.exact_steps(classes, configurations)
    limit = jnp.log(jnp.float32(draws))

    block = block_size(configurations * classes, rows)

    def gains_of(state, few, at):
        part = log_probs[:, at]  # most points are never looked at, so nothing is laid out anew for all of them
        probs, noise = jnp.exp(part).transpose(1, 2, 0), maths.entropy(part).T
        head = jax.tree.map(lambda a: a[:FEW], state)
        gain = lax.cond(few, lambda: labels.information(head, probs, noise), lambda: labels.information(state, probs, noise))
        gain = jnp.clip(gain, 0.0, bald[at])
        return gain, gain  # a gain bounds the gains to come

    def pick(b, carry):
        state, bound, taken, indices, gains, joint, evaluated = carry
        state = labels.observe(jax.random.fold_in(key, b), state, jnp.exp(log_probs[:, jnp.maximum(indices[b - 1], 0)]), indices[b - 1] >= 0, b - 1, exact)
        joint = joint.at[b - 1].set(labels.joint(state))
        slack = jnp.where(b <= exact, 0.0, SLACK)
        tie = jnp.where(joint[b - 1] > USED_UP * limit, TIE_BREAK, 0.0) * jnp.maximum(bald, 0.0)
        # the last turn (b = size) only observes: it has no candidates, and writes out of bounds, which is dropped
        few = classes**b <= FEW
        gain, bound, seen = best_first(jnp.where(taken | (b == size), -jnp.inf, bound), tie, slack, block, lambda at: gains_of(state, few, at))
        rank = jnp.where(seen, gain + tie, -jnp.inf)
        best = jnp.argmax(rank)
        some = rank[best] > -jnp.inf
        indices = indices.at[b].set(jnp.where(some, best, -1))
        gains = gains.at[b].set(jnp.where(some, jnp.minimum(gain[best], gains[b - 1]), -jnp.inf))
        return state, bound, taken.at[best].set(True), indices, gains, joint, evaluated + seen.sum()

    first = jnp.argmax(bald)
    some = bald[first] > -jnp.inf
    carry = (
        labels.nothing_observed(draws, classes, configurations, exact), bald, (jnp.arange(rows) == first) | (bald == -jnp.inf),
        jnp.full(size, -1, jnp.int32).at[0].set(jnp.where(some, first, -1)), jnp.zeros(size).at[0].set(bald[first]),
        jnp.zeros(size), jnp.int32(0))
    *_, indices, gains, joint, evaluated = lax.fori_loop(1, size + 1, pick, carry)
    joint = both(joint, jnp.cumsum(jnp.maximum(gains, 0.0)), limit)
    before = jnp.concatenate([jnp.zeros(1), joint[:-1]])
    possible = jnp.maximum((bald > -jnp.inf).sum() * max(size - 1, 1), 1)
    return Selection(
        indices, gains, joint=joint, saturated=before > USED_UP * limit, nonfinite=nonfinite,
        constant=constant & (bald[first] <= 0.0),  # equal but positive scores still have different joint gains
        evaluated=evaluated.astype(jnp.float32) / possible.astype(jnp.float32))


def both(companion, summed, limit):
    """Joint information from its two estimates; never decreasing, never above log K.

    The sum of gains is the sharper one for short batches, the companion near log K. Spread over seeds (K = 100, C = 10,
    S = 1,000) at b = 10 / 20 / 50: sum 0.003 / 0.013 / 0.028, companion 0.019 / 0.016 / 0.007, this mean of them < 0.010.
    """
    near = jnp.square(companion / limit)
    return lax.cummax(jnp.clip(near * companion + (1.0 - near) * summed, 0.0, limit))
