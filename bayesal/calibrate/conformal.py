"""Sets and intervals that hold the truth with a chance that is promised, whatever the net: split
conformal prediction.

A nonconformity score says how badly a label fits a prediction, higher = worse. Scores of held-out
labels give a limit, and a new point's set is every label that scores at or below it. If held-out
and new points are exchangeable (drawn alike, and held-out ones not trained on), the chance that the
set holds the truth is at least 1 - alpha, and at most 1/(n + 1) more where no scores are
tied. Labels chosen actively are not exchangeable with the pool, and those that a net was trained on
not with any: keep some apart, drawn at random. Probabilities have no unit, residuals the label's.

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
from jaxtyping import Array, Bool, Float, Int, Real

from bayesal import _checks, errors, likelihoods
from bayesal.types import ArrayLike, Gaussian, Key, Mixture


def _share(value: Any, name: str = "alpha") -> Fraction:
    if isinstance(value, bool) or not 0 < float(value) < 1:
        raise errors.OutOfRange(
            name,
            f"`{name}` must lie strictly between 0 and 1 (0.1: nine sets of ten hold the "
            f"truth), got {value!r}.",
        )
    return Fraction(str(float(value)))  # 0.1 is a tenth, as it was typed


def limit(scores: Real[ArrayLike, " n"], alpha: float) -> float:
    """The k-th smallest of n held-out scores, k = ceil((n + 1) (1 - alpha)); inf if k > n:
    with so few labels only the full set will do.

    The chance that a new point's score lies at or below it is k / (n + 1) if none are tied, and
    more if some are. For fixed held-out points it follows Beta(k, n + 1 - k): with 100 of them and
    a alpha of 0.1, between 0.85 and 0.945 in nine of ten cases.

    Args:
      scores: of held-out labels: `of_label(...)`, or residuals.
      alpha: the share of sets that may miss the truth, strictly between 0 and 1.
    Raises:
      WrongSize: no scores. NonFinite: NaN among them.
    References:
      Vovk et al. 2005; Lei et al. 2018, https://arxiv.org/abs/1604.04173; conditional coverage:
      Vovk 2012.

    >>> limit(np.arange(1.0, 10.0), 0.1), limit(np.arange(1.0, 9.0), 0.1)
    (9.0, inf)
    """
    host, share = np.asarray(scores), _share(alpha)
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
    """A limit for every class, from the held-out labels of that class (Mondrian): each class is
    covered by itself, the rare ones too.

    A class with fewer than 1 / alpha - 1 labels has inf, and stands in every set.

    References:
      Vovk 2012, https://arxiv.org/abs/1209.2673

    >>> limits(np.arange(10.0), np.repeat([0, 1], [9, 1]), 2, 0.1).tolist()
    [8.0, inf]
    """
    labels, scores = (
        _checks.labels(labels, _checks.at_least(2, classes, "classes"), len(scores)),
        np.asarray(scores),
    )
    limit(scores, alpha)  # says what is wrong with them
    each = [scores[labels == c] for c in range(classes)]
    return np.array([limit(own, alpha) if len(own) else np.inf for own in each])


def lac_score(log_probs: Float[ArrayLike, "N C"]) -> Float[Array, "N C"]:
    """`1 - p_c` for every class c: the smallest sets on average; they may be empty where the net is
    unsure.

    References:
      Sadinle et al. 2019, https://arxiv.org/abs/1609.00451

    >>> [round(score, 3) for score in lac_score(jnp.log(jnp.array([[0.75, 0.25]])))[0].tolist()]
    [0.25, 0.75]
    """
    return -jnp.expm1(_checks.log_probs(log_probs, draws=False, ndim=2))


def aps_score(
    log_probs: Float[ArrayLike, "N C"],
    key: Key | None = None,
    *,
    penalty: float = 0.0,
    free: int = 0,
) -> Float[Array, "N C"]:
    """Probability of all classes above c, plus a share u of c's own: adaptive sets, larger where
    the net is less sure (APS; RAPS by a penalty).

    s_c = sum of p over classes ranked before c + u p_c + penalty * max(rank_c - free, 0), ranks
    from 1, equal probabilities by class number.

    Args:
      log_probs: averaged log-probabilities.
      key: draws u in [0, 1), one for each point; another key for new points than for held-out ones.
        Without it u = 1: larger sets, none of them empty, covering at least as much.
      penalty: added for every rank beyond `free`: fewer long sets where many classes have a little
        probability each.
      free: how many classes cost nothing.
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
    penalty, free = _checks.at_least_zero(penalty, "penalty"), _checks.at_least(0, free, "free")
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
    """Scores of every class; inf is one, NaN is none."""
    finite = (
        jnp.where(jnp.isinf(scores), 0.0, scores)
        if hasattr(scores, "dtype") and jnp.issubdtype(scores.dtype, jnp.floating)
        else scores
    )
    _checks.numbers(finite, "scores", "[N, C]", ndim=2)
    return _checks.as_float(scores)


