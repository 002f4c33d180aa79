"""Bayesian linear regression on given features, in closed form."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _maths, _shown, _training, errors
from bayesal.posteriors._heads import _layer
from bayesal.posteriors._heads._precision import vertex
from bayesal.posteriors._laplace._fisher import last_good
from bayesal.types import Array, FitInfo, Gaussian, HParams, Key, Labeled, Posterior

__all__ = ["linear"]

# ratios of the noise's variance to a weight's prior variance, tried from large to small
LOGS = np.linspace(np.log(1e6), np.log(1e-6), 121, dtype=np.float32)
MIDDLE, WIDTH = 0.0, 5.0  # of a weak normal prior on the logarithm
# the noise's variance, in units of the labels' own, is inverse-gamma: so many labels of this one
COUNT, VARIANCE = 3.0, 0.01


class Linear(NamedTuple):
    """A fitted linear regression.

    layer:  its weights, for labels in units of `unit` from `center`, their covariance being `noise`
      times the layer's own.
    center, unit: mean and standard deviation of the labels.
    noise:  variance of the noise, in those units.
    """

    layer: _layer.Layer
    center: Float[Array, ""]
    unit: Float[Array, ""]
    noise: Float[Array, ""]


class Labels(NamedTuple):
    """Labeled rows in the frame of their features: features, labels, and weights."""

    features: Float[Array, "M r"]
    y: Float[Array, " M"]
    weight: Float[Array, " M"]


@_shown.named
def linear(
    *, features: Callable[[Array], Array] | None = None, noise: float | None = None
) -> Posterior:
    """Bayesian linear regression on given features, in closed form. A draw is the weights `[D, 1]`.

    For real labels of embeddings, or of any vectors. Labels are centered and scaled by their own
    mean and deviation, features by one number for all, so units do not matter. The ratio of noise
    to prior variance maximizes the marginal likelihood, from which the noise is integrated out;
    the noise is its posterior mean. `HParams` count nothing. `posterior.marginal` is the mean and
    variance over all draws, and `posterior.online` takes up more labels exactly, with the units,
    the ratio and the noise of the last fit.

    Args:
      features: `x -> [D]` for one example; default: x as one vector.
      noise: standard deviation of the noise in the label's unit, if it is known.
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
    >>> posterior.marginal(state, jnp.array([10.0])).mean.round(0)
    Array(1000030., dtype=float32)
    """
    if noise is not None and not 0.0 < noise < float("inf"):
        raise errors.OutOfRange(
            "noise",
            f"`noise` is a standard deviation, positive and finite, got {noise!r}. Leave it out to "
            "have it found.",
        )

    of = _Of(features, noise)
    return Posterior(
        init=functools.partial(_init, of),
        fit=functools.partial(_fit, of),
        draw=_draw,
        apply=lambda state, draw, x: _head(state, draw, _trunk(of, state, x)),
        embed=lambda state, x: _trunk(of, state, x)[:-1],
        trunk=functools.partial(_trunk, of),
        head=_head,
        real=True,
        marginal=functools.partial(_marginal, of),
        online=functools.partial(_online, of),
        warm=lambda old, fresh: fresh,  # the solution is closed: nowhere to begin
        unused=HParams._fields,
    )


class _Of(NamedTuple):
    """What a factory was given."""

    features: Callable[[Array], Array] | None
    noise: float | None


def _init(of: _Of, key: Key, x: Any) -> Linear:
    del key
    width = jax.eval_shape(lambda: _layer.vector(of.features, x)).shape[0]
    one = jnp.float32(1.0)
    return Linear(_layer.empty(width, 1), center=jnp.float32(0.0), unit=one, noise=one)


def _fit(
    of: _Of, key: Key, state: Linear, labeled: Labeled, hparams: HParams
) -> tuple[Linear, FitInfo]:
    del key, hparams
    rows = _layer.rows_of(of.features, labeled)
    layer = _layer.placed(state.layer, rows)
    y, center, unit = standardized(labeled.y, rows.weight)
    at = _layer.seen(layer, rows.at)
    basis, energy = _layer.frame(jnp.sqrt(rows.weight)[:, None] * at)
    labels = Labels(at @ basis, y, rows.weight)
    given = None if of.noise is None else jnp.square(of.noise / unit)
    ratio, variance = settled(labels, energy, given)
    weights = solved(labels, energy, ratio)
    layer = _layer.known(layer, basis, energy)
    layer = layer._replace(mean=(basis @ weights)[:, None], precision=ratio)
    return _finished(Linear(layer, center, unit, variance), state, rows, labeled.y)


def _online(of: _Of, state: Linear, labeled: Labeled) -> tuple[Linear, FitInfo]:
    rows = _layer.rows_of(of.features, labeled)
    at = _layer.seen(state.layer, rows.at)
    layer = _layer.learned(state.layer, jnp.sqrt(rows.weight)[:, None] * at)
    y = jnp.where(rows.weight > 0, (labeled.y - state.center) / state.unit, 0.0)
    missed = rows.weight * (y - (at @ state.layer.mean)[:, 0])
    # the root is symmetric: twice is the covariance
    change = _layer.root(layer, _layer.root(layer, (at.T @ missed)[:, None]))
    layer = layer._replace(mean=state.layer.mean + change)
    return _finished(state._replace(layer=layer), state, rows, labeled.y)


def _draw(key: Key, state: Linear, num: int) -> Float[Array, "K D 1"]:
    zero = state.layer._replace(mean=jnp.zeros_like(state.layer.mean))
    return state.layer.mean + jnp.sqrt(state.noise) * _layer.draw(key, zero, num)


def _trunk(of: _Of, state: Linear, x: Any) -> Float[Array, " D"]:
    return _layer.seen(state.layer, _layer.vector(of.features, x))


def _head(state: Linear, draw: Float[Array, "D 1"], at: Float[Array, " D"]) -> Gaussian:
    return _labels_of(state, (at @ draw)[0])


def _marginal(of: _Of, state: Linear, x: Any) -> Gaussian:
    at = _trunk(of, state, x)
    found = _labels_of(state, (at @ state.layer.mean)[0])
    return found._replace(variance=found.variance * (1.0 + _layer.spread(state.layer, at)))


def _labels_of(state: Linear, output: Float[Array, ""]) -> Gaussian:
    return Gaussian(state.center + state.unit * output, jnp.square(state.unit) * state.noise)


def standardized(
    y: Float[Array, " M"], weight: Float[Array, " M"]
) -> tuple[Float[Array, " M"], Float[Array, ""], Float[Array, ""]]:
    """Labels in units of their deviation from their mean, and both; 0 where the weight is 0."""
    there = weight > 0
    y = jnp.where(there, y, 0.0).astype(jnp.float32)
    # from a first label: means of large numbers lose what tells them apart
    first = y[jnp.argmax(there)]
    apart = jnp.where(there, y - first, 0.0)
    mean = _training.weighted_mean(apart, weight)
    deviation = jnp.sqrt(_training.weighted_mean(jnp.square(apart - mean), weight))
    unit = jnp.where(deviation > 0, deviation, 1.0)
    return jnp.where(there, (apart - mean) / unit, 0.0), first + mean, unit


def solved(labels: Labels, energy: Float[Array, " r"], ratio: Array) -> Float[Array, " r"]:
    """The most probable weights in the frame, where every direction is solved alone."""
    return (labels.features.T @ (labels.weight * labels.y)) / (energy + ratio)


@_maths.precise
def settled(
    labels: Labels, energy: Float[Array, " r"], noise: Float[Array, ""] | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The ratio of noise to prior variance, and the noise's variance."""

    def look(log):
        missed, size = _misfit(labels, energy, jnp.exp(log))
        return _evidence(missed, size, labels.weight.sum(), noise)

    logs = jnp.asarray(LOGS)
    values = jax.vmap(look)(logs) - 0.5 * jnp.square((logs - MIDDLE) / WIDTH)
    best = jnp.argmax(values)
    ratio = jnp.exp(LOGS[0] + (LOGS[1] - LOGS[0]) * (best + vertex(-values, best)))
    if noise is not None:
        return ratio, noise
    missed, _ = _misfit(labels, energy, ratio)
    mean = (COUNT * VARIANCE + missed) / (COUNT + labels.weight.sum() - 2.0)
    return ratio, mean


