"""Adapter from an equinox module to a `Network`; equinox is imported on first use."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from bayesal import _checks, errors
from bayesal.networks._adapters import RUNNING_STATISTICS
from bayesal.types import Network

__all__ = ["from_equinox"]


def from_equinox(
    make: Callable[[Any], Any], *, embed: str | None = None, rate: str | None = None
) -> Network:
    """Network from an equinox module, which is called on one example.

    Its floating-point arrays are the parameters, kept as a list; all else stays what `make` gives
    for one fixed key. `eqx.nn.Dropout` gets the draw's key through the call's `key` argument; with
    key None the module is in inference mode.

    Args:
      make: `(key) -> module`; its `__call__` takes `(x, key=...)`, or only `x`, and returns logits
        [C].
      embed: the name of a method `(x) -> [D]`, if there is one.
      rate: the name of the call's argument that takes the (traced) dropout rate. Without it the
        rates are the module's own and `HParams.dropout` has no effect.
    Raises:
      WrongShape: the module keeps state, as `eqx.nn.BatchNorm` does. WrongType: one layer stands in
        two places without `eqx.nn.Shared`, so that
      training would pull the two apart.

    >>> import equinox as eqx  # doctest: +SKIP
    >>> network = from_equinox(lambda key: eqx.nn.MLP(4, 3, 16, 1, key=key))  # doctest: +SKIP
    >>> network.apply(
    ...     network.init(jax.random.key(0), jnp.ones(4)), jnp.ones(4), None, 0.0
    ... ).shape  # doctest: +SKIP
    (3,)
    """
    with _checks.installed("equinox", "equinox"):
        import equinox as eqx

    if isinstance(make, eqx.Module) or not callable(make):
        raise errors.WrongType(
            "make",
            "`make` must be a function of a key that builds the module, such as its class "
            f"(not an instance); got {type(make).__name__}.",
        )
    example = make(jax.random.key(0))
    _stateless(eqx, example)
    if not isinstance(example, eqx.Module):
        raise errors.WrongType(
            "make", f"`make(key)` must give one equinox module, got {type(example).__name__}."
        )
    leaves, structure = jax.tree.flatten(example)
    trained = [eqx.is_inexact_array(leaf) for leaf in leaves]
    takes = inspect.signature(type(example).__call__).parameters
    takes_key = "key" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values())

    def init(key, x):
        del x  # an equinox module knows its sizes
        return [leaf for leaf in jax.tree.leaves(make(key)) if eqx.is_inexact_array(leaf)]

    def module(params, key=None):
        parts = iter(params)
        net = jax.tree.unflatten(
            structure,
            [next(parts) if mine else leaf for mine, leaf in zip(trained, leaves, strict=True)],
        )
        return eqx.nn.inference_mode(net, key is None)

    def apply(params, x, key, rate_value):
        options: dict[str, Any] = {rate: rate_value} if rate else {}
        if takes_key:
            options["key"] = key
        return module(params, key)(x, **options)

    return Network(
        init,
        apply,
        (lambda params, x: getattr(module(params), embed)(x)) if embed else None,
        takes_rate=rate is not None,
    )


def _stateless(eqx: Any, module: Any) -> None:
    state = lambda node: isinstance(node, eqx.nn.StateIndex | eqx.nn.State)
    if any(state(node) for node in jax.tree.leaves(module, is_leaf=state)):
        raise errors.WrongShape("make", RUNNING_STATISTICS)
    arrays = [id(leaf) for leaf in jax.tree.leaves(module) if eqx.is_inexact_array(leaf)]
    if len(set(arrays)) < len(arrays):
        raise errors.WrongType(
            "make",
            "one array stands in two places of the module, and equinox would train the two "
            "as if they were different. Say what is shared by eqx.nn.Shared.",
        )
