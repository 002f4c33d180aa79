"""Likelihoods (from network outputs to predictions) and arithmetic of predictions.

A likelihood is one function from outputs to a prediction: log-probabilities of classes, a normal,
or a mixture of normals. Functions of a prediction refuse fields of unequal shapes, variances of 0
or less and weights or probabilities that do not sum to 1; NaN stays NaN.
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
from bayesal.types import (
    Array,
    ArrayLike,
    Gaussian,
    Likelihood,
    Mixture,
    Posterior,
    Prediction,
    PyTree,
    Scaling,
)

__all__ = [
    "categorical",
    "gaussian",
    "mixture",
    "variance_parts",
]

FLOOR = 1e-6  # of a variance, in units of scale^2


def loss(likelihood: Likelihood, outputs: Array, y: Array) -> Array:
    """Negative log-likelihood of one label, in nats.

    >>> loss(categorical(), jnp.zeros(2), jnp.array(1)).round(4)
    Array(0.6931, dtype=float32)
    """
    return -log_likelihood(likelihood.predict(outputs), y)


def judged(prediction: Prediction, y: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Negative log-likelihood of labels under the average of all draws (axis 0), in nats.

    >>> judged(jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]]))[:, None], jnp.array([0])).round(4)
    Array([0.5108], dtype=float32)
    """
    if is_soft(prediction, y):  # the cross-entropy of the average, not the average's logarithm
        return -log_likelihood(average(prediction), y)
    return -_maths.log_mean_exp(log_likelihood(prediction, y))


def categorical(*, soft: bool = False) -> Likelihood:
    """Likelihood of classes: outputs are logits, one per class.

    Args:
      soft: labels are distributions over the classes, rows `[C]` of at least 0 that sum to 1. The
        loss is the cross-entropy `-sum_c y_c log p_c`.

    >>> categorical().predict(jnp.zeros(2)).round(4)
    Array([-0.6931, -0.6931], dtype=float32)
    >>> loss(categorical(soft=True), jnp.zeros(2), jnp.array([0.25, 0.75])).round(4)
    Array(0.6931, dtype=float32)
    """
    return SOFT if soft else CATEGORICAL


def _classes(outputs):
    if outputs.ndim != 1:
        raise errors.WrongShape(
            "network",
            "`network` must give logits [C] for one example, got outputs of shape "
            f"{outputs.shape}. Modules are called with a batch of one and give [1, C]; functions "
            "of your own are called with one example, without a batch axis.",
        )
    return jax.nn.log_softmax(outputs)


CATEGORICAL = Likelihood(
    _classes,
    blank=lambda capacity, classes: jnp.zeros(capacity, jnp.int32),
    check=lambda labels, count, classes: _checks.labels(labels, classes, count, rejected=True),
    strata=lambda y: y,
)
SOFT = Likelihood(
    _classes,
    blank=lambda capacity, classes: jnp.zeros((capacity, classes), jnp.float32),
    check=lambda labels, count, classes: _checks.distributions(labels, classes, count),
    strata=lambda y: jnp.argmax(y, axis=-1),
)
NUMBERS = Likelihood(
    _classes,  # replaced by a prediction of numbers
    real=True,
    blank=lambda capacity, classes: jnp.zeros(capacity, jnp.float32),
    check=lambda labels, count, classes: _checks.real_labels(labels, count),
    strata=lambda y: y,
)


def labels_of(posterior: Posterior) -> Likelihood:
    """The likelihood whose `blank`, `check` and `strata` describe a posterior's labels: its own, or
    that of classes or real numbers where it has none.
    """
    own, usual = posterior.likelihood, NUMBERS if posterior.real else CATEGORICAL
    if own is None:
        return usual
    return own._replace(
        blank=own.blank or usual.blank,
        check=own.check or usual.check,
        strata=own.strata or usual.strata,
    )


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


