"""Information of one more answer, and the ranking that mixes old and new items."""

import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import people
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from bayesal import annotators, scores

MATRICES = [people.even(0.95, 3), people.even(0.8, 3), people.even(0.7, 3), np.full((3, 3), 1 / 3)]


@pytest.fixture(scope="module")
def told():
    _, answers = people.simulated(0, 300, MATRICES, asked=0.8, abstaining=0.1)
    return answers, annotators.dawid_skene(answers, classes=3, steps=30)


def channel(truth):
    """P(answer | true class) with the abstention last, in float64."""
    confusion, abstain = (np.asarray(part, np.float64) for part in truth[1:3])
    return np.concatenate([confusion * (1 - abstain)[:, :, None], abstain[:, :, None]], axis=2)


def by_hand(prior, rows):
    """sum_c p(c) KL(row of c | mean row), in plain floats."""
    mean = [
        sum(p * row[k] for p, row in zip(prior, rows, strict=True)) for k in range(len(rows[0]))
    ]
    return sum(
        p * q * math.log(q / m)
        for p, row in zip(prior, rows, strict=True)
        for q, m in zip(row, mean, strict=True)
        if q > 0
    )


def test_information_is_that_of_plain_python_and_bounded(told):
    answers, truth = told
    gain = np.asarray(annotators.information(truth))
    probs = np.exp(np.asarray(truth.log_probs, np.float64))
    expected = [[by_hand(row, rows) for rows in channel(truth)] for row in probs]
    assert_allclose(gain, expected, atol=1e-6, rtol=1e-4)
    entropy = [oracles.h(row) for row in probs]
    assert (gain >= 0).all() and (gain <= np.array(entropy)[:, None] + 1e-6).all()
    masked = np.asarray(annotators.information(truth, answers))
    assert_array_equal(np.isneginf(masked), answers != -1)
    assert_array_equal(masked[answers == -1], gain[answers == -1])


def test_a_spammer_and_a_certain_item_tell_nothing():
    truth = annotators.one_coin(np.array([[0, -1], [-1, -1]]), classes=2)
    spam = truth._replace(
        log_probs=jnp.array([[0.0, -jnp.inf], [-jnp.log(2.0), -jnp.log(2.0)]]),
        confusion=jnp.array([[[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]]),
    )
    assert_allclose(annotators.information(spam), [[0, 0], [0, math.log(2)]], atol=1e-6)


def test_little_information_keeps_its_digits():
    small = 1e-4
    truth = annotators.one_coin(np.array([[-1]]), classes=2)
    rows = np.array([[0.5 + small, 0.5 - small], [0.5 - small, 0.5 + small]], np.float32)
    gain = annotators.information(truth._replace(confusion=jnp.asarray(rows)[None]))
    expected = by_hand([0.5, 0.5], rows.astype(np.float64).tolist())
    assert_allclose(gain[0, 0], expected, rtol=1e-2)  # 2e-8 nats


def test_noisy_bald_is_that_of_plain_python_and_at_most_bald(told):
    _, truth = told
    log_probs = jax.nn.log_softmax(2 * jax.random.normal(jax.random.key(0), (5, 7, 3)))
    found = np.asarray(annotators.noisy_bald(truth, log_probs))
    probs = np.exp(np.asarray(log_probs, np.float64))
    expected = [
        [by_hand([1 / 5] * 5, (probs[:, m] @ rows).tolist()) for rows in channel(truth)]
        for m in range(7)
    ]
    assert_allclose(found, expected, atol=1e-6, rtol=1e-4)
    assert (found <= np.asarray(scores.bald(log_probs))[:, None] + 1e-6).all()
    assert (found[:, 0] > found[:, 1]).all() and (found[:, 2] > found[:, 3]).all()


def test_a_perfect_annotator_tells_what_bald_says():
    log_probs = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (5, 7, 3)))
    truth = annotators.one_coin(np.array([[0]]), classes=3)
    perfect = truth._replace(confusion=jnp.eye(3)[None])
    assert_allclose(
        annotators.noisy_bald(perfect, log_probs)[:, 0], scores.bald(log_probs), atol=1e-6
    )


NATS = st.sampled_from([-np.inf, 0.0, 0.1, 0.25, 0.5, 0.7])


@given(
    hnp.arrays(float, (4, 3), elements=NATS),
    hnp.arrays(float, (3, 3), elements=NATS),
    hnp.arrays(float, (3,), elements=st.sampled_from([1.0, 2.0])),
    st.integers(1, 8),
    st.sampled_from([None, 1, 2]),
)
def test_a_ranking_is_greedy(again, new, cost, size, most):
    found = annotators.rank(again, new, size, again_cost=cost, new_cost=3.0, most=most)
    left = {
        (kind, i, a): values[i, a] / price[a]
        for kind, values, price in ((False, again, cost), (True, new, np.full(3, 3.0)))
        for i in range(len(values))
        for a in range(3)
        if values[i, a] > -np.inf
    }
    asked = [0, 0, 0]
    for kind, i, a, score in zip(*found, strict=True):
        assert_allclose(score, left[kind, i, a], rtol=1e-6)
        assert left[kind, i, a] == max(left.values())
        asked[a] += 1
        left = {
            cell: value
            for cell, value in left.items()
            if cell[:2] != (kind, i) and (most is None or asked[cell[2]] < most)
        }
    assert len(found.items) == size or not left


def test_cost_moves_the_ranking_between_old_and_new(told):
    answers, truth = told
    again = annotators.information(truth, answers)
    log_probs = jax.nn.log_softmax(2 * jax.random.normal(jax.random.key(0), (5, 60, 3)))
    new = annotators.noisy_bald(truth, log_probs)
    shares = [annotators.rank(again, new, 50, new_cost=c).new.mean() for c in (0.1, 1.0, 100.0)]
    assert shares[0] == 1.0 and shares[2] == 0.0 and 0.0 < shares[1] < 1.0
    assert not (annotators.rank(again, new, 50).annotators == 3).any()  # the spammer
