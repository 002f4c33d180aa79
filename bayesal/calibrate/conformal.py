"""Split conformal prediction: sets and intervals of guaranteed coverage, whatever the net.

A nonconformity score measures how badly a label fits a prediction, higher = worse. Scores of
held-out labels give a limit, and a new point's set is every label that scores at or below it. If
held-out and new points are exchangeable, the set covers the truth with probability at least
1 - alpha, and at most 1/(n + 1) more where no scores are tied. Neither actively chosen labels nor
training labels are exchangeable with the pool: hold out a random sample. Residuals have the label's
unit.

>>> # ten held-out points, all of class 0
>>> probs = jnp.array([[0.8, 0.1, 0.1]] * 9 + [[0.3, 0.6, 0.1]])
>>> most = limit(of_label(lac_score(jnp.log(probs)), jnp.zeros(10, int)), 0.2)
>>> sets(lac_score(jnp.log(jnp.array([[0.5, 0.45, 0.05], [0.85, 0.1, 0.05]]))), most).tolist()
[[False, False, False], [True, False, False]]
"""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Real

from bayesal import _checks, errors, likelihoods
from bayesal.types import Array, ArrayLike, Gaussian, Key, Mixture

__all__ = [
    "aps_score",
    "cqr_score",
    "interval",
    "lac_score",
    "limit",
    "limits",
    "of_label",
    "residual",
    "sets",
]


def _share(value: Any, name: str = "alpha") -> Fraction:
    if isinstance(value, bool) or not 0 < float(value) < 1:
        raise errors.OutOfRange(
            name,
            f"`{name}` must lie strictly between 0 and 1 (0.1: nine of ten sets cover the label), "
            f"got {value!r}.",
        )
    return Fraction(str(float(value)))  # 0.1 is one tenth, as typed


