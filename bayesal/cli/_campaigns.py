"""`bayesal campaign ...`: the verbs of a campaign, one call each."""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from bayesal import _shown, campaign, errors
from bayesal.campaign import Campaign
from bayesal.cli import _images, _inputs


def create(options: Namespace) -> None:
    """A new store with its first questions."""
    show = None if options.show is None else _inputs.shown(options.show)
    ids = None if options.ids is None else _inputs.lines(options.ids, "ids")
    pool: Any
    if options.pool is not None:
        pool = _pool(options.pool)
        if show is None and options.images is not None:
            show = _images.named_by(ids, options.images)
    elif options.images is not None:
        pool, paths = _images.read(options.images, options.image_size)
        ids = paths if ids is None else ids
        show = [{"image": path} for path in paths] if show is None else show
    else:
        options.parser.error("one of the arguments --pool --images is required")
    try:
        made = campaign.create(
            options.store, pool, options.recipe, show=show, ids=ids, root=options.images
        )
    except FileNotFoundError:
        raise _inputs.missing("recipe", options.recipe) from None
    print(_state(made))


def next_questions(options: Namespace) -> None:
    """Questions for one annotator."""
    opened = campaign.open(options.store)
    asks = opened.next(options.annotator, options.n)
    if options.json:
        print(json.dumps([ask._asdict() for ask in asks], indent=2))
        return
    for ask in asks:
        print(f"{ask.token}  {_printable(ask.id)}  {_spoken(ask.show)}")
    if asks:
        document = opened.recipe.document
        answers = "a number" if opened.recipe.classes is None else ", ".join(opened.recipe.classes)
        print(f"{document['question']} ({answers})", file=sys.stderr)
    else:
        print(f"nothing is left to ask {options.annotator}: {_state(opened)}", file=sys.stderr)


def answer(options: Namespace) -> None:
    """Write one answer; on disk when this returns."""
    opened = campaign.open(options.store)
    value = options.value
    if opened.recipe.classes is None and value is not None:
        value = _number(value)
    receipt = opened.answer(
        options.token, options.kind, value, annotator=options.annotator, revise=options.revise
    )
    if options.json:
        print(json.dumps(receipt._asdict(), indent=2))
        return
    said = receipt.kind if receipt.value is None else receipt.value
    print(f"{receipt.id}: {said}" + (" (was there already)" if receipt.repeated else ""))
    if opened.due().ready:
        print(f"the round is complete: bayesal campaign step {options.store}", file=sys.stderr)


def step(options: Namespace) -> None:
    """The next round, if it is due."""
    opened = campaign.open(options.store)
    made = opened.step(force=options.force)
    due = opened.due()
    if made is not None:
        print(f"round {made}: {due.size} items end it")
    elif due.ready:
        print(f"round {due.round}: somebody else computes the next one")
    else:
        print(f"round {due.round}: {due.settled} of {due.size} items settled, nothing to compute")


def progress(options: Namespace) -> None:
    """Counts, rounds and people."""
    found = campaign.open(options.store).progress()
    if options.json:
        print(json.dumps(_plain(found), indent=2))
        return
    hourly = "" if found.per_hour is None else f", {found.per_hour:.0f} an hour"
    print(
        f"round {found.round}: {found.due.settled} of {found.due.size} items settled\n"
        f"{found.settled} of {found.rows} items settled, {found.answers} answers{hourly}"
    )
    for title, counts in (("answers", found.kinds), ("labels", found.classes)):
        print(f"{title}: " + ", ".join(f"{name} {n}" for name, n in counts.items() if n))
    head = ["round", "items", "answered", "net was right", "low", "high"]
    rows = [[r.round, r.asked, r.answered, *r.called[2:]] for r in found.rounds]
    print("\n" + _shown.table(head, rows))
    people = [[p.annotator, *p.kinds.values(), p.seconds, *p.agreement[2:]] for p in found.people]
    if people:
        kinds = list(found.kinds)
        head = ["annotator", *kinds, "seconds", "agreement", "low", "high"]
        print("\n" + _shown.table(head, people))


def export(options: Namespace) -> None:
    """Answered items as a file."""
    records = campaign.open(options.store).export(options.out)
    print(f"{options.out}: {len(records)} items with answers", file=sys.stderr)


def invite(options: Namespace) -> None:
    """Bearer tokens of annotators, and their start links."""
    opened = campaign.open(options.store)
    for name in options.annotators:
        bearer = opened.invite(name)
        print(f"{name}  {bearer}  {_start_link(options.url, opened, bearer)}")


def add(options: Namespace) -> None:
    """New items, behind the ones that are there."""
    show = None if options.show is None else _inputs.shown(options.show)
    ids = None if options.ids is None else _inputs.lines(options.ids, "ids")
    opened = campaign.open(options.store)
    first = opened.add(_pool(options.pool), show=show, ids=ids)
    print(f"rows {first} to {opened.progress().rows - 1} are new")


# --- parts


def _start_link(url: str, opened: Campaign, bearer: str) -> str:
    """Where an annotator begins. The service names a campaign by its file or database; what stands
    behind `#` never reaches a server or its log.
    """
    name = Path(opened.store.engine.url.database or "campaign").stem
    return f"{url.rstrip('/')}/c/{quote(name)}/#token={bearer}"


def _pool(place: str) -> Any:
    """The path of an .npy file, which stays where it is; the array of an archive."""
    return _inputs.array(place, "pool") if not place.endswith(".npy") else place


def _state(opened: Campaign) -> str:
    due = opened.due()
    return f"round {due.round}, {due.settled} of {due.size} items settled"


def _spoken(show: Mapping[str, Any] | None) -> str:
    """An item in one line."""
    if show is None:
        return "(the numbers of its row)"
    whole = next(iter(show.values())) if len(show) == 1 else json.dumps(show, ensure_ascii=False)
    return _printable(str(whole))


def _printable(text: str) -> str:
    """A text that cannot steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise errors.WrongLabel(
            "value", f"`value` must be a number in this campaign, got {value!r:.100}."
        ) from None


def _plain(value: Any) -> Any:
    """Records as dicts, all the way down."""
    if hasattr(value, "_asdict"):
        return {key: _plain(one) for key, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value
