"""The pictures of a report, as images that need no other file."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bayesal import plots
from bayesal._report import _words
from bayesal._report._html import Markup, data, element
from bayesal._report._tables import CALIBRATION
from bayesal.metrics import _curves
from bayesal.plots import _style, _svg

PHONE = "(max-width: 600px)"


class Size(NamedTuple):
    """Inches of a picture, and the letters of a name beside a line."""

    inches: tuple[float, float]
    letters: int


WIDE, NARROW, SMALL = Size((8.8, 4.4), 24), Size((3.9, 3.6), 14), Size((4.5, 3.1), 16)
MOST = 4  # further metrics that get a picture


def has_values(results: Any, metric: str) -> bool:
    """Whether any run has a finite value of a metric."""
    return any(np.isfinite(results.curve(name, metric)).any() for name in results.strategies)


def learning_curves(results: Any, metric: str, targets: tuple[float, ...]) -> Markup:
    """The curves of the metric that is compared, drawn for a wide page and again for a phone."""
    reached = tuple(level for level in targets if _is_reached(results, metric, level))
    wide = _drawn(results, metric, targets, WIDE)
    narrow = _drawn(results, metric, reached, NARROW)  # the other words take too much room
    image = element("img", src=wide, alt=_alternative(results, metric))
    source = element("source", media=PHONE, srcset=narrow)
    rings = " A ring marks where the median seed reaches a level, with the labels that took."
    caption = element("figcaption", _caption(results, metric) + rings * bool(targets))
    return element("figure", element("picture", source, image), caption, class_="picture")


def further(results: Any, metric: str, calibration: bool) -> list[Markup]:
    """Curves of the other metrics: those of calibration, or the rest."""
    names = [
        m
        for m in results.metrics
        if m != metric
        and not m.endswith("_before")
        and m != "temperature"
        and (m in CALIBRATION) == calibration
        and has_values(results, m)
    ]
    return [
        element(
            "figure",
            element("img", src=_drawn(results, m, (), SMALL), alt=_alternative(results, m)),
            element("figcaption", _caption(results, m)),
            class_="picture",
        )
        for m in names[:MOST]
    ]


def own(pictures: Mapping[str, Any]) -> list[Markup]:
    """Pictures that were passed in, with their captions."""
    return [
        element(
            "figure",
            element("img", src=data(*_svg.saved(picture)), alt=caption),
            element("figcaption", caption),
            class_="picture own",
        )
        for caption, picture in pictures.items()
    ]


def _drawn(results: Any, metric: str, targets: Any, size: Size) -> str:
    names = _short(results.strategies, size.letters)
    curves = {names[name]: results.curve(name, metric) for name in results.strategies}
    curves = {name: c for name, c in curves.items() if np.isfinite(c).any()}

    def draw(ax: Any) -> None:
        plots.learning_curves(curves, ax, labels=results.labels, metric=metric, target=targets)
        ax.set_title("", loc="left")  # the caption says it, and wraps

    longest = max(map(len, [*curves, *_beside(results, metric, targets)]))
    return data("image/svg+xml", _svg.drawn(draw, size.inches, longest).encode())


def _beside(results: Any, metric: str, targets: Any) -> list[str]:
    """What stands beside the numbers of labels, or as long."""
    reached = lambda level: _is_reached(results, metric, level)
    return [
        f"labels to {level:.4g}" if reached(level) else f"{level:.4g}: not reached"
        for level in targets
    ]


def _is_reached(results: Any, metric: str, level: float) -> bool:
    """Whether any strategy's median seed reaches a level."""
    needed = results.labels_needed(level, metric).values()
    return any(np.isfinite(_curves.middle_seed(found)) for found in needed)


def _caption(results: Any, metric: str) -> str:
    what = _words.metric(metric)
    lines = _style.seeds(len(results.seeds), "interval").replace(" %", f"{_words.SPACE}%")
    return f"{_style.capital(what)} on the test set: {lines}."


def _short(names: tuple[str, ...], most: int) -> dict[str, str]:
    """Names that fit beside a line, each still its own."""
    found: dict[str, str] = {}
    for name in names:
        plain = " ".join("".join(c if c.isprintable() else " " for c in name).split()) or "unnamed"
        short = plain if len(plain) <= most else f"{plain[: most - 1]}…"
        same = sum(other.startswith(short) for other in found.values())
        found[name] = f"{short} ({same + 1})" if short in found.values() else short
    return found


def _alternative(results: Any, metric: str) -> str:
    """The curves in words: where each begins and ends."""
    value = lambda name, r: _words.figure(_known_mean(results.curve(name, metric)[:, r]), metric)
    ends = [f"{name} {value(name, 0)} to {value(name, -1)}" for name in results.strategies]
    first, last = results.labels[0], results.labels[-1]
    return (
        f"Learning curves of {_words.metric(metric)} from {first} to {last} labels: "
        f"{'; '.join(ends)}. All numbers are in the table of rounds."
    )


def _known_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
