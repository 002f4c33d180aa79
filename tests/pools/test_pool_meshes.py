"""A pool over 1, 2, 4, 8 devices: the same scores bit for bit, without communication."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from bayesal import acquire, choose, errors, pools, predictive, scores
from bayesal.pools import _meshes as meshes
from bayesal.pools import _walk

N, K, C, F = 203, 8, 3, 4  # 203 is a multiple of no number of devices
X = np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32))
DEVICES = (1, 2, 4, 8)
COLLECTIVES = re.compile(
    r"= \S+ (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|"
    r"collective-broadcast)(-start)?\("
)


def functions(weights, x):
    """K linear functions of x, by sums whose order does not depend on the number of rows."""
    return jax.nn.log_softmax(jnp.sum(x[None, :, :, None] * weights[:, None], axis=2), axis=-1)


LINEAR = predictive.from_samples(jax.tree_util.Partial(functions, WEIGHTS), K)
TOP = acquire.top(scores.bald)
BATCH = acquire.batch_bald(candidates=40, configurations=30)


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "ON_DEVICE", 16)
        yield


def bald(model, x):
    return scores.bald(model(x))


def over(devices):
    return pools.mesh(jax.devices()[:devices])


@pytest.fixture(scope="module")
def values():
    return np.asarray(jax.jit(lambda x: _walk.in_memory(x).map(LINEAR, bald))(X))


@pytest.fixture(scope="module")
def alone():
    return choose(0, LINEAR, X, 6, BATCH)


@pytest.mark.parametrize("devices", DEVICES)
def test_scores_do_not_depend_on_the_devices(devices, values):  # TRAPS 10
    pool = pools.sharded(X, over(devices))
    assert pool.rows == N
    assert np.array_equal(pool.map(LINEAR, bald), values)
    rows = np.array([202, 3, 3, 0])
    np.testing.assert_array_equal(pool.take(rows), X[rows])


@pytest.mark.parametrize(
    "devices", [8, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 2, 4))]
)
def test_the_batch_does_not_depend_on_the_devices(devices, alone):
    picked = choose(0, LINEAR, pools.sharded(X, over(devices)), 6, BATCH)
    assert picked.indices.tolist() == alone.indices.tolist()
    for field in ("scores", "joint", "gap"):
        np.testing.assert_allclose(getattr(picked, field), getattr(alone, field), atol=1e-5)
    for field in ("saturated", "certified", "nonfinite", "constant"):
        assert np.array_equal(getattr(picked, field), getattr(alone, field)), field


def test_the_batch_is_brute_force_greedy_of_what_is_available():
    available = np.random.default_rng(2).random(N) < 0.15
    p = np.exp(np.asarray(functions(WEIGHTS, X), np.float64))
    picked = choose(0, LINEAR, pools.sharded(X), 6, BATCH, available=available)
    batch = picked.indices.tolist()
    assert bool(picked.certified)  # fewer are available than candidates
    assert available[batch].all() and len(set(batch)) == 6
    for b in range(3):
        left = [i for i in np.flatnonzero(available) if i not in batch[:b]]
        table = {i: oracles.joint_information(p, [*batch[:b], i]) for i in left}
        assert table[batch[b]] >= max(table.values()) - 2e-5


def test_copies_on_other_devices_are_not_picked_twice():  # TRAPS 9, 18
    order = np.argsort(-np.asarray(scores.bald(functions(WEIGHTS, X))))[:5]
    available = np.arange(N) % 25 < 5  # the same five points, once every 25 rows
    tiled = np.tile(X[order], (41, 1))[:N]
    picked = choose(0, LINEAR, pools.sharded(tiled), 6, BATCH, available=available)
    rows = picked.indices.tolist()
    assert len(set(rows)) == 6 and available[rows].all() and rows[0] == 0
    p = np.exp(np.asarray(functions(WEIGHTS, X[order]), np.float64))
    gain = lambda b, i: oracles.joint_information(p, [*(r % 5 for r in rows[:b]), i])
    best = [max(range(5), key=lambda i, b=b: gain(b, i)) for b in range(3)]
    assert [r % 5 for r in rows[:3]] == best and len(set(best)) > 1


def test_measuring_holds_no_collective():
    place = over(8)
    x = jax.device_put(np.resize(X, (208, F)), NamedSharding(place, PartitionSpec("pool")))
    model = jax.tree_util.Partial(functions, WEIGHTS)
    fn, model = meshes._everywhere((jax.tree_util.Partial(bald), model), place)
    program = meshes._mapped.lower(fn, model, x, place).compile().as_text()
    assert not COLLECTIVES.findall(program)
    taken = meshes._taken.lower(x, jnp.zeros(3, jnp.int32), place).compile().as_text()
    assert COLLECTIVES.findall(taken)  # rows that are looked at twice come from everywhere


@pytest.mark.parametrize(
    ("devices", "spec"), [(1, ("rows",)), (4, ("rows",)), (4, (None, "rows"))], ids=str
)
def test_an_array_along_explicit_axes_is_taken(devices, spec):
    axes = {"axis_types": (AxisType.Explicit,), "devices": jax.devices()[:devices]}
    mesh = jax.make_mesh((devices,), ("rows",), **axes)
    x = jax.device_put(X[:200], NamedSharding(mesh, PartitionSpec(*spec)))
    want = choose(0, LINEAR, X[:200], 3, TOP).indices.tolist()
    available = jax.device_put(np.ones(200, bool), NamedSharding(mesh, PartitionSpec("rows")))
    for pool in (x, pools.of(x), pools.sharded(x, over(3)), lambda: iter([x])):
        assert choose(0, LINEAR, pool, 3, TOP, available=available).indices.tolist() == want
    with jax.set_mesh(mesh):
        assert choose(0, LINEAR, x, 3, TOP).indices.tolist() == want


def test_predictions_and_targets_along_explicit_axes_are_taken():
    axes = {"axis_types": (AxisType.Explicit,), "devices": jax.devices()[:4]}
    mesh = jax.make_mesh((4,), ("rows",), **axes)
    put = lambda a, *spec: jax.device_put(a, NamedSharding(mesh, PartitionSpec(*spec)))
    log_probs = LINEAR(X[:200])
    want = choose(0, LINEAR, X[:200], 3, TOP).indices.tolist()
    pool = pools.numbers(log_probs=put(log_probs, None, "rows"), axes="K N C")
    assert choose(0, None, pool, 3, TOP).indices.tolist() == want
    targets, here = X[:4], choose(0, LINEAR, X[:200], 3, acquire.epig(X[:4]))
    there = choose(0, LINEAR, X[:200], 3, acquire.epig(put(targets, "rows")))
    assert there.indices.tolist() == here.indices.tolist()


def test_a_pool_smaller_than_the_devices():
    picked = choose(0, LINEAR, pools.sharded(X[:3]), 3, TOP)
    assert sorted(picked.indices.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("devices", [1, 8])
def test_a_loaded_pool_is_a_sharded_one_and_no_part_is_read_twice(devices, values):
    asked = []

    def spy(start, stop):
        asked.append((start, stop))
        return X[start:stop]

    pool = pools.load(spy, N, over(devices))
    parts = sorted(asked)
    assert parts.pop(parts.index((0, 1)))  # one row for the shape
    assert [p for p, _ in parts] == [0, *(q for _, q in parts[:-1])] and parts[-1][1] == N
    assert np.array_equal(pool.map(LINEAR, bald), values)


EXPLICIT = {"axis_types": (AxisType.Explicit,)}
BAD = {
    "an Explicit mesh": (
        errors.WrongShape,
        "over",
        lambda: pools.sharded(X, jax.make_mesh((8,), ("pool",), **EXPLICIT)),
    ),
    "another mesh": (errors.WrongShape, "over", lambda: pools.sharded(X, "mesh")),
    "no rows": (errors.WrongSize, "x", lambda: pools.sharded(X[:0])),
    "a list": (errors.WrongShape, "x", lambda: pools.sharded([1.0])),
    "masked": (errors.WrongType, "x", lambda: pools.sharded(np.ma.array(X, mask=X > 1))),
    "wide integers": (
        errors.OutOfRange,
        "x",
        lambda: pools.sharded(np.full((3, 2), 2**40)),
    ),
    "no rows to load": (errors.WrongSize, "rows", lambda: pools.load(lambda a, b: X[a:b], 0)),
    "parts of another size": (
        errors.WrongShape,
        "read",
        lambda: pools.load(lambda a, b: np.zeros((1, 2), np.float32), 10),
    ),
    "parts of text": (
        errors.WrongShape,
        "read",
        lambda: pools.load(lambda a, b: np.full((b - a, 2), "a"), 10),
    ),
    "a function of NumPy arrays": (
        errors.WrongType,
        "predictive",
        lambda: choose(0, lambda x: np.asarray(LINEAR(np.asarray(x))), pools.sharded(X), 2, TOP),
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_had_is_refused_by_name(bad):
    error, argument, call = BAD[bad]
    with pytest.raises(error, match=f"`{argument}") as caught:
        oracles.as_users_do(call)()
    assert caught.value.argument == argument
