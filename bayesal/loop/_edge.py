"""The edge of the loop: what comes in is checked here, and what goes out is put into words."""

import inspect
from typing import Any

import jax
import numpy as np

from bayesal import _checks, errors, likelihoods
from bayesal import retune as retuning
from bayesal._choose import finalize, strategy_of
from bayesal._warnings import warn
from bayesal.loop._audit import per_batch
from bayesal.loop._gathered import View, digests, take, usable
from bayesal.loop._programs import Parts
from bayesal.loop._start import classes_of
from bayesal.loop._state import Answers, LearnerState, Ledger, places
from bayesal.types import REJECTED, Posterior, Selection

POOL_CHANGED = ("refuse", "allow")
KNOWN = ("refuse", "replace")


# --- what a learner is built of


def kinds(posterior: Posterior, strategy: Any, retune: Any, calibrate: Any, hparams: Any) -> None:
    """Refuses what is not the record or function that it should be."""
    if calibrate is not None:
        _calibrator(calibrate, posterior)
    strategy_of(strategy)
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


def _calibrator(calibrate: Any, posterior: Posterior) -> None:
    _checks.function(calibrate, "calibrate", "a calibrator, such as calibrate.temperature()")
    if not _takes(calibrate, 3):
        raise errors.WrongType(
            "calibrate",
            "`calibrate` must take (prediction, labels, weights). A factory has to be called: "
            "calibrate.temperature().",
        )
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


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments in order."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a callable without a signature
        pass
    return True


def strict(pool_changed: Any) -> bool:
    """Whether a pool whose labeled rows have changed is refused."""
    if pool_changed not in POOL_CHANGED:
        raise errors.UnknownName(
            "pool_changed", f"`pool_changed` must be 'refuse' or 'allow', got {pool_changed!r}."
        )
    return pool_changed == "refuse"


# --- what a round brings


def limit(state: LearnerState, capacity: int | None) -> int | None:
    """The most labels that a state may hold; None: as many as come."""
    if capacity is not None and state.ledger.capacity < capacity:
        raise errors.WrongSize(
            "capacity",
            f"this state has room for {state.ledger.capacity} labels, and the learner is built "
            f"with capacity={capacity}: `state = bayesal.grow(state, {capacity})` makes room.",
        )
    return capacity


def room(state: LearnerState, rows: int, capacity: int | None) -> int:
    """How many labels may still come, or an error if there is nothing to ask or no room for the
    answer.
    """
    _checks.same_pool(state.ledger.rows(), rows)
    count, most = int(state.ledger.count), limit(state, capacity)
    if count >= rows:
        raise errors.WrongSize(
            "x", f"all {rows} points of the pool are labeled; there is nothing left to ask about."
        )
    if most is not None and count >= most:
        raise errors.WrongSize(
            "capacity",
            f"The label capacity ({most}) is used up. {_checks.make_room(5 * most)}",
        )
    return (rows if most is None else most) - count


def excluded(state: LearnerState, rows: int, exclude: Any) -> np.ndarray:
    """Mask `[N]` of the rows not to ask about now, of a mask or of row numbers."""
    mask = np.zeros(rows, bool)
    if exclude is None:
        return mask
    given = sorted(exclude) if isinstance(exclude, set | frozenset) else exclude
    host = np.asarray(_checks.plain(given, "exclude"))
    if host.dtype == bool:
        mask = np.asarray(_checks.available_rows(host, rows, "exclude"))
    elif host.size:  # an empty list has no whole numbers
        whole = host.ndim == 1 and np.issubdtype(host.dtype, np.integer)
        mask[_checks.indices(np.unique(host) if whole else host, rows, "exclude")] = True
    free = ~mask
    free[state.ledger.rows()] = False
    if not free.any():
        raise errors.WrongSize(
            "exclude",
            f"`exclude` leaves out all {rows - int(state.ledger.count)} rows that have no label: "
            "there is nothing left to ask about.",
        )
    return mask


def sized(parts: Parts, size: Any, audit: float) -> tuple[Parts, int]:
    """What `ask` depends on, and the most points it may give, for a batch of another size."""
    if size is None:
        return parts.asking(), parts.size
    size = _checks.at_least(1, size, "size")
    assert parts.strategy is not None
    if size <= parts.size and parts.strategy.nested and not parts.audits:
        return parts.asking(), size  # the front of the learner's batch
    if size > parts.size:
        warn(
            f"`size` = {size} is more than the learner's {parts.size}, so `ask` is compiled once "
            "more, for this size. Build the learner with the largest size that you ask for.",
        )
    return parts._replace(size=size, audits=per_batch(audit, size)).asking(), size


