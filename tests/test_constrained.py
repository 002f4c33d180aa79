"""Balanced, spread and paid-for batches against plain Python and enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, select

pytestmark = pytest.mark.usefixtures("strict")

N, SIZE = 12, 6


def a_pool(seed, levels=(0.0, 0.25, 0.5, 1.0, 3.0)):
    """Scores with ties and gates, and a mask that leaves at least `SIZE` points."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(N) < 0.15, -np.inf, rng.choice(levels, N)).astype(np.float32)
    available = rng.random(N) < 0.8
    values[:SIZE], available[:SIZE] = rng.random(SIZE), True
    return rng, values, available


# class_balanced


@given(st.integers(0, 2**31))
def test_balanced_batches_go_round_the_classes(seed):
    rng, values, available = a_pool(seed)
    classes = rng.integers(0, 4, N)
    queues = [
        sorted(
            (i for i in range(N) if classes[i] == c and available[i] and values[i] > -np.inf),
            key=lambda i: (-values[i], i),
        )
        for c in range(4)
    ]
    want = []
    while len(want) < SIZE:
        want += sorted((q.pop(0) for q in queues if q), key=lambda i: (-values[i], i))
    picked = select.class_balanced(classes.astype(np.int32), values, SIZE, available=available)
    assert (
        picked.indices.tolist() == want[:SIZE]
        and picked.scores.tolist() == values[want[:SIZE]].tolist()
    )


def test_numbers_per_class_differ_by_at_most_one_while_all_have_points():
    rng = np.random.default_rng(0)
    classes, values = (
        np.repeat(np.arange(5), 20).astype(np.int32),
        rng.random(100).astype(np.float32),
    )
    values[classes == 3] += 10
    picked = select.class_balanced(classes, values, 23)
    assert sorted(np.bincount(classes[np.asarray(picked.indices)]).tolist()) == [4, 4, 5, 5, 5]
    assert int(picked.indices[0]) == values.argmax()


# suppress_duplicates


def by_hand(features, values, available, size, radius):
    can = [i for i in range(len(values)) if available[i] and values[i] > -np.inf]
    picks = []
    for _ in range(size):
        left = [i for i in can if i not in picks]
        fresh = [
            i
            for i in left
            if all(np.linalg.norm(features[i] - features[j]) > radius for j in picks)
        ]
        picks.append(max(fresh or left, key=lambda i: (values[i], -i)))
    return picks


@given(seed=st.integers(0, 2**31), radius=st.sampled_from([0.0, 0.5, 1.5, 100.0]))
def test_near_copies_wait_until_nothing_else_is_left(seed, radius):
    rng, values, available = a_pool(seed)
    features = rng.integers(0, 3, (N, 2)).astype(np.float32)  # on a grid: many copies
    picked = select.suppress_duplicates(features, values, SIZE, radius=radius, available=available)
    assert picked.indices.tolist() == by_hand(features, values, available, SIZE, radius)


def test_copies_are_copies_wherever_they_lie():  # TRAPS 9, 25
    base = np.random.default_rng(0).normal(size=(4, 3)) + 1e4
    features = np.repeat(base, 3, axis=0).astype(np.float32)
    values = np.arange(N, dtype=np.float32)
    for unit in (1.0, 1e-30, 1e30):
        batch = select.suppress_duplicates(features * np.float32(unit), values, SIZE, radius=0.0)
        assert batch.indices.tolist() == [11, 8, 5, 2, 10, 9]


def test_identical_points_fall_back_to_the_ranking():  # TRAPS 26
    values = np.arange(N, dtype=np.float32)
    picked = select.suppress_duplicates(np.ones((N, 2), np.float32), values, SIZE, radius=1.0)
    assert picked.indices.tolist() == [11, 10, 9, 8, 7, 6]


# budgeted


def affordable(prices, budget):
    rows = range(len(prices))
    return (
        s
        for r in range(1, len(prices) + 1)
        for s in itertools.combinations(rows, r)
        if sum(prices[i] for i in s) <= budget * (1 + 1e-6)
    )


@given(st.integers(0, 2**31))
def test_a_budget_is_kept_and_half_of_the_best_is_had(seed):
    rng = np.random.default_rng(seed)
    gains = (rng.random(8) ** 4).astype(np.float32)
    prices = rng.choice([0.1, 1.0, 2.5, 7.0], 8).astype(np.float32)
    budget = float(rng.choice([0.1, 1.0, 3.0, 8.0]) + prices.min())
    picked = select.budgeted(gains, prices, budget)
    rows = picked.indices.tolist()
    assert len(set(rows)) == len(rows) and prices[rows].sum() <= budget * (1 + 2e-6)
    best = max(sum(gains[i] for i in s) for s in affordable(prices.tolist(), budget))
    assert gains[rows].sum() >= best / 2 - 1e-6
    assert picked.scores.tolist() == gains[rows].tolist()
    left = [i for i in range(8) if i not in rows and gains[i] > 0]
    assert all(
        prices[i] > budget - prices[rows].sum() - 1e-5 for i in left
    )  # nothing more could be paid


def test_the_safeguard_takes_the_dear_treasure():
    gains, prices = np.array([0.02, 1.0], np.float32), np.array([0.01, 10.0], np.float32)
    assert select.budgeted(gains, prices, 10.0).indices.tolist() == [1]
    assert select.budgeted(gains, prices, 9.0).indices.tolist() == [0]
    assert select.budgeted(gains, prices, 11).indices.tolist() == [0, 1]


