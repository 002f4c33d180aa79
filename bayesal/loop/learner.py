"""The loop: `init`, `ask`, `tell` over a `LearnerState`. Pure functions; what may fail on values is
checked at the edge.
"""

import inspect
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter as clock
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal import calibrate as calibration
from bayesal import retune as retuning
from bayesal.loop import audit as audits
from bayesal.loop import programs, updates
from bayesal.loop.programs import LearnerState, Parts
from bayesal.types import ArrayLike, HParams, Key, Posterior, Selection, Strategy

REMEMBERED = 16  # answers of `ask` that `tell` can look up instead of asking again


class Learner(NamedTuple):
    """The three verbs.

    init: `(key, x) -> LearnerState`; `x [N, ...]` is the pool, looked at for its shape only.
    ask:  `(state, x) -> Selection`; pure: twice is the same. At the end of the pool, or of the
      capacity, it gives what is left.
    tell: `(state, x, indices, labels, unasked=False) -> LearnerState`; the first labels may be of
          any points, later ones of points that `ask` gave, or of any with `unasked=True`.
    """

    init: Callable[[Key, ArrayLike], LearnerState]
    ask: Callable[[LearnerState, ArrayLike], Selection]
    tell: Callable[..., LearnerState]


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
    num_folds: int = 5,
    update: str = "fresh",
    audit: float = 0.0,
    groups: ArrayLike | None = None,
) -> Learner:
    """An active learner: which points to label next, and a model of what is known so far.

    Each `tell` retunes on out-of-fold predictions, fits afresh with the hyperparameters kept, and
    fits the temperature on the same out-of-fold predictions, all in one program that is compiled
    once; so is `ask`.

    Args:
      posterior: one of `bayesal.posteriors`, built once (rebuilding it compiles again).
      strategy: one of `bayesal.acquire`.
      size: points per `ask`.
      capacity: the most labels there will be; choose it generously (memory, not time), or `grow`
        later.
      num_draws: draws per prediction; default 50, or the members of an ensemble.
      retune: default `retune.fixed()`.
      calibrate: for example `calibrate.temperature()`, and `calibrate.variance()` for real labels;
        None leaves T = 1.
      hparams: where to start; default `HParams()`.
      num_folds: folds of the labeled set for retuning and calibration; at least 2. Fits that miss
        fewer labels are more like the one that is used: for a temperature on chosen labels five
        serve better than three, and ten better still (`experiments/cross_fit.py`), at their price
        in fits.
      update: where each round's fit begins: "fresh", at a new initialization; "warm", halfway
        between that and the last round's fit (see `training.shrink_and_perturb`), so that fewer
        `steps` will do. Candidates of the retuner are always fitted fresh. "online": only the first
        labels are fitted; later ones are added to what is known (`Posterior.online`), at a cost
        that does not grow with the labels. Learners that differ only in `update` take each other's
        states: add every round, and fit afresh now and then.
      audit: share of every batch, to the nearest whole number and one point at least, that is drawn
        at random instead of by the strategy: the only fair sample of the pool (see `audited`), on
        which the temperature of all labels is corrected (see `calibrate.corrected`).
      groups: `[N]` whole numbers, a row of the pool each: rows of one number are copies of one
        another (augmentations, frames of one film, images of one patient), and never stand on both
        sides of a fold.
    Raises:
      WrongSize: sizes that cannot be. UnknownName: no such update. WrongType: a network for a
        posterior, a factory for a strategy, an update that the posterior cannot do or that leaves a
        retuner or a calibrator nothing to do.
    """
    retune = retune or programs.KEEP
    _kinds(posterior, strategy, retune, calibrate, HParams() if hparams is None else hparams)
    retune = retuning.for_posterior(retune, posterior)
    size = _checks.at_least(1, size, "size")
    capacity, num_folds = (
        _checks.at_least(size, capacity, "capacity"),
        _checks.at_least(2, num_folds, "num_folds"),
    )
    draws = programs.number_of_draws(posterior, num_draws)
    groups = None if groups is None else _checks.groups(groups)
    updates.possible(posterior, retune, calibrate, update)
    start = _checks.as_traced(HParams() if hparams is None else hparams)
    asked: OrderedDict = OrderedDict()
    parts = Parts(
        posterior,
        strategy,
        retune,
        calibrate,
        size,
        capacity,
        draws,
        num_folds,
        update,
        audits.per_batch(audit, size),
    )

    def init(key, x):
        _checks.pool(x)
        _checks.groups_of(groups, x.shape[0])
        return programs.first_state(_checks.key(key), jnp.asarray(x), start, groups, parts)

    def ask(state, x):
        _checks.pool(x)
        room = _room(state, x.shape[0], capacity)
        selection = _edge(
            programs.choose(
                state._replace(report=None, search=None), jnp.asarray(x), parts.asking()
            ),
            state,
            room,
        )
        asked[_fingerprint(state)] = weakref.ref(x), selection.indices
        while len(asked) > REMEMBERED:
            asked.popitem(last=False)
        return selection

    def tell(state, x, indices, labels, *, unasked=False):
        rows, values = _answers(state, x, indices, labels, parts)
        if int(state.ledger.count) and not unasked:
            pool, known = asked.get(_fingerprint(state), (lambda: None, None))
            _checks.were_asked(rows, np.asarray(known if pool() is x else ask(state, x).indices))
        new = _learned(state, x, rows, values, groups, parts)
        _trained(new, x, update if int(state.round) else "fresh")
        return new

    return Learner(init, ask, tell)


