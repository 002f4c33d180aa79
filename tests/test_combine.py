"""Combinations of scores against plain Python, and gates that survive every one of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, select
from bayesal.scores import combine as rules

pytestmark = pytest.mark.usefixtures("strict")

N = 12


def rank_sum(vectors, weights):
    def rank(v, x):
        return (sum(y < x for y in v) + 0.5 * (sum(y == x for y in v) - 1)) / max(len(v) - 1, 1)

    return [
        sum(w * rank(v, v[i]) for w, v in zip(weights, vectors, strict=True))
        for i in range(len(vectors[0]))
    ]


def z_score(vectors, weights):
    def z(v, x):
        mean = sum(v) / len(v)
        std = (sum((y - mean) ** 2 for y in v) / len(v)) ** 0.5
        return (x - mean) / std if max(v) > min(v) else 0.0

    return [
        sum(w * z(v, v[i]) for w, v in zip(weights, vectors, strict=True))
        for i in range(len(vectors[0]))
    ]


def product(vectors, weights):
    powers = lambda i: np.prod(
        [float(v[i]) ** float(w) for w, v in zip(weights, vectors, strict=True)]
    )  # 0 ** 0 is 1
    return [powers(i) ** (1 / sum(weights)) for i in range(len(vectors[0]))]


def pareto(vectors, weights):
    points = list(zip(*vectors, strict=True))
    beats = lambda p, q: all(a >= b for a, b in zip(p, q, strict=True)) and p != q
    mean = rank_sum(vectors, [1 / len(vectors)] * len(vectors))
    return [0.5 * mean[i] - sum(beats(p, q) for p in points) for i, q in enumerate(points)]


ORACLES = {"rank_sum": rank_sum, "z_score": z_score, "product": product, "pareto": pareto}
each = pytest.mark.parametrize("name", ORACLES)
WEIGHTS = [(1.0, 1.0), (2.0, 0.5), (0.0, 1.0), (3.0, 0.0)]


def combine(name, *vectors, weights=(1.0, 1.0), available=None):
    extra = {} if name == "pareto" else {"weights": weights}
    return getattr(rules, name)(*vectors, **extra, available=available)


@each
@given(seed=st.integers(0, 2**31), weights=st.sampled_from(WEIGHTS))
def test_against_plain_python_with_gates_ties_and_weight_zero(name, seed, weights):  # TRAPS 21, 28
    rng = np.random.default_rng(seed)
    vectors = rng.choice([0.0, 0.25, 0.5, 1.0, 3.0], (2, N)).astype(np.float32)
    gates = rng.random((2, N)) < 0.2
    gates[:, :2] = False
    available = rng.random(N) < 0.8
    available[:2] = True
    got = np.asarray(
        combine(
            name,
            *np.where(gates, -np.inf, vectors).astype(np.float32),
            weights=weights,
            available=available,
        )
    )
    counts = ~gates.any(0) & available
    want = ORACLES[name]([v[counts].astype(float).tolist() for v in vectors], weights)
    assert np.all(got[~counts] == -np.inf)
    np.testing.assert_allclose(got[counts], want, rtol=1e-5, atol=1e-5)


@each
def test_points_ruled_out_change_nothing(name):  # TRAPS 21
    vectors = np.random.default_rng(0).random((2, N)).astype(np.float32)
    available = np.arange(N) < 8
    spoiled = np.where(available, vectors, np.array([[1e30], [0.0]])).astype(np.float32)
    clean, other = (np.asarray(combine(name, *v, available=available)) for v in (vectors, spoiled))
    assert np.array_equal(clean, other)
    gate = np.where(available, 1.0, -np.inf).astype(np.float32)
    if name != "pareto":  # it has no weights
        np.testing.assert_allclose(
            combine(name, *spoiled, gate, weights=(1, 1, 0))[:8], clean[:8], atol=1e-6
        )


@each
def test_order_of_points_and_of_scores_does_not_matter(name):
    vectors = np.random.default_rng(1).random((2, N)).astype(np.float32)
    rows = np.random.default_rng(2).permutation(N)
    whole = np.asarray(combine(name, *vectors))
    np.testing.assert_allclose(combine(name, *vectors[:, rows]), whole[rows], atol=1e-6)
    np.testing.assert_allclose(combine(name, *vectors[::-1]), whole, atol=1e-6)


@each
def test_one_score_keeps_its_order(name):
    values = np.random.default_rng(3).random(N).astype(np.float32)
    combined = combine(name, values, weights=None)
    assert np.argsort(combined).tolist() == np.argsort(values).tolist()


def test_a_constant_score_adds_nothing_to_z_scores_and_units_do_not_matter():
    values = np.random.default_rng(4).random(N).astype(np.float32)
    alone = np.asarray(rules.z_score(values))
    assert abs(alone.mean()) < 1e-6 and abs(alone.std() - 1) < 1e-5
    constant = np.full(N, 0.1, np.float32)
    assert np.array_equal(rules.z_score(values, constant), alone) and np.all(
        np.asarray(rules.z_score(constant)) == 0
    )
    for unit in (1e-30, 1e30):
        np.testing.assert_allclose(rules.z_score(values * np.float32(unit)), alone, atol=1e-4)
    extremes = np.where(np.arange(N) % 2, 1e37, -1e37).astype(np.float32)
    np.testing.assert_allclose(
        rules.z_score(extremes), np.where(np.arange(N) % 2, 1.0, -1.0), atol=1e-6
    )


def test_a_product_of_many_tiny_scores_does_not_vanish():
    values = np.array([1e-30, 2e-30, 0.0], np.float32)
    combined = np.asarray(rules.product(*[values] * 5))
    np.testing.assert_allclose(combined, values, rtol=1e-4)


def test_a_point_comes_after_all_that_dominate_it():
    vectors = np.random.default_rng(5).random((3, 600)).astype(np.float32)  # more than one chunk
    combined = np.asarray(rules.pareto(*vectors))
    over = (vectors[:, None, :] >= vectors[:, :, None]).all(0) & (
        vectors[:, None, :] > vectors[:, :, None]
    ).any(0)  # [i, j]: j over i
    below, above = over.nonzero()
    assert len(below) > 1000 and np.all(combined[above] > combined[below])
    assert np.all(np.abs(combined + over.sum(1) - 0.25) <= 0.25 + 1e-4)


@each
@pytest.mark.parametrize("count", [0, 1])
def test_a_pool_with_nothing_one_or_only_gates(name, count):
    ones = np.ones(count, np.float32)
    assert combine(name, ones, ones).shape == (count,)
    gated = combine(name, np.full(count, -np.inf, np.float32), ones, weights=(0.0, 1.0))
    assert np.all(np.asarray(gated) == -np.inf)
    assert np.all(np.isfinite(combine(name, ones, ones)))


def test_under_jit_broken_scores_stay_for_the_selector_to_count():  # TRAPS 4
    good = jnp.array([0.1, 0.2, 0.3, 0.4])
    bad = jnp.array([1.0, jnp.nan, jnp.inf, -jnp.inf])
    combined = np.asarray(jax.jit(functools.partial(combine, "z_score"))(good, bad))
    assert np.isfinite(combined[0]) and np.isnan(combined[1:3]).all() and combined[3] == -np.inf
    picked = jax.jit(lambda a, b: select.top(combine("z_score", a, b), 2))(good, bad)
    assert picked.indices.tolist() == [0, -1] and int(picked.nonfinite) == 2


ONES = np.ones(4, np.float32)
BAD = {
    "no scores": (lambda f: f(), errors.WrongSize, "scores"),
    "nan": (lambda f: f(ONES, ONES * np.nan), errors.NonFinite, "scores[1]"),
    "another pool": (lambda f: f(ONES, ONES[:3]), errors.WrongShape, "scores[1]"),
    "two axes": (lambda f: f(np.ones((2, 2), np.float32)), errors.WrongShape, "scores[0]"),
    "a short mask": (lambda f: f(ONES, available=np.ones(3, bool)), errors.WrongShape, "available"),
}
BAD_WEIGHTS = {
    "too few": ((1.0,), errors.WrongShape),
    "negative": ((1.0, -1.0), errors.WrongSize),
    "nan": ((1.0, float("nan")), errors.WrongSize),
    "all zero": ((0.0, 0.0), errors.WrongSize),
    "words": (("a", "b"), errors.WrongShape),
}


@each
def test_anything_else_is_refused_by_name(name):
    function = oracles.as_users_do(getattr(rules, name))
    for call, error, argument in BAD.values():
        with pytest.raises(error) as caught:
            call(function)
        assert caught.value.argument == argument and f"`{argument}`" in str(caught.value)
    for weights, error in BAD_WEIGHTS.values() if name != "pareto" else ():
        with pytest.raises(error, match="`weights`") as caught:
            function(ONES, ONES, weights=weights)
        assert caught.value.argument == "weights"


def test_a_product_takes_no_negative_scores():
    with pytest.raises(errors.OutOfRange) as caught:
        rules.product(ONES, -ONES)
    assert caught.value.argument == "scores[1]" and caught.value.rows.tolist() == [0, 1, 2, 3]
