"""Simulations: the same numbers whatever the threads and interruptions, and honest comparisons."""

import csv
import io
import json
import math
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import bayesal
from bayesal import acquire, calibrate, errors, likelihoods, metrics, networks, posteriors, scores
from bayesal._simulate import _data as held_out
from bayesal._simulate import _described as described
from bayesal._simulate._progress import Screen

QUICK = bayesal.HParams(steps=20)
POSTERIOR = posteriors.mc_dropout(networks.mlp(2, 3, (8,)))
MARGIN = acquire.top(scores.margin)


def blobs(count=120, seed=0):
    """Three clouds, in turn."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    centers = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    return (rng.normal(size=(count, 2)) + centers[y]).astype(np.float32), y


X, Y = blobs()


def simulated(strategies=MARGIN, pool=X, labels=Y, **more):
    usual = dict(
        posterior=POSTERIOR,
        seeds=2,
        rounds=2,
        size=4,
        first=12,
        hparams=QUICK,
        num_draws=6,
        progress=False,
    )
    return bayesal.simulate(strategies, pool, labels, **(usual | more))


def same(a, b):
    assert a.strategies == b.strategies and a.seeds == b.seeds
    assert_array_equal(a.labels, b.labels)
    for name in a.strategies:
        assert_array_equal(a.picks[name], b.picks[name])
        for metric in a.metrics:
            assert_array_equal(a.curves[name][metric], b.curves[name][metric])


class Broken:
    """A `keep` that raises in one round of margin's run of one seed."""

    def __init__(self, seed, round, error):
        self.seed, self.round, self.error = seed, round, error

    def __call__(self, record, state, selection):
        if record["strategy"] == "margin" and (record["seed"], record["round"]) == (
            self.seed,
            self.round,
        ):
            raise self.error


# --- what runs


def test_curves_are_those_of_the_loop_by_hand():
    found = simulated({"margin": MARGIN}, test=(X[:30], Y[:30]), pool=X[30:], labels=Y[30:])
    assert found.strategies == ("chance", "margin") and found.labels.tolist() == [12, 16, 20]
    for strategy, rule in (("chance", acquire.uniform()), ("margin", MARGIN)):
        learner = bayesal.learner(POSTERIOR, rule, size=4, capacity=20, num_draws=6, hparams=QUICK)
        for s, seed in enumerate(found.seeds):
            pool, rows = jnp.asarray(X[30:]), found.first[s]
            state = learner.init(jax.random.key(seed), pool)
            for round in range(3):
                state = learner.tell(state, pool, rows, Y[30:][rows])
                said = bayesal.predictive_of(POSTERIOR, state, 6).log_probs(jnp.asarray(X[:30]))
                curves = found.curves[strategy]
                assert curves["accuracy"][s, round] == float(metrics.accuracy(said, Y[:30]))
                assert_allclose(curves["nll"][s, round], metrics.nll(said, Y[:30]), rtol=1e-5)
                assert_allclose(curves["ece"][s, round], metrics.ece(said, Y[:30]), atol=1e-5)
                if round < 2:
                    rows = np.asarray(learner.ask(state, pool).indices)
                    assert_array_equal(found.picks[strategy][s, round], rows)
            assert found.hparams[strategy]["steps"][s].tolist() == [20.0] * 3


def test_the_number_of_threads_changes_nothing():
    same(simulated({"margin": MARGIN}, threads=1), simulated({"margin": MARGIN}, threads=3))


def test_every_row_is_labeled_once_and_none_is_in_the_test_set():
    found = simulated()
    held = held_out.split(bayesal.pools.of(X), Y, None, POSTERIOR, None, 3)
    tested = np.setdiff1d(np.arange(len(X)), held.rows)
    assert len(tested) == 24 and np.bincount(Y[tested]).tolist() == [8, 8, 8]
    for name in found.strategies:
        for s in range(2):
            rows = np.concatenate([found.first[s], found.picks[name][s].ravel()])
            assert len(set(rows.tolist())) == 20 and not np.isin(rows, tested).any()


