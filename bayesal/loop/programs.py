"""What a learner remembers from round to round, and the programs of a round: each is compiled once,
over all rounds.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bayesal import _checks, errors
from bayesal import calibrate as calibration
from bayesal import retune as retuning
from bayesal.calibrate._search import unfitted
from bayesal.loop import audit, folds, updates
from bayesal.predictive.bound import Predictive
from bayesal.retune._racing import Tuning
from bayesal.types import (
    ArrayLike,
    FitInfo,
    HParams,
    Key,
    Labeled,
    Posterior,
    Prediction,
    PyTree,
    Scaling,
    Selection,
    Strategy,
)

TRIAL_DRAWS = 20  # draws a retuner's candidates are judged with, at most
LOG_TEMPERATURES = tuple(
    0.2 * step for step in range(-5, 10)
)  # 0.37 to 6.05: where candidates are judged that will be tempered
# of log T, where candidates are judged (wider than the calibrator's own while labels are few);
# twice that for variances
PRIOR_STD = 0.5


class Ledger(NamedTuple):
    """The labeled set, in order of acquisition: rows of the pool and their labels; entries `>=
    count` are padding.
    """

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
    """What the last `tell` did: the final fit, what the retuner tried (all rounds:
    `LearnerState.search`), and the temperature with its NLLs.
    """

    fit: FitInfo
    candidates: HParams
    candidate_losses: Float[Array, " P"]
    chosen: Int[Array, ""]
    calibration: calibration.Temperature


class LearnerState(NamedTuple):
    """Everything the loop knows, as one pytree: save it, restore it, ask again, and the picks are
    the same.

    search: what the retuner remembers: a `retune.History`, which `retune.table` lays out.
    """

    key: Key
    round: Int[Array, ""]
    ledger: Ledger
    posterior: PyTree
    hparams: HParams
    temperature: Float[Array, ""] | Scaling
    search: PyTree
    report: Report | None


def predictive_of(
    posterior: Posterior, state: LearnerState, num_draws: int | None = None
) -> Predictive:
    """The state's predictive: `num_draws` draws (default: the ensemble's members, or 50), tempered;
    with the learner's own `num_draws` they are the ones that `ask` uses.

    >>> # log_probs = bayesal.predictive_of(posterior, state, 100).mean(x_test)   # [n, C]
    """
    draws = posterior.draw(
        round_key(state, 1), state.posterior, number_of_draws(posterior, num_draws)
    )
    return Predictive(posterior, state.posterior, draws, state.temperature)


def out_of_fold(
    posterior: Posterior,
    state: LearnerState,
    x: ArrayLike,
    *,
    num_folds: int = 5,
    num_draws: int | None = None,
    groups: ArrayLike | None = None,
) -> tuple[Prediction, Array, Bool[Array, " M"]]:
    """What fits that never saw it say of every label: `(prediction [K, M, ...], labels [M], valid
    [M])`, as a calibrator takes them.

    `num_folds` fresh fits with the state's hyperparameters, each on all labels but those of its
    fold, at T = 1; rows are the ledger's, and where not valid padding (`prediction[:, valid]`,
    `labels[valid]`). Hyperparameters that were searched have seen all labels, and labels that were
    chosen are no fair sample of the pool: for what has to hold there (conformal limits) keep some
    apart.

    Args:
      posterior: the learner's.
      x: the pool.
      num_draws: default the ensemble's members, or 50.
      groups: as of the learner; default every row is one by itself.
    Raises:
      WrongSize: fewer labels, or groups, than folds; not the pool that the labels are of.
        WrongType: no posterior. TrainingFailed: of a fold.

    >>> # fitted = calibrate.temperature()(*bayesal.out_of_fold(posterior, state, pool))
    """
    _checks.a(Posterior, posterior, "posterior", "posteriors.mc_dropout(network)")
    _checks.pool(x)
    num_folds, count = _checks.at_least(2, num_folds, "num_folds"), int(state.ledger.count)
    rows = np.asarray(state.ledger.indices)[:count]
    _checks.same_pool(rows, x.shape[0])
    if count < num_folds:
        raise errors.WrongSize(
            "num_folds",
            f"`num_folds` = {num_folds} folds need a label each, and there are {count}.",
        )
    groups = None if groups is None else _checks.groups(groups)
    _checks.groups_of(groups, x.shape[0])
    _checks.enough_groups(groups, rows, num_folds)
    draws = number_of_draws(posterior, num_draws)
    prediction, valid, info = _out_of_fold(
        state._replace(report=None, search=None),
        jnp.asarray(x),
        groups,
        posterior,
        num_folds,
        draws,
    )
    if (failed := np.asarray(info.failed_at).reshape(num_folds, -1).max(axis=1) >= 0).any():
        raise errors.TrainingFailed(
            "state",
            f"{failed.sum()} of {num_folds} fits had a non-finite loss: lower "
            "`state.hparams.learning_rate`, or look for NaN in the pool.",
        )
    return prediction, state.ledger.labels, valid


@functools.partial(jax.jit, static_argnames=("posterior", "num_folds", "draws"))
def _out_of_fold(state, x, groups, posterior, num_folds, draws):
    deal, key = jax.random.split(round_key(state, 5))
    rows, keys = state.ledger.indices, folds.keys(key, num_folds)
    labeled = Labeled(x[rows], state.ledger.labels, state.ledger.count)
    split = folds.split(deal, labeled, num_folds, None if groups is None else groups[rows])
    apart = lambda tree: jax.tree.map(lambda leaf: leaf[:-1], tree)
    states, info = folds.fits(
        apart(keys),
        posterior,
        labeled,
        state.hparams,
        apart(split),
        folds.beginnings(apart(keys), posterior, x[0]),
    )
    return *folds.out_of_fold(
        keys, posterior, labeled, states, split, draws, jnp.float32(1.0)
    ), info


def audit_mask(state: LearnerState, x: ArrayLike) -> Bool[Array, " M"]:
    """Which entries of the ledger are the audit: labels of a uniform random sample of the whole
    pool, chosen for no other reason.

    The pool `x` is put in a random order that depends on the state's first key alone, and `ask`
    takes its audit from the front of what has no label. The audit is that order's front up to the
    first row without a label: who labels a row for another reason does not know the order, so the
    rows there are a fair sample of the pool, those that were chosen actively too.
    """
    rows = x.shape[0]
    fair = audit.fair(
        audit.lots(state.key, rows), state.ledger.available(rows), state.ledger.indices
    )
    return fair & (jnp.arange(fair.shape[0]) < state.ledger.count)


class Parts(NamedTuple):
    """What a learner is built of: static, hashed by identity, so that learners of the same parts
    share compiled programs.
    """

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
        """What `refit` depends on: not the strategy, the size only where labels are added so many
        at a time, and no retuner that has run before.
        """
        retune = self.retune if self.retune.seconds is None else KEEP
        return self._replace(
            strategy=None,
            size=self.size if self.update == "online" else 0,
            audits=min(self.audits, 1),
            retune=retune,
        )

    def searching(self) -> "Parts":
        """What `search` depends on."""
        return self._replace(strategy=None, size=0, audits=0, update="fresh")


KEEP = retuning.fixed()


def round_key(state: LearnerState, purpose: int) -> Key:
    """A key for one purpose in one round."""
    return jax.random.fold_in(jax.random.fold_in(state.key, state.round), purpose)


def first_state(
    key: Key, x: Array, hparams: HParams, groups: Array | None, parts: Parts
) -> LearnerState:
    """The state before the first labels, or an error if the network cannot take the pool."""
    labels = jnp.zeros(parts.capacity, jnp.float32 if parts.posterior.real else jnp.int32)
    ledger = Ledger(jnp.zeros(parts.capacity, jnp.int32), labels, jnp.int32(0))
    state = LearnerState(
        key, jnp.int32(0), ledger, None, hparams, jnp.float32(1.0), parts.retune.init(hparams), None
    )
    try:
        state = state._replace(posterior=_initialize(round_key(state, 0), x[:1], parts.posterior))
        report = jax.eval_shape(
            lambda s, x: refit(s, x, s.ledger.count, groups, parts.telling()).report, state, x
        )
    except errors.BayesalError:
        raise
    except jax.errors.TracerBoolConversionError as error:
        raise errors.WrongType(
            "posterior",
            "the network asks `if` of a traced number, most likely a stock Dropout layer of "
            "its `rate` argument. For a rate that "
            "the retuner may change use bayesal.networks.dropout(x, rngs, rate).",
        ) from error
    except (TypeError, ValueError) as error:
        raise errors.WrongShape(
            "posterior",
            f"the network cannot take one example of this pool, of shape {x.shape[1:]} and "
            f"type {x.dtype}: {error}. Reshape the "
            "pool, or build the network for that shape.",
        ) from error
    _checks.parameters(state.posterior)
    blank = jax.tree.map(
        lambda a: jnp.full(
            a.shape, jnp.nan if jnp.issubdtype(a.dtype, jnp.floating) else -1, a.dtype
        ),
        report,
    )
    blank_fit = unfitted(report.calibration.temperature)
    return state._replace(
        temperature=blank_fit.temperature, report=blank._replace(calibration=blank_fit)
    )


@functools.partial(jax.jit, static_argnames="posterior")
def _initialize(key, x, posterior):
    # a strong type for every parameter: weakly typed ones would compile each verb once more
    return jax.tree.map(
        lambda a: jax.lax.convert_element_type(a, jnp.result_type(a)), posterior.init(key, x[0])
    )


@functools.partial(jax.jit, static_argnames="parts")
def predict(state: LearnerState, x: Array, parts: Parts) -> Prediction:
    """What every draw says of some points."""
    return predictive_of(parts.posterior, state, parts.draws)(x)


@functools.partial(jax.jit, static_argnames="parts")
def choose(state: LearnerState, x: Array, parts: Parts) -> Selection:
    """The strategy's batch, with an audit before it if there is one."""
    bound = predictive_of(parts.posterior, state, parts.draws)
    free, size = state.ledger.available(x.shape[0]), min(parts.size, x.shape[0])
    if not parts.audits:
        return parts.strategy(round_key(state, 2), bound, x, free, size)
    drawn = audit.draw(audit.lots(state.key, x.shape[0]), free, parts.audits)
    others = free.at[drawn].set(False, mode="drop", wrap_negative_indices=False)
    return audit.before(
        drawn, parts.strategy(round_key(state, 2), bound, x, others, max(size - parts.audits, 1))
    )


