"""The most probable weights of softmax regression: Newton's method, without a step size."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _maths
from bayesal.posteriors._laplace._evidence import conjugate, shortened
from bayesal.types import Array

# a step that gains less (in nats, and relative to all) was the last: the next would gain its square
GAIN = 1e-6


class Effort(NamedTuple):
    """How far Newton's method goes.

    steps:  most steps.
    within: squared length of what a step leaves of the slope.
    """

    steps: Any
    within: Any


PRECISE = Effort(steps=30, within=1e-8)


class ClassLabels(NamedTuple):
    """Labeled rows of softmax regression.

    features: of each row.
    mass:     the label as a distribution over the classes.
    weight:   of the row; 0: it is absent.
    offset:   what the logits are where the weights are 0.
    """

    features: Float[Array, "M r"]
    mass: Float[Array, "M C"]
    weight: Float[Array, " M"]
    offset: Float[Array, "M C"]

    def nll(self, weights: Float[Array, "r C"]) -> Float[Array, ""]:
        """Negative log-likelihood of all labels, in nats."""
        log_probs = jax.nn.log_softmax(self.offset + self.features @ weights)
        # a class of mass 0 counts nothing, whatever its probability
        each = -jnp.sum(jnp.where(self.mass > 0, self.mass * log_probs, 0.0), axis=1)
        return jnp.sum(jnp.where(self.weight > 0, self.weight * each, 0.0))


@_maths.precise
def mode(
    labels: ClassLabels,
    precision: Float[Array, ""],
    energy: Float[Array, " r"],
    start: Float[Array, "r C"],
    *,
    effort: Effort = PRECISE,
) -> Float[Array, "r C"]:
    """The weights W of least `nll(W) + precision / 2 |W|^2`.

    Each step is solved by conjugate gradients, `1 / (energy + precision)` being nearly the inverse.
    With `energy` the diagonal of `1/2 sum_i w_i f_i f_i^T` that is never less than the curvature
    (Böhning 1992), so the length of a step is never far off.
    """

    def objective(weights):
        return labels.nll(weights) + 0.5 * precision * jnp.sum(jnp.square(weights))

    scaled = lambda slope: slope / (energy + precision)[:, None]
    weight = jnp.where(labels.weight > 0, labels.weight, 0.0)[:, None]

    def step(carry):
        number, weights, _ = carry
        value = objective(weights)
        probs = jax.nn.softmax(labels.offset + labels.features @ weights)
        slope = labels.features.T @ (weight * (probs - labels.mass)) + precision * weights

        def product(direction):
            moved = labels.features @ direction
            inner = probs * (moved - jnp.sum(probs * moved, axis=1, keepdims=True))
            return labels.features.T @ (weight * inner) + precision * direction

        direction = conjugate(product, slope, scaled, within=effort.within)
        new = shortened(objective, value, weights, direction)
        # twice what the step gains, if the objective is a parabola there
        gain = jnp.vdot(slope, direction)
        return number + 1, new, gain > 2.0 * GAIN * (1.0 + value)

    begin = jnp.int32(0), start, jnp.bool_(True)
    return jax.lax.while_loop(lambda carry: carry[2] & (carry[0] < effort.steps), step, begin)[1]
