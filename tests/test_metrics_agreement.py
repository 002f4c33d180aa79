"""Metrics of agreement, class by class: against plain Python, and against scikit-learn."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as peers

from bayesal import errors, metrics

CASES = st.tuples(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 6))


def drawn(case):
    seed, rows, classes = case
    random = np.random.default_rng(seed)
    log_probs = oracles.random_log_probs(seed, (rows, classes))[0]
    labels = random.integers(0, random.integers(1, classes + 1), rows)  # some classes are absent
    weights = random.integers(0, 4, rows)
    weights[0] = 1
    return np.asarray(log_probs), labels, weights


def counted(log_probs, labels, weights):
    """The matrix by a loop."""
    classes = log_probs.shape[1]
    found = [[0.0] * classes for _ in range(classes)]
    for row, label, weight in zip(
        log_probs.tolist(), labels.tolist(), weights.tolist(), strict=True
    ):
        found[label][row.index(max(row))] += weight
    return found


@given(CASES)
def test_counts_are_those_of_a_loop_and_of_repeated_points(case):
    log_probs, labels, weights = drawn(case)
    found = metrics.confusion_matrix(log_probs, labels, weights=weights)
    assert found.tolist() == counted(log_probs, labels, weights)
    again = [np.repeat(a, weights, axis=0) for a in (log_probs, labels)]
    assert metrics.confusion_matrix(*again).tolist() == found.tolist()


@given(CASES)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_figures_are_scikit_learns(case):
    log_probs, labels, weights = drawn(case)
    predicted, given_ = log_probs.argmax(-1), {"sample_weight": weights}
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12)
    close(
        metrics.balanced_accuracy(log_probs, labels, weights=weights),
        peers.balanced_accuracy_score(labels, predicted, **given_),
    )
    kept = weights > 0  # a class of weight 0 does not occur
    of = lambda how: peers.f1_score(
        labels[kept], predicted[kept], sample_weight=weights[kept], average=how, zero_division=0
    )
    close(metrics.f1(log_probs, labels, weights=weights), of("macro"))
    close(metrics.f1(log_probs, labels, average="micro", weights=weights), of("micro"))
    each = metrics.f1(log_probs, labels, average=None, weights=weights)
    close(each[~np.isnan(each)], of(None))
    positive = labels == labels[0]
    scores = np.round(log_probs[:, labels[0]], 1)  # ties
    close(
        metrics.average_precision(scores, positive, weights=weights),
        peers.average_precision_score(positive, scores, **given_),
    )


def test_average_precision_by_hand():
    """Thresholds .9 (one of one), .5 (two of three, tied), -inf (all)."""
    scores = np.array([0.5, 0.9, 0.5, -np.inf])
    positive = np.array([True, True, False, True])
    want = (1 / 3) * 1 + (1 / 3) * (2 / 3) + (1 / 3) * (3 / 4)
    assert metrics.average_precision(scores, positive) == pytest.approx(want, abs=1e-15)
    assert metrics.average_precision(np.zeros(4), positive) == 0.75


def test_always_the_same_class_is_no_better_than_chance():
    log_probs = np.log(np.tile([0.98, 0.02], (100, 1)))
    labels = np.arange(100) // 95  # 5 % of class 1
    assert metrics.balanced_accuracy(log_probs, labels) == 0.5
    assert metrics.f1(log_probs, labels, average=None)[1] == 0.0


def test_what_cannot_be_is_refused_by_name():
    log_probs, labels = np.log(np.full((3, 2), 0.5)), np.array([0, 1, 1])
    with pytest.raises(errors.UnknownName, match="average"):
        metrics.f1(log_probs, labels, average="weighted")
    with pytest.raises(errors.WrongLabel, match="positive"):
        metrics.average_precision(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(errors.WrongShape, match="positive"):
        oracles.as_users_do(metrics.average_precision)(np.zeros(3), labels)
    with pytest.raises(errors.WrongSize, match="labels"):
        metrics.confusion_matrix(log_probs[:0], labels[:0])
