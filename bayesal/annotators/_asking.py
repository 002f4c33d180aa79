"""Whom to ask about which item next: information in nats, and one ranking per cost."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, errors
from bayesal.annotators import _answers, _em
from bayesal.annotators._truth import Truth
from bayesal.types import Array, ArrayLike


class Ranking(NamedTuple):
    """Questions, best first.

    new:        whether the item is a new one.
    items:      row of `again`, or of `new` where it is a new one.
    annotators: whom to ask.
    scores:     nats per unit of cost.
    """

    new: Bool[np.ndarray, " B"]
    items: Int[np.ndarray, " B"]
    annotators: Int[np.ndarray, " B"]
    scores: Float[np.ndarray, " B"]


def information(truth: Truth, answers: Int[ArrayLike, "N A"] | None = None) -> Float[Array, "N A"]:
    """Expected information of one more answer about the item's true class, in nats.

    I(T_i; l_ia | answers) = sum_c p_i(c) KL(E_a[c, .] | sum_c' p_i(c') E_a[c', .]);  0 <= I <=
    H(T_i). The answer may be an abstention. A spammer's answer has none, nor has any answer about
    an item whose class is certain.

    Args:
      truth: as `dawid_skene` gives it.
      answers: the same answers; pairs that were asked before are -inf. None: all pairs.

    >>> answers = np.array([[0, 0, -1], [1, 1, -1], [0, 1, -1]])
    >>> gain = information(annotators.one_coin(answers, classes=2), answers)
    >>> int(gain[:, 2].argmax())  # the item on which two disagree
    2
    """
    _checks.a(Truth, truth, "truth", "annotators.dawid_skene")
    people, classes, _ = truth.confusion.shape
    gain = _of_rows(_information, truth.log_probs, truth, axis=0)
    if answers is None:
        return jnp.asarray(gain)
    said = _answers.checked(answers, classes)
    if said.shape != gain.shape:
        raise errors.WrongShape(
            "answers",
            f"`answers` of shape {said.shape} are not those of `truth`, which has "
            f"{len(gain)} items and {people} annotators.",
        )
    return jnp.asarray(np.where(said != _answers.NOT_ASKED, np.float32(-np.inf), gain))


def noisy_bald(truth: Truth, log_probs: Float[ArrayLike, "K M C"]) -> Float[Array, "M A"]:
    """BALD of new items through each annotator: what a fallible answer tells about the net.

    I(l_a; w | x) = mean_k KL(q_k | mean_k q_k), in nats, with q_k the annotator's answers if draw k
    is right: q_k = sum_c p_k(c | x) E_a[c, .]. 0 <= I <= BALD, with equality for a perfect
    annotator.

    Args:
      truth: as `dawid_skene` gives it.
      log_probs: normalized log-probabilities of K draws at M new items.

    >>> answers = np.arange(200)[:, None] % 2 * np.ones(2, int)  # two who always agree
    >>> truth = annotators.dawid_skene(answers, classes=2)
    >>> sure_draws_that_disagree = np.log(np.array([[[0.99, 0.01]], [[0.01, 0.99]]], np.float32))
    >>> noisy_bald(truth, sure_draws_that_disagree).round(2)
    Array([[0.62, 0.62]], dtype=float32)
    """
    _checks.a(Truth, truth, "truth", "annotators.dawid_skene")
    found = _checks.log_probs(log_probs, ndim=3)
    if found.shape[2] != truth.log_probs.shape[1]:
        raise errors.WrongShape(
            "log_probs",
            f"`log_probs` has {found.shape[2]} classes, but `truth` {truth.log_probs.shape[1]}.",
        )
    return jnp.asarray(_of_rows(_noisy_bald, found, truth, axis=1))


def rank(
    again: Float[ArrayLike, "N A"],
    new: Float[ArrayLike, "M A"],
    size: int,
    *,
    again_cost: Any = 1.0,
    new_cost: Any = 1.0,
    most: int | None = None,
) -> Ranking:
    """The next questions: known items asked again and new items, in one order of nats per cost.

    Each item is asked at most once, of the annotator with the most nats per cost. Both scores are
    in nats, but not of one quantity: `information` is about the class of an item, `noisy_bald`
    about the net. One nat of each counts the same; change that by the costs.

    Args:
      again: `information(truth, answers)`; -inf is not asked.
      new: `noisy_bald(truth, log_probs)`, of the same annotators. For one person at a time pass
        that column of both: `again[:, [a]]`.
      size: number of questions; fewer come back where fewer can be asked.
      again_cost, new_cost: price of an answer, above 0: a number, one for each annotator, or one
        for each pair, in any unit. A new item may cost more, as somebody has to fetch it.
      most: most questions for one annotator; None: no limit.
    Raises:
      WrongShape: annotators that do not match. NonFinite: NaN. OutOfRange: a cost that is not above
        0.

    >>> again = np.array([[0.5, -np.inf], [0.1, 0.2]])
    >>> new = np.array([[0.3, 0.6]])
    >>> found = rank(again, new, 2, again_cost=np.array([1.0, 1.0]), new_cost=2.0)
    >>> found.new, found.items, found.annotators
    (array([False,  True]), array([0, 0]), array([0, 1]))
    """
    size = _checks.at_least(1, size, "size")
    scores = []
    for name, values, cost in (("again", again, again_cost), ("new", new, new_cost)):
        scores.append(_per_cost(values, cost, name))
    if scores[0].shape[1] != scores[1].shape[1]:
        raise errors.WrongShape(
            "new",
            f"`new` has {scores[1].shape[1]} annotators, but `again` has {scores[0].shape[1]}.",
        )
    both = np.concatenate(scores)
    people = both.shape[1]
    left = np.full(people, len(both) if most is None else _checks.at_least(1, most, "most"))
    taken = np.zeros(len(both), bool)
    picks: list[tuple[int, int]] = []
    for cell in np.argsort(-both, axis=None, kind="stable"):
        row, person = divmod(int(cell), people)
        if len(picks) == size or both[row, person] == -np.inf:
            break
        if left[person] and not taken[row]:
            picks.append((row, person))
            taken[row] = True
            left[person] -= 1
    rows, persons = np.array(picks, int).reshape(-1, 2).T
    start = len(scores[0])
    return Ranking(
        new=rows >= start,
        items=np.where(rows >= start, rows - start, rows),
        annotators=persons,
        scores=both[rows, persons].astype(np.float32),
    )


def _per_cost(values: Any, cost: Any, name: str) -> Float[np.ndarray, "n A"]:
    host = np.asarray(_checks.plain(values, name))
    if host.ndim != 2 or host.dtype.kind not in "iuf":
        raise errors.WrongShape(
            name,
            f"`{name}` must be nats of shape [items, annotators]; got shape {host.shape}, dtype "
            f"{host.dtype}.",
        )
    host = host.astype(np.float64)
    bad = np.isnan(host) | (host == np.inf)
    if bad.any():
        rows = np.unique(np.argwhere(bad)[:, 0])
        raise errors.NonFinite(
            name, f"`{name}` is NaN or +inf in rows {_checks.listed(rows)}.", rows
        )
    price = np.asarray(cost, np.float64)
    try:
        price = np.broadcast_to(price, host.shape)
    except ValueError:
        raise errors.WrongShape(
            f"{name}_cost",
            f"`{name}_cost` of shape {price.shape} does not fit `{name}`, {host.shape}: pass a "
            "number, one for each annotator, or one for each pair.",
        ) from None
    if not ((price > 0) & (price < np.inf)).all():
        raise errors.OutOfRange(f"{name}_cost", f"`{name}_cost` must be above 0 and finite.")
    return host / price


def _of_rows(
    measure: Callable[[Array, Array], Array], log_probs: Any, truth: Truth, *, axis: int
) -> Float[np.ndarray, "n A"]:
    """A measure of every row by every annotator, both padded to powers of two: as `_em.fit`, it
    compiles again when one of them doubles.
    """
    rows, host = log_probs.shape[axis], np.asarray(log_probs)
    people, classes, _ = truth.confusion.shape
    more = [(0, 0)] * host.ndim
    more[axis] = 0, _em.room(rows, _em.LEAST[0]) - rows
    padded = np.pad(host, more, constant_values=-np.log(classes))
    channel = np.zeros((_em.room(people, _em.LEAST[1]), classes, classes + 1), np.float32)
    channel[:people] = _channel(truth)
    return np.asarray(measure(jnp.asarray(padded), jnp.asarray(channel)))[:rows, :people]


def _channel(truth: Truth) -> Float[np.ndarray, "A C L"]:
    """P(answer | true class), abstention last: log-probabilities."""
    abstain = np.asarray(truth.abstain)[:, :, None]
    said = np.concatenate([np.asarray(truth.confusion) * (1 - abstain), abstain], axis=2)
    with np.errstate(divide="ignore"):
        return np.log(said)


def _divergence(log_p: Float[Array, "*B L"], log_q: Float[Array, "*B L"]) -> Float[Array, "*B"]:
    """KL(p | q) in nats, as terms of at least 0: exact where p and q nearly agree."""
    # q (expm1(d) terms) is p log p/q - p + q, and p and q have the same sum. Where both are 0 the
    # difference is NaN, and the term is 0
    none = log_q == -jnp.inf
    d = jnp.where(none, 0.0, jnp.maximum(log_p - jnp.where(none, 0.0, log_q), -30.0))
    g = jnp.expm1(d)
    terms = jnp.exp(log_q) * ((d - g) + g * d)
    return _maths.tree_sum(jnp.where(terms < 0, 0.0, terms), axis=-1)


@jax.jit
def _information(
    log_probs: Float[Array, "N C"], channel: Float[Array, "A C L"]
) -> Float[Array, "N A"]:
    """One annotator at a time, and one class at a time: memory for `[N, L]`."""
    probs = jnp.exp(log_probs)

    def of_one(said):
        mean = jnp.log(_maths.precise(jnp.matmul)(probs, jnp.exp(said)))

        def of_class(total, this):
            prob, row = this
            return total + prob * _divergence(jnp.broadcast_to(row, mean.shape), mean), None

        return jax.lax.scan(of_class, jnp.zeros(len(probs)), (probs.T, said))[0]

    return jax.lax.map(of_one, channel).T


@jax.jit
def _noisy_bald(
    log_probs: Float[Array, "K M C"], channel: Float[Array, "A C L"]
) -> Float[Array, "M A"]:
    def of_one(said):
        matrix = jnp.exp(said)
        mean = jnp.log(_maths.precise(jnp.matmul)(jnp.mean(jnp.exp(log_probs), axis=0), matrix))

        def of_draw(total, log_p):
            heard = jnp.log(_maths.precise(jnp.matmul)(jnp.exp(log_p), matrix))
            return total + _divergence(heard, mean), None

        total, _ = jax.lax.scan(of_draw, jnp.zeros(log_probs.shape[1]), log_probs)
        return total / len(log_probs)

    return jax.lax.map(of_one, channel).T
