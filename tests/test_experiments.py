"""The experiments' own parts: reading MNIST, counting labels, and the demo from end to
end (slow).
"""

import gzip
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import bayesal
from bayesal import _checks, acquire, calibrate, networks, posteriors, retune, scores
from bayesal.calibrate._search import strength
from bayesal.predictive import bind
from bayesal.retune import _history as histories
from bayesal.retune import _spaces as spaces
from bayesal.types import FitInfo, Gaussian, HParams, Labeled
from experiments import (
    active_regression,
    calibration,
    cross_fit,
    defaults,
    digits,
    ensembles,
    held_back,
    members,
    mnist,
    moons,
    preference,
    priors,
    proposers,
    regression,
    runs,
    shift,
    temperature,
    updates,
)
from experiments.benchmarks import growth


def idx(array: np.ndarray) -> bytes:
    return (
        b"\x00\x00\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}i", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def tiny():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (30, 28, 28), np.uint8),
        "y_train": np.arange(30, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (12, 28, 28), np.uint8),
        "y_test": np.arange(12, dtype=np.uint8) % 10,
    }


def test_idx_files_plain_and_gzipped_read_as_npz_does(tmp_path, tiny):
    names = {
        "x_train": "train-images-idx3-ubyte.gz",
        "y_train": "train-labels-idx1-ubyte",
        "x_test": "t10k-images.idx3-ubyte",
        "y_test": "t10k-labels-idx1-ubyte.gz",
    }
    for key, name in names.items():
        (tmp_path / name).write_bytes(
            gzip.compress(idx(tiny[key])) if name.endswith(".gz") else idx(tiny[key])
        )
    read = mnist.read(str(tmp_path))
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "mnist.npz", **tiny)
    packed = mnist.read(str(tmp_path / "npz"))
    for key, array in tiny.items():
        np.testing.assert_array_equal(read[key], array)
        np.testing.assert_array_equal(packed[key], array)


def test_missing_mnist_says_where_to_get_it(tmp_path):
    with pytest.raises(SystemExit, match="BAYESAL_DATA"):
        mnist.read(None)
    with pytest.raises(SystemExit, match="train-images"):
        mnist.read(str(tmp_path))


def test_a_cut_or_foreign_idx_file_is_refused(tmp_path, tiny):
    (tmp_path / "cut").write_bytes(idx(tiny["x_test"])[:-5])
    with pytest.raises(ValueError, match="cut short"):
        mnist.read_idx(tmp_path / "cut")
    (tmp_path / "foreign").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ValueError, match="not an idx file"):
        mnist.read_idx(tmp_path / "foreign")


def test_first_labels_hold_every_class_and_are_the_same_for_a_seed():
    labels = np.arange(200) % 10
    first = runs.first_labels(labels, 2, seed=3)
    assert (np.bincount(labels[first]) == 2).all()
    np.testing.assert_array_equal(first, runs.first_labels(labels, 2, seed=3))
    assert not np.array_equal(first, runs.first_labels(labels, 2, seed=4))


def test_labels_needed_per_seed_and_their_spread():
    records = [
        {"strategy": "bald", "seed": s, "labels": n, "accuracy": a}
        for s, curve in enumerate([(0.5, 0.9, 0.9), (0.5, 0.6, 0.7)])
        for n, a in zip((20, 30, 40), curve, strict=True)
    ]
    assert runs.needed(records, 0.9) == {"bald": [30.0, np.inf]}
    assert (
        runs.spread([30.0, np.inf]) == "30 (30-never)"
        and runs.spread([30.0, 40.0, 50.0]) == "40 (30-50)"
    )


def test_chances_of_picks_are_shares_of_what_is_left():
    assert calibration.chances(
        np.array([1.0, 3.0, -1.0, 4.0]), np.array([True, True, True, False]), np.array([1, 0])
    ) == [0.75, 1.0]
    np.testing.assert_allclose(
        calibration.chances(np.ones(4), np.ones(4, bool), np.array([2, 0, 1])),
        [1 / 4, 1 / 3, 1 / 2],
    )


