"""Scores for regression: `means` and `variances` `[K, *B]` of K draws in, one number per point
`[*B]` out; higher = more worth labeling.

Each draw predicts a Gaussian, so the prediction is a mixture of K Gaussians with equal weights.
Variances are squares of the output's unit, information is in nats. Noise that is the same
everywhere is an array too: `jnp.full_like(means, 0.01)`.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, _chunks, _maths, errors
from bayesal._checks import precision
from bayesal.scores import _gaussian, _mixture
from bayesal.scores._compiled import as_public
from bayesal.scores._epig import checked_weights
from bayesal.types import Array, ArrayLike

__all__ = [
    "aleatoric",
    "bald",
    "bald_moments",
    "epig",
    "epistemic",
    "joint_information",
    "variance",
]


def _predictions(
    means: Float[ArrayLike, "K *B"],
    variances: Float[ArrayLike, "K *B"],
    names: tuple[str, str] = ("means", "variances"),
    ndim: int | None = None,
) -> tuple[Float[Array, "K *B"], Float[Array, "K *B"]]:
    """Finite means and positive variances of the same shape `[K, *B]`, in float32, or an error that
    names what is not.
    """
    checked = _checks.numbers(means, names[0], "[K draws, ...]", ndim=ndim, least=1, axis=1)
    if checked.shape[0] == 0:
        raise errors.WrongSize(
            names[0],
            f"`{names[0]}` has K = 0 draws (shape {checked.shape}); at least one draw is needed.",
        )
    # only differences between draws count
    means = precision.centered(means)[0] if precision.wide(means) else checked
    return means, _checks.numbers(
        variances, names[1], f"as `{names[0]}`", shape=means.shape, above=0.0, axis=1
    )


def _scored(kernel: Callable[[Array, Array], Array]) -> Callable[[ArrayLike, ArrayLike], Array]:
    compiled = jax.jit(kernel)

    def score(means, variances):
        return compiled(*_predictions(means, variances))

    return as_public(score, kernel)


@_scored
def variance(means: Float[Array, "K *B"], variances: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """Variance of the averaged prediction: `epistemic + aleatoric`.

    mean_k v_k + mean_k (m_k - mean_j m_j)^2  (law of total variance);  value > 0.

    Args:
      means: each draw's mean.
      variances: each draw's variance, noise included.
    Returns:
      A variance, in squared units of the output. Higher is more worth labeling.
    References:
      Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474

    >>> variance(jnp.array([[1.0], [3.0]]), jnp.array([[0.5], [1.5]]))
    Array([2.], dtype=float32)
    """
    return epistemic(means, variances) + aleatoric(means, variances)


@_scored
def epistemic(means: Float[Array, "K *B"], variances: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """Variance of the draws' means: the part that labels take away.

    mean_k (m_k - mean_j m_j)^2;  value >= 0, and 0 for one draw.

    Args:
      means: each draw's mean.
      variances: each draw's variance; they do not count here.
    Returns:
      A variance, in squared units of the output. Higher is more worth labeling.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283

    >>> epistemic(jnp.array([[1.0], [3.0]]), jnp.array([[0.5], [1.5]]))
    Array([1.], dtype=float32)
    """
    del variances
    return _gaussian.mean(jnp.square(_gaussian.centered(means)))


@_scored
def aleatoric(means: Float[Array, "K *B"], variances: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """Mean of the draws' variances: the noise that stays. It is here to explain a pick rather than
    to choose it.

    mean_k v_k;  value > 0.

    Args:
      means: each draw's mean; they do not count here.
      variances: each draw's variance.
    Returns:
      A variance, in squared units of the output.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283

    >>> aleatoric(jnp.array([[1.0], [3.0]]), jnp.array([[0.5], [1.5]]))
    Array([1.], dtype=float32)
    """
    del means
    return _gaussian.mean(variances)


@_scored
def bald_moments(
    means: Float[Array, "K *B"], variances: Float[Array, "K *B"]
) -> Float[Array, "*B"]:
    """Upper bound of `bald` from two moments, in nats: the mixture counts as one Gaussian of the
    same variance.

    1/2 log(variance) - mean_k 1/2 log(v_k);  bald <= value, and value >= 0.

    A Gaussian has the highest entropy of all densities of one variance, hence the bound. It may lie
    far above log K, which no information about K draws can, and then rank points otherwise than
    `bald` does; it costs a thousandth of it and may screen a pool.

    Args:
      means: each draw's mean.
      variances: each draw's variance.
    Returns:
      Higher is more worth labeling.
    References:
      Houlsby et al. 2011, https://arxiv.org/abs/1112.5745; Cover & Thomas 2006, theorem 8.6.5.

    >>> bald_moments(jnp.array([[-1.0], [1.0]]), jnp.ones((2, 1))).round(4)  # 1/2 log 2
    Array([0.3466], dtype=float32)
    """
    noise_variances = _gaussian.mean(variances)
    apart = (variances - noise_variances[None]) / noise_variances[None]
    near = jnp.abs(apart) < 0.5
    small = jnp.where(near, apart, 0.0)
    # mean log v falls short of log mean v by the mean of r - log(1 + r), r = v / mean v - 1, a sum
    # of terms >= 0
    gaps = jnp.where(
        near, small - jnp.log1p(small), apart - jnp.log(variances / noise_variances[None])
    )
    return 0.5 * (
        jnp.log1p(_gaussian.mean(jnp.square(_gaussian.centered(means))) / noise_variances)
        + _gaussian.mean(jnp.maximum(gaps, 0.0))
    )


@_scored
def bald(means: Float[Array, "K *B"], variances: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """Mutual information between an output and the draws, in nats.

    I(y; k) = E_y[log K - H(k | y)] = mean_k KL(N_k || mean_j N_j);  0 <= I <= log K.

    The mixture's entropy has no closed form. One sweep along y integrates it, by panels of six
    Gauss-Legendre points that are no wider than two standard deviations of any draw they meet.
    Against dense integration in float64 it errs by at most 1e-5 nats, also where standard
    deviations of one point differ ten-thousandfold. Draws that overlap share their panels, so the
    work grows with K (100 draws: 0.1 milliseconds a point on two CPU cores); it grows with K^2
    where draws lie apart by hundreds of standard deviations (4 milliseconds). Memory does not grow
    with the points.

    Args:
      means: each draw's mean.
      variances: each draw's variance.
    Returns:
      Higher is more worth labeling.
    References:
      Houlsby et al. 2011, https://arxiv.org/abs/1112.5745

    >>> # one look at y tells which draw it was
    >>> far_apart = bald(jnp.array([[-9.0], [9.0]]), jnp.ones((2, 1)))
    >>> far_apart.round(4)
    Array([0.6931], dtype=float32)
    """
    draws = means.shape[0]
    apart, noise_variances = (
        _gaussian.centered(means).reshape(draws, -1),
        variances.reshape(draws, -1),
    )
    # points that need panels alike go together: the longest sweep of a chunk holds up the others
    scales = jnp.sqrt(noise_variances)
    order = jnp.argsort((jnp.max(apart, axis=0) - jnp.min(apart, axis=0)) / jnp.min(scales, axis=0))
    points = jnp.stack([apart.T, noise_variances.T], axis=-1)[order]
    found = _chunks.over_rows(
        jax.vmap(lambda point: _mixture.information(point[:, 0], point[:, 1])),
        points,
        _chunks.in_cache(draws * _mixture.ABSCISSAS.size),
    )
    found = jnp.zeros_like(found).at[order].set(found)
    return jnp.clip(found, 0.0, math.log(draws)).reshape(means.shape[1:])


def epig(
    means: Float[ArrayLike, "K N"],
    variances: Float[ArrayLike, "K N"],
    target_means: Float[ArrayLike, "K T"],
    target_variances: Float[ArrayLike, "K T"],
    *,
    weights: Float[ArrayLike, " T"] | None = None,
    chunk: int = _gaussian.CHUNK,
) -> Float[Array, " N"]:
    """Expected information about the outputs at target points, in nats: what a label tells about
    predictions that matter.

    sum_t w_t -1/2 log(1 - rho_t^2), rho_t the correlation of the outputs at the point and at target
    t over draws and noise; 0 <= value <= bald_moments.

    Output and target output count as jointly Gaussian with the moments of the mixture: variances
    `variance`, covariance that of the draws' means. Nothing larger than `chunk * T` is held beside
    the inputs.

    Args:
      means: each draw's mean at the pool points.
      variances: each draw's variance there.
      target_means: the same draws' means at points like those to be predicted.
      target_variances: their variances.
      weights: how much each target matters, not negative; all the same if None.
      chunk: pool points at a time; it bounds the memory, and changes nothing else but the last
        digits.
    Returns:
      Higher is more worth labeling.
    Raises:
      NonFinite, OutOfRange (variances <= 0, weights), WrongShape: the argument by name; targets of
      another number of draws.
    References:
      Bickford Smith et al. 2023, https://arxiv.org/abs/2304.08151

    >>> # variance 2, covariance 1: rho = 1/2
    >>> same_point = jnp.array([[-1.0], [1.0]]), jnp.ones((2, 1))
    >>> round(float(epig(*same_point, *same_point)[0]), 4)  # -1/2 log(3/4)
    0.1438
    """
    means, variances = _predictions(means, variances, ndim=2)
    targets = _predictions(
        target_means, target_variances, ("target_means", "target_variances"), ndim=2
    )
    if targets[0].shape[0] != means.shape[0] or targets[0].shape[1] == 0:
        raise errors.WrongShape(
            "target_means",
            f"`target_means` must have shape ({means.shape[0]}, T), T >= 1: the same draws "
            "in the same order at the target "
            f"points; got {targets[0].shape}.",
        )
    if chunk < 1:
        raise errors.WrongSize("chunk", f"`chunk` must be at least 1, got {chunk}.")
    weights = checked_weights(weights, targets[0].shape[1])
    return _epig(means, variances, *targets, weights, chunk)


@functools.partial(jax.jit, static_argnames="chunk")
def _epig(means, variances, target_means, target_variances, weights, chunk) -> Float[Array, " N"]:
    targets = _gaussian.outputs(target_means, _gaussian.mean(target_variances))
    return _gaussian.about_targets(means, _gaussian.mean(variances), targets, weights, chunk)


def joint_information(
    means: Float[ArrayLike, "K B"], noise_variances: Float[ArrayLike, " B"]
) -> Float[Array, ""]:
    """Information in a whole batch of outputs about the function, in nats.

    1/2 logdet(I + S^-1/2 Cov S^-1/2), Cov the covariance `[B, B]` of the draws' means, S the
    diagonal of noise variances; largest single value <= joint <= sum of single values, a single one
    being 1/2 log(1 + epistemic / noise).

    The function's values at the batch count as jointly Gaussian with the covariance of the draws;
    it has rank K - 1 at most. Unlike the information about which of K draws it was, the value may
    exceed log K. Nothing is squared on the way: each output enters by its share of noise, and
    points that repeat one another lose digits only where noise is below a millionth of the signal's
    standard deviation.

    Args:
      means: each draw's mean at the points of the batch.
      noise_variances: variance of the noise of each output, the same for all draws:
        `aleatoric(means, variances)`.
    Raises:
      NonFinite, OutOfRange (a variance <= 0), WrongShape: the argument by name.
    References:
      Houlsby et al. 2011, https://arxiv.org/abs/1112.5745; Krause et al. 2008,
      https://jmlr.org/papers/v9/krause08a.html

    >>> joint_information(jnp.array([[-1.0], [1.0]]), jnp.ones(1)).round(4)  # 1/2 log 2
    Array(0.3466, dtype=float32)
    """
    checked = _checks.numbers(means, "means", "[K draws, B points]", ndim=2, axis=1)
    if checked.shape[0] == 0:
        raise errors.WrongSize(
            "means",
            f"`means` has K = 0 draws (shape {checked.shape}); at least one draw is needed.",
        )
    noise_variances = _checks.numbers(
        noise_variances,
        "noise_variances",
        "one per point of `means`",
        shape=checked.shape[1:],
        above=0.0,
    )
    return _joint_information(precision.centered(means)[0], noise_variances)


@jax.jit
def _joint_information(
    means: Float[Array, "K B"], noise_variances: Float[Array, " B"]
) -> Float[Array, ""]:
    unit, signal, share = _gaussian.outputs(means, noise_variances)
    rows = jnp.concatenate(
        [unit * _maths.root(signal)[None], jnp.diag(jnp.sqrt(share))]
    )  # columns of length 1
    lengths = jnp.abs(jnp.diag(jnp.linalg.qr(rows, mode="r")))
    kept = jnp.maximum(
        jnp.square(lengths), share
    )  # what the points before a point leave of its variance: never less than noise
    return 0.5 * _maths.tree_sum(jnp.log(jnp.minimum(kept, 1.0)) - jnp.log(share), axis=0)


def __dir__() -> list[str]:
    return __all__
