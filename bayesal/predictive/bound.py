"""A posterior, its fitted state, K draws and a temperature, bound into one function of x."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesal import _chunks, errors, likelihoods
from bayesal.types import ArrayLike, Gaussian, Posterior, Prediction, PyTree, Scaling


@dataclasses.dataclass(frozen=True)
class Predictive:
    """`predictive(x) -> [K, n, C]`: tempered, normalized log-probabilities of the same K functions
    for every x.

    Of real labels: a `Gaussian` with means and variances [K, n] (or a `Mixture`, [K, n, J]) in
    place of log-probabilities. Draws are tempered jointly: each draw's log-probabilities are
    divided by the temperature (or scaled class by class) and normalized again. Float32 tempering
    can merge near ties: predict classes at `temperature=1` (`dataclasses.replace(predictive,
    temperature=...)`).
    """

    posterior: Posterior
    state: PyTree
    draws: PyTree
    temperature: Float[Array, ""] | Scaling

    def __call__(self, x: ArrayLike) -> Prediction:
        return _predict(self, jnp.asarray(x))

    def mean(self, x: ArrayLike) -> Float[Array, "n C"] | Gaussian:
        """Averaged prediction, streamed over chunks of 1,024 rows: `log mean_k p_k`, `[n, C]`; of
        real labels mean and variance, `[n]`.
        """
        return _mean(self, jnp.asarray(x))

    def embed(self, x: ArrayLike) -> Float[Array, "n D"]:
        """Features `[n, D]` before the last layer."""
        if self.posterior.embed is None:
            raise errors.MissingEmbed(
                "posterior",
                "this posterior has no `embed`, and the strategy needs features. Give the "
                "network one: `from_nnx(make, "
                "embed='method')`, `from_functions(init, apply, embed=...)`, or use "
                "`networks.mlp` / `networks.cnn`.",
            )
        return _embed(self, jnp.asarray(x))


def with_its_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a pytree, so that JAX can take it as an argument: a pytree (a `Predictive`, a
    module, `jax.tree_util.Partial(f, params)`) is one with its arrays; a plain function has none,
    and what it closes over becomes a constant of the program.

    >>> (
    ...     jax.tree.leaves(with_its_numbers(jnp.sin)),
    ...     len(jax.tree.leaves(with_its_numbers(jax.tree_util.Partial(jnp.add, 1.0)))),
    ... )
    ([], 1)
    """
    return jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function


jax.tree_util.register_dataclass(
    Predictive, data_fields=["state", "draws", "temperature"], meta_fields=["posterior"]
)


@jax.jit
def _predict(predictive: Predictive, x: Array) -> Prediction:
    posterior, state = predictive.posterior, predictive.state
    if posterior.trunk is None:
        shared, one = x, posterior.apply
    else:
        shared, one = jax.vmap(lambda xi: posterior.trunk(state, xi))(x), posterior.head

    def one_draw(draw):
        return jax.vmap(lambda h: one(state, draw, h))(shared)

    return likelihoods.temper(
        _chunks.over_draws(one_draw, predictive.draws), predictive.temperature
    )


@jax.jit
def _mean(predictive: Predictive, x: Array) -> Float[Array, "n C"] | Gaussian:
    return _chunks.over_rows(lambda part: likelihoods.average(_predict(predictive, part)), x, 1024)


@jax.jit
def _embed(predictive: Predictive, x: Array) -> Float[Array, "n D"]:
    features = jax.vmap(lambda xi: predictive.posterior.embed(predictive.state, xi))
    return _chunks.over_rows(features, x, 1024)
