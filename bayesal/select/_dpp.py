"""Maximum determinant: batches of long, different vectors, and batches that are jointly informative
about Gaussian outputs.

Both are one greedy loop. The vectors `v [P, N]` start as the prior (the covariance of points i and
j is v_i . v_j) and after each pick j become the posterior, given a measurement of point j with
noise variance 1: every v is multiplied by (I + v_j v_j')^(-1/2). A variance is then a sum of
squares at every step, never a difference, so it cannot turn negative however long the batch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Real

from bayesal import _checks, _maths, errors
from bayesal._checks import precision
from bayesal.select._points import Points, points, summed
from bayesal.types import About, Array, ArrayLike, Selection


def dpp(
    features: Real[ArrayLike, "N D"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    labeled: Bool[ArrayLike, " N"] | None = None,
    quality: Float[ArrayLike, " N"] | None = None,
    noise_variance: float | Float[ArrayLike, ""] = 1e-3,
) -> Selection:
    """Greedy maximum determinant (the MAP of a determinantal point process): long features that
    point in different directions.

    Each pick maximizes the gain of 1/2 log det(I + Z_S Z_S' / noise_variance). The rows of Z are
    quality_i x_i divided by the root of their mean squared length over the available points; rows
    of S are labeled points and earlier picks. That is the information, in nats, that the labels of
    S hold about the weights of a linear model. `scores` are the gains, never increasing; `joint` is
    their sum, without a ceiling. As the noise goes to 0 the batch becomes that of the plain
    determinant; with noise, a batch longer than D goes on sensibly.

    Memory O(N D), time O(N D) for every pick and every labeled point.

    Args:
      features: one row of numbers per pool point, any float or integer type; computed in float32.
        Only directions from the origin
        count: subtract the mean if the origin means nothing.
      size: how many points to pick.
      available: which points may be picked; all if None.
      labeled: which points are measured already; never picked; none if None.
      quality: a positive weight for each point, for example a score; it multiplies the features.
      noise_variance: of a label, relative to the mean squared length; a positive number.
    Raises:
      WrongShape, WrongSize, NonFinite (under jit such points are left out and counted in
      `nonfinite`), OutOfRange (an offset beside which float32 cannot tell the features apart).
    References:
      Chen et al. 2018, https://arxiv.org/abs/1709.05135; Kulesza & Taskar 2012,
      https://arxiv.org/abs/1207.6083

    >>> dpp(jnp.array([[2.0, 0.0], [1.9, 0.0], [0.0, 1.0]]), 2).indices
    Array([0, 2], dtype=int32)
    """
    pool, size = points(features, size, available, labeled, from_origin=True)
    if quality is not None:
        quality = _checks.positive(quality, pool.available.shape[0], "quality")
    if _checks.concrete(noise_variance) and not 0 < float(noise_variance) < np.inf:
        raise errors.WrongSize(
            "noise_variance",
            f"`noise_variance` must be a positive, finite number, got {noise_variance!r}.",
        )
    return _determinant(pool, quality, _checks.as_float(noise_variance), size)


def log_det_gaussian(
    means: Float[ArrayLike, "K N"],
    noise_variances: Float[ArrayLike, " N"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """Greedy joint information for regression: the batch whose labels, together, tell most about
    the function.

    Each pick maximizes the gain of I(y_S; f) = 1/2 log det(I + R^(-1/2) Cov_S R^(-1/2)), with Cov
    the covariance over draws of the K means (1/K normalization) and R = diag(noise_variances). It
    is exact if the draws' means are jointly Gaussian. `scores` are the gains, in nats, never
    increasing and never negative; `joint` is their sum, about the function: it may exceed log K.
    The covariance has rank K - 1 at most: draws should outnumber picks.

    Memory O(K N), time O(K N) for every pick.

    Args:
      means: each draw's mean of the label of every point; at least 2 draws.
      noise_variances: of each label about its mean (aleatoric), positive, in squared units of
        `means`.
      size: how many points to pick.
      available: which points may be picked; all if None.
    Raises:
      WrongShape, WrongSize, NonFinite (under jit such points are left out and counted in
      `nonfinite`).
    References:
      Krause et al. 2008, https://jmlr.org/papers/v9/krause08a.html; Kirsch et al. 2019,
      https://arxiv.org/abs/1906.08158

    >>> means = jnp.array([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.0, -0.5]])
    >>> log_det_gaussian(means, jnp.ones(3) * 0.1, 2).indices
    Array([0, 2], dtype=int32)
    """
    means, noise_variances = checked_means(means, noise_variances)
    available = _checks.available_rows(available, means.shape[1])
    return _log_det_gaussian(means, noise_variances, available, _checks.batch_size(size, available))


def checked_means(
    means: Float[ArrayLike, "K N"],
    noise_variances: Float[ArrayLike, " N"],
    names: tuple[str, str] = ("means", "noise_variances"),
    draws: int | None = None,
) -> tuple[Float[Array, "K N"], Float[Array, " N"]]:
    """Finite means of at least 2 draws (or of exactly `draws`), and positive variances of noise."""
    name = names[0]
    means = _checks.plain(means, name)
    if (
        not hasattr(means, "dtype")
        or np.ndim(means) != 2
        or not jnp.issubdtype(means.dtype, jnp.floating)
    ):
        raise errors.WrongShape(
            name,
            f"`{name}` must be floating-point numbers [K draws, N points]; got "
            f"{type(means).__name__} of shape {np.shape(means)}.",
        )
    if draws is not None and means.shape[0] != draws:
        raise errors.WrongShape(
            name,
            f"`{name}` has K = {means.shape[0]} draws, and `means` has {draws}. Both must come "
            "from the same draws (the same functions): predict pool and targets with one "
            "predictive.",
        )
    if means.shape[0] < 2:
        raise errors.WrongSize(
            name, f"`{name}` has K = {means.shape[0]} draws; a covariance needs at least 2."
        )
    if _checks.concrete(means) and len(
        bad := np.flatnonzero(~np.isfinite(np.asarray(means, np.float32)).all(axis=0))
    ):
        raise errors.NonFinite(
            name,
            f"`{name}` is NaN or inf at {len(bad)} points: {_checks.listed(bad)}. The usual "
            "cause is a diverged fit.",
            bad,
        )
    noise_variances = _checks.positive(noise_variances, means.shape[1], names[1])
    return precision.centered(means)[0], noise_variances


@functools.partial(jax.jit, static_argnames="size")
def _determinant(pool: Points, quality, noise_variance, size) -> Selection:
    columns = pool.columns
    sound = jnp.ones_like(pool.available)
    if quality is not None:
        sound = (quality > 0.0) & (quality < jnp.inf)
        columns = columns * jnp.where(sound, quality, 0.0)[None]
        columns = columns / jnp.maximum(jnp.max(jnp.abs(columns)), 1e-30)
    available = pool.available & sound
    lengths = jnp.where(available, summed(jnp.square, columns), 0.0)
    mean = jnp.maximum(lengths.sum() / jnp.maximum(available.sum(), 1).astype(jnp.float32), 1e-30)
    vectors = columns / jnp.sqrt(noise_variance * mean)
    known = jnp.zeros_like(vectors[:, 0])
    if pool.labeled is not None:
        rows = jnp.argsort(~pool.labeled)  # labeled rows first
        measure = lambda i, carry: (after := measured(*carry), after[:, rows[i]])
        vectors, known = lax.fori_loop(0, pool.labeled.sum(), measure, (vectors, known))
    return _greedy(
        vectors, known, available, pool.nonfinite + jnp.sum(pool.available & ~sound), size
    )


@functools.partial(jax.jit, static_argnames="size")
def _log_det_gaussian(means, noise_variances, available, size) -> Selection:
    vectors, sound = vectors_of(means, noise_variances)
    known = jnp.zeros_like(vectors[:, 0])
    return _greedy(vectors, known, available & sound, jnp.sum(available & ~sound), size)


def vectors_of(
    means: Float[Array, "K N"], noise_variances: Float[Array, " N"]
) -> tuple[Float[Array, "K N"], Bool[Array, " N"]]:
    """Deviations of the draws' means in units of the noise, over the root of K, and which points
    are sound; the others get zeros.
    """
    sound = jnp.isfinite(means).all(axis=0) & (noise_variances > 0.0) & (noise_variances < jnp.inf)
    draws = means.shape[0]
    from_first = means - means[:1]  # exact, also at an offset
    deviations = from_first - _maths.tree_sum(from_first, axis=0)[None] / draws
    return jnp.where(sound[None], deviations / jnp.sqrt(draws * noise_variances)[None], 0.0), sound


def measured(vectors: Float[Array, "P N"], picked: Float[Array, " P"]) -> Float[Array, "P N"]:
    """All vectors after a measurement of one point with noise variance 1: (I + v v')^(-1/2) = I -
    (1 - 1/sqrt(1 + |v|^2)) v v' / |v|^2.
    """
    square = summed(jnp.square, picked)
    root = jnp.sqrt(1.0 + square)
    share = 1.0 / (
        root * (1.0 + root)
    )  # (1 - 1/root) / |v|^2 without a difference, and right at v = 0
    return vectors - picked[:, None] * (share * summed(jnp.multiply, picked, vectors))[None]


def _greedy(
    vectors: Float[Array, "P N"], known: Float[Array, " P"], available, nonfinite, size: int
) -> Selection:
    """Picks one after another; `known` is measured already, but the vectors do not show it yet."""

    def pick(step, carry):
        vectors, picked, left, indices, gains = carry
        vectors = measured(
            vectors, picked
        )  # of the pick before: a column that comes from elsewhere lets them change in place
        gain = jnp.where(left, 0.5 * jnp.log1p(summed(jnp.square, vectors)), -jnp.inf)
        row = jnp.argmax(gain)
        indices = indices.at[step].set(jnp.where(left[row], row, -1))
        return (
            vectors,
            vectors[:, row],
            left.at[row].set(False),
            indices,
            gains.at[step].set(gain[row]),
        )

    carry = (vectors, known, available, jnp.full(size, -1, jnp.int32), jnp.full(size, -jnp.inf))
    *_, indices, gains = lax.fori_loop(0, size, pick, carry)
    return Selection(
        indices,
        gains,
        joint=jnp.cumsum(jnp.maximum(gains, 0.0)),
        about=About.FUNCTION,
        nonfinite=nonfinite,
    )
