"""Losses of predicted classes: averaged log-probabilities `[N, C]`, labels `[N]`, weights `[N]`."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, _maths, errors, likelihoods
from bayesal.metrics import _checked
from bayesal.types import Array, ArrayLike, Gaussian, Key, Mixture

MOST_ROWS = 100_000_000  # of all groups together: 400 MB


def accuracy(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Share of points whose most probable class is the label; in [0, 1].

    >>> accuracy(jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]])), jnp.array([0, 0]))
    Array(0.5, dtype=float32)
    """
    log_probs, labels, weights = _checked.classes(log_probs, labels, weights)
    return _checked.mean((jnp.argmax(log_probs, axis=-1) == labels).astype(jnp.float32), weights)


def nll(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels, in nats; in [0, inf].

    `sum_i w_i (-log p(y_i | x_i)) / sum_i w_i`; all weights are 1 if None, and points of weight 0
    are left out. It is inf if a label has probability 0.

    >>> nll(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0])).round(4)
    Array(0.6931, dtype=float32)
    """
    log_probs, labels, weights = _checked.classes(log_probs, labels, weights)
    return -_checked.mean(jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0], weights)


def brier(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Brier score: mean squared distance of the probabilities from the one-hot label; in [0, 2].

    The original multi-class form (Brier 1950), summed over classes. `brier_parts` decomposes it.

    >>> brier(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0]))
    Array(0.5, dtype=float32)
    """
    log_probs, labels, weights = _checked.classes(log_probs, labels, weights)
    return _checked.mean(_squares(log_probs, labels), weights)


@jax.jit
def _squares(log_probs, labels):
    error = jnp.exp(log_probs) - jax.nn.one_hot(labels, log_probs.shape[1])
    return _maths.tree_sum(jnp.square(error), axis=1)