def test_figures_are_means_over_rounds_after_the_first_and_intervals_over_seeds():
    records = [
        {"strategy": "bald", "seed": s, "round": r, "plain": {"nll": v}}
        for s, r, v in ((0, 0, 9.0), (0, 1, 1.0), (0, 2, 3.0), (1, 1, np.nan), (1, 2, 4.0))
    ]
    found = calibration.per_seed(records, "bald", "plain", "nll")
    assert found.tolist() == [2.0, 4.0]
    mean, half = calibration.interval(found)
    assert mean == 3.0 and half == pytest.approx(
        12.706 * 2**0.5 / 2**0.5, rel=1e-3
    )  # t of one degree of freedom


@pytest.mark.slow
def test_the_calibration_experiment_leaves_records_and_summaries(tmp_path):
    records = calibration.main(
        calibration.Config(seeds=2, rounds=1, draws=4, hidden=8, steps=10, folds=2), tmp_path
    )
    assert len(records) == 2 * 2 * 7
    written = runs.read(tmp_path)
    ways = {(r["strategy"], r["way"]) for r in written if r["kind"] == "summary"}
    assert {("bald", "plain"), ("power", "sampled"), ("margin + audit", "audit")} <= ways
    for r in records:  # nothing that was fitted is better on the rest than what was fitted on it
        assert r["best"]["nll"] <= min(r["plain"]["nll"], r["none"]["nll"]) + 0.02


def test_test_images_never_enter_the_pool():
    for seed in range(2):
        data = digits.load(digits.Config(), seed)
        assert len(data.test) == 500 and len(data.pool) == 1297
        pool = {bytes(np.asarray(x)) for x in data.pool}
        # scikit-learn's digits hold a few identical images; all others of the test set are absent
        # from the pool
        assert sum(bytes(np.asarray(x)) in pool for x in data.test) <= 2


def lines(folder, kind=None):
    """The records of a results folder, of one kind or all."""
    return [record for record in runs.read(folder) if kind in (None, record["kind"])]


def test_records_read_the_same_compressed(tmp_path):
    folder = runs.Folder(tmp_path, digits.Config())
    for seed in range(400):
        folder.write({"kind": "round", "seed": seed, "loss": float("inf")})
    records = runs.read(tmp_path)
    assert len(records) == 401 and records[-1] == {"kind": "round", "seed": 399, "loss": None}
    runs.pack(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl.gz"]
    first = (tmp_path / "results.jsonl.gz").read_bytes()
    assert len(first) < 4_000 and runs.read(tmp_path) == records
    runs.pack(tmp_path)  # packed already
    assert runs.read(tmp_path) == records
    (tmp_path / "results.jsonl").write_bytes(gzip.decompress(first))
    runs.pack(tmp_path)
    assert (tmp_path / "results.jsonl.gz").read_bytes() == first  # no time in it
    runs.Folder(tmp_path, digits.Config())  # a new run: nothing of the earlier one stays
    runs.pack(tmp_path)  # so short that it stays text
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]
    assert [record["kind"] for record in runs.read(tmp_path)] == ["config"]


def test_kept_results_are_compressed_and_readable():
    kept = Path(runs.__file__).parent / "results"
    folders = [path for path in kept.iterdir() if path.is_dir()]
    assert len(folders) > 20
    for folder in folders:
        text = folder / "results.jsonl"
        assert not text.exists() or text.stat().st_size <= runs.SMALL, folder.name
        assert len(runs.read(folder)) > 2, folder.name
        assert not (text.exists() and (folder / "results.jsonl.gz").exists()), folder.name


@pytest.mark.slow
def test_moons_measure_a_method_beside_a_yardstick_and_draw_it(tmp_path):
    x, y = moons.moons(20)
    assert_allclose(
        np.hypot(*(x[y == 0] + [0.5, 0.25]).T), 1, atol=0.6
    )  # around one half circle each
    config = moons.Config(points=20, side=6, draws=10, steps=3, keys=2)
    axis = np.linspace(-3, 3, 6)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), jnp.float32)
    data = Labeled(jnp.asarray(x), jnp.asarray(y), jnp.int32(20))
    record, found = moons.measured(
        "mc_dropout", config, data, grid, np.zeros(36), runs.Folder(tmp_path, config)
    )
    assert lines(tmp_path, "method") == [record] and len(record["tv"]) == 2
    assert_allclose(
        record["tv"][0], found["p"].mean(), rtol=1e-5
    )  # to a yardstick that never says class 1
    moons.picture({"yardstick": found, "mc_dropout": found}, x, y, axis).savefig(
        tmp_path / "moons.png"
    )
    assert (tmp_path / "moons.png").stat().st_size > 5_000


