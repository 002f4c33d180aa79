"""Residual net for small images, with GroupNorm and channel dropout at a traced rate."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from bayesal import _checks, errors
from bayesal.networks._adapters import from_nnx
from bayesal.networks._convolution import conv
from bayesal.networks._reference import dropout, pixels
from bayesal.types import Network

__all__ = ["resnet"]


def _conv(inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs, outputs, (size, size), stride, use_bias=False, conv_general_dilated=conv, rngs=rngs
    )


def _norm(width: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    return nnx.GroupNorm(width, num_groups=min(8, width), rngs=rngs)


class Block(nnx.Module):
    """Norm, ReLU, conv, norm, ReLU, channel dropout, conv; added to its input (projected where the
    shape changes).
    """

    def __init__(self, inputs: int, outputs: int, stride: int, rngs: nnx.Rngs):
        self.norm1, self.norm2 = _norm(inputs, rngs), _norm(outputs, rngs)
        self.conv1, self.conv2 = (
            _conv(inputs, outputs, 3, stride, rngs),
            _conv(outputs, outputs, 3, 1, rngs),
        )
        self.project = (
            _conv(inputs, outputs, 1, stride, rngs) if (inputs, 1) != (outputs, stride) else None
        )

    def __call__(self, x, rngs, rate):
        active = jax.nn.relu(self.norm1(x))
        y = jax.nn.relu(self.norm2(self.conv1(active)))
        y = self.conv2(dropout(y, rngs, rate, (y.shape[0], 1, 1, y.shape[-1])))
        return y + (x if self.project is None else self.project(active))


class ResNet(nnx.Module):
    """A convolution, stages of blocks (each but the first at half the resolution), the mean over
    the image, a dense layer.
    """

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int], blocks: int, rngs: nnx.Rngs
    ):
        self.first = _conv(channels, widths[0], 3, 1, rngs)
        shapes = [
            (widths[max(s - (b == 0), 0)], width, 2 if s and not b else 1)
            for s, width in enumerate(widths)
            for b in range(blocks)
        ]
        self.blocks = nnx.List([Block(*shape, rngs) for shape in shapes])
        self.norm = _norm(widths[-1], rngs)
        self.last = nnx.Linear(widths[-1], classes, rngs=rngs)

    def embed(self, x, rngs=None, rate=0.0):
        x = self.first(pixels(x))
        for block in self.blocks:
            x = block(x, rngs, rate)
        x = jnp.mean(jax.nn.relu(self.norm(x)), axis=(1, 2))
        return dropout(x, rngs, rate, x.shape)

    def __call__(self, x, rngs=None, rate=0.0):
        return self.last(self.embed(x, rngs, rate))


def resnet(
    shape: tuple[int, int, int],
    classes: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    blocks: int = 1,
) -> Network:
    """Residual net for small images: 3x3 convolutions, GroupNorm, pre-activation.

    `blocks` per stage make 2 * stages * blocks + 2 layers: 8 by default, 20 with `blocks=3`;
    `widths=(64, 128, 256), blocks=2` is a wide one. Dropout drops whole channels inside each block,
    and units before the last layer, at the rate `HParams.dropout`. uint8 images are scaled to [0,
    1]. `embed` is the mean over the image after the last block, `widths[-1]` numbers.

    Args:
      shape: (height, width, channels) of one image; sides of at least 2^(stages - 1).
      classes: how many classes.
      widths: channels of each stage, multiples of 8 (or fewer than 8).
      blocks: per stage.
    References:
      He et al. 2016, https://arxiv.org/abs/1603.05027; Wu & He 2018,
      https://arxiv.org/abs/1803.08494

    >>> network = resnet((8, 8, 3), 10, widths=(8, 16))
    >>> params = network.init(jax.random.key(0), jnp.zeros((8, 8, 3)))
    >>> network.apply(params, jnp.zeros((8, 8, 3)), None, 0.0).shape
    (10,)
    """
    widths, blocks = tuple(widths), _checks.at_least(1, blocks, "blocks")
    if not widths or any(width < 1 or (width > 8 and width % 8) for width in widths):
        raise errors.WrongSize(
            "widths",
            f"`widths` = {widths}: GroupNorm takes 8 groups, so every width must be a "
            "multiple of 8, or less than 8.",
        )
    if len(shape) != 3 or min(shape[:2]) < 2 ** (len(widths) - 1):
        raise errors.WrongShape(
            "shape",
            f"`shape` = {tuple(shape)} must be (height, width, channels), with sides of at "
            f"least {2 ** (len(widths) - 1)} for {len(widths)} stages.",
        )
    return from_nnx(
        lambda rngs: ResNet(shape[2], classes, widths, blocks, rngs), embed="embed", rate="rate"
    )
