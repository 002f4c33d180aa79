"""Gaussian-process classification by Dirichlet regression, exact or through inducing points."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bayesal import _checks, _shown
from bayesal.posteriors._gp import _exact as _exact
from bayesal.posteriors._gp import _inducing as _inducing
from bayesal.posteriors._gp._kernels import kernel_of
from bayesal.posteriors._gp._process import Process, masses, weighted
from bayesal.types import Array, Posterior

__all__ = ["gp_classification"]

SURE = 0.01  # Dirichlet concentration of a class that was not seen
AMPLITUDE = 4.0  # prior variance of a latent output


@_shown.named
def gp_classification(
    classes: int,
    *,
    kernel: str = "rbf",
    features: Callable[[Array], Array] | None = None,
    waves: int = 1024,
    inducing: int | None = None,
) -> Posterior:
    """Gaussian-process classification by Dirichlet regression, one latent function per class.

    A label is a Dirichlet with concentration 1.01 for its class and 0.01 for the others (a
    distribution over classes: its shares, and 0.01 more); its logarithms are matched by normals,
    which leaves heteroscedastic regression. See `gp_regression`
    for what a draw is and how the kernel is chosen.

    Args:
      classes: C, how many.
      kernel, features, waves, inducing: see `gp_regression`.
    References:
      Milios et al. 2018, https://arxiv.org/abs/1805.10915

    >>> posterior = gp_classification(3)
    >>> state = posterior.init(jax.random.key(0), jnp.zeros(2))
    >>> posterior.apply(
    ...     state,
    ...     jax.tree.map(lambda a: a[0], posterior.draw(jax.random.key(1), state, 1)),
    ...     jnp.zeros(2),
    ... ).shape
    (3,)
    """
    classes = _checks.at_least(2, classes, "classes")

    def sites(params, labeled, weight, prior):
        del params, prior
        alpha = SURE + masses(labeled.y, classes).T
        variances = jnp.log1p(1.0 / alpha)
        targets = jnp.log(alpha) - 0.5 * variances
        # of mean 0 over classes; a common shift changes no probability
        targets = targets - jnp.mean(targets, axis=0)
        return weighted(variances**-0.5, targets, weight)

    process = Process(
        kernel=kernel_of(kernel),
        features=features,
        outputs=classes,
        waves=waves,
        sites=sites,
        predict=lambda state, latent: jax.nn.log_softmax(latent),
        amplitude=AMPLITUDE,
    )
    if inducing is None:
        return _exact.posterior(process)
    return _inducing.posterior(process, _checks.at_least(1, inducing, "inducing"))
