"""Moments of Gaussian draws, and what outputs tell about one another by their correlations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _chunks, _maths
from bayesal.types import Array

CHUNK = 128  # points looked at together


class Outputs(NamedTuple):
    """Outputs at some points, as jointly Gaussian: signal over draws, and noise of their own.

    unit:   deviations of the draws' means, of length 1 (0 where draws agree).
    signal_share: share of an output's variance that is epistemic.
    noise_share:  the other share. It is no difference, so that it keeps its digits near 0.
    """

    unit: Float[Array, "K n"]
    signal_share: Float[Array, " n"]
    noise_share: Float[Array, " n"]


def mean(x: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """Average over draws."""
    return _maths.tree_sum(x, axis=0) / x.shape[0]


def centered(means: Float[Array, "K *B"]) -> Float[Array, "K *B"]:
    """Deviations of the draws' means from their average."""
    apart = means - means[:1]  # exact where draws nearly agree, however large their common offset
    return apart - mean(apart)[None]


def outputs(means: Float[Array, "K n"], noise_variances: Float[Array, " n"]) -> Outputs:
    """Outputs of which draws predict the means, with noise variances `[n]`."""
    apart = centered(means)
    largest = jnp.max(jnp.abs(apart), axis=0)
    apart = apart / jnp.where(largest > 0, largest, 1.0)[None]  # no square leaves float32
    squares = _maths.tree_sum(jnp.square(apart), axis=0)
    signal = squares / means.shape[0] * jnp.square(largest)
    return Outputs(
        unit=apart / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))[None],
        signal_share=signal / (signal + noise_variances),
        noise_share=noise_variances / (signal + noise_variances),
    )


def about_function(points: Outputs) -> Float[Array, " n"]:
    """Information in each output about the function, 1/2 log(1 + signal / noise), in nats."""
    return 0.5 * jnp.log1p(points.signal_share / points.noise_share)


def about_targets(
    means: Float[Array, "K N"],
    noise_variances: Float[Array, " N"],
    targets: Outputs,
    weights: Float[Array, " T"],
    chunk: int = CHUNK,
) -> Float[Array, " N"]:
    """Information in each output about the outputs at targets, each for itself, in nats; `chunk`
    points at a time.
    """

    def some(part):
        return _about_targets(outputs(part[:-1], part[-1]), targets, weights)

    points = jnp.concatenate([centered(means), noise_variances[None]])
    return _chunks.over_rows(some, points, chunk, axis=1)


def _about_targets(
    points: Outputs, targets: Outputs, weights: Float[Array, " T"]
) -> Float[Array, " n"]:
    """Information in the outputs at some points about those at targets.

    sum_t w_t -1/2 log(1 - rho_t^2), rho_t the correlation of both outputs.
    """
    (u, s, n), (v, r, m) = points, targets

    def add(k, sums):
        return sums[0] + jnp.square(u[k][:, None] - v[k][None]), sums[1] + jnp.square(
            u[k][:, None] + v[k][None]
        )

    zero = jnp.zeros((u.shape[1], v.shape[1]))
    apart, along = jax.lax.fori_loop(0, u.shape[0], add, (zero, zero))
    squared = jnp.square((along - apart) / 4) * (s[:, None] * r[None])
    # 1 - rho^2 as a sum of terms >= 0, which keeps its digits where rho is nearly 1
    left = (
        n[:, None] * (m + r)[None]
        + s[:, None] * m[None]
        + (s[:, None] * r[None]) * (apart * along / 4)
    )
    log = jnp.where(squared < 0.5, jnp.log1p(-jnp.minimum(squared, 0.5)), jnp.log(left))
    return _maths.tree_sum(-0.5 * log * weights[None], axis=1)
