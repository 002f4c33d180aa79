"""Labels as people give them: weights, sources, rejections, corrections, distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import DROPOUT, HPARAMS, MLP, TEMPERATURE, TOP, problem, same

import bayesal
from bayesal import acquire, errors, likelihoods, networks, posteriors, retune
from bayesal.loop import _audit
from bayesal.loop._gathered import gather, usable
from bayesal.loop._state import Ledger

X, Y = problem()
KEY = jax.random.key(0)
SHORT = HPARAMS._replace(steps=jnp.int32(20))
WEIGHTS = np.float32([1, 0, 2, 1, 0, 1])


def build(posterior=DROPOUT, strategy=TOP, **options):
    options = {"size": 4, "capacity": 40, "num_draws": 6, "hparams": SHORT} | options
    return bayesal.learner(posterior, strategy, **options)


LEARNER = build()


@pytest.fixture(scope="module")
def first():
    return LEARNER.init(KEY, X)


@pytest.fixture(scope="module")
def state(first):
    return LEARNER.tell(first, X, np.arange(10), Y[:10])


def fitted(state):
    """What a round found, without its ledger."""
    return state.posterior, state.temperature, state.hparams, state.report


# --- weight 0 is absence, to the bit


LEARNERS = {
    "fit": build(),
    "calibrated": build(calibrate=TEMPERATURE, num_folds=2),
    "audited": build(calibrate=TEMPERATURE, num_folds=2, audit=0.25),
    "retuned": build(
        calibrate=TEMPERATURE,
        num_folds=2,
        retune=retune.successive_halving(
            2, retune.space(steps=(10, 20)), proposer=retune.local_proposer()
        ),
    ),
    "grouped": build(calibrate=TEMPERATURE, num_folds=2, groups=np.arange(128) // 2),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("fit", "calibrated") else pytest.mark.slow)
        for name in LEARNERS
    ],
)
def test_rows_of_weight_0_change_nothing_to_the_bit(name):
    learner = LEARNERS[name]
    start = learner.init(KEY, X)
    plain = learner.tell(start, X, np.arange(10), Y[:10])
    # rejected, unknown (of any label), and not a number where they stand in the pool
    x = X.copy()
    x[[60, 61]] = np.nan
    rows = np.array([60, 0, 1, 2, 70, 3, 4, 5, 61, 6, 7, 8, 9])
    labels = np.array([-1, *Y[:3], 2, *Y[3:6], 0, *Y[6:10]])
    weights = np.where(np.isin(rows, [61, 70]), 0.0, 1.0)
    if name == "audited":  # an unknown row may be the audit's next, and then is none of its labels
        front = np.argsort(np.asarray(_audit.lots(KEY, len(X))))[:3]
        assert not np.isin(rows, front).any()
    found = learner.tell(start, x, rows, labels, weights=weights)
    assert same(fitted(found), fitted(plain))
    assert int(found.ledger.count) == 13 and bayesal.rejected(found).tolist() == [60]


def test_rows_without_a_label_that_counts_are_not_asked_again(state):
    told = LEARNER.tell(state, X, [20, 21], [bayesal.REJECTED, 0], weights=[1, 0])
    everything = build(strategy=acquire.uniform(), size=128, capacity=None)
    picks = np.asarray(everything.ask(told, X).indices).tolist()
    assert sorted([*picks, *range(10), 20, 21]) == list(range(128))
    assert bayesal.rejected(told).tolist() == [20]
    assert told.ledger.weight[10:12].tolist() == [0, 0] and bayesal.rejected(state).tolist() == []
    with pytest.raises(errors.WrongIndex, match="labeled already"):
        LEARNER.tell(told, X, [21], [0])


def test_a_round_of_nothing_but_rejections_leaves_what_was_known(first):
    told = LEARNER.tell(first, X, [3, 4], [-1, -1])
    assert same(told.posterior, first.posterior) and int(told.round) == 1
    assert jax.tree.structure(told) == jax.tree.structure(first)
    assert len(build(strategy=acquire.uniform()).ask(told, X).indices) == 4
    later = LEARNER.tell(told, X, np.arange(10, 20), Y[10:20])
    assert int(later.report.fit.failed_at) == -1 and int(later.ledger.count) == 12


def test_rejections_do_not_count_as_labels_of_a_fold():
    learner = build(calibrate=TEMPERATURE)
    start = learner.init(KEY, X)
    with pytest.raises(errors.WrongSize, match="got 4"):
        learner.tell(start, X, np.arange(7), [0, 1, 2, 0, -1, -1, -1])


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12),
    st.integers(0, 12),
)
@settings(max_examples=50)
def test_what_is_gathered_is_what_counts_in_order(weights, known):
    """Against plain lists."""
    count = len(weights)
    pad = lambda values, dtype: jnp.asarray(np.resize(np.array(values, dtype), 16))
    ledger = Ledger(
        indices=pad(np.arange(100, 100 + count), np.int32),
        labels={"a": pad(np.arange(count), np.int32), "b": jnp.ones((16, 2))},
        weight=pad(weights, np.float32),
        source=jnp.zeros(16, jnp.int32),
        digest=jnp.zeros(16, jnp.uint32),
        count=jnp.int32(count),
    )
    features = np.arange(count, dtype=np.float32)[:, None] + 1
    groups = np.arange(200, dtype=np.int32)
    taken = gather(ledger, features, groups=groups, fair=np.arange(16) % 2 == 0, known=known)
    want = [place for place, weight in enumerate(weights) if weight > 0]
    rest = [0] * (16 - len(want))
    assert usable(ledger).tolist() == want
    assert taken.labeled.x[:, 0].tolist() == [place + 1 for place in want] + rest
    assert taken.labeled.y["a"].tolist() == want + rest
    assert taken.labeled.y["b"].sum() == 2 * len(want)
    assert taken.labeled.weight.tolist() == [weights[place] for place in want] + rest
    assert int(taken.labeled.count) == len(want)
    assert int(taken.known) == len([place for place in want if place < known])
    assert taken.groups[: len(want)].tolist() == [100 + place for place in want]
    assert taken.fair.tolist() == [place % 2 == 0 for place in want] + [False] * len(rest)


# --- weights and sources reach what is fitted


def test_weights_and_sources_are_kept_in_order(state):
    told = LEARNER.tell(state, X, [20, 21, 22], [0, 1, 2], weights=[0.5, 2, 1], source=[1, 0, 2])
    assert told.ledger.weight[:13].tolist() == [1] * 10 + [0.5, 2, 1]
    assert told.ledger.source[:13].tolist() == [0] * 10 + [1, 0, 2]
    assert LEARNER.tell(state, X, [20], [0], source=2).ledger.source[10] == 2


@pytest.mark.parametrize(
    ("bad", "error", "argument"),
    [
        ({"weights": [1, -1]}, errors.OutOfRange, "weights"),
        ({"weights": [1, np.nan]}, errors.OutOfRange, "weights"),
        ({"weights": [1]}, errors.WrongShape, "weights"),
        ({"weights": 1.0}, errors.WrongShape, "weights"),
        ({"weights": np.ma.array([1.0, 1.0], mask=[0, 1])}, errors.WrongType, "weights"),
        ({"source": 3}, errors.OutOfRange, "source"),
        ({"source": "person"}, errors.WrongShape, "source"),
        ({"source": [0, 0, 0]}, errors.WrongShape, "source"),
    ],
)
def test_weights_and_sources_that_cannot_be(state, bad, error, argument):
    with pytest.raises(error, match=f"`{argument}`") as caught:
        LEARNER.tell(state, X, [20, 21], [0, 1], **bad)
    assert caught.value.argument == argument


def spied(seen):
    """A calibrator that tells what it was given."""

    def calibrator(prediction, labels, weights):
        keep = lambda *given: seen.append(jax.tree.map(np.asarray, given))
        jax.debug.callback(keep, labels, weights)
        return TEMPERATURE(prediction, labels, weights)

    return calibrator


def test_a_calibrator_gets_the_weights():
    seen = []
    learner = build(calibrate=spied(seen), num_folds=2)
    learner.tell(learner.init(KEY, X), X, np.arange(6), Y[:6], weights=WEIGHTS)
    jax.effects_barrier()
    labels, weights = seen[-1]
    assert weights[:4].tolist() == [1, 2, 1, 1] and not weights[4:].any()
    assert labels[:4].tolist() == Y[[0, 2, 3, 5]].tolist()


def test_candidates_are_judged_by_the_weighted_mean():
    """Of constant predictions, so that a row's loss is known."""
    log_p = np.log([0.5, 0.3, 0.2])
    network = networks.from_functions(
        lambda key, x: jnp.zeros(1), lambda w, x, key: jnp.float32(log_p) + 0 * w[0]
    )
    learner = build(
        posteriors.point(network),
        acquire.uniform(),
        num_folds=2,
        retune=retune.successive_halving(2, proposer=retune.local_proposer()),
        hparams=SHORT._replace(steps=jnp.int32(0)),
    )
    weights = np.float32([1, 2, 0.5, 1, 3, 0])
    labels = np.array([0, 1, 2, 0, 1, 2])
    told = learner.tell(learner.init(KEY, X), X, np.arange(6), labels, weights=weights)
    want = np.sum(weights * -log_p[labels]) / weights.sum()
    np.testing.assert_allclose(told.report.candidate_losses, want, rtol=1e-5)


