"""A checkpoint is whole and bit-identical, or refused."""

import pickle
import tempfile
from typing import Any, NamedTuple

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import DROPOUT as POSTERIOR
from laws import HPARAMS, MLP, TEMPERATURE, TOP, problem, same

import bayesal
from bayesal import acquire, checkpoint, errors, networks, posteriors
from bayesal.loop import _archive

X, Y = problem()
LEARNER = bayesal.learner(
    POSTERIOR,
    TOP,
    size=4,
    capacity=40,
    num_draws=6,
    calibrate=TEMPERATURE,
    hparams=HPARAMS._replace(steps=jnp.int32(20)),
)


@pytest.fixture(scope="module")
def state():
    return LEARNER.tell(LEARNER.init(jax.random.key(0), X), X, np.arange(9), Y[:9])


@pytest.fixture
def path(tmp_path, state):
    checkpoint.save(tmp_path / "round.npz", state)
    return tmp_path / "round.npz"


@pytest.fixture(scope="module")
def like():
    return LEARNER.init(jax.random.key(1), X)


def test_what_is_restored_is_what_was_saved(path, state, like):
    restored = checkpoint.restore(path, like)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert same(restored, state)


def test_the_next_round_is_the_same_bit_by_bit(path, state, like):
    restored = checkpoint.restore(path, like)
    ours, theirs = LEARNER.ask(state, X), LEARNER.ask(restored, X)
    assert same(ours, theirs)
    rows = np.asarray(ours.indices)
    assert same(LEARNER.tell(state, X, rows, Y[rows]), LEARNER.tell(restored, X, rows, Y[rows]))


def test_another_process_may_tell_what_this_one_asked(path, state, like):
    rows = np.asarray(LEARNER.ask(state, X).indices)
    fresh = bayesal.learner(
        POSTERIOR, TOP, size=4, capacity=40, num_draws=6, calibrate=TEMPERATURE
    )  # remembers nothing
    told = fresh.tell(checkpoint.restore(path, like), X, rows, Y[rows])
    assert int(told.ledger.count) == 13
    others = np.array([i for i in range(9, 128) if i not in rows][:3])  # never asked
    more = fresh.tell(told, X, others, Y[others])
    assert int(more.ledger.count) == 16


