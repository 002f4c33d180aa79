"""Deep ensembles: the same net trained from several beginnings, all in one program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jaxtyping import Array, Float

from bayesal import checks, chunks, likelihoods, training
from bayesal.posteriors.edge import usable
from bayesal.types import Likelihood, Network, Posterior, PyTree


class Members(NamedTuple):
    """The nets' parameters `[members, ...]`; with priors the fixed nets beside them (else None), and what their outputs count for."""

    params: PyTree
    prior: PyTree
    scale: Float[Array, ""]


def plus_prior(network: Network, prior: PyTree, scale: Float[Array, ""]) -> Network:
    """The network whose outputs are `network(params, x) + scale * network(prior, x)`; `prior` is never trained, nothing in it drops out.

    >>> from bayesal import networks
    >>> network = networks.from_functions(lambda key, x: jnp.ones((2, 3)), lambda params, x, key: x @ params)
    >>> plus_prior(network, jnp.ones((2, 3)), jnp.float32(10.0)).apply(jnp.ones((2, 3)), jnp.ones(2), None, 0.0)
    Array([22., 22., 22.], dtype=float32)
    """
    if prior is None:
        return network
    return network._replace(apply=lambda params, x, key, rate: network.apply(params, x, key, rate) + scale * network.apply(prior, x, None, 0.0))


def ensemble(
    network: Network, *, members: int = 5, priors: bool = False, batch: int = 32, mesh: Mesh | None = None,
    likelihood: Likelihood = likelihoods.CATEGORICAL,
) -> Posterior:  # fmt: skip
    """`members` nets trained from different initializations and minibatch orders. A draw is a member: its parameters.

    With `priors` every member also has a second net that keeps its random initialization: the outputs are those of the trained net
    plus `HParams.prior_scale` times those of the fixed one. Training takes the prior away where there are labels; elsewhere the
    members go on to disagree, the more the larger the scale.

    Args:
      network: what to train.
      members: how many nets, the only number of draws there is; at least 2.
      priors: whether members have randomized prior functions.
      batch: rows of one minibatch.
      mesh: Auto axes over devices that train the members side by side, `members / mesh.size` each; as `bayesal.shards.mesh()` makes.
        The numbers are those of one device.
      likelihood: what the outputs mean; default classes.
    References:
      Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474; priors: Osband et al. 2018, https://arxiv.org/abs/1806.03335
    """
    if members < 2:
        raise checks.WrongSize("members", f"`members` = {members}: an ensemble needs at least 2; for one net use `point`.")
    if mesh is not None:
        _divides(members, mesh)

    def nets(key, x):
        # a loop: under vmap the initializers' random numbers take seconds to compile
        return chunks.across(lambda keys: jax.lax.map(lambda k: network.init(k, x), keys), mesh)(jax.random.split(key, members))

    def init(key, x):
        usable(network, x, likelihood)
        key, prior_key = jax.random.split(key) if priors else (key, None)
        return Members(nets(key, x), nets(prior_key, x) if priors else None, jnp.float32(1.0))

    def fit(key, state, labeled, hparams):
        scale = jnp.asarray(hparams.prior_scale, jnp.float32)

        def one(key, params, prior):
            loss = training.nll(plus_prior(network, prior, scale), hparams.dropout, likelihood)
            return training.sgd(key, params, loss, labeled, hparams, batch=batch)

        params, info = chunks.over_fits(one, jax.random.split(key, members), state.params, state.prior, mesh=mesh)
        return Members(params, state.prior, scale), info

    def draw(key, state, num):
        del key
        if num != members:
            raise checks.WrongSize(
                "num_draws", f"`draw` was asked for {num} draws of an ensemble of {members} members. An ensemble has exactly its "
                f"members: pass num_draws={members}, or build `ensemble(network, members={num})`.")
        return state.params, state.prior

    def apply(state, draw, x):
        params, prior = draw
        return likelihood.predict(plus_prior(network, prior, state.scale).apply(params, x, None, 0.0))

    def embed(state, x):
        return network.embed(jax.tree.map(lambda a: a[0], state.params), x)  # the first member's features

    warm = lambda old, fresh: fresh._replace(params=training.shrink_and_perturb(old.params, fresh.params))
    return Posterior(init, fit, draw, apply, embed if network.embed else None, members, real=likelihood.real, warm=warm)


def _divides(members: int, mesh: Mesh) -> None:
    if not isinstance(mesh, Mesh) or set(mesh.axis_types) != {AxisType.Auto}:
        raise checks.WrongType("mesh", f"`mesh` must have Auto axes, as bayesal.shards.mesh() makes; got {mesh!r}.")
    if members % mesh.size:
        raise checks.WrongSize("members", f"`members` = {members} cannot be dealt evenly to {mesh.size} devices: choose a multiple of {mesh.size}, or a smaller mesh.")
