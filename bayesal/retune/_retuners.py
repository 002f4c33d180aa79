"""Retuners: search for the next round's hyperparameters, against the incumbent.

Every candidate is judged on labels it was not fitted on, the same for all.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int

from bayesal import _checks, errors
from bayesal._warnings import warn
from bayesal.retune import _history as histories
from bayesal.retune import _proposers as proposers
from bayesal.retune import _spaces as spaces
from bayesal.retune._racing import Task, Tuning, race, rungs, standing
from bayesal.types import Array, HParams, Key, Posterior, PyTree

__all__ = ["Retuner", "fixed", "for_posterior", "successive_halving"]


class Retuner(NamedTuple):
    """Hyperparameter search, as pure functions that run inside a round's compiled program.

    init: `(hparams) -> memory`, what it knows before the first round.
    run:  `(key, task, hparams, memory, round) -> (hparams, Tuning, memory)`.
    searches: whether anything is tried: then labels have to be held out.
    seconds: how long a round may search, run after run; None: one run.
    tempered: whether candidates are judged each at its own temperature, where a learner calibrates.
    space: what is searched; None where nothing is.
    adapt: `(architectures, unused) -> Retuner`, this search for a posterior of so many
      architectures and without the fields that it leaves unused; None where it searches nothing.
      See `for_posterior`.
    """

    init: Callable[[HParams], PyTree]
    run: Callable[[Key, Task, HParams, PyTree, Int[Array, ""]], tuple[HParams, Tuning, PyTree]]
    searches: bool = True
    seconds: float | None = None
    tempered: bool = False
    space: HParams | None = None
    adapt: Callable[[int, tuple[str, ...]], "Retuner"] | None = None

    @property
    def architectures(self) -> int:
        """How many architectures candidates may have (see `HParams.architecture`)."""
        return 1 if self.space is None else spaces.architectures(self.space)


def for_posterior(retuner: Retuner, posterior: Posterior) -> Retuner:
    """Retuner for a posterior: without the hyperparameters that the posterior does not use.

    Without a space of its own it searches all architectures. The same retuner, number of
    architectures and unused fields give the same object, so nothing compiles again.

    Warns:
      UserWarning: the retuner's own space leaves architectures out, or has fields that the
        posterior does not use.
    Raises:
      WrongSize: the posterior uses no field of that space.

    >>> from bayesal import networks, posteriors
    >>> posterior = posteriors.any_of(
    ...     *(posteriors.point(networks.mlp(2, 3, (width,))) for width in (4, 8))
    ... )
    >>> for_posterior(successive_halving(), posterior).architectures
    2
    """
    count, unused = posterior.architectures, posterior.unused
    given = () if retuner.space is None else spaces.chosen(retuner.space)
    if vain := [name for name in given if name in unused]:
        warn(
            f"the space of `retune` has {', '.join(vain)}, which this posterior does not use: not "
            f"searched. Leave {'it' if len(vain) == 1 else 'them'} out of retune.space()."
        )
    found = retuner if retuner.adapt is None else retuner.adapt(count, unused)
    if found.searches and found.architectures < count:
        warn(
            f"`posterior` has {count} architectures, and the space of `retune` holds "
            f"{found.architectures}: the others are never tried. Pass "
            f"retune.space(architecture={count}), or successive_halving() without a space.",
        )
    return found


def fixed() -> Retuner:
    """Keep the hyperparameters in every round; nothing is searched."""

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
    """Race candidates against the incumbent; after each fold the worse half is left out.

    Each round the incumbent and `size - 1` proposals are cross-fitted on the same folds with the
    same random numbers: all on the first fold, then the better half of them on the second, and so
    on. The best of those that saw every fold replaces the incumbent only if its mean out-of-fold
    NLL is lower by more than the standard error of the paired difference. All candidates stay in
    `state.search`, a `History` (see `table`).

    Args:
      size: how many candidates, the incumbent among them; at least 2; 8 if neither this nor `fits`
        is given. With 5 folds 8 candidates cost 18 fits (8 + 4 + 2 + 2 + 2), and every
        round one more on all labels.
      space: what is searched; default `space()`, and all architectures of a posterior that has
        several. Fields that a posterior does not use are left out (`Posterior.unused`). A winner
        at a bound of the space is remarked on once per field: the best may lie outside.
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
    number, fits = _budget(size, fits)
    if seconds is not None and not seconds > 0:
        raise errors.WrongSize("seconds", f"`seconds` = {seconds} must be > 0, or None.")
    places = _checks.at_least(number, places, "places")
    proposer = proposer or proposers.gp_proposer()
    search = _Search(
        space=_space(space),
        proposer=_checks.a(proposers.Proposer, proposer, "proposer", "retune.local_proposer()"),
        share=0.5 if halve else 1.0,
        size=number,
        fits=fits,
        places=places,
    )
    retuner = Retuner(
        init=lambda hparams: histories.empty(places, hparams),
        run=functools.partial(_run, search),
        seconds=seconds,
        tempered=tempered,
        space=search.space,
    )
    return retuner._replace(adapt=_adapting(retuner, search, space is None))


