"""Arithmetic of predictions: tempered, averaged, reduced to moments, and judged by labels.

Every function refuses fields of unequal shapes, variances of 0 or less and weights or probabilities
that do not sum to 1; NaN stays NaN.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from bayesal import _checks, _maths, errors
from bayesal.types import Array, ArrayLike, Gaussian, Mixture, Prediction, PyTree, Scaling


def temper(prediction: Prediction, temperature: Float[Array, ""] | Scaling) -> Prediction:
    """Each draw tempered by T: `log_softmax(log_probs / T)`, or variances times T.

    That is each prediction to the power 1/T, normalized again. Components of a mixture are tempered
    one by one and keep their weights. A `Scaling` has a T and a bias per class.

    >>> temper(Gaussian(jnp.array(1.0), jnp.array(2.0)), jnp.float32(3.0)).variance
    Array(6., dtype=float32)
    """
    prediction = _checks.prediction(prediction, nan=True)
    if isinstance(prediction, Gaussian | Mixture):
        if isinstance(temperature, Scaling):
            raise errors.WrongType(
                "temperature",
                "`temperature` is a Scaling, one T and bias per class, but `prediction` is of real "
                "labels: pass one number, as `calibrate.fit_variance` fits.",
            )
        return prediction._replace(variance=prediction.variance * temperature)
    if isinstance(temperature, Scaling):
        over, plus = (jnp.expand_dims(a, range(prediction.ndim - 1)) for a in temperature)
        return jax.nn.log_softmax(prediction / over + plus, axis=-1)
    return jax.nn.log_softmax(prediction / temperature, axis=-1)


def moments(prediction: Gaussian | Mixture) -> Gaussian:
    """Mean and variance of each prediction.

    A mixture has mean `sum_j w_j m_j` and variance `sum_j w_j (v_j + (m_j - mean)^2)`.

    >>> halves = jnp.log(jnp.array([0.5, 0.5]))
    >>> of = Mixture(halves, jnp.array([-1.0, 1.0]), jnp.array([0.1, 0.3]))
    >>> round(float(moments(of).variance), 4)
    1.2
    """
    return _moments(_checks.prediction(prediction, real=True, nan=True))


def _moments(prediction: Gaussian | Mixture) -> Gaussian:
    if isinstance(prediction, Gaussian):
        return prediction
    mean = jnp.sum(jnp.exp(prediction.log_weight) * prediction.mean, axis=-1)
    aleatoric, epistemic = _variance_parts(prediction)
    return Gaussian(mean, aleatoric + epistemic)


def variance_parts(mixture: Mixture) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """Aleatoric `sum_j w_j v_j` and epistemic `sum_j w_j (m_j - mean)^2` variance of a mixture.

    Their sum is the variance of `moments`.

    References:
      Choi et al. 2018, https://arxiv.org/abs/1709.02249

    >>> variance_parts(
    ...     Mixture(jnp.log(jnp.array([0.5, 0.5])), jnp.array([-1.0, 1.0]), jnp.array([0.1, 0.3]))
    ... )[1].round(4)
    Array(1., dtype=float32)
    """
    return _variance_parts(
        _checks.prediction(
            _checks.a(Mixture, mixture, "mixture", "`mixture()`"), "mixture", nan=True
        )
    )


def _variance_parts(mixture: Mixture) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    weight = jnp.exp(mixture.log_weight)
    mean = jnp.sum(weight * mixture.mean, axis=-1, keepdims=True)
    return jnp.sum(weight * mixture.variance, axis=-1), jnp.sum(
        weight * jnp.square(mixture.mean - mean), axis=-1
    )


def average(prediction: Prediction) -> Array | Gaussian:
    """Average over draws (axis 0): `log mean_k p_k`, or mean and variance of the mixture of draws.

    The variance is that of the law of total variance: mean variance plus variance of the means.

    >>> average(Gaussian(jnp.array([-1.0, 1.0]), jnp.array([0.1, 0.3])))
    Gaussian(mean=Array(0., dtype=float32), variance=Array(1.2, dtype=float32))
    """
    prediction = _checks.prediction(prediction, draws=True, nan=True)
    if not isinstance(prediction, Gaussian | Mixture):
        return _maths.log_mean_exp(prediction)
    each = _moments(prediction)
    over_draws = lambda a: _maths.tree_sum(a, axis=0) / a.shape[0]
    mean = over_draws(each.mean)
    return Gaussian(
        mean, over_draws(each.variance) + over_draws(jnp.square(each.mean - mean[None]))
    )


def log_likelihood(prediction: Prediction, y: Shaped[ArrayLike, "..."]) -> Float[Array, "..."]:
    """Log-probability (or log-density) of labels under each draw, in nats.

    Args:
      prediction: of shape [..., n]: log-probabilities [..., n, C], a `Gaussian` or a `Mixture`.
      y: labels [n], broadcast over leading axes.
    Raises:
      WrongLabel: classes that are no integers in [0, C).

    Labels that are distributions over classes, floats `[n, C]`, give `sum_c y_c log p_c`; a class
    of mass 0 counts nothing, whatever its probability.

    >>> log_likelihood(jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]])), jnp.array([0, 1])).round(4)
    Array([-0.1054, -0.5108], dtype=float32)
    """
    prediction, y = _checks.prediction(prediction, nan=True), _checks.plain(y, "y")
    if isinstance(prediction, Gaussian):
        return _normal(prediction.mean, prediction.variance, y)
    if isinstance(prediction, Mixture):
        log_density = _normal(prediction.mean, prediction.variance, y[..., None])
        return jax.nn.logsumexp(
            jnp.broadcast_to(prediction.log_weight, log_density.shape) + log_density, axis=-1
        )
    if is_soft(prediction, y):
        soft = jnp.broadcast_to(y, prediction.shape)
        return jnp.sum(jnp.where(soft > 0, soft * prediction, 0.0), axis=-1)
    if _checks.concrete(y):  # an index out of range would read another class
        _checks.labels(np.ravel(y), prediction.shape[-1], name="y")
    labels = jnp.broadcast_to(jnp.asarray(y), prediction.shape[:-1])
    return jnp.take_along_axis(prediction, labels[..., None], axis=-1)[..., 0]


def _normal(mean, variance, y):
    mean, variance, y = jnp.broadcast_arrays(mean, variance, y)
    return -0.5 * (jnp.square(y - mean) / variance + jnp.log(variance) + math.log(2 * math.pi))


def judged(prediction: Prediction, y: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Negative log-likelihood of labels under the average of all draws (axis 0), in nats.

    >>> judged(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]]))[:, None], jnp.array([0])).round(4)
    Array([0.5108], dtype=float32)
    """
    if is_soft(prediction, y):  # the cross-entropy of the average, not the average's logarithm
        return -log_likelihood(average(prediction), y)
    return -_maths.log_mean_exp(log_likelihood(prediction, y))


