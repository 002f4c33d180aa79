import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, scores

pytestmark = pytest.mark.usefixtures("strict")

SHAPES = [(2, 4, 2), (5, 12, 3)]
as_users_do = oracles.as_users_do


def planted(seed, shape):
    """Random rows with agreeing, certain, opposite and duplicated ones among them."""
    z = np.random.default_rng(seed).normal(size=shape) * 3
    z[:, 0] = z[:1, 0]
    z[:, 1] = np.where(np.arange(shape[2]) == seed % shape[2], 300.0, -300.0)
    z[seed % shape[0], 2] = np.where(np.arange(shape[2]) == 0, 0.0, -np.inf)
    z[:, 3] = z[:, 2]
    return oracles.log_softmax(z).astype(np.float32)


def vote_entropy(p):
    votes = [max(range(len(row)), key=lambda c: row[c]) for row in p]
    return oracles.h([votes.count(c) / len(p) for c in range(len(p[0]))])


def model_change(p, h):
    """Every label's gradient as a matrix, and its Frobenius norm."""
    total, inputs = 0.0, np.append(h, 1.0)
    for label, weight in enumerate(oracles.mean(p)):
        error = [np.asarray(row) - np.eye(len(row))[label] for row in p]
        total += weight * sum(math.sqrt((np.outer(e, inputs) ** 2).sum()) for e in error) / len(p)
    return total


@given(st.integers(0, 2**31), st.sampled_from(SHAPES))
def test_against_the_oracles_at_the_edges_and_within_bounds(seed, shape):  # TRAPS 1, 3, 29
    log_p = planted(seed, shape)
    p = np.exp(log_p.astype(np.float64))
    h = np.random.default_rng(seed).normal(size=(shape[1], 2)).astype(np.float32) * 3
    rows = [p[:, i].tolist() for i in range(shape[1])]
    votes, change = (
        np.asarray(scores.vote_entropy(log_p)),
        np.asarray(scores.expected_model_change(log_p, h)),
    )
    np.testing.assert_allclose(votes, [vote_entropy(row) for row in rows], atol=1e-6)
    np.testing.assert_allclose(
        change,
        [model_change(*pair) for pair in zip(rows, h.astype(float), strict=True)],
        rtol=1e-5,
        atol=1e-6,
    )
    assert votes.min() >= 0 and votes.max() <= math.log(min(shape[0], shape[2])) + 1e-6
    longest = np.sqrt(2 * (1 - 1 / shape[2]) * (1 + (h**2).sum(-1)))
    assert change.min() >= 0 and np.all(change <= longest * (1 + 1e-6))
    assert votes[2] == votes[3]


@given(st.integers(0, 2**31))
def test_the_order_of_draws_classes_and_points_does_not_matter(seed):
    log_p, _ = oracles.random_log_probs(seed, (5, 12, 3))
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(12, 2)).astype(np.float32)
    draws, classes, points = rng.permutation(5), rng.permutation(3), rng.permutation(12)
    for score in (scores.vote_entropy, lambda x: scores.expected_model_change(x, h)):
        whole = score(log_p)
        np.testing.assert_allclose(score(log_p[draws][..., classes]), whole, atol=1e-5)
    assert np.array_equal(scores.vote_entropy(log_p[:, points]), scores.vote_entropy(log_p)[points])
    assert np.array_equal(
        scores.expected_model_change(log_p[:, points], h[points]),
        scores.expected_model_change(log_p, h)[points],
    )


def test_a_thousand_classes_and_one_draw():
    log_p, p = oracles.random_log_probs(1, (1, 3, 1000))
    h = np.ones((3, 2), np.float32)
    want = [model_change(p[:, i].tolist(), h[i].astype(float)) for i in range(3)]
    np.testing.assert_allclose(scores.expected_model_change(log_p, h), want, rtol=1e-5)
    assert np.array_equal(scores.vote_entropy(log_p), np.zeros(3))  # one vote


def test_a_nearly_certain_prediction_keeps_its_digits():
    rest = np.array([1e-9, 3e-9])
    log_p = np.log(np.array([[[1 - rest.sum(), *rest]]])).astype(np.float32)
    want = model_change([[1 - rest.sum(), *rest]], np.zeros(1))
    np.testing.assert_allclose(
        scores.expected_model_change(log_p, np.zeros((1, 1), np.float32)), [want], rtol=1e-5
    )


def test_gradients_are_finite_where_draws_are_certain():  # TRAPS 2
    certain = jnp.stack([jnp.log(jnp.eye(3)), jnp.log(jnp.roll(jnp.eye(3), 1, axis=0))])
    h = jnp.ones((3, 2))
    for slope in jax.jit(jax.grad(lambda x, h: scores.expected_model_change(x, h).sum(), (0, 1)))(
        certain, h
    ):
        assert np.all(np.isfinite(slope))


def test_any_batch_axes_an_empty_pool_and_bfloat16_storage():  # TRAPS 5, 15
    log_p, _ = oracles.random_log_probs(3, (5, 12, 3))
    h = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    whole = np.asarray(scores.expected_model_change(log_p, h))
    np.testing.assert_allclose(
        scores.expected_model_change(log_p.reshape(5, 3, 4, 3), h.reshape(3, 4, 2)).reshape(-1),
        whole,
        rtol=1e-6,
    )
    assert (
        scores.expected_model_change(log_p[:, :0], h[:0]).shape
        == scores.vote_entropy(log_p[:, :0]).shape
        == (0,)
    )
    stored = scores.expected_model_change(jnp.asarray(log_p).astype(jnp.bfloat16), h)
    assert stored.dtype == jnp.float32
    np.testing.assert_allclose(stored, whole, rtol=0.05)


@pytest.mark.parametrize(
    ("error", "argument", "log_p", "h"),
    [
        (errors.NotLogProbabilities, "log_probs", lambda x: np.exp(x), lambda h: h),
        (errors.WrongShape, "features", lambda x: x, lambda h: h[:11]),
        (errors.WrongShape, "features", lambda x: x, lambda h: h[0]),
        (errors.WrongShape, "features", lambda x: x, lambda h: h.tolist()),
        (errors.WrongShape, "features", lambda x: x, lambda h: h > 0),
        (
            errors.NonFinite,
            "features",
            lambda x: x,
            lambda h: np.where(np.arange(12)[:, None] == 7, np.float32(np.nan), h),
        ),
    ],
)
def test_anything_else_is_refused_by_name(error, argument, log_p, h):
    x, _ = oracles.random_log_probs(7, (5, 12, 3))
    with pytest.raises(error) as caught:
        as_users_do(scores.expected_model_change)(log_p(x), h(np.ones((12, 2), np.float32)))
    assert caught.value.argument == argument and f"`{argument}`" in str(caught.value)
    if error is errors.NonFinite:
        assert caught.value.rows.tolist() == [7]
