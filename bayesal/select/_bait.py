"""BAIT: the batch after which the parameters are known best where the pool needs them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Real

from bayesal import _checks, _chunks, _maths, errors
from bayesal._checks import precision
from bayesal.select._points import scaled
from bayesal.types import Array, ArrayLike, Selection

CHUNK = 1024  # points whose gains are computed at a time
OVERSHOOT = 2  # times the batch is picked before half of it is taken back, as published


@jax.jit
def _factors(log_probs, features):
    probs = jnp.exp(_maths.log_mean_exp(log_probs))  # [N, C]
    rows = jnp.sqrt(probs)[:, :, None] * (jnp.eye(probs.shape[1])[None] - probs[:, None, :])
    return (rows[..., None] * features[:, None, None, :]).reshape(*probs.shape, -1)


def _fisher_factors(
    log_probs: Float[ArrayLike, "K N C"], features: Real[ArrayLike, "N D"]
) -> Float[Array, "N C CD"]:
    """Factors of each point's Fisher information about the weights of the last layer, for C
    classes.

    F_i = V_i' V_i = (diag(p) - p p') (outer) x x', with rows V_ic = sqrt(p_c) (e_c - p) (outer) x,
    p the mean prediction, x the features: the expected square of the gradient, over the labels that
    the model expects. It holds N * C * C * D numbers; where that is too much, screen the pool
    first. Labels with Gaussian noise have one row, `features[:, None, :]`.

    Args:
      log_probs: normalized log-probabilities of K draws, of which the mean counts.
      features: what enters the last layer.
    Raises:
      NotLogProbabilities, NonFinite, WrongShape.
    References:
      Ash et al. 2021, https://arxiv.org/abs/2106.09675

    >>> _fisher_factors(jnp.log(jnp.full((1, 5, 2), 0.5)), jnp.ones((5, 3))).shape
    (5, 2, 6)
    """
    log_probs = _checks.log_probs(log_probs, ndim=3)
    features = _checks.features(features)
    if log_probs.shape[1] != features.shape[0]:
        raise errors.WrongShape(
            "features",
            f"`features` has {features.shape[0]} points, but `log_probs` has N = "
            f"{log_probs.shape[1]}; pass both of the same pool.",
        )
    return _factors(log_probs, features)


def bait(
    factors: Float[ArrayLike, "N R P"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    labeled: Bool[ArrayLike, " N"] | None = None,
    ridge: float | Float[ArrayLike, ""] = 1.0,
) -> Selection:
    """BAIT: picks that minimize tr(M_S^-1 F), the expected error over the pool after the labels of
    S (Bayesian A-optimality).

    F = mean_i V_i' V_i over available and labeled points, M_S = ridge (tr F / P) I + sum of V_i'
    V_i over labeled points and S. Twice the batch is picked greedily, then the points that are
    missed least are taken back one by one. What is left comes in the order of being missed most;
    `scores` are the amounts by which the objective would rise, given the picks before. The unit of
    the factors does not matter.

    Memory O(N R P + P^2), about three times the factors; time O(N R P (P + R)) for each of 2 * size
    forward steps. A copy of a pick is new evidence about the same direction, so copies may be
    picked.

    Args:
      factors: `V_i [R, P]` of each point, P parameters. For C classes R = C, P = C * D and row c is
        sqrt(p_c) (e_c - p) (outer) x, with p the mean prediction and x the features. For regression
        R = 1, P = D and it is `features[:, None, :]` over the standard deviation of the label.
      size: how many points to pick.
      available: which points may be picked; all if None.
      labeled: which points have a label already: their information counts, and they are never
        picked; none if None.
      ridge: prior precision of every parameter, in units of the mean information of one point;
        positive.
    Raises:
      WrongShape, WrongSize, NonFinite (under jit such points are left out and counted in
      `nonfinite`).
    References:
      Ash et al. 2021, https://arxiv.org/abs/2106.09675

    >>> sorted(
    ...     bait(
    ...         jnp.array([[2.0, 0.0], [0.1, 0.1], [0.0, 2.0], [0.2, 0.0]])[:, None], 2
    ...     ).indices.tolist()
    ... )
    [0, 2]
    """
    factors = _checks.plain(factors, "factors")
    if (
        not hasattr(factors, "dtype")
        or np.ndim(factors) != 3
        or 0 in np.shape(factors)[1:]
        or not jnp.issubdtype(factors.dtype, jnp.floating)
    ):
        raise errors.WrongShape(
            "factors",
            "`factors` must be floating-point numbers [N points, R rows, P parameters]; got "
            f"{type(factors).__name__} of shape "
            f"{np.shape(factors)}. For regression pass features[:, None, :]; for classes rows "
            "sqrt(p_c) (e_c - p) outer x, as `acquire.bait` does.",
        )
    if _checks.concrete(factors) and len(
        bad := np.flatnonzero(~np.isfinite(np.asarray(factors).astype(np.float32)).all(axis=(1, 2)))
    ):
        raise errors.NonFinite(
            "factors",
            f"`factors` has NaN or inf at {len(bad)} points: {_checks.listed(bad)}. The usual "
            "cause is a diverged fit.",
            bad,
        )
    if _checks.concrete(ridge) and not 0 < float(ridge) < np.inf:
        raise errors.WrongSize(
            "ridge", f"`ridge` must be a positive, finite number, got {ridge!r}."
        )
    precision.distinct(factors, "factors")
    rows = factors.shape[0]
    labeled = (
        jnp.zeros(rows, bool)
        if labeled is None
        else _checks.available_rows(labeled, rows, "labeled")
    )
    available = _checks.available_rows(available, rows) & ~labeled
    size = _checks.batch_size(size, available)
    return _bait(_checks.as_float(factors), available, labeled, _checks.as_float(ridge), size)


@functools.partial(jax.jit, static_argnames="size")
def _bait(factors, available, labeled, ridge, size) -> Selection:
    finite = jnp.isfinite(factors).all(axis=(1, 2))
    nonfinite = jnp.sum(available & ~finite)
    available, labeled = available & finite, labeled & finite
    factors = scaled(jnp.where((available | labeled)[:, None, None], factors, 0.0))[
        0
    ]  # the others must not set the unit
    pool = _information(factors, available | labeled) / jnp.maximum(
        jnp.sum(available | labeled), 1
    ).astype(jnp.float32)
    unit = jnp.maximum(
        jnp.trace(pool) / pool.shape[0], 1e-30
    )  # after which the mean information of one point is 1
    factors, pool = factors / jnp.sqrt(unit), pool / unit
    known = ridge * jnp.eye(pool.shape[0]) + _information(factors, labeled)

    picks = _forward(
        factors, available, pool, _inverse(known), min(OVERSHOOT * size, factors.shape[0])
    )
    indices, scores = _backward(factors[picks], picks, pool, known)
    return Selection(indices[:size], scores[:size], nonfinite=nonfinite)


def _forward(factors, available, pool, inverse, many):
    """`many` picks, greedily; -1 where the pool is empty."""

    def pick(step, carry):
        inverse, left, picks = carry
        gains = _chunks.over_rows(lambda part: _change(part, inverse, pool, 1.0), factors, CHUNK)
        row = jnp.argmax(jnp.where(left, gains, -jnp.inf)).astype(jnp.int32)
        some = left[row]
        inverse = jnp.where(some, _updated(inverse, factors[row]), inverse)
        return inverse, left.at[row].set(False), picks.at[step].set(jnp.where(some, row, -1))

    return lax.fori_loop(0, many, pick, (inverse, available, jnp.full(many, -1, jnp.int32)))[2]


def _backward(factors, picks, pool, known):
    """The picks in the order of being missed most: taken back from the last one on, each time the
    one missed least.
    """
    many = picks.shape[0]

    def take(_, carry):
        kept, inverse, indices, scores = carry
        losses = jnp.where(kept, _change(factors, inverse, pool, -1.0), jnp.inf)
        least = many - 1 - jnp.argmin(losses[::-1])  # of equals, the one picked last
        at = jnp.where(kept[least], kept.sum() - 1, many)  # a place out of bounds is dropped
        kept = kept.at[least].set(False)
        inverse = left(kept)
        loss = _change(factors[least][None], inverse, pool, 1.0)[
            0
        ]  # as what it would bring back: the loss of what it alone knows has few digits
        return (
            kept,
            inverse,
            indices.at[at].set(picks[least], mode="drop"),
            scores.at[at].set(loss, mode="drop"),
        )

    left = lambda kept: _inverse(
        known + _information(factors, kept)
    )  # afresh: downdates would lose the digits of a well-known direction
    kept = picks >= 0
    return lax.fori_loop(
        0, many, take, (kept, left(kept), jnp.full(many, -1, jnp.int32), jnp.full(many, -jnp.inf))
    )[2:]


_dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _information(factors, members) -> Float[Array, "P P"]:
    """The sum of `V_i' V_i` over members."""
    rows = jnp.where(members[:, None, None], factors, 0.0).reshape(-1, factors.shape[-1])
    return _dot(rows.T, rows)


def _inverse(matrix: Float[Array, "P P"]) -> Float[Array, "P P"]:
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(matrix), True), jnp.eye(matrix.shape[0]))


def _change(factors, inverse, pool, sign) -> Float[Array, " n"]:
    """By how much tr(M^-1 F) falls if each point's information comes in (`sign` 1), or rises if it
    goes (`sign` -1).

    By Woodbury's identity: tr((I + sign V A V')^-1 V A F A V') with A = M^-1.
    """
    rows, width = factors.shape[1:]
    across = _dot(factors.reshape(-1, width), inverse).reshape(factors.shape)  # V A
    inner = jnp.eye(rows)[None] + sign * _dot(across, factors.swapaxes(1, 2))
    outer = _dot(
        _dot(across.reshape(-1, width), pool).reshape(factors.shape), across.swapaxes(1, 2)
    )
    return jnp.trace(jnp.linalg.solve(inner, outer), axis1=1, axis2=2)


def _updated(inverse, factor):
    """The inverse of M + V' V, by Woodbury's identity."""
    across = _dot(factor, inverse)  # V A
    inner = jnp.eye(factor.shape[0]) + _dot(across, factor.T)
    new = inverse - _dot(across.T, jnp.linalg.solve(inner, across))
    return 0.5 * (new + new.T)
