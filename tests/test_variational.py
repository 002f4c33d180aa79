"""Variational inference against numpyro, against exact optima and closed forms, and on digits."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits

from bayesal import errors, likelihoods, networks, posteriors, scores
from bayesal._training import Minibatch
from bayesal.posteriors._variational import (
    LowRank,
    MeanField,
    expected_nll,
    kl_to_prior,
    nll,
    prior_std,
    sample,
    spread,
    with_factors,
)
from bayesal.types import HParams, Labeled

MEAN = {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "bias": jnp.array([0.1, -0.2, 0.0])}


def test_kl_is_that_of_numpyro():
    state = MeanField(MEAN, jax.tree.map(lambda a: -1.0 + 0.3 * a, MEAN))
    parts = [
        dist.kl_divergence(
            dist.Normal(m, jnp.exp(s)),
            dist.Normal(jnp.zeros_like(m), jnp.full_like(m, prior_std(m, 0.7))),
        ).sum()
        for m, s in zip(jax.tree.leaves(state.mean), jax.tree.leaves(state.log_std), strict=True)
    ]
    assert_allclose(kl_to_prior(state, 0.7), sum(parts), rtol=1e-5)


def test_kl_is_zero_at_the_prior_and_only_there():
    zero = jax.tree.map(jnp.zeros_like, MEAN)
    assert_allclose(kl_to_prior(spread(zero, 1.0), 1.0), 0.0, atol=1e-5)
    assert kl_to_prior(spread(zero, 0.9), 1.0) > 0.01
    assert kl_to_prior(spread(MEAN, 1.0), 1.0) > 0.01


def test_the_antithetic_pair_is_unbiased_and_less_noisy():
    network, key = (
        networks.from_functions(lambda key, x: jnp.ones((5, 3)), lambda w, x, key: x @ w),
        jax.random.key(0),
    )
    x, y = jax.random.normal(key, (6, 5)), jnp.array([0, 1, 2, 0, 1, 2])
    state = spread(network.init(key, x[0]), 0.5)
    keys = jax.random.split(jax.random.key(1), 4000)
    rows = Minibatch(x, y, jnp.ones(6), jnp.float32(6))
    single = jax.vmap(lambda k: nll(network, sample(k, state), rows))(keys)
    paired = jax.vmap(lambda k: expected_nll(network, k, state, rows))(keys)
    assert_allclose(paired.mean(), single.mean(), atol=5 * float(single.std()) / 4000**0.5)
    assert paired.var() < 0.5 * single.var()


def low_rank(rank=2):
    state = MeanField(MEAN, jax.tree.map(lambda a: -1.0 + 0.3 * a, MEAN))
    return LowRank(
        *state,
        jax.tree.map(lambda a: jax.random.normal(jax.random.key(a.ndim), (rank, *a.shape)), MEAN),
    )


def covariance(state):
    """Of all weights, leaf after leaf, in float64."""
    flat = lambda tree, *lead: np.concatenate(
        [np.asarray(a, np.float64).reshape(*lead, -1) for a in jax.tree.leaves(tree)], axis=-1
    )
    std = np.exp(flat(state.log_std))
    factors = (
        flat(state.factors, jax.tree.leaves(state.factors)[0].shape[0]) * std
        if isinstance(state, LowRank)
        else np.zeros((1, 1))
    )
    return flat(state.mean), np.diag(std**2) + factors.T @ factors


def divergence(mean, cov, prior_mean, precision):
    """KL between two normals, in float64."""
    gap = mean - prior_mean
    return 0.5 * (
        np.trace(precision @ cov)
        + gap @ precision @ gap
        - len(mean)
        - np.linalg.slogdet(cov)[1]
        - np.linalg.slogdet(precision)[1]
    )


@pytest.mark.parametrize(
    "rank", [pytest.param(1, marks=pytest.mark.slow), 2, 20]
)  # 20 is more than there are weights
@pytest.mark.slow
def test_kl_of_low_rank_is_that_of_the_whole_covariance(rank):
    state = low_rank(rank)
    mean, cov = covariance(state)
    prior = np.concatenate(
        [np.full(m.size, float(prior_std(m, 0.7))) for m in jax.tree.leaves(MEAN)]
    )
    assert_allclose(
        kl_to_prior(state, 0.7), divergence(mean, cov, 0.0 * mean, np.diag(prior**-2)), rtol=1e-5
    )
    flat = lambda tree: (
        jnp.concatenate([a.reshape(rank, -1) for a in jax.tree.leaves(tree)], axis=1).T
    )
    stds = jnp.concatenate([a.ravel() for a in jax.tree.leaves(state.log_std)])
    found = dist.LowRankMultivariateNormal(
        jnp.asarray(mean, jnp.float32),
        flat(state.factors) * jnp.exp(stds)[:, None],
        jnp.exp(2 * stds),
    )
    assert_allclose(
        kl_to_prior(state, 0.7),
        dist.kl_divergence(
            dist.MultivariateNormal(found.mean, found.covariance_matrix),
            dist.MultivariateNormal(
                jnp.zeros(mean.size), jnp.diag(jnp.asarray(prior**2, jnp.float32))
            ),
        ),
        rtol=1e-4,
    )


def test_without_factors_low_rank_is_mean_field():
    plain = MeanField(MEAN, jax.tree.map(lambda a: -1.0 + 0.3 * a, MEAN))
    empty = LowRank(*plain, jax.tree.map(lambda a: jnp.zeros((3, *a.shape)), MEAN))
    assert_allclose(kl_to_prior(empty, 0.7), kl_to_prior(plain, 0.7), rtol=1e-6)
    small = with_factors(jax.random.key(0), plain, 3)
    assert 0 < float(kl_to_prior(small, 0.7) / kl_to_prior(plain, 0.7) - 1) < 0.05


def test_samples_of_low_rank_have_its_covariance():
    state = low_rank()
    draws = jax.vmap(lambda k: sample(k, state))(jax.random.split(jax.random.key(0), 20_000))
    flat = np.concatenate(
        [np.asarray(a, np.float64).reshape(20_000, -1) for a in jax.tree.leaves(draws)], axis=1
    )
    mean, cov = covariance(state)
    error = 5 * np.sqrt(
        (np.outer(np.diag(cov), np.diag(cov)) + cov**2) / 20_000
    )  # of an empirical covariance, five standard errors
    assert (abs(np.cov(flat.T) - cov) < error).all() and (abs(cov) > 3 * error).sum() > 2 * len(
        cov
    )  # many correlations are seen
    assert (abs(flat.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / 20_000)).all()


def regression():
    """Four strongly correlated features, noise 0.5, prior N(0, 1): data, and the exact posterior's
    mean and precision in float64.
    """
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 1)) + 0.3 * random.normal(size=(40, 4))
    y = x @ random.normal(size=4) + 0.5 * random.normal(size=40)
    precision = np.eye(4) + x.T @ x / 0.25
    return (
        Labeled(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), jnp.int32(40)),
        np.linalg.solve(precision, x.T @ y / 0.25),
        precision,
    )


@pytest.mark.slow
def test_low_rank_finds_the_correlated_posterior_that_mean_field_cannot():
    data, mean, precision = regression()
    network = networks.from_functions(lambda key, x: jnp.zeros(4), lambda w, x, key: (x @ w)[None])
    hparams = HParams(learning_rate=0.05, prior_scale=10.0, steps=1000)
    far = {}
    for rank in (0, 3):
        posterior = posteriors.variational(
            network,
            rank=rank,
            kl_weight=1.0,
            pairs=8,
            batch_size=40,
            likelihood=likelihoods.gaussian(noise_std=0.5, center=0.0),
        )
        fit = jax.jit(
            lambda key, posterior=posterior: posterior.fit(
                key, posterior.init(key, data.x[0]), data, hparams
            )[0]
        )
        far[rank] = divergence(*covariance(fit(jax.random.key(0))), mean, precision)
    best = divergence(
        mean, np.diag(1 / np.diag(precision)), mean, precision
    )  # the best independent normals, in closed form
    assert best > 2 and abs(far[0] - best) < 0.02
    assert far[3] < 0.05


def exact_optimum(ones, zeros, kl_weight):
    """Mean and standard deviation of the best normal for one logit with prior N(0, 1): quadrature
    and a grid, in float64.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    mean, std = np.meshgrid(np.linspace(0.0, 3.0, 301), np.linspace(0.05, 1.0, 191), indexing="ij")
    logit = mean[..., None] + std[..., None] * nodes
    surprise = (ones * np.logaddexp(0.0, -logit) + zeros * np.logaddexp(0.0, logit)) @ (
        weights / weights.sum()
    )
    bound = surprise + kl_weight * (0.5 * (std**2 + mean**2 - 1.0) - np.log(std))
    at = np.unravel_index(bound.argmin(), bound.shape)
    return mean[at], std[at]