def _learned(
    state: LearnerState,
    x: ArrayLike,
    rows: np.ndarray,
    labels: np.ndarray,
    groups: jax.Array | None,
    parts: Parts,
) -> LearnerState:
    """The state that knows some more labels."""
    _checks.groups_of(groups, x.shape[0])
    if parts.calibrate is not None or parts.retune.searches:
        _checks.enough_groups(groups, np.concatenate([_labeled_rows(state), rows]), parts.num_folds)
    known, x = state.ledger.count, jnp.asarray(x)
    state = _remembering(state, parts.retune)
    state = state._replace(ledger=state.ledger.append(rows, labels), report=None)
    if parts.retune.seconds is not None:
        state = _searched(state, x, groups, parts.searching())
    return programs.refit(state, x, known, groups, parts.telling())


def _remembering(state: LearnerState, retune: retuning.Retuner) -> LearnerState:
    """The state with what this retuner remembers: where nothing was searched before, an empty
    memory.
    """
    blank = jax.eval_shape(retune.init, state.hparams)
    shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
    if not retune.searches or shapes(state.search) == shapes(blank):
        return state
    if jax.tree.leaves(state.search):
        raise errors.WrongType(
            "retune",
            "this state remembers what another retuner has tried, of other `places`: build "
            "the learner as it was, or pass "
            "state._replace(search=()) to forget it.",
        )
    return state._replace(search=retune.init(state.hparams))


def _searched(
    state: LearnerState, x: jax.Array, groups: jax.Array | None, parts: Parts
) -> LearnerState:
    """The state after as many runs of the retuner as its seconds allow, one at least; how long the
    first took says nothing, for it may compile.
    """
    began, run, took = clock(), 0, 0.0
    while run == 0 or clock() - began + took <= parts.retune.seconds:
        start = clock()
        state = jax.block_until_ready(programs.search(state, x, groups, jnp.int32(run), parts))
        run, took = run + 1, clock() - start if run else 0.0
    return state


def _kinds(posterior, strategy, retune, calibrate, hparams) -> None:
    _checks.a(Posterior, posterior, "posterior", "posteriors.mc_dropout(network)")
    if calibrate is not None:
        _checks.function(calibrate, "calibrate", "a calibrator, such as calibrate.temperature()")
        if (real := getattr(calibrate, "real", False)) != posterior.real:
            kinds = (
                ("real labels", "classes: pass calibrate.temperature()")
                if real
                else ("classes", "real numbers: pass calibrate.variance()")
            )
            raise errors.WrongType(
                "calibrate",
                f"this calibrator is for {kinds[0]}, and the posterior's labels are "
                f"{kinds[1]}, or calibrate=None.",
            )
    _checks.function(strategy, "strategy", "a strategy, such as acquire.batch_bald()")
    try:
        inspect.signature(strategy).bind(*range(5))
    except TypeError as error:
        raise errors.WrongType(
            "strategy",
            "`strategy` must take (key, predictive, x, available, size). A factory has to be "
            "called: acquire.batch_bald(); a score wrapped: acquire.top(scores.bald).",
        ) from error
    except ValueError:  # a callable without a signature
        pass
    _checks.a(retuning.Retuner, retune, "retune", "retune.successive_halving()")
    _checks.hparams(hparams)
    _checks.architectures(
        "hparams",
        f"`hparams.architecture` = {int(hparams.architecture)}",
        int(hparams.architecture),
        posterior.architectures,
    )
    _checks.architectures(
        "retune",
        f"the retuner's space has architecture={retune.architectures}",
        retune.architectures - 1,
        posterior.architectures,
    )


