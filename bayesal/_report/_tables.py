"""The tables of a report: strategies, rounds, calibration, failures and the set-up."""

import re
from typing import Any

import numpy as np

from bayesal import metrics
from bayesal._report import _words
from bayesal._report._html import Child, Markup, element, joined, table
from bayesal._report._verdict import CHANCE
from bayesal.metrics import _curves

MOST_ROUNDS = 60  # rows of a table of rounds
FINGERPRINT = re.compile(r"\b[0-9a-f]{16}\b")
CALIBRATION = ("nll", "ece", "brier", "squared_ece", "classwise_ece", "density_nll", "crps")


def strategies(results: Any, metric: str, targets: tuple[float, ...]) -> Markup:
    """Where each strategy ends, the mean height of its curve, and the labels it needs."""
    shown = [m for m in results.metrics if not m.endswith("_before") and m != "temperature"]
    areas = results.area_under_curve(metric)
    needed = [results.labels_needed(level, metric) for level in targets]
    head = ["strategy", "runs", *map(_head, shown), f"mean {_head(metric)}"]
    head += [f"labels to {_words.level(level, metric)}" for level in targets]
    rows = [
        [
            name,
            _runs(results, name),
            *(_words.figure(_mean(results.curve(name, m)[:, -1]), m) for m in shown),
            _words.figure(_mean(areas[name]), metric),
            *(_median(by_name[name]) for by_name in needed),
        ]
        for name in results.strategies
    ]
    last = f"Means over seeds after {results.labels[-1]:,} labels; the mean height of the curve"
    return table(f"{last}{'; the median seed’s labels to a level' * bool(targets)}", head, rows)


def differences(results: Any, metric: str, targets: tuple[float, ...]) -> Markup | None:
    """Paired differences to chance with their intervals; None where there are none."""
    others = [name for name in results.strategies if name != CHANCE]
    if CHANCE not in results.strategies or not others:
        return None
    gaps = results.paired(metric, at="area")
    ends = results.paired(metric, at=int(results.labels[-1]))
    needed = [results.labels_needed(level, metric) for level in targets]
    unit = _words.unit(metric).strip()
    said = f"{_words.metric(metric)}{', ' * bool(unit)}{unit}"
    head = ["strategy", f"whole curve ({said})", f"last fit ({said})"]
    head += [f"fewer labels to {_words.level(level, metric)}" for level in targets]
    number = lambda value, sign="": _words.gap(value, metric, sign)
    rows = [
        [
            name,
            _interval(gaps[name], number),
            _interval(ends[name], number),
            *(_saved(by_name, name) for by_name in needed),
        ]
        for name in others
    ]
    caption = f"Differences to {CHANCE}, paired by seed: mean (95{_words.SPACE}% interval)"
    return table(caption, head, rows)


