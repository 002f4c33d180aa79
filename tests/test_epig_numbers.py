"""EPIG of real labels: the batch against log determinants in float64, and the strategies on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import as_users_do

import bayesal
from bayesal import acquire, choose, errors, pools, posteriors, predictive, select
from bayesal.scores import regression
from bayesal.types import About, Gaussian, Mixture

K, N, T, F, B = 20, 30, 12, 6, 5


def problem(seed):
    """Draws of a linear function at a pool and at targets, noise of many sizes, and weights."""
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(K, F))
    means, target_means = draws @ rng.normal(size=(F, N)), draws @ rng.normal(size=(F, T))
    noise, target_noise = 10 ** rng.uniform(-3, 1, N), 10 ** rng.uniform(-2, 0, T)
    weights = rng.random(T)
    every = means, noise, target_means, target_noise, weights / weights.sum()
    return [np.asarray(each, np.float32) for each in every]


def information(problem, batch):
    """sum_t w_t I(y_batch; y_t), each from three determinants, in float64."""
    means, noise, target_means, target_noise, weights = (a.astype(np.float64) for a in problem)
    logdet = lambda cov: np.linalg.slogdet(cov)[1]
    total = 0.0
    for t, weight in enumerate(weights):
        every = np.concatenate([means[:, batch], target_means[:, t : t + 1]], axis=1)
        cov = np.cov(every.T, bias=True) + np.diag([*noise[batch], target_noise[t]])
        total += weight * 0.5 * (logdet(cov[:-1, :-1]) + np.log(cov[-1, -1]) - logdet(cov))
    return total


def greedy(problem, size):
    exact = []
    for _ in range(size):
        left = (i for i in range(N) if i not in exact)
        exact.append(max(left, key=lambda i: information(problem, [*exact, i])))
    return exact


def picked_from(given, size=B, **options):
    *arrays, weights = given
    return select.batch_epig_gaussian(*arrays, size, weights=weights, **options)


@given(st.integers(0, 2**31))
def test_the_batch_is_the_exact_greedy_one(seed):  # TRAPS 19
    of = problem(seed)
    picked = picked_from(of)
    batch = np.asarray(picked.indices).tolist()
    told = [information(of, batch[: b + 1]) for b in range(B)]
    np.testing.assert_allclose(picked.joint, told, rtol=1e-4)
    np.testing.assert_allclose(np.cumsum(picked.scores), told, rtol=1e-4)
    assert information(of, greedy(of, B)) <= told[-1] * (1 + 1e-4)
    assert float(picked.joint[-1]) <= float(picked.ceiling) and picked.about is About.TARGETS
    rows = jnp.stack([of[1]] * K), jnp.stack([of[3]] * K)
    alone = regression.epig(of[0], rows[0], of[2], rows[1], weights=of[4])
    assert batch[0] == int(np.argmax(alone))
    np.testing.assert_allclose(picked.scores[0], alone[batch[0]], rtol=1e-5)


def test_two_labels_may_tell_what_neither_tells_alone():
    rng = np.random.default_rng(0)
    signal, disturbance = rng.normal(size=(2, 200))
    both, other = signal + disturbance, disturbance
    means = np.stack([both, other], axis=1).astype(np.float32)
    target = signal[:, None].astype(np.float32)
    noise = np.full(2, 1e-3, np.float32)
    picked = select.batch_epig_gaussian(means, noise, target, noise[:1], 2)
    assert picked.indices.tolist() == [0, 1]
    assert picked.scores[1] > 2 * picked.scores[0]


@pytest.mark.parametrize("noise", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_unit_does_not_count_and_noise_may_be_anything(noise, unit):  # TRAPS 31
    of = problem(3)
    of[1], of[3] = np.full(N, noise, np.float32), np.full(T, noise, np.float32)
    moved = [of[0] * unit, of[1] * unit**2, of[2] * unit, of[3] * unit**2, of[4]]
    picked = picked_from([np.asarray(a, np.float32) for a in moved])
    # scores near 0 are ordered by their last digits
    batch = np.asarray(picked.indices).tolist()
    want = information(of, batch)
    assert np.isfinite(picked.scores).all() and len(set(batch)) == B
    np.testing.assert_allclose(picked.joint[-1], want, rtol=2e-2 if noise < 1 else 1e-3, atol=1e-9)


def test_what_may_not_be_picked_and_what_is_broken():
    of = problem(4)
    free = np.arange(N) % 3 > 0
    assert free[np.asarray(picked_from(of, available=free).indices)].all()
    broken = of[0].copy()
    broken[2, 7] = np.nan
    with pytest.raises(errors.NonFinite, match="7"):
        picked_from([broken, *of[1:]])
    traced = jax.jit(lambda m: picked_from([m, *of[1:]]))(broken)
    assert int(traced.nonfinite) == 1 and 7 not in traced.indices.tolist()
    agree = np.zeros_like(of[0])
    with pytest.raises(errors.ConstantScores):
        picked_from([agree, *of[1:]])
    for bad, argument in (
        ([of[0], of[1], of[2][:5], *of[3:]], "target_means"),
        ([of[0], of[1], of[2][:, :0], of[3][:0], None], "target_means"),
        ([*of[:4], -of[4]], "weights"),
        ([of[0][:1], of[1], of[2][:1], *of[3:]], "means"),
    ):
        with pytest.raises(errors.BayesalError) as caught:
            as_users_do(picked_from)(bad)
        assert caught.value.argument == argument


# strategies

X = np.random.default_rng(5).normal(size=(60, 3)).astype(np.float32)
DRAWS = jnp.asarray(np.random.default_rng(6).normal(size=(K, 3)), jnp.float32)


def _moments(draws, x):
    means = jnp.tanh(jnp.einsum("nf,kf->kn", x, draws, precision="highest"))
    return means, 0.1 + 0.1 * means**2


LINEAR = predictive.from_samples(moments=jax.tree_util.Partial(_moments, DRAWS), num_draws=K)
REGION = X[:7] + 0.1
FREE = np.arange(60) % 4 > 0
WEIGHTS = np.array([3, 1, 1, 1, 0, 0, 0], np.float32)


def test_a_ranking_is_that_of_the_score():
    found = choose(0, LINEAR, X, B, acquire.epig(REGION, weights=WEIGHTS), available=FREE)
    want = np.array(regression.epig(*LINEAR(X), *LINEAR(REGION), weights=WEIGHTS))
    want[~FREE] = -np.inf
    np.testing.assert_array_equal(found.indices, np.argsort(-want)[:B])
    np.testing.assert_allclose(found.scores, np.sort(want)[::-1][:B], rtol=1e-5)


@pytest.mark.parametrize("where", ["array", pytest.param("file", marks=pytest.mark.slow)])
def test_a_batch_is_that_of_the_selector_and_knows_what_it_left_out(where, tmp_path):
    np.save(tmp_path / "x.npy", X)
    pool = X if where == "array" else pools.file(tmp_path / "x.npy")
    said, target = LINEAR(X), LINEAR(REGION)
    want = select.batch_epig_gaussian(
        said.mean, said.variance.mean(0), target.mean, target.variance.mean(0), B, available=FREE
    )
    strategies = [
        acquire.batch_epig(REGION, candidates=n, grow=grow)
        for n, grow in ((60, False), (8, True), (8, False))
    ]
    whole, grown, few = (choose(0, LINEAR, pool, B, s, available=FREE) for s in strategies)
    for found in (whole, grown):
        np.testing.assert_array_equal(found.indices, want.indices)
        np.testing.assert_allclose(found.scores, want.scores, rtol=1e-4)
        assert bool(found.certified) and float(found.gap) == 0.0
    assert not bool(few.certified) and float(few.gap) > 0
    assert whole.about is About.TARGETS and float(whole.ceiling) > float(whole.joint[-1])


@pytest.mark.slow
def test_mixtures_count_by_their_moments():
    mean, variance = LINEAR(X)
    apart = jnp.sqrt(0.5 * variance)[..., None] * jnp.array([-1.0, 1.0])
    same = Mixture(
        jnp.log(jnp.full((K, 60, 2), 0.5)),
        mean[..., None] + apart,
        jnp.broadcast_to(0.5 * variance[..., None], apart.shape),
    )
    rows = jnp.arange(60, dtype=jnp.float32)[:, None]
    of_rows = lambda table: lambda x: jax.tree.map(lambda a: a[:, x[:, 0].astype(int)], table)
    strategy = acquire.batch_epig(np.arange(9, dtype=np.float32)[:, None])
    normal, mixed = (
        choose(0, of_rows(table), rows, B, strategy) for table in (Gaussian(mean, variance), same)
    )
    np.testing.assert_array_equal(normal.indices, mixed.indices)
    np.testing.assert_allclose(normal.scores, mixed.scores, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("factory", [acquire.epig, acquire.batch_epig])
def test_a_learner_asks_about_its_region(factory):
    x = np.random.default_rng(0).uniform(-3, 3, (150, 2)).astype(np.float32)
    y = np.sin(x[:, 0]) + 0.1 * x[:, 1]
    inside = (np.abs(x - 2) < 0.8).all(axis=1)
    learner = bayesal.learner(posteriors.gp_regression(), factory(x[inside]), size=4, capacity=40)
    state = learner.init(0, x)
    state = learner.tell(state, x, np.arange(10), y[:10])
    asked = np.asarray(learner.ask(state, x).indices)
    far = np.linalg.norm(x - 2, axis=1)
    assert far[asked].mean() < 0.7 * far.mean() and asked.min() >= 10
