"""Exact Gaussian processes on features, up to a few thousand labels. A draw is a whole function, by
Matheron's rule.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _training
from bayesal.posteriors._gp import _process as _process
from bayesal.posteriors._gp._kernels import RBF, Kernel, basis, covariance
from bayesal.posteriors._gp._process import KernelParams, Process, matrix, scaled, variance
from bayesal.types import Array, FitInfo, Gaussian, Posterior


class GPState(NamedTuple):
    """A fitted process. Rows of padding have root 0: they say nothing.

    params: of the kernel.
    waves:  frequencies of the prior's random waves.
    offset, unit: what features are centered at and divided by.
    x:      labeled points, as parts of features.
    root:   square roots of the sites' precisions; site m says that output c at x[m] is `target`
      with variance 1/root^2.
    target: of the sites.
    factor: Cholesky factors of `1 + root K root`, one per output.
    """

    params: KernelParams
    waves: Float[Array, "F D"]
    offset: Float[Array, " D"]
    unit: Float[Array, ""]
    x: Float[Array, "M P D"]
    root: Float[Array, "C M"]
    target: Float[Array, "C M"]
    factor: Float[Array, "C M M"]


def posterior(of: Process) -> Posterior:
    """The posterior of a process in which every labeled point has its own site."""
    closed = functools.partial(latent, kernel=of.kernel, signs=of.signs, amplitude=of.amplitude)
    return _process.posterior(
        of,
        init=functools.partial(_init, of),
        fit=functools.partial(_fit, of),
        draw=functools.partial(_draw, of),
        closed=closed,
    )


def latent(
    state: GPState,
    x: Float[Array, "n P D"],
    *,
    kernel: Kernel = RBF,
    signs: tuple[int, ...] = (1,),
    amplitude: float = 1.0,
) -> Gaussian:
    """Mean and variance `[C, n]` of the latent outputs, in closed form; x as parts of features.

    mean = k R B^-1 R t,  variance = k(x, x) - |L^-1 R k|^2,  with B = 1 + R K R = L L'.

    >>> from bayesal.posteriors import gp_regression
    >>> state = gp_regression(center=0.0).init(jax.random.key(0), jnp.zeros(2))
    >>> latent(state, jnp.zeros((1, 1, 2))).variance  # nothing is known
    Array([[1.]], dtype=float32)
    """
    at = scaled(state, x)
    own = jax.vmap(lambda part: covariance(kernel, part[None], part[None], signs)[0, 0])(at)
    cross = covariance(kernel, at, scaled(state, state.x), signs)
    size = amplitude * jnp.exp(state.params.variance)

    def one(root, target, factor):
        solved = jax.scipy.linalg.solve_triangular(
            factor, size * root[:, None] * cross.T, lower=True
        )  # [M, n]
        weighted = jax.scipy.linalg.solve_triangular(factor, root * target, lower=True)
        return Gaussian(
            solved.T @ weighted, jnp.maximum(size * own - jnp.sum(solved * solved, axis=0), 0.0)
        )

    return jax.vmap(one)(state.root, state.target, state.factor)


def evidence(
    factor: Float[Array, "M M"], sites_root: Float[Array, " M"], target: Float[Array, " M"]
) -> Float[Array, ""]:
    """Log marginal likelihood of one output's sites, in nats: `log N(target; 0, K + 1/root^2)` over
    the rows with root > 0.

    >>> # N(0; 0, 2)
    >>> round(float(evidence(jnp.sqrt(jnp.array([[2.0]])), jnp.ones(1), jnp.zeros(1))), 4)
    -1.2655
    """
    # det(K + R^-2) = det(1 + R K R) / det(R^2), and t' (K + R^-2)^-1 t = |L^-1 R t|^2: rows of root
    # 0 then add nothing, and need no matrix of another shape
    solved = jax.scipy.linalg.solve_triangular(factor, sites_root * target, lower=True)
    known = sites_root > 0
    logs = jnp.sum(
        jnp.where(
            known, jnp.log(jnp.where(known, sites_root, 1.0)) - 0.5 * jnp.log(2 * jnp.pi), 0.0
        )
    )
    return logs - 0.5 * jnp.sum(solved * solved) - jnp.sum(jnp.log(jnp.diag(factor)))


def _factors(kernel_matrix, root):
    """Cholesky factors of 1 + root K root, per output."""
    one = lambda r: jnp.linalg.cholesky(jnp.eye(r.shape[0]) + r[:, None] * kernel_matrix * r[None])
    return jax.vmap(one)(root)


def _init(of: Process, key, x) -> GPState:
    begun = _process.start(of, key, x)
    return GPState(
        params=begun.params,
        waves=begun.waves,
        offset=begun.offset,
        unit=begun.unit,
        x=jnp.zeros((0, len(of.signs), begun.width)),
        root=jnp.zeros((of.outputs, 0)),
        target=jnp.zeros((of.outputs, 0)),
        factor=jnp.zeros((of.outputs, 0, 0)),
    )


def _conditioned(of: Process, state, params, labeled, weight) -> tuple[GPState, Any]:
    """The state under these parameters, and minus its log evidence per label (with the parameters'
    prior).
    """
    state = state._replace(params=_process.clipped(params))
    prior = matrix(of, state, state.x, state.x)
    found = of.sites(state.params, labeled, weight, prior)
    state = state._replace(root=found.root, target=found.target, factor=_factors(prior, found.root))
    total = jax.vmap(evidence)(state.factor, state.root, state.target).sum() + found.correction
    return state, _process.per_label(params, total, weight)


def _fit(of: Process, key, state, labeled, hparams) -> tuple[GPState, FitInfo]:
    at = _process.placed(of, labeled)
    begun = state._replace(x=at.x, offset=at.offset, unit=at.unit)
    # the evidence is of all labels at once: the minibatch is not looked at
    loss = lambda params, *_: _conditioned(of, begun, params, labeled, at.weight)[1]
    params, info = _training.sgd(
        key, begun.params, loss, labeled, _process.tuned(hparams), batch_size=1
    )
    return _conditioned(of, begun, params, labeled, at.weight)[0], info


def _draw(of: Process, key, state, num):
    """Weights of the prior's waves, and of the covariances with the labeled points: Matheron's
    rule.
    """
    at_labeled = basis(state.waves, scaled(state, state.x), of.signs)
    size = jnp.sqrt(variance(of, state))

    def one(prior_key, noise_key):
        weights = size * jax.random.normal(prior_key, (of.outputs, at_labeled.shape[1]))
        noise = jax.random.normal(noise_key, (state.x.shape[0], of.outputs)).T

        def correction(root, target, factor, noise, weights):
            # how far this function of the prior, seen with noise, is from the targets
            missed = root * (target - at_labeled @ weights) - noise
            return root * jax.scipy.linalg.cho_solve((factor, True), missed)

        return {
            "waves": weights,
            "labels": jax.vmap(correction)(state.root, state.target, state.factor, noise, weights),
        }

    prior_key, noise_key = jax.random.split(key)
    return jax.vmap(one)(jax.random.split(prior_key, num), jax.random.split(noise_key, num))
