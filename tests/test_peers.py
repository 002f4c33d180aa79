"""Our scores and exact batches beside public peers', where those are installed (`pip install -e
'.[test,peers]'`) and right.
"""

import math

import jax
import numpy as np
import oracles
import pytest

from bayesal import scores, select, testing

pytestmark = pytest.mark.slow

LOG_P, P = oracles.random_log_probs(0, (8, 30, 3))
ENOUGH = (
    10**6
)  # samples: more than all configurations of the batches here, so that the peer enumerates them too


@pytest.fixture(scope="module")
def redux():
    torch, peer = pytest.importorskip("torch"), pytest.importorskip("batchbald_redux.batchbald")
    return lambda log_p: torch.from_numpy(
        np.ascontiguousarray(np.moveaxis(log_p, 0, 1))
    ).double(), peer


@pytest.fixture(scope="module")
def skactiveml():
    return pytest.importorskip("skactiveml.pool")


def test_entropies_are_those_of_batchbald_redux(redux):
    torched, peer = redux
    np.testing.assert_allclose(
        scores.entropy(LOG_P), peer.compute_entropy(torched(LOG_P)), atol=1e-5
    )
    np.testing.assert_allclose(
        scores.expected_entropy(LOG_P), peer.compute_conditional_entropy(torched(LOG_P)), atol=1e-5
    )
    ours = select.top(scores.bald(LOG_P), 5)
    theirs = peer.get_bald_batch(torched(LOG_P), 5)
    assert ours.indices.tolist() == theirs.indices and np.allclose(
        ours.scores, theirs.scores, atol=1e-5
    )


@pytest.mark.parametrize("seed", range(3))
def test_exact_batches_are_those_of_batchbald_redux(redux, seed):
    torched, peer = redux
    log_p, p = oracles.random_log_probs(seed, (8, 30, 3))
    ours = select.batch_bald(jax.random.key(0), log_p, 4, configurations=81)
    theirs = peer.get_batchbald_batch(torched(log_p), 4, ENOUGH)
    assert ours.indices.tolist() == theirs.indices
    np.testing.assert_allclose(ours.joint, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(
        ours.joint[-1], oracles.joint_information(p, theirs.indices), atol=1e-4
    )


def test_uncertainties_are_those_of_scikit_activeml(skactiveml):
    mean = P.mean(axis=0)
    mean = mean / mean.sum(axis=-1, keepdims=True)
    for ours, method in ((scores.least_confidence, "least_confident"), (scores.entropy, "entropy")):
        np.testing.assert_allclose(
            ours(LOG_P), skactiveml.uncertainty_scores(mean, method=method), atol=1e-5
        )
    theirs = skactiveml.uncertainty_scores(mean, method="margin_sampling")
    np.testing.assert_allclose(
        scores.margin(LOG_P), theirs - 1.0, atol=1e-5
    )  # theirs is one minus the gap


def test_disagreement_is_that_of_scikit_activeml(skactiveml):
    probs = P / P.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(
        scores.bald(LOG_P), skactiveml.average_kl_divergence(probs), atol=1e-5
    )
    votes = probs.argmax(-1).T
    np.testing.assert_allclose(
        scores.variation_ratio(LOG_P), skactiveml.variation_ratios(votes), atol=1e-6
    )


def test_the_kit_tells_the_peers_faults(redux, skactiveml):
    """What `experiments/peers.md` says: an answer that is not a number at certain draws, and
    negative information.
    """
    torched, peer = redux

    def theirs(log_probs):
        x = torched(log_probs).float()
        return (peer.compute_entropy(x) - peer.compute_conditional_entropy(x)).numpy()

    bounds = lambda K, C: (0.0, math.log(min(K, C)))
    report = testing.check_score(theirs, bounds=bounds)
    assert not report.passed and testing.check_score(scores.bald, bounds=bounds).passed
    assert {law for law, found in report.outcomes if found} >= {
        "what is not log-probabilities is refused",
        "within its bounds",
    }
