"""The page: its sections in their order, and the file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayesal import _files, _shown, errors
from bayesal._report import _picks, _pictures, _tables, _verdict, _words
from bayesal._report._css import CSS
from bayesal._report._html import Child, Markup, element, joined
from bayesal.plots import _style

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
CHIPS = {
    _verdict.BETTER: "better than chance",
    _verdict.WORSE: "worse than chance",
    _verdict.OPEN: "not settled",
    _verdict.ONE_SEED: "one seed",
    _verdict.NO_INTERVAL: "no interval",
    _verdict.NO_RUN: "no finished run",
}


def write(
    results: Any,
    path: Path,
    *,
    target: float | Sequence[float] | None,
    metric: str | None,
    pool: Any,
    labels: Any,
    pictures: Mapping[str, Any],
    title: str,
) -> Path:
    """Write the report; the arguments are those of `Results.report`."""
    with np.errstate(invalid="ignore"):  # a loss may be infinite
        text = _page(results, target, metric, pool, labels, pictures, title)
    _files.write(path, lambda out: out.write(text.encode()))
    return path


def _page(
    results: Any,
    target: Any,
    metric: str | None,
    pool: Any,
    labels: Any,
    pictures: Mapping[str, Any],
    title: str,
) -> str:
    metric = results.metrics[0] if metric is None else metric
    curves = [results.curve(name, metric) for name in results.strategies]  # checks the name
    chosen = target is None
    targets = _targets(target, _words.usual_level(curves, metric))
    sections = {
        "Verdict": _said(results, metric, targets, chosen),
        "Learning curves": _curves(results, metric, targets),
        "Strategies": _strategies(results, metric, targets),
        "Calibration": _calibration(results, metric),
        "Picks": _picked(results, pool, labels),
        "Rounds": _rounds(results, metric),
        "More pictures": joined(*_pictures.own(pictures)) if pictures else None,
        "Missing runs": _tables.failures(results) if results.failed else None,
        "Set-up": _tables.set_up(results),
    }
    return _text(results, title, {k: v for k, v in sections.items() if v is not None})


def _targets(target: Any, usual: float | None) -> tuple[float, ...]:
    if target is None:
        return () if usual is None else (usual,)
    levels = np.atleast_1d(np.asarray(target, np.float64))
    if levels.ndim != 1 or not np.isfinite(levels).all():
        raise errors.OutOfRange(
            "target", f"`target` must be finite numbers, or None; got {target!r}."
        )
    return tuple(levels.tolist())


def _text(results: Any, title: str, sections: dict[str, Markup]) -> str:
    place = lambda name: name.lower().replace(" ", "-")
    links = [element("a", name, href=f"#{place(name)}") for name in sections]
    parts = [
        element(
            "section",
            element("h2", name, id=f"{place(name)}-head"),
            content,
            id=place(name),
            aria_labelledby=f"{place(name)}-head",
        )
        for name, content in sections.items()
    ]
    version = results.about.get("made_with", {}).get("bayesal")
    main = element(
        "main",
        element("header", element("h1", title), element("p", _summary(results), class_="sub")),
        element("nav", *links, aria_label="Sections"),
        *parts,
        element("footer", f"Written by bayesal {version}." if version else "Written by bayesal."),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(CSS)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', main), lang='en').text}\n"


def _summary(results: Any) -> str:
    test = results.about.get("test")
    judged = f", judged on a test set of {test}" if test else ""
    first, last = results.labels[0], results.labels[-1]
    strategies = f"{len(results.strategies)} strategies"
    return (
        f"{strategies if len(results.strategies) > 1 else '1 strategy'}, "
        f"{_shown.counted(len(results.seeds), 'seed')}, {first:,} to {last:,} labels{judged}."
    )


def _said(results: Any, metric: str, targets: tuple[float, ...], chosen: bool) -> Markup:
    """The verdict: a headline, then what each strategy gained, and what limits that."""
    found = _verdict.verdict(results, metric, targets)
    parts = [element("p", found.headline, class_="headline")]
    failed, notes = (found.notes[:1], found.notes[1:]) if results.failed else ((), found.notes)
    parts += [element("p", note, class_="warning") for note in failed]
    for name in dict.fromkeys(finding.strategy for finding in found.findings):
        status = _verdict.overall(found.findings, name)
        lines = [element("li", f.text) for f in found.findings if f.strategy == name]
        chip = element("span", CHIPS[status], class_=f"chip {status.replace(' ', '-')}")
        head = element("h3", name, " ", chip)
        parts.append(element("div", head, element("ul", *lines), class_="finding"))
    if chosen and targets:
        level = _words.level(targets[0], metric)
        notes = (*notes, f"The level, {level}, is the highest that every finished run reached.")
    if found.findings:
        notes = (
            "Differences are paired: the runs of a seed share their first labels. Intervals are "
            "Student's t over seeds.",
            *notes,
        )
    return joined(*parts, element("p", " ".join(notes), class_="note") if notes else "")


def _curves(results: Any, metric: str, targets: tuple[float, ...]) -> Markup | None:
    if not _pictures.has_values(results, metric):
        return None
    more = _pictures.further(results, metric, calibration=False)
    pair = element("div", *more, class_="pair") if more else ""
    return joined(_pictures.learning_curves(results, metric, targets), pair)


def _strategies(results: Any, metric: str, targets: tuple[float, ...]) -> Markup:
    gaps = _tables.differences(results, metric, targets)
    return joined(_tables.strategies(results, metric, targets), *([gaps] if gaps else []))


def _calibration(results: Any, metric: str) -> Markup | None:
    body = _tables.calibration(results)
    if body is None:
        return None
    more = _pictures.further(results, metric, calibration=True)
    return joined(element("div", *more, class_="pair") if more else "", body)


def _picked(results: Any, pool: Any, labels: Any) -> Markup | None:
    if not any((picks >= 0).any() for picks in results.picks.values()):
        return None
    more = _picks.note(results)
    parts: list[Child] = [_picks.section(results, pool, labels)]
    return joined(*parts, element("p", more, class_="note") if more else "")


def _rounds(results: Any, metric: str) -> Markup:
    others = [m for m in results.metrics if m != metric]
    folded = [
        element(
            "details",
            element("summary", _style.capital(_words.metric(m))),
            _tables.rounds(results, m),
        )
        for m in others
    ]
    return joined(_tables.rounds(results, metric), *folded)