def test_equal_prices_are_a_ranking_and_tenths_add_up():
    gains = np.random.default_rng(0).random(20).astype(np.float32)
    picked = select.budgeted(gains, np.full(20, 0.1, np.float32), 1.0)
    assert picked.indices.tolist() == np.argsort(-gains)[:10].tolist()


def test_what_is_worth_nothing_or_ruled_out_is_not_bought():
    gains = np.array([0.0, 0.5, -np.inf, 0.4, 0.3], np.float32)
    available = np.array([True, True, True, False, True])
    assert select.budgeted(
        gains, np.ones(5, np.float32), 100.0, available=available
    ).indices.tolist() == [1, 4]


# all three

FEATURES = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
CLASSES = (np.arange(N) % 3).astype(np.int32)
SELECTORS = {
    "class_balanced": lambda s, size=4, **how: select.class_balanced(
        CLASSES[: len(s)], s, size, **how
    ),
    "suppress_duplicates": lambda s, size=4, **how: select.suppress_duplicates(
        FEATURES[: len(s)], s, size, radius=0.5, **how
    ),
}
each = pytest.mark.parametrize("name", SELECTORS)


def test_under_jit_what_is_not_bought_is_minus_one():
    buy = jax.jit(lambda g, p, b: select.budgeted(g, p, b))
    picked = buy(jnp.array([jnp.nan, 2.0, jnp.inf, 1.0, -1.0, -jnp.inf]), jnp.ones(6), jnp.int32(2))
    assert picked.indices.tolist() == [1, 3, -1, -1, -1, -1] and int(picked.nonfinite) == 2
    assert buy(jnp.zeros(6), jnp.ones(6), jnp.int32(2)).indices.tolist() == [-1] * 6


@each
def test_scores_that_cannot_be_ranked_and_sizes_that_cannot_be_had(name):  # TRAPS 12
    call = oracles.as_users_do(SELECTORS[name])
    good = np.arange(6, dtype=np.float32)
    for bad, error, argument in (
        ((np.zeros(6, np.float32),), errors.ConstantScores, "scores"),
        ((good * np.nan,), errors.NonFinite, "scores"),
        ((good, 7), errors.WrongSize, "size"),
        ((good[:0], 1), errors.WrongSize, "size"),
        ((good[:, None],), errors.WrongShape, "scores"),
    ):
        with pytest.raises(error) as caught:
            call(*bad)
        assert caught.value.argument == argument
    with pytest.raises(errors.WrongSize, match="only 0"):
        call(good, available=np.zeros(6, bool))


GOOD = np.arange(1, 5, dtype=np.float32)
BAD = {
    "one-hot classes": (
        lambda: select.class_balanced(np.eye(4, dtype=np.int32), GOOD, 2),
        errors.WrongShape,
        "predictions",
    ),
    "log-probabilities as classes": (
        lambda: select.class_balanced(GOOD, GOOD, 2),
        errors.WrongShape,
        "predictions",
    ),
    "a list of classes": (
        lambda: select.class_balanced([0, 1, 0, 1], GOOD, 2),
        errors.WrongShape,
        "predictions",
    ),
    "flat features": (
        lambda: select.suppress_duplicates(GOOD, GOOD, 2, radius=1.0),
        errors.WrongShape,
        "features",
    ),
    "broken features": (
        lambda: select.suppress_duplicates(
            np.full((4, 1), np.nan, np.float32), GOOD, 2, radius=1.0
        ),
        errors.NonFinite,
        "features",
    ),
    "negative radius": (
        lambda: select.suppress_duplicates(np.ones((4, 1), np.float32), GOOD, 2, radius=-1.0),
        errors.WrongSize,
        "radius",
    ),
    "free": (lambda: select.budgeted(GOOD, GOOD - 1, 2.0), errors.OutOfRange, "prices"),
    "negative price": (lambda: select.budgeted(GOOD, -GOOD, 2.0), errors.OutOfRange, "prices"),
    "nan price": (lambda: select.budgeted(GOOD, GOOD * np.nan, 2.0), errors.OutOfRange, "prices"),
    "complex price": (lambda: select.budgeted(GOOD, GOOD + 3j, 2.0), errors.WrongShape, "prices"),
    "masked price": (
        lambda: select.budgeted(GOOD, np.ma.masked_equal(GOOD, GOOD[0]), 2.0),
        errors.WrongType,
        "prices",
    ),
    "price beyond float32": (
        lambda: select.budgeted(GOOD, GOOD.astype(np.float64) * 1e300, 2.0),
        errors.OutOfRange,
        "prices",
    ),
    "short prices": (lambda: select.budgeted(GOOD, GOOD[:2], 2.0), errors.WrongShape, "prices"),
    "no budget": (lambda: select.budgeted(GOOD, GOOD, 0.0), errors.OutOfRange, "budget"),
    "too little": (lambda: select.budgeted(GOOD, GOOD, 0.5), errors.OutOfRange, "budget"),
    "nothing to gain": (lambda: select.budgeted(GOOD * 0, GOOD, 9.0), errors.OutOfRange, "budget"),
    "a word": (lambda: select.budgeted(GOOD, GOOD, "much"), errors.WrongShape, "budget"),
    "negative gains": (lambda: select.budgeted(-GOOD, GOOD, 9.0), errors.OutOfRange, "gains"),
    "nan gains": (lambda: select.budgeted(GOOD * np.nan, GOOD, 9.0), errors.NonFinite, "gains"),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):
    call, error, argument = BAD[bad]
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(call)()
    assert caught.value.argument == argument
