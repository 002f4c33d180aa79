"""`tell(known="replace")`: new labels and corrections in one fit."""

import jax
import numpy as np
import pytest

import bayesal
from bayesal import acquire, errors, posteriors, scores

X = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


@pytest.fixture(scope="module")
def learner():
    return bayesal.learner(posteriors.logistic(2), acquire.top(scores.entropy), size=4, num_draws=4)


@pytest.fixture(scope="module")
def state(learner):
    return learner.tell(learner.init(0, X), X, np.arange(6), Y[:6])


def test_a_correction_and_new_labels_are_one_fit(learner, state):
    rows, labels = np.array([2, 7, 9]), np.array([1 - Y[2], Y[7], Y[9]])
    told = learner.tell(state, X, rows, labels, known="replace")
    assert int(told.round) == int(state.round) + 1
    assert told.ledger.rows().tolist() == [0, 1, 2, 3, 4, 5, 7, 9]
    assert np.asarray(told.ledger.labels)[:8].tolist() == [*Y[:2], 1 - Y[2], *Y[3:6], Y[7], Y[9]]
    apart = learner.tell(state, X, rows[1:], labels[1:])
    relabeled = learner.relabel(apart, X, rows[:1], labels[:1])
    for a, b in zip(jax.tree.leaves(told.ledger), jax.tree.leaves(relabeled.ledger), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_corrections_are_a_relabel(learner, state):
    one = learner.tell(state, X, [2], [1 - Y[2]], known="replace")
    two = learner.relabel(state, X, [2], [1 - Y[2]])
    for a, b in zip(jax.tree.leaves(one.posterior), jax.tree.leaves(two.posterior), strict=True):
        np.testing.assert_array_equal(a, b)


def test_given_weights_are_the_new_ones(learner, state):
    told = learner.tell(state, X, [2, 7], Y[[2, 7]], weights=[0.5, 0.25], known="replace")
    assert np.asarray(told.ledger.weight)[[2, 6]].tolist() == [0.5, 0.25]


def test_known_rows_are_refused_by_default_and_other_words_too(learner, state):
    with pytest.raises(errors.WrongIndex, match="are labeled already"):
        learner.tell(state, X, [2], [0])
    with pytest.raises(errors.UnknownName, match="'refuse' or 'replace'"):
        learner.tell(state, X, [2], [0], known="maybe")
