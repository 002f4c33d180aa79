"""Learning curves: a figure of the test set against the number of labels."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from bayesal import _checks, errors, metrics
from bayesal.metrics import _curves
from bayesal.plots import _style
from bayesal.types import ArrayLike

SHORT = {"ece": "ECE", "nll": "NLL", "rmse": "RMSE", "crps": "CRPS", "auroc": "AUROC", "f1": "F1"}
UNITS = {"nll": "nats", "density_nll": "nats", "nll_before": "nats"}
SHARES = ("accuracy", "balanced_accuracy", "f1", "auroc")  # in [0, 1], written in percent
BANDS = ("interval", "quartiles")
ROW = 0.065  # of the height: a row of numbers


class _Curves(NamedTuple):
    """Numbers of labels `[R]` and curves `[S, R]` by name."""

    labels: np.ndarray
    values: dict[str, np.ndarray]
    metric: str


def learning_curves(
    curves: Any,
    ax: Any = None,
    *,
    labels: ArrayLike | Sequence[int] | None = None,
    metric: str | None = None,
    target: float | Sequence[float] = (),
    band: str = "interval",
) -> Any:
    """Learning curves of several strategies, with a band over seeds and the labels each needs.

    Args:
      curves: what `simulate` returns; or name -> `[S, R]`, one figure after each of R fits for S
        seeds, or `[R]` of one seed. NaN is left out.
      ax: axes to draw in; None makes a figure. Set a logarithmic scale before.
      labels: number of labels at each fit `[R]`, of curves that are arrays.
      metric: name of the figure; of `Results` default the first, of arrays default "accuracy".
        Shares are written in percent. Of a loss, less is better.
      target: a level to mark, or several. A ring shows where the median seed first reaches it, and
        the number beneath is its number of labels. No ring: the median seed never does.
      band: "interval": mean and its 95 % interval by Student's t. "quartiles": median, and the
        middle half of the seeds.
    Returns:
      matplotlib's axes.
    Raises:
      WrongType, WrongShape, WrongSize, UnknownName, OutOfRange: naming the argument.

    >>> curves = {"chance": np.array([0.5, 0.7, 0.8]), "margin": np.array([0.5, 0.8, 0.9])}
    >>> ax = learning_curves(curves, labels=[20, 30, 40], target=0.8)
    >>> [line.get_label() for line in ax.lines[:2]], ax.get_ylabel()
    (['chance', 'margin'], 'test accuracy')
    """
    found = _read(curves, labels, metric)
    if band not in BANDS:
        raise errors.UnknownName("band", f"`band` is one of {', '.join(BANDS)}; got {band!r}.")
    targets = [_level(level) for level in np.atleast_1d(np.asarray(target)).tolist()]
    ax = _style.axes(ax, (7.6, 4.8))
    looks = _style.looks(found.values)
    ends, shown = [], []
    # gray first: the yardstick lies beneath the others
    for name in sorted(found.values, key=lambda name: looks[name].color != _style.GRAY):
        middle, low, high = _band(found.values[name], band)
        _style.line(ax, found.labels, (middle, low, high), looks[name], name)
        shown.append(middle)
        there = np.flatnonzero(np.isfinite(middle))
        if len(there):
            last = there[-1]
            color = looks[name].color
            ends.append(_style.End(name, found.labels[last], middle[last], color))
    _limits(ax, [*shown, np.array(targets)], len(targets), found.metric in SHARES)
    _dressed(ax, found.metric)
    for row, level in enumerate(targets):
        ends.append(_target(ax, found, level, looks, row))
    count = max(len(curve) for curve in found.values.values())
    _style.title(ax, _style.capital(_style.seeds(count, band)))
    _style.names(ax, ends)
    return ax


def _read(curves: Any, labels: Any, metric: str | None) -> _Curves:
    if isinstance(curves, Mapping):
        if not curves:
            raise errors.WrongSize(
                "curves", "`curves` is empty: pass name -> values, at least one."
            )
        if labels is None:
            raise errors.WrongType(
                "labels", "`labels` must be the number of labels at each fit `[R]`; got None."
            )
        counts = _checks.numbers(np.asarray(labels), "labels", "[R]", ndim=1)
        read = {
            name: by_seed(curve, f"curves[{name!r}]", len(counts)) for name, curve in curves.items()
        }
        return _Curves(np.asarray(counts, np.float64), read, metric or "accuracy")
    if not all(hasattr(curves, name) for name in ("strategies", "labels", "curve", "metrics")):
        raise errors.WrongType(
            "curves",
            "`curves` must be what `bayesal.simulate` returns, or a dict name -> [S, R]; got "
            f"{type(curves).__name__}.",
        )
    metric = curves.metrics[0] if metric is None else metric
    values = {name: np.asarray(curves.curve(name, metric)) for name in curves.strategies}
    return _Curves(np.asarray(curves.labels, np.float64), values, metric)


def by_seed(values: Any, name: str, count: int) -> Float[np.ndarray, "S R"]:
    """Curves of S seeds at `count` places; one curve is one seed."""
    host = np.atleast_2d(np.asarray(values, np.float64))
    if host.ndim != 2 or host.shape[1] != count or len(host) == 0:
        raise errors.WrongShape(
            name.partition("[")[0],
            f"`{name}` must be [S seeds, {count}] or [{count}]; got shape {np.shape(values)}.",
        )
    return host


def named(metric: str) -> str:
    """A figure of the test set for an axis, with its unit.

    >>> named("nll"), named("balanced_accuracy")
    ('test NLL (nats)', 'test balanced accuracy')
    """
    unit = f" ({UNITS[metric]})" if metric in UNITS else ""
    return f"test {SHORT.get(metric, metric.replace('_', ' '))}{unit}"


def _level(level: Any) -> float:
    if isinstance(level, bool) or not np.isfinite(level):
        raise errors.OutOfRange("target", f"`target` must be finite numbers; got {level!r}.")
    return float(level)


def _band(curve: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle, low and high `[R]`; what is missing everywhere is NaN."""
    if band == "interval":
        middle, low, high = map(np.asarray, metrics.mean_interval(curve))
        return middle, low, high
    some = ~np.isnan(curve).all(axis=0)
    parts = np.full((3, curve.shape[1]), np.nan)
    parts[:, some] = np.nanpercentile(curve[:, some], [50, 25, 75], axis=0)
    return parts[0], parts[1], parts[2]


