"""Output heads: parameters that are added to a network's outputs."""

import jax.numpy as jnp

from bayesal import _checks, errors
from bayesal.networks._embedded import embedded
from bayesal.types import Network

__all__ = ["shared_noise"]


def shared_noise(network: Network) -> Network:
    """Add a learned noise output that is the same for every x (homoscedastic regression).

    The network then fits `likelihoods.gaussian()`.

    The new parameter starts at 0 (a variance of 0.69 in units of `scale` squared) and is trained
    with the others. Draws that drop units out do not drop it.

    Args:
      network: one output, the mean.

    >>> from bayesal import networks
    >>> network = shared_noise(networks.mlp(4, 1))
    >>> network.apply(network.init(jax.random.key(0), jnp.ones(4)), jnp.ones(4), None, 0.0).shape
    (2,)
    """
    _checks.a(Network, network, "network", "networks.mlp(inputs, 1)")

    def init(key, x):
        return {"net": network.init(key, x), "raw_variance": jnp.zeros(1)}

    def apply(params, x, key, rate):
        outputs = network.apply(params["net"], x, key, rate)
        if outputs.shape != (1,):
            raise errors.WrongShape(
                "network",
                "`shared_noise` takes a network of one output for one example, and this one "
                f"gave shape {outputs.shape}.",
            )
        return jnp.concatenate([outputs, params["raw_variance"]])

    embed = embedded(network, lambda params: params["net"])
    return Network(init, apply, embed, network.takes_rate)
