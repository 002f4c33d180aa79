"""Strategies that rank points one by one: by a score, by several scores, or by chance."""

from collections.abc import Callable

from jaxtyping import Float

from bayesal import _checks, _shown, errors, select
from bayesal.acquire import _asked
from bayesal.scores import combine
from bayesal.types import Array, Score, Strategy


@_shown.named
def uniform() -> Strategy:
    """Points at random: the baseline.

    >>> strategy = uniform()
    """

    def pick(key, aux, measured, again, available, size):
        del aux, measured, again
        return select.uniform(key, available.shape[0], size, available=available)

    return Strategy(measure=None, pick=pick, nested=True)


@_shown.named
def top(score: Score) -> Strategy:
    """The points with the highest score, each for itself.

    Args:
      score: one of `bayesal.scores`, or any `log_probs [K, n, C] -> [n]`. For real labels one of
        `scores.regression`, `(means, variances) -> [n]`.
    Raises:
      WrongType: not a function.

    >>> from bayesal import scores
    >>> strategy = top(scores.bald)
    """
    score_of(score)

    def measure(aux, predictive, x):
        del aux
        return _asked.scored(score, predictive(x))

    def pick(key, aux, measured, again, available, size):
        del key, aux, again  # deterministic
        return select.top(measured, size, available=available)

    return Strategy(measure=measure, pick=pick, nested=True)


@_shown.named
def combined(*scores: Score, by: Callable[..., Float[Array, " N"]] | None = None) -> Strategy:
    """The points with the highest combination of several scores.

    The pool is predicted once. Ranks and spreads are those of the whole pool. Points that are not
    available, and points that any score rules out by -inf, take no part.

    Args:
      scores: two or more of `bayesal.scores`, or any `log_probs [K, n, C] -> [n]`.
      by: `scores.combine.rank_sum` (if None), `z_score`, `product` or `pareto`; with weights:
        `functools.partial(combine.z_score, weights=(1.0, 0.5))`.
    Raises:
      WrongSize: fewer than two scores.

    >>> from bayesal import scores
    >>> strategy = combined(scores.bald, scores.margin, by=scores.combine.z_score)
    """
    if len(scores) < 2:
        raise errors.WrongSize(
            "scores",
            f"`scores` must be two or more, got {len(scores)}; one score alone is `top(score)`.",
        )
    for score in scores:
        score_of(score, "scores")
    rule = combine.rank_sum if by is None else by

    def measure(aux, predictive, x):
        del aux
        said = predictive(x)
        return [_asked.scored(score, said, "scores") for score in scores]

    def pick(key, aux, measured, again, available, size):
        del key, aux, again  # deterministic
        return select.top(rule(*measured, available=available), size, available=available)

    return Strategy(measure=measure, pick=pick, nested=True)


def score_of(score: Score, name: str = "score") -> Score:
    """A score, or an error that says what one is."""
    return _checks.function(score, name, "a function of log-probabilities, such as scores.bald")
