"""EM over true classes, confusion matrices and abstentions, compiled once per padded size.

Answers are R triples (item, annotator, label), so that a step costs R * C, however many annotators
there are. N, A and R are padded to powers of two: a campaign that grows compiles a new program only
when one of them doubles. Another number of classes or steps compiles too.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Bool, Float, Int

from bayesal import _maths
from bayesal.annotators._answers import ABSTAIN, NOT_ASKED
from bayesal.types import Array

ABSTENTIONS = 5.0  # pseudo-asks behind the prior of P(abstain | class)
CLASSES = 1.0  # pseudo-items of each class behind the class frequencies
LEAST = (64, 8, 64)  # of items, annotators and answers, before padding doubles


class Triples(NamedTuple):
    """Answers as a list; label C is an abstention. Padding has item N, which is out of range."""

    item: Int[Array, " R"]
    annotator: Int[Array, " R"]
    label: Int[Array, " R"]
    abstained: Float[Array, " A"]  # share of each annotator's answers


class Model(NamedTuple):
    """What EM estimates, and the pseudo-counts plus expected counts behind the confusions.

    log_classes: `[C]`, added to the prior of each item; 0 where that is known.
    counts: `[A, C true, C said]`. confusion: the same, normalized. abstain: P(abstain | class).
    """

    log_classes: Float[Array, " C"]
    counts: Float[Array, "A C C"]
    confusion: Float[Array, "A C C"]
    abstain: Float[Array, "A C"]


class Found(NamedTuple):
    """The model, the true classes under it, and objective and log-likelihood of every step."""

    model: Model
    log_probs: Float[Array, "N C"]
    objective: Float[Array, " steps"]
    log_likelihood: Float[Array, " steps"]


def room(count: int, least: int) -> int:
    """The size that an axis is padded to: a power of two.

    >>> [room(count, 8) for count in (0, 8, 9)]
    [8, 8, 16]
    """
    return max(least, 1 << (count - 1).bit_length())


def triples(answers: Int[np.ndarray, "N A"], classes: int) -> tuple[Triples, int]:
    """The answers of a matrix, padded, and the padded number of items."""
    item, annotator = np.nonzero(answers != NOT_ASKED)
    label = answers[item, annotator]
    label = np.where(label == ABSTAIN, classes, label)
    sizes = (*answers.shape, len(item))
    rows, people, count = (room(n, least) for n, least in zip(sizes, LEAST, strict=True))
    abstained = (answers == ABSTAIN).sum(0) / np.maximum((answers != NOT_ASKED).sum(0), 1)
    pad = lambda values, fill: jnp.asarray(
        np.pad(values, (0, count - len(item)), constant_values=fill), jnp.int32
    )
    return Triples(
        item=pad(item, rows),
        annotator=pad(annotator, people),
        label=pad(label, 0),
        abstained=jnp.asarray(np.pad(abstained, (0, people - len(abstained))), jnp.float32),
    ), rows


@functools.partial(jax.jit, static_argnames=("tied", "steps"))
def fit(
    asked: Triples,
    prior: Float[Array, "N C"],
    pseudo: Float[Array, "C C"],
    known: Bool[Array, ""],
    *,
    tied: bool,
    steps: int,
) -> Found:
    """MAP-EM from near the prior's mean, always `steps` steps.

    Args:
      prior: log-probabilities of each item's class; uniform where not `known`.
      pseudo: pseudo-counts of a confusion matrix: Dirichlet parameters of its rows.
      known: whether `prior` says something. Otherwise class frequencies are estimated as well.
      tied: one accuracy an annotator: its errors are spread evenly.
    """
    estimate = functools.partial(_estimate, asked, pseudo, known, tied)
    start = estimate(jnp.zeros_like(prior))
    if not tied:  # one more right answer: without a diagonal it gives the classes their names
        counts = start.counts + jnp.eye(prior.shape[1], dtype=jnp.float32)[None]
        start = start._replace(confusion=counts / jnp.sum(counts, axis=2, keepdims=True))

    def step(model, _):
        log_probs, log_likelihood = expect(asked, prior, model)
        objective = log_likelihood + _log_prior(asked, pseudo, model, known, tied)
        return estimate(jnp.exp(log_probs)), (objective, log_likelihood)

    # the last expectation is outside: classes are those of the model that is returned
    model, (objective, log_likelihood) = jax.lax.scan(step, start, length=steps)
    log_probs, _ = expect(asked, prior, model)
    return Found(model, log_probs, objective, log_likelihood)


def expect(
    asked: Triples, prior: Float[Array, "N C"], model: Model
) -> tuple[Float[Array, "N C"], Float[Array, ""]]:
    """The true classes under a model, and the log-likelihood of all answers (the E-step)."""
    # by answer first: a row [C] of this table is what one answer says about the true class
    said = jnp.swapaxes(model.confusion, 1, 2) * (1.0 - model.abstain[:, None, :])
    table = jnp.log(jnp.concatenate([said, model.abstain[:, None, :]], axis=1))
    each = table[asked.annotator, asked.label]  # [R, C]; padding's rows are dropped by its item
    evidence = jax.ops.segment_sum(each, asked.item, num_segments=prior.shape[0])
    joint = evidence + prior + model.log_classes[None, :]
    total = jax.nn.logsumexp(joint, axis=-1, keepdims=True)
    return joint - total, _maths.tree_sum(total[:, 0], axis=0)


def _estimate(
    asked: Triples,
    pseudo: Float[Array, "C C"],
    known: Bool[Array, ""],
    tied: bool,
    probs: Float[Array, "N C"],
) -> Model:
    """The most probable model under expected true classes (the M-step)."""
    people, classes = asked.abstained.shape[0], probs.shape[1]
    # expected counts of (annotator, said, true); padding's annotator is out of range, and dropped
    cell = asked.annotator * (classes + 1) + asked.label
    seen = jax.ops.segment_sum(probs[asked.item], cell, num_segments=people * (classes + 1))
    seen = seen.reshape(people, classes + 1, classes)
    labels, abstentions = jnp.swapaxes(seen[:, :classes], 1, 2), seen[:, classes]
    counts = _tied(labels, pseudo) if tied else labels + pseudo[None]
    # its prior's mean is the annotator's own share, so that without abstentions it is exactly 0
    # for every class, and with nothing else exactly 1: no evidence in either case
    answered = jnp.sum(labels, axis=2) + abstentions
    abstain = (abstentions + ABSTENTIONS * asked.abstained[:, None]) / (answered + ABSTENTIONS)
    items = jnp.zeros(probs.shape[0], jnp.float32).at[asked.item].set(1.0)
    frequency = jnp.sum(probs * items[:, None], axis=0) + CLASSES
    log_classes = jnp.where(known, 0.0, jnp.log(frequency / jnp.sum(frequency)))
    return Model(
        log_classes=log_classes,
        counts=counts,
        confusion=counts / jnp.sum(counts, axis=2, keepdims=True),
        abstain=jnp.where(asked.abstained[:, None] < 1.0, abstain, 1.0),
    )


def _tied(labels: Float[Array, "A C C"], pseudo: Float[Array, "C C"]) -> Float[Array, "A C C"]:
    """Counts of one accuracy an annotator: the same right ones for all classes, the rest even."""
    classes = labels.shape[1]
    same = jnp.eye(classes, dtype=jnp.float32)
    total = jnp.sum(labels, axis=(1, 2))
    hits = jnp.trace(labels, axis1=1, axis2=2)
    right = hits + pseudo[0, 0]
    wrong = (total - hits + pseudo[0, 1] * (classes - 1)) / (classes - 1)
    return right[:, None, None] * same[None] + wrong[:, None, None] * (1.0 - same)[None]


def _log_prior(
    asked: Triples, pseudo: Float[Array, "C C"], model: Model, known: Bool[Array, ""], tied: bool
) -> Float[Array, ""]:
    """Log of the prior of a model, but for a constant; in the softmax basis, where the mode of a
    Dirichlet is its mean (MacKay 1998).
    """
    cells = pseudo[None] * jnp.log(model.confusion)
    cells = cells[:, 0] if tied else jnp.sum(cells, axis=1)  # a tied prior counts once
    # only who answers counts, so that padding does not
    active = jnp.zeros(cells.shape[0], jnp.float32).at[asked.annotator].set(1.0)[:, None]
    share = asked.abstained[:, None]
    kept = xlogy(share, model.abstain) + xlogy(1.0 - share, 1.0 - model.abstain)
    classes = jnp.where(known, 0.0, CLASSES * jnp.sum(model.log_classes))
    return jnp.sum(active * cells) + ABSTENTIONS * jnp.sum(active * kept) + classes
