"""numpyro's models and guides in our loop, against closed forms and against what must
be refused.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from flax import linen, nnx
from laws import FEATURES, GUIDE, HPARAMS, labeled, lifted, prior, problem
from numpy.testing import assert_allclose
from numpyro.contrib.module import nnx_module, random_flax_module, random_nnx_module
from numpyro.infer import autoguide, init_to_sample
from test_variational import divergence, regression

import bayesal
from bayesal import acquire, errors, likelihoods, posteriors, scores
from bayesal.types import HParams, Labeled

X = problem()[0]


def linear(x):
    return (x @ numpyro.sample("w", dist.Normal(0.0, 1.0).expand([4]).to_event(1)))[:, None]


def own_guide(x, y, count):
    """A full covariance, written by hand."""
    mean = numpyro.param("mean", jnp.zeros(4))
    root = numpyro.param("root", 0.1 * jnp.eye(4), constraint=dist.constraints.lower_cholesky)
    numpyro.sample("w", dist.MultivariateNormal(mean, scale_tril=root))


@pytest.mark.parametrize(
    "guide",
    [
        pytest.param(autoguide.AutoMultivariateNormal, id="auto", marks=pytest.mark.slow),
        pytest.param(lambda model: own_guide, id="own"),
    ],
)
@pytest.mark.slow
def test_a_full_covariance_finds_the_exact_posterior(guide):
    data, mean, precision = regression()
    posterior = posteriors.svi(
        linear,
        guide,
        batch_size=40,
        particles=8,
        likelihood=likelihoods.gaussian(noise_std=0.5, center=0.0),
    )
    hparams = HParams(learning_rate=0.1, steps=1000)

    @jax.jit
    def run(key):
        state, info = posterior.fit(key, posterior.init(key, data.x[0]), data, hparams)
        return state, info, posterior.draw(key, state, 2000)["w"]

    state, info, draws = run(jax.random.key(0))
    assert int(info.failed_at) == -1
    if "mean" in state.params:  # ours: known in full
        root = np.asarray(
            dist.biject_to(dist.constraints.lower_cholesky)(state.params["root"]), np.float64
        )
        assert (
            divergence(np.asarray(state.params["mean"], np.float64), root @ root.T, mean, precision)
            < 0.03
        )
    cov = np.linalg.inv(precision)
    assert (abs(np.mean(draws, axis=0) - mean) < 0.3 * np.sqrt(np.diag(cov))).all()
    assert_allclose(np.cov(np.asarray(draws).T), cov, atol=0.15 * cov.max())


def test_the_bound_counts_every_label_once():
    """Ten equal labels of one number, prior N(0, 1): the posterior is N(10 y / 11, 1 / 11), in
    minibatches of 4 of a capacity of 30.
    """
    model = lambda x: jnp.broadcast_to(numpyro.sample("m", dist.Normal(0.0, 1.0)), (x.shape[0], 1))
    posterior = posteriors.svi(
        model,
        autoguide.AutoNormal,
        batch_size=4,
        particles=8,
        likelihood=likelihoods.gaussian(noise_std=1.0, center=0.0),
    )
    data = Labeled(jnp.zeros((30, 1)), jnp.where(jnp.arange(30) < 10, 2.0, 1e6), jnp.int32(10))
    run = jax.jit(
        lambda key: posterior.fit(
            key, posterior.init(key, data.x[0]), data, HParams(learning_rate=0.03, steps=800)
        )[0]
    )
    state = run(jax.random.key(0))
    scale = dist.biject_to(dist.constraints.softplus_positive)(state.params["m_auto_scale"])
    assert_allclose([state.params["m_auto_loc"], scale], [20 / 11, 11**-0.5], atol=0.03)


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(jax.nn.relu(linen.Dense(8)(x)))


LINEN = posteriors.svi(
    lambda x: random_flax_module("net", Dense(), prior, input_shape=(1, FEATURES))(x),
    GUIDE,
    kl_weight=0.1,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "guide",
    [
        autoguide.AutoLowRankMultivariateNormal,
        autoguide.AutoDiagonalNormal,
        autoguide.AutoIAFNormal,
    ],
)
def test_other_guides_learn(guide):
    _, y = problem()
    posterior = posteriors.svi(
        lifted, functools.partial(guide, init_loc_fn=init_to_sample), kl_weight=0.1
    )

    @jax.jit
    def run(key):
        state, info = posterior.fit(key, posterior.init(key, X[0]), labeled(), HPARAMS)
        draws = posterior.draw(key, state, 6)
        return info, jax.vmap(
            lambda d: jax.vmap(lambda xi: posterior.apply(state, d, xi))(jnp.asarray(X))
        )(draws)

    info, log_probs = run(jax.random.key(0))
    assert int(info.failed_at) == -1
    assert np.mean(np.exp(log_probs).mean(0).argmax(-1)[30:] == y[30:]) > 0.9
    assert np.ptp(log_probs, axis=0).max() > 1e-2


@pytest.mark.slow
def test_a_lifted_linen_module_runs_in_the_loop():
    x, y = problem()
    init, ask, tell = bayesal.learner(
        LINEN, acquire.top(scores.bald), size=4, capacity=40, num_draws=6, hparams=HPARAMS
    )[:3]
    state = tell(init(jax.random.key(0), x), x, np.arange(20), y[:20])
    picks = np.asarray(ask(state, x).indices)
    assert len(set(picks.tolist())) == 4 and picks.min() >= 20
    state = tell(state, x, picks, y[picks])
    assert (
        np.mean(np.asarray(bayesal.predictive_of(LINEN, state).log_probs(x)).argmax(-1) == y) > 0.9
    )


@pytest.mark.slow
def test_what_is_not_random_is_trained_and_kept():
    """A trained layer under a random one: the model's own parameters."""
    layer = nnx.Linear(FEATURES, 4, rngs=nnx.Rngs(0))

    def model(x):
        return jax.nn.relu(nnx_module("trunk", layer)(x)) @ numpyro.sample(
            "w", dist.Normal(0.0, 1.0).expand([4, 3]).to_event(2)
        )

    posterior = posteriors.svi(model, GUIDE)
    init, run = jax.jit(posterior.init), jax.jit(posterior.fit)
    start = init(jax.random.key(0), X[0])
    state, _ = run(jax.random.key(1), start, labeled(), HPARAMS._replace(steps=jnp.int32(20)))
    assert set(state.fixed) == {"trunk$params"}
    kernel = lambda s: np.asarray(s.fixed["trunk$params"]["kernel"])
    assert abs(kernel(state) - kernel(start)).max() > 1e-3
    w = jnp.ones((4, 3))
    outputs = np.maximum(
        np.asarray(X[0]) @ kernel(state) + np.asarray(state.fixed["trunk$params"]["bias"]), 0
    ) @ np.asarray(w)
    assert_allclose(
        posterior.apply(state, {"w": w}, jnp.asarray(X[0])),
        outputs - np.log(np.exp(outputs).sum()),
        atol=1e-5,
    )


def test_another_key_is_another_beginning():
    init = jax.jit(posteriors.svi(linear, autoguide.AutoNormal).init)
    first, again, other = (
        init(jax.random.key(seed), jnp.ones(4)).params["w_auto_loc"] for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def rows(x):
    return (
        numpyro.sample("noise", dist.Normal(jnp.zeros((x.shape[0], 3)), 1.0).to_event(2)) + x[:, :3]
    )


class Statistics(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(FEATURES, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)[:, :3]


def test_models_whose_draws_are_no_functions_are_refused():
    module = Statistics(nnx.Rngs(0))
    for model, match in (
        (rows, "every row"),
        (lambda x: random_nnx_module("net", module, dist.Normal())(x), "running statistics"),
    ):
        with pytest.raises(errors.WrongShape, match=match) as caught:
            jax.jit(posteriors.svi(model, autoguide.AutoNormal).init)(jax.random.key(0), X[0])
        assert caught.value.argument == "model"


def test_guides_that_look_at_all_data_are_refused():
    for guide in (autoguide.AutoLaplaceApproximation, autoguide.AutoDAIS):
        with pytest.raises(errors.WrongType, match="all data") as caught:
            posteriors.svi(linear, guide)
        assert caught.value.argument == "guide"