def test_a_flipped_bit_never_passes_for_the_truth(path, state, like):
    data = path.read_bytes()
    places = (
        np.random.default_rng(0).integers(0, len(data), 60).tolist()
        + [*range(0, 60, 7)]
        + [len(data) - 1 - i for i in range(0, 120, 5)]
    )
    refused = 0
    for place in places:
        bad = bytearray(data)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(bad))
        try:
            restored = checkpoint.restore(path, like)
        except errors.BadCheckpoint as error:
            refused += error.argument in ("path", "like")
        else:
            assert same(restored, state), place  # a bit that means nothing, such as a date
    assert refused > len(places) // 3


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(path, like, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(errors.BadCheckpoint) as error:
        checkpoint.restore(path, like)
    assert error.value.argument == "path"


def test_no_pickle_is_ever_loaded(path, like, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("boom").touch, ())

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(errors.BadCheckpoint):
        checkpoint.restore(path, like)
    with open(path, "wb") as file:
        np.savez(file, manifest=np.array([Bomb()], dtype=object))
    with pytest.raises(errors.BadCheckpoint):
        checkpoint.restore(path, like)
    assert not tmp_path.joinpath("boom").exists()


def test_another_structure_is_refused(path, like):
    others = (
        bayesal.learner(POSTERIOR, acquire.uniform(), size=3, capacity=41, num_draws=6).init(
            jax.random.key(0), X
        ),
        bayesal.learner(
            posteriors.mc_dropout(networks.mlp(16, 3, (9,))), acquire.uniform(), size=3, capacity=20
        ).init(jax.random.key(0), X),
        bayesal.learner(posteriors.variational(MLP), acquire.uniform(), size=3, capacity=20).init(
            jax.random.key(0), X
        ),
        {"a": jnp.zeros(3)},
        like._replace(key=jax.random.key(0, impl="rbg")),
    )
    for other in others:
        with pytest.raises(errors.BadCheckpoint) as error:
            checkpoint.restore(path, other)
        assert error.value.argument == "like"


def test_a_missing_file_is_a_missing_file(tmp_path, like):
    with pytest.raises(FileNotFoundError):
        checkpoint.restore(tmp_path / "none.npz", like)


def test_a_save_cut_short_leaves_the_last_one(path, state, like, monkeypatch):
    before = path.read_bytes()

    def die(file, *_):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(_archive, "_pack", die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, state)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    checkpoint.save(path, state)
    assert same(checkpoint.restore(path, like), state)


def test_any_pytree_of_arrays_can_be_saved(tmp_path):
    tree = {
        "a": jnp.bfloat16(1.5) * jnp.ones((2, 3), jnp.bfloat16),
        "b": (np.zeros((0, 4)), jnp.arange(3, dtype=jnp.uint8)),
        "c": jnp.bool_(True),
        "k": jax.random.split(jax.random.key(3), 4),
        "n": jnp.array([jnp.nan, -0.0, jnp.inf]),
    }
    checkpoint.save(tmp_path / "any.npz", tree)
    assert same(checkpoint.restore(tmp_path / "any.npz", tree), tree)


def alike(a, b) -> bool:
    """The same kinds of leaves with the same bits, in the same tree."""
    kinds = lambda tree: [
        jax.Array if isinstance(leaf, jax.Array) else type(leaf) for leaf in jax.tree.leaves(tree)
    ]
    bits = lambda tree: [
        (leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) if hasattr(leaf, "dtype") else leaf
        for leaf in jax.tree.leaves(tree)
    ]
    return (
        jax.tree.structure(a) == jax.tree.structure(b)
        and kinds(a) == kinds(b)
        and bits(a) == bits(b)
    )


EXACT = {
    "ids": np.array([2**40 + 7, -(2**62)]),
    "times": np.array([1700000001.25, np.pi, 5e-324]),
    "scalars": [np.int64(2**40 + 7), np.float32(0.1), np.bool_(True), np.complex64(1 + 2j)],
    "python": [True, 3, -(2**63), 0.1, -0.0, 1 + 2j],
    "empty": np.zeros((0, 3), np.uint16),
    "zero": np.array(2.5),
    "strided": np.arange(24).reshape(4, 6)[::2, ::-3],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "integers": [
        np.array([0, 1, 1], f"{kind}int{n}") for kind in ("", "u") for n in (8, 16, 32, 64)
    ],
    "numbers": [
        np.array([0, 1, 1], np.dtype(name))
        for name in ("bool", "float16", "float32", "float64", "complex64", "complex128")
    ],
    "small": [
        np.array([0, 1, 1], np.dtype(name))
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4")
    ],
}


def test_every_leaf_comes_back_as_what_it_was(tmp_path):
    with jax.enable_x64(True):
        tree = EXACT | {"jax": [jnp.arange(3) + 2**40, jnp.float64(np.pi), jnp.int8(3)]}
    checkpoint.save(tmp_path / "any", tree)
    restored = checkpoint.restore(tmp_path / "any", like=jax.tree.map(lambda a: a, tree))
    assert alike(restored, tree)
    assert restored["ids"].tolist() == [2**40 + 7, -(2**62)]
    restored["ids"][0] = 1  # NumPy leaves are one's own
    assert alike(checkpoint.restore(tmp_path / "any", tree), tree)


def test_big_endian_numbers_keep_their_values(tmp_path):
    big = np.array([1, 2**40 + 7], ">i8")
    checkpoint.save(tmp_path / "big", big)
    for like in (big, big.astype("=i8")):
        back = checkpoint.restore(tmp_path / "big", like)
        assert back.tolist() == big.tolist() and back.dtype.isnative and back.dtype == np.int64


def test_equal_states_make_equal_files(tmp_path):
    for name in "ab":
        checkpoint.save(tmp_path / name, EXACT)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as file:  # it stays an npz
        assert "manifest" in file and file["leaf_0"].dtype == np.uint8


def deleted():
    array = jnp.zeros(3)
    array.delete()
    return array


UNFIT = {
    "a function": lambda: abs,
    "a class": lambda: int,
    "an object": lambda: np.array([None, "a"], object),
    "a string": lambda: "label",
    "bytes": lambda: b"label",
    "strings": lambda: np.array(["a", "bc"]),
    "dates": lambda: np.array(["2020-01-01"], "datetime64[D]"),
    "durations": lambda: np.array([3], "timedelta64[s]"),
    "a date": lambda: np.datetime64("2020-01-01"),
    "fields": lambda: np.zeros(2, [("a", int), ("b", float)]),
    "long doubles": lambda: np.zeros(2, np.longdouble),
    "masked": lambda: np.ma.array([0, 1, 1], mask=[0, 0, 1]),
    "masked nowhere": lambda: np.ma.array([0, 1, 1]),
    "the masked value": lambda: np.ma.masked,
    "a large int": lambda: 2**63,
    "a shape": lambda: jax.ShapeDtypeStruct((3,), jnp.float32),
    "a deleted array": deleted,
    "a set": lambda: {1, 2},
}


@pytest.mark.parametrize("what", UNFIT)
def test_what_cannot_be_restored_is_refused_before_the_file_is_touched(path, what):
    before = path.read_bytes(), path.stat().st_ino
    tree = {"a": np.zeros(3), "model": {"odd": UNFIT[what]()}}
    with pytest.raises(errors.WrongType, match=r"`state`: leaf \['model'\]\['odd'\]") as caught:
        checkpoint.save(path, tree)
    assert caught.value.argument == "state"
    assert (path.read_bytes(), path.stat().st_ino) == before
    checkpoint.save(path, {"a": np.zeros(3), "model": {"odd": 1}})
    with pytest.raises(errors.WrongType, match=r"`like`: leaf \['model'\]\['odd'\]"):
        checkpoint.restore(path, tree)


def test_a_traced_state_is_refused(path):
    before = path.read_bytes()
    with pytest.raises(errors.WrongType, match=r"leaf \['w'\]"):
        jax.jit(lambda w: checkpoint.save(path, {"w": w}))(jnp.zeros(3))
    assert path.read_bytes() == before


def test_a_state_with_too_many_leaves_is_refused(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(_archive, "_MANIFEST_LIMIT", 10_000)
    with pytest.raises(errors.WrongSize, match="100 leaves"):
        checkpoint.save(path, list(range(100)))
    assert path.read_bytes() == before


@hypothesis.given(
    hnp.arrays(
        st.one_of(
            hnp.scalar_dtypes(),
            hnp.array_dtypes(max_size=2),
            hnp.unicode_string_dtypes(),
            hnp.complex_number_dtypes(),
        ),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
    )
)
def test_any_numpy_array_comes_back_or_is_refused(array):
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/state"
        checkpoint.save(path, 1)
        try:
            checkpoint.save(path, [array])
        except errors.WrongType:
            assert checkpoint.restore(path, 0) == 1
            assert array.dtype.kind in "USOVMm" or array.dtype.char in "gG"
        else:
            (back,) = checkpoint.restore(path, [array])
            native = array.astype(array.dtype.newbyteorder("="))
            assert type(back) is np.ndarray and alike(back, native)


# the labeled set alone


def test_labels_need_no_learner(path, state):
    found = checkpoint.labels(path)
    assert found.indices.tolist() == list(range(9)) and found.labels.tolist() == Y[:9].tolist()
    assert type(found.indices) is np.ndarray and type(found.labels) is np.ndarray
    assert found.labels.dtype == state.ledger.labels.dtype
    renamed = state._replace(posterior={"another": jnp.zeros(3)})
    checkpoint.save(path, {"run": renamed, "seed": 3})  # also within a larger tree
    assert same(checkpoint.labels(path).labels, found.labels)


class Rows(NamedTuple):
    indices: Any
    labels: Any
    weight: Any
    source: Any
    count: Any


class Boxes(NamedTuple):
    corners: Any
    classes: Any


class Holder(NamedTuple):
    ledger: Any


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.arange(10.0).reshape(5, 2), None),
        ({"kind": np.arange(5), "a b": np.arange(5) + 1}, ["['a b']", "kind"]),
        (Boxes(np.zeros((5, 3, 4)), np.arange(15).reshape(5, 3)), ["classes", "corners"]),
        ([np.arange(5), {"deep": np.arange(5) + 2}], ["0", "1.deep"]),
    ],
)
def test_labels_may_have_several_parts_weights_and_sources(tmp_path, labels, expected):
    rows = Rows(
        indices=np.array([4, 2**40, 9, 0, 0]),
        labels=labels,
        weight=np.array([1, 0.5, 2, 1, 1]),
        source=np.array([0, 1, 0, 0, 0], np.int8),
        count=np.int32(3),
    )
    checkpoint.save(tmp_path / "state", Holder(rows))
    found = checkpoint.labels(tmp_path / "state")
    assert found.indices.tolist() == [4, 2**40, 9]
    assert found.weight.tolist() == [1, 0.5, 2] and found.source.tolist() == [0, 1, 0]
    if expected is None:
        assert same(found.labels, labels[:3])
    else:
        assert sorted(found.labels) == expected
        cut = [leaf[:3] for leaf in jax.tree.leaves(labels)]
        assert {a.tobytes() for a in found.labels.values()} == {a.tobytes() for a in cut}
    checkpoint.save(tmp_path / "state", Holder(rows._replace(weight=None, source=None)))
    found = checkpoint.labels(tmp_path / "state")
    assert found.weight is None and found.source is None and len(found.indices) == 3


def test_without_one_labeled_set_there_are_no_labels(tmp_path, state):
    for tree in ({"a": 1}, [state, state], Holder({"indices": np.arange(3)}), state.ledger):
        checkpoint.save(tmp_path / "state", tree)
        with pytest.raises(errors.BadCheckpoint, match="labeled set") as caught:
            checkpoint.labels(tmp_path / "state")
        assert caught.value.argument == "path"
    with pytest.raises(FileNotFoundError):
        checkpoint.labels(tmp_path / "none")
