"""`simulate`: strategies x seeds, side by side, with progress, and kept in a folder."""

import concurrent.futures
import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesal import _checks, _chunks, _compiling, _shown
from bayesal._simulate import _described as described
from bayesal._simulate import _folder as folders
from bayesal._simulate import _vectorized as together
from bayesal._simulate._figures import Figures, figures
from bayesal._simulate._gathered import gathered
from bayesal._simulate._plan import Plan, named_strategies, plan, seed_numbers
from bayesal._simulate._progress import Progress, Screen
from bayesal._simulate._results import Results
from bayesal._simulate._runs import Failure, Run, run
from bayesal._warnings import collected, warn
from bayesal.loop._state import usual
from bayesal.types import HParams, Posterior


def simulate(
    strategies: Any,
    pool: Any,
    labels: Any,
    *,
    posterior: Posterior,
    test: Any = None,
    seeds: Any = 5,
    rounds: int = 10,
    size: int = 10,
    first: Any = 20,
    metrics: Any = None,
    retune: Any = None,
    calibrate: Any = None,
    hparams: HParams | None = None,
    num_draws: int | None = None,
    num_folds: int = 5,
    groups: Any = None,
    update: str = "fresh",
    folder: Any = None,
    keep: Callable[..., None] | None = None,
    threads: int | None = None,
    vectorized: bool = False,
    progress: bool | Callable[[Progress], Any] = True,
) -> Results:
    """Strategies compared on labels that are known already: every strategy with every seed.

    A run labels the `first` rows, then `rounds` times asks for `size` more, and is judged on the
    test set after every fit. The runs of one seed share first labels and keys, so that their
    differences are paired. Chance (`acquire.uniform`) always runs too, as "chance".

    Args:
      strategies: a dict of names and strategies of `bayesal.acquire`, or one Strategy.
      pool: the examples, anything that `pools.of` takes.
      labels: the label of every row, as `tell` takes them.
      posterior: one of `bayesal.posteriors`.
      test: the test set (x, y); or how many rows, or which share of them, to hold out of the pool.
        Default: 20 %, 2,000 rows at most. Held-out rows hold each class by its share (real labels:
        each quantile), whole groups of them, and are the same for every seed and strategy.
      seeds: how many, or a list of ints. A seed fixes the first labels and the learner's key.
      rounds, size: how often each run asks, and for how many rows.
      first: how many rows are labeled first, drawn by chance for each seed; or rows of the pool,
        `[F]` or `[seeds, F]`; or a Strategy that picks `size` rows by the examples alone, such as
        `acquire.typiclust()`.
      metrics: names of `bayesal.metrics`, or a dict of names and functions of (averaged prediction,
        labels). Default: accuracy, nll and ece; for real labels rmse and density_nll. With a
        calibrator also before the temperature, as `nll_before`. Accuracy, balanced accuracy and F1
        are those at temperature 1.
      retune, calibrate, hparams, num_draws, num_folds, groups, update: as of `bayesal.learner`.
      folder: where finished runs are kept, and `report.html` of all of them (needs matplotlib). The
        next call with the same arguments runs only what is missing or has failed; strategies and
        seeds may be added.
      keep: called as `keep(record, state, selection)` after every fit, from the run's thread;
        `selection` is what is asked next, None at the end.
      threads: runs side by side. Default: one per core on CPU, at most 4; one on accelerators.
      vectorized: all seeds of a strategy in one program, under `vmap`. Meant for accelerators: on
        CPU it compiles ten times as long (digits, 3 strategies: 45 s) and runs no faster. Picks are
        those of the runs one by one, and figures agree to rounding; a near tie may fall the other
        way. The pool is an array, and `ask` and `tell` check nothing.
      progress: True: on stderr. False: silent. A function gets a record with `done`, `total`,
        `seconds`, `left` and `doing`, whose `str` is the line.
    Returns:
      Curves per strategy, with `paired`, `labels_needed`, `area_under_curve`, `table`, `plot` and
      `to_records`. The same arguments give the same curves, whatever the number of threads.
    Raises:
      BadCheckpoint: the folder holds another configuration; the message names what differs.
      WrongSize, WrongLabel, WrongType, ...: naming the argument.
      The first run's own error, if every run fails. If some fail, the others go on, a warning says
        so, and `Results.failed` and the folder say why.

    >>> from bayesal import acquire, networks, posteriors, scores
    >>> x = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    >>> results = simulate(
    ...     {"margin": acquire.top(scores.margin)},
    ...     x,
    ...     (x.sum(axis=1) > 0).astype(int),
    ...     posterior=posteriors.point(networks.mlp(2, 2, (8,))),
    ...     seeds=2,
    ...     rounds=2,
    ...     size=5,
    ...     first=10,
    ...     progress=False,
    ... )
    >>> results.labels.tolist(), results.curves["margin"]["accuracy"].shape
    ([10, 15, 20], (2, 3))
    """
    options = dict(
        retune=retune,
        calibrate=calibrate,
        hparams=hparams,
        num_draws=num_draws,
        num_folds=num_folds,
        groups=groups,
        update=update,
    )
    named, numbers = named_strategies(strategies), seed_numbers(seeds)
    _numbers(rounds, size, keep)
    workers = _workers(threads)
    start = _start(len(named), len(numbers))
    fits = len(named) * len(numbers) * (rounds + 1)
    with _compiling.silence(), Screen(fits, rounds, start, progress) as screen:
        planned = plan(named, pool, labels, test, posterior, numbers, rounds, size, first, options)
        if vectorized:
            together.possible(planned)
        shown = figures(metrics, planned)
        record = _record(planned, options, shown, bool(vectorized))
        where = folders.opened(folder, record)
        runs = _all_runs(planned, shown, where, keep, workers, screen, vectorized)
    results = _results(planned, runs, record)
    _report(where.path, pool, labels, silent=progress is False)
    return results


