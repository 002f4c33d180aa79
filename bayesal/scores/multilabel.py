"""Multi-label scores: `log_odds` `[K, *B, L]` of L labels that are on or off, independent given a
draw; one number per point out.

Log-odds are `log p - log(1 - p)`, the input of a sigmoid. Each label is scored as a problem of two
classes, in nats, and the labels of a point become one number by "sum", "mean" or "max". Higher =
more worth labeling.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from bayesal import _checks, errors
from bayesal.scores import _classification as classification
from bayesal.scores._structured import reduce
from bayesal.types import Array, ArrayLike

__all__ = [
    "bald",
    "entropy",
    "expected_entropy",
]


def _scored(kernel: Callable[..., Array]) -> Callable[..., Array]:
    @functools.wraps(kernel)
    def score(log_odds, mask=None, *, how="sum"):
        return kernel(_checked(log_odds), mask, how=how)

    return score


def _checked(log_odds: ArrayLike) -> Float[Array, "K *B L"]:
    log_odds = _checks.plain(log_odds, "log_odds")
    dtype = getattr(log_odds, "dtype", None)
    if (
        dtype is None
        or not jnp.issubdtype(dtype, jnp.floating)
        or log_odds.ndim < 2
        or log_odds.shape[-1] == 0
    ):
        raise errors.WrongShape(
            "log_odds",
            "`log_odds` must be a floating-point array [K draws, ..., L labels] with L >= 1; "
            "got shape "
            f"{np.shape(log_odds)}, dtype {dtype}. Probabilities become log-odds by "
            "jax.scipy.special.logit(probs).",
        )
    if log_odds.shape[0] == 0:
        raise errors.WrongSize(
            "log_odds",
            f"`log_odds` has K = 0 draws (shape {log_odds.shape}); at least one draw is needed.",
        )
    if _checks.concrete(log_odds):
        bad = np.argwhere(np.isnan(np.asarray(_checks.as_float(log_odds))))
        if len(bad):
            raise errors.NonFinite(
                "log_odds",
                f"`log_odds` has NaN at {len(bad)} places, first at index "
                f"{tuple(int(i) for i in bad[0])}; +-inf is a certain label, "
                "NaN usually comes from a diverged fit.",
                np.unique(bad[:, 1]) if log_odds.ndim > 2 else (),
            )
    return _checks.as_float(log_odds)


@jax.jit
def _log_probs(log_odds: Float[Array, "K *B L"]) -> Float[Array, "K *B L 2"]:
    return -jax.nn.softplus(jnp.stack([-log_odds, log_odds], axis=-1))  # log p, log(1 - p)


@_scored
def entropy(
    log_odds: Float[ArrayLike, "K *B L"],
    mask: Bool[ArrayLike, "*B L"] | None = None,
    *,
    how: str = "sum",
) -> Float[Array, "*B"]:
    """Entropy of the averaged prediction of each label, in nats, over the labels of a point.

    sum_l H[mean_k p_kl];  0 <= value <= L log 2 ("mean" and "max": log 2).

    Args:
      log_odds: log p - log(1 - p) of each draw and label.
      mask: which labels count (those not known yet, say); all if None. A point with none has the
        score -inf.
      how: "sum", "mean" or "max" over labels.
    Returns:
      Higher is more worth labeling.
    Raises:
      WrongShape, WrongSize, NonFinite, UnknownName: the argument by name.
    References:
      Esuli & Sebastiani 2009, https://doi.org/10.1007/978-3-642-00958-7_12

    >>> entropy(jnp.array([[[0.0, 0.0, 300.0]]])).round(4)  # two labels are open, one is certain
    Array([1.3863], dtype=float32)
    """
    return reduce(classification.entropy(_log_probs(log_odds)), mask, how=how)


@_scored
def expected_entropy(
    log_odds: Float[ArrayLike, "K *B L"],
    mask: Bool[ArrayLike, "*B L"] | None = None,
    *,
    how: str = "sum",
) -> Float[Array, "*B"]:
    """Mean over draws of each label's entropy (aleatoric uncertainty), in nats, over the labels of
    a point.

    sum_l mean_k H[p_kl];  0 <= value <= L log 2 ("mean" and "max": log 2).

    Args:
      log_odds: log p - log(1 - p) of each draw and label.
      mask: which labels count; all if None. A point with none has the score -inf.
      how: "sum", "mean" or "max" over labels.
    Raises:
      WrongShape, WrongSize, NonFinite, UnknownName: the argument by name.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283

    >>> expected_entropy(jnp.array([[[300.0, 0.0]], [[-300.0, 0.0]]])).round(4)
    Array([0.6931], dtype=float32)
    """
    return reduce(classification.expected_entropy(_log_probs(log_odds)), mask, how=how)


@_scored
def bald(
    log_odds: Float[ArrayLike, "K *B L"],
    mask: Bool[ArrayLike, "*B L"] | None = None,
    *,
    how: str = "sum",
) -> Float[Array, "*B"]:
    """Mutual information between each label and the draws, in nats, over the labels of a point.

    sum_l (H[mean_k p_kl] - mean_k H[p_kl]);  0 <= value <= L log(min(K, 2)) ("mean" and "max":
    log(min(K, 2))).

    The sum is at least the information in all labels of the point together (which is at most log
    K): what two labels both tell about the draws is counted twice.

    Args:
      log_odds: log p - log(1 - p) of each draw and label.
      mask: which labels count; all if None. A point with none has the score -inf.
      how: "sum", "mean" or "max" over labels.
    Returns:
      Higher is more worth labeling.
    Raises:
      WrongShape, WrongSize, NonFinite, UnknownName: the argument by name.
    References:
      Houlsby et al. 2011, https://arxiv.org/abs/1112.5745

    >>> # draws disagree about the first label only
    >>> opposite = jnp.array([[[300.0, 300.0, 0.0]], [[-300.0, 300.0, 0.0]]])
    >>> bald(opposite).round(4)
    Array([0.6931], dtype=float32)
    """
    return reduce(classification.bald(_log_probs(log_odds)), mask, how=how)


def __dir__() -> list[str]:
    return __all__
