"""What a campaign has come to: figures for people, and rows for files."""

import csv
import io
import itertools
import json
import math
import os
from collections import Counter, defaultdict
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.engine import Connection

from bayesal import _files, errors
from bayesal.campaign import _deal as deal
from bayesal.campaign import _items as items
from bayesal.campaign import _read as read
from bayesal.campaign import _rounds as rounds
from bayesal.campaign import _schema as schema
from bayesal.campaign import _truth as truth
from bayesal.campaign._recipe import Recipe

Z = 1.959964  # of a 95 % interval
PAUSE = 900.0  # seconds without an answer that count as a break


class Share(NamedTuple):
    """A share with its Wilson interval (95 %): `right` of `total`. None where that is 0."""

    right: int
    total: int
    share: float | None
    low: float | None
    high: float | None


class Round(NamedTuple):
    """One round.

    called: how often the net's most probable class was the answer, of the items of this round's
      batch that have one. The net had not seen them, and they were chosen because they are hard:
      it is a lower figure than on a fair sample.
    report: labels told, temperature, held-out NLL before and after it, hyperparameters.
    """

    round: int
    created: float
    asked: int
    answered: int
    called: Share
    report: dict[str, Any]


class Person(NamedTuple):
    """One annotator. agreement: with the other annotators, on shared items with a label of both."""

    annotator: str
    kinds: dict[str, int]
    seconds: float | None
    agreement: Share


class Progress(NamedTuple):
    """How far a campaign is.

    rows: items in the pool. settled: those that need no more answers. kinds: answers that count.
    per_hour: answers per hour of work; breaks of 15 minutes or more are left out. due: whether the
    round is complete. classes: answers of each class.
    """

    round: int
    rows: int
    settled: int
    answers: int
    kinds: dict[str, int]
    classes: dict[str, int]
    per_hour: float | None
    due: rounds.Due
    rounds: list[Round]
    people: list[Person]


def progress(connection: Connection, recipe: Recipe, now: float) -> Progress:
    """All figures of a campaign, in one view of the store."""
    answers = read.counted(connection, read.last_answer(connection))
    labels = [json.loads(a.value) for a in answers if a.kind == "label"]
    due = rounds.due(connection, recipe, now)
    return Progress(
        round=due.round,
        rows=items.count(connection),
        settled=len(truth.settled_rows(recipe, answers)),
        answers=len(answers),
        kinds={kind: sum(a.kind == kind for a in answers) for kind in schema.KINDS},
        classes={}
        if recipe.classes is None
        else {name: labels.count(name) for name in recipe.classes},
        per_hour=_per_hour(sorted(a.at for a in answers if a.kind != "skip")),
        due=due,
        rounds=_rounds(connection, recipe, answers),
        people=_people(answers),
    )


def export(
    connection: Connection, recipe: Recipe, path: str | os.PathLike | None
) -> list[dict[str, Any]]:
    """One record per answered item, and a file of them; see `Campaign.export`."""
    answers = read.counted(connection, read.last_answer(connection))
    closed = truth.settled_rows(recipe, answers)
    refused = truth.refused_rows(answers)
    labels = truth.labels_of(recipe, answers, lambda rows: None)
    at = {int(row): i for i, row in enumerate(labels.rows)}
    said: dict[int, list[Any]] = defaultdict(list)
    for answer in answers:
        if answer.kind != "skip":
            said[answer.row].append(answer)
    names = {item.row: item.id for item in connection.execute(select(schema.ITEMS))}
    records = [
        {
            "id": names[row],
            "row": row,
            **_verdict(recipe, labels, at.get(row), row in refused),
            "settled": row in closed,
            "answers": [
                {
                    "annotator": a.annotator,
                    "kind": a.kind,
                    "value": None if a.value is None else json.loads(a.value),
                    "round": a.round,
                    "at": a.at,
                    "seconds": a.seconds,
                }
                for a in said[row]
            ],
        }
        for row in sorted(said)
    ]
    if path is not None:
        _write(path, records)
    return records


# --- figures


def share(right: int, count: int) -> Share:
    """A share and its 95 % interval (Wilson 1927).

    >>> share(9, 10).low.__round__(3), share(9, 10).high.__round__(3)
    (0.596, 0.982)
    """
    if count == 0:
        return Share(right=0, total=0, share=None, low=None, high=None)
    p, z = right / count, Z
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Share(right=right, total=count, share=p, low=low, high=high)


