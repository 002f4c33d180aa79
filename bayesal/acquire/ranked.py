"""Strategies that rank the streamed pool point by point, or by chance."""

from jaxtyping import Array, Float

from bayesal import _checks, _chunks, likelihoods, select
from bayesal.types import Score, Strategy

CHUNK = 1024  # rows of the pool scored at a time


def uniform() -> Strategy:
    """Points at random: the baseline."""

    def strategy(key, predictive, x, available, size):
        del predictive
        return select.uniform(key, x.shape[0], size, available=available)

    return strategy


def top(score: Score, *, chunk: int = CHUNK) -> Strategy:
    """The points with the highest score, each for itself.

    Args:
      score: one of `bayesal.scores`, or any `log_probs [K, n, C] -> [n]`; of real labels one of
        `bayesal.gaussian`, `(means, variances) -> [n]`.
      chunk: rows scored at a time; it bounds the memory and changes nothing else.
    """
    _checks.function(score, "score", "a function of log-probabilities, such as scores.bald")
    _checks.at_least(1, chunk, "chunk")

    def strategy(key, predictive, x, available, size):
        del key  # deterministic
        return select.top(pool_scores(predictive, x, score, chunk), size, available=available)

    return strategy


def pool_scores(predictive, x: Array, score: Score, chunk: int = CHUNK) -> Float[Array, " N"]:
    """The score of every pool point, in constant memory beyond the pool and the scores."""
    return _chunks.over_rows(lambda part: likelihoods.scored(score, predictive(part)), x, chunk)
