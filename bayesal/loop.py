"""The loop: `init`, `ask`, `tell` over a `LearnerState`. Pure functions; what may fail on values is checked at the edge."""

import functools
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bayesal import audits, checks, folds, updates
from bayesal import calibrate as calibration
from bayesal import retune as retuning
from bayesal.predictives import Predictive
from bayesal.types import ArrayLike, FitInfo, HParams, Key, Labeled, Posterior, Prediction, PyTree, Scaling, Selection, Strategy

TRIAL_DRAWS = 20  # draws a retuner's candidates are judged with, at most
REMEMBERED = 16  # answers of `ask` that `tell` can look up instead of asking again


class Ledger(NamedTuple):
    """The labeled set, in order of acquisition: rows of the pool and their labels; entries `>= count` are padding."""

    indices: Int[Array, " M"]
    labels: Int[Array, " M"] | Float[Array, " M"]
    count: Int[Array, ""]

    def append(self, indices: np.ndarray, labels: np.ndarray) -> "Ledger":
        """The ledger with more rows; the caller has checked that they fit."""
        at = slice(int(self.count), int(self.count) + len(indices))
        rows, values = np.array(self.indices), np.array(self.labels)
        rows[at], values[at] = indices, labels
        return Ledger(jnp.asarray(rows), jnp.asarray(values), jnp.asarray(np.int32(at.stop)))

    def available(self, rows: int) -> Bool[Array, " N"]:
        """Which of the pool's rows have no label yet."""
        labeled = jnp.where(jnp.arange(self.indices.shape[0]) < self.count, self.indices, rows)
        return jnp.ones(rows, bool).at[labeled].set(False, mode="drop")


class Report(NamedTuple):
    """What the last `tell` did: the final fit, what the retuner tried, and the temperature with its NLLs."""

    fit: FitInfo
    candidates: HParams
    candidate_losses: Float[Array, " P"]
    chosen: Int[Array, ""]
    calibration: calibration.Temperature


class LearnerState(NamedTuple):
    """Everything the loop knows, as one pytree: save it, restore it, ask again, and the picks are the same."""

    key: Key
    round: Int[Array, ""]
    ledger: Ledger
    posterior: PyTree
    hparams: HParams
    temperature: Float[Array, ""] | Scaling
    report: Report | None


class Learner(NamedTuple):
    """The three verbs.

    init: `(key, x) -> LearnerState`; `x [N, ...]` is the pool, looked at for its shape only.
    ask:  `(state, x) -> Selection`; pure: twice is the same. At the end of the pool, or of the capacity, it gives what is left.
    tell: `(state, x, indices, labels, unasked=False) -> LearnerState`; the first labels may be of any points, later ones
          of points that `ask` gave, or of any with `unasked=True`.
    """

    init: Callable[[Key, ArrayLike], LearnerState]
    ask: Callable[[LearnerState, ArrayLike], Selection]
    tell: Callable[..., LearnerState]


def predictive(posterior: Posterior, state: LearnerState, num_draws: int | None = None) -> Predictive:
    """The state's predictive: `num_draws` draws (default: the ensemble's members, or 50), tempered;
    with the learner's own `num_draws` they are the ones that `ask` uses.

    >>> # log_probs = bayesal.predictive(posterior, state, 100).mean(x_test)   # [n, C]
    """
    draws = posterior.draw(_round_key(state, 1), state.posterior, _draws(posterior, num_draws))
    return Predictive(posterior, state.posterior, draws, state.temperature)


def audited(state: LearnerState, x: ArrayLike) -> Bool[Array, " M"]:
    """Which entries of the ledger are the audit: labels of a uniform random sample of the whole pool, chosen for no other reason.

    The pool `x` is put in a random order that depends on the state's first key alone, and `ask` takes its audit from the front of what has no
    label. The audit is that order's front up to the first row without a label: who labels a row for another reason does not
    know the order, so the rows there are a fair sample of the pool, those that were chosen actively too.
    """
    rows = x.shape[0]
    fair = audits.fair(audits.lots(state.key, rows), state.ledger.available(rows), state.ledger.indices)
    return fair & (jnp.arange(fair.shape[0]) < state.ledger.count)


