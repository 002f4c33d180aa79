"""The door: whatever library the numbers come from, the picks are those of the core; nothing is
guessed, nothing is changed.
"""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import backend, errors, scores, select

K, N, C, SIZE = 6, 30, 3, 4
LOG_P, P = oracles.random_log_probs(0, (K, N, C))
WANT = select.batch_bald(jax.random.key(0), LOG_P, SIZE)
choose = oracles.as_users_do(backend.choose)


class Foreign:
    """A tensor of another library: it speaks DLPack, has a gradient to let go of, and cannot be
    read before.
    """

    def __init__(self, array, attached=True):
        self.array, self.attached = array, attached

    def detach(self):
        return Foreign(self.array, attached=False)

    def __dlpack__(self, **how):
        if self.attached:
            raise RuntimeError("this tensor requires a gradient")
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


FORMS = {
    "NumPy": lambda a: a,
    "NumPy float64": lambda a: a.astype(np.float64),
    "JAX": jnp.asarray,
    "lists": lambda a: a.tolist(),
    "DLPack": Foreign,
    "DLPack float64": lambda a: Foreign(a.astype(np.float64)),
    "a list of arrays": list,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["log_probs", "probs", "logits"])
def test_every_library_and_every_kind_gives_the_picks_of_the_core(form, kind):
    numbers = {"log_probs": LOG_P, "probs": np.exp(LOG_P), "logits": LOG_P + np.float32(3)}[kind]
    choice = choose(**{kind: FORMS[form](numbers)}, size=SIZE)
    assert choice.indices.tolist() == WANT.indices.tolist()
    np.testing.assert_allclose(choice.scores, WANT.scores, atol=2e-5)
    assert isinstance(choice.indices, np.ndarray) and choice.indices.dtype == np.int64
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(choice.selection))


def test_log_probs_are_passed_on_bit_for_bit():
    choice = choose(log_probs=LOG_P, size=SIZE, key=jax.random.key(0))
    np.testing.assert_array_equal(choice.scores, WANT.scores)
    np.testing.assert_array_equal(choice.selection.joint, WANT.joint)
    np.testing.assert_array_equal(
        choice.ranking.epistemic, np.asarray(scores.bald(LOG_P))[choice.ranking.index]
    )


@pytest.mark.parametrize("axes", ["K N C", "K C N", "N K C", "N C K", "C K N", "C N K"])
def test_axes_come_in_any_order(axes):
    array = LOG_P.transpose(["KNC".index(a) for a in axes.split()])
    for given_ in (array, Foreign(np.ascontiguousarray(array))):
        assert (
            choose(log_probs=given_, axes=axes, size=SIZE).indices.tolist() == WANT.indices.tolist()
        )


@pytest.mark.parametrize("axes", ["N C", "C N"])
def test_one_prediction_per_point(axes):
    array = LOG_P[0] if axes == "N C" else LOG_P[0].T
    picked = choose(log_probs=array, axes=axes, size=2, method="margin").indices.tolist()
    assert picked == select.top(scores.margin(LOG_P[:1]), 2).indices.tolist()
    for method in ("batch_bald", "bald", "mean_std", "variation_ratio"):
        with pytest.raises(errors.WrongSize, match="at least 2") as caught:
            choose(log_probs=array, axes=axes, size=2, method=method)
        assert caught.value.argument == "log_probs"


@pytest.mark.parametrize(
    "method", [name for name in backend.METHODS if name not in ("batch_bald", "uniform")]
)
def test_each_name_is_the_score_of_that_name(method):
    choice = choose(log_probs=LOG_P, size=SIZE, method=method, chunk=7)
    worth = np.array([oracles.SCORES[method](P[:, i].tolist()) for i in range(N)])
    np.testing.assert_allclose(worth[choice.indices], np.sort(worth)[::-1][:SIZE], atol=2e-6)
    np.testing.assert_allclose(choice.ranking.score, worth[choice.ranking.index], atol=2e-6)
    assert np.all(np.diff(choice.ranking.score) <= 0)


