"""Streamed pools give what the same pool in memory gives, whatever they are read from, or
an error.
"""

import os
import threading
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import errors, posteriors, predictive, scores, stream
from bayesal.types import Network

pytestmark = pytest.mark.usefixtures("strict")

N, K, C, F, CHUNK = 100, 8, 3, 4, 32
X = np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32)
KEY = jax.random.key(0)


@jax.jit
def linear(x):
    """K linear functions of x."""
    return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, WEIGHTS, precision="highest"), axis=-1)


LOG_PROBS = np.asarray(linear(X))
BALD = np.asarray(scores.bald(LOG_PROBS))


def follows_the_oracle(log_probs, batch, available=None):
    """Each pick is the best of the whole pool given the picks before it, up to float32's
    near ties.
    """
    p = np.exp(np.asarray(log_probs, np.float64))
    rows = range(N) if available is None else np.flatnonzero(available)
    tables = [
        {i: oracles.joint_information(p, [*batch[:b], i]) for i in rows if i not in batch[:b]}
        for b in range(len(batch))
    ]
    return all(
        table[pick] >= max(table.values()) - 1e-4 for table, pick in zip(tables, batch, strict=True)
    )


def ragged(x=X, at=(3, 3, 40, 41, 90)):
    return lambda: iter(np.split(x, at))


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
    }


def test_every_source_gives_the_scores_of_the_pool_in_memory(sources):
    for name, source in sources.items():
        got = stream.scores(linear, source, scores.bald, chunk=CHUNK)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, BALD, atol=1e-6, err_msg=name)
        best = stream.candidates(linear, source, 10, chunk=CHUNK)
        np.testing.assert_array_equal(best.rows, np.argsort(-got, kind="stable")[:10], err_msg=name)
        np.testing.assert_array_equal(np.asarray(best.x, np.float32), X[best.rows], err_msg=name)
        picked = stream.batch_bald(
            KEY, linear, source, 3, candidates=64, grow=True, configurations=9, chunk=CHUNK
        )
        assert bool(picked.certified) and follows_the_oracle(LOG_PROBS, picked.indices.tolist()), (
            name
        )


@pytest.mark.parametrize("chunk", [1, 7, 99, 100, 1000])
def test_chunks_change_nothing(chunk):  # TRAPS 10
    for source in (X, ragged()):
        np.testing.assert_allclose(
            stream.scores(linear, source, scores.bald, chunk=chunk), BALD, atol=1e-6
        )


def test_a_predictive_streams_like_any_function():
    net = Network(lambda key, x: jax.random.normal(key, (F, C)), lambda w, x, key, rate: x @ w)
    posterior = posteriors.ensemble(net, members=K)
    bound = predictive.Predictive(posterior, (), jnp.asarray(WEIGHTS), jnp.float32(1.0))
    np.testing.assert_allclose(stream.scores(bound, X, scores.bald, chunk=CHUNK), BALD, atol=1e-6)


def test_numpy_functions_and_16_bit_storage_pass():
    def numpy_only(x):
        return np.asarray(linear(np.array(x)))

    np.testing.assert_allclose(
        stream.scores(numpy_only, X, scores.bald, chunk=CHUNK), BALD, atol=1e-6
    )
    stored = stream.scores(lambda x: linear(x).astype(jnp.bfloat16), X, scores.bald, chunk=CHUNK)
    assert np.corrcoef(stored, BALD)[0, 1] > 0.99
    images = np.random.default_rng(0).integers(0, 256, (N, 2, 2), np.uint8)
    seen = set()

    def of_images(x):
        seen.add((x.shape, str(x.dtype)))
        return linear(x.reshape(-1, F).astype(jnp.float32) / 255.0)

    stream.scores(of_images, images, scores.bald, chunk=CHUNK)
    assert seen == {((CHUNK, 2, 2), "uint8")}


def test_all_chunks_have_one_shape_and_score_is_traced_once():  # TRAPS 20
    shapes, traces = [], []

    def spy(x):
        shapes.append(x.shape)
        return linear(x)

    def counted(log_probs):
        traces.append(1)
        return scores.bald(log_probs)

    for source in (X, ragged()):
        stream.scores(spy, source, counted, chunk=CHUNK)
    assert shapes == [(CHUNK, F)] * 8 and len(traces) == 1


def test_the_next_chunk_is_read_while_this_one_is_computed():
    begun = [threading.Event() for _ in range(6)]

    def parts():
        for i, part in enumerate(np.split(X, 5)):
            begun[i].set()
            yield part
        begun[5].set()

    calls = []

    def waits(x):
        calls.append(1)
        assert begun[len(calls)].wait(20), "the next chunk was not read meanwhile"
        return linear(x)

    stream.scores(waits, parts, scores.bald, chunk=20)
    assert len(calls) == 5


