"""Our strategies in modAL's loop; its contract by a learner of the same shape where it is not
installed.
"""

import importlib.util

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bayesal import acquire, errors, scores
from bayesal.integrations import modal
from bayesal.integrations.sklearn import BayesianClassifier

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
FIRST = np.r_[np.flatnonzero(Y == "no")[:10], np.flatnonzero(Y == "yes")[:10]]
POOL = np.delete(X, FIRST, axis=0)
MARGIN = acquire.top(scores.margin)
FOREST = RandomForestClassifier(8, min_samples_leaf=3, random_state=0)

installed = pytest.mark.skipif(
    importlib.util.find_spec("modAL") is None, reason="pip install modAL-python"
)


class Learner:
    """What a query strategy sees of modAL's `ActiveLearner`."""

    def __init__(self, estimator, rows=FIRST):
        self.estimator = estimator.fit(X[rows], Y[rows])
        self.y_training = Y[rows]


def test_two_picks_come_as_a_pair_of_indices_and_scores():
    """modAL splits an index array of length 2 into a pick and its metrics."""
    learner = Learner(LogisticRegression())
    indices, found = modal.query_strategy(MARGIN)(learner, POOL, n_instances=2)
    p = learner.estimator.predict_proba(POOL)
    gaps = np.abs(p[:, 0] - p[:, 1])
    assert indices.tolist() == np.argsort(gaps)[:2].tolist()
    np.testing.assert_allclose(found, -np.sort(gaps)[:2], atol=1e-6)


@pytest.mark.parametrize(
    "estimator",
    [
        FOREST,
        pytest.param(make_pipeline(StandardScaler(), FOREST), marks=pytest.mark.slow),
        pytest.param(BayesianClassifier(num_draws=8), marks=pytest.mark.slow),
    ],
    ids=["forest", "pipeline", "posterior"],
)
def test_members_and_draws_are_compared(estimator):
    query = modal.query_strategy(acquire.batch_bald())
    indices, gains = query(Learner(estimator), POOL, n_instances=3)
    assert len(set(indices.tolist())) == 3 and np.all(gains > 0)


@pytest.mark.parametrize("estimator", [LogisticRegression(), GradientBoostingClassifier()])
@pytest.mark.parametrize("strategy", [acquire.top(scores.bald), acquire.power()])
def test_one_draw_is_refused_where_draws_are_compared(estimator, strategy):
    with pytest.raises(errors.ConstantScores, match="no draws"):
        modal.query_strategy(strategy)(Learner(estimator), POOL)


def test_a_query_is_pure_and_changes_with_the_labels():
    query = modal.query_strategy(acquire.uniform())
    learner, later = Learner(LogisticRegression()), Learner(LogisticRegression(), FIRST[1:])
    first = query(learner, POOL, 10)[0].tolist()
    assert query(learner, POOL, 10)[0].tolist() == first
    assert query(later, POOL, 10)[0].tolist() != first


@pytest.mark.slow
def test_features_are_the_rows_or_what_embed_says():
    learner = Learner(LogisticRegression())
    spread = modal.query_strategy(acquire.k_center())(learner, POOL, 5)[0]
    flat = modal.query_strategy(acquire.k_center(), embed=lambda x: x[:, :1])(learner, POOL, 5)[0]
    assert len(set(spread.tolist())) == 5 and spread.tolist() != flat.tolist()


def test_what_has_no_probabilities_is_named():
    with pytest.raises(errors.WrongType, match="object has no `predict_proba`"):
        modal.query_strategy(MARGIN)(object(), POOL)


@installed
def test_an_active_learner_and_a_committee_of_modal_take_it():
    from modAL.models import ActiveLearner, Committee

    learner = ActiveLearner(
        FOREST, modal.query_strategy(acquire.power()), X_training=X[FIRST], y_training=Y[FIRST]
    )
    for size in (1, 2, 5):
        indices, rows = learner.query(POOL, n_instances=size)
        assert indices.shape == (size,) and rows.shape == (size, 2)
    *_, metrics = learner.query(POOL, n_instances=2, return_metrics=True)
    assert metrics.shape == (2,)
    # `teach` of modAL 0.4.2 asks scikit-learn for an argument that 1.8 has no more
    members = [
        ActiveLearner(LogisticRegression(C=c), X_training=X[FIRST], y_training=Y[FIRST])
        for c in (0.01, 1.0, 100.0)
    ]
    committee = Committee(members, modal.query_strategy(acquire.batch_bald()))
    indices, _ = committee.query(POOL, n_instances=2)
    p = committee.vote_proba(POOL)  # [N, K, C]
    h = lambda q: -np.sum(q * np.log(q), axis=-1)
    bald = h(p.mean(axis=1)) - h(p).mean(axis=1)
    assert indices[0] == bald.argmax() and len(set(indices.tolist())) == 2


@installed
def test_an_error_comes_through_modals_bare_except():
    from modAL.models import ActiveLearner

    query = modal.query_strategy(acquire.top(scores.bald))
    learner = ActiveLearner(LogisticRegression(), query, X_training=X[FIRST], y_training=Y[FIRST])
    with pytest.raises(errors.ConstantScores, match="no draws"):
        learner.query(POOL)
