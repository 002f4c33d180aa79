"""The next round's hyperparameters. Every candidate is judged on labels it was not fitted on.

A retuner is `(key, trial, hparams) -> (hparams, Tuning)`. `trial(hparams)` cross-fits one candidate over folds of the labeled set
and returns a `Trial`; it is pure and vmaps, so a whole population is one compiled program.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bayesal import checks, chunks
from bayesal.types import HParams, Key, PyTree


class Trial(NamedTuple):
    """One candidate, cross-fitted: out-of-fold NLL of every labeled row (nats), which rows count, the folds' fits."""

    losses: Float[Array, " M"]
    valid: Bool[Array, " M"]
    states: PyTree


class Tuning(NamedTuple):
    """What a retuner tried: every candidate, its mean out-of-fold NLL (nats) and the standard error of the difference to
    the incumbent (candidate 0), which one is kept, and the kept one's trial (None: no trial was run)."""

    candidates: HParams
    losses: Float[Array, " P"]
    errors: Float[Array, " P"]
    chosen: Int[Array, ""]
    trial: Trial | None


Retuner = Callable[[Key, Callable[[HParams], Trial], HParams], tuple[HParams, Tuning]]


def keep() -> Retuner:
    """The same hyperparameters every round; nothing is tried."""

    def retune(key, trial, hparams):
        del key, trial
        return hparams, Tuning(jax.tree.map(lambda a: a[None], hparams), jnp.full(1, jnp.nan), jnp.zeros(1), jnp.int32(0), None)

    retune.keeps = True  # needs no folds
    return retune


def population(
    size: int = 8,
    *,
    learning_rate: tuple[float, float] = (5e-4, 2e-2),
    weight_decay: tuple[float, float] = (1e-5, 1e-1),
    dropout: tuple[float, float] = (0.05, 0.6),
    prior_scale: tuple[float, float] = (0.1, 3.0),
    steps: tuple[int, int] = (50, 400),
    local: float = 0.5,
) -> Retuner:
    """Random search around the incumbent, all candidates trained in one compiled program.

    Each round the incumbent, neighbors of it (log-normal steps a fifth of the range wide) and fresh points of the whole
    range (log-uniform) are cross-fitted on the same folds with the same random numbers. The best replaces the incumbent
    only if its mean out-of-fold NLL is lower by more than the standard error of the paired difference.

    Args:
      size: how many candidates, the incumbent among them; at least 2. The round costs `size * folds` fits.
      learning_rate, weight_decay, dropout, prior_scale, steps: (low, high), both > 0. The longest candidate sets the time.
      local: share of the new candidates that are neighbors of the incumbent.
    Raises:
      WrongSize: `size` < 2, or bounds that are not 0 < low <= high (dropout: high < 1).
    """
    ranges = (learning_rate, weight_decay, dropout, prior_scale, steps)  # the first fields; the others stay the incumbent's
    if size < 2:
        raise checks.WrongSize("size", f"`size` = {size}: a population needs the incumbent and at least one more; for no search use `keep()`.")
    for name, (low, high) in zip(HParams._fields, ranges, strict=False):
        if not 0 < low <= high or (name == "dropout" and high >= 1):
            raise checks.WrongSize(name, f"`{name}` = ({low}, {high}) must be bounds with 0 < low <= high{' < 1' if name == 'dropout' else ''}.")
    low = jnp.log(jnp.array([r[0] for r in ranges], jnp.float32))
    high = jnp.log(jnp.array([r[1] for r in ranges], jnp.float32))
    neighbors = round(local * (size - 1))

    def propose(key, hparams):
        center = jnp.log(jnp.stack([jnp.asarray(v, jnp.float32) for v in hparams[: len(ranges)]]))
        near_key, fresh_key = jax.random.split(key)
        near = center[None] + 0.2 * (high - low)[None] * jax.random.normal(near_key, (neighbors, len(ranges)))
        fresh = jax.random.uniform(fresh_key, (size - 1 - neighbors, len(ranges)), minval=low, maxval=high)
        others = (jnp.full(size - 1, value) for value in hparams[len(ranges) :])
        new = HParams(*jnp.exp(jnp.clip(jnp.concatenate([near, fresh]), low[None], high[None])).T, *others)
        new = new._replace(steps=jnp.round(new.steps).astype(jnp.int32))
        return jax.tree.map(lambda old, n: jnp.concatenate([jnp.asarray(old, n.dtype)[None], n]), hparams, new)

    def retune(key, trial, hparams):
        candidates = propose(key, hparams)
        trials = chunks.over_fits(trial, candidates)
        losses, errors, chosen = judge(trials.losses, trials.valid[0])
        pick = lambda tree: jax.tree.map(lambda a: a[chosen], tree)
        return pick(candidates), Tuning(candidates, losses, errors, chosen, pick(trials))

    return retune


def judge(
    losses: Float[Array, "P M"], valid: Bool[Array, " M"]
) -> tuple[Float[Array, " P"], Float[Array, " P"], Int[Array, ""]]:
    """Mean losses, standard errors of the paired difference to candidate 0, and who is kept.

    Candidate 0 stays unless the best beats it by more than that standard error; a non-finite candidate never wins, and
    a non-finite candidate 0 always loses to a finite one.
    """
    count, valid = jnp.maximum(valid.sum(), 1).astype(jnp.float32), valid[None]
    finite = jnp.all(jnp.isfinite(losses) | ~valid, axis=1)
    safe = jnp.where(valid & finite[:, None], losses, 0.0)
    means = jnp.where(finite, safe.sum(axis=1) / count, jnp.inf)
    difference = jnp.where(valid, safe - safe[:1], 0.0)
    center = difference.sum(axis=1, keepdims=True) / count
    variance = jnp.where(valid, jnp.square(difference - center), 0.0).sum(axis=1) / jnp.maximum(count - 1, 1)
    errors = jnp.sqrt(variance / count)
    best = jnp.argmin(means)
    beats = jnp.where(finite[0], means[best] < means[0] - errors[best], finite[best])
    return means, errors, jnp.where(beats, best, 0)
