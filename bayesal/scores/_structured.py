"""One number per point from many: pixels, boxes, tokens, labels."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from bayesal import _checks, _maths, errors
from bayesal.types import Array, ArrayLike

HOW = ("mean", "sum", "max", "top")


def reduce(
    values: Float[ArrayLike, "*BQ"],
    mask: Bool[ArrayLike, "*BQ"] | None = None,
    *,
    how: str = "mean",
    axes: int = 1,
    top: int = 1,
) -> Float[Array, "*B"]:
    """Scores of the parts of each point, `[*B, *Q]`, as one score per point, `[*B]`.

    "mean": mean_q s_q;  "sum": sum_q s_q;  "max": max_q s_q;  "top": mean of the `top` highest s_q
    (of all, where a point has fewer).

    Only parts whose mask is True count; masked ones may hold anything, NaN included, and change
    nothing. A point without any such part has the score -inf: it may not be picked. "sum" favors
    points with many parts.

    Args:
      values: scores, higher is more worth labeling; -inf for a part that may not be labeled.
      mask: which parts exist; all if None.
      how: one of the four above.
      axes: how many trailing axes are parts of one point: 2 for pixels `[N, H, W]`, 1 for boxes or
        tokens `[N, Q]`.
      top: how many parts "top" averages.
    Raises:
      NonFinite: a part that counts is NaN or +inf. WrongShape: a mask of another shape, or too few
        axes. WrongSize: `top` < 1.
      UnknownName: `how` is none of the four.

    >>> boxes = jnp.array([[0.1, 0.5, jnp.nan], [0.7, jnp.nan, jnp.nan]])
    >>> reduce(boxes, ~jnp.isnan(boxes), how="max")
    Array([0.5, 0.7], dtype=float32)
    """
    _refuse_options(how, axes, top)
    values = _checks.plain(values, "values")
    if (
        not hasattr(values, "dtype")
        or not jnp.issubdtype(values.dtype, jnp.floating)
        or values.ndim < axes
    ):
        raise errors.WrongShape(
            "values",
            f"`values` must be a floating-point array with at least the {axes} trailing axes "
            f"of `axes`; got shape {np.shape(values)}, "
            f"dtype {getattr(values, 'dtype', type(values).__name__)}.",
        )
    mask = _mask(mask, tuple(values.shape))
    if _checks.concrete(values, mask):
        host = np.asarray(_checks.as_float(values))
        bad = np.argwhere((np.isnan(host) | np.isposinf(host)) & np.asarray(mask))
        if len(bad):
            raise errors.NonFinite(
                "values",
                f"`values` is NaN or +inf at {len(bad)} parts that count, first at index "
                f"{tuple(int(i) for i in bad[0])}; leave parts "
                "that do not exist out by `mask`.",
                np.unique(bad[:, 0]),
            )
    return _reduce(_checks.as_float(values), mask, how, axes, top)


def structured(
    score: Callable[[Float[ArrayLike, "K N C"]], Float[Array, " N"]],
    *,
    how: str = "mean",
    axes: int = 1,
    top: int = 1,
) -> Callable[..., Float[Array, " N"]]:
    """Any score as a score of points with many parts: `(log_probs [K, N, *Q, C], mask [N, *Q] |
    None) -> [N]`.

    Every part is scored by itself; `reduce` makes one number of a point's parts. Masked parts may
    hold anything in `log_probs`, NaN included: they are not looked at. Without a mask the result is
    a `Score` like any other and fits `acquire.top`.

    Args:
      score: a function of log-probabilities `[K, n, C]`, one number per row.
      how: "mean", "sum", "max" or "top", see `reduce`.
      axes: number of axes between the point's and the classes': 2 for pixels, 1 for boxes or
        tokens.
      top: how many parts "top" averages.
    Raises:
      As `reduce` and `score` do.
    References:
      Settles & Craven 2008 (tokens), https://aclanthology.org/D08-1112; Kendall & Gal 2017
      (pixels), https://arxiv.org/abs/1703.04977

    >>> # one draw, one sentence, two tokens
    >>> token = jnp.log(jnp.array([[[[0.5, 0.5], [1.0, 0.0]]]]))
    >>> from bayesal import scores
    >>> structured(scores.entropy, how="sum")(token).round(4)
    Array([0.6931], dtype=float32)
    """
    _refuse_options(how, axes, top)

    def points(
        log_probs: Float[ArrayLike, "K *BQ C"], mask: Bool[ArrayLike, "*BQ"] | None = None
    ) -> Float[Array, "*B"]:
        shape = np.shape(log_probs)
        if not hasattr(log_probs, "dtype") or len(shape) < axes + 2:
            raise errors.WrongShape(
                "log_probs",
                f"`log_probs` must be an array [K draws, N points, {axes} axes of parts, C "
                f"classes]; got shape {shape}.",
            )
        kept = _mask(mask, shape[1:-1])
        if mask is not None:  # parts that do not exist become uniform: any score is defined there
            uniform = jnp.asarray(-math.log(max(shape[-1], 1))).astype(log_probs.dtype)
            log_probs = jnp.where(kept[None, ..., None], jnp.array(log_probs), uniform)
        flat = log_probs.reshape(shape[0], math.prod(shape[1:-1]), shape[-1])
        parts = score(flat)
        return reduce(parts.reshape(shape[1:-1]), kept, how=how, axes=axes, top=top)

    return points


def _refuse_options(how: str, axes: int, top: int) -> None:
    if how not in HOW:
        raise errors.UnknownName(
            "how", f"`how` must be one of {', '.join(map(repr, HOW))}; got {how!r}."
        )
    if axes < 1:
        raise errors.WrongSize("axes", f"`axes` must be at least 1, got {axes}.")
    if top < 1:
        raise errors.WrongSize("top", f"`top` must be at least 1, got {top}.")


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    if mask is None:
        return jnp.ones(shape, bool)
    mask = _checks.plain(mask, "mask")
    if np.shape(mask) != shape or getattr(mask, "dtype", None) != np.bool_:
        raise errors.WrongShape(
            "mask",
            f"`mask` must be boolean, one entry per part, shape {shape}; got shape "
            f"{np.shape(mask)}, dtype {getattr(mask, 'dtype', None)}.",
        )
    return jnp.array(mask)  # a copy: the caller may use the memory again


@functools.partial(jax.jit, static_argnames=("how", "axes", "top"))
def _reduce(
    values: Float[Array, "*BQ"], mask: Bool[Array, "*BQ"], how: str, axes: int, top: int
) -> Float[Array, "*B"]:
    outer = values.shape[: values.ndim - axes]
    mask, values = (
        a.reshape(*outer, math.prod(values.shape[len(outer) :])) for a in (mask, values)
    )
    count = jnp.sum(mask, axis=-1)
    broken = jnp.any(mask & jnp.isnan(values), axis=-1)
    if how in ("max", "top"):
        values = jax.lax.top_k(
            jnp.where(mask, values, -jnp.inf), min(top if how == "top" else 1, values.shape[-1])
        )[0]
        count = jnp.minimum(count, values.shape[-1])
        mask = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1) < count[..., None]
    total = _maths.tree_sum(jnp.where(mask, values, 0.0), axis=-1)
    share = 1.0 if how == "sum" else jnp.maximum(count, 1).astype(jnp.float32)
    return jnp.where(
        broken, jnp.nan, jnp.where(count > 0, total / share, -jnp.inf)
    )  # a ranking by top_k may hide a NaN
