"""What happens to a campaign when things go wrong: every fault at every step, counted.

A scripted campaign of three people is run once undisturbed. Then every operation is repeated from a
copy of the store, once for every statement it sends to the disk and every kind of fault; the caller
tries again, as a browser or a worker would, and the store must be what it was undisturbed: no
answer lost, none doubled, no pick changed.

    python -m experiments.faults            # all of them, some minutes
    python -m experiments.faults --every 20 # one in twenty
"""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy
from sqlalchemy import event

from bayesal import campaign, errors

CLASSES = ("left", "right")
X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
RECIPE = {
    "classes": list(CLASSES),
    "size": 4,
    "spare": 2,
    "posterior": {"call": "posteriors.logistic", "args": [2]},
    "num_draws": 4,
    "first": "k_center",
}
NOW = 1_000_000.0
FOLDER = Path(__file__).parent / "results" / "faults"


# --- faults


class Killed(BaseException):
    """The process ends here: nothing after it runs."""


KINDS: dict[str, Callable[[], BaseException]] = {
    "process killed": Killed,
    "disk full": lambda: sqlite3.OperationalError("database or disk is full"),
    "input/output error": lambda: sqlite3.OperationalError("disk I/O error"),
}


class _Plan:
    """Which step fails, and how. A step is a statement, or a commit: before it and after it."""

    def __init__(self) -> None:
        self.steps, self.at, self.kind, self.dead = 0, -1, "", False

    def begin(self, at: int = -1, kind: str = "") -> None:
        self.steps, self.at, self.kind, self.dead = 0, at, kind, False

    def step(self) -> None:
        if self.dead:  # a dead process sends nothing, not even a rollback
            raise Killed
        self.steps += 1
        if self.steps - 1 == self.at:
            self.dead = self.kind == "process killed"
            raise KINDS[self.kind]()


PLAN = _Plan()


class _Time:
    """The clock of all stores here."""

    now = NOW


TIME = _Time()


class _Cursor(sqlite3.Cursor):
    def execute(self, *args: Any) -> "sqlite3.Cursor":
        PLAN.step()
        return super().execute(*args)

    def executemany(self, *args: Any) -> "sqlite3.Cursor":
        PLAN.step()
        return super().executemany(*args)


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def commit(self) -> None:
        PLAN.step()
        super().commit()
        PLAN.step()

    def rollback(self) -> None:
        if not PLAN.dead:
            super().rollback()


@contextmanager
def faulty() -> Iterator[_Plan]:
    """Every connection to SQLite inside goes through the plan."""

    def connect(_dialect: Any, _record: Any, args: Any, options: Any) -> sqlite3.Connection:
        return sqlite3.connect(*args, factory=_Connection, **options)

    PLAN.begin()
    event.listen(sqlalchemy.Engine, "do_connect", connect)
    try:
        yield PLAN
    finally:
        event.remove(sqlalchemy.Engine, "do_connect", connect)
        PLAN.begin()


# --- the script


class Op(NamedTuple):
    """An operation: its name, and what it does with the store at a path."""

    name: str
    run: Callable[[Path], Any]


def right(row: int) -> str:
    """What a person who knows says about a row."""
    return CLASSES[int(X[row, 0] > 0)]


@contextmanager
def using(path: Path) -> Iterator[Any]:
    """The campaign at a path; its connections are closed at the end."""
    running = campaign.open(path, clock=lambda: TIME.now)
    try:
        yield running
    finally:
        running.store.engine.dispose()


def _create(path: Path) -> None:
    try:
        campaign.create(path, X, RECIPE, clock=lambda: TIME.now).store.engine.dispose()
    except ValueError:  # it is there already
        try:
            with using(path) as running:
                running.step()
        except ValueError:  # its creation was cut short: as the message says, delete it
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            _create(path)


def _verb(name: str, *args: Any, **named: Any) -> Callable[[Path], Any]:
    def run(path: Path) -> Any:
        with using(path) as running:
            return getattr(running, name)(*args, **named)

    return run