def learner(
    posterior: Posterior,
    strategy: Strategy,
    *,
    size: int,
    capacity: int,
    num_draws: int | None = None,
    retune: retuning.Retuner | None = None,
    calibrate: calibration.Calibrator | None = None,
    hparams: HParams | None = None,
    num_folds: int = 3,
    update: str = "fresh",
    audit: float = 0.0,
) -> Learner:
    """An active learner: which points to label next, and a model of what is known so far.

    Each `tell` retunes on out-of-fold predictions, fits afresh with the hyperparameters kept, and fits the temperature on the
    same out-of-fold predictions, all in one program that is compiled once; so is `ask`.

    Args:
      posterior: one of `bayesal.posteriors`, built once (rebuilding it compiles again).
      strategy: one of `bayesal.acquire`.
      size: points per `ask`.
      capacity: the most labels there will be; choose it generously (memory, not time), or `grow` later.
      num_draws: draws per prediction; default 50, or the members of an ensemble.
      retune: default `retune.keep()`.
      calibrate: for example `calibrate.temperature()`, and `calibrate.variance()` for real labels; None leaves T = 1.
      hparams: where to start; default `HParams()`.
      num_folds: folds of the labeled set for retuning and calibration; at least 2.
      update: where each round's fit begins: "fresh", at a new initialization; "warm", halfway between that and the last round's fit (see
        `training.shrink_and_perturb`), so that fewer `steps` will do. Candidates of the retuner are always fitted fresh. "online": only the
        first labels are fitted; later ones are added to what is known (`Posterior.online`), at a cost that does not grow with the labels.
        Learners that differ only in `update` take each other's states: add every round, and fit afresh now and then.
      audit: share of every batch, to the nearest whole number and one point at least, that is drawn at random instead of by the strategy: the
        only fair sample of the pool (see `audited`), on which the temperature of all labels is corrected (see `calibrate.corrected`).
    Raises:
      WrongSize: sizes that cannot be. UnknownName: no such update. WrongType: a network for a posterior, a factory for a strategy, an update
        that the posterior cannot do or that leaves a retuner or a calibrator nothing to do.
    """
    _kinds(posterior, strategy, calibrate, HParams() if hparams is None else hparams)
    size = checks.at_least(1, size, "size")
    capacity, num_folds = checks.at_least(size, capacity, "capacity"), checks.at_least(2, num_folds, "num_folds")
    draws = _draws(posterior, num_draws)
    retune = retune or retuning.keep()
    updates.possible(posterior, retune, calibrate, update)
    start = HParams() if hparams is None else hparams
    start = checks.as_traced(start)
    asked: OrderedDict = OrderedDict()

    parts = Parts(posterior, strategy, retune, calibrate, size, capacity, draws, num_folds, update, audits.per_batch(audit, size))

    def init(key, x):
        checks.pool(x)
        return _first_state(checks.key(key), jnp.asarray(x), start, parts)

    def ask(state, x):
        checks.pool(x)
        room = _room(state, x.shape[0], capacity)
        selection = _edge(_choose(state._replace(report=None), jnp.asarray(x), parts.asking()), state, room)
        asked[_fingerprint(state)] = weakref.ref(x), selection.indices
        while len(asked) > REMEMBERED:
            asked.popitem(last=False)
        return selection

    def tell(state, x, indices, labels, *, unasked=False):
        rows, values = _answers(state, x, indices, labels, parts)
        if int(state.ledger.count) and not unasked:
            pool, known = asked.get(_fingerprint(state), (lambda: None, None))
            checks.were_asked(rows, np.asarray(known if pool() is x else ask(state, x).indices))
        ledger = state.ledger.append(rows, values)
        new = _refit(state._replace(ledger=ledger, report=None), jnp.asarray(x), state.ledger.count, parts.telling())
        _trained(new, x, update if int(state.round) else "fresh")
        return new

    return Learner(init, ask, tell)


