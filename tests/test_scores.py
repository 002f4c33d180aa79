import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import _chunks, errors, scores

pytestmark = pytest.mark.usefixtures("strict")

SCORES = {name: getattr(scores, name) for name in oracles.SCORES}
SHAPES = [(1, 4, 2), (2, 4, 2), (5, 12, 3), (20, 12, 10)]
each_score = pytest.mark.parametrize("name", SCORES)


def bounds(name, draws, classes):
    few = min(draws, classes)
    return {
        "entropy": (0, math.log(classes)),
        "expected_entropy": (0, math.log(classes)),
        "bald": (0, math.log(few)),
        "least_confidence": (0, 1 - 1 / classes),
        "margin": (-1, 0),
        "variation_ratio": (0, 1 - 1 / few),
        "mean_std": (0, 0.5),
    }[name]


def planted(seed, shape):
    """Random rows with certain, agreeing, duplicated and enormous ones among them."""
    z = np.random.default_rng(seed).normal(size=shape) * 3
    z[:, 0] = z[:1, 0]  # all draws agree
    z[:, 1] = np.where(np.arange(shape[2]) == seed % shape[2], 300.0, -300.0)
    z[seed % shape[0], 2] = np.where(np.arange(shape[2]) == 0, 0.0, -np.inf)  # one certain draw
    z[:, 3] = z[:, 2]
    return oracles.log_softmax(z).astype(np.float32)


@each_score
@given(seed=st.integers(0, 2**31), shape=st.sampled_from(SHAPES))
def test_against_the_oracle_at_the_edges_and_within_bounds(
    name, seed, shape
):  # TRAPS 1, 3, 14, 29, 38
    log_p = planted(seed, shape)
    p = np.exp(log_p.astype(np.float64))
    got = np.asarray(SCORES[name](log_p))
    want = [oracles.SCORES[name](p[:, i].tolist()) for i in range(shape[1])]
    np.testing.assert_allclose(got, want, atol=2e-6)
    low, high = bounds(name, shape[0], shape[2])
    assert got.min() >= low - 1e-6 and got.max() <= high + 2e-6
    assert got[2] == got[3]  # a duplicated row has the same score, bit for bit


@each_score
def test_a_thousand_classes(name):
    log_p, p = oracles.random_log_probs(1, (3, 4, 1000))
    np.testing.assert_allclose(
        SCORES[name](log_p),
        [oracles.SCORES[name](p[:, i].tolist()) for i in range(4)],
        rtol=1e-5,
        atol=2e-6,
    )


@each_score
@given(seed=st.integers(0, 2**31))
def test_the_order_of_draws_classes_and_points_does_not_matter(name, seed):
    log_p, _ = oracles.random_log_probs(seed, (5, 12, 3))
    rng = np.random.default_rng(seed)
    score = SCORES[name]
    whole = np.asarray(score(log_p))
    np.testing.assert_allclose(score(log_p[rng.permutation(5)]), whole, atol=1e-6)
    np.testing.assert_allclose(score(log_p[..., rng.permutation(3)]), whole, atol=1e-6)
    points = rng.permutation(12)
    assert np.array_equal(score(log_p[:, points]), whole[points])


@each_score
def test_the_gradient_is_finite_where_draws_are_certain(name):  # TRAPS 2
    certain = jnp.stack(
        [jnp.log(jnp.eye(3)), jnp.log(jnp.eye(3)), jnp.log(jnp.roll(jnp.eye(3), 1, axis=0))]
    )
    near = jax.nn.log_softmax(jnp.where(jnp.isfinite(certain), 300.0, -300.0), axis=-1)
    for x in (certain, near):
        assert np.all(np.isfinite(jax.grad(lambda x: SCORES[name](x).sum())(x)))


@each_score
def test_bits_do_not_depend_on_the_chunk(name):  # TRAPS 10
    log_p, _ = oracles.random_log_probs(2, (100, 7, 3))
    pool = jnp.asarray(log_p)  # 100 points, 7 draws, 3 classes: points lead, as in a pool
    whole = np.asarray(SCORES[name](jnp.moveaxis(pool, 0, 1)))
    for chunk in (1, 7, 64, 100):
        parts = jax.jit(
            lambda x, c=chunk: _chunks.over_rows(
                lambda r: SCORES[name](jnp.moveaxis(r, 0, 1)), x, c
            )
        )(pool)
        assert np.array_equal(parts, whole), chunk


@each_score
def test_an_empty_pool_has_no_scores(name):
    assert SCORES[name](jnp.zeros((4, 0, 3))).shape == (0,)


@each_score
def test_any_batch_axes(name):  # TRAPS 15
    log_p, _ = oracles.random_log_probs(3, (5, 12, 3))
    whole = np.asarray(SCORES[name](log_p))
    np.testing.assert_allclose(
        SCORES[name](log_p.reshape(5, 3, 4, 3)), whole.reshape(3, 4), atol=1e-7
    )
    np.testing.assert_allclose(SCORES[name](log_p[:, 0]), whole[0], atol=1e-7)


