"""Pools on disk: whatever they are read from they give the scores of the array, or an error."""

import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import acquire, choose, errors, pools, predictive, scores
from bayesal.pools import _walk

pytestmark = pytest.mark.usefixtures("strict")

N, K, C, F, CHUNK = 100, 8, 3, 4, 32
X = np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32)


def linear(x):
    """K linear functions of x."""
    return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, WEIGHTS, precision="highest"), axis=-1)


LINEAR = predictive.from_samples(linear, K)
LOG_PROBS = np.asarray(jax.jit(linear)(X))
BALD = np.asarray(jax.jit(scores.bald)(LOG_PROBS))
ORDER = np.argsort(-BALD)
COPIES = np.repeat(X[ORDER[:3]], [80, 15, 5], axis=0)  # one point fills any screen
TOP, BATCH = acquire.top(scores.bald), acquire.batch_bald(candidates=64, configurations=9)
GROWN = acquire.batch_bald(candidates=64, configurations=9, grow=True)


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "ON_HOST", CHUNK)
        yield


def bald(model, x):
    return scores.bald(model(x))


def measured(source, model=LINEAR, **options):
    return np.asarray(pools.file(source, **options).map(model, bald))


def ragged(x=X, at=(3, 3, 40, 41, 90)):
    return lambda: iter(np.split(x, at))


def follows_the_oracle(log_probs, batch, available=None):
    """Each pick is the best of the whole pool given those before it, up to float32's near ties."""
    p = np.exp(np.asarray(log_probs, np.float64))
    rows = range(N) if available is None else np.flatnonzero(available)
    for b, pick in enumerate(batch):
        open_ = [i for i in rows if i not in batch[:b]]
        table = {i: oracles.joint_information(p, [*batch[:b], i]) for i in open_}
        if table[pick] < max(table.values()) - 1e-4:
            return False
    return True


@pytest.fixture
def sources(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(X))
    np.save(tmp_path / "big_endian.npy", X.astype(">f4"))
    mapped = np.memmap(tmp_path / "raw", np.float32, "w+", shape=(N + 5, F))
    mapped[5:] = X
    mapped.flush()
    return {
        "numpy": X,
        "jax": jnp.asarray(X),
        "path": tmp_path / "x.npy",
        "name": str(tmp_path / "x.npy"),
        "fortran": tmp_path / "fortran.npy",
        "big endian": tmp_path / "big_endian.npy",
        "memmap": np.memmap(tmp_path / "x.npy", np.float32, "r", 128, (N, F)),
        "view of a memmap": mapped[5:],
        "private memmap": np.load(tmp_path / "x.npy", mmap_mode="c"),
        "iterator": ragged(),
        "generator": lambda: (part for part in np.split(X, 50)),
        "masks without a masked entry": lambda: iter([np.ma.array(X)]),
    }


def test_every_source_gives_the_scores_and_the_batch_of_the_array(sources):
    for name, source in sources.items():
        np.testing.assert_allclose(measured(source), BALD, atol=1e-6, err_msg=name)
        rows = np.array([5, 99, 0, 5])
        np.testing.assert_array_equal(pools.file(source).take(rows), X[rows], err_msg=name)
    for name in ("path", "iterator"):
        picked = choose(0, LINEAR, pools.file(sources[name]), 3, GROWN)
        assert bool(picked.certified) and follows_the_oracle(LOG_PROBS, picked.indices.tolist())


@pytest.mark.parametrize("chunk", [1, 7, 99, 100, 1000])
def test_chunks_change_nothing(chunk, monkeypatch):  # TRAPS 10
    monkeypatch.setattr(_walk, "ON_HOST", chunk)
    for source in (X, ragged()):
        np.testing.assert_allclose(measured(source), BALD, atol=1e-6)


@pytest.mark.slow
def test_numpy_functions_and_16_bit_storage_pass():
    picked = lambda model: choose(0, model, pools.file(X), 5, TOP).indices.tolist()
    assert picked(lambda x: np.asarray(linear(np.array(x)))) == ORDER[:5].tolist()
    coarse = picked(lambda x: linear(x).astype(jnp.bfloat16))
    assert len(set(coarse) & set(ORDER[:10].tolist())) == 5
    images, seen = np.random.default_rng(0).integers(0, 256, (N, 2, 2), np.uint8), set()

    def of_images(x):
        seen.add((x.shape, str(x.dtype)))
        return linear(x.reshape(-1, F).astype(jnp.float32) / 255.0)

    choose(0, of_images, pools.file(images), 2, TOP)
    assert seen == {((1, 2, 2), "uint8"), ((CHUNK, 2, 2), "uint8")}  # one row tells the shapes


def test_all_chunks_and_all_calls_share_one_program():  # TRAPS 20
    traces = []

    def counted(log_probs):
        traces.append(log_probs.shape)
        return scores.bald(log_probs)

    strategy = acquire.top(counted)
    for source in (X, ragged(), X * 2):
        choose(0, LINEAR, pools.file(source), 3, strategy)
    assert traces == [(K, CHUNK, C)]


