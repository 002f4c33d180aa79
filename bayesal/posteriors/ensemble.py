"""Deep ensembles: the same net trained from several beginnings, all in one program."""

import jax

from bayesal import checks, chunks, likelihoods, training
from bayesal.types import Likelihood, Network, Posterior


def ensemble(network: Network, *, members: int = 5, batch: int = 32, likelihood: Likelihood = likelihoods.CATEGORICAL) -> Posterior:
    """`members` nets trained from different initializations and minibatch orders. A draw is a member: its parameters.

    Args:
      network: what to train.
      members: how many nets, the only number of draws there is; at least 2.
      batch: rows of one minibatch.
      likelihood: what the outputs mean; default classes.
    References:
      Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474
    """
    if members < 2:
        raise checks.WrongSize("members", f"`members` = {members}: an ensemble needs at least 2; for one net use `point`.")

    def init(key, x):
        return jax.lax.map(lambda k: network.init(k, x), jax.random.split(key, members))  # vmapped random numbers compile for seconds

    def fit(key, state, labeled, hparams):
        def one(key, params):
            return training.sgd(key, params, training.nll(network, hparams.dropout, likelihood), labeled, hparams, batch=batch)

        return chunks.over_fits(one, jax.random.split(key, members), state)

    def draw(key, state, num):
        del key
        if num != members:
            raise checks.WrongSize(
                "num_draws", f"`draw` was asked for {num} draws of an ensemble of {members} members. An ensemble has exactly its "
                f"members: pass num_draws={members}, or build `ensemble(network, members={num})`.")
        return state

    def apply(state, draw, x):
        del state
        return likelihood.predict(network.apply(draw, x, None, 0.0))

    def embed(state, x):
        return network.embed(jax.tree.map(lambda a: a[0], state), x)  # the first member's features

    return Posterior(init, fit, draw, apply, embed if network.embed else None, members, real=likelihood.real)