def test_seeds_differ_and_strategies_share_their_first_labels():
    found = simulated(seeds=[3, 5])
    assert found.seeds == (3, 5)
    assert set(found.first[0].tolist()) != set(found.first[1].tolist())
    assert_array_equal(found.curves["chance"]["nll"][:, 0], found.curves["strategy"]["nll"][:, 0])
    same(simulated(seeds=[5]), simulated(seeds=[5]))
    assert_array_equal(
        simulated(seeds=[5]).curves["chance"]["nll"][0], found.curves["chance"]["nll"][1]
    )


def test_real_labels():
    y = (X @ np.array([1.0, -0.5])).astype(np.float32)
    posterior = posteriors.mc_dropout(networks.mlp(2, 2, (8,)), likelihood=likelihoods.gaussian())
    found = simulated(
        {"variance": acquire.top(scores.regression.epistemic)},
        labels=y,
        posterior=posterior,
        calibrate=calibrate.variance(),
        num_folds=2,
    )
    assert found.metrics == ("rmse", "density_nll", "density_nll_before", "temperature")
    assert found.labels_needed(1e9)["variance"].tolist() == [12.0, 12.0]  # a loss: from above
    assert found.labels_needed(-1.0)["variance"].tolist() == [math.inf, math.inf]
    held = held_out.split(bayesal.pools.of(X), y, 0.25, posterior, None, None)
    edges = np.quantile(y, [0.25, 0.5, 0.75])  # each quarter of the labels has its share
    assert np.bincount(np.searchsorted(edges, held.test_y)).min() >= 7


def test_figures_of_ones_own_and_by_name():
    two = (Y > 0).astype(int)
    posterior = posteriors.point(networks.mlp(2, 2, (8,)))
    found = simulated(labels=two, posterior=posterior, num_draws=None, metrics=("auroc", "brier"))
    assert found.metrics == ("auroc", "brier") and (found.curves["chance"]["auroc"] > 0.5).any()
    own = {"mass": lambda said, y: jnp.exp(said).sum(), "nll": "nll"}
    found = simulated(labels=two, posterior=posterior, num_draws=None, metrics=own)
    assert_allclose(found.curves["chance"]["mass"], 24.0, rtol=1e-4)
    with pytest.raises(errors.UnknownName, match="nllx"):
        simulated(metrics=("nllx",))
    with pytest.raises(errors.UnknownName, match="two classes"):
        simulated(metrics="auroc")


def test_a_temperature_is_judged_before_and_after():
    found = simulated(calibrate=calibrate.temperature(), num_folds=2, seeds=1)
    assert found.metrics == ("accuracy", "nll", "nll_before", "ece", "ece_before", "temperature")
    curves = found.curves["chance"]
    changed = curves["temperature"] != 1
    assert changed.any() and ((curves["nll"] != curves["nll_before"]) == changed).all()


@pytest.mark.slow
def test_all_seeds_in_one_program_are_the_runs_one_by_one(tmp_path):
    strategies = {"margin": MARGIN, "power": acquire.power()}
    apart = simulated(strategies, seeds=3, calibrate=calibrate.temperature(), num_folds=2)
    kept = []
    as_one = simulated(
        strategies,
        seeds=3,
        calibrate=calibrate.temperature(),
        num_folds=2,
        vectorized=True,
        folder=tmp_path,
        keep=lambda record, state, selection: kept.append(int(state.ledger.count)),
    )
    assert as_one.strategies == ("chance", "margin", "power") and not as_one.failed
    for name in as_one.strategies:
        assert_array_equal(as_one.picks[name], apart.picks[name])
        for metric in as_one.metrics:
            assert_allclose(
                as_one.curves[name][metric], apart.curves[name][metric], rtol=1e-3, atol=1e-4
            )
    assert sorted(set(kept)) == [12, 16, 20] and len(kept) == 27
    with pytest.raises(errors.BadCheckpoint, match="vectorized"):
        simulated(
            strategies, seeds=3, calibrate=calibrate.temperature(), num_folds=2, folder=tmp_path
        )


