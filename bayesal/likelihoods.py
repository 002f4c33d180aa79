"""What a network's outputs mean: one function from outputs to a prediction each."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bayesal import checks, predictions
from bayesal.types import Gaussian, Likelihood, Mixture

# no variance is smaller than this, in units of `scale` squared: a net that hits its labels exactly
# has no finite loss
FLOOR = 1e-6


def loss(likelihood: Likelihood, outputs: Array, y: Array) -> Array:
    """Negative log-likelihood of one label, in nats.

    >>> loss(categorical(), jnp.zeros(2), jnp.array(1)).round(4)
    Array(0.6931, dtype=float32)
    """
    return -predictions.log_likelihood(likelihood.predict(outputs), y)


def smoothed(likelihood: Likelihood, outputs: Array, y: Array, share: Any) -> Array:
    """`loss`, when a share of the label's mass is spread evenly over all classes; real labels stay
    as they are. For training, never for judging.

    It is least where the predicted probabilities are `(1 - share) onehot(y) + share / C`: a net is
    not driven to be surer than that.

    References:
      Szegedy et al. 2016, section 7, https://arxiv.org/abs/1512.00567

    >>> # the entropy of (0.95, 0.05)
    >>> round(
    ...     float(smoothed(categorical(), jnp.log(jnp.array([0.95, 0.05])), jnp.array(0), 0.1)), 4
    ... )
    0.1985
    """
    predicted = likelihood.predict(outputs)
    plain = -predictions.log_likelihood(predicted, y)
    if likelihood.real:
        return plain
    everywhere = -jnp.mean(predicted)
    return jnp.where(
        share > 0, (1.0 - share) * plain + share * everywhere, plain
    )  # a class may be impossible: 0 * inf


def categorical() -> Likelihood:
    """Classes: the outputs are logits, one per class.

    >>> categorical().predict(jnp.zeros(2)).round(4)
    Array([-0.6931, -0.6931], dtype=float32)
    """
    return CATEGORICAL


def _classes(outputs):
    if outputs.ndim != 1:
        raise checks.WrongShape(
            "network",
            "a network of classes gives logits [C] for one example, and got outputs of "
            f"shape {outputs.shape}. A module is called with a batch of one and must "
            "give [1, C]; functions of your own are called with one example, without a batch axis.",
        )
    return jax.nn.log_softmax(outputs)


CATEGORICAL = Likelihood(_classes)


def gaussian(*, noise: float | None = None, center: float = 0.0, scale: float = 1.0) -> Likelihood:
    """A real number with normal noise: the outputs are its mean and, through a softplus, its
    variance (heteroscedastic).

    With `noise` there is one output, the mean, and the noise is known. For noise that is learned
    but the same everywhere (homoscedastic), wrap the network: `networks.shared_noise(network)`.

    Args:
      noise: standard deviation of the noise, in the label's unit, if it is known.
      center, scale: mean and standard deviation of the labels to expect: outputs of order 1 then
        mean labels of their order.
    References:
      Nix & Weigend 1994; Lakshminarayanan et al. 2017, section 2.2.1,
      https://arxiv.org/abs/1612.01474

    >>> gaussian(noise=0.5, center=10.0, scale=2.0).predict(jnp.array([1.0]))
    Gaussian(mean=Array(12., dtype=float32), variance=Array(0.25, dtype=float32))
    """
    _positive(scale, "scale")
    if noise is not None:
        _positive(noise, "noise")

    def predict(outputs):
        _sized(outputs, 2 if noise is None else 1)
        mean = center + scale * outputs[0]
        return Gaussian(
            mean, _variance(outputs[1], scale) if noise is None else jnp.full_like(mean, noise**2)
        )

    return Likelihood(predict, 2 if noise is None else 1, real=True)


def mixture(components: int, *, center: float = 0.0, scale: float = 1.0) -> Likelihood:
    """A real number whose density is a mixture of normals: J logits of weights, J means, J
    variances (a mixture-density head).

    The means stand apart from the start, evenly from -1 to 1 in units of `scale`: heads that begin
    as copies stay copies.

    Args:
      components: J; the network needs 3 J outputs.
      center, scale: see `gaussian`.
    References:
      Bishop 1994; Choi et al. 2018, https://arxiv.org/abs/1709.02249 (its split of the variance:
      `predictions.decompose`)

    >>> mixture(2).predict(jnp.zeros(6)).mean
    Array([-1.,  1.], dtype=float32)
    """
    components = checks.at_least(1, components, "components")
    _positive(scale, "scale")
    apart = jnp.linspace(-1.0, 1.0, components) if components > 1 else jnp.zeros(1)

    def predict(outputs):
        _sized(outputs, 3 * components)
        weight, mean, raw = outputs.reshape(3, components)
        return Mixture(
            jax.nn.log_softmax(weight), center + scale * (apart + mean), _variance(raw, scale)
        )

    return Likelihood(predict, 3 * components, real=True)


def _variance(raw, scale):
    return scale**2 * (jax.nn.softplus(raw) + FLOOR)


def _positive(value, name):
    if not (value > 0 and value < float("inf")):
        raise checks.WrongSize(name, f"`{name}` must be positive and finite, got {value!r}.")


def _sized(outputs, wanted):
    if outputs.shape != (wanted,):
        raise checks.WrongShape(
            "network",
            f"this likelihood needs a network of {wanted} outputs for one example, and got "
            f"outputs of shape {outputs.shape}. Build it with "
            f"{wanted} outputs, as in `networks.mlp(inputs, {wanted})`.",
        )
