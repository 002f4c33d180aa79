"""Whether the confidence is true: reliability, refusing to answer, and data that shift."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, errors, metrics
from bayesal.plots import _style
from bayesal.plots._curves import SHARES, by_seed, named
from bayesal.types import ArrayLike


def reliability(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    ax: Any = None,
    *,
    after: Float[ArrayLike, "N C"] | None = None,
    bins: int = 10,
) -> Any:
    """Accuracy against confidence in bins of equal mass, before and after calibration.

    Below the diagonal the predictions are too sure. Bars are 95 % intervals of Wilson; the
    histogram counts points by confidence.

    Args:
      log_probs: averaged log-probabilities.
      labels: the true classes.
      ax: axes to draw in; None makes a figure.
      after: the same points after calibration; drawn beside the first, with ECE and NLL of both.
      bins: number of bins.
    Returns:
      matplotlib's axes.
    Raises:
      NotLogProbabilities, WrongShape, WrongLabel, WrongSize: naming the argument.

    >>> log_probs = jnp.log(jnp.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]))
    >>> ax = reliability(log_probs, np.array([0, 1, 1, 1]), bins=2)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('confidence', 'accuracy')
    """
    given = [(log_probs, _style.BLUE, "log_probs")]
    if after is not None:
        given = [(log_probs, _style.VERMILION, "log_probs"), (after, _style.BLUE, "after")]
    labels = np.asarray(labels)
    checked = []
    for values, color, argument in given:
        found = np.asarray(_checks.log_probs(values, argument, draws=False, ndim=2), np.float64)
        if len(found) != len(labels):
            raise errors.WrongShape(
                argument, f"`{argument}` has {len(found)} points, but `labels` has {len(labels)}."
            )
        checked.append((found, color))
    ax = _style.axes(ax, (5.4, 5.2))
    ax.plot([0, 1], [0, 1], color=_style.GRAY, lw=1, ls="--", zorder=1, gid="diagonal")
    inset = _style.axes(ax.inset_axes((0.62, 0.1, 0.35, 0.2)))
    names = ("before", "after") if after is not None else ("",)
    for (found, color), name in zip(checked, names, strict=True):
        _bins(ax, found.astype(np.float32), labels, bins, color, name)
        inset.hist(np.exp(found.max(axis=1)), bins=np.linspace(0, 1, 21), color=color, alpha=0.55)
    _dressed(ax, inset)
    _style.title(ax, "Is the confidence true?\nBelow the diagonal: too sure")
    # beneath: inside it would lie on a curve that is above the diagonal
    style = {"frameon": False, "fontsize": _style.MEDIUM, "handlelength": 1}
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.11), **style)
    return ax


def _bins(ax: Any, log_probs: Any, labels: Any, bins: int, color: str, name: str) -> None:
    """One reliability curve with its intervals; its errors in the legend."""
    table = metrics.reliability(log_probs, labels, bins=bins, equal_mass=True)
    full = table.count > 0
    x, y, n = table.confidence[full], table.accuracy[full], table.count[full]
    low, high = wilson(y * n, n)
    ece = metrics.ece(log_probs, labels, bins=bins, equal_mass=True)
    nll = float(metrics.nll(log_probs, labels))
    ax.fill_between(x, y, x, color=color, alpha=0.10, lw=0, zorder=0)  # ECE is its mean height
    ax.errorbar(
        x,
        y,
        yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
        fmt="o-",
        color=color,
        lw=1,
        ms=5.5,
        mec="white",
        mew=0.8,
        elinewidth=1.5,
        zorder=3,
        clip_on=False,
        label=f"{name}{':' * bool(name)} ECE {ece:.3f}, NLL {nll:.3f} nats".strip(),
    )


def _dressed(ax: Any, inset: Any) -> None:
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    inset.set_xlim(0, 1)
    inset.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    inset.set_yticks([])
    inset.spines["left"].set_visible(False)
    inset.patch.set_alpha(0)
    inset.tick_params(labelsize=7)
    inset.set_title("points by confidence", fontsize=7.5, color=_style.INK, pad=2)


def wilson(successes: Any, count: Any, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of a share, as (low, high); all of [0, 1] where the count is 0."""
    successes, count = np.asarray(successes, np.float64), np.asarray(count, np.float64)
    n = np.maximum(count, 1)
    share = successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    some = count > 0
    low, high = np.maximum(middle - half, 0), np.minimum(middle + half, 1)
    return np.where(some, low, 0.0), np.where(some, high, 1.0)