def test_chance_is_that_of_the_selector_and_goes_by_the_key():
    for seed in (0, 7, 2**32 - 1):
        picked = choose(log_probs=LOG_P, size=SIZE, method="uniform", key=seed).indices.tolist()
        assert picked == select.uniform(jax.random.key(np.uint32(seed)), N, SIZE).indices.tolist()
    assert (
        len(
            {
                tuple(choose(log_probs=LOG_P, size=SIZE, method="uniform", key=s).indices)
                for s in range(5)
            }
        )
        > 1
    )


def test_a_function_of_log_probs_is_a_method():
    third = lambda log_probs: np.where(
        np.arange(log_probs.shape[1]) % 7 == 3, -np.inf, np.exp(np.asarray(log_probs))[0, :, 2]
    )
    choice = choose(log_probs=LOG_P, size=SIZE, method=third, chunk=N)
    order = [i for i in np.argsort(-P[0, :, 2]) if i % 7 != 3]
    assert choice.ranking.index.tolist() == order and choice.indices.tolist() == order[:SIZE]
    for wrong, error in (
        (lambda p: np.zeros(3), errors.WrongShape),
        (lambda p: np.full(p.shape[1], np.nan), errors.NonFinite),
    ):
        with pytest.raises(error, match="`method`") as caught:
            choose(log_probs=LOG_P, size=SIZE, method=wrong)
        assert caught.value.argument == "method"


@given(st.integers(0, 2**31))
def test_only_available_points_are_picked_and_ranked(seed):
    rng = np.random.default_rng(seed)
    available = np.zeros(N, bool)
    available[rng.permutation(N)[: rng.integers(SIZE, N)]] = True
    for given_ in (available, available.tolist(), Foreign(available)):
        choice = choose(log_probs=LOG_P, size=SIZE, method="entropy", available=given_)
        assert available[choice.indices].all()
        assert sorted(choice.ranking.index.tolist()) == np.flatnonzero(available).tolist()


def test_nothing_is_changed_and_read_only_arrays_pass():  # TRAPS 30
    for kind, array in (("log_probs", LOG_P), ("probs", P), ("logits", LOG_P * 2)):
        given_, available = array.copy(), np.ones(N, bool)
        given_.flags.writeable = available.flags.writeable = False
        choose(**{kind: given_}, size=SIZE, available=available)
        assert np.array_equal(given_, array) and available.all()


