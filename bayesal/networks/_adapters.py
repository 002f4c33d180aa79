"""Adapters from flax nnx modules, flax linen modules and plain functions to a `Network`."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import lax

from bayesal import _checks, errors
from bayesal._warnings import warn
from bayesal.networks._convolution import conv
from bayesal.types import Network

__all__ = ["from_functions", "from_linen", "from_nnx"]

RUNNING_STATISTICS = (
    "the module keeps state beside its parameters (running statistics of BatchNorm, for "
    "example), which changes while predicting "
    "and mixes the rows of a batch. Use GroupNorm or LayerNorm."
)
BATCH_NORM = (
    "the module has BatchNorm, which runs in evaluation mode with the statistics of its "
    "initialization (mean 0, variance 1), so it only scales and shifts. GroupNorm or LayerNorm "
    "normalize one example at a time, and train better."
)


def from_functions(
    init: Callable, apply: Callable, *, embed: Callable | None = None, takes_rate: bool = False
) -> Network:
    """Network from plain functions of one example.

    Args:
      init: `(key, x) -> params`.
      apply: `(params, x, key) -> logits [C]`; `key` is None where no dropout is wanted. With
        `takes_rate=True` it is `(params, x, key, rate)`, and `HParams.dropout` (what the retuner
        searches) reaches it as a traced number.
      embed: optional `(params, x) -> [D]`.

    >>> network = from_functions(
    ...     lambda key, x: jnp.zeros((x.size, 3)), lambda params, x, key: x @ params
    ... )
    >>> network.apply(network.init(jax.random.key(0), jnp.ones(2)), jnp.ones(2), None, 0.0)
    Array([0., 0., 0.], dtype=float32)
    """
    if takes_rate:
        return Network(init, apply, embed)
    return Network(init, lambda params, x, key, rate: apply(params, x, key), embed, False)


def from_nnx(
    make: Callable[..., nnx.Module], *, embed: str | None = None, rate: str | None = None
) -> Network:
    """Network from a flax nnx module, which is called on batches of one.

    Stock `nnx.Dropout` layers work, with `rngs=` handed to the call or with keys of their own
    (which are replaced by the draw's); with key None the module is in eval mode. At a traced rate
    use `bayesal.networks.dropout`. Stock `nnx.Conv` layers compute by `bayesal.networks.conv`: the
    same outputs, and fast training on CPU. `nnx.BatchNorm` runs in evaluation mode, also
    while training: with the statistics of its initialization it is a scale and a shift.

    Args:
      make: `(rngs) -> module`; a module class will do, whether its `rngs` is positional or by
        keyword only. Its `__call__` takes `(x [1, ...], rngs=...)`, or only `x`, and returns
        logits.
      embed: the name of a method `(x [1, ...]) -> [1, D]`, if there is one.
      rate: the name of the call's argument that takes the (traced) dropout rate. Without it the
        rates are the module's own and `HParams.dropout` has no effect.
    Raises:
      WrongType: a module instance: every fit begins anew, so what builds it is needed.
    Warns:
      UserWarning: the module has BatchNorm.

    >>> network = from_nnx(lambda rngs: nnx.Linear(4, 3, rngs=rngs))
    >>> params = network.init(jax.random.key(0), jnp.ones(4))
    >>> network.apply(params, jnp.ones(4), None, 0.0).shape
    (3,)
    """
    make = _builder(make)
    example = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    layers = [part for _, part in nnx.iter_graph(example)]
    if norms := [layer for layer in layers if isinstance(layer, nnx.BatchNorm)]:
        warn(BATCH_NORM)
    for layer in layers:
        if isinstance(layer, nnx.Conv) and layer.conv_general_dilated is lax.conv_general_dilated:
            layer.conv_general_dilated = conv
    kinds = (nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    # a layer's own keys and constants are never trained
    parts: Any = nnx.split(example, *kinds)
    graph, _, moving, keys, constants = parts
    if len(jax.tree.leaves(moving)) > 2 * len(norms):  # each has a mean and a variance
        raise errors.WrongShape("make", RUNNING_STATISTICS)
    if jax.tree.leaves((moving, keys, constants)):
        parts = nnx.split(make(nnx.Rngs(0)), *kinds)
        moving, keys, constants = parts[-3:]
    takes_rngs = _takes(type(example).__call__, "rngs")

    def init(key, x):
        del x  # an nnx module knows its sizes
        return nnx.split(make(nnx.Rngs(key)), nnx.Param, ...)[1]

    def module(params, key=None):
        fixed = jax.tree.map(lambda a: a, (moving, constants))  # a call may write to its copy
        net = nnx.merge(graph, params, fixed[0], _reseeded(keys, key), fixed[1])
        net.eval() if key is None else net.train()
        if norms:
            net.set_attributes(nnx.BatchNorm, use_running_average=True)
        return net

    def apply(params, x, key, rate_value):
        options: dict[str, Any] = {rate: rate_value} if rate else {}
        if takes_rngs:
            options["rngs"] = None if key is None else nnx.Rngs(dropout=key)
        net = module(params, key)
        logits = net(x[None], **options)[0]
        if not _untouched(constants, nnx.split(net, *kinds)[-1]):
            raise errors.WrongShape("make", RUNNING_STATISTICS)
        return logits

    return Network(
        init,
        apply,
        (lambda params, x: getattr(module(params), embed)(x[None])[0]) if embed else None,
        takes_rate=rate is not None,
    )


def _builder(make: Any) -> Callable[[nnx.Rngs], nnx.Module]:
    """What builds the module, called with `rngs` as it wants it."""
    if isinstance(make, nnx.Module):
        raise errors.WrongType(
            "make",
            f"`make` is a {type(make).__name__} that is built already, and every fit begins with "
            f"new parameters: pass the class, from_nnx({type(make).__name__}), or a function, "
            f"from_nnx(lambda rngs: {type(make).__name__}(..., rngs=rngs)).",
        )
    _checks.function(make, "make", "a function of rngs that builds the module, such as its class")
    called = make.__init__ if inspect.isclass(make) else make  # nnx hides a class's signature
    found = inspect.signature(called).parameters.get("rngs")
    if found is not None and found.kind is inspect.Parameter.KEYWORD_ONLY:
        return lambda rngs: make(rngs=rngs)
    return make


def _untouched(before, after) -> bool:
    """Whether a call left a module's constants as they were; what it added (`sow`) is not kept."""
    leaves = dict(jax.tree_util.tree_leaves_with_path(after))
    return all(
        leaves.get(path) is leaf for path, leaf in jax.tree_util.tree_leaves_with_path(before)
    )


def _reseeded(keys, key):
    """The generators of a module's own layers, each with a key of its own from the draw's key, and
    their counts at 0.
    """
    if key is None:
        return keys
    leaves, structure = jax.tree.flatten(keys)
    return jax.tree.unflatten(
        structure,
        [
            jax.random.fold_in(key, i)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jnp.zeros_like(leaf)
            for i, leaf in enumerate(leaves)
        ],
    )


def _takes(function: Callable, name: str) -> bool:
    return (
        name in inspect.signature(function).parameters
    )  # looks through decorators, such as nnx.jit or a type checker


def from_linen(
    module: linen.Module,
    *,
    embed: str | None = None,
    rate: str | None = None,
    deterministic: str | None = None,
    train: str | None = None,
) -> Network:
    """Network from a flax linen module, which is called on batches of one.

    Args:
      module: its `__call__` takes `x [1, ...]` and returns logits; dropout draws from the "dropout"
        collection.
      embed: the name of a method `(x [1, ...]) -> [1, D]`, if there is one; it gets those of `rate`
        and `deterministic` that it takes.
      rate: the name of the call's argument that takes the (traced) dropout rate.
      deterministic: the name of the call's argument that switches dropout off; it is True when no
        key is given.
      train: the name of the call's argument that switches dropout on; it is True when a key is
        given.

    >>> network = from_linen(linen.Dense(3))
    >>> params = network.init(jax.random.key(0), jnp.ones(4))
    >>> network.apply(params, jnp.ones(4), None, 0.0).shape
    (3,)
    """

    _checks.a(linen.Module, module, "module", "a call of your flax linen class")
    _all_known(module, (rate, deterministic, train))

    def options(key, rate_value):
        given = {rate: rate_value} if rate else {}
        given |= {deterministic: key is None} if deterministic else {}
        return given | ({train: key is not None} if train else {})

    def init(key, x):
        variables = module.init({"params": key}, x[None], **options(None, 0.0))
        if set(variables) != {"params"}:
            raise errors.WrongShape(
                "module", f"its variables are {sorted(variables)}: {RUNNING_STATISTICS}"
            )
        return variables["params"]

    def apply(params, x, key, rate_value, method=None):
        rngs = {} if key is None else {"dropout": key}
        given = options(key, rate_value)
        if method is not None:
            given = {
                name: value
                for name, value in given.items()
                if _takes(getattr(type(module), method), name)
            }
        return module.apply({"params": params}, x[None], rngs=rngs, method=method, **given)[0]

    return Network(
        init,
        apply,
        (lambda params, x: apply(params, x, None, 0.0, embed)) if embed else None,
        takes_rate=rate is not None,
    )


def _all_known(module: linen.Module, known: tuple[str | None, ...]) -> None:
    """Refuses a module whose call needs more than x and the arguments whose names are known."""
    call = inspect.signature(type(module).__call__).parameters
    left = [
        p.name
        for p in list(call.values())[2:]
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in known
    ]
    if left:
        raise errors.WrongType(
            "module",
            f"its __call__ needs {', '.join(left)} beside x. If that switches dropout, say "
            f"so: train={left[0]!r} (True: dropout on) or "
            f"deterministic={left[0]!r} (True: dropout off); else give it a default.",
        )
