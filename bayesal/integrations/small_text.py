"""Any strategy of bayesal as a query strategy of small-text; nothing of small-text is imported."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesal import _checks, pools
from bayesal._choose import strategy_of
from bayesal.integrations import _draws
from bayesal.types import Key, Strategy

__all__ = ["QueryStrategy"]


class QueryStrategy(NamedTuple):
    """A strategy as small-text calls it: `query(clf, dataset, indices_unlabeled, ...)`.

    Only unlabeled texts are predicted. A classifier that takes `dropout_sampling` gives `num_draws`
    draws by it. Its masks are new in every batch, so a draw is not one function of x: prefer
    strategies that rank texts one by one (`power`, `top`) over `batch_bald`. Any other classifier
    is one draw, and strategies that compare draws refuse it.

    strategy:  one of `bayesal.acquire`.
    num_draws: K, for dropout.
    embed:     `(clf, texts) -> [n, D]`, for strategies that need features. None: the classifier's
      own `embed`, where it has one.
    key:       fixes random choices; the number of labels goes with it.

    >>> from bayesal import acquire, scores
    >>> class Classifier:
    ...     def predict_proba(self, texts):
    ...         return np.c_[texts, 1 - texts]
    >>> query = QueryStrategy(acquire.top(scores.margin)).query
    >>> query(Classifier(), np.array([0.4, 0.6, 0.9]), np.array([1, 2]), np.array([0]), [1], n=1)
    array([1])
    """

    strategy: Strategy
    num_draws: int = 10
    embed: Callable[[Any, Any], Any] | None = None
    key: int | Key = 0

    def query(
        self,
        clf: Any,
        dataset: Any,
        indices_unlabeled: Any,
        indices_labeled: Any,
        y: Any,
        n: int = 10,
    ) -> np.ndarray:
        """The `n` texts to label next, as indices of `dataset`, best first."""
        del y  # the classifier has seen them
        rows, texts = np.asarray(indices_unlabeled), dataset[np.asarray(indices_unlabeled)]
        strategy = strategy_of(self.strategy)
        pool = _predicted(clf, texts, self.num_draws, _embedded(clf, texts, self.embed))
        key = jax.random.fold_in(_checks.key(self.key), len(indices_labeled))
        found = _draws.picked(key, pool, n, strategy)
        return rows[np.asarray(found.indices)]


def _predicted(clf: Any, texts: Any, num_draws: int, features: Any) -> Any:
    if "dropout_sampling" not in inspect.signature(clf.predict_proba).parameters:
        return pools.numbers(probs=clf.predict_proba(texts), axes="N C", features=features)
    probs = clf.predict_proba(texts, dropout_sampling=_checks.at_least(2, num_draws, "num_draws"))
    return pools.numbers(probs=probs, axes="N K C", features=features)


def _embedded(clf: Any, texts: Any, embed: Callable | None) -> Any:
    if embed is not None:
        return embed(clf, texts)
    return clf.embed(texts) if hasattr(clf, "embed") else None


def __dir__() -> list[str]:
    return __all__
