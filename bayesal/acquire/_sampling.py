"""Strategies that sample points in proportion to a power, an exponential or a rank of a score."""

from typing import Any

from bayesal import _checks, _shown, scores, select
from bayesal.acquire import _asked
from bayesal.acquire._ranking import score_of
from bayesal.types import Score, Strategy


@_shown.named
def power(score: Score | None = None, *, beta: Any = 1.0) -> Strategy:
    """Points sampled in proportion to `score^beta`, without replacement: PowerBALD.

    In the authors' own runs on repeated MNIST, beta = 8 matched or beat BatchBALD at the cost of
    BALD alone.

    Args:
      score: one of `bayesal.scores` that is never negative; BALD if None.
      beta: exponent; published at 1 and 8. See `select.power`.
    References:
      Kirsch et al. 2023, https://arxiv.org/abs/2106.12059

    >>> from bayesal import scores
    >>> gentle, strong = power(beta=1.0), power(scores.bald, beta=8.0)
    """
    if score is not None:
        _checks.never_negative(score)
    return _sampled(select.power, score, beta)


@_shown.named
def softmax(score: Score | None = None, *, beta: Any = 1.0) -> Strategy:
    """Points sampled in proportion to `exp(beta * score)`, without replacement: SoftmaxBALD.

    Args:
      score: one of `bayesal.scores`, or any `log_probs [K, n, C] -> [n]`; BALD if None.
      beta: inverse temperature; published at 8. See `select.softmax`.
    References:
      Kirsch et al. 2023, https://arxiv.org/abs/2106.12059

    >>> from bayesal import scores
    >>> strategy = softmax(scores.margin, beta=8.0)
    """
    return _sampled(select.softmax, score, beta)


@_shown.named
def softrank(score: Score | None = None, *, beta: Any = 1.0) -> Strategy:
    """Points sampled in proportion to `rank^-beta`, without replacement.

    Args:
      score: see `softmax`.
      beta: exponent of the rank. See `select.softrank`.

    >>> from bayesal import scores
    >>> strategy = softrank(scores.entropy)
    """
    return _sampled(select.softrank, score, beta)


def _sampled(selector, score, beta) -> Strategy:
    score = score_of(scores.bald if score is None else score)
    beta = _checks.at_least_zero(beta, "beta")

    def measure(aux, predictive, x):
        del aux
        return _asked.scored(score, predictive(x))

    def pick(key, aux, measured, again, available, size):
        del aux, again
        return selector(key, measured, size, beta=beta, available=available)

    return Strategy(measure=measure, pick=pick, nested=True)
