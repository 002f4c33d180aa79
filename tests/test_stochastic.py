"""Sampled batches against their exact distribution, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, select

pytestmark = pytest.mark.usefixtures("strict")

VALUES = np.array(
    [0.5, 0.1, 0.0, 0.3, 0.3, -np.inf, 0.02, 0.9], np.float32
)  # row 7 is not available
AVAILABLE = np.arange(8) != 7
KEYS = oracles.keys(10_000)


def weights(name, beta):
    """p(first pick), by hand, in float64."""
    s = np.where(AVAILABLE, VALUES.astype(np.float64), -np.inf)
    can = np.isfinite(s)
    if name == "power":
        w = np.where(can, np.where(can, s, 0.0) ** beta, 0.0) * (s > 0)
    elif name == "softmax":
        w = np.where(can, np.exp(beta * np.where(can, s, 0.0)), 0.0)
    else:
        mean_rank = [np.mean([1 + (s > v).sum() + j for j in range((s == v).sum())]) for v in s]
        w = np.where(can, np.array(mean_rank) ** -float(beta), 0.0)
    return w / w.sum()


SELECTORS = {name: getattr(select, name) for name in ("power", "softmax", "softrank")}
each = pytest.mark.parametrize("name", SELECTORS)
draw = {
    name: jax.jit(
        jax.vmap(
            lambda key, beta, f=f: (
                f(key, jnp.asarray(VALUES), 2, beta=beta, available=jnp.asarray(AVAILABLE)).indices
            ),
            (0, None),
        )
    )
    for name, f in SELECTORS.items()
}


@each
@pytest.mark.parametrize("beta", [1.0, 8.0])
def test_first_and_second_pick_have_the_exact_distribution(name, beta):
    picks = np.asarray(draw[name](KEYS, jnp.float32(beta)))
    p = weights(name, beta)
    pairs = np.array(
        [[0 if i == j else p[i] * p[j] / (1 - p[i]) for j in range(8)] for i in range(8)]
    )
    seen = np.zeros((8, 8))
    np.add.at(seen, (picks[:, 0], picks[:, 1]), 1)
    assert seen[pairs == 0].sum() == 0
    expected = pairs * len(KEYS)
    common = expected > 5
    chi_square = ((seen - expected)[common] ** 2 / expected[common]).sum()
    assert chi_square < common.sum() + 6 * np.sqrt(2 * common.sum())  # six standard deviations
    np.testing.assert_allclose(seen.sum(1) / len(KEYS), p, atol=5 * np.sqrt(0.25 / len(KEYS)))


def test_beta_zero_is_uniform_among_positive_scores():
    counts = np.bincount(np.asarray(draw["power"](KEYS, jnp.float32(0)))[:, 0], minlength=8)
    assert np.flatnonzero(counts).tolist() == [0, 1, 3, 4, 6]
    assert np.all(np.abs(counts[counts > 0] - 2000) < 5 * np.sqrt(10_000 * 0.2 * 0.8))


def test_power_over_nothing_but_zeros_is_uniform():  # TRAPS 3
    zeros = jnp.zeros(8)
    picks = np.asarray(jax.vmap(lambda k: select.power(k, zeros, 2, beta=8.0).indices)(KEYS[:4000]))
    assert np.all(picks[:, 0] != picks[:, 1])
    assert np.all(
        np.abs(np.bincount(picks.ravel(), minlength=8) - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)
    )


def test_zeros_come_after_every_positive_score_however_small():
    values = np.array([0.0, 1e-37, 0.0, 1.0, 1e-30, 0.0], np.float32)
    picks = np.asarray(
        jax.vmap(lambda k: select.power(k, jnp.asarray(values), 6, beta=100.0).indices)(KEYS[:500])
    )
    assert np.all(np.sort(picks[:, :3], axis=1) == [1, 3, 4]) and np.all(
        np.sort(picks[:, 3:], axis=1) == [0, 2, 5]
    )
    assert len({tuple(p) for p in picks[:, 3:]}) == 6  # in random order


@each
@given(seed=st.integers(0, 2**31))
def test_batches_are_distinct_available_and_carry_their_scores(name, seed):
    rng = np.random.default_rng(seed)
    values = np.where(
        rng.random(20) < 0.2, -np.inf, rng.choice([0.0, 1e-6, 0.5, 3.0, 80.0], 20)
    ).astype(np.float32)
    available = rng.random(20) < 0.7
    can = np.flatnonzero(available & np.isfinite(values))
    available[:3], values[:3] = True, 1.0
    can = np.union1d(can, [0, 1, 2])
    picked = SELECTORS[name](jax.random.key(seed), values, 3, available=available, beta=8)
    rows = picked.indices.tolist()
    assert len(set(rows)) == 3 and set(rows) <= set(can.tolist())
    assert picked.scores.tolist() == values[rows].tolist()


@each
def test_the_whole_pool_can_be_drawn_and_the_key_fixes_the_order(name):
    values = VALUES[[0, 1, 3, 6]]
    orders = [
        SELECTORS[name](jax.random.key(s), values, 4).indices.tolist() for s in (0, 0, 1, 2, 3)
    ]
    assert (
        all(sorted(o) == [0, 1, 2, 3] for o in orders)
        and orders[0] == orders[1]
        and len({tuple(o) for o in orders}) > 1
    )


@pytest.mark.parametrize("name", ["power", "softrank"])
def test_under_jit_broken_scores_are_counted_and_never_picked(name):  # TRAPS 4
    values = jnp.array([jnp.nan, 2.0, jnp.inf, 1.0, -jnp.nan, -jnp.inf])
    picked = jax.jit(lambda v: SELECTORS[name](jax.random.key(0), v, 4))(values)
    assert sorted(picked.indices[:2].tolist()) == [1, 3] and picked.indices[2:].tolist() == [-1, -1]
    assert int(picked.nonfinite) == 3 and picked.scores[2:].tolist() == [-np.inf, -np.inf]


def test_negative_scores_have_no_power():
    values = np.array([0.5, -0.1, -np.inf], np.float32)
    with pytest.raises(errors.OutOfRange, match="softrank") as caught:
        select.power(jax.random.key(0), values, 1)
    assert caught.value.argument == "scores" and caught.value.rows.tolist() == [1]
    traced = jax.jit(lambda v: select.power(jax.random.key(0), v, 3))(jnp.asarray(values))
    assert traced.indices.tolist() == [0, -1, -1] and int(traced.nonfinite) == 1


@each
def test_large_scores_and_a_large_beta_stay_finite(name):
    values = np.array([1e-37, 1e-30, 3e38, 2e30], np.float32)
    picked = [SELECTORS[name](key, values, 4, beta=1e3).indices.tolist() for key in oracles.keys(3)]
    assert all(sorted(p) == [0, 1, 2, 3] and p[0] == 2 for p in picked)


BAD = {
    "nan": (dict(scores=np.array([np.nan, 1.0], np.float32)), errors.NonFinite, "scores"),
    "two axes": (dict(scores=np.ones((2, 2), np.float32)), errors.WrongShape, "scores"),
    "words": (dict(scores="scores"), errors.WrongShape, "scores"),
    "too many": (dict(size=9), errors.WrongSize, "size"),
    "an empty pool": (dict(scores=np.ones(0, np.float32)), errors.WrongSize, "size"),
    "nothing available": (dict(available=np.zeros(5, bool)), errors.WrongSize, "size"),
    "a short mask": (dict(available=np.ones(3, bool)), errors.WrongShape, "available"),
    "negative beta": (dict(beta=-1.0), errors.WrongSize, "beta"),
    "nan beta": (dict(beta=float("nan")), errors.WrongSize, "beta"),
    "infinite beta": (dict(beta=float("inf")), errors.WrongSize, "beta"),
    "a vector as beta": (dict(beta=np.ones(2)), errors.WrongShape, "beta"),
    "a word as beta": (dict(beta="strong"), errors.WrongShape, "beta"),
    "a fraction as key": (dict(key=0.5), errors.WrongShape, "key"),
    "a number below 0 as key": (dict(key=-1), errors.WrongSize, "key"),
}


@each
@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(name, bad):
    call, error, argument = BAD[bad]
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(SELECTORS[name])(
            **{"key": jax.random.key(0), "scores": np.abs(VALUES[:5]), "size": 2, **call}
        )
    assert caught.value.argument == argument
