"""The loop: `init`, `ask`, `tell`, `relabel` over a `LearnerState`.

Pure functions; what may fail on values is checked at the edge.
"""

from collections.abc import Callable, Sequence
from time import perf_counter as clock
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, _compiling
from bayesal import calibrate as calibration
from bayesal import retune as retuning
from bayesal.loop import _audit as audits
from bayesal.loop import _classes as classing
from bayesal.loop import _edge as edge
from bayesal.loop import _first as beginning
from bayesal.loop import _programs as programs
from bayesal.loop import _remarks as remarks
from bayesal.loop import _updates as updates
from bayesal.loop._gathered import (
    Gathered,
    View,
    digests,
    gather,
    glance,
    same_kind,
    same_rows,
    shapes,
    take,
    usable,
    view,
)
from bayesal.loop._programs import Parts
from bayesal.loop._pure import Pure, pure, remembering
from bayesal.loop._start import classes_of, first_state
from bayesal.loop._state import (
    Answers,
    LearnerState,
    append,
    audit_mask,
    correct,
    grow,
    number_of_draws,
    usual,
    without_report,
)
from bayesal.retune._retuners import for_posterior
from bayesal.types import ArrayLike, HParams, Key, Posterior, Selection, Strategy

LEAST = 128  # labels that a ledger without a given capacity has room for from the start


class Learner(NamedTuple):
    """The four verbs, and the same without checks for compiled programs.

    init: `(key, x) -> LearnerState`; a typed key or an int; `x [N, ...]` is the pool, looked at for
      its shape only.
    ask:  `(state, x, *, exclude=None, size=None) -> Selection`; pure: twice is the same. At the end
      of the pool, or of the capacity, it gives what is left. `exclude` are rows not to ask about
      now, a mask `[N]` or row numbers; the fair sample of an audit ends at the first of them until
      it has a label. `size` is another number of points than the learner's.
      Neither compiles anew up to the learner's size, apart from strategies whose batches are not
      nested (`k_means`, `typiclust`, `bait`) and audits: these compile once for each size.
    tell: `(state, x, indices, labels, *, weights=None, source=0, known="refuse") -> LearnerState`;
      rows without a label, asked or not; labels are class numbers, names where the learner has
      `classes`, bools for two classes. A label may be `bayesal.REJECTED` ("no class of mine"), or
      have weight 0 ("cannot tell"): such a row is fitted nowhere, and it is not asked again.
      `known="replace"` takes rows that have a label too: new labels and corrections in one fit.
    relabel: `(state, x, indices, labels, *, weights=None, source=None) -> LearnerState`; other
      labels for rows that have one, and all labels fitted again. By default a row keeps its weight
      (1 where it was 0) and its source. As after every `tell`, the round's number is one higher,
      and with it the keys of fits and picks are others.
    pure: `init`, `ask` and `tell` for `jit` and `vmap`: whole rounds as one program, all seeds at
      once. They check nothing.
    """

    init: Callable[[int | Key, ArrayLike], LearnerState]
    ask: Callable[..., Selection]
    tell: Callable[..., LearnerState]
    relabel: Callable[..., LearnerState]
    pure: Pure


