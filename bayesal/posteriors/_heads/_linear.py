"""Bayesian linear regression on given features, in closed form."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _maths, _shown, _training, errors, likelihoods
from bayesal.posteriors._heads import _layer
from bayesal.posteriors._heads._precision import vertex
from bayesal.posteriors._laplace._fisher import last_good
from bayesal.posteriors._standardized import in_standard_units
from bayesal.types import Array, FitInfo, Gaussian, HParams, Key, Labeled, Posterior

__all__ = ["linear"]

# ratios of the noise's variance to a weight's prior variance, tried from large to small
LOGS = np.linspace(np.log(1e6), np.log(1e-6), 121, dtype=np.float32)
MIDDLE, WIDTH = 0.0, 5.0  # of a weak normal prior on the logarithm
# the noise's variance, in units of the labels' own, is inverse-gamma: so many labels of this one
COUNT, VARIANCE = 3.0, 0.01
TINY = 1e-15  # of a noise: its square has to fit float32


class Linear(NamedTuple):
    """A fitted linear regression, for labels in standard units.

    layer: its weights, their covariance being `noise_variance` times the layer's own.
    noise_variance: in those units, squared.
    """

    layer: _layer.Layer
    noise_variance: Float[Array, ""]


class RealLabels(NamedTuple):
    """Labeled rows in the frame of their features: features, labels, and weights."""

    features: Float[Array, "M r"]
    y: Float[Array, " M"]
    weight: Float[Array, " M"]


@_shown.named
def linear(
    *, features: Callable[[Array], Array] | None = None, noise_std: float | None = None
) -> Posterior:
    """Bayesian linear regression on given features, in closed form. A draw is the weights `[D, 1]`.

    For real labels of embeddings, or of any vectors. Labels are standardized by each fit, features
    centered and scaled by one number for all, so units do not matter. The ratio of noise to prior
    variance maximizes the marginal likelihood, from which the noise is integrated out; the noise is
    its posterior mean. A weak prior on the logarithm of the ratio and three pseudo-labels of
    variance .01 (in units of the labels' own) decide where labels say little. `HParams` count
    nothing. `posterior.marginal` is the mean and variance over all draws, and `posterior.online`
    takes up more labels exactly, with the units, the ratio and the noise of the last fit. Exact up
    to 4,096 features or labels; with more of both, variances are too wide. `online` is
    refused above 4,096 features.

    Args:
      features: `x -> [D]` for one example; default: x as one vector.
      noise_std: standard deviation of the noise in the label's unit, if it is known.
    Raises:
      OutOfRange: a noise that is not positive and finite.
    References:
      Murphy 2012, section 7.6; MacKay 1992, Bayesian interpolation

    >>> from bayesal.types import Labeled
    >>> posterior = linear()
    >>> state = posterior.init(jax.random.key(0), jnp.zeros(1))
    >>> x = jnp.arange(8.0)[:, None]
    >>> data = Labeled(x, 1e6 + 3.0 * x[:, 0], jnp.int32(8))
    >>> state, info = posterior.fit(jax.random.key(1), state, data, HParams())
    >>> round(float(posterior.marginal(state, jnp.array([10.0])).mean))
    1000030
    """
    number = noise_std is None or isinstance(noise_std, int | float | np.number)
    if not number or (noise_std is not None and not TINY < noise_std < 1.0 / TINY):
        raise errors.OutOfRange(
            "noise_std",
            f"`noise_std` must be positive and finite, got {noise_std!r}. Leave it out to "
            "have it found.",
        )

    numbers = likelihoods.NUMBERS
    at = None if noise_std is None else lambda scale: _posterior(features, noise_std / scale)
    found = in_standard_units(_posterior(features, noise_std), at)
    return found._replace(likelihood=numbers._replace(standard=numbers))


def _posterior(features: Callable[[Array], Array] | None, noise_std: Any) -> Posterior:
    """Of labels in standard units."""
    return Posterior(
        init=functools.partial(_init, features),
        fit=functools.partial(_fit, features, noise_std),
        draw=_draw,
        apply=lambda state, draw, x: _head(state, draw, _trunk(features, state, x)),
        embed=lambda state, x: _trunk(features, state, x)[:-1],
        trunk=functools.partial(_trunk, features),
        head=_head,
        real=True,
        marginal=functools.partial(_marginal, features),
        online=functools.partial(_online, features),
        warm=lambda old, fresh: fresh,  # the solution is closed: nowhere to begin
        unused=HParams._fields,
        scales=True,
    )


def _init(features: Callable | None, key: Key, x: Any) -> Linear:
    del key
    width = jax.eval_shape(lambda: _layer.vector(features, x)).shape[0]
    return Linear(_layer.empty(width, 1), noise_variance=jnp.float32(1.0))


def _fit(
    features: Callable | None,
    noise_std: Any,
    key: Key,
    state: Linear,
    labeled: Labeled,
    hparams: HParams,
) -> tuple[Linear, FitInfo]:
    del key, hparams
    rows = _layer.rows_of(features, labeled)
    layer = _layer.placed(state.layer, rows)
    at = _layer.seen(layer, rows.at)
    basis, energy = _layer.frame(jnp.sqrt(rows.weight)[:, None] * at)
    labels = RealLabels(at @ basis, _there(labeled.y, rows), rows.weight)
    ratio, variance = settled(labels, energy, None if noise_std is None else jnp.square(noise_std))
    weights = solved(labels, energy, ratio)
    layer = _layer.known(layer, basis, energy)
    layer = layer._replace(mean=(basis @ weights)[:, None], precision=ratio)
    return _finished(Linear(layer, variance), state, rows, labeled.y)


def _online(features: Callable | None, state: Linear, labeled: Labeled) -> tuple[Linear, FitInfo]:
    rows = _layer.rows_of(features, labeled)
    _layer.exact(state.layer)
    at = _layer.seen(state.layer, rows.at)
    layer = _layer.learned(state.layer, jnp.sqrt(rows.weight)[:, None] * at)
    missed = rows.weight * (_there(labeled.y, rows) - (at @ state.layer.mean)[:, 0])
    # the root is symmetric: twice is the covariance
    change = _layer.root(layer, _layer.root(layer, (at.T @ missed)[:, None]))
    layer = layer._replace(mean=state.layer.mean + change)
    return _finished(state._replace(layer=layer), state, rows, labeled.y)


def _there(y: Float[Array, " M"], rows: _layer.Rows) -> Float[Array, " M"]:
    return jnp.where(rows.weight > 0, y, 0.0).astype(jnp.float32)


def _draw(key: Key, state: Linear, num: int) -> Float[Array, "K D 1"]:
    zero = state.layer._replace(mean=jnp.zeros_like(state.layer.mean))
    return state.layer.mean + jnp.sqrt(state.noise_variance) * _layer.draw(key, zero, num)


def _trunk(features: Callable | None, state: Linear, x: Any) -> Float[Array, " D"]:
    return _layer.seen(state.layer, _layer.vector(features, x))


def _head(state: Linear, draw: Float[Array, "D 1"], at: Float[Array, " D"]) -> Gaussian:
    return Gaussian((at @ draw)[0], state.noise_variance)


def _marginal(features: Callable | None, state: Linear, x: Any) -> Gaussian:
    at = _trunk(features, state, x)
    function = state.noise_variance * _layer.spread(state.layer, at)
    return Gaussian((at @ state.layer.mean)[0], state.noise_variance + function)


def solved(labels: RealLabels, energy: Float[Array, " r"], ratio: Array) -> Float[Array, " r"]:
    """The most probable weights in the frame, where every direction is solved alone."""
    return (labels.features.T @ (labels.weight * labels.y)) / (energy + ratio)


@_maths.precise
def settled(
    labels: RealLabels, energy: Float[Array, " r"], noise_variance: Float[Array, ""] | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The ratio of noise to prior variance, and the noise's variance."""

    def look(log):
        missed, size = _misfit(labels, energy, jnp.exp(log))
        return _evidence(missed, size, labels.weight.sum(), noise_variance)

    logs = jnp.asarray(LOGS)
    values = jax.vmap(look)(logs) - 0.5 * jnp.square((logs - MIDDLE) / WIDTH)
    best = jnp.argmax(values)
    ratio = jnp.exp(LOGS[0] + (LOGS[1] - LOGS[0]) * (best + vertex(-values, best)))
    if noise_variance is not None:
        return ratio, noise_variance
    missed, _ = _misfit(labels, energy, ratio)
    mean = (COUNT * VARIANCE + missed) / (COUNT + labels.weight.sum() - 2.0)
    return ratio, mean


def _misfit(
    labels: RealLabels, energy: Float[Array, " r"], ratio: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What labels and prior miss at the most probable weights, in units of the noise's variance;
    and the logarithm of how much narrower the weights are than before the labels.
    """
    weights = solved(labels, energy, ratio)
    squares = jnp.square(labels.y - labels.features @ weights)
    missed = jnp.sum(labels.weight * squares) + ratio * jnp.sum(jnp.square(weights))
    return missed, jnp.sum(jnp.log1p(energy / ratio))


def _evidence(
    missed: Array, size: Array, count: Array, noise_variance: Float[Array, ""] | None
) -> Float[Array, ""]:
    """Log marginal likelihood of the labels up to a constant, in nats."""
    if noise_variance is not None:
        return -0.5 * (size + missed / noise_variance)
    return -0.5 * (size + (COUNT + count) * jnp.log(COUNT * VARIANCE + missed))


def _finished(
    found: Linear, before: Linear, rows: _layer.Rows, y: Float[Array, " M"]
) -> tuple[Linear, FitInfo]:
    outputs = (_layer.seen(found.layer, rows.at) @ found.layer.mean)[:, 0]
    squares = jnp.where(rows.weight > 0, jnp.square(_there(y, rows) - outputs), 0.0)
    mean = _training.weighted_mean(squares, rows.weight)
    loss = 0.5 * (mean / found.noise_variance + jnp.log(2 * jnp.pi * found.noise_variance))
    return last_good(found, before, FitInfo(loss, jnp.int32(-1)), HParams(steps=0))