def test_memory_does_not_grow_with_the_pool():
    def parts(count):
        return lambda: (
            np.random.default_rng(i).normal(size=(500, 64)).astype(np.float32) for i in range(count)
        )

    first = jax.jit(lambda x: linear(x[:, :F]))
    peaks = []
    for count in (8, 80):  # 1 and 10 MB
        tracemalloc.start()
        stream.candidates(first, parts(count), 20, chunk=500)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000 and peaks[1] < 3_000_000


def test_progress_is_told_after_every_chunk():
    told = []
    stream.scores(linear, X, scores.bald, chunk=CHUNK, progress=lambda *a: told.append(a))
    stream.scores(linear, ragged(), scores.bald, chunk=CHUNK, progress=lambda *a: told.append(a))
    assert told == [
        (32, 100),
        (64, 100),
        (96, 100),
        (100, 100),
        (32, None),
        (64, None),
        (96, None),
        (100, None),
    ]


# ranking


@given(seed=st.integers(0, 2**31), count=st.sampled_from([1, 5, 40, 100, 300]))
def test_candidates_against_a_sort(seed, count):  # TRAPS 17
    rng = np.random.default_rng(seed)
    x = X[rng.integers(0, 20, N)]  # copies, so ties
    available = rng.random(N) < 0.6
    best = stream.candidates(linear, x, count, available=available, chunk=CHUNK)
    values = stream.scores(linear, x, scores.bald, chunk=CHUNK)
    order = sorted(np.flatnonzero(available), key=lambda i: (-values[i], i))
    assert best.rows.tolist() == order[:count]
    np.testing.assert_array_equal(best.scores, values[order[:count]])
    np.testing.assert_array_equal(best.x, x[best.rows])
    assert best.left_out == (values[order[count]] if len(order) > count else -np.inf)
    assert best.available == len(order) and best.nonfinite == 0 and not best.constant


def test_rows_with_nan_are_counted_and_left_out():  # TRAPS 1, 4
    x = X.copy()
    order = np.argsort(-BALD)
    x[order[:3], 1] = np.nan
    for score in (scores.bald, scores.variation_ratio):
        assert set(np.flatnonzero(np.isnan(stream.scores(linear, x, score, chunk=CHUNK)))) == set(
            order[:3]
        )
    available = np.ones(N, bool)
    available[order[0]] = False
    picked = stream.top(linear, x, scores.bald, 4, available=available, chunk=CHUNK)
    assert picked.indices.tolist() == order[3:7].tolist() and int(picked.nonfinite) == 2
    joint = stream.batch_bald(KEY, linear, x, 3, candidates=64, configurations=9, chunk=CHUNK)
    assert int(joint.nonfinite) == 3 and not set(joint.indices.tolist()) & set(order[:3].tolist())


def test_infinite_scores_are_never_picked():
    spiked = lambda log_probs: jnp.where(
        scores.bald(log_probs) > np.sort(BALD)[-3], jnp.inf, scores.bald(log_probs)
    )
    picked = stream.top(linear, X, spiked, 2, chunk=CHUNK)
    assert picked.indices.tolist() == np.argsort(-BALD)[2:4].tolist() and int(picked.nonfinite) == 2


def test_what_cannot_be_ranked_or_filled_is_refused():  # TRAPS 12, global guards 1 and 3
    with pytest.raises(errors.ConstantScores, match="dropout"):
        stream.top(linear, X, lambda log_probs: jnp.zeros(log_probs.shape[1]), 3, chunk=CHUNK)
    for call in (
        lambda: stream.top(linear, X, scores.bald, 101, chunk=CHUNK),
        lambda: stream.top(linear, X, scores.bald, 3, available=np.arange(N) < 2, chunk=CHUNK),
        lambda: stream.batch_bald(KEY, linear, X, 3, available=np.arange(N) < 2, chunk=CHUNK),
        lambda: stream.top(linear, X[:0], scores.bald, 1),
    ):
        with pytest.raises(errors.WrongSize, match="`size`") as error:
            call()
        assert error.value.argument == "size"
    assert stream.top(linear, X[:1], scores.bald, 1).indices.tolist() == [0]


def test_an_empty_pool_has_no_scores(tmp_path):
    np.save(tmp_path / "empty.npy", X[:0])
    for source in (X[:0], tmp_path / "empty.npy", lambda: iter([]), lambda: iter([X[:0], X[:0]])):
        assert stream.scores(linear, source, scores.bald).shape == (0,)
        assert stream.candidates(linear, source, 3).rows.shape == (0,)


