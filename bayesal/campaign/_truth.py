"""What the answers of people say together: one label and one weight for every answered row."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bayesal import annotators, likelihoods
from bayesal.campaign import _deal as deal
from bayesal.campaign._recipe import Recipe
from bayesal.types import REJECTED


class Labels(NamedTuple):
    """What a learner is told.

    rows: of the pool, in the order of their first answers.
    labels: class numbers `[n]`, distributions `[n, C]` where the posterior takes them, or real
      numbers.
    weights: 0 where nobody can tell, and where the item is rejected.
    """

    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


Prior = Callable[[np.ndarray], np.ndarray | None]  # rows [n] -> log-probabilities [n, C]


def settled_rows(recipe: Recipe, answers: Sequence[Any], people: int | None = None) -> set[int]:
    """Rows that need no more answers; `people` have answered anything, default: those of
    `answers`.
    """
    if people is None:
        people = len({answer.annotator for answer in answers})
    found = deal.tallies(answers, (), -1, 0.0)
    return {row for row, tally in found.items() if deal.settled(tally, recipe.answers, people)}


def labels_of(recipe: Recipe, answers: Sequence[Any], prior: Prior) -> Labels:
    """The labels that answers give, in the order of the answers.

    One label of a row is taken at its word. Where rows have several, `annotators.dawid_skene` says
    how much each annotator's word counts, with the net's own held-out prediction as prior; before
    there is one, `annotators.one_coin`.

    Args:
      answers: those that count, with row, annotator, kind and value (JSON).
      prior: what the net says of rows, from fits that did not see them; None before it knows
        anything.
    """
    by_row: dict[int, list[Any]] = defaultdict(list)
    for answer in answers:
        if answer.kind != "skip":
            by_row[answer.row].append(answer)
    closed = settled_rows(recipe, answers)
    rows = [row for row, said in by_row.items() if _says(said) or row in closed]
    if recipe.classes is None:
        return _real(rows, by_row)
    labels = _classes(recipe, rows, by_row, prior)
    refused = np.array([_refused(by_row[row]) for row in rows], bool)
    if labels.labels.ndim == 1:
        labels.labels[refused] = REJECTED
    labels.weights[refused] = 0.0
    return labels


def refused_rows(answers: Sequence[Any]) -> set[int]:
    """Rows that most of those who decided call none of the classes."""
    by_row: dict[int, list[Any]] = defaultdict(list)
    for answer in answers:
        by_row[answer.row].append(answer)
    return {row for row, said in by_row.items() if _refused(said)}


def _says(said: list[Any]) -> bool:
    return any(answer.kind in ("label", "reject") for answer in said)


def _refused(said: list[Any]) -> bool:
    kinds = Counter(answer.kind for answer in said)
    return kinds["reject"] > kinds["label"]


def _real(rows: list[int], by_row: dict[int, list[Any]]) -> Labels:
    """The mean of the numbers given."""
    given = [[json.loads(a.value) for a in by_row[row] if a.kind == "label"] for row in rows]
    return Labels(
        rows=np.array(rows, np.int32),
        labels=np.array([np.mean(v) if v else 0.0 for v in given], np.float32),
        weights=np.array([float(bool(v)) for v in given], np.float32),
    )


def _classes(recipe: Recipe, rows: list[int], by_row: dict[int, list[Any]], prior: Prior) -> Labels:
    assert recipe.classes is not None
    number = {name: i for i, name in enumerate(recipe.classes)}
    said = _said(number, [by_row[row] for row in rows])
    every = np.array(rows, np.int32)
    labels = np.zeros(len(rows), np.int32)
    weights = np.zeros(len(rows), np.float32)
    for at, _, label in said:
        labels[at], weights[at] = label, 1.0
    soft = takes_distributions(recipe)
    if len({at for at, _, _ in said}) < len(said):  # a row with two labels
        table = _table(said, len(rows))
        truth = _agreed(table, len(number), prior(every))
        probs, certain = map(np.asarray, annotators.soft_labels(truth))
        probs = probs if soft else probs.argmax(axis=1).astype(np.int32)
        return Labels(rows=every, labels=probs, weights=np.where(weights > 0, certain, 0.0))
    one_hot = np.eye(len(number), dtype=np.float32)[labels]
    return Labels(rows=every, labels=one_hot if soft else labels, weights=weights)


def _said(number: dict[str, int], by_place: list[list[Any]]) -> list[tuple[int, str, int]]:
    """Place, annotator and class of every label."""
    return [
        (at, answer.annotator, number[json.loads(answer.value)])
        for at, answers in enumerate(by_place)
        for answer in answers
        if answer.kind == "label"
    ]


def agreement(
    recipe: Recipe, answers: Sequence[Any], prior: Prior
) -> tuple[np.ndarray, np.ndarray, annotators.Truth] | None:
    """Labeled rows, the answers `[n, people]` about them, and what they say together; None where
    fewer than two people have labeled anything.
    """
    assert recipe.classes is not None
    by_row: dict[int, list[Any]] = defaultdict(list)
    for answer in answers:
        if answer.kind == "label":
            by_row[answer.row].append(answer)
    number = {name: i for i, name in enumerate(recipe.classes)}
    said = _said(number, list(by_row.values()))
    if len({who for _, who, _ in said}) < 2:
        return None
    rows, table = np.array(list(by_row), np.int32), _table(said, len(by_row))
    return rows, table, _agreed(table, len(number), prior(rows))


def _agreed(table: np.ndarray, classes: int, prior: np.ndarray | None) -> annotators.Truth:
    """Without a net as witness one accuracy an annotator, which few second labels can tell; see
    `docs/results/annotators.md`.
    """
    if prior is None:
        return annotators.one_coin(table, classes=classes)
    return annotators.dawid_skene(table, classes=classes, prior=prior)


def _table(said: list[tuple[int, str, int]], rows: int) -> np.ndarray:
    """Answers `[rows, people]`, -1 where somebody was not asked."""
    people = {name: i for i, name in enumerate(sorted({who for _, who, _ in said}))}
    table = np.full((rows, len(people)), -1, np.int32)
    for at, who, label in said:
        table[at, people[who]] = label
    return table


def takes_distributions(recipe: Recipe) -> bool:
    """Whether the posterior's labels are distributions over the classes."""
    blank = likelihoods.labels_of(recipe.posterior).blank
    assert blank is not None
    return np.ndim(blank(1, len(recipe.classes or ()))) == 2
