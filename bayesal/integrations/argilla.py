"""Picks as records of Argilla, and people's responses as labels. For Argilla 2."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, errors
from bayesal.types import ArrayLike, Selection

__all__ = ["Answers", "answers", "records", "settings"]

QUESTION, SCORE, REQUIREMENT = "label", "acquisition", "argilla"


class Answers(NamedTuple):
    """Responses as people submitted them, one entry each, in the order of the records.

    rows:       rows of the pool `[R]`.
    labels:     numbers of the classes `[R]`.
    annotators: ids of the people `[R]`.
    discarded:  rows that somebody discarded with a value in place; Argilla tells no others.
    """

    rows: Int[np.ndarray, " R"]
    labels: Int[np.ndarray, " R"]
    annotators: np.ndarray
    discarded: Int[np.ndarray, " Q"]


def settings(
    fields: Sequence[Any], classes: Sequence[str], *, question: str = QUESTION, **more: Any
) -> Any:
    """Settings of a dataset that picks can be logged to: one question, and its `acquisition` score.

    Argilla cannot add a metadata property later, so it has to be there from the start.

    Args:
      fields: such as `[rg.TextField(name="text")]`.
      classes: names of the classes, in the order of the network's outputs.
      question: name of the question.
      more: other arguments of `rg.Settings`, such as `guidelines`.
    Raises:
      ImportError: no Argilla.
    """
    rg = _argilla()
    return rg.Settings(
        fields=list(fields),
        questions=[rg.LabelQuestion(name=question, labels=list(classes))],
        metadata=[rg.FloatMetadataProperty(name=SCORE)],
        **more,
    )


def records(
    selection: Selection,
    fields: Callable[[int], Mapping[str, Any]],
    *,
    probs: Float[ArrayLike, "B C"] | None = None,
    classes: Sequence[str] = (),
    question: str = QUESTION,
    agent: str = "bayesal",
) -> list[Any]:
    """A batch as records, best first: `dataset.records.log(records(...))`.

    A record's id is its row of the pool, so that logging a batch again changes nothing. Its score
    is the metadata `acquisition`, by which the dataset is sorted, highest first. A score that is
    not finite (a pick of an audit) is left out.

    Args:
      selection: as `choose` or a learner's `ask` gives it.
      fields: `row -> {field: value}`.
      probs: probabilities of the picks `[B, C]`; the most probable class is then suggested. People
        tend to agree with suggestions, so there is none by default.
      classes: their names, as in `settings`.
      question, agent: whom the suggestion is for, and who says so, such as "bayesal-r7".
    Raises:
      ImportError: no Argilla. WrongShape: `probs` of other rows or classes.
    """
    rg = _argilla()
    rows, scores = np.asarray(selection.indices), np.asarray(selection.scores)
    said = None if probs is None else np.asarray(probs)
    if said is not None and said.shape != (len(rows), len(classes)):
        raise errors.WrongShape(
            "probs",
            f"`probs` must be [{len(rows)} picks, {len(classes)} classes], got {said.shape}: "
            "predict the picked rows alone, and pass `classes`.",
        )
    found = []
    for pick, row in enumerate(rows.tolist()):
        suggested = []
        if said is not None:
            best = int(said[pick].argmax())
            score = float(said[pick, best])
            suggested.append(rg.Suggestion(question, classes[best], score=score, agent=agent))
        found.append(
            rg.Record(
                id=str(row),
                fields=dict(fields(row)),
                metadata={SCORE: float(scores[pick])} if np.isfinite(scores[pick]) else {},
                suggestions=suggested,
            )
        )
    return found


def answers(records: Iterable[Any], classes: Sequence[str], *, question: str = QUESTION) -> Answers:
    """What people submitted, for `tell` or `annotators.table`; drafts do not count.

    Args:
      records: `dataset.records(with_responses=True)`.
      classes, question: as in `settings`.
    Raises:
      UnknownName: a response that is none of the classes. WrongIndex: a record whose id is no row.
    """
    number = {name: at for at, name in enumerate(classes)}
    rows, labels, people, discarded = [], [], [], []
    for record in records:
        if not str(record.id).isdecimal():
            raise errors.WrongIndex(
                "records",
                f"a record has the id {record.id!r}, which is no row of the pool: read the dataset "
                "that `records` were logged to.",
            )
        for response in record.responses:
            status = getattr(response.status, "value", response.status)
            if response.question_name != question or status not in ("submitted", "discarded"):
                continue
            if status == "discarded":
                discarded.append(int(record.id))
                continue
            if response.value not in number:
                raise errors.UnknownName(
                    "classes",
                    f"row {record.id} was answered {response.value!r}, which is not among "
                    f"`classes` = {list(classes)[:10]}.",
                )
            rows.append(int(record.id))
            labels.append(number[response.value])
            people.append(str(response.user_id))
    ids = lambda values: np.asarray(values, np.int64)
    return Answers(ids(rows), ids(labels), np.asarray(people, object), ids(sorted({*discarded})))


def _argilla() -> Any:
    with _checks.installed("argilla", REQUIREMENT):
        import argilla
    return argilla


def __dir__() -> list[str]:
    return __all__