@given(st.integers(0, 2**31))
def test_bald_of_draws_that_agree_is_never_negative(seed):  # TRAPS 3
    one, _ = oracles.random_log_probs(seed, (1, 12, 10), scale=4.0)
    got = np.asarray(scores.bald(np.repeat(one, 20, axis=0)))
    assert np.all(got >= 0) and np.all(got < 1e-6)


@pytest.mark.parametrize(
    ("spread", "digits"), [(1e-1, 1e-6), (1e-2, 1e-6), (1e-3, 1e-5), (1e-4, 1e-3)]
)
def test_bald_keeps_its_digits_where_draws_nearly_agree(spread, digits):  # TRAPS 3
    rng = np.random.default_rng(1)
    log_p = oracles.log_softmax(
        rng.normal(size=(1, 12, 3)) + spread * rng.normal(size=(20, 12, 3))
    ).astype(np.float32)
    p = oracles.rows_of(np.exp(log_p.astype(np.float64)))  # information of 1e-3 down to 1e-9
    np.testing.assert_allclose(
        scores.bald(log_p), [oracles.bald(p[:, i].tolist()) for i in range(12)], rtol=digits
    )


@pytest.mark.parametrize("draws", [1, 20])
def test_entropy_keeps_its_digits_where_a_class_is_nearly_certain(draws):
    rest = np.logspace(-30, -3, 28)[:, None] * np.array([[0.7, 0.3]])
    top = np.log1p(-rest.sum(1))
    want = [oracles.h(q) - math.exp(log_q) * log_q for q, log_q in zip(rest, top, strict=True)]
    log_p = np.repeat(
        np.concatenate([top[:, None], np.log(rest)], axis=1)[None], draws, axis=0
    ).astype(np.float32)
    np.testing.assert_allclose(scores.entropy(log_p), want, rtol=1e-5)
    np.testing.assert_allclose(scores.decompose(log_p).aleatoric, want, rtol=1e-5)


def test_bald_is_the_gap_between_the_two_entropies():
    log_p, _ = oracles.random_log_probs(4, (20, 12, 10))
    np.testing.assert_allclose(
        scores.bald(log_p), scores.entropy(log_p) - scores.expected_entropy(log_p), atol=1e-6
    )


def test_two_certain_opposite_draws_have_log_2_nats():  # TRAPS 14, 29
    opposite = jnp.log(jnp.eye(2))[:, None]
    for score in (scores.entropy, scores.bald):
        assert abs(float(score(opposite)[0]) - math.log(2)) < 1e-6


def test_variation_ratio_is_a_frequency_of_votes():  # TRAPS 38
    votes = np.log(
        np.array(
            [[[0.6, 0.4]], [[0.9, 0.1]], [[0.3, 0.7]], [[0.45, 0.55]], [[0.51, 0.49]]], np.float32
        )
    )
    assert abs(float(scores.variation_ratio(votes)[0]) - 2 / 5) < 1e-7


def test_bfloat16_storage_keeps_the_ranking_of_bald():  # TRAPS 5
    log_p, _ = oracles.random_log_probs(5, (20, 500, 10), scale=1.0)
    stored = jnp.asarray(log_p).astype(jnp.bfloat16)
    a, b = np.asarray(scores.bald(log_p)), np.asarray(scores.bald(stored))
    ranks = [np.argsort(np.argsort(v)) for v in (a, b)]
    assert np.corrcoef(*ranks)[0, 1] >= 0.99


@each_score
def test_inputs_are_left_alone(name):  # TRAPS 30
    log_p, _ = oracles.random_log_probs(6, (5, 12, 3))
    before = log_p.copy()
    log_p.flags.writeable = False
    SCORES[name](log_p)
    assert np.array_equal(log_p, before)


BAD = {
    "probabilities": (errors.NotLogProbabilities, lambda x: np.exp(x), "probabilities"),
    "logits": (errors.NotLogProbabilities, lambda x: x + 1.0, "log_softmax"),
    "one row off": (
        errors.NotLogProbabilities,
        lambda x: np.concatenate([x[:, :3], x[:, 3:] + np.float32(0.1)], 1),
        "sum to 1",
    ),
    "integers": (errors.NotLogProbabilities, lambda x: x.astype(np.int32), "int32"),
    "nan": (
        errors.NonFinite,
        lambda x: np.where(np.arange(12)[None, :, None] == 7, np.float32(np.nan), x),
        "NaN",
    ),
    "no draws": (errors.WrongSize, lambda x: x[:0], "K = 0"),
    "one class": (errors.WrongShape, lambda x: x[..., :1] * 0, "C = 1"),
    "one axis": (errors.WrongShape, lambda x: x[0, 0], "axes"),
    "a list": (errors.WrongShape, lambda x: x.tolist(), "list"),
}


