"""Scores from where points lie: near what the model gets wrong, and where data is dense. Features
`[N, D]` in, one number per point out.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from bayesal import _checks, _chunks, _maths, errors
from bayesal._checks import precision
from bayesal.types import Array, ArrayLike

BUDGET = 2**22  # distances held at a time


def neighbor_error(
    features: Float[ArrayLike, "N D"],
    labeled_features: Float[ArrayLike, "M D"],
    losses: Float[ArrayLike, " M"],
    *,
    bandwidth: float | ArrayLike,
    prior: float | ArrayLike = 1.0,
    valid: Bool[ArrayLike, " M"] | None = None,
) -> Float[Array, " N"]:
    """Held-out loss to expect at each point, from the labeled points around it, in units of the
    losses.

    (prior * mean_m loss_m + sum_m w_m loss_m) / (prior + sum_m w_m),  w_m = exp(-|x - x_m|^2 / (2
    bandwidth^2)); min_m loss_m <= value <= max_m loss_m.

    Where no labeled point is near it is the mean loss: nothing is known there, neither good nor
    bad. The losses must be *held out* (of folds that did not train on the point): on its training
    set a net makes no errors. A bandwidth below a thousandth of the features' spread is beyond
    float32.

    Args:
      features: of the pool points.
      labeled_features: of the labeled points.
      losses: held-out loss of each labeled point.
      bandwidth: distance at which a labeled point's weight has fallen to 0.61; > 0, in units of the
        features.
      prior: how many labeled points at distance 0 the mean loss weighs as much as; > 0.
      valid: which labeled rows count (padding does not, and may hold anything); all if None.
    Returns:
      Higher is more worth labeling.
    Raises:
      NonFinite, WrongShape, OutOfRange (`bandwidth` or `prior` not positive): the argument by name.
      WrongSize: no labeled row counts.
    References:
      Nadaraya 1964, https://doi.org/10.1137/1109020; Watson 1964

    >>> near, far = neighbor_error(
    ...     jnp.array([[0.0], [9.0]]),
    ...     jnp.array([[0.0], [1.0]]),
    ...     jnp.array([3.0, 1.0]),
    ...     bandwidth=0.1,
    ... )
    >>> # halfway from the mean 2 to the neighbor's 3; the mean
    >>> round(float(near), 4), round(float(far), 4)
    (2.5, 2.0)
    """
    pool = _checks.numbers(features, "features", "[N points, D features]", ndim=2)
    rows = np.shape(labeled_features)[:1]
    if valid is not None and (np.shape(valid) != rows or getattr(valid, "dtype", None) != np.bool_):
        raise errors.WrongShape(
            "valid",
            f"`valid` must be boolean of shape {rows}, one entry per labeled row; got shape "
            f"{np.shape(valid)}.",
        )
    valid = jnp.ones(rows, bool) if valid is None else jnp.array(valid)
    labeled_features = _padded(labeled_features, valid)
    labeled = _checks.numbers(
        labeled_features,
        "labeled_features",
        "[M labeled points, D features]",
        ndim=2,
    )
    losses = _checks.numbers(_padded(losses, valid), "losses", "one per labeled point", shape=rows)
    if labeled.shape[1] != pool.shape[1]:
        raise errors.WrongShape(
            "labeled_features",
            f"`labeled_features` must have the {pool.shape[1]} features of `features`; "
            f"got shape {labeled.shape}.",
        )
    if _checks.concrete(valid) and not np.asarray(valid).any():
        raise errors.WrongSize(
            "valid",
            "`valid` leaves no labeled row: without a held-out loss there is nothing to go by.",
        )
    if precision.wide(features) or precision.wide(labeled_features):
        pool, labeled = precision.centered(features, labeled_features)
        labeled = jnp.where(valid[:, None], labeled, 0.0)
    bandwidth, prior = (_positive(*pair) for pair in ((bandwidth, "bandwidth"), (prior, "prior")))
    return _neighbor_error(pool, labeled, losses, valid, bandwidth, prior)


def _padded(values: ArrayLike, valid: Bool[Array, " M"]) -> ArrayLike:
    """Rows that do not count, as zeros. What is no array of that many rows is left for the checks
    to refuse.
    """
    if not hasattr(values, "dtype") or np.shape(values)[:1] != valid.shape:
        return values
    counts = valid.reshape(-1, *[1] * (values.ndim - 1))
    if _checks.concrete(values, valid):
        return np.where(np.asarray(counts), np.asarray(values), np.zeros((), values.dtype))
    return jnp.where(counts, jnp.asarray(values), jnp.zeros((), values.dtype))


def _positive(value: float | ArrayLike, name: str) -> Array:
    return _checks.numbers(
        jnp.asarray(value, jnp.float32), name, "a positive number", shape=(), above=0.0
    )


@jax.jit
def _neighbor_error(features, labeled, losses, valid, bandwidth, prior) -> Float[Array, " N"]:
    count = jnp.maximum(jnp.sum(valid), 1).astype(jnp.float32)
    mean = _maths.tree_sum(losses, axis=0) / count
    center = _maths.tree_sum(labeled, axis=0) / count
    apart = jnp.where(valid, losses - mean, 0.0)

    def part(rows):
        squares = _squared_distances(
            (rows - center[None]) / bandwidth,
            jnp.where(valid[:, None], labeled - center[None], 0.0) / bandwidth,
        )
        weights = jnp.where(valid[None], jnp.exp(-0.5 * squares), 0.0)
        return mean + _maths.tree_sum(weights * apart[None], axis=1) / (
            prior + _maths.tree_sum(weights, axis=1)
        )

    value = _chunks.over_rows(part, features, _chunk(labeled.shape[0]))
    low, high = (f(jnp.where(valid, losses, mean)) for f in (jnp.min, jnp.max))
    return jnp.clip(value, low, high)


def _chunk(across: int) -> int:
    return max(1, BUDGET // max(across, 1))


def _squared_distances(a: Float[Array, "n D"], b: Float[Array, "m D"]) -> Float[Array, "n m"]:
    """|a|^2 + |b|^2 - 2 ab: small against |a|^2 it is rounding error, so put the origin among the
    points first.
    """
    ab = jnp.matmul(a, b.T, precision="highest")
    return jnp.maximum(_squares(a)[:, None] + _squares(b)[None] - 2 * ab, 0.0)


def _squares(x: Float[Array, "*B D"]) -> Float[Array, "*B"]:
    return _maths.tree_sum(jnp.square(x), axis=-1)


def density(features: Float[ArrayLike, "N D"], *, neighbors: int = 20) -> Float[Array, " N"]:
    """Typicality: one over the mean distance to the nearest neighbors, in units of 1 / features.

    1 / mean_j |x - x_j| over the `neighbors` nearest other points;  0 < value <= 1e6 / r, r the
    root mean square distance from the center.

    A mean distance below a millionth of r counts as that, so copies have the highest density and no
    infinite one (with all points equal, r counts as 1). Neighbors are ranked by float32 products,
    which tell them apart down to about 1e-3 r; how far they are is exact. Memory grows with N, time
    with N^2: nothing of size N x N is held.

    Args:
      features: of all N points. Distances are Euclidean: scale the features so that these mean
        something.
      neighbors: how many neighbors are asked, from 1 to N - 1.
    Returns:
      Higher is more typical. Meant for `information_density`, or to rank points before anything is
      labeled.
    Raises:
      NonFinite, WrongShape: the argument by name. WrongSize: not that many neighbors.
    References:
      Hacohen et al. 2022, https://arxiv.org/abs/2202.02794

    >>> density(jnp.array([[0.0], [1.0], [2.0], [10.0]]), neighbors=1)
    Array([1.   , 1.   , 1.   , 0.125], dtype=float32)
    """
    checked = _checks.numbers(features, "features", "[N points, D features]", ndim=2)
    if not 1 <= neighbors < max(checked.shape[0], 2):
        raise errors.WrongSize(
            "neighbors",
            f"`neighbors` must lie in 1 .. N - 1 = {checked.shape[0] - 1}, got {neighbors}.",
        )
    return _density(precision.centered(features)[0], neighbors)


@functools.partial(jax.jit, static_argnames="neighbors")
def _density(features: Float[Array, "N D"], neighbors: int) -> Float[Array, " N"]:
    rows = features.shape[0]
    if rows < 2:
        return jnp.ones(rows)
    centered = features - features[:1]
    centered = centered - (_maths.tree_sum(centered, axis=0) / rows)[None]
    radius = _maths.root(_maths.tree_sum(_squares(centered), axis=0) / rows)

    def part(ids):
        here = centered[ids]
        squares = _squared_distances(here, centered)
        others = jnp.where(ids[:, None] == jnp.arange(rows)[None], jnp.inf, squares)
        near = jax.lax.top_k(-others, neighbors)[
            1
        ]  # who they are; how far, without the rounding error of the product:
        distances = jax.lax.map(lambda j: _maths.root(_squares(here - centered[j])), near.T)
        return _maths.tree_sum(distances, axis=0) / neighbors

    mean = _chunks.over_rows(part, jnp.arange(rows), _chunk(rows))
    return 1.0 / jnp.maximum(mean, 1e-6 * jnp.where(radius > 0, radius, 1.0))


def information_density(
    score: Float[ArrayLike, " N"], density: Float[ArrayLike, " N"], beta: float | ArrayLike = 1.0
) -> Float[Array, " N"]:
    """Information density: a score in which typical points count more.

    score * density^beta;  0 <= value, or -inf where the score is -inf, whatever the density and
    beta are.

    Args:
      score: higher is more worth labeling, >= 0, or -inf for what may not be picked. A score below
        0 would be the *less* worth labeling the more typical it is: shift it first (`1 + margin`).
      density: of the same points, >= 0.
      beta: strength, >= 0; at 0 the score comes out as it is.
    Returns:
      Higher is more worth labeling. Under jit, where values cannot be refused, a negative score or
      density gives NaN, which no selector picks.
    Raises:
      OutOfRange: a negative score, density or beta. NonFinite, WrongShape: the argument by name.
    References:
      Settles & Craven 2008, https://aclanthology.org/D08-1112

    >>> information_density(jnp.array([0.5, 0.2, -jnp.inf]), jnp.array([1.0, 4.0, 9.0]))
    Array([ 0.5,  0.8, -inf], dtype=float32)
    """
    score = precision.held(score, "score")
    density = _checks.numbers(density, "density", "one per score", shape=score.shape)
    beta = _checks.numbers(jnp.asarray(beta, jnp.float32), "beta", "a number", shape=())
    for values, name in ((score, "score"), (density, "density"), (beta, "beta")):
        if _checks.concrete(values):
            host = np.atleast_1d(np.asarray(values))
            bad = np.flatnonzero((host < 0) & (host > -np.inf))
            if len(bad):
                raise errors.OutOfRange(
                    name,
                    f"`{name}` must not be negative, but is at {len(bad)} places, first "
                    f"{host[bad[0]]:g} at {bad[0]}.",
                    bad,
                )
    return _weighted(score, density, beta)


@jax.jit
def _weighted(
    score: Float[Array, " N"], density: Float[Array, " N"], beta: Float[Array, ""]
) -> Float[Array, " N"]:
    gated = score == -jnp.inf
    # Kept out of the gradient: ruled-out points, and 0^beta with beta < 1 (no finite slope).
    open_ = jnp.where(gated, 0.0, score)
    steep = (density == 0) & (beta < 1)
    typical = jnp.power(jnp.where(steep, 1.0, jnp.where(density < 0, 0.0, density)), beta)
    typical = jnp.where(steep & (beta > 0), 0.0, typical)
    worth = jnp.where((open_ < 0) | (density < 0), jnp.nan, open_) * typical
    return jnp.where(gated, -jnp.inf, worth)
