"""The file of a checkpoint: old formats stay readable, hostile and killed ones do no harm."""

import copy
import json
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import same

from bayesal import checkpoint, errors
from bayesal.loop import _archive

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


class Ledger(NamedTuple):
    indices: Any
    labels: Any
    count: Any


class State(NamedTuple):
    key: Any
    ledger: Any
    params: Any


class Forms(NamedTuple):
    """What format 2 knows beyond format 1."""

    state: Any
    ids: Any
    python: Any
    scalar: Any


STATE = State(
    key=jax.random.key(7),
    ledger=Ledger(
        indices=jnp.array([5, 3, 8, 0, 0], jnp.int32),
        labels=jnp.array([1, 0, 2, 0, 0], jnp.int32),
        count=jnp.int32(3),
    ),
    params={
        "w": jnp.array([[1.5, -0.0], [jnp.inf, jnp.nan]], jnp.bfloat16),
        "b": jnp.array([0.1, 2.0], jnp.float32),
    },
)
# What tests/data/checkpoint_v*.npz hold: written once by `checkpoint.save(path, WRITTEN[v])` of the
# first code of format v, and never again.
WRITTEN = {
    1: STATE,
    2: Forms(
        state=STATE,
        ids=np.array([2**40 + 7, -1]),
        python=[True, -3, 0.1, 1 + 2j],
        scalar=np.float64(np.pi),
    ),
}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "state", STATE)
    return tmp_path / "state"


def refused(path, reason: str, like: Any = STATE) -> None:
    for read in (lambda: checkpoint.restore(path, like), lambda: checkpoint.labels(path)):
        with pytest.raises(errors.BadCheckpoint, match=reason) as caught:
            read()
        assert caught.value.argument == "path"


# formats


@pytest.mark.parametrize("version", range(1, _archive.VERSION + 1))
def test_every_format_stays_readable(version):
    path = DATA / f"checkpoint_v{version}.npz"
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(file["manifest"].tobytes())["bayesal"] == version
    wanted = WRITTEN[version]
    restored = checkpoint.restore(path, like=wanted)
    assert jax.tree.structure(restored) == jax.tree.structure(wanted)
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(wanted), strict=True):
        assert isinstance(ours, jax.Array if isinstance(theirs, jax.Array) else type(theirs))
        assert same(ours, theirs) if hasattr(ours, "dtype") else ours == theirs
    found = checkpoint.labels(path)
    assert found.indices.tolist() == [5, 3, 8] and found.labels.tolist() == [1, 0, 2]
    assert found.weight is None and found.source is None


def test_there_is_a_step_from_every_format_to_the_next():
    assert sorted(_archive._MIGRATIONS) == list(range(1, _archive.VERSION))


def test_a_renamed_field_is_one_step(path, monkeypatch):
    def renamed(manifest, leaves):
        entries = [
            entry | {"name": entry["name"].replace(".params", ".weights")}
            for entry in manifest["leaves"]
        ]
        return manifest | {"leaves": entries}, leaves

    class Later(NamedTuple):
        key: Any
        ledger: Any
        weights: Any

    monkeypatch.setattr(_archive, "VERSION", 3)
    monkeypatch.setitem(_archive._MIGRATIONS, 2, renamed)
    for source in (path, DATA / "checkpoint_v1.npz"):  # one step, and two
        assert same(checkpoint.restore(source, Later(*STATE)), STATE)


def rewritten(path: Path, change) -> None:
    """The file with another manifest, as NumPy writes it."""
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    text = change(json.loads(parts["manifest"].tobytes()))
    text = text if isinstance(text, str) else json.dumps(text)
    with open(path, "wb") as file:
        np.savez(file, **parts | {"manifest": np.frombuffer(text.encode(), np.uint8)})


def test_a_format_of_tomorrow_asks_for_an_update(path):
    rewritten(path, lambda m: {"bayesal": 99, "other": "things"})
    refused(path, "format 99.*up to 2.*Update")


def first(**fields):
    return lambda m: m | {"leaves": [m["leaves"][0] | fields, *m["leaves"][1:]]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m | {"bayesal": "2"}, "format is '2'"),
        (lambda m: m | {"bayesal": True}, "format is True"),
        (lambda m: m | {"bayesal": 0}, "format is 0"),
        (lambda m: [1], "not a whole checkpoint"),
        (lambda m: m | {"leaves": m["leaves"][:-1]}, "members"),
        (lambda m: m | {"leaves": [*m["leaves"], m["leaves"][0]]}, "leaf_6"),
        (lambda m: m | {"leaves": [{"name": "a"}]}, "shape"),
        (first(name=3), "names"),
        (first(shape=[2**40]), "another size"),
        (first(shape=[-2]), "shape"),
        (first(shape=[2.0]), "shape"),
        (first(shape=3), "not a whole checkpoint"),
        (first(dtype="object"), "dtype"),
        (first(dtype="O,O"), "dtype"),
        (first(dtype="datetime64"), "dtype"),
        (first(dtype="nonsense"), "nonsense"),
        (first(dtype="uint64"), "damaged"),
        (first(form="pickle"), "form"),
        (first(sha256="0" * 64), "checksum"),
        (lambda m: "[" * 100_000, "not a whole checkpoint"),
        (lambda m: "{}", "not a whole checkpoint"),
    ],
)
def test_a_wrong_manifest_is_refused(path, change, reason):
    rewritten(path, change)
    refused(path, reason)


