"""Correction of a temperature by a random sample of labels."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from bayesal import _checks, likelihoods
from bayesal.calibrate import _held_out
from bayesal.calibrate._search import AT_BOUND, BOUND, Temperature
from bayesal.calibrate._temperature import temperature
from bayesal.calibrate._variance import variance
from bayesal.types import Array, Prediction, Scaling

# standard deviation of the log ratio of the temperatures of random and of all labels
CORRECTION = 0.25


def corrected(
    calibrator: Callable[..., Temperature],
    prediction: Prediction,
    labels: Array,
    weights: Bool[Array, " N"] | Float[Array, " N"],
    audit: Bool[Array, " N"] | Float[Array, " N"],
    *,
    prior_std: float = CORRECTION,
) -> Temperature:
    """Fit a temperature on all labels, then correct it by a factor fitted on a random audit.

    Actively chosen labels are many and biased, audited ones few and unbiased. The first fit is the
    center of the second one's prior: a handful of audit labels changes it little, hundreds override
    it. The product of both is one temperature (a `Scaling` keeps its classes apart).

    Args:
      calibrator, prediction, labels, weights: as of a `Calibrator`.
      audit: which labels are a random sample, as a mask or weights.
      prior_std: standard deviation of the factor's logarithm under the prior; for real labels, of
        half of it.
    Returns:
      A `Temperature`. Its NLLs are over the audit's labels, before and after the correction; T has
      the bounds of the calibrator, and `at_bound` is of the product.

    >>> log_probs = jnp.log(jnp.array([[[0.99, 0.01]] * 8]))
    >>> labels, valid = jnp.array([0, 0, 0, 1] * 2), jnp.ones(8, bool)
    >>> alone = temperature()(log_probs, labels, valid)
    >>> # no audit yet
    >>> bool(
    ...     corrected(temperature(), log_probs, labels, valid, jnp.zeros(8, bool)).temperature
    ...     == alone.temperature
    ... )
    True
    """
    real = bool(getattr(calibrator, "real", False))
    if _checks.concrete(prediction, labels, weights, audit):
        known = (np.asarray(weights) != 0) | (np.asarray(audit) != 0)
        prediction, labels, _ = _held_out.padded(prediction, labels, known, real)
    first = calibrator(prediction, labels, weights)
    # no doubt here: this prior is narrow, and the first fit was held back already
    again = (
        variance(prior_std=2 * prior_std) if real else temperature(prior_std=prior_std, doubt=0.0)
    )
    second = again(likelihoods.temper(prediction, first.temperature), labels, audit)
    factor, bound = jnp.asarray(second.temperature), 2 * BOUND if real else BOUND
    bounded = lambda t: jnp.exp(jnp.clip(jnp.log(t * factor), -bound, bound))
    both: Array | Scaling
    if isinstance(first.temperature, Scaling):
        each = bounded(first.temperature.temperature)
        both = Scaling(each, first.temperature.bias / factor)
    else:
        both = each = bounded(first.temperature)
    return first._replace(
        temperature=both,
        nll_before=second.nll_before,
        nll_after=second.nll_after,
        at_bound=jnp.any(jnp.abs(jnp.log(each)) > bound - AT_BOUND),
    )