def test_a_fit_that_failed_or_predicts_nan_is_no_figure():
    for log_probs, failed_at, match in (
        (jnp.zeros(2), 7, "step 7"),
        (jnp.array([0.0, jnp.nan]), -1, "1 predictions are NaN"),
    ):
        with pytest.raises(FloatingPointError, match=match):
            moons.predicted(
                lambda *_, log_probs=log_probs, failed_at=failed_at: (
                    log_probs,
                    FitInfo(jnp.float32(0), jnp.int32(failed_at)),
                ),
                None,
                None,
                None,
            )


@pytest.fixture
def numbers(tmp_path):
    """A folder with one small regression set whose label has a unit far from 1."""
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 3)) * [1, 10, 100] + 5
    arrays = {"toy_x": x, "toy_y": 1000 + 50 * np.sin(x[:, 0]) + random.normal(size=60)}
    np.savez(tmp_path / "uci_regression.npz", **arrays)
    return arrays


def test_splits_are_the_literatures_and_figures_in_the_labels_unit(numbers):
    first, second = regression.splits(numbers["toy_x"], numbers["toy_y"], 2)
    random = np.random.RandomState(1)
    random.permutation(60)
    assert_allclose(second.answers, numbers["toy_y"][random.permutation(60)[54:]])
    assert_allclose(first.train.x.mean(0), 0, atol=1e-5) and assert_allclose(
        first.train.x.std(0), 1, rtol=1e-5
    )
    draws = Gaussian(
        jnp.zeros((2, 6)), jnp.ones((2, 6))
    )  # two draws that know nothing: as wide as the training part
    found = regression.judged(draws, first)
    away = first.answers - first.center
    assert_allclose(found["rmse"], np.sqrt(np.mean(away**2)), rtol=1e-5)
    by_hand = np.mean(0.5 * (away / first.scale) ** 2 + 0.5 * np.log(2 * np.pi * first.scale**2))
    assert_allclose([found["nll"], found["nll_moments"]], by_hand, rtol=1e-5)


@pytest.mark.slow
def test_the_regression_table_leaves_records_and_a_picture(numbers, tmp_path):
    config = regression.Config(
        methods=("point",), sets="toy", splits=2, hidden=4, epochs=40, batch=10, draws=3
    )
    records = regression.main(config, str(tmp_path), tmp_path / "out")
    assert len(records) == 2 and lines(tmp_path / "out", "split") == records
    (summary,) = lines(tmp_path / "out", "summary")
    assert_allclose(
        summary["rmse"],
        [np.mean([r["rmse"] for r in records]), abs(records[0]["rmse"] - records[1]["rmse"]) / 2],
    )
    assert summary["rmse"][0] < 60 and (tmp_path / "out" / "regression.png").stat().st_size > 5_000


@pytest.mark.slow
def test_active_regression_pairs_its_strategies(numbers, tmp_path):
    config = active_regression.Config(
        strategies=("uniform", "epig"),
        sets="toy",
        seeds=2,
        pool=40,
        test=6,
        first=10,
        size=2,
        rounds=1,
        members=2,
        hidden=4,
        steps=3,
    )
    records = active_regression.main(config, str(tmp_path), tmp_path / "out")
    assert len(records) == 2 * 2 * 2
    begun = [r for r in records if r["labels"] == 10 and r["seed"] == 1]
    assert len(begun) == 2 and begun[0]["rmse"] == begun[1]["rmse"]  # the same first fit
    assert {
        r["strategy"]: r["to_uniform"]
        for r in lines(tmp_path / "out", "summary")
        if r["labels"] == 12
    }["uniform"] == [0, 0, 0]
    assert (tmp_path / "out" / "active_regression.png").exists()


def test_a_paired_interval_is_students():
    assert_allclose(
        runs.paired(np.array([1.0, 2.0, 3.0])),
        [2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5],
        rtol=1e-6,
    )
    assert runs.paired(np.array([0.5])) == [0.5, 0.5, 0.5]


