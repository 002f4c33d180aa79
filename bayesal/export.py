"""Rankings of whole pools, as records and files that a labeling tool can sort."""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _files, _maths, _shown, errors, scores
from bayesal._choose import survey
from bayesal.acquire import _asked
from bayesal.types import ArrayLike, Score, Selection

FORMATS = ("csv", "jsonl")

__all__ = ["ranking"]


class Ranking(NamedTuple):
    """Every row that may be picked, best first: the batch in its order, then the others by score.

    rows:       rows of the pool `[R]`.
    score:      never increases. Of a pick, what `Selection.scores` says; of a row behind the batch
                its own score, lowered to just below the last pick's where it is higher (for
                BatchBALD and BALD this still bounds what the row would add to the batch).
    total:      entropy of the averaged prediction, in nats; `total = aleatoric + epistemic`.
    aleatoric:  mean entropy of the draws, in nats.
    epistemic:  BALD, in nats.
    confidence: probability of the predicted class, averaged over draws.
    prediction: the predicted class.
    ids:        names of all N rows of the pool, or None for row numbers.
    """

    rows: Int[np.ndarray, " R"]
    score: Float[np.ndarray, " R"]
    total: Float[np.ndarray, " R"]
    aleatoric: Float[np.ndarray, " R"]
    epistemic: Float[np.ndarray, " R"]
    confidence: Float[np.ndarray, " R"]
    prediction: Int[np.ndarray, " R"]
    ids: tuple[str | int, ...] | None = None

    def _table(self) -> tuple[str, list[str], list[list[Any]]]:
        """Caption, head and rows of what people look at."""
        front = self._replace(**{n: getattr(self, n)[: _shown.ROWS] for n in self._fields[:-1]})
        rows = [list(record.values()) for record in front.to_records()]
        head = ["id", "rank", *self._fields[1:]][:-1]
        return f"Ranking of {len(self.rows):,} rows", head, rows

    @_shown.safe
    def __repr__(self) -> str:
        caption, head, rows = self._table()
        more = _shown.more(len(self.rows))
        return "\n".join(filter(None, [caption, _shown.table(head, rows), more]))

    def _repr_html_(self) -> str:
        caption, head, rows = self._table()
        return _shown.table_html(f"{caption} {_shown.more(len(self.rows))}", head, rows)

    def to_records(
        self, path: str | os.PathLike | None = None, format: str | None = None
    ) -> list[dict[str, Any]]:
        """One record per row, best first: id, rank (from 1), score, and the facts of each row.

        Sorting by `score`, highest first, keeps the order up to ties.

        Args:
          path: where to write them as well; the file is replaced as a whole or not at all.
          format: "csv" or "jsonl"; by the ending of `path` if None.
        Raises:
          WrongShape: a format or ending that is neither. BadPath: a folder, a device or an
            impossible name.
        """
        facts = ("total", "aleatoric", "epistemic", "confidence")
        records = [
            {
                "id": int(row) if self.ids is None else self.ids[row],
                "rank": rank + 1,
                "score": _shortest(self.score[rank]),
                **{name: _shortest(getattr(self, name)[rank]) for name in facts},
                "prediction": int(self.prediction[rank]),
            }
            for rank, row in enumerate(self.rows)
        ]
        if path is not None:
            text = {"csv": _csv, "jsonl": _jsonl}[_format(path, format)](records)
            _files.write(path, lambda file: file.write(text.encode()))
        return records


class _Facts(NamedTuple):
    score: Any
    total: Any
    aleatoric: Any
    epistemic: Any
    confidence: Any
    prediction: Any


def ranking(
    selection: Selection,
    predictive: Callable[[Any], Any] | None,
    pool: Any,
    *,
    score: Score | None = None,
    available: Bool[ArrayLike, " N"] | None = None,
    ids: Sequence[str | int] | None = None,
) -> Ranking:
    """Every row of a pool of classes, best first: the batch, then what could come after it.

    Args:
      selection: the batch, as `bayesal.choose` or a learner's `ask` gives it.
      predictive, pool: what it was chosen with; see `bayesal.choose`.
      score: what orders the rows behind the batch; BALD if None, which is 0 for a single draw:
        pass `scores.entropy` there.
      available: the mask the batch was chosen with; all rows if None.
      ids: a name for each of the N rows, strings or ints; row numbers if None.
    Raises:
      WrongShape: a mask or ids that do not fit the pool or repeat. WrongIndex: another pool's
        batch.

    >>> from bayesal import acquire, choose, pools
    >>> votes = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.1, 0.9], [0.7, 0.3]]])  # 2 points, 2 draws
    >>> pool = pools.numbers(probs=votes, axes="N K C")
    >>> batch = choose(0, None, pool, 1, acquire.top(scores.bald))
    >>> [record["id"] for record in ranking(batch, None, pool, ids=["a", "b"]).to_records()]
    ['b', 'a']
    """

    rank_by = scores.bald if score is None else score

    def look(predictive, x):
        log_probs = predictive(x)
        mean = _maths.log_mean_exp(log_probs)
        parts = scores.decompose(log_probs)
        return _Facts(
            score=_asked.scored(rank_by, log_probs),
            total=parts.total,
            aleatoric=parts.aleatoric,
            epistemic=parts.epistemic,
            confidence=jnp.exp(mean.max(-1)),
            prediction=jnp.argmax(mean, -1),
        )

    facts, _ = survey(predictive, pool, look)
    facts = _Facts(*(np.asarray(leaf) for leaf in facts))
    count = len(facts.total)
    mask = np.asarray(_checks.available_rows(available, count))
    indices = np.asarray(selection.indices)
    picks = _checks.indices(indices[indices >= 0], count, "selection")
    own = np.where(mask & np.isfinite(facts.total), facts.score, -np.inf).astype(np.float32)
    behind = np.setdiff1d(np.flatnonzero(own > -np.inf), picks)
    behind = behind[np.argsort(-own[behind], kind="stable")]
    picked = np.asarray(selection.scores, np.float32)[indices >= 0]
    last = np.nanmin(picked) if np.isfinite(picked).any() else np.float32(np.inf)
    below = np.where(own[behind] > last, np.nextafter(last, np.float32(-np.inf)), own[behind])
    rows = np.concatenate([picks, behind])
    return Ranking(
        rows=rows,
        score=np.concatenate([picked, below]).astype(np.float32),
        total=facts.total[rows],
        aleatoric=facts.aleatoric[rows],
        epistemic=facts.epistemic[rows],
        confidence=facts.confidence[rows],
        prediction=facts.prediction[rows],
        ids=None if ids is None else _names(ids, count),
    )


def _shortest(value: np.floating) -> float:
    """The shortest decimal that is the same float32."""
    return float(str(value))


def _names(ids: Any, count: int) -> tuple[str | int, ...]:
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


def __dir__() -> list[str]:
    return __all__
