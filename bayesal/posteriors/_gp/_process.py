"""What exact and sparse Gaussian processes share: the record of a process, the units of features
and kernel, the loss of kernel parameters, and the posterior's functions that read a draw.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, _training
from bayesal.posteriors._gp._kernels import Kernel, basis, covariance
from bayesal.posteriors._usable import WITH_A_PRIOR
from bayesal.types import Array, ArrayLike, Gaussian, HParams, Key, Labeled, Posterior

# times `HParams.learning_rate`: three logarithms have further to go than thousands of weights
SPEED = 3.0
# kernel parameters stay within a factor of e^REACH of where they start, so that float32 can factor
# the matrices
REACH = 3.0


class KernelParams(NamedTuple):
    """Logarithms, relative to where they start: length in units of the labeled points' typical
    distance, variance, noise variance.
    """

    length: Float[Array, ""]
    variance: Float[Array, ""]
    noise_variance: Float[Array, ""]


class Sites(NamedTuple):
    """What the labels say about the latent outputs, as independent normals; and a correction of
    their log evidence. Rows of weight 0 have root 0.
    """

    root: Float[Array, "C M"]
    target: Float[Array, "C M"]
    correction: Float[Array, ""]


class Process(NamedTuple):
    """What tells one Gaussian process here from another.

    sites:     `(params, labeled, weight [M], K) -> Sites`.
    predict:   `(state, latent [C]) -> Prediction`.
    signs:     (1,) where an example is one point, (1, -1) where it is a pair and the latent value a
      difference.
    amplitude: prior variance of a latent output.
    real:      whether labels are real numbers.
    """

    kernel: Kernel
    features: Callable[[Array], Array] | None
    outputs: int
    waves: int
    sites: Callable[..., Sites]
    predict: Callable[[Any, Array], Any]
    signs: tuple[int, ...] = (1,)
    amplitude: float = 1.0
    real: bool = False


class Start(NamedTuple):
    """Where a state begins: neutral kernel parameters, the prior's waves, and D, the width of
    features.
    """

    params: KernelParams
    waves: Float[Array, "F D"]
    offset: Float[Array, " D"]
    unit: Float[Array, ""]
    width: int


def start(of: Process, key: Key, x: ArrayLike) -> Start:
    """Nothing known; `x` is one example, looked at for its shape."""
    width = jax.eval_shape(lambda: parts(of, x)).shape[1]
    zero = jnp.float32(0.0)
    return Start(
        params=KernelParams(zero, zero, zero),
        waves=of.kernel.waves(key, of.waves, width),
        offset=jnp.zeros(width),
        unit=jnp.float32(1.0),
        width=width,
    )


# features and covariances


def parts(of: Process, x: ArrayLike) -> Float[Array, "P D"]:
    """The features of one example: one row for a point, two for a pair."""
    given = x if len(of.signs) > 1 else x[None]
    return jax.vmap(lambda part: (of.features or jnp.ravel)(part).astype(jnp.float32))(given)


def scaled(state: Any, x: Float[Array, "n P D"]) -> Float[Array, "n P D"]:
    """Features in units of the kernel's length."""
    return (x - state.offset) / (state.unit * jnp.exp(state.params.length))


def variance(of: Process, state: Any) -> Float[Array, ""]:
    """Prior variance of a latent output (of one part of it, where the latent value is a
    difference).
    """
    return of.amplitude * jnp.exp(state.params.variance)


def matrix(
    of: Process, state: Any, a: Float[Array, "n P D"], b: Float[Array, "m P D"]
) -> Float[Array, "n m"]:
    """Prior covariances of latent outputs."""
    return variance(of, state) * covariance(of.kernel, scaled(state, a), scaled(state, b), of.signs)


class Placed(NamedTuple):
    """Labeled points as a process sees them.

    x:      features; rows that do not count stand in the middle.
    weight: of each row, 0 for padding.
    offset: the middle of the rows, by weight.
    unit:   their typical distance from it.
    """

    x: Float[Array, "M P D"]
    weight: Float[Array, " M"]
    offset: Float[Array, " D"]
    unit: Float[Array, ""]


def placed(of: Process, labeled: Labeled) -> Placed:
    """The labeled points, their weights, and the units of their features."""
    weight = _training.row_weights(labeled)
    there = weight > 0
    # padding may hold NaN, and the user's features must not see it
    x = jax.vmap(lambda xi: parts(of, xi))(
        jnp.where(there.reshape(-1, *(1,) * (labeled.x.ndim - 1)), labeled.x, 0)
    )
    offset, spread = _training.center_and_distance(
        x.reshape(-1, x.shape[2]), jnp.repeat(weight, x.shape[1])
    )
    return Placed(
        x=jnp.where(there[:, None, None], x, offset),
        weight=weight,
        offset=offset,
        unit=jnp.where(spread > 0, spread, 1.0),  # one distinct point has no spread
    )