def rounds(results: Any, metric: str) -> Markup:
    """The mean of one metric after each fit, with half its 95 % interval."""
    count = len(results.labels)
    step = -(-count // MOST_ROUNDS)
    shown = sorted({*range(0, count, step), count - 1})
    bands = {
        name: metrics.mean_interval(results.curve(name, metric)) for name in results.strategies
    }
    half = lambda band, r: band.high[r] - band.mean[r]
    rows = [
        [
            str(r),
            f"{results.labels[r]:,}",
            *(_plus_minus(band.mean[r], half(band, r), metric) for band in bands.values()),
        ]
        for r in shown
    ]
    several = f" ± half of the 95{_words.SPACE}% interval" if len(results.seeds) > 1 else ""
    some = f"; every {step} rounds" if step > 1 else ""
    caption = f"{_head(metric)}, mean over seeds{several}{some}"
    return table(caption, ["round", "labels", *results.strategies], rows, words=())


def calibration(results: Any) -> Markup | None:
    """Last figures before and after the temperature; None where none were recorded."""
    found = [m for m in CALIBRATION if m in results.metrics]
    if not found:
        return None
    pairs = [m for m in found if f"{m}_before" in results.metrics]
    fitted = "temperature" in results.metrics
    head = ["strategy"]
    for m in found:
        head += [f"{_words.metric(m)} before", "after"] if m in pairs else [_words.metric(m)]
    head += ["temperature"] if fitted else []
    rows: list[list[Child]] = []
    for name in results.strategies:
        last = lambda m, name=name: _words.figure(_mean(results.curve(name, m)[:, -1]), m)
        row: list[Child] = [name]
        for m in found:
            row += [last(f"{m}_before"), last(m)] if m in pairs else [last(m)]
        rows.append([*row, last("temperature")] if fitted else row)
    caption = f"After {results.labels[-1]:,} labels, means over seeds; less is better"
    return table(caption, head, rows)


def failures(results: Any) -> Markup:
    """Which runs are missing, and why."""
    rows = [[name, str(seed), why] for (name, seed), why in results.failed.items()]
    return table("Runs that are left out", ["strategy", "seed", "why"], rows, words=(0, 2))


def set_up(results: Any) -> Markup:
    """Everything that was passed in, as far as it is known, with seeds and versions."""
    about, config = dict(results.about), dict(results.config)
    versions = about.pop("made_with", {})
    if isinstance(config.get("metrics"), dict):
        config["metrics"] = list(config["metrics"])
    if "labels" in config:
        config["labels (fingerprint)"] = config.pop("labels")
    pairs = {
        "strategies": ", ".join(results.strategies),
        "seeds": ", ".join(map(str, results.seeds)),
        "labels": f"{results.labels[0]:,} to {results.labels[-1]:,}",
        "first labels": str(results.first.shape[1]),
    }
    pairs |= {name: _said(value) for name, value in about.items() if value is not None}
    config = {k.replace("_", " "): v for k, v in config.items() if v is not None}
    pairs |= {name: _said(value) for name, value in config.items() if not pairs.get(name)}
    pairs |= {f"{verb} (median)": _seconds(results, verb) for verb in ("tell", "ask")}
    pairs |= {name: str(value) for name, value in versions.items()}
    rows = [[name, value] for name, value in pairs.items() if value]
    note = "Values of 16 letters are fingerprints: equal ones stand for equal arguments."
    body = table("Arguments, seeds and versions", ["what", "value"], rows, words=(0, 1))
    hashed = any(FINGERPRINT.search(value) for value in pairs.values())
    return joined(body, element("p", note, class_="note") if hashed else "")


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_said(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seconds(results: Any, verb: str) -> str:
    found = [part[verb] for part in results.seconds.values() if verb in part]
    known = np.concatenate([part[np.isfinite(part)] for part in found]) if found else np.zeros(0)
    return f"{np.median(known):.2g} s" if known.size else ""


def _head(metric: str) -> str:
    """A metric as the head of a column, with its unit."""
    unit = "points" if _words.unit(metric) == " points" else _words.unit(metric).strip()
    return _words.metric(metric) + (f" ({'%' if unit == 'points' else unit})" if unit else "")


def _runs(results: Any, name: str) -> str:
    lost = sum(strategy == name for strategy, _ in results.failed)
    return f"{len(results.seeds) - lost}" + (f" ({lost} missing)" if lost else "")


def _mean(values: np.ndarray) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else np.nan


def _median(needed: np.ndarray) -> str:
    middle = _curves.middle_seed(needed)
    return "–" if np.isnan(middle) else "never" if np.isinf(middle) else f"{middle:,.0f}"


def _saved(needed: dict[str, np.ndarray], name: str) -> Child:
    """Labels that are saved, where both runs of every seed reached the level."""
    both = ~np.isnan(needed[name]) & ~np.isnan(needed[CHANCE])
    own, base = needed[name][both], needed[CHANCE][both]
    if not (len(own) and np.isfinite(own).all() and np.isfinite(base).all()):
        return "–"
    return _interval(metrics.mean_interval(base - own), _words.labels)


def _interval(gap: Any, number: Any) -> Child:
    if np.isnan(gap.mean):
        return "–"
    middle = number(float(gap.mean), "+")
    if np.isinf(gap.low):
        return f"{middle} (one seed)"
    if gap.high - gap.low <= 1e-9 * max(1.0, abs(gap.mean)):
        return f"{middle} (each seed)"
    ends = f"({number(float(gap.low), '+')} to {number(float(gap.high), '+')})"
    return joined(f"{middle} ", element("span", ends, class_="ends"))


def _plus_minus(mean: float, half: float, metric: str) -> Child:
    if not np.isfinite(half):
        return _words.figure(float(mean), metric)
    return joined(
        f"{_words.figure(float(mean), metric)} ",
        element("span", f"±{_words.SPACE}{_words.gap(float(half), metric)}", class_="ends"),
    )
