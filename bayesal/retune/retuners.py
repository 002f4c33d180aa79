"""The next round's hyperparameters. Every candidate is judged on labels it was not fitted on,
beside the incumbent on the same labels.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bayesal import _checks, errors
from bayesal.retune import history as histories
from bayesal.retune import proposers, spaces
from bayesal.retune.racing import Task, race, rungs, standing
from bayesal.types import HParams, Key, PyTree


class Tuning(NamedTuple):
    """What a retuner tried in one go: see `History` for the columns; which one is kept, its states
    `[F, ...]` of the folds (None: not kept, or nothing was fitted), and its fit on all labels, a
    state and its report (None: there was none).
    """

    candidates: HParams
    losses: Float[Array, " P"]
    differences: Float[Array, " P"]
    errors: Float[Array, " P"]
    folds: Int[Array, " P"]
    chosen: Int[Array, ""]
    states: PyTree | None = None
    final: PyTree | None = None


class Retuner(NamedTuple):
    """A search for hyperparameters, as pure functions that run inside a round's compiled program.

    init: `(hparams) -> memory`, what it knows before the first round.
    run:  `(key, task, hparams, memory, round) -> (hparams, Tuning, memory)`.
    searches: whether anything is tried: then labels have to be held out.
    seconds: how long a round may search, run after run; None: one run.
    tempered: whether candidates are judged each at its own temperature, where a learner calibrates.
    architectures: how many architectures candidates may have (see `HParams.architecture`).
    """

    init: Callable[[HParams], PyTree]
    run: Callable[[Key, Task, HParams, PyTree, Int[Array, ""]], tuple[HParams, Tuning, PyTree]]
    searches: bool = True
    seconds: float | None = None
    tempered: bool = False
    architectures: int = 1


def fixed() -> Retuner:
    """The same hyperparameters every round; nothing is tried."""

    def run(key, task, hparams, memory, round):
        del key, task, round
        none = jnp.zeros(1)  # not NaN: the state must pass `jax_debug_nans`
        return (
            hparams,
            Tuning(
                jax.tree.map(lambda a: a[None], hparams),
                none,
                none,
                none,
                jnp.zeros(1, jnp.int32),
                jnp.int32(0),
            ),
            memory,
        )

    return Retuner(lambda hparams: (), run, searches=False)


def successive_halving(
    size: int | None = None,
    space: HParams | None = None,
    *,
    proposer: proposers.Proposer | None = None,
    halve: bool = True,
    fits: int | None = None,
    seconds: float | None = None,
    tempered: bool = True,
    places: int = 1024,
) -> Retuner:
    """Candidates beside the incumbent, all trained in one compiled program, the worse half of them
    left out after each fold.

    Each round the incumbent and `size - 1` proposals are cross-fitted on the same folds with the
    same random numbers: all on the first fold, then the better half of them on the second, and so
    on. The best of those that saw every fold replaces the incumbent only if its mean out-of-fold
    NLL is lower by more than the standard error of the paired difference. All candidates stay in
    `state.search`, a `History` (see `table`).

    Args:
      size: how many candidates, the incumbent among them; at least 2; 8 if neither this nor `fits`
        is given. A round costs `sum(rungs(size, folds))` fits, 18 for 8 candidates and 5 folds, and
        the one on all labels that every round makes.
      space: what is searched; default `space()`.
      proposer: default `gp_proposer()`, which learns from all rounds; `local_proposer()` looks
        around the incumbent. With few labels they are level with points at random, with hundreds
        slightly ahead (`experiments/proposers.py`).
      halve: False fits every candidate for every fold.
      fits: the most fits a round's search may cost, in place of `size`.
      seconds: the round goes on with more candidates, on other folds, until so many seconds are
        over or the next go would end later, at least once (the very first includes compiling).
        Picks then depend on the machine's speed; `state.search` has what was tried, `state.report`
        the last fit alone.
      tempered: where the learner calibrates, judge every candidate at the temperature that suits it
        best, out of a few. Otherwise a search by NLL prefers nets that are trained too little to be
        overconfident, and a temperature would have mended that at no loss of accuracy
        (`experiments/retuning.py`). Without a calibrator nothing is tempered.
      places: how many candidates are remembered.
    Raises:
      WrongSize: `size` < 2, both or too few `fits`, no such seconds or places.
    """
    space = spaces.space() if space is None else space
    if not isinstance(space, HParams) or not all(
        found is None or isinstance(found, spaces.Distribution) for found in space
    ):
        raise errors.WrongType(
            "space", f"`space` must be what `retune.space(...)` gives, got {space!r}."
        )
    if size is not None and fits is not None:
        raise errors.WrongSize(
            "fits", "`size` and `fits` both say how much is tried; pass one of them."
        )
    if fits is None:
        size = _checks.at_least(2, 8 if size is None else size, "size")
    else:
        fits = _checks.at_least(4, fits, "fits")
    if seconds is not None and not seconds > 0:
        raise errors.WrongSize("seconds", f"`seconds` = {seconds} must be > 0, or None.")
    places = _checks.at_least(size or 2, places, "places")
    proposer, share = (
        _checks.a(
            proposers.Proposer,
            proposer or proposers.gp_proposer(),
            "proposer",
            "retune.local_proposer()",
        ),
        0.5 if halve else 1.0,
    )

    def run(key, task, hparams, memory, round):
        number = size or affordable(fits, task.rows.shape[0], share)
        if number > places:
            raise errors.WrongSize(
                "places",
                f"`places` = {places}, and {number} candidates are tried at once: make room "
                "for several rounds of them.",
            )
        units = proposer.ask(key, memory, space, hparams, number - 1)
        candidates = jax.tree.map(
            lambda old, new: jnp.concatenate([old[None], new]),
            hparams,
            spaces.values(space, units, hparams),
        )
        found = race(task, candidates, share)
        stand, folds, chosen = (
            standing(found, task),
            found.done.sum(axis=1).astype(jnp.int32),
            found.chosen,
        )
        tried = histories.History(
            candidates,
            *stand,
            folds,
            jnp.full(number, round, jnp.int32),
            jnp.full(number, memory.count, jnp.int32),
            jnp.arange(number) == chosen,
            jnp.int32(number),
        )
        pick = lambda tree: jax.tree.map(lambda leaf: leaf[chosen], tree)
        tuning = Tuning(
            candidates,
            *stand,
            folds,
            chosen,
            pick(found.states) if task.kept else None,
            found.final if task.final else None,
        )
        return pick(candidates), tuning, proposer.tell(memory, tried)

    return Retuner(
        lambda hparams: histories.empty(places, hparams),
        run,
        seconds=seconds,
        tempered=tempered,
        architectures=spaces.architectures(space),
    )


def affordable(fits: int, folds: int, share: float) -> int:
    """The most candidates that so many fits can judge.

    >>> affordable(24, 3, 0.5), affordable(24, 3, 1.0)
    (13, 8)
    """
    if (least := sum(rungs(2, folds, share))) > fits:
        raise errors.WrongSize(
            "fits",
            f"`fits` = {fits}, but the incumbent and one candidate cost {least} for {folds} "
            f"folds. Allow {least} or more, or take fewer folds.",
        )
    return max(size for size in range(2, fits + 1) if sum(rungs(size, folds, share)) <= fits)