# --- corrections


def test_a_corrected_label_is_fitted_as_if_it_had_been_told_so(first):
    wrong = np.where(np.arange(10) == 3, (Y[:10] + 1) % 3, Y[:10])
    told = LEARNER.tell(first, X, np.arange(10), wrong)
    corrected = LEARNER.relabel(told, X, [3], Y[[3]])
    # the keys of a fit come from the round's number
    right = LEARNER.tell(first._replace(round=jnp.int32(1)), X, np.arange(10), Y[:10])
    assert same(corrected, right)
    assert not same(corrected.posterior, told.posterior)


def test_a_correction_keeps_the_order_the_weight_and_the_source(state):
    told = LEARNER.tell(state, X, [30, 20, 25], [0, -1, 2], weights=[0.5, 1, 2], source=[1, 1, 2])
    corrected = LEARNER.relabel(told, X, [25, 30, 20], [0, -1, 1])
    assert corrected.ledger.indices[10:13].tolist() == [30, 20, 25]
    assert corrected.ledger.labels[10:13].tolist() == [-1, 1, 0]
    assert corrected.ledger.weight[10:13].tolist() == [0, 1, 2]
    assert corrected.ledger.source[10:13].tolist() == [1, 1, 2]
    assert bayesal.rejected(corrected).tolist() == [30]
    other = LEARNER.relabel(told, X, [25], [0], weights=[0.25], source=0)
    assert float(other.ledger.weight[12]) == 0.25 and int(other.ledger.source[12]) == 0


