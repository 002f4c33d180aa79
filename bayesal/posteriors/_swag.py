"""SWAG: a normal fitted to the last part of a training run."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Int

from bayesal import _checks, _shown, _training, errors, likelihoods
from bayesal.networks._embedded import embedded
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import unused, usable
from bayesal.types import Array, FitInfo, Key, Likelihood, Network, Posterior, PyTree

__all__ = ["swag"]


class Swag(NamedTuple):
    """A normal over weights, of covariance `(diag(variance) + sum_r deviations_r deviations_r') /
    2`.

    mean: mean of the snapshots.
    variance: of each weight over the snapshots.
    deviations: every leaf `[R, ...]`: the last snapshots less their running mean, over `sqrt(R -
      1)`.
    """

    mean: PyTree
    variance: PyTree
    deviations: PyTree


class Path(NamedTuple):
    """What is kept while training: `moments` holds sums of squared deviations in place of
    variances, and deviations as they are.
    """

    moments: Swag
    seen: Int[Array, ""]


def begin(params: PyTree, rank: int) -> Path:
    """No snapshot yet: the mean is where the path begins, and there is no width."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Path(
        Swag(params, zeros, jax.tree.map(lambda a: jnp.zeros((rank, *a.shape), a.dtype), params)),
        jnp.int32(0),
    )


def add(path: Path, params: PyTree, now: Array) -> Path:
    """One more snapshot, where `now`: Welford's running mean and squares, and the oldest deviation
    makes room for the newest.
    """
    mean, squares, deviations = path.moments
    rank = jax.tree.leaves(deviations)[0].shape[0]
    seen = path.seen + now
    moved = jax.tree.map(
        lambda m, p: m + jnp.where(now, (p - m) / jnp.maximum(seen, 1), 0.0), mean, params
    )
    squares = jax.tree.map(
        lambda s, p, old, new: s + jnp.where(now, (p - old) * (p - new), 0.0),
        squares,
        params,
        mean,
        moved,
    )
    slot = (seen - 1) % rank
    deviations = jax.tree.map(
        lambda d, p, m: d.at[slot].set(jnp.where(now, p - m, d[slot])), deviations, params, moved
    )
    return Path(Swag(moved, squares, deviations), seen)


def finish(path: Path) -> Swag:
    """Sums over numbers of snapshots: variances, and deviations whose squares add up to a
    covariance.
    """
    mean, squares, deviations = path.moments
    rank = jax.tree.leaves(deviations)[0].shape[0]
    columns = jnp.sqrt(jnp.maximum(jnp.minimum(path.seen, rank) - 1, 1.0))
    return Swag(
        mean,
        jax.tree.map(lambda s: s / jnp.maximum(path.seen, 1), squares),
        jax.tree.map(lambda d: d / columns, deviations),
    )


def sample(key: Key, state: Swag) -> PyTree:
    """One set of weights: mean, half the variance along each axis, half along the deviations."""
    flat, unravel = ravel_pytree(state.mean)
    own, shared = jax.random.split(key)
    noise = unravel(jax.random.normal(own, flat.shape, flat.dtype))
    along = jax.random.normal(shared, (jax.tree.leaves(state.deviations)[0].shape[0],), flat.dtype)
    return jax.tree.map(
        lambda m, v, d, e: (
            m + 0.5**0.5 * (jnp.sqrt(jnp.maximum(v, 0.0)) * e + jnp.tensordot(along, d, 1))
        ),
        state.mean,
        state.variance,
        state.deviations,
        noise,
    )


