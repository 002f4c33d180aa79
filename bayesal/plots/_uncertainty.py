"""What the draws disagree about, and what is noise: point by point, and as a map of two inputs."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, errors, scores
from bayesal.plots import _style
from bayesal.types import ArrayLike, Selection


def uncertainty_parts(
    log_probs: Float[ArrayLike, "K N C"],
    ax: Any = None,
    *,
    labels: Int[ArrayLike, " N"] | None = None,
    picks: Selection | Int[ArrayLike, " B"] | None = None,
) -> Any:
    """Epistemic against aleatoric uncertainty of every point, in nats.

    Aleatoric is the mean entropy of the draws: every draw finds the point ambiguous, and a label
    teaches little. Epistemic is BALD: the draws contradict one another, and a label tells which are
    right. Their sum is the entropy of the averaged prediction.

    Args:
      log_probs: log-probabilities of K draws.
      ax: axes to draw in; None makes a figure.
      labels: the true classes; wrong predictions are then drawn as crosses.
      picks: a selection, or rows, to ring.
    Returns:
      matplotlib's axes.
    Raises:
      NotLogProbabilities, WrongLabel, WrongIndex: naming the argument.

    >>> sure, unsure = jnp.eye(2) * 0.8 + 0.1, jnp.full((2, 2), 0.5)
    >>> ax = uncertainty_parts(jnp.log(jnp.stack([sure, unsure], axis=1)), picks=np.array([0]))
    >>> ax.collections[0].get_offsets().round(2).tolist()  # [aleatoric, epistemic] of each point
    [[0.33, 0.37], [0.69, 0.0]]
    """
    log_probs = _checks.log_probs(log_probs, ndim=3)
    count, classes = log_probs.shape[1:]
    wrong = np.zeros(count, bool)
    if labels is not None:
        true = _checks.labels(labels, classes, count)
        predicted = np.exp(np.asarray(log_probs, np.float64)).mean(axis=0).argmax(axis=-1)
        wrong = predicted != true
    chosen = rows_of(picks, count) if picks is not None else np.zeros(0, int)
    parts = scores.decompose(log_probs)
    x, y = np.asarray(parts.aleatoric), np.asarray(parts.epistemic)
    ax = _style.axes(ax, (6.4, 4.6))
    right = "right" if labels is not None else None
    ax.scatter(x[~wrong], y[~wrong], s=9, color="#B0B0B0", lw=0, label=right, gid="right")
    if wrong.any():
        style = {"s": 16, "marker": "x", "lw": 1, "color": _style.VERMILION}
        ax.scatter(x[wrong], y[wrong], label="wrong", gid="wrong", **style)
    if len(chosen):
        style = {"s": 60, "facecolor": "none", "edgecolor": _style.BLUE, "lw": 1.4, "zorder": 4}
        ax.scatter(x[chosen], y[chosen], label="picked", gid="picked", **style)
    ax.set(xlim=(0, None), ylim=(0, None))
    ax.set_xlabel("aleatoric: mean entropy of the draws (nats)")
    ax.set_ylabel("epistemic: BALD (nats)")
    about = f"; wrong: {wrong.mean():.1%}" if labels is not None else ""
    _style.title(ax, f"What a label can teach, and what is noise: {count:,} points{about}")
    if labels is not None or len(chosen):
        ax.legend(frameon=False, fontsize=_style.MEDIUM, loc="upper right")
    return ax


def rows_of(picks: Any, count: int, name: str = "picks") -> np.ndarray:
    """Rows `[B]` of a selection or a vector of rows; -1 fills up a batch, and is left out."""
    if isinstance(picks, Selection):
        rows = np.asarray(picks.indices)
        picks = rows[rows >= 0]
    return _checks.indices(picks, count, name)


def uncertainty_map(
    values: ArrayLike,
    xs: ArrayLike,
    ys: ArrayLike,
    ax: Any = None,
    *,
    labeled: tuple[ArrayLike, ArrayLike] | None = None,
    ceiling: float | None = None,
    name: str = "BALD (nats)",
    colormap: str = "viridis",
) -> Any:
    """A score of two inputs as a colored map, with the labeled points on it.

    `scores.decompose` gives total, aleatoric and epistemic uncertainty; draw the three with one
    `ceiling`, the largest total, to compare them. Choose a range beyond the data: there it shows
    whether the uncertainty grows.

    Args:
      values: score at each place, `[H, W]` or `[H * W]`: row by row, as `np.meshgrid(xs, ys)`.
      xs, ys: the places `[W]` and `[H]`, increasing.
      ax: axes to draw in; None makes a figure.
      labeled: points `[n, 2]` and their classes `[n]`.
      ceiling: end of the color scale, which begins at 0; default the largest value.
      name: what the values are, with their unit.
      colormap: matplotlib's name.
    Returns:
      matplotlib's axes.
    Raises:
      WrongShape, NonFinite, OutOfRange, WrongLabel: naming the argument.

    >>> values = np.arange(6.0).reshape(2, 3)  # two rows of three
    >>> ax = uncertainty_map(values, np.arange(3.0), np.arange(2.0), name="entropy (nats)")
    >>> ax.collections[0].get_clim(), ax.get_title(loc="left")
    ((0.0, 5.0), 'entropy (nats)')
    """
    across, up = (
        np.asarray(_checks.numbers(np.asarray(places), argument, "[W] or [H]", ndim=1))
        for places, argument in ((xs, "xs"), (ys, "ys"))
    )
    host = np.asarray(_checks.numbers(values, "values", "[H, W] or [H * W]", least=1))
    if host.shape not in ((len(up), len(across)), (len(up) * len(across),)):
        raise errors.WrongShape(
            "values",
            f"`values` must be [H, W] or [H * W] with H = {len(up)} (`ys`) and W = "
            f"{len(across)} (`xs`); got shape {host.shape}.",
        )
    top = float(host.max()) if ceiling is None else float(ceiling)
    if not np.isfinite(top) or (ceiling is not None and top <= 0):
        raise errors.OutOfRange("ceiling", f"`ceiling` must be positive; got {ceiling!r}.")
    points = None if labeled is None else _points(*labeled)
    ax = _style.axes(ax, (5.2, 4.4))
    shown = ax.pcolormesh(
        across,
        up,
        host.reshape(len(up), len(across)),
        vmin=0,
        vmax=max(top, 1e-9),
        cmap=colormap,
        shading="auto",
        rasterized=True,
    )
    bar = ax.figure.colorbar(shown, cax=ax.inset_axes((1.03, 0.0, 0.04, 1.0)))  # as high as the map
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=_style.SMALL, colors=_style.INK)
    if points is not None:
        _classes(ax, *points)
    ax.set_aspect("equal")
    _style.title(ax, name)
    return ax


def _points(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labeled points `[n, 2]` and their classes `[n]`, or a typed error."""
    x = np.asarray(_checks.numbers(np.asarray(x), "labeled", "[n, 2] points", ndim=2))
    y = _checks.labels(np.asarray(y), int(np.max(y, initial=0)) + 1, len(x), "labeled")
    if x.shape[1] != 2:
        raise errors.WrongShape("labeled", f"`labeled` must be points [n, 2]; got {x.shape}.")
    return x, y


def _classes(ax: Any, x: Float[np.ndarray, "n 2"], y: Int[np.ndarray, " n"]) -> None:
    """The labeled points, a color and a shape for each class."""
    shown = (_style.VERMILION, "white", _style.SKY, _style.BLACK, _style.PURPLE)
    for c in np.unique(y):
        style = {"marker": "osD^v"[c % 5], "s": 22, "edgecolor": "black", "lw": 0.6}
        ax.scatter(*x[y == c].T, color=shown[c % 5], label=f"class {c}", gid="labeled", **style)
