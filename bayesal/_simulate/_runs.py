"""One run: first labels, then ask and tell, with the test set's figures after every fit."""

import dataclasses
import functools
import traceback
from collections.abc import Callable
from threading import Event
from time import perf_counter as clock
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _chunks, errors, likelihoods
from bayesal._simulate._figures import Figures
from bayesal._simulate._plan import Plan
from bayesal.loop import LearnerState, predictive_of
from bayesal.types import HParams, Posterior, Prediction

ROWS = 1024  # rows of the test set that are predicted at a time


class Run(NamedTuple):
    """A finished run of one strategy and one seed.

    first: rows of the caller's pool that were labeled first, `[F]`.
    picks: what was asked for in each round, `[rounds, size]`.
    values: figures on the test set after each fit, `[rounds + 1]` each.
    hparams: hyperparameters of each fit, by field, `[rounds + 1]` each.
    seconds: `tell` and `ask`, `[rounds + 1]` each (the last `ask` is NaN).
    """

    strategy: str
    seed: int
    first: np.ndarray
    picks: np.ndarray
    values: dict[str, np.ndarray]
    hparams: dict[str, np.ndarray]
    seconds: dict[str, np.ndarray]


class Failure(NamedTuple):
    """A run that ended in an error: in which round, and what was raised."""

    strategy: str
    seed: int
    round: int
    error: Exception

    def __str__(self) -> str:
        return f"round {self.round}: {type(self.error).__name__}: {self.error}"

    def record(self) -> dict[str, Any]:
        """As it is written to a folder."""
        return {
            "strategy": self.strategy,
            "seed": self.seed,
            "round": self.round,
            "error": type(self.error).__name__,
            "message": str(self.error),
            "traceback": "".join(traceback.format_exception(self.error)),
        }


class Stopped(Exception):
    """The simulation was interrupted."""


Keep = Callable[[dict[str, Any], LearnerState, Any], None]


def run(
    plan: Plan,
    figures: Figures,
    strategy: str,
    seed: int,
    *,
    step: Callable[[str, int, int], None],
    stop: Event,
    keep: Keep | None,
) -> Run | Failure:
    """One run, or the error that ended it.

    Args:
      step: called as `step(strategy, seed, round)` after every fit.
      stop: once it is set, the run ends before its next round.
      keep: called with the round's figures, the state, and what is asked next (None at the end).
    """
    learner, data = plan.learners[strategy], plan.data
    notes = Notes()
    rows = plan.first[plan.seeds.index(seed)]
    round = 0
    try:
        state = learner.init(jax.random.key(seed), data.x)
        for round in range(plan.rounds + 1):
            if stop.is_set():
                raise Stopped
            began = clock()
            y = jax.tree.map(lambda leaf: leaf[rows], data.y)  # noqa: B023 - used at once
            state = jax.block_until_ready(learner.tell(state, data.x, rows, y))
            told = clock()
            values = figures.of(*judged(plan, state), data.test_y)
            selection, asked = None, float("nan")
            if round < plan.rounds:
                asking = clock()
                selection = learner.ask(state, data.x)
                rows = np.asarray(selection.indices)
                asked = clock() - asking
                whole(rows, plan.size)
            notes.add(
                values, state.hparams, told - began, asked, rows if round < plan.rounds else None
            )
            if keep is not None:
                about = {"strategy": strategy, "seed": seed, "round": round}
                about["labels"] = int(plan.labels[round])
                keep(about | values, state, selection)
            step(strategy, seed, round)
    except Stopped:
        raise
    except Exception as error:
        return Failure(strategy, seed, round, error)
    return notes.run(plan, strategy, seed)


def whole(rows: np.ndarray, size: int) -> None:
    """A batch has as many points as were asked for."""
    if len(rows) < size or (rows < 0).any():
        raise errors.WrongSize(
            "size",
            f"the strategy gave {int((rows >= 0).sum())} of {size} points: the others of the pool "
            "cannot be picked (NaN scores). Drop those rows, or pass fewer `rounds`.",
        )


class Notes:
    """What a run has noted so far."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.hparams: list[dict[str, float]] = []
        self.tell: list[float] = []
        self.ask: list[float] = []
        self.picks: list[np.ndarray] = []

    def add(
        self,
        values: dict[str, float],
        hparams: HParams,
        tell: float,
        ask: float,
        picks: np.ndarray | None,
    ) -> None:
        """One more fit."""
        self.values.append(values)
        self.hparams.append({name: float(value) for name, value in hparams._asdict().items()})
        self.tell.append(tell)
        self.ask.append(ask)
        if picks is not None:
            self.picks.append(picks)

    def run(self, plan: Plan, strategy: str, seed: int) -> Run:
        """The finished run, in rows of the caller's pool."""
        column = lambda table: {
            name: np.array([row[name] for row in table], np.float64) for name in table[0]
        }
        return Run(
            strategy=strategy,
            seed=seed,
            first=plan.data.rows[plan.first[plan.seeds.index(seed)]],
            picks=plan.data.rows[np.stack(self.picks)],
            values=column(self.values),
            hparams=column(self.hparams),
            seconds={"tell": np.array(self.tell), "ask": np.array(self.ask)},
        )


def judged(plan: Plan, state: LearnerState) -> tuple[Prediction, Prediction, LearnerState]:
    """Averaged predictions of the test set before and after the temperature, and the state."""
    bare = state._replace(report=None, search=None)
    raw, tempered = predicted(
        plan.posterior, bare, plan.data.test_x, plan.num_draws, plan.calibrated
    )
    return raw, tempered, state


@functools.partial(jax.jit, static_argnames=("posterior", "num_draws", "calibrated"))
def predicted(
    posterior: Posterior, state: LearnerState, x: jax.Array, num_draws: int | None, calibrated: bool
) -> tuple[Prediction, Prediction]:
    """Averaged predictions before and after the temperature, by the same draws in one pass."""
    bound = predictive_of(posterior, state, num_draws)
    plain = dataclasses.replace(bound, temperature=jnp.float32(1.0))

    def part(x):
        raw = plain(x)
        before = likelihoods.average(raw)
        if not calibrated:
            return before, before
        return before, likelihoods.average(likelihoods.temper(raw, state.temperature))

    return _chunks.over_rows(part, x, ROWS)