@each_score
@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(name, bad):  # TRAPS 16
    error, spoil, word = BAD[bad]
    log_p, _ = oracles.random_log_probs(7, (5, 12, 3))
    with pytest.raises(error, match=word) as caught:
        SCORES[name](spoil(log_p))
    assert caught.value.argument == "log_probs" and "`log_probs`" in str(caught.value)
    if bad == "nan":
        assert set(caught.value.rows.tolist()) == {7}


@each_score
def test_nan_anywhere_in_a_point_is_nan(
    name,
):  # TRAPS 1: a broken point must not look like a certain one
    log_p, _ = oracles.random_log_probs(3, (5, 4, 3))
    log_p = log_p.copy()
    log_p[2, 1, 0], log_p[:, 2] = np.nan, np.nan
    got = np.asarray(jax.jit(SCORES[name])(log_p))
    assert np.isnan(got).tolist() == [False, True, True, False]


@pytest.mark.parametrize("draws", [*range(1, 40, 3), 1023])
def test_draws_that_agree_score_exactly_nothing(draws):  # TRAPS 3
    log_p = np.concatenate(
        [oracles.random_log_probs(4, (1, 6, 3), scale)[0] for scale in (0.1, 2.0, 30.0, 300.0)],
        axis=1,
    )
    same = np.repeat(log_p, draws, axis=0)
    assert (
        not np.asarray(scores.variation_ratio(same)).any()
        and not np.asarray(scores.bald(same)).any()
    )


def test_rounding_of_the_storage_is_taken_back():
    uniform = jnp.full((4, 3, 100), -math.log(100), jnp.bfloat16)
    assert np.all(np.asarray(scores.entropy(uniform)) <= math.log(100) + 1e-6)


def test_the_parts_of_uncertainty_are_the_scores():
    log_p = planted(11, (5, 12, 3))
    parts = scores.decompose(log_p)
    for got, score in zip(
        parts, (scores.entropy, scores.expected_entropy, scores.bald), strict=True
    ):
        np.testing.assert_allclose(got, score(log_p), atol=1e-6)
    assert (
        np.array_equal(parts.epistemic, scores.bald(log_p))
        and np.asarray(parts.aleatoric).min() >= 0
    )


LARGE = _chunks.IN_CACHE // (100 * 10) + 100  # more points than one chunk holds


@pytest.fixture(scope="module")
def large():
    return jax.nn.log_softmax(3 * jax.random.normal(jax.random.key(0), (100, LARGE, 10)), axis=-1)


def test_a_large_pool_is_scored_in_parts_with_the_same_bits(large):
    whole = np.asarray(scores.bald(large))
    assert np.array_equal(whole[-300:], scores.bald(large[:, -300:]))
    assert np.array_equal(
        whole.reshape(2, -1), scores.bald(large.reshape(100, 2, -1, 10))
    )  # and in any layout
    assert np.array_equal(whole, jax.jit(scores.bald)(large))  # looked at or not


@pytest.mark.parametrize("at_once", [10**9, 150_000, 181_000, 1])
def test_a_pool_from_the_host_is_brought_in_parts(large, at_once, monkeypatch):
    monkeypatch.setattr(importlib.import_module("bayesal.scores._compiled"), "AT_ONCE", at_once)
    host = np.array(large[:, : 40 if at_once == 1 else None])
    parts, whole = scores.decompose(host), scores.decompose(jnp.asarray(host))
    assert all(np.array_equal(a, b) for a, b in zip(parts, whole, strict=True))
    assert np.array_equal(scores.bald(host[:, 0]), whole.epistemic[0])
    host[7, -2] += 0.01
    with pytest.raises(errors.NotLogProbabilities) as caught:
        scores.bald(host)
    assert caught.value.rows.tolist() == [host.shape[1] - 2]


def test_what_is_off_in_one_row_of_a_large_pool_is_found(large):
    with pytest.raises(
        errors.NotLogProbabilities, match=f"first, at index \\(7, {LARGE - 2}\\), sums to 1.01"
    ) as caught:
        scores.bald(large.at[7, -2].add(0.01))
    assert caught.value.rows.tolist() == [LARGE - 2]
    with pytest.raises(errors.NonFinite) as caught:
        scores.bald(large.at[99, 3, 9].set(jnp.nan))
    assert caught.value.rows.tolist() == [3]


def test_a_little_off_is_taken_back():
    log_p, _ = oracles.random_log_probs(8, (5, 12, 3))
    np.testing.assert_allclose(scores.bald(log_p + np.float32(5e-4)), scores.bald(log_p), rtol=1e-4)


def test_a_pool_may_be_closed_over():
    log_p = jnp.asarray(oracles.random_log_probs(9, (5, 12, 3))[0])
    scaled = jax.jit(lambda by: by * scores.bald(log_p))
    np.testing.assert_allclose(scaled(2.0), 2.0 * scores.bald(log_p), rtol=1e-6)
    logits = log_p + 1.0
    with pytest.raises(errors.NotLogProbabilities):
        jax.jit(lambda by: by * scores.bald(logits))(2.0)