def _limits(ax: Any, shown: list[np.ndarray], rows: int, share: bool) -> None:
    """Room for all curves and for rows of numbers beneath them. An interval of two seeds can be
    many times as wide as the curves differ: such a band runs out of the picture.
    """
    bottom, top = ax.get_ylim()
    if share:
        bottom, top = max(bottom, -0.005), min(top, 1.005)
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(np.array([bottom, top]))
    values = scale.transform(np.concatenate(shown))
    values = values[np.isfinite(values)]
    span = np.ptp(values) if len(values) else 0.0
    if span > 0:
        low, high = max(low, values.min() - 0.6 * span), min(high, values.max() + 0.6 * span)
    low -= rows * ROW * (high - low) / (1 - rows * ROW)
    ax.set_ylim(*scale.inverted().transform(np.array([low, high])))


def _dressed(ax: Any, metric: str) -> None:
    """Labels and ticks."""
    if metric in SHARES:
        _style.percent(ax.yaxis)
    if ax.get_yscale() == "log":
        _style.logarithmic(ax.yaxis)
    ax.set_ylabel(named(metric))
    ax.set_xlabel("labels")
    _style.whole(ax.xaxis)


def _target(ax: Any, found: _Curves, level: float, looks: Any, row: int) -> Any:
    """A level as a dotted line, rings where the median seeds reach it, and their numbers of labels
    in a row at the bottom. Returns the row's name, to be written beside it.
    """
    ax.axhline(level, color=_style.INK, lw=0.9, ls=":", zorder=1, gid="target")
    lower = _curves.lower_is_better(found.metric)
    needed = {
        name: _curves.middle_seed(_curves.needed_by_seed(found.labels, curve, level, lower))
        for name, curve in found.values.items()
    }
    reached = {name: x for name, x in needed.items() if np.isfinite(x)}
    height = ROW * (row + 0.5)
    to_data = ax.transAxes + ax.transData.inverted()
    at = to_data.transform((0.0, height))[1]
    points = _style.points(ax)[0] / abs(np.subtract(*ax.get_xlim()))  # of one label
    places = _style.apart(list(reached.values()), 24 / points)
    for i, ((name, x), place) in enumerate(zip(reached.items(), places, strict=True)):
        color = looks[name].color
        ax.plot([x, x], [at, level], color=color, lw=0.9, ls=":", zorder=1, gid="drop")
        # rings at one place lie in one another
        size = 6 + 4 * sum(other == x for other in list(reached.values())[i + 1 :])
        style = {"ms": size, "mfc": "white", "mec": color, "mew": 1.8, "zorder": 5}
        ax.plot([x], [level], "o", gid="needed", **style)
        ax.text(
            place,
            at,
            f"{x:.0f}",
            color=color,
            fontsize=_style.MEDIUM,
            fontweight="bold",
            ha="center",
            va="center",
            gid="labels needed",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    said = (
        f"{100 * level:.{_style.decimals([level])}f}%" if found.metric in SHARES else f"{level:g}"
    )
    text = f"labels to {said}" if reached else f"{said}: not reached"
    return _style.End(text, ax.get_xlim()[1], at, _style.INK)
