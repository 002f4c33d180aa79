"""The edge in front of selectors on features, and the layout they compute in."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bayesal import checks
from bayesal.types import ArrayLike


class Points(NamedTuple):
    """A pool as the kernels see it. Points that are neither available nor labeled are zeros, and so are those that are not finite.

    columns:   features, one point per column: sums over features then run down the leading axis, which is fast and the same bit
               for bit on any number of devices; scaled by a power of two, so that no square overflows.
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
    features: ArrayLike, size: int, available: ArrayLike | None, labeled: ArrayLike | None = None
) -> tuple[Points, int]:
    """Checked, converted, laid out; and the size, an int that the pool can fill (under jit: that its rows can)."""
    features = checks.features(features)
    available = checks.available_rows(available, features.shape[0])
    if labeled is not None:
        labeled = checks.available_rows(labeled, features.shape[0], "labeled")
        available = available & ~labeled
    size = checks.batch_size(size, available)
    return _laid_out(features, available, labeled), size


def scaled(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, ""]]:
    """`x / unit` and `unit`, the power of two next to the largest |x|: squares of what comes out neither overflow nor vanish."""
    exponent = jnp.clip(jnp.frexp(jnp.max(jnp.abs(x)))[1], -126, 126)
    return x * jnp.ldexp(jnp.float32(1.0), -exponent), jnp.ldexp(jnp.float32(1.0), exponent)


@jax.jit
def _laid_out(features, available, labeled) -> Points:
    finite = jnp.isfinite(features).all(axis=1)
    used = finite & (available if labeled is None else available | labeled)  # the others must not set the unit
    columns, unit = scaled(jnp.where(used[:, None], features, 0.0).T)
    labeled = None if labeled is None else labeled & finite
    return Points(columns, unit, available & finite, labeled, jnp.sum(available & ~finite))
