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
from bayesal.types import Posterior, Prediction, Selection

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
    notes = Notes(plan, figures, strategy, seed, keep)
    rows = notes.first
    try:
        state = learner.init(jax.random.key(seed), data.x)
        for round in range(plan.rounds + 1):
            if stop.is_set():
                raise Stopped
            began, selection = clock(), None
            y = jax.tree.map(lambda leaf: leaf[rows], data.y)  # noqa: B023 - used at once
            state = jax.block_until_ready(learner.tell(state, data.x, rows, y))
            told = clock()
            if round < plan.rounds:
                selection = learner.ask(state, data.x)
                rows = whole(selection, plan.size)
            asked = clock()
            bare = state._replace(report=None, search=None)
            said = predicted(plan.posterior, bare, data.test_x, plan.num_draws, plan.calibrated)
            notes.add(state, said, selection, told - began, asked - told)
            step(strategy, seed, round)
    except Stopped:
        raise
    except Exception as error:
        return notes.failure(error)
    return notes.run()


def whole(selection: Selection, size: int) -> np.ndarray:
    """The rows of a batch, which has as many as were asked for."""
    rows = np.asarray(selection.indices)
    if len(rows) < size or (rows < 0).any():
        raise errors.WrongSize(
            "size",
            f"the strategy gave {int((rows >= 0).sum())} of {size} points: the others of the pool "
            "cannot be picked (NaN scores). Drop those rows, or pass fewer `rounds`.",
        )
    return rows


class Notes:
    """What a run has noted so far: a line for every fit."""

    def __init__(
        self, plan: Plan, figures: Figures, strategy: str, seed: int, keep: Keep | None
    ) -> None:
        self.plan, self.figures, self.keep = plan, figures, keep
        self.strategy, self.seed = strategy, seed
        self.first = plan.first[plan.seeds.index(seed)]
        self.values: list[dict[str, float]] = []
        self.hparams: list[dict[str, float]] = []
        self.seconds: list[dict[str, float]] = []
        self.picks: list[np.ndarray] = []

    def add(
        self,
        state: LearnerState,
        said: tuple[Prediction, Prediction],
        selection: Selection | None,
        tell: float,
        ask: float,
    ) -> None:
        """One more fit: its predictions of the test set before and after the temperature, what is
        asked next (None at the end), and the seconds of both.
        """
        round = len(self.values)
        values = self.figures.of(*said, state, self.plan.data.test_y)
        if self.keep is not None:
            about = {"strategy": self.strategy, "seed": self.seed, "round": round}
            labels = {"labels": int(self.plan.labels[round])}
            self.keep(about | labels | values, state, selection)
        self.values.append(values)
        self.hparams.append({name: float(value) for name, value in state.hparams._asdict().items()})
        self.seconds.append({"tell": tell, "ask": float("nan") if selection is None else ask})
        if selection is not None:
            self.picks.append(np.asarray(selection.indices))

    def failure(self, error: Exception) -> Failure:
        """The run ended here."""
        return Failure(self.strategy, self.seed, len(self.values), error)

    def run(self) -> Run:
        """The finished run, in rows of the caller's pool."""
        column = lambda table: {
            name: np.array([line[name] for line in table], np.float64) for name in table[0]
        }
        return Run(
            strategy=self.strategy,
            seed=self.seed,
            first=self.plan.data.rows[self.first],
            picks=self.plan.data.rows[np.stack(self.picks)],
            values=column(self.values),
            hparams=column(self.hparams),
            seconds=column(self.seconds),
        )


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
