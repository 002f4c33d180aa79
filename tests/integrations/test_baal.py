"""Our scores and strategies as baal's heuristics."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import acquire, errors, scores
from bayesal.integrations import baal

LOG_P, P = oracles.random_log_probs(0, (6, 9, 3))
BALD = np.array([oracles.bald(row) for row in oracles.rows_of(P).swapaxes(0, 1)])
PREDICTIONS = np.exp(np.moveaxis(LOG_P, 0, -1))  # [N, C, K]

installed = pytest.mark.skipif(
    importlib.util.find_spec("baal") is None,
    reason="pip install baal, which brings torch; torchvision must not be there (see peers.md)",
)


def test_a_score_of_their_layout_is_the_score_of_ours():
    np.testing.assert_allclose(baal.scored(scores.bald, PREDICTIONS, "probs"), BALD, atol=1e-6)
    shifted = np.log(PREDICTIONS) + 3.0
    np.testing.assert_allclose(baal.scored(scores.bald, shifted, "logits"), BALD, atol=1e-6)


def test_pixels_keep_their_places():
    wide = np.stack([PREDICTIONS, PREDICTIONS[::-1]], axis=2)[:, :, :, None]  # [N, C, 2, 1, K]
    found = baal.scored(scores.bald, wide, "probs")
    expected = np.stack([BALD, BALD[::-1]], axis=1)[:, :, None]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_not_what_was_said_is_refused():
    with pytest.raises(errors.NotLogProbabilities):
        baal.scored(scores.bald, PREDICTIONS + 0.5, "probs")
    with pytest.raises(errors.WrongShape, match=r"\[N, C, ..., K\]"):
        baal.scored(scores.bald, PREDICTIONS[..., 0], "probs")
    broken = PREDICTIONS.copy()
    broken[4] = np.nan
    with pytest.raises(errors.NonFinite):
        baal.scored(scores.bald, broken, "probs")
    infinite = lambda log_probs: jnp.where(jnp.arange(log_probs.shape[1]) == 2, jnp.inf, 0.0)
    with pytest.raises(errors.NonFinite, match="2") as error:
        baal.scored(infinite, PREDICTIONS, "probs")
    assert error.value.rows.tolist() == [2]


@installed
def test_the_highest_score_ranks_first():
    from baal.active.heuristics import BALD as Theirs
    from baal.active.heuristics import AbstractHeuristic

    for score in (scores.bald, scores.margin):  # margin is negative
        heuristic = baal.heuristic(score, kind="probs")
        assert isinstance(heuristic, AbstractHeuristic) and heuristic.reversed is True
        ranks, values = heuristic.get_ranks(PREDICTIONS)
        assert list(ranks) == np.argsort(-np.asarray(score(LOG_P))).tolist()
        np.testing.assert_allclose(values, score(LOG_P), atol=1e-5)
    theirs, _ = Theirs().get_ranks(PREDICTIONS)
    assert list(baal.heuristic(scores.bald, kind="probs")(PREDICTIONS)) == list(theirs)


@installed
def test_a_strategy_ranks_its_batch_first():
    heuristic = baal.heuristic(acquire.batch_bald(), kind="probs", size=3)
    ranks = [int(row) for row in heuristic(PREDICTIONS)]
    assert ranks[:3] == oracles.greedy_batch_bald(P, 3)[0] and sorted(ranks) == list(range(9))


@installed
def test_scores_per_pixel_are_reduced():
    wide = np.stack([PREDICTIONS, PREDICTIONS], axis=2)
    values = baal.heuristic(scores.bald, kind="probs", reduction="mean").get_uncertainties(wide)
    np.testing.assert_allclose(values, BALD, atol=1e-6)


@installed
def test_arguments_are_checked_before_the_first_batch():
    with pytest.raises(errors.UnknownName, match="kind"):
        baal.heuristic(scores.bald, kind="softmax")
    with pytest.raises(errors.WrongType, match="`of`"):
        oracles.as_users_do(baal.heuristic)("bald", kind="probs")
    with pytest.raises(errors.WrongType, match="target_predictions"):
        baal.heuristic(scores.bald, kind="probs").compute_score(PREDICTIONS, PREDICTIONS)
