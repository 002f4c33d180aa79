"""Features of a network whose parameters are part of something larger."""

from collections.abc import Callable
from typing import Any

from bayesal.types import Network, PyTree


def embedded(
    network: Network, params_of: Callable[[Any], PyTree]
) -> Callable[[PyTree, Any], Any] | None:
    """`(state, x) -> [D]`, the network's `embed` with the parameters `params_of(state)`; None where
    the network has none.

    >>> doubled = Network(None, None, lambda params, x: params * x)
    >>> embedded(doubled, lambda state: state["net"])({"net": 2.0}, 3.0)
    6.0
    """
    embed = network.embed
    if embed is None:
        return None
    return lambda state, x: embed(params_of(state), x)
