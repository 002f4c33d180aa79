"""Bodies of requests: checked JSON, and new items as JSONL or CSV."""

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request

from bayesal import errors

LINES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines")


class Rows(NamedTuple):
    """New items, as `Campaign.add` takes them."""

    pool: np.ndarray
    show: list[Any] | None
    ids: list[str] | None


async def fields(request: Request, known: Sequence[str]) -> dict[str, Any]:
    """The JSON object of a request, with no other keys than the known ones.

    Raises:
      HTTPException: 415 another type, 400 no JSON object. UnknownName: a key that is not known.
    """
    given = await anything(request)
    for key in given:
        if key not in known:
            raise errors.UnknownName(
                key[:50],
                f"{key[:50]!r} is no field of this request, which has: {', '.join(known)}.",
            )
    return given


async def anything(request: Request) -> dict[str, Any]:
    """The JSON object of a request of another program, which may hold more than we know."""
    _typed(request, ("application/json",))
    given = _loaded(await request.body(), "the body")
    if not isinstance(given, dict):
        raise HTTPException(400, "the body must be a JSON object.")
    return given


async def rows(request: Request, like: np.ndarray) -> Rows:
    """New items of the pool's shape and type.

    JSONL has a line `{"x": [...], "id": ..., "show": ...}` an item. CSV has a head: `id`, `text`
    and `image` are names and what people see; all other columns are the row's numbers, in order.
    """
    kind = _typed(request, (*LINES, "text/csv"))
    try:
        text = (await request.body()).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"the body is no UTF-8: {error}.") from error
    found = _csv(text) if kind == "text/csv" else _jsonl(text)
    if not found:
        raise errors.WrongSize("body", "the body has no items.")
    try:
        x = np.array([one["x"] for one in found], like.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise errors.WrongShape(
            "x", f"the numbers of the items cannot be read: {error}."
        ) from error
    if x.shape[1:] != like.shape[1:]:
        raise errors.WrongShape(
            "x", f"an item has the numbers {list(like.shape[1:])}, got {list(x.shape[1:])}."
        )
    return Rows(pool=x, show=_all(found, "show"), ids=_all(found, "id"))


# --- parts


def _typed(request: Request, allowed: Sequence[str]) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in allowed:
        raise HTTPException(
            415, f"the content type must be {' or '.join(allowed)}, got {kind[:100]!r}."
        )
    return kind


def _loaded(body: bytes | str, what: str) -> Any:
    def number(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        given = json.loads(body, parse_constant=number)
        json.dumps(given, ensure_ascii=False).encode()  # halves of characters are no text
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{what} is no JSON: {str(error)[:200]}.") from error
    return given


def _jsonl(text: str) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            one = _loaded(line, f"line {number}")
            if not isinstance(one, dict) or "x" not in one or set(one) - {"x", "id", "show"}:
                raise errors.WrongType(
                    "body", f"line {number}: an item is {{'x': [...], 'id': ..., 'show': ...}}."
                )
            found.append(one)
    return found


def _csv(text: str) -> list[dict[str, Any]]:
    try:
        table = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise errors.WrongType("body", f"the CSV cannot be read: {error}.") from error
    found = []
    for number, line in enumerate(table, 2):
        if None in line or None in line.values():
            raise errors.WrongShape("body", f"line {number} has not as many cells as the head.")
        shown = {key: line[key] for key in ("text", "image") if key in line}
        one = {"x": [cell for key, cell in line.items() if key not in ("id", "text", "image")]}
        found.append(
            one | ({"show": shown} if shown else {}) | ({"id": line["id"]} if "id" in line else {})
        )
    return found


def _all(found: list[dict[str, Any]], key: str) -> list[Any] | None:
    given = [one[key] for one in found if key in one]
    if given and len(given) < len(found):
        raise errors.WrongSize(
            key, f"{len(given)} of {len(found)} items have a `{key}`: all, or none."
        )
    if key == "id" and any(
        not isinstance(i, str | int) or re.search(r"[\x00-\x1f]", str(i)) for i in given
    ):
        raise errors.WrongType("id", "an `id` is a text without control characters, or a number.")
    return given or None
