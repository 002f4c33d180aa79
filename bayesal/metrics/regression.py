"""Losses and calibration of real predictions: a `Gaussian` or `Mixture` of shape `[N]`, or `[K, N]`
for draws that are averaged, and labels `[N]`.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesal import _maths, errors, likelihoods
from bayesal.metrics import _checked
from bayesal.types import ArrayLike, Gaussian, Mixture


def rmse(
    prediction: Gaussian | Mixture, y: Float[ArrayLike, " N"], *, weights: ArrayLike | None = None
) -> Float[Array, ""]:
    """Root of the mean squared error of the predicted means [N], in the label's unit; in [0, inf).

    >>> rmse(Gaussian(jnp.array([1.0, 3.0]), jnp.ones(2)), jnp.array([1.0, 1.0])).round(4)
    Array(1.4142, dtype=float32)
    """
    y, weights = _checked.real(prediction, y, weights)
    return jnp.sqrt(_checked.mean(jnp.square(likelihoods.moments(prediction).mean - y), weights))


def density_nll(
    prediction: Gaussian | Mixture, y: Float[ArrayLike, " N"], *, weights: ArrayLike | None = None
) -> Float[Array, ""]:
    """Mean negative log-density of real labels, in nats (it changes with the label's unit, and may
    be negative).

    Args:
      prediction: of shape [N]: one Gaussian per point (what the deep-ensembles paper scores); or of
        shape [K, N], draws whose densities are averaged: the likelihood of the mixture itself.
      y: the labels.
      weights: how many points each stands for.

    >>> round(float(density_nll(Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(1))), 4)
    0.9189
    """
    y, weights = _checked.real(prediction, y, weights)
    return -_checked.mean(_density(prediction, y), weights)


@jax.jit
def _density(prediction, y):
    log_p = likelihoods.log_likelihood(prediction, y)
    return _maths.log_mean_exp(log_p) if log_p.ndim > 1 else log_p


def _components(prediction):
    """Weights, means and standard deviations [J, N] of the one mixture that all draws and their
    components are.
    """
    prediction = type(prediction)(*jnp.broadcast_arrays(*prediction))
    if isinstance(prediction, Gaussian):
        mean, variance = (jnp.atleast_2d(a) for a in prediction)
        return jnp.full_like(mean, 1.0 / mean.shape[0]), mean, jnp.sqrt(variance)
    flat = lambda a: (
        jnp.moveaxis(a, -1, 0) if a.ndim == 2 else jnp.moveaxis(a, -1, 1).reshape(-1, a.shape[1])
    )
    weight, mean, variance = map(flat, prediction)
    draws = 1 if prediction.mean.ndim == 2 else prediction.mean.shape[0]
    return jnp.exp(weight) / draws, mean, jnp.sqrt(variance)


def pit(prediction: Gaussian | Mixture, y: Float[ArrayLike, " N"]) -> Float[Array, " N"]:
    """Where labels fall in their predicted distributions: `F_i(y_i)`, each in [0, 1]; spread evenly
    if predictions are calibrated.

    Heaps at both ends say that predictions are too sure, a heap in the middle that they are not
    sure enough.

    References:
      Dawid 1984; Gneiting et al. 2007.

    >>> pit(Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(1))
    Array([0.5], dtype=float32)
    """
    y, _ = _checked.real(prediction, y)
    return _pit(prediction, y)


@jax.jit
def _pit(prediction, y):
    weight, mean, std = _components(prediction)
    away, wide = y[None] - mean, std > 0
    below = jnp.where(
        wide,
        jax.scipy.special.ndtr(away / jnp.where(wide, std, 1.0)),
        jnp.heaviside(away, jnp.float32(0.5)),
    )
    return jnp.clip(_maths.tree_sum(weight * below, axis=0), 0.0, 1.0)


def interval_coverage(
    prediction: Gaussian | Mixture,
    y: Float[ArrayLike, " N"],
    level: float = 0.9,
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Share of labels inside the central interval that is predicted to hold a share `level` of
    them; in [0, 1], and `level` is best.

    A label is inside where |PIT - 1/2| <= level / 2: between the quantiles (1 - level) / 2 and (1 +
    level) / 2, for mixtures too.

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
    y, weights = _checked.real(prediction, y, weights)
    return _checked.mean(
        (jnp.abs(_pit(prediction, y) - 0.5) <= level / 2).astype(jnp.float32), weights
    )


def crps(
    prediction: Gaussian | Mixture, y: Float[ArrayLike, " N"], *, weights: ArrayLike | None = None
) -> Float[Array, ""]:
    """Mean continuous ranked probability score, in closed form, in the label's unit; in [0, inf),
    lower is better.

    integral of (F(t) - [t >= y])^2 dt = E|Y - y| - E|Y - Y'| / 2. Of a mixture of normals that is
    sum_j w_j A(y - m_j, v_j)
    - sum_ij w_i w_j A(m_i - m_j, v_i + v_j) / 2 with A(m, s^2) = E|N(m, s^2)| = 2 s phi(m/s) + m (2
    Phi(m/s) - 1). A label far out costs its distance, not the square of it; draws [K, N] are one
    mixture, of which only K numbers per point are held at a time.

    References:
      Gneiting & Raftery 2007; mixtures: Grimit et al. 2006.

    >>> # 2 phi(0) - 1 / sqrt(pi)
    >>> round(float(crps(Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(1))), 4)
    0.2337
    """
    y, weights = _checked.real(prediction, y, weights)
    return _checked.mean(_crps(prediction, y), weights)


@jax.jit
def _crps(prediction, y):
    weight, mean, std = _components(prediction)
    miss = _maths.tree_sum(weight * _absolute(y[None] - mean, std), axis=0)

    def one(spread, component):
        w, m, s = component
        return spread + w * _maths.tree_sum(
            weight * _absolute(m[None] - mean, jnp.hypot(std, jnp.broadcast_to(s, std.shape))),
            axis=0,
        ), None

    spread, _ = jax.lax.scan(one, jnp.zeros_like(y), (weight, mean, std))
    return jnp.maximum(miss - 0.5 * spread, 0.0)


def _absolute(mean, std):
    """E|N(mean, std^2)|."""
    z = mean / jnp.where(std > 0, std, 1.0)
    spread = std * math.sqrt(2 / math.pi) * jnp.exp(
        -0.5 * jnp.square(z)
    ) + mean * jax.scipy.special.erf(z / math.sqrt(2))
    return jnp.where(std > 0, spread, jnp.abs(mean))
