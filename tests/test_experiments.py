"""The experiments' own parts: reading MNIST, counting labels, and the demo from end to end (slow)."""

import gzip
import json
import struct

import numpy as np
import pytest

from experiments import calibration, digits, mnist, runs, updates


def idx(array: np.ndarray) -> bytes:
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


@pytest.fixture
def tiny():
    rng = np.random.default_rng(0)
    return {"x_train": rng.integers(0, 256, (30, 28, 28), np.uint8), "y_train": np.arange(30, dtype=np.uint8) % 10,
            "x_test": rng.integers(0, 256, (12, 28, 28), np.uint8), "y_test": np.arange(12, dtype=np.uint8) % 10}


def test_idx_files_plain_and_gzipped_read_as_npz_does(tmp_path, tiny):
    names = {"x_train": "train-images-idx3-ubyte.gz", "y_train": "train-labels-idx1-ubyte", "x_test": "t10k-images.idx3-ubyte", "y_test": "t10k-labels-idx1-ubyte.gz"}
    for key, name in names.items():
        (tmp_path / name).write_bytes(gzip.compress(idx(tiny[key])) if name.endswith(".gz") else idx(tiny[key]))
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
    records = [{"strategy": "bald", "seed": s, "labels": n, "accuracy": a} for s, curve in enumerate([(0.5, 0.9, 0.9), (0.5, 0.6, 0.7)])
               for n, a in zip((20, 30, 40), curve, strict=True)]
    assert runs.needed(records, 0.9) == {"bald": [30.0, np.inf]}
    assert runs.spread([30.0, np.inf]) == "30 (30-never)" and runs.spread([30.0, 40.0, 50.0]) == "40 (30-50)"


def test_chances_of_picks_are_shares_of_what_is_left():
    assert calibration.chances(np.array([1.0, 3.0, -1.0, 4.0]), np.array([True, True, True, False]), np.array([1, 0])) == [0.75, 1.0]
    np.testing.assert_allclose(calibration.chances(np.ones(4), np.ones(4, bool), np.array([2, 0, 1])), [1 / 4, 1 / 3, 1 / 2])


def test_figures_are_means_over_rounds_after_the_first_and_intervals_over_seeds():
    records = [{"strategy": "bald", "seed": s, "round": r, "plain": {"nll": v}} for s, r, v in ((0, 0, 9.0), (0, 1, 1.0), (0, 2, 3.0), (1, 1, np.nan), (1, 2, 4.0))]
    found = calibration.per_seed(records, "bald", "plain", "nll")
    assert found.tolist() == [2.0, 4.0]
    mean, half = calibration.interval(found)
    assert mean == 3.0 and half == pytest.approx(12.706 * 2**0.5 / 2**0.5, rel=1e-3)  # t of one degree of freedom


@pytest.mark.slow
def test_the_calibration_experiment_leaves_records_and_summaries(tmp_path):
    records = calibration.main(calibration.Config(seeds=2, rounds=1, draws=4, hidden=8, steps=10, folds=2), tmp_path)
    assert len(records) == 2 * 2 * 7
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    ways = {(r["strategy"], r["way"]) for r in written if r["kind"] == "summary"}
    assert {("bald", "plain"), ("power", "sampled"), ("margin + audit", "audit")} <= ways
    for r in records:  # nothing that was fitted is better on the rest than what was fitted on it
        assert r["best"]["nll"] <= min(r["plain"]["nll"], r["none"]["nll"]) + 0.02


def test_test_images_never_enter_the_pool():
    for seed in range(2):
        data = digits.load(digits.Config(), seed)
        assert len(data.test) == 500 and len(data.pool) == 1297
        pool = {bytes(np.asarray(x)) for x in data.pool}
        # scikit-learn's digits hold a few identical images; all others of the test set are absent from the pool
        assert sum(bytes(np.asarray(x)) in pool for x in data.test) <= 2


@pytest.mark.slow
def test_the_demo_leaves_records_and_pictures(tmp_path):
    config = digits.Config(seeds=1, rounds=4, candidates=2, max_steps=60, draws=20)
    records = digits.main(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert lines[0]["config"]["rounds"] == 4 and "jax" in lines[0]["versions"]
    assert len(records) == 4 * 5 and sum(line["kind"] == "round" for line in lines) == 20
    for name in ("learning_curves", "reliability", "bald_histogram", "picks", "hparams", "batch_information"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_updates_leave_records_and_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "uci_regression.npz", kin8nm_x=rng.normal(size=(200, 8)), kin8nm_y=rng.normal(size=200))
    config = updates.Config(seeds=1, rounds=3, first=10, size=4, pool=60, test=50, hidden=8, frequencies=8, steps=10, warm_steps=5)
    records = updates.main(config, tmp_path, tmp_path / "out")
    assert len(records) == 4 * 4 and [r["labels"] for r in records[:4]] == [10, 14, 18, 22]
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [line["strategy"] for line in lines if line["kind"] == "summary"] == ["fresh", "warm", "online", "online_waves"]
    assert (tmp_path / "out" / "updates.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match="BAYESAL_DATA"):
        updates.load(None)