def risk_coverage(
    confidence: Mapping[str, Any] | Float[ArrayLike, " N"], loss: ArrayLike, ax: Any = None
) -> Any:
    """Mean loss of the points that are answered, when the least confident ones are refused.

    The gray lines are what a confidence without information gives, and the best that can be:
    points in order of their loss.

    Args:
      confidence: higher is more confident: `log_probs.max(-1)`, or minus a score; or name -> `[N]`,
        to compare several.
      loss: the loss of each point `[N]`: whether it is wrong, or its NLL.
      ax: axes to draw in; None makes a figure.
    Returns:
      matplotlib's axes.
    Raises:
      WrongShape, WrongSize, NonFinite: naming the argument.
    References:
      Geifman & El-Yaniv 2017, https://arxiv.org/abs/1705.08500

    >>> ax = risk_coverage(np.array([0.9, 0.8, 0.7]), np.array([False, False, True]))
    >>> ax.lines[-1].get_ydata().round(4).tolist()
    [0.0, 0.0, 0.3333]
    """
    many = isinstance(confidence, Mapping)
    given = dict(confidence) if isinstance(confidence, Mapping) else {"confidence": confidence}
    if not given:
        raise errors.WrongSize("confidence", "`confidence` is empty: pass at least one.")
    found = {name: metrics.risk_coverage(values, loss) for name, values in given.items()}
    losses = np.asarray(loss, np.float64)
    share = bool(np.isin(losses, (0.0, 1.0)).all())
    ax = _style.axes(ax)
    coverage = next(iter(found.values())).coverage
    ax.axhline(losses.mean(), color=_style.GRAY, lw=1.2, gid="chance")
    best = np.cumsum(np.sort(losses)) / np.arange(1, len(losses) + 1)
    ax.plot(coverage, best, color=_style.GRAY, lw=1.2, ls=":", gid="best")
    for name, look in _style.looks(given).items():
        label = f"{name}: area {found[name].area:.3f}"
        ax.plot(coverage, found[name].risk, color=look.color, ls=look.line, lw=2, label=label)
    top = max(losses.mean(), *(curve.risk.max() for curve in found.values()), 1e-9)
    ax.set(xlim=(0, 1), ylim=(0, (1.06 + 0.08 * len(given) * many) * top))  # room for the legend
    _style.percent(ax.xaxis)
    if share:
        _style.percent(ax.yaxis)
    ax.set_xlabel("share of points answered, most confident first")
    ax.set_ylabel("share of wrong answers" if share else "mean loss of the answers")
    one = next(iter(found.values()))
    about = "" if many else f"\narea {one.area:.3f}, of which {one.excess:.3f} above the best order"
    _style.title(ax, f"Loss when the least confident are refused{about}")
    _style.names(ax, [_style.End("no information", 1.0, losses.mean(), _style.GRAY)])
    half = int(np.searchsorted(best, losses.mean() / 2))
    at = (coverage[half], best[half])
    style: dict[str, Any] = {"va": "center", "color": _style.GRAY}
    style |= {"textcoords": "offset points", "fontsize": _style.MEDIUM, "fontweight": "bold"}
    ax.annotate("best order", at, xytext=(6, 0), annotation_clip=False, **style)
    if many:
        ax.legend(loc="upper left", frameon=False, fontsize=_style.MEDIUM)
    return ax


def calibration_under_shift(
    shift: ArrayLike | Sequence[int] | Sequence[float],
    after: Mapping[str, Any],
    ax: Any = None,
    *,
    before: Mapping[str, Any] | None = None,
    metric: str = "ece",
    unit: str = "shift",
) -> Any:
    """A figure of the test set against how far its data moved, with and without calibration.

    A temperature that was fitted on data of the first kind may no longer fit: then the solid line
    rises to the dashed one, or above it.

    Args:
      shift: how far each test set has moved `[L]`: degrees, or strength of noise.
      after: method -> `[S, L]` of S seeds, or `[L]`: the figure with calibration; solid. The band
        is the 95 % interval of the mean.
      ax: axes to draw in; None makes a figure.
      before: the same without calibration; dashed, without bands.
      metric: name of the figure.
      unit: what `shift` measures, for the axis.
    Returns:
      matplotlib's axes.
    Raises:
      WrongShape, WrongSize, UnknownName: naming the argument.

    >>> ax = calibration_under_shift([0, 30], {"ensemble": np.array([0.02, 0.1])}, unit="degrees")
    >>> ax.get_xlabel(), ax.get_ylabel(), ax.lines[0].get_ydata().tolist()
    ('degrees', 'test ECE', [0.02, 0.1])
    """
    places = np.asarray(_checks.numbers(np.asarray(shift), "shift", "[L]", ndim=1), np.float64)
    if not after:
        raise errors.WrongSize("after", "`after` is empty: pass method -> values, at least one.")
    if unknown := set(before or {}) - set(after):
        raise errors.UnknownName(
            "before", f"`before` has {sorted(unknown)}, which `after` has not: {sorted(after)}."
        )
    found = {name: by_seed(values, "after", len(places)) for name, values in after.items()}
    plain = {n: by_seed(values, "before", len(places)) for n, values in (before or {}).items()}
    ax = _style.axes(ax)
    looks, ends = _style.looks(after), []
    for name, values in found.items():
        band = metrics.mean_interval(values)
        look = looks[name]._replace(line="-")
        _style.line(ax, places, band, look, name)
        ends.append(_style.End(name, places[-1], band.mean[-1], look.color))
        if name in plain:
            mean = metrics.mean_interval(plain[name]).mean
            ax.plot(places, mean, color=look.color, lw=1.4, ls="--", gid="before")
    ax.set_xlabel(unit)
    if len(places) <= 8:
        ax.set_xticks(places)
    ax.set_ylabel(named(metric))
    if metric in SHARES:
        _style.percent(ax.yaxis)
    count = max(len(values) for values in found.values())
    dashed = "\nsolid: calibrated; dashed: as fitted" if plain else ""
    _style.title(ax, _style.capital(_style.seeds(count, "interval")) + dashed)
    _style.names(ax, ends)
    return ax
