"""Strategies as pairs: each is its selector on the whole pool, and says what certifies it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import _maths, acquire, choose, errors, pools, predictive, scores, select
from bayesal.pools import _walk
from bayesal.select._bait import _fisher_factors

N, K, C, F, B = 60, 8, 3, 4, 5
X = np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32)
KEY = jax.random.key(0)


@jax.jit
def linear(x):
    """K linear functions of x."""
    return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, WEIGHTS), axis=-1)


LINEAR = predictive.from_samples(linear, K, embed=lambda x: 2.0 * x)
LOG_P = linear(X)
BALD, ENTROPY = np.asarray(scores.bald(LOG_P)), np.asarray(scores.entropy(LOG_P))
AVAILABLE = np.random.default_rng(3).random(N) < 0.7
BATCH = acquire.batch_bald(configurations=80, candidates=20)
WHOLE = acquire.batch_bald(configurations=80, candidates=N)
GROWN = acquire.batch_bald(configurations=80, candidates=5, grow=True)


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "ON_DEVICE", 16)
        yield


def picked(strategy, x=X, size=B, available=None, key=0):
    return choose(key, LINEAR, x, size, strategy, available=available)


# rankings and samples


@pytest.mark.parametrize("name", ["power", "softmax", "softrank"])
def test_a_sample_is_its_selector_on_the_scores_of_the_pool(name):
    key = jax.random.key(4)
    want = getattr(select, name)(key, BALD, B, beta=8.0, available=AVAILABLE)
    found = picked(getattr(acquire, name)(beta=8.0), available=AVAILABLE, key=key)
    assert found.indices.tolist() == want.indices.tolist()
    with pytest.raises(errors.WrongSize, match="`beta`"):
        getattr(acquire, name)(beta=-1.0)


RULES = {
    "rank_sum": scores.combine.rank_sum,
    "weighted z_score": functools.partial(scores.combine.z_score, weights=(1.0, 0.5)),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_combination_is_over_the_whole_pool(rule):
    margin = scores.margin(LOG_P)
    worth = RULES[rule](BALD, margin, available=AVAILABLE)
    found = picked(
        acquire.combined(scores.bald, scores.margin, by=RULES[rule]), available=AVAILABLE
    )
    assert found.indices.tolist() == select.top(worth, B).indices.tolist()


def test_drop_query_clusters_the_points_that_change_their_class():
    """The masks of the strategy's key, and the linear functions in NumPy."""
    key = jax.random.key(2)
    masks = np.asarray(jax.random.bernoulli(jax.random.split(key)[0], 0.5, (3, F)))

    def guess(x):
        logits = np.einsum("nf,kfc->knc", np.float64(x), WEIGHTS)
        logits -= logits.max(-1, keepdims=True)
        return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).mean(0).argmax(-1)

    changed = sum(guess(X * mask * 2.0) != guess(X) for mask in masks)
    candidates = AVAILABLE & (changed >= 1.5)
    assert B < candidates.sum() < AVAILABLE.sum()
    want = select.k_means(jax.random.split(key)[1], 2.0 * X, B, available=candidates)
    found = picked(acquire.drop_query(rate=0.5), available=AVAILABLE, key=key)
    assert found.indices.tolist() == want.indices.tolist()
    # all are candidates where fewer than a batch change
    most = int(candidates.sum()) + 1
    every = select.k_means(jax.random.split(key)[1], 2.0 * X, most, available=AVAILABLE)
    found = picked(acquire.drop_query(rate=0.5), size=most, available=AVAILABLE, key=key)
    assert found.indices.tolist() == every.indices.tolist()


def test_drop_query_needs_vectors_of_real_numbers():
    with pytest.raises(errors.WrongShape, match="vectors"):
        picked(acquire.drop_query(), x=np.arange(N * F).reshape(N, F))
    for rate in (0.0, 1.0, -1.0, np.nan):
        with pytest.raises(errors.OutOfRange, match="`rate`"):
            acquire.drop_query(rate=rate)


