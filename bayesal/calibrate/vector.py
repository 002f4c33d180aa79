"""A temperature and a bias for every class: vector scaling, held near one temperature by
a prior.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from bayesal import _maths
from bayesal.calibrate._search import (
    BOUND,
    CROSS_FITTED,
    FADE,
    Calibrator,
    Temperature,
    doubted,
    effective_sample_size,
    search,
    strength,
    width,
)
from bayesal.calibrate.classes import held_out, nll_and_slope, possible
from bayesal.types import ArrayLike, Scaling

STEPS = 12  # of Newton's method; six are enough for most sets
LEAST = 1 / 16  # of the prior's weight on what sets classes apart is never lost
SHARES = (
    1.0,
    0.5,
    0.25,
    0.0625,
    0.0,
)  # of a step that are tried: with none among them the loss never rises


def fit_vector(
    log_probs: Float[ArrayLike, "K N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
    prior_std: float = 0.5,
    class_std: float = 0.1,
    doubt: float = 0.0,
) -> Temperature:
    """A temperature T_c and a bias b_c per class that make the averaged prediction of scaled draws
    most likely.

    Draws become softmax(log p_k / T + b), all by the same T and b, and are then averaged. log T_c =
    log T + d_c, and d_c and b_c are normal under the prior with mean 0 and `class_std`, which grows
    to four times as much with hundreds of labels per class: the prior's weight fades as (1 - N /
    500 C)^2 to a sixteenth, and no further, so that a class without labels keeps a finite bias.
    With few labels only T moves; the prior on log T is that of `fit_temperature`. Unlike a
    temperature it may change which class is most probable.

    Args:
      log_probs, labels, weights, prior_std: see `fit_temperature`.
      class_std: standard deviation of what sets classes apart.
      doubt: see `fit_temperature`.
    Returns:
      A `Temperature` whose `temperature` is a `Scaling`; T_c in [0.05, 20] always. `determined` is
      that of one temperature.
    References:
      Guo et al. 2017, https://arxiv.org/abs/1706.04599 (vector scaling)

    >>> halves = jnp.log(jnp.full((1, 900, 2), 0.5))
    >>> # two of three labels are of class 0
    >>> fitted = fit_vector(halves, jnp.arange(900) % 3 // 2).temperature
    >>> likelihoods.temper(halves, fitted)[0, 0, 0] > jnp.log(0.65)
    Array(True, dtype=bool)
    """
    log_probs, labels, weights = held_out(log_probs, labels, weights)
    return _fit(
        log_probs, labels, weights, width(prior_std), width(class_std, "class_std"), doubted(doubt)
    )


def vector(
    *,
    prior_std: float = CROSS_FITTED["prior_std"],
    class_std: float = 0.1,
    doubt: float = CROSS_FITTED["doubt"],
) -> Calibrator:
    """The calibrator of a learner: `fit_vector` on out-of-fold predictions; the prior on log T is
    that of `temperature`.
    """
    return Calibrator(
        functools.partial(
            _fit,
            prior_std=width(prior_std),
            class_std=width(class_std, "class_std"),
            doubt=doubted(doubt),
        )
    )


def _scaled(log_probs, values):
    log_t, apart, bias = values
    return log_probs * jnp.exp(-(log_t + apart))[None, None] + bias[None, None]


def _of_label(logits, labels):
    return jnp.take_along_axis(jax.nn.log_softmax(logits), labels[None, :, None], axis=-1)[..., 0]


def _step(values, log_probs, labels, share_of, costs):
    """One step of Newton's method with the Gauss-Newton matrix, which has no negative curvature:
    conjugate gradients, then a line search.
    """

    def loss(values):
        prior = sum(
            0.5 * cost * jnp.sum(jnp.square(v)) for cost, v in zip(costs, values, strict=True)
        )
        return prior - _maths.tree_sum(
            share_of * _maths.log_mean_exp(_of_label(_scaled(log_probs, values), labels)), axis=0
        )

    def back(of_logits, direction):
        """What a change of the logits [K, N, C] means for the values, and the prior's part."""
        (moved,) = pull(share * of_logits)
        return jax.tree.map(lambda m, cost, d: m + cost * d, moved, costs, direction)

    def curvature(direction):
        _, ahead = jax.jvp(functools.partial(_scaled, log_probs), (values,), (direction,))
        return back(probs * (ahead - jnp.sum(probs * ahead, axis=-1, keepdims=True)), direction)

    logits, pull = jax.vjp(functools.partial(_scaled, log_probs), values)
    probs, likely = jax.nn.softmax(logits), _of_label(logits, labels)
    share = (
        jnp.exp(likely - _maths.log_mean_exp(likely)[None]) / likely.shape[0] * share_of[None]
    )[..., None]
    uphill = back(probs - jax.nn.one_hot(labels, probs.shape[-1])[None], values)
    step, _ = jax.scipy.sparse.linalg.cg(
        curvature, jax.tree.map(jnp.negative, uphill), maxiter=30, tol=1e-4
    )
    ahead = lambda t: jax.tree.map(lambda v, s: v + t * s, values, step)
    shares = jnp.array(SHARES)
    return ahead(shares[jnp.argmin(jax.lax.map(lambda t: loss(ahead(t)), shares))])


@jax.jit
def _fit(log_probs, labels, weights, prior_std, class_std, doubt):
    log_probs, labels, weights, impossible = possible(log_probs, labels, weights)
    count, classes = effective_sample_size(weights), log_probs.shape[-1]
    one = search(
        nll_and_slope(log_probs, labels, weights),
        weights,
        impossible,
        prior_std,
        BOUND,
        doubt,
        classes,
    )
    fade = jnp.maximum(jnp.square(jnp.maximum(1.0 - count / (FADE * classes), 0.0)), LEAST)
    cost = fade / (class_std**2 * jnp.maximum(count, 1.0))
    costs = (strength(count, one.determined, prior_std, doubt, classes), cost, cost)
    share_of = weights / jnp.maximum(jnp.sum(weights), 1e-30)
    start = (jnp.log(one.temperature), jnp.zeros(classes), jnp.zeros(classes))
    values = jax.lax.fori_loop(
        0, STEPS, lambda _, values: _step(values, log_probs, labels, share_of, costs), start
    )
    log_t, apart, bias = values
    each = jnp.clip(log_t + apart, -BOUND, BOUND)
    likely = _of_label(_scaled(log_probs, (0.0, each, bias)), labels)
    after = -_maths.tree_sum(share_of * _maths.log_mean_exp(likely), axis=0)
    return one._replace(temperature=Scaling(jnp.exp(each), bias), nll_after=after)
