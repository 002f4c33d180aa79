"""The learner's state: a function of recipe, pool and answers, and a copy of it in the store."""

import functools
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from sqlalchemy import select
from sqlalchemy.engine import Connection

from bayesal import _maths, errors
from bayesal.campaign import _read as read
from bayesal.campaign import _schema as schema
from bayesal.campaign import _truth as truth
from bayesal.campaign._recipe import Recipe
from bayesal.loop import LearnerState, checkpoint, grow, out_of_fold, predictive_of
from bayesal.predictive import Predictive


def advanced(
    recipe: Recipe, state: LearnerState | None, pool: np.ndarray, answers: Sequence[Any]
) -> LearnerState:
    """The state that knows the answers; a function of its arguments alone."""
    state = first(recipe, pool) if state is None else state
    for _ in range(
        2 if recipe.answers > 1 or recipe.again is not None else 1
    ):  # the net's prior, then that of a better net
        said = functools.partial(prior, recipe, state, pool)
        state = _told(recipe, state, pool, truth.labels_of(recipe, answers, said))
    return state


def first(recipe: Recipe, pool: np.ndarray) -> LearnerState:
    """The state before any answer; what a recipe and a pool cannot do together shows here.

    Raises:
      BadRecipe: another number of classes than the posterior has.
      WrongShape, WrongType: the network cannot take these examples.
    """
    state = recipe.learner.init(recipe.document["seed"], pool)
    if recipe.classes is not None:
        x = jnp.asarray(np.asarray(pool[:1]))
        outputs = predictive(recipe, state).log_probs(x).shape[-1]
        if outputs != len(recipe.classes):
            raise errors.BadRecipe(
                "recipe",
                f"`classes` names {len(recipe.classes)} classes, and the posterior has {outputs} "
                "outputs.",
            )
    return state


def _told(
    recipe: Recipe, state: LearnerState, pool: np.ndarray, labels: truth.Labels
) -> LearnerState:
    news = _changed(state, labels)
    if not news.any():
        return state
    least = recipe.document["num_folds"] or 5
    holds_out = any(recipe.document[part] is not None for part in ("calibrate", "retune"))
    if holds_out and (labels.weights > 0).sum() < least:
        return state  # too few to hold any out: they are told with the next ones
    return recipe.learner.tell(
        state,
        pool,
        labels.rows[news],
        labels.labels[news],
        weights=labels.weights[news],
        known="replace",
    )


def _changed(state: LearnerState, labels: truth.Labels) -> np.ndarray:
    """Which labels the state does not know as they are."""
    rows = state.ledger.rows()
    at = {int(row): place for place, row in enumerate(rows)}
    old, weight = np.asarray(state.ledger.labels), np.asarray(state.ledger.weight)

    def news(i: int) -> bool:
        place = at.get(int(labels.rows[i]))
        if place is None:
            return True
        if weight[place] == labels.weights[i] == 0:
            return False
        same = np.array_equal(old[place], labels.labels[i])
        return not (same and weight[place] == np.float32(labels.weights[i]))

    return np.array([news(i) for i in range(len(labels.rows))], bool)


def prior(
    recipe: Recipe, state: LearnerState, pool: np.ndarray, rows: np.ndarray
) -> np.ndarray | None:
    """The averaged log-probabilities of rows by fits that did not see them; None before there are
    labels enough.
    """
    known = state.ledger.rows()
    usable = int((np.asarray(state.ledger.weight)[: len(known)] > 0).sum())
    if usable < 10:
        return None
    said = np.array(predictive(recipe, state).log_probs(np.asarray(pool[rows])))
    held_out, _, valid = out_of_fold(recipe.posterior, state, pool)
    averaged = np.asarray(_maths.log_mean_exp(jnp.asarray(held_out)))
    at = {int(row): i for i, row in enumerate(known) if bool(valid[i])}
    for i, row in enumerate(rows):
        if int(row) in at:
            said[i] = averaged[at[int(row)]]
    return said


def predictive(recipe: Recipe, state: LearnerState) -> Predictive:
    """The predictive that `ask` uses."""
    return predictive_of(recipe.posterior, state, recipe.document["num_draws"])


# --- copies in the store


def last(connection: Connection, recipe: Recipe, pool: np.ndarray) -> LearnerState | None:
    """The state of the last round, from the newest whole copy; rounds after it are replayed."""
    rounds = connection.execute(select(schema.ROUNDS).order_by(schema.ROUNDS.c.round)).all()
    if not rounds:
        return None
    for past in reversed(rounds):
        state = _cached(recipe, pool, past)
        if state is not None:
            break
    else:
        past, state = None, None
    for row in rounds:
        if past is None or row.round > past.round:
            state = advanced(
                recipe, state, pool[: row.rows], read.counted(connection, row.answers_upto)
            )
    return state


def _cached(recipe: Recipe, pool: np.ndarray, row: Any) -> LearnerState | None:
    if row.state is None or hashlib.sha256(row.state).hexdigest() != row.sha256:
        return None
    like = recipe.learner.init(recipe.document["seed"], pool)  # for its structure alone
    if row.capacity > like.ledger.capacity:
        like = grow(like, row.capacity)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.npz"
        path.write_bytes(row.state)
        try:
            return checkpoint.restore(path, like=like)
        except errors.BadCheckpoint:  # of another version of bayesal: the answers have it all
            return None


def packed(state: LearnerState) -> bytes:
    """A checkpoint of the state as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.npz"
        checkpoint.save(path, state)
        return path.read_bytes()