def _start(strategies: int, seeds: int) -> str:
    """The first line of progress."""
    return f"{strategies} strategies x {_shown.counted(seeds, 'seed')}, compiling first (seconds)"


Runs = dict[tuple[str, int], Run | Failure]


def _all_runs(
    plan: Plan,
    figures: Figures,
    folder: folders.Folder,
    keep: Callable[..., None] | None,
    workers: int,
    screen: Screen,
    vectorized: bool,
) -> Runs:
    """Every strategy with every seed: what the folder has, and the rest side by side."""
    fits, todo = plan.rounds + 1, []
    runs: Runs = {}
    for row, seed in zip(plan.first, plan.seeds, strict=True):
        for name in plan.strategies:
            done = folder.done(name, seed, plan.data.rows[row])
            if done is None:
                todo.append((name, seed))
            else:
                runs[name, seed] = done
    screen.found(len(runs) * fits)
    stop = threading.Event()

    def noted(found: Run | Failure) -> Run | Failure:
        if isinstance(found, Failure):
            folder.fail(found)
            screen.skip(found.strategy, found.seed, fits - found.round)
        else:
            folder.keep(found)
        return found

    remarks: list[tuple[str, str]] = []

    def one(job: tuple[str, int]) -> Run | Failure:
        with collected() as said:
            found = run(plan, figures, *job, step=screen.step, stop=stop, keep=keep)
        remarks.extend((job[0], message) for message in said)
        return noted(found)

    if not vectorized:
        found = _side_by_side(one, todo, workers, stop)
        _warn_once(remarks)
        return runs | {(each.strategy, each.seed): each for each in found}
    fit = together.fitting(plan)
    for name in plan.strategies:
        if seeds := [seed for other, seed in todo if other == name]:
            for each in together.run_seeds(
                plan, figures, fit, name, seeds, step=screen.step, keep=keep
            ):
                runs[name, each.seed] = noted(each)
    return runs


def _warn_once(remarks: list[tuple[str, str]]) -> None:
    """Warnings of all runs: of those of one strategy that differ in numbers alone, the first."""
    alike: dict[tuple[str, str], list[str]] = {}
    for strategy, message in remarks:
        alike.setdefault((strategy, re.sub(r"[\d.]+", "", message)), []).append(message)
    for (strategy, _), messages in alike.items():
        more = f" ({len(messages) - 1} more like it.)" if len(messages) > 1 else ""
        warn(f"{strategy}: {messages[0]}{more}")


def _side_by_side(
    one: Callable[[tuple[str, int]], Run | Failure],
    jobs: list[tuple[str, int]],
    workers: int,
    stop: threading.Event,
) -> list[Run | Failure]:
    """Every job's run, in some threads. An interrupt ends the runs before their next round."""
    if workers == 1 or len(jobs) < 2:
        return [one(job) for job in jobs]
    pool = concurrent.futures.ThreadPoolExecutor(min(workers, len(jobs)))
    try:
        return list(pool.map(one, jobs))
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _numbers(rounds: Any, size: Any, keep: Any) -> None:
    """Refuses what is wrong before anything is compiled."""
    _checks.at_least(1, rounds, "rounds", most=1_000_000)
    _checks.at_least(1, size, "size", most=2**31 - 1)
    if keep is not None:
        _checks.function(keep, "keep", "a function of (record, state, selection)")


