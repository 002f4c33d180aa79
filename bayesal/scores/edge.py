"""The edge in front of every score."""

import functools
from collections.abc import Callable

import jax
from jaxtyping import Array

from bayesal import checks, chunks
from bayesal.types import ArrayLike

IN_CACHE = 2**19  # log-probabilities looked at together: more fall out of a core's cache between one pass and the next


def scored(kernel: Callable[[Array], Array]) -> Callable[[ArrayLike], Array]:
    """Put the edge before a kernel: check, convert, run compiled (bit-identity over chunks is promised under jit)."""

    @jax.jit
    def compiled(log_probs):
        if log_probs.ndim != 3 or not chunks.on_cpu():
            return kernel(log_probs)
        draws, _, classes = log_probs.shape
        return chunks.over_rows(kernel, log_probs, max(1, IN_CACHE // (draws * classes)), axis=1)

    @functools.wraps(kernel)
    def score(log_probs):
        return compiled(checks.log_probs(log_probs))

    return score