def is_soft(prediction: Prediction, y: PyTree) -> bool:
    """Whether labels are distributions over the classes of a prediction: a matter of types, not of
    values.

    >>> (
    ...     is_soft(jnp.zeros((5, 3)), jnp.zeros((5, 3))),
    ...     is_soft(jnp.zeros((5, 3)), jnp.array([0] * 5)),
    ... )
    (True, False)
    """
    classes = not isinstance(prediction, Gaussian | Mixture)
    return classes and hasattr(y, "dtype") and jnp.issubdtype(y.dtype, jnp.floating)


def scored(score: Callable, prediction: Prediction) -> Array:
    """A score of a prediction: `score(log_probs)`, or `score(means, variances)` for real labels.

    Raises:
      WrongType: a score for the other kind of labels.

    >>> from bayesal.scores import regression
    >>> scored(regression.epistemic, Gaussian(jnp.array([[-1.0], [1.0]]), jnp.ones((2, 1))))
    Array([1.], dtype=float32)
    """
    given: tuple[Any, ...] = (prediction,)
    takes = "classes: its scores take log-probabilities alone, as `bayesal.scores.bald` does"
    if isinstance(prediction, Gaussian | Mixture):
        given = tuple(moments(prediction))
        takes = "real labels: its scores take (means, variances), see `bayesal.scores.regression`"
    try:
        inspect.signature(score).bind(*given)
    except TypeError as error:
        raise errors.WrongType(
            "score",
            f"`score` = {getattr(score, '__name__', score)!r} does not fit this posterior, which "
            f"predicts {takes}.",
        ) from error
    return score(*given)