@pytest.mark.slow
def test_ensembles_are_disjoint_groups_of_one_training(tmp_path, tiny):
    np.savez(tmp_path / "mnist.npz", **tiny)
    records = ensembles.main(
        ensembles.Config(members=(1, 2), labels=20, test=8, steps=2, batch=4),
        str(tmp_path),
        tmp_path / "out",
    )
    assert [(r["members"], r["groups"]) for r in records] == [(1, 2), (2, 1)] and lines(
        tmp_path / "out", "members"
    ) == records
    assert (
        records[1]["nll"] <= records[0]["nll"] + 1e-6
    )  # averaging probabilities never loses in the mean (Jensen)


def test_a_strategy_at_one_forgets_the_temperature():
    posterior = posteriors.mc_dropout(networks.mlp(3, 4))
    state = posterior.init(jax.random.key(0), jnp.zeros(3))._replace(rate=jnp.float32(0.5))
    drawn = posterior.draw(jax.random.key(1), state, 6)
    plain, hot = (bind(posterior, state, drawn, t) for t in (1.0, 3.0))
    x = jax.random.normal(jax.random.key(2), (30, 3))
    strategy = acquire.top(scores.bald)
    asked = lambda bound, strategy: bayesal.choose(0, bound, x, 5, strategy)
    cold = asked(hot, temperature.at_one(strategy))
    assert_allclose(cold.scores, asked(plain, strategy).scores, rtol=1e-5)
    assert not np.allclose(cold.scores, asked(hot, strategy).scores)
    assert hot.temperature == 3.0


@pytest.mark.parametrize("labels", [3, 40, 499, 800])
@pytest.mark.parametrize("classes", [2, 10, 40])
@pytest.mark.parametrize("determined", [True, False])
def test_a_prior_costs_what_the_calibrator_charges(labels, classes, determined):
    charged = strength(jnp.float32(labels), jnp.bool_(determined), 0.7, 20.0, classes)
    assert_allclose(priors.cost(labels, determined, 0.7, 20.0, classes), charged, rtol=1e-4)


def test_figures_say_how_sure_and_how_right():
    found = runs.figures(jnp.log(jnp.array([[0.9, 0.1], [0.6, 0.4]])), np.array([0, 1]))
    assert_allclose(
        [found["accuracy"], found["nll"], found["over"]],
        [0.5, -np.log(0.9 * 0.4) / 2, 0.75 - 0.5],
        rtol=1e-5,
    )


@pytest.mark.slow
def test_the_temperature_experiment_pairs_its_arms_and_counts_changed_picks(tmp_path):
    config = temperature.Config(seeds=2, rounds=1, size=4, draws=4, test=40, hidden=8, steps=20)
    records = temperature.main(config, tmp_path)
    assert (
        len(records) == 2 * 2 * 5
        and len(lines(tmp_path, "changed")) == 2 * 5
        and len(lines(tmp_path, "gained")) == 6
    )
    for seed in range(2):  # the same first labels, and so the same first fit
        assert len({r["nll"] for r in records if (r["round"], r["seed"]) == (0, seed)}) == 1
    first = records[0][
        "changed"
    ]  # 8 hidden units hardly agree on what to ask when other ones drop out
    assert (
        set(first["temperature"]) == set(first["draws"]) == set(temperature.ASKED)
        and 0 < max(first["draws"].values()) <= 4
    )
    (summary,) = (
        r for r in lines(tmp_path, "calibrated") if (r["strategy"], r["labels"]) == ("bald", 24)
    )
    of = [r["nll"] - r["nll_before"] for r in records if (r["strategy"], r["round"]) == ("bald", 1)]
    assert_allclose(summary["nll_gap"], runs.paired(np.array(of)))
    assert (tmp_path / "temperature.png").stat().st_size > 5_000