def _workers(threads: int | None) -> int:
    if threads is not None:
        return _checks.at_least(1, threads, "threads", most=1024)
    return min(os.cpu_count() or 1, 4) if _chunks.on_cpu() else 1


def _record(
    plan: Plan, options: dict[str, Any], figures: Figures, vectorized: bool
) -> dict[str, Any]:
    """What a folder's `config.json` holds."""
    digests = {name: described.digest(strategy) for name, strategy in plan.strategies.items()}
    config = _config(plan, options, figures) | {"vectorized": vectorized}
    return folders.record(config, digests, _about(plan, options))


def _config(plan: Plan, options: dict[str, Any], figures: Figures) -> dict[str, Any]:
    """What must agree for runs to be comparable. First labels are compared run by run."""
    hparams = options["hparams"] or usual(plan.posterior)
    shape = lambda tree: [described.rows_digest(leaf) for leaf in jax.tree.leaves(tree)]
    x = plan.data.x
    return {
        "posterior": described.digest(plan.posterior),
        "pool": described.rows_digest(x) if hasattr(x, "dtype") else f"{x.rows} rows",
        "labels": shape(plan.data.y),
        "test": [described.rows_digest(plan.data.test_x), *shape(plan.data.test_y)],
        "rounds": plan.rounds,
        "size": plan.size,
        "metrics": {name: described.digest(f) for name, f in figures.functions.items()},
        "retune": described.digest(options["retune"]),
        "calibrate": described.digest(options["calibrate"]),
        "hparams": {name: float(value) for name, value in hparams._asdict().items()},
        "num_draws": plan.num_draws,
        "num_folds": options["num_folds"],
        "groups": None if plan.data.groups is None else described.digest(plan.data.groups),
        "update": options["update"],
    }


def _about(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    """What people want to know of a simulation besides: names and sizes."""
    x = plan.data.x
    row = x[0] if hasattr(x, "dtype") else x.take(np.zeros(1, np.int32))[0]
    rows = jax.tree.leaves(plan.data.test_y)[0].shape[0]
    return {
        "posterior": described.called(plan.posterior),
        "retune": described.called(options["retune"]),
        "calibrate": described.called(options["calibrate"]),
        "strategies": {name: described.called(s) for name, s in plan.strategies.items()},
        "pool": f"{len(plan.data.rows):,} rows of shape {tuple(row.shape)}",
        "test": f"{rows:,} rows",
        "classes": plan.classes,
    }


def _report(folder: Path | None, pool: Any, labels: Any, silent: bool) -> None:
    """`report.html` of all that a folder holds. No fault here may cost the results."""
    if folder is None:
        return
    quiet = _compiling.silence() if silent else contextlib.nullcontext()
    try:
        with quiet, _compiling.said("writing the report", "writing the report"):
            Results.read(folder).report(folder / "report.html", pool=pool, labels=labels)
    except ImportError as error:
        warn(f"no report was written to `folder`: {error}")
    except Exception as error:
        warn(
            f"no report was written to `folder` ({type(error).__name__}: {error}). The runs are "
            "complete: `bayesal.Results.read(folder).report(path)` tries again."
        )


def _results(plan: Plan, runs: Runs, record: dict[str, Any]) -> Results:
    """The runs as arrays, and a warning for those that failed."""
    failures = [found for found in runs.values() if isinstance(found, Failure)]
    if len(failures) == len(runs):
        raise failures[0].error
    if failures:
        warn(
            f"{len(failures)} of {len(runs)} runs failed and are left out: "
            + "; ".join(f"{f.strategy}, seed {f.seed}, {f}" for f in failures[:3])
            + (f"; and {len(failures) - 3} more" if len(failures) > 3 else "")
            + ". See `Results.failed`.",
        )
    return gathered(
        tuple(plan.strategies),
        plan.seeds,
        {job: found for job, found in runs.items() if isinstance(found, Run)},
        {(f.strategy, f.seed): str(f) for f in failures},
        record,
    )
