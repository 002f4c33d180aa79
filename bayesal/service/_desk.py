"""One campaign as the service sees it, and its items as a page needs them."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from bayesal.campaign import Campaign
from bayesal.service import _pictures as pictures
from bayesal.service import _rounds as rounds
from bayesal.service._rounds import Board

NUMBERS = 64  # of an example that is shown as numbers
SHARE = 0.05  # of the time may go to figures


class Desk(NamedTuple):
    """A campaign, and what this process knows of it.

    name: in the addresses. line: the one thread that writes, so that writers wait in a fair line
    instead of polling the database. board: how far the round is. wake: set after an answer.
    example: the numbers of a row. gray: which numbers are black and white. figures: the progress,
    computed again when it is old.
    """

    name: str
    campaign: Campaign
    line: ThreadPoolExecutor
    board: Board
    wake: asyncio.Event
    example: Callable[[int], np.ndarray]
    pool: Callable[[], np.ndarray]
    gray: Callable[[], tuple[float, float]]
    figures: Callable[[], dict[str, Any]]


def desk(campaign: Campaign) -> Desk:
    """A desk for a campaign. The numbers of its pool are read once, and again when it has grown."""
    kept: list[np.ndarray] = []
    reads = Lock()

    def pool(rows: int = 1) -> np.ndarray:
        with reads:
            if not kept or len(kept[0]) < rows:
                kept[:] = [campaign.pool()]
            return kept[0]

    return Desk(
        name=name(campaign),
        campaign=campaign,
        line=ThreadPoolExecutor(max_workers=1),
        board=rounds.board(),
        wake=asyncio.Event(),
        example=lambda row: pool(row + 1)[row],
        pool=pool,
        gray=_once(lambda: pictures.levels(pool())),
        figures=_rested(lambda: plain(campaign.progress())),
    )


def name(campaign: Campaign) -> str:
    """A campaign's name in addresses: that of its file or database."""
    return Path(campaign.store.engine.url.database or "campaign").stem


def shown(desk: Desk, row: int, show: dict[str, Any] | None) -> dict[str, Any]:
    """What a page shows of an item: `image` (an address), `text`, `fields` (pairs), `numbers`."""
    if show is None:
        x = desk.example(row)
        if pictures.drawable(x.shape):
            return {"image": f"item/{row}.png", "shape": list(x.shape)}
        return {"numbers": [float(v) for v in x.ravel()[:NUMBERS]], "shape": list(x.shape)}
    seen: dict[str, Any] = {}
    if "image" in show:
        seen["image"] = f"item/{row}.png"
    if "text" in show:
        seen["text"] = str(show["text"])
    pairs = [[str(key), value] for key, value in show.items() if key not in ("image", "text")]
    return seen | ({"fields": pairs} if pairs else {})


def picture(desk: Desk, row: int) -> tuple[bytes, str] | None:
    """The picture of a row and its type; None where it has none."""
    (item,) = desk.campaign.items([row])
    if item.show is not None:
        return pictures.read(desk.campaign.root, item.show.get("image"))
    x = desk.example(row)
    if not pictures.drawable(x.shape):
        return None
    return pictures.drawn(x, *desk.gray()), "image/png"


def plain(value: Any) -> Any:
    """Records as JSON has them."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {key: plain(one) for key, one in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def _once(compute: Callable[[], Any]) -> Callable[[], Any]:
    found: list[Any] = []

    def get() -> Any:
        if not found:
            found.append(compute())
        return found[0]

    return get


def _rested(compute: Callable[[], Any]) -> Callable[[], Any]:
    """A result that is computed again only after a rest, however many ask for it."""
    busy, until, found = Lock(), 0.0, None

    def get() -> Any:
        nonlocal until, found
        with busy:
            if (began := time.monotonic()) >= until:
                found = compute()
                ended = time.monotonic()
                until = ended + (ended - began) / SHARE
            return found

    return get
