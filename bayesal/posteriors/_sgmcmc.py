"""Cyclical stochastic-gradient MCMC: noisy training in cycles that each leave samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float

from bayesal import _checks, _shown, _training, errors, likelihoods
from bayesal.posteriors._sampled import copies, energy_per_label, of_samples
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import usable
from bayesal.types import Array, Likelihood, Network, Posterior, PyTree

__all__ = ["sgmcmc"]


class Snapshots(NamedTuple):
    """Sets of weights, in order: every leaf `[S, ...]`."""

    params: PyTree


def sghmc(
    rate: Callable[[Array], Any], friction: float, temperature: Callable[[Array], Any], total: Any
) -> _training.Rule:
    """Update rule of stochastic-gradient Hamiltonian Monte Carlo; with friction 1, Langevin's
    (SGLD).

    It samples the energy per label of labels whose weights sum to `total`.

    v <- (1 - friction) v - rate * slope + sqrt(2 * friction * rate * temperature / total) * noise;
    w <- w + v.

    On an energy per label of `a w^2 / 2` Langevin's steps have variance `temperature / (total a) /
    (1 - rate a / 2)`: the right one as the rate goes to 0, too wide by the last factor before.
    Noise of the minibatches adds to that.

    References:
      Chen et al. 2014, https://arxiv.org/abs/1402.4102; Welling & Teh 2011 (SGLD).
    """

    def move(key, i, grads, params, memory):
        flat, unravel = ravel_pytree(grads)
        scale = jnp.sqrt(2 * friction * rate(i) * temperature(i) / total)
        noise = unravel(scale * jax.random.normal(key, flat.shape, flat.dtype))
        memory = jax.tree.map(
            lambda v, g, e: (1 - friction) * v - rate(i) * g + e, memory, grads, noise
        )
        return jax.tree.map(jnp.add, params, memory), memory

    return _training.Rule(lambda params: jax.tree.map(jnp.zeros_like, params), move)


class Collected(NamedTuple):
    """Snapshots while they are taken, and which of them have been."""

    params: PyTree
    taken: Bool[Array, " S"]

    def put(self, slot: Array, params: PyTree) -> "Collected":
        """These weights in a slot, in place of any that were there."""
        return Collected(
            jax.tree.map(lambda a, p: a.at[slot].set(p), self.params, params),
            self.taken.at[slot].set(True),
        )

    def filled(self) -> PyTree:
        """Slots that a short run left out get what stands before them (or, at the front, after
        them); with no step all stay.
        """
        slots = jnp.arange(self.taken.shape[0])
        source = jax.lax.cummax(jnp.where(self.taken, slots, jnp.argmax(self.taken)))
        source = jnp.where(self.taken.any(), source, slots)
        return jax.tree.map(lambda a: a[source], self.params)


class Cycles(NamedTuple):
    """Schedule of equal cycles: a share `explore` without noise, then `samples` snapshots."""

    cycles: int
    samples: int
    explore: float
    steps: Any

    def position(self, i: Array) -> Float[Array, ""]:
        """How much of its cycle lies before step `i`, in [0, 1)."""
        return i * self.cycles % self.steps / self.steps

    def slot(self, i: Array) -> Array:
        """The sample that step `i` may become: the last step of each part of the sampling stage
        does.
        """
        cycle = i * self.cycles // self.steps
        end = ((i + 1) * self.cycles - cycle * self.steps) / self.steps
        part = (
            jnp.ceil((end - self.explore) / (1.0 - self.explore) * self.samples).astype(jnp.int32)
            - 1
        )
        return cycle * self.samples + jnp.clip(part, 0, self.samples - 1)


@_shown.named
@standardized
def sgmcmc(
    network: Network,
    *,
    cycles: int = 5,
    samples: int = 10,
    explore: float = 0.5,
    friction: float = 0.1,
    temperature: float = 1.0,
    speed: float = 3.0,
    batch_size: int = 32,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """Cyclical SG-HMC or SGLD. A draw is one of S = cycles * samples snapshots.

    One noisy training run of repeatedly falling rate.

    A cycle's large first steps look for another mode, without noise; its small last steps sample
    around it. The target is `likelihood^(1 / temperature) * prior`: 1.0 is the Bayes posterior,
    0.01 as if every label had been seen 100 times (what `kl_weight` is to `variational`, whose
    prior this has), 0 a snapshot ensemble. The sample is biased by the step (see `sghmc`) and by
    the minibatches' noise, and by cycles too short to forget. `weight_decay` is not used (the
    prior, `HParams.prior_scale`, does its work), nor is dropout.

    Args:
      network: what to train.
      cycles: how many; all steps are divided among them.
      samples: snapshots of each cycle's sampling stage, evenly spaced. A run of fewer steps than
        there are snapshots repeats some.
      explore: the share of each cycle without noise, in [0, 1).
      friction: in (0, 1]; 1 is SGLD, less keeps a momentum.
      temperature: of the likelihood; at least 0.
      speed: the rate at the beginning of each cycle, in units of `HParams.learning_rate`, which is
        made for Adam.
      batch_size: rows of one minibatch.
      likelihood: what the outputs mean; default classes.
    Raises:
      WrongSize: numbers outside these ranges; (`draw`) more draws than snapshots. WrongShape
        (`init`): outputs that are no vector.
    References:
      Zhang et al. 2020, https://arxiv.org/abs/1902.03932; on temperatures: Wenzel et al. 2020,
      https://arxiv.org/abs/2002.02405.
    """
    likelihood = likelihood or likelihoods.CATEGORICAL
    cycles, samples = _checks.at_least(1, cycles, "cycles"), _checks.at_least(1, samples, "samples")
    _possible(explore, friction, temperature, speed)

    def init(key, x):
        usable(network, x, likelihood)
        return Snapshots(copies(network.init(key, x), cycles * samples))

    def fit(key, state, labeled, hparams):
        total = _training.total_weight(_training.row_weights(labeled))
        steps = jnp.maximum(jnp.asarray(hparams.steps, jnp.int32), 1)
        where = Cycles(cycles, samples, explore, steps)
        rate = lambda i: (
            speed * hparams.learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * where.position(i)))
        )
        warmth = lambda i: jnp.where(where.position(i) >= explore, temperature, 0.0)
        _, seen, info = _training.walk(
            key,
            jax.tree.map(lambda a: a[-1], state.params),
            energy_per_label(network, hparams.prior_scale, likelihood, temperature),
            labeled,
            hparams.steps,
            sghmc(rate, friction, warmth, total),
            batch_size=batch_size,
            observe=lambda seen, i, params: seen.put(where.slot(i), params),
            seen=Collected(state.params, jnp.zeros(cycles * samples, bool)),
        )
        return Snapshots(seen.filled()), info

    more = "build `sgmcmc` with more `cycles` or `samples`"
    warm = _training.shrink_and_perturb
    return of_samples(network, init, fit, more, likelihood, warm, "warmup", "final_rate")


def _possible(explore: float, friction: float, temperature: float, speed: float) -> None:
    for name, value, good in (
        ("explore", explore, 0 <= explore < 1),
        ("friction", friction, 0 < friction <= 1),
        ("temperature", temperature, 0 <= temperature < float("inf")),
        ("speed", speed, 0 < speed < float("inf")),
    ):
        if not good:
            raise errors.WrongSize(
                name,
                f"`{name}` = {value} is out of range: 0 <= explore < 1, 0 < friction <= 1, "
                "temperature >= 0, speed > 0.",
            )
