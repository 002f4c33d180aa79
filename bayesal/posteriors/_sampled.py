"""Shared parts of the samplers: the energy of parameters, and posteriors of S parameter sets."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import errors, likelihoods
from bayesal._training import LossFn
from bayesal.networks._embedded import embedded
from bayesal.posteriors._usable import WITH_A_PRIOR
from bayesal.posteriors._variational import nll, prior_std
from bayesal.types import Array, Key, Likelihood, Network, Posterior, PyTree


def prior_energy(params: PyTree, scale: Any) -> Float[Array, ""]:
    """Minus the log-density of the prior (see `prior_std`), in nats, up to a constant.

    >>> # each of the four has standard deviation 1/2
    >>> prior_energy({"kernel": jnp.ones((4, 1))}, 1.0)
    Array(8., dtype=float32)
    """
    each = jax.tree.map(lambda p: 0.5 * jnp.sum(jnp.square(p / prior_std(p, scale))), params)
    return jax.tree.reduce(jnp.add, each)


def energy_per_label(
    network: Network,
    scale: Any,
    likelihood: Likelihood = likelihoods.CATEGORICAL,
    temperature: float = 1.0,
) -> LossFn:
    """Minus the log-density of the posterior, times `temperature` over the labels' total weight,
    estimated on a minibatch; the likelihood to the power 1/temperature.
    """

    def loss(params, key, batch):
        del key
        prior = temperature * prior_energy(params, scale) / batch.total
        return nll(network, params, batch, likelihood) + prior

    return loss


def copies(params: PyTree, num: int) -> PyTree:
    """The same parameters `num` times, every leaf `[num, ...]`: the state before the first fit."""
    return jax.tree.map(lambda a: jnp.repeat(a[None], num, axis=0), params)


def pick(key: Key, samples: PyTree, num: int, more: str) -> PyTree:
    """Pick `num` different samples of S, evenly spaced; the key shifts them.

    Samples lie along the leading axis of every leaf. All S are returned in their order.

    Args:
      more: what to change for more samples, for the error.
    Raises:
      WrongSize: there are not as many samples.

    >>> pick(jax.random.key(0), jnp.arange(4), 4, "")
    Array([0, 1, 2, 3], dtype=int32)
    """
    held = jax.tree.leaves(samples)[0].shape[0]
    if num > held:
        raise errors.WrongSize(
            "num_draws",
            f"`num_draws` ({num}) exceeds the {held} samples of this posterior: pass "
            f"num_draws={held} or fewer, or {more}.",
        )
    rows = (jnp.arange(num) * held + jax.random.randint(key, (), 0, held)) // num
    return jax.tree.map(lambda a: a[rows], samples)


def of_samples(
    network: Network,
    init: Any,
    fit: Any,
    more: str,
    likelihood: Likelihood,
    warm: Any,
    *unused: str,
) -> Posterior:
    """The posterior whose draws are whole networks out of `state.params`; features are those of the
    last sample. Their prior takes the place of weight decay, dropout and label smoothing.
    """

    def draw(key, state, num):
        return pick(key, state.params, num, more)

    def apply(state, draw, x):
        del state
        return likelihood.predict(network.apply(draw, x, None, 0.0))

    return Posterior(
        init,
        fit,
        draw,
        apply,
        embedded(network, lambda state: jax.tree.map(lambda a: a[-1], state.params)),
        real=likelihood.real,
        warm=warm,
        likelihood=likelihood,
        unused=(*WITH_A_PRIOR, *unused),
    )
