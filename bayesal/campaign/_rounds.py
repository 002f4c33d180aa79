"""Rounds: a `tell` and an `ask` of what is in the store, by one process at a time."""

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from bayesal import errors
from bayesal.campaign import _deal as deal
from bayesal.campaign import _items as items
from bayesal.campaign import _questions as asking
from bayesal.campaign import _read as read
from bayesal.campaign import _schema as schema
from bayesal.campaign import _states as states
from bayesal.campaign import _truth as truth
from bayesal.campaign import _turns as turns
from bayesal.campaign._recipe import Recipe
from bayesal.campaign._store import Store
from bayesal.loop import LearnerState

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

    wanted = read.wanted(connection, last.round)
    about = deal.tallies(read.about(connection, wanted), (), -1, 0.0)
    again = [row for row, count in wanted.items() if count > recipe.answers and row in about]
    settled = len(closed(upto) - closed(last.answers_upto))
    settled += sum(len(about[row].decided) >= wanted[row] for row in again)
    asked = len(wanted)
    enough = settled >= min(recipe.size, asked) and settled > 0
    seen = all(row in about and about[row].decided | about[row].unsure for row in wanted)
    used_up = seen and upto > last.answers_upto  # nobody here can say more about these
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
        ready=enough or used_up or late or grown,
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
            asked = list(read.wanted(connection, now.round))
        after = states.advanced(recipe, state, pool, answers)
        batch = asking.questions(recipe, after, pool, answers, asked)
        return _written(store, fence, now, after, _report(recipe, after), batch)


def current(store: Store, recipe: Recipe) -> tuple[LearnerState, np.ndarray]:
    """The state of the last round, and the pool. From the cache, or replayed to the bit."""
    with store.reading() as connection:
        pool = items.numbers(connection)
        state = states.last(connection, recipe, pool)
    if state is None:
        raise errors.BadStore("store", "this campaign has no round yet: `step()` begins it.")
    return state, pool


# --- one at a time


def _written(
    store: Store,
    fence: int,
    before: Position,
    state: LearnerState,
    report: dict[str, Any],
    batch: list[asking.Question],
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
                    wanted=question.wanted,
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