# batch_bald


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_a_certified_batch_is_the_whole_pools(seed):
    rng = np.random.default_rng(seed)
    x = (X * rng.uniform(0.05, 3, size=(N, 1))).astype(np.float32)
    available = rng.random(N) < 0.7
    picked = stream.batch_bald(
        KEY, linear, x, 3, candidates=64, available=available, configurations=9, chunk=CHUNK
    )
    grown = stream.batch_bald(
        KEY,
        linear,
        x,
        3,
        candidates=64,
        available=available,
        configurations=9,
        chunk=CHUNK,
        grow=True,
    )
    assert (
        bool(grown.certified) and available[grown.indices].all() and available[picked.indices].all()
    )
    for batch in (grown, picked) if picked.certified else (grown,):
        assert follows_the_oracle(linear(x), batch.indices.tolist(), available)


def test_an_uncertain_batch_says_so_and_growing_makes_it_certain():
    x = np.repeat(
        X[np.argsort(-BALD)[:3]], [80, 15, 5], axis=0
    )  # the candidates are copies of one point
    call = lambda **more: stream.batch_bald(
        KEY, linear, x, 3, candidates=64, configurations=9, chunk=CHUNK, **more
    )
    picked, told = call(), []
    assert not bool(picked.certified) and set(picked.indices.tolist()) < set(range(80))
    grown = call(grow=True, progress=lambda *a: told.append(a))
    assert bool(grown.certified) and follows_the_oracle(linear(x), grown.indices.tolist())
    assert len(told) == 4  # the pool was scored once


def test_draws_that_agree_everywhere_are_refused():  # TRAPS 12
    agree = lambda x: jnp.tile(linear(x)[:1], (K, 1, 1))
    with pytest.raises(errors.ConstantScores):
        stream.batch_bald(KEY, agree, X, 3, candidates=64, configurations=9, chunk=CHUNK)
    with pytest.raises(errors.WrongSize, match="K = 1"):
        stream.batch_bald(
            KEY, lambda x: linear(x)[:1], X, 3, candidates=64, configurations=9, chunk=CHUNK
        )


