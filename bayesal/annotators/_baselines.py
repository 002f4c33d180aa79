"""Baselines: majority vote and CrowdLab. Arrays in, log-probabilities out; on the host."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, errors
from bayesal.annotators import _answers
from bayesal.types import Array, ArrayLike

LEAST = 1e-4  # of a CrowdLab weight, and of the error of always saying the commonest class


def majority(answers: Int[ArrayLike, "N A"], *, classes: int) -> Float[Array, "N C"]:
    """Shares of the votes of each item, as log-probabilities.

    A class without a vote is -inf. Abstentions are no votes; an item without votes is uniform.

    Args:
      answers, classes: as of `dawid_skene`.

    >>> jnp.exp(majority(np.array([[0, 1, 1, -1], [-1, -1, -1, -1]]), classes=2)).round(4)
    Array([[0.3333, 0.6667],
           [0.5   , 0.5   ]], dtype=float32)
    """
    said = _answers.checked(answers, classes)
    votes = _votes(said, classes)
    total = votes.sum(axis=1, keepdims=True)
    shares = np.divide(votes, total, out=np.full(votes.shape, 1 / classes), where=total > 0)
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(shares), jnp.float32)


def crowdlab(answers: Int[ArrayLike, "N A"], prior: Float[ArrayLike, "N C"]) -> Float[Array, "N C"]:
    """CrowdLab: a weighted mean of a net's prediction and of the answers.

    posterior_i(c) ~ w_M p_i(c) + sum_a w_a (P if l_ia = c, else (1 - P) / (C - 1)), where P is the
    mean agreement with the majority, w_a = 1 - (1 - s_a) / e of the agreement s_a with others, w_M
    = (1 - error of the net) / e times the root of the mean number of answers, and e is the error of
    always saying the commonest class. All are over items with at least two labels, against the
    majority, whose ties the net breaks. Without such items it is the net's prediction.

    Args:
      answers: as of `dawid_skene`; abstentions are left out.
      prior: log-probabilities of a net that has not seen the item's own answers.
    References:
      Goh et al. 2022, https://arxiv.org/abs/2210.06812

    >>> prior = jnp.log(jnp.array([[0.7, 0.3], [0.3, 0.7], [0.4, 0.6]]))
    >>> crowdlab(np.array([[0, 0], [1, 1], [0, 0]]), prior).argmax(axis=1)
    Array([0, 1, 0], dtype=int32)
    """
    prior = _checks.log_probs(prior, "prior", draws=False, ndim=2)
    count, classes = prior.shape
    said = _answers.checked(answers, classes)
    if said.shape[0] != count:
        raise errors.WrongShape(
            "prior", f"`prior` has {count} rows, but `answers` has {said.shape[0]} items."
        )
    net = np.exp(np.asarray(prior, np.float64))
    given = said >= 0
    votes = _votes(said, classes)
    several = votes.sum(axis=1) > 1
    if not several.any():
        return prior
    consensus = np.argmax(votes + 1e-3 * net, axis=1)  # less than one vote: it only breaks ties
    common = np.bincount(consensus[several], minlength=classes).argmax()
    chance = np.clip((consensus[several] != common).mean(), LEAST, 1 - LEAST)
    agreed = (said == consensus[:, None])[several][given[several]].mean()
    weight = np.maximum(1 - (1 - _agreement(said, votes, several)) / chance, LEAST)
    error = (net.argmax(axis=1) != consensus)[several].mean()
    answers_an_item = given.sum(axis=1)[given.any(axis=1)].mean()
    net_weight = max(1 - error / chance, LEAST) * np.sqrt(answers_an_item)
    other = (1 - agreed) / (classes - 1)
    mass = net_weight * net + (given @ weight)[:, None] * other
    item, annotator = np.nonzero(given)
    np.add.at(mass, (item, said[item, annotator]), weight[annotator] * (agreed - other))
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(mass / mass.sum(axis=1, keepdims=True)), jnp.float32)


def _votes(said: Int[np.ndarray, "N A"], classes: int) -> Float[np.ndarray, "N C"]:
    item, annotator = np.nonzero(said >= 0)
    votes = np.zeros((len(said), classes))
    np.add.at(votes, (item, said[item, annotator]), 1.0)
    return votes


def _agreement(
    said: Int[np.ndarray, "N A"], votes: Float[np.ndarray, "N C"], several: np.ndarray
) -> Float[np.ndarray, " A"]:
    """Mean agreement of each annotator with the others of the same item; that of all where an
    annotator shares no item.
    """
    shared = (said >= 0) & several[:, None]
    same = np.take_along_axis(votes, np.maximum(said, 0), axis=1) - 1
    pairs = votes.sum(axis=1, keepdims=True) - 1
    agreed, possible = (
        np.where(shared, np.broadcast_to(part, said.shape), 0.0).sum(axis=0)
        for part in (same, pairs)
    )
    mean = agreed.sum() / possible.sum()
    return np.divide(agreed, possible, out=np.full(len(agreed), mean), where=possible > 0)
