"""Answers as a matrix `[N, A]`: the door for triples, and the check of what comes in."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from bayesal import _checks, errors
from bayesal.types import ArrayLike

NOT_ASKED = -1
ABSTAIN = -2
MOST_CELLS = 2**31  # of a table, before a wrong number exhausts the memory


class Table(NamedTuple):
    """Answers as a matrix.

    answers: class of each item by each annotator `[N, A]`, ABSTAIN (-2), or -1 where not asked.
    replaced: number of answers that a later answer of the same annotator to the same item replaced.
    """

    answers: Int[np.ndarray, "N A"]
    replaced: int


def table(
    items: Int[ArrayLike, " R"],
    annotators: Int[ArrayLike, " R"],
    labels: Int[ArrayLike, " R"],
    *,
    shape: tuple[int, int] | None = None,
) -> Table:
    """Answers (item, annotator, label) as a matrix `[N, A]`, the last answer of each pair.

    Args:
      items: item of each answer, in [0, N), in order of time.
      annotators: annotator of each answer, in [0, A).
      labels: class of each answer, or ABSTAIN.
      shape: (N, A); default: the highest numbers that occur, plus 1.
    Returns:
      The matrix, and the number of answers that were replaced.
    Raises:
      WrongIndex: an item or annotator out of range. WrongLabel: a label that is neither a class nor
        ABSTAIN. WrongShape: columns of different lengths. WrongSize: a table without cells.

    >>> found = table(np.array([0, 1, 1]), np.array([0, 1, 1]), np.array([2, 0, 1]))
    >>> found.answers, found.replaced
    (array([[ 2, -1],
           [-1,  1]], dtype=int32), 1)
    """
    labels = _whole(labels, "labels", 1)
    columns = [_whole(items, "items", 1), _whole(annotators, "annotators", 1)]
    if shape is None:
        shape = int(columns[0].max(initial=-1)) + 1, int(columns[1].max(initial=-1)) + 1
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] > MOST_CELLS:
        raise errors.WrongSize(
            "shape",
            f"`shape` = {shape} must be (items, annotators), both at least 1, with at most "
            f"{MOST_CELLS:,} cells.",
        )
    for name, column, size in zip(("items", "annotators"), columns, shape, strict=True):
        if column.shape != labels.shape:
            raise errors.WrongShape(
                name, f"`{name}` has {len(column)} entries, but there are {len(labels)} labels."
            )
        if len(bad := np.flatnonzero((column < 0) | (column >= size))):
            raise errors.WrongIndex(
                name,
                f"`{name}` must lie in [0, {size}); positions {_checks.listed(bad)} hold "
                f"{_checks.listed(column[bad])}. Names become numbers by "
                "np.unique(names, return_inverse=True).",
                bad,
            )
    if len(bad := np.flatnonzero((labels < 0) & (labels != ABSTAIN))):
        raise errors.WrongLabel(
            "labels",
            f"`labels` must be classes from 0 on, or annotators.ABSTAIN ({ABSTAIN}); positions "
            f"{_checks.listed(bad)} hold {_checks.listed(labels[bad])}. Leave out items that are "
            "none of the classes (bayesal.REJECTED): they have no true class.",
            bad,
        )
    answers = np.full(shape, NOT_ASKED, np.int32)
    answers[tuple(columns)] = labels  # NumPy keeps the last of several
    return Table(answers, int(len(labels) - (answers != NOT_ASKED).sum()))


def checked(answers: Any, classes: int) -> Int[np.ndarray, "N A"]:
    """Answers `[N, A]` of classes in `[0, C)`, -1 and ABSTAIN, as int32."""
    _checks.at_least(2, classes, "classes")
    host = _whole(answers, "answers", 2)
    if 0 in host.shape:
        raise errors.WrongSize(
            "answers",
            f"`answers` needs at least one item and one annotator; got shape {host.shape}.",
        )
    allowed = (host < classes) & (host >= ABSTAIN)
    if len(bad := np.argwhere(~allowed)):
        raise errors.WrongLabel(
            "answers",
            f"`answers` must be classes in [0, {classes}), -1 (not asked) or annotators.ABSTAIN "
            f"({ABSTAIN}); {len(bad)} are not, first {host[tuple(bad[0])]} of item {bad[0][0]} by "
            f"annotator {bad[0][1]}. Labels count from 0.",
            np.unique(bad[:, 0]),
        )
    return host.astype(np.int32)


def _whole(values: Any, name: str, ndim: int) -> np.ndarray:
    """Whole numbers of a known number of axes, on the host."""
    if not _checks.concrete(values):
        raise errors.WrongType(
            name, f"`{name}` is traced: annotators' answers are read outside jit and vmap."
        )
    host = np.asarray(_checks.plain(values, name))
    if host.ndim != ndim:
        axes = "[N items, A annotators]; `annotators.table` makes it" if ndim == 2 else "[answers]"
        raise errors.WrongShape(name, f"`{name}` must have shape {axes}; got {host.shape}.")
    if host.dtype.kind not in "iu":
        raise errors.WrongLabel(
            name,
            f"`{name}` must be whole numbers, got dtype {host.dtype}. Missing answers (NaN) are "
            "-1: np.nan_to_num(x, nan=-1).astype(int). Names become numbers by "
            "np.unique(names, return_inverse=True).",
        )
    return host