def limit(scores: Real[ArrayLike, " n"], alpha: float) -> float:
    """The conformal limit: the k-th smallest of n held-out scores, k = ceil((n + 1) (1 - alpha)).

    It is inf if k > n: with so few labels only the full set has the coverage. A new point's score
    lies at or below the limit with probability k / (n + 1) without ties, and more with them. For
    fixed held-out points the coverage follows Beta(k, n + 1 - k): with 100 points and alpha = 0.1
    it is between 0.85 and 0.945 in nine of ten cases.

    Args:
      scores: of held-out labels: `of_label(...)`, or residuals.
      alpha: miscoverage, the share of sets that may miss the label; strictly between 0 and 1.
    Raises:
      WrongSize: no scores. NonFinite: NaN among them.
    References:
      Vovk et al. 2005; Lei et al. 2018, https://arxiv.org/abs/1604.04173; conditional coverage:
      Vovk 2012.

    >>> limit(np.arange(1.0, 10.0), 0.1), limit(np.arange(1.0, 9.0), 0.1)
    (9.0, inf)
    """
    host, share = np.asarray(_checks.plain(scores, "scores")), _share(alpha)
    if host.ndim != 1 or host.dtype.kind not in "iuf":
        raise errors.WrongShape(
            "scores",
            "`scores` must be real numbers [n], one per held-out label; got shape "
            f"{host.shape}, dtype {host.dtype}.",
        )
    if len(host) == 0:
        raise errors.WrongSize("scores", "`scores` is empty: a limit needs held-out labels.")
    if len(bad := np.flatnonzero(np.isnan(host))):
        raise errors.NonFinite("scores", f"`scores` is NaN at labels {_checks.listed(bad)}.", bad)
    place = -(-(len(host) + 1) * (1 - share) // 1)
    return float(np.sort(host)[place - 1]) if place <= len(host) else float("inf")


def limits(
    scores: Real[ArrayLike, " n"], labels: Int[ArrayLike, " n"], classes: int, alpha: float
) -> Float[np.ndarray, " C"]:
    """A limit per class from its own held-out labels: coverage per class (Mondrian).

    A class with fewer than 1 / alpha - 1 labels has inf, and is in every set.

    Args:
      scores, alpha: see `limit`.
      labels: the class of each score.
      classes: C, at most 10,000,000.
    References:
      Vovk 2012, https://arxiv.org/abs/1209.2673

    >>> limits(np.arange(10.0), np.repeat([0, 1], [9, 1]), 2, 0.1).tolist()
    [8.0, inf]
    """
    classes = _checks.at_least(2, classes, "classes", most=10_000_000)
    limit(scores, alpha)  # checks both
    scores = np.asarray(_checks.plain(scores, "scores"))
    labels = _checks.labels(labels, classes, len(scores))
    found = np.full(classes, np.inf)
    for c in np.unique(labels):
        found[c] = limit(scores[labels == c], alpha)
    return found


def lac_score(log_probs: Float[ArrayLike, "N C"]) -> Float[Array, "N C"]:
    """Score `1 - p_c` of every class c (LAC): the smallest sets on average.

    Sets may be empty where the prediction is uncertain.

    References:
      Sadinle et al. 2019, https://arxiv.org/abs/1609.00451

    >>> [round(score, 3) for score in lac_score(jnp.log(jnp.array([[0.75, 0.25]])))[0].tolist()]
    [0.25, 0.75]
    """
    return -jnp.expm1(_checks.log_probs(log_probs, draws=False, ndim=2))


def aps_score(
    log_probs: Float[ArrayLike, "N C"],
    key: int | Key | None = None,
    *,
    penalty: float = 0.0,
    free: int = 0,
) -> Float[Array, "N C"]:
    """Adaptive score of every class (APS, or RAPS with a penalty): larger sets where uncertain.

    s_c = sum of p over classes ranked before c + u p_c + penalty * max(rank_c - free, 0), with
    ranks from 1; equal probabilities rank by class number.

    Args:
      log_probs: averaged log-probabilities.
      key: of u in [0, 1), one per point; use another key for new points than for held-out ones.
        Without it u = 1: larger sets, never empty, with at least the same coverage.
      penalty: added for every rank beyond `free`: fewer large sets where many classes have a small
        probability each.
      free: number of ranks without a penalty.
    References:
      Romano et al. 2020, https://arxiv.org/abs/2006.02544; regularized: Angelopoulos et al. 2021,
      https://arxiv.org/abs/2009.14193

    >>> [
    ...     round(score, 3)
    ...     for score in aps_score(jnp.log(jnp.array([[0.25, 0.5, 0.25]])))[0].tolist()
    ... ]
    [0.75, 0.5, 1.0]
    """
    log_probs = _checks.log_probs(log_probs, draws=False, ndim=2)
    penalty = _checks.at_least_zero(penalty, "penalty")
    free = _checks.at_least(0, free, "free", most=2**31 - 1)
    probs = jnp.exp(log_probs)
    order = jnp.argsort(-log_probs, axis=-1, stable=True)
    ranked = jnp.take_along_axis(probs, order, axis=-1)
    own = (
        jnp.ones((probs.shape[0], 1))
        if key is None
        else jax.random.uniform(_checks.key(key), (probs.shape[0], 1))
    )
    rank = jnp.arange(1, probs.shape[1] + 1, dtype=jnp.float32)[None]
    scores = (
        jnp.cumsum(ranked, axis=-1) - (1.0 - own) * ranked + penalty * jnp.maximum(rank - free, 0.0)
    )
    return jnp.take_along_axis(scores, jnp.argsort(order, axis=-1), axis=-1)


def _of_classes(scores):
    """Scores of every class; inf is a score, NaN is not."""
    return _infinite(scores, "scores", "[N, C]", ndim=2)


def _infinite(values: Any, name: str, layout: str, **shape: Any) -> Array:
    """Real numbers that may be infinite, but not NaN."""
    values = _checks.plain(values, name)
    finite = values
    if hasattr(values, "dtype") and jnp.issubdtype(values.dtype, jnp.floating):
        xp = jnp if isinstance(values, jax.Array) else np  # NumPy keeps float64
        finite = xp.where(xp.isinf(values), xp.zeros((), values.dtype), values)
    _checks.numbers(finite, name, layout, **shape)
    return _checks.as_float(values)


def _limit(most: Any, shape: tuple[int, ...], name: str = "most") -> Array:
    """A limit of this shape, or a traced one; NaN is none."""
    if isinstance(most, int | float) and not isinstance(most, bool):
        most = np.float64(most)
    return _infinite(most, name, "a limit, as `limit` or `limits` gives", shape=shape)


def of_label(scores: Float[ArrayLike, "N C"], labels: Int[ArrayLike, " N"]) -> Float[Array, " N"]:
    """Each point's score of its own label.

    >>> of_label(jnp.array([[0.1, 0.9], [0.4, 0.6]]), jnp.array([1, 0]))
    Array([0.9, 0.4], dtype=float32)
    """
    scores = _of_classes(scores)
    labels = _checks.class_labels(labels, scores.shape[1], scores.shape[0])
    return jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]


