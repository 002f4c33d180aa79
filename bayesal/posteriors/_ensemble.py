"""Deep ensembles: one network trained from several initializations, in one program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jaxtyping import Float

from bayesal import _chunks, _shown, _training, errors, likelihoods
from bayesal._training import LossFn
from bayesal.networks._embedded import embedded
from bayesal.posteriors._standardized import standardized
from bayesal.posteriors._usable import unused, usable
from bayesal.types import (
    Array,
    FitInfo,
    HParams,
    Key,
    Labeled,
    Likelihood,
    Network,
    Posterior,
    PyTree,
)

__all__ = ["ensemble"]


class Member(NamedTuple):
    """A trained network, and a fixed one whose outputs are added `scale` times."""

    params: PyTree
    prior: PyTree
    scale: Float[Array, ""]


def with_prior(network: Network) -> Network:
    """Network with randomized prior function: outputs of `params` plus `scale` times `prior`'s.

    The prior network has no dropout.

    >>> from bayesal import networks
    >>> network = with_prior(
    ...     networks.from_functions(
    ...         lambda key, x: jnp.ones((2, 3)), lambda params, x, key: x @ params
    ...     )
    ... )
    >>> network.apply(
    ...     Member(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.float32(10.0)), jnp.ones(2), None, 0.0
    ... )
    Array([22., 22., 22.], dtype=float32)
    """

    def init(key, x):
        key, prior_key = jax.random.split(key)
        return Member(network.init(key, x), network.init(prior_key, x), jnp.float32(1.0))

    def apply(member, x, key, rate):
        return network.apply(member.params, x, key, rate) + member.scale * network.apply(
            member.prior, x, None, 0.0
        )

    embed = embedded(network, lambda member: member.params)
    return Network(init, apply, embed, network.takes_rate)


@_shown.named
@standardized
def ensemble(
    network: Network,
    *,
    members: int = 5,
    priors: bool = False,
    batch_size: int = 32,
    mesh: Mesh | None = None,
    likelihood: Likelihood | None = None,
) -> Posterior:
    """Deep ensemble: networks trained from different initializations. A draw is one member.

    With `priors` every member also has a second net that keeps its random initialization: the
    outputs are those of the trained net plus `HParams.prior_scale` times those of the fixed one.
    Training takes the prior away where there are labels; elsewhere the members go on to disagree,
    the more the larger the scale.

    Args:
      network: what to train.
      members: how many nets, the only number of draws there is; at least 2.
      priors: whether members have randomized prior functions.
      batch_size: rows of one minibatch.
      mesh: Auto axes over devices that train the members side by side, `members / mesh.size` each;
        as `bayesal.pools.mesh()` makes. The numbers are those of one device.
      likelihood: what the outputs mean; default classes.
    References:
      Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474; priors: Osband et al. 2018,
      https://arxiv.org/abs/1806.03335
    """
    likelihood = likelihood or likelihoods.CATEGORICAL
    _possible(members, mesh)
    net = with_prior(network) if priors else network
    train = _beside_its_prior if priors else _training.sgd

    def init(key, x):
        usable(network, x, likelihood)
        # a loop: under vmap the initializers' random numbers take seconds to compile
        return _chunks.across(lambda keys: jax.lax.map(lambda k: net.init(k, x), keys), mesh)(
            jax.random.split(key, members)
        )

    def fit(key, state, labeled, hparams):
        loss = _training.nll(net, hparams.dropout, likelihood, hparams.label_smoothing)
        one = lambda key, start: train(key, start, loss, labeled, hparams, batch_size=batch_size)
        return _chunks.over_fits(one, jax.random.split(key, members), state, mesh=mesh)

    def draw(key, state, num):
        del key
        _all_of_them(num, members)
        return state

    def apply(state, draw, x):
        del state
        return likelihood.predict(net.apply(draw, x, None, 0.0))

    return Posterior(
        init,
        fit,
        draw,
        apply,
        embedded(net, lambda state: jax.tree.map(lambda a: a[0], state)),  # the first member's
        members,
        real=likelihood.real,
        likelihood=likelihood,
        warm=_warm if priors else _training.shrink_and_perturb,
        unused=unused(network, likelihood, *([] if priors else ["prior_scale"])),
    )


def _beside_its_prior(
    key: Key, member: Member, loss: LossFn, labeled: Labeled, hparams: HParams, *, batch_size: int
) -> tuple[Member, FitInfo]:
    """`_training.sgd` of the net alone; the prior beside it stays."""
    member = member._replace(scale=jnp.asarray(hparams.prior_scale, jnp.float32))
    moving = lambda params, *rest: loss(member._replace(params=params), *rest)
    params, info = _training.sgd(
        key, member.params, moving, labeled, hparams, batch_size=batch_size
    )
    return member._replace(params=params), info


def _warm(old: Member, fresh: Member) -> Member:
    """Nets go on from where they ended, beside fresh priors."""
    return fresh._replace(params=_training.shrink_and_perturb(old.params, fresh.params))


def _all_of_them(num: int, members: int) -> None:
    if num != members:
        raise errors.WrongSize(
            "num_draws",
            f"`num_draws` ({num}) must equal the number of members: an ensemble of {members} "
            f"members has {members} draws. Pass num_draws={members}, or build "
            f"`ensemble(network, members={num})`.",
        )


def _possible(members: int, mesh: Mesh | None) -> None:
    if members < 2:
        raise errors.WrongSize(
            "members",
            f"`members` = {members}: an ensemble needs at least 2; for one net use `point`.",
        )
    if mesh is None:
        return
    if not isinstance(mesh, Mesh) or set(mesh.axis_types) != {AxisType.Auto}:
        raise errors.WrongType(
            "mesh", f"`mesh` must have Auto axes, as bayesal.pools.mesh() makes; got {mesh!r}."
        )
    if members % mesh.size:
        raise errors.WrongSize(
            "members",
            f"`members` = {members} cannot be dealt evenly to {mesh.size} devices: choose a "
            f"multiple of {mesh.size}, or a smaller mesh.",
        )
