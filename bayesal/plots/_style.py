"""What all pictures share: colors, axes, ticks, bands over seeds and names that do not overlap."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from bayesal import _checks, errors

# Okabe and Ito, without yellow, which is hard to read on white
VERMILION, BLUE, GREEN, PURPLE = "#D55E00", "#0072B2", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLORS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK)
GRAY, INK, FAINT = "#8A8A8A", "#333333", "#D0D0D0"
CHANCE = ("chance", "uniform", "random")  # the yardstick is gray and lies beneath the others
KNOWN = {"batchbald": VERMILION, "bald": BLUE, "power": GREEN, "powerbald": GREEN}
DASHES = ("--", ":", "-.")  # where there are more names than colors
SMALL, MEDIUM, LARGE = 8, 9, 11  # points


class Look(NamedTuple):
    """A color and a line style."""

    color: str
    line: str


class End(NamedTuple):
    """The last point of a line, where its name is written."""

    name: str
    x: float
    y: float
    color: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name: gray for chance, fixed for known strategies, the rest in order.

    >>> [look.color for look in looks(["mine", "batch_bald", "chance"]).values()]
    ['#0072B2', '#D55E00', '#8A8A8A']
    """
    names = list(names)
    plain = {name: str(name).lower().replace("_", "").replace(" ", "") for name in names}
    fixed = {name: GRAY for name in names if plain[name] in CHANCE}
    for name in names:  # of two spellings of one name the second is like any other
        color = KNOWN.get(plain[name])
        if color is not None and color not in fixed.values():
            fixed[name] = color
    free = [Look(color, "-") for color in COLORS if color not in fixed.values()]
    free += [Look(color, dash) for dash in DASHES for color in COLORS]
    rest = iter(free * (1 + len(names) // len(free)))
    return {name: Look(fixed[name], "-") if name in fixed else next(rest) for name in names}


def axes(ax: Any, size: tuple[float, float] = (6.4, 4.2)) -> Any:
    """The axes that were passed in, or those of a new figure of that size in inches; no frame."""
    with _checks.installed("matplotlib", "bayesal[plots]"):
        import matplotlib.pyplot as plt
    if ax is None:
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    elif not hasattr(ax, "transData"):
        kind = "an array of axes" if np.ndim(ax) else type(ax).__name__
        raise errors.WrongType(
            "ax",
            f"`ax` must be one matplotlib Axes, as plt.subplots()[1] makes, or None; got {kind}.",
        )
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    ax.tick_params(colors=INK, labelsize=MEDIUM)
    return ax


def title(ax: Any, text: str) -> None:
    """What is seen, on the left above the axes."""
    ax.set_title(text, loc="left", fontsize=LARGE, color=INK)


def percent(axis: Any) -> None:
    """Ticks in percent with the decimals that tell them apart: steps of 2.5 % need one."""
    from matplotlib.ticker import FuncFormatter

    def text(value: float, place: int | None) -> str:
        del place
        return f"{100 * value:.{decimals(axis.get_majorticklocs())}f}%"

    axis.set_major_formatter(FuncFormatter(text))


def decimals(ticks: Any) -> int:
    """Decimals that a share needs in percent, so that no tick is rounded to another number.

    >>> decimals([0.75, 0.775, 0.8]), decimals([0.7, 0.8])
    (1, 0)
    """
    shares = 100 * np.asarray(ticks, np.float64)
    for places in range(4):
        if np.allclose(shares, shares.round(places), rtol=0, atol=1e-6):
            return places
    return 4


def logarithmic(axis: Any) -> None:
    """A logarithmic axis, once all is drawn: plain numbers at 1, 2 and 5, or at tens only."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = np.sort(axis.get_view_interval())
    decades = np.log10(high / low)
    few = MaxNLocator(4) if decades < 0.6 else None  # too narrow for 1, 2, 5
    axis.set_major_locator(few or LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def whole(axis: Any) -> None:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def seeds(count: int, kind: str) -> str:
    """What the lines of a picture are, of so many seeds.

    >>> seeds(1, "quartiles"), seeds(5, "interval")
    ('one seed', 'mean and 95 % interval of 5 seeds')
    """
    if count == 1:
        return "one seed"
    about = "median and quartiles" if kind == "quartiles" else "mean and 95 % interval"
    return f"{about} of {count} seeds"


def capital(text: str) -> str:
    """The text with a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def line(ax: Any, x: Any, band: Any, look: Look, name: str | None, **more: Any) -> None:
    """A middle and its band; the band only where it is finite."""
    middle, low, high = band
    there = np.isfinite(low) & np.isfinite(high)
    if there.any():
        ax.fill_between(x[there], low[there], high[there], color=look.color, alpha=0.16, lw=0)
    style = {"lw": 2.2, "ls": look.line, "solid_capstyle": "round"} | more
    ax.plot(x, middle, color=look.color, label=name, **style)


def apart(positions: Any, gap: float) -> Float[np.ndarray, " n"]:
    """Positions moved as little as a sweep can, so that neighbors are `gap` apart, in their order.

    >>> apart([0.0, 0.0, 1.0], 0.2).tolist()
    [-0.1, 0.1, 1.0]
    """
    positions = np.asarray(positions, dtype=np.float64)
    order = np.argsort(positions, kind="stable")
    groups: list[list[float]] = []  # [sum of positions, how many]: labels that touch move as one
    for value in positions[order]:
        groups.append([value, 1])
        while len(groups) > 1:
            (sum_a, n_a), (sum_b, n_b) = groups[-2:]
            if sum_b / n_b - sum_a / n_a >= gap * (n_a + n_b) / 2:
                break
            groups[-2:] = [[sum_a + sum_b, n_a + n_b]]
    moved = np.empty_like(positions)
    if groups:
        spread = [total / n + gap * (np.arange(n) - (n - 1) / 2) for total, n in groups]
        moved[order] = np.concatenate(spread)
    return moved


def below(positions: Any, top: float, gap: float) -> Float[np.ndarray, " n"]:
    """Positions pushed down until none is above `top`, still `gap` apart.

    >>> below([0.9, 1.1], 1.0, 0.2).tolist()
    [0.8, 1.0]
    """
    moved = np.array(positions, np.float64)
    for i in np.argsort(-moved, kind="stable"):
        moved[i] = min(moved[i], top)
        top = moved[i] - gap
    return moved


def points(ax: Any) -> tuple[float, float]:
    """Width and height of the axes in points, once the figure is laid out."""
    ax.figure.canvas.draw()
    box = ax.get_window_extent()
    return box.width * 72 / ax.figure.dpi, box.height * 72 / ax.figure.dpi


def names(ax: Any, ends: Sequence[End]) -> None:
    """Each name beside its line's last point, moved apart in height."""
    if not ends:
        return
    height = points(ax)[1]
    to_axes = ax.transData + ax.transAxes.inverted()
    at = np.array([to_axes.transform((end.x, end.y)) for end in ends])
    gap = 1.35 * MEDIUM / height
    heights = below(apart(np.clip(at[:, 1], 0.0, 1.0), gap), 1.0, gap)
    for end, y in zip(ends, heights, strict=True):
        ax.annotate(
            end.name,
            (end.x, end.y),
            xytext=(1.03, y),
            textcoords="axes fraction",
            color=end.color,
            fontsize=MEDIUM,
            fontweight="bold",
            va="center",
            annotation_clip=False,
            gid="end",
            arrowprops={
                "arrowstyle": "-",
                "color": end.color,
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 0,
                "shrinkB": 2,
            },
        )
