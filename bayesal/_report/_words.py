"""Numbers, levels and metrics as people write them."""

import math

import numpy as np

from bayesal.metrics import _curves
from bayesal.plots import _style
from bayesal.plots._curves import SHARES, SHORT, UNITS

MINUS, SPACE = "\u2212", "\u00a0"  # a true minus, and a space that no line ends at


def metric(name: str) -> str:
    """A metric in a sentence.

    >>> metric("balanced_accuracy"), metric("nll")
    ('balanced accuracy', 'NLL')
    """
    plain = name.removesuffix("_before")
    said = SHORT.get(plain, plain.replace("_", " "))
    return said if plain == name else f"{said} before calibration"


def level(value: float, name: str) -> str:
    """A level of a metric: 95 % accuracy, or NLL 0.5 nats."""
    if name in SHARES:
        return f"{100 * value:.{_style.decimals([value])}f}{SPACE}% {metric(name)}"
    unit = f"{SPACE}{UNITS[name]}" if name in UNITS else ""
    return f"{metric(name)} {value:g}{unit}"


def labels(value: float, sign: str = "") -> str:
    """A number of labels, which may be a mean; `sign` "+" shows a plus.

    >>> labels(40.0), labels(37.5), labels(2.5)
    ('40', '38', '2.5')
    """
    if abs(value) >= 10 or value == round(value):
        return signed(f"{value:{sign},.0f}")
    return signed(f"{value:{sign}.1f}")


def figure(value: float, name: str) -> str:
    """A value of a metric in a table; shares in percent."""
    if np.isnan(value):
        return "–"
    return signed(f"{100 * value:.1f}" if name in SHARES else f"{value:.3f}")


def gap(value: float, name: str, sign: str = "") -> str:
    """A difference between two values of a metric; those of shares in points, hundredths."""
    return signed(f"{100 * value:{sign}.1f}" if name in SHARES else f"{value:{sign}.3f}")


def unit(name: str) -> str:
    """What a difference of a metric is counted in, with a space in front; nothing if it has none.

    >>> unit("accuracy"), unit("nll"), unit("ece")
    (' points', ' nats', '')
    """
    return " points" if name in SHARES else f" {UNITS[name]}" if name in UNITS else ""


def signed(text: str) -> str:
    """A number's text with a true minus, and without one before zero."""
    zero = not text.strip("-+0.")
    return text.lstrip("-+") if zero else text.replace("-", MINUS)


def usual_level(curves: list[np.ndarray], name: str) -> float | None:
    """The highest round level that every run reached; None if that was the first fit's level.

    No strategy is favored: the weakest run decides, whichever strategy it is of.

    Args:
      curves: `[S, R + 1]` of each strategy; a run that failed is NaN.
    """
    sign = -1.0 if _curves.lower_is_better(name) else 1.0
    runs = np.concatenate([curve[~np.isnan(curve).any(axis=1)] for curve in curves])
    if not len(runs):
        return None
    best = float((sign * runs).max(axis=1).min())
    if not math.isfinite(best):
        return None
    step = 0.01 if name in SHARES else 10.0 ** (math.floor(math.log10(abs(best) or 1.0)) - 1)
    found = float(f"{sign * step * math.floor(best / step + 1e-6):.10g}")
    return found if (sign * runs[:, 0] < sign * found - 1e-9).any() else None
