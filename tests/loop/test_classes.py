"""Classes by name, labels of every container, and weights of classes."""

from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import DROPOUT, HPARAMS, MLP, TEMPERATURE, TOP, problem, same
from oracles import as_users_do

import bayesal
from bayesal import errors, likelihoods, posteriors
from bayesal.loop import _classes as classing

X, Y = problem()
NAMES = ("setosa", "versicolor", "virginica")
ROWS = np.arange(10)
LABELS = Y[:10].tolist()
NAMED = [NAMES[label] for label in LABELS]


def refused(error, argument, function, *args, **options):
    with pytest.raises(error) as caught:
        as_users_do(function)(*args, **options)
    assert caught.value.argument == argument
    return caught.value


def build(posterior=DROPOUT, **options):
    short = HPARAMS._replace(steps=jnp.int32(20))
    options = {"size": 4, "capacity": 40, "num_draws": 6, "hparams": short} | options
    return bayesal.learner(posterior, TOP, **options)


PLAIN = build()
LEARNER = build(classes=NAMES)


@pytest.fixture(scope="module")
def first():
    return PLAIN.init(0, X)


@pytest.fixture(scope="module")
def told(first):
    return PLAIN.tell(first, X, ROWS, LABELS)


class Series:
    """What a data frame's column offers, without pandas."""

    def __init__(self, values, dtype=object):
        self.values = np.array(values, dtype)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)

    def to_numpy(self):
        return self.values

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values)


# --- names


@pytest.mark.parametrize(
    "labels",
    [
        NAMED,
        tuple(NAMED),
        np.array(NAMED),
        np.array(NAMED, object),
        np.array(NAMED, np.dtypes.StringDType()),
        Series(NAMED),
        [*NAMED[:5], *LABELS[5:]],
        LABELS,
        Series(LABELS),
        Series(LABELS, np.int64),
        Y[:10].astype(np.uint8),
    ],
    ids=[
        "list",
        "tuple",
        "array",
        "objects",
        "StringDType",
        "series",
        "mixed",
        "numbers",
        "column",
        "column2",
        "uint8",
    ],
)
def test_names_and_numbers_are_the_same_labels(first, told, labels):
    assert same(LEARNER.tell(first, X, ROWS, labels), told)


def test_a_learner_without_names_takes_columns_too(first, told):
    assert same(PLAIN.tell(first, X, ROWS, Series(LABELS)), told)


def test_a_name_can_be_corrected(told):
    new = LEARNER.relabel(told, X, [3], ["virginica"])
    assert np.asarray(new.ledger.labels)[3] == 2


def test_rejected_stands_among_names(first):
    labels = [bayesal.REJECTED, *NAMED[1:]]
    state = LEARNER.tell(first, X, ROWS, labels)
    assert bayesal.rejected(state).tolist() == [0]
    assert same(state, PLAIN.tell(first, X, ROWS, [bayesal.REJECTED, *LABELS[1:]]))


def test_an_unknown_name_is_answered_with_the_nearest(first):
    labels = [*NAMED[:4], "versicolour", *NAMED[5:]]
    error = refused(errors.WrongLabel, "labels", LEARNER.tell, first, X, ROWS, labels)
    assert "Did you mean 'versicolor'?" in str(error) and error.rows.tolist() == [4]
    error = refused(errors.WrongLabel, "labels", LEARNER.tell, first, X, [0], ["qqq"])
    assert "Did you mean" not in str(error) and "REJECTED" in str(error)


@pytest.mark.parametrize("missing", [None, float("nan"), 1.5])
def test_a_missing_name_is_refused(first, missing):
    labels = [*NAMED[:9], missing]
    error = refused(errors.WrongLabel, "labels", LEARNER.tell, first, X, ROWS, labels)
    assert error.rows.tolist() == [9]


def test_names_without_classes_are_refused_with_the_cure(first):
    error = refused(errors.WrongLabel, "labels", PLAIN.tell, first, X, ROWS, NAMED)
    assert "learner(classes=" in str(error)


def test_missing_numbers_are_refused_with_the_cure(first):
    labels = [0.0, np.nan, 1.0]
    error = refused(errors.WrongLabel, "labels", PLAIN.tell, first, X, [0, 1, 2], labels)
    assert "positions 1 are missing" in str(error)


@pytest.mark.parametrize(
    ("error", "classes"),
    [
        (errors.WrongType, "cat"),
        (errors.WrongType, []),
        (errors.WrongType, [0, 1, 2]),
        (errors.WrongType, 3),
        (errors.WrongLabel, ["a", "b", "a"]),
    ],
)
def test_names_that_cannot_be(error, classes):
    refused(error, "classes", build, classes=classes)


def test_as_many_names_as_the_network_has_outputs():
    error = refused(errors.WrongSize, "classes", build(classes=["a", "b"]).init, 0, X)
    assert "2 entries" in str(error) and "3 outputs" in str(error)