class Round(NamedTuple):
    """A round's labels in folds, which of them are copies, where the fit on all of them begins
    given a new initialization, and keys: of fits, of proposals.
    """

    labeled: Labeled
    split: folds.Folds
    groups: Array | None
    begin: Callable[[PyTree], PyTree] | None
    keys: folds.Keys
    proposals: Key


def _round(state: LearnerState, x: Array, groups: Array | None, key: Key, parts: Parts) -> Round:
    deal, fits, proposals = jax.random.split(key, 3)
    rows = state.ledger.indices
    labeled = Labeled(x[rows], state.ledger.labels, state.ledger.count)
    groups = None if groups is None else groups[rows]
    split = folds.split(deal, labeled, parts.num_folds, groups)
    begin = (
        functools.partial(updates.begin, parts.posterior, state.posterior, round=state.round)
        if parts.update == "warm"
        else None
    )
    return Round(labeled, split, groups, begin, folds.keys(fits, parts.num_folds), proposals)


def _search(
    state: LearnerState, x: Array, now: Round, final: bool, parts: Parts
) -> tuple[HParams, Tuning, PyTree]:
    draws = parts.posterior.members or min(parts.draws, TRIAL_DRAWS)
    wide = (
        2.0 if parts.posterior.real else 1.0
    )  # variances are tempered, and a temperature of them is that of deviations squared
    log_t = wide * jnp.asarray(
        LOG_TEMPERATURES if parts.retune.tempered and parts.calibrate is not None else (0.0,),
        jnp.float32,
    )
    starts = folds.beginnings(now.keys, parts.posterior, x[0], now.begin)
    task = folds.task(
        now.keys,
        parts.posterior,
        now.labeled,
        now.split,
        draws,
        starts,
        log_t,
        wide * PRIOR_STD,
        now.groups,
        final,
        final and parts.calibrate is not None,
    )
    return parts.retune.run(now.proposals, task, state.hparams, state.search, state.round)


