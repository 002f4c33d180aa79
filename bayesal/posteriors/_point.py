"""Point estimate: one trained network, without uncertainty about the function."""

import jax.numpy as jnp

from bayesal import _shown, _training, likelihoods
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import unused, usable
from bayesal.types import Likelihood, Network, Posterior

__all__ = ["point"]


@_shown.named
@standardized
def point(
    network: Network, *, batch_size: int = 32, likelihood: Likelihood | None = None
) -> Posterior:
    """Point estimate: trained with dropout, used without. All draws agree, so BALD is 0.

    Args:
      network: what to train.
      batch_size: rows of one minibatch.
      likelihood: what the outputs mean; default classes.
    """
    likelihood = likelihood or likelihoods.CATEGORICAL

    def init(key, x):
        usable(network, x, likelihood)
        return network.init(key, x)

    def fit(key, state, labeled, hparams):
        return _training.sgd(
            key,
            state,
            _training.nll(network, hparams.dropout, likelihood, hparams.label_smoothing),
            labeled,
            hparams,
            batch_size=batch_size,
        )

    def draw(key, state, num):
        del key, state
        return jnp.zeros(num)

    def apply(state, draw, x):
        del draw
        return likelihood.predict(network.apply(state, x, None, 0.0))

    return Posterior(
        init,
        fit,
        draw,
        apply,
        network.embed,
        real=likelihood.real,
        likelihood=likelihood,
        unused=unused(network, likelihood, "prior_scale"),
        warm=_training.shrink_and_perturb,
    )
