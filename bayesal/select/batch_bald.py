"""BatchBALD: the batch whose labels, together, tell most about which draw is right.

The labels of the points chosen so far are kept as S configurations, each as posterior weights over the K draws
(`weights [S, K]`, updated by Bayes' rule). The gain of a point is then the mean over configurations of its BALD score under
those weights: one matrix product, memory O(S * (K + C)), for a batch of any length and without underflow. All configurations are
enumerated while they fit in S; after that S are kept, sampled from every draw in equal number.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from bayesal import checks, maths
from bayesal import scores as score_functions
from bayesal.types import ArrayLike, Key, Selection

BLOCK = 128  # candidates whose gains are computed at a time, at most
TABLE = 2**21  # label probabilities of a block under all configurations, at most
USED_UP = 0.95  # share of log K from which on the batch has identified the draw and later gains are mostly noise
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


class _Configurations(NamedTuple):
    """S label configurations of the points chosen so far. Rows that are not in use have share 0."""

    weights: Float[Array, "S K"]  # p(draw | configuration)
    share: Float[Array, " S"]  # p(configuration)


class _Pool(NamedTuple):
    probs: Float[Array, "N C K"]
    noise: Float[Array, "N K"]  # H[p_k] of each point under each draw
    bald: Float[Array, " N"]  # -inf where a point may not be picked


@functools.partial(jax.jit, static_argnames=("size", "configurations"))
def _batch_bald(key, log_probs, available, size, configurations):
    draws, rows, classes = log_probs.shape
    bald, nonfinite, constant = maths.maskable(score_functions.bald(log_probs), available, size)
    pool = _Pool(jnp.exp(log_probs).transpose(1, 2, 0), maths.entropy(log_probs).T, bald)
    exact_steps = _exact_steps(classes, configurations)
    limit = jnp.log(jnp.float32(draws))

    def pick(b, carry):
        state, bound, taken, indices, gains, joint, evaluated = carry
        state = _observe(jax.random.fold_in(key, b), state, pool, indices[b - 1], b - 1, exact_steps)
        joint = joint.at[b - 1].set(_joint(state))
        slack = jnp.where(b <= exact_steps, 1e-5, 1e-2)  # sampled gains are bounds only up to their sampling error
        tie = jnp.where(joint[b - 1] > USED_UP * limit, TIE_BREAK, 0.0) * jnp.maximum(pool.bald, 0.0)
        # the last turn (b = size) only observes: it has no candidates, and writes out of bounds, which is dropped
        gain, seen = _evaluate(state, pool, jnp.where(taken | (b == size), -jnp.inf, bound), tie, slack)
        rank = jnp.where(seen, gain + tie, -jnp.inf)
        best = jnp.argmax(rank)
        some = rank[best] > -jnp.inf
        indices = indices.at[b].set(jnp.where(some, best, -1))
        gains = gains.at[b].set(jnp.where(some, jnp.minimum(gain[best], gains[b - 1]), -jnp.inf))
        return state, jnp.where(seen, gain, bound), taken.at[best].set(True), indices, gains, joint, evaluated + seen.sum()

    first = jnp.argmax(bald)
    some = bald[first] > -jnp.inf
    carry = (
        _nothing_observed(draws, classes, configurations, exact_steps), bald, (jnp.arange(rows) == first) | (bald == -jnp.inf),
        jnp.full(size, -1, jnp.int32).at[0].set(jnp.where(some, first, -1)), jnp.zeros(size).at[0].set(bald[first]),
        jnp.zeros(size), jnp.int32(0))
    *_, indices, gains, joint, evaluated = lax.fori_loop(1, size + 1, pick, carry)
    joint = _both(joint, jnp.cumsum(jnp.maximum(gains, 0.0)), limit)
    before = jnp.concatenate([jnp.zeros(1), joint[:-1]])
    possible = jnp.maximum((bald > -jnp.inf).sum() * max(size - 1, 1), 1)
    return Selection(
        indices, gains, joint=joint, saturated=before > USED_UP * limit, nonfinite=nonfinite,
        constant=constant & (bald[first] <= 0.0),  # equal but positive scores still have different joint gains
        evaluated=evaluated.astype(jnp.float32) / possible.astype(jnp.float32))


def _exact_steps(classes: int, configurations: int) -> int:
    """How many points have all their label configurations enumerated: the largest m with C^m <= S."""
    steps = 0
    while classes ** (steps + 1) <= configurations:
        steps += 1
    return steps


def _nothing_observed(draws, classes, configurations, exact_steps):
    rows = max(classes**exact_steps, draws * max(1, configurations // draws))
    weights = jnp.full((rows, draws), 1.0 / draws)
    return _Configurations(weights, jnp.zeros(rows).at[0].set(1.0))


def _joint(state: _Configurations) -> Float[Array, ""]:
    """Information of all labels so far: log K - E[H(draw | labels)], which cannot exceed log K."""
    weights = state.weights
    left = -jnp.sum(weights * jnp.log(jnp.maximum(weights, 1e-30)), axis=1)
    return jnp.log(jnp.float32(weights.shape[1])) - _product(state.share, left)


def _both(companion, summed, limit):
    """Joint information from its two estimates; never decreasing, never above log K.

    The sum of gains is the sharper one for short batches, the companion near log K. Spread over seeds (K = 100, C = 10,
    S = 1,000) at b = 10 / 20 / 50: sum 0.003 / 0.013 / 0.028, companion 0.019 / 0.016 / 0.007, this mean of them < 0.010.
    """
    near = jnp.square(companion / limit)
    return lax.cummax(jnp.clip(near * companion + (1.0 - near) * summed, 0.0, limit))


def _evaluate(state, pool, bound, tie, slack):
    """Gains of all candidates that could be the best: in blocks, best bound first, until no bound beats the best found."""
    block = max(1, min(BLOCK, bound.shape[0], TABLE // (state.share.shape[0] * pool.probs.shape[1])))
    noise_weights = _product(state.share, state.weights)  # [K]

    def more(carry):
        waiting, _, _, best = carry
        ahead = jnp.max(waiting)
        return (ahead > -jnp.inf) & (ahead + slack >= best)

    def some(carry):
        waiting, gains, seen, best = carry
        ahead, rows = lax.top_k(waiting, block)
        real = ahead > -jnp.inf
        probs = pool.probs[rows]  # [n, C, K]
        mixed = _product(probs.reshape(-1, probs.shape[-1]), state.weights.T)  # [n * C, S]
        terms = -mixed * jnp.log(jnp.maximum(mixed, 1e-30))
        total = _product(terms, state.share).reshape(probs.shape[:2]).sum(axis=1)
        gain = jnp.clip(total - _product(pool.noise[rows], noise_weights), 0.0, pool.bald[rows])
        best = jnp.maximum(best, jnp.max(jnp.where(real, gain + tie[rows], -jnp.inf)))
        return waiting.at[rows].set(-jnp.inf), gains.at[rows].set(gain), seen.at[rows].set(seen[rows] | real), best

    start = (jnp.where(bound > -jnp.inf, bound + tie, -jnp.inf), jnp.zeros_like(bound), jnp.zeros(bound.shape, bool), -jnp.inf)
    _, gains, seen, _ = lax.while_loop(more, some, start)
    return gains, seen


# gains are differences of entropies: the reduced precision that accelerators multiply with by default would reorder them
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _observe(key, state, pool, row, observed, exact_steps):
    """Configurations after one more point: enumerated while they fit, then stratified. Row -1 changes nothing."""
    probs = pool.probs[jnp.maximum(row, 0)].T  # [K, C]

    def sampled():
        draws = probs.shape[0]
        first, second = _places(key, draws, state.weights.shape[0] // draws)
        strata = lax.cond(observed == exact_steps, lambda: _stratify(first, state), lambda: state)
        return _extend(second, strata, probs)

    new = lax.cond(observed < exact_steps, lambda: _enumerate(state, probs), sampled)
    return jax.tree.map(lambda a, b: jnp.where(row >= 0, a, b), new, state)


def _enumerate(state: _Configurations, probs: Float[Array, "K C"]) -> _Configurations:
    """Every configuration with every label: row s becomes rows s * C ... s * C + C - 1."""
    rows, classes = state.weights.shape[0], probs.shape[1]
    parent, label = jnp.arange(rows) // classes, jnp.arange(rows) % classes
    likelihood = state.weights[parent] * probs.T[label]
    total = likelihood.sum(axis=1)
    weights = jnp.where(total[:, None] > 0, likelihood / jnp.where(total > 0, total, 1.0)[:, None], state.weights[parent])
    return _Configurations(weights, state.share[parent] * total)


def _places(key, draws: int, each: int) -> Float[Array, "2 K R"]:
    """Systematic places in [0, 1) for every draw's configurations, in random order; twice, from one stream of numbers, because
    generators and sorts are what takes long to compile."""
    luck = jax.random.uniform(key, (2, draws, each + 1))
    shuffled = jnp.argsort(luck[..., 1:], axis=-1)
    return jnp.minimum((shuffled.astype(jnp.float32) + luck[..., :1]) / each, 1.0 - 1e-6)


def _inverse_cdf(probs: Float[Array, " n"], places: Float[Array, " R"]) -> Int[Array, " R"]:
    total = jnp.cumsum(probs)
    return jnp.clip(jnp.searchsorted(total / total[-1], places, side="right"), 0, probs.shape[0] - 1)


def _stratify(places: Float[Array, "K R"], state: _Configurations) -> _Configurations:
    """From enumerated configurations to equally many sampled ones of every draw: R rows of draw 0, R of draw 1, ..."""
    rows, draws = state.weights.shape
    each = rows // draws
    given_draw = (state.share[:, None] * state.weights).T  # [K, S], proportional to p(configuration | draw)
    chosen = jax.vmap(_inverse_cdf)(given_draw, places).reshape(-1)
    weights = jnp.full_like(state.weights, 1.0 / draws).at[: draws * each].set(state.weights[chosen])
    share = jnp.where(jnp.arange(rows) < draws * each, 1.0 / (draws * each), 0.0)
    return _Configurations(weights, share)


def _extend(places: Float[Array, "K R"], state: _Configurations, probs: Float[Array, "K C"]) -> _Configurations:
    """One sampled label for every configuration, from the draw the configuration was sampled from."""
    rows, draws = state.weights.shape
    each = rows // draws
    label = jax.vmap(_inverse_cdf)(probs, places).reshape(-1)
    likelihood = state.weights[: draws * each] * probs.T[label]
    total = likelihood.sum(axis=1, keepdims=True)
    own = jax.nn.one_hot(jnp.arange(draws * each) // each, draws, dtype=jnp.float32)  # what is left when float32 underflows
    weights = jnp.where(total > 0, likelihood / jnp.where(total > 0, total, 1.0), own)
    return state._replace(weights=state.weights.at[: draws * each].set(weights))
