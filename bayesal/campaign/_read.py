"""What is in the store: rounds, questions and the answers that count."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.engine import Connection

from bayesal.campaign import _schema as schema


class Asked(NamedTuple):
    """An item of the present batch.

    row, id: of the item. rank: its place in the batch.
    score: of the strategy; None where it comes from the round before.
    belief: what the net says of it: probabilities of the classes, or mean and standard deviation.
    """

    row: int
    id: str
    rank: int
    score: float | None
    belief: list[float] | None


def latest(connection: Connection) -> Any | None:
    """The last round, without its state."""
    columns = [column for column in schema.ROUNDS.c if column.name != "state"]
    return connection.execute(
        select(*columns).order_by(schema.ROUNDS.c.round.desc()).limit(1)
    ).first()


def last_answer(connection: Connection) -> int:
    """The number of the last answer; 0 before the first."""
    numbers = schema.ANSWERS.c.number
    return connection.execute(select(func.coalesce(func.max(numbers), 0))).scalar_one()


def counted(connection: Connection, upto: int, *, since: int = 0) -> Sequence[Any]:
    """The answers that counted when `upto` was the last one, in their order; all of them, or those
    about rows with an answer after number `since`.
    """
    answers = schema.ANSWERS.c
    found = select(schema.ANSWERS).where(_counts(upto)).order_by(answers.number)
    if since > 0:
        found = found.where(answers.row.in_(select(answers.row).where(answers.number > since)))
    return connection.execute(found).all()


def people(connection: Connection, upto: int) -> int:
    """How many annotators had an answer that counted when `upto` was the last one."""
    names = func.count(schema.ANSWERS.c.annotator.distinct())
    return connection.execute(select(names).where(_counts(upto))).scalar_one()


def _counts(upto: int) -> ColumnElement[bool]:
    answers = schema.ANSWERS.c
    return (answers.number <= upto) & or_(answers.revoked_by.is_(None), answers.revoked_by > upto)


def batch(connection: Connection) -> list[Asked]:
    """The present batch, in its order."""
    asks, items = schema.ASKS.c, schema.ITEMS.c
    last = latest(connection)
    if last is None:
        return []
    found = connection.execute(
        select(asks.row, items.id, asks.rank, asks.score, asks.note)
        .join(schema.ITEMS, items.row == asks.row)
        .where(asks.round == last.round)
        .order_by(asks.rank)
    )
    return [Asked(*row[:-1], json.loads(row.note)["belief"]) for row in found]


def wanted(connection: Connection, round: int) -> dict[int, int]:
    """Rows of a round's batch in its order, and how many decisions are wanted about each."""
    asks = schema.ASKS.c
    found = select(asks.row, asks.wanted).where(asks.round == round).order_by(asks.rank)
    return {ask.row: ask.wanted for ask in connection.execute(found)}


def about(connection: Connection, rows: Iterable[int]) -> list[Any]:
    """The answers that count now about some rows."""
    answers = schema.ANSWERS.c
    found = answers.row.in_(list(rows)) & answers.revoked_by.is_(None)
    return list(connection.execute(select(schema.ANSWERS).where(found)))