def _misfit(
    labels: Labels, energy: Float[Array, " r"], ratio: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What labels and prior miss at the most probable weights, in units of the noise's variance;
    and the logarithm of how much narrower the weights are than before the labels.
    """
    weights = solved(labels, energy, ratio)
    errors = jnp.square(labels.y - labels.features @ weights)
    missed = jnp.sum(labels.weight * errors) + ratio * jnp.sum(jnp.square(weights))
    return missed, jnp.sum(jnp.log1p(energy / ratio))


def _evidence(
    missed: Array, size: Array, count: Array, noise: Float[Array, ""] | None
) -> Float[Array, ""]:
    """Log marginal likelihood of the labels up to a constant, in nats."""
    if noise is not None:
        return -0.5 * (size + missed / noise)
    return -0.5 * (size + (COUNT + count) * jnp.log(COUNT * VARIANCE + missed))


def _finished(
    found: Linear, before: Linear, rows: _layer.Rows, y: Float[Array, " M"]
) -> tuple[Linear, FitInfo]:
    at = _layer.seen(found.layer, rows.at)
    outputs = found.center + found.unit * (at @ found.layer.mean)[:, 0]
    variance = jnp.square(found.unit) * found.noise
    errors = jnp.where(rows.weight > 0, jnp.square(jnp.where(rows.weight > 0, y, 0) - outputs), 0)
    mean = _training.weighted_mean(errors, rows.weight)
    loss = 0.5 * (mean / variance + jnp.log(2 * jnp.pi * variance))
    return last_good(found, before, FitInfo(loss, jnp.int32(-1)), HParams(steps=0))