@_shown.named
@standardized
def swag(
    network: Network,
    *,
    snapshots: int = 40,
    rank: int = 20,
    start: float = 0.75,
    rate: float = 0.5,
    batch_size: int = 32,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """SWAG: a normal fitted to the parameters of the last part of one training run.

    A draw is one set of weights from that normal. How wide it is comes from the noise of the
    minibatches and the rate: it is a picture of the path, not an approximation whose error goes to
    zero. Training is that of `point` (Adam, dropout) but for the rate.

    Args:
      network: what to train.
      snapshots: how many sets of weights the last part gives, evenly spaced; with fewer steps
        there, one for each.
      rank: of the low-rank half of the covariance: the last snapshots' deviations; from 2 to
        `snapshots`.
      start: the share of the steps before the first snapshot, in [0, 1).
      rate: of the last part, in units of `HParams.learning_rate`; before, the rate falls to it
        along a cosine.
      batch_size: rows of one minibatch.
      likelihood: what the outputs mean; default classes.
    Raises:
      WrongSize: numbers outside these ranges. WrongShape (`init`): outputs that are no vector.
    References:
      Maddox et al. 2019, https://arxiv.org/abs/1902.02476 (with SGD; here the steps are Adam's, as
      everywhere in this package).
    """
    likelihood = likelihood or likelihoods.CATEGORICAL
    snapshots, rank = _checks.at_least(2, snapshots, "snapshots"), _checks.at_least(2, rank, "rank")
    _possible(snapshots, rank, start, rate)

    def init(key, x):
        usable(network, x, likelihood)
        return begin(network.init(key, x), rank).moments

    def fit(key, state, labeled, hparams):
        steps = jnp.asarray(hparams.steps, jnp.int32)
        first = jnp.floor(start * steps).astype(jnp.int32)
        # of snapshots that step i has behind it
        number = lambda i: (i - first) * snapshots // jnp.maximum(steps - first, 1)

        def observe(path, i, params):
            return add(path, params, (i >= first) & (number(i + 1) > number(i)))

        before = _training.cosine(hparams._replace(steps=first, final_rate=rate))
        rule = _training.adam(
            lambda i: before(jnp.minimum(i, jnp.maximum(first, 1))),
            _training.decay_of(hparams, labeled),
        )
        loss = _training.nll(network, hparams.dropout, likelihood, hparams.label_smoothing)
        nothing = begin(state.mean, rank)
        walk = functools.partial(_training.walk, batch_size=batch_size, observe=observe)
        _, path, info = walk(key, state.mean, loss, labeled, steps, rule, seen=nothing)
        return _finite(finish(path), nothing.moments, info, steps)

    def draw(key, state, num):
        return jax.vmap(lambda k: sample(k, state))(jax.random.split(key, num))

    def apply(state, draw, x):
        del state
        return likelihood.predict(network.apply(draw, x, None, 0.0))

    embed = embedded(network, lambda state: state.mean)
    made = Posterior(
        init, fit, draw, apply, embed, real=likelihood.real, warm=_warm, likelihood=likelihood
    )
    return made._replace(unused=unused(network, likelihood, "prior_scale", "final_rate"))


def _warm(old: Swag, fresh: Swag) -> Swag:
    """The mean goes on from where it was; widths begin anew."""
    return fresh._replace(mean=_training.shrink_and_perturb(old.mean, fresh.mean))


def _possible(snapshots: int, rank: int, start: float, rate: float) -> None:
    if rank > snapshots:
        raise errors.WrongSize(
            "rank",
            f"`rank` = {rank}, but there are only `snapshots` = {snapshots} deviations to span it.",
        )
    if not 0 <= start < 1:
        raise errors.WrongSize("start", f"`start` = {start} must lie in [0, 1).")
    if not 0 < rate < float("inf"):
        raise errors.WrongSize("rate", f"`rate` = {rate} must be positive and finite.")


def _finite(found: Swag, nothing: Swag, info: FitInfo, steps: Array) -> tuple[Swag, FitInfo]:
    """What was found, if it is finite: squares overflow before weights do. Else `nothing`, and a
    failure after the last step.
    """
    finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda a: jnp.isfinite(a).all(), found))
    found = jax.tree.map(lambda new, old: jnp.where(finite, new, old), found, nothing)
    failed_at = jnp.where((info.failed_at < 0) & ~finite, steps, info.failed_at)
    return found, info._replace(failed_at=failed_at)
