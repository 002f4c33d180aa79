"""Expected predictive information gain: what a point's label tells about labels that matter."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, _chunks, _maths, errors
from bayesal.types import Array, ArrayLike

TABLE = 2**19  # joint label probabilities looked at together


def epig(
    log_probs: Float[ArrayLike, "K N C"],
    target_log_probs: Float[ArrayLike, "K T L"],
    *,
    weights: Float[ArrayLike, " T"] | None = None,
) -> Float[Array, " N"]:
    """Expected predictive information gain: mutual information between a point's label and the
    label of a target, in nats.

    sum_t w_t I(y; y_t | x, x_t), with the joint mean_k p_k(y | x) p_k(y_t | x_t);  0 <= EPIG <=
    bald(x), log C and log L.

    Unlike BALD it counts only what helps to predict the targets. Each I is summed as KL(p(y | y_t)
    || p(y)) over target labels, from the difference of the two predictions, so small values keep
    their digits. Nothing of size N x T x C^2 exists: pool and targets are walked in blocks.

    Args:
      log_probs: normalized log-probabilities of K draws at N points.
      target_log_probs: of the same K draws at T target points, which stand for what will be asked
        of the model later.
      weights: how much each target matters, not negative; all the same if None. `target_weights`
        makes them of class priors; a region is a 0/1 vector.
    Raises:
      NotLogProbabilities, NonFinite, WrongShape (another number of draws), WrongSize (no targets),
      OutOfRange (weights).
    References:
      Bickford Smith et al. 2023, https://arxiv.org/abs/2304.08151

    >>> # the second point tells nothing
    >>> draws = jnp.log(jnp.array([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]]))
    >>> epig(draws, draws[:, :1]).round(4)
    Array([0.2218, 0.    ], dtype=float32)
    """
    log_probs = _checks.log_probs(log_probs, ndim=3)
    return unchecked(log_probs, *checked_target(target_log_probs, weights, log_probs.shape[0]))


def checked_target(
    target: Float[ArrayLike, "K T L"], weights: Float[ArrayLike, " T"] | None, draws: int
) -> tuple[Float[Array, "K T L"], Float[Array, " T"]]:
    """Predictions at targets by the pool's draws, and weights that sum to 1."""
    target = _checks.log_probs(target, "target_log_probs", ndim=3)
    if target.shape[0] != draws:
        raise errors.WrongShape(
            "target_log_probs",
            f"`target_log_probs` has K = {target.shape[0]} draws, and `log_probs` has "
            f"{draws}. Both must come from the "
            "same draws (the same functions): predict pool and targets with one predictive.",
        )
    return target, checked_weights(weights, target.shape[1])


def checked_weights(
    weights: Float[ArrayLike, " T"] | None, targets: int, name: str = "target_log_probs"
) -> Float[Array, " T"]:
    """How much each target matters, with sum 1; `name` is the argument that holds the targets."""
    if targets == 0:
        raise errors.WrongSize(name, f"`{name}` has T = 0 targets; pass at least one.")
    if weights is None:
        return jnp.full(targets, 1.0 / targets, jnp.float32)
    checked = _not_negative(weights, "weights", targets, "[T targets]")
    return checked / checked.sum()


def _not_negative(values, name, count, layout) -> Float[Array, " n"]:
    values = _checks.numbers(values, name, layout, shape=(count,))
    if _checks.concrete(values):
        with jax.ensure_compile_time_eval():  # a strategy may close over them
            host = np.asarray(values)
        if (host < 0).any() or not (host > 0).any():
            raise errors.OutOfRange(
                name,
                f"`{name}` must be 0 or more, and more than 0 somewhere; got values from "
                f"{host.min():g} to {host.max():g}.",
            )
    return values


def target_weights(
    target_log_probs: Float[ArrayLike, "K T C"], prior: Float[ArrayLike, " C"]
) -> Float[Array, " T"]:
    """Weights under which targets stand for a population with these class frequencies.

    w_t = sum_c prior_c p(c | x_t) / sum_s p(c | x_s);  they sum to the sum of the prior. Targets of
    a rare class that the prior makes frequent weigh more.

    Args:
      target_log_probs: normalized log-probabilities of K draws at T targets.
      prior: how frequent each class will be, not negative.

    >>> target_weights(
    ...     jnp.log(jnp.array([[[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]])), jnp.array([0.5, 0.5])
    ... ).round(2)
    Array([0.28, 0.28, 0.44], dtype=float32)
    """
    target = _checks.log_probs(target_log_probs, "target_log_probs", ndim=3)
    prior = _not_negative(prior, "prior", target.shape[2], "[C classes]")
    mean = jnp.exp(_maths.log_mean_exp(target))
    total = mean.sum(axis=0, keepdims=True)
    return jnp.sum(prior[None] * mean / jnp.where(total > 0, total, 1.0), axis=1)