def learner(
    posterior: Posterior,
    strategy: Strategy,
    *,
    size: int,
    capacity: int | None = None,
    num_draws: int | None = None,
    retune: retuning.Retuner | None = None,
    calibrate: Callable[..., calibration.Temperature] | None = None,
    hparams: HParams | None = None,
    num_folds: int = 5,
    update: str = "fresh",
    audit: float = 0.0,
    groups: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    class_weights: Any = None,
    first: Any = None,
    pool_changed: str = "refuse",
) -> Learner:
    """An active learner: which points to label next, and a model of what is known so far.

    Each `tell` retunes on out-of-fold predictions, fits afresh with the hyperparameters kept, and
    fits the temperature on the same out-of-fold predictions, all in one program that is compiled
    once; so is `ask`.

    Args:
      posterior: one of `bayesal.posteriors`, built once (rebuilding it compiles again).
      strategy: one of `bayesal.acquire`.
      size: points per `ask`.
      capacity: the most labels there will be, compiled for once; `grow` makes room later. None:
        room is doubled whenever it is used up, and each size compiles once.
      num_draws: draws per prediction; default 50, or the members of an ensemble.
      retune: such as `retune.successive_halving()`; None keeps the hyperparameters.
      calibrate: for example `calibrate.temperature()`, and `calibrate.variance()` for real labels;
        None leaves T = 1.
      hparams: where to start; default `HParams()`, or shorter and slower fits where labels are real
        numbers (`docs/defaults.md`).
      num_folds: folds of the labeled set for retuning and calibration; at least 2. Fits that miss
        fewer labels are more like the one that is used: for a temperature on chosen labels five
        serve better than three, and ten better still (`experiments/cross_fit.py`), at their price
        in fits.
      update: where each round's fit begins: "fresh", at a new initialization; "warm", halfway
        between that and the last round's fit (its weights shrunk and perturbed), so that fewer
        `steps` will do. Candidates of the retuner are always fitted fresh. "online": only the first
        labels are fitted; later ones are added to what is known (`Posterior.online`), at a cost
        that does not grow with the labels. Learners that differ only in `update` take each other's
        states: add every round, and fit afresh now and then.
      audit: share of every batch, to the nearest whole number and one point at least, that is drawn
        at random instead of by the strategy: the only fair sample of the pool (see
        `bayesal.audit_mask`), on which the temperature of all labels is corrected (see
        `calibrate.corrected`).
      groups: `[N]` whole numbers, a row of the pool each: rows of one number are copies of one
        another (augmentations, frames of one film, images of one patient), and never stand on both
        sides of a fold.
      classes: names of the classes, in the order of the network's outputs. Labels may then be
        names, class numbers, or both. States and predictions hold numbers:
        `np.asarray(classes)[predictive.predict(x)]`.
      class_weights: weight of a label of each class, above 0: `[C]` numbers, or a mapping from
        `classes`. It multiplies the label's own weight wherever labels count (fits, retuning,
        temperature), as the same `weights=` in `tell` would. "balanced": inverse to the class's
        share of the labels so far, recomputed in every round; the mean weight stays.
      first: how `ask` picks before any label, when no net knows anything. Default
        `acquire.typiclust()` on the rows of the pool as they are, flattened; an array `[N, D]`:
        the same on these features (embeddings, say); a strategy that needs features only, such as
        `acquire.k_means()`, `acquire.uniform()`: that one. Of 20 first digits a logistic regression
        learns .84 by TypiClust, .66 by chance, and less by BALD and BatchBALD of an untrained net.
        Of a pool of more than 20,000 rows as many are looked at, drawn at random. Vectors of whole
        numbers (token ids, pairs of items) are no features: the default draws among them by chance.
      pool_changed: "refuse" a pool whose labeled rows are not what they were when they were labeled
        (another order, other values), or "allow" it. Appending rows is no change.
    Raises:
      WrongSize: sizes that cannot be. UnknownName: no such update. WrongType: a network for a
        posterior, a factory for a strategy, an update that the posterior cannot do or that leaves a
        retuner or a calibrator nothing to do.
    """
    retune = retune or programs.KEEP
    _checks.a(Posterior, posterior, "posterior", "posteriors.mc_dropout(network)")
    hparams = usual(posterior) if hparams is None else hparams
    edge.kinds(posterior, strategy, retune, calibrate, hparams)
    retune = for_posterior(retune, posterior)
    size = _checks.at_least(1, size, "size")
    capacity = _checks.capacity(capacity, size)
    updates.possible(posterior, retune, calibrate, update)
    parts = Parts(
        posterior=posterior,
        strategy=strategy,
        retune=retune,
        calibrate=calibrate,
        size=size,
        draws=number_of_draws(posterior, num_draws),
        num_folds=_checks.num_folds(num_folds, capacity, calibrate is not None or retune.searches),
        update=update,
        audits=audits.per_batch(audit, size),
    )
    settings = Settings(
        parts=parts,
        hparams=_checks.as_traced(hparams),
        capacity=capacity,
        audit=audit,
        groups=None if groups is None else np.asarray(_checks.groups(groups)),
        classes=classing.of(posterior, classes, class_weights, update),
        first=beginning.of(first),
        strict=edge.strict(pool_changed),
    )
    return _verbs(settings)


class Settings(NamedTuple):
    """What a learner does at the edge: its programs' parts, and what is data or only checked."""

    parts: Parts
    hparams: HParams
    capacity: int | None
    audit: float
    groups: np.ndarray | None
    classes: classing.Classes
    first: beginning.First
    strict: bool


def _verbs(settings: Settings) -> Learner:
    parts, capacity, groups = settings.parts, settings.capacity, settings.groups

    room = _doubled(max(parts.size, parts.num_folds)) if capacity is None else capacity

    def init(key, x):
        x = view(x)
        _checks.groups_of(groups, x.shape[0])
        state = first_state(_checks.key(key), x, settings.hparams, room, groups is not None, parts)
        classing.fit_the(settings.classes, classes_of(state, x, parts))
        return state

    def enter(state, x):
        x = view(x)
        if settings.strict:
            same_kind(state, x)
        return x

    def ask(state, x, *, exclude=None, size=None):
        return _asked(state, enter(state, x), exclude, size, settings)

    def tell(state, x, indices, labels, *, weights=None, source=0, known="refuse"):
        x, replaces = enter(state, x), edge.replaces(known)
        labels = classing.numbered(settings.classes, labels)
        answers = edge.answers(state, x, indices, labels, weights, source, parts)
        return _told(state, x, answers, replaces, settings)

    def relabel(state, x, indices, labels, *, weights=None, source=None):
        x = enter(state, x)
        labels = classing.numbered(settings.classes, labels)
        answers = edge.answers(state, x, indices, labels, weights, source, parts)
        _checks.known_labels(answers.indices, state.ledger.rows())
        ledger = correct(state.ledger, edge.kept(state.ledger, answers, weights, source))
        return _learned(state._replace(ledger=ledger), x, 0, settings)

    return Learner(
        init=init,
        ask=ask,
        tell=tell,
        relabel=relabel,
        pure=pure(parts, settings.hparams, room, groups, settings.classes.weights),
    )


