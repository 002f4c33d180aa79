"""The script for a cluster: its parts, and two processes on this machine against one (slow)."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import distributed

ROOT = Path(__file__).resolve().parent.parent
SMALL = distributed.Config(rows=301, features=5, classes=3, draws=4, size=4, candidates=40)


def test_who_is_who_comes_from_the_launcher_or_the_arguments():
    assert distributed.started_by({}) is None
    assert distributed.started_by({"SLURM_NTASKS": "1"}) is None
    assert (
        distributed.started_by({"SLURM_NTASKS": "4"})
        == {}
        == distributed.started_by({"OMPI_COMM_WORLD_SIZE": "2"})
    )
    named = distributed.started_by({"SLURM_NTASKS": "4"}, "host:1", 2, 1)
    assert named == {"coordinator_address": "host:1", "num_processes": 2, "process_id": 1}
    for wrong in [
        ("host:1", None, None),
        ("host:1", 2, 2),
        ("host:1", 2, -1),
        (None, 2, None),
        (None, None, 0),
    ]:
        with pytest.raises(SystemExit, match="--process"):
            distributed.started_by({}, *wrong)


def test_parts_are_the_pool_however_they_are_cut(tmp_path):
    rows, read = distributed.reader(SMALL)
    whole = read(0, rows)
    assert whole.shape == (301, 5) and len(np.unique(whole, axis=0)) == 301
    np.testing.assert_array_equal(
        np.concatenate([read(0, 100), read(100, 100), read(100, 301)]), whole
    )
    np.save(tmp_path / "x.npy", whole)
    count, from_file = distributed.reader(distributed.Config(pool=str(tmp_path / "x.npy")))
    assert count == 301
    np.testing.assert_array_equal(from_file(7, 19), whole[7:19])


@pytest.mark.slow
def test_one_process_alone_writes_its_answer_whole(tmp_path, capsys, monkeypatch):
    for name in distributed.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    small = [
        f"--{name}={getattr(SMALL, name)}"
        for name in ("rows", "features", "classes", "draws", "size", "candidates")
    ]
    distributed.main([*small, "--out", str(tmp_path / "batch.json")])
    answer = json.loads((tmp_path / "batch.json").read_text())
    assert "1 processes, 8 devices" in capsys.readouterr().out and os.listdir(tmp_path) == [
        "batch.json"
    ]
    assert (
        len(set(answer["indices"])) == 4
        and max(answer["indices"]) < 301
        and answer["config"]["rows"] == 301
    )
    assert answer["joint"] == sorted(answer["joint"])


@pytest.mark.slow
def test_two_processes_find_the_batch_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if name not in distributed.LAUNCHERS
    } | {"JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "experiments.distributed",
        "--rows",
        "1001",
        "--size",
        "6",
        "--candidates",
        "101",
    ]

    def run(name, devices, *more):
        flags = {"JAX_NUM_CPU_DEVICES": str(devices)}
        return subprocess.Popen(
            [*command, "--out", str(tmp_path / name), *more],
            cwd=ROOT,
            env=environment | flags,
            stdout=subprocess.PIPE,
            text=True,
        )

    pair = [
        run(
            "two.json",
            2,
            "--coordinator",
            f"localhost:{port}",
            "--processes",
            "2",
            "--process-id",
            str(i),
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    alone = run("one.json", 1)
    assert "1 processes, 1 devices" in alone.communicate(timeout=240)[0] and alone.returncode == 0
    assert (
        "2 processes, 4 devices" in said[0] and "rows [" not in said[1]
    )  # only process 0 speaks and writes
    two, one = (json.loads((tmp_path / name).read_text()) for name in ("two.json", "one.json"))
    assert two["indices"] == one["indices"] and two["certified"] == one["certified"]
    np.testing.assert_allclose(two["gains"], one["gains"], atol=1e-5)
