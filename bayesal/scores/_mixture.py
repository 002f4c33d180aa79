"""The entropy of a mixture of normals, by one sweep along the line.

The integral runs from panel to panel. A panel is at most `STEP` standard deviations wide for every
draw that it meets, so that it is fine wherever any draw is narrow, and coarse where none is. Draws
that overlap share their panels: with K draws alike the work grows with K, and only draws of which
each lies elsewhere, or is of another width, need panels of their own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from bayesal import _maths
from bayesal.scores import _gaussian
from bayesal.types import Array, PyTree

REACH = 6.0  # standard deviations within which a draw counts: 2e-9 of its mass is beyond
STEP = 2.0  # widest panel, in standard deviations of the narrowest draw it meets
_HALF = np.polynomial.legendre.leggauss(6)  # exact to polynomials of degree 11 on every panel
ABSCISSAS, WEIGHTS = 0.5 + _HALF[0] / 2, _HALF[1] / 2 / np.sqrt(2 * np.pi)
LEAST = -30.0  # a log ratio below this counts as no density


class _Place(NamedTuple):
    """Where a sweep is: an offset from the mean of a draw nearby, so that no digit is lost beside
    a large mean.
    """

    origin: Float[Array, ""]
    offset: Float[Array, ""]


class _Panel(NamedTuple):
    """A panel as the draws see it: its places, in each draw's standard deviations, and weights."""

    z: Float[Array, "K G"]
    weight: Float[Array, " G"]


@jax.custom_jvp
def information(means: Float[Array, " K"], variances: Float[Array, " K"]) -> Float[Array, ""]:
    """Mutual information of an output and the draws, `mean_k KL(N_k || mean_j N_j)`, in nats."""
    scales = jnp.sqrt(variances)

    def add(panel):
        _, log_mean, d = _densities(panel, scales)
        g = jnp.expm1(d)
        given = _gaussian.mean(jnp.maximum((d - g) + g * d, 0.0))  # the KL form of `scores.bald`
        return _maths.tree_sum(jnp.exp(log_mean) * given * panel.weight, axis=0)

    return _sweep(means, scales, add)


@information.defjvp
def _slopes(primals, tangents):
    """The integrand's slope is that of the draw's density alone, times its log ratio: the slopes
    of the logarithms integrate to 0. A loop to a traced bound has no backward pass of its own.
    """
    means, variances = primals
    scales = jnp.sqrt(variances)

    def add(panel):
        log_density, _, d = _densities(panel, scales)
        mass = jnp.exp(log_density) * d * panel.weight[None]
        return (
            _maths.tree_sum((mass * panel.z).T, axis=0),
            _maths.tree_sum((mass * (jnp.square(panel.z) - 1.0)).T, axis=0),
        )

    of_mean, of_variance = _sweep(means, scales, add)
    count = means.shape[0]
    slope = tangents[0] * (of_mean / scales) + tangents[1] * (of_variance / (2 * variances))
    return information(means, variances), jnp.sum(slope) / count


def _densities(panel: _Panel, scales: Float[Array, " K"]):
    """Log densities of each draw and of their mixture, but for log sqrt(2 pi), and the log ratio of
    both.
    """
    log_density = -jnp.log(scales)[:, None] - 0.5 * jnp.square(panel.z)
    log_mean = _maths.log_mean_exp(log_density)
    d = log_density - jnp.maximum(log_mean, -1e30)[None]
    # no ratio exceeds K, but far from all draws rounding may say so
    return log_density, log_mean, jnp.clip(d, LEAST, math.log(scales.shape[0]))


def _sweep(
    means: Float[Array, " K"], scales: Float[Array, " K"], add: Callable[[_Panel], PyTree]
) -> PyTree:
    """The sum of `add(panel)` over the panels of all draws."""
    abscissas = jnp.asarray(ABSCISSAS, jnp.float32)
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    # a draw starts one panel, and ends after as many as fit into its reach
    most = means.shape[0] * (2 + int(2 * REACH / STEP))

    def more(carry):
        return (carry[0] < most) & carry[2]

    def step(carry):
        count, place, _, total = carry
        away = (place.origin - means) + place.offset
        width, after, going = _next(place, away, means, scales)
        z = (away[:, None] + (width * abscissas)[None]) / scales[:, None]
        panel = _Panel(z=z, weight=jnp.where(going, width * weights, 0.0))
        total = jax.tree.map(lambda t, new: t + new, total, add(panel))
        return count + 1, after, going, total

    first = jnp.argmin(means - REACH * scales)
    place = _Place(origin=means[first], offset=-REACH * scales[first])
    like = jax.eval_shape(add, _Panel(means[:, None] * abscissas[None], weights))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), like)
    sound = jnp.isfinite(means).all() & jnp.isfinite(scales).all()
    total = jax.lax.while_loop(more, step, (jnp.int32(0), place, sound, zero))[-1]
    return jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), total)


def _next(
    place: _Place, away: Float[Array, " K"], means, scales
) -> tuple[Float[Array, ""], _Place, Bool[Array, ""]]:
    """How wide the panel from a place is, where it ends, and whether any draw is left.

    A draw ahead is reached exactly where its first panel would be too wide otherwise: from there on
    places are counted from its own mean.
    """
    widest = STEP * scales
    ahead = -REACH * scales - away  # how far a draw's start is; negative where it has begun
    limit = jnp.where(away < REACH * scales, jnp.maximum(widest, ahead), jnp.inf)
    narrowest = jnp.argmin(limit)
    width = limit[narrowest]
    going = width < jnp.inf
    lands = ahead[narrowest] > widest[narrowest]
    after = _Place(
        origin=jnp.where(lands, means[narrowest], place.origin),
        offset=jnp.where(lands, -REACH * scales[narrowest], place.offset + width),
    )
    return jnp.where(going, width, 0.0), after, going
