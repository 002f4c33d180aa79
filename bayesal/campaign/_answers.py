"""Questions handed out, and answers taken: each in one transaction."""

import json
import math
import secrets
from typing import Any, NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from bayesal import errors
from bayesal.campaign import _deal as deal
from bayesal.campaign import _read as read
from bayesal.campaign import _schema as schema
from bayesal.campaign._recipe import Recipe
from bayesal.campaign._store import Store


class Ask(NamedTuple):
    """A question for one annotator.

    token: what the answer is sent with; it never expires.
    row, id: of the item.
    show: what people see of it, such as `{"text": ...}`; None: the row's numbers.
    round, rank: where in which batch it stands.
    score: of the strategy; None where the item comes from the round before.
    belief: probabilities of the classes (real labels: mean and standard deviation), where the
      recipe shows them before the answer.
    until: until when the item is kept for this annotator.
    """

    token: str
    row: int
    id: str
    show: dict[str, Any] | None
    round: int
    rank: int
    score: float | None
    belief: list[float] | None
    until: float


class Receipt(NamedTuple):
    """An answer that is on disk.

    number: its place among all answers.
    repeated: the very answer was there already.
    belief: what the net believed before, where the recipe shows it after the answer.
    """

    number: int
    token: str
    row: int
    id: str
    kind: str
    value: Any
    repeated: bool
    belief: list[float] | None


def hand_out(store: Store, recipe: Recipe, annotator: str, most: int) -> list[Ask]:
    """Up to `most` questions for an annotator; what she holds comes first, and is kept longer."""
    with store.writing() as connection:
        last, now = read.latest(connection), store.clock()
        if last is None:
            return []
        asks = connection.execute(
            select(schema.ASKS, schema.ITEMS.c.id, schema.ITEMS.c.show)
            .join(schema.ITEMS, schema.ITEMS.c.row == schema.ASKS.c.row)
            .where(schema.ASKS.c.round == last.round)
            .order_by(schema.ASKS.c.rank)
        ).all()
        by_row = {ask.row: ask for ask in asks}
        answers = read.about(connection, list(by_row))
        leases = _leases_of(connection, list(by_row))
        found = deal.tallies(answers, leases, last.round, now)
        wanted = {row: ask.wanted for row, ask in by_row.items()}
        rows = deal.offered(wanted, found, annotator, most)
        return [
            _leased(connection, recipe, by_row[row], annotator, leases, answers, now)
            for row in rows
        ]


def take(
    store: Store,
    recipe: Recipe,
    token: Any,
    kind: Any,
    value: Any,
    *,
    annotator: str | None,
    seconds: Any,
    revise: bool,
) -> Receipt:
    """Write an answer. The same answer again changes nothing; see `Campaign.answer`."""
    value, seconds = _checked(recipe, kind, value), _seconds(seconds)
    with store.writing() as connection:
        lease, at = _lease(connection, token, annotator), store.clock()
        said = _Said(kind=kind, value=value, seconds=seconds, at=at)
        return _written(connection, recipe, lease, said, revise=revise)


def record(
    store: Store,
    recipe: Recipe,
    item: Any,
    annotator: str,
    kind: Any,
    value: Any,
    *,
    key: str | None,
    at: float | None,
) -> Receipt:
    """Write an answer that was given elsewhere; see `Campaign.record`."""
    value = _checked(recipe, kind, value)
    token = f"elsewhere {annotator} {item}" if key is None else f"elsewhere {key}"
    with store.writing() as connection:
        ids, leases, last = schema.ITEMS.c, schema.LEASES.c, read.latest(connection)
        row = connection.scalar(select(ids.row).where(ids.id == str(item)))
        if row is None:
            raise errors.WrongIndex("item", f"`item` {item!r:.100} is no item of this campaign.")
        now = store.clock()
        lease = connection.execute(select(schema.LEASES).where(leases.token == token)).first()
        if lease is None:
            new = {
                "token": token,
                "row": row,
                "annotator": annotator,
                "round": 0 if last is None else last.round,
                "issued": now,
                "until": now,
            }
            connection.execute(insert(schema.LEASES), [new])
        elif (lease.row, lease.annotator) != (row, annotator):
            raise errors.Conflict(
                "key", f"`key` {key!r:.100} is an answer about another item or by somebody else."
            )
        lease = _lease(connection, token, annotator)
        said = _Said(kind=kind, value=value, seconds=None, at=now if at is None else at)
        return _written(connection, recipe, lease, said, revise=True, ordered=at is not None)


class _Said(NamedTuple):
    """A checked answer: its value is JSON."""

    kind: str
    value: str | None
    seconds: float | None
    at: float