def answers(
    state: LearnerState,
    x: View,
    indices: Any,
    labels: Any,
    weights: Any,
    source: Any,
    parts: Parts,
) -> Answers:
    """Answers that may enter the ledger, or an error that names what is wrong with them."""
    rows = _checks.indices(indices, x.shape[0])
    _checks.same_pool(state.ledger.rows(), x.shape[0])
    check = likelihoods.labels_of(parts.posterior).check
    assert check is not None  # `labels_of` gave it one
    y = check(labels, len(rows), classes_of(state, x, parts))
    weight = _checks.label_weights(weights, len(rows))
    if isinstance(y, np.ndarray) and y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
        weight = np.where(y == REJECTED, np.float32(0), weight)
    return Answers(
        indices=rows,
        labels=y,
        weight=weight,
        source=_checks.sources(0 if source is None else source, len(rows)),
        digest=digests(take(x, rows)),
    )


def replaces(known: Any) -> bool:
    """Whether `tell` takes rows that have a label."""
    if known not in KNOWN:
        raise errors.UnknownName("known", f"`known` must be 'refuse' or 'replace', got {known!r}.")
    return known == "replace"


def parted(ledger: Ledger, answers: Answers) -> tuple[Answers, Answers]:
    """Answers about rows that have a label, and about rows that have none."""
    old = np.isin(answers.indices, ledger.rows())
    part = lambda mask: Answers(*jax.tree.map(lambda leaf: leaf[mask], tuple(answers)))
    return part(old), part(~old)


def kept(ledger: Ledger, answers: Answers, weights: Any, source: Any) -> Answers:
    """Corrections that keep what was not given: the weight of a label that counted, the source, and
    the hash of the row as it was when it was labeled.
    """
    at = places(ledger, answers.indices)
    old = np.asarray(ledger.weight)[at]
    if weights is None:  # a REJECTED label has weight 0, whatever it was before
        answers = answers._replace(
            weight=np.where((old > 0) & (answers.weight > 0), old, answers.weight)
        )
    if source is None:
        answers = answers._replace(source=np.asarray(ledger.source)[at])
    return answers._replace(digest=np.asarray(ledger.digest)[at])


def enough(count: int, parts: Parts) -> None:
    """Labels for every fold, where labels are held out."""
    if parts.holds_out and count < parts.num_folds:
        raise errors.WrongSize(
            "labels",
            f"retuning and calibration hold out {parts.num_folds} folds, so they need "
            f"{parts.num_folds} labels or more in all; got "
            f"{count}. Start with more labels, or use retune=None and calibrate=None.",
        )


# --- what a round gives


def short(selection: Selection, state: LearnerState, room: int) -> Selection:
    """A selection as people get it: short at the end of the pool or of the capacity, warned about
    where it should be.
    """
    return finalize(selection, room, f"round {int(state.round)}: ")


def trained(posterior: Posterior, new: LearnerState, features: np.ndarray, update: str) -> None:
    """Refuses a state whose fit failed, and says why.

    Args:
      features: of the ledger's rows `[count, ...]`.
    """
    assert new.report is not None
    failed, round = np.asarray(new.report.fit.failed_at).ravel(), int(new.round) - 1
    if not (failed >= 0).any():
        return
    order = usable(new.ledger)
    _checks.finite_rows(features[order], new.ledger.rows()[order], round)
    if update == "online":
        raise errors.TrainingFailed(
            "update",
            f"round {round}: adding these labels gave numbers that are not finite; look "
            "for extreme labels or features, or begin anew with "
            "update='fresh'. The state that was passed in is unchanged.",
        )
    if "learning_rate" in posterior.unused:
        raise errors.TrainingFailed(
            "x",
            f"round {round}: the fit gave numbers that are not finite, and there is no step size "
            "to lower: look for extreme features or labels. The state that was passed in is "
            "unchanged.",
        )
    raise errors.TrainingFailed(
        "hparams",
        f"round {round}: the loss became non-finite at step {failed[failed >= 0].min()}; "
        "lower `learning_rate`, or let the retuner choose it. The state that was passed in is "
        "unchanged.",
    )
