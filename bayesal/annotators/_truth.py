"""True classes and reliabilities from answers: Dawid-Skene, one coin, and what follows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from bayesal import _checks, _warnings, errors
from bayesal.annotators import _answers, _em
from bayesal.types import Array, ArrayLike

RIGHT, WRONG = 4.0, 1.0  # pseudo-answers of one coin: an accuracy of .8
MOST_STEPS = 100_000
FEW = 10  # shared labels per annotator and class


class Info(NamedTuple):
    """What happened, and what the answers could not determine.

    objective: log posterior of the model before each step `[steps]`, in nats, but for a constant.
    log_likelihood: of all answers, before each step `[steps]`, in nats.
    one_coin: whether each annotator has one accuracy, by request or because no more is
      identifiable.
    answers: number of labels of each annotator `[A]`, abstentions not counted.
    shared: those on items that another annotator labeled too `[A]`. Where this is 0, and no prior
      is given, a confusion matrix is little more than its prior.
    unanswered: items without any label `[N]`.
    """

    objective: Float[Array, " steps"]
    log_likelihood: Float[Array, " steps"]
    one_coin: bool
    answers: Int[np.ndarray, " A"]
    shared: Int[np.ndarray, " A"]
    unanswered: Bool[np.ndarray, " N"]


class Truth(NamedTuple):
    """True classes and the reliability of annotators.

    log_probs: of the true class of each item `[N, C]`.
    confusion: P(label said | true class, an answer that is no abstention) `[A, C true, C said]`.
    abstain:   P(abstention | true class) `[A, C]`.
    counts:    Dirichlet parameters `[A, C, C]` of the rows of `confusion`: expected counts plus
      pseudo-counts. Of one coin: of the right answers and of each wrong one, over all classes.
    info:      see `Info`.
    """

    log_probs: Float[Array, "N C"]
    confusion: Float[Array, "A C C"]
    abstain: Float[Array, "A C"]
    counts: Float[Array, "A C C"]
    info: Info


def dawid_skene(
    answers: Int[ArrayLike, "N A"],
    *,
    classes: int,
    prior: Float[ArrayLike, "N C"] | None = None,
    diagonal: float = 3.0,
    off: float = 0.5,
    steps: int = 100,
) -> Truth:
    """True classes and a confusion matrix per annotator, by MAP-EM (Dawid & Skene 1979).

    p_i(c) ~ prior_i(c) prod_a E_a[c, l_ia];  E_a[c, l] ~ off + diagonal [c = l] + sum_i p_i(c)
    [l_ia = l].

    The pseudo-counts are a Dirichlet prior of each row: an unseen cell is never certainty, and
    classes cannot trade names. An abstention is an answer of its own, with P(abstention | class):
    evidence of what is difficult, and no vote. The best `prior` is a net's prediction that has not
    seen the item's own answers (see `refit`). It counts as one more observer, whose errors are
    independent of the annotators' errors given the class.

    Without `prior`, class frequencies are estimated too, from items with several labels. If there
    are none, confusion matrices are not identifiable: `one_coin` answers instead, with a warning.
    With fewer than 10 such labels per annotator and class there is a warning only: of 600 digits
    with a second label on a fifth, .59 were right, .65 by `one_coin` and .63 by the majority.

    Outside jit: the answers become a list, padded to a power of two. A growing campaign compiles
    again only when its items, annotators or answers double, or `classes` or `steps` change.

    Args:
      answers: class of each item by each annotator, ABSTAIN (-2), or -1 where not asked.
      classes: C, at least 2.
      prior: normalized log-probabilities of each item's class, before its answers.
      diagonal: additional pseudo-answers in each right cell, at least 0.
      off: pseudo-answers in every cell, above 0.
      steps: EM steps; always that many.
    Returns:
      A `Truth`. Items without labels keep their prior, annotators without labels theirs.
    Raises:
      WrongLabel: answers that are no classes. WrongShape, WrongSize: arrays that do not fit.
        NotLogProbabilities, NonFinite: a bad prior. OutOfRange: pseudo-counts.
    References:
      Dawid & Skene 1979, https://doi.org/10.2307/2346806

    >>> answers = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0], [0, -1, 1]] * 5)
    >>> truth = dawid_skene(answers, classes=2)
    >>> truth.log_probs.argmax(axis=1)[:5]
    Array([0, 1, 0, 1, 0], dtype=int32)
    """
    said = _answers.checked(answers, classes)
    diagonal, off = _pseudo(diagonal, "diagonal"), _pseudo(off, "off", above=0.0)
    found = _prior(prior, said.shape[0], classes)
    if found is None and not _identifiable(said, classes):
        return one_coin(said, classes=classes, steps=steps)
    pseudo = off + diagonal * np.eye(classes, dtype=np.float32)
    return _fitted(said, found, pseudo, known=found is not None, tied=False, steps=steps)


def one_coin(
    answers: Int[ArrayLike, "N A"],
    *,
    classes: int,
    prior: Float[ArrayLike, "N C"] | None = None,
    right: float = RIGHT,
    wrong: float = WRONG,
    steps: int = 100,
) -> Truth:
    """True classes and one accuracy per annotator, whose errors are spread evenly over the classes.

    E_a[c, l] = r_a if c = l, else (1 - r_a) / (C - 1);  r_a ~ Beta(right, wrong).

    For few answers: where no item has two labels and there is no prior, accuracies stay at their
    prior and the truth is what was answered. Abstentions and compilation are as in `dawid_skene`.

    Args:
      answers, classes, steps: as of `dawid_skene`.
      prior: log-probabilities of each item's class; default: all classes alike.
      right, wrong: pseudo-answers of each annotator, above 0.
    Returns:
      A `Truth` with `info.one_coin`.

    >>> truth = one_coin(np.array([[0, -1], [-1, 2]]), classes=3)
    >>> np.exp(np.asarray(truth.log_probs)).round(2)
    array([[0.8, 0.1, 0.1],
           [0.1, 0.1, 0.8]], dtype=float32)
    """
    said = _answers.checked(answers, classes)
    right, wrong = _pseudo(right, "right", above=0.0), _pseudo(wrong, "wrong", above=0.0)
    found = _prior(prior, said.shape[0], classes)
    each = wrong / (classes - 1)
    pseudo = each + (right - each) * np.eye(classes, dtype=np.float32)
    return _fitted(said, found, pseudo, known=True, tied=True, steps=steps)


def refit(
    predict: Callable[[Any, Any], Any],
    answers: Int[ArrayLike, "N A"],
    *,
    classes: int,
    rounds: int = 2,
    **options: Any,
) -> Truth:
    """Dawid-Skene and a net in turns: labels, net, prior, truth, and again.

    The first net learns the most probable classes of `one_coin`, weighted as by `soft_labels`: with
    the probabilities themselves it would be as unsure as the coin's prior. Later ones learn the
    last truth.

    Args:
      predict: `(labels [N, C], weights [N]) -> log_probs [N, C]`: fits on soft labels, and predicts
        each item out of fold, by a fit without that item. Items of weight 0 are in no fit.
      answers, classes: as of `dawid_skene`.
      rounds: nets fitted; 2 is one refit on the truth.
      options: others of `dawid_skene`, such as `diagonal`.
    Returns:
      The last `Truth`.

    >>> answers = np.array([[0, 0], [1, 1], [0, 1]])
    >>> uniform = lambda labels, weights: jnp.log(jnp.full((3, 2), 0.5))
    >>> refit(uniform, answers, classes=2).log_probs.argmax(axis=1)[:2]
    Array([0, 1], dtype=int32)
    """
    _checks.function(predict, "predict", "a function (labels, weights) -> log_probs")
    if "prior" in options:
        raise errors.WrongType(
            "prior", "`prior` comes from `predict` here; for a fixed one use `dawid_skene`."
        )
    coin = one_coin(answers, classes=classes)
    likely = np.argmax(coin.log_probs, axis=1)
    labels, weights = jnp.asarray(np.eye(classes, dtype=np.float32)[likely]), soft_labels(coin)[1]
    for _ in range(_checks.at_least(1, rounds, "rounds", most=1_000)):
        prior = predict(labels, weights)
        truth = dawid_skene(answers, classes=classes, prior=prior, **options)
        labels, weights = soft_labels(truth)
    return truth


def soft_labels(truth: Truth) -> tuple[Float[Array, "N C"], Float[Array, " N"]]:
    """Labels and weights for `tell(..., weights=...)`: P(class), and 1 - H / log C.

    A certain class counts 1, a uniform one 0. An item without any label counts 0: the net's own
    prior is no label. The posterior needs `likelihood=likelihoods.categorical(soft=True)`.

    >>> labels, weights = soft_labels(one_coin(np.array([[0], [-1]]), classes=2))
    >>> np.asarray(labels).round(2), np.asarray(weights).round(2)
    (array([[0.8, 0.2],
           [0.5, 0.5]], dtype=float32), array([0.28, 0.  ], dtype=float32))
    """
    _checks.a(Truth, truth, "truth", "annotators.dawid_skene")
    probs = np.exp(np.asarray(truth.log_probs, np.float64))  # on the host: sizes change daily
    share = special.entr(probs).sum(axis=1) / np.log(probs.shape[1])
    weights = np.where(truth.info.unanswered, 0.0, np.clip(1.0 - share, 0.0, 1.0))
    return jnp.asarray(probs, jnp.float32), jnp.asarray(weights, jnp.float32)


def intervals(
    truth: Truth, *, level: float = 0.95
) -> tuple[Float[np.ndarray, "A C C"], Float[np.ndarray, "A C C"]]:
    """Credible intervals (low, high) of every entry of the confusion matrices.

    Equal tails of the marginals Beta(n, N - n) of each row's Dirichlet. They take the true classes'
    probabilities as counts and are a little narrow where those are uncertain.

    Args:
      level: probability inside, in (0, 1).
    Raises:
      OutOfRange: a level outside (0, 1).

    >>> low, high = intervals(one_coin(np.array([[-1]]), classes=2))
    >>> low.round(2).tolist(), high.round(2).tolist()  # Beta(4, 1), and its reverse
    ([[[0.4, 0.01], [0.01, 0.4]]], [[[0.99, 0.6], [0.6, 0.99]]])
    """
    _checks.a(Truth, truth, "truth", "annotators.dawid_skene")
    if not 0 < (level := _pseudo(level, "level")) < 1:
        raise errors.OutOfRange("level", f"`level` must lie in (0, 1), got {level!r}.")
    counts = np.asarray(truth.counts, np.float64)
    classes = counts.shape[1]
    rest = counts.sum(axis=2, keepdims=True) - counts
    if truth.info.one_coin:  # an error's share is that of all errors, over their number
        off = ~np.eye(classes, dtype=bool)[None]
        right = np.diagonal(counts, axis1=1, axis2=2)[:, :, None]
        wrong = counts.sum(axis=2, keepdims=True) - right
        counts, rest = np.where(off, wrong, counts), np.where(off, right, rest)
        scale = np.where(off, 1 / (classes - 1), 1.0)
    else:
        scale = np.ones_like(counts)
    low, high = (
        scale * special.betaincinv(counts, rest, tail)
        for tail in ((1 - level) / 2, (1 + level) / 2)
    )
    return low, high


def _fitted(
    said: Int[np.ndarray, "N A"],
    prior: np.ndarray | None,
    pseudo: Float[np.ndarray, "C C"],
    *,
    known: bool,
    tied: bool,
    steps: int,
) -> Truth:
    """EM on padded arrays, and its result without the padding."""
    count, people = said.shape
    classes = len(pseudo)
    asked, rows = _em.triples(said, classes)
    padded = np.full((rows, classes), -np.log(classes) if known else 0.0, np.float32)
    if prior is not None:
        padded[:count] = prior
    fitted = _em.fit(
        asked,
        jnp.asarray(padded),
        jnp.asarray(pseudo, jnp.float32),
        jnp.bool_(known),
        tied=tied,
        steps=_checks.at_least(1, steps, "steps", most=MOST_STEPS),
    )
    # cut on the host: a slice of a JAX array compiles for every new size
    found = jax.tree.map(np.asarray, fitted)
    labels = said >= 0
    return Truth(
        log_probs=jnp.asarray(found.log_probs[:count]),
        confusion=jnp.asarray(found.model.confusion[:people]),
        abstain=jnp.asarray(found.model.abstain[:people]),
        counts=jnp.asarray(found.model.counts[:people]),
        info=Info(
            objective=fitted.objective,
            log_likelihood=fitted.log_likelihood,
            one_coin=tied,
            answers=labels.sum(axis=0),
            shared=(labels & (labels.sum(axis=1) > 1)[:, None]).sum(axis=0),
            unanswered=labels.sum(axis=1) == 0,
        ),
    )


def _identifiable(said: Int[np.ndarray, "N A"], classes: int) -> bool:
    """Whether items have several labels at all; a warning where there are none, or few."""
    labels = said >= 0
    shared = labels[labels.sum(axis=1) > 1]
    cure = "Pass a net's out-of-fold predictions as `prior`, or ask for second labels."
    if not shared.any():
        _warnings.warn(
            "no item has labels of two annotators and there is no `prior`: confusion matrices are "
            "not identifiable. One accuracy per annotator is used instead (`one_coin`, its prior "
            f"is .8). {cure}"
        )
        return False
    each = shared.sum() / (labels.any(axis=0).sum() * classes)
    if each < FEW:
        _warnings.warn(
            f"on items with several labels there are {each:.2g} labels per annotator and class, "
            f"fewer than {FEW}, and there is no `prior`: `one_coin` is more often right. {cure}"
        )
    return True


def _prior(prior: Any, count: int, classes: int) -> np.ndarray | None:
    """Log-probabilities `[N, C]` on the host, or None."""
    if prior is None:
        return None
    found = np.asarray(_checks.log_probs(prior, "prior", draws=False, ndim=2))
    if found.shape != (count, classes):
        raise errors.WrongShape(
            "prior",
            f"`prior` must have shape ({count}, {classes}), a row per item of `answers`; got "
            f"{found.shape}. Average draws first: likelihoods.average(log_probs).",
        )
    return found


def _pseudo(value: Any, name: str, above: float | None = None) -> float:
    """A finite number of at least 0, or above a bound."""
    number = float(_checks.at_least_zero(value, name))
    if above is not None and not number > above:
        raise errors.OutOfRange(
            name,
            f"`{name}` must be above {above:g}, got {value!r}: with 0 one unseen cell would make "
            "certainty.",
        )
    return number