@pytest.mark.slow
def test_cross_fit_judges_every_number_of_folds_on_one_net(tmp_path):
    records = cross_fit.main(
        cross_fit.Config(seeds=2, rounds=1, draws=4, test=60, hidden=8, steps=20), tmp_path
    )
    assert [(r["strategy"], r["labels"]) for r in records] == [
        ("uniform", 20),
        ("uniform", 30),
        ("least_confidence", 20),
        ("least_confidence", 30),
    ] * 2
    for r in records:
        assert len(r["ways"]) == 2 + 2 * 4 and r["ways"]["T = 1"]["log_t"] == 0
        assert (
            r["ways"]["best"]["nll"] <= min(found["nll"] for found in r["ways"].values()) + 0.02
        )  # its prior costs a little
        held_back, plain = (
            abs(r["ways"][f"2 folds, prior {name}"]["log_t"]) for name in cross_fit.PRIORS
        )
        assert held_back <= plain + 1e-6  # with two or three labels per class
    (summary,) = (
        r
        for r in lines(tmp_path, "summary")
        if (r["strategy"], r["way"]) == ("uniform", "3 folds, prior 0.5")
    )
    gap = lambda r: r["ways"]["3 folds, prior 0.5"]["nll"] - r["ways"]["T = 1"]["nll"]
    mine = [
        [gap(r) for r in records if (r["strategy"], r["seed"]) == ("uniform", seed)]
        for seed in range(2)
    ]
    assert_allclose(summary["nll_less_one"], runs.paired(np.mean(mine, axis=1)))


@pytest.mark.slow
def test_priors_are_judged_by_curves_as_the_calibrator_would_choose(tmp_path):
    config = priors.Config(sets=("digits",), seeds=2, rounds=1, draws=4, pool=60, test=40, hidden=8)
    records = priors.main(config, None, tmp_path)
    assert len(records) == 3 * 2 * 2 * 2 and {r["labels"] for r in records} == {20, 30}
    assert all(len(r["gains"]) == len(priors.PRIORS) and r["best"] <= 0 for r in records)
    row = next(r for r in lines(tmp_path, "prior") if (r["prior_std"], r["doubt"]) == (1.0, 20.0))
    at, cells = priors.PRIORS.index((1.0, 20.0)), {}
    for r in records:
        cells.setdefault((r["net"], r["arm"], r["labels"]), []).append((r["gains"][at], r["best"]))
    gained, best = np.array([np.mean(values, axis=0) for values in cells.values()]).T
    assert_allclose(
        [row["mean"], row["regret"], row["harm"], row["worst"]],
        [gained.mean(), (gained - best).mean(), gained.clip(0).mean(), gained.max()],
        rtol=1e-6,
    )
    rng = np.random.default_rng(0)
    log_p = np.asarray(
        jax.nn.log_softmax(jnp.asarray(4 * rng.normal(size=(3, 40, 3)), jnp.float32))
    )
    labels, every = (
        jnp.asarray(log_p.mean(0).argmax(1), jnp.int32).at[:15].set(0),
        jnp.ones(40, bool),
    )
    held_out = np.interp(priors.FINE, priors.LOG_T, priors.curve(jnp.asarray(log_p), labels, every))
    fitted = float(jnp.log(calibrate.temperature()(jnp.asarray(log_p), labels, every).temperature))
    assert priors.gain(held_out, priors.FINE, 40, 3, 1.0, 20.0) == pytest.approx(
        fitted, abs=0.026
    )  # a curve that says where one is; half a step of the grid


@pytest.mark.slow
def test_optunas_proposals_depend_on_the_key_and_the_history_alone():
    pytest.importorskip("optuna")
    space = retune.space(steps=(20, 100), prior_scale=None)
    start, units = (
        _checks.as_traced(HParams()),
        np.random.default_rng(0).random((24, 4)).astype(np.float32),
    )
    loss = jnp.asarray(np.square(units[:, 0] - 0.8), jnp.float32)  # the first axis matters
    numbers = lambda value: jnp.full(24, value, jnp.int32)
    tried = histories.History(
        spaces.values(space, jnp.asarray(units), start),
        loss,
        loss,
        0 * loss,
        numbers(5),
        numbers(0),
        numbers(0),
        loss < 0,
        jnp.int32(24),
    )
    known, unknown = (
        histories.remember(histories.empty(64, start), tried),
        histories.empty(64, start),
    )
    for name in proposers.OPTUNA:
        proposer = proposers.by_optuna(name)
        ask = jax.jit(
            lambda key, history, proposer=proposer: proposer.ask(key, history, space, start, 6)
        )
        first, again, other, at_random = (
            np.asarray(ask(jax.random.key(seed), history))
            for seed, history in ((0, known), (0, known), (1, known), (0, unknown))
        )
        assert (
            first.shape == (6, 4)
            and (first >= 0).all()
            and (first <= 1).all()
            and np.array_equal(first, again)
            and not np.array_equal(first, other)
        )
        assert (
            np.abs(first[:, 0] - 0.8).mean() < np.abs(at_random[:, 0] - 0.8).mean()
            and len(np.unique(first, axis=0)) == 6
        )


