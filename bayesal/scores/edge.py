"""The edge in front of every score."""

import functools
from collections.abc import Callable

import jax
from jaxtyping import Array

from bayesal import checks
from bayesal.types import ArrayLike


def scored(kernel: Callable[[Array], Array]) -> Callable[[ArrayLike], Array]:
    """Put the edge before a kernel: check, convert, run compiled (bit-identity over chunks is promised under jit)."""
    compiled = jax.jit(kernel)

    @functools.wraps(kernel)
    def score(log_probs):
        return compiled(checks.log_probs(log_probs))

    return score