def _add(path: Path) -> None:
    with using(path) as running, suppress(errors.WrongIndex):  # they are there: it had worked
        running.add(X[:2] + 9, ids=["new 1", "new 2"])


def script(path: Path) -> Iterator[Op]:
    """The operations of a campaign, in order; later ones depend on what earlier ones brought."""
    yield Op("create", _create)
    for _ in range(3):
        for who in ("ann", "bob", "eve"):
            yield Op("next", _verb("next", who, 2))
        for number, (who, token, row) in enumerate(_held(path)):
            kind = ("label", "abstain")[number == 5]
            value = right(row) if kind == "label" else None
            send = _verb("answer", token, kind, value, annotator=who, seconds=1.5)
            yield Op("answer", send)
            if number == 1:
                other = CLASSES[1 - CLASSES.index(right(row))]
                yield Op("correct", _verb("answer", token, "label", other, revise=True))
        yield Op("step", _verb("step"))
    yield Op("add", _add)
    yield Op("invite", _verb("invite", "ann"))
    yield Op("progress", _verb("progress"))


def _held(path: Path) -> list[tuple[str, str, int]]:
    """Annotator, token and row of every question without an answer."""
    with closing(path) as connection:
        return connection.execute(
            "select annotator, token, row from leases where token not in "
            "(select token from answers) order by rowid"
        ).fetchall()


