"""A pool over 1, 2, 4, 8 devices: the same scores bit for bit, the same batch, and the exchanges
counted in the compiled program.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from bayesal import acquire, errors, scores, shards
from bayesal.posteriors import ensemble
from bayesal.predictive.bound import Predictive
from bayesal.types import Network

N, K, C, F = 203, 8, 3, 4  # 203 is a multiple of no number of devices
X = np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32))
NET = Network(lambda key, x: jax.random.normal(key, (F, C)), lambda w, x, key, rate: x @ w)
PREDICTIVE = Predictive(ensemble(NET, members=K), (), WEIGHTS, jnp.float32(1.0))
ALL, KEY = jnp.ones(N, bool), jax.random.key(0)
DEVICES = (1, 2, 4, 8)
BATCH = {"candidates": 40, "configurations": 30, "chunk": 16}
COLLECTIVES = re.compile(
    r"= \S+ "
    r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast)(-start)?\("
)


def linear(x):
    """K linear functions of x."""
    return jax.nn.log_softmax(jnp.sum(x[None, :, :, None] * WEIGHTS[:, None], axis=2), axis=-1)


@pytest.fixture(scope="module")
def pools():
    return {d: shards.spread(X, shards.mesh(jax.devices()[:d])) for d in DEVICES}


@pytest.fixture(scope="module")
def alone():
    return jax.jit(lambda key, x, a: acquire.batch_bald(**BATCH)(key, linear, x, a, 6))(
        KEY, jnp.asarray(X), ALL
    )


@pytest.mark.parametrize("devices", DEVICES)
def test_scores_do_not_depend_on_the_devices(devices, pools):  # TRAPS 10
    pool = pools[devices]
    assert len(pool.x) % devices == 0 and int(pool.real.sum()) == N
    values = shards.scores(linear, pool, scores.bald, chunk=16)
    assert values.sharding.num_devices == devices
    want = jax.jit(lambda x: acquire.pool_scores(linear, x, scores.bald, 16))(X)
    assert np.array_equal(values[:N], want) and np.all(np.asarray(values[N:]) == -np.inf)
    np.testing.assert_allclose(shards.scores(PREDICTIVE, pool, scores.bald)[:N], want, atol=1e-6)


@pytest.mark.parametrize("devices", DEVICES)
def test_top_does_not_depend_on_the_devices(devices, pools):
    values = np.array(shards.scores(linear, pools[devices], scores.bald, chunk=16))
    values[:N] = np.round(values[:N], 1)  # many ties
    values[[3, 70]] = np.nan, np.inf
    available = np.random.default_rng(0).random(N) < 0.5
    available[[3, 70]] = True
    spread = jax.device_put(values, pools[devices].real.sharding)
    for size in (1, 60):
        picked = shards.top(spread, size, available=available)
        order = sorted(set(np.flatnonzero(available)) - {3, 70}, key=lambda i: (-values[i], i))
        assert picked.indices.tolist() == order[:size] and int(picked.nonfinite) == 2
        np.testing.assert_array_equal(picked.scores, values[order[:size]])


@pytest.mark.parametrize(
    "devices", [8, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 2, 4))]
)
def test_the_batch_does_not_depend_on_the_devices(devices, pools, alone):
    picked = shards.batch_bald(
        KEY, linear, pools[devices], 6, **BATCH
    )  # the fourth pick and later from sampled configurations
    assert picked.indices.tolist() == alone.indices.tolist()
    for field in ("scores", "joint"):
        np.testing.assert_allclose(getattr(picked, field), getattr(alone, field), atol=1e-5)
    for field in ("saturated", "certified", "nonfinite", "constant"):
        assert np.array_equal(getattr(picked, field), getattr(alone, field)), field
    assert 0 < float(picked.evaluated) <= 1


def test_the_batch_is_brute_force_greedy_of_what_is_available(pools):
    available = np.random.default_rng(2).random(N) < 0.15
    p = np.exp(np.asarray(linear(X), np.float64))
    picked = shards.batch_bald(KEY, linear, pools[8], 6, available=available, **BATCH)
    batch = picked.indices.tolist()
    assert (
        bool(picked.certified) and available[batch].all() and len(set(batch)) == 6
    )  # fewer are available than candidates
    for b in range(3):
        table = {
            i: oracles.joint_information(p, [*batch[:b], i])
            for i in np.flatnonzero(available)
            if i not in batch[:b]
        }
        assert table[batch[b]] >= max(table.values()) - 2e-5


def test_copies_on_other_devices_are_not_picked_twice():  # TRAPS 9, 18
    order = np.argsort(-np.asarray(scores.bald(linear(X))))[:5]
    available = np.arange(N) % 25 < 5  # the same five points, once every 25 rows
    picked = shards.batch_bald(
        KEY,
        linear,
        shards.spread(np.tile(X[order], (41, 1))[:N], shards.mesh()),
        6,
        available=available,
        **BATCH,
    )
    rows = picked.indices.tolist()
    assert len(set(rows)) == 6 and available[rows].all() and rows[0] == 0
    p = np.exp(np.asarray(linear(X[order]), np.float64))
    best = [
        max(range(5), key=lambda i: oracles.joint_information(p, [*(r % 5 for r in rows[:b]), i]))
        for b in range(3)
    ]
    assert [r % 5 for r in rows[:3]] == best and len(set(best)) > 1


def collectives(compiled):
    """Collectives of a compiled program, by name."""
    return [match[0] for match in COLLECTIVES.findall(compiled.as_text())]


def test_scoring_holds_no_collective_and_a_pick_holds_one(pools):
    pool = pools[8]
    place = pool.x.sharding.mesh
    bound = jax.tree_util.Partial(linear)
    assert collectives(shards._scores.lower(bound, pool, scores.bald, 16, place).compile()) == []
    values = shards.scores(linear, pool, scores.bald, chunk=16)
    assert collectives(shards._top.lower(values, pool.real, 5, place).compile()) == ["all-gather"]
    dealt = jnp.zeros(40, jnp.int32)
    program = shards._greedy.lower(KEY, bound, pool.x, dealt, 6, 30, place).compile().as_text()
    body = [part for part in program.split("\n\n") if COLLECTIVES.search(part)]
    looped = [part for part in body if "ENTRY" not in part]
    assert len(looped) == 1 and [m[0] for m in COLLECTIVES.findall(looped[0])] == [
        "all-gather"
    ]  # the picks' loop, and nothing else that repeats
    size = re.search(r"= s32\[8,(\d+)\]\S* all-gather", looped[0])
    assert int(size[1]) == K * C + 3


def test_a_pool_that_is_sharded_along_an_explicit_axis_is_taken(pools):
    mesh = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Explicit,))
    x = jax.device_put(X[:200], NamedSharding(mesh, PartitionSpec("rows")))
    pool = shards.spread(x, shards.mesh())
    values = shards.scores(linear, pool, scores.bald, chunk=16)
    assert np.array_equal(values, shards.scores(linear, pools[1], scores.bald, chunk=16)[:200])
    assert shards.spread(x, shards.mesh(jax.devices()[:3])).x.shape == (
        201,
        F,
    )  # moved to other devices, and padded


def test_a_pool_smaller_than_the_devices():
    pool = shards.spread(X[:3], shards.mesh())
    values = shards.scores(linear, pool, scores.bald, chunk=16)
    picked = shards.top(values, 3)
    assert sorted(picked.indices.tolist()) == [0, 1, 2]


def test_what_cannot_be_had_is_refused_by_name(pools):
    pool = pools[8]
    values = shards.scores(linear, pool, scores.bald, chunk=16)
    explicit = jax.make_mesh((8,), ("pool",), axis_types=(AxisType.Explicit,))
    cases = [
        (errors.WrongShape, "mesh", lambda: shards.spread(X, explicit)),
        (errors.WrongShape, "mesh", lambda: shards.spread(X, None)),
        (errors.WrongShape, "x", lambda: shards.spread(X[:0], shards.mesh())),
        (errors.WrongShape, "x", lambda: shards.spread([1.0], shards.mesh())),
        (errors.WrongShape, "pool", lambda: shards.scores(linear, X, scores.bald)),
        (errors.WrongSize, "chunk", lambda: shards.scores(linear, pool, scores.bald, chunk=0)),
        (errors.WrongShape, "values", lambda: shards.top(np.zeros(4, np.float32), 2)),
        (errors.WrongSize, "size", lambda: shards.top(values, 0)),
        (errors.WrongSize, "size", lambda: shards.top(values, N + 1)),
        (errors.WrongSize, "size", lambda: shards.top(values, 3, available=np.arange(N) < 2)),
        (
            errors.WrongShape,
            "available",
            lambda: shards.top(values, 3, available=np.ones(N - 9, bool)),
        ),
        (errors.WrongShape, "available", lambda: shards.top(values, 3, available=np.ones(N, int))),
        (errors.ConstantScores, "scores", lambda: shards.top(jnp.zeros_like(values), 3)),
        (
            errors.WrongSize,
            "candidates",
            lambda: shards.batch_bald(KEY, linear, pool, 3, candidates=0),
        ),
        (
            errors.WrongSize,
            "configurations",
            lambda: shards.batch_bald(KEY, linear, pool, 3, configurations=0),
        ),
        (errors.WrongShape, "key", lambda: shards.batch_bald(0, linear, pool, 3, chunk=16)),
    ]
    for error, argument, call in cases:
        with pytest.raises(error, match=f"`{argument}`|available points") as caught:
            oracles.as_users_do(call)()
        assert caught.value.argument == argument
