"""Copies stay on one side of a fold, from the split to the loop; and a search that is given
seconds.
"""

import itertools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import DROPOUT, TEMPERATURE, TOP, elephant, problem

import bayesal
from bayesal import acquire, errors, retune
from bayesal.loop import _folds as folds
from bayesal.types import FitInfo, HParams, Labeled, Posterior

X, Y = problem()
KEY = jax.random.key(0)
COPIES = np.repeat(np.arange(20), 3)  # of each of twenty things three copies

split = jax.jit(folds.split, static_argnums=2)


@given(st.integers(3, 40), st.integers(2, 4), st.integers(1, 30), st.integers(0, 1000))
def test_a_group_never_straddles_a_fold(count, number, most, seed):
    rng = np.random.default_rng(seed)
    y, groups = rng.integers(0, 3, 40).astype(np.int32), rng.integers(0, most, 40).astype(np.int32)
    parts = split(
        jax.random.key(seed),
        Labeled(jnp.zeros((40, 1)), jnp.asarray(y), jnp.int32(count)),
        number,
        jnp.asarray(groups),
    )
    held_out = [
        np.asarray(rows)[np.asarray(valid)]
        for rows, valid in zip(parts.test, parts.test_valid, strict=True)
    ]
    trained = [
        np.asarray(rows)[: int(n)] for rows, n in zip(parts.train, parts.train_count, strict=True)
    ]
    assert (
        len(held_out) == number + 1
        and len(held_out.pop()) == 0
        and sorted(trained.pop()) == list(range(count))
    )  # last: nothing left out
    assert sorted(np.concatenate(held_out).tolist()) == list(
        range(count)
    )  # each row once, padding never
    for out, into in zip(held_out, trained, strict=True):
        assert sorted([*out, *into]) == list(range(count))
        assert not set(groups[out]) & set(groups[into])
    rows = [len(out) for out in held_out]
    assert max(rows) - min(rows) <= max(np.bincount(groups[:count]))
    assert (
        min(rows) > 0 or len(set(groups[:count])) < number
    )  # no fold is empty where there are groups enough


def test_groups_of_one_are_stratified():
    y = np.random.default_rng(0).integers(0, 3, 40).astype(np.int32)
    parts = split(
        KEY,
        Labeled(jnp.zeros((40, 1)), jnp.asarray(y), jnp.int32(37)),
        3,
        jnp.arange(40, dtype=jnp.int32),
    )
    held_out = [
        np.asarray(rows)[np.asarray(valid)]
        for rows, valid in zip(parts.test, parts.test_valid, strict=True)
    ][:-1]
    for label in range(3):
        sizes = [int((y[out] == label).sum()) for out in held_out]
        assert max(sizes) - min(sizes) <= 1


def test_groups_of_real_labels_are_dealt_too():
    y = jnp.asarray(np.random.default_rng(0).normal(size=12), jnp.float32)
    parts = split(
        KEY,
        Labeled(jnp.zeros((12, 1)), y, jnp.int32(12)),
        2,
        jnp.asarray(np.repeat(np.arange(6), 2), jnp.int32),
    )
    assert parts.test_valid.sum(axis=1).tolist() == [6, 6, 0]


@pytest.mark.slow
def test_copies_do_not_judge_one_another():
    x, y = np.stack([np.arange(60), COPIES], axis=1).astype(np.float32), np.zeros(60, int)
    posterior = elephant(1)
    build = lambda groups: bayesal.learner(
        posterior,
        acquire.uniform(),
        size=6,
        capacity=60,
        num_draws=2,
        num_folds=3,
        calibrate=TEMPERATURE,
        retune=retune.successive_halving(2, proposer=retune.local_proposer()),
        groups=groups,
    )
    told = lambda learner: learner.tell(learner.init(KEY, x), x, np.arange(24), y[:24]).report
    apart, mixed = told(build(COPIES)), told(build(None))
    np.testing.assert_allclose(apart.candidate_losses, math.log(3), rtol=1e-5)
    assert float(apart.calibration.nll_before) == pytest.approx(math.log(3), rel=1e-5)
    assert float(mixed.candidate_losses[0]) < 0.2  # what the losses would have claimed


def test_groups_where_nothing_is_held_out_are_not_asked_for():
    learner = bayesal.learner(
        elephant(1), acquire.uniform(), size=6, capacity=60, num_draws=2, groups=np.zeros(60, int)
    )
    x = np.stack([np.arange(60), COPIES], axis=1).astype(np.float32)
    assert (
        int(learner.tell(learner.init(KEY, x), x, np.arange(6), np.zeros(6, int)).ledger.count) == 6
    )


