"""The linear last layer of a network, identified by its behavior on random inputs."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, errors
from bayesal.types import Array, ArrayLike, Network, PyTree

PROBES = 6  # random examples on which a layer must give the outputs
# how far rounding may take them apart (bfloat16 layers, TF32 products), in units of the largest
# output
NEAR = 0.02


class LastLayer(NamedTuple):
    """The linear layer between `embed` and the outputs.

    weights: `(params) -> [D, C]`; with a bias [D + 1, C], the bias last.
    bias:    whether there is one; then the layer's features are `embed(params, x)` and a 1.
    embed:   the network's own.
    """

    weights: Callable[[PyTree], Float[Array, "D C"]]
    bias: bool
    embed: Callable[[PyTree, Any], Array]

    def features(self, params: PyTree, x: ArrayLike) -> Float[Array, " D"]:
        """What the layer multiplies: float32, and a 1 where there is a bias."""
        embedded = _checks.as_float(self.embed(params, x))
        return jnp.append(embedded, 1.0) if self.bias else embedded


def last_layer(network: Network, x: ArrayLike | jax.ShapeDtypeStruct) -> LastLayer:
    """Find the kernel and bias for which `outputs == embed(x) @ kernel + bias` holds.

    They are found by trying: every parameter gets random values, and the pair that reproduces the
    outputs at random examples is the layer. So it may come from any adapter, under any name.
    Outputs after the first C must not depend on x, as the noise of `shared_noise`.

    Args:
      network: with `embed`, the features that go into its last layer.
      x: one example, looked at for its shape and type only.
    Raises:
      MissingEmbed: no `embed`.
      WrongShape: the outputs are not a linear layer on `embed(x)`.

    >>> from bayesal import networks
    >>> layer = last_layer(networks.mlp(4, 3, (8,)), jnp.ones(4))
    >>> layer.weights(networks.mlp(4, 3, (8,)).init(jax.random.key(0), jnp.ones(4))).shape
    (9, 3)
    """
    if network.embed is None:
        raise errors.MissingEmbed(
            "network",
            "the network has no `embed`, so its last layer cannot be told from the rest. "
            "Give it one: `from_nnx(make, embed='method')`, "
            "`from_functions(init, apply, embed=...)`, or use `networks.mlp` / `networks.cnn`.",
        )
    with jax.ensure_compile_time_eval():  # nothing here depends on traced values
        params, outputs, embedded = _probe(network, jax.ShapeDtypeStruct(x.shape, x.dtype))
    if embedded.ndim != 2 or outputs.ndim != 2:
        raise errors.WrongShape(
            "network",
            "outputs and `embed` of one example must be vectors; got shapes "
            f"{outputs.shape[1:]} and {embedded.shape[1:]}.",
        )
    leaves = [np.asarray(leaf, np.float64) for leaf in params]
    for kernel, turned, bias in _candidates(leaves, embedded.shape[1], outputs.shape[1]):
        weights = leaves[kernel].T if turned else leaves[kernel]
        if _gives(embedded @ weights + (0.0 if bias is None else leaves[bias]), outputs):
            return LastLayer(
                weights=functools.partial(_read, kernel, turned, bias),
                bias=bias is not None,
                embed=network.embed,
            )
    raise errors.WrongShape(
        "network",
        "the network's outputs are not a linear layer on its `embed`: no parameters "
        f"[{embedded.shape[1]}, C] and [C] give outputs == embed(x) @ "
        "kernel + bias. The usual causes: `embed` stops before another hidden layer, or "
        "something (a scale, a norm, a softmax) comes after "
        "the last one. Let `embed` return what goes into the last layer, and the network "
        "return its result.",
    )


def fixed_outputs(
    network: Network, params: PyTree, x: ArrayLike, outputs: int
) -> Float[Array, " R"]:
    """Outputs beside the last layer's own, which are the same for every x; float32.

    >>> from bayesal import networks
    >>> network = networks.shared_noise(networks.mlp(4, 1))
    >>> fixed_outputs(network, network.init(jax.random.key(0), jnp.ones(4)), jnp.ones(4), 1)
    Array([0.], dtype=float32)
    """
    return _checks.as_float(network.apply(params, jnp.zeros_like(x), None, 0.0)[outputs:])


def _probe(network, x):
    """Random parameters (as leaves), and the network's outputs and features with them at random
    examples.
    """
    random = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(jax.eval_shape(network.init, jax.random.key(0), x))
    width = lambda leaf: leaf.size // leaf.shape[-1] if len(leaf.shape) > 1 else 1
    params = [
        jnp.asarray(random.normal(size=leaf.shape) / width(leaf) ** 0.5, leaf.dtype)
        for leaf in leaves
    ]
    many, real = (PROBES, *x.shape), jnp.issubdtype(x.dtype, jnp.floating)
    rows = (
        random.normal(size=many)
        if real
        else random.integers(0, 256 if x.dtype == np.uint8 else 2, many)
    )  # 0 and 1 are token ids anywhere
    both = jax.jit(
        jax.vmap(
            lambda params, xi: (network.apply(params, xi, None, 0.0), network.embed(params, xi)),
            (None, 0),
        )
    )
    outputs, embedded = both(tree.unflatten(params), jnp.asarray(rows, x.dtype))
    return params, np.asarray(outputs, np.float64), np.asarray(embedded, np.float64)


def _candidates(leaves, features, outputs) -> Iterator[tuple[int, bool, int | None]]:
    for kernel, leaf in enumerate(leaves):
        if leaf.ndim == 2:
            for turned in (False, True):
                rows, columns = leaf.T.shape if turned else leaf.shape
                if rows == features and columns <= outputs:
                    yield from (
                        (kernel, turned, bias)
                        for bias in (
                            *(i for i, b in enumerate(leaves) if b.shape == (columns,)),
                            None,
                        )
                    )


def _gives(found, outputs) -> bool:
    first, rest = outputs[:, : found.shape[1]], outputs[:, found.shape[1] :]
    return bool(
        np.abs(found - first).max() <= NEAR * np.abs(first).max() and (rest == rest[:1]).all()
    )


def _read(kernel, turned, bias, params):
    """The layer's weights among a network's parameters, a bias last."""
    leaves = jax.tree.leaves(params)
    weights = _checks.as_float(leaves[kernel].T if turned else leaves[kernel])
    return (
        weights
        if bias is None
        else jnp.concatenate([weights, _checks.as_float(leaves[bias])[None]])
    )
