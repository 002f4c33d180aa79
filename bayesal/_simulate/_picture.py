"""The learning curves of a simulation. matplotlib is imported when a picture is drawn."""

from typing import Any

import numpy as np

from bayesal import _checks, metrics
from bayesal._simulate._plan import CHANCE

# Okabe and Ito: told apart by color-blind people too
COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRAY, INK = "#8A8A8A", "#333333"
LINES = ("-", "--", ":")  # where there are more strategies than colors
UNITS = {"nll": "nats", "density_nll": "nats", "nll_before": "nats"}
PERCENT = ("accuracy", "balanced_accuracy", "f1", "auroc")


def draw(results: Any, ax: Any, metric: str, target: float | None) -> Any:
    """Mean and 95 % interval over seeds, a name at the end of each curve."""
    with _checks.installed("matplotlib", "bayesal[viz]"):
        import matplotlib.pyplot as plt
        from matplotlib.ticker import PercentFormatter
    if ax is None:
        ax = plt.subplots(figsize=(7.6, 4.8), layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    ax.tick_params(colors=INK, labelsize=9)
    paint, ends = _paint(results.strategies), []
    for name in sorted(results.strategies, key=lambda name: name != CHANCE):  # gray lies beneath
        curve = results.curve(name, metric)
        if np.isnan(curve).all():
            continue
        color, line = paint[name]
        mean, low, high = metrics.mean_interval(curve)
        there = np.isfinite(low)
        ax.fill_between(
            results.labels[there], low[there], high[there], color=color, alpha=0.15, lw=0
        )
        ax.plot(results.labels, mean, color=color, ls=line, lw=2.2, label=name)
        ends.append((name, results.labels[-1], mean[-1], color))
    if target is not None:
        _marks(ax, results, metric, target, paint)
    if metric in PERCENT:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=_decimals(ax)))
    ax.set_xlabel("labels")
    unit = f" ({UNITS[metric]})" if metric in UNITS else ""
    ax.set_ylabel(f"test {metric.replace('_', ' ')}{unit}")
    count = len(results.seeds)
    about = "One seed" if count == 1 else f"Mean and its 95 % interval over {count} seeds"
    ax.set_title(about, loc="left", fontsize=11, color=INK)
    _names(ax, ends)
    return ax


def _paint(strategies: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """A color and a line for each strategy; chance is gray."""
    others = [name for name in strategies if name != CHANCE]
    look = lambda i: (COLORS[i % len(COLORS)], LINES[i // len(COLORS) % len(LINES)])
    return {CHANCE: (GRAY, "-")} | {name: look(i) for i, name in enumerate(others)}


def _decimals(ax: Any) -> int:
    """Decimals that tell the axis' ticks apart: steps of 2.5 % need one."""
    ticks = np.diff(ax.get_yticks())
    step = 100 * float(ticks[0]) if len(ticks) else 1.0
    return 0 if abs(step - round(step)) < 1e-6 else 1


def _marks(ax: Any, results: Any, metric: str, target: float, paint: dict) -> None:
    """A level as a dotted line, and where each strategy's median seed reaches it."""
    ax.axhline(target, color=INK, lw=0.9, ls=":", zorder=1)
    reached = {
        name: float(np.quantile(found, 0.5, method="inverted_cdf"))
        for name, values in results.labels_needed(target, metric).items()
        if len(found := values[~np.isnan(values)])
    }
    at: dict[float, list[str]] = {}
    for name, x in reached.items():
        if np.isfinite(x):
            at.setdefault(x, []).append(name)
    for x, names in at.items():
        for i, name in enumerate(names):  # marks at one place are rings in one another
            size = 6 + 4 * (len(names) - 1 - i)
            ax.plot([x], [target], "o", ms=size, mfc="white", mec=paint[name][0], mew=1.8, zorder=5)
        ax.annotate(
            f"{x:.0f}",
            (x, target),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=INK if len(names) > 1 else paint[names[0]][0],
        )


def _names(ax: Any, ends: list[tuple[str, Any, Any, str]]) -> None:
    """Each name beside its curve's end, in order of height and never on one another."""
    if not ends:
        return
    ax.figure.canvas.draw()  # limits and sizes are settled
    size = 9
    height = ax.get_window_extent().height * 72 / ax.figure.dpi
    gap = 1.35 * size / height
    low, high = ax.get_ylim()
    ends = sorted(ends, key=lambda end: end[2])
    wanted = np.array([(value - low) / (high - low) for _, _, value, _ in ends])
    places = wanted.copy()
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places -= max(0.0, (places - wanted).mean())  # up and down alike
    for (name, x, value, color), y in zip(ends, places, strict=True):
        ax.annotate(
            name,
            (x, value),
            xytext=(1.04, y),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.6, "shrinkA": 0, "shrinkB": 2},
            color=color,
            fontsize=size,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )
