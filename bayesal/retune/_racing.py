"""Racing of candidates over folds: after each fold the worse half is left out.

The incumbent always stays.

Folds are the resource that is shared out, not steps: a fold more is a fairer look at the very fit
that will be used, while a shorter fit is another candidate wherever steps and their schedule are
searched themselves.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from bayesal import _chunks
from bayesal.types import Array, HParams, PyTree


class Task(NamedTuple):
    """The objective of a search: cross-validated losses of candidates.

    fit:   `(hparams, fold) -> (losses [M, T], (state, info))`: a fit on all folds but this one, and
           the out-of-fold NLL (nats) of this fold's rows (elsewhere 0) at every temperature; as
           fold F a fit on all labels.
    rows:  which labeled rows belong to each fold; padding to none.
    group: a number in [0, M) for each row; rows of one number are copies, and tell no more than
      one.
    prior: what each temperature costs, in nats over all rows: a candidate is judged at its own
      best. One temperature: no choice.
    final: whether the winner is fitted on all labels in the end.
    kept:  whether the winner's other fits are wanted, for a calibrator.
    """

    fit: Callable[[HParams, Int[Array, ""]], tuple[Float[Array, "M T"], PyTree]]
    rows: Bool[Array, "F M"]
    group: Int[Array, " M"]
    prior: Float[Array, " T"]
    final: bool = True
    kept: bool = True


class Tuning(NamedTuple):
    """Results of one search: columns as in `History`, and the chosen candidate's fits.

    states: of the folds, `[F, ...]`; None: not kept, or nothing was fitted.
    final: the fit on all labels, a state and its report; None: there was none.
    """

    candidates: HParams
    losses: Float[Array, " P"]
    differences: Float[Array, " P"]
    errors: Float[Array, " P"]
    folds: Int[Array, " P"]
    chosen: Int[Array, ""]
    states: PyTree | None = None
    final: PyTree | None = None


class Race(NamedTuple):
    """Out-of-fold NLL of every candidate on the rows of the folds it was fitted for, which folds
    those are, its states there, and who won, with the fit on all labels."""

    losses: Float[Array, "P M T"]
    done: Bool[Array, "P F"]
    states: PyTree  # [P, F, ...], or [0, 0, ...] if they are not kept
    chosen: Int[Array, ""]
    final: PyTree


def rungs(size: int, folds: int, keep: float = 0.5) -> tuple[int, ...]:
    """Number of candidates fitted on each fold: at least the incumbent and one more.

    >>> rungs(8, 3), rungs(8, 3, keep=1.0), sum(rungs(8, 3))
    ((8, 4, 2), (8, 8, 8), 14)
    """
    return tuple(max(math.ceil(size * keep**fold), min(size, 2)) for fold in range(folds))


def race(task: Task, candidates: HParams, keep: float = 0.5, together: int | None = None) -> Race:
    """Race candidates (leaves `[P]`, the first is the incumbent) over folds; refit the winner.

    One compiled fit of `together` candidates is run again and again: those of one architecture that
    take about as many steps, on the same fold. A fit that is left out, or is not needed to fill up
    the last run, has no steps.
    """
    size, folds = candidates.steps.shape[0], task.rows.shape[0]
    together = min(size, together or _chunks.fits_together() or size)
    allowed = jnp.asarray(rungs(size, folds, keep))

    def wave(carry):
        found, pending, fold = carry
        found, pending = _run(task, candidates, found, pending, fold, together)
        # once nobody is pending the fold is over, and the next one's candidates are known
        stand, over = standing(found, task), ~jnp.any(pending)
        alive = found.done[:, jnp.minimum(fold, folds - 1)]
        # of those that saw every fold, once they have
        found = found._replace(chosen=winner(stand, alive))
        better = best(stand.differences, alive, allowed[jnp.minimum(fold + 1, folds - 1)])
        # after the last fold comes the fit on all labels, of the winner alone
        after = jnp.where(fold < folds - 1, better, jnp.arange(size) == found.chosen)
        return found, jnp.where(over, after, pending), fold + over.astype(jnp.int32)

    last = folds if task.final else folds - 1
    return jax.lax.while_loop(
        lambda carry: carry[2] <= last,
        wave,
        (_blank(task, candidates), jnp.ones(size, bool), jnp.int32(0)),
    )[0]


def _blank(task: Task, candidates: HParams) -> Race:
    """A race before its first fit, with room for what will be kept."""
    size, folds = candidates.steps.shape[0], task.rows.shape[0]
    first = jax.tree.map(lambda leaf: leaf[0], candidates)
    shapes = jax.eval_shape(task.fit, first, jnp.int32(0))[1]
    room = (size, folds) if task.kept else (0, 0)
    return Race(
        losses=jnp.zeros((size, task.rows.shape[1], task.prior.shape[0]), jnp.float32),
        done=jnp.zeros((size, folds), bool),
        states=jax.tree.map(lambda s: jnp.zeros(room + s.shape, s.dtype), shapes[0]),
        chosen=jnp.int32(0),
        final=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes),
    )


def _run(
    task: Task,
    candidates: HParams,
    found: Race,
    pending: Bool[Array, " P"],
    fold: Int[Array, ""],
    together: int,
) -> tuple[Race, Bool[Array, " P"]]:
    """One run of the compiled fit, of up to `together` pending candidates on one fold: the race
    with what they give, and who is still pending.
    """
    size = candidates.steps.shape[0]
    # pending ones first, those of one architecture side by side, short ones beside short ones: all
    # lanes of a run wait for its longest
    order = jnp.lexsort((candidates.steps, candidates.architecture, ~pending))[:together]
    architecture = candidates.architecture[order[0]]
    runs = pending[order] & (candidates.architecture[order] == architecture)
    # a lane that is only there to fill up the run takes no steps
    lanes = jax.tree.map(lambda leaf: leaf[order], candidates)._replace(
        steps=jnp.where(runs, candidates.steps[order], 0)
    )
    # the architecture stays one number, not one per lane: `any_of` then branches instead of
    # computing every branch
    losses, fitted = _chunks.over_fits(
        lambda lane: task.fit(lane._replace(architecture=architecture), fold), lanes
    )
    where = jnp.where(runs, order, size)  # `size` is no candidate: dropped
    put = lambda full, part: full.at[where, fold].set(part, mode="drop")
    # fold F, on all labels, has no place in `done` and `states`: dropped there, kept in `final`
    found = found._replace(
        losses=found.losses.at[where].add(losses, mode="drop"),
        done=found.done.at[where, fold].set(True, mode="drop"),
        states=jax.tree.map(put, found.states, fitted[0]) if task.kept else found.states,
        final=jax.tree.map(lambda part: part[0], fitted),
    )
    return found, pending.at[where].set(False, mode="drop")


class Standing(NamedTuple):
    """Mean NLL of candidates (nats), differences to candidate 0, and standard errors.

    Differences are on the rows that both saw; candidates with a non-finite loss have inf.
    """

    losses: Float[Array, " P"]
    differences: Float[Array, " P"]
    errors: Float[Array, " P"]


def standing(found: Race, task: Task) -> Standing:
    """How candidates stand on the folds they have seen, each at the temperature that is best there,
    and candidate 0 too.

    A non-finite candidate 0 is behind every finite one.
    """
    judged = jnp.any(found.done[:, :, None] & task.rows[None], axis=1)
    finite = jnp.all(jnp.isfinite(found.losses) | ~judged[:, :, None], axis=(1, 2))
    count = jnp.maximum(judged.sum(axis=1), 1).astype(jnp.float32)
    own = _tempered(
        jnp.where((judged & finite[:, None])[:, :, None], found.losses, 0.0), task.prior
    )
    against = judged & (finite & finite[0])[:, None]
    first = _tempered(jnp.where(against[:, :, None], found.losses[:1], 0.0), task.prior)
    means = jnp.where(finite, own.sum(axis=1) / count, jnp.inf)
    difference = jnp.where(against, own - first, 0.0)
    center = difference.sum(axis=1) / count
    groups = lambda rows: (
        jax.ops.segment_sum(rows.astype(jnp.float32).T, task.group, rows.shape[1]).T
    )
    left = groups(jnp.where(against, difference - center[:, None], 0.0))
    several = jnp.sum(groups(judged) > 0, axis=1).astype(jnp.float32)
    variance = several / jnp.maximum(several - 1.0, 1.0) * jnp.sum(jnp.square(left), axis=1)
    differences = jnp.where(finite, jnp.where(finite[0], center, means), jnp.inf)
    return Standing(means, differences, jnp.sqrt(variance) / count)


def _tempered(losses: Float[Array, "P M T"], prior: Float[Array, " T"]) -> Float[Array, "P M"]:
    """Each candidate's losses at the temperature at which they are least in all."""
    at = jnp.argmin(losses.sum(axis=1) + prior[None], axis=1)
    return jnp.take_along_axis(losses, at[:, None, None], axis=2)[:, :, 0]


