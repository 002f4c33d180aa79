"""What a fair sample of labels has to say about a temperature that was fitted on all of them."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bayesal import likelihoods
from bayesal.calibrate._search import BOUND, Temperature
from bayesal.calibrate.classes import temperature
from bayesal.calibrate.numbers import variance
from bayesal.types import Prediction, Scaling

# standard deviation of the logarithm of the factor between the temperature of all labels and that
# of fair ones
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
    """The temperature of all labels, and a factor on it fitted on the audit's alone.

    Chosen labels are many and biased, the audit's few and fair. The first fit is where the second
    one's prior stands: with a handful of audit labels it changes little, with hundreds theirs is
    the last word, and no label is wasted. A temperature and a temperature on top are their product,
    so that what comes out is one (a `Scaling` keeps its classes apart).

    Args:
      calibrator, prediction, labels, weights: as of a `Calibrator`.
      audit: which labels are a fair sample, or what each of them counts.
      prior_std: standard deviation of the factor's logarithm under the prior; for real labels, of
        half of it.
    Returns:
      A `Temperature`; its NLLs are over the audit's labels, before and after the correction; T as
      bounded as without it.

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
    real = getattr(
        calibrator,
        "real",
        False,
        # the second fit needs no doubt: its prior is narrow, and what it corrects was held back
        # already
    )
    first = calibrator(prediction, labels, weights)
    second = (
        variance(prior_std=2 * prior_std) if real else temperature(prior_std=prior_std, doubt=0.0)
    )(likelihoods.temper(prediction, first.temperature), labels, audit)
    most = jnp.exp(jnp.float32(2 * BOUND if real else BOUND))
    bounded = lambda t: jnp.clip(t * second.temperature, 1 / most, most)
    both = (
        Scaling(bounded(first.temperature.temperature), first.temperature.bias / second.temperature)
        if isinstance(first.temperature, Scaling)
        else bounded(first.temperature)
    )
    return first._replace(
        temperature=both, nll_before=second.nll_before, nll_after=second.nll_after
    )