def test_only_labels_can_be_corrected(state):
    with pytest.raises(errors.WrongIndex, match="tell") as error:
        LEARNER.relabel(state, X, [3, 50], [0, 0])
    assert error.value.rows.tolist() == [50]
    for indices, labels, kind in (
        (np.array([], int), np.array([], int), errors.WrongSize),
        ([3, 3], [0, 0], errors.WrongIndex),
        ([3], [7], errors.WrongLabel),
    ):
        with pytest.raises(kind):
            LEARNER.relabel(state, X, indices, labels)


def test_all_labels_may_be_taken_back(first, state):
    none = LEARNER.relabel(state, X, np.arange(10), [-1] * 10)
    assert same(none.posterior, first.posterior)
    assert bayesal.rejected(none).tolist() == list(range(10))


# --- distributions over classes


SOFT = posteriors.point(MLP, likelihood=likelihoods.categorical(soft=True))
ONE_HOT = np.eye(3, dtype=np.float32)


@pytest.mark.slow
def test_a_distribution_of_one_class_is_that_class():
    hard, soft = (
        build(posterior, acquire.uniform(), calibrate=TEMPERATURE, num_folds=2)
        for posterior in (posteriors.point(MLP), SOFT)
    )
    one = hard.tell(hard.init(KEY, X), X, np.arange(12), Y[:12])
    other = soft.tell(soft.init(KEY, X), X, np.arange(12), ONE_HOT[Y[:12]])
    assert other.ledger.labels.shape == (40, 3)
    for a, b in zip(jax.tree.leaves(fitted(one)), jax.tree.leaves(fitted(other)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_net_learns_the_distribution():
    constant = networks.from_functions(lambda key, x: jnp.zeros(3), lambda w, x, key: w)
    learner = build(
        posteriors.point(constant, likelihood=likelihoods.categorical(soft=True)),
        acquire.uniform(),
        hparams=bayesal.HParams(learning_rate=0.05, steps=400, weight_decay=0.0, dropout=0.0),
    )
    y = np.tile(np.float32([0.2, 0.5, 0.3]), (8, 1))
    told = learner.tell(learner.init(KEY, X), X, np.arange(8), y)
    np.testing.assert_allclose(jax.nn.softmax(told.posterior), y[0], atol=0.01)


@pytest.mark.parametrize(
    "labels",
    [
        Y[:4],
        ONE_HOT[Y[:4]].astype(int),
        0.9 * ONE_HOT[Y[:4]],
        np.float32([[1.5, -0.5, 0]] * 4),
        np.full((4, 3), np.nan, np.float32),
        np.full((4, 2), 0.5, np.float32),
    ],
    ids=["classes", "whole", "0.9", "negative", "nan", "two"],
)
def test_soft_labels_that_are_none(labels):
    learner = build(SOFT, acquire.uniform())
    with pytest.raises(errors.WrongLabel, match="`labels`"):
        learner.tell(learner.init(KEY, X), X, np.arange(4), labels)


def test_folds_of_distributions_are_stratified_by_the_likeliest_class():
    y = jnp.asarray([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]])
    assert likelihoods.labels_of(SOFT).strata(y).tolist() == [1, 0]


# --- labels that are a tree


def test_labels_may_be_a_tree():
    """A class and how sure a person was of it; the likelihood brings its own room and check."""
    likelihood = likelihoods.CATEGORICAL._replace(
        blank=lambda capacity, classes: {
            "class": jnp.zeros(capacity, jnp.int32),
            "votes": jnp.zeros((capacity, classes), jnp.float32),
        },
        check=lambda labels, count, classes: labels,
        strata=lambda y: y["class"],
    )
    seen = []
    point = posteriors.point(MLP)
    posterior = point._replace(
        likelihood=likelihood,
        fit=lambda key, state, labeled, hparams: (
            seen.append(jax.tree.map(jnp.shape, labeled.y)),
            point.fit(key, state, labeled._replace(y=labeled.y["class"]), hparams),
        )[1],
    )
    learner = build(posterior, acquire.uniform())
    told = learner.tell(
        learner.init(KEY, X), X, np.arange(6), {"class": Y[:6], "votes": ONE_HOT[Y[:6]]}
    )
    assert seen[-1] == {"class": (40,), "votes": (40, 3)}
    assert told.ledger.labels["class"][:6].tolist() == Y[:6].tolist()
    grown = bayesal.grow(told, 50)
    assert grown.ledger.labels["votes"].shape == (50, 3) and bayesal.rejected(grown).size == 0
    plain = build(point, acquire.uniform())
    assert same(told.posterior, plain.tell(plain.init(KEY, X), X, np.arange(6), Y[:6]).posterior)