@pytest.mark.parametrize("kl_weight", [1.0, 0.1])
def test_the_fit_finds_the_exact_optimum_of_one_logit(kl_weight):
    network = networks.from_functions(
        lambda key, x: jnp.zeros(1), lambda w, x, key: jnp.concatenate([jnp.zeros(1), w])
    )
    labeled = Labeled(jnp.zeros((32, 1)), (jnp.arange(32) < 24).astype(jnp.int32), jnp.int32(32))
    posterior = posteriors.variational(network, kl_weight=kl_weight, pairs=16)
    hparams = HParams(
        learning_rate=0.05, prior_scale=10.0, steps=1000
    )  # a vector's prior is a tenth of the scale: N(0, 1)
    fit = jax.jit(
        lambda key: posterior.fit(key, posterior.init(key, labeled.x[0]), labeled, hparams)[0]
    )
    state = fit(jax.random.key(0))
    assert_allclose(
        [state.mean[0], jnp.exp(state.log_std[0])], exact_optimum(24, 8, kl_weight), atol=0.03
    )


@pytest.mark.slow
def test_digits_are_learned_and_draws_disagree():
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y, jnp.int32)
    posterior = posteriors.variational(networks.mlp(64, 10))

    @jax.jit
    def learn(key):
        state, info = posterior.fit(
            key, posterior.init(key, x[0]), Labeled(x[:220], y[:220], jnp.int32(150)), HParams()
        )
        draws = posterior.draw(key, state, 30)
        return info, jax.vmap(
            lambda d: jax.vmap(lambda xi: posterior.apply(state, d, xi))(x[500:])
        )(draws)

    info, log_probs = learn(jax.random.key(0))
    wrong = jnp.exp(log_probs).mean(0).argmax(-1) != y[500:]
    bald = scores.bald(log_probs)
    assert info.failed_at == -1
    assert 1 - wrong.mean() >= 0.6
    assert 0.02 < bald.mean() < 1.0
    assert bald[wrong].mean() > 1.5 * bald[~wrong].mean()  # draws disagree where the net is wrong


def test_ranks_that_cannot_be_are_refused():
    with pytest.raises(errors.WrongSize, match="`rank`"):
        posteriors.variational(networks.mlp(4, 3), rank=-1)
