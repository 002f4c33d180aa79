"""Room for labels, the pool they belong to, and what is said when either is wrong."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from laws import DROPOUT, HPARAMS, MLP, TEMPERATURE, TOP, problem, same

import bayesal
from bayesal import acquire, calibrate, checkpoint, errors, networks, posteriors, retune, scores
from bayesal.calibrate._search import Calibrator
from bayesal.loop import _learner
from bayesal.types import HParams

X, Y = problem()
KEY = jax.random.key(0)
SHORT = HPARAMS._replace(steps=jnp.int32(20))


def build(posterior=DROPOUT, strategy=TOP, **options):
    options = {"size": 4, "num_draws": 6, "hparams": SHORT} | options
    return bayesal.learner(posterior, strategy, **options)


LEARNER = build()


@pytest.fixture(scope="module")
def state():
    return LEARNER.tell(LEARNER.init(KEY, X), X, np.arange(10), Y[:10])


# --- room


def test_room_is_doubled_and_each_size_compiles_once(monkeypatch):
    assert build().init(KEY, X).ledger.capacity == 128
    monkeypatch.setattr(_learner, "LEAST", 64)
    traces = {"fit": 0, "score": 0}

    def counted(name, function):
        def traced(*args):
            traces[name] += 1
            return function(*args)

        return traced

    x, y = (
        np.tile(X, (3, 1)) + np.float32(1e-3) * np.arange(384, dtype=np.float32)[:, None],
        np.tile(Y, 3),
    )
    learner = build(
        DROPOUT._replace(fit=counted("fit", DROPOUT.fit)),
        acquire.top(counted("score", scores.bald)),
        size=20,
    )
    state = learner.init(KEY, x)
    assert state.ledger.capacity == 64 and traces == {"fit": 1, "score": 0}
    seen = []
    for known in range(0, 140, 20):
        state = learner.tell(state, x, np.arange(known, known + 20), y[known : known + 20])
        learner.ask(state, x)
        seen.append((state.ledger.capacity, traces["fit"], traces["score"]))
    assert seen == [(64, 1, 1)] * 3 + [(128, 2, 2)] * 3 + [(256, 3, 3)]
    assert np.asarray(state.ledger.indices)[:140].tolist() == list(range(140))


@pytest.mark.parametrize(("first", "room"), [(1, 64), (64, 64), (65, 128)])
def test_the_first_labels_decide_how_much_room_there_is(first, room, monkeypatch):
    monkeypatch.setattr(_learner, "LEAST", 64)
    learner = build(posteriors.point(MLP), acquire.uniform())
    told = learner.tell(learner.init(KEY, X), X, np.arange(first), Y[:first])
    assert told.ledger.capacity == room


@pytest.mark.slow
def test_a_given_capacity_is_the_end():
    learner = build(capacity=12)
    state = learner.tell(learner.init(KEY, X), X, np.arange(10), Y[:10])
    picks = learner.ask(state, X).indices
    assert len(picks) == 2
    with pytest.raises(errors.WrongSize, match=r"capacity \(12\) has room for 2.*grow\(state, 13"):
        learner.tell(state, X, [20, 21, 22], [0, 0, 0])
    full = learner.tell(state, X, picks, Y[np.asarray(picks)])
    with pytest.raises(errors.WrongSize) as error:
        learner.ask(full, X)
    assert str(error.value) == (
        "The label capacity (12) is used up. `learner(..., capacity=60)` and "
        "`state = bayesal.grow(state, 60)` make room."
    )


def test_a_larger_learner_wants_a_grown_state(state):
    learner = build(capacity=200)
    for verb in (
        lambda: learner.ask(state, X),
        lambda: learner.tell(state, X, [20], [0]),
    ):
        with pytest.raises(errors.WrongSize, match=r"bayesal.grow\(state, 200\)") as error:
            verb()
        assert error.value.argument == "capacity"
    assert len(learner.ask(bayesal.grow(state, 200), X).indices) == 4


@pytest.mark.parametrize(
    ("options", "kind", "argument", "words"),
    [
        ({"capacity": 20, "size": 50}, errors.WrongSize, "capacity", r"\(20, labels in total\)"),
        ({"capacity": 10**12}, errors.WrongSize, "capacity", "at most"),
        ({"capacity": 1e12}, errors.WrongSize, "capacity", "int"),
        ({"capacity": True}, errors.WrongSize, "capacity", "int"),
        (
            {"capacity": 20, "num_folds": 21, "calibrate": TEMPERATURE},
            errors.WrongSize,
            "num_folds",
            "at most `capacity`",
        ),
        ({"num_folds": 10**9}, errors.WrongSize, "num_folds", "at most"),
        ({"audit": "x"}, errors.OutOfRange, "audit", "share"),
        ({"audit": True}, errors.OutOfRange, "audit", "share"),
        ({"hparams": HParams(steps=None)}, errors.WrongType, "hparams", "steps` must be a number"),
        ({"hparams": HParams(dropout="x")}, errors.WrongType, "hparams", "dropout` must be a"),
        ({"calibrate": calibrate.temperature}, errors.WrongType, "calibrate", "to be called"),
        ({"calibrate": Calibrator}, errors.WrongType, "calibrate", "to be called"),
        ({"pool_changed": "warn"}, errors.UnknownName, "pool_changed", "'refuse' or 'allow'"),
    ],
)
def test_arguments_that_cannot_be(options, kind, argument, words):
    with pytest.raises(kind, match=words) as error:
        oracles.as_users_do(build)(**options)
    assert error.value.argument == argument


def test_a_calibrators_own_error_is_not_put_down_to_the_network():
    def broken(prediction, labels, weights):
        raise TypeError("of the calibrator")

    with pytest.raises(TypeError, match="of the calibrator") as error:
        build(calibrate=broken).init(KEY, X)
    assert not isinstance(error.value, errors.BayesalError)


def test_a_network_that_fails_for_another_reason_than_its_shape_says_so():
    network = networks.from_functions(
        lambda key, x: jnp.zeros((16, 3)), lambda w, x, key: jnp.dot(x, w, rngs=0)
    )
    with pytest.raises(errors.BayesalError, match="unexpected keyword argument") as error:
        build(posteriors.point(network), acquire.uniform()).init(KEY, X)
    assert error.value.argument == "posterior"


def test_a_posterior_that_cannot_fit_its_labels_is_named_and_not_the_network():
    def fit(key, state, labeled, hparams):
        raise ValueError("of the fit")

    broken = posteriors.point(MLP)._replace(fit=fit)
    with pytest.raises(errors.WrongType, match="cannot be fitted: ValueError: of the fit") as error:
        build(broken, acquire.uniform()).init(KEY, X)
    assert error.value.argument == "posterior"


def test_a_state_that_has_grown_is_restored_into_room_for_it(state, tmp_path):
    checkpoint.save(tmp_path / "state", bayesal.grow(state, 128))
    like = bayesal.grow(LEARNER.init(KEY, X), 128)
    assert same(checkpoint.restore(tmp_path / "state", like), bayesal.grow(state, 128))


# --- the pool


ROOMY = X.astype(np.float64)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (X[::-1], "another order"),
        (X[np.r_[1, 0, 2:128]], "rows 0, 1"),
        (X + 1, "another order, or other values"),
        (X[:, :8], r"shape \(8,\)"),
        (X.astype(np.float16), "float16"),
    ],
    ids=["reversed", "swapped", "shifted", "narrower", "half"],
)
def test_a_pool_that_changed_is_refused(state, changed, words):
    for verb in (
        lambda: LEARNER.ask(state, changed),
        lambda: LEARNER.tell(state, changed, [20], [0]),
        lambda: LEARNER.relabel(state, changed, [2], [0]),
    ):
        with pytest.raises(errors.BadPool, match=words) as error:
            verb()
        assert error.value.argument == "x"


def test_a_pool_of_another_width_is_refused_before_any_label():
    with pytest.raises(errors.BadPool, match="at `init`"):
        LEARNER.ask(LEARNER.init(KEY, X), X[:, :8])


@pytest.mark.parametrize(
    "pool",
    [np.concatenate([X, X[:30] + 1]), ROOMY, jnp.asarray(X), np.asfortranarray(X)],
    ids=["appended", "float64", "on the device", "columns first"],
)
def test_a_pool_that_is_the_same_is_taken(state, pool):
    assert len(LEARNER.ask(state, pool).indices) == 4
    told = LEARNER.tell(state, pool, [20], Y[[20]])
    assert same(told, LEARNER.tell(state, X, [20], Y[[20]]))


def test_a_change_may_be_allowed(state):
    lenient = build(pool_changed="allow")
    assert len(lenient.ask(state, X[::-1]).indices) == 4
    told = lenient.tell(state, X[::-1], [20], [0])
    assert int(told.ledger.count) == 11


class Watched(np.ndarray):
    """A pool that counts the rows that are read of it."""

    read = 0

    def __getitem__(self, at):
        found = super().__getitem__(at)
        Watched.read += len(found) if np.ndim(found) == 2 else 1
        return np.asarray(found)

    def __array__(self, *args, **kwargs):
        raise AssertionError("the whole pool was read")


def test_tell_reads_the_labeled_rows_alone(state):
    pool = X.view(Watched)
    Watched.read = 0
    told = LEARNER.tell(state, pool, [20, 21], Y[[20, 21]])
    assert Watched.read == 2 + 12  # the new ones for their hash, then all that are fitted
    assert same(told, LEARNER.tell(state, X, [20, 21], Y[[20, 21]]))


def test_a_memory_mapped_pool_is_told_of_as_an_array_is(state, tmp_path):
    np.save(tmp_path / "pool.npy", X)
    pool = np.load(tmp_path / "pool.npy", mmap_mode="r")
    assert same(LEARNER.tell(state, pool, [20], [0]), LEARNER.tell(state, X, [20], [0]))


@pytest.mark.slow
def test_nan_in_a_labeled_row_is_named_wherever_a_fit_fails(state):
    x = X.copy()
    x[5] = np.nan
    lenient = build(pool_changed="allow")
    for verb in (
        lambda: lenient.tell(state, x, [20], [0]),
        lambda: bayesal.out_of_fold(DROPOUT, state, x, num_folds=2, num_draws=4),
    ):
        with pytest.raises(errors.NonFinite, match="labeled rows 5") as error:
            verb()
        assert error.value.rows.tolist() == [5] and "learning_rate" not in str(error.value)


# --- held-out predictions of the ledger's rows


@pytest.mark.slow
def test_held_out_predictions_stand_where_the_ledger_has_the_label():
    told = LEARNER.tell(
        LEARNER.init(KEY, X),
        X,
        [60, 3, 9, 70, 4, 5],
        [-1, *Y[[3, 9]], 0, *Y[[4, 5]]],
        weights=[1, 1, 1, 0, 1, 1],
    )
    plain = LEARNER.tell(LEARNER.init(KEY, X), X, [3, 9, 4, 5], Y[[3, 9, 4, 5]])
    log_p, labels, valid = bayesal.out_of_fold(DROPOUT, told, X, num_folds=2, num_draws=4)
    want, known, _ = bayesal.out_of_fold(DROPOUT, plain, X, num_folds=2, num_draws=4)
    assert np.flatnonzero(valid).tolist() == [1, 2, 4, 5]
    assert np.asarray(labels)[np.asarray(valid)].tolist() == np.asarray(known)[:4].tolist()
    np.testing.assert_array_equal(log_p[:, np.asarray(valid)], want[:, :4])


# --- NaN is never made


NANS = """
import jax
jax.config.update("jax_debug_nans", True)
import numpy as np, bayesal
from bayesal import acquire, calibrate, networks, posteriors, retune, scores
x, y = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32), np.arange(40) % 3
net = networks.mlp(6, 3, (8,))
plain = dict(size=4, hparams=bayesal.HParams(steps=5))
full = dict(calibrate=calibrate.temperature(), audit=0.25, num_folds=2, num_draws=6,
            retune=retune.successive_halving(2, retune.space(steps=(5, 10))))
for posterior, strategy, options in (
    (posteriors.mc_dropout(net), acquire.top(scores.bald), full),
    (posteriors.ensemble(net, members=3), acquire.batch_bald(configurations=20), {}),
    (posteriors.point(net), acquire.uniform(), {}),
    (posteriors.last_layer_laplace(net), acquire.badge(), {"num_draws": 6}),
):
    learner = bayesal.learner(posterior, strategy, **plain | options)
    state = learner.tell(learner.init(jax.random.key(0), x), x, np.arange(10), y[:10])
    state = learner.tell(state, x, [20, 21], [-1, 1], weights=[1, 0])
    state = learner.relabel(state, x, [20], [2])
    print(len(learner.ask(state, x).indices))
"""


@pytest.mark.slow
def test_the_loop_runs_where_nan_is_an_error():
    done = subprocess.run(
        [sys.executable, "-c", NANS],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["4"] * 4


def test_a_first_state_holds_no_nan():
    for options in ({}, {"calibrate": TEMPERATURE}, {"retune": retune.successive_halving(2)}):
        for leaf in jax.tree.leaves(build(**options).init(KEY, X)._replace(key=None)):
            assert not np.isnan(np.asarray(leaf, float)).any()