def test_what_no_strategy_is_built_of():
    cases = [
        (errors.WrongSize, "scores", lambda: acquire.combined(scores.bald)),
        (errors.WrongType, "scores", lambda: acquire.combined(scores.bald, "margin")),
        (errors.WrongType, "score", lambda: acquire.top("bald")),
        (errors.WrongType, "score", lambda: acquire.power(3)),
        (errors.WrongType, "score", lambda: acquire.prefilter(9, "entropy", BATCH)),
        (errors.WrongType, "then", lambda: acquire.prefilter(9, scores.entropy, acquire.badge)),
        (errors.WrongType, "then", lambda: acquire.prefilter(9, scores.entropy, scores.bald)),
        (errors.WrongSize, "candidates", lambda: acquire.prefilter(0, scores.bald, BATCH)),
        (errors.WrongSize, "candidates", lambda: acquire.batch_bald(candidates=0)),
        (errors.WrongSize, "candidates", lambda: acquire.batch_epig(candidates=0)),
        (errors.WrongSize, "configurations", lambda: acquire.batch_bald(configurations=0)),
        (errors.WrongSize, "configurations", lambda: acquire.batch_epig(configurations=0)),
        (errors.WrongSize, "targets", lambda: acquire.epig(0)),
        (errors.WrongSize, "targets", lambda: acquire.batch_epig(1.5)),
        (errors.WrongType, "targets", lambda: acquire.epig(np.ma.array(X, mask=X > 1))),
    ]
    for error, argument, call in cases:
        with pytest.raises(error, match=f"`{argument}`") as caught:
            oracles.as_users_do(call)()
        assert caught.value.argument == argument


# screens


@settings(max_examples=8)
@given(st.sampled_from([5, 20]), st.integers(0, 10_000))
def test_a_prefilter_speaks_of_the_whole_pool(candidates, seed):
    available = np.random.default_rng(seed).random(N) < 0.8
    found = picked(PREFILTERS[candidates], available=available)
    first = np.where(available, BALD, -np.inf)
    kept = [i for i in np.argsort(-first, kind="stable")[:candidates] if available[i]]
    want = np.sort(ENTROPY[kept])[::-1][:B]
    np.testing.assert_allclose(ENTROPY[found.indices], want, atol=1e-6)
    assert set(found.indices.tolist()) <= set(kept)


INNER = acquire.top(scores.entropy)
PREFILTERS = {n: acquire.prefilter(n, scores.bald, INNER) for n in (5, 20, N, 10 * N)}


@pytest.mark.parametrize("candidates", [N, 10 * N])
def test_a_prefilter_of_everything_is_the_strategy_itself(candidates):
    for then in (INNER, acquire.uniform()):
        whole, part = picked(then), picked(acquire.prefilter(candidates, scores.bald, then))
        np.testing.assert_array_equal(whole.indices, part.indices)
        np.testing.assert_allclose(whole.scores, part.scores, atol=1e-6)
        assert bool(part.certified)


def test_a_prefilter_gives_rows_of_the_whole_pool_to_geometry_too():
    found = picked(acquire.prefilter(12, scores.entropy, acquire.k_center()))
    kept = np.argsort(-ENTROPY, kind="stable")[:12]
    want = kept[np.asarray(select.k_center(2.0 * X[kept], B, key=KEY).indices)]
    np.testing.assert_array_equal(found.indices, want)


def test_a_screen_that_says_nothing_is_refused_if_it_left_points_out():
    flat = lambda log_probs: jnp.zeros(log_probs.shape[1])
    with pytest.raises(errors.ConstantScores):
        picked(acquire.prefilter(20, flat, INNER))
    whole = picked(acquire.prefilter(N, flat, INNER))  # nothing was decided by row number
    assert whole.indices.tolist() == picked(INNER).indices.tolist()


