"""Batch EPIG: the batch whose labels, together, tell most about the labels of targets."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from bayesal import checks, maths
from bayesal import scores as score_functions
from bayesal.scores.epig import checked_weights
from bayesal.select import configurations as labels
from bayesal.select.lazy import TIE_BREAK, best_first, block_size, share
from bayesal.types import USED_UP, About, ArrayLike, Key, Selection


def batch_epig(
    key: Key,
    log_probs: Float[ArrayLike, "K N C"],
    target_log_probs: Float[ArrayLike, "K T L"],
    size: int,
    *,
    weights: Float[ArrayLike, " T"] | None = None,
    available: Bool[ArrayLike, " N"] | None = None,
    configurations: int = 2000,
) -> Selection:
    """Greedy batch EPIG: picks the points with the largest gain of information about the targets, in nats, one after another.

    sum_t w_t I(y_1..y_B; y_t);  0 <= I <= sum_t w_t BALD(t) <= log K, the `ceiling`. The first pick is the highest EPIG, exactly. Later gains
    are I(y; y_t | y_1..y_b) = BALD(x | y_1..y_b) - BALD(x | y_1..y_b, y_t), from the same configurations of labels, sampled from every
    draw in equal number, each with one sampled target label: memory O(S * (K + C)) for any batch and any number of targets.

    A gain never exceeds the point's BALD score given the picks (data processing), and those only fall, so candidates whose
    bound cannot beat the best gain found are not evaluated. Gains themselves may rise along a batch: two labels can tell
    together what neither tells alone.

    When the picks so far have used up 95 % of the ceiling (`saturated`), the draws hold next to nothing more about the targets: later gains are
    mostly noise. They still order the picks, near ties by plain EPIG.

    Args:
      key: fixes the sampled configurations.
      log_probs: normalized log-probabilities of the same K functions at every point; at least 2 draws.
      target_log_probs: of the same K functions at T targets.
      size: how many points to pick.
      weights: how much each target matters; see `scores.epig`.
      available: which points may be picked; all if None.
      configurations: S, how many label configurations to keep.
    Raises:
      As `batch_bald` and `scores.epig`.
    References:
      Bickford Smith et al. 2023, https://arxiv.org/abs/2304.08151; Kirsch et al. 2019, https://arxiv.org/abs/1906.08158

    >>> draws = jnp.log(jnp.array([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]]))
    >>> batch_epig(jax.random.key(0), draws, draws[:, :1], 1).indices
    Array([0], dtype=int32)
    """
    log_probs = checks.log_probs(log_probs, ndim=3)
    if log_probs.shape[0] < 2:
        raise checks.WrongSize(
            "log_probs", "`log_probs` has K = 1 draw, and mutual information with one draw is 0 for every point. Pass at least 2 draws.")
    target = checks.log_probs(target_log_probs, "target_log_probs", ndim=3)
    weights = checked_weights(weights, target.shape[1])
    available = checks.available_rows(available, log_probs.shape[1])
    size = checks.batch_size(size, available)
    first = score_functions.epig(log_probs, target, weights=weights)
    selection = _batch_epig(checks.key(key), log_probs, target, weights, first, available, size, checks.at_least(1, configurations, "configurations"))
    checks.not_constant(selection)
    return selection


@functools.partial(jax.jit, static_argnames=("size", "configurations"))
def _batch_epig(key, log_probs, target, weights, epig, available, size, configurations):
    draws, rows, classes = log_probs.shape
    bald = maths.maskable(score_functions.bald(log_probs), available, size)[0]
    epig, nonfinite, constant = maths.maskable(epig, available, size)
    told_key, key = jax.random.split(key)
    each = max(1, configurations // draws)
    told = _target_labels(told_key, target, weights, each)
    ceiling = jnp.sum(weights * score_functions.bald(target))
    block = block_size(2 * draws * each * classes, rows)

    def gains_of(state, at):
        part = log_probs[:, at]
        probs, noise = jnp.exp(part).transpose(1, 2, 0), maths.entropy(part).T
        alone = labels.information(state, probs, noise)
        left = labels.information(_given(state, told), probs, noise)
        return jnp.clip(alone - left, 0.0, bald[at]), jnp.clip(alone, 0.0, bald[at])

    def pick(b, carry):
        state, bound, taken, indices, gains, joint, evaluated = carry
        last = indices[b - 1]
        state = labels.observe(jax.random.fold_in(key, b), state, jnp.exp(log_probs[:, jnp.maximum(last, 0)]), last >= 0, b, 0)
        tie = jnp.where(joint[b - 1] > USED_UP * ceiling, TIE_BREAK, 0.0) * jnp.maximum(epig, 0.0)
        gain, bound, seen = best_first(jnp.where(taken, -jnp.inf, bound), tie, jnp.float32(0.1), block, functools.partial(gains_of, state))
        rank = jnp.where(seen, gain + tie, -jnp.inf)
        best = jnp.argmax(rank)
        some = rank[best] > -jnp.inf
        gains = gains.at[b].set(jnp.where(some, gain[best], -jnp.inf))
        joint = joint.at[b].set(jnp.minimum(joint[b - 1] + jnp.maximum(gains[b], 0.0), ceiling))
        return state, bound, taken.at[best].set(True), indices.at[b].set(jnp.where(some, best, -1)), gains, joint, evaluated + seen.sum(dtype=jnp.int32)

    first = jnp.argmax(epig)
    some = epig[first] > -jnp.inf
    start = labels.Configurations(
        jnp.full((draws * each, draws), 1.0 / draws, jnp.float32), jnp.full(draws * each, 1.0 / (draws * each), jnp.float32))
    zeros = jnp.zeros(size, jnp.float32)
    carry = (start, bald, (jnp.arange(rows) == first) | (epig == -jnp.inf), jnp.full(size, -1, jnp.int32).at[0].set(jnp.where(some, first, -1)),
             zeros.at[0].set(epig[first]), zeros.at[0].set(jnp.clip(epig[first], 0.0, ceiling)), jnp.int32(0))
    *_, indices, gains, joint, evaluated = lax.fori_loop(1, size, pick, carry)
    return Selection(
        indices, gains, joint=joint, saturated=labels.used_up(joint, ceiling), about=About.TARGETS, ceiling=ceiling, nonfinite=nonfinite,
        constant=constant & (epig[first] <= 0.0), evaluated=share(evaluated, (epig > -jnp.inf).sum(), size))


def _target_labels(key, target: Float[Array, "K T L"], weights: Float[Array, " T"], each: int) -> Float[Array, "S K"]:
    """Likelihood, under every draw, of one target label for each configuration: targets by weight, labels from the configuration's draw."""
    draws = target.shape[0]
    which_key, order_key, label_key = jax.random.split(key, 3)
    places = (jax.random.permutation(order_key, draws * each).astype(jnp.float32) + jax.random.uniform(which_key, dtype=jnp.float32)) / (draws * each)
    which = labels.inverse_cdf(weights, jnp.minimum(places, 1.0 - 1e-6))
    own = jnp.arange(draws * each) // each
    label = jax.random.categorical(label_key, target[own, which])
    return jnp.exp(target[:, which, label]).T


def _given(state: labels.Configurations, likelihood: Float[Array, "S K"]) -> labels.Configurations:
    weights = state.weights * likelihood
    total = weights.sum(axis=1, keepdims=True)
    return state._replace(weights=jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), state.weights))