def sets(
    scores: Float[ArrayLike, "N C"], most: float | Float[ArrayLike, "*C"], *, least: int = 0
) -> Bool[Array, "N C"]:
    """Prediction sets: the classes that score at or below the limit.

    Args:
      scores: of every class, by the function that scored the held-out labels.
      most: one limit, or one per class as `limits` gives; inf includes all, NaN is refused.
      least: smallest size of a set, filled up by the best scores: 1 leaves no set empty, at no cost
        in coverage.
    Raises:
      NonFinite: NaN scores or limits. WrongShape, WrongSize.

    >>> sets(jnp.array([[0.2, 0.4], [0.6, 0.9]]), 0.3, least=1).tolist()
    [[True, False], [True, False]]
    """
    scores = _of_classes(scores)
    least = _checks.at_least(0, least, "least", most=scores.shape[1])
    bound = _limit(most, () if np.ndim(most) == 0 else scores.shape[1:])
    rank = jnp.argsort(jnp.argsort(scores, axis=-1, stable=True), axis=-1)
    inside = scores <= jnp.broadcast_to(bound, scores.shape)
    return jnp.logical_or(inside, jnp.less(rank, least))


def residual(
    prediction: Gaussian | Mixture, labels: Float[ArrayLike, " N"], *, scaled: bool = False
) -> Float[Array, " N"]:
    """Score of real labels: absolute residual `|y - m|`, or in predicted standard deviations.

    Args:
      prediction: of N points, averaged over draws, as `predictive.moments(x)` gives.
      labels: the real labels.
      scaled: whether residuals are divided by the predicted standard deviation: intervals as wide
        as the predicted error instead of equally wide ones.
    References:
      Lei et al. 2018, https://arxiv.org/abs/1604.04173

    >>> residual(Gaussian(jnp.array([1.0]), jnp.array([4.0])), jnp.array([4.0]), scaled=True)
    Array([1.5], dtype=float32)
    """
    found = _averaged(prediction)
    if _checks.concrete(labels):
        labels = _checks.real_labels(labels, found.mean.shape[0])
    away = jnp.abs(jnp.asarray(labels) - found.mean)
    return away / jnp.sqrt(found.variance) if scaled else away


def interval(
    prediction: Gaussian | Mixture,
    most: float | Float[ArrayLike, ""],
    *,
    scaled: bool = False,
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Prediction intervals: all labels whose `residual` is at or below the limit; (low, high).

    Args:
      prediction, scaled: see `residual`.
      most: the limit, at least 0; inf gives infinite intervals.
    Raises:
      NonFinite: a NaN limit. OutOfRange: a limit below 0, which no residual has.

    >>> [
    ...     end.tolist()
    ...     for end in interval(Gaussian(jnp.array([1.0]), jnp.array([4.0])), 1.5, scaled=True)
    ... ]
    [[-2.0], [4.0]]
    """
    found = _averaged(prediction)
    bound = _limit(most, ())
    if _checks.concrete(bound) and bound < 0:
        raise errors.OutOfRange(
            "most", f"`most` must be at least 0, as limits of residuals are; got {most!r}."
        )
    reach = bound * (jnp.sqrt(found.variance) if scaled else jnp.ones_like(found.mean))
    return found.mean - reach, found.mean + reach


def _averaged(prediction: Any) -> Gaussian:
    return likelihoods.moments(_checks.prediction(prediction, axes=(1,), real=True))


def cqr_score(
    low: Float[ArrayLike, " N"], high: Float[ArrayLike, " N"], labels: Float[ArrayLike, " N"]
) -> Float[Array, " N"]:
    """Score of conformalized quantile regression: `max(low - y, y - high)`, negative inside.

    The interval of a new point is `low - limit` to `high + limit`. `low` and `high` are predicted
    quantiles.

    References:
      Romano et al. 2019, https://arxiv.org/abs/1905.03222

    >>> cqr_score(np.zeros(2), np.ones(2), np.array([0.5, 3.0]))
    Array([-0.5,  2. ], dtype=float32)
    """
    low = _checks.numbers(low, "low", "[N]", ndim=1)
    high, labels = (
        _checks.numbers(a, name, "[N], one per point", shape=low.shape)
        for a, name in ((high, "high"), (labels, "labels"))
    )
    return jnp.maximum(low - labels, labels - high)


def __dir__() -> list[str]:
    return __all__
