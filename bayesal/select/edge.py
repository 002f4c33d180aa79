"""The edge in front of selectors on features, and the layout they compute in."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bayesal import checks
from bayesal.types import ArrayLike


class Points(NamedTuple):
    """A pool as the kernels see it. Points that are not finite are zeros, and neither available nor labeled.

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


@jax.jit
def _laid_out(features, available, labeled) -> Points:
    finite = jnp.isfinite(features).all(axis=1)
    clean = jnp.where(finite[:, None], features, 0.0)
    exponent = jnp.clip(jnp.frexp(jnp.max(jnp.abs(clean)))[1], -126, 126)
    columns = (clean * jnp.ldexp(jnp.float32(1.0), -exponent)).T
    return Points(
        columns, jnp.ldexp(jnp.float32(1.0), exponent), available & finite, None if labeled is None else labeled & finite,
        jnp.sum(available & ~finite))