def test_out_of_fold_no_label_was_seen_by_the_fit_that_judges_it():
    x, y, posterior = (
        np.stack([np.arange(60), COPIES], axis=1).astype(np.float32),
        np.arange(60) % 3,
        elephant(1),
    )
    learner = bayesal.learner(posterior, acquire.uniform(), size=6, capacity=40, num_draws=2)
    state = learner.tell(learner.init(KEY, x), x, np.arange(24), y[:24])
    alone = bayesal.learner(elephant(0), acquire.uniform(), size=6, capacity=40, num_draws=2)
    of_rows, labels, valid = bayesal.out_of_fold(
        elephant(0),
        alone.tell(alone.init(KEY, x), x, np.arange(24), y[:24]),
        x,
        num_folds=3,
        num_draws=2,
    )
    assert (
        of_rows.shape == (2, 40, 3)
        and labels[:24].tolist() == y[:24].tolist()
        and valid.tolist() == [i < 24 for i in range(40)]
    )
    np.testing.assert_allclose(
        of_rows, -math.log(3), rtol=1e-5
    )  # it remembers what it was fitted on, and knows nothing else
    apart, _, _ = bayesal.out_of_fold(posterior, state, x, num_folds=3, groups=COPIES)
    np.testing.assert_allclose(apart, -math.log(3), rtol=1e-5)
    together = bayesal.out_of_fold(posterior, state, x, num_folds=3)
    assert (
        apart.shape[0] == 50 and float(together[0][:, :24].max()) > -0.1
    )  # a copy gave the label away
    fitted = TEMPERATURE(*together)
    assert np.isfinite(together[0]).all() and not bool(fitted.at_bound)
    assert float(fitted.nll_after) <= float(fitted.nll_before)
    with pytest.raises(errors.WrongSize, match="not the pool") as caught:
        bayesal.out_of_fold(posterior, state, x[:20])
    assert caught.value.argument == "x"
    with pytest.raises(errors.WrongType, match="`posterior`"):
        oracles.as_users_do(bayesal.out_of_fold)(elephant, state, x)
    broken = posterior._replace(
        fit=lambda key, state, data, hparams: (state, FitInfo(jnp.float32(jnp.nan), jnp.int32(3)))
    )
    with pytest.raises(errors.TrainingFailed, match="3 of 3 fits"):
        bayesal.out_of_fold(broken, state, x, num_folds=3)
    for error, options in (
        (errors.WrongSize, {"num_folds": 25}),
        (errors.WrongSize, {"num_folds": 1}),
        (errors.WrongSize, {"groups": np.zeros(60, int)}),
        (errors.WrongSize, {"groups": COPIES[:50]}),
        (errors.WrongType, {"groups": np.ones(60)}),
    ):
        with pytest.raises(error) as caught:
            oracles.as_users_do(bayesal.out_of_fold)(posterior, state, x, **options)
        assert caught.value.argument in options


def test_folds_whose_fits_broke_calibrate_nothing():
    """Fits that miss labels give NaN; the one on all labels is sound, and goes uncalibrated."""
    fit = lambda key, state, data, hparams: (
        jnp.where(data.count < 12, jnp.nan, 0.0),
        FitInfo(jnp.float32(0.0), jnp.int32(-1)),
    )
    apply = lambda state, draw, x: jax.nn.log_softmax(jnp.array([3.0, 0.0, 0.0]) + state)
    posterior = Posterior(
        lambda key, x: jnp.float32(0.0), fit, lambda key, state, num: jnp.zeros(num), apply
    )
    learner = bayesal.learner(
        posterior, acquire.uniform(), size=2, capacity=20, num_draws=2, calibrate=TEMPERATURE
    )
    state = learner.tell(learner.init(KEY, X[:20]), X[:20], np.arange(12), np.arange(12) % 3)
    assert float(state.temperature) == 1.0 and not bool(state.report.calibration.determined)
    assert np.isfinite(bayesal.predictive_of(posterior, state).log_probs(X[:4])).all()


def boaster():
    """A posterior that is always sure of class 0, right or wrong: overconfident by a factor."""
    sure = jnp.array([8.0, 0.0, 0.0])
    fit = lambda key, state, data, hparams: (state, FitInfo(jnp.float32(0.0), jnp.int32(-1)))
    return Posterior(
        lambda key, x: jnp.zeros(()),
        fit,
        lambda key, state, num: jnp.zeros(num),
        lambda state, draw, x: jax.nn.log_softmax(sure),
    )


