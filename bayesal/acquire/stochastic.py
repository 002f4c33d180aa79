"""Strategies that sample the streamed pool in proportion to a power, an exponential or a rank of a
score.
"""

from typing import Any

from bayesal import _checks, scores, select
from bayesal.acquire.ranked import CHUNK, pool_scores
from bayesal.types import Score, Strategy


def power(score: Score = scores.bald, *, beta: Any = 1.0, chunk: int = CHUNK) -> Strategy:
    """Points in proportion to `score^beta`, without replacement: PowerBALD, published at beta = 1
    and beta = 8.

    In the authors' own runs on repeated MNIST, beta = 8 matched or beat BatchBALD at the cost of
    BALD alone.

    Args:
      score: one of `bayesal.scores` that is never negative.
      beta: see `select.power`.
      chunk: rows scored at a time; it bounds the memory and changes nothing else.
    References:
      Kirsch et al. 2023, https://arxiv.org/abs/2106.12059

    >>> gentle, strong = power(beta=1.0), power(scores.bald, beta=8.0)
    """
    if score is not scores.bald:
        _checks.never_negative(score)
    return _sampled(select.power, score, beta, chunk)


def softmax(score: Score = scores.bald, *, beta: Any = 1.0, chunk: int = CHUNK) -> Strategy:
    """Points in proportion to `exp(beta * score)`, without replacement: SoftmaxBALD, published at
    beta = 8.

    Args:
      score: one of `bayesal.scores`, or any `log_probs [K, n, C] -> [n]`.
      beta: see `select.softmax`.
      chunk: rows scored at a time; it bounds the memory and changes nothing else.

    >>> strategy = softmax(scores.margin, beta=8.0)
    """
    return _sampled(select.softmax, score, beta, chunk)


def softrank(score: Score = scores.bald, *, beta: Any = 1.0, chunk: int = CHUNK) -> Strategy:
    """Points in proportion to `rank^-beta`, without replacement.

    Args:
      score, chunk: see `softmax`.
      beta: see `select.softrank`.

    >>> strategy = softrank(scores.entropy)
    """
    return _sampled(select.softrank, score, beta, chunk)


def _sampled(selector, score, beta, chunk) -> Strategy:
    _checks.function(score, "score", "a function of log-probabilities, such as scores.bald")
    _checks.at_least(1, chunk, "chunk")
    beta = _checks.at_least_zero(beta, "beta")

    def strategy(key, predictive, x, available, size):
        return selector(
            key, pool_scores(predictive, x, score, chunk), size, beta=beta, available=available
        )

    return strategy
