"""What float32 cannot hold of float64 and large integers: an offset is subtracted where only
differences count, and the rest is refused.

Numbers under jit, and numbers of 32 bits or fewer, pass as they are: what they lost is lost.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal._checks import arrays
from bayesal._checks.values import as_float, concrete, listed
from bayesal.errors import OutOfRange

SAMPLE = 1024  # points that the precision of a pool is judged by
CENTERED, REFUSED = 1e-5, 1e-2  # rounding errors, as shares of the spread
NOISE = 1e-14  # a spread below this share of float64 numbers is their own rounding error
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).tiny)


def wide(values: Any) -> bool:
    """Whether numbers may hold more than float32 does."""
    dtype = getattr(values, "dtype", None)
    if dtype is None or not concrete(values):
        return False
    return any(jnp.issubdtype(dtype, kind) for kind in (np.float64, np.integer)) and (
        dtype.itemsize > 2
    )


def centered(values: Any, *alike: Any, axis: int = 0, used: Any = None) -> tuple[jax.Array, ...]:
    """Numbers in float32 of which only differences along `axis` count, and others of the same
    origin.

    Their mean is subtracted in float64 where rounding would take more than 1e-5 of the spread.

    Args:
      values, alike: finite numbers; all have the mean of `values` subtracted, or none has.
      axis: points of a pool (their features have one origin), or draws at each point.
      used: mask `[N]` of the points that count, where the axis is that of points.
    """
    everything = (values, *alike)
    if not any(map(wide, everything)) or not concrete(*everything):
        return tuple(map(as_float, everything))
    used = used if concrete(used) else None
    hosts = [np.moveaxis(np.asarray(each), axis, 0) for each in everything]
    counted = hosts[0] if used is None else hosts[0][np.asarray(used)]
    if not len(counted) or _lost(_some(counted)) <= CENTERED:
        return tuple(map(as_float, everything))
    first = counted[:1]
    middle = _apart(counted, first).mean(axis=0, keepdims=True)
    if all(host.dtype.kind in "iu" for host in hosts):
        middle = np.round(middle)  # differences of integers stay exact
    return tuple(as_float(np.moveaxis(_apart(h, first) - middle, 0, axis)) for h in hosts)


def distinct(values: Any, name: str) -> None:
    """Refuse vectors `[N, ...]` that float64 tells apart and float32 does not, where the origin
    counts too.
    """
    if wide(values) and len(values) and _lost(_some(np.asarray(values))) > REFUSED:
        raise OutOfRange(
            name,
            f"`{name}` differ by so little beside their size that float32 cannot tell them apart. "
            f"The usual cause is a large common offset: pass {name} - {name}.mean(0), computed in "
            "float64.",
        )


def ranked(values: Any, name: str = "scores") -> tuple[jax.Array, jax.Array]:
    """As `scores`: in float32, and what orders them. Numbers beyond float32 become its largest, so
    that they are picked by their rank.
    """
    single, ranks = arrays.scores(values, name)
    if wide(values):
        host = np.asarray(values, np.float64)
        single = as_float(np.where(np.isneginf(host), host, np.clip(host, -LARGEST, LARGEST)))
    return single, ranks


def in_caller_units(selection: Any, scores: jax.Array, ranks: jax.Array) -> Any:
    """A selection by ranks, with the scores of its picks in place of their ranks."""
    if ranks is scores:
        return selection
    own = jnp.where(selection.indices >= 0, scores[selection.indices], -jnp.inf)
    return selection._replace(scores=own)


def scale_free(values: Any, single: jax.Array) -> jax.Array:
    """Scores of which only ratios count, in a unit in which float32 holds the highest of them."""
    if not wide(values):
        return single
    host = np.asarray(values, np.float64)
    largest, some = np.max(host, initial=0.0), host > 0
    if largest <= LARGEST and np.min(host[some], initial=1.0) >= SMALLEST:
        return single
    shares = host / largest
    return as_float(np.where(some, np.maximum(shares, SMALLEST), host))


def held(values: Any, name: str = "scores") -> jax.Array:
    """Scores in float32, of which values and not only ranks count; refused where they are beyond
    it.
    """
    single = arrays.scores(values, name)[0]
    if wide(values):
        host = np.asarray(values, np.float64)
        if len(bad := np.flatnonzero((np.abs(host) > LARGEST) & np.isfinite(host))):
            raise OutOfRange(
                name,
                f"`{name}` is beyond {LARGEST:.1e}, the largest number of float32, at {len(bad)} "
                f"rows: {listed(bad)}. Divide all of them by one number.",
                bad,
            )
    return single


def _some(host: np.ndarray) -> np.ndarray:
    return host[:: -(-len(host) // SAMPLE)]


def _apart(host: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Differences from `first`, in float64."""
    if host.dtype.kind in "iu" and float(host.max()) - float(host.min()) < 2.0**62:
        # exact modulo 2^64, also where float64 could not hold the numbers
        return (host.astype(np.int64) - first.astype(np.int64)).astype(np.float64)
    return host.astype(np.float64) - first.astype(np.float64)


def _lost(host: np.ndarray) -> float:
    """Rounding errors of float32 as a share of the spread along the leading axis."""
    apart = _apart(host, host[:1])
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = host.astype(np.float32).astype(np.float64)
        error = apart - (rounded - rounded[:1])
    spread = _length(apart - apart.mean(axis=0, keepdims=True))
    if spread == 0 or (host.dtype.kind == "f" and spread <= NOISE * _length(rounded)):
        return 0.0
    return _length(error) / spread


def _length(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0
