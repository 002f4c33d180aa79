"""The pool of a campaign: numbers of every row, and what people see of it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from bayesal import _checks, errors
from bayesal.campaign import _schema as schema

PIECE = 1 << 24  # bytes of numbers in one row of the store


class Arrived(NamedTuple):
    """Checked new rows.

    x: the numbers `[n, ...]`.
    parts, items: rows of the two tables, without their places in the pool.
    rows: how many there are.
    kind: shape and type of one example.
    """

    x: np.ndarray
    parts: list[dict[str, Any]]
    items: list[dict[str, Any]]
    rows: int
    kind: tuple[str, str]


class Item(NamedTuple):
    """What people see of a row: `show` as it was given; None: the row's numbers."""

    row: int
    id: str
    show: dict[str, Any] | None


def arrived(pool: Any, show: Any, ids: Any) -> Arrived:
    """Rows of a pool, checked before anything is written.

    Args:
      pool: an array `[n, ...]`, whose numbers are kept in the store; or the path of an .npy file,
        which stays where it is.
      show: what people see, `n` texts or dicts; see `campaign.create`.
      ids: `n` different names; None: row numbers.
    """
    by_path = isinstance(pool, str | Path)
    x = _opened(Path(pool)) if by_path else np.asarray(_checks.plain(pool, "pool"))
    _checks.pool(x, "pool")
    x = x if by_path else np.ascontiguousarray(x)
    kind = json.dumps(list(x.shape[1:])), x.dtype.name
    parts = [_by_reference(Path(pool), x)] if by_path else _pieces(x)
    return Arrived(
        x=x,
        parts=[part | {"shape": kind[0], "dtype": kind[1]} for part in parts],
        items=_shown(show, ids, len(x)),
        rows=len(x),
        kind=kind,
    )


def add(connection: Connection, new: Arrived) -> int:
    """Write new rows behind the ones that are there; the number of the first."""
    first = count(connection)
    part = connection.execute(select(schema.PARTS.c.shape, schema.PARTS.c.dtype).limit(1)).first()
    if part is not None and tuple(part) != new.kind:
        raise errors.WrongShape(
            "pool",
            f"the rows of this campaign have shape {part.shape} and type {part.dtype}, and the new "
            f"ones {new.kind[0]} and {new.kind[1]}.",
        )
    named = [item | {"row": first + i} for i, item in enumerate(new.items)]
    for item in named:
        item["id"] = str(item["row"]) if item["id"] is None else item["id"]
    _new_ids(connection, [item["id"] for item in named])
    at = first
    for piece in new.parts:
        connection.execute(insert(schema.PARTS).values(first=at, **piece))
        at += piece["rows"]
    connection.execute(insert(schema.ITEMS), named)
    return first


def count(connection: Connection) -> int:
    """Rows of the pool."""
    return connection.execute(select(func.coalesce(func.sum(schema.PARTS.c.rows), 0))).scalar_one()


def of_rows(connection: Connection, rows: Sequence[int]) -> list[Item]:
    """The items of rows, in their order.

    Raises:
      WrongIndex: a row that the pool does not have.
    """
    total = count(connection)
    for row in rows:
        if not 0 <= row < total:
            raise errors.WrongIndex("rows", f"there is no row {row} among {total}.")
    found = connection.execute(select(schema.ITEMS).where(schema.ITEMS.c.row.in_(rows)))
    by_row = {item.row: item for item in found}
    shown = lambda text: None if text is None else json.loads(text)
    return [Item(row=row, id=by_row[row].id, show=shown(by_row[row].show)) for row in rows]


def numbers(connection: Connection) -> np.ndarray:
    """The pool `[N, ...]`; a single file is a memory map.

    Raises:
      BadPool: a file that has changed, or numbers that are damaged.
    """
    found = connection.execute(select(schema.PARTS).order_by(schema.PARTS.c.first)).all()
    pieces = [_read(part) for part in found]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


# --- numbers


def _pieces(x: np.ndarray) -> list[dict[str, Any]]:
    step = max(1, PIECE // max(1, x[:1].nbytes))
    blocks = [x[i : i + step] for i in range(0, len(x), step)]
    return [
        {"rows": len(b), "path": None, "data": (data := b.tobytes()), "sha256": _digest(data)}
        for b in blocks
    ]


def _by_reference(path: Path, x: np.ndarray) -> dict[str, Any]:
    return {"rows": len(x), "path": str(path.resolve()), "data": None, "sha256": _sampled(x)}


def _opened(path: Path) -> np.ndarray:
    if path.suffix != ".npy":
        raise errors.BadPool("pool", f"`pool` ({path}) must be an array or an .npy file.")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise errors.BadPool("pool", f"{path} cannot be read as an array: {error}.") from error


def _read(part: Any) -> np.ndarray:
    shape = (part.rows, *json.loads(part.shape))
    if part.path is None:
        if _digest(part.data) != part.sha256:
            raise errors.BadPool(
                "store", f"rows {part.first} to {part.first + part.rows} of the pool are damaged."
            )
        return np.frombuffer(part.data, part.dtype).reshape(shape)
    x = _opened(Path(part.path))
    if (x.shape, x.dtype.name) != (shape, part.dtype) or _sampled(x) != part.sha256:
        raise errors.BadPool(
            "pool",
            f"{part.path} is not the file that it was: its rows have changed, so their answers "
            "would belong to other items. Bring the old file back; new rows come by `add`.",
        )
    return x


def _sampled(x: np.ndarray) -> str:
    """A hash of up to 1,000 rows, spread over a file that may be larger than memory."""
    rows = np.unique(np.linspace(0, len(x) - 1, 1000).astype(int))
    return _digest(np.ascontiguousarray(x[rows]).tobytes())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- what people see


def _shown(show: Any, ids: Any, rows: int) -> list[dict[str, Any]]:
    for name, given in (("show", show), ("ids", ids)):
        if given is not None and (isinstance(given, str) or len(given) != rows):
            raise errors.WrongSize(
                name, f"`{name}` must have one entry for each of the {rows} rows of `pool`."
            )
    names: Sequence[Any] = [None] * rows if ids is None else [str(one) for one in ids]
    seen = [None] * rows if show is None else [_show(one) for one in show]
    return [{"id": i, "show": s} for i, s in zip(names, seen, strict=True)]


def _show(one: Any) -> str:
    """One item as JSON: `{"text": ...}`, `{"image": a path under the root}`, or a table row."""
    if isinstance(one, str):
        one = {"text": one}
    try:
        if isinstance(one, dict) and one:
            return json.dumps(one, allow_nan=False)
    except (TypeError, ValueError):
        pass
    raise errors.WrongType(
        "show", f"an item is shown by a text or by a dict of texts and numbers, got {one!r}."
    )


def _new_ids(connection: Connection, names: list[str]) -> None:
    known = set(connection.scalars(select(schema.ITEMS.c.id)))
    seen: set[str] = set()
    for name in names:
        if name in known or name in seen:
            raise errors.WrongIndex("ids", f"`ids`: {name!r} names more than one item.")
        seen.add(name)