def test_turning_images_is_counterclockwise_about_the_middle():
    image = np.zeros((1, 5, 5), np.uint8)
    image[0, 0, 1] = 200
    assert np.array_equal(shift.turned(image, 0), image) and np.argwhere(
        shift.turned(image, 180)[0]
    ).tolist() == [[4, 3]]
    assert np.argwhere(shift.turned(image, 90)[0]).tolist() == [[3, 0]]
    confident = jnp.log(jnp.array([[0.9, 0.1], [0.6, 0.4]]))
    assert (
        np.isnan(shift.judged(confident, np.array([0, 0]))["auroc"])
        and shift.judged(confident, np.array([0, 1]))["auroc"] == 1.0
    )


@pytest.mark.slow
def test_shift_judges_every_angle_before_and_after(tmp_path, tiny):
    np.savez(tmp_path / "mnist.npz", **tiny)
    config = shift.Config(
        methods=("point", "mc_dropout"),
        seeds=2,
        labels=20,
        test=12,
        step=90,
        hidden=4,
        steps=20,
        draws=2,
    )
    records = shift.main(config, str(tmp_path), tmp_path / "out")
    assert [r["angle"] for r in records] == [0, 90, 180] * 4 and len(
        {r["temperature"] for r in records}
    ) == 4
    gaps = [
        r["after"]["nll"] - r["before"]["nll"]
        for r in records
        if (r["method"], r["angle"]) == ("mc_dropout", 0)
    ]
    (found,) = (
        r
        for r in lines(tmp_path / "out", "paired")
        if (r["method"], r["turned_by"]) == ("mc_dropout", "0")
    )
    assert_allclose(found["nll, fitted T - T = 1"], runs.paired(np.array(gaps)))
    assert (tmp_path / "out" / "shift.png").stat().st_size > 5_000


@pytest.mark.slow
def test_each_way_of_a_temperature_by_hand():
    log_probs = jnp.log(
        jnp.array([[[0.9, 0.1]] * 4, [[0.6, 0.4]] * 4])
    )  # two members, four points, three of the first class
    labels = jnp.array([0, 0, 0, 1])
    fitted = lambda log_probs: float(members.FIT(log_probs, labels, jnp.ones(4, bool)).temperature)
    temper = lambda member, t: (
        np.exp(np.asarray(member) / t) / np.exp(np.asarray(member) / t).sum(-1, keepdims=True)
    )
    first, second, joint, pooled = (
        fitted(p)
        for p in (
            log_probs[:1],
            log_probs[1:],
            log_probs,
            jnp.log(jnp.exp(log_probs).mean(0))[None],
        )
    )
    wanted = {
        "none": np.exp(log_probs).mean(0),
        "each": (temper(log_probs[0], first) + temper(log_probs[1], second)) / 2,
        "joint": (temper(log_probs[0], joint) + temper(log_probs[1], joint)) / 2,
        "pooled": temper(jnp.log(jnp.exp(log_probs).mean(0)), pooled),
    }
    for way, by_hand in wanted.items():
        assert_allclose(
            np.exp(members.tempered(way, log_probs, labels, log_probs)[0]), by_hand, rtol=1e-4
        )
    assert_allclose(
        members.tempered("each", log_probs, labels, log_probs)[1],
        (np.log(first) + np.log(second)) / 2,
        rtol=1e-4,
    )
    assert first > 1 > second


@pytest.mark.slow
def test_members_are_one_training_in_groups(tmp_path):
    records = members.main(
        members.Config(seeds=2, most=3, labels=20, held=20, hidden=4, steps=(20, 40)), tmp_path
    )
    assert [(r["members"], r["way"]) for r in records] == 4 * [
        (size, way) for size in (1, 2, 3) for way in members.WAYS
    ]
    one = {
        r["way"]: r["nll"] for r in records if (r["members"], r["seed"], r["steps"]) == (1, 0, 20)
    }
    assert_allclose(
        [one["each"], one["pooled"]], one["joint"], rtol=1e-5
    )  # of one member all ways are one
    none = [r["nll"] for r in records if (r["seed"], r["steps"], r["way"]) == (0, 20, "none")]
    assert none[2] <= none[0] + 1e-6  # Jensen
    assert (
        len(lines(tmp_path, "summary")) == 24 and (tmp_path / "members.png").stat().st_size > 5_000
    )


