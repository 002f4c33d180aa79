"""The verbs as pure functions: bit for bit those of the learner, and whole rounds under vmap."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import bayesal
from bayesal import acquire, calibrate, errors, networks, posteriors, retune, scores
from bayesal.loop._pure import _digests

POSTERIOR = posteriors.mc_dropout(networks.mlp(2, 3, (8,)))
Y = np.arange(60) % 3
X = (
    np.random.default_rng(0).normal(size=(60, 2))
    + np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])[Y]
).astype(np.float32)
FIRST = np.arange(12)


def built(**more):
    usual = dict(size=4, capacity=24, num_draws=6, hparams=bayesal.HParams(steps=20))
    strategy = more.pop("strategy", acquire.top(scores.bald))
    return bayesal.learner(POSTERIOR, strategy, **(usual | more))


def same(a, b):
    leaves = [jax.tree.leaves_with_path(tree) for tree in (a, b)]
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, one), (_, other) in zip(*leaves, strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert one.dtype == other.dtype, jax.tree_util.keystr(path)
        assert_array_equal(one, other, err_msg=jax.tree_util.keystr(path))


KINDS = {
    "plain": {},
    "warm": dict(update="warm"),
    "calibrated": dict(calibrate=calibrate.temperature(), num_folds=2),
    "groups": dict(calibrate=calibrate.temperature(), num_folds=2, groups=np.arange(60) // 2),
    "audit": dict(calibrate=calibrate.temperature(), num_folds=2, audit=0.25),
    # at a low rate six draws of eight units may drop none, and agree
    "retuned": dict(retune=retune.successive_halving(2, retune.space(dropout=None)), num_folds=2),
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("plain", "audit") else pytest.mark.slow)
        for kind in KINDS
    ],
)
def test_they_are_the_learners_own_verbs_to_the_bit(kind):
    learner, x = built(**KINDS[kind]), jnp.asarray(X)
    state = learner.init(jax.random.key(3), x)
    other = learner.pure.init(jax.random.key(3), x)
    same(state, other)
    rows = FIRST
    for weights in (None, np.array([1.0, 0.0, 2.0, 1.0], np.float32), None):
        state = learner.tell(state, x, rows, Y[rows], weights=weights)
        other = learner.pure.tell(other, x, rows, Y[rows], weights)
        same(state, other)
        rows = np.asarray(learner.ask(state, x).indices)
        assert_array_equal(learner.pure.ask(other, x).indices, rows)


def test_a_rejected_label_is_fitted_nowhere():
    learner, x = built(), jnp.asarray(X)
    labels = np.where(FIRST < 2, bayesal.REJECTED, Y[FIRST])
    key = jax.random.key(0)
    same(
        learner.tell(learner.init(key, x), x, FIRST, labels, source=2),
        learner.pure.tell(learner.pure.init(key, x), x, FIRST, labels, None, 2),
    )


@pytest.mark.slow
def test_whole_rounds_of_many_seeds_are_one_program():
    learner, x, y = built(), jnp.asarray(X), jnp.asarray(Y)

    @jax.jit
    @jax.vmap
    def campaign(key):
        state = learner.pure.init(key, x)
        state = learner.pure.tell(state, x, jnp.arange(12), y[:12])
        rows = learner.pure.ask(state, x).indices
        return learner.pure.tell(state, x, rows, y[rows]), rows

    states, rows = campaign(jax.random.split(jax.random.key(0), 3))
    for s, key in enumerate(jax.random.split(jax.random.key(0), 3)):
        state = learner.tell(learner.init(key, x), x, FIRST, Y[FIRST])
        picks = np.asarray(learner.ask(state, x).indices)
        assert_array_equal(picks, rows[s])
        state = learner.tell(state, x, picks, Y[picks])
        mine = jax.tree.map(lambda leaf: leaf[s], states)  # noqa: B023 - used at once
        for a, b in zip(
            jax.tree.leaves(mine.posterior), jax.tree.leaves(state.posterior), strict=True
        ):
            assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        same(mine.ledger, state.ledger)
        learner.ask(mine, x)  # its rows are known by their hashes


def test_a_budget_in_seconds_is_refused():
    learner = built(retune=retune.successive_halving(seconds=1.0), num_folds=2)
    state = learner.init(jax.random.key(0), X)
    with pytest.raises(errors.WrongType, match="seconds"):
        learner.pure.tell(state, jnp.asarray(X), FIRST, Y[FIRST])


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "bool", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(5, 1), (3, 7), (2, 4, 3), (1, 0)])
def test_hashes_are_zlibs(dtype, shape):
    rows = np.random.default_rng(0).normal(0, 50, shape)
    rows = jnp.asarray(rows).astype(dtype)
    expected = [zlib.crc32(np.asarray(row).tobytes()) for row in rows]
    assert jax.jit(_digests)(rows).tolist() == expected
