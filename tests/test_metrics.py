import math

import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, metrics
from bayesal.types import Gaussian

pytestmark = pytest.mark.usefixtures("strict")

METRICS = [metrics.accuracy, metrics.nll, metrics.brier, metrics.ece, metrics.reliability]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.__name__)


def binary(confidence):
    p = np.asarray(confidence, np.float64)
    with np.errstate(divide="ignore"):
        return np.log(np.stack([p, 1 - p], axis=1)).astype(np.float32)


@given(st.integers(0, 2**31))
def test_against_hand_counts(seed):
    log_p, p = oracles.random_log_probs(seed, (40, 3))
    y = np.random.default_rng(seed).integers(0, 3, 40)
    guess = p.argmax(1)
    assert abs(float(metrics.accuracy(log_p, y)) - sum(guess == y) / 40) < 1e-6
    assert (
        abs(float(metrics.nll(log_p, y)) + sum(math.log(p[i, y[i]]) for i in range(40)) / 40) < 2e-6
    )
    squared = sum(sum((p[i, c] - (c == y[i])) ** 2 for c in range(3)) for i in range(40)) / 40
    assert abs(float(metrics.brier(log_p, y)) - squared) < 2e-6
    assert (
        abs(metrics.ece(log_p, y) - oracles.ece(p.max(1).tolist(), (guess == y).tolist(), 15))
        < 1e-6
    )


def test_extremes():  # TRAPS 1
    certain = binary([1.0, 1.0])
    assert float(metrics.nll(certain, np.array([0, 0]))) == 0.0
    assert float(metrics.nll(certain, np.array([0, 1]))) == np.inf
    assert float(metrics.brier(certain, np.array([1, 1]))) == 2.0
    assert metrics.ece(certain, np.array([0, 0])) == 0.0
    assert metrics.ece(certain, np.array([1, 1])) == 1.0


def test_confidence_one_falls_in_the_last_bin_and_edges_in_the_lower():  # TRAPS 24
    table = metrics.reliability(binary([1.0, 0.8, 0.8, 0.81, 0.5]), np.zeros(5, int), bins=10)
    assert table.count.tolist() == [0, 0, 0, 0, 1, 0, 0, 2, 1, 1]
    assert table.confidence[9] == 1.0 and table.accuracy[9] == 1.0
    assert table.confidence[0] == 0.0 and table.accuracy[0] == 0.0  # an empty bin


def test_ece_by_hand():  # TRAPS 24
    log_p = binary([0.9, 0.9, 0.7, 0.7])
    y = np.array([0, 1, 0, 0])
    assert (
        abs(metrics.ece(log_p, y, bins=10) - (0.5 * abs(0.5 - 0.9) + 0.5 * abs(1.0 - 0.7))) < 1e-6
    )


def test_equal_mass_bins_hold_equally_many_and_keep_ties_together():  # TRAPS 24
    spread = np.linspace(0.51, 0.99, 10)
    table = metrics.reliability(binary(spread), np.zeros(10, int), bins=3, equal_mass=True)
    assert sorted(table.count.tolist()) == [3, 3, 4]
    np.testing.assert_allclose(table.confidence[0], spread[:4].mean(), atol=1e-6)
    tied = metrics.reliability(
        binary([0.7] * 6 + [0.9] * 4), np.zeros(10, int), bins=5, equal_mass=True
    )
    assert sorted(c for c in tied.count.tolist() if c) == [4, 6]
    assert (
        abs(
            metrics.ece(binary([0.7] * 6 + [0.9] * 4), np.zeros(10, int), bins=5, equal_mass=True)
            - (0.6 * 0.3 + 0.4 * 0.1)
        )
        < 1e-6
    )


@given(st.integers(0, 2**31))
@pytest.mark.slow
def test_the_order_of_points_and_the_names_of_classes_do_not_matter(seed):
    log_p, _ = oracles.random_log_probs(seed, (40, 3))
    rng = np.random.default_rng(seed)
    y, points, classes = rng.integers(0, 3, 40), rng.permutation(40), rng.permutation(3)
    for metric in METRICS[:-1]:
        want = float(metric(log_p, y))
        assert abs(float(metric(log_p[points], y[points])) - want) < 2e-6
        assert abs(float(metric(log_p[:, classes], np.argsort(classes)[y])) - want) < 2e-6


def test_the_area_under_a_curve():
    assert (
        abs(
            metrics.area_under_curve(np.array([10, 20, 40]), np.array([0.0, 1.0, 1.0]))
            - (5 + 20) / 30
        )
        < 1e-12
    )
    assert metrics.area_under_curve(np.array([5]), np.array([0.3])) == 0.3


