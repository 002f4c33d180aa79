"""Sparse Gaussian processes: inducing points, at a cost linear in the number of labels."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _training, select
from bayesal.posteriors._gp import _process as _process
from bayesal.posteriors._gp._kernels import basis, covariance
from bayesal.posteriors._gp._process import KernelParams, Process, matrix, scaled, variance
from bayesal.types import Array, FitInfo, Gaussian, Posterior

# share of the prior variance added to the inducing points' own, so that float32 can factor copies
JITTER = 1e-4


class InducingState(NamedTuple):
    """A fitted sparse process; the first five fields as in `GPState`, with inducing points in place
    of labeled ones.

    whiten: Cholesky factor of the inducing points' covariance; `psi(x) = whiten^-1 k(Z, x)` are
      features with standard normal weights.
    mean:   of the weights' posterior.
    factor: Cholesky factor of the weights' posterior precision, `1 + psi root^2 psi'`.
    """

    params: KernelParams
    waves: Float[Array, "F D"]
    offset: Float[Array, " D"]
    unit: Float[Array, ""]
    x: Float[Array, "Z P D"]
    whiten: Float[Array, "Z Z"]
    mean: Float[Array, "C Z"]
    factor: Float[Array, "C Z Z"]


def posterior(of: Process, points: int) -> Posterior:
    """The posterior of a process through `points` inducing points: labeled points chosen farthest
    first.

    Titsias' bound takes the place of the evidence. With every labeled point among them it is the
    exact process.

    References:
      Titsias 2009; k-center: Gonzalez 1985; draws: Wilson et al. 2020,
      https://arxiv.org/abs/2002.09309
    """
    return _process.posterior(
        of,
        init=functools.partial(_init, of, points),
        fit=functools.partial(_fit, of),
        draw=functools.partial(_draw, of),
        closed=functools.partial(latent, of),
    )


def _init(of, points, key, x) -> InducingState:
    begun = _process.start(of, key, x)
    return InducingState(
        params=begun.params,
        waves=begun.waves,
        offset=begun.offset,
        unit=begun.unit,
        x=jnp.zeros((points, len(of.signs), begun.width)),
        whiten=jnp.eye(points),
        mean=jnp.zeros((of.outputs, points)),
        factor=jnp.broadcast_to(jnp.eye(points), (of.outputs, points, points)),
    )


def _fit(of: Process, key, state, labeled, hparams) -> tuple[InducingState, FitInfo]:
    at = _process.placed(of, labeled)
    points, rows = state.x.shape[0], at.x.shape[0]
    flat = at.x.reshape(rows, -1)
    chosen = select.k_center(flat, min(points, rows), available=at.weight > 0).indices
    # fewer labels than points: copies, which jitter bears
    chosen = jnp.pad(
        jnp.where(chosen >= 0, chosen, chosen[0]), (0, max(points - rows, 0)), mode="edge"
    )
    begun = state._replace(offset=at.offset, unit=at.unit, x=at.x[chosen])
    # the bound is of all labels at once: the minibatch is not looked at
    loss = lambda params, *_: _conditioned(of, begun, params, labeled, at)[1]
    params, info = _training.sgd(
        key, begun.params, loss, labeled, _process.tuned(hparams), batch_size=1
    )
    return _conditioned(of, begun, params, labeled, at)[0], info


def _conditioned(of: Process, state, params, labeled, at) -> tuple[InducingState, Any]:
    """The state under these parameters, and minus Titsias' bound per label (with the parameters'
    prior).
    """
    state = state._replace(params=_process.clipped(params))
    size = variance(of, state)
    own = matrix(of, state, state.x, state.x)
    whiten = jnp.linalg.cholesky(own + JITTER * size * jnp.eye(own.shape[0]))
    # in features psi the process is a linear model with standard normal weights  [Z, M]
    psi = jax.scipy.linalg.solve_triangular(whiten, matrix(of, state, state.x, at.x), lower=True)
    found = of.sites(state.params, labeled, at.weight, None)
    # what the inducing points leave unexplained of each label's prior variance: Titsias' trace
    left = jnp.maximum(_prior_variance(of, state, at.x) - jnp.sum(psi * psi, axis=0), 0.0)
    left = jnp.where(at.weight > 0, left, 0.0)
    factor, mean, bound = jax.vmap(lambda root, target: _regressed(psi, root, target, left))(
        found.root, found.target
    )
    state = state._replace(whiten=whiten, mean=mean, factor=factor)
    return state, _process.per_label(params, bound.sum() + found.correction, at.weight)


def _regressed(
    psi: Float[Array, "Z M"],
    root: Float[Array, " M"],
    target: Float[Array, " M"],
    left: Float[Array, " M"],
) -> tuple[Float[Array, "Z Z"], Float[Array, " Z"], Float[Array, ""]]:
    """The weights' precision as a Cholesky factor, their mean, and Titsias' bound, of one output's
    sites.
    """
    seen = psi * root[None]
    factor = jnp.linalg.cholesky(jnp.eye(psi.shape[0]) + seen @ seen.T)
    solved = jax.scipy.linalg.solve_triangular(factor, seen @ (root * target), lower=True)
    # t' (psi'psi + R^-2)^-1 t by Woodbury, in the size of the inducing points
    quadratic = jnp.sum(jnp.square(root * target)) - jnp.sum(solved * solved)
    known = root > 0
    logs = jnp.sum(
        jnp.where(known, jnp.log(jnp.where(known, root, 1.0)) - 0.5 * jnp.log(2 * jnp.pi), 0.0)
    )
    bound = (
        logs
        - 0.5 * quadratic
        - jnp.sum(jnp.log(jnp.diag(factor)))
        - 0.5 * jnp.sum(root * root * left)
    )
    return factor, jax.scipy.linalg.solve_triangular(factor.T, solved, lower=False), bound


def _prior_variance(of, state, x):
    at = scaled(state, x)
    return variance(of, state) * jax.vmap(
        lambda part: covariance(of.kernel, part[None], part[None], of.signs)[0, 0]
    )(at)


def _draw(of: Process, key, state, num):
    at_points = basis(state.waves, scaled(state, state.x), of.signs)
    size = jnp.sqrt(variance(of, state))

    def one(prior_key, weight_key):
        waves = size * jax.random.normal(prior_key, (of.outputs, at_points.shape[1]))
        noise = jax.random.normal(weight_key, state.mean.shape)

        def correction(mean, factor, noise, waves):
            # weights of the posterior, less what this function of the prior has of them already
            weights = mean + jax.scipy.linalg.solve_triangular(factor.T, noise, lower=False)
            missed = weights - jax.scipy.linalg.solve_triangular(
                state.whiten, at_points @ waves, lower=True
            )
            return jax.scipy.linalg.solve_triangular(state.whiten.T, missed, lower=False)

        return {
            "waves": waves,
            "labels": jax.vmap(correction)(state.mean, state.factor, noise, waves),
        }

    prior_key, weight_key = jax.random.split(key)
    return jax.vmap(one)(jax.random.split(prior_key, num), jax.random.split(weight_key, num))


def latent(of: Process, state: InducingState, x: Float[Array, "n P D"]) -> Gaussian:
    """Mean and variance `[C, n]` of the latent outputs in closed form: `psi m` and `k(x, x) -
    |psi|^2 + |factor^-1 psi|^2`.
    """
    psi = jax.scipy.linalg.solve_triangular(state.whiten, matrix(of, state, state.x, x), lower=True)
    left = _prior_variance(of, state, x) - jnp.sum(psi * psi, axis=0)

    def one(mean, factor):
        known = jax.scipy.linalg.solve_triangular(factor, psi, lower=True)
        return Gaussian(mean @ psi, jnp.maximum(left + jnp.sum(known * known, axis=0), 0.0))

    return jax.vmap(one)(state.mean, state.factor)
