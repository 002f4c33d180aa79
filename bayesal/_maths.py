"""Log-space arithmetic that is exact at the extremes and the same bit for bit in every chunk."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from bayesal import _chunks
from bayesal.types import Array

LANES = 8  # running sums of a long reduction
TINY = 1e-35  # a probability below weighs nothing


def precise(function: Callable) -> Callable:
    """The function with products of matrices in full float32, which accelerators shorten by
    default.

    >>> precise(jnp.matmul)(jnp.ones((1, 1)), jnp.ones((1, 1)))
    Array([[1.]], dtype=float32)
    """

    @functools.wraps(function)
    def whole(*args, **options):
        with jax.default_matmul_precision("highest"):
            return function(*args, **options)

    return whole


def sum_over(function: Callable[[Array], Array], x: Float[Array, "K ..."]) -> Float[Array, "..."]:
    """`sum_k function(x[k])` for an elementwise function, in one pass over x, always in the same
    order.

    The function should not end in a product: a compiler may fuse that with the addition, and round
    differently elsewhere.

    Eight running sums of elementwise additions, then a pairwise tree over them: the order depends
    on K alone, never on the other axes, so chunking and sharding the rest changes no bit (under
    jit), and the rounding error grows with K/8. On CPU this is as fast as `jnp.sum`, and three to
    five times as fast as a tree over the whole axis that is compiled with what made x.

    >>> float(sum_over(jnp.square, jnp.arange(3.0)))
    5.0
    """
    short = x.shape[0] < 2 * LANES
    whole = 0 if short else x.shape[0] // LANES * LANES
    parts = [function(x[k]) for k in range(whole, x.shape[0])]
    if not short:
        blocks = x[:whole].reshape(-1, LANES, *x.shape[1:])
        each = jax.vmap(function)
        sums, _ = jax.lax.scan(
            lambda total, block: (total + each(block), None), each(blocks[0]), blocks[1:]
        )
        parts = [sums[i] for i in range(LANES)] + parts
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [a + b for a, b in zip(parts[:half], parts[half : 2 * half], strict=True)] + parts[
            2 * half :
        ]
    return (
        parts[0]
        if parts
        else jax.tree.map(
            lambda o: jnp.zeros(o.shape, o.dtype),
            jax.eval_shape(function, jax.ShapeDtypeStruct(x.shape[1:], x.dtype)),
        )
    )


def tree_sum(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Sum over one axis in a fixed order: halved while it is long, so that the rounding error grows
    with log n, then `sum_over`.

    >>> float(tree_sum(jnp.ones((5, 3)), axis=0)[0])
    5.0
    """
    x = jnp.moveaxis(x, axis, 0)
    while x.shape[0] > 128 * LANES:
        half = x.shape[0] // 2
        x = jnp.concatenate([x[:half] + x[half : 2 * half], x[2 * half :]])
    return sum_over(lambda part: part, x)


def pairwise(x: Float[Array, "..."], axis: int = 0) -> Float[Array, "..."]:
    """Sum over one axis of numbers that are in memory already: one half of them plus the other,
    until one is left.

    The order depends on the length of the axis alone, as in `sum_over`, which is for x too large to
    be looked at twice. As there, x should not end in a product.

    >>> float(pairwise(jnp.arange(5.0)))
    10.0
    """

    def whole(x):
        part = lambda start, stop: jax.lax.slice_in_dim(x, start, stop, axis=axis)
        odd = []
        while (size := x.shape[axis]) > 1:
            odd += [part(size - 1, size)] if size % 2 else []
            x = part(0, size // 2) + part(size // 2, size // 2 * 2)
        return jnp.squeeze(sum(odd[::-1], x), axis)

    return _chunks.apart(whole, x)


def log_mean_exp(log_probs: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """`log mean_k exp(log_probs_k)`: the log-probability of a mixture of K draws. -inf where every
    draw says -inf.

    Values and gradients are finite (or -inf) for any input without NaN or +inf; NaN stays NaN.

    >>> round(float(jnp.exp(log_mean_exp(jnp.log(jnp.array([0.2, 0.4]))))), 4)
    0.3
    """
    flat = flattened(log_probs)
    top = jax.lax.stop_gradient(jnp.max(flat, axis=0))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    total = sum_over(lambda one: jnp.exp(one - top), flat) / log_probs.shape[0]
    none = total == 0
    return jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1.0, total)) + top).reshape(
        log_probs.shape[1:]
    )


def averaged(log_probs: Float[Array, "K *B"]) -> tuple[Float[Array, "K n"], Float[Array, " n"]]:
    """Probabilities of K draws and their mean, both flat. For chunks: unlike `log_mean_exp` it
    holds one number for each it is given.

    >>> averaged(jnp.log(jnp.array([[0.25, 0.75], [0.75, 0.25]])))[1].round(4)
    Array([0.5, 0.5], dtype=float32)
    """
    probs = jnp.exp(flattened(log_probs))
    return probs, jnp.maximum(
        pairwise(probs) / probs.shape[0], 0.0
    )  # the maximum ends the product: see `sum_over`


