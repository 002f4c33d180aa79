"""Log-space arithmetic that is exact at the extremes and the same bit for bit in every chunk."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def tree_sum(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Sum over one axis by a fixed pairwise tree of elementwise additions.

    The order of additions depends on the axis' length alone, never on the other axes, so chunking and sharding the
    rest changes no bit (under jit), and the rounding error grows with log n instead of n.

    >>> float(tree_sum(jnp.ones((5, 3)), axis=0)[0])
    5.0
    """
    x = jnp.moveaxis(x, axis, 0)
    if x.shape[0] == 0:
        return jnp.zeros(x.shape[1:], x.dtype)
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        x = jnp.concatenate([x[:half] + x[half : 2 * half], x[2 * half :]])
    return x[0]


def log_mean_exp(log_probs: Float[Array, "K *B"]) -> Float[Array, "*B"]:
    """`log mean_k exp(log_probs_k)`: the log-probability of a mixture of K draws. -inf where every draw says -inf.

    Values and gradients are finite (or -inf) for any input without NaN or +inf.

    >>> round(float(jnp.exp(log_mean_exp(jnp.log(jnp.array([0.2, 0.4]))))), 4)
    0.3
    """
    top = jax.lax.stop_gradient(jnp.max(log_probs, axis=0))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    total = tree_sum(jnp.exp(log_probs - top[None]), axis=0) / log_probs.shape[0]
    some = total > 0
    return jnp.where(some, jnp.log(jnp.where(some, total, 1.0)) + top, -jnp.inf)


def entropy(log_probs: Float[Array, "*B C"]) -> Float[Array, "*B"]:
    """Entropy of each row, in nats; `0 <= H <= log C`. A class with log-probability -inf adds exactly 0.

    >>> round(float(entropy(jnp.log(jnp.array([0.5, 0.5])))), 4)
    0.6931
    """
    finite = jnp.maximum(log_probs, -1e30)  # exp gives 0, and 0 * -1e30 is 0 where 0 * -inf would be NaN
    return tree_sum(-jnp.exp(finite) * finite, axis=-1)


def rank(scores: Float[Array, " N"], size: int) -> Int[Array, " B"]:
    """The `size` highest rows, best first; ties go to the lowest row. NaN must have been masked before."""
    return jax.lax.top_k(scores, size)[1]


def maskable(
    scores: Float[Array, " N"], available: Bool[Array, " N"]
) -> tuple[Float[Array, " N"], Int[Array, ""], Bool[Array, ""]]:
    """Scores made safe to rank: unavailable, NaN and +inf become -inf.

    Returns the scores, how many available ones were NaN or +inf, and whether all that is left to choose from
    (two or more points) has one and the same score.
    """
    broken = jnp.isnan(scores) | (scores == jnp.inf)
    safe = jnp.where(available & ~broken, scores, -jnp.inf)
    finite = safe > -jnp.inf
    low = jnp.min(jnp.where(finite, safe, jnp.inf), initial=jnp.inf)
    high = jnp.max(safe, initial=-jnp.inf)
    return safe, jnp.sum(available & broken), (jnp.sum(finite) > 1) & (low == high)