def _kinds(posterior, strategy, calibrate, hparams) -> None:
    checks.a(Posterior, posterior, "posterior", "posteriors.mc_dropout(network)")
    if calibrate is not None:
        checks.function(calibrate, "calibrate", "a calibrator, such as calibrate.temperature()")
        if (real := getattr(calibrate, "real", False)) != posterior.real:
            kinds = ("real labels", "classes: pass calibrate.temperature()") if real else ("classes", "real numbers: pass calibrate.variance()")
            raise checks.WrongType("calibrate", f"this calibrator is for {kinds[0]}, and the posterior's labels are {kinds[1]}, or calibrate=None.")
    checks.function(strategy, "strategy", "a strategy, such as acquire.batch_bald()")
    checks.hparams(hparams)


def _room(state: LearnerState, rows: int, capacity: int) -> int:
    """How many labels the ledger can still take, or an error if there is nothing to ask or no room for the answer."""
    checks.same_pool(_labeled_rows(state), rows)
    count = int(state.ledger.count)
    if count >= rows:
        raise checks.WrongSize("x", f"all {rows} points of the pool are labeled; there is nothing left to ask about.")
    if count >= capacity:
        raise checks.WrongSize("capacity", f"the ledger is full: `capacity` = {capacity} labels. `bayesal.grow(state, more)` makes room, for a learner of that capacity.")
    return capacity - count


