"""Check of a network's outputs, once per kind of example, when a posterior is initialized."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import errors
from bayesal.types import ArrayLike, Likelihood, Network

# what a fit to a prior and a likelihood has no use for
WITH_A_PRIOR = ("weight_decay", "dropout", "label_smoothing")
ROWS = 4  # random examples whose outputs are looked at


def usable(network: Network, x: ArrayLike, likelihood: Likelihood) -> None:
    """Refuse networks whose outputs are no vector, or probabilities instead of logits.

    Outputs are seen on random examples, under random parameters, so this works while `x` and the
    parameters are being traced.

    Raises:
      WrongShape: outputs of one example that are not a vector. NotLogProbabilities: outputs that
        are probabilities.

    >>> from bayesal import likelihoods, networks
    >>> usable(networks.mlp(4, 3), jnp.zeros(4), likelihoods.CATEGORICAL)
    >>> sure = networks.from_functions(
    ...     lambda key, x: jnp.eye(4), lambda w, x, key: jax.nn.softmax(x @ w)
    ... )
    >>> usable(sure, jnp.zeros(4), likelihoods.CATEGORICAL)
    Traceback (most recent call last):
    ...
    bayesal.errors.NotLogProbabilities: the network returns probabilities ...
    """
    outputs = _outputs(network, x.shape, np.dtype(x.dtype))
    if not isinstance(outputs, np.ndarray) or outputs.ndim != 2:
        shapes = jax.tree.map(lambda a: a.shape[1:], outputs)
        raise errors.WrongShape(
            "network",
            f"for one example of shape {x.shape} the network gives outputs of shape "
            f"{shapes}, and it must give one vector of them. The "
            "usual causes: axes of an image that were never flattened or averaged, or a "
            "module that returns more than its outputs.",
        )
    if (
        not likelihood.real
        and (outputs >= 0).all()
        and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    ):
        raise errors.NotLogProbabilities(
            "network",
            "the network returns probabilities (rows that are not negative and sum to 1): "
            "the posterior takes logits, and a softmax "
            "of a softmax can never be sure. Remove the last softmax, or return its logarithm.",
        )


def unused(network: Network, likelihood: Likelihood, *others: str) -> tuple[str, ...]:
    """`Posterior.unused` of a trained network.

    Args:
      others: what the posterior itself has no use for.

    >>> from bayesal import likelihoods, networks
    >>> unused(networks.mlp(4, 3), likelihoods.CATEGORICAL, "prior_scale")
    ('prior_scale',)
    """
    without = (() if network.takes_rate else ("dropout",)) + others
    return (*without, "label_smoothing") if likelihood.real else without


@functools.lru_cache(maxsize=64)
def _outputs(network, shape, dtype):
    """Outputs `[ROWS, ...]` of random examples under random parameters."""
    random = np.random.default_rng(0)

    def some(shape, dtype, scale=1.0):
        if jnp.issubdtype(dtype, jnp.floating):
            return (scale * random.normal(size=shape)).astype(dtype)
        return np.zeros(shape, dtype)  # whole numbers may be tokens, and 0 is always one

    def like(leaf):
        return some(
            leaf.shape, leaf.dtype, max(1, leaf.size // max(1, *leaf.shape[-1:], 1)) ** -0.5
        )  # fan-in of a kernel [..., in, out]

    with jax.ensure_compile_time_eval():
        params = jax.tree.map(
            like,
            jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype)),
        )
        outputs = jax.jit(
            jax.vmap(lambda params, x: network.apply(params, x, None, 0.0), (None, 0))
        )(params, some((ROWS, *shape), dtype))
        return jax.tree.map(np.asarray, outputs)
