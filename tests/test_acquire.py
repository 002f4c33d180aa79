"""Strategies: what is screened, certified and reported. The laws of all selectors are in
test_selector_laws.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import acquire, errors, scores, select

N, K, C, F = 60, 8, 3, 4
X = jnp.asarray(np.random.default_rng(0).normal(size=(N, F)).astype(np.float32))
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32))
ALL = jnp.ones(N, bool)
KEY = jax.random.key(0)


def linear(x):
    """K linear functions of x: a predictive like any other."""
    return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, WEIGHTS), axis=-1)


STRATEGIES = {
    "top": acquire.top(scores.bald),
    "batch_bald": acquire.batch_bald(configurations=100, candidates=20),
    "grown_batch_bald": acquire.batch_bald(configurations=100, candidates=5, grow=True),
    "epig": acquire.epig(X[:7]),
    "batch_epig": acquire.batch_epig(X[:7], configurations=80, candidates=20),
}
run = {
    name: jax.jit(lambda key, x, available, s=s: s(key, linear, x, available, 5))
    for name, s in STRATEGIES.items()
}


@settings(max_examples=8)
@given(st.sampled_from([5, 20]), st.integers(0, 10_000))
@pytest.mark.slow
def test_within_speaks_of_the_whole_pool(candidates, seed):
    available = jnp.asarray(np.random.default_rng(seed).random(N) < 0.8)
    seen = {}

    def spy(key, predictive, x, mask, size):
        seen["x"], seen["mask"] = x, mask
        return acquire.top(scores.entropy)(key, predictive, x, mask, size)

    picked = acquire.prefilter(candidates, scores.bald, spy)(KEY, linear, X, available, 5)
    first = np.where(available, scores.bald(linear(X)), -np.inf)
    kept = [i for i in np.argsort(-first, kind="stable")[:candidates] if available[i]]
    second = np.asarray(scores.entropy(linear(X)))
    assert sorted(map(tuple, np.asarray(seen["x"])[np.asarray(seen["mask"])].tolist())) == sorted(
        map(tuple, np.asarray(X)[kept].tolist())
    )
    np.testing.assert_allclose(
        second[np.asarray(picked.indices)], np.sort(second[kept])[::-1][:5], atol=1e-6
    )
    assert set(np.asarray(picked.indices).tolist()) <= set(kept)


@pytest.mark.parametrize("candidates", [N, 10 * N])
def test_within_everything_is_the_strategy_itself(candidates):
    for then in (acquire.top(scores.entropy), acquire.uniform()):
        whole, part = (
            then(KEY, linear, X, ALL, 5),
            acquire.prefilter(candidates, scores.bald, then)(KEY, linear, X, ALL, 5),
        )
        np.testing.assert_array_equal(whole.indices, part.indices)
        np.testing.assert_allclose(whole.scores, part.scores, atol=1e-6)


def test_no_candidates_are_refused():
    with pytest.raises(errors.WrongSize) as error:
        acquire.prefilter(0, scores.bald, acquire.uniform())
    assert error.value.argument == "candidates"


@pytest.mark.parametrize("chunk", [1, 7, N - 1])
def test_chunks_change_nothing(chunk):
    np.testing.assert_allclose(
        acquire.pool_scores(linear, X, scores.bald, chunk), scores.bald(linear(X)), atol=1e-6
    )


def whole_and_part(x, candidates, size=4):
    run = lambda n: acquire.batch_bald(configurations=200, candidates=n)(
        KEY, linear, x, jnp.ones(len(x), bool), size
    )
    return run(len(x)), run(candidates)


@pytest.mark.slow
def test_a_certified_batch_is_the_whole_pools():
    # a few informative points, many dull ones: the gains of the former stay above the scores of the
    # latter
    x = jnp.concatenate([X[:40] * 0.01, X[40:] * 2.0])
    whole, part = whole_and_part(x, 20, size=3)
    assert bool(whole.certified) and bool(part.certified)
    np.testing.assert_array_equal(whole.indices, part.indices)


def test_a_batch_that_left_too_much_out_is_not_certified():
    # the screen keeps copies of one point only: their later gains fall below the scores left out
    best = int(jnp.argmax(scores.bald(linear(X))))
    x = jnp.concatenate([X, jnp.tile(X[best], (6, 1))])
    whole, part = whole_and_part(x, 5)
    assert bool(whole.certified) and not bool(part.certified)


@pytest.mark.slow
def test_the_gap_is_what_is_missing_to_a_certificate():
    bald = np.sort(np.asarray(scores.bald(linear(X))))[::-1]
    picked = run["batch_bald"](KEY, X, ALL)
    assert not bool(picked.certified) and float(picked.gap) == pytest.approx(
        bald[20] - float(picked.scores[-1]), abs=1e-6
    )
    whole = acquire.batch_bald(configurations=100, candidates=N)(KEY, linear, X, ALL, 5)
    assert bool(whole.certified) and float(whole.gap) == 0.0


def test_a_grown_batch_is_the_whole_pools():
    available = jnp.arange(N) % 5 > 0
    grown = run["grown_batch_bald"](KEY, X, available)
    whole = select.batch_bald(KEY, linear(X), 5, available=available, configurations=100)
    np.testing.assert_array_equal(grown.indices, whole.indices)
    np.testing.assert_allclose(grown.scores, whole.scores, atol=1e-6)
    assert bool(grown.certified) and float(grown.gap) == 0.0


@pytest.mark.slow
def test_a_grown_batch_about_targets_is_the_whole_pools():
    available = jnp.arange(N) % 5 > 0
    strategy = acquire.batch_epig(X[:7], configurations=80, candidates=5, grow=True)
    grown = jax.jit(lambda key, x, available: strategy(key, linear, x, available, 5))(
        KEY, X, available
    )
    whole = select.batch_epig(
        jax.random.split(KEY)[1],
        linear(X),
        linear(X[:7]),
        5,
        available=available,
        configurations=80,
    )
    np.testing.assert_array_equal(grown.indices, whole.indices)
    np.testing.assert_allclose(grown.scores, whole.scores, atol=1e-6)
    assert bool(grown.certified) and float(grown.gap) == 0.0


def test_what_is_certified_does_not_grow():
    x = jnp.concatenate([X[:52] * 0.01, X[52:] * 2.0])  # eight points that tell something
    plain, grown = (
        jax.jit(
            lambda x, grow=grow: acquire.batch_bald(configurations=100, candidates=8, grow=grow)(
                KEY, linear, x, ALL, 3
            )
        )(x)
        for grow in (False, True)
    )
    assert bool(plain.certified) and float(plain.gap) == 0.0
    np.testing.assert_array_equal(plain.indices, grown.indices)
    np.testing.assert_array_equal(
        plain.evaluated, grown.evaluated
    )  # of the candidates, not of the pool


def test_the_highest_epig_is_found_without_computing_all():
    x = (
        jnp.asarray(np.random.default_rng(3).normal(size=(900, F)).astype(np.float32))
        * jnp.linspace(0.05, 1.5, 900)[:, None]
    )
    available = jnp.arange(900) % 4 > 0
    picked = acquire.epig(X[:7])(KEY, linear, x, available, 10)
    every = np.where(available, scores.epig(linear(x), linear(X[:7])), -np.inf)
    np.testing.assert_allclose(picked.scores, np.sort(every)[::-1][:10], rtol=1e-5)
    np.testing.assert_allclose(every[np.asarray(picked.indices)], picked.scores, rtol=1e-5)
    assert float(picked.evaluated) < 0.6


def test_copies_of_the_best_point_are_no_constant_ranking():
    x = jnp.concatenate(
        [jnp.tile(X[:1], (256, 1)), 1e-3 * jax.random.normal(KEY, (300, X.shape[1]))]
    )
    picked = jax.jit(lambda: acquire.epig(X[:3])(KEY, linear, x, jnp.ones(556, bool), 5))()
    assert not bool(picked.constant) and (np.asarray(picked.indices) < 256).all()


def test_nothing_bounds_what_an_outer_screening_left_out():
    inner = acquire.batch_bald(configurations=80, candidates=30)
    picked = jax.jit(
        lambda: acquire.prefilter(20, scores.entropy, inner)(
            KEY, linear, X, jnp.ones(len(X), bool), 4
        )
    )()
    assert not bool(picked.certified) and float(picked.gap) == np.inf


def test_weights_of_targets_reach_the_score():
    region = np.array([1, 1, 0, 0, 0, 0, 0], np.float32)
    picked = jax.jit(lambda: acquire.epig(X[:7], weights=region)(KEY, linear, X, ALL, 5))()
    np.testing.assert_allclose(
        picked.scores, np.sort(scores.epig(linear(X), linear(X[:2])))[::-1][:5], rtol=1e-5
    )


def test_broken_points_are_counted_and_never_picked():
    x = X.at[3].set(jnp.nan)
    for name in ("top", "batch_bald", "epig", "batch_epig"):
        selection = run[name](KEY, x, ALL)
        assert 3 not in np.asarray(selection.indices)
        assert (np.asarray(selection.indices) >= 0).all()


def test_no_disagreement_is_reported():
    agree = lambda x: jnp.broadcast_to(linear(x)[:1], (K, x.shape[0], C))
    for strategy in (STRATEGIES["top"], STRATEGIES["batch_bald"]):
        assert bool(jax.jit(lambda s=strategy: s(KEY, agree, X, ALL, 5))().constant)
    assert not bool(run["top"](KEY, X, ALL).constant)


def test_a_screening_that_says_nothing_is_reported():
    flat = acquire.prefilter(
        20, lambda log_probs: jnp.zeros(log_probs.shape[1]), acquire.top(scores.bald)
    )(KEY, linear, X, ALL, 5)
    assert bool(flat.constant) and not bool(flat.certified)
    whole = acquire.prefilter(
        N, lambda log_probs: jnp.zeros(log_probs.shape[1]), acquire.top(scores.bald)
    )(KEY, linear, X, ALL, 5)
    assert not bool(whole.constant) and bool(
        whole.certified
    )  # nothing was left out, so nothing was decided by row number


def test_broken_scores_are_left_out_and_counted():
    broken = lambda log_probs: jnp.where(
        scores.bald(log_probs) > 0.3, jnp.nan, scores.bald(log_probs)
    )
    bad = set(np.flatnonzero(np.asarray(scores.bald(linear(X))) > 0.3).tolist())
    assert len(bad) > 2
    picked = acquire.prefilter(20, broken, acquire.top(scores.entropy))(KEY, linear, X, ALL, 5)
    assert int(picked.nonfinite) == len(bad)
    assert not bad & set(np.asarray(picked.indices).tolist())


def test_what_the_inner_strategy_left_out_is_counted_too():
    broken = lambda log_probs: jnp.where(
        jnp.arange(log_probs.shape[1]) % 2 == 0, jnp.nan, scores.entropy(log_probs)
    )
    picked = jax.jit(
        lambda: acquire.prefilter(20, scores.bald, acquire.top(broken))(KEY, linear, X, ALL, 5)
    )()
    assert int(picked.nonfinite) == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: acquire.top(scores.bald, chunk=0),
        lambda: acquire.prefilter(5, scores.bald, acquire.uniform(), chunk=-1),
        lambda: acquire.batch_bald(chunk=0),
    ],
)
def test_a_chunk_has_rows(make):
    with pytest.raises(errors.WrongSize) as error:
        make()
    assert error.value.argument == "chunk"


@pytest.mark.slow
def test_targets_are_drawn_from_the_pool_by_the_key():
    drawn = jax.jit(lambda key: acquire.epig(10)(key, linear, X, ALL, 5))
    every = acquire.epig(N)(KEY, linear, X, ALL, 5)  # more or less than all of the pool: all of it
    np.testing.assert_allclose(
        every.scores, np.sort(scores.epig(linear(X), linear(X)))[::-1][:5], atol=1e-6
    )
    same, again, other = (np.asarray(drawn(jax.random.key(s)).scores) for s in (0, 0, 1))
    assert np.array_equal(same, again) and not np.array_equal(same, other)
    few = jnp.arange(N) < 20
    assert bool(run["batch_epig"](KEY, X, few).certified) and not bool(
        run["batch_epig"](KEY, X, ALL).certified
    )