def test_broken_points_are_counted_by_screen_and_strategy():
    broken = lambda p: jnp.where(scores.bald(p) > 0.3, jnp.nan, scores.bald(p))
    bad = set(np.flatnonzero(BALD > 0.3).tolist())
    with pytest.warns(UserWarning, match=f"{len(bad)} available points"):
        found = picked(acquire.prefilter(20, broken, INNER))
    assert len(bad) > 2 and not bad & set(found.indices.tolist())
    every_other = lambda p: jnp.where(jnp.arange(p.shape[1]) % 2 == 0, jnp.nan, scores.entropy(p))
    with pytest.warns(UserWarning, match="10 available points"):
        picked(acquire.prefilter(20, scores.bald, acquire.top(every_other)))


def test_nothing_bounds_what_an_outer_screen_left_out():
    found = picked(acquire.prefilter(20, scores.entropy, WHOLE))
    assert not bool(found.certified) and float(found.gap) == np.inf


# certificates


@pytest.mark.slow
def test_the_gap_is_what_is_missing_to_a_certificate():
    found, whole = picked(BATCH), picked(WHOLE)
    missing = np.sort(BALD)[::-1][20] - float(found.scores[-1])
    assert not bool(found.certified) and float(found.gap) == pytest.approx(missing, abs=1e-6)
    assert bool(whole.certified) and float(whole.gap) == 0.0


def test_a_certified_batch_is_the_whole_pools():
    # many dull points, and few whose gains stay above the scores of those
    x = np.concatenate([X[:40] * 0.01, X[40:] * 2.0])
    whole, part = picked(WHOLE, x, 3), picked(BATCH, x, 3)
    assert bool(whole.certified) and bool(part.certified)
    np.testing.assert_array_equal(whole.indices, part.indices)


def test_a_batch_that_left_too_much_out_is_not_certified():
    x = np.concatenate([X, np.tile(X[np.argmax(BALD)], (6, 1))])  # the screen keeps copies only
    assert not bool(picked(acquire.batch_bald(configurations=80, candidates=5), x, 4).certified)


GROWN_TARGETS = acquire.batch_epig(X[:7], configurations=80, candidates=5, grow=True)


@pytest.mark.parametrize("where", ["array", pytest.param("file", marks=pytest.mark.slow)])
def test_a_grown_batch_is_the_whole_pools(where):
    pool = X if where == "array" else pools.file(X)
    available = np.arange(N) % 5 > 0
    grown = picked(GROWN, pool, available=available)
    whole = select.batch_bald(KEY, LOG_P, B, available=available, configurations=80)
    np.testing.assert_array_equal(grown.indices, whole.indices)
    np.testing.assert_allclose(grown.scores, whole.scores, atol=1e-6)
    assert bool(grown.certified) and float(grown.gap) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("where", ["array", "file"])
def test_a_grown_batch_about_targets_is_the_whole_pools(where):
    pool = X if where == "array" else pools.file(X)
    available = np.arange(N) % 5 > 0
    grown = picked(GROWN_TARGETS, pool, available=available)
    whole = select.batch_epig(
        jax.random.split(KEY)[1],
        LOG_P,
        linear(X[:7]),
        B,
        available=available,
        configurations=80,
    )
    np.testing.assert_array_equal(grown.indices, whole.indices)
    np.testing.assert_allclose(grown.scores, whole.scores, atol=1e-6)
    assert bool(grown.certified) and float(grown.gap) == 0.0


@pytest.mark.slow
def test_what_is_certified_does_not_grow():
    x = np.concatenate([X[:52] * 0.01, X[52:] * 2.0])  # eight points that tell something
    plain, grown = (
        picked(acquire.batch_bald(configurations=80, candidates=8, grow=grow), x, 3)
        for grow in (False, True)
    )
    assert bool(plain.certified) and float(plain.gap) == 0.0
    np.testing.assert_array_equal(plain.indices, grown.indices)
    np.testing.assert_array_equal(plain.evaluated, grown.evaluated)  # of the candidates only


# targets


