"""Finished runs as one `Results`: those of a call, or those that a folder holds."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bayesal import errors
from bayesal._simulate import _folder as folders
from bayesal._simulate._results import Results
from bayesal._simulate._runs import Run

Jobs = Mapping[tuple[str, int], Run]


def gathered(
    strategies: tuple[str, ...],
    seeds: tuple[int, ...],
    runs: Jobs,
    failed: dict[tuple[str, int], str],
    record: dict[str, Any],
) -> Results:
    """The runs as arrays; a run that is not among them is NaN, or -1.

    Args:
      strategies, seeds: all that were asked for, in their order.
      runs: the finished ones, at least one.
      failed: why the others are missing.
      record: what `config.json` holds.
    """
    model = next(iter(runs.values()))
    size = record["config"]["size"]

    def stacked(read: Callable[[Run], dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
        blank = {key: _missing(value) for key, value in read(model).items()}
        of = lambda name, seed: read(runs[name, seed]) if (name, seed) in runs else blank
        return {
            name: {key: np.stack([of(name, seed)[key] for seed in seeds]) for key in blank}
            for name in strategies
        }

    first = {seed: run.first for (_, seed), run in runs.items()}
    return Results(
        strategies=strategies,
        seeds=seeds,
        labels=len(model.first) + size * np.arange(len(model.picks) + 1),
        curves=stacked(lambda run: run.values),
        picks={name: p["picks"] for name, p in stacked(lambda run: {"picks": run.picks}).items()},
        first=np.stack([first.get(seed, _missing(model.first)) for seed in seeds]),
        hparams=stacked(lambda run: run.hparams),
        seconds=stacked(lambda run: run.seconds),
        failed=failed,
        config=record["config"],
        about=record.get("about", {}) | {"made_with": record.get("made_with", {})},
    )


def read(path: Any) -> Results:
    """All runs of a folder. Those that failed or were never finished are NaN and say so.

    Raises:
      BadCheckpoint: it is no folder of a simulation, is of another version, or holds no finished
        run.
    """
    folder, record = folders.existing(path)
    runs, failed = {}, {}
    strategies, seeds = tuple(record["strategies"]), folder.seeds()
    for name in strategies:
        for seed in seeds:
            found = folder.run(name, seed)
            if found is None:
                failed[name, seed] = folder.failure(name, seed) or "not finished"
            else:
                runs[name, seed] = found
    if not runs:
        raise errors.BadCheckpoint(
            "folder",
            f"`folder` ({path}) holds no finished run: "
            + "; ".join(f"{name}, seed {seed}, {why}" for (name, seed), why in failed.items())
            + ("" if failed else "nothing was run there")
            + ".",
        )
    return gathered(strategies, seeds, runs, failed, record)


def _missing(like: np.ndarray) -> np.ndarray:
    return np.full(like.shape, -1 if like.dtype.kind == "i" else np.nan, like.dtype)