def _written(
    connection: Connection,
    recipe: Recipe,
    lease: Any,
    said: _Said,
    *,
    revise: bool,
    ordered: bool = False,
) -> Receipt:
    """The answer, once.

    Args:
      ordered: an answer that is older than the one there is changes nothing.
    """
    answers, token = schema.ANSWERS.c, lease.token
    mine = (answers.row == lease.row) & (answers.annotator == lease.annotator)
    newest = select(schema.ANSWERS).order_by(answers.number.desc()).limit(1)
    counts = connection.execute(newest.where(mine & answers.revoked_by.is_(None))).first()
    sent = connection.execute(newest.where(answers.token == token)).first()
    given = (token, said.kind, said.value)
    same = lambda a: a is not None and (a.token, a.kind, a.value) == given
    late = ordered and sent is not None and said.at < sent.at
    if late or same(counts) or (same(sent) and not revise):
        return _receipt(connection, recipe, sent, repeated=True)
    if sent is not None and sent.kind != "skip" and not revise:
        raise errors.Conflict(
            "value",
            f"this question has the answer {_words(sent.kind, sent.value)} already, and "
            f"{_words(said.kind, said.value)} is another one. To correct it pass revise=True; the "
            "old answer is kept.",
        )
    number = read.last_answer(connection) + 1
    if counts is not None:
        old = update(schema.ANSWERS).where(answers.number == counts.number)
        connection.execute(old.values(revoked_by=number))
    new = {
        **said._asdict(),
        "number": number,
        "token": token,
        "row": lease.row,
        "annotator": lease.annotator,
        "round": lease.round,
        "revoked_by": None,
    }
    connection.execute(insert(schema.ANSWERS), [new])
    written = connection.execute(newest.where(answers.number == number)).one()
    return _receipt(connection, recipe, written, repeated=False)


def name(annotator: Any) -> str:
    """A checked name of an annotator."""
    if not isinstance(annotator, str) or not 0 < len(annotator) <= 100 or annotator.isspace():
        raise errors.WrongType(
            "annotator",
            f"`annotator` must be a name of 1 to 100 characters, got {annotator!r:.120}.",
        )
    return annotator


# --- parts


def _leases_of(connection: Connection, rows: list[int]) -> list[Any]:
    return list(connection.execute(select(schema.LEASES).where(schema.LEASES.c.row.in_(rows))))


def _leased(
    connection: Connection,
    recipe: Recipe,
    ask: Any,
    annotator: str,
    leases: list[Any],
    answers: list[Any],
    now: float,
) -> Ask:
    """The question, and the lease that keeps it: the one this annotator has, or a new one."""
    until = now + recipe.lease
    token = _held(ask, annotator, leases, answers, now)
    if token is not None:
        held = update(schema.LEASES).where(schema.LEASES.c.token == token)
        connection.execute(held.values(until=until))
    else:
        token = secrets.token_urlsafe(18)
        new = {
            "token": token,
            "row": ask.row,
            "annotator": annotator,
            "round": ask.round,
            "issued": now,
            "until": until,
        }
        connection.execute(insert(schema.LEASES), [new])
    belief = json.loads(ask.note)["belief"] if recipe.beliefs == "before" else None
    return Ask(
        token=token,
        row=ask.row,
        id=ask.id,
        show=None if ask.show is None else json.loads(ask.show),
        round=ask.round,
        rank=ask.rank,
        score=ask.score,
        belief=belief,
        until=until,
    )


def _held(
    ask: Any, annotator: str, leases: list[Any], answers: list[Any], now: float
) -> str | None:
    """The token of a question that this annotator has in front of her."""
    used = {answer.token for answer in answers}
    for lease in leases:
        same = (lease.row, lease.annotator, lease.round) == (ask.row, annotator, ask.round)
        if same and lease.token not in used and deal.live(lease, now):
            return lease.token
    return None


def _lease(connection: Connection, token: Any, annotator: str | None) -> Any:
    found = None
    if isinstance(token, str):
        found = connection.execute(
            select(schema.LEASES).where(schema.LEASES.c.token == token)
        ).first()
    if found is None or annotator not in (None, found.annotator):
        raise errors.UnknownToken(
            "token",
            "`token` belongs to no question of this campaign"
            + ("." if annotator is None else f" that {annotator!r} was asked.")
            + " Pass the token that came with the question.",
        )
    return found


def _checked(recipe: Recipe, kind: Any, value: Any) -> str | None:
    """An answer's value as JSON, or an error that says what it may be."""
    if kind not in schema.KINDS:
        raise errors.WrongLabel(
            "kind", f"`kind` must be one of {', '.join(schema.KINDS)}, got {kind!r}."
        )
    if kind != "label":
        if value is not None:
            raise errors.WrongLabel(
                "value", f"an answer of kind {kind!r} has no value, got {value!r:.100}."
            )
        return None
    if recipe.classes is None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise errors.WrongLabel(
                "value", f"`value` must be a finite number, got {value!r:.100}."
            )
        return json.dumps(float(value))
    if not isinstance(value, str) or value not in recipe.classes:
        raise errors.WrongLabel(
            "value",
            f"`value` must be the name of a class ({', '.join(recipe.classes)[:300]}), got "
            f"{value!r:.100}.",
        )
    return json.dumps(value)


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _seconds(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not _finite(seconds):
        raise errors.OutOfRange("seconds", f"`seconds` must be a number, got {seconds!r:.100}.")
    if seconds < 0:
        raise errors.OutOfRange("seconds", f"`seconds` must be at least 0, got {seconds}.")
    return float(seconds)


def _words(kind: str, value: str | None) -> str:
    return repr(kind) if value is None else value


def _receipt(connection: Connection, recipe: Recipe, answer: Any, *, repeated: bool) -> Receipt:
    asks, items = schema.ASKS.c, schema.ITEMS.c
    belief = None
    if recipe.beliefs != "never" and answer.kind != "skip":
        note = connection.scalar(
            select(asks.note).where((asks.round == answer.round) & (asks.row == answer.row))
        )
        belief = None if note is None else json.loads(note)["belief"]
    return Receipt(
        number=answer.number,
        token=answer.token,
        row=answer.row,
        id=connection.execute(select(items.id).where(items.row == answer.row)).scalar_one(),
        kind=answer.kind,
        value=None if answer.value is None else json.loads(answer.value),
        repeated=repeated,
        belief=belief,
    )
