"""Reference networks in flax nnx, with a traced dropout rate."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from bayesal import errors
from bayesal.networks._adapters import from_nnx
from bayesal.networks._convolution import conv, pool
from bayesal.types import Array, Network

__all__ = ["cnn", "dropout", "mlp"]


def dropout(
    x: Array,
    rngs: nnx.Rngs | Array | None,
    rate: Array | float,
    shape: tuple[int, ...] | None = None,
) -> Array:
    """Inverted dropout at a traced rate, so that a retuner can search the rate.

    Stock layers cannot take a traced rate.

    Args:
      x: activations.
      rngs: nnx generators, or one key (in linen: `self.make_rng("dropout")`), or None for no
        dropout.
      rate: the share that is dropped; a number or a traced one.
      shape: of the mask, broadcast over the rest: `(n, 1, 1, channels)` drops whole channels.
        Default: x's own.

    >>> sorted(set(dropout(jnp.ones(100), jax.random.key(0), 0.5).tolist()))
    [0.0, 2.0]
    """
    if rngs is None:
        return x
    keep = (
        jax.random.uniform(rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs, shape or x.shape)
        >= rate
    )
    return x * jnp.where(keep, 1.0 / (1.0 - rate), 0.0)


def pixels(x: Array) -> Array:
    """Scale uint8 images to floats in [0, 1]; convert anything else to float32."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x.astype(jnp.float32)


class MLP(nnx.Module):
    """Dense layers with ReLU, dropout after each hidden one."""

    def __init__(self, sizes: Sequence[int], classes: int, rngs: nnx.Rngs):
        self.hidden = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.last = nnx.Linear(sizes[-1], classes, rngs=rngs)

    def embed(self, x, rngs=None, rate=0.0):
        x = pixels(x).reshape(x.shape[0], -1)
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
            x = dropout(x, rngs, rate, x.shape)
        return x

    def __call__(self, x, rngs=None, rate=0.0):
        return self.last(self.embed(x, rngs, rate))


class CNN(nnx.Module):
    """The BatchBALD paper's net: two 5x5 convolutions whose whole channels drop out, then a dense
    layer.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, rngs: nnx.Rngs):
        height, width, channels = shape
        flat = (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2) * 64
        if min(height, width) < 16:
            raise errors.WrongShape(
                "shape",
                f"`shape` = {shape}: two 5x5 convolutions and two 2x2 pools need images of "
                "16x16 or more; for smaller ones use `mlp`.",
            )
        self.conv1 = nnx.Conv(
            channels, 32, (5, 5), padding="VALID", conv_general_dilated=conv, rngs=rngs
        )
        self.conv2 = nnx.Conv(32, 64, (5, 5), padding="VALID", conv_general_dilated=conv, rngs=rngs)
        self.dense = nnx.Linear(flat, 128, rngs=rngs)
        self.last = nnx.Linear(128, classes, rngs=rngs)

    def embed(self, x, rngs=None, rate=0.0):
        x = pixels(x)
        for layer in (self.conv1, self.conv2):
            # dropping a whole channel commutes with max-pool and ReLU, and is cheaper after them
            x = jax.nn.relu(pool(layer(x)))
            x = dropout(x, rngs, rate, (x.shape[0], 1, 1, x.shape[-1]))
        x = jax.nn.relu(self.dense(x.reshape(x.shape[0], -1)))
        return dropout(x, rngs, rate, x.shape)

    def __call__(self, x, rngs=None, rate=0.0):
        return self.last(self.embed(x, rngs, rate))


def mlp(inputs: int, classes: int, hidden: Sequence[int] = (128,)) -> Network:
    """Multilayer perceptron with ReLU, and dropout at the rate `HParams.dropout`.

    Args:
      inputs: numbers per example (64 for an 8x8 image).
      classes: how many classes.
      hidden: widths of the hidden layers.

    >>> network = mlp(64, 10)
    >>> network.apply(
    ...     network.init(jax.random.key(0), jnp.zeros(64)), jnp.zeros(64), None, 0.0
    ... ).shape
    (10,)
    """
    return from_nnx(lambda rngs: MLP((inputs, *hidden), classes, rngs), embed="embed", rate="rate")


def cnn(shape: tuple[int, int, int], classes: int) -> Network:
    """Convolutional net of the BatchBALD paper: two 5x5 convolutions, then a dense layer of 128.

    The convolutions have 32 and 64 channels, each with a max-pool; dropout at every layer.

    Convolutional dropout drops whole channels, as the authors' code does. uint8 images are scaled
    to [0, 1].

    Args:
      shape: (height, width, channels) of one image, at least 16x16.
      classes: how many classes.
    References:
      Kirsch et al. 2019, https://arxiv.org/abs/1906.08158

    >>> network = cnn((28, 28, 1), 10)
    >>> network.apply(
    ...     network.init(jax.random.key(0), jnp.zeros((28, 28, 1))),
    ...     jnp.zeros((28, 28, 1)),
    ...     None,
    ...     0.0,
    ... ).shape
    (10,)
    """
    return from_nnx(lambda rngs: CNN(shape, classes, rngs), embed="embed", rate="rate")
