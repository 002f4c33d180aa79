"""Query by committee, and what a label would do to the last layer: log-probabilities `[K, *B, C]`
in, one number per point out.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, _maths, errors
from bayesal.scores._compiled import scored
from bayesal.types import Array, ArrayLike


@scored
def vote_entropy(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
    """Entropy of the draws' votes, in nats.

    -sum_c v_c log v_c with v_c the share of draws whose most probable class is c;  0 <= value <=
    log(min(K, C)).

    How sure a draw is does not count, and many points tie: there are few ways to split K votes. A
    draw with a tie votes for the lowest class. With soft votes the same formula is `entropy`.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      Higher is more worth labeling.
    References:
      Dagan & Engelson 1995, https://doi.org/10.1016/B978-1-55860-377-6.50027-X

    >>> votes = jnp.log(jnp.array([[[0.6, 0.4]], [[0.2, 0.8]]]))  # one vote each
    >>> vote_entropy(votes).round(4)
    Array([0.6931], dtype=float32)
    """
    votes = jax.nn.one_hot(jnp.argmax(log_probs, axis=-1), log_probs.shape[-1], dtype=jnp.int32)
    return _maths.entropy(jnp.log(jnp.sum(votes, axis=0).astype(jnp.float32) / log_probs.shape[0]))


def expected_model_change(
    log_probs: Float[ArrayLike, "K *B C"], features: Float[ArrayLike, "*B D"]
) -> Float[Array, "*B"]:
    """Expected length of the gradient that a label would send into the last layer.

    sum_y mean_k p_k(y) * mean_k |p_k - e_y| * |[h, 1]|;  0 <= value <= sqrt(2 (1 - 1/C)) |[h, 1]|.

    For a softmax layer on features h (weights and bias), the gradient of the cross-entropy of label
    y is the outer product of `p - e_y` and `[h, 1]`; its length is the product of theirs. Here it
    is averaged over the draws' predictions p_k with the features shared by all draws, and the label
    is drawn from the averaged prediction. Long features score high whatever the prediction: scale
    them (to unit length, say) where that is not meant.

    Args:
      log_probs: normalized log-probabilities of K draws.
      features: input of the last layer, `[*B, D]`.
    Returns:
      A length, in units of the features. Higher is more worth labeling.
    Raises:
      NotLogProbabilities, NonFinite: numbers that are not what they should be. WrongShape: features
        of other points.
    References:
      Settles et al. 2008, https://papers.nips.cc/paper/3252-multiple-instance-active-learning

    >>> # either label moves the layer by sqrt(1/2) * |[3, 4, sqrt(24), 1]|
    >>> even = jnp.log(jnp.array([[[0.5, 0.5]]]))
    >>> expected_model_change(even, jnp.array([[3.0, 4.0, 24**0.5]])).round(3)
    Array([5.], dtype=float32)
    """
    log_probs = _checks.log_probs(log_probs)
    points = log_probs.shape[1:-1]
    features = _checks.numbers(features, "features", "[*B, D features]", ndim=len(points) + 1)
    if features.shape[:-1] != points:
        raise errors.WrongShape(
            "features",
            "`features` must have one row per point of `log_probs`, shape "
            f"[{', '.join(map(str, points))}, D]; got "
            f"{features.shape}.",
        )
    return _model_change(log_probs, features)


@jax.jit
def _model_change(
    log_probs: Float[Array, "K *B C"], features: Float[Array, "*B D"]
) -> Float[Array, "*B"]:
    probs = jnp.exp(log_probs)
    top = jnp.argmax(probs, axis=-1, keepdims=True) == jax.lax.broadcasted_iota(
        jnp.int32, probs.shape, probs.ndim - 1
    )
    # 1 - p, and the squares of all other classes, are summed over the others at the most probable
    # class, the only one where
    # a difference from the total could lose its digits.
    others = _maths.tree_sum(jnp.where(top, 0.0, probs), axis=-1)[..., None]
    squares = _maths.tree_sum(jnp.where(top, 0.0, jnp.square(probs)), axis=-1)[..., None]
    peak = jnp.max(jnp.square(probs), axis=-1, keepdims=True)
    lengths = jnp.square(jnp.where(top, others, 1.0 - probs)) + jnp.where(
        top, squares, jnp.maximum(squares - jnp.square(probs), 0.0) + peak
    )
    change = _maths.tree_sum(_maths.root(lengths), axis=0) / probs.shape[0]
    mean = _maths.tree_sum(probs, axis=0) / probs.shape[0]
    return _maths.tree_sum(mean * change, axis=-1) * jnp.sqrt(
        1.0 + _maths.tree_sum(jnp.square(features), axis=-1)
    )
