"""The search for one temperature under a prior that fades, and the records it returns."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Real

from bayesal import _checks, errors
from bayesal.calibrate import _held_out
from bayesal.types import Array, ArrayLike, Gaussian, Mixture, Scaling

# the largest |log T| of classes; of real labels twice this, because T scales a variance there
BOUND = math.log(1000.0)
AT_BOUND = 1e-3  # distance in log T from the bound below which a temperature is at the bound
# for labels that are held out in turn, fold by fold (`experiments/priors.py`)
CROSS_FITTED = {"prior_std": 1.0, "doubt": 20.0}
# number of labels from which on the prior has no weight; with more than ten classes fifty of each
FADE = 500
# values of log T at which loss and slope are computed before bisection; odd, so that T = 1 is one
GRID = 37
HALVINGS = 20  # of an interval of 1/18 of the range: to 1e-6 of log T


class Temperature(NamedTuple):
    """A fitted temperature with its losses and flags.

    temperature: one number, or a `Scaling` with a temperature and a bias per class.
    nll_before:  mean NLL per label of the averaged prediction at T = 1, in nats; 0 without labels.
    nll_after:   the same at the fitted temperature.
    determined:  flag: the data alone have an optimum within the bounds. Without one (all correct,
      all wrong, constant predictions, too few labels, all weights 0) the prior decides, and T is
      finite.
    impossible:  how many labels have probability 0 under every draw. No temperature changes that:
      they are left out of the fit and of both NLLs, which would be infinite.
    at_bound:    flag: T lies at an end of its range ([0.001, 1000]; its square for variances) and
      the optimum may lie beyond. The usual cause is a prediction of wrong scale, such as unscaled
      logits or labels. Independent of `determined`: a set without an optimum has a T inside the
      range if its prior is strong enough.
    """

    temperature: Float[Array, ""] | Scaling
    nll_before: Float[Array, ""]
    nll_after: Float[Array, ""]
    determined: Bool[Array, ""]
    impossible: Int[Array, ""]
    at_bound: Bool[Array, ""]


class Calibrator(NamedTuple):
    """A learner's calibration method: `(prediction, labels, weights) -> Temperature`.

    A call checks its arguments where their values are known, and nothing under jit.

    fit:  function of predictions of K draws `[K, N, ...]`, labels `[N]`, and a mask or weights
      `[N]` of at least 0. Rows of weight 0 are padding: they may hold anything and change nothing.
    real: whether it is for real labels; otherwise it is for classes.
    """

    fit: Callable[..., Temperature]
    real: bool = False

    def __call__(
        self,
        prediction: ArrayLike | Gaussian | Mixture,
        labels: ArrayLike,
        weights: Bool[ArrayLike, " N"] | Real[ArrayLike, " N"],
    ) -> Temperature:
        if _checks.concrete(prediction, labels, weights):
            prediction, labels, weights = _held_out.padded(prediction, labels, weights, self.real)
        return self.fit(prediction, labels, weights)


def unfitted(like: Any = None) -> Temperature:
    """T = 1, fitted on no labels, with NLLs of 0; of the shape of another temperature if given.

    >>> float(unfitted().temperature)
    1.0
    """
    one = jnp.float32(1.0)
    if isinstance(like, Scaling):
        one = Scaling(
            jnp.ones(like.temperature.shape, jnp.float32), jnp.zeros(like.bias.shape, jnp.float32)
        )
    return Temperature(
        temperature=one,
        nll_before=jnp.float32(0.0),
        nll_after=jnp.float32(0.0),
        determined=jnp.bool_(False),
        impossible=jnp.int32(0),
        at_bound=jnp.bool_(False),
    )


def width(prior_std: float, name: str = "prior_std") -> float:
    """A prior's standard deviation, above 0 and finite."""
    if not 0 < prior_std < math.inf:
        raise errors.WrongSize(name, f"`{name}` must be positive and finite, got {prior_std}.")
    return float(prior_std)


def doubted(doubt: float) -> float:
    """Labels per class, at least 0."""
    if not 0 <= doubt < math.inf:
        raise errors.OutOfRange(
            "doubt", f"`doubt` = {doubt} must be a number of labels per class, at least 0."
        )
    return float(doubt)


def effective_sample_size(weights: Float[Array, " N"]) -> Float[Array, ""]:
    """Effective number of labels: `(sum w)^2 / sum w^2` (Kish 1965); 0 if all weights are 0.

    >>> float(effective_sample_size(jnp.array([2.0, 2.0, 0.0])))
    2.0
    """
    total, squares = jnp.sum(weights), jnp.sum(jnp.square(weights))
    return jnp.where(squares > 0, jnp.square(total) / jnp.where(squares > 0, squares, 1.0), 0.0)


def strength(
    count: Float[Array, ""],
    determined: Bool[Array, ""],
    prior_std: Any,
    doubt: Any = 0.0,
    classes: int = 1,
) -> Float[Array, ""]:
    """Cost per label of half a squared log T: `(1 + doubt C / N) / (std^2 N)`, faded.

    It fades as `(1 - N/500)^2` (above ten classes as `(1 - N / 50 C)^2`) where the data have an
    optimum of their own.
    """
    fade = jnp.square(jnp.maximum(1.0 - count / (FADE * max(1.0, classes / 10)), 0.0))
    many = jnp.maximum(count, 1.0)
    return jnp.where(determined, fade, 1.0) * (1.0 + doubt * classes / many) / (prior_std**2 * many)


def search(
    look: Callable[[Array], tuple[Array, Array]],
    weights: Float[Array, " N"],
    impossible: Int[Array, ""],
    prior_std: Any,
    bound: float,
    doubt: Any = 0.0,
    classes: int = 1,
) -> Temperature:
    """The T of least loss plus prior within the bound: a grid, then bisection on the slope.

    `look(log_t)` is the mean loss and its slope.
    """
    count = effective_sample_size(weights)
    grid = jnp.linspace(-bound, bound, GRID)
    losses, slopes = jax.lax.map(look, grid)
    # an optimum of the data alone: the slope turns from falling to rising somewhere inside
    determined = jnp.any((slopes[:-1] < 0) & (slopes[1:] >= 0)) & (count > 1)
    cost = strength(count, determined, prior_std, doubt, classes)
    best = jnp.argmin(losses + 0.5 * cost * jnp.square(grid))
    low, high = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, GRID - 1)]

    def halve(_, carry):
        low, high, _, _ = carry
        middle = 0.5 * (low + high)
        loss, slope = look(middle)
        rising = slope + cost * middle > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high), middle, loss

    *_, log_t, loss = jax.lax.fori_loop(0, HALVINGS, halve, (low, high, low, losses[0]))
    return Temperature(
        temperature=jnp.where(count > 0, jnp.exp(log_t), 1.0),
        nll_before=losses[GRID // 2],  # the grid's middle is T = 1
        nll_after=loss,
        determined=determined,
        impossible=impossible,
        at_bound=(count > 0) & (jnp.abs(log_t) > bound - AT_BOUND),
    )