def best(
    differences: Float[Array, " P"], alive: Bool[Array, " P"], number: Int[Array, ""]
) -> Bool[Array, " P"]:
    """The `number` candidates that stand best among those still alive, the incumbent always among
    them.
    """
    order = jnp.lexsort((differences.at[0].set(-jnp.inf), ~alive))
    return jnp.zeros_like(alive).at[order].set(jnp.arange(alive.shape[0]) < number) & alive


def winner(stand: Standing, whole: Bool[Array, " P"]) -> Int[Array, ""]:
    """Who is kept, among candidates that have seen every fold: candidate 0, unless the best is
    ahead of it by more than the standard error.

    The best of many is ahead by luck more often than one would be: of eight equally good candidates
    one of the others is kept in two rounds of five. A non-finite candidate never wins, and a
    non-finite candidate 0 always loses to a finite one.
    """
    differences = jnp.where(whole, stand.differences, jnp.inf)
    first = jnp.argmin(differences.at[0].set(jnp.inf)) if differences.shape[0] > 1 else 0
    ahead = jnp.where(
        jnp.isfinite(stand.losses[0]),
        differences[first] < -stand.errors[first],
        jnp.isfinite(differences[first]),
    )
    return jnp.where(ahead, first, 0).astype(jnp.int32)