def gaussian(
    *, noise_std: float | None = None, center: float | None = None, scale: float | None = None
) -> Likelihood:
    """Likelihood of a real number with normal noise: outputs are mean and raw variance.

    A softplus makes the variance of the second output (heteroscedastic noise). With `noise_std` the
    network has one output, the mean. For learned noise that is the same everywhere
    (homoscedastic), wrap the network: `networks.shared_noise(network)`.

    Posteriors standardize the labels of each fit: outputs of order 1 fit labels of any unit, and
    predictions are in the label's unit. Center and scale fix that unit beforehand.

    Args:
      noise_std: standard deviation of the noise, in the label's unit, if it is known.
      center, scale: expected mean and standard deviation of the labels. By default those of the
        labels of each fit; where only one is given, the other is 0 or 1.
    References:
      Nix & Weigend 1994; Lakshminarayanan et al. 2017, section 2.2.1,
      https://arxiv.org/abs/1612.01474

    >>> gaussian(noise_std=0.5, center=10.0, scale=2.0).predict(jnp.array([1.0]))
    Gaussian(mean=Array(12., dtype=float32), variance=Array(0.25, dtype=float32))
    """
    if noise_std is not None:
        _positive(noise_std, "noise_std")
    given = _unit(center, scale)
    likelihood = _gaussian(noise_std, *given)
    if center is not None or scale is not None:
        return likelihood
    if noise_std is None:
        return likelihood._replace(standard=likelihood)
    return likelihood._replace(standard=lambda scale: _gaussian(noise_std / scale, *given))


def _gaussian(noise_std: Any, center: float, scale: float) -> Likelihood:
    def predict(outputs):
        _sized(outputs, 2 if noise_std is None else 1)
        mean = center + scale * outputs[0]
        variance = _variance(outputs[1], scale) if noise_std is None else jnp.square(noise_std)
        return Gaussian(mean, jnp.broadcast_to(jnp.asarray(variance, mean.dtype), mean.shape))

    return NUMBERS._replace(predict=predict, outputs=2 if noise_std is None else 1)


def mixture(
    components: int, *, center: float | None = None, scale: float | None = None
) -> Likelihood:
    """Likelihood of a real number by a mixture of J normals (a mixture-density head).

    Outputs are J logits of weights, J means and J raw variances. Means start evenly spaced from -1
    to 1 in units of `scale`, because components that start equal stay equal.

    Args:
      components: J, at most 10,000; the network needs 3 J outputs.
      center, scale: see `gaussian`.
    References:
      Bishop 1994; Choi et al. 2018, https://arxiv.org/abs/1709.02249 (its split of the variance:
      `variance_parts`)

    >>> mixture(2).predict(jnp.zeros(6)).mean
    Array([-1.,  1.], dtype=float32)
    """
    components = _checks.at_least(1, components, "components", most=10_000)
    middle, unit = _unit(center, scale)
    apart = jnp.linspace(-1.0, 1.0, components) if components > 1 else jnp.zeros(1)

    def predict(outputs):
        _sized(outputs, 3 * components)
        weight, mean, raw = outputs.reshape(3, components)
        return Mixture(
            jax.nn.log_softmax(weight), middle + unit * (apart + mean), _variance(raw, unit)
        )

    likelihood = NUMBERS._replace(predict=predict, outputs=3 * components)
    fixed = center is not None or scale is not None
    return likelihood if fixed else likelihood._replace(standard=likelihood)


def _unit(center: float | None, scale: float | None) -> tuple[float, float]:
    """Center and scale with what is not given filled in."""
    scale = 1.0 if scale is None else scale
    _positive(scale, "scale")
    return 0.0 if center is None else center, scale


def _variance(raw, scale):
    return scale**2 * (jax.nn.softplus(raw) + FLOOR)


def _positive(value, name):
    if not (value > 0 and value < float("inf")):
        raise errors.WrongSize(name, f"`{name}` must be positive and finite, got {value!r}.")


def _sized(outputs, wanted):
    if outputs.shape != (wanted,):
        raise errors.WrongShape(
            "network",
            f"`network` must have {wanted} outputs for this likelihood, got outputs of shape "
            f"{outputs.shape} for one example. Build it as in `networks.mlp(inputs, {wanted})`.",
        )


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


def __dir__() -> list[str]:
    return __all__