# bad input


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    np.save(tmp_path / "cut.npy", X)
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-40])
    (tmp_path / "header.npy").write_bytes(whole[:50])
    (tmp_path / "nothing.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("1,2,3\n")
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.save(tmp_path / "strings.npy", np.array(["a", "b"]))
    np.savez(tmp_path / "several.npz", x=X)
    for name in (
        "cut.npy",
        "header.npy",
        "nothing.npy",
        "text.npy",
        "objects.npy",
        "strings.npy",
        "several.npz",
    ):
        with pytest.raises(errors.BadPool, match=name) as error:
            stream.scores(linear, tmp_path / name, scores.bald)
        assert error.value.argument == "source"
    with pytest.raises(FileNotFoundError):
        stream.scores(linear, tmp_path / "nowhere.npy", scores.bald)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_that_ends_or_changes_while_it_is_read_is_refused(tmp_path, mapped):
    path = tmp_path / "x.npy"

    def spoilt(spoil):
        np.save(path, X)

        def predictive(x):
            spoil()
            return linear(x)

        return predictive, np.load(path, mmap_mode="r") if mapped else path

    cut = lambda: os.truncate(path, 200)
    with pytest.raises(errors.BadPool, match=r"ends early.*row \d+ is not there"):
        stream.scores(*spoilt(cut), scores.bald, chunk=10)
    touched = lambda: os.utime(path, ns=(1, 1))
    for call in (
        lambda p, s: stream.scores(p, s, scores.bald, chunk=10),
        lambda p, s: stream.candidates(p, s, 3, chunk=10),
    ):  # one part is read ahead
        with pytest.raises(errors.BadPool, match="changed"):
            call(*spoilt(touched))


def test_an_iterator_that_changes_between_passes_is_refused():
    copies = np.repeat(
        X[np.argsort(-BALD)[:3]], [80, 15, 5], axis=0
    )  # one point fills the candidates: they must grow
    for change, words in (
        (lambda x: x[:-1], "100 rows in the first pass and 99"),
        (lambda x: x[::-1], "other ones"),
        (lambda x: x[:0], "and 0 in"),
    ):
        passes = []

        def source(passes=passes, change=change):
            passes.append(1)
            return iter(np.array_split(copies if len(passes) == 1 else change(copies), 7))

        with pytest.raises(errors.BadPool, match=words) as error:
            stream.batch_bald(
                KEY, linear, source, 3, candidates=64, configurations=9, chunk=CHUNK, grow=True
            )
        assert error.value.argument == "source"


def test_a_buffer_that_an_iterator_fills_again_is_copied():
    def parts():
        buffer = np.zeros((10, F), np.float32)
        for part in np.split(X, 10):
            buffer[:] = part
            yield buffer

    np.testing.assert_allclose(
        stream.scores(linear, parts, scores.bald, chunk=CHUNK), BALD, atol=1e-6
    )


def test_an_error_of_the_users_iterator_arrives():
    def parts():
        yield X
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        stream.scores(linear, parts, scores.bald, chunk=CHUNK)


def late(x):
    """Log-probabilities for the pool's own rows, something else for large ones."""
    return linear(x) + jnp.where(jnp.abs(x).max(axis=1) > 10, 0.5, 0.0)[None, :, None]


BAD = {
    "a list": (errors.WrongShape, "source", {"source": X.tolist()}, "lambda"),
    "a spent iterator": (errors.WrongShape, "source", {"source": iter([X])}, "only once"),
    "a number": (errors.WrongShape, "source", {"source": np.float32(1)}, "source"),
    "no rows axis": (errors.WrongShape, "source", {"source": np.array(1.0)}, "first axis"),
    "strings": (errors.BadPool, "source", {"source": np.array(["a"])}, "numbers"),
    "other columns": (
        errors.WrongShape,
        "source",
        {"source": lambda: iter([X, X[:, :2]])},
        "chunk 1",
    ),
    "another type": (
        errors.WrongShape,
        "source",
        {"source": lambda: iter([X, X.astype(np.float64)])},
        "float64",
    ),
    "chunk 0": (errors.WrongSize, "chunk", {"chunk": 0}, "chunk"),
    "chunk 1.5": (errors.WrongSize, "chunk", {"chunk": 1.5}, "chunk"),
    "no memory": (errors.WrongSize, "memory", {"memory": 0}, "memory|bytes"),
    "memory below a row": (
        errors.WrongSize,
        "memory",
        {"memory": 3 * 16 + 16 * K * C - 1},
        "one row takes 432",
    ),
    "logits": (
        errors.NotLogProbabilities,
        "predictive",
        {"predictive": lambda x: linear(x) + 1.0},
        "log_softmax",
    ),
    "late rows": (
        errors.NotLogProbabilities,
        "predictive",
        {"source": np.concatenate([X, X * 100 + 100]), "predictive": late},
        "rows 100, 101",
    ),
    "integers": (
        errors.NotLogProbabilities,
        "predictive",
        {"predictive": lambda x: jnp.zeros((K, len(x), C), jnp.int32)},
        "int32",
    ),
    "no draws": (
        errors.WrongShape,
        "predictive",
        {"predictive": lambda x: linear(x)[0]},
        "K draws",
    ),
    "points first": (
        errors.WrongShape,
        "predictive",
        {"predictive": lambda x: jnp.moveaxis(linear(x), 0, 1)},
        "K draws",
    ),
    "a score per draw": (
        errors.WrongShape,
        "score",
        {"score": lambda log_probs: log_probs[..., 0]},
        "one number per row",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    error, argument, change, words = BAD[bad]
    call = {"predictive": linear, "source": X, "score": scores.bald, "chunk": CHUNK, **change}
    with pytest.raises(error, match=words) as caught:
        oracles.as_users_do(stream.scores)(**call)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    "mask", [np.ones(N - 1, bool), np.ones(N + 1, bool), np.ones(N, int), np.ones((N, 1), bool)]
)
def test_a_mask_that_does_not_fit_is_refused(mask):
    for source in (X, ragged()):
        with pytest.raises(errors.WrongShape) as error:
            stream.top(linear, source, scores.bald, 3, available=mask, chunk=CHUNK)
        assert error.value.argument == "available"


def test_memory_bounds_the_chunk():
    shapes = set()

    def spy(x):
        shapes.add(x.shape[0])
        return linear(x)

    got = stream.scores(spy, X, scores.bald, memory=432 * 20)
    np.testing.assert_allclose(got, BALD, atol=1e-6)
    assert shapes == {1, 20}  # one row tells how much a row takes


def test_equal_scores_are_fine_where_nothing_is_chosen():
    flat = np.full((3, 2), 0.5, np.float32)
    predictive = lambda x: jnp.moveaxis(jnp.log(jnp.stack([x, 1 - x], axis=-1)), 0, 1)
    assert stream.top(predictive, flat, scores.bald, 3).indices.tolist() == [0, 1, 2]
    with pytest.raises(errors.ConstantScores):
        stream.top(predictive, flat, scores.bald, 2)