def flattened(x: Float[Array, "K *B"]) -> Float[Array, "K n"]:
    """All but the leading axis as one: loops over a long axis fill a core's vector units, loops
    over ten classes do not.

    >>> flattened(jnp.ones((4, 3, 2))).shape
    (4, 6)
    """
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


@jax.custom_jvp
def reciprocal(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`1 / x`, whose derivative does not overflow where `x * x` would underflow.

    >>> float(jax.grad(reciprocal)(jnp.float32(2.0)))
    -0.25
    """
    return 1.0 / x


@reciprocal.defjvp
def _reciprocal_jvp(primals, tangents):
    # JAX's own rule divides by x squared, which is 0 in float32 below 1e-19. Here the small tangent
    # meets one factor at a time.
    y = reciprocal(*primals)
    return y, (-y * tangents[0]) * y


def root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Square root with a derivative of 0 at 0, where it has no finite slope.

    >>> float(jax.grad(root)(jnp.float32(0.0)))
    0.0
    """
    none = x == 0
    return jnp.where(none, 0.0, jnp.sqrt(jnp.where(none, 1.0, x)))


def entropy(log_probs: Float[Array, "*B C"]) -> Float[Array, "*B"]:
    """Entropy of each row, in nats; `0 <= H <= log C`. A class with log-probability -inf adds
    exactly 0.

    >>> round(float(entropy(jnp.log(jnp.array([0.5, 0.5])))), 4)
    0.6931
    """
    return tree_sum(surprise(log_probs), axis=-1)


def surprise(log_probs: Float[Array, "..."]) -> Float[Array, "..."]:
    """`-p log p`, elementwise: the terms of an entropy.

    >>> float(surprise(jnp.array(-jnp.inf)))
    0.0
    """
    finite = jnp.where(
        log_probs < -1e30, -1e30, log_probs
    )  # exp gives 0, and 0 * -1e30 is 0 where 0 * -inf would be NaN
    terms = -jnp.exp(finite) * finite
    return jnp.where(terms < 0, 0.0, terms)  # the choice ends the product: see `sum_over`


def rank(scores: Float[Array, " N"], size: int) -> Int[Array, " B"]:
    """The `size` highest rows, best first; ties go to the lowest row. NaN must have been masked
    before.
    """
    # Were its result sliced before XLA sees it whole, the CPU would sort all N scores instead:
    # 530 ms for 2 million, and 4 ms behind a barrier.
    return jax.lax.optimization_barrier(jax.lax.top_k(scores, size)[1])


def highest(scores: Float[Array, " N"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The highest score and its row, the first of equal ones.

    A library call on CPU; `max` and `argmax` of long arrays are four kernels each to compile.

    >>> [float(value) for value in highest(jnp.array([0.1, 0.7, 0.3]))]
    [0.699999988079071, 1.0]
    """
    value, row = jax.lax.optimization_barrier(jax.lax.top_k(scores, 1))
    return value[0], row[0]


def rankable(
    scores: Float[Array, " N"], available: Bool[Array, " N"]
) -> tuple[Float[Array, " N"], Int[Array, ""]]:
    """Scores made safe to rank (unavailable, NaN and +inf become -inf), and how many available ones
    were NaN or +inf.
    """
    broken = jnp.isnan(scores) | (scores == jnp.inf)
    return jnp.where(available & ~broken, scores, -jnp.inf), jnp.sum(available & broken)


def maskable(
    scores: Float[Array, " N"], available: Bool[Array, " N"], size: int
) -> tuple[Float[Array, " N"], Int[Array, ""], Bool[Array, ""]]:
    """`rankable`, and whether more than `size` points are left to choose from and all of them have
    one and the same score.
    """
    return counted(scores, available, size)[:3]


def counted(
    scores: Float[Array, " N"], available: Bool[Array, " N"], size: int
) -> tuple[Float[Array, " N"], Int[Array, ""], Bool[Array, ""], Int[Array, ""]]:
    """`maskable`, and how many points are left to choose from."""
    broken = jnp.isnan(scores) | (scores == jnp.inf)
    safe = jnp.where(available & ~broken, scores, -jnp.inf)
    finite = safe > -jnp.inf
    high = jnp.max(safe, initial=-jnp.inf)
    # one sum of three: each sum of a long axis is four kernels to compile
    masks = jnp.stack([available & broken, finite, finite & (safe == high)])
    nonfinite, left, equal = jnp.sum(masks, axis=1)
    return safe, nonfinite, (left > size) & (left == equal), left