def masses(y: Array, classes: int) -> Float[Array, "M C"]:
    """Labels as distributions over classes: floats `[M, C]` are that already, classes `[M]` have
    all mass on one.

    >>> masses(jnp.array([1]), 3)
    Array([[0., 1., 0.]], dtype=float32)
    """
    soft = jnp.issubdtype(y.dtype, jnp.floating)
    return y.astype(jnp.float32) if soft else jax.nn.one_hot(y, classes, dtype=jnp.float32)


def weighted(
    root: Float[Array, "C M"], target: Float[Array, "C M"], weight: Float[Array, " M"]
) -> Sites:
    """Normal sites to the power of their weights: precisions times the weight, and what a power of
    a normal's density has beyond the density of that precision. A site of weight 2 is one that is
    there twice, in the evidence too; rows of weight 0 are absent.

    >>> weighted(jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.array([4.0])).root
    Array([[2.]], dtype=float32)
    """
    there = (weight > 0)[None]
    often = jnp.where(there, weight[None], 1.0)
    own = jnp.where(there, root, 1.0)
    # N(t; f, r^-2)^w = N(t; f, (w r^2)^-1) * (r / sqrt(2 pi))^(w - 1) / sqrt(w)
    beyond = (often - 1.0) * (jnp.log(own) - 0.5 * jnp.log(2 * jnp.pi)) - 0.5 * jnp.log(often)
    return Sites(
        root=jnp.where(there, jnp.sqrt(often) * own, 0.0),
        target=jnp.where(there, target, 0.0),
        correction=jnp.sum(jnp.where(there, beyond, 0.0)),
    )


# the fit of kernel parameters


def clipped(params: KernelParams) -> KernelParams:
    """Parameters that float32 can work with."""
    return jax.tree.map(lambda p: jnp.clip(p, -REACH, REACH), params)


def per_label(
    params: KernelParams, evidence: Float[Array, ""], weight: Float[Array, " M"]
) -> Float[Array, ""]:
    """The loss of kernel parameters: minus evidence and log prior (standard normal), per unit of
    the labels' weight.
    """
    energy = 0.5 * sum(jnp.square(p) for p in params)
    return (energy - evidence) / _training.total_weight(weight)


def tuned(hparams: HParams) -> HParams:
    """Hyperparameters of the fit of kernel parameters."""
    return hparams._replace(learning_rate=SPEED * hparams.learning_rate, weight_decay=0.0)


# the functions of a posterior


def posterior(
    of: Process,
    init: Callable,
    fit: Callable,
    draw: Callable,
    closed: Callable[[Any, Array], Gaussian],
) -> Posterior:
    """The posterior of a process. Its draws are weights of the prior's waves and of the covariances
    with the state's points.

    Args:
      of: the process.
      init, fit, draw: as in `Posterior`.
      closed: `(state, features [n, P, D]) -> Gaussian [C, n]`, the latent outputs in closed form.
    """
    _checks.at_least(1, of.waves, "waves")

    def trunk(state, x):
        at = parts(of, x)[None]
        return {
            "waves": basis(state.waves, scaled(state, at), of.signs)[0],
            "labels": matrix(of, state, at, state.x)[0],
        }

    def head(state, draw, seen):
        return of.predict(state, draw["waves"] @ seen["waves"] + draw["labels"] @ seen["labels"])

    return Posterior(
        init=init,
        fit=fit,
        draw=draw,
        apply=lambda state, draw, x: head(state, draw, trunk(state, x)),
        embed=lambda state, x: parts(of, x).reshape(-1),
        trunk=trunk,
        head=head,
        real=of.real,
        marginal=_marginal(of, closed) if of.real else None,
        unused=(*WITH_A_PRIOR, "prior_scale"),
        scales=True,
    )


def _marginal(
    of: Process, closed: Callable[[Any, Array], Gaussian]
) -> Callable[[Any, Array], Gaussian]:
    """`Posterior.marginal` of regression, from the closed form of the latent outputs: what draws'
    waves approximate, exactly.
    """

    def one(state, x):
        at = jax.tree.map(lambda a: a[:, 0], closed(state, parts(of, x)[None]))
        label = of.predict(state, at.mean)
        slope = jax.grad(lambda value: of.predict(state, value).mean)(at.mean)
        return Gaussian(label.mean, label.variance + jnp.sum(jnp.square(slope) * at.variance))

    return one
