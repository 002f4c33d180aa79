"""Hyperparameters round by round: those that fits used, and all that a retuner tried."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayesal import errors
from bayesal.plots import _style

LOGARITHMIC = ("learning_rate", "weight_decay", "prior_scale", "steps", "temperature", "loss")
FIGURES = ("round", "loss", "difference", "error", "folds", "chosen")


def hyperparameters(
    results: Any, strategy: str, ax: Any = None, *, fields: Sequence[str] | None = None
) -> Any:
    """Hyperparameters of one strategy's fits, round by round, as multiples of the first fit's.

    Lines are medians over seeds, bands the middle half, both divided by the first median; the last
    median stands beside each name. A value of 0 has no place on the logarithmic axis and is left
    out.

    Args:
      results: what `simulate` returns.
      strategy: one of its strategies.
      ax: axes to draw in; None makes a figure.
      fields: of `HParams`, and "temperature" where it is fitted; None: those that varied.
    Returns:
      matplotlib's axes.
    Raises:
      WrongType, UnknownName, WrongSize: naming the argument.

    >>> # after results = bayesal.simulate(..., retune=retune.successive_halving()):
    >>> # plots.hyperparameters(results, "margin")
    """
    values = _hparams(results, strategy)
    if fields is None:
        usable = {name: _positive(found) for name, found in values.items()}
        varied = lambda found: len(np.unique(found[~np.isnan(found)])) > 1
        fields = [name for name, found in usable.items() if varied(found)]
        if not fields:
            raise errors.WrongSize(
                "fields",
                f"no hyperparameter of {strategy!r} varied over rounds or seeds; name some in "
                f"`fields`: {', '.join(values)}.",
            )
    if unknown := [name for name in fields if name not in values]:
        raise errors.UnknownName(
            "fields", f"`fields` are some of {', '.join(values)}; got {unknown[0]!r}."
        )
    ax = _style.axes(ax, (7.2, 4.6))
    ax.set_yscale("log")
    rounds = np.arange(len(results.labels))
    looks, ends = _style.looks(fields), []
    for name in fields:
        found = _positive(values[name])
        there = ~np.isnan(found).all(axis=0)
        if not there.any():
            continue
        low, middle, high = np.nanpercentile(found[:, there], [25, 50, 75], axis=0)
        first, last = middle[0], middle[-1]
        band = middle / first, low / first, high / first
        look, said = looks[name], name.replace("_", " ")
        _style.line(ax, rounds[there], band, look, said, marker="o", ms=3.5, lw=1.8)
        end = f"{said} {last:.2g}" if last < 100 else f"{said} {last:.0f}"
        ends.append(_style.End(end, rounds[there][-1], last / first, look.color))
    ax.set(xlabel="round", ylabel="times the first fit's value (log)")
    _style.logarithmic(ax.yaxis)
    _style.whole(ax.xaxis)
    _style.title(ax, f"{strategy}: {_style.seeds(len(results.seeds), 'quartiles')}")
    _style.names(ax, ends)
    return ax


def _hparams(results: Any, strategy: str) -> dict[str, np.ndarray]:
    """Values `[S, R + 1]` of each field, and the temperature."""
    if not all(hasattr(results, name) for name in ("hparams", "curves", "labels", "seeds")):
        raise errors.WrongType(
            "results",
            f"`results` must be what `bayesal.simulate` returns; got {type(results).__name__}.",
        )
    if strategy not in results.hparams:
        raise errors.UnknownName(
            "strategy", f"`strategy` is one of {', '.join(results.hparams)}; got {strategy!r}."
        )
    found = dict(results.hparams[strategy])
    if "temperature" in results.curves[strategy]:
        found["temperature"] = results.curves[strategy]["temperature"]
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def retuner_history(table: Mapping[str, Any], field: str = "loss", ax: Any = None) -> Any:
    """Everything a retuner tried, round by round: one hyperparameter, or the loss.

    A dot is a candidate, the darker the better it did beside its round's incumbent; the line goes
    through those that were kept. Candidates that diverged are crosses at the top. A value of 0 has
    no place on a logarithmic axis and is left out.

    Args:
      table: columns, as `retune.table(state.search)` gives them.
      field: a field of `HParams`, or "loss", the mean out-of-fold NLL.
      ax: axes to draw in; None makes a figure.
    Returns:
      matplotlib's axes.
    Raises:
      WrongType, UnknownName, WrongSize: naming the argument.

    >>> table = {
    ...     "round": np.array([0, 0, 1, 1]),
    ...     "learning_rate": np.array([0.1, 0.01, 0.01, 0.03]),
    ...     "difference": np.array([0.2, 0.0, 0.0, -0.1]),
    ...     "chosen": np.array([False, True, False, True]),
    ... }
    >>> ax = retuner_history(table, "learning_rate")
    >>> ax.lines[0].get_ydata().tolist(), ax.get_title(loc="left")
    ([0.01, 0.03], '4 candidates in 2 rounds')
    """
    table = _columns(table, field)
    rounds, kept = table["round"].astype(float), table["chosen"].astype(bool)
    values, difference = table[field].astype(float), table["difference"].astype(float)
    failed = ~np.isfinite(difference) | ~np.isfinite(values)
    logarithmic = field in LOGARITHMIC and bool((values[~failed] > 0).any())
    usable = ~failed & ((values > 0) | (not logarithmic))
    ax = _style.axes(ax, (7.2, 3.6))
    if logarithmic:
        ax.set_yscale("log")
    # ranks among those that did not fail: 1 is the best
    ranks = np.argsort(np.argsort(-difference[usable])) / max(usable.sum() - 1, 1)
    # dots of one round lie side by side, the kept one in the middle
    moved = rounds + np.where(kept, 0.0, _spread(rounds))
    ax.scatter(
        moved[usable],
        values[usable],
        c=ranks,
        cmap="Blues",
        vmin=-0.4,
        vmax=1,
        s=22,
        lw=0.3,
        edgecolor=_style.GRAY,
        label="candidate (darker: better)",
        gid="candidates",
    )
    line = usable & kept
    ax.plot(rounds[line], values[line], "-o", color=_style.VERMILION, lw=1.6, ms=4, label="kept")
    if failed.any():
        style = {"color": _style.INK, "ms": 5, "transform": ax.get_xaxis_transform()}
        at = np.full(failed.sum(), 0.98)
        ax.plot(moved[failed], at, "x", label="diverged", gid="diverged", **style)
    if logarithmic:
        _style.logarithmic(ax.yaxis)
    ax.set_ylabel("out-of-fold NLL (nats)" if field == "loss" else field.replace("_", " "))
    ax.set_xlabel("round")
    _style.whole(ax.xaxis)
    _style.title(ax, f"{len(rounds)} candidates in {len(np.unique(rounds))} rounds")
    ax.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, fontsize=_style.SMALL
    )
    return ax


def _columns(table: Any, field: str) -> dict[str, np.ndarray]:
    """The columns as arrays, or an error that says what is missing."""
    if not isinstance(table, Mapping) or not {"round", "chosen", "difference"} <= set(table):
        raise errors.WrongType(
            "table",
            "`table` must be the columns of `retune.table(state.search)`; got "
            f"{type(table).__name__}.",
        )
    known = [name for name in table if name == "loss" or name not in FIGURES]
    if field not in known:
        raise errors.UnknownName("field", f"`field` is one of {', '.join(known)}; got {field!r}.")
    if not len(table["round"]):
        raise errors.WrongSize(
            "table",
            "`table` is empty: tell the learner some labels first, with a retuner such as "
            "`retune.successive_halving()`.",
        )
    return {name: np.asarray(values) for name, values in table.items()}


def _spread(rounds: np.ndarray) -> np.ndarray:
    """Shifts in [-0.25, 0.25] of the candidates of each round, in their order."""
    shift = np.zeros(len(rounds))
    for value in np.unique(rounds):
        rows = np.flatnonzero(rounds == value)
        shift[rows] = np.linspace(-0.25, 0.25, len(rows)) if len(rows) > 1 else 0.0
    return shift
