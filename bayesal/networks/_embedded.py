"""Features of a network whose parameters are part of something larger."""

from collections.abc import Callable
from typing import Any

from bayesal.types import Network, PyTree


def embedded(
    network: Network, params_of: Callable[[Any], PyTree]
) -> Callable[[PyTree, Any], Any] | None:
    """`(state, x) -> [D]`, the network's `embed` with the parameters `params_of(state)`; None where
    the network has none.

    >>> from bayesal import networks
    >>> embedded(networks.from_functions(None, None), lambda state: state.params)
    """
    embed = network.embed
    if embed is None:
        return None
    return lambda state, x: embed(params_of(state), x)