def test_normal_scores_are_quantiles_of_ranks():
    train = np.array([[1.0], [2.0], [2.0], [50.0]])
    found = preference.normal_scores(np.array([[2.0], [50.0], [99.0], [-9.0]]), train)
    assert_allclose(
        stats.norm.cdf(found)[:, 0], [0.5, 8 / 10, 9 / 10, 1 / 10]
    )  # (2 * rank + 1) / (2 n + 2): middle ranks 2, 3.5, 4, 0


@pytest.mark.slow
def test_preferences_are_judged_by_worth_and_drawn(tmp_path):
    random = np.random.default_rng(0)
    grade = random.integers(3, 9, 40)
    items = np.stack(
        [grade + 0.1 * random.normal(size=40), 10 * random.normal(size=40)], axis=1
    ).astype(np.float32)
    rows = {"train": random.integers(0, 30, (200, 2)), "test": random.integers(30, 40, (60, 2))}
    rows = {part: pairs[grade[pairs[:, 0]] != grade[pairs[:, 1]]] for part, pairs in rows.items()}
    arrays = {f"{part}_pairs": pairs for part, pairs in rows.items()} | {
        f"{part}_first_wins": grade[pairs[:, 0]] > grade[pairs[:, 1]]
        for part, pairs in rows.items()
    }
    np.savez(
        tmp_path / "wine_preference.npz",
        item_x=items,
        item_grade=grade,
        is_test_item=np.arange(40) >= 30,
        **arrays,
    )
    config = preference.Config(
        strategies=("uniform", "bald"),
        seeds=2,
        candidates=60,
        first=40,
        rounds=2,
        every=2,
        judged=10,
        steps=5,
    )
    records = preference.main(config, str(tmp_path), tmp_path / "out")
    assert [r["labels"] for r in records] == [40, 42] * 4
    assert all(
        r["tau"] > 0.4 and r["pairs_right"] > 0.7 for r in records
    )  # forty answers about a worth that one measurement tells
    at_end = [r["tau"] for r in records if r["labels"] == 42]
    gaps = [
        r["to_uniform"]
        for r in lines(tmp_path / "out", "summary")
        if (r["strategy"], r["labels"]) == ("bald", 42)
    ]
    assert_allclose(gaps[0], runs.paired(np.array([at_end[1] - at_end[0], at_end[3] - at_end[2]])))
    assert (tmp_path / "out" / "preference.png").stat().st_size > 5_000


@pytest.mark.slow
def test_the_demo_leaves_records_and_pictures(tmp_path):
    config = digits.Config(seeds=1, rounds=4, candidates=2, max_steps=60, draws=20)
    results = digits.main(config, tmp_path)
    lines = runs.read(tmp_path)
    assert lines[0]["config"]["rounds"] == 4 and "jax" in lines[0]["versions"]
    assert results.strategies == ("chance", "margin", "power", "batch_bald")
    assert sum(line["kind"] == "round" for line in lines) == 4 * 5
    for name in (
        "learning_curves",
        "reliability",
        "bald_histogram",
        "picks",
        "hparams",
        "batch_information",
    ):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Nothing is settled: one seed" in report and len(report) < 1_000_000
    assert report.count("row ") > 100 and "Reliability of chance" in report  # thumbnails, pictures


