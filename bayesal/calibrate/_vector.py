"""Vector scaling: a temperature and a bias per class, under a prior towards one temperature."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from bayesal import _maths
from bayesal.calibrate import _held_out
from bayesal.calibrate._losses import nll_and_slope, possible
from bayesal.calibrate._search import (
    AT_BOUND,
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
from bayesal.types import ArrayLike, Scaling

STEPS = 12  # of Newton's method; six are enough for most sets
LEAST = 1 / 16  # the share of the prior on class differences that never fades
SHARES = (1.0, 0.5, 0.25, 0.0625, 0.0)  # of a step, for the line search; 0: the loss never rises


def fit_vector(
    log_probs: Float[ArrayLike, "K N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
    prior_std: float = 0.5,
    class_std: float = 0.1,
    doubt: float = 0.0,
) -> Temperature:
    """Fit a temperature T_c and a bias b_c per class by the NLL of the averaged prediction.

    Draws become softmax(log p_k / T + b), all by the same T and b, and are then averaged. With
    log T_c = log T + d_c, the prior on d_c and b_c is normal with mean 0 and `class_std`. Its
    weight fades as (1 - N / 500 C)^2, to a sixteenth at most, so that a class without labels keeps
    a finite bias. The prior on log T is that of `fit_temperature`. With few labels only T changes.
    Unlike one temperature, this can change the most probable class.

    Args:
      log_probs, labels, weights, prior_std: see `fit_temperature`.
      class_std: standard deviation of d_c and b_c under the prior.
      doubt: see `fit_temperature`.
    Returns:
      A `Temperature` whose `temperature` is a `Scaling`; T_c in [0.001, 1000]. `determined` is that
      of one temperature; `at_bound` flags any T_c at an end of the range.
    References:
      Guo et al. 2017, https://arxiv.org/abs/1706.04599 (vector scaling)

    >>> halves = jnp.log(jnp.full((1, 900, 2), 0.5))
    >>> # two of three labels are of class 0
    >>> fitted = fit_vector(halves, jnp.arange(900) % 3 // 2).temperature
    >>> likelihoods.temper(halves, fitted)[0, 0, 0] > jnp.log(0.65)
    Array(True, dtype=bool)
    """
    log_probs, labels, weights = _held_out.classes(log_probs, labels, weights)
    return _fit(
        log_probs, labels, weights, width(prior_std), width(class_std, "class_std"), doubted(doubt)
    )


def vector(
    *,
    prior_std: float = CROSS_FITTED["prior_std"],
    class_std: float = 0.1,
    doubt: float = CROSS_FITTED["doubt"],
) -> Calibrator:
    """A learner's calibrator: `fit_vector` on out-of-fold predictions.

    The prior on log T is that of `temperature`. Called on known values it refuses what `fit_vector`
    refuses; under jit it checks nothing.
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
    """One Gauss-Newton step, which has no negative curvature: conjugate gradients, line search."""

    def loss(values):
        prior = sum(
            0.5 * cost * jnp.sum(jnp.square(v)) for cost, v in zip(costs, values, strict=True)
        )
        return prior - _maths.tree_sum(
            share_of * _maths.log_mean_exp(_of_label(_scaled(log_probs, values), labels)), axis=0
        )

    def back(of_logits, direction):
        """Gradient by the values from one by the logits [K, N, C], plus the prior's part."""
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
    return one._replace(
        temperature=Scaling(jnp.exp(each), bias),
        nll_after=after,
        at_bound=(count > 0) & jnp.any(jnp.abs(each) > BOUND - AT_BOUND),
    )
