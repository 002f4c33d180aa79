"""One batch: its scores among the pool's, its images, how diverse it is and what it tells."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, errors
from bayesal._explain import Explanation
from bayesal.plots import _style
from bayesal.plots._uncertainty import rows_of
from bayesal.types import About, ArrayLike, Selection

WRONG = "#C00000"
ACROSS = 10  # images in a row


def score_histogram(
    scores: Float[ArrayLike, " N"],
    picks: Selection | Int[ArrayLike, " B"],
    ax: Any = None,
    *,
    bounds: Mapping[str, float] | None = None,
    name: str = "score (nats)",
) -> Any:
    """Scores of the pool on a logarithmic count, and where the picks lie among them.

    Args:
      scores: score of each row; rows that are not finite, such as labeled ones at -inf, are left
        out.
      picks: a selection, or rows of the pool.
      ax: axes to draw in; None makes a figure.
      bounds: name -> what a score cannot exceed, such as `{"ln C": math.log(10)}`. A bound far to
        the right is named in words, so that it does not squeeze the pool.
      name: what the scores are, with their unit.
    Returns:
      matplotlib's axes.
    Raises:
      WrongShape, WrongIndex, NonFinite: naming the argument.

    >>> ax = score_histogram(np.array([0.1, 0.2, 0.2, 0.7]), np.array([3]), name="BALD (nats)")
    >>> ax.get_xlabel(), ax.get_title(loc="left")
    ('BALD (nats)', '1 of 4 points picked')
    """
    host = np.asarray(scores, np.float64)
    if host.ndim != 1:
        raise errors.WrongShape("scores", f"`scores` must be [N]; got shape {host.shape}.")
    picked = host[rows_of(picks, len(host))]
    picked, pool = picked[np.isfinite(picked)], host[np.isfinite(host)]
    if len(pool) == 0:
        raise errors.NonFinite("scores", "`scores` holds no finite number.")
    low, high = min(float(pool.min()), 0.0), float(pool.max())
    span = max(high - low, 1e-9)
    ax = _style.axes(ax, (7.2, 4.0))
    style = {"color": "#BDBDBD", "edgecolor": "white", "lw": 0.4, "log": True}
    ax.hist(pool, bins=np.linspace(low, low + span, 51), **style)
    ax.set_ylim(0.5, 3 * ax.get_ylim()[1])
    _bounds(ax, dict(bounds or {}), low, span)
    base, tops = ax.get_xaxis_transform(), np.full(len(picked), 0.09)
    ax.vlines(picked, 0, 0.09, transform=base, color=_style.VERMILION, lw=1.3, alpha=0.8)
    style = {"color": _style.VERMILION, "ms": 6, "mec": "white", "mew": 0.5, "zorder": 5}
    ax.plot(picked, tops, "v", transform=base, clip_on=False, gid="picks", **style)
    ax.set(xlabel=name, ylabel="pool points (log)")
    _style.title(ax, f"{len(picked)} of {len(pool):,} points picked")
    ax.set_title("▼ picks", loc="right", fontsize=_style.LARGE, color=_style.VERMILION)
    return ax


def _bounds(ax: Any, bounds: dict[str, float], low: float, span: float) -> None:
    """Lines where a bound is near the data, words where it is far."""
    near = {n: x for n, x in bounds.items() if low - 0.3 * span <= x <= low + 1.3 * span}
    far = {n: x for n, x in bounds.items() if n not in near}
    left, right = min([low, *near.values()]), max([low + span, *near.values()])
    ax.set_xlim(left - 0.02 * span, right + 0.05 * span)
    for i, (name, x) in enumerate(near.items()):
        color = (_style.GREEN, _style.PURPLE, _style.SKY)[i % 3]
        ax.axvline(x, color=color, lw=1.4, ls="--", gid="bound")
        ax.annotate(
            f"{name} = {x:.2f}",
            (x, 0.98 - 0.08 * i),  # neighbors take turns in height
            xycoords=("data", "axes fraction"),
            xytext=(-4, 0),
            textcoords="offset points",
            color=color,
            fontsize=_style.MEDIUM,
            ha="right",
            va="top",
        )
    side = lambda x: "right" if x > low else "left"
    said = [f"{name} = {x:.2f} is off to the {side(x)}" for name, x in far.items()]
    if said:
        style = {"ha": "left", "va": "top", "fontsize": _style.MEDIUM, "color": _style.INK}
        ax.text(0.01, 0.98, "\n".join(said), transform=ax.transAxes, gid="far", **style)


def picked_images(
    images: ArrayLike,
    ax: Any = None,
    *,
    labels: Int[ArrayLike, " B"] | None = None,
    predicted: Int[ArrayLike, " B"] | None = None,
    scores: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
) -> Any:
    """Images of a batch in the order of the picks, ten in a row.

    Beneath each: its score, the true class and the predicted one. Where they differ the border is
    red and thick.

    Args:
      images: `[B, h, w]` or `[B, h, w, 1]` in gray, dark is high; or `[B, h, w, 3]` in color, bytes
        or numbers in [0, 1].
      ax: axes to draw in; None makes a figure.
      labels: the true classes.
      predicted: the predicted classes.
      scores: a score of each, `[B]`.
      names: names of the classes, `[C]`.
      title: what is seen; None given: the number of images, and of wrong ones.
    Returns:
      matplotlib's axes.
    Raises:
      WrongShape, WrongSize, WrongLabel: naming the argument.

    >>> ax = picked_images(
    ...     np.zeros((3, 8, 8)), labels=np.array([1, 2, 3]), predicted=np.array([1, 2, 8])
    ... )
    >>> len(ax.images), ax.get_title(loc="left")
    (3, '3 picks, 1 predicted wrongly')
    """
    shown = _images(images)
    count, height, width = shown.shape[:3]
    true = _each(labels, count, "labels")
    said = _each(predicted, count, "predicted")
    values = _each(scores, count, "scores")
    called = lambda label: str(label) if names is None else str(names[int(label)])
    columns, text = min(count, ACROSS), 0.19 * sum(x is not None for x in (true, said, values))
    rows, tall = -(-count // ACROSS), height / width
    step = tall + 0.28 + text + 0.1  # of a row, in widths of an image
    ax = _style.axes(ax, (max(1.1 * columns, 3.0), 1.02 * step * rows + 0.5))
    scale = {"cmap": "gray_r", "vmin": shown.min(), "vmax": shown.max()} if shown.ndim == 3 else {}
    for i, image in enumerate(shown):
        left, bottom = 1.12 * (i % ACROSS), -step * (i // ACROSS) - tall
        wrong = true is not None and said is not None and true[i] != said[i]
        box = (left, left + 1, bottom, bottom + tall)
        ax.imshow(image, extent=box, interpolation="nearest", **scale)
        _frame(ax, box, WRONG if wrong else _style.FAINT, 2.4 if wrong else 0.8)
        lines = [f"{values[i]:.2f}"] if values is not None else []
        lines += [f"true {called(true[i])}"] if true is not None else []
        lines += [f"says {called(said[i])}"] if said is not None else []
        at = (left + 0.5, bottom - 0.06)
        style = {"fontsize": _style.SMALL, "ha": "center", "linespacing": 1.25}
        color = WRONG if wrong else _style.INK
        ax.text(*at, "\n".join(lines), va="top", color=color, gid="words", **style)
        rank = (left + 0.5, bottom + tall + 0.04)
        ax.text(*rank, str(i + 1), va="bottom", color=_style.GRAY, gid="rank", **style)
    ax.set(xlim=(-0.05, 1.12 * columns - 0.07), ylim=(-step * rows + 0.28, 0.28))
    ax.set_aspect("equal")
    ax.set_axis_off()
    _style.title(ax, title or _counted(count, true, said))
    return ax


def _images(images: Any) -> np.ndarray:
    host = np.asarray(images)
    if host.ndim == 4 and host.shape[-1] == 1:
        host = host[..., 0]
    if host.ndim not in (3, 4) or (host.ndim == 4 and host.shape[-1] not in (3, 4)):
        raise errors.WrongShape(
            "images",
            "`images` must be [B, h, w], [B, h, w, 1] or [B, h, w, 3]; got shape "
            f"{host.shape}. Flat rows become images by `.reshape(-1, h, w)`.",
        )
    if not host.size:
        raise errors.WrongSize("images", f"`images` is empty: shape {host.shape}.")
    return host


def _each(values: Any, count: int, name: str) -> np.ndarray | None:
    """One of each image, or None."""
    if values is None:
        return None
    host = np.asarray(values)
    if host.shape != (count,):
        raise errors.WrongShape(
            name, f"`{name}` must be [{count}], one for each image; got shape {host.shape}."
        )
    return host


def _frame(ax: Any, box: tuple[float, float, float, float], color: str, width: float) -> None:
    left, right, bottom, top = box
    from matplotlib.patches import Rectangle

    style: dict[str, Any] = {
        "fill": False,
        "edgecolor": color,
        "lw": width,
        "clip_on": False,
        "gid": "frame",
    }
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **style))


def _counted(count: int, true: Any, said: Any) -> str:
    picks = f"{count} pick{'s' * (count != 1)}"
    if true is None or said is None:
        return picks
    return f"{picks}, {int(np.sum(true != said))} predicted wrongly"


def batch_diversity(
    features: Float[ArrayLike, "N D"],
    batches: Mapping[str, Any] | Selection | Int[ArrayLike, " B"],
    ax: Any = None,
) -> Any:
    """Batches in the two main directions of the pool's features, and how far apart their picks are.

    The number of each batch is the mean distance from a pick to the nearest other pick, in all D
    dimensions and in the unit of the features: 0 where each pick has a copy.

    Args:
      features: a vector per row, such as `predictive.embed(pool)`.
      batches: name -> selection or rows, to compare; or one of them.
      ax: axes to draw in; None makes a figure.
    Returns:
      matplotlib's axes.
    Raises:
      WrongShape, WrongSize, WrongIndex, NonFinite: naming the argument.

    >>> features = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 1.0]])
    >>> ax = batch_diversity(features, {"near": np.array([0, 1]), "far": np.array([0, 2])})
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['near: 1', 'far: 5']
    """
    host = np.asarray(_checks.features(features), np.float64)
    named = dict(batches) if isinstance(batches, Mapping) else {"picks": batches}
    rows = {name: rows_of(picks, len(host), "batches") for name, picks in named.items()}
    if not rows or min(map(len, rows.values())) < 2:
        raise errors.WrongSize("batches", "`batches` must hold batches of at least two picks.")
    centered = host - host.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    places = centered @ directions[:2].T
    if places.shape[1] == 1:
        places = np.pad(places, ((0, 0), (0, 1)))
    kept = float(np.square(sizes[:2]).sum() / max(np.square(sizes).sum(), 1e-30))
    ax = _style.axes(ax, (6.2, 5.0))
    ax.scatter(*places.T, s=6, color=_style.FAINT, lw=0, gid="pool")
    for i, (name, look) in enumerate(_style.looks(rows).items()):
        near = _nearest(host[rows[name]])
        style = {"s": 64 + 50 * (len(rows) - 1 - i), "facecolor": "none", "lw": 1.6, "zorder": 4}
        style |= {"marker": "osD^v"[i % 5], "edgecolor": look.color, "gid": "batch"}
        ax.scatter(*places[rows[name]].T, label=f"{name}: {near:.3g}", **style)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set(xlabel=f"the two main directions of the features: {kept:.0%} of their variance")
    _style.title(ax, "How far apart are the picks?")
    style = {"title_fontsize": _style.MEDIUM, "fontsize": _style.MEDIUM, "frameon": False}
    ax.legend(title="mean distance to the nearest pick", loc="best", **style)
    return ax


def _nearest(x: Float[np.ndarray, "B D"]) -> float:
    """Mean distance from a row to the nearest other row."""
    apart = np.linalg.norm(x[:, None] - x[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(axis=1).mean())


def batch_information(explanation: Explanation, ax: Any = None, *, name: str = "") -> Any:
    """Joint information of a batch after each pick, beside the sum of its points' own scores.

    The area between the lines is what the sum counts more than once. No batch can tell more than
    the ceiling, which is ln K of K draws.

    Args:
      explanation: what `bayesal.explain(selection, ...)` returns.
      ax: axes to draw in; None makes a figure.
      name: of the strategy, for the title.
    Returns:
      matplotlib's axes.
    Raises:
      WrongType, WrongSize: naming the argument.

    >>> from bayesal import explain, plots, pools, scores, select
    >>> p = jnp.array([[0.9, 0.9, 0.6], [0.1, 0.1, 0.4]])  # rows 0 and 1 are copies
    >>> log_probs = jnp.log(jnp.stack([p, 1 - p], axis=-1))
    >>> numbers = pools.numbers(log_probs=log_probs, axes="K N C")
    >>> why = explain(select.top(scores.bald(log_probs), 2), None, numbers)
    >>> plots.batch_information(why, name="BALD").get_title(loc="left")
    'BALD: 0.51 nats together, 0.74 counted one by one'
    """
    _checks.a(Explanation, explanation, "explanation", "bayesal.explain(selection, ...)")
    joint, total = np.asarray(explanation.joint), np.cumsum(explanation.epistemic)
    if len(joint) == 0:
        raise errors.WrongSize("explanation", "`explanation` is of a batch without picks.")
    x, ceiling = np.arange(1, len(joint) + 1), float(explanation.ceiling)
    ax = _style.axes(ax, (6.8, 4.2))
    ax.fill_between(x, joint, total, color=_style.GRAY, alpha=0.15, lw=0)
    ax.plot(x, total, "-o", color=_style.GRAY, lw=1.8, ms=4, label="sum of scores")
    ax.plot(x, joint, "-o", color=_style.VERMILION, lw=2.2, ms=5, label="joint information")
    top = max(total.max(), joint.max())
    called = "ln K" if explanation.about is About.DRAWS else "ceiling"
    ends = [
        _style.End("sum of scores", x[-1], total[-1], _style.GRAY),
        _style.End("joint", x[-1], joint[-1], _style.VERMILION),
    ]
    if ceiling <= 1.6 * top:  # further away it would squeeze the lines
        ax.axhline(ceiling, color=_style.INK, lw=1, ls=":", gid="bound")
        ends.append(_style.End(f"{called} = {ceiling:.2f}", len(x) + 0.3, ceiling, _style.INK))
        top = max(top, ceiling)
    elif np.isfinite(ceiling):
        style = {"fontsize": _style.MEDIUM, "color": _style.INK, "va": "top", "gid": "far"}
        ax.text(0.01, 0.99, f"{called} = {ceiling:.2f} is above", transform=ax.transAxes, **style)
    ax.set(xlim=(0.7, len(x) + 0.3), ylim=(0, 1.12 * top), xlabel="picks")
    ax.set_ylabel("information (nats)")
    _style.whole(ax.xaxis)
    sums = f"{joint[-1]:.2f} nats together, {total[-1]:.2f} counted one by one"
    _style.title(ax, f"{name}: {sums}" if name else sums)
    _style.names(ax, ends)
    return ax
