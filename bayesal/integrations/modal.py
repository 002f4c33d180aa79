"""Any strategy of bayesal as a query strategy of modAL; nothing of modAL is imported."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bayesal import _checks
from bayesal.integrations import _draws
from bayesal.types import Key, Strategy

__all__ = ["query_strategy"]


def query_strategy(
    strategy: Strategy,
    *,
    key: int | Key = 0,
    num_draws: int | None = None,
    embed: Callable[[Any], Any] | None = None,
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """A strategy as modAL calls it: `(learner, X_pool, n_instances=1) -> (indices, scores)`.

    For `ActiveLearner` and `Committee`. Members of a committee, trees of a forest and
    `sample_proba` of an estimator are draws; anything else with `predict_proba` is one draw, and
    strategies that compare draws refuse it. The result is always a pair, for modAL takes an index
    array of length 2 for one.

    Args:
      strategy: one of `bayesal.acquire`.
      key: fixes random choices; with it goes the number of labels that the learner has seen.
      num_draws: K, where the estimator draws.
      embed: features of the rows, for strategies that need them. None: the rows themselves.
    Raises:
      ConstantScores: one draw, for a strategy that compares draws. WrongType: no
        strategy, or an estimator without probabilities.

    >>> from bayesal import acquire, scores
    >>> class Learner:  # as modAL's: probabilities of two classes
    ...     def predict_proba(self, x):
    ...         return np.c_[x, 1 - x]
    >>> query = query_strategy(acquire.top(scores.margin))
    >>> indices, margins = query(Learner(), np.array([[0.1], [0.5], [0.7]]), n_instances=2)
    >>> indices.tolist()
    [1, 2]
    """
    key = _checks.key(key)

    def query(
        learner: Any, X_pool: Any, n_instances: int = 1, **unused: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        del unused
        known = _labels(learner)
        pool = _draws.pool_of(
            getattr(learner, "estimator", learner), X_pool, num_draws=num_draws, embed=embed
        )
        found = _draws.picked(jax.random.fold_in(key, known), pool, n_instances, strategy)
        return np.asarray(found.indices), np.asarray(found.scores)

    return query


def _labels(learner: Any) -> int:
    """How many labels a learner has seen: pure, so that modAL's second try is the first again."""
    if members := getattr(learner, "learner_list", ()):
        return sum(_labels(member) for member in members)
    seen = getattr(learner, "y_training", None)
    return 0 if seen is None else len(seen)


def __dir__() -> list[str]:
    return __all__
