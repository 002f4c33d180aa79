"""One optimizer loop for every posterior that is trained by gradients. The number of steps is data,
not structure.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bayesal import likelihoods
from bayesal.types import FitInfo, HParams, Key, Labeled, Likelihood, Network, PyTree

LossFn = Callable[[PyTree, Key, Array, Array, Array], Float[Array, ""]]
ObserveFn = Callable[[PyTree, Array, PyTree], PyTree]


class Rule(NamedTuple):
    """How a gradient moves the parameters.

    init: `(params) -> memory`, what the rule keeps from step to step.
    move: `(key, i, grads, params, memory) -> (params, memory)` at step `i`; `key` is for noise.
    """

    init: Callable[[PyTree], PyTree]
    move: Callable[[Key, Array, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]


def cosine(hparams: HParams) -> Callable[[Array], Float[Array, ""]]:
    """The learning rate of step `i`: linearly from 0 to its peak, then along a cosine to
    `final_rate` of it.

    >>> rate = cosine(HParams(learning_rate=8.0, steps=8, warmup=0.5, final_rate=0.25))
    >>> [round(float(rate(i)), 2) for i in range(9)]
    [0.0, 2.0, 4.0, 6.0, 8.0, 7.12, 5.0, 2.88, 2.0]
    """
    steps = jnp.maximum(hparams.steps, 1)
    rising = hparams.warmup * steps

    def rate(i):
        fall = 0.5 * (1.0 + jnp.cos(jnp.pi * (i - rising) / (steps - rising)))
        share = jnp.where(
            i < rising,
            i / jnp.maximum(rising, 1.0),
            hparams.final_rate + (1.0 - hparams.final_rate) * fall,
        )
        return hparams.learning_rate * share

    return rate


def adam(rate: Callable[[Array], Float[Array, ""]], decay: Any) -> Rule:
    """Adam with decoupled weight decay (per unit of the rate), at the rate `rate(i)`.

    References:
      Kingma & Ba 2015; Loshchilov & Hutter 2019.
    """
    scaled = optax.scale_by_adam()

    def move(key, i, grads, params, memory):
        del key
        updates, memory = scaled.update(grads, memory)
        return jax.tree.map(
            lambda p, u: (p - rate(i) * (u + decay * p)).astype(p.dtype), params, updates
        ), memory

    return Rule(scaled.init, move)


def sgd(
    key: Key, params: PyTree, loss: LossFn, labeled: Labeled, hparams: HParams, *, batch: int = 32
) -> tuple[PyTree, FitInfo]:
    """Minimize `loss(params, key, x [b, ...], y [b], count)` by Adam with decoupled weight decay,
    at the rate of `cosine`: see `walk`.
    """
    params, _, info = walk(
        key,
        params,
        loss,
        labeled,
        hparams.steps,
        adam(cosine(hparams), hparams.weight_decay),
        batch=batch,
    )
    return params, info


def walk(
    key: Key,
    params: PyTree,
    loss: LossFn,
    labeled: Labeled,
    steps: Any,
    rule: Rule,
    *,
    batch: int = 32,
    observe: ObserveFn = lambda seen, i, params: seen,
    seen: PyTree = (),
) -> tuple[PyTree, PyTree, FitInfo]:
    """Follow the gradients of `loss(params, key, x [b, ...], y [b], count)` by a rule; returns the
    last parameters and what was seen.

    Minibatches walk round and round one random order of the rows `< count`, so every row is used
    equally often, padding is never touched, and the result does not depend on the capacity. A
    non-finite loss, or a step to non-finite parameters, freezes the parameters at the last good
    step and is reported in `FitInfo.failed_at`.

    Args:
      steps: how many, a number or a traced one.
      observe: `(seen, i, params) -> seen`, called after each step with the parameters kept, for
        moments and snapshots of the path; after a failure it goes on seeing the last good ones.
      seen: what `observe` begins with.
    """
    order_key, loss_key, move_key = jax.random.split(key, 3)
    order = _order(order_key, labeled)
    count = jnp.maximum(labeled.count, 1)

    def step(i, carry):
        params, memory, seen, _, failed_at = carry
        rows = order[(i * batch + jnp.arange(batch)) % count]
        value, grads = jax.value_and_grad(loss)(
            params, jax.random.fold_in(loss_key, i), labeled.x[rows], labeled.y[rows], count
        )
        moved = rule.move(jax.random.fold_in(move_key, i), i, grads, params, memory)
        finite = jax.tree.reduce(
            lambda ok, p: ok & jnp.isfinite(p).all(), moved[0], jnp.isfinite(value)
        )
        failed_at = jnp.where((failed_at < 0) & ~finite, i, failed_at)
        params, memory = jax.tree.map(
            lambda new, old: jnp.where(failed_at < 0, new, old), moved, (params, memory)
        )
        return params, memory, observe(seen, i, params), value.astype(jnp.float32), failed_at

    start = (params, rule.init(params), seen, jnp.float32(jnp.nan), jnp.int32(-1))
    params, _, seen, value, failed_at = jax.lax.fori_loop(
        0, jnp.asarray(steps, jnp.int32), step, start
    )
    return params, seen, FitInfo(value, failed_at)


def _order(key: Key, labeled: Labeled) -> Array:
    """A random order of the rows `< count`, followed by the padding."""
    capacity = labeled.y.shape[0]
    return jnp.argsort(
        jnp.where(
            jnp.arange(capacity) < labeled.count, jax.random.uniform(key, (capacity,)), jnp.inf
        )
    )


def nll(
    network: Network,
    rate: Any,
    likelihood: Likelihood = likelihoods.CATEGORICAL,
    smoothing: Any = 0.0,
) -> LossFn:
    """Mean negative log-likelihood of a minibatch, in nats, with fresh dropout masks for every
    example.

    Args:
      rate: of dropout.
      smoothing: of the labels: see `likelihoods.smoothed`.
    """

    def loss(params, key, x, y, count):
        del count
        keys = jax.random.split(key, x.shape[0])
        return jax.vmap(
            lambda xi, yi, k: likelihoods.smoothed(
                likelihood, network.apply(params, xi, k, rate), yi, smoothing
            )
        )(x, y, keys).mean()

    return loss


SHRINK, PERTURB = 0.5, 0.5  # shares of the old weights and of fresh ones in a warm beginning


def shrink_and_perturb(old: PyTree, fresh: PyTree) -> PyTree:
    """Where a warm fit begins: half of the weights found before, and half of a fresh
    initialization.

    Weights that simply go on from where they were generalize worse than fresh ones; shrunk and
    perturbed they do not, and keep what they have learned.

    References:
      Ash & Adams 2020, https://arxiv.org/abs/1910.08475

    >>> shrink_and_perturb({"w": jnp.array([2.0])}, {"w": jnp.array([1.0])})
    {'w': Array([1.5], dtype=float32)}
    """
    return jax.tree.map(lambda o, f: (SHRINK * o + PERTURB * f).astype(f.dtype), old, fresh)
