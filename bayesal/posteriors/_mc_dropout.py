"""MC dropout: a draw is a key, which fixes the dropout mask for every x."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, _shown, _training, errors, likelihoods
from bayesal.networks._embedded import embedded
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import unused, usable
from bayesal.types import ArrayLike, Likelihood, Network, Posterior, PyTree

__all__ = ["mc_dropout"]


class DropoutState(NamedTuple):
    """Trained parameters, and the dropout rate they were trained with."""

    params: PyTree
    rate: Float[jax.Array, ""]


def _uses_its_key(network: Network, params: PyTree, x: ArrayLike) -> bool:
    """Whether the key reaches the logits, read off the traced program: nothing is computed."""
    program = jax.make_jaxpr(network.apply)(params, x, jax.random.key(0), jnp.float32(0.5)).jaxpr
    reached = {id(program.invars[len(jax.tree.leaves(params)) + 1])}
    for equation in program.eqns:
        if any(id(v) in reached for v in equation.invars):
            reached.update(map(id, equation.outvars))
    return any(id(v) in reached for v in program.outvars)


@_shown.named
@standardized
def mc_dropout(
    network: Network, *, batch_size: int = 32, likelihood: Likelihood | None = None
) -> Posterior:
    """MC dropout. A draw is a key, which fixes the dropout mask for every x.

    What stands before the first dropout is the same for all draws, and is computed once for every
    chunk of rows, not once a draw.

    Args:
      network: a network with dropout.
      batch_size: rows of one minibatch.
      likelihood: what the outputs mean; default classes.
    Raises (`init`):
      ConstantScores: the network's logits do not depend on the key, so it has no dropout and all
        draws would agree.
    References:
      Gal & Ghahramani 2016, https://arxiv.org/abs/1506.02142; consistent masks: Kirsch et al. 2019,
      section 4.
    """
    likelihood = likelihood or likelihoods.CATEGORICAL
    _checks.a(Network, network, "network", "networks.mlp(...) or networks.from_nnx(...)")

    def init(key, x):
        usable(network, x, likelihood)
        params = network.init(key, x)
        if not _uses_its_key(network, params, x):
            raise errors.ConstantScores(
                "network",
                "the network's logits do not depend on the key: it has no dropout, so all "
                "draws would agree and every score would "
                "be constant. Add a dropout layer, and hand it the key: `rngs=` (nnx), "
                "`train=` or `deterministic=` (linen); or use `ensemble`.",
            )
        return DropoutState(params, jnp.float32(0.0))

    def fit(key, state, labeled, hparams):
        rate = jnp.asarray(hparams.dropout, jnp.float32)
        loss = _training.nll(network, rate, likelihood, hparams.label_smoothing)
        params, info = _training.sgd(
            key, state.params, loss, labeled, hparams, batch_size=batch_size
        )
        return DropoutState(params, rate), info

    def draw(key, state, num):
        del state
        return jax.random.split(key, num)

    def apply(state, draw, x):
        return likelihood.predict(network.apply(state.params, x, draw, state.rate))

    embed = embedded(network, lambda state: state.params)
    warm = lambda old, fresh: fresh._replace(
        params=_training.shrink_and_perturb(old.params, fresh.params)
    )
    return Posterior(
        init,
        fit,
        draw,
        apply,
        embed,
        real=likelihood.real,
        warm=warm,
        likelihood=likelihood,
        unused=unused(network, likelihood, "prior_scale"),
    )
