"""Files that a command reads. Nothing in them is ever unpickled or run."""

import csv
import hashlib
import io
import json
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from bayesal import errors


def array(place: str, argument: str) -> np.ndarray:
    """The array of `file.npy`, as a memory map, or of `file.npz:name`.

    Raises:
      BadPath: no such file, or one of another kind. BadPool: it cannot be read as an array.
    """
    path, name = _parts(place)
    if path.suffix not in (".npy", ".npz"):
        raise errors.BadPath(
            argument, f"`{argument}` ({place}) must be an .npy file, or file.npz:name."
        )
    try:
        if path.suffix == ".npy":
            return np.lib.format.open_memmap(path, mode="r")
        with zipfile.ZipFile(path) as archive:
            names = [member.removesuffix(".npy") for member in archive.namelist()]
            if name in names:
                with archive.open(f"{name}.npy") as member:
                    return np.lib.format.read_array(member, allow_pickle=False)
    except FileNotFoundError:
        raise missing(argument, path) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise errors.BadPool(
            argument, f"`{argument}` ({place}) cannot be read as an array: {error}."
        ) from error
    raise errors.BadPath(
        argument,
        f"`{argument}` ({place}) must name an array of the archive, as {path}:name; it holds "
        f"{', '.join(names)}.",
    )


def optional(options: Namespace, argument: str) -> np.ndarray | None:
    """The array of an option that may be left out."""
    place = getattr(options, argument)
    return None if place is None else array(place, argument)


def lines(place: str, argument: str) -> list[str]:
    """The lines of a text file in UTF-8; an empty last line is none."""
    found = _text(place, argument).split("\n")  # other separators may stand in a text
    return found if found[-1] else found[:-1]


def shown(place: str) -> list[Any]:
    """What people see of each item: lines of a .txt, values of a .jsonl, rows of a .csv.

    Raises:
      BadPath: a file that is none of these; the message names the line.
    """
    if place.endswith(".txt"):
        return lines(place, "show")
    if place.endswith(".jsonl"):
        return [_value(place, *line) for line in enumerate(lines(place, "show"), 1)]
    if place.endswith(".csv"):
        return _rows(place)
    raise errors.BadPath("show", f"`show` ({place}) must be a .txt, .jsonl or .csv file.")


def sha256(place: str | Path) -> str:
    """The hash of a file; of `file.npz:name`, of the whole archive."""
    with open(_parts(str(place))[0], "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing(argument: str, path: str | Path) -> errors.BadPath:
    """The error of a file that is not there."""
    return errors.BadPath(argument, f"`{argument}`: there is no file {path}.")


def _parts(place: str) -> tuple[Path, str]:
    """The file, and the name of an array in it."""
    path, _, name = place.rpartition(":")
    return (Path(path), name) if path.endswith(".npz") else (Path(place), "")


def _text(place: str, argument: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise missing(argument, place) from None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadPath(
            argument, f"`{argument}` ({place}) cannot be read as text in UTF-8: {error}."
        ) from error


def _value(place: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise errors.BadPath("show", f"`show` ({place}), line {number}: {error}.") from error


def _rows(place: str) -> list[dict[str, str]]:
    """Rows of a table with a head, each as long as the head."""
    reader = csv.reader(io.StringIO(_text(place, "show"), newline=""), strict=True)
    try:
        head, *rows = [row for row in reader if row] or [[]]
    except csv.Error as error:
        raise errors.BadPath(
            "show", f"`show` ({place}), line {reader.line_num}: {error}."
        ) from error
    if len(set(head)) < len(head) or not head:
        raise errors.BadPath("show", f"`show` ({place}): its head must name every column once.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise errors.BadPath(
                "show",
                f"`show` ({place}): row {number} has {len(row)} cells, and the head {len(head)}.",
            )
    return [dict(zip(head, row, strict=True)) for row in rows]
