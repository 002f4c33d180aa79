"""Strategies for real labels."""

import jax.numpy as jnp

from bayesal import _checks, _chunks, likelihoods, select
from bayesal.acquire.ranked import CHUNK
from bayesal.types import Strategy


def log_det_gaussian(*, chunk: int = CHUNK) -> Strategy:
    """The batch whose labels, together, tell most about the function, for posteriors of real
    labels. See `select.log_det_gaussian`.

    The noise of a label is the draws' mean variance. Every draw's mean at every point is held, K *
    N numbers; draws should outnumber picks.

    Args:
      chunk: rows predicted at a time; it bounds the memory of predictions and changes nothing else.

    >>> strategy = log_det_gaussian()
    """
    _checks.at_least(1, chunk, "chunk")

    def strategy(key, predictive, x, available, size):
        del key  # deterministic

        def some(part):
            found = likelihoods.moments(predictive(part))
            return found.mean.T, jnp.mean(found.variance, axis=0)

        means, noise = _chunks.over_rows(some, x, chunk)
        return select.log_det_gaussian(means.T, noise, size, available=available)

    return strategy
