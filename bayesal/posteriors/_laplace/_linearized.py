"""Diagonal Laplace approximation of all weights, with a linearized network."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float

from bayesal import _checks, _shown, _training, likelihoods
from bayesal.networks._embedded import embedded
from bayesal.posteriors._laplace._fisher import fisher_root, has_mean, last_good, mean_and_slope
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import unused
from bayesal.posteriors._variational import MeanField, prior_std, sample
from bayesal.types import Array, Gaussian, Key, Labeled, Likelihood, Network, Posterior, PyTree

__all__ = ["linearized_laplace"]

BOUND = math.log(1e4)  # of |log precision|: prior scales from 0.01 to 100
GRID, HALVINGS = 37, 16  # precisions tried on a grid, then steps of bisection


class Diagonal(NamedTuple):
    """Trained parameters, and a standard deviation for each.

    prior_scale: of the prior, as in `HParams`.
    evidence:    log marginal likelihood of the labels, in nats, of the linearized network with this
      diagonal curvature.
    determined:  whether the labels alone determined `prior_scale`; where not, it is that of
      `HParams`.
    """

    params: PyTree
    std: PyTree
    prior_scale: Float[Array, ""]
    evidence: Float[Array, ""]
    determined: Bool[Array, ""]


def maximize(
    eigenvalues: Float[Array, " P"],
    pull: Float[Array, " P"],
    otherwise: Float[Array, ""],
    tune: bool,
) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
    """The prior precision under which a quadratic log-likelihood has the highest evidence; that
    evidence; whether it lies inside the bounds.

    With curvature `diag(l)` and slope `b` at 0, the log evidence over the likelihood at 0 is `1/2
    sum_p b_p^2 / (l_p + d) - log(1 + l_p / d)`. Its highest place on a grid is bisected; where that
    is a bound, or not asked for, the precision is `otherwise`.

    References:
      MacKay 1992, Bayesian interpolation
    """

    def look(log_delta):
        delta = jnp.exp(log_delta)
        gap = eigenvalues + delta
        return 0.5 * jnp.sum(jnp.square(pull) / gap - jnp.log1p(eigenvalues / delta)), jnp.sum(
            eigenvalues / gap - delta * jnp.square(pull / gap)
        )

    # several maxima are possible: the grid finds the highest, bisection of the slope the place
    places = jnp.linspace(-BOUND, BOUND, GRID, dtype=jnp.float32)
    values, slopes = jax.lax.map(look, places)
    best = jnp.argmax(values)
    low, high = jnp.maximum(best - 1, 0), jnp.minimum(best + 1, GRID - 1)
    determined = (slopes[low] > 0) & (slopes[high] < 0) & tune

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        rising = look(middle)[1] > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    found = jax.lax.fori_loop(0, HALVINGS, halve, (places[low], places[high]))[0]
    found = jnp.where(determined, found, jnp.log(otherwise))
    return jnp.exp(found), look(found)[0], determined


@_shown.named
@standardized
def linearized_laplace(
    network: Network,
    *,
    tune: bool = True,
    batch_size: int = 32,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """Laplace approximation of all weights (diagonal), with a linearized network.

    A draw is one set of weights, and names a function linear in them.

    The network is trained as `point` trains it, and stays the mean: `f(x; w) = f(x; mean) + J(x) (w
    - mean)`, as the curvature supposes (weights drawn into the network itself would leave the
    region where it holds). Every weight's precision is the diagonal of the Fisher information plus
    the prior's; the priors are those of `variational`, and their common scale maximizes the
    evidence of the linearized network; where the labels do not determine it (`state.determined`),
    `HParams.prior_scale` stays.

    Fitting costs one backward pass per label and class beside the training; a draw costs about two
    forward passes for each example, so for 50 draws of anything but a small net `laplace` is far
    cheaper.

    Args:
      network: what to train.
      tune: find the prior's scale. False keeps `HParams.prior_scale`, for a retuner to search.
      batch_size: rows of one minibatch.
      likelihood: what the outputs mean; default classes.
    References:
      MacKay 1992; Immer et al. 2021, https://arxiv.org/abs/2008.08400 (linearized predictive);
      Daxberger et al. 2021, https://arxiv.org/abs/2106.14806
    """
    likelihood = likelihood or likelihoods.CATEGORICAL

    def outputs(params, x):
        return network.apply(params, x, None, 0.0)

    def init(key, x):
        params, one = network.init(key, x), jnp.float32(1.0)
        return Diagonal(params, _priors(params), one, jnp.float32(0.0), jnp.bool_(False))

    def fit(key, state, labeled, hparams):
        loss = _training.nll(network, hparams.dropout, likelihood, hparams.label_smoothing)
        params, info = _training.sgd(
            key, state.params, loss, labeled, hparams, batch_size=batch_size
        )
        prior_scale = jnp.asarray(hparams.prior_scale, jnp.float32)
        found = _approximate(outputs, likelihood, params, labeled, prior_scale, tune)
        return last_good(found, state, info, hparams)

    def apply(state, draw, x):
        away = jax.tree.map(jnp.subtract, draw, state.params)
        value, change = jax.jvp(lambda params: outputs(params, x), (state.params,), (away,))
        return likelihood.predict(value + change)

    def marginal(state, x):
        value, back = jax.vjp(lambda params: outputs(params, x), state.params)
        normal, slope = mean_and_slope(likelihood, value)
        moved = jax.tree.map(lambda g, std: jnp.sum(jnp.square(g * std)), back(slope)[0], state.std)
        return Gaussian(normal.mean, normal.variance + sum(jax.tree.leaves(moved)))

    return Posterior(
        init=init,
        fit=fit,
        draw=_draw,
        apply=apply,
        embed=embedded(network, lambda state: state.params),
        real=likelihood.real,
        likelihood=likelihood,
        unused=unused(network, likelihood),
        marginal=marginal if has_mean(likelihood) else None,
    )


def _draw(key: Key, state: Diagonal, num: int) -> PyTree:
    normal = lambda: MeanField(state.params, jax.tree.map(jnp.log, state.std))
    return jax.vmap(lambda k: sample(k, normal()))(jax.random.split(key, num))


def _approximate(
    outputs: Callable,
    likelihood: Likelihood,
    params: PyTree,
    labeled: Labeled,
    prior_scale: Float[Array, ""],
    tune: bool,
) -> Diagonal:
    """The normal around trained parameters, and the evidence of the linearized network."""
    nll, slope, square = _curvature(outputs, likelihood, params, labeled)
    units = _priors(params)
    unit, mean, gradient, energy = (
        _checks.as_float(ravel_pytree(tree)[0]) for tree in (units, params, slope, square)
    )
    # in units of the prior at scale 1 one precision does for all weights
    mean, gradient, energy = mean / unit, gradient * unit, energy * jnp.square(unit)
    # the quadratic log-likelihood around the trained parameters, moved to 0: its slope there
    pull = energy * mean - gradient
    delta, value, determined = maximize(energy, pull, prior_scale**-2, tune)
    evidence = -nll + jnp.sum(gradient * mean - 0.5 * energy * jnp.square(mean)) + value
    std = jax.tree.map(lambda u, e: u * jax.lax.rsqrt(e * jnp.square(u) + delta), units, square)
    return Diagonal(params, std, delta**-0.5, evidence, determined)


def _priors(params: PyTree) -> PyTree:
    return jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, prior_std(leaf, 1.0), jnp.float32), params
    )


def _curvature(
    outputs, likelihood: Likelihood, params: PyTree, labeled: Labeled
) -> tuple[Float[Array, ""], PyTree, PyTree]:
    """The labels' negative log-likelihood, its slope, and the diagonal of its Fisher information: a
    loop over the rows `< count`.
    """

    weight = _training.row_weights(labeled)

    def add(i, total):
        x, y = jax.tree.map(lambda leaf: leaf[i], (labeled.x, labeled.y))
        value, back = jax.vjp(lambda params: outputs(params, x), params)
        loss, slope = jax.value_and_grad(lambda o: likelihoods.loss(likelihood, o, y))(value)
        # one pass back for the slope, and one for every row of the information's root
        pulled = jax.vmap(lambda row: back(row)[0])(
            jnp.concatenate([slope[None], fisher_root(likelihood, value)])
        )
        one = (
            loss,
            jax.tree.map(lambda g: g[0], pulled),
            jax.tree.map(lambda g: jnp.sum(jnp.square(g[1:]), axis=0), pulled),
        )
        often = weight[i]
        return jax.tree.map(
            lambda a, b: a + jnp.where(often > 0, often * _checks.as_float(b), 0.0), total, one
        )

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)
    return jax.lax.fori_loop(0, labeled.count, add, (jnp.float32(0.0), zeros, zeros))
