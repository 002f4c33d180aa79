"""EPIG of real labels: what `acquire.epig` and `acquire.batch_epig` do where predictions are normal
distributions.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _maths, select
from bayesal.acquire import _asked
from bayesal.acquire._joint import grown, widened
from bayesal.acquire._prefilter import best, outward
from bayesal.scores import _gaussian
from bayesal.scores._epig import checked_weights
from bayesal.select._lazy import certified
from bayesal.types import Array, ArrayLike, Gaussian, Selection


class Targets(NamedTuple):
    """Predictions at the targets by the predictive's own draws.

    means, noise_variances: the draws' means, and their mean variances.
    outputs: the same as `scores._gaussian` reads it, prepared once for all chunks.
    weights: how much each target matters, with sum 1.
    """

    means: Float[Array, "K T"]
    noise_variances: Float[Array, " T"]
    outputs: _gaussian.Outputs
    weights: Float[Array, " T"]


def prepared(found: Gaussian, weights: Float[ArrayLike, " T"] | None) -> Targets:
    """Targets from their predictions `[K, T]`."""
    noise_variances = _gaussian.mean(found.variance)
    return Targets(
        means=found.mean,
        noise_variances=noise_variances,
        outputs=_gaussian.outputs(found.mean, noise_variances),
        weights=checked_weights(weights, noise_variances.shape[0], "targets"),
    )


def epig(targets: Targets, predictive: Any, x: Any) -> Float[Array, " n"]:
    """EPIG of one chunk."""
    found = _asked.moments(predictive, x)
    noise_variances = _gaussian.mean(found.variance)
    return _gaussian.about_targets(found.mean, noise_variances, targets.outputs, targets.weights)


def with_bound(
    targets: Targets, predictive: Any, x: Any
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """EPIG of one chunk, and what no gain in a batch can exceed: the information in an output about
    the function, which the labels of other points only lower.
    """
    found = _asked.moments(predictive, x)
    noise_variances = _gaussian.mean(found.variance)
    value = _gaussian.about_targets(found.mean, noise_variances, targets.outputs, targets.weights)
    return value, _gaussian.about_function(_gaussian.outputs(found.mean, noise_variances))


def batch(
    targets: Targets,
    measured: tuple[Float[Array, " N"], Float[Array, " N"]],
    again: Any,
    available: Any,
    size: int,
    candidates: int,
    grow: bool,
) -> Selection:
    """Batch EPIG among the points with the highest EPIG, from what `with_bound` measured."""
    value, bound = measured
    rows = available.shape[0]

    def among(count):
        kept = best(value, available, max(count, size))
        found = _asked.moments(again, kept.rows)
        inner = select.batch_epig_gaussian(
            found.mean,
            _gaussian.mean(found.variance),
            targets.means,
            targets.noise_variances,
            size,
            weights=targets.weights,
            available=kept.available,
        )
        left = _maths.maskable(bound, available, size)[0].at[kept.rows].set(-jnp.inf)
        # nor can any gain exceed all that there is to know about the targets
        most = jnp.minimum(jnp.max(left), inner.ceiling)
        return certified(outward(inner, kept), most), kept.rows.shape[0]

    found, count = among(candidates)
    if not grow or count == rows:
        return found
    if again.pool.x is None:  # on the host
        return widened(found, count, rows, among)
    return grown(found, lambda: among(rows)[0])