def _adapting(
    retuner: Retuner, search: "_Search", usual: bool
) -> Callable[[int, tuple[str, ...]], Retuner]:
    """The retuner over its space less unused fields, the usual one plus so many architectures; one
    object for each pair.
    """

    @functools.cache
    def adapt(count, unused):
        fitting = search.space
        if usual and count > 1:
            fitting = spaces.space(architecture=count)
        fitting = spaces.without(fitting, unused)
        if fitting == search.space:
            return retuner
        return retuner._replace(
            run=functools.partial(_run, search._replace(space=fitting)), space=fitting
        )

    return adapt


class _Search(NamedTuple):
    """What `successive_halving` was given; where there are `fits`, they say how much is tried."""

    space: HParams
    proposer: proposers.Proposer
    share: float
    size: int
    fits: int | None
    places: int


def _space(space: HParams | None) -> HParams:
    space = spaces.space() if space is None else space
    if not isinstance(space, HParams) or not all(
        found is None or isinstance(found, spaces.Distribution) for found in space
    ):
        raise errors.WrongType(
            "space", f"`space` must be what `retune.space(...)` gives, got {space!r}."
        )
    return space


def _budget(size: int | None, fits: int | None) -> tuple[int, int | None]:
    if size is not None and fits is not None:
        raise errors.WrongSize(
            "fits", "`size` and `fits` both say how much is tried; pass one of them."
        )
    if fits is None:
        return _checks.at_least(2, 8 if size is None else size, "size"), None
    return 2, _checks.at_least(4, fits, "fits")


def _run(
    search: _Search, key: Key, task: Task, hparams: HParams, memory: PyTree, round: Int[Array, ""]
) -> tuple[HParams, Tuning, PyTree]:
    """One go: propose, race, remember."""
    number, fits = search.size, search.fits
    if fits is not None:
        number = affordable(fits, task.rows.shape[0], search.share)
    if number > search.places:
        raise errors.WrongSize(
            "places",
            f"`places` = {search.places}, and {number} candidates are tried at once: make room "
            "for several rounds of them.",
        )
    # the incumbent is candidate 0, and the proposals stand beside it
    units = search.proposer.ask(key, memory, search.space, hparams, number - 1)
    candidates = jax.tree.map(
        lambda old, new: jnp.concatenate([old[None], new]),
        hparams,
        spaces.values(search.space, units, hparams),
    )
    found = race(task, candidates, search.share)
    stand, folds = standing(found, task), found.done.sum(axis=1).astype(jnp.int32)
    chosen = found.chosen
    tried = histories.History(
        candidates,
        *stand,
        folds,
        round=jnp.full(number, round, jnp.int32),
        go=jnp.full(number, memory.count, jnp.int32),  # no two runs begin at one count
        chosen=jnp.arange(number) == chosen,
        count=jnp.int32(number),
    )
    pick = lambda tree: jax.tree.map(lambda leaf: leaf[chosen], tree)
    tuning = Tuning(
        candidates,
        *stand,
        folds,
        chosen=chosen,
        states=pick(found.states) if task.kept else None,
        final=found.final if task.final else None,
    )
    tell = search.proposer.tell or histories.remember
    return pick(candidates), tuning, tell(memory, tried)


def affordable(fits: int, folds: int, share: float) -> int:
    """Largest number of candidates within a budget of fits.

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