def test_the_next_chunk_is_read_while_this_one_is_computed():
    begun = [threading.Event() for _ in range(6)]

    def parts():
        for i, part in enumerate(np.split(X, 5)):
            begun[i].set()
            yield part
        begun[5].set()

    calls = []

    class Waits:
        def __call__(self, x):
            calls.append(1)
            assert begun[len(calls)].wait(20), "the next chunk was not read meanwhile"
            return np.asarray(linear(x))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "ON_HOST", 20)
        measured(parts, _walk.OnHost(Waits()))
    assert len(calls) == 5


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pool(monkeypatch):
    monkeypatch.setattr(_walk, "ON_HOST", 500)
    first = predictive.from_samples(lambda x: linear(x[:, :F]), K)

    def parts(count):
        part = lambda i: np.random.default_rng(i).normal(size=(500, 64)).astype(np.float32)
        return lambda: (part(i) for i in range(count))

    peaks = []
    for count in (8, 80):  # 1 and 10 MB
        tracemalloc.start()
        choose(0, first, pools.file(parts(count)), 20, TOP)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 500_000 and peaks[1] < 3_000_000


RESIDENT = """
import sys, jax, numpy as np
from bayesal import acquire, choose, pools, predictive, scores

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

weights = np.random.default_rng(0).normal(size=(2, 1024, 3)).astype(np.float32) / 32
logits = lambda x: jax.numpy.einsum("nf,kfc->knc", x, weights)
model = predictive.from_samples(logits=logits, num_draws=2)
strategy, most = acquire.top(scores.entropy), []

def ask(path):
    pool = pools.file(path, memory=12_000_000, progress=lambda *done: most.append(resident()))
    choose(0, model, pool, 5, strategy)

small, large = sys.argv[1:]
ask(small)
before = resident()
most.clear()
ask(large)
print(max(most) - before)
"""


@pytest.mark.slow
def test_a_file_is_read_and_never_mapped_or_held(tmp_path):
    """256 MB on disk, 12 MB of chunks, in a process of its own: arenas grow a little, and stop."""
    status = Path("/proc/self/status")
    if not status.exists() or "RssAnon" not in status.read_text():
        pytest.skip("no count of this process' own memory here")
    rng = np.random.default_rng(0)
    for name, rows in (("small", 2 * 8192), ("large", 8 * 8192)):
        np.save(tmp_path / f"{name}.npy", rng.random((rows, 1024), np.float32))
    paths = [str(tmp_path / "small.npy"), str(tmp_path / "large.npy")]
    said = subprocess.run(
        [sys.executable, "-c", RESIDENT, *paths], capture_output=True, text=True, check=True
    )
    assert int(said.stdout) < 100_000_000


def test_progress_is_told_after_every_chunk():
    told = []
    for source in (X, ragged()):
        measured(source, progress=lambda *done: told.append(done))
    assert told == [(n, rows) for rows in (100, None) for n in (32, 64, 96, 100)]


def test_memory_bounds_the_chunk():
    shapes = set()

    class Spy:
        def __call__(self, x):
            shapes.add(x.shape[0])
            return np.asarray(linear(x))

    row = 3 * X[0].nbytes  # read, waiting, in use
    np.testing.assert_allclose(measured(X, _walk.OnHost(Spy()), memory=20 * row), BALD, atol=1e-6)
    assert shapes == {20}
    for memory, words in ((row - 1, f"one row take {row}"), (0, "at least 1"), (1.5, "int")):
        with pytest.raises(errors.WrongSize, match=words) as caught:
            oracles.as_users_do(pools.file)(X, memory=memory)
        assert caught.value.argument == "memory"


@given(seed=st.integers(0, 2**31), size=st.sampled_from([1, 5, 20]))
def test_a_ranking_against_a_sort(seed, size):  # TRAPS 17
    rng = np.random.default_rng(seed)
    x = X[rng.integers(0, 20, N)]  # copies, so ties
    available = rng.random(N) < 0.6
    picked = choose(0, LINEAR, pools.file(x), size, TOP, available=available)
    values = measured(x)
    order = sorted(np.flatnonzero(available), key=lambda i: (-values[i], i))
    assert picked.indices.tolist() == order[:size]
    np.testing.assert_array_equal(picked.scores, values[order[:size]])


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_a_certified_batch_is_the_whole_pools(seed):
    rng = np.random.default_rng(seed)
    x = (X * rng.uniform(0.05, 3, size=(N, 1))).astype(np.float32)
    available = rng.random(N) < 0.7
    found, grown = (
        choose(0, LINEAR, pools.file(x), 3, how, available=available) for how in (BATCH, GROWN)
    )
    assert bool(grown.certified)
    for batch in (grown, found):
        assert available[batch.indices].all()
        if batch.certified:
            assert follows_the_oracle(linear(x), batch.indices.tolist(), available)


