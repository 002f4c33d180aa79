"""Any strategy as scikit-activeml's query strategy, and a posterior as its classifier."""

from typing import Any

import jax
import numpy as np

from bayesal import _checks
from bayesal.integrations import _draws, _fitting
from bayesal.integrations._utilities import picked, utilities

with _checks.installed("skactiveml", "scikit-activeml"):
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy, SkactivemlClassifier
    from skactiveml.utils import (
        MISSING_LABEL,
        check_equal_missing_label,
        check_n_features,
        check_type,
        is_labeled,
    )
    from sklearn.base import clone
    from sklearn.utils.validation import check_array, check_is_fitted

__all__ = ["BayesianClassifier", "QueryStrategy"]


class QueryStrategy(SingleAnnotatorPoolQueryStrategy):
    """A strategy as scikit-activeml asks it: `query(X, y, clf)` gives rows of `X`.

    A classifier with `sample_proba` gives draws, the same K functions at every row if it is the
    `BayesianClassifier` of this module; any other is one draw, and strategies that compare draws
    refuse it. Where all rows have the same score, as before the first label, picks are by chance,
    which is the peer's rule for ties, and a warning says so.

    Args:
      strategy: one of `bayesal.acquire`.
      num_draws: K of classifiers that draw; None: as many as they draw by themselves.
      missing_label: what stands for a missing label.
      random_state: fixes random choices.

    >>> from bayesal import acquire
    >>> x, y = np.arange(10.0)[:, None], np.array([0, *[np.nan] * 8, 1])
    >>> model = BayesianClassifier(classes=[0, 1])
    >>> query = QueryStrategy(acquire.power(), random_state=0)
    >>> rows, utilities = query.query(x, y, model, batch_size=2, return_utilities=True)
    >>> rows.shape, utilities.shape
    ((2,), (2, 10))
    """

    def __init__(
        self,
        strategy: Any,
        num_draws: Any = None,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ):
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.strategy = strategy
        self.num_draws = num_draws

    def query(
        self,
        X: Any,
        y: Any,
        clf: Any,
        fit_clf: bool = True,
        sample_weight: Any = None,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """Rows to label next, best first: of `X`, or of `candidates` where those are samples.

        Args:
          clf: a `SkactivemlClassifier`; with `fit_clf` a clone of it is fitted to `X` and `y`.
          return_utilities: with `[batch_size, n]` utilities. Row b holds those after b picks, NaN
            for rows with a label, rows picked before, and rows that are no candidates. Of a batch
            of joint information about the draws: gains given the b picks. Of scores: themselves.
            Of all other strategies, which give rows no numbers: the pick's own score, others below.
        """
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True
        )
        x, mapping = self._transform_candidates(candidates, X, y)
        check_type(clf, "clf", SkactivemlClassifier)
        check_equal_missing_label(clf.missing_label, self.missing_label_)
        check_type(fit_clf, "fit_clf", bool)
        if fit_clf:
            weights = {} if sample_weight is None else {"sample_weight": sample_weight}
            clf = clone(clf).fit(X, y, **weights)
        key = jax.random.key(self.random_state_.randint(2**31 - 1))
        pool = _draws.pool_of(clf, x, num_draws=self.num_draws)
        found, values = picked(key, pool, batch_size, self.strategy)
        rows = np.asarray(found.indices)
        picks = rows if mapping is None else np.asarray(mapping)[rows]
        if not return_utilities:
            return picks
        if values is None:
            values = utilities(key, pool, self.strategy, found)
        if mapping is None:
            return picks, values
        wide = np.full((len(values), len(X)), np.nan)
        wide[:, mapping] = values
        return picks, wide


class BayesianClassifier(_fitting.Kept, SkactivemlClassifier):
    """A posterior as a classifier of scikit-activeml, with `sample_proba`.

    Before the first label, and of a single class, all classes are equally probable.

    Args:
      posterior, num_draws, calibrate, retune, hparams: see `integrations.sklearn`.
      classes, missing_label, cost_matrix, random_state: the peer's.

    >>> x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, np.nan, np.nan, 1]
    >>> model = BayesianClassifier(classes=[0, 1]).fit(x, y)
    >>> model.predict(x).tolist(), model.sample_proba(x, 7).shape
    ([0, 0, 1, 1], (7, 4, 2))
    """

    def __init__(
        self,
        posterior: Any = None,
        num_draws: Any = None,
        calibrate: Any = None,
        retune: Any = None,
        hparams: Any = None,
        classes: Any = None,
        missing_label: Any = MISSING_LABEL,
        cost_matrix: Any = None,
        random_state: Any = 0,
    ):
        super().__init__(
            classes=classes,
            missing_label=missing_label,
            cost_matrix=cost_matrix,
            random_state=random_state,
        )
        self.posterior = posterior
        self.num_draws = num_draws
        self.calibrate = calibrate
        self.retune = retune
        self.hparams = hparams

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "BayesianClassifier":
        """Fit to the rows of `X` that have a label in `y`."""
        X, y, sample_weight = self._validate_data(X, y, sample_weight)
        known = is_labeled(y, missing_label=-1)
        self.predictive_ = None
        if known.any() and len(self.classes_) > 1:
            weights = None if sample_weight is None else np.asarray(sample_weight)[known]
            x, numbers = np.asarray(X[known], np.float32), np.asarray(y[known], int)
            self.predictive_ = _fitting.of(self, x, numbers, weights, len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities averaged over the draws `[n, C]`, in the order of `classes_`."""
        rows = self._rows(X)
        if self.predictive_ is None:
            return np.full((len(rows), len(self.classes_)), 1.0 / len(self.classes_))
        return np.asarray(self.predictive_.probs(_fitting.padded(rows)))[: len(rows)]

    def sample_proba(
        self, X: Any, n_samples: int | None = None, random_state: Any = None
    ) -> np.ndarray:
        """Probabilities under each of K draws `[K, n, C]`, the same K functions at every row."""
        rows = self._rows(X)
        if self.predictive_ is None:
            count = n_samples or self.num_draws or 50
            return np.full((count, len(rows), len(self.classes_)), 1.0 / len(self.classes_))
        said = _fitting.draws_of(self, n_samples, random_state)(_fitting.padded(rows))
        return np.exp(np.asarray(said))[:, : len(rows)]

    def _rows(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = check_array(X, dtype=np.float32)
        check_n_features(self, X, reset=False)
        return X


def __dir__() -> list[str]:
    return __all__
