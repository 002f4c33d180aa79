"""Likelihoods: one function from network outputs to a prediction, and what labels look like."""

from typing import Any

import jax
import jax.numpy as jnp

from bayesal import _checks, errors
from bayesal.likelihoods._predictions import log_likelihood
from bayesal.types import Array, Gaussian, Likelihood, Mixture, Posterior

FLOOR = 1e-6  # of a variance, in units of scale^2


def loss(likelihood: Likelihood, outputs: Array, y: Array) -> Array:
    """Negative log-likelihood of one label, in nats.

    >>> loss(categorical(), jnp.zeros(2), jnp.array(1)).round(4)
    Array(0.6931, dtype=float32)
    """
    return -log_likelihood(likelihood.predict(outputs), y)


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