def _told(
    state: LearnerState, x: View, answers: Answers, replaces: bool, settings: Settings
) -> LearnerState:
    """The state fitted to its labels and these; where `replaces`, some may be corrections."""
    old, new = edge.parted(state.ledger, answers) if replaces else (None, answers)
    if old is None or len(new.indices):
        most = edge.limit(state, settings.capacity)
        _checks.new_labels(new.indices, state.ledger.rows(), most)
    fitted = int(state.ledger.count)
    needed = fitted + len(new.indices)
    if needed > state.ledger.capacity:
        state = grow(state, _doubled(needed))
    ledger = append(state.ledger, new)
    if old is not None and len(old.indices):
        fitted, ledger = 0, correct(ledger, edge.kept(ledger, old, True, True))
    return _learned(state._replace(ledger=ledger), x, fitted, settings)


def _asked(state: LearnerState, x: View, exclude: Any, size: Any, settings: Settings) -> Selection:
    """A batch as people get it."""
    parts, audit = settings.parts, settings.audit
    left = edge.room(state, x.shape[0], settings.capacity)
    excluded = edge.excluded(state, x.shape[0], exclude)
    if settings.strict:
        glance(state, x)
    if beginning.unlabeled(state):
        most = parts.size if size is None else _checks.at_least(1, size, "size")
        audited = audits.per_batch(audit, most)
        selection = beginning.batch(state, x, excluded, settings.first, most, audited)
        _foreseen(state, x, settings)
    else:
        asking, most = edge.sized(parts, size, audit)
        selection = programs.choose(without_report(state), x.pool, asking, excluded)
    return audits.shown(edge.short(selection, state, min(left, most)))


def _foreseen(state: LearnerState, x: View, settings: Settings) -> None:
    """Compile the first fit while people label the first batch."""
    parts, grouped = settings.parts, settings.groups is not None
    state = remembering(state, parts.retune)._replace(report=None)
    example = jnp.asarray(take(x, np.arange(1), 1))
    like = shapes(state.ledger, example, grouped=grouped, audited=parts.audits > 0)
    program = "refit", parts.telling(), _compiling.signature(state, like)
    _compiling.ahead(lambda: programs.refit.lower(state, like, parts.telling()), *program)


def _doubled(needed: int) -> int:
    """Room for so many labels: the next power of two.

    >>> _doubled(3), _doubled(128), _doubled(129)
    (128, 128, 256)
    """
    return max(LEAST, 1 << (needed - 1).bit_length())


def _learned(state: LearnerState, x: View, known: int, settings: Settings) -> LearnerState:
    """The state fitted to its ledger, of which the last fit knew the first `known` labels."""
    parts, groups, ledger = settings.parts, settings.groups, state.ledger
    before = state.hparams
    _checks.groups_of(groups, x.shape[0])
    order = usable(ledger)
    if len(order) == 0:  # nothing to fit: what a learner knows before the first label
        blank = first_state(
            state.key, x, settings.hparams, ledger.capacity, groups is not None, parts
        )
        return blank._replace(
            round=state.round + 1, ledger=ledger, hparams=state.hparams, search=state.search
        )
    edge.enough(len(order), parts)
    if parts.holds_out:
        _checks.enough_groups(groups, ledger.rows()[order], parts.num_folds)
    features = take(x, ledger.rows(), ledger.capacity)
    remarks.on(parts.posterior, ledger, features, order, known == 0)
    if settings.strict:
        same_rows(ledger, np.arange(len(features)), digests(features))
    fair = np.asarray(audit_mask(state, x.pool)) if parts.audits else None
    taken = gather(ledger, features, groups=groups, fair=fair, known=known)
    taken = classing.weighted(settings.classes.weights, taken)
    state = remembering(state, parts.retune)._replace(report=None)
    programs.prepare(without_report(state), x.pool, parts.asking())
    program = "refit", parts.telling(), _compiling.signature(state, taken)
    fitting = f"fitting to {len(order)} labels"
    with _compiling.said(f"compiling the fit (some seconds, once), {fitting}", fitting, *program):
        _compiling.awaited(*program)
        if parts.retune.seconds is not None:
            state = _searched(state, taken, parts)
        new = programs.refit(state, taken, parts.telling())
        edge.trained(parts.posterior, new, features, "fresh" if known < 2 else parts.update)
    remarks.of_search(parts.retune, before, new.hparams)
    return new


def _searched(state: LearnerState, taken: Gathered, parts: Parts) -> LearnerState:
    """The state after as many runs of the retuner as its seconds allow, one at least; how long the
    first took says nothing, for it may compile.
    """
    began, run, took = clock(), 0, 0.0
    assert parts.retune.seconds is not None
    while run == 0 or clock() - began + took <= parts.retune.seconds:
        start = clock()
        found = programs.search(state, taken, jnp.int32(run), parts.searching())
        state = jax.block_until_ready(found)
        run, took = run + 1, clock() - start if run else 0.0
    return state
