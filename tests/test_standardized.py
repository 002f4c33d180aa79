"""Labels of any unit: a fit to a * y + b predicts a * (what a fit to y predicts) + b."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import bayesal
from bayesal import _checks, acquire, likelihoods, metrics, networks, posteriors
from bayesal.posteriors._standardized import unit
from bayesal.types import HParams, Labeled, Mixture

N = 24
X = np.random.default_rng(0).uniform(-2, 2, (N, 2)).astype(np.float32)
Y = np.float32(np.sin(X[:, 0]) + 0.3 * X[:, 1])
HPARAMS = _checks.as_traced(HParams(1e-2, 1e-2, 0.1, 1.0, steps=60))
NET, ONE, SIX = (networks.mlp(2, outputs, (8,)) for outputs in (2, 1, 6))
NORMAL, MIXED = likelihoods.gaussian(), likelihoods.mixture(2)

POSTERIORS = {
    "point": posteriors.point(NET, likelihood=NORMAL),
    "mixture": posteriors.point(SIX, likelihood=MIXED),
    "mc_dropout": posteriors.mc_dropout(NET, likelihood=NORMAL),
    "ensemble": posteriors.ensemble(NET, members=3, likelihood=NORMAL),
    "gp_regression": posteriors.gp_regression(waves=32),
    "sparse": posteriors.gp_regression(waves=32, inducing=8),
    "laplace": posteriors.last_layer_laplace(NET, likelihood=NORMAL),
    "linearized": posteriors.linearized_laplace(NET, likelihood=NORMAL),
    "variational": posteriors.variational(NET, likelihood=NORMAL),
    "swag": posteriors.swag(NET, likelihood=NORMAL),
    "sgmcmc": posteriors.sgmcmc(NET, cycles=2, samples=3, likelihood=NORMAL),
    "nuts": posteriors.nuts(NET, warmup=10, samples=3, chains=1, likelihood=NORMAL),
    "any_of": posteriors.any_of(
        posteriors.point(NET, likelihood=NORMAL), posteriors.mc_dropout(NET, likelihood=NORMAL)
    ),
}
OFTEN = ("point", "mixture", "gp_regression")
every_posterior = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in OFTEN else pytest.mark.slow) for n in POSTERIORS]
)


def labeled(y, capacity=N):
    rows = np.full((capacity, 2), np.nan, np.float32)
    labels = np.full(capacity, np.nan, np.float32)
    rows[: len(y)], labels[: len(y)] = X[: len(y)], y
    return Labeled(jnp.asarray(rows), jnp.asarray(labels), jnp.int32(len(y)))


@functools.cache
def programs(posterior):
    return jax.jit(posterior.init), jax.jit(posterior.fit)


def predicted(posterior, y, draws=3):
    init, fit = programs(posterior)
    state, info = fit(jax.random.key(1), init(jax.random.key(0), X[0]), labeled(y), HPARAMS)
    assert np.all(np.asarray(info.failed_at) == -1)
    drawn = posterior.draw(jax.random.key(2), state, draws)
    return state, info, bayesal.predictive.bind(posterior, state, drawn)(X)


@every_posterior
@pytest.mark.parametrize(("a", "b"), [(1024.0, 0.0), (2.0**-20, 0.0), (16.0, 64.0)])
def test_predictions_follow_an_affine_change_of_unit(name, a, b):
    """Powers of two: sums and products with them are exact but for the offset."""
    if name == "nuts" and b:
        pytest.skip("the last bit of a label decides where a path turns")
    posterior = POSTERIORS[name]
    y = np.round(Y * 2**10) / np.float32(2**10)
    state, info, plain = predicted(posterior, y)
    _, told, moved = predicted(posterior, np.float32(a * y + b))
    near = {"rtol": 2e-3, "atol": 2e-3 * a}
    assert_allclose(moved.mean, a * plain.mean + b, **near)
    assert_allclose(moved.variance, a**2 * plain.variance, rtol=1e-2)
    assert_allclose(told.loss, info.loss + np.log(a), atol=1e-2)
    if isinstance(plain, Mixture):
        assert_allclose(moved.log_weight, plain.log_weight, atol=1e-2)
    if posterior.marginal is not None:
        found = posterior.marginal(state, jnp.asarray(X[0]))
        assert np.isfinite(found.mean) and found.variance > 0


@pytest.mark.slow
def test_known_noise_stays_known_in_the_labels_unit():
    posterior = posteriors.point(ONE, likelihood=likelihoods.gaussian(noise_std=3.0))
    found = predicted(posterior, np.float32(100.0 + 20.0 * Y))[2]
    assert_allclose(found.variance, 9.0, rtol=1e-5)
    # the likelihood is that of labels and noise divided alike
    same = posteriors.point(ONE, likelihood=likelihoods.gaussian(noise_std=3.0 / 32.0))
    moved = predicted(same, np.float32(100.0 + 20.0 * Y) / 32.0)[2]
    assert_allclose(found.mean, 32.0 * moved.mean, rtol=1e-4)
    laplace = posteriors.linearized_laplace(ONE, likelihood=likelihoods.gaussian(noise_std=3.0))
    state = predicted(laplace, np.float32(20.0 * Y))[0]
    assert laplace.marginal(state, jnp.asarray(X[0])).variance > 9.0


def test_an_own_center_and_scale_are_kept():
    fixed = posteriors.gp_regression(center=5.0, scale=2.0)
    assert not hasattr(fixed.init(jax.random.key(0), X[0]), "center")
    likelihood = likelihoods.gaussian(center=0.0)
    assert likelihood.standard is None and NORMAL.standard is not None


@given(
    st.integers(0, 2**31), st.sampled_from([0.0, 1.0, -300.0]), st.sampled_from([1e-9, 1.0, 1e9])
)
def test_the_unit_is_mean_and_deviation_by_weight(seed, offset, scale):
    rng = np.random.default_rng(seed)
    y = (scale * (rng.normal(size=9) + offset)).astype(np.float32)
    weight = rng.integers(0, 3, 9).astype(np.float32)
    count = int(rng.integers(2, 9))
    used = np.repeat(y[:count].astype(np.float64), weight[:count].astype(int))
    y[count:] = np.nan
    found = unit(Labeled(jnp.zeros((9, 1)), jnp.asarray(y), jnp.int32(count), jnp.asarray(weight)))
    if not len(used):
        assert [float(v) for v in found] == [0.0, 1.0]
    elif np.ptp(used) > 0:
        assert_allclose(found, [used.mean(), used.std()], rtol=1e-4, atol=1e-5 * scale)
    else:
        assert_allclose(found, [used[0], abs(used[0])], rtol=1e-6)


@pytest.mark.parametrize("y", [np.zeros(N), np.full(N, 5e6), np.full(1, -3e-7), np.full(2, 1e15)])
def test_constant_labels_are_predicted(y):
    y = y.astype(np.float32)
    for name in ("point", "gp_regression"):
        found = predicted(POSTERIORS[name], y)[2]
        size = np.abs(y[0]) or 1.0
        assert np.isfinite(found.mean).all() and np.isfinite(found.variance).all()
        assert np.all(np.abs(found.mean - y[0]) < 4 * size) and np.all(found.variance > 0)


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 17.0), (1e6, 17.0), (0.0, 1e-6)])
def test_a_learner_on_unscaled_labels(offset, scale):
    x = np.random.default_rng(1).uniform(-2, 2, (120, 2)).astype(np.float32)
    y = np.float32(offset + scale * (np.sin(2 * x[:, 0]) + 0.3 * x[:, 1]))
    learner = bayesal.learner(POSTERIORS["gp_regression"], acquire.uniform(), size=30, capacity=60)
    state = learner.init(0, x)
    state = learner.tell(state, x, np.arange(60), y[:60])
    found = bayesal.predictive_of(POSTERIORS["gp_regression"], state, 30).moments(x[60:])
    assert float(metrics.rmse(found, y[60:])) < 0.4 * y.std()
