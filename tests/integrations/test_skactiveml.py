"""Our strategies and posteriors by scikit-activeml's documented contract; its wheel ships no
conformance test.
"""

import pickle
import warnings

import jax
import numpy as np
import oracles
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from bayesal import acquire, errors, pools, scores

pytest.importorskip("skactiveml", reason="pip install scikit-activeml")

from skactiveml import pool as peers
from skactiveml.classifier import SklearnClassifier

from bayesal.integrations import _draws, _utilities
from bayesal.integrations.skactiveml import BayesianClassifier, QueryStrategy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2))
TRUTH = (X[:, 0] > 0).astype(float)
Y = np.where(
    np.isin(np.arange(12), [0, 1, int(TRUTH.argmax()), int(TRUTH.argmin())]), TRUTH, np.nan
)
FREE = np.flatnonzero(np.isnan(Y))
MODEL = BayesianClassifier(classes=[0, 1], num_draws=8)
BALD, BATCH_BALD, CENTERS = acquire.top(scores.bald), acquire.batch_bald(), acquire.k_center()
POWER = acquire.power()
SLOW = [pytest.param(s, marks=pytest.mark.slow) for s in (BATCH_BALD, CENTERS, POWER)]
STRATEGIES = [BALD, *SLOW]


def asked(strategy, **more):
    query = QueryStrategy(strategy, random_state=0)
    return query.query(X, Y, MODEL, return_utilities=True, **more)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: getattr(s, "name", None))
def test_a_batch_and_its_utilities_have_the_peers_form(strategy):
    rows, values = asked(strategy, batch_size=4)
    again, same = asked(strategy, batch_size=4)
    np.testing.assert_array_equal(rows, again)
    np.testing.assert_array_equal(values, same)
    assert values.shape == (4, 12) and set(rows) <= set(FREE) and len(set(rows)) == 4
    for b in range(4):
        missing = sorted({*np.flatnonzero(~np.isnan(Y)), *rows[:b]})
        assert np.flatnonzero(np.isnan(values[b])).tolist() == missing
        if strategy is not POWER:  # which samples
            assert values[b, rows[b]] == np.nanmax(values[b])


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: getattr(s, "name", None))
def test_candidates_may_be_rows_or_samples(strategy):
    whole, values = asked(strategy)
    rows, same = asked(strategy, candidates=FREE)
    np.testing.assert_array_equal(rows, whole)
    np.testing.assert_array_equal(same, values)
    only, alone = asked(strategy, candidates=FREE[2:3])
    assert only.tolist() == [FREE[2]]
    assert np.flatnonzero(~np.isnan(alone[0])).tolist() == [FREE[2]]
    samples, theirs = asked(strategy, candidates=X[FREE])
    assert FREE[samples[0]] == whole[0]
    np.testing.assert_allclose(theirs[0], values[0, FREE], atol=1e-6)


def test_a_batch_larger_than_the_pool_is_cut_with_the_peers_warning():
    with pytest.warns(Warning, match="batch_size"):
        rows = QueryStrategy(POWER, random_state=0).query(X, Y, MODEL, batch_size=50)
    assert sorted(rows) == FREE.tolist()


@pytest.mark.parametrize("seed", range(2))
def test_utilities_after_picks_are_the_gains_by_enumeration(seed):
    """The gain of every row, not of the pick alone: I(batch and row) - I(batch)."""
    log_p, p = oracles.random_log_probs(seed, (5, 7, 3))
    pool = pools.numbers(log_probs=log_p, axes="K N C")
    found = _draws.picked(jax.random.key(seed), pool, 3, BATCH_BALD)
    rows = found.indices.tolist()
    values = _utilities.utilities(jax.random.key(seed), pool, BATCH_BALD, found)
    for b in range(3):
        before = oracles.joint_information(p, rows[:b]) if b else 0.0
        for row in set(range(7)) - set(rows[:b]):
            gain = oracles.joint_information(p, [*rows[:b], row]) - before
            assert values[b, row] == pytest.approx(gain, abs=2e-5)


@pytest.mark.slow
def test_sampled_utilities_are_from_the_configurations_of_the_batch():
    """Beyond the enumeration too, each pick has its own gain and, unsaturated, the highest."""
    log_p, _ = oracles.random_log_probs(0, (40, 60, 10))
    pool = pools.numbers(log_probs=log_p, axes="K N C")
    found = _draws.picked(jax.random.key(3), pool, 6, BATCH_BALD)
    gains = _utilities._gains(jax.random.key(3), log_p, found.indices)
    kept = ~np.asarray(found.saturated)
    assert kept[:4].all()
    own = np.asarray(gains)[np.arange(6), found.indices]
    np.testing.assert_allclose(own[kept], found.scores[kept], rtol=1e-4)
    for b in np.flatnonzero(kept):
        left = np.delete(np.asarray(gains)[b], found.indices[:b])
        assert left.max() == pytest.approx(own[b], rel=1e-4)