def test_a_rewritten_manifest_is_noticed(path):
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    assert len(comment) == 64 and data.endswith(comment)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(path, "checksum of its manifest")


# bombs


def cost(path, reason: str) -> float:
    """MB of memory that a refusal takes at most."""
    checkpoint.restore(DATA / "checkpoint_v1.npz", STATE)  # imports and caches
    tracemalloc.start()
    try:
        refused(path, reason)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bomb", ["manifest.npy", "leaf_0.npy", "extra.npy"])
def test_compressed_members_are_never_unpacked(path, bomb):
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (parts | {bomb: bytes(64 * 2**20)}).items():
            kind = zipfile.ZIP_DEFLATED if name == bomb else zipfile.ZIP_STORED
            archive.writestr(name, data, kind)
    assert path.stat().st_size < 2**20
    assert cost(path, "compressed") < 1


def test_members_that_share_their_bytes_are_never_read(tmp_path):
    checkpoint.save(tmp_path / "state", {"a": np.zeros(2**20, np.uint8)})
    with zipfile.ZipFile(tmp_path / "state", "a") as archive:
        leaf = archive.getinfo("leaf_0.npy")
        for i in range(1, 200):
            twin = copy.copy(leaf)
            twin.filename = f"leaf_{i}.npy"
            archive.filelist.append(twin)
        archive._didModify = True
    assert cost(tmp_path / "state", "claim more bytes") < 2


def test_a_long_manifest_is_never_read(path):
    rewritten(path, lambda m: m | {"filler": "x" * (2**24 + 2**11)})
    assert cost(path, "manifest is too long") < 1


def test_another_npz_is_no_checkpoint(path):
    np.savez(path.with_suffix(".npz"), x=np.zeros(3))
    refused(path.with_suffix(".npz"), "no manifest")


def test_a_folder_and_a_device_are_not_called_damaged(tmp_path):
    for bad in (tmp_path, Path("/dev/null"), "a\0b"):
        for read in (
            lambda b=bad: checkpoint.restore(b, STATE),
            lambda b=bad: checkpoint.labels(b),
        ):
            with pytest.raises(errors.BadPath) as caught:
                read()
            assert "cut short" not in str(caught.value) and caught.value.argument == "path"
    with pytest.raises(errors.BadPath, match="is a folder"):
        checkpoint.save(tmp_path, STATE)
    with pytest.raises(errors.BadPath, match="does not exist"):
        checkpoint.save(tmp_path / "none" / "state", STATE)


def test_a_failing_disk_is_not_called_damage(path, monkeypatch):
    def fail(file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_archive, "_unpacked", fail)
    with pytest.raises(OSError, match="Input/output") as caught:
        checkpoint.restore(path, STATE)
    assert not isinstance(caught.value, errors.BayesalError)


# threads and kills


def test_threads_that_save_to_one_path_leave_whole_files_to_readers(tmp_path):
    path = tmp_path / "state"
    states = [{"a": np.full(5_000 + n, n), "n": n} for n in range(3)]
    checkpoint.save(path, states[0])
    failed, read, until = [], [], time.monotonic() + 1

    def repeat(work):
        try:
            while time.monotonic() < until:
                work()
        except BaseException as error:
            failed.append(error)

    def look():
        _, leaves = _archive.read(path)
        array, n = (np.frombuffer(leaf, np.int64) for leaf in leaves)
        assert len(array) == 5_000 + n[0] and (array == n[0]).all()
        read.append(int(n[0]))

    works = [lambda s=s: checkpoint.save(path, s) for s in states] + [look]
    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(read) > 3
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


KILLS = """
import os, random, signal, struct, sys, time, warnings
import numpy as np
from bayesal import checkpoint

warnings.simplefilter("ignore")  # JAX says that it has threads; it does nothing here
path, kills = sys.argv[1], int(sys.argv[2])
folder, last = os.path.dirname(path), 0
state = lambda n: {"a": np.full(200_000 + n % 7, n), "n": n}
checkpoint.save(path, state(0))
for kill in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        while True:
            last += 1
            checkpoint.save(path, state(last))
            os.write(writer, struct.pack("q", last))
    os.close(writer)
    said = os.read(reader, 8) if kill % 2 else b""  # every other one saves once at least
    time.sleep(random.Random(kill).uniform(0.002, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said += b"".join(iter(lambda: os.read(reader, 2**16), b""))
    os.close(reader)
    if said:
        last = struct.unpack("q", said[-8:])[0]
    like = lambda more: {"a": np.zeros(200_000 + more, int), "n": 0}
    for more in (last % 7, (last + 1) % 7):
        try:
            found = checkpoint.restore(path, like(more))
            break
        except checkpoint.errors.BadCheckpoint as error:
            assert error.argument == "like", error
    assert found["n"] in (last, last + 1) and (found["a"] == found["n"]).all(), (found, last)
    last = found["n"]
    assert len(os.listdir(folder)) <= 2, os.listdir(folder)
checkpoint.save(path, state(0))
assert os.listdir(folder) == [os.path.basename(path)]
print(last)
"""


@pytest.mark.parametrize("kills", [30, pytest.param(400, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_its_last_file(tmp_path, kills):
    (tmp_path / "folder").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "folder" / "state"), str(kills)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert int(done.stdout) >= kills // 2
