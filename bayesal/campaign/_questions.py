"""The batch of a round: what is asked, how often, and what the net believes of it."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bayesal import acquire, annotators, errors
from bayesal._choose import choose
from bayesal._warnings import warn
from bayesal.campaign import _states as states
from bayesal.campaign import _truth as truth
from bayesal.campaign._recipe import Recipe
from bayesal.loop import LearnerState
from bayesal.types import Selection


class Question(NamedTuple):
    """An item of a batch.

    score: None where it comes from the round before.
    wanted: decisions about it, in all; above `Recipe.answers` where it is asked once more.
    belief: probabilities `[C]` of the classes, or mean and standard deviation; None before the
      first label.
    """

    row: int
    score: float | None
    wanted: int
    belief: list[float] | None


def questions(
    recipe: Recipe,
    state: LearnerState,
    pool: np.ndarray,
    answers: Sequence[Any],
    asked: Sequence[int],
) -> list[Question]:
    """The batch of a round: what was begun and is not settled, then what the learner asks.

    Args:
      asked: rows of the round before, in their order.
    """
    settled = truth.settled_rows(recipe, answers)
    known = set(map(int, state.ledger.rows()))
    begun = {a.row for a in answers if a.kind != "skip"} - settled
    carried = [(row, None, recipe.answers) for row in asked if row in begun]
    fresh: list[tuple[int, float | None, int]] = []
    if len(pool) > len(known | begun):
        selection = _selected(recipe, state, pool, sorted(begun - known))
        picked = zip(np.asarray(selection.indices), np.asarray(selection.scores), strict=True)
        fresh = [(int(row), float(score), recipe.answers) for row, score in picked]
    if recipe.again is not None and recipe.classes is not None and known:
        fresh = _mixed(recipe, state, pool, answers, fresh, begun)
    picks = [*carried, *fresh]
    beliefs = _beliefs(recipe, state, pool, [row for row, _, _ in picks])
    return [
        Question(row=row, score=_finite(score), wanted=wanted, belief=belief)
        for (row, score, wanted), belief in zip(picks, beliefs, strict=True)
    ]


def _mixed(
    recipe: Recipe,
    state: LearnerState,
    pool: np.ndarray,
    answers: Sequence[Any],
    fresh: list[tuple[int, float | None, int]],
    begun: set[int],
) -> list[tuple[int, float | None, int]]:
    """New items and answered ones in one order, by nats per cost; see `annotators.rank`.

    A new item counts what it tells about the net through the annotator who would tell most, an
    answered one what somebody else would tell about its class. Scores are nats per cost.
    """
    prior = functools.partial(states.prior, recipe, state, pool)
    found = truth.agreement(recipe, answers, prior)
    if found is None:  # there is nobody else
        return fresh
    rows, table, agreed = found
    gain = np.array(annotators.information(agreed, table))
    gain[np.isin(rows, sorted(begun))] = -np.inf  # they are asked anyway
    tells = jnp.zeros((0, table.shape[1]))
    if fresh:
        x = jnp.asarray(np.asarray(pool[np.array([row for row, _, _ in fresh])]))
        tells = annotators.noisy_bald(agreed, jnp.asarray(states.predictive(recipe, state)(x)))
    best = lambda scores: np.asarray(scores).max(axis=1, keepdims=True)
    size = recipe.size + recipe.document["spare"]
    order = annotators.rank(best(gain), best(tells), size, again_cost=recipe.again)
    decided = (table >= 0).sum(axis=1)
    return [
        (fresh[i][0], float(score), recipe.answers)
        if new
        else (int(rows[i]), float(score), int(decided[i]) + 1)
        for new, i, score in zip(order.new, order.items, order.scores, strict=True)
    ]


def _finite(score: float | None) -> float | None:
    return score if score is None or np.isfinite(score) else None


def _selected(recipe: Recipe, state: LearnerState, pool: np.ndarray, taken: list[int]) -> Selection:
    """What the learner asks; by chance where its scores are all the same, for people wait."""
    try:
        return recipe.learner.ask(state, pool, exclude=taken or None)
    except errors.ConstantScores:
        free = np.array(state.ledger.available(len(pool)))
        free[taken] = False
        size = min(recipe.size + recipe.document["spare"], int(free.sum()))
        warn(f"round {int(state.round)}: all scores are the same; the batch is drawn by chance.")
        chance = acquire.uniform()
        seed = recipe.document["seed"] + int(state.round)
        return choose(seed, states.predictive(recipe, state), pool, size, chance, available=free)


def _beliefs(
    recipe: Recipe, state: LearnerState, pool: np.ndarray, rows: list[int]
) -> list[list[float] | None]:
    known = int((np.asarray(state.ledger.weight) > 0).sum())
    if not rows or known == 0:
        return [None] * len(rows)
    x = jnp.asarray(np.asarray(pool[np.array(rows)]))
    bound = states.predictive(recipe, state)
    if recipe.classes is None:
        mean, variance = bound.moments(x)
        said = np.stack([np.asarray(mean), np.sqrt(np.asarray(variance))], axis=-1)
    else:
        said = np.exp(np.asarray(bound.log_probs(x)))
    return [[round(float(v), 4) for v in row] for row in said]
