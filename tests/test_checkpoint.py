"""A checkpoint is whole and bit-identical, or refused."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import DROPOUT as POSTERIOR
from laws import HPARAMS, MLP, TEMPERATURE, TOP, problem, same

import bayesal
from bayesal import acquire, checkpoint, errors, networks, posteriors

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

    def die(file, **arrays):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.np, "savez", die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, state)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    path.with_name(f".{path.name}.1.part").write_bytes(
        b"half of it"
    )  # killed: nothing could tidy up
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
    tree["b"] = (jnp.zeros((0, 4)), tree["b"][1])
    checkpoint.save(tmp_path / "any.npz", tree)
    assert same(checkpoint.restore(tmp_path / "any.npz", tree), tree)


def test_another_format_is_refused(path, like, tmp_path):
    with np.load(path, allow_pickle=False) as file:
        parts = dict(file)
    for change in (
        lambda m: m | {"bayesal": 99},
        lambda m: (
            m | {"leaves": [{k: v for k, v in e.items() if k != "name"} for e in m["leaves"]]}
        ),
    ):
        text = json.dumps(change(json.loads(parts["manifest"].tobytes()))).encode()
        np.savez(tmp_path / "other.npz", **parts | {"manifest": np.frombuffer(text, np.uint8)})
        with pytest.raises(errors.BadCheckpoint) as error:
            checkpoint.restore(tmp_path / "other.npz", like)
        assert error.value.argument == "path"
