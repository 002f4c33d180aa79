"""The pictures of the experiments: each `plot_*` takes plain arrays or records and returns the axes
or the figure.

Nothing is shown and no backend is chosen: `save` writes the file. matplotlib is imported when a
picture is drawn, not before. A record is one round of one run: strategy, seed, round, labels,
accuracy, nll, ece, temperature, hparams.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bayesal import metrics

BLUE, VERMILION, GREEN, PURPLE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
)  # Okabe and Ito: told apart by color-blind people too
ORANGE, SKY, YELLOW, BLACK = "#E69F00", "#56B4E9", "#F0E442", "#000000"
GRAY, INK, FAINT = "#8A8A8A", "#333333", "#D0D0D0"
FIXED = {
    "uniform": GRAY,
    "random": GRAY,
    "batchbald": VERMILION,
    "bald": BLUE,
    "powerbald": GREEN,
    "entropy": PURPLE,
}
SPARE = (ORANGE, SKY, GREEN, PURPLE, BLACK, BLUE, VERMILION, YELLOW)


def save(picture, path):
    """Writes a figure, or the figure that holds an axes, to `path` (150 dots per inch, tight) and
    returns the path.
    """
    figure = picture.get_figure() if hasattr(picture, "transData") else picture
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight", facecolor="white")
    return path


def colors(strategies):
    """A color for each strategy: the same in every picture for those known by name, uniform in
    gray.
    """
    plain = {name: name.lower().replace("_", "") for name in strategies}
    known = {name: FIXED[key] for name, key in plain.items() if key in FIXED}
    free = [color for color in SPARE if color not in known.values()]
    rest = sorted(name for name in strategies if name not in known)
    return known | {name: free[i % len(free)] for i, name in enumerate(rest)}


def apart(positions, gap):
    """`positions` moved as little as a sweep can so that neighbors are at least `gap` apart; the
    order is kept.
    """
    positions = np.asarray(positions, dtype=np.float64)
    order = np.argsort(positions, kind="stable")
    groups = []  # [sum of wanted first positions, how many]: a group is a run of labels that touch
    for value in positions[order]:
        groups.append([value, 1])
        while len(groups) > 1:
            (sum_a, n_a), (sum_b, n_b) = groups[-2:]
            if sum_b / n_b - sum_a / n_a >= gap * (n_a + n_b) / 2:
                break
            groups[-2:] = [[sum_a + sum_b, n_a + n_b]]
    out = (
        np.concatenate([total / n + gap * (np.arange(n) - (n - 1) / 2) for total, n in groups])
        if groups
        else positions
    )
    moved = np.empty_like(positions)
    moved[order] = out
    return moved


def _axes(ax, size):
    import matplotlib.pyplot as plt

    if ax is None:
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    return _plain(ax)


def _plain(ax):
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRAY)
    ax.tick_params(colors=INK, labelsize=9)
    return ax


def _pixels_per_unit(ax):
    """Height and width of the axes in points, to keep text of so many points apart."""
    box = ax.get_window_extent()
    return box.width * 72 / ax.figure.dpi, box.height * 72 / ax.figure.dpi


def _ends(ax, lines, *, size=9):
    """Writes each name beside its line's last point, moved apart in height. lines: (name, x, y,
    color).
    """
    height = _pixels_per_unit(ax)[1]
    to_axes = lambda x, y: ax.transAxes.inverted().transform(ax.transData.transform((x, y)))
    at = np.array([to_axes(x, y) for _, x, y, _ in lines])
    for (name, _, _, color), (x, y), new in zip(
        lines, at, apart(at[:, 1], 1.35 * size / height), strict=True
    ):
        ax.annotate(
            name,
            (x, y),
            xytext=(1.03, new),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=color,
            fontsize=size,
            va="center",
            ha="left",
            fontweight="bold",
            annotation_clip=False,
            gid="end",
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 0,
                "shrinkB": 2,
            },
        )


def _over_seeds(records, read):
    """x values and the quartiles [3, x] over seeds; values that are missing or not finite are left
    out.
    """
    by_x = {}
    for record in records:
        x, value = read(record)
        if value is not None and np.isfinite(value):
            by_x.setdefault(x, []).append(float(value))
    xs = sorted(by_x)
    return np.array(xs, dtype=np.float64), np.array(
        [np.percentile(by_x[x], [25, 50, 75]) for x in xs]
    ).reshape(-1, 3).T


def needed(records, level):
    """Median over seeds of the labels at which a run first reaches `level` accuracy; inf if half of
    the seeds never do.
    """
    runs = {}
    for record in records:
        runs.setdefault(record["seed"], {})[record["labels"]] = record["accuracy"]
    per_seed = [
        metrics.labels_needed(np.array(sorted(run)), np.array([run[n] for n in sorted(run)]), level)
        for run in runs.values()
    ]
    return float(np.percentile(per_seed, 50, method="higher"))  # no mean of a number and inf


def plot_learning_curves(records, *, level=(0.9, 0.95), references=None, ax=None):
    """Accuracy against labels: median and interquartile band over seeds, with the labels each
    strategy needs for a level.

    references: name -> (labels, accuracies) of a published curve, or name -> one accuracy, drawn
      thin and dashed.
    """
    from matplotlib.ticker import PercentFormatter

    if not records:
        raise ValueError("`records` is empty: there is no curve to draw.")
    ax = _axes(ax, (7.6, 4.8))
    by_strategy = {}
    for record in records:
        by_strategy.setdefault(record["strategy"], []).append(record)
    paint = colors(by_strategy)
    order = sorted(by_strategy, key=lambda name: (paint[name] != GRAY, name))  # gray lies beneath
    ends, seen = [], []
    for name in order:
        x, (low, middle, high) = _over_seeds(
            by_strategy[name], lambda r: (r["labels"], r["accuracy"])
        )
        ax.fill_between(x, low, high, color=paint[name], alpha=0.18, lw=0)
        again = sum(
            paint[other] == paint[name] for other in order[: order.index(name)]
        )  # more strategies than colors: dashes tell them apart
        ax.plot(
            x,
            middle,
            color=paint[name],
            lw=2.2,
            ls=("-", "--", ":")[again % 3],
            label=name,
            solid_capstyle="round",
        )
        ends.append((name, x[-1], middle[-1], paint[name]))
        seen += [low, high]
    x_low, x_high = min(r["labels"] for r in records), max(r["labels"] for r in records)
    for name, value in (references or {}).items():
        if np.ndim(value) == 0:
            x, y = np.array([x_low, x_high]), np.array([value, value], dtype=np.float64)
        else:
            x, y = (np.asarray(part, dtype=np.float64) for part in value)
        ax.plot(x, y, color=INK, lw=1, ls=(0, (5, 3)), gid="reference")
        inside = x <= x_high
        ends.append(
            (
                name,
                x[inside][-1] if inside.any() else x[0],
                y[inside][-1] if inside.any() else y[0],
                INK,
            )
        )
        seen.append(y)
    levels = np.atleast_1d(level) if level is not None else np.array([])
    seen = np.concatenate([*seen, levels])
    y_low, y_high = seen.min(), seen.max()
    span = max(y_high - y_low, 0.02)
    room = 0.025 * max(x_high - x_low, 1)
    ax.set_xlim(x_low - room, x_high + room)
    row = 0.055 * span  # numbers stand in rows beneath the curves, one row for a level
    ax.set_ylim(
        y_low - row * (0.6 + 1.1 * len(levels)),
        min(y_high + 0.04 * span, 1.005) if y_high <= 1 else y_high,
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if span > 0.08 else 1))
    ax.set_xlabel("labels")
    ax.set_ylabel("test accuracy")
    seeds = {len({r["seed"] for r in group}) for group in by_strategy.values()}
    count = (
        f"{min(seeds)} seed{'s' * (min(seeds) != 1)}"
        if len(seeds) == 1
        else f"{min(seeds)} to {max(seeds)} seeds"
    )
    ax.set_title(
        "One seed" if seeds == {1} else f"Median and interquartile band over {count}",
        loc="left",
        fontsize=11,
        color=INK,
    )
    ax.figure.canvas.draw()
    width = _pixels_per_unit(ax)[0] / (ax.get_xlim()[1] - ax.get_xlim()[0])  # points per label
    for i, target in enumerate(levels):
        ax.axhline(target, color=INK, lw=0.9, ls=":", zorder=1, gid="target")
        at = ax.get_ylim()[0] + row * (0.6 + 1.1 * i)
        where = {name: needed(by_strategy[name], target) for name in order}
        where = {name: x for name, x in where.items() if np.isfinite(x)}
        if not where:
            ax.annotate(
                "not reached",
                (0.5, at),
                xycoords=("axes fraction", "data"),
                fontsize=8,
                color=GRAY,
                ha="center",
                va="center",
            )
        text = (
            f"labels for {target:.0%}"
            if abs(target * 100 - round(target * 100)) < 1e-6
            else f"labels for {target:.1%}"
        )
        ax.annotate(
            text,
            (1.03, at),
            xycoords=("axes fraction", "data"),
            fontsize=8,
            color=INK,
            va="center",
            annotation_clip=False,
        )
        for (name, x), new in zip(
            where.items(), apart(list(where.values()), 27 / width), strict=True
        ):
            ax.plot(
                [x, x],
                [at + 0.55 * row, target],
                color=paint[name],
                lw=0.9,
                ls=":",
                zorder=1,
                gid="drop",
            )
            ax.plot(
                [x],
                [target],
                "o",
                ms=6,
                mfc="white",
                mec=paint[name],
                mew=1.8,
                zorder=5,
                clip_on=False,
                gid="needed",
            )
            ax.text(
                new,
                at,
                f"{x:.0f}",
                color=paint[name],
                fontsize=8.5,
                fontweight="bold",
                ha="center",
                va="center",
                gid="labels needed",
            )
    _ends(ax, ends)
    return ax


def plot_panels(records, panels, *, logarithmic=()):
    """One panel for each field against labels: median and interquartile band over seeds, a line for
    each strategy. Returns the figure.

    panels: field of a record -> what its axis says; fields in `logarithmic` get such an axis.
    """
    import matplotlib.pyplot as plt

    if not records:
        raise ValueError("`records` is empty: there is nothing to draw.")
    names = sorted({r["strategy"] for r in records})
    paint, seeds = colors(names), len({r["seed"] for r in records})
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 3.8), layout="constrained", squeeze=False
    )
    for ax, (field, title) in zip(axes[0], panels.items(), strict=True):
        _plain(ax)
        for name in names:
            x, (low, middle, high) = _over_seeds(
                [r for r in records if r["strategy"] == name],
                lambda r: (r["labels"], r[field]),  # noqa: B023
            )
            ax.fill_between(x, low, high, color=paint[name], alpha=0.18, lw=0)
            ax.plot(x, middle, color=paint[name], lw=2.2, label=name, solid_capstyle="round")
        ax.set(xlabel="labels", yscale="log" if field in logarithmic else "linear")
        ax.set_title(title, loc="left", fontsize=11, color=INK)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        fontsize=9,
    )  # over no line
    figure.suptitle(
        f"Median and interquartile band over {seeds} seed{'s' * (seeds != 1)}",
        fontsize=9,
        color=GRAY,
    )
    return figure


def wilson(successes, count, z=1.959964):
    """The Wilson 95 % interval of a share, as (low, high); the whole of [0, 1] where count is 0."""
    successes, count = np.asarray(successes, dtype=np.float64), np.asarray(count, dtype=np.float64)
    n = np.maximum(count, 1)
    share = successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.where(count > 0, np.maximum(middle - half, 0), 0.0), np.where(
        count > 0, np.minimum(middle + half, 1), 1.0
    )


def plot_reliability(log_probs_before, log_probs_after, labels, *, axes=None):
    """Accuracy against confidence before and after temperature: equal-mass bins with 95 % bars.
    Returns the figure.
    """
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots(
            1, 2, figsize=(9.2, 4.9), layout="constrained", sharex=True, sharey=True
        )[1]
    axes = list(np.ravel(axes))
    for ax, log_probs, name, color in zip(
        axes,
        (log_probs_before, log_probs_after),
        ("Before", "After"),
        (VERMILION, BLUE),
        strict=True,
    ):
        _plain(ax)
        bins = metrics.reliability(log_probs, labels, bins=10, equal_mass=True)
        full = bins.count > 0
        x, y, n = bins.confidence[full], bins.accuracy[full], bins.count[full]
        low, high = wilson(y * n, n)
        ax.plot([0, 1], [0, 1], color=GRAY, lw=1, ls="--", zorder=1, gid="diagonal")
        ax.fill_between(
            x, y, x, color=color, alpha=0.13, lw=0, zorder=0
        )  # the gap that ECE is the mean of
        ax.plot(x, y, color=color, lw=1, alpha=0.5, zorder=2)
        ax.errorbar(
            x,
            y,
            yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
            fmt="o",
            color=color,
            ms=5.5,
            mec="white",
            mew=0.8,
            elinewidth=1.5,
            zorder=3,
            clip_on=False,
        )
        error = metrics.ece(log_probs, labels, bins=10, equal_mass=True)
        loss = float(metrics.nll(log_probs, labels))
        ax.set_title(
            f"{name} temperature\nECE {error:.3f}   NLL {loss:.3f}",
            fontsize=11,
            color=INK,
            loc="left",
        )
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_xticks([0.2, 0.4, 0.6, 0.8, 1.0])
        ax.set_aspect("equal")
        ax.set_xlabel("confidence")
        inset = _plain(ax.inset_axes([0.56, 0.14, 0.38, 0.24]))
        inset.hist(
            np.exp(np.asarray(log_probs, dtype=np.float64).max(axis=1)),
            bins=np.linspace(0, 1, 21),
            color=color,
            alpha=0.75,
        )
        inset.set_xlim(0, 1)
        inset.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        inset.set_yticks([])
        inset.spines["left"].set_visible(False)
        inset.tick_params(labelsize=7)
        inset.set_title("points by confidence", fontsize=7.5, color=INK, pad=2)
    axes[0].set_ylabel("accuracy")
    axes[0].text(
        0.97,
        0.04,
        "10 equal-mass bins, 95 % bars",
        transform=axes[0].transAxes,
        ha="right",
        fontsize=8,
        color=GRAY,
    )
    return axes[0].get_figure()


def plot_score_histogram(scores, picked_rows, *, bounds=None, name="score", about="", ax=None):
    """The pool's scores in gray on a log count, the picks on the axis, and what a score cannot
    exceed (name -> value).

    name: what the score is called. about: which strategy, seed and round this is.

    A bound further than 1.3 times the range of the data is named in the corner instead of squeezing
    the pool.
    """
    ax = _axes(ax, (7.2, 4.0))
    scores = np.asarray(scores, dtype=np.float64)
    picked = scores[np.asarray(picked_rows, dtype=int)]
    pool = scores[np.isfinite(scores)]
    if len(pool) == 0:
        raise ValueError("`scores` holds no finite number: there is no histogram to draw.")
    low, high = min(pool.min(), 0.0), pool.max()
    span = max(high - low, 1e-9)
    ax.hist(
        pool,
        bins=np.linspace(low, max(high, low + 1e-9), 51),
        color="#BDBDBD",
        edgecolor="white",
        lw=0.4,
        log=True,
    )
    top = ax.get_ylim()[1] * 3
    ax.set_ylim(0.5, top)
    shown = {
        name: x for name, x in (bounds or {}).items() if low - 0.3 * span <= x <= low + 1.3 * span
    }
    far = {name: x for name, x in (bounds or {}).items() if name not in shown}
    right = max([low + span, *shown.values()])
    ax.set_xlim(min([low, *shown.values()]) - 0.02 * span, right + 0.05 * span)
    for i, (name, x) in enumerate(shown.items()):
        color = (GREEN, PURPLE, SKY)[i % 3]
        ax.axvline(x, color=color, lw=1.4, ls="--", gid="bound")
        # neighbors take turns in height, so that close bounds stay legible
        ax.annotate(
            f"{name} = {x:.2f}",
            (x, 0.98 - 0.08 * i),
            xycoords=("data", "axes fraction"),
            xytext=(-4, 0),
            textcoords="offset points",
            color=color,
            fontsize=9,
            ha="right",
            va="top",
        )
    note = [
        f"{name} = {x:.2f} is off to the {'right' if x > high else 'left'}"
        for name, x in far.items()
    ]
    if note:
        ax.text(
            0.01,
            0.98,
            "\n".join(note),
            transform=ax.transAxes,
            ha="left",
            va="top",
            fontsize=8.5,
            color=GRAY,
            gid="far",
        )
    base = ax.get_xaxis_transform()
    picked = picked[np.isfinite(picked)]
    ax.vlines(picked, 0, 0.09, transform=base, color=VERMILION, lw=1.3, alpha=0.8)
    ax.plot(
        picked,
        np.full(len(picked), 0.09),
        "v",
        transform=base,
        color=VERMILION,
        ms=6,
        mec="white",
        mew=0.5,
        clip_on=False,
        zorder=5,
        gid="picks",
    )
    ax.set_xlabel(f"{name} (nats)")
    ax.set_ylabel("pool points (log)")
    ax.set_title(
        ", ".join(filter(None, [about, f"{len(pool):,} pool points"])),
        loc="left",
        fontsize=11,
        color=INK,
    )
    ax.set_title(f"▼ {len(picked)} picked", loc="right", fontsize=11, color=VERMILION)
    return ax


def plot_picks(
    images,
    scores=None,
    true=None,
    predicted=None,
    *,
    title="",
    score="score",
    names=None,
    row_titles=None,
):
    """What was picked, in rank order: score, true and predicted label beneath each image, a red
    border where they differ.

    images: `[B, h, w]` or `[B, h, w, 3]`; or a dict, row title -> (images, scores, true,
      predicted), for a row each (a BALD row
    over a BatchBALD row). score: what the scores are called. names: the classes' names. row_titles:
    one for each row, instead of the dict's keys. Returns the figure.
    """
    import matplotlib.pyplot as plt

    rows = dict(images) if isinstance(images, Mapping) else {"": (images, scores, true, predicted)}
    heads = (
        list(rows)
        if row_titles is None
        else [row_titles]
        if isinstance(row_titles, str)
        else list(row_titles)
    )
    if len(heads) != len(rows):
        raise ValueError(f"`row_titles` names {len(heads)} rows, but there are {len(rows)}.")
    columns = max(len(row[0]) for row in rows.values())
    called = lambda label: str(int(label)) if names is None else str(names[int(label)])
    figure, grid = plt.subplots(
        len(rows),
        columns,
        figsize=(max(1.12 * columns, 3.0), 1.78 * len(rows) + 0.45),
        layout="constrained",
        squeeze=False,
    )
    for head, line, (pictures, values, truth, guess) in zip(
        heads, grid, rows.values(), strict=True
    ):
        pictures = np.asarray(pictures)
        for rank, ax in enumerate(line):
            ax.set_xticks([])
            ax.set_yticks([])
            if rank >= len(pictures):
                ax.set_axis_off()
                continue
            wrong = int(truth[rank]) != int(guess[rank])
            ax.imshow(pictures[rank].squeeze(), cmap="gray_r", interpolation="nearest")
            for spine in ax.spines.values():
                spine.set(edgecolor="#D00000" if wrong else FAINT, linewidth=2.6 if wrong else 1.0)
            ax.set_title(f"{rank + 1}", fontsize=8, color=GRAY, pad=3)
            says = (
                f"{score} {float(values[rank]):.2f}\ntrue {called(truth[rank])}\nsays "
                f"{called(guess[rank])}"
            )
            ax.set_xlabel(
                says, fontsize=8, color="#B00000" if wrong else INK, labelpad=4, linespacing=1.25
            )
        line[0].set_ylabel(head, fontsize=11, fontweight="bold", color=INK, labelpad=8)
    figure.suptitle(title, fontsize=12, color=INK)
    return figure


def plot_hparams(records, *, strategy):
    """The hyperparameters in each round of one strategy: median and interquartile band over seeds.
    Returns the figure.

    Panels over rounds: learning rate, weight decay and dropout on a log axis, steps, and where it
    was fitted the temperature. A value of 0 has no place on a log axis and is left out.
    """
    import matplotlib.pyplot as plt

    mine = [record for record in records if record["strategy"] == strategy]
    if not mine:
        raise ValueError(
            f"No record has strategy {strategy!r}; there are "
            f"{sorted({r['strategy'] for r in records})}."
        )
    tempered = any(record.get("temperature") is not None for record in mine)
    figure, (log, steps, *warm) = plt.subplots(
        2 + tempered,
        1,
        figsize=(7.2, 5.0 + 1.4 * tempered),
        layout="constrained",
        sharex=True,
        height_ratios=(2.2, 1, 1)[: 2 + tempered],
    )
    for ax in (log, steps, *warm):
        _plain(ax)
    hparam = lambda name: lambda r: (r["round"], (r.get("hparams") or {}).get(name))

    def draw(ax, read, color, name, positive=False):
        usable = [r for r in mine if read(r)[1] is not None and (not positive or read(r)[1] > 0)]
        x, (low, middle, high) = _over_seeds(usable, read)
        if len(x) == 0:
            return []
        ax.fill_between(x, low, high, color=color, alpha=0.18, lw=0)
        ax.plot(x, middle, "-o", color=color, lw=1.8, ms=3.5, label=name)
        return [(name, x[-1], middle[-1], color)]

    log.set_yscale("log")
    ends = []
    for name, color in (("learning_rate", BLUE), ("weight_decay", GREEN), ("dropout", PURPLE)):
        ends += draw(log, hparam(name), color, name.replace("_", " "), positive=True)
    draw(steps, hparam("steps"), ORANGE, "steps")
    for ax in warm:
        draw(ax, lambda r: (r["round"], r.get("temperature")), VERMILION, "temperature")
        ax.axhline(1, color=GRAY, lw=0.9, ls=":", zorder=1)
        ax.set_ylabel("temperature")
    log.set_ylabel("chosen value (log)")
    steps.set_ylabel("steps")
    steps.set_ylim(bottom=0)
    steps.margins(y=0.15)
    figure.axes[-1].set_xlabel("round")
    figure.axes[-1].xaxis.get_major_locator().set_params(integer=True)
    seeds = len({r["seed"] for r in mine})
    log.set_title(
        f"{strategy}: by round, "
        + ("one seed" if seeds == 1 else f"median and IQR of {seeds} seeds"),
        loc="left",
        fontsize=11,
        color=INK,
    )
    figure.canvas.draw()
    if ends:
        _ends(log, ends)
    return figure


def plot_history(columns):
    """Everything a retuner has tried, from `retune.table(state.search)`: a panel for each
    hyperparameter that varied, and one for the losses. Returns the figure.

    A dot is a candidate, the darker the better it did beside its round's incumbent; a line goes
    through those kept. A value of 0 has no place on a log axis and is left out, and so is the loss
    of a candidate that diverged.
    """
    import matplotlib.pyplot as plt

    rounds, kept = columns["round"], columns["chosen"]
    fields = [
        name
        for name in columns
        if name not in ("round", "loss", "difference", "error", "folds", "chosen")
        and len(np.unique(columns[name])) > 1
    ]
    if not len(rounds):
        raise ValueError(
            "The history is empty: tell the learner some labels first, with a retuner such "
            "as retune.successive_halving()."
        )
    figure, axes = plt.subplots(
        len(fields) + 1,
        1,
        figsize=(7.2, 1.4 * len(fields) + 2.2),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    finite = np.where(np.isfinite(columns["difference"]), columns["difference"], np.inf)
    better = np.argsort(np.argsort(-finite)) / max(len(finite) - 1, 1)  # 1: the best
    for ax, name in zip(axes[:, 0], [*fields, "loss"], strict=True):
        _plain(ax)
        values = np.asarray(columns[name], np.float64)
        usable = np.isfinite(values)
        if name in ("learning_rate", "weight_decay", "dropout", "prior_scale", "steps", "loss"):
            ax.set_yscale("log")
            usable &= values > 0
        ax.scatter(
            rounds[usable],
            values[usable],
            c=better[usable],
            cmap="Blues",
            vmin=-0.3,
            vmax=1,
            s=18,
            lw=0,
        )
        ax.plot(rounds[usable & kept], values[usable & kept], "-o", color=VERMILION, lw=1.6, ms=3.5)
        ax.set_ylabel("out-of-fold NLL" if name == "loss" else name.replace("_", " "), fontsize=9)
    axes[0, 0].set_title(
        f"{len(rounds)} candidates, {len(np.unique(rounds))} rounds; orange: kept",
        loc="left",
        fontsize=11,
        color=INK,
    )
    axes[-1, 0].set_xlabel("round")
    axes[-1, 0].xaxis.get_major_locator().set_params(integer=True)
    return figure


def plot_batch_information(joint, sum_of_balds, log_k, *, about="", ax=None):
    """Information of the batch after each pick, against the sum of its points' BALD scores and the
    most K draws can tell.

    joint, sum_of_balds: `[B]`, both after 1, 2, ... B picks. The area between is what the sum
      counts more than once. log_k: ln K, in nats. about: which strategy, seed and round this is.
    """
    from matplotlib.ticker import MaxNLocator

    ax = _axes(ax, (6.8, 4.2))
    joint, total = np.asarray(joint, dtype=np.float64), np.asarray(sum_of_balds, dtype=np.float64)
    if joint.shape != total.shape or joint.ndim != 1 or len(joint) == 0:
        raise ValueError(
            "`joint` and `sum_of_balds` must be two vectors of one length; got "
            f"{joint.shape} and {total.shape}."
        )
    x = np.arange(1, len(joint) + 1)
    ax.fill_between(x, joint, total, color=GRAY, alpha=0.15, lw=0)
    ax.plot(x, total, "-o", color=GRAY, lw=1.8, ms=4, label="sum of BALDs")
    ax.plot(x, joint, "-o", color=VERMILION, lw=2.2, ms=5, label="joint information")
    ax.axhline(float(log_k), color=INK, lw=1, ls=":", gid="bound")
    ax.set_ylim(0, 1.08 * max(float(log_k), total.max(), joint.max()))
    ax.set_xlim(0.7, len(joint) + 0.3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("picks")
    ax.set_ylabel("information (nats)")
    excess = total[-1] - joint[-1]
    ax.set_title(
        f"{about}\n" * bool(about) + f"The sum of BALDs overstates the batch by {excess:.2f} nats",
        loc="left",
        fontsize=11,
        color=INK,
    )
    ax.figure.canvas.draw()
    _ends(
        ax,
        [
            ("sum of BALDs", x[-1], total[-1], GRAY),
            ("joint", x[-1], joint[-1], VERMILION),
            (f"ln K = {float(log_k):.2f}", len(joint) + 0.3, float(log_k), INK),
        ],
    )
    return ax
