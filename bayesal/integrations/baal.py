"""Scores and strategies of bayesal as heuristics of baal."""

from typing import Any

import numpy as np

from bayesal import _checks, errors, pools
from bayesal._choose import choose
from bayesal.predictive import _reading
from bayesal.types import Key, Score, Strategy

__all__ = ["heuristic"]


def heuristic(
    of: Score | Strategy,
    *,
    kind: str,
    size: int | None = None,
    reduction: Any = "none",
    key: int | Key = 0,
) -> Any:
    """A score or a strategy as a heuristic of baal, an `AbstractHeuristic`.

    baal's predictions are `[N, C, ..., K]`, and its docs allow probabilities and logits alike, so
    `kind` says which; nothing is guessed. Higher is more worth labeling (`reversed` is True).

    A score gives its own values, per pixel where predictions have more axes. A strategy gives
    ranks: its first pick `size`, its last 1, all other rows 0. baal puts 0 in the place of what is
    not finite, which could be its highest score; so neither gives such a number.

    Args:
      of: a score of `bayesal.scores`, or a strategy of `bayesal.acquire`.
      kind: "probs" or "logits" (or "log_probs").
      size: picks of a strategy, as many as will be labeled; None: it ranks all rows.
      reduction: of scores per pixel to one per row: "mean", "max", "sum", or a function.
      key: fixes random choices.
    Raises:
      ImportError: no baal. UnknownName: no such kind. WrongType: something else than a score or a
        strategy. From the heuristic, WrongShape, NotLogProbabilities, NonFinite: its predictions.
    """
    with _checks.installed("baal", "baal"):
        from baal.active.heuristics import AbstractHeuristic

    if kind not in ("probs", "logits", "log_probs"):
        raise errors.UnknownName(
            "kind", f"`kind` must be 'probs', 'logits' or 'log_probs', got {kind!r}."
        )
    if not isinstance(of, Strategy):
        _checks.function(of, "of", "a score such as scores.bald, or a strategy of bayesal.acquire")

    class Heuristic(AbstractHeuristic):
        def __init__(self):
            super().__init__(reverse=True, reduction=reduction)

        def compute_score(self, predictions, target_predictions=None):
            if target_predictions is not None:
                raise errors.WrongType(
                    "target_predictions",
                    "`target_predictions` are not used: acquire.epig takes its targets from the "
                    "pool.",
                )
            if isinstance(of, Strategy):
                return _ranks(of, predictions, kind, size, _checks.key(key))
            return scored(of, predictions, kind)

    return Heuristic()


def scored(score: Score, predictions: Any, kind: str) -> np.ndarray:
    """A score of predictions `[N, C, ..., K]`, `[N, ...]`."""
    given = np.asarray(_reading.read(predictions, "predictions"))
    if given.ndim < 3:
        raise errors.WrongShape(
            "predictions",
            f"`predictions` must be [N, C, ..., K], the draws last; got shape {given.shape}. One "
            "draw alone needs its axis too: predictions[..., None].",
        )
    laid = np.moveaxis(given, (-1, 1), (0, -1))  # [K, N, ..., C]
    flat = laid.reshape(laid.shape[0], -1, laid.shape[-1])
    _reading.refuse_nan(flat, "predictions")
    found = np.asarray(score(_reading.log_probs(kind, flat)))
    if len(bad := np.flatnonzero(~np.isfinite(found))):
        rows = np.unique(bad // max(1, len(found) // len(given)))
        raise errors.NonFinite(
            "of", f"the score is not finite at {len(rows)} rows ({_checks.listed(rows)}).", rows
        )
    return found.reshape(laid.shape[1:-1])


def _ranks(strategy: Strategy, predictions: Any, kind: str, size: Any, key: Key) -> np.ndarray:
    pool = pools.numbers(**{kind: predictions}, axes="N C K")
    assert pool.rows is not None
    wanted = min(pool.rows, pool.rows if size is None else _checks.at_least(1, size, "size"))
    found = choose(key, None, pool, wanted, strategy)
    ranks = np.zeros(pool.rows)
    ranks[np.asarray(found.indices)] = np.arange(len(found.indices), 0, -1)
    return ranks


def __dir__() -> list[str]:
    return __all__
