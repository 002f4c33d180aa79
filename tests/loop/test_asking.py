"""`ask` with rows left out, and for another number of points."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import DROPOUT, HPARAMS, TOP, problem, same
from oracles import as_users_do

import bayesal
from bayesal import acquire, errors, scores
from bayesal.loop import _programs

X, Y = problem()
ROWS = len(X)


def build(strategy=TOP, **options):
    short = HPARAMS._replace(steps=jnp.int32(20))
    options = {"size": 6, "capacity": 60, "num_draws": 6, "hparams": short} | options
    return bayesal.learner(DROPOUT, strategy, **options)


LEARNER = build()
STATE = LEARNER.tell(LEARNER.init(0, X), X, np.arange(10), Y[:10])
NESTED = {
    "uniform": acquire.uniform(),
    "top": TOP,
    "combined": acquire.combined(scores.bald, scores.margin),
    "power": acquire.power(),
    "softmax": acquire.softmax(),
    "softrank": acquire.softrank(),
    "batch_bald": acquire.batch_bald(configurations=50, candidates=16),
    "epig": acquire.epig(10),
    "batch_epig": acquire.batch_epig(10, configurations=50, candidates=16),
    "k_center": acquire.k_center(),
    "k_means_pp": acquire.k_means_pp(),
    "dpp": acquire.dpp(),
    "badge": acquire.badge(),
    "prefilter": acquire.prefilter(20, scores.entropy, then=acquire.badge()),
}
QUICK = {"uniform", "top", "power", "batch_bald", "k_center"}
WHOLE = {"k_means": acquire.k_means(), "typiclust": acquire.typiclust(), "bait": acquire.bait()}


def compiled():
    return _programs.choose_in._cache_size()


def picks(selection):
    return np.asarray(selection.indices).tolist()


# --- rows left out


def test_rows_and_masks_say_the_same():
    first = picks(LEARNER.ask(STATE, X))
    mask = np.isin(np.arange(ROWS), first)
    for exclude in (first, np.array(first), tuple(first), set(first), [*first, first[0]], mask):
        again = picks(LEARNER.ask(STATE, X, exclude=exclude))
        assert not set(again) & set(first) and len(again) == 6
    values = np.array(scores.bald(bayesal.predictive_of(DROPOUT, STATE, 6)(X)))
    values[[*range(10), *first]] = -np.inf
    assert again == np.argsort(-values, kind="stable")[:6].tolist()


def test_nothing_left_out_is_the_same_batch():
    one = LEARNER.ask(STATE, X)
    for exclude in (None, [], (), set(), np.zeros(ROWS, bool), np.arange(10)):
        assert same(one, LEARNER.ask(STATE, X, exclude=exclude))


@given(st.sets(st.integers(0, ROWS - 1), max_size=ROWS - 11))
def test_no_excluded_row_is_ever_asked(rows):
    before = compiled()
    left = ROWS - len(rows | set(range(10)))
    if not left:
        return
    asked = picks(LEARNER.ask(STATE, X, exclude=rows))
    assert not set(asked) & (rows | set(range(10))) and len(asked) == min(6, left)
    assert compiled() <= max(before, 1)


def test_excluding_everything_is_refused():
    for exclude in (np.ones(ROWS, bool), np.arange(10, ROWS)):
        with pytest.raises(errors.WrongSize, match="nothing left") as caught:
            LEARNER.ask(STATE, X, exclude=exclude)
        assert caught.value.argument == "exclude"


@pytest.mark.parametrize(
    ("error", "exclude"),
    [
        (errors.WrongIndex, [ROWS]),
        (errors.WrongIndex, [-1]),
        (errors.WrongIndex, [0.5]),
        (errors.WrongIndex, ["a"]),
        (errors.WrongIndex, 3),
        (errors.WrongShape, np.zeros(ROWS - 1, bool)),
    ],
)
def test_rows_that_cannot_be(error, exclude):
    with pytest.raises(error) as caught:
        as_users_do(LEARNER.ask)(STATE, X, exclude=exclude)
    assert caught.value.argument == "exclude"


def test_a_file_leaves_out_rows_too(tmp_path):
    np.save(tmp_path / "x.npy", X)
    first = picks(LEARNER.ask(STATE, X))
    again = picks(LEARNER.ask(STATE, X, exclude=first))
    assert again == picks(LEARNER.ask(STATE, str(tmp_path / "x.npy"), exclude=first))


# --- another number of points


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NESTED]
)
def test_fewer_points_are_the_front_of_the_batch(name):
    """The batch that a learner of that size asks for, without another compilation."""
    learner = build(NESTED[name])
    whole = learner.ask(STATE, X)
    before = compiled()
    for size in (1, 2, 4):
        asked = learner.ask(STATE, X, size=size)
        assert picks(asked) == picks(whole)[:size] and len(asked.scores) == size
    assert compiled() == before
    assert picks(asked) == picks(build(NESTED[name], size=4).ask(STATE, X))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in WHOLE])
def test_batches_that_are_not_nested_are_picked_anew(name):
    asked = build(WHOLE[name]).ask(STATE, X, size=4)
    assert picks(asked) == picks(build(WHOLE[name], size=4).ask(STATE, X))


def test_strategies_say_whether_they_are_nested():
    assert all(strategy.nested for strategy in NESTED.values())
    assert not any(strategy.nested for strategy in WHOLE.values())
    assert not acquire.prefilter(20, scores.entropy, then=acquire.k_means()).nested


def test_more_points_compile_once_and_say_so():
    with pytest.warns(UserWarning, match="compiled once more"):
        more = LEARNER.ask(STATE, X, size=9)
    assert picks(more)[:6] == picks(LEARNER.ask(STATE, X)) and len(more.indices) == 9
    before = compiled()
    with pytest.warns(UserWarning):
        assert same(more, LEARNER.ask(STATE, X, size=9, exclude=[]))
    assert compiled() == before


def test_an_audit_keeps_its_share():
    """Of four points one is the audit's, as of a learner of that size."""
    learner, small = build(audit=0.25, size=8), build(audit=0.25, size=4)
    asked = learner.ask(STATE, X, size=4)
    assert same(asked, small.ask(STATE, X))
    assert np.asarray(asked.audit).tolist() == [True, False, False, False]
    with pytest.raises(errors.WrongSize, match="2 points or more"):
        learner.ask(STATE, X, size=1)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "4"])
def test_sizes_that_cannot_be(size):
    with pytest.raises(errors.WrongSize) as caught:
        LEARNER.ask(STATE, X, size=size)
    assert caught.value.argument == "size"


def test_the_capacity_still_bounds_a_batch():
    small = build(capacity=13)
    state = small.tell(small.init(0, X), X, np.arange(10), Y[:10])
    assert len(small.ask(state, X, size=5).indices) == 3