def _room(state: LearnerState, rows: int, capacity: int) -> int:
    """How many labels the ledger can still take, or an error if there is nothing to ask or no room
    for the answer.
    """
    _checks.same_pool(_labeled_rows(state), rows)
    count = int(state.ledger.count)
    if count >= rows:
        raise errors.WrongSize(
            "x", f"all {rows} points of the pool are labeled; there is nothing left to ask about."
        )
    if count >= capacity:
        raise errors.WrongSize(
            "capacity",
            f"the ledger is full: `capacity` = {capacity} labels. `bayesal.grow(state, "
            "more)` makes room, for a learner of that capacity.",
        )
    return capacity - count


def _answers(
    state: LearnerState, x: ArrayLike, indices: Any, labels: Any, parts: Parts
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels that may enter the ledger, or an error that names what is wrong with them."""
    _checks.pool(x)
    rows = _checks.indices(indices, x.shape[0])
    values = _values(state, x, labels, len(rows), parts)
    count = int(state.ledger.count)
    _checks.same_pool(_labeled_rows(state), x.shape[0])
    _checks.new_labels(rows, _labeled_rows(state), parts.capacity)
    if (parts.calibrate is not None or parts.retune.searches) and count + len(
        rows
    ) < parts.num_folds:
        raise errors.WrongSize(
            "labels",
            f"retuning and calibration hold out {parts.num_folds} folds, so they need "
            f"{parts.num_folds} labels or more in all; got "
            f"{count + len(rows)}. Start with more labels, or use retune=None and calibrate=None.",
        )
    return rows, values


def _values(state: LearnerState, x: ArrayLike, labels: Any, count: int, parts: Parts) -> np.ndarray:
    """Labels of the kind that the posterior learns from."""
    if parts.posterior.real:
        return _checks.real_labels(labels, count)
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    classes = programs.predict.eval_shape(
        state._replace(report=None, search=None), one, parts.telling()
    ).shape[-1]
    if classes < 2:
        raise errors.WrongShape(
            "posterior",
            "the network has C = 1 output. A binary problem has two classes: give the last "
            "layer 2 outputs.",
        )
    return _checks.labels(labels, classes, count)


def _labeled_rows(state: LearnerState) -> np.ndarray:
    return np.asarray(state.ledger.indices)[: int(state.ledger.count)]


def _fingerprint(state: LearnerState) -> bytes:
    """The small things that tell two states apart: key, round, ledger, hyperparameters,
    temperature.
    """
    small = (
        jax.random.key_data(state.key),
        state.round,
        state.ledger,
        state.hparams,
        state.temperature,
    )
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(small))


def _edge(selection: Selection, state: LearnerState, room: int) -> Selection:
    """A selection as people get it: short at the end of the pool or of the capacity, warned about
    where it should be.
    """
    round = int(state.round)
    fresh = (
        ""
        if int(state.ledger.count)
        else (
            " Here no label has been told yet: `tell` the first ones (any points), or ask with "
            "acquire.uniform()."
        )
    )
    _checks.not_constant(selection, fresh)
    kept = min(room, int(np.sum(np.asarray(selection.indices) >= 0)))
    broken = 0 if selection.nonfinite is None else int(selection.nonfinite)
    if kept == 0:
        raise errors.NonFinite(
            "x",
            f"round {round}: no point can be picked; {broken} available points have NaN or "
            "+inf scores. The usual cause is NaN in the pool.",
        )
    if broken:
        warnings.warn(
            f"round {round}: {broken} available points have NaN or +inf scores and were not "
            "considered.",
            stacklevel=3,
        )
    cut = lambda a: None if a is None else a[:kept]
    selection = selection._replace(
        indices=selection.indices[:kept],
        scores=selection.scores[:kept],
        joint=cut(selection.joint),
        saturated=cut(selection.saturated),
        audit=cut(selection.audit),
    )
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
            raise errors.NonFinite(
                "x",
                f"round {round}: labeled rows {_checks.listed(bad)} of the pool hold NaN or "
                "inf, so no net can be fitted. Clean the pool, or leave these rows out.",
                bad,
            )
        if update == "online":
            raise errors.TrainingFailed(
                "update",
                f"round {round}: adding these labels gave numbers that are not finite; look "
                "for extreme labels or features, or begin anew with "
                "update='fresh'. The state that was passed in is unchanged.",
            )
        raise errors.TrainingFailed(
            "hparams",
            f"round {round}: the loss became non-finite at step {failed[failed >= 0].min()}; "
            "lower `learning_rate`, look for NaN in the "
            "pool, or let the retuner choose. The state that was passed in is unchanged.",
        )
