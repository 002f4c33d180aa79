"""One number fitted to held-out labels: what was found, and the search for it under a prior that
fades.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bayesal import errors
from bayesal.types import Prediction, Scaling

BOUND = math.log(
    20.0
)  # |log T| of classes never exceeds this, and of real labels twice this: T scales a variance there
CROSS_FITTED = {
    "prior_std": 1.0,
    "doubt": 20.0,
}  # for labels that were held out in turn (`experiments/priors.py`)
# labels from which on the prior has no weight at all; with more than ten classes fifty of each
FADE = 500
# places at which the slope of the loss is looked at before bisection; odd, so that T = 1 is one of
# them
GRID = 25
HALVINGS = 20  # of an interval of 1/12 of the range: to 1e-6 of log T


class Temperature(NamedTuple):
    """A fitted temperature. NLLs are means per label, in nats, of the averaged tempered prediction
    (0 over no labels).

    temperature: one number, or a `Scaling` with a temperature and a bias per class.
    determined: whether the data alone have an optimum inside the bounds. Where not (all correct,
      all wrong, constant
    predictions, too few labels, weights of 0 only), the prior decides, and the temperature stays
    finite.
    impossible: how many labels have probability 0 under every draw. No temperature can change that,
      so they are left out of the
    fit and of both NLLs (which would be infinite).
    """

    temperature: Float[Array, ""] | Scaling
    nll_before: Float[Array, ""]
    nll_after: Float[Array, ""]
    determined: Bool[Array, ""]
    impossible: Int[Array, ""]


class Calibrator(NamedTuple):
    """What a learner calibrates with: `(prediction, labels, weights) -> Temperature`.

    fit:  takes predictions of K draws, `[K, N, ...]`, labels `[N]`, and what each label counts: a
      mask, or weights of at least 0. Rows that count nothing are padding, may hold anything, and
      change nothing.
    real: whether it is for real labels; otherwise it is for classes.
    """

    fit: Callable[[Prediction, Array, Array], Temperature]
    real: bool = False

    def __call__(
        self, prediction: Prediction, labels: Array, weights: Bool[Array, " N"] | Float[Array, " N"]
    ) -> Temperature:
        return self.fit(prediction, labels, weights)


def unfitted(like: Any = None) -> Temperature:
    """T = 1, fitted on nothing, with NLLs of 0 and not determined; shaped as another temperature if
    one is given.

    >>> float(unfitted().temperature)
    1.0
    """
    one = jnp.float32(1.0)
    if isinstance(like, Scaling):
        one = Scaling(
            jnp.ones(like.temperature.shape, jnp.float32), jnp.zeros(like.bias.shape, jnp.float32)
        )
    return Temperature(one, jnp.float32(0.0), jnp.float32(0.0), jnp.bool_(False), jnp.int32(0))


def width(prior_std: float, name: str = "prior_std") -> float:
    """A prior's standard deviation, above 0."""
    if not prior_std > 0:
        raise errors.WrongSize(name, f"`{name}` must be positive, got {prior_std}.")
    return float(prior_std)


def doubted(doubt: float) -> float:
    """Labels per class, at least 0."""
    if not 0 <= doubt < math.inf:
        raise errors.OutOfRange(
            "doubt", f"`doubt` = {doubt} must be a number of labels per class, at least 0."
        )
    return float(doubt)


def effective_sample_size(weights: Float[Array, " N"]) -> Float[Array, ""]:
    """How many labels of equal weight tell as much: `(sum w)^2 / sum w^2` (Kish 1965); 0 if no
    label weighs anything.

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
    """What half a squared log T costs, per label: `(1 + doubt C / N) / (std^2 N)`, faded as `(1 -
    N/500)^2` (from ten classes on `(1 - N / 50 C)^2`) where the data have an optimum of their own.
    """
    fade, many = (
        jnp.square(jnp.maximum(1.0 - count / (FADE * max(1.0, classes / 10)), 0.0)),
        jnp.maximum(count, 1.0),
    )
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
    """The log T of least loss plus prior within the bound: a grid, then bisection on the slope.

    `look(log_t)` gives the mean loss and its slope.
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
    # the grid's middle is T = 1
    return Temperature(
        jnp.where(count > 0, jnp.exp(log_t), 1.0), losses[GRID // 2], loss, determined, impossible
    )
