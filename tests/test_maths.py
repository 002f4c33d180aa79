import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import _maths

pytestmark = pytest.mark.usefixtures("strict")

EDGES = [0.0, 1e-30, -1e-30, 88.0, -88.0, 104.0, -104.0, 1e4, -1e4, 3e38, -3e38, -np.inf]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 64, 1001])
def test_tree_sum_is_the_sum(count):
    x = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
    np.testing.assert_allclose(
        _maths.tree_sum(jnp.asarray(x), axis=0), x.astype(np.float64).sum(0), atol=1e-4
    )


@pytest.mark.slow
def test_tree_sum_error_grows_with_log_n():  # TRAPS 35
    n = 1_000_000
    total = float(_maths.tree_sum(jnp.full((n,), 0.1, jnp.float32), axis=0))
    assert abs(total / (n * float(np.float32(0.1))) - 1) < 1e-6


def test_tree_sum_does_not_see_the_other_axes():  # TRAPS 10
    x = jnp.asarray(np.random.default_rng(0).normal(size=(13, 64)), jnp.float32)
    summed = jax.jit(lambda x: _maths.tree_sum(x, axis=0))
    whole = np.asarray(summed(x))
    assert all(np.array_equal(whole[a:b], summed(x[:, a:b])) for a, b in [(0, 1), (0, 7), (7, 64)])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1001])
def test_pairwise_is_the_sum_along_any_axis(count):
    x = np.random.default_rng(count).normal(size=(3, count, 2)).astype(np.float32)
    for axis in range(3):
        np.testing.assert_allclose(
            _maths.pairwise(jnp.asarray(x), axis), x.astype(np.float64).sum(axis), atol=1e-4
        )
    np.testing.assert_allclose(
        _maths.pairwise(jnp.asarray(x[..., 0]), -1), x[..., 0].astype(np.float64).sum(-1), atol=1e-4
    )


def test_pairwise_does_not_see_the_other_axes_and_errs_with_log_n():  # TRAPS 10, 35
    x = jnp.asarray(np.random.default_rng(0).normal(size=(13, 64)), jnp.float32)
    summed = jax.jit(lambda x: _maths.pairwise(jnp.maximum(jnp.square(x), 0.0)))
    whole = np.asarray(summed(x))
    assert all(np.array_equal(whole[a:b], summed(x[:, a:b])) for a, b in [(0, 1), (0, 7), (7, 64)])
    total = float(_maths.pairwise(jnp.full((1_000_000,), 0.1, jnp.float32)))
    assert abs(total / (1e6 * float(np.float32(0.1))) - 1) < 1e-6


def test_averaged_probabilities():
    log_p, p = oracles.random_log_probs(0, (7, 4, 3))
    probs, mean = _maths.averaged(jnp.asarray(log_p))
    np.testing.assert_allclose(probs, p.reshape(7, 12), rtol=1e-6)
    np.testing.assert_allclose(mean, p.mean(0).ravel(), rtol=1e-6)
    assert _maths.averaged(jnp.full((3, 2), -jnp.inf))[1].tolist() == [0.0, 0.0]
    assert np.isnan(_maths.averaged(jnp.array([[0.0, jnp.nan]]))[1]).tolist() == [False, True]


@given(st.integers(0, 2**31), st.lists(st.sampled_from(EDGES), min_size=6, max_size=6))
def test_log_mean_exp_at_the_edges(seed, planted):  # TRAPS 1
    x = np.random.default_rng(seed).normal(size=(4, 6)).astype(np.float32)
    x[seed % 4] = planted
    got = np.asarray(_maths.log_mean_exp(jnp.asarray(x)))
    top = x.astype(np.float64).max(0)
    want = np.log(np.exp(x.astype(np.float64) - top).mean(0)) + top
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_log_mean_exp_of_nothing_but_zeros_is_zero():  # TRAPS 1, 2
    x = jnp.full((3, 2), -jnp.inf)
    assert np.all(np.asarray(_maths.log_mean_exp(x)) == -np.inf)
    slope = jax.grad(lambda x: jnp.where(jnp.isfinite(y := _maths.log_mean_exp(x)), y, 0.0).sum())(
        x
    )
    assert np.all(np.asarray(slope) == 0.0)


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_entropy_against_the_hand_count(classes):
    log_p, p = oracles.random_log_probs(classes, (5, classes))
    np.testing.assert_allclose(
        _maths.entropy(jnp.asarray(log_p)), [oracles.h(q) for q in p], rtol=2e-6, atol=1e-6
    )


def test_entropy_of_a_certain_row_is_exactly_zero():  # TRAPS 1, 2, 30
    row = jnp.log(jnp.eye(4))
    assert np.all(np.asarray(_maths.entropy(row)) == 0.0)
    assert np.all(np.isfinite(jax.grad(lambda x: _maths.entropy(x).sum())(row)))


def test_entropy_is_in_nats():  # TRAPS 29
    assert abs(float(_maths.entropy(jnp.log(jnp.full(2, 0.5)))) - math.log(2)) < 1e-7


def test_rank_sends_ties_to_the_lowest_row():
    assert _maths.rank(jnp.array([1.0, 3.0, 3.0, 2.0, 3.0]), 4).tolist() == [1, 2, 4, 3]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA's way to rank on the CPU")
def test_a_sliced_rank_does_not_sort_the_whole_pool():
    scores = jax.ShapeDtypeStruct((5_000,), jnp.float32)
    ranked = jax.jit(lambda scores, rank: (rank(scores)[:10], rank(scores)[10]), static_argnums=1)
    text = lambda rank: ranked.lower(scores, rank).compile().as_text()
    assert "sort(" in text(lambda scores: jax.lax.top_k(scores, 11)[1])  # what the barrier is for
    assert "sort(" not in text(lambda scores: _maths.rank(scores, 11))


def test_maskable_counts_and_hides_what_is_not_a_number():  # TRAPS 4
    scores = jnp.array([1.0, jnp.nan, -jnp.nan, jnp.inf, -jnp.inf, 1.0])
    available = jnp.array([True, True, True, True, True, True])
    safe, broken, constant = _maths.maskable(scores, available, 1)
    assert np.asarray(safe).tolist() == [1.0, -np.inf, -np.inf, -np.inf, -np.inf, 1.0]
    assert int(broken) == 3 and bool(constant)
    _, broken, constant = _maths.maskable(scores, available.at[1].set(False).at[5].set(False), 1)
    assert int(broken) == 2 and not bool(constant)  # one point left: nothing to choose
    _, _, constant = _maths.maskable(jnp.zeros(0), jnp.zeros(0, bool), 1)
    assert not bool(constant)
