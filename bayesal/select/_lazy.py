"""Greedy steps that look only at candidates which could still be the best, in a pool that is held
or predicted when it is looked at.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int

from bayesal import _checks, _chunks
from bayesal.types import Array, PyTree, Selection

SURE = 3.0  # standard errors above a screened gain that the gain is taken not to exceed
BLOCK = 128  # candidates whose gains are computed at a time, at most
TABLE = 2**21  # numbers that the gains of a block are computed from, at most
# candidates are ordered a page at a time: a sixteenth of a large pool
PAGE, PAGES = 1024, 16
# weight of a point's own score beside its gain once a batch is saturated: gains near 0 must not
# decide by row number
TIE_BREAK = 0.01
# Rows of candidates are different rows of the pool. To wrap or to drop others would be compiled.
IN_POOL: dict[str, Any] = {
    "unique_indices": True,
    "mode": "promise_in_bounds",
    "wrap_negative_indices": False,
}


class Evidence(NamedTuple):
    """Log-probabilities of a pool.

    at:    `rows [n] -> [K, n, C]`.
    over:  `(function, n) -> results [N, ...]` of `function(log_probs [K, n, C])` for all rows, n at
      a time.
    shape: K, N, C.
    loop:  `(more, step, carry) -> carry`, how a search repeats its steps: inside one program, or by
           `on_host`, where rows cannot be predicted inside one.
    """

    at: Callable[[Int[Array, " n"]], Float[Array, "K n C"]]
    over: Callable[[Callable[[Float[Array, "K n C"]], PyTree], int], PyTree]
    shape: tuple[int, int, int]
    loop: Callable[..., Any] = lax.while_loop


def on_host(more: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any) -> Any:
    """A loop of Python in place of `lax.while_loop`."""
    while bool(more(carry)):
        carry = step(carry)
    return carry


def held(log_probs: Float[Array, "K N C"]) -> Evidence:
    """A pool whose predictions are there."""
    draws, rows, classes = log_probs.shape
    return Evidence(
        at=lambda rows: log_probs.at[:, rows].get(**IN_POOL),
        over=lambda function, points: _chunks.over_rows(function, log_probs, points, axis=1),
        shape=(draws, rows, classes),
    )


def predicted(predictive: Callable[[Array], Float[Array, "K n C"]], x: Array) -> Evidence:
    """A pool whose rows are predicted whenever they are looked at: nothing of size K * N * C is
    held.
    """
    x = jnp.asarray(x)
    of = lambda part: _checks.log_probs(predictive(part), ndim=3)
    draws, _, classes = jax.eval_shape(of, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)).shape
    over = lambda function, points: _chunks.over_rows(lambda part: function(of(part)), x, points)
    return Evidence(lambda rows: of(x[rows]), over, (draws, x.shape[0], classes))


def block_size(per_candidate: int, rows: int, most: int = BLOCK) -> int:
    """How many candidates to look at together, if one takes a table of so many numbers."""
    return max(1, min(most, rows, TABLE // per_candidate))


def share(
    evaluated: Float[Array, ""] | Int[Array, ""], candidates: Int[Array, ""], size: int
) -> Float[Array, ""]:
    """Which share of the candidates' gains, over all picks after the first, was computed."""
    return evaluated.astype(jnp.float32) / jnp.maximum(candidates * max(size - 1, 1), 1).astype(
        jnp.float32
    )


def best_first(
    bound: Float[Array, " N"],
    tie: Float[Array, " N"],
    slack: Any,
    block: int,
    gains_of: Callable[[Array], tuple[Array, Array]],
    size: int = 1,
    loop: Callable[..., Any] = lax.while_loop,
) -> tuple[Float[Array, " N"], Int[Array, ""]]:
    """Values of all candidates that could be the best: in blocks, highest bound first, until no
    bound beats the best gain found.

    Args:
      bound: what a gain cannot exceed; -inf for what may not be picked.
      tie: added to bounds and gains alike for the order.
      slack: share of the best gain by which a bound may be too low, because it was sampled.
      block: candidates looked at together.
      gains_of: `rows [block] -> (gains, values to return)`.
      size: how many best ones are wanted.
      loop: see `Evidence`.
    Returns:
      Values, -inf where nothing was computed; and how many rows were looked at, of which those
      past the last candidate were none.
    """
    # Ordering the whole pool anew for every block makes a search quadratic in the pool.
    rows = bound.shape[0]
    page = block * (min(rows, max(PAGE, rows // PAGES)) // block)

    def hopeful(ahead, best):
        # What rounding may take from a bound. Beside gains far below 1e-5 no bound is left at that.
        rounding = jnp.clip(ahead, 0.0, 1e-5)
        within = slack * jnp.maximum(best[-1], 0.0) + rounding
        return (ahead > -jnp.inf) & (ahead + within >= best[-1])

    def one_page(carry):
        waiting, values, best, looked, _ = carry
        # and the first of the next page, past which the barrier keeps XLA from sorting all rows
        ahead, at = lax.optimization_barrier(lax.top_k(waiting, min(page + 1, rows)))

        def one_block(inner):
            start, values, best = inner
            here, those = (lax.dynamic_slice_in_dim(each, start, block) for each in (ahead, at))
            real = here > -jnp.inf
            gain, value = (each.astype(bound.dtype) for each in gains_of(those))
            rank = jnp.where(real, gain + tie.at[those].get(**IN_POOL), -jnp.inf)
            best = lax.top_k(jnp.concatenate([best, rank]), size)[0]
            # A last block also holds rows of earlier pages, whose values stay.
            value = jnp.where(real, value, -jnp.inf)
            return start + block, values.at[those].max(value, **IN_POOL), best

        more = lambda inner: (inner[0] < page) & hopeful(ahead[inner[0]], inner[2])
        end, values, best = loop(more, one_block, (jnp.int32(0), values, best))
        waiting = waiting.at[at[:page]].set(-jnp.inf, **IN_POOL)
        ahead = ahead[page] if page < rows else jnp.full((), -jnp.inf, ahead.dtype)
        return waiting, values, best, looked + end, ahead

    start = (
        jnp.where(bound > -jnp.inf, bound + tie, -jnp.inf),
        jnp.full_like(bound, -jnp.inf),
        jnp.full(size, -jnp.inf, jnp.result_type(bound, tie)),
        jnp.int32(0),
        jnp.full((), jnp.inf, jnp.result_type(bound, tie)),
    )
    _, values, _, looked, _ = loop(lambda carry: hopeful(carry[4], carry[2]), one_page, start)
    return values, looked


def certified(selection: Selection, left_out: Any) -> Selection:
    """A greedy selection that says whether, and by how much, a point left out could have gained
    more than a pick.

    Args:
      selection: what was found among candidates.
      left_out: what no gain of another point can exceed; -inf if there is none.
    """
    least = jnp.min(selection.scores)
    safe = least >= left_out
    return selection._replace(certified=safe, gap=jnp.where(safe, 0.0, left_out - least))