def test_utilities_of_a_score_are_the_peers():
    """Margin sampling of the same classifier: theirs is one minus the gap."""
    model = MODEL.fit(X, Y)
    theirs = peers.UncertaintySampling(method="margin_sampling", random_state=0)
    ours = QueryStrategy(acquire.top(scores.margin), random_state=0)
    picked, utilities = theirs.query(X, Y, model, fit_clf=False, return_utilities=True)
    rows, values = ours.query(X, Y, model, fit_clf=False, return_utilities=True)
    assert rows.tolist() == picked.tolist()
    np.testing.assert_allclose(values + 1.0, utilities, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [0, 1])
def test_before_labels_can_tell_rows_apart_picks_are_by_chance_and_say_so(labels):
    y = np.full(12, np.nan)
    y[:labels] = TRUTH[:labels]
    model = MODEL if labels else BayesianClassifier(classes=[0, 1])
    if labels:  # one label of two known classes is fitted
        assert len(QueryStrategy(POWER, random_state=0).query(X, y, model)) == 1
        return
    with pytest.warns(UserWarning, match="picked by chance"):
        rows, values = QueryStrategy(BALD, random_state=0).query(
            X, y, model, batch_size=3, return_utilities=True
        )
    assert len(set(rows)) == 3 and np.isnan(values).sum(axis=1).tolist() == [0, 1, 2]


def test_one_draw_is_refused_by_strategies_that_compare_draws():
    plain = SklearnClassifier(LogisticRegression(), classes=[0, 1])
    for strategy in (BALD, POWER, BATCH_BALD):
        with pytest.raises(errors.ConstantScores, match="no draws"):
            QueryStrategy(strategy, random_state=0).query(X, Y, plain)
    assert len(QueryStrategy(acquire.top(scores.margin)).query(X, Y, plain)) == 1


def test_what_is_wrong_is_refused_as_the_peer_does():
    query = QueryStrategy(POWER, random_state=0).query
    for wrong, error in (
        ({"clf": LogisticRegression()}, TypeError),
        ({"fit_clf": "yes"}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"batch_size": 1.2}, TypeError),
        ({"return_utilities": "yes"}, TypeError),
        ({"y": np.nan}, TypeError),
        ({"X": np.vstack([X, X])}, ValueError),
        ({"candidates": np.nan}, ValueError),
        ({"clf": BayesianClassifier(missing_label="none")}, (TypeError, ValueError)),
    ):
        with pytest.raises(error):
            query(**{"X": X, "y": Y, "clf": MODEL, **wrong})
    with pytest.raises(errors.WrongType, match="strategy"):
        QueryStrategy("bald", random_state=0).query(X, Y, MODEL)


def test_the_model_that_is_asked_stays_as_it_was():
    model = clone(MODEL)
    QueryStrategy(POWER, random_state=0).query(X, Y, model)
    assert not hasattr(model, "predictive_")


@pytest.mark.slow
def test_the_classifier_serves_the_peers_own_strategies():
    rows = peers.BatchBALD(sample_predictions_method_name="sample_proba", random_state=0).query(
        X, Y, ensemble=MODEL, batch_size=2
    )
    committee = peers.QueryByCommittee(
        sample_predictions_method_name="sample_proba", random_state=0
    )
    assert len(rows) == 2 and len(committee.query(X, Y, ensemble=MODEL)) == 1


@pytest.mark.slow
def test_the_classifier_has_one_function_per_draw_and_names_for_classes():
    y = np.array(["none"] * 12)
    y[:6] = np.where(TRUTH[:6] > 0, "yes", "no")
    model = BayesianClassifier(
        classes=["no", "yes", "maybe"], missing_label="none", num_draws=6
    ).fit(X, y)
    draws = model.sample_proba(X)
    assert draws.shape == (6, 12, 3) and model.classes_.tolist() == ["maybe", "no", "yes"]
    np.testing.assert_array_equal(draws[:, 3:5], model.sample_proba(X[3:5]))
    np.testing.assert_allclose(draws.mean(axis=0), model.predict_proba(X), atol=1e-6)
    assert set(model.predict(X)) <= {"no", "yes", "maybe"}
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_the_classifier_knows_nothing_before_the_first_label():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = BayesianClassifier(classes=[0, 1, 2]).fit(X, np.full(12, np.nan))
    np.testing.assert_allclose(model.predict_proba(X), 1 / 3)
    assert model.sample_proba(X, 4).shape == (4, 12, 3)
    assert pickle.loads(pickle.dumps(model)).predictive_ is None