class BrierParts(NamedTuple):
    """Parts of the Brier score: `brier = reliability - resolution + uncertainty + within`.

    reliability: squared distance of forecasts from their group's outcomes; in [0, 2], 0 is best.
    resolution:  squared distance of group outcomes from the base rates; in [0, uncertainty], higher
      is better.
    uncertainty: `sum_c o_c (1 - o_c)` of the base rates o; in [0, 1 - 1/C], a property of the data.
    within:      effect of merging unequal forecasts into one group; exactly 0 where none is merged.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_parts(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    bins: int | None = None,
    weights: ArrayLike | None = None,
) -> BrierParts:
    """Decomposition of the Brier score into reliability, resolution, uncertainty and within.

    Forecasts f_i and outcomes o_i in groups g of weight n_g have means f_g and o_g:
    reliability = sum_g n_g |f_g - o_g|^2 / N, resolution = sum_g n_g |o_g - o|^2 / N, uncertainty =
    sum_c o_c (1 - o_c), within = sum_i |f_i - f_g|^2 / N - 2 sum_i (f_i - f_g) (o_i - o_g) / N.

    Args:
      log_probs, labels: as of `brier`.
      bins: None groups points of equal forecasts: Murphy's exact parts, useful where forecasts
        repeat (a net's rarely do: then nearly all is reliability). A number groups by predicted
        class and by equal-width bins of confidence.
      weights: how many points each stands for.
    References:
      Murphy 1973; the parts within bins: Stephenson et al. 2008.

    >>> parts = brier_parts(jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]])), jnp.array([0, 1]))
    >>> [round(part, 4) for part in parts]
    [0.125, 0.0, 0.5, 0.0]
    """
    log_probs, labels, weights = (
        np.asarray(a) for a in _checked.classes(log_probs, labels, weights)
    )
    forecast, weight = (
        np.exp(log_probs.astype(np.float64)),
        weights.astype(np.float64) / weights.sum(dtype=np.float64),
    )
    outcome = np.eye(forecast.shape[1])[labels]
    keys = (
        log_probs
        if bins is None
        else np.stack([forecast.argmax(1), _checked.bins_of(forecast.max(1), bins)], axis=1)
    )
    distinct, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.ravel()
    total = np.bincount(group, weight, len(distinct))
    share = np.divide(
        weight, total[group], out=np.zeros_like(weight), where=weight > 0
    )  # of a point in its group
    mean = lambda values: np.stack(
        [np.bincount(group, share * column, len(distinct)) for column in values.T], axis=1
    )
    forecasts, outcomes, base = mean(forecast), mean(outcome), weight @ outcome
    squares = lambda values: np.square(values).sum(1)
    # forecasts of one group that were not merged are equal; their mean may round
    apart = np.zeros_like(forecast) if bins is None else forecast - forecasts[group]
    within = weight @ (squares(apart) - 2 * (apart * (outcome - outcomes[group])).sum(1))
    return BrierParts(
        float(total @ squares(forecasts - outcomes)),
        float(total @ squares(outcomes - base)),
        float((base * (1 - base)).sum()),
        float(within),
    )


def dyads(key: int | Key, count: int, groups: int, *, size: int = 10) -> Int[Array, "groups size"]:
    """Groups of rows for `joint_nll` by dyadic sampling: each is drawn from two random points.

    Labels of random points are nearly independent, so a joint likelihood over them adds nothing to
    the marginal one. Within a dyad points repeat, and the joint likelihood tests their dependence.

    Args:
      key: fixes the choice.
      count: number of points, at least 2.
      groups: number of groups; `groups * size` is at most 100,000,000.
      size: rows per group, drawn with replacement from the group's two points.
    References:
      Osband et al. 2022, https://arxiv.org/abs/2202.13509

    >>> len(set(dyads(jax.random.key(0), 100, 1, size=10)[0].tolist()))
    2
    """
    count = _checks.at_least(2, count, "count", most=2**31 - 1)
    size = _checks.at_least(1, size, "size", most=MOST_ROWS)
    groups = _checks.at_least(1, groups, "groups", most=MOST_ROWS // size)
    first_key, gap_key, which_key = jax.random.split(_checks.key(key), 3)
    first = jax.random.randint(first_key, (groups, 1), 0, count)
    second = (first + jax.random.randint(gap_key, (groups, 1), 1, count)) % count
    return jnp.where(jax.random.bernoulli(which_key, shape=(groups, size)), first, second)


def joint_nll(
    prediction: ArrayLike | Gaussian | Mixture, labels: ArrayLike, groups: Int[ArrayLike, "G t"]
) -> Float[Array, ""]:
    """Mean joint negative log-likelihood of groups of t labels, in nats per group.

    `-log mean_k prod_i p_k(y_i | x_i)`, in [0, inf] for classes. It distinguishes draws with
    correlated errors from draws with independent errors, which the marginal likelihood cannot.
    With one draw, or groups of one, it is t times the marginal loss.

    Args:
      prediction: of K draws: log-probabilities [K, N, C], a `Gaussian` [K, N] or a `Mixture`
        [K, N, J].
      labels: classes or real numbers [N].
      groups: rows [G, t], as `dyads` makes them; rows may repeat.
    References:
      Osband et al. 2021, Epistemic neural networks, https://arxiv.org/abs/2107.08924

    >>> # two points with the same, unknown label
    >>> either = jnp.log(jnp.array([[[0.9, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.1, 0.9]]]))
    >>> # -log (0.81 + 0.01) / 2; two coins have -log 0.25 = 1.3863
    >>> round(float(joint_nll(either, jnp.array([0, 0]), jnp.array([[0, 1]]))), 4)
    0.8916
    """
    if isinstance(prediction, Gaussian | Mixture):
        prediction, labels, _ = _checked.real(prediction, labels, axes=(2,))
    else:
        prediction = _checks.log_probs(prediction, "prediction", ndim=3)
        labels = _checks.class_labels(labels, prediction.shape[2], prediction.shape[1])
    if _checks.concrete(groups):
        groups = _rows(groups, labels.shape[0])
    return _joint(prediction, labels, jnp.asarray(groups))


@jax.jit
def _joint(prediction, labels, groups):
    each = likelihoods.log_likelihood(prediction, labels)  # [K, N]
    joint = _maths.log_mean_exp(_maths.tree_sum(each[:, groups], axis=-1))
    return -_maths.tree_sum(joint, axis=0) / joint.shape[0]


def _rows(groups, count):
    host = np.asarray(_checks.plain(groups, "groups"))
    if host.ndim != 2 or not np.issubdtype(host.dtype, np.integer) or math.prod(host.shape) == 0:
        raise errors.WrongShape(
            "groups",
            "`groups` must be integers [G groups, t rows], as `metrics.dyads` makes them; "
            f"got shape {host.shape}, dtype {host.dtype}.",
        )
    if ((host < 0) | (host >= count)).any():
        raise errors.WrongIndex(
            "groups",
            f"`groups` must hold rows in [0, {count}); got "
            f"{_checks.listed(host[(host < 0) | (host >= count)])}.",
        )
    return host
