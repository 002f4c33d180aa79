"""What was chosen, and the whole ranking as records that a labeling tool can sort."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, _files, errors
from bayesal.types import Selection

FORMATS = ("csv", "jsonl")


class Ranking(NamedTuple):
    """Every point that may be picked, best first: the batch in its order, then the others by their
    own score.

    index:      rows of the pool.
    score:      never increases. Of a pick, what `Selection.scores` says; of a point behind the
                batch its own score, lowered to just below that of the last pick where it is higher
                (for BatchBALD this is still a bound on what the point would add to the batch).
    total:      entropy of the averaged prediction, in nats; `total = aleatoric + epistemic`.
    aleatoric:  mean entropy of the draws, in nats.
    epistemic:  BALD, in nats.
    confidence: probability of the predicted class, averaged over draws.
    prediction: the predicted class.
    """

    index: Int[np.ndarray, " R"]  # type: ignore[assignment]  # a field named as a method of tuple
    score: Float[np.ndarray, " R"]
    total: Float[np.ndarray, " R"]
    aleatoric: Float[np.ndarray, " R"]
    epistemic: Float[np.ndarray, " R"]
    confidence: Float[np.ndarray, " R"]
    prediction: Int[np.ndarray, " R"]


class Choice(NamedTuple):
    """The answer of `choose`, all of it NumPy.

    indices:   rows of the pool to label, best first (int64).
    scores:    the score of each; for BatchBALD its gain given the picks before it.
    selection: all that the selector said: joint information, saturation, certificate.
    ranking:   every available point, for `to_records`.
    count:     how many points the pool has.
    ids:       the caller's names of all of them, or None for row numbers.
    """

    indices: Int[np.ndarray, " B"]
    scores: Float[np.ndarray, " B"]
    selection: Selection
    ranking: Ranking
    count: int  # type: ignore[assignment]  # a field named as a method of tuple
    ids: tuple[str | int, ...] | None = None

    def to_records(
        self,
        path: str | os.PathLike | None = None,
        ids: Sequence | None = None,
        format: str | None = None,
    ) -> list[dict[str, Any]]:
        """One record per available point, best first: id, rank (from 1), score, total, aleatoric,
        epistemic, confidence, prediction.

        The first `size` records are the batch. Sorting by `score`, highest first, keeps the order
        up to ties.

        Args:
          path: where to write them as well; the file is replaced as a whole or not at all.
          ids: a name for each of the N points of the pool, strings or ints; the ids given to
            `choose` if None, else row numbers.
          format: "csv" or "jsonl"; by the ending of `path` if None.
        Raises:
          WrongShape: ids that do not fit the pool or repeat, a format or ending that is neither.
          BadPath: a folder, a device or an impossible name.
        """
        named = self.ids if ids is None else checked_ids(ids, self.count)
        records = [
            {
                "id": int(i) if named is None else named[i],
                "rank": rank + 1,
                "score": _plain(self.ranking.score[rank]),
                **{
                    name: _plain(getattr(self.ranking, name)[rank])
                    for name in ("total", "aleatoric", "epistemic", "confidence")
                },
                "prediction": int(self.ranking.prediction[rank]),
            }
            for rank, i in enumerate(self.ranking.index)
        ]
        if path is not None:
            text = {"csv": _csv, "jsonl": _jsonl}[_format(path, format)](records).encode()
            _files.write(path, lambda file: file.write(text))
        return records


def _plain(value: np.floating) -> float:
    """The shortest decimal that is the same float32."""
    return float(str(value))


def checked_ids(ids: Any, count: int) -> tuple[str | int, ...]:
    """One distinct string or int per point of the pool."""
    listed = tuple(i.item() if isinstance(i, np.generic) else i for i in ids)
    if len(listed) != count:
        raise errors.WrongShape(
            "ids",
            f"`ids` has {len(listed)} entries, but the pool has {count} points: one for "
            "every point, also those not available.",
        )
    odd = [
        row for row, i in enumerate(listed) if isinstance(i, bool) or not isinstance(i, str | int)
    ]
    if odd:
        raise errors.WrongShape(
            "ids",
            f"`ids` must be strings or ints; rows {_checks.listed(odd)} hold others, first "
            f"{listed[odd[0]]!r}.",
            odd,
        )
    if len(set(listed)) < len(listed):
        first = {i: row for row, i in reversed(list(enumerate(listed)))}
        twice = [row for row, i in enumerate(listed) if first[i] < row]
        raise errors.WrongShape(
            "ids",
            f"`ids` must be distinct; rows {_checks.listed(twice)} repeat earlier ones, first "
            f"{listed[twice[0]]!r}.",
            twice,
        )
    return listed


def _format(path: Any, format: str | None) -> str:
    name = Path(path).suffix[1:] if format is None else format
    if name not in FORMATS:
        argument = "path" if format is None else "format"
        raise errors.WrongShape(
            argument,
            f"`{argument}` = {path if format is None else format!r} names no known format; "
            "pass format='csv' or format='jsonl'.",
        )
    return name


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, records[0].keys())
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _jsonl(records: list[dict[str, Any]]) -> str:
    return "".join(
        json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records
    )
