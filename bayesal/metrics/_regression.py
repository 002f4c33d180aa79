"""Losses and calibration of predicted real numbers.

A prediction is a `Gaussian` or `Mixture` of shape `[N]`, or `[K, N]` for draws that are averaged;
labels are `[N]`. Variances must be above 0 and of the means' shape.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _maths, errors, likelihoods
from bayesal.metrics import _checked
from bayesal.types import Array, ArrayLike, Gaussian, Mixture


def rmse(
    prediction: Gaussian | Mixture,
    labels: Float[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Root mean squared error of the predicted means, in the label's unit; in [0, inf).

    Draws [K, N] are averaged first.

    >>> rmse(Gaussian(jnp.array([1.0, 3.0]), jnp.ones(2)), jnp.array([1.0, 1.0])).round(4)
    Array(1.4142, dtype=float32)
    """
    prediction, labels, weights = _checked.real(prediction, labels, weights)
    means = jnp.atleast_2d(likelihoods.moments(prediction).mean)  # [K, N]
    average = _maths.tree_sum(means, axis=0) / means.shape[0]
    return jnp.sqrt(_checked.mean(jnp.square(average - labels), weights))


def density_nll(
    prediction: Gaussian | Mixture,
    labels: Float[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Mean negative log-density of real labels, in nats; it may be negative.

    Its value depends on the label's unit.

    Args:
      prediction: of shape [N], one density per point (as in the deep-ensembles paper); or of shape
        [K, N], draws whose densities are averaged.
      labels: the labels.
      weights: how many points each stands for.

    >>> round(float(density_nll(Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(1))), 4)
    0.9189
    """
    prediction, labels, weights = _checked.real(prediction, labels, weights)
    return -_checked.mean(_density(prediction, labels), weights)


@jax.jit
def _density(prediction, labels):
    log_p = likelihoods.log_likelihood(prediction, labels)
    return _maths.log_mean_exp(log_p) if log_p.ndim > 1 else log_p


def _components(prediction):
    """Weights, means and standard deviations [J, N] of the mixture of all draws' components."""
    if isinstance(prediction, Gaussian):
        mean, variance = (jnp.atleast_2d(a) for a in prediction)
        return jnp.full_like(mean, 1.0 / mean.shape[0]), mean, jnp.sqrt(variance)
    flat = lambda a: (
        jnp.moveaxis(a, -1, 0) if a.ndim == 2 else jnp.moveaxis(a, -1, 1).reshape(-1, a.shape[1])
    )
    weight, mean, variance = map(flat, prediction)
    draws = 1 if prediction.mean.ndim == 2 else prediction.mean.shape[0]
    return jnp.exp(weight) / draws, mean, jnp.sqrt(variance)


def pit(prediction: Gaussian | Mixture, labels: Float[ArrayLike, " N"]) -> Float[Array, " N"]:
    """Probability integral transform `F_i(y_i)` of each label, in [0, 1]; uniform if calibrated.

    Values near 0 and 1 show overconfident predictions, values near 0.5 underconfident ones.

    References:
      Dawid 1984; Gneiting et al. 2007.

    >>> pit(Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(1))
    Array([0.5], dtype=float32)
    """
    prediction, labels, _ = _checked.real(prediction, labels)
    return _pit(prediction, labels)


@jax.jit
def _pit(prediction, labels):
    weight, mean, std = _components(prediction)
    below = jax.scipy.special.ndtr((labels[None] - mean) / std)
    return jnp.clip(_maths.tree_sum(weight * below, axis=0), 0.0, 1.0)


def interval_coverage(
    prediction: Gaussian | Mixture,
    labels: Float[ArrayLike, " N"],
    level: float = 0.9,
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Share of labels inside the central predicted interval of probability `level`; in [0, 1].

    Calibrated predictions have a coverage of `level`. A label is inside where |PIT - 1/2| <=
    level / 2: between the quantiles (1 - level) / 2 and (1 + level) / 2, for mixtures too.

    >>> float(
    ...     interval_coverage(
    ...         Gaussian(jnp.zeros(4), jnp.ones(4)), jnp.array([-3.0, -1.0, 0.0, 1.0]), 0.9
    ...     )
    ... )
    0.75
    """
    if not 0 < level < 1:
        raise errors.OutOfRange(
            "level", f"`level` must lie strictly between 0 and 1, got {level!r}."
        )
    prediction, labels, weights = _checked.real(prediction, labels, weights)
    return _checked.mean(
        (jnp.abs(_pit(prediction, labels) - 0.5) <= level / 2).astype(jnp.float32), weights
    )


def crps(
    prediction: Gaussian | Mixture,
    labels: Float[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Mean continuous ranked probability score (CRPS), in the label's unit; in [0, inf).

    CRPS = integral of (F(t) - [t >= y])^2 dt = E|Y - y| - E|Y - Y'| / 2, in closed form: for a
    mixture of normals sum_j w_j A(y - m_j, v_j) - sum_ij w_i w_j A(m_i - m_j, v_i + v_j) / 2 with
    A(m, s^2) = E|N(m, s^2)| = 2 s phi(m/s) + m (2 Phi(m/s) - 1). An outlier costs its distance, not
    the squared distance. Draws [K, N] are one mixture; memory is O(K N).

    References:
      Gneiting & Raftery 2007; mixtures: Grimit et al. 2006.

    >>> # 2 phi(0) - 1 / sqrt(pi)
    >>> round(float(crps(Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(1))), 4)
    0.2337
    """
    prediction, labels, weights = _checked.real(prediction, labels, weights)
    return _checked.mean(_crps(prediction, labels), weights)


@jax.jit
def _crps(prediction, labels):
    weight, mean, std = _components(prediction)
    miss = _maths.tree_sum(weight * _absolute(labels[None] - mean, std), axis=0)

    def one(spread, component):
        w, m, s = component
        return spread + w * _maths.tree_sum(
            weight * _absolute(m[None] - mean, jnp.hypot(std, jnp.broadcast_to(s, std.shape))),
            axis=0,
        ), None

    spread, _ = jax.lax.scan(one, jnp.zeros_like(labels), (weight, mean, std))
    return jnp.maximum(miss - 0.5 * spread, 0.0)


def _absolute(mean, std):
    """E|N(mean, std^2)|."""
    z = mean / std
    density = math.sqrt(2 / math.pi) * jnp.exp(-0.5 * jnp.square(z))
    return std * density + mean * jax.scipy.special.erf(z / math.sqrt(2))
