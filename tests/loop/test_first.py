"""The first batch: picked from features, whatever the strategy, on every pool."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import bayesal
from bayesal import acquire, errors, networks, pools, posteriors, scores, select
from bayesal.loop import _first

IMAGES, DIGITS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(IMAGES))
POOL, TEST = ORDER[:1297], ORDER[1297:]
X = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
POSTERIOR = posteriors.mc_dropout(networks.mlp(4, 3, (8,)))


def learner(**options):
    options = {"strategy": acquire.batch_bald(), "size": 5, "num_draws": 5} | options
    strategy = options.pop("strategy")
    return bayesal.learner(options.pop("posterior", POSTERIOR), strategy, **options)


def first(x=X, key=0, **options):
    loop = learner(**options)
    return loop.ask(loop.init(key, x), x)


def test_twenty_first_digits_teach_more_than_chance():
    """Reach: .82 on average and .79 at worst, over 10 keys; chance is .66."""
    x = np.float32(IMAGES[POOL])
    loop = learner(posterior=posteriors.mc_dropout(networks.mlp(64, 10)), size=20)
    state, accuracy = loop.init(0, x), []
    for key in range(10):
        rows = np.asarray(loop.ask(state._replace(key=jax.random.key(key)), x).indices)
        assert len(set(rows.tolist())) == 20
        model = LogisticRegression(max_iter=2000).fit(x[rows], DIGITS[POOL][rows])
        accuracy.append(model.score(IMAGES[TEST], DIGITS[TEST]))
    assert np.mean(accuracy) >= 0.82 and min(accuracy) >= 0.79


def test_it_is_typiclust_of_the_rows_as_they_are():
    loop = learner()
    state = loop.init(3, X)
    key = jax.random.fold_in(jax.random.fold_in(state.key, 0), 2)
    want = select.typiclust(key, X, 5).indices
    assert np.array_equal(loop.ask(state, X).indices, want)
    assert np.array_equal(loop.ask(state, X).indices, want)  # twice is the same


def test_strategies_that_know_nothing_yet_are_replaced_alike():
    want = first()
    for strategy in (acquire.top(scores.margin), acquire.power(), acquire.badge()):
        assert np.array_equal(first(strategy=strategy).indices, want.indices)


def test_every_pool_gives_the_same_batch(tmp_path):
    np.save(tmp_path / "x.npy", X)
    want = first().indices
    for x in (tmp_path / "x.npy", jax.numpy.asarray(X), pools.sharded(X), X.tolist()):
        assert np.array_equal(first(x).indices, want)


def test_given_features_and_given_strategies():
    features = np.zeros((60, 2), np.float32)
    features[[7, 20, 41], 0] = (100.0, -100.0, 50.0)  # three far away, all others copies
    centers = first(first=features, size=4).indices
    assert {7, 20, 41} < set(np.asarray(centers).tolist())
    assert len(set(np.asarray(first(first=acquire.uniform()).indices).tolist())) == 5
    spread = first(first=acquire.k_center()).indices
    assert not np.array_equal(spread, first().indices)


def test_ids_are_no_features():
    pairs = np.stack([np.arange(60), np.arange(60)[::-1]], axis=1)
    whole = networks.from_functions(
        lambda key, x: np.zeros((2, 3), np.float32),
        lambda p, x, key: jax.numpy.float32(x) @ p,
    )
    asked = first(pairs, posterior=posteriors.point(whole), num_draws=1).indices
    drawn = first(
        pairs, posterior=posteriors.point(whole), num_draws=1, first=acquire.uniform()
    ).indices
    assert np.array_equal(asked, drawn)


def test_what_is_excluded_or_has_an_answer_is_not_asked():
    loop = learner()
    state = loop.init(0, X)
    batch = np.asarray(loop.ask(state, X).indices)
    others = np.asarray(loop.ask(state, X, exclude=batch).indices)
    assert not set(batch.tolist()) & set(others.tolist())
    rejected = loop.tell(state, X, batch[:2], [bayesal.REJECTED] * 2)  # an answer, and no label
    again = np.asarray(loop.ask(rejected, X, size=12).indices)
    assert len(again) == 12 and not set(again.tolist()) & set(batch[:2].tolist())


def test_the_strategy_takes_over_at_the_first_label():
    loop = learner(strategy=acquire.top(scores.bald))
    state = loop.tell(loop.init(0, X), X, [0, 1, 2], [0, 1, 2])
    lone = learner(strategy=acquire.top(scores.bald), first=acquire.uniform())
    assert np.array_equal(loop.ask(state, X).indices, lone.ask(state, X).indices)


def test_an_audit_stands_before_it():
    batch = first(audit=0.4)
    assert np.asarray(batch.audit).tolist() == [True, True, False, False, False]
    assert len(set(np.asarray(batch.indices).tolist())) == 5


def test_a_batch_larger_than_the_pool_is_what_is_left():
    assert sorted(np.asarray(first(X[:3], size=5).indices).tolist()) == [0, 1, 2]


def test_of_a_large_pool_a_sample_is_looked_at(monkeypatch):
    monkeypatch.setattr(_first, "MOST", 20)
    x = np.arange(60, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    rows = np.asarray(first(x).indices)
    assert len(set(rows.tolist())) == 5 and rows.max() < 60
    assert not np.array_equal(rows, first(x, key=1).indices)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (acquire.top(scores.bald), errors.WrongType),
        (acquire.batch_bald(), errors.WrongType),
        (acquire.typiclust, errors.WrongType),
        ("typiclust", errors.WrongType),
        (20, errors.WrongType),
        (np.zeros((59, 2)), errors.WrongShape),
        (np.full((60, 2), np.nan), errors.NonFinite),
        (np.zeros(60), errors.WrongShape),
    ],
    ids=["score", "joint", "factory", "name", "number", "rows", "nan", "vector"],
)
def test_what_cannot_pick_first_is_refused_by_name(given, error):
    with pytest.raises(error) as caught:
        first(first=given)
    assert caught.value.argument in ("first", "features")


def test_rows_with_nan_are_counted_and_not_asked():
    x = X.copy()
    x[:50, 0] = np.nan
    with pytest.warns(UserWarning, match="50 available points have NaN"):
        rows = first(x).indices
    assert np.asarray(rows).min() >= 50
