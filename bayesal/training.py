"""One optimizer loop for every posterior that is trained by gradients. The number of steps is data, not structure."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bayesal import likelihoods
from bayesal.types import FitInfo, HParams, Key, Labeled, Likelihood, Network, PyTree

LossFn = Callable[[PyTree, Key, Array, Array, Array], Float[Array, ""]]


def sgd(
    key: Key, params: PyTree, loss: LossFn, labeled: Labeled, hparams: HParams, *, batch: int = 32
) -> tuple[PyTree, FitInfo]:
    """Minimize `loss(params, key, x [b, ...], y [b], count)` by Adam with decoupled weight decay and a cosine rate.

    Minibatches walk round and round one random order of the rows `< count`, so every row is used equally often, padding
    is never touched, and the result does not depend on the capacity. A non-finite loss, or a step to non-finite parameters, freezes
    the parameters at the last good step and is reported in `FitInfo.failed_at`.

    References:
      Kingma & Ba 2015; Loshchilov & Hutter 2019 (decoupled decay, cosine).
    """
    order_key, step_key = jax.random.split(key)
    order = _order(order_key, labeled)
    count = jnp.maximum(labeled.count, 1)
    adam = optax.scale_by_adam()
    steps = jnp.asarray(hparams.steps, jnp.int32)

    def step(i, carry):
        params, moments, _, failed_at = carry
        rows = order[(i * batch + jnp.arange(batch)) % count]
        value, grads = jax.value_and_grad(loss)(params, jax.random.fold_in(step_key, i), labeled.x[rows], labeled.y[rows], count)
        updates, new_moments = adam.update(grads, moments)
        rate = hparams.learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * i / jnp.maximum(steps, 1)))
        new_params = jax.tree.map(lambda p, u: (p - rate * (u + hparams.weight_decay * p)).astype(p.dtype), params, updates)
        finite = jax.tree.reduce(lambda ok, p: ok & jnp.isfinite(p).all(), new_params, jnp.isfinite(value))
        failed_at = jnp.where((failed_at < 0) & ~finite, i, failed_at)
        good = failed_at < 0
        params, moments = jax.tree.map(lambda new, old: jnp.where(good, new, old), (new_params, new_moments), (params, moments))
        return params, moments, value.astype(jnp.float32), failed_at

    start = (params, adam.init(params), jnp.float32(jnp.nan), jnp.int32(-1))
    params, _, value, failed_at = jax.lax.fori_loop(0, steps, step, start)
    return params, FitInfo(value, failed_at)


def _order(key: Key, labeled: Labeled) -> Array:
    """A random order of the rows `< count`, followed by the padding."""
    capacity = labeled.y.shape[0]
    return jnp.argsort(jnp.where(jnp.arange(capacity) < labeled.count, jax.random.uniform(key, (capacity,)), jnp.inf))


def nll(network: Network, rate: Any, likelihood: Likelihood = likelihoods.CATEGORICAL) -> LossFn:
    """Mean negative log-likelihood of a minibatch, in nats, with fresh dropout masks for every example."""

    def loss(params, key, x, y, count):
        del count
        keys = jax.random.split(key, x.shape[0])
        return jax.vmap(lambda xi, yi, k: likelihoods.loss(likelihood, network.apply(params, xi, k, rate), yi))(x, y, keys).mean()

    return loss


SHRINK, PERTURB = 0.5, 0.5  # shares of the old weights and of fresh ones in a warm beginning


def shrink_and_perturb(old: PyTree, fresh: PyTree) -> PyTree:
    """Where a warm fit begins: half of the weights found before, and half of a fresh initialization.

    Weights that simply go on from where they were generalize worse than fresh ones; shrunk and perturbed they do not, and keep what
    they have learned.

    References:
      Ash & Adams 2020, https://arxiv.org/abs/1910.08475

    >>> shrink_and_perturb({"w": jnp.array([2.0])}, {"w": jnp.array([1.0])})
    {'w': Array([1.5], dtype=float32)}
    """
    return jax.tree.map(lambda o, f: (SHRINK * o + PERTURB * f).astype(f.dtype), old, fresh)
