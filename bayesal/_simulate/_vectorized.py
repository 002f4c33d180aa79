"""All seeds of a strategy at once: each half of a round is one program under `vmap`."""

from collections.abc import Callable
from time import perf_counter as clock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal._simulate._figures import Figures
from bayesal._simulate._plan import CHANCE, Plan
from bayesal._simulate._runs import Failure, Keep, Notes, Run, predicted, whole
from bayesal.loop import LearnerState
from bayesal.types import PyTree


def possible(plan: Plan) -> None:
    """Refuses what no program of all seeds can do."""
    if not hasattr(plan.data.x, "shape"):
        raise errors.WrongType(
            "vectorized",
            "vectorized=True needs a pool in memory, as one array: read it first, or pass "
            "vectorized=False.",
        )


def fitting(plan: Plan) -> Callable[..., Any]:
    """The program that fits every seed of any strategy, and predicts the test set."""
    # told by chance's learner, whoever asked: compiled once for all strategies
    tell = plan.learners[CHANCE].pure.tell

    def one(state, x, y, rows, test_x):
        state = tell(state, x, rows, jax.tree.map(lambda leaf: leaf[rows], y))
        bare = state._replace(report=None, search=None)
        return state, predicted(plan.posterior, bare, test_x, plan.num_draws, plan.calibrated)

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, 0, None)))


def run_seeds(
    plan: Plan,
    figures: Figures,
    fit: Callable[..., Any],
    strategy: str,
    seeds: list[int],
    *,
    step: Callable[[str, int, int], None],
    keep: Keep | None,
) -> list[Run | Failure]:
    """The runs of one strategy with some seeds, side by side in compiled programs.

    A seed that fails keeps its place in the programs, and its numbers are dropped.

    Args:
      fit: what `fitting` gives.
      step, keep: as of `_runs.run`.
    """
    notes = [Notes(plan, figures, strategy, seed, keep) for seed in seeds]
    failed: dict[int, Failure] = {}
    pure, data = plan.learners[strategy].pure, plan.data
    try:
        ask = jax.jit(jax.vmap(pure.ask, in_axes=(0, None)))
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        states = jax.vmap(lambda key: pure.init(key, data.x))(keys)
        rows = np.stack([note.first for note in notes])
        for round in range(plan.rounds + 1):
            began, selections = clock(), None
            states, said = jax.block_until_ready(fit(states, data.x, data.y, rows, data.test_x))
            told = clock()
            if round < plan.rounds:
                selections = jax.block_until_ready(ask(states, data.x))
                rows = np.asarray(selections.indices)
            seconds = (told - began) / len(seeds), (clock() - told) / len(seeds)
            for s, note in enumerate(notes):
                if s in failed:
                    continue
                try:
                    state, selection = _of(s, states), _of(s, selections)
                    _went_well(plan, state, selection, round)
                    note.add(state, _of(s, said), selection, *seconds)
                    step(strategy, note.seed, round)
                except Exception as error:
                    failed[s] = note.failure(error)
    except Exception as error:  # of the programs: no seed can go on
        failed = {s: note.failure(error) for s, note in enumerate(notes)} | failed
    return [failed[s] if s in failed else note.run() for s, note in enumerate(notes)]


def _of(place: int, tree: PyTree) -> PyTree:
    """One seed's part of what all have."""
    return jax.tree.map(lambda leaf: leaf[place], tree)


def _went_well(plan: Plan, state: LearnerState, selection: Any, round: int) -> None:
    """Refuses what `tell` and `ask` would have refused."""
    assert state.report is not None
    failed = np.asarray(state.report.fit.failed_at).ravel()
    if (failed >= 0).any():
        raise errors.TrainingFailed(
            "hparams",
            f"round {round}: the loss became non-finite at step {failed[failed >= 0].min()}; lower "
            "`learning_rate`, or let the retuner choose it. NaN in a labeled row does the same.",
        )
    if selection is not None:
        _checks.not_constant(selection)
        whole(selection, plan.size)
