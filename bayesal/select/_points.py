"""The edge in front of selectors on features, and the layout they compute in."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from bayesal import _checks
from bayesal._checks import precision
from bayesal.types import Array, ArrayLike

LANES = 8  # terms that are added to each other before they are added to the running sum


class Points(NamedTuple):
    """A pool as the kernels see it. Points that are neither available nor labeled are zeros, and so
    are those that are not finite.

    columns:   features, one point per column: sums over features then run down the leading axis,
               which is fast and the same bit for bit on any number of devices; scaled by a power of
               two, so that no square overflows.
    unit:      length of 1 in `columns`, in the caller's units.
    labeled:   points that count as centers but are never picked; None if there are none.
    nonfinite: how many available points have NaN or infinite features.
    """

    columns: Float[Array, "D N"]
    unit: Float[Array, ""]
    available: Bool[Array, " N"]
    labeled: Bool[Array, " N"] | None
    nonfinite: Int[Array, ""]


def points(
    features: ArrayLike,
    size: int,
    available: ArrayLike | None,
    labeled: ArrayLike | None = None,
    *,
    from_origin: bool = False,
) -> tuple[Points, int]:
    """Checked, converted, laid out; and the size, an int that the pool can fill (under jit: that
    its rows can).

    Where not distances but vectors `from_origin` count, an offset that float32 cannot hold is
    refused. Otherwise it is subtracted.
    """
    checked = _checks.features(features)
    available = _checks.available_rows(available, checked.shape[0])
    used = available
    if labeled is not None:
        labeled = _checks.available_rows(labeled, checked.shape[0], "labeled")
        used = available | labeled
        available = available & ~labeled
    size = _checks.batch_size(size, available)
    if from_origin:
        precision.distinct(features, "features")
    elif precision.wide(features):
        checked = precision.centered(features, used=used)[0]
    return _laid_out(checked, available, labeled), size


def scaled(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, ""]]:
    """`x / unit` and `unit`, the power of two next to the largest |x|: squares of what comes out
    neither overflow nor vanish.
    """
    exponent = jnp.clip(jnp.frexp(jnp.max(jnp.abs(x)))[1], -126, 126)
    return x * jnp.ldexp(jnp.float32(1.0), -exponent), jnp.ldexp(jnp.float32(1.0), exponent)


@jax.jit
def _laid_out(features, available, labeled) -> Points:
    finite = jnp.isfinite(features).all(axis=1)
    used = finite & (
        available if labeled is None else available | labeled
    )  # the others must not set the unit
    columns, unit = scaled(jnp.where(used[:, None], features, 0.0).T)
    labeled = None if labeled is None else labeled & finite
    return Points(columns, unit, available & finite, labeled, jnp.sum(available & ~finite))


def summed(term: Callable[..., Any], *stacks: Float[Array, "D ..."]) -> Any:
    """`sum_d term(stack[d], ...)`, of one array or of several at once, down the features.

    Eight terms are added as a tree, then to the one running sum: the order depends on D alone, and
    the rounding error grows with D/8. The features are read once, no term is ever stored, and the
    running sum stays in the cache: many times as fast on CPU as making all terms and then adding
    them.

    >>> float(summed(lambda x, y: x * y, jnp.arange(3.0), jnp.ones(3)))
    3.0
    """

    def part(start, lanes):
        terms = [term(*(stack[start + d] for stack in stacks)) for d in range(lanes)]
        while len(terms) > 1:
            half = len(terms) // 2
            pairs = zip(terms[:half], terms[half : 2 * half], strict=True)
            terms = [jax.tree.map(jnp.add, a, b) for a, b in pairs] + terms[2 * half :]
        return terms[0]

    depth = stacks[0].shape[0]
    blocks, rest = divmod(depth, LANES)
    parts = [part(depth - rest, rest)] if rest else []
    if blocks:
        add = lambda b, total: jax.tree.map(jnp.add, total, part(b * LANES, LANES))
        parts.append(jax.lax.fori_loop(1, blocks, add, part(0, LANES)))
    return functools.reduce(functools.partial(jax.tree.map, jnp.add), parts)
