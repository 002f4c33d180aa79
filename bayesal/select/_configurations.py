"""Label configurations of the points chosen so far, each as posterior weights over the K draws.

They grow by Bayes' rule, point by point: all of them are enumerated while they fit, then kept as
equally many samples of every draw.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, errors
from bayesal.scores._epig import divergence
from bayesal.types import USED_UP, Array

MOST = 2**28  # weights of configurations, a gigabyte
STEP, FEWEST = 8, 64  # gains are screened with one configuration in 8, if those are at least 64

# gains are differences of entropies: the reduced precision that accelerators multiply with by
# default would reorder them
product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


class Configurations(NamedTuple):
    """S label configurations of the points chosen so far. Rows that are not in use have share 0."""

    weights: Float[Array, "S K"]  # p(draw | configuration)
    share: Float[Array, " S"]  # p(configuration)


def checked(configurations: int, draws: int) -> int:
    """A number of configurations that memory can hold."""
    configurations = _checks.at_least(1, configurations, "configurations")
    if configurations * draws > MOST:
        raise errors.WrongSize(
            "configurations",
            f"`configurations` = {configurations} with K = {draws} draws are "
            f"{configurations * draws:.1e} weights, and at most {MOST:.1e} are kept; pass "
            f"{MOST // draws} or fewer. The default of 1000 is enough for most batches.",
        )
    return configurations


def exact_steps(classes: int, configurations: int) -> int:
    """How many points have all their label configurations enumerated: the largest m with C^m
    <= S.
    """
    steps = 0
    while classes ** (steps + 1) <= configurations:
        steps += 1
    return steps


def nothing_observed(
    draws: int, classes: int, configurations: int, exact_steps: int
) -> Configurations:
    """Every draw as likely as any other: one configuration in use."""
    rows = max(classes**exact_steps, draws * max(1, configurations // draws))
    weights = jnp.full((rows, draws), 1.0 / draws, jnp.float32)
    return Configurations(weights, jnp.zeros(rows, jnp.float32).at[0].set(1.0))


def information(
    state: Configurations, probs: Float[Array, "n C K"], noise: Float[Array, "n K"]
) -> Float[Array, " n"]:
    """Mean over configurations of each point's BALD score under its weights: what its label tells
    beyond theirs, in nats.

    noise: `H[p_k]` of each point under each draw. The weights' own mean entropy, not the exact one,
      keeps the variance low.
    """
    mixed = product(probs.reshape(-1, probs.shape[-1]), state.weights.T)  # [n * C, S]
    terms = -mixed * jnp.log(jnp.maximum(mixed, 1e-30))
    total = product(terms, state.share).reshape(probs.shape[:2]).sum(axis=1)
    return total - product(noise, product(state.share, state.weights))


def small_information(state: Configurations, probs: Float[Array, "n C K"]) -> Float[Array, " n"]:
    """`information` where it is so small that a difference of entropies has no digits of it.

    With q any prediction, r_k = p_k / q - 1 and f(r) = (1 + r) log(1 + r) - r, it is the mean over
    configurations of sum_c q_c (sum_k W_sk f(r_kc) - f(sum_k W_sk r_kc)). Here q is the mean
    prediction: r and f(r) are then as small as what the draws disagree by, and keep their digits.
    """
    mean = probs.mean(axis=-1)
    never = mean < _maths.TINY
    inverse = jnp.where(never, 0.0, 1.0 / jnp.where(never, 1.0, mean))
    ratio = jnp.maximum((probs - mean[..., None]) * inverse[..., None], -1.0)
    each = product(divergence(ratio), product(state.share, state.weights))  # [n, C]
    mixed = product(ratio.reshape(-1, ratio.shape[-1]), state.weights.T)  # [n * C, S]
    both = product(divergence(jnp.maximum(mixed, -1.0)), state.share).reshape(mean.shape)
    return jnp.sum(mean * (each - both), axis=1)


def screening(draws: int, configurations: int) -> int:
    """How many configurations of each draw are enough to see which gains need all of them; 0: there
    are too few to save by it.
    """
    each = configurations // draws
    few = max(each // STEP, -(-FEWEST // draws))
    return few if 4 * few <= each else 0


def thinned(state: Configurations, draws: int, few: int) -> Configurations:
    """So many configurations of each draw, of sampled ones."""
    each = state.weights.shape[0] // draws
    weights = (
        state.weights[: draws * each]
        .reshape(draws, each, draws)[:, :few]
        .reshape(draws * few, draws)
    )
    return Configurations(weights, jnp.full(draws * few, 1.0 / (draws * few), jnp.float32))


def estimate(
    state: Configurations, probs: Float[Array, "n C K"], noise: Float[Array, "n K"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """`information` from sampled configurations of equal share, and its standard error."""
    mixed = product(probs.reshape(-1, probs.shape[-1]), state.weights.T)
    total = (-mixed * jnp.log(jnp.maximum(mixed, 1e-30))).reshape(*probs.shape[:2], -1).sum(axis=1)
    each = total - product(noise, state.weights.T)  # [n, S]
    return each.mean(axis=1), each.std(axis=1) / each.shape[1] ** 0.5


def joint(state: Configurations) -> Float[Array, ""]:
    """Information of all labels so far: log K - E[H(draw | labels)], which cannot exceed log K."""
    weights = state.weights
    left = -jnp.sum(weights * jnp.log(jnp.maximum(weights, 1e-30)), axis=1)
    return jnp.log(jnp.float32(weights.shape[1])) - product(state.share, left)


def used_up(joint: Float[Array, " B"], ceiling: Float[Array, ""]) -> Bool[Array, " B"]:
    """Whether the picks before each one had used up what there is to know."""
    return jnp.pad(joint, (1, 0))[:-1] > USED_UP * ceiling


def observe(
    key, state: Configurations, probs: Float[Array, "K C"], real, observed, exact_steps: int
) -> Configurations:
    """Configurations after one more point: enumerated while they fit, then stratified. Where not
    `real`, nothing changes.
    """

    def sampled():
        draws = probs.shape[0]
        first, second = places(key, draws, state.weights.shape[0] // draws)
        strata = lax.cond(observed == exact_steps, lambda: stratified(first, state), lambda: state)
        return extended(second, strata, probs)

    new = lax.cond(observed < exact_steps, lambda: enumerated(state, probs), sampled)
    return jax.tree.map(lambda a, b: jnp.where(real, a, b), new, state)


def observe_sampled(key, state: Configurations, probs: Float[Array, "K C"], real) -> Configurations:
    """`observe` for configurations that are sampled from the first point on."""
    draws = probs.shape[0]
    new = extended(places(key, draws, state.weights.shape[0] // draws)[0], state, probs)
    return jax.tree.map(lambda a, b: jnp.where(real, a, b), new, state)


def enumerated(state: Configurations, probs: Float[Array, "K C"]) -> Configurations:
    """Every configuration with every label: row s becomes rows s * C ... s * C + C - 1."""
    rows, classes = state.weights.shape[0], probs.shape[1]
    parent = jnp.arange(rows) // classes
    label = jnp.arange(rows) % classes
    likelihood = state.weights[parent] * probs.T[label]
    total = likelihood.sum(axis=1)
    weights = jnp.where(
        total[:, None] > 0,
        likelihood / jnp.where(total > 0, total, 1.0)[:, None],
        state.weights[parent],
    )
    return Configurations(weights, state.share[parent] * total)


def places(key, draws: int, each: int) -> Float[Array, "2 K R"]:
    """Systematic places in [0, 1) for every draw's configurations, in random order; twice, from one
    stream of numbers, because generators and sorts are what takes long to compile."""
    luck = jax.random.uniform(key, (2, draws, each + 1), jnp.float32)
    shuffled = jnp.argsort(luck[..., 1:], axis=-1)
    return jnp.minimum((shuffled.astype(jnp.float32) + luck[..., :1]) / each, 1.0 - 1e-6)


def inverse_cdf(probs: Float[Array, " n"], places: Float[Array, " R"]) -> Int[Array, " R"]:
    """Which of n outcomes each place in [0, 1) falls on."""
    total = jnp.cumsum(probs)
    return jnp.clip(
        jnp.searchsorted(total / total[-1], places, side="right"), 0, probs.shape[0] - 1
    )


def stratified(places: Float[Array, "K R"], state: Configurations) -> Configurations:
    """From enumerated configurations to equally many sampled ones of every draw: R rows of draw 0,
    R of draw 1, ...
    """
    rows, draws = state.weights.shape
    each = rows // draws
    given_draw = (
        state.share[:, None] * state.weights
    ).T  # [K, S], proportional to p(configuration | draw)
    chosen = jax.vmap(inverse_cdf)(given_draw, places).reshape(-1)
    weights = (
        jnp.full_like(state.weights, 1.0 / draws).at[: draws * each].set(state.weights[chosen])
    )
    share = jnp.where(jnp.arange(rows) < draws * each, jnp.float32(1.0 / (draws * each)), 0.0)
    return Configurations(weights, share)


def extended(
    places: Float[Array, "K R"], state: Configurations, probs: Float[Array, "K C"]
) -> Configurations:
    """One sampled label for every configuration, from the draw the configuration was
    sampled from.
    """
    rows, draws = state.weights.shape
    each = rows // draws
    label = jax.vmap(inverse_cdf)(probs, places).reshape(-1)
    likelihood = state.weights[: draws * each] * probs.T[label]
    total = likelihood.sum(axis=1, keepdims=True)
    own = jax.nn.one_hot(
        jnp.arange(draws * each) // each, draws, dtype=jnp.float32
    )  # what is left when float32 underflows
    weights = jnp.where(total > 0, likelihood / jnp.where(total > 0, total, 1.0), own)
    return state._replace(weights=state.weights.at[: draws * each].set(weights))
