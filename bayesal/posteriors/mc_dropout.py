"""MC dropout: a draw is a key, and the key fixes the mask for every x."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesal import training
from bayesal.types import Network, Posterior, PyTree


class DropoutState(NamedTuple):
    """Trained parameters, and the dropout rate they were trained with."""

    params: PyTree
    rate: Float[Array, ""]


def mc_dropout(network: Network, *, batch: int = 32) -> Posterior:
    """Dropout at prediction time as draws of an approximate posterior. A draw is a key; the key fixes the mask for every x.

    Args:
      network: a network with dropout; without it all draws agree, and selection raises `ConstantScores`.
      batch: rows of one minibatch.
    References:
      Gal & Ghahramani 2016, https://arxiv.org/abs/1506.02142; consistent masks: Kirsch et al. 2019, section 4.
    """

    def init(key, x):
        return DropoutState(network.init(key, x), jnp.float32(0.0))

    def fit(key, state, labeled, hparams):
        rate = jnp.asarray(hparams.dropout, jnp.float32)
        params, info = training.sgd(key, state.params, training.nll(network, rate), labeled, hparams, batch=batch)
        return DropoutState(params, rate), info

    def draw(key, state, num):
        del state
        return jax.random.split(key, num)

    def apply(state, draw, x):
        return jax.nn.log_softmax(network.apply(state.params, x, draw, state.rate))

    embed = (lambda state, x: network.embed(state.params, x)) if network.embed else None
    return Posterior(init, fit, draw, apply, embed)