@functools.partial(jax.jit, static_argnames="parts")
def search(
    state: LearnerState, x: Array, groups: Array | None, run: Int[Array, ""], parts: Parts
) -> LearnerState:
    """One run of the retuner, on folds of its own: the state with the hyperparameters kept, and
    what the retuner remembers.
    """
    now = _round(state, x, groups, jax.random.fold_in(round_key(state, 4), run), parts)
    hparams, _, memory = _search(state, x, now, False, parts)
    return state._replace(hparams=hparams, search=memory)


@functools.partial(jax.jit, static_argnames="parts")
def refit(
    state: LearnerState, x: Array, known: Int[Array, ""], groups: Array | None, parts: Parts
) -> LearnerState:
    """Retune and calibrate on out-of-fold predictions, and fit on all labels, or add those from the
    `known`-th on.
    """
    posterior, now = parts.posterior, _round(state, x, groups, round_key(state, 3), parts)
    hparams, tuning, memory = _search(state, x, now, True, parts)
    states, last, calibrated = tuning.states, tuning.final, unfitted()
    if parts.calibrate is not None:
        if states is None:
            starts = folds.beginnings(now.keys, posterior, x[0], now.begin)
            states, last = folds.cross_fit(
                now.keys, posterior, now.labeled, hparams, now.split, starts
            )
        predicted, valid = folds.out_of_fold(
            now.keys, posterior, now.labeled, states, now.split, parts.draws, jnp.float32(1.0)
        )
        fair = [audit_mask(state, x)] if parts.audits else []
        calibrated = (
            functools.partial(calibration.corrected, parts.calibrate) if fair else parts.calibrate
        )(predicted, now.labeled.y, valid, *fair)
    new, info = _fit(state, x, now, known, hparams, parts) if last is None else last
    report = Report(info, tuning.candidates, tuning.losses, tuning.chosen, calibrated)
    return LearnerState(
        state.key,
        state.round + 1,
        state.ledger,
        new,
        hparams,
        calibrated.temperature,
        memory,
        report,
    )