@contextmanager
def closing(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        yield connection
    finally:
        connection.close()


def content(path: Path) -> list[Any]:
    """What a store says: answers, picks and states, with tokens by their order of issue."""
    with closing(path) as connection:
        read = lambda text: connection.execute(text).fetchall()
        tokens = {
            token: i for i, (token,) in enumerate(read("select token from leases order by rowid"))
        }
        return [
            [(*row[1:], tokens[row[0]]) for row in read(
                "select token, number, row, annotator, kind, value, seconds, revoked_by "
                "from answers order by number"
            )],
            read("select round, row, rank, score, note from asks order by round, rank"),
            read("select round, answers_upto, rows, sha256 from rounds order by round"),
            read("select row, annotator, round from leases order by rowid"),
            read("select row, id from items order by row"),
            read("select first, rows, sha256 from parts order by first"),
            read("select name from annotators"),
        ]  # fmt: skip


def copied(path: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    if path.exists():
        shutil.copy(path, to / path.name)
    return to / path.name


# --- counting


class Row(NamedTuple):
    """Faults of one kind in one sort of operation."""

    operation: str
    fault: str
    tried: int
    reported: int  # the caller saw an error; the others had no effect
    wrong: int  # the store differs after trying again


def enumerate_faults(folder: Path, every: int = 1, most: int | None = None) -> list[Row]:
    """Every fault at every step of every operation.

    Args:
      every: one in so many.
      most: of the script's operations; None: all.
    """
    path, counts, number = folder / "base" / "campaign.db", Counter(), 0
    path.parent.mkdir()
    for place, op in enumerate(script(path)):
        if place == most:
            break
        before = copied(path, folder / "before")
        with faulty() as plan:
            op.run(path)
            steps = plan.steps
        want = content(path)
        for kind in KINDS:
            for at in range(steps):
                number += 1
                if number % every:
                    continue
                reported, after = _disturbed(op, copied(before, folder / "after"), at, kind)
                counts[op.name, kind, "tried"] += 1
                counts[op.name, kind, "reported"] += reported
                counts[op.name, kind, "wrong"] += after != want
    names = list(dict.fromkeys((operation, kind) for operation, kind, _ in counts))
    return [
        Row(name, kind, *(counts[name, kind, what] for what in ("tried", "reported", "wrong")))
        for name, kind in names
    ]


def _disturbed(op: Op, path: Path, at: int, kind: str) -> tuple[bool, list[Any]]:
    """Whether the caller saw an error, and the store after the caller tried again."""
    reported = False
    with faulty() as plan:
        plan.begin(at, kind)
        try:
            op.run(path)
        except (Killed, Exception):
            reported = True
    TIME.now = NOW + 61  # somebody who died in the middle of a round has its turn for a minute
    op.run(path)
    TIME.now = NOW
    return reported, content(path)


def jumping_clocks(folder: Path, runs: int) -> Row:
    """The whole script under clocks that jump by up to ten days, back and forth."""
    calm = _run(folder / "calm", lambda: NOW)
    jumps = wrong = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)

        def clock(rng: np.random.Generator = rng) -> float:
            nonlocal jumps
            jumps += 1
            return NOW + rng.uniform(-1, 1) * 864_000

        wrong += _run(folder / f"jump{seed}", clock) != calm
    return Row("a whole campaign", "clock jumps", jumps, 0, wrong)


def _run(folder: Path, clock: Callable[[], float]) -> list[Any]:
    """Answers and picks of a campaign of one person, whose every answer is sent twice."""
    folder.mkdir()
    running = campaign.create(folder / "campaign.db", X, RECIPE, clock=clock)
    for _ in range(3):
        for _ in range(4):
            ask = running.next("ann")[0]
            for _ in range(2):
                running.answer(ask.token, "label", right(ask.row), annotator="ann")
        running.step()
    running.store.engine.dispose()
    answers, *rest = content(folder / "campaign.db")
    return [[answer[:-1] for answer in answers], *rest[:2]]  # tokens may differ: leases end


def killed_for_real(folder: Path, kills: int) -> Row:
    """A process that answers is killed by the system, again and again; another one goes on."""
    path = folder / "campaign.db"
    _create(path)
    sent, rng = folder / "sent.txt", np.random.default_rng(0)
    sent.touch()
    for _ in range(kills):
        worker = subprocess.Popen(
            [sys.executable, "-m", "experiments.faults", "--work", path, sent]
        )
        began = sent.stat().st_size
        while worker.poll() is None and sent.stat().st_size == began:
            pass
        try:
            worker.wait(rng.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    said = [json.loads(line) for line in sent.read_text().splitlines() if line.endswith("]")]
    with closing(path) as connection:
        kept = connection.execute("select token, value from answers where revoked_by is null")
        kept = {token: json.loads(value) for token, value in kept}
        rows = connection.execute("select row from answers where revoked_by is null").fetchall()
    lost = sum(kept.get(token) != value for token, value in said)
    return Row("a worker", "kill -9", kills, kills, lost + len(rows) - len(set(rows)))


def _work(path: Path, sent: Path) -> None:
    """Answer and train until killed; what is confirmed is written down."""
    with using(path) as running, open(sent, "a") as file:
        while True:
            for ask in running.next("ann", 2):
                running.answer(ask.token, "label", right(ask.row))
                file.write(json.dumps([ask.token, right(ask.row)]) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if running.step() is None and not running.next("ann"):
                running.add(X + running.pool().shape[0])


def table(rows: list[Row]) -> str:
    """The counts as a table."""
    head = [
        "| operation | fault | tried | an error was seen | wrong afterwards |",
        "|---" * 5 + "|",
    ]
    total = Row("all", "", *(sum(row[i] for row in rows) for i in (2, 3, 4)))
    lines = [f"| {' | '.join(f'{v:,}' if isinstance(v, int) else v for v in row)} |"
             for row in [*rows, total]]  # fmt: skip
    return "\n".join(head + lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="one fault in so many")
    parser.add_argument("--clocks", type=int, default=20, help="campaigns with jumping clocks")
    parser.add_argument("--kills", type=int, default=20, help="processes killed by the system")
    parser.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return _work(*args.work)
    with tempfile.TemporaryDirectory() as folder:
        rows = enumerate_faults(Path(folder), args.every)
        rows.append(jumping_clocks(Path(folder), args.clocks))
        (real := Path(folder) / "real").mkdir()
        rows.append(killed_for_real(real, args.kills))
    text = table(rows)
    print(text, end="")
    if args.every == 1:
        FOLDER.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row._asdict()) + "\n" for row in rows]
        (FOLDER / "results.jsonl").write_text("".join(lines))
    return None


if __name__ == "__main__":
    main()
