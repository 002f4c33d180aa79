"""What came of a simulation: curves, paired differences, a table, a picture, records."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayesal import _shown, errors, metrics
from bayesal._simulate._plan import CHANCE
from bayesal.metrics import _curves
from bayesal.metrics._curves import Interval

AREA = "area"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Results:
    """Curves of S seeds over R rounds for each strategy, and what compares them.

    Rows of a run that failed are NaN (`picks`: -1).

    strategies: their names, in the order they were passed in.
    seeds: the seeds, S of them.
    labels: number of labels after each fit, `[R + 1]`.
    curves: `curves[strategy][metric]` is `[S, R + 1]`, a figure of the test set after each fit.
    picks: `picks[strategy]` is `[S, R, B]`, rows of the pool that was passed in, best first.
    first: rows that were labeled first, `[S, F]`, the same for every strategy; -1 for a seed
      without a finished run.
    hparams: `hparams[strategy][field]` is `[S, R + 1]`, what each fit used.
    seconds: `seconds[strategy]["tell"]` and `["ask"]` are `[S, R + 1]`; the last `ask` is NaN.
      Runs side by side wait for one another.
    failed: `failed[strategy, seed]` says in which round a run failed, and why.
    config: the arguments, as they are written to a folder.
    about: names of the parts, sizes, and versions in `about["made_with"]`; only noted.
    """

    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    labels: np.ndarray
    curves: dict[str, dict[str, np.ndarray]]
    picks: dict[str, np.ndarray]
    first: np.ndarray
    hparams: dict[str, dict[str, np.ndarray]]
    seconds: dict[str, dict[str, np.ndarray]]
    failed: dict[tuple[str, int], str]
    config: dict[str, Any]
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @staticmethod
    def read(folder: Any) -> "Results":
        """The runs that `simulate(..., folder=folder)` kept, read back from disk.

        A run that failed or was never finished is NaN, and `failed` says why.

        Raises:
          BadCheckpoint: it is no folder of a simulation, or holds no finished run.
        """
        from bayesal._simulate._gathered import read

        return read(folder)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the figures."""
        return tuple(self.curves[self.strategies[0]])

    def curve(self, strategy: str, metric: str = "accuracy") -> np.ndarray:
        """One figure of one strategy, `[S, R + 1]`.

        Raises:
          UnknownName: no such strategy or metric; the message lists what there is.
        """
        for value, name, known in (
            (strategy, "strategy", self.strategies),
            (metric, "metric", self.metrics),
        ):
            if value not in known:
                raise errors.UnknownName(
                    name, f"`{name}` is one of {', '.join(known)}; got {value!r}."
                )
        return self.curves[strategy][metric]

    def paired(
        self,
        metric: str | None = None,
        against: str = CHANCE,
        *,
        at: Any = None,
        level: float = 0.95,
    ) -> dict[str, Interval]:
        """Differences to one strategy, seed by seed: means and intervals by Student's t.

        Both runs of a seed share pool, test set, first labels and keys, so that much of the noise
        cancels. Seeds of which either run failed are left out. The intervals are over seeds: first
        labels, fits and picks; the test set is the same throughout.

        Args:
          metric: one of `metrics`; default the first.
          against: the strategy that is subtracted.
          at: None: after every fit, `[R + 1]`. A number of labels: there. "area": the mean height
            of the curve (`metrics.area_under_curve`).
          level: of the intervals.
        Returns:
          `(mean, low, high)` of every other strategy, in the metric's unit.
        Raises:
          UnknownName, OutOfRange: naming the argument.
        """
        metric = self.metrics[0] if metric is None else metric
        read = self._read(at)
        base = read(self.curve(against, metric))
        return {
            name: metrics.mean_interval(read(self.curve(name, metric)) - base, level=level)
            for name in self.strategies
            if name != against
        }

    def _read(self, at: Any) -> Callable[[np.ndarray], np.ndarray]:
        if at is None:
            return lambda curve: curve
        if at == AREA:
            return self._areas
        place = np.flatnonzero(self.labels == at)
        if len(place) == 0:
            raise errors.OutOfRange(
                "at",
                f"`at` must be 'area' or one of the numbers of labels "
                f"{', '.join(map(str, self.labels))}; got {at!r}.",
            )
        return lambda curve: curve[:, place[0]]

    def _areas(self, curve: np.ndarray) -> np.ndarray:
        """The mean height of each seed's curve `[S]`; NaN of what is not finite."""
        whole = np.isfinite(curve).all(axis=1)
        area = lambda row: metrics.area_under_curve(self.labels, row)
        return np.array([area(row) if ok else np.nan for row, ok in zip(curve, whole, strict=True)])

    def area_under_curve(self, metric: str | None = None) -> dict[str, np.ndarray]:
        """Mean height of each seed's curve, `[S]` per strategy, in the metric's unit (AUBC)."""
        metric = self.metrics[0] if metric is None else metric
        return {name: self._areas(self.curve(name, metric)) for name in self.strategies}

    def labels_needed(self, target: float, metric: str | None = None) -> dict[str, np.ndarray]:
        """The first number of labels at which each seed reaches a level, `[S]` per strategy.

        inf: never; NaN: the run failed. A loss reaches the level from above.
        """
        metric = self.metrics[0] if metric is None else metric
        lower = _curves.lower_is_better(metric)
        needed = lambda row: _curves.needed_by_seed(self.labels, row, target, lower)
        return {name: needed(self.curve(name, metric)) for name in self.strategies}

    def table(self, metric: str | None = None, *, target: float | None = None) -> str:
        """The strategies as lines of text: where they end, and what they gain over chance.

        Args:
          metric: what is compared; default the first. The last fit's figures are all shown.
          target: a level of `metric`; adds the median number of labels that reach it.
        """
        metric = self.metrics[0] if metric is None else metric
        areas = self.area_under_curve(metric)
        gaps = self.paired(metric, at=AREA) if CHANCE in self.strategies else {}
        needed = {} if target is None else self.labels_needed(target, metric)
        shown = [m for m in self.metrics if not m.endswith("_before")]
        extra = [] if target is None else [f"to {target:g}"]
        lines = [["strategy", *shown, f"area of {metric}", f"less {CHANCE} (95 %)", *extra, "runs"]]
        for name in self.strategies:
            lost = sum(strategy == name for strategy, _ in self.failed)
            reached = [_labels(needed[name])] if needed else []
            lines.append(
                [
                    name,
                    *(_mean(self.curve(name, m)[:, -1]) for m in shown),
                    _mean(areas[name]),
                    _interval(gaps[name]) if name in gaps else "",
                    *reached,
                    f"{len(self.seeds) - lost}" + (f" ({lost} failed)" if lost else ""),
                ]
            )
        start, end = self.labels[0], self.labels[-1]
        seeds = _shown.counted(len(self.seeds), "seed")
        title = (
            f"{seeds}, {start} to {end} labels; means over seeds, the figures after {end} labels"
        )
        return "\n".join([title, *_aligned(lines)])

    def __repr__(self) -> str:
        return self.table()

    def to_records(self) -> list[dict[str, Any]]:
        """One flat dict per strategy, seed and fit, for `csv.DictWriter` or a data frame.

        Keys: strategy, seed, round, labels, the metrics, the fields of `HParams`, `tell_seconds`
        and `ask_seconds`. Failed runs are left out.
        """
        return [
            {"strategy": name, "seed": seed, "round": r, "labels": int(self.labels[r])}
            | {metric: float(curve[s, r]) for metric, curve in self.curves[name].items()}
            | {field: float(values[s, r]) for field, values in self.hparams[name].items()}
            | {f"{verb}_seconds": float(v[s, r]) for verb, v in self.seconds[name].items()}
            for name in self.strategies
            for s, seed in enumerate(self.seeds)
            if (name, seed) not in self.failed
            for r in range(len(self.labels))
        ]

    def plot(
        self, ax: Any = None, metric: str | None = None, *, target: float | Sequence[float] = ()
    ) -> Any:
        """Learning curves: mean over seeds with its 95 % interval. Returns matplotlib's axes.

        Args:
          ax: axes to draw in; None makes a figure.
          metric: default the first.
          target: a level to mark, or several, with the labels each strategy's median seed needs.

        `plots.learning_curves` has quartiles in place of the interval.
        """
        from bayesal import plots

        return plots.learning_curves(self, ax, metric=metric, target=target)

    def report(
        self,
        path: Any,
        *,
        target: float | Sequence[float] | None = None,
        metric: str | None = None,
        pool: Any = None,
        labels: Any = None,
        pictures: Mapping[str, Any] | None = None,
        title: str = "Active-learning comparison",
    ) -> Path:
        """Write one self-contained HTML file: verdict, curves, calibration, picks, tables, set-up.

        The file loads nothing and runs no script. Needs matplotlib.

        Args:
          path: the file, such as "report.html". An existing file is replaced.
          target: a level of `metric`, or several, for the labels each strategy needs. Default: the
            highest level that every finished run reached.
          metric: what is compared; default the first.
          pool: the examples that the runs picked from. Rows of image shape, `[N, h, w]` or
            `[N, h, w, 3]`, are shown as thumbnails; so are flat rows of a square length, if
            neighboring numbers resemble each other as pixels do.
          labels: the label of each row of the pool.
          pictures: further pictures, caption -> matplotlib's axes or figure.
          title: the heading.
        Returns:
          The path.
        Raises:
          ImportError: matplotlib is not installed. UnknownName, OutOfRange: naming the argument.
        """
        from bayesal import _report

        return _report.write(
            self,
            Path(path),
            target=target,
            metric=metric,
            pool=pool,
            labels=labels,
            pictures=pictures or {},
            title=title,
        )


def _mean(values: np.ndarray) -> str:
    found = values[~np.isnan(values)]
    return f"{found.mean():.3f}" if len(found) else "-"


def _interval(gap: Interval) -> str:
    mean, low, high = map(float, gap)
    if np.isnan(mean):
        return "-"
    if np.isinf(low):
        return f"{mean:+.3f} (one seed)"
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def _labels(needed: np.ndarray) -> str:
    middle = _curves.middle_seed(needed)
    return "-" if np.isnan(middle) else "never" if np.isinf(middle) else f"{middle:.0f}"


def _aligned(lines: list[list[str]]) -> list[str]:
    width = [max(map(len, column)) for column in zip(*lines, strict=True)]
    side = lambda text, i: text.ljust(width[i]) if i == 0 else text.rjust(width[i])
    return ["  ".join(side(text, i) for i, text in enumerate(line)).rstrip() for line in lines]