def test_growing_makes_a_batch_certain_and_measures_the_pool_once():
    told = []
    pool = lambda: pools.file(COPIES, progress=lambda *done: told.append(done))
    found = choose(0, LINEAR, pool(), 3, BATCH)
    assert not bool(found.certified) and float(found.gap) > 0
    assert set(found.indices.tolist()) < set(range(80))
    told.clear()
    grown = choose(0, LINEAR, pool(), 3, GROWN)
    assert bool(grown.certified) and float(grown.gap) == 0 and len(told) == 4
    assert follows_the_oracle(linear(COPIES), grown.indices.tolist())


# bad input


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    np.save(tmp_path / "cut.npy", X)
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-40])
    (tmp_path / "header.npy").write_bytes(whole[:50])
    (tmp_path / "nothing.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("1,2,3\n")
    (tmp_path / "folder.npy").mkdir()
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.save(tmp_path / "strings.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "complex.npy", X + 1j)
    np.savez(tmp_path / "several.npz", x=X)
    for path in tmp_path.iterdir():
        with pytest.raises(errors.BadPool, match=path.name) as error:
            pools.file(path)
        assert error.value.argument == "source"
    with pytest.raises(FileNotFoundError):
        pools.file(tmp_path / "nowhere.npy")


@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_that_ends_or_changes_while_it_is_read_is_refused(tmp_path, mapped, monkeypatch):
    monkeypatch.setattr(_walk, "ON_HOST", 10)
    path = tmp_path / "x.npy"

    def spoilt(spoil):
        np.save(path, X)

        class Spoils:
            def __call__(self, x):
                spoil()
                return np.asarray(linear(x))

        return np.load(path, mmap_mode="r") if mapped else path, _walk.OnHost(Spoils())

    with pytest.raises(errors.BadPool, match=r"ends early.*row \d+ is not there"):
        measured(*spoilt(lambda: os.truncate(path, 200)))
    with pytest.raises(errors.BadPool, match="changed"):  # one part is read ahead
        measured(*spoilt(lambda: os.utime(path, ns=(1, 1))))


def test_an_iterator_that_changes_between_passes_is_refused():
    for change, words in (
        (lambda x: x[:-1], "100 rows in the first pass and 99"),
        (lambda x: x[::-1], "other ones"),
        (lambda x: x[:0], "and 0 in"),
    ):
        passes = []

        def source(passes=passes, change=change):
            passes.append(1)
            return iter(np.array_split(COPIES if len(passes) == 1 else change(COPIES), 7))

        with pytest.raises(errors.BadPool, match=words) as error:
            choose(0, LINEAR, source, 3, GROWN)
        assert error.value.argument == "source"


def test_a_buffer_that_an_iterator_fills_again_is_copied():
    def parts():
        buffer = np.zeros((10, F), np.float32)
        for part in np.split(X, 10):
            buffer[:] = part
            yield buffer

    np.testing.assert_allclose(measured(parts), BALD, atol=1e-6)


def test_an_error_of_the_users_iterator_arrives():
    def parts():
        yield X
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        choose(0, LINEAR, parts, 3, TOP)


MASKED = np.ma.array(X, mask=X > 2)
BAD = {
    "a list": (errors.WrongShape, X.tolist(), "lambda"),
    "a spent iterator": (errors.WrongShape, iter([X]), "only once"),
    "a number": (errors.WrongShape, np.float32(1), "source"),
    "no rows axis": (errors.WrongShape, np.array(1.0), "first axis"),
    "rows of one number": (errors.WrongShape, X[:, 0], r"x\[:, None\]"),
    "chunks of one number": (errors.WrongShape, lambda: iter([X[:, 0]]), r"x\[:, None\]"),
    "strings": (errors.BadPool, np.array([["a"]]), "numbers"),
    "complex": (errors.BadPool, lambda: iter([X + 1j]), "real numbers"),
    "masked": (errors.WrongType, MASKED, "masked entries"),
    "masked chunks": (errors.WrongType, lambda: iter([X, MASKED]), "masked entries"),
    "other columns": (errors.WrongShape, lambda: iter([X, X[:, :2]]), "chunk 1"),
    "another type": (errors.WrongShape, lambda: iter([X, X.astype(np.float64)]), "float64"),
    "no rows": (errors.WrongSize, X[:0], "no rows"),
    "no chunks": (errors.WrongSize, lambda: iter([]), "no rows"),
    "empty chunks": (errors.WrongSize, lambda: iter([X[:0], X[:0]]), "no rows"),
    "wide integers": (errors.OutOfRange, np.arange(N)[:, None] * 2**30, "int32 cannot"),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    error, source, words = BAD[bad]
    with pytest.raises(error, match=words) as caught:
        oracles.as_users_do(measured)(source)
    assert caught.value.argument == "source"


def test_rows_of_wide_integers_are_rows_of_the_pool():
    x = np.zeros((N, F), int)
    x[50:52, 0] = 2**40
    with pytest.raises(errors.OutOfRange) as caught:
        pools.file(x).map(None, lambda model, x: x[:, 0])
    assert caught.value.rows.tolist() == [50, 51]
