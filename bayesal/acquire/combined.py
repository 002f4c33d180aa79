"""A strategy that ranks the streamed pool by several scores at once."""

from collections.abc import Callable

from jaxtyping import Array, Float

from bayesal import _chunks, errors, select
from bayesal.acquire.ranked import CHUNK
from bayesal.scores import combine
from bayesal.types import Score, Strategy


def combined(
    *scores: Score, by: Callable[..., Float[Array, " N"]] = combine.rank_sum, chunk: int = CHUNK
) -> Strategy:
    """The points with the highest combination of several scores.

    The pool is predicted once; ranks and spreads are those of the whole pool, whatever the chunk.
    Points that are not available, and those that any score rules out by -inf, take no part.

    Args:
      scores: two or more of `bayesal.scores`, or any `log_probs [K, n, C] -> [n]`.
      by: `combine.rank_sum`, `z_score`, `product` or `pareto`; with weights:
        `functools.partial(combine.z_score, weights=(1.0, 0.5))`.
      chunk: rows scored at a time; it bounds the memory and changes nothing else.
    Raises:
      WrongSize: fewer than two scores.

    >>> from bayesal import scores
    >>> strategy = combined(scores.bald, scores.margin, by=combine.z_score)
    """
    if len(scores) < 2:
        raise errors.WrongSize(
            "scores",
            f"`scores` must be two or more, got {len(scores)}; one score alone is `top(score)`.",
        )

    def strategy(key, predictive, x, available, size):
        del key  # deterministic

        def of(part):
            log_probs = predictive(part)
            return [score(log_probs) for score in scores]

        return select.top(
            by(*_chunks.over_rows(of, x, chunk), available=available), size, available=available
        )

    return strategy