@pytest.mark.slow
def test_the_updates_leave_records_and_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "uci_regression.npz",
        kin8nm_x=rng.normal(size=(200, 8)),
        kin8nm_y=rng.normal(size=200),
    )
    config = updates.Config(
        seeds=1,
        rounds=3,
        first=10,
        size=4,
        pool=60,
        test=50,
        hidden=8,
        frequencies=8,
        steps=10,
        warm_steps=5,
    )
    records = updates.main(config, tmp_path, tmp_path / "out")
    assert len(records) == 4 * 4 and [r["labels"] for r in records[:4]] == [10, 14, 18, 22]
    lines = runs.read(tmp_path / "out")
    assert [line["strategy"] for line in lines if line["kind"] == "summary"] == [
        "fresh",
        "warm",
        "online",
        "online_waves",
    ]
    assert (tmp_path / "out" / "updates.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match="BAYESAL_DATA"):
        updates.load(None)


# --- defaults, held_back


def test_the_defaults_are_the_setting_that_was_judged():
    plain = lambda hparams: tuple(map(float, hparams))
    assert plain(HParams()) == plain(defaults.TODAY)
    assert all(plain(h) != plain(defaults.TODAY) for h in defaults.GRIDS["coarse"])


def test_a_net_without_dropout_is_fitted_once_for_all_rates():
    found, places = defaults.settings("linear", "coarse")
    every, alone = defaults.settings("mlp", "coarse")
    assert len(found.steps) == 15 and len(every.steps) == 45 and alone.tolist() == list(range(45))
    for hparams, place in zip(defaults.GRIDS["coarse"], places, strict=True):
        assert float(found.learning_rate[place]) == pytest.approx(hparams.learning_rate)
        assert int(found.steps[place]) == hparams.steps and float(found.dropout[place]) == 0.0


def test_no_test_row_is_ever_labeled():
    x = np.arange(300, dtype=np.float32)[:, None]
    (known, answers), (test, asked), rows = defaults.parts(x, x[:, 0], 500, seed=3)
    assert rows == 200 and len(test) == 100 and len(known) == defaults.CAPACITY
    assert not set(known[:, 0]) & set(test[:, 0]) and len(set(known[:, 0])) == 200
    assert (known[:, 0] == answers).all() and (test[:, 0] == asked).all()


def test_settings_are_compared_where_all_of_them_are_known():
    record = lambda grid, seed, values: {
        "grid": grid, "net": "mlp", "set": "wine", "labels": 20, "seed": seed, "nll": values
    }  # fmt: skip
    rows = {name: len(grid) for name, grid in defaults.GRIDS.items()}
    records = [
        record("coarse", 0, [1.0] * rows["coarse"]),
        record("fine", 0, [2.0] * rows["fine"]),
        record("coarse", 1, [9.0] * rows["coarse"]),  # its other grid is missing
        record("constant", 0, [0.0] * rows["constant"]),  # settings of another meaning
    ]
    cells = defaults.by_setting(records, "nll")
    assert list(cells) == [("mlp", "wine", 20)]
    assert sorted(set(cells["mlp", "wine", 20].values())) == [1.0, 2.0]


def test_folds_of_labels_spread_every_class():
    labels = np.repeat([0, 1, 2], [25, 10, 5])
    fold = held_back.folds_of(labels, 5, seed=0)
    for number in range(5):
        assert np.bincount(labels[fold == number]).tolist() == [5, 2, 1]


@pytest.mark.slow
def test_a_cell_is_computed_once(tmp_path):
    config = defaults.Config(arms=("linear/wine",), grid="one", seeds=1, most=20, test=30)
    kept = defaults.Kept(tmp_path)
    defaults.play("linear/wine", 0, None, config, kept)
    found = (tmp_path / "cells.jsonl").read_text()
    again = defaults.Kept(tmp_path)
    defaults.play("linear/wine", 0, None, config, again)
    assert (tmp_path / "cells.jsonl").read_text() == found and len(again.records) == 1
    assert len(again.records[0]["nll"]) == len(defaults.GRIDS["one"])
    assert 0 < min(again.records[0]["nll"]) < np.log(3)


def test_growth_is_the_slope_in_logarithms_to_the_size_before_on_its_axis():
    records = [
        {"axis": axis} | growth.CENTER | {axis: value} | dict.fromkeys(growth.COLUMNS, seconds)
        for axis, value, seconds in (
            ("N", 10, 1.0),
            ("N", 100, 100.0),
            ("b", 2, 3.0),
            ("b", 4, 6.0),
        )
    ]
    assert growth.slopes(records) == [None, pytest.approx(2.0), None, pytest.approx(1.0)]
    first, *lines = growth.table(records)
    assert first.split()[:4] == list(growth.CENTER) and len(lines) == 4
    assert lines[1].split()[-1] == "2.00" and lines[2].split()[-1] == "3"  # no slope: MB is last
    axes = [axis for axis, case in growth.sizes(full=True) if case[axis] != growth.CENTER[axis]]
    assert {axis: axes.count(axis) for axis in growth.CENTER} == {"N": 3, "K": 3, "C": 3, "b": 3}
