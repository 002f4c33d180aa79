"""Rounds: a `tell` and an `ask` of what is in the store, by one process at a time."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from bayesal import acquire, errors
from bayesal._choose import choose
from bayesal._warnings import warn
from bayesal.campaign import _items as items
from bayesal.campaign import _read as read
from bayesal.campaign import _schema as schema
from bayesal.campaign import _states as states
from bayesal.campaign import _truth as truth
from bayesal.campaign import _turns as turns
from bayesal.campaign._recipe import Recipe
from bayesal.campaign._store import Store
from bayesal.loop import LearnerState
from bayesal.types import Selection

KEPT = 2  # states in the store; older ones can be replayed


class Due(NamedTuple):
    """How far a round is.

    round: the current one; -1 before the first.
    settled: items that need no more answers, since the round began.
    size: as many end the round.
    ready: whether `step` would begin a new one.
    """

    round: int
    settled: int
    size: int
    ready: bool


class Question(NamedTuple):
    """An item of a batch. score: None where it comes from the round before. belief: probabilities
    `[C]` of the classes, or mean and standard deviation; None before the first label.
    """

    row: int
    score: float | None
    belief: list[float] | None


class Position(NamedTuple):
    """What a round is computed from: rows of the pool, and answers up to a number."""

    round: int
    rows: int
    answers_upto: int


def due(connection: Connection, recipe: Recipe, now: float) -> Due:
    """Whether the current round has ended."""
    last = read.latest(connection)
    if last is None:
        return Due(round=-1, settled=0, size=recipe.size, ready=True)
    upto = read.last_answer(connection)

    def closed(upto: int) -> set[int]:  # rows without a new answer are closed as they were
        answers = read.counted(connection, upto, since=last.answers_upto)
        return truth.settled_rows(recipe, answers, read.people(connection, upto))

    settled = len(closed(upto) - closed(last.answers_upto))
    asked = len(read.asked(connection, last.round))
    enough = settled >= min(recipe.size, asked) and settled > 0
    grown = items.count(connection) > last.rows and asked < recipe.size
    late = (
        recipe.deadline is not None
        and upto > last.answers_upto
        and now >= last.created + recipe.deadline
    )
    return Due(
        round=last.round,
        settled=settled,
        size=min(recipe.size, asked),
        ready=enough or late or grown,
    )


def step(store: Store, recipe: Recipe, *, force: bool = False) -> int | None:
    """Compute the next round if it is due, and nobody else does; its number, or None.

    Nothing is written before all of it is computed. Whoever was taken for dead finds another
    fence, and what it computed is dropped.
    """
    with store.reading() as connection:
        if not (force or due(connection, recipe, store.clock()).ready):
            return None
    with turns.turn(store) as fence:
        if fence is None:
            return None
        with store.reading() as connection:
            if not (force or due(connection, recipe, store.clock()).ready):
                return None  # somebody was quicker
            now = Position(
                round=-1 if (last := read.latest(connection)) is None else last.round,
                rows=items.count(connection),
                answers_upto=read.last_answer(connection),
            )
            pool = items.numbers(connection)
            state = states.last(connection, recipe, pool)
            answers = read.counted(connection, now.answers_upto)
            asked = read.asked(connection, now.round)
        after = states.advanced(recipe, state, pool, answers)
        batch = questions(recipe, after, pool, answers, asked)
        return _written(store, fence, now, after, _report(recipe, after), batch)


def current(store: Store, recipe: Recipe) -> tuple[LearnerState, np.ndarray]:
    """The state of the last round, and the pool. From the cache, or replayed to the bit."""
    with store.reading() as connection:
        pool = items.numbers(connection)
        state = states.last(connection, recipe, pool)
    if state is None:
        raise errors.BadStore("store", "this campaign has no round yet: `step()` begins it.")
    return state, pool


# --- what a round is


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
    begun = {a.row for a in answers if a.kind != "skip"} - settled
    carried = [row for row in asked if row in begun]
    free = len(pool) - len(set(map(int, state.ledger.rows())) | begun)
    fresh = []
    if free > 0:
        taken = sorted(begun - set(map(int, state.ledger.rows())))
        selection = _selected(recipe, state, pool, taken)
        fresh = list(zip(np.asarray(selection.indices), np.asarray(selection.scores), strict=True))
    picks = [(row, None) for row in carried] + [(int(row), float(score)) for row, score in fresh]
    beliefs = _beliefs(recipe, state, pool, [row for row, _ in picks])
    return [
        Question(row=row, score=score if score is None or np.isfinite(score) else None, belief=b)
        for (row, score), b in zip(picks, beliefs, strict=True)
    ]


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


# --- one at a time


def _written(
    store: Store,
    fence: int,
    before: Position,
    state: LearnerState,
    report: dict[str, Any],
    batch: list[Question],
) -> int | None:
    """The round, in one transaction; None where another process wrote it meanwhile."""
    data, rounds = states.packed(state), schema.ROUNDS.c
    with store.writing() as connection:
        if connection.scalar(select(schema.LOCK.c.fence)) != fence:
            return None
        number = before.round + 1
        connection.execute(
            insert(schema.ROUNDS).values(
                round=number,
                answers_upto=before.answers_upto,
                rows=before.rows,
                created=store.clock(),
                report=json.dumps(report),
                capacity=state.ledger.capacity,
                sha256=hashlib.sha256(data).hexdigest(),
                state=data,
            )
        )
        for rank, question in enumerate(batch):
            connection.execute(
                insert(schema.ASKS).values(
                    round=number,
                    row=question.row,
                    rank=rank,
                    score=question.score,
                    note=json.dumps({"belief": question.belief}),
                )
            )
        connection.execute(
            update(schema.ROUNDS).where(rounds.round <= number - KEPT).values(state=None)
        )
    return number


def _report(recipe: Recipe, state: LearnerState) -> dict[str, Any]:
    """What people may want to know about a round, as JSON."""
    weight = np.asarray(state.ledger.weight)
    told: dict[str, Any] = {
        "labels": int((weight > 0).sum()),
        "fits": int(state.round),
        "hparams": {
            name: float(value)
            for name, value in state.hparams._asdict().items()
            if name not in recipe.posterior.unused
        },
    }
    if not isinstance(state.temperature, tuple):  # a `Scaling` has a number per class
        told["temperature"] = round(float(np.asarray(state.temperature)), 4)
    if recipe.document["calibrate"] is not None and state.report is not None and told["labels"]:
        calibration = state.report.calibration
        for name in ("nll_before", "nll_after"):
            value = getattr(calibration, name, None)
            if value is not None and np.isfinite(value):
                told[name] = round(float(value), 4)
    return told
