"""Mean-field variational inference over all weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bayesal import training
from bayesal.types import Network, Posterior, PyTree


class MeanField(NamedTuple):
    """One normal per weight: means, and logarithms of standard deviations."""

    mean: PyTree
    log_std: PyTree


def sample(key: Array, state: MeanField) -> PyTree:
    """One set of weights: `mean + std * noise`."""
    leaves, tree = jax.tree.flatten(state.mean)
    noise = tree.unflatten([jax.random.normal(k, a.shape) for k, a in zip(jax.random.split(key, len(leaves)), leaves, strict=True)])
    return jax.tree.map(lambda m, s, e: m + jnp.exp(s) * e, state.mean, state.log_std, noise)


def prior_std(leaf: Array, scale: Float[Array, ""]) -> Float[Array, ""]:
    """`scale / sqrt(fan-in)` for a kernel `[..., in, out]`, `scale` for a vector: activations keep their size."""
    fan_in = 1 if leaf.ndim < 2 else leaf.size // leaf.shape[-1]
    return scale / fan_in**0.5


def kl_to_prior(state: MeanField, scale: Float[Array, ""]) -> Float[Array, ""]:
    """KL(q || prior) of the whole network, in nats; `>= 0`, and 0 only at the prior itself."""

    def one(mean, log_std):
        prior = prior_std(mean, scale)
        ratio = log_std - jnp.log(prior)
        return jnp.sum(0.5 * (jnp.exp(2 * ratio) + jnp.square(mean / prior) - 1.0) - ratio)

    return sum(jax.tree.leaves(jax.tree.map(one, state.mean, state.log_std)))


def variational(network: Network, *, batch: int = 32, samples: int = 4, initial_std: float = 0.02) -> Posterior:
    """Mean-field variational inference: an independent normal for every weight. A draw is one set of weights.

    The evidence lower bound is estimated with `samples` weight samples per step, each shared by the minibatch. `weight_decay` is not
    used (the prior, `HParams.prior_scale`, does its work), nor is dropout.

    Args:
      network: what to train.
      batch: rows of one minibatch.
      samples: weight samples per step.
      initial_std: standard deviation of every weight at the start.
    References:
      Blundell et al. 2015, https://arxiv.org/abs/1505.05424; Kingma & Welling 2014.
    """

    def init(key, x):
        mean = network.init(key, x)
        return MeanField(mean, jax.tree.map(lambda a: jnp.full_like(a, jnp.log(initial_std)), mean))

    def fit(key, state, labeled, hparams):
        def loss(state, key, x, y, count):
            def one(key):
                params = sample(key, state)
                logits = jax.vmap(lambda xi: network.apply(params, xi, None, 0.0))(x)
                return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

            expected = jax.vmap(one)(jax.random.split(key, samples)).mean()
            return expected + kl_to_prior(state, hparams.prior_scale) / count

        return training.sgd(key, state, loss, labeled, hparams._replace(weight_decay=0.0), batch=batch)

    def draw(key, state, num):
        return jax.vmap(lambda k: sample(k, state))(jax.random.split(key, num))

    def apply(state, draw, x):
        del state
        return jax.nn.log_softmax(network.apply(draw, x, None, 0.0))

    embed = (lambda state, x: network.embed(state.mean, x)) if network.embed else None
    return Posterior(init, fit, draw, apply, embed)