def _fit(
    state: LearnerState, x: Array, now: Round, known: Int[Array, ""], hparams: HParams, parts: Parts
) -> tuple[PyTree, FitInfo]:
    """The fit of a round in which nothing was held out."""
    begin, fitted = (
        now.keys.begin[-1],
        now.keys.fit[-1],
    )  # the same fit as where a temperature is fitted too
    start = (now.begin or (lambda fresh: fresh))(parts.posterior.init(begin, x[0]))
    fit = lambda: parts.posterior.fit(fitted, start, now.labeled, hparams)
    if parts.update != "online":
        return fit()
    take = lambda at: (x[state.ledger.indices[at]], state.ledger.labels[at])
    add = lambda: updates.add(
        parts.posterior, state.posterior, take, known, state.ledger.count, parts.size
    )
    return jax.lax.cond(state.round > 0, add, fit)


def grow(state: LearnerState, capacity: int) -> LearnerState:
    """The same state with room for `capacity` labels, for a learner built with that capacity.

    Raises:
      WrongSize: less room than there is.
    """
    more = (
        _checks.at_least(state.ledger.indices.shape[0], capacity, "capacity")
        - state.ledger.indices.shape[0]
    )
    padded = [jnp.pad(rows, (0, more)) for rows in (state.ledger.indices, state.ledger.labels)]
    return state._replace(ledger=Ledger(*padded, state.ledger.count))


def number_of_draws(posterior: Posterior, num_draws: int | None) -> int:
    """How many draws a posterior gives, asked for so many."""
    if num_draws is None:
        return posterior.members or 50
    if isinstance(num_draws, bool) or not isinstance(num_draws, int | np.integer) or num_draws < 1:
        raise errors.WrongSize(
            "num_draws", f"`num_draws` must be a positive int, got {num_draws!r}."
        )
    if posterior.members not in (None, num_draws):
        raise errors.WrongSize(
            "num_draws",
            f"`num_draws` = {num_draws}, but this posterior has exactly {posterior.members} "
            f"members: pass num_draws={posterior.members}, "
            f"or build it with members={num_draws}.",
        )
    return int(num_draws)