def aligned(array):
    """A copy of an array where JAX can share its memory."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    place = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def test_what_a_method_keeps_does_not_change_with_the_callers_array():  # TRAPS 30
    given_, kept = aligned(LOG_P), []
    choose(
        log_probs=given_,
        size=SIZE,
        method=lambda log_probs: (kept.append(log_probs), scores.bald(log_probs))[1],
    )
    given_[...] = 0
    np.testing.assert_array_equal(kept[0], LOG_P)


def test_a_file_is_read_where_it_lies(tmp_path):
    np.save(tmp_path / "log_probs.npy", LOG_P.transpose(1, 2, 0))
    mapped = np.load(tmp_path / "log_probs.npy", mmap_mode="r")
    assert (
        choose(log_probs=mapped, axes="N C K", size=SIZE, chunk=8).indices.tolist()
        == WANT.indices.tolist()
    )


def test_certain_classes_and_enormous_logits():  # TRAPS 1
    one_hot = np.eye(3)[
        np.array([[0, 1, 2], [0, 2, 2]])
    ]  # 2 draws, 3 points: they disagree about point 1 only
    choice = choose(probs=one_hot, size=1, method="bald")
    assert choice.indices.tolist() == [1] and abs(choice.scores[0] - np.log(2)) < 1e-6
    for scale in (300.0, 1e6):
        choice = choose(logits=(one_hot - 0.5) * 2 * scale, size=1, method="bald")
        assert choice.indices.tolist() == [1] and abs(choice.scores[0] - np.log(2)) < 1e-6
    assert choose(
        logits=np.where(one_hot > 0, 0.0, -np.inf), size=1, method="bald"
    ).indices.tolist() == [1]


def test_float64_keeps_its_digits_on_the_way_in():
    offset = choose(
        logits=LOG_P.astype(np.float64) + 1e9, size=SIZE
    )  # float32 would keep none of them
    assert offset.indices.tolist() == WANT.indices.tolist()
    tiny = np.array([[[1 - 1e-60, 1e-60]], [[1.0, 0.0]]])
    assert choose(probs=tiny, size=1, method="entropy").ranking.total[0] == 0


@pytest.mark.slow
def test_half_precision():  # TRAPS 5
    z = np.random.default_rng(5).normal(size=(K, N, C)).astype(np.float32)
    exact = choose(logits=z, size=10, method="bald")
    stored = {
        "logits": Foreign(jnp.asarray(z).astype(jnp.bfloat16)),
        "log_probs": Foreign(jnp.asarray(oracles.log_softmax(z)).astype(jnp.bfloat16)),
    }
    for kind, tensor in stored.items():
        coarse = choose(**{kind: tensor}, size=10, method="bald")
        assert len(set(coarse.indices) & set(exact.indices)) >= 8
    assert len(set(choose(log_probs=stored["log_probs"], size=SIZE).indices)) == SIZE
    half = np.exp(LOG_P).astype(np.float16)
    with pytest.raises(errors.NotProbabilities, match="half precision") as caught:
        choose(probs=half, size=SIZE)
    assert caught.value.argument == "probs"
    assert len(choose(probs=half, size=SIZE, method="entropy").indices) == SIZE


# a function in place of arrays

X = np.random.default_rng(1).normal(size=(N, 4)).astype(np.float32)


@jax.jit
def linear(x, key):
    """K linear functions of x, fixed by the key alone."""
    weights = jax.random.normal(key, (K, 4, C))
    return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights), axis=-1)


def seen_by_choose(key=0):
    return linear(X, jax.random.split(jax.random.key(key))[0])


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 8, 1000])
def test_a_function_gives_what_its_arrays_give(chunk):
    lengths = set()

    def predict(x, key):
        lengths.add(len(x))
        return np.asarray(linear(x, key)).transpose(1, 2, 0)

    choice = choose(predict=predict, x=X, size=SIZE, chunk=chunk, axes="N C K", candidates=12)
    want = choose(log_probs=seen_by_choose(), size=SIZE)
    assert choice.indices.tolist() == want.indices.tolist()
    np.testing.assert_allclose(choice.ranking.epistemic, want.ranking.epistemic, atol=1e-6)
    assert lengths == {min(chunk, N)}  # one shape, one compilation
    assert bool(choice.selection.certified) == (
        choice.scores[-1] >= np.sort(np.asarray(scores.bald(seen_by_choose())))[::-1][12]
    )
    assert choose(
        predict=predict, x=X, size=SIZE, chunk=chunk, axes="N C K", method="margin"
    ).indices.tolist() == (
        choose(log_probs=seen_by_choose(), size=SIZE, method="margin").indices.tolist()
    )


def in_one_buffer(function):
    """The same answers, always in the same memory."""
    place = {}

    def predict(x, key):
        answer = np.asarray(function(x, key))
        buffer = place.setdefault(answer.shape, aligned(answer))
        buffer[...] = answer
        return buffer

    return predict


def test_a_function_may_answer_in_the_same_buffer_every_time():
    choice = choose(predict=in_one_buffer(linear), x=X, size=SIZE, chunk=8)
    assert choice.indices.tolist() == choose(log_probs=seen_by_choose(), size=SIZE).indices.tolist()
    with pytest.raises(errors.DrawsDiffer):
        choose(predict=in_one_buffer(per_row), x=X, size=SIZE, chunk=8)


def per_row(x, key):
    """A mask for every row, by its place in the batch."""
    return jax.nn.log_softmax(linear(x, key) + jax.random.normal(key, (K, len(x), C)), axis=-1)


def hidden_state():
    state = np.random.default_rng(0)
    return lambda x, key: jax.nn.log_softmax(linear(x, key) + state.normal(size=(K, 1, C)), axis=-1)


def batch_statistics(x, key):
    return linear(x - x.mean(0), key)


@pytest.mark.parametrize(
    "predict",
    [per_row, hidden_state(), batch_statistics],
    ids=["per row", "hidden state", "batch statistics"],
)
def test_draws_that_change_between_chunks_are_refused(predict):  # TRAPS 10
    with pytest.raises(errors.DrawsDiffer, match="not the same functions in every chunk") as caught:
        choose(predict=predict, x=X, size=SIZE, chunk=8)
    assert caught.value.argument == "predict"
    assert (
        len(choose(predict=predict, x=X, size=SIZE, chunk=8, method="bald").indices) == SIZE
    )  # one by one it does not matter


def spoiled(change):
    """A predict that goes wrong when it sees row 20."""
    return lambda x, key: (
        change(linear(x, key)) if np.any(np.all(x == X[20], axis=1)) else linear(x, key)
    )


PREDICT_BAD = {
    "too few rows": (lambda p: p[:, 1:], errors.WrongShape, "answered for 7"),
    "other draws": (lambda p: p[1:], errors.WrongShape, "K, C"),
    "other classes": (
        lambda p: jnp.pad(p, ((0, 0), (0, 0), (0, 1)), constant_values=-jnp.inf),
        errors.WrongShape,
        "K, C",
    ),
    "nan": (lambda p: p * jnp.nan, errors.NonFinite, "rows 16 to 23"),
    "logits": (lambda p: p + 1, errors.NotLogProbabilities, "rows 16 to 23"),
}


@pytest.mark.parametrize("bad", PREDICT_BAD)
def test_a_function_that_answers_wrongly_is_named_with_the_rows(bad):
    change, error, word = PREDICT_BAD[bad]
    with pytest.raises(error, match=word) as caught:
        choose(predict=spoiled(change), x=X, size=SIZE, chunk=8)
    assert caught.value.argument == "predict"
    if "rows" in word:
        assert set(caught.value.rows.tolist()) <= set(range(16, 24)) and 20 in caught.value.rows


# records


def test_records_rank_every_available_point_and_sort_by_score():
    available = np.arange(N) % 5 != 0
    choice = choose(
        log_probs=LOG_P, size=SIZE, available=available, ids=[f"image {i}, å" for i in range(N)]
    )
    records = choice.to_records()
    assert [r["rank"] for r in records] == list(range(1, int(available.sum()) + 1))
    assert [r["id"] for r in records[:SIZE]] == [f"image {i}, å" for i in choice.indices]
    assert sorted(records, key=lambda r: -r["score"]) == records  # sorted is stable
    assert records[SIZE]["score"] < records[SIZE - 1]["score"]
    for record in records:
        p = P[:, int(record["id"].split()[1][:-1])]
        assert set(record) == {
            "id",
            "rank",
            "score",
            "total",
            "aleatoric",
            "epistemic",
            "confidence",
            "prediction",
        }
        assert (
            abs(record["total"] - oracles.entropy(p)) < 1e-5
            and abs(record["aleatoric"] - oracles.expected_entropy(p)) < 1e-5
        )
        assert abs(record["epistemic"] - oracles.bald(p)) < 1e-5
        assert (
            record["prediction"] == p.mean(0).argmax()
            and abs(record["confidence"] - p.mean(0).max()) < 1e-5
        )


def test_the_score_behind_a_batch_bounds_what_a_point_would_add():
    choice = choose(log_probs=LOG_P, size=SIZE)
    batch = choice.indices.tolist()
    have = oracles.joint_information(P, batch)
    for row, score in zip(choice.ranking.index[SIZE:], choice.ranking.score[SIZE:], strict=True):
        assert oracles.joint_information(P, [*batch, int(row)]) - have <= score + 1e-5


def test_files_hold_the_records_and_replace_what_was_there(tmp_path):
    ids = ['a "quoted", id', "two\nlines", *range(N - 2)]
    choice = choose(log_probs=LOG_P, size=SIZE)
    for name in ("ranking.csv", "ranking.jsonl"):
        path = tmp_path / name
        path.write_text("an old file")
        records = choice.to_records(path, ids=ids)
        with open(path, newline="", encoding="utf-8") as file:
            read = (
                list(csv.DictReader(file))
                if name.endswith("csv")
                else [json.loads(line) for line in file]
            )
        assert [[str(v) for v in r.values()] for r in read] == [
            [str(v) for v in r.values()] for r in records
        ]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "ranking.csv",
        "ranking.jsonl",
    ]  # nothing temporary is left
    assert choice.to_records(str(tmp_path / "named"), format="csv")[0]["id"] == int(
        choice.indices[0]
    )


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "ranking.csv"
    path.write_text("an old file")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        choose(log_probs=LOG_P, size=SIZE).to_records(path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["an old file"]


def test_wrong_names_and_formats_are_refused():
    choice = choose(log_probs=LOG_P, size=SIZE)
    wrong = {
        "ids": [dict(ids=range(N - 1)), dict(ids=[0] * N), dict(ids=[0.5, *range(N - 1)])],
        "path": [dict(path="ranking.txt")],
        "format": [dict(path="ranking.csv", format="xml")],
    }
    for argument, calls in wrong.items():
        for call in calls:
            with pytest.raises(errors.WrongShape, match=f"`{argument}`") as caught:
                oracles.as_users_do(choice.to_records)(**call)
            assert caught.value.argument == argument


BAD = {
    "nothing": (dict(), errors.WrongShape, "log_probs"),
    "two kinds": (dict(log_probs=LOG_P, probs=P), errors.WrongShape, "probs"),
    "no pool": (dict(predict=linear), errors.WrongShape, "x"),
    "a pool for arrays": (dict(log_probs=LOG_P, x=X), errors.WrongShape, "x"),
    "a list as pool": (dict(predict=linear, x=X.tolist()), errors.WrongShape, "x"),
    "no function": (dict(predict=3, x=X), errors.WrongShape, "predict"),
    "unknown method": (dict(log_probs=LOG_P, method="bold"), errors.UnknownName, "method"),
    "unknown axes": (dict(log_probs=LOG_P, axes="N K"), errors.WrongShape, "axes"),
    "axes twice": (dict(log_probs=LOG_P, axes="K N N"), errors.WrongShape, "axes"),
    "too few axes": (dict(log_probs=LOG_P[0]), errors.WrongShape, "log_probs"),
    "too many axes": (dict(probs=P, axes="N C"), errors.WrongShape, "probs"),
    "probabilities as logs": (dict(log_probs=P), errors.NotLogProbabilities, "log_probs"),
    "logits as logs": (dict(log_probs=LOG_P + 1), errors.NotLogProbabilities, "log_probs"),
    "logs as probabilities": (dict(probs=LOG_P), errors.NotProbabilities, "probs"),
    "wrong axes": (dict(probs=P, axes="K C N", size=2), errors.NotProbabilities, "probs"),
    "nan probabilities": (dict(probs=P * np.nan), errors.NonFinite, "probs"),
    "probabilities as logits": (dict(logits=P), errors.NotLogProbabilities, "logits"),
    "a mask": (dict(logits=np.ma.masked_less(P, 0.1)), errors.WrongType, "logits"),
    "infinite logits": (dict(logits=np.where(P > 0.9, np.inf, 0.0)), errors.NonFinite, "logits"),
    "no possible class": (dict(logits=np.full((K, N, C), -np.inf)), errors.NonFinite, "logits"),
    "integers": (dict(logits=np.ones((K, N, C), int)), errors.WrongShape, "logits"),
    "ragged lists": (dict(probs=[[[0.5, 0.5], [1.0]]]), errors.WrongShape, "probs"),
    "words": (dict(probs="probs"), errors.WrongShape, "probs"),
    "one class": (dict(probs=np.ones((K, N, 1))), errors.WrongShape, "probs"),
    "no draws": (dict(log_probs=LOG_P[:0]), errors.WrongSize, "log_probs"),
    "empty pool": (dict(log_probs=LOG_P[:, :0]), errors.WrongSize, "size"),
    "size too large": (dict(log_probs=LOG_P, size=N + 1), errors.WrongSize, "size"),
    "nothing available": (
        dict(log_probs=LOG_P, available=np.zeros(N, bool)),
        errors.WrongSize,
        "size",
    ),
    "rows as a mask": (dict(log_probs=LOG_P, available=[1, 2]), errors.WrongShape, "available"),
    "negative key": (dict(log_probs=LOG_P, key=-1), errors.WrongSize, "key"),
    "a key too large": (dict(log_probs=LOG_P, key=2**40), errors.WrongSize, "key"),
    "a float as key": (dict(log_probs=LOG_P, key=0.5), errors.WrongShape, "key"),
    "no chunk": (dict(log_probs=LOG_P, chunk=0), errors.WrongSize, "chunk"),
    "no candidates": (dict(log_probs=LOG_P, candidates=0), errors.WrongSize, "candidates"),
    "too few ids": (dict(log_probs=LOG_P, ids=["a"]), errors.WrongShape, "ids"),
    "draws agree": (dict(log_probs=np.repeat(LOG_P[:1], K, 0)), errors.ConstantScores, "scores"),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    call, error, argument = BAD[bad]
    with pytest.raises(error) as caught:
        choose(**{"size": SIZE, **call})
    assert caught.value.argument == argument


def test_log_probabilities_in_other_axes_are_asked_about_their_axes():
    with pytest.raises(
        errors.NotLogProbabilities, match=r"is `axes` right\? .* shape \(6, 3, 30\)"
    ):
        choose(log_probs=LOG_P, axes="K C N", size=2)


def test_offending_rows_are_rows_of_the_pool():
    broken = P.copy()
    broken[2, 25] *= 1.5
    for spoiled_, kind in ((broken, "probs"), (np.log(broken), "log_probs")):
        with pytest.raises(errors.BayesalError, match="rows 22 to 29") as caught:
            choose(**{kind: spoiled_}, size=SIZE, chunk=8)
        assert caught.value.rows.tolist() == [25]


def test_inside_jit_it_says_where_to_go():
    with pytest.raises(errors.WrongShape, match=r"bayesal\.select"):
        jax.jit(lambda p: choose(log_probs=p, size=SIZE).indices)(LOG_P)


def test_the_caller_table_can_grow_by_a_line(monkeypatch):
    monkeypatch.setitem(
        backend.METHODS, "first class", backend.Method(lambda log_probs: log_probs[0, :, 0])
    )
    assert choose(log_probs=LOG_P, size=1, method="first class").indices.tolist() == [
        int(LOG_P[0, :, 0].argmax())
    ]


def test_a_handful_of_logits_may_look_like_probabilities_and_one_row_that_does_not_is_enough():
    few = np.array([[[0.25, 0.75], [1.0, 0.0]], [[0.5, 0.5], [0.75, 0.25]]], np.float32)
    assert len(choose(logits=few, size=1, method="bald").indices) == 1
    logits = P.astype(np.float32).copy()
    logits[0, 0] = [0.9] * C
    assert len(choose(logits=logits, size=1, method="bald").indices) == 1
