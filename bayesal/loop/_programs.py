"""The programs of a round: each is compiled once over all rounds of one capacity."""

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from bayesal import _compiling, likelihoods
from bayesal import calibrate as calibration
from bayesal import retune as retuning
from bayesal._choose import apply_strategy, pick_unchecked
from bayesal.calibrate._search import unfitted
from bayesal.loop import _audit as audit
from bayesal.loop import _folds as folds
from bayesal.loop import _updates as updates
from bayesal.loop._gathered import Gathered
from bayesal.loop._state import LearnerState, Report, predictive_of, round_key
from bayesal.pools._walk import in_memory
from bayesal.predictive import Predictive
from bayesal.retune._racing import Tuning
from bayesal.retune._retuners import fixed
from bayesal.types import (
    Array,
    ArrayLike,
    FitInfo,
    HParams,
    Key,
    Pool,
    Posterior,
    Prediction,
    PyTree,
    Selection,
    Strategy,
)

TRIAL_DRAWS = 20  # draws a retuner's candidates are judged with, at most
# log T at which candidates are judged that will be tempered: T from 0.37 to 6.05
LOG_TEMPERATURES = tuple(0.2 * step for step in range(-5, 10))
# of log T, where candidates are judged (wider than the calibrator's own while labels are few);
# twice that for variances
PRIOR_STD = 0.5

KEEP = fixed()


class Parts(NamedTuple):
    """What a learner is built of: static, hashed by identity, so that learners of the same parts
    share compiled programs.
    """

    posterior: Posterior
    strategy: Strategy | None
    retune: retuning.Retuner
    calibrate: Callable[..., calibration.Temperature] | None
    size: int
    draws: int
    num_folds: int
    update: str
    audits: int

    def asking(self) -> "Parts":
        """What `ask` depends on."""
        return self._replace(retune=KEEP, calibrate=None, num_folds=0, update="fresh")

    def telling(self) -> "Parts":
        """What `refit` depends on: not the strategy, the size only where labels are added so many
        at a time, and no retuner that has run before.
        """
        return self._replace(
            strategy=None,
            size=self.size if self.update == "online" else 0,
            audits=min(self.audits, 1),
            retune=self.retune if self.retune.seconds is None else KEEP,
        )

    def searching(self) -> "Parts":
        """What `search` depends on."""
        return self._replace(strategy=None, size=0, audits=0, update="fresh")

    @property
    def holds_out(self) -> bool:
        """Whether labels are held out, so that every fold needs one."""
        return self.calibrate is not None or self.retune.searches


@functools.partial(jax.jit, static_argnames="parts")
def predict(state: LearnerState, x: Array, parts: Parts) -> Prediction:
    """Predictions of every draw for some points."""
    return predictive_of(parts.posterior, state, parts.draws)(x)


@functools.partial(jax.jit, static_argnames="parts")
def bind(state: LearnerState, parts: Parts) -> Predictive:
    """The draws that `ask` uses."""
    return predictive_of(parts.posterior, state, parts.draws)


def choose(
    state: LearnerState, pool: Pool, parts: Parts, excluded: Bool[np.ndarray, " N"]
) -> Selection:
    """The strategy's batch of rows not excluded, with an audit before it if there is one.

    A pool that is one array is asked by one compiled program, any other on the host.
    """
    if pool.x is not None:
        program = _asked_of(state, pool.x, parts)
        with _compiling.said("compiling the choice (some seconds, once)", "choosing", *program):
            _compiling.awaited(*program)
            return jax.block_until_ready(choose_in(state, pool.x, parts, excluded))
    return _batch(state, bind(state, parts), pool, parts, jnp.asarray(excluded), pick_unchecked)


def prepare(state: LearnerState, pool: Pool, parts: Parts) -> None:
    """Compile `choose` for a pool that is one array, beside what runs now."""
    if pool.x is None or parts.strategy is None:
        return
    x, excluded = pool.x, np.zeros(pool.x.shape[0], bool)
    lower = lambda: choose_in.lower(state, x, parts, excluded)
    _compiling.ahead(lower, *_asked_of(state, x, parts))


def _asked_of(state: LearnerState, x: ArrayLike, parts: Parts) -> tuple[Hashable, ...]:
    return "choose", parts, _compiling.signature(state, x)


@functools.partial(jax.jit, static_argnames="parts")
def choose_in(
    state: LearnerState, x: Array, parts: Parts, excluded: Bool[Array, " N"]
) -> Selection:
    """`choose` for a pool that is one array, as one program."""
    bound = predictive_of(parts.posterior, state, parts.draws)
    return _batch(state, bound, in_memory(x), parts, excluded, apply_strategy)


def _batch(
    state: LearnerState,
    bound: Predictive,
    pool: Pool,
    parts: Parts,
    excluded: Bool[Array, " N"],
    pick: Callable[..., tuple[Selection, Any]],
) -> Selection:
    assert parts.strategy is not None and pool.rows is not None
    key, free = round_key(state, 2), state.ledger.available(pool.rows) & ~excluded
    size = min(parts.size, pool.rows)
    if not parts.audits:
        return pick(key, bound, pool, free, size, parts.strategy)[0]
    drawn = audit.draw(audit.lots(state.key, pool.rows), free, parts.audits)
    others = free.at[drawn].set(False, mode="drop", wrap_negative_indices=False)
    rest = pick(key, bound, pool, others, max(size - parts.audits, 1), parts.strategy)[0]
    return audit.before(drawn, rest)


class Round(NamedTuple):
    """What a round's fits have in common.

    split: the labels in folds.
    begin: where the fit on all labels begins, given a new initialization; None: there.
    keys: of the fits.
    proposals: key of the retuner's proposals.
    """

    split: folds.Folds
    begin: Callable[[PyTree], PyTree] | None
    keys: folds.Keys
    proposals: Key


