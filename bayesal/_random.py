"""JAX's random numbers, bit for bit, from programs that are quick to compile.

On CPU, JAX's threefry is a loop of rounds: 17 kernels for one key folded in and one array drawn.
The twenty rounds in a row are one kernel, which compiles in a sixth of the time. Generators other
than threefry are left to `jax.random`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bayesal.types import Key

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # of threefry, in turns


def fold_in(key: Key, data: int | Int[Array, ""]) -> Key:
    """`jax.random.fold_in(key, data)`.

    >>> same = fold_in(jax.random.key(0), 3) == jax.random.fold_in(jax.random.key(0), 3)
    >>> bool(same)
    True
    """
    if not _ours(key):
        return jax.random.fold_in(key, data)
    words = jax.random.key_data(key)
    folded = _threefry(words, jnp.zeros((), jnp.uint32), jnp.asarray(data).astype(jnp.uint32))
    return jax.random.wrap_key_data(jnp.stack(folded), impl="threefry2x32")


def uniform(key: Key, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """`jax.random.uniform(key, shape)`: numbers in [0, 1).

    >>> key = jax.random.key(0)
    >>> bool(jnp.all(uniform(key, (2, 3)) == jax.random.uniform(key, (2, 3))))
    True
    """
    size = math.prod(shape)
    if not _ours(key) or size >= 2**32:
        return jax.random.uniform(key, shape, jnp.float32)
    count = jnp.arange(size, dtype=jnp.uint32).reshape(shape)
    a, b = _threefry(jax.random.key_data(key), jnp.zeros(shape, jnp.uint32), count)
    # 23 random bits behind the exponent of 1: a number in [1, 2)
    ones = ((a ^ b) >> np.uint32(9)) | np.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(ones, jnp.float32) - jnp.float32(1.0)


def _ours(key: Key) -> bool:
    """Whether numbers of this key are those that are made here."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return False
    by_place = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    return by_place and str(jax.random.key_impl(key)) == "threefry2x32"


def _threefry(words: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, doi:10.1145/2063384.2063405)."""
    mixed = (words[0], words[1], words[0] ^ words[1] ^ np.uint32(0x1BD11BDA))
    a, b = a + mixed[0], b + mixed[1]
    for turn in range(5):
        for distance in ROTATIONS[turn % 2]:
            a = a + b
            b = (b << np.uint32(distance)) | (b >> np.uint32(32 - distance))
            b = a ^ b
        a, b = a + mixed[(turn + 1) % 3], b + mixed[(turn + 2) % 3] + np.uint32(turn + 1)
    return a, b