def test_a_seed_that_fails_in_a_program_leaves_the_others(tmp_path):
    pool = X.copy()
    pool[7] = np.nan  # seed 1 labels this row first
    first = np.stack([np.arange(20, 32), np.arange(12)])
    with pytest.warns(UserWarning, match="2 of 4 runs failed"):
        found = simulated({"margin": MARGIN}, pool=pool, first=first, test=(X, Y), vectorized=True)
    assert set(found.failed) == {("chance", 1), ("margin", 1)}
    assert "non-finite" in found.failed["margin", 1]
    with pytest.raises(errors.WrongType, match="vectorized"):
        np.save(tmp_path / "x.npy", X)
        simulated(pool=str(tmp_path / "x.npy"), test=(X, Y), vectorized=True)


def test_what_many_rounds_have_to_say_is_said_once_for_each_strategy():
    """Two draws are told apart by one pick: every batch has a note."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        simulated(
            {"joint": acquire.batch_bald(candidates=20)},
            posterior=posteriors.logistic(3),
            num_draws=2,
            rounds=3,
            size=20,
            first=4,
        )
    notes = [str(each.message) for each in said if "log K" in str(each.message)]
    assert len(notes) == 1 and notes[0].startswith("joint: round 1: the first")
    assert notes[0].endswith("more like it.)")
    assert said[-1].filename == __file__


# --- first labels


def test_the_configuration_names_the_hyperparameters_that_runs_begin_with():
    """Real labels have a default of their own."""
    posterior = posteriors.gp_regression()
    results = bayesal.simulate(
        {},
        X[:40],
        X[:40, 0],
        posterior=posterior,
        seeds=1,
        rounds=1,
        size=2,
        first=5,
        progress=False,
    )
    used = {name: values[0, 0] for name, values in results.hparams["chance"].items()}
    assert results.config["hparams"] == pytest.approx(used)


def test_first_labels_by_rows_and_by_a_strategy():
    rows = np.arange(12)
    found = simulated(first=rows, test=(X, Y))
    assert_array_equal(found.first, [rows, rows])
    each = np.stack([rows, rows + 20])
    assert_array_equal(simulated(first=each, test=(X, Y)).first, each)
    centers = simulated(first=acquire.k_center(), size=5, test=(X, Y))
    assert centers.labels.tolist() == [5, 10, 15]
    flat = bayesal.pools.numbers(probs=np.full((120, 2), 0.5), features=X)
    expected = bayesal.choose(1, None, flat, 5, acquire.k_center()).indices
    assert_array_equal(centers.first[1], expected)


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (97, errors.WrongSize),  # 96 rows are left beside the test set
        (0, errors.WrongSize),
        (np.arange(6).reshape(3, 2), errors.WrongShape),
        (np.array([0, 0]), errors.WrongIndex),
        (np.array([0, 500]), errors.WrongIndex),
        (np.arange(110), errors.WrongIndex),  # some of these are held out
        ("many", errors.WrongShape),
    ],
)
def test_first_labels_that_cannot_be(first, error):
    with pytest.raises(error) as found:
        simulated(first=first)
    assert found.value.argument == "first"


def test_few_first_labels_and_those_of_one_class_are_warned_about():
    with pytest.warns(UserWarning, match="fewer than the 3 classes"):
        simulated(first=2, seeds=1, rounds=1)
    with pytest.warns(UserWarning, match="one class for 2 of 2 seeds"):
        simulated(first=np.flatnonzero(Y == 1)[:6], test=(X, Y), rounds=1)


# --- bad input


@pytest.mark.parametrize(
    ("more", "argument"),
    [
        (dict(strategies={"a": acquire.batch_bald}), "strategy"),
        (dict(strategies=[MARGIN]), "strategies"),
        (dict(strategies={1: MARGIN}), "strategies"),
        (dict(labels=np.zeros(120, int)), "labels"),
        (dict(labels=Y[:100]), "labels"),
        (dict(labels=Y + 1), "labels"),
        (dict(rounds=30), "rounds"),
        (dict(rounds=0), "rounds"),
        (dict(size=0), "size"),
        (dict(seeds=0), "seeds"),
        (dict(seeds=[1, 1]), "seeds"),
        (dict(seeds=["a"]), "seeds"),
        (dict(test=1.5), "test"),
        (dict(test=(X[:, :1], Y)), "test"),
        (dict(test=(X, Y, Y)), "test"),
        (dict(threads=0), "threads"),
        (dict(metrics=3), "metrics"),
        (dict(keep=3), "keep"),
        (dict(num_draws=0), "num_draws"),
    ],
)
def test_bad_input_is_refused_by_name(more, argument):
    with pytest.raises(errors.BayesalError) as found:
        oracles.as_users_do(simulated)(**more)
    assert found.value.argument == argument


def test_a_pool_on_disk_needs_a_test_set(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(errors.WrongType, match="test=\\(x, y\\)"):
        simulated(pool=str(tmp_path / "x.npy"))
    found = simulated(pool=str(tmp_path / "x.npy"), test=(X, Y), seeds=1)
    assert_array_equal(found.picks["strategy"], simulated(test=(X, Y), seeds=1).picks["strategy"])


def test_groups_are_held_out_whole():
    groups = np.arange(120) // 4
    held = held_out.split(bayesal.pools.of(X), Y, None, POSTERIOR, groups, 3)
    tested = np.setdiff1d(np.arange(120), held.rows)
    assert not np.isin(groups[tested], held.groups).any() and len(tested) == 24
    assert simulated(groups=groups, seeds=1, rounds=1).labels.tolist() == [12, 16]


def test_rejected_rows_are_never_tested_on_nor_labeled_first():
    labels = np.where(np.arange(120) < 30, bayesal.REJECTED, Y)
    held = held_out.split(bayesal.pools.of(X), labels, None, POSTERIOR, None, 3)
    assert (held.test_y >= 0).all() and len(held.test_y) == 24
    found = simulated(labels=labels, seeds=3, rounds=1)
    assert (found.first >= 30).all() and not found.failed


# --- failures, and folders


def test_a_run_that_raises_is_left_out_and_the_others_go_on(tmp_path):
    broken = Broken(1, 1, RuntimeError("it broke"))
    with pytest.warns(UserWarning, match="1 of 4 runs failed.*margin, seed 1, round 1"):
        found = simulated({"margin": MARGIN}, keep=broken, folder=tmp_path)
    assert list(found.failed) == [("margin", 1)] and "RuntimeError: it broke" in repr(found.failed)
    curve = found.curves["margin"]["accuracy"]
    assert np.isfinite(curve[0]).all() and np.isnan(curve[1]).all()
    assert (found.picks["margin"][1] == -1).all()
    assert "1 (1 failed)" in found.table() and len(found.to_records()) == 9
    one = found.paired()["margin"]  # the seed that both finished
    difference = curve[0] - found.curves["chance"]["accuracy"][0]
    assert_allclose(one.mean, difference)
    assert np.isinf(one.low).all()
    said = json.loads((tmp_path / "runs" / "margin-1.failed.json").read_text())
    assert said["error"] == "RuntimeError" and said["round"] == 1
    assert "it broke" in said["traceback"]


def test_what_is_done_is_not_run_again(tmp_path):
    whole = simulated({"margin": MARGIN})
    with pytest.warns(UserWarning, match="failed"):
        simulated({"margin": MARGIN}, folder=tmp_path, keep=Broken(1, 2, ValueError("no")))
    ran = []
    found = simulated(
        {"margin": MARGIN},
        folder=tmp_path,
        keep=lambda record, state, selection: ran.append((record["strategy"], record["seed"])),
    )
    assert set(ran) == {("margin", 1)}
    same(found, whole)
    assert not list(tmp_path.glob("runs/*.failed.json"))
    ran.clear()
    more = simulated(
        {"margin": MARGIN, "bald": acquire.power()},
        folder=tmp_path,
        seeds=3,
        keep=lambda record, state, selection: ran.append((record["strategy"], record["seed"])),
    )
    assert set(ran) == {("chance", 2), ("margin", 2), ("bald", 0), ("bald", 1), ("bald", 2)}
    assert_array_equal(more.curves["margin"]["nll"][:2], whole.curves["margin"]["nll"])


def test_an_interrupt_loses_only_what_is_unfinished(tmp_path):
    interrupted = Broken(1, 1, KeyboardInterrupt())
    for threads in (1, 2):
        where = tmp_path / str(threads)
        with pytest.raises(KeyboardInterrupt):
            simulated({"margin": MARGIN}, folder=where, keep=interrupted, threads=threads)
        done = {path.name for path in (where / "runs").iterdir()}
        assert "margin-1.npz" not in done and {"chance-0.npz", "margin-0.npz"} <= done
        same(simulated({"margin": MARGIN}, folder=where), simulated({"margin": MARGIN}))


@pytest.mark.parametrize(
    ("more", "key"),
    [
        (dict(rounds=1), "rounds"),
        (dict(size=3), "size"),
        (dict(hparams=bayesal.HParams(steps=21)), "hparams"),
        (dict(posterior=posteriors.mc_dropout(networks.mlp(2, 3, (9,)))), "posterior"),
        (dict(pool=X + 1), "pool"),
        (dict(labels=(Y + 1) % 3), "labels"),
        (dict(calibrate=calibrate.temperature(), num_folds=2), "calibrate"),
        (dict(num_draws=7), "num_draws"),
        (dict(strategies={"margin": acquire.top(scores.bald)}), "strategies\\['margin'\\]"),
        (dict(first=13), "first"),
        (dict(test=0.25), "test"),
        (dict(metrics=("nll",)), "metrics"),
    ],
)
def test_another_configuration_is_refused(more, key, done_once):
    with pytest.raises(errors.BadCheckpoint, match=key):
        simulated(**(dict(strategies={"margin": MARGIN}, folder=done_once) | more))


@pytest.fixture(scope="module")
def done_once(tmp_path_factory):
    where = tmp_path_factory.mktemp("done")
    simulated({"margin": MARGIN}, folder=where)
    return where


def test_a_posterior_that_is_built_again_is_the_same(done_once):
    again = dict(
        posterior=posteriors.mc_dropout(networks.mlp(2, 3, (8,))),
        keep=lambda *args: pytest.fail("it ran again"),
    )
    found = simulated({"margin": acquire.top(scores.margin)}, folder=done_once, **again)
    assert found.strategies == ("chance", "margin")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.BadPath, match="folder"):
        simulated(folder=tmp_path / "file")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(errors.BadCheckpoint, match="no configuration"):
        simulated(folder=tmp_path)


def test_a_damaged_run_is_named(tmp_path):
    simulated(folder=tmp_path, seeds=1, rounds=1)
    (tmp_path / "runs" / "chance-0.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(errors.BadCheckpoint, match=r"chance-0\.npz"):
        simulated(folder=tmp_path, seeds=1, rounds=1)


def test_where_every_run_fails_its_own_error_is_raised():
    poisoned = X.copy()
    poisoned[:] = np.nan
    with pytest.raises(errors.BayesalError):
        simulated(pool=poisoned, seeds=1)


def test_descriptions_tell_functions_apart_by_what_they_close_over():
    top = acquire.top
    assert described.digest(top(scores.bald)) == described.digest(top(scores.bald))
    assert described.digest(top(scores.bald)) != described.digest(top(scores.entropy))
    assert described.digest(acquire.power(beta=1.0)) != described.digest(acquire.power(beta=8.0))
    own = lambda x: x + 1, lambda x: x + 2
    assert described.digest(own[0]) != described.digest(own[1])
    a, b = (posteriors.mc_dropout(networks.mlp(2, 3, (8,)), batch_size=n) for n in (16, 32))
    assert described.digest(a) != described.digest(b)

    def itself():
        return itself

    assert described.digest(itself) == described.digest(itself)
    a, b = object(), object()  # identities say nothing
    assert described.digest((a, a)) == described.digest((a, b))


def test_descriptions_are_the_same_in_another_process():
    code = (
        "from bayesal import networks, posteriors; from bayesal._simulate import _described as d; "
        "print(d.digest(posteriors.mc_dropout(networks.mlp(2, 3, (8,)))))"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONHASHSEED": "7"}
    run = lambda: subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    said = run().stdout
    assert len(said.strip()) == 16 and run().stdout == said


# --- what is said


def made_up(curves, labels=(10, 20, 40), metric="accuracy", failed=()):
    curves = {name: np.asarray(values, float) for name, values in curves.items()}
    shape = next(iter(curves.values())).shape
    blank = {name: {} for name in curves}
    return bayesal.Results(
        strategies=tuple(curves),
        seeds=tuple(range(shape[0])),
        labels=np.array(labels),
        curves={name: {metric: values} for name, values in curves.items()},
        picks={name: np.zeros((*shape, 1), int) for name in curves},
        first=np.zeros((shape[0], 1), int),
        hparams=blank,
        seconds=blank,
        failed={key: "round 0: it broke" for key in failed},
        config={},
    )


RNG = np.random.default_rng(0)
TWO = {"chance": RNG.uniform(0.4, 0.8, (4, 3)), "bald": RNG.uniform(0.5, 0.9, (4, 3))}


def t_interval(gaps):
    """Mean and half width by Student's t of 3 degrees of freedom, in plain Python."""
    mean = math.fsum(gaps) / len(gaps)
    variance = math.fsum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1)
    assert len(gaps) == 4
    return mean, 3.182446305284263 * math.sqrt(variance / len(gaps))


