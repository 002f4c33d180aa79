"""A campaign: a durable queue that people answer, and a learner that knows every answer."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from bayesal import _checks, errors
from bayesal.campaign import _answers as asking
from bayesal.campaign import _items as items
from bayesal.campaign import _progress as figures
from bayesal.campaign import _read as read
from bayesal.campaign import _recipe as recipes
from bayesal.campaign import _rounds as rounds
from bayesal.campaign import _schema as schema
from bayesal.campaign import _states as states
from bayesal.campaign import _store as stores
from bayesal.campaign._answers import Ask, Receipt
from bayesal.campaign._items import Item
from bayesal.campaign._progress import Progress
from bayesal.campaign._recipe import Recipe
from bayesal.campaign._store import Store
from bayesal.loop import LearnerState
from bayesal.predictive import Predictive


class Campaign(NamedTuple):
    """The verbs of a campaign. Threads and processes may use one store at the same time.

    next: `(annotator, n=1) -> list[Ask]`; up to `n` questions. What the annotator holds comes
      first, so a reload gives the same items. An item is kept for her for `recipe.lease` seconds.
      Empty: nothing is left for her in this round.
    answer: `(token, kind, value=None, *, annotator=None, seconds=None, revise=False) -> Receipt`;
      kind "label" with the name of a class (or a number), "reject" (none of the classes),
      "abstain" (cannot tell) or "skip" (later). When it returns, the answer is on disk. The same
      answer again changes nothing; another one is refused, unless `revise`: then the old one is
      kept, and no longer counts. An answer is taken whenever it comes, after its lease and after
      its round too. With `annotator`, tokens of others are unknown.
    record: `(item, annotator, kind, value=None, *, key=None, at=None) -> Receipt`; an answer that
      was given elsewhere (a file of labels, another tool) about an item by its id, asked or not. A
      second one of the same `key` (default: annotator and item) replaces the first; with `at`,
      seconds since the epoch, only if it is not older.
    step: `(force=False) -> int | None`; computes the next round if it is due and nobody else does:
      the learner is told all answers and asks. Call it from a worker, not while somebody waits.
    asked: `() -> list[Asked]`; the items of the present batch, for whoever shows or forwards them.
    due: `() -> Due`; how far the round is.
    progress: `() -> Progress`; counts, shares with intervals, rounds, people.
    export: `(path=None) -> list[dict]`; one record per answered item, with all answers and the
      label that they give together, without the net's opinion; `.jsonl` has the same, `.csv` one
      line an item.
    add: `(pool, *, show=None, ids=None) -> int`; new items, any day; the row of the first.
      With `ids` a second try adds nothing twice: names that are there already are refused.
    items: `(rows=None) -> list[Item]`; what people see of rows; None: of the present batch, in its
      order.
    state, predictive: `() -> LearnerState`, `() -> Predictive`; what the learner knows in this
      round.
    pool: `() -> [N, ...]`; the numbers of all items.
    invite: `(annotator) -> str`; a bearer token for the service. Only its hash is kept, and an
      earlier one stops working.
    who: `(bearer) -> str | None`; the annotator of a bearer token.
    people: `() -> list[str]`; the annotators who have one.
    recipe: the checked recipe. store: database and clock. root: folder of the items' images.
    """

    next: Callable[..., list[Ask]]
    answer: Callable[..., Receipt]
    record: Callable[..., Receipt]
    step: Callable[..., int | None]
    asked: Callable[[], list[read.Asked]]
    due: Callable[[], rounds.Due]
    progress: Callable[[], Progress]
    export: Callable[..., list[dict[str, Any]]]
    add: Callable[..., int]
    items: Callable[..., list[Item]]
    state: Callable[[], LearnerState]
    predictive: Callable[[], Predictive]
    pool: Callable[[], np.ndarray]
    invite: Callable[[str], str]
    who: Callable[[Any], str | None]
    people: Callable[[], list[str]]
    recipe: Recipe
    store: Store
    root: Path | None

    def __repr__(self) -> str:
        due = self.due()
        return f"Campaign: round {due.round}, {due.settled} of {due.size} items settled"


def create(
    store: str | Path,
    pool: Any,
    recipe: Any,
    *,
    show: Any = None,
    ids: Any = None,
    root: str | Path | None = None,
    clock: Callable[[], float] = time.time,
) -> Campaign:
    """A new campaign, with its first questions.

    Args:
      store: a new SQLite file, or the URL of an empty PostgreSQL database
        (`postgresql+psycopg://...`, extra `postgres`).
      pool: the examples `[N, ...]`, kept in the store; or the path of an .npy file, which stays
        where it is and must not change.
      recipe: a mapping, or the path of a .toml or .json file; `docs/guides/campaigns.md` lists its
        keys. `posterior` is the only one without a default.
      show: what people see of each item: N texts, or N dicts: `{"text": ...}`,
        `{"image": "a/path/under/root.png"}`, or a table row of texts and numbers. None: images are
        drawn from examples `[H, W]` or `[H, W, 1 or 3]`; other examples are shown as numbers.
      ids: N names of the items; default their row numbers.
      root: folder of the images. Nothing outside it is ever served.
      clock: seconds since the epoch, for leases and deadlines.
    Raises:
      BadStore: there is something already. BadRecipe: which key, and on which line. BadPath,
        WrongShape, WrongSize, ...: naming the argument. Then nothing was written.

    >>> import tempfile
    >>> x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    >>> recipe = {
    ...     "classes": ["left", "right"],
    ...     "size": 5,
    ...     "posterior": {"call": "posteriors.logistic", "args": [2]},
    ... }
    >>> campaign = create(tempfile.mkdtemp() + "/campaign.db", x, recipe)
    >>> for ask in campaign.next("ann", 5):
    ...     answer = "left" if x[ask.row, 0] < 0 else "right"
    ...     receipt = campaign.answer(ask.token, "label", answer)
    >>> campaign
    Campaign: round 0, 5 of 5 items settled
    >>> campaign.step()
    1
    """
    document = recipes.document(recipe)
    built, new = recipes.build(document), items.arrived(pool, show, ids)
    states.first(built, new.x)
    folder = None if root is None else _folder(root)
    opened = stores.connected(store, clock, new=True)
    known = {
        "application": schema.APPLICATION,
        "schema": str(schema.VERSION),
        "recipe": json.dumps(document),
        "root": json.dumps(None if folder is None else str(folder)),
    }
    with opened.engine.begin() as connection:  # nobody else knows the store yet
        items.add(connection, new)
        connection.execute(insert(schema.LOCK).values(name="turn", fence=0, holder=None, until=0.0))
        connection.execute(
            insert(schema.META), [{"key": key, "value": value} for key, value in known.items()]
        )
    campaign = _verbs(opened, built, folder)
    campaign.step()
    return campaign


def open(store: str | Path, *, clock: Callable[[], float] = time.time) -> Campaign:
    """The campaign of a store. If its first questions are missing, `step` makes them.

    Raises:
      BadStore: no campaign, or one of a newer bayesal. BadRecipe: its recipe names a function that
        cannot be imported here.
    """
    opened = stores.connected(store, clock, new=False)
    with opened.reading() as connection:
        known = stores.meta(connection)
    root = json.loads(known["root"])
    recipe = recipes.build(json.loads(known["recipe"]))
    return _verbs(opened, recipe, None if root is None else Path(root))


def _verbs(store: Store, recipe: Recipe, root: Path | None) -> Campaign:
    def reading(read: Callable[..., Any], *args: Any) -> Any:
        with store.reading() as connection:
            return read(connection, *args)

    def next(annotator: str, n: int = 1) -> list[Ask]:
        most = _checks.at_least(1, n, "n")
        return asking.hand_out(store, recipe, asking.name(annotator), most)

    def answer(token, kind, value=None, *, annotator=None, seconds=None, revise=False):
        said = {"annotator": annotator, "seconds": seconds, "revise": revise}
        return asking.take(store, recipe, token, kind, value, **said)

    def record(item, annotator, kind, value=None, *, key=None, at=None):
        who = asking.name(annotator)
        return asking.record(store, recipe, item, who, kind, value, key=key, at=at)

    def add(pool: Any, *, show: Any = None, ids: Any = None) -> int:
        new = items.arrived(pool, show, ids)
        with store.writing() as connection:
            return items.add(connection, new)

    def predictive() -> Predictive:
        state, _ = rounds.current(store, recipe)
        return states.predictive(recipe, state)

    return Campaign(
        next=next,
        answer=answer,
        record=record,
        step=lambda force=False: rounds.step(store, recipe, force=force),
        asked=lambda: reading(read.batch),
        due=lambda: reading(rounds.due, recipe, store.clock()),
        progress=lambda: reading(figures.progress, recipe, store.clock()),
        export=lambda path=None: reading(figures.export, recipe, path),
        add=add,
        items=lambda rows=None: reading(_items, rows),
        state=lambda: rounds.current(store, recipe)[0],
        predictive=predictive,
        pool=lambda: reading(items.numbers),
        invite=partial(_invite, store),
        who=partial(_who, store),
        people=lambda: reading(_people),
        recipe=recipe,
        store=store,
        root=root,
    )


def _invite(store: Store, annotator: str) -> str:
    bearer, people = secrets.token_urlsafe(24), schema.ANNOTATORS
    name = asking.name(annotator)
    with store.writing() as connection:
        connection.execute(people.delete().where(people.c.name == name))
        connection.execute(
            insert(people).values(name=name, token_sha256=_hash(bearer), created=store.clock())
        )
    return bearer


def _who(store: Store, bearer: Any) -> str | None:
    """Every hash is compared, each in constant time."""
    given, found = _hash(str(bearer)), None
    with store.reading() as connection:
        people = connection.execute(select(schema.ANNOTATORS)).all()
    for person in people:
        if secrets.compare_digest(person.token_sha256, given):
            found = person.name
    return found


def _people(connection: Connection) -> list[str]:
    return sorted(connection.scalars(select(schema.ANNOTATORS.c.name)))


def _items(connection: Connection, rows: Sequence[int] | None) -> list[Item]:
    if rows is None:
        last = read.latest(connection)
        rows = [] if last is None else list(read.wanted(connection, last.round))
    return items.of_rows(connection, rows)


def _hash(bearer: str) -> str:
    return hashlib.sha256(bearer.encode()).hexdigest()


def _folder(root: str | Path) -> Path:
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise errors.BadPath("root", f"`root` ({root}) is no folder.")
    return folder