def test_names_are_for_classes():
    real = posteriors.mc_dropout(MLP, likelihood=likelihoods.gaussian(noise_std=0.1))
    refused(errors.WrongType, "classes", build, real, classes=NAMES)
    soft = posteriors.mc_dropout(MLP, likelihood=likelihoods.categorical(soft=True))
    refused(errors.WrongType, "class_weights", build, soft, class_weights="balanced")


# --- weights of classes


@pytest.mark.parametrize("update", ["fresh", pytest.param("warm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [{}, {"calibrate": TEMPERATURE, "num_folds": 2}])
def test_weights_of_classes_are_weights_of_labels(first, options, update):
    weights = np.float32([0.5, 1.0, 3.0])
    options = options | {"update": update}
    own = np.linspace(0.5, 2.0, 10).astype(np.float32)
    by_class = build(class_weights=weights, **options).tell(first, X, ROWS, LABELS, weights=own)
    by_label = build(**options).tell(first, X, ROWS, LABELS, weights=own * weights[LABELS])
    ledger = by_label.ledger._replace(weight=by_class.ledger.weight)
    assert same(by_class, by_label._replace(ledger=ledger))  # to the bit
    assert np.asarray(by_class.ledger.weight)[:10].tolist() == own.tolist()


def test_weights_by_name(first):
    weights = {"virginica": 3.0, "setosa": 0.5, "versicolor": 1.0}
    by_name = build(classes=NAMES, class_weights=weights).tell(first, X, ROWS, LABELS)
    assert same(by_name, build(class_weights=[0.5, 1.0, 3.0]).tell(first, X, ROWS, LABELS))


def test_balanced_weights_follow_the_labels(first):
    learner = build(class_weights="balanced")
    state = learner.tell(first, X, ROWS, LABELS)
    counts = Counter(LABELS)
    weights = [len(LABELS) / (len(counts) * counts[label]) for label in LABELS]
    told = PLAIN.tell(first, X, ROWS, LABELS, weights=weights)
    assert same(state.posterior, told.posterior)
    more, labels = np.arange(10, 14), Y[10:14].tolist()
    counts = Counter(LABELS + labels)
    weights = [14 / (len(counts) * counts[label]) for label in LABELS + labels]
    again = PLAIN.tell(told, X, more, labels)
    again = PLAIN.relabel(
        again, X, np.arange(14), LABELS + labels, weights=weights
    )  # another round: its keys differ
    later = learner.tell(state, X, more, labels)
    later = learner.relabel(later, X, [0], LABELS[:1])
    assert same(later.posterior, again.posterior)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.125, 8.0, width=32)), min_size=1, max_size=30)
)
def test_every_class_with_labels_counts_the_same_when_balanced(labels):
    y, weight = (np.array(column) for column in zip(*labels, strict=True))
    found = classing.balanced(y, weight)
    totals = {c: sum(w for label, w in labels if label == c) for c, _ in labels}
    share = sum(totals.values()) / len(totals)
    for c, total in totals.items():
        assert abs(found[c] * total - share) < 1e-9 * share


@pytest.mark.parametrize(
    ("error", "weights"),
    [
        (errors.OutOfRange, [1.0, 0.0, 1.0]),
        (errors.OutOfRange, [1.0, -1.0, 1.0]),
        (errors.OutOfRange, [1.0, np.nan, 1.0]),
        (errors.OutOfRange, [1.0, np.inf, 1.0]),
        (errors.WrongShape, [[1.0, 2.0, 1.0]]),
        (errors.WrongShape, "even"),
        (errors.WrongShape, ["a", "b", "c"]),
        (errors.UnknownName, {"setosa": 1.0}),
    ],
)
def test_weights_that_cannot_be(error, weights):
    refused(error, "class_weights", build, class_weights=weights)


def test_as_many_weights_as_classes():
    refused(errors.WrongSize, "class_weights", build(class_weights=[1.0, 2.0]).init, 0, X)


def test_out_of_fold_counts_by_class(told):
    weights = np.float32([0.5, 1.0, 3.0])
    by_class = bayesal.out_of_fold(
        DROPOUT, told, X, num_folds=2, num_draws=4, class_weights=weights
    )
    ledger = told.ledger
    own = np.asarray(ledger.weight) * weights[np.asarray(ledger.labels)]
    by_label = told._replace(ledger=ledger._replace(weight=jnp.asarray(own)))
    assert same(by_class, bayesal.out_of_fold(DROPOUT, by_label, X, num_folds=2, num_draws=4))


# --- bools


def test_bools_are_the_two_classes():
    from bayesal import networks

    two = build(posteriors.mc_dropout(networks.mlp(16, 2, (8,))))
    start = two.init(0, X)
    labels = Y[:10] > 0
    assert same(two.tell(start, X, ROWS, labels), two.tell(start, X, ROWS, labels.astype(np.int32)))
    assert same(two.tell(start, X, ROWS, labels.tolist()), two.tell(start, X, ROWS, labels))


def test_bools_of_three_classes_are_refused(first):
    error = refused(errors.WrongLabel, "labels", PLAIN.tell, first, X, ROWS, Y[:10] > 0)
    assert "3 classes" in str(error)
