"""One trained net: no uncertainty about the function, only its softmax."""

import jax
import jax.numpy as jnp

from bayesal import training
from bayesal.types import Network, Posterior


def point(network: Network, *, batch: int = 32) -> Posterior:
    """A point estimate, trained with dropout and used without. Every draw is the same function, so BALD is 0 everywhere.

    Args:
      network: what to train.
      batch: rows of one minibatch.
    """

    def fit(key, state, labeled, hparams):
        return training.sgd(key, state, training.nll(network, hparams.dropout), labeled, hparams, batch=batch)

    def draw(key, state, num):
        del key, state
        return jnp.zeros(num)

    def apply(state, draw, x):
        del draw
        return jax.nn.log_softmax(network.apply(state, x, None, 0.0))

    return Posterior(network.init, fit, draw, apply, network.embed)