def test_paired_differences_against_plain_python():
    found = made_up(TWO)
    gap = found.paired()["bald"]
    for r in range(3):
        mean, half = t_interval((TWO["bald"] - TWO["chance"])[:, r].tolist())
        assert_allclose([gap.mean[r], gap.low[r], gap.high[r]], [mean, mean - half, mean + half])
        at = found.paired(at=found.labels[r])["bald"]
        assert_allclose(at, [mean, mean - half, mean + half])
    height = lambda a: (10 * (a[0] + a[1]) / 2 + 20 * (a[1] + a[2]) / 2) / 30
    areas = {name: [height(row) for row in values.tolist()] for name, values in TWO.items()}
    assert_allclose(found.area_under_curve()["bald"], areas["bald"])
    mean, half = t_interval([b - c for b, c in zip(areas["bald"], areas["chance"], strict=True)])
    assert_allclose(found.paired(at="area")["bald"], [mean, mean - half, mean + half])
    assert set(found.paired(against="bald")) == {"chance"}
    for wrong in (dict(metric="nll"), dict(against="margin")):
        with pytest.raises(errors.UnknownName):
            found.paired(**wrong)
    with pytest.raises(errors.OutOfRange, match="10, 20, 40"):
        found.paired(at=30)


def test_an_interval_of_one_value_is_unbounded_and_nan_is_left_out():
    assert_allclose(metrics.mean_interval(np.array([2.0])), [2.0, -np.inf, np.inf])
    assert np.isnan(metrics.mean_interval(np.array([np.nan]))).all()
    values = np.array([[1.0, np.nan], [2.0, 5.0], [4.0, 7.0]])
    found = metrics.mean_interval(values)
    assert_allclose(found.mean, [7 / 3, 6.0])
    assert_allclose(
        found.high[1] - 6.0, 12.706204736174698 * 1.0
    )  # t of one degree, std 2^.5 / 2^.5
    assert_allclose(metrics.mean_interval(values, level=0.5).high[1] - 6.0, 1.0)
    for wrong, argument in (
        (dict(values=np.zeros(0)), "values"),
        (dict(values=np.ones(2), level=1.0), "level"),
    ):
        with pytest.raises(errors.BayesalError) as error:
            metrics.mean_interval(**wrong)
        assert error.value.argument == argument


