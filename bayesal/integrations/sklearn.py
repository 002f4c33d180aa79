"""Posteriors as scikit-learn estimators, for its pipelines, searches and cross-validation."""

from typing import Any

import jax
import numpy as np

from bayesal import _checks, errors
from bayesal.integrations import _fitting

with _checks.installed("sklearn", "scikit-learn"):
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import validate_data

__all__ = ["BayesianClassifier", "BayesianRegressor"]


class BayesianClassifier(_fitting.Kept, ClassifierMixin, BaseEstimator):
    """A posterior over classes as a scikit-learn classifier.

    Fitted, it has `classes_`, and `predictive_`: the draws, for `bayesal.choose`.

    Args:
      posterior: a function `(features, classes) -> Posterior` that can be imported, so that the
        estimator can be pickled; or a `Posterior`. None: `posteriors.logistic(classes)`.
      num_draws: K; default 50, or the members of an ensemble.
      calibrate: such as `calibrate.temperature()`, on out-of-fold predictions of the training rows.
      retune: such as `retune.successive_halving()`.
      hparams: where fits start; see `HParams`.
      random_state: an int, a NumPy `RandomState`, or None for another result in every fit.

    >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> model = BayesianClassifier().fit(x, ["no", "no", "yes", "yes"])
    >>> model.predict([[-3.0], [3.0]]).tolist()
    ['no', 'yes']
    >>> model.sample_proba([[0.0]]).shape  # 50 draws, one row, two classes
    (50, 1, 2)
    """

    def __init__(
        self,
        posterior: Any = None,
        *,
        num_draws: Any = None,
        calibrate: Any = None,
        retune: Any = None,
        hparams: Any = None,
        random_state: Any = 0,
    ):
        self.posterior = posterior
        self.num_draws = num_draws
        self.calibrate = calibrate
        self.retune = retune
        self.hparams = hparams
        self.random_state = random_state

    def fit(self, X: Any, y: Any, weights: Any = None) -> "BayesianClassifier":
        """Fit to rows `X [N, D]` and their labels `y [N]`.

        Args:
          weights: how much each label counts `[N]`, as in `Learner.tell`. Not a number of copies:
            folds deal rows, so two copies are not one row of weight 2.
        Raises:
          WrongLabel: one class only.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise errors.WrongLabel(
                "y",
                f"`y` has one class, {self.classes_.tolist()[0]!r}: a classifier needs rows of at "
                "least two classes to tell apart.",
            )
        self.predictive_ = _fitting.of(self, X, numbers, weights, len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities averaged over the draws `[n, C]`, in the order of `classes_`."""
        rows = _fitting.rows_of(self, X)
        return np.asarray(self.predictive_.probs(_fitting.padded(rows)))[: len(rows)]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row `[n]`."""
        rows = _fitting.rows_of(self, X)
        numbers = np.asarray(self.predictive_.predict(_fitting.padded(rows)))[: len(rows)]
        return self.classes_[numbers]

    def sample_proba(
        self, X: Any, n_samples: int | None = None, random_state: Any = None
    ) -> np.ndarray:
        """Probabilities under each of K draws `[K, n, C]`, the same K functions at every row.

        Args:
          n_samples: K; None: the draws that predict.
          random_state: of new draws; None: the estimator's own.
        """
        rows = _fitting.rows_of(self, X)
        said = _fitting.draws_of(self, n_samples, random_state)(_fitting.padded(rows))
        return np.exp(np.asarray(said))[:, : len(rows)]


class BayesianRegressor(_fitting.Kept, RegressorMixin, BaseEstimator):
    """A posterior over real labels as a scikit-learn regressor.

    Fitted, it has `predictive_`: the draws, for `bayesal.choose`.

    Args:
      posterior: a function `(features, classes) -> Posterior`, called with 0 classes; or a
        `Posterior`. None: `posteriors.linear()`.
      num_draws, calibrate, retune, hparams, random_state: see `BayesianClassifier`; calibrators of
        real labels are `calibrate.variance()` and kin.

    >>> x = np.arange(8.0)[:, None]
    >>> mean, std = BayesianRegressor().fit(x, 3.0 * x[:, 0]).predict([[10.0]], return_std=True)
    >>> mean.round(1).tolist()
    [30.0]
    """

    def __init__(
        self,
        posterior: Any = None,
        *,
        num_draws: Any = None,
        calibrate: Any = None,
        retune: Any = None,
        hparams: Any = None,
        random_state: Any = 0,
    ):
        self.posterior = posterior
        self.num_draws = num_draws
        self.calibrate = calibrate
        self.retune = retune
        self.hparams = hparams
        self.random_state = random_state

    def fit(self, X: Any, y: Any, weights: Any = None) -> "BayesianRegressor":
        """Fit to rows `X [N, D]` and their labels `y [N]`; `weights` as in `Learner.tell`."""
        X, y = validate_data(self, X, y, dtype=np.float32, y_numeric=True)
        self.predictive_ = _fitting.of(self, X, np.asarray(y, np.float32), weights, 0)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Mean of each row's label `[n]`; with `return_std` its standard deviation too, over draws
        and noise.
        """
        rows = _fitting.rows_of(self, X)
        found = self.predictive_.moments(_fitting.padded(rows))
        mean, variance = (np.asarray(part)[: len(rows)] for part in found)
        return (mean, np.sqrt(variance)) if return_std else mean

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Labels as they might come `[n, n_samples]`: each column is one draw, and its noise."""
        rows = _fitting.rows_of(self, X)
        said = _fitting.draws_of(self, n_samples, random_state)(_fitting.padded(rows))
        key = jax.random.fold_in(jax.random.key(_fitting.seed_of(random_state)), 1)
        return np.asarray(_fitting.labels(key, said))[:, : len(rows)].T


def __dir__() -> list[str]:
    return __all__
