"""Distance-aware network (SNGP): distance-preserving hidden layers, random Fourier features."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, _maths, errors
from bayesal.networks._adapters import from_functions
from bayesal.networks._reference import pixels
from bayesal.types import Array, Network

__all__ = ["sngp"]

SQUARINGS = 4  # of a Gram matrix: the bound of its norm is then at most `size ** (1 / 64)` too high
TINY = 1e-30  # keeps the gradient of a norm at 0 finite


@_maths.precise
def norm_bound(weights: Float[Array, "A B"]) -> Float[Array, ""]:
    """Upper bound of the spectral norm, too high by a factor of `B ** (1 / 64)` at most.

    That is 7 % for B = 64.

    For the Gram matrix G = W^T W it is `|G^16|_F ^ (1 / 32)`, by squaring four times. Unlike power
    iteration it never falls short.

    References:
      Delattre et al. 2023, https://arxiv.org/abs/2305.16173

    >>> norm_bound(jnp.diag(jnp.array([3.0, 1.0]))).round(2)
    Array(3., dtype=float32)
    """
    frobenius = lambda a: jnp.sqrt(jnp.sum(jnp.square(a)) + TINY)
    size = frobenius(weights)
    power, log = (weights / size).T @ (weights / size), jnp.float32(0.0)
    for _ in range(SQUARINGS):
        power = power @ power
        norm = frobenius(power)
        power, log = power / norm, 2.0 * log + jnp.log(norm)
    return size * jnp.exp((log + jnp.log(frobenius(power))) / 2 ** (SQUARINGS + 1))


def residual(
    layers: list[dict[str, Array]], x: Float[Array, " W"], bound: float
) -> Float[Array, " W"]:
    """Residual layers `h + relu(W h + b)`, each W scaled to a spectral norm of `bound` at most.

    Two examples at a distance d come out at one between `(1 - bound)^L d` and `(1 + bound)^L d`,
    for L layers.

    >>> layer = {"w": 100.0 * jnp.eye(2), "b": jnp.zeros(2)}
    >>> # 1 + 0.5, and -1 + relu(-0.5); the bound is 1 % too high
    >>> residual([layer], jnp.array([1.0, -1.0]), 0.5).round(2)
    Array([ 1.49, -1.  ], dtype=float32)
    """
    for layer in layers:
        weights = layer["w"] * jnp.minimum(1.0, bound / norm_bound(layer["w"]))
        x = x + jax.nn.relu(weights @ x + layer["b"])
    return x


def waves(x: Float[Array, " W"], frequencies: Float[Array, "F W"]) -> Float[Array, " D"]:
    """Random Fourier features: D = 2 F cosines and sines, whose squares sum to D.

    For normal frequencies `phi(x) . phi(x') / D` approximates a Gaussian kernel.

    References:
      Rahimi & Recht 2007

    >>> waves(jnp.zeros(1), jnp.ones((1, 1))).round(4)
    Array([1.4142, 0.    ], dtype=float32)
    """
    angles = frequencies @ x
    return 2.0**0.5 * jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


def sngp(
    inputs: int,
    outputs: int,
    *,
    width: int | None = None,
    depth: int = 3,
    bound: float = 0.9,
    frequencies: int = 256,
    length: float | None = None,
) -> Network:
    """Spectral-normalized network whose last layer approximates a Gaussian process (SNGP).

    Under `posteriors.last_layer_laplace` its uncertainty grows with the distance from the labels.

    Hidden layers are residual with norms below 1, so that they can neither merge examples that
    differ nor tear apart ones that are alike. `embed` are random waves of what they give, fixed for
    good; a normal over the weights that read them is nearly a Gaussian process with the kernel
    `exp(-d^2 / (2 length^2))` of hidden distances d (`structure="full"` or "kron"). Far away
    predictions return to the prior: a variance of `prior_scale^2` beside the noise, classes equally
    probable, up to a share of about (labels / 2 frequencies). There is no dropout.

    Args:
      inputs: numbers per example, standardized; images are flattened.
      width: of the hidden layers, at least `inputs`: fewer would lose distances. Default
        `max(inputs, 32)`.
      depth: residual layers; 0 leaves a Gaussian process on the inputs.
      bound: of a layer's spectral norm, in (0, 1).
      frequencies: random waves; their kernel errs by about `(2 frequencies)^-1/2`, and there are
        twice as many features.
      length: distance over which predictions change. Default `sqrt(inputs)`, about that of
        standardized examples.
    Raises:
      WrongSize: sizes that cannot be. OutOfRange: a bound outside (0, 1), or a length that is not
        above 0.
    References:
      Liu et al. 2020, https://arxiv.org/abs/2006.10108

    >>> network = sngp(4, 3, frequencies=16)
    >>> params = network.init(jax.random.key(0), jnp.zeros(4))
    >>> (
    ...     network.apply(params, jnp.zeros(4), None, 0.0).shape,
    ...     network.embed(params, jnp.zeros(4)).shape,
    ... )
    ((3,), (32,))
    """
    inputs, outputs = _checks.at_least(1, inputs, "inputs"), _checks.at_least(1, outputs, "outputs")
    width = _checks.at_least(inputs, max(inputs, 32) if width is None else width, "width")
    depth = _checks.at_least(0, depth, "depth")
    frequencies = _checks.at_least(1, frequencies, "frequencies")
    length = inputs**0.5 if length is None else length
    _possible(bound, length)
    # the same waves for every key: they are part of the network, not of its parameters
    fixed = (np.random.default_rng(0).normal(size=(frequencies, width)) / length).astype(np.float32)

    def init(key, x):
        del x
        *keys, last = jax.random.split(key, depth + 1)
        square = lambda k: width**-0.5 * jax.random.normal(k, (width, width), jnp.float32)
        kernel = jax.random.normal(last, (2 * frequencies, outputs), jnp.float32)
        return {
            "hidden": [{"w": square(k), "b": jnp.zeros(width, jnp.float32)} for k in keys],
            "last": (2 * frequencies) ** -0.5 * kernel,
        }

    def embed(params, x):
        flat = pixels(x).ravel()
        if flat.size != inputs:
            raise errors.WrongShape(
                "x",
                f"this network takes {inputs} numbers per example (`inputs`), and got shape "
                f"{x.shape}.",
            )
        hidden = residual(params["hidden"], jnp.pad(flat, (0, width - inputs)), bound)
        return waves(hidden, jnp.asarray(fixed))

    return from_functions(
        init, lambda params, x, key: embed(params, x) @ params["last"], embed=embed
    )


def _possible(bound: float, length: float) -> None:
    if not 0 < bound < 1:
        raise errors.OutOfRange(
            "bound",
            f"`bound` = {bound} must lie in (0, 1): a layer of norm 1 or more can merge "
            "examples that differ.",
        )
    if not 0 < length < np.inf:
        raise errors.OutOfRange("length", f"`length` = {length} must be positive and finite.")