def _round(state: LearnerState, taken: Gathered, key: Key, parts: Parts) -> Round:
    deal, fits, proposals = jax.random.split(key, 3)
    strata = likelihoods.labels_of(parts.posterior).strata
    assert strata is not None  # `labels_of` gave it one
    begin = None
    if parts.update == "warm":
        begin = functools.partial(
            updates.begin, parts.posterior, state.posterior, round=state.round
        )
    return Round(
        split=folds.split(
            deal, taken.labeled, parts.num_folds, taken.groups, strata(taken.labeled.y)
        ),
        begin=begin,
        keys=folds.keys(fits, parts.num_folds),
        proposals=proposals,
    )


def _search(
    state: LearnerState, taken: Gathered, now: Round, final: bool, parts: Parts
) -> tuple[HParams, Tuning, PyTree]:
    """One run of the retuner; `final`: with the fit on all labels, and states for a calibrator."""
    # variances are tempered where labels are real, and T of a variance is T squared of a deviation
    wide = 2.0 if parts.posterior.real else 1.0
    tempered = parts.retune.tempered and parts.calibrate is not None
    task = folds.task(
        now.keys,
        parts.posterior,
        taken.labeled,
        now.split,
        num_draws=parts.posterior.members or min(parts.draws, TRIAL_DRAWS),
        starts=folds.beginnings(now.keys, parts.posterior, taken.labeled.x[0], now.begin),
        log_temperatures=wide * jnp.asarray(LOG_TEMPERATURES if tempered else (0.0,), jnp.float32),
        prior_std=wide * PRIOR_STD,
        groups=taken.groups,
        final=final,
        kept=final and parts.calibrate is not None,
    )
    return parts.retune.run(now.proposals, task, state.hparams, state.search, state.round)


@functools.partial(jax.jit, static_argnames="parts")
def search(state: LearnerState, taken: Gathered, run: Int[Array, ""], parts: Parts) -> LearnerState:
    """One run of the retuner, on folds of its own: the state with the hyperparameters kept, and
    what the retuner remembers.
    """
    now = _round(state, taken, jax.random.fold_in(round_key(state, 4), run), parts)
    hparams, _, memory = _search(state, taken, now, False, parts)
    return state._replace(hparams=hparams, search=memory)


@functools.partial(jax.jit, static_argnames="parts")
def refit(state: LearnerState, taken: Gathered, parts: Parts) -> LearnerState:
    """Retune and calibrate on out-of-fold predictions, and fit on all labels, or add those that the
    last fit did not know.

    All fits of a round are one compiled program: that on all labels is fold number F, which leaves
    nothing out. So whichever step needs that fit first makes it: the retuner's race for its winner,
    else the cross-fit of the calibrator, else `_fit`.
    """
    now = _round(state, taken, round_key(state, 3), parts)
    hparams, tuning, memory = _search(state, taken, now, True, parts)
    states, last = tuning.states, tuning.final
    calibrated = unfitted()
    if parts.calibrate is not None:
        if states is None:  # nothing was searched: the folds are still to be fitted
            starts = folds.beginnings(now.keys, parts.posterior, taken.labeled.x[0], now.begin)
            states, last = folds.cross_fit(
                now.keys, parts.posterior, taken.labeled, hparams, now.split, starts
            )
        calibrated = _calibrated(state, taken, now, states, parts)
    if last is None:
        last = _fit(state, taken, now, hparams, parts)
    fitted, info = last
    return LearnerState(
        key=state.key,
        round=state.round + 1,
        ledger=state.ledger,
        posterior=fitted,
        hparams=hparams,
        temperature=calibrated.temperature,
        search=memory,
        kind=state.kind,
        report=Report(
            fit=info,
            candidates=tuning.candidates,
            candidate_losses=tuning.losses,
            chosen=tuning.chosen,
            calibration=calibrated,
        ),
    )


def _calibrated(
    state: LearnerState, taken: Gathered, now: Round, states: PyTree, parts: Parts
) -> calibration.Temperature:
    """The temperature of out-of-fold predictions; rows that are padding have weight 0."""
    labeled = taken.labeled
    predicted, valid = folds.out_of_fold(
        now.keys, parts.posterior, labeled, states, now.split, parts.draws, jnp.float32(1.0)
    )
    y = labeled.y
    if likelihoods.is_soft(predicted, y):
        # calibrators take classes: one drawn of each distribution has its loss on average
        y = jax.random.categorical(round_key(state, 6), jnp.log(y)).astype(jnp.int32)
    assert parts.calibrate is not None and labeled.weight is not None
    counted = jnp.where(valid, labeled.weight, 0.0)
    if taken.fair is None:
        return parts.calibrate(predicted, y, counted)
    fair = jnp.where(taken.fair, labeled.weight, 0.0)
    return calibration.corrected(parts.calibrate, predicted, y, counted, fair)


def _fit(
    state: LearnerState, taken: Gathered, now: Round, hparams: HParams, parts: Parts
) -> tuple[PyTree, FitInfo]:
    """The fit of a round in which nothing was held out."""
    # the keys of fold F: the same fit as where a temperature is fitted too
    fresh = parts.posterior.init(now.keys.begin[-1], taken.labeled.x[0])
    start = fresh if now.begin is None else now.begin(fresh)
    fit = lambda: parts.posterior.fit(now.keys.fit[-1], start, taken.labeled, hparams)
    if parts.update != "online":
        return fit()
    add = lambda: updates.add(
        parts.posterior, state.posterior, taken.labeled, taken.known, parts.size
    )
    # one label has no scale, which later ones would keep
    return jax.lax.cond(taken.known > 1, add, fit)
