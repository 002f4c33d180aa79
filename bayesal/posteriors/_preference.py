"""Preference learning: a Gaussian process on utilities, from pairwise comparisons, by Laplace."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from bayesal import _shown
from bayesal.posteriors._gp import _exact as _exact
from bayesal.posteriors._gp._kernels import kernel_of
from bayesal.posteriors._gp._process import Process, Sites, masses
from bayesal.types import Array, Posterior

__all__ = ["preference"]

# steps; the posterior has one mode, and the last step moves it by less than float32 can tell
NEWTON = 12
SIGNS = (
    1,
    -1,
)  # an example is a pair of items, and its latent value the difference of their worths


@_shown.named
def preference(
    *,
    kernel: str = "rbf",
    features: Callable[[Array], Array] | None = None,
    waves: int = 1024,
) -> Posterior:
    """Preference learning from pairs `x [2, ...]`: label 1 if the first won, 0 if the second.

    P(first wins) = Phi(g(first) - g(second)), with g a Gaussian process: classification of pairs
    under the preference kernel k(a, c) + k(b, d) - k(a, d) - k(b, c), so swapping the items swaps
    the two classes exactly. The posterior is Laplace's normal one at its mode; a draw is one
    function of worth. See `gp_regression` for how the kernel is chosen, and `bayesal.preference`
    for the loop.

    Args:
      kernel, features, waves: see `gp_regression`; `features` is of one item.
    References:
      Chu & Ghahramani 2005; Houlsby et al. 2011, section 5, https://arxiv.org/abs/1112.5745

    >>> posterior = preference()
    >>> state = posterior.init(jax.random.key(0), jnp.zeros((2, 3)))
    >>> draw = jax.tree.map(lambda a: a[0], posterior.draw(jax.random.key(1), state, 1))
    >>> jnp.exp(posterior.apply(state, draw, jnp.ones((2, 3)))).round(4)  # an item against itself
    Array([0.5, 0.5], dtype=float32)
    """

    def predict(state, latent):
        del state
        return jnp.concatenate([log_ndtr(-latent), log_ndtr(latent)])

    return _exact.posterior(
        Process(
            kernel=kernel_of(kernel),
            features=features,
            outputs=1,
            waves=waves,
            sites=probit_sites,
            predict=predict,
            signs=SIGNS,
        )
    )


def probit_sites(params, labeled, weight, prior) -> Sites:
    """Normal sites at the mode of `prod_i Phi(s_i f_i)^w_i N(f; 0, K)`, s = +-1, by Newton's
    method; and Laplace's evidence.

    Each step is regression on the targets `f + slope / precision`, with the likelihood's curvature
    as precision. A label that is a distribution, `[M, 2]`, counts for both signs by its shares.
    """
    del params
    there = weight > 0
    share = jnp.where(there, weight, 0.0) * masses(labeled.y, 2).T[::-1]  # first won, second won

    def likely(f):
        each = jnp.where(share > 0, share * log_ndtr(jnp.stack([f, -f])), 0.0)
        return jnp.sum(each)

    def sites(f):
        sign = jnp.array([[1.0], [-1.0]])
        one = sign * jnp.exp(-0.5 * f * f - 0.5 * jnp.log(2 * jnp.pi) - log_ndtr(sign * f))
        total = lambda each: jnp.sum(jnp.where(share > 0, share * each, 0.0), axis=0)
        slope, precision = total(one), jnp.maximum(total(one * (one + f)), 1e-6)
        root = jnp.where(there, jnp.sqrt(precision), 0.0)
        return root, jnp.where(there, f + slope / precision, 0.0)

    def solved(prior, f):
        # K^-1 times the new f
        root, target = sites(f)
        factor = jnp.linalg.cholesky(jnp.eye(root.shape[0]) + root[:, None] * prior * root[None])
        return root * jax.scipy.linalg.cho_solve((factor, True), root * target)

    held = jax.lax.stop_gradient(prior)
    nearer = lambda f, _: (held @ solved(held, f), None)
    f, _ = jax.lax.scan(nearer, jnp.zeros(weight.shape), None, length=NEWTON - 1)
    # at the mode a step's slope does not depend on the steps before: theirs need not be known
    f = prior @ solved(prior, f)
    root, target = sites(f)
    inverse = solved(prior, f)
    # what `evidence` says of the sites is replaced by what Laplace's method says of the labels
    logs = jnp.log(jnp.where(there, root, 1.0)) - 0.5 * jnp.log(2 * jnp.pi)
    of_sites = jnp.sum(jnp.where(there, logs, 0.0)) - 0.5 * jnp.sum(target * inverse)
    of_labels = likely(f) - 0.5 * jnp.sum(f * inverse)
    return Sites(root[None], target[None], of_labels - of_sites)