def _per_hour(times: list[float]) -> float | None:
    gaps = [b - a for a, b in itertools.pairwise(times) if b - a < PAUSE]
    worked = sum(gaps)
    return None if worked <= 0 else len(gaps) / worked * 3600


def _rounds(connection: Connection, recipe: Recipe, answers: Any) -> list[Round]:
    columns = [c for c in schema.ROUNDS.c if c.name != "state"]
    asked: dict[int, list[Any]] = defaultdict(list)
    for ask in connection.execute(select(schema.ASKS)):
        asked[ask.round].append(ask)
    labels: dict[int, list[Any]] = defaultdict(list)
    for answer in answers:
        if answer.kind == "label":
            labels[answer.row].append(json.loads(answer.value))
    return [
        Round(
            round=row.round,
            created=row.created,
            asked=len(asked[row.round]),
            answered=sum(ask.row in labels for ask in asked[row.round]),
            called=_called(recipe, asked[row.round], labels),
            report=json.loads(row.report),
        )
        for row in connection.execute(select(*columns).order_by(schema.ROUNDS.c.round))
    ]


def _called(recipe: Recipe, asked: list[Any], labels: dict[int, list[Any]]) -> Share:
    if recipe.classes is None:
        return share(0, 0)
    right, count = 0, 0
    for ask in asked:
        belief = json.loads(ask.note)["belief"]
        if belief is None or ask.score is None or ask.row not in labels:
            continue
        common = Counter(labels[ask.row]).most_common(1)[0][0]
        right += recipe.classes[belief.index(max(belief))] == common
        count += 1
    return share(right, count)


def _people(answers: Any) -> list[Person]:
    by_row: dict[int, dict[str, Any]] = defaultdict(dict)
    for answer in answers:
        if answer.kind == "label":
            by_row[answer.row][answer.annotator] = answer.value
    found = []
    for name in sorted({answer.annotator for answer in answers}):
        mine = [answer for answer in answers if answer.annotator == name]
        pairs = [
            said[name] == value
            for said in by_row.values()
            if name in said
            for other, value in said.items()
            if other != name
        ]
        times = sorted(a.seconds for a in mine if a.seconds is not None)
        found.append(
            Person(
                annotator=name,
                kinds={kind: sum(a.kind == kind for a in mine) for kind in schema.KINDS},
                seconds=times[len(times) // 2] if times else None,
                agreement=share(sum(pairs), len(pairs)),
            )
        )
    return found


# --- files


def _verdict(recipe: Recipe, labels: truth.Labels, at: int | None, refused: bool) -> dict[str, Any]:
    """The label that the answers give, and how certain it is, from 0 to 1."""
    if refused:
        return {"label": None, "weight": 0.0, "kind": "reject"}
    if at is None or labels.weights[at] == 0:
        return {"label": None, "weight": 0.0, "kind": "abstain"}
    label = labels.labels[at]
    if recipe.classes is not None:
        label = recipe.classes[int(label.argmax() if label.ndim else label)]
    else:
        label = float(label)
    return {"label": label, "weight": round(float(labels.weights[at]), 4), "kind": "label"}


def _write(path: str | os.PathLike, records: list[dict[str, Any]]) -> None:
    text = str(path)
    if text.endswith(".jsonl"):
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    elif text.endswith(".csv"):
        lines = _csv(records)
    else:
        raise errors.BadPath("path", f"`path` ({text}) must end in .jsonl or .csv.")
    _files.write(path, lambda file: file.write(lines.encode()))


def _csv(records: list[dict[str, Any]]) -> str:
    """One line an item; how many answers, and by whom, in place of the answers."""
    file = io.StringIO()
    head = ("id", "row", "label", "weight", "kind", "settled")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*head, "answers", "annotators"])
    for record in records:
        people = [answer["annotator"] for answer in record["answers"]]
        writer.writerow([*(record[key] for key in head), len(people), " ".join(sorted(people))])
    return file.getvalue()


def holding(connection: Connection, now: float) -> int:
    """How many items are in front of people now."""
    answered = select(schema.ANSWERS.c.token)
    leases = connection.execute(
        select(schema.LEASES).where(schema.LEASES.c.token.not_in(answered))
    ).all()
    return sum(deal.live(lease, now) for lease in leases)