def shifts(target: Float[Array, "K T L"]) -> tuple[Float[Array, "T*L K"], Float[Array, " T*L"]]:
    """What each target label would change about the draws' weights, and its probability: `p(k |
    y_t) - 1/K` and `p(y_t)`.
    """
    draws = target.shape[0]
    log_mean = jnp.maximum(_maths.log_mean_exp(target), -80.0)
    moved = jnp.expm1(target - log_mean[None]) / draws
    return moved.reshape(draws, -1).T, jnp.exp(log_mean).reshape(-1)


@jax.jit
def unchecked(
    log_probs: Float[Array, "K N C"], target: Float[Array, "K T L"], weights: Float[Array, " T"]
) -> Float[Array, " N"]:
    """`epig` of arrays that have been checked, with weights that sum to 1."""
    draws, rows, classes = log_probs.shape
    targets, outcomes = target.shape[1:]
    if rows == 0:
        return jnp.zeros(0)
    pairs = max(1, TABLE // (classes * outcomes))
    points = min(rows, max(1, math.isqrt(pairs)))
    together = min(targets, max(1, pairs // points))
    padding = -targets % together * outcomes
    moved, q = shifts(target)
    blocks = jnp.pad(moved, ((0, padding), (0, 0))).reshape(-1, together * outcomes, draws)
    shares = jnp.pad(q * jnp.repeat(weights, outcomes), (0, padding)).reshape(
        -1, together * outcomes
    )  # of what is padded: 0

    def some(part):
        probs, mean = _maths.averaged(part)
        add = lambda total, block: (total + _information(probs, mean, *block), None)
        terms = jax.lax.scan(add, jnp.zeros(mean.shape), (blocks, shares))[0]
        return jnp.sum((mean * terms).reshape(-1, classes), axis=-1)

    information = _chunks.over_rows(
        some, _maths.flattened(log_probs), points, axis=1, width=classes
    )
    return jnp.minimum(information, math.log(min(classes, outcomes, draws)))


def spread(target: Float[Array, "K T L"], weights: Float[Array, " T"]) -> Float[Array, "K K"]:
    """What all target labels change about the draws' weights, as one matrix: sum_t,l w_t p(l) m m',
    m the shift by label l of target t.
    """
    moved, q = shifts(target)
    share = q * jnp.repeat(weights, target.shape[2])
    return jnp.matmul((moved * share[:, None]).T, moved, precision=jax.lax.Precision.HIGHEST)


def ceiling(log_probs: Float[Array, "K n C"], spread: Float[Array, "K K"]) -> Float[Array, " n"]:
    """What EPIG cannot exceed, at a cost that does not depend on the targets; where information is
    small, about twice of EPIG.

    KL(a || b) <= log(1 + chi2(a || b)), by Jensen: log of a's mean of a/b. So I(y; y_t) <= log(1 +
    X_t), and once more by Jensen sum_t w_t I(y; y_t) <= log(1 + sum_t w_t X_t), where that sum is
    sum_c P_c' M P_c / p(c), M the `spread` and P_c the draws' probabilities.
    """
    draws, rows, classes = log_probs.shape
    probs = jnp.exp(log_probs).reshape(draws, -1)
    mean = jnp.mean(probs, axis=0)
    far = probs - mean[None]  # M takes no notice of the mean, but rounding would
    form = jnp.sum(far * jnp.matmul(spread, far, precision=jax.lax.Precision.HIGHEST), axis=0)
    form = jnp.maximum(form, 0.0) + 2e-6 * jnp.trace(spread) * jnp.sum(
        jnp.square(far), axis=0
    )  # no rounding error makes it too low
    never = mean == 0  # NaN is not 0, and stays
    chi2 = (
        jnp.where(never, 0.0, form / jnp.where(never, 1.0, mean)).reshape(rows, classes).sum(axis=1)
    )
    return 1.0001 * jnp.log1p(chi2)


def _information(probs, mean, moved, share):
    """sum_s share_s KL(p(y | s) || p(y)) of each class of each point, per unit of p(y)."""
    shift = jnp.matmul(moved, probs, precision=jax.lax.Precision.HIGHEST)  # [S, n * C]
    some = mean > _maths.TINY
    inverse = jnp.where(some, _maths.reciprocal(jnp.where(some, mean, 1.0)), 0.0)
    return jnp.matmul(share, divergence(shift * inverse[None]), precision=jax.lax.Precision.HIGHEST)


def divergence(ratio: Float[Array, "..."]) -> Float[Array, "..."]:
    """(1 + r) log(1 + r) - r >= 0, whose mean is a KL; near 0, where its parts cancel, r^2/2 -
    r^3/6 + r^4/12 - r^5/20 + r^6/30.

    >>> float(divergence(jnp.float32(-1.0)))
    1.0
    """
    series = (
        ratio * ratio * (1 / 2 - ratio * (1 / 6 - ratio * (1 / 12 - ratio * (1 / 20 - ratio / 30))))
    )
    up = jnp.where(
        ratio < -1.0 + 1e-7, 1e-30, 1.0 + ratio
    )  # rounding may say that a label takes more than there is
    return jnp.where(jnp.abs(ratio) < 0.1, series, up * jnp.log(up) - (up - 1.0))
