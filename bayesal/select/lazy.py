"""Greedy steps that look only at candidates which could still be the best."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

BLOCK = 128  # candidates whose gains are computed at a time, at most
TABLE = 2**21  # numbers that the gains of a block are computed from, at most
TIE_BREAK = 0.01  # weight of a point's own score beside its gain once a batch is saturated: gains near 0 must not decide by row number


def block_size(per_candidate: int, rows: int) -> int:
    """How many candidates to look at together, if one takes a table of so many numbers."""
    return max(1, min(BLOCK, rows, TABLE // per_candidate))


def share(evaluated: Int[Array, ""], candidates: Int[Array, ""], size: int) -> Float[Array, ""]:
    """Which share of the candidates' gains, over all picks after the first, was computed."""
    return evaluated.astype(jnp.float32) / jnp.maximum(candidates * max(size - 1, 1), 1).astype(jnp.float32)


def best_first(
    bound: Float[Array, " N"], tie: Float[Array, " N"], slack: Float[Array, ""], block: int,
    gains_of: Callable[[Array], tuple[Array, Array]],
) -> tuple[Float[Array, " N"], Float[Array, " N"], Bool[Array, " N"]]:
    """Gains of all candidates that could be the best: in blocks, highest bound first, until no bound beats the best found.

    Args:
      bound: what a gain cannot exceed; -inf for what may not be picked.
      tie: added to bounds and gains alike for the order.
      slack: share of the best gain by which a bound may be too low, because it was sampled.
      block: candidates looked at together.
      gains_of: `rows [block] -> (gains, bounds for the steps to come)`.
    Returns:
      Gains, bounds (the old ones where nothing was computed), and where gains were computed.
    """

    def more(carry):
        waiting, *_, best = carry
        ahead = jnp.max(waiting)
        return (ahead > -jnp.inf) & (ahead + slack * jnp.maximum(best, 0.0) + 1e-5 >= best)

    def some(carry):
        waiting, gains, bounds, seen, best = carry
        ahead, rows = lax.top_k(waiting, block)
        real = ahead > -jnp.inf
        gain, later = gains_of(rows)
        best = jnp.maximum(best, jnp.max(jnp.where(real, gain + tie[rows], -jnp.inf)))
        return (waiting.at[rows].set(-jnp.inf), gains.at[rows].set(gain), bounds.at[rows].set(jnp.where(real, later, bounds[rows])),
                seen.at[rows].set(seen[rows] | real), best)

    start = (jnp.where(bound > -jnp.inf, bound + tie, -jnp.inf), jnp.zeros_like(bound), bound, jnp.zeros(bound.shape, bool), jnp.float32(-jnp.inf))
    _, gains, bounds, seen, _ = lax.while_loop(more, some, start)
    return gains, bounds, seen