def of_label(scores: Float[ArrayLike, "N C"], labels: Int[ArrayLike, " N"]) -> Float[Array, " N"]:
    """Each point's score of its own label.

    >>> of_label(jnp.array([[0.1, 0.9], [0.4, 0.6]]), jnp.array([1, 0]))
    Array([0.9, 0.4], dtype=float32)
    """
    scores = _of_classes(scores)
    labels = _checks.class_labels(labels, scores.shape[1], scores.shape[0])
    return jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]


def sets(
    scores: Float[ArrayLike, "N C"], most: float | Float[ArrayLike, " C"], *, least: int = 0
) -> Bool[Array, "N C"]:
    """Which classes are in each point's set: those that score at or below the limit (or, of
    `limits`, their own).

    Args:
      scores: of every class, by the function that scored the held-out labels.
      most: the limit.
      least: classes in a set at least, the best-scoring ones: 1 leaves no set empty, and costs no
        coverage.

    >>> sets(jnp.array([[0.2, 0.4], [0.6, 0.9]]), 0.3, least=1).tolist()
    [[True, False], [True, False]]
    """
    scores = _of_classes(scores)
    rank = jnp.argsort(jnp.argsort(scores, axis=-1, stable=True), axis=-1)
    return (scores <= jnp.broadcast_to(jnp.asarray(most, jnp.float32), scores.shape)) | (
        rank < least
    )


def residual(
    prediction: Gaussian | Mixture, y: Float[ArrayLike, " N"], *, scaled: bool = False
) -> Float[Array, " N"]:
    """How far real labels lie from their predicted means: `|y - m|`, or with `scaled` in predicted
    standard deviations.

    Args:
      prediction: of N points, averaged over draws, as `predictive.mean(x)` gives.
      y: the labels.
      scaled: intervals as wide as the predicted errors, instead of equally wide ones.
    References:
      Lei et al. 2018, https://arxiv.org/abs/1604.04173

    >>> residual(Gaussian(jnp.array([1.0]), jnp.array([4.0])), jnp.array([4.0]), scaled=True)
    Array([1.5], dtype=float32)
    """
    found = _averaged(prediction)
    if _checks.concrete(y):
        y = _checks.real_labels(y, found.mean.shape[0], "y")
    return jnp.abs(jnp.asarray(y) - found.mean) / (jnp.sqrt(found.variance) if scaled else 1.0)


def interval(
    prediction: Gaussian | Mixture, most: float, *, scaled: bool = False
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Lower and upper ends of intervals of all labels whose `residual` lies at or below the limit.

    >>> [
    ...     end.tolist()
    ...     for end in interval(Gaussian(jnp.array([1.0]), jnp.array([4.0])), 1.5, scaled=True)
    ... ]
    [[-2.0], [4.0]]
    """
    found = _averaged(prediction)
    reach = most * (jnp.sqrt(found.variance) if scaled else jnp.ones_like(found.mean))
    return found.mean - reach, found.mean + reach


def _averaged(prediction):
    if not isinstance(prediction, Gaussian | Mixture) or jnp.ndim(
        prediction.mean
    ) != 1 + isinstance(prediction, Mixture):
        raise errors.WrongType(
            "prediction",
            "`prediction` must be a Gaussian [N] or a Mixture [N, J], as "
            f"`predictive.mean(x)` gives for real labels; got {type(prediction).__name__}.",
        )
    return likelihoods.moments(prediction)


def cqr_score(
    low: Float[ArrayLike, " N"], high: Float[ArrayLike, " N"], y: Float[ArrayLike, " N"]
) -> Float[Array, " N"]:
    """How far labels lie outside predicted quantiles, negative inside: `max(low - y, y - high)`.

    The interval of a new point is `low - limit` to `high + limit` (conformalized quantile
    regression).

    References:
      Romano et al. 2019, https://arxiv.org/abs/1905.03222

    >>> cqr_score(np.zeros(2), np.ones(2), np.array([0.5, 3.0]))
    Array([-0.5,  2. ], dtype=float32)
    """
    low, high, y = (
        _checks.numbers(a, name, "[N]", ndim=1)
        for a, name in ((low, "low"), (high, "high"), (y, "y"))
    )
    return jnp.maximum(low - y, y - high)