def test_an_interval_holds_the_mean_as_often_as_it_says():
    values = np.random.default_rng(1).normal(0.3, 2.0, (5, 20_000))
    found = metrics.mean_interval(values)
    inside = ((found.low <= 0.3) & (found.high >= 0.3)).mean()
    assert abs(inside - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 20_000)


def test_labels_needed_and_the_table():
    found = made_up({"chance": [[0.5, 0.6, 0.7]] * 2, "bald": [[0.5, 0.8, 0.9], [0.5, 0.6, 0.8]]})
    assert found.labels_needed(0.8)["bald"].tolist() == [20.0, 40.0]
    assert found.labels_needed(0.8)["chance"].tolist() == [math.inf] * 2
    lines = found.table(target=0.8).splitlines()
    assert "to 0.8" in lines[1] and "never" in lines[2] and " 20 " in lines[3]
    assert (
        repr(found).splitlines()[1].startswith("strategy")
        and len({len(x) for x in lines[1:2]}) == 1
    )
    losses = made_up({"chance": [[3.0, 2.0, 1.0]]}, metric="nll")
    assert losses.labels_needed(2.0)["chance"].tolist() == [20.0]
    assert "one seed" in made_up({"chance": [[0.5] * 3], "bald": [[0.6] * 3]}).table()


