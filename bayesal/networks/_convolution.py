"""Convolution and max-pooling with fast gradients inside compiled loops, on every backend."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesal.types import Array

__all__ = ["conv"]

_NHWC = ("NHWC", "HWIO", "NHWC")


def conv(lhs: Array, rhs: Array, window_strides: Any, padding: Any, **options: Any) -> Array:
    """Drop-in for `jax.lax.conv_general_dilated` with fast gradients inside loops on CPU.

    On CPU the gradient of XLA's convolution runs ten times slower inside a loop (`lax.scan`,
    `fori_loop`) than outside. So, on CPU and when it is differentiated, this one multiplies patches
    by the kernel as one matrix product; without differentiation, on other backends, and for dilated
    or grouped convolutions, it is XLA's own.

    >>> from flax import nnx
    >>> layer = nnx.Conv(1, 8, (5, 5), conv_general_dilated=conv, rngs=nnx.Rngs(0))
    >>> layer(jnp.zeros((1, 28, 28, 1))).shape
    (1, 28, 28, 8)
    """
    dims = lax.conv_dimension_numbers(lhs.shape, rhs.shape, options.get("dimension_numbers"))
    plain = (
        dims == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _NHWC) if lhs.ndim == 4 else False
    )
    dilated = any(
        d != 1 for name in ("lhs_dilation", "rhs_dilation") for d in (options.get(name) or (1,))
    )
    grouped = options.get("feature_group_count", 1) != 1 or options.get("batch_group_count", 1) != 1
    if jax.default_backend() != "cpu" or not plain or dilated or grouped:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    strides, pads = tuple(window_strides), tuple((int(low), int(high)) for low, high in padding)
    precision, dtype = options.get("precision"), options.get("preferred_element_type")

    @jax.custom_jvp
    def convolve(lhs, rhs):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            strides,
            pads,
            dimension_numbers=_NHWC,
            precision=precision,
            preferred_element_type=dtype,
        )

    @convolve.defjvp
    def _(primals, tangents):
        (lhs, rhs), (lhs_dot, rhs_dot) = primals, tangents
        patches = _patches(lhs, rhs.shape[:2], strides, pads)
        patches_dot = _patches(lhs_dot, rhs.shape[:2], strides, pads)
        flat, flat_dot = (k.reshape(-1, k.shape[-1]) for k in (rhs, rhs_dot))
        product = lambda p, k: jnp.matmul(p, k, precision=precision, preferred_element_type=dtype)
        return product(patches, flat), product(patches_dot, flat) + product(patches, flat_dot)

    return convolve(lhs, rhs)


def _patches(x: Array, window: tuple[int, int], strides: tuple[int, int], pads: Any) -> Array:
    """`[n, H, W, c]` to `[n, H', W', kh * kw * c]`: what the kernel sees at each place."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = (
        math.floor((s - k) / t) + 1 for s, k, t in zip(x.shape[1:3], window, strides, strict=True)
    )
    return jnp.concatenate(
        [
            x[:, i : i + height * strides[0] : strides[0], j : j + width * strides[1] : strides[1]][
                :, :height, :width
            ]
            for i in range(window[0])
            for j in range(window[1])
        ],
        axis=-1,
    )


def pool(x: Array) -> Array:
    """Maximum of every 2x2 window, `[n, H, W, c]` to `[n, H // 2, W // 2, c]`.

    An odd last row or column is left out.

    A maximum over a reshaped array: the gradient of XLA's own pooling takes a third of a training
    step of `cnn` on CPU.

    >>> pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).ravel()
    Array([ 5.,  7., 13., 15.], dtype=float32)
    """
    n, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