def _answers(state: LearnerState, x: ArrayLike, indices: Any, labels: Any, parts: "Parts") -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels that may enter the ledger, or an error that names what is wrong with them."""
    checks.pool(x)
    rows = checks.indices(indices, x.shape[0])
    values = _values(state, x, labels, len(rows), parts)
    count = int(state.ledger.count)
    checks.same_pool(_labeled_rows(state), x.shape[0])
    checks.new_labels(rows, _labeled_rows(state), parts.capacity)
    if (parts.calibrate is not None or not getattr(parts.retune, "keeps", False)) and count + len(rows) < parts.num_folds:
        raise checks.WrongSize(
            "labels", f"retuning and calibration hold out {parts.num_folds} folds, so they need {parts.num_folds} labels or more in all; got "
            f"{count + len(rows)}. Start with more labels, or use retune=None and calibrate=None.")
    return rows, values


def _values(state: LearnerState, x: ArrayLike, labels: Any, count: int, parts: "Parts") -> np.ndarray:
    """Labels of the kind that the posterior learns from."""
    if parts.posterior.real:
        return checks.real_labels(labels, count)
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    classes = _predict.eval_shape(state._replace(report=None), one, parts.telling()).shape[-1]
    if classes < 2:
        raise checks.WrongShape("posterior", "the network has C = 1 output. A binary problem has two classes: give the last layer 2 outputs.")
    return checks.labels(labels, classes, count)


class Parts(NamedTuple):
    """What a learner is built of: static, hashed by identity, so that learners of the same parts share compiled programs."""

    posterior: Posterior
    strategy: Strategy | None
    retune: retuning.Retuner | None
    calibrate: calibration.Calibrator | None
    size: int
    capacity: int
    draws: int
    num_folds: int
    update: str
    audits: int

    def asking(self) -> "Parts":
        """What `ask` depends on."""
        return self._replace(retune=None, calibrate=None, num_folds=0, update="fresh")

    def telling(self) -> "Parts":
        """What `tell` depends on: not the strategy, and the size only where labels are added so many at a time."""
        return self._replace(strategy=None, size=self.size if self.update == "online" else 0, audits=min(self.audits, 1))


def _round_key(state: LearnerState, purpose: int) -> Key:
    return jax.random.fold_in(jax.random.fold_in(state.key, state.round), purpose)


def _first_state(key, x, hparams, parts):
    labels = jnp.zeros(parts.capacity, jnp.float32 if parts.posterior.real else jnp.int32)
    ledger = Ledger(jnp.zeros(parts.capacity, jnp.int32), labels, jnp.int32(0))
    state = LearnerState(key, jnp.int32(0), ledger, None, hparams, jnp.float32(1.0), None)
    try:
        state = state._replace(posterior=_initialize(_round_key(state, 0), x[:1], parts.posterior))
        report = jax.eval_shape(lambda s, x: _refit(s, x, s.ledger.count, parts.telling()).report, state, x)
    except checks.BayesalError:
        raise
    except jax.errors.TracerBoolConversionError as error:
        raise checks.WrongType(
            "posterior", "the network asks `if` of a traced number, most likely a stock Dropout layer of its `rate` argument. For a rate that "
            "the retuner may change use bayesal.networks.dropout(x, rngs, rate).") from error
    except (TypeError, ValueError) as error:
        raise checks.WrongShape(
            "posterior", f"the network cannot take one example of this pool, of shape {x.shape[1:]} and type {x.dtype}: {error}. Reshape the "
            "pool, or build the network for that shape.") from error
    checks.parameters(state.posterior)
    blank = jax.tree.map(lambda a: jnp.full(a.shape, jnp.nan if jnp.issubdtype(a.dtype, jnp.floating) else -1, a.dtype), report)
    unfitted = calibration.unfitted(report.calibration.temperature)
    return state._replace(temperature=unfitted.temperature, report=blank._replace(calibration=unfitted))


@functools.partial(jax.jit, static_argnames="posterior")
def _initialize(key, x, posterior):
    # a strong type for every parameter: weakly typed ones would compile each verb once more
    return jax.tree.map(lambda a: jax.lax.convert_element_type(a, jnp.result_type(a)), posterior.init(key, x[0]))


@functools.partial(jax.jit, static_argnames="parts")
def _predict(state: LearnerState, x: Array, parts: Parts) -> Prediction:
    return predictive(parts.posterior, state, parts.draws)(x)


@functools.partial(jax.jit, static_argnames="parts")
def _choose(state: LearnerState, x: Array, parts: Parts) -> Selection:
    bound = predictive(parts.posterior, state, parts.draws)
    free, size = state.ledger.available(x.shape[0]), min(parts.size, x.shape[0])
    if not parts.audits:
        return parts.strategy(_round_key(state, 2), bound, x, free, size)
    drawn = audits.draw(audits.lots(state.key, x.shape[0]), free, parts.audits)
    others = free.at[drawn].set(False, mode="drop", wrap_negative_indices=False)
    return audits.before(drawn, parts.strategy(_round_key(state, 2), bound, x, others, max(size - parts.audits, 1)))


@functools.partial(jax.jit, static_argnames="parts")
def _refit(state: LearnerState, x: Array, known: Int[Array, ""], parts: Parts) -> LearnerState:
    """Retune and calibrate on out-of-fold predictions, and fit on all labels, or add those from the `known`-th on."""
    posterior = parts.posterior
    keys = jax.random.split(_round_key(state, 3), 6)
    labeled = Labeled(x[state.ledger.indices], state.ledger.labels, state.ledger.count)
    split = folds.split(keys[0], labeled, parts.num_folds)

    def trial(candidate):
        return folds.cross_fit(keys[1], posterior, labeled, candidate, split, posterior.members or min(parts.draws, TRIAL_DRAWS))

    hparams, tuning = parts.retune(keys[2], trial, state.hparams)
    fitted = calibration.unfitted()
    if parts.calibrate is not None:
        states = (trial(hparams) if tuning.trial is None else tuning.trial).states
        predicted, valid = folds.out_of_fold(keys[3], posterior, labeled, states, split, parts.draws, jnp.float32(1.0))
        fitted = calibration.corrected(parts.calibrate, predicted, labeled.y, valid, audited(state, x)) if parts.audits else parts.calibrate(predicted, labeled.y, valid)
    start = lambda: updates.begin(parts.update, posterior, state.posterior, posterior.init(keys[4], x[0]), state.round)
    fit = lambda: posterior.fit(keys[5], start(), labeled, hparams)
    if parts.update == "online":
        take = lambda at: (x[state.ledger.indices[at]], state.ledger.labels[at])
        add = lambda: updates.add(posterior, state.posterior, take, known, state.ledger.count, parts.size)
        new, info = jax.lax.cond(state.round > 0, add, fit)
    else:
        new, info = fit()
    report = Report(info, tuning.candidates, tuning.losses, tuning.chosen, fitted)
    return LearnerState(state.key, state.round + 1, state.ledger, new, hparams, fitted.temperature, report)


def grow(state: LearnerState, capacity: int) -> LearnerState:
    """The same state with room for `capacity` labels, for a learner built with that capacity.

    Raises:
      WrongSize: less room than there is.
    """
    more = checks.at_least(state.ledger.indices.shape[0], capacity, "capacity") - state.ledger.indices.shape[0]
    padded = [jnp.pad(rows, (0, more)) for rows in (state.ledger.indices, state.ledger.labels)]
    return state._replace(ledger=Ledger(*padded, state.ledger.count))


def _draws(posterior: Posterior, num_draws: int | None) -> int:
    if num_draws is None:
        return posterior.members or 50
    if isinstance(num_draws, bool) or not isinstance(num_draws, int | np.integer) or num_draws < 1:
        raise checks.WrongSize("num_draws", f"`num_draws` must be a positive int, got {num_draws!r}.")
    if posterior.members not in (None, num_draws):
        raise checks.WrongSize(
            "num_draws", f"`num_draws` = {num_draws}, but this posterior has exactly {posterior.members} members: pass num_draws={posterior.members}, "
            f"or build it with members={num_draws}.")
    return int(num_draws)


def _labeled_rows(state: LearnerState) -> np.ndarray:
    return np.asarray(state.ledger.indices)[: int(state.ledger.count)]


def _fingerprint(state: LearnerState) -> bytes:
    """The small things that tell two states apart: key, round, ledger, hyperparameters, temperature."""
    small = (jax.random.key_data(state.key), state.round, state.ledger, state.hparams, state.temperature)
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(small))


def _edge(selection: Selection, state: LearnerState, room: int) -> Selection:
    """A selection as people get it: short at the end of the pool or of the capacity, warned about where it should be."""
    round = int(state.round)
    fresh = "" if int(state.ledger.count) else " Here no label has been told yet: `tell` the first ones (any points), or ask with acquire.uniform()."
    checks.not_constant(selection, fresh)
    kept = min(room, int(np.sum(np.asarray(selection.indices) >= 0)))
    broken = 0 if selection.nonfinite is None else int(selection.nonfinite)
    if kept == 0:
        raise checks.NonFinite("x", f"round {round}: no point can be picked; {broken} available points have NaN or +inf scores. The usual cause is NaN in the pool.")
    if broken:
        warnings.warn(f"round {round}: {broken} available points have NaN or +inf scores and were not considered.", stacklevel=3)
    cut = lambda a: None if a is None else a[:kept]
    selection = selection._replace(
        indices=selection.indices[:kept], scores=selection.scores[:kept], joint=cut(selection.joint), saturated=cut(selection.saturated), audit=cut(selection.audit))
    if note := selection.note():
        warnings.warn(f"round {round}: {note}", stacklevel=3)
    return selection


def _trained(new: LearnerState, x: ArrayLike, update: str) -> None:
    failed, round = np.asarray(new.report.fit.failed_at).ravel(), int(new.round) - 1
    if (failed >= 0).any():
        rows = _labeled_rows(new)
        values = np.asarray(x)[rows].reshape(len(rows), -1)
        bad = rows[~np.isfinite(values.astype(np.float32)).all(axis=1)]
        if len(bad):
            raise checks.NonFinite("x", f"round {round}: labeled rows {checks.listed(bad)} of the pool hold NaN or inf, so no net can be fitted. Clean the pool, or leave these rows out.", bad)
        if update == "online":
            raise checks.TrainingFailed(
                "update", f"round {round}: adding these labels gave numbers that are not finite; look for extreme labels or features, or begin anew with "
                "update='fresh'. The state that was passed in is unchanged.")
        raise checks.TrainingFailed(
            "hparams", f"round {round}: the loss became non-finite at step {failed[failed >= 0].min()}; lower `learning_rate`, look for NaN in the "
            "pool, or let the retuner choose. The state that was passed in is unchanged.")
