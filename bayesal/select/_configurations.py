"""Label configurations of the points chosen so far, each as posterior weights over the K draws.

They grow by Bayes' rule, point by point: all of them are enumerated while they fit, then kept as
equally many samples of every draw.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, _random, errors
from bayesal.scores._epig import divergence
from bayesal.types import USED_UP, Array

MOST = 2**28  # weights of configurations, a gigabyte
COMPARED = 2048  # outcomes that a place is compared with one by one, at most
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
    state: Configurations, probs: Float[Array, "K C n"], entropies: Float[Array, "K n"]
) -> Float[Array, " n"]:
    """Mean over configurations of each point's BALD score under its weights: what its label tells
    beyond theirs, in nats.

    entropies: `H[p_k]` of each point under each draw. The weights' own mean entropy, not the exact
      one, keeps the variance low.
    """
    mixed = product(state.weights, probs.reshape(probs.shape[0], -1))  # [S, C * n]
    terms = -mixed * jnp.log(jnp.maximum(mixed, 1e-30))
    total = product(state.share, terms).reshape(probs.shape[1:]).sum(axis=0)
    return total - product(product(state.share, state.weights), entropies)


def small_information(state: Configurations, probs: Float[Array, "K C n"]) -> Float[Array, " n"]:
    """`information` where it is so small that a difference of entropies has no digits of it.

    With q any prediction, r_k = p_k / q - 1 and f(r) = (1 + r) log(1 + r) - r, it is the mean over
    configurations of sum_c q_c (sum_k W_sk f(r_kc) - f(sum_k W_sk r_kc)). Here q is the mean
    prediction: r and f(r) are then as small as what the draws disagree by, and keep their digits.
    """
    mean = probs.mean(axis=0)
    never = mean < _maths.TINY
    inverse = jnp.where(never, 0.0, 1.0 / jnp.where(never, 1.0, mean))
    ratio = jnp.maximum((probs - mean[None]) * inverse[None], -1.0).reshape(probs.shape[0], -1)
    each = product(product(state.share, state.weights), divergence(ratio))  # [C * n]
    mixed = product(state.weights, ratio)  # [S, C * n]
    both = product(state.share, divergence(jnp.maximum(mixed, -1.0)))
    return jnp.sum(mean * (each - both).reshape(mean.shape), axis=0)


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
    state: Configurations, probs: Float[Array, "K C n"], entropies: Float[Array, "K n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """`information` from sampled configurations of equal share, and its standard error."""
    mixed = product(state.weights, probs.reshape(probs.shape[0], -1))
    terms = -mixed * jnp.log(jnp.maximum(mixed, 1e-30))
    each = terms.reshape(-1, *probs.shape[1:]).sum(axis=1) - product(
        state.weights, entropies
    )  # [S, n]
    return each.mean(axis=0), each.std(axis=0) / each.shape[0] ** 0.5


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
    (rows, draws), classes = state.weights.shape, probs.shape[1]
    each = rows // draws
    row = np.arange(rows, dtype=np.int32)  # a constant of the program: nothing to compile
    first, second = places(key, draws, each)
    sampled = row < draws * each  # the rest is never in use again
    strata = lax.cond(
        observed == exact_steps,
        lambda: stratified(first, state),
        lambda: jnp.asarray(row)[: draws * each],
    )
    # Both ways are Bayes' rule for a parent row and a label, so it is compiled once.
    enumerating = observed < exact_steps
    fill = lambda found: jnp.pad(found, (0, rows - draws * each))
    parent = jnp.where(enumerating, row // classes, fill(strata))
    label = jnp.where(enumerating, row % classes, fill(labels_at(second, probs)))
    weights, total = updated(state.weights[parent], probs, label, each)
    share = jnp.where(
        enumerating,
        state.share[parent] * total,
        np.where(sampled, np.float32(1.0 / (draws * each)), np.float32(0.0)),
    )
    new = Configurations(weights, share)
    return jax.tree.map(lambda a, b: jnp.where(real, a, b), new, state)


def observe_sampled(key, state: Configurations, probs: Float[Array, "K C"], real) -> Configurations:
    """`observe` for configurations that are sampled from the first point on."""
    rows, draws = state.weights.shape
    label = labels_at(places(key, draws, rows // draws)[0], probs)
    weights, _ = updated(state.weights, probs, label, rows // draws)
    return state._replace(weights=jnp.where(real, weights, state.weights))


def updated(
    weights: Float[Array, "S K"], probs: Float[Array, "K C"], label: Int[Array, " S"], each: int
) -> tuple[Float[Array, "S K"], Float[Array, " S"]]:
    """Bayes' rule: weights after one label a row, and the probability of that label."""
    rows, draws = weights.shape
    likelihood = weights * probs.T[label]
    total = likelihood.sum(axis=1)
    # Where float32 underflows, the draw is left that the row was sampled from.
    own = (np.arange(rows) // each)[:, None] == np.arange(draws)
    possible = (total > 0)[:, None]
    mean = jnp.where(possible, total[:, None], 1.0)
    return jnp.where(possible, likelihood / mean, own.astype(np.float32)), total


def places(key, draws: int, each: int) -> Float[Array, "2 K R"]:
    """Systematic places in [0, 1) for every draw's configurations, in random order; twice, from one
    stream of numbers, because generators and sorts are what takes long to compile.
    """
    luck = _random.uniform(key, (2, draws, each + 1))
    shuffled = jnp.argsort(luck[..., 1:], axis=-1)
    return jnp.minimum((shuffled.astype(jnp.float32) + luck[..., :1]) / each, 1.0 - 1e-6)


def inverse_cdf(probs: Float[Array, " n"], places: Float[Array, " R"]) -> Int[Array, " R"]:
    """Which of n outcomes each place in [0, 1) falls on."""
    total = jnp.cumsum(probs)
    # A search of few outcomes takes longer to compile than to compare them all.
    method = "compare_all" if probs.shape[0] <= COMPARED else "scan"
    at = jnp.searchsorted(total / total[-1], places, side="right", method=method)
    return jnp.clip(at, 0, probs.shape[0] - 1)


def stratified(places: Float[Array, "K R"], state: Configurations) -> Int[Array, " K*R"]:
    """Rows of enumerated configurations, equally many sampled for every draw: R for draw 0, R for
    draw 1, ...
    """
    # [K, S], proportional to p(configuration | draw)
    given_draw = (state.share[:, None] * state.weights).T
    return jax.vmap(inverse_cdf)(given_draw, places).reshape(-1)


def labels_at(places: Float[Array, "K R"], probs: Float[Array, "K C"]) -> Int[Array, " K*R"]:
    """One sampled label for every configuration, from the draw that it was sampled from."""
    return jax.vmap(inverse_cdf)(probs, places).reshape(-1)
