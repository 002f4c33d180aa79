"""What a model of another library says of its pool, as numbers; and the choice among them."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bayesal import _checks, errors, pools
from bayesal._choose import choose, strategy_of
from bayesal.predictive import from_committee
from bayesal.types import Key, Pool, Selection, Strategy


def pool_of(
    model: Any, x: Any, *, num_draws: int | None = None, embed: Callable[[Any], Any] | None = None
) -> Pool:
    """Predictions of all draws that a fitted model has, one draw where it has only an average.

    Args:
      model: with `sample_proba(x, n_samples) -> [K, n, C]`; a committee with `vote_proba`, or with
        `estimators_`; else with `predict_proba`. Of a pipeline the last step is asked.
      num_draws: K, where the model draws. None: as many as it draws by itself.
      embed: features of the rows. None: the rows themselves, where they are vectors.
    """
    features = _vectors(x) if embed is None else embed(x)
    if hasattr(model, "named_steps"):
        x, model = model[:-1].transform(x), model[-1]
    if hasattr(model, "sample_proba"):
        said = model.sample_proba(x, **({} if num_draws is None else {"n_samples": num_draws}))
        return pools.numbers(probs=said, axes="K N C", features=features)
    if hasattr(model, "vote_proba"):
        return pools.numbers(probs=model.vote_proba(x), axes="N K C", features=features)
    if (members := _committee(model)) is not None:
        return pools.numbers(log_probs=members(_dense(x)), axes="K N C", features=features)
    if not hasattr(model, "predict_proba"):
        raise errors.WrongType(
            "model",
            f"{type(model).__name__} has no `predict_proba`, and a strategy compares "
            "probabilities. CalibratedClassifierCV gives them to a classifier without.",
        )
    return pools.numbers(probs=model.predict_proba(x), axes="N C", features=features)


def _committee(model: Any) -> Any:
    """An ensemble whose members are models of the data, or None: boosted trees are none."""
    if not hasattr(model, "estimators_"):
        return None
    try:
        return from_committee(model)
    except (errors.WrongType, errors.WrongSize):
        return None


def _dense(x: Any) -> np.ndarray:
    x = x.toarray() if hasattr(x, "toarray") else x
    return np.asarray(x.to_numpy() if hasattr(x, "to_numpy") else x)


def _vectors(x: Any) -> np.ndarray | None:
    rows = _dense(x)
    if rows.dtype.kind not in "iufb" or rows.ndim < 2:
        return None
    return rows.reshape(len(rows), -1).astype(np.float32)


def picked(
    key: Key, pool: Pool, size: int, strategy: Any, available: np.ndarray | None = None
) -> Selection:
    """`choose` among numbers. A strategy that compares draws refuses a single one.

    Raises:
      ConstantScores: there is one draw, and the strategy compares draws. What `choose` raises.
    """
    strategy_of(strategy)
    found = measured(key, pool, strategy) if number_of_draws(pool) == 1 else None
    if found is not None and pool.rows and pool.rows > 1 and np.ptp(found) == 0:
        raise errors.ConstantScores(
            "strategy",
            "the model gives one prediction per row and no draws, and this strategy gives all rows "
            "the same score. If it compares draws, it needs a committee, or a model with "
            "`sample_proba` such as integrations.sklearn.BayesianClassifier. Without draws: "
            "acquire.top(scores.margin).",
        )
    return choose(key, None, pool, size, strategy, available=available)


def measured(key: Key, pool: Pool, strategy: Strategy) -> np.ndarray | None:
    """The number that a strategy measures of every row `[N]`; None where it measures none."""
    if strategy.measure is None:
        return None
    with _checks.unseen():
        aux = None if strategy.prepare is None else strategy.prepare(key, pool.predictive, pool)
        found = pool.map(pool.predictive, jax.tree_util.Partial(strategy.measure, aux))
    return np.asarray(found) if np.ndim(found) == 1 else None


def number_of_draws(pool: Pool) -> int:
    """K of a pool of numbers."""
    return jax.tree.leaves(pool.take(np.zeros(1, int)).prediction)[0].shape[0]
