"""Majority and CrowdLab against plain Python."""

import hypothesis.strategies as st
import jax
import numpy as np
import people
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from bayesal import annotators


def votes(row, classes):
    return [sum(int(label == c) for label in row) for c in range(classes)]


def crowdlab(answers, net):
    """The formulas of Goh et al. 2022, item by item."""
    classes, people_ = len(net[0]), len(answers[0])
    counts = [votes(row, classes) for row in answers]
    several = [i for i, count in enumerate(counts) if sum(count) > 1]
    consensus = [
        max(range(classes), key=lambda c: (count[c], p[c], -c))
        for count, p in zip(counts, net, strict=True)
    ]
    of_several = [consensus[i] for i in several]
    common = max(range(classes), key=lambda c: (of_several.count(c), -c))
    chance = sum(c != common for c in of_several) / len(several)
    chance = min(max(chance, 1e-4), 1 - 1e-4)
    hits = [label == consensus[i] for i in several for label in answers[i] if label >= 0]
    p = sum(hits) / len(hits)
    pairs = [
        (a, answers[i][a] == answers[i][b])
        for i in several
        for a in range(people_)
        for b in range(people_)
        if a != b and answers[i][a] >= 0 and answers[i][b] >= 0
    ]
    weight = []
    for a in range(people_):
        own = [same for who, same in pairs if who == a] or [same for _, same in pairs]
        weight.append(max(1 - (1 - sum(own) / len(own)) / chance, 1e-4))
    wrong = [max(range(classes), key=lambda c: net[i][c]) != consensus[i] for i in several]
    given_ = [sum(count) for count in counts if sum(count)]
    net_weight = max(1 - sum(wrong) / len(wrong) / chance, 1e-4)
    net_weight *= (sum(given_) / len(given_)) ** 0.5
    found = []
    for row, prediction in zip(answers, net, strict=True):
        mass = [net_weight * prediction[c] for c in range(classes)]
        for a, label in enumerate(row):
            for c in range(classes):
                if label >= 0:
                    mass[c] += weight[a] * (p if label == c else (1 - p) / (classes - 1))
        found.append([m / sum(mass) for m in mass])
    return found


def test_crowdlab_is_that_of_plain_python():
    for seed in range(5):
        matrices = [people.even(right, 3) for right in (0.9, 0.7, 0.5, 0.4)]
        _, answers = people.simulated(seed, 40, matrices, asked=0.5, abstaining=0.1)
        prior = jax.nn.log_softmax(2 * jax.random.normal(jax.random.key(seed), (40, 3)))
        net = np.exp(np.asarray(prior, np.float64)).tolist()
        found = np.exp(annotators.crowdlab(answers, prior))
        assert_allclose(found, crowdlab(answers.tolist(), net), atol=1e-5)


def test_crowdlab_without_overlap_is_the_net():
    prior = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (3, 3)))
    answers = np.array([[0, -1], [-1, 1], [2, annotators.ABSTAIN]])
    assert_array_equal(annotators.crowdlab(answers, prior), prior)


@given(hnp.arrays(np.int32, (6, 3), elements=st.integers(-2, 2)))
def test_majority_is_the_share_of_votes(answers):
    shares = np.exp(annotators.majority(answers, classes=3))
    for row, share in zip(answers.tolist(), shares, strict=True):
        count = votes(row, 3)
        expected = [c / sum(count) for c in count] if sum(count) else [1 / 3] * 3
        assert_allclose(share, expected, rtol=1e-6)