@pytest.mark.parametrize(
    ("calibrate", "tempered"),
    [
        (TEMPERATURE, True),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((TEMPERATURE, False), (None, True))
        ),
    ],
)
def test_candidates_are_judged_tempered_where_the_learner_calibrates(calibrate, tempered):
    """Six of ten labels are class 0. By hand: the NLL at T, with the prior's choice of T, or at T =
    1.
    """
    y = np.array([0, 1, 0, 2, 0, 1, 0, 0, 2, 0])
    learner = bayesal.learner(
        boaster(),
        acquire.uniform(),
        size=2,
        capacity=20,
        num_draws=2,
        calibrate=calibrate,
        retune=retune.successive_halving(2, proposer=retune.local_proposer(), tempered=tempered),
    )
    losses = np.asarray(
        learner.tell(learner.init(KEY, X[:20]), X[:20], np.arange(10), y).report.candidate_losses
    )
    nll = lambda t: np.log1p(2 * np.exp(-8 / t)) + 0.4 * 8 / t
    tempers = np.exp(np.arange(-5, 10) * 0.2)
    expected = (
        nll(tempers)[np.argmin(10 * nll(tempers) + 0.5 * (np.log(tempers) / 0.5) ** 2)]
        if calibrate is not None and tempered
        else nll(1.0)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("error", "says", "groups", "rows"),
    [
        (errors.WrongType, "whole numbers", np.linspace(0, 1, len(X)), 10),
        (errors.WrongType, "shape", np.zeros((len(X), 1), int), 10),
        (errors.OutOfRange, "must lie in", np.full(len(X), -1), 10),
        (errors.WrongSize, "give each row", np.arange(len(X) - 1), 10),
        (errors.WrongSize, "smaller `num_folds`", np.arange(len(X)) // 5, 10),
    ],
)
def test_groups_that_are_none_are_refused_by_name(error, says, groups, rows):
    with pytest.raises(error, match=says) as caught:
        learner = bayesal.learner(
            DROPOUT, TOP, size=4, capacity=40, num_draws=2, groups=groups, calibrate=TEMPERATURE
        )
        learner.tell(learner.init(KEY, X), X, np.arange(rows), Y[:rows])
    assert caught.value.argument == "groups"


@pytest.mark.parametrize(
    ("seconds", "runs"),
    [(5.0, 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0.5, 1), (9.0, 4)))],
)
def test_seconds_are_searched_through_and_not_beyond(monkeypatch, seconds, runs):
    """On a clock that ticks whenever it is read. The first run may be all compiling, so how long it
    took foretells nothing.
    """
    monkeypatch.setattr(sys.modules["bayesal.loop._learner"], "clock", itertools.count().__next__)
    learner = bayesal.learner(
        elephant(1),
        acquire.uniform(),
        size=4,
        capacity=40,
        num_draws=2,
        retune=retune.successive_halving(3, proposer=retune.local_proposer(), seconds=seconds),
        hparams=HParams(steps=2),
    )
    x, y = np.stack([np.arange(60), np.arange(60)], axis=1).astype(np.float32), np.zeros(60, int)
    state = learner.tell(learner.init(KEY, x), x, np.arange(6), y[:6])
    columns = retune.table(state.search)
    assert (
        len(columns["round"]) == 3 * runs
        and set(columns["round"].tolist()) == {0}
        and columns["chosen"].sum() == runs
    )
    state = learner.tell(state, x, np.arange(6, 10), y[6:10])
    assert retune.table(state.search)["round"].tolist() == [0] * 3 * runs + [1] * 3 * runs
    starts = columns["learning_rate"].reshape(runs, 3)[:, 0]
    kept = columns["learning_rate"].reshape(runs, 3)[columns["chosen"].reshape(runs, 3)]
    np.testing.assert_array_equal(
        starts[1:], kept[:-1]
    )  # each run begins with what the last one kept


def test_a_retuner_may_come_later_and_another_memory_is_refused():
    x, y = np.stack([np.arange(60), np.arange(60)], axis=1).astype(np.float32), np.zeros(60, int)
    posterior = elephant(1)
    build = lambda retuner: bayesal.learner(
        posterior,
        acquire.uniform(),
        size=4,
        capacity=40,
        num_draws=2,
        retune=retuner,
        hparams=HParams(steps=2),
    )
    plain, few, many = (
        build(None),
        *(
            build(retune.successive_halving(2, proposer=retune.local_proposer(), places=places))
            for places in (4, 8)
        ),
    )
    state = plain.tell(plain.init(KEY, x), x, np.arange(6), y[:6])
    later = few.tell(state, x, np.arange(6, 10), y[6:10])
    assert int(later.search.count) == 2
    with pytest.raises(errors.WrongType, match="search space"):
        many.tell(later, x, np.arange(10, 14), y[10:14])
    with pytest.raises(errors.WrongType, match="retune"):
        oracles.as_users_do(bayesal.learner)(
            posterior, acquire.uniform(), size=4, capacity=40, retune=retune.successive_halving
        )