def test_the_highest_epig_is_found_without_computing_all():
    x = np.random.default_rng(3).normal(size=(900, F)).astype(np.float32)
    x *= np.linspace(0.05, 1.5, 900, dtype=np.float32)[:, None]
    available = np.arange(900) % 4 > 0
    found = picked(acquire.epig(X[:7]), x, 10, available)
    every = np.where(available, scores.epig(linear(x), linear(X[:7])), -np.inf)
    np.testing.assert_allclose(found.scores, np.sort(every)[::-1][:10], rtol=1e-5)
    np.testing.assert_allclose(every[found.indices], found.scores, rtol=1e-5)
    assert float(found.evaluated) < 0.6


def test_copies_of_the_best_point_are_no_constant_ranking():
    noise = np.random.default_rng(0).normal(size=(300, F)).astype(np.float32)
    x = np.concatenate([np.tile(X[:1], (256, 1)), 1e-3 * noise])
    assert (picked(acquire.epig(X[:3]), x).indices < 256).all()


def test_weights_of_targets_reach_the_score():
    region = np.array([1, 1, 0, 0, 0, 0, 0], np.float32)
    found = picked(acquire.epig(X[:7], weights=region))
    want = np.sort(scores.epig(LOG_P, linear(X[:2])))[::-1][:B]
    np.testing.assert_allclose(found.scores, want, rtol=1e-5)


def test_targets_are_drawn_from_the_pool_by_the_key():
    every = picked(acquire.epig(N))  # all of the pool
    want = np.sort(scores.epig(LOG_P, LOG_P))[::-1][:B]
    np.testing.assert_allclose(every.scores, want, atol=1e-6)
    drawn = acquire.epig(10)
    same, again, other = (np.asarray(picked(drawn, key=key).scores) for key in (0, 0, 1))
    assert np.array_equal(same, again) and not np.array_equal(same, other)


# features: what a strategy hands to its selector

# factory, its options, and what is handed on besides size, features and the available rows
GEOMETRY = {
    "k_center": ({}, {"labeled", "key"}),
    "k_means_pp": ({}, {"labeled", "key"}),
    "k_means": ({"iterations": 3}, {"key"}),
    "typiclust": ({"iterations": 3}, {"labeled", "key"}),
    "dpp": ({"noise_variance": 0.1}, {"labeled"}),
    "badge": ({}, {"key", "mean"}),
    "bait": ({"ridge": 0.1}, {"labeled", "factors"}),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_strategy_is_its_selector_with_the_other_rows_labeled(name, monkeypatch):
    options, wanted = GEOMETRY[name]
    signature = inspect.signature(getattr(select, name))
    answer, handed = select.top(np.arange(N, dtype=np.float32), B), {}

    def selector(*args, **kwargs):
        handed.update(signature.bind(*args, **kwargs).arguments)
        return answer

    monkeypatch.setattr(select, name, selector)
    pool = pools.file(X)  # picked from on the host, where what is handed over can be looked at
    found = picked(getattr(acquire, name)(**options), pool, available=AVAILABLE)
    assert found.indices.tolist() == answer.indices.tolist()
    assert handed.pop("size") == B and handed.pop("available").tolist() == AVAILABLE.tolist()
    mean = _maths.log_mean_exp(LOG_P)[None]
    if "key" in wanted:
        assert (jax.random.key_data(handed.pop("key")) == jax.random.key_data(KEY)).all()
    if "labeled" in wanted:
        assert handed.pop("labeled").tolist() == (~AVAILABLE).tolist()
    if "mean" in wanted:
        np.testing.assert_allclose(handed.pop("log_probs"), mean, atol=1e-6)
    if "factors" in wanted:
        np.testing.assert_allclose(handed.pop("factors"), _fisher_factors(mean, 2 * X), atol=1e-5)
    else:
        np.testing.assert_array_equal(handed.pop("features"), 2.0 * X)
    assert handed == options


def test_a_model_without_features_is_refused():
    bare = predictive.from_samples(linear, K)
    for model, argument in ((bare, "embed"), (lambda x: linear(x), "predictive")):
        with pytest.raises(errors.MissingEmbed, match="features") as caught:
            choose(0, model, X, B, acquire.k_center())
        assert caught.value.argument == argument