def test_records_are_rows_of_a_csv_file():
    records = simulated(seeds=1, rounds=1).to_records()
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert len(rows) == 4 and {"strategy", "seed", "labels", "accuracy", "steps"} <= set(rows[0])
    assert rows[1]["labels"] == "16" and rows[0]["ask_seconds"] != "nan" == rows[1]["ask_seconds"]


def test_a_picture_of_every_strategy():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = made_up(TWO)
    ax = found.plot(target=0.6)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert set(lines) == {"chance", "bald"}
    assert_allclose(lines["bald"].get_ydata(), TWO["bald"].mean(axis=0))
    assert {t.get_text() for t in ax.texts} >= {"chance", "bald"}
    _, own = plt.subplots()
    assert found.plot(own) is own and "accuracy" in own.get_ylabel()
    plt.close("all")


def test_progress_begins_at_once_and_ends_with_every_run(capsys):
    seen = []
    simulated(seeds=2, progress=seen.append)
    assert seen[0].done == 0 and "compiling first" in str(seen[0])
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, seen[-1].total) == (12, 12) and seen[-1].left is not None
    assert capsys.readouterr() == ("", "")
    simulated(seeds=2, progress=True)
    out = capsys.readouterr().err.splitlines()
    assert len(out) == 5 and "12 of 12 fits" in out[-1]


def test_a_terminal_has_one_line_that_moves(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("bayesal._simulate._progress.EVERY", 0.01)
    with Screen(10, 4, "compiling", True):
        for _ in range(500):
            if terminal.getvalue().count("\r") > 3:
                break
            threading.Event().wait(0.01)
    text = terminal.getvalue()
    assert text.count("\r") > 3 and text.count("\n") == 1


# --- real work


@pytest.mark.slow
def test_margin_beats_chance_on_digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    found = bayesal.simulate(
        {"margin": MARGIN},
        (x / 16).astype(np.float32),
        y,
        posterior=posteriors.mc_dropout(networks.mlp(64, 10)),
        seeds=4,
        rounds=8,
        progress=False,
    )
    gap = found.paired(at="area")["margin"]
    assert gap.low > 0 and found.labels[-1] == 100