def test_labels_needed():
    counts, values = np.array([10, 20, 30]), np.array([0.5, 0.9, 0.8])
    assert metrics.labels_needed(counts, values, 0.9) == 20
    assert metrics.labels_needed(counts, values, 0.2) == 10
    assert metrics.labels_needed(counts, values, 0.95) == np.inf


@pytest.mark.parametrize(("right", "test"), [(9, 10), (450, 500), (19, 20), (2, 3), (7, 10)])
def test_an_accuracy_that_is_the_level_reaches_it(right, test):
    """`float(float32(0.9)) < 0.9`: accuracies are float32, levels are not."""
    log_p = binary([0.9] * test)
    labels = lambda hits: (np.arange(test) >= hits).astype(int)  # class 0 is predicted
    exact = float(metrics.accuracy(log_p, labels(right)))
    one_less = float(metrics.accuracy(log_p, labels(right - 1)))
    counts = np.array([10, 20])
    assert metrics.labels_needed(counts, np.array([one_less, exact]), right / test) == 20
    assert metrics.labels_needed(counts, np.array([0.0, one_less]), right / test) == np.inf


def test_negative_and_zero_levels_are_reached_too():
    counts = np.array([10, 20])
    assert metrics.labels_needed(counts, np.array([-1.0, np.float32(-0.1)]), -0.1) == 20
    assert metrics.labels_needed(counts, np.array([-1e-9, 0.0]), 0.0) == 20


@pytest.mark.parametrize("level", [np.nan, np.inf, -np.inf, True])
def test_a_level_is_a_finite_number(level):
    with pytest.raises(errors.OutOfRange, match="`level`") as caught:
        oracles.as_users_do(metrics.labels_needed)(np.array([10]), np.array([0.5]), level)
    assert caught.value.argument == "level"


@pytest.mark.parametrize(
    ("counts", "values", "argument"),
    [
        ([1, 2], [1.0], "values"),
        ([], [], "values"),
        ([1, 2], [1.0, np.nan], "values"),
        ([2, 2], [1.0, 1.0], "counts"),
        ([1, np.nan], [1.0, 1.0], "counts"),
    ],
)
def test_broken_curves(counts, values, argument):
    with pytest.raises(errors.BayesalError, match=f"`{argument}`") as caught:
        metrics.area_under_curve(np.array(counts), np.array(values))
    assert caught.value.argument == argument


BAD = {
    "probabilities": (errors.NotLogProbabilities, "log_probs", lambda x, y: (np.exp(x), y)),
    "nan": (errors.NonFinite, "log_probs", lambda x, y: (x * np.float32(np.nan), y)),
    "draws": (errors.WrongShape, "log_probs", lambda x, y: (x[None], y)),
    "one class": (errors.WrongShape, "log_probs", lambda x, y: (x[:, :1], y)),
    "label too high": (errors.WrongLabel, "labels", lambda x, y: (x, y + 2)),
    "label negative": (errors.WrongLabel, "labels", lambda x, y: (x, y - 1)),
    "float labels": (errors.WrongLabel, "labels", lambda x, y: (x, y.astype(float))),
    "one-hot labels": (errors.WrongLabel, "labels", lambda x, y: (x, np.eye(2, dtype=int)[y])),
    "too few labels": (errors.WrongLabel, "labels", lambda x, y: (x, y[:-1])),
    "no points": (errors.WrongSize, "labels", lambda x, y: (x[:0], y[:0])),
}


@each_metric
@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(metric, bad):  # TRAPS 16, 32
    error, argument, spoil = BAD[bad]
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(metric)(*spoil(binary([0.9, 0.4]), np.array([0, 1])))
    assert caught.value.argument == argument


@pytest.mark.parametrize("bins", [0, -1, 2.5, True])
def test_bins_are_a_positive_int(bins):
    with pytest.raises(errors.WrongSize, match="`bins`") as caught:
        oracles.as_users_do(metrics.ece)(binary([0.9]), np.array([0]), bins=bins)
    assert caught.value.argument == "bins"


def test_jax_arrays_are_as_good_as_numpy():
    log_p, y = binary([0.9, 0.4]), np.array([0, 1])
    assert float(metrics.nll(jnp.asarray(log_p), jnp.asarray(y, jnp.int32))) == float(
        metrics.nll(log_p, y)
    )


def test_one_prediction_a_label_has_no_joint_beyond_its_own():
    with pytest.raises(errors.WrongShape, match="`prediction`"):
        metrics.joint_nll(
            Gaussian(jnp.zeros(4), jnp.ones(4)), np.zeros(4, np.float32), np.array([[0, 1]])
        )
