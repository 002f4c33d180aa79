"""What a comparison says, in words: which strategy needs fewer labels, and what is not settled."""

from typing import Any, NamedTuple

import numpy as np

from bayesal import _shown, metrics
from bayesal._report import _words
from bayesal.metrics import _curves

CHANCE = "chance"
BETTER, WORSE, OPEN = "better", "worse", "open"
ONE_SEED, NO_INTERVAL, NO_RUN = "one seed", "no interval", "no run"


class Finding(NamedTuple):
    """One comparison with chance: its status, a sentence, and what is gained in the unit of it.

    level: what was to be reached; None: the whole curve.
    """

    strategy: str
    level: float | None
    status: str
    text: str
    gain: float


class Verdict(NamedTuple):
    """A headline, all findings in their order, and what limits them."""

    headline: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def verdict(results: Any, metric: str, targets: tuple[float, ...]) -> Verdict:
    """The findings of every strategy: labels to each target, then the whole curve."""
    others = [name for name in results.strategies if name != CHANCE]
    if CHANCE not in results.strategies or not others:
        missing = "There is one strategy" if CHANCE in results.strategies else "Chance did not run"
        return Verdict(f"{missing}: there is nothing to compare.", (), _failures(results))
    findings = []
    for name in others:
        findings += [to_level(results, metric, level, name) for level in targets]
        findings.append(over_curve(results, metric, name))
    notes = [*_failures(results)]
    if any(_never(results, metric, level) for level in targets):
        notes.append("Where some run never reached a level, no difference in labels is given.")
    if len(others) > 1:
        notes.append(f"Intervals are not corrected for {len(others)} comparisons.")
    return Verdict(_headline(results, findings), tuple(findings), tuple(notes))


def to_level(results: Any, metric: str, level: float, name: str) -> Finding:
    """Labels to a level less those of chance, seed by seed."""
    needed = results.labels_needed(level, metric)
    both = ~np.isnan(needed[name]) & ~np.isnan(needed[CHANCE])
    own, base = needed[name][both], needed[CHANCE][both]
    said, count = _words.level(level, metric), len(own)
    if count == 0:
        return Finding(name, level, NO_RUN, f"{name} and chance share no finished seed.", 0.0)
    if not (np.isfinite(own).all() and np.isfinite(base).all()):
        text = _not_always(name, own, base, said, int(results.labels[-1]))
        return Finding(name, level, NO_INTERVAL, text, 0.0)
    saved = base - own
    mean, low, high = map(float, metrics.mean_interval(saved))
    if not saved.any():
        every = "the only seed" if count == 1 else f"each of {count} seeds"
        text = f"{name} needed as many labels to {said} as chance in {every}."
        return Finding(name, level, ONE_SEED if count == 1 else NO_INTERVAL, text, 0.0)
    sign, word = (1, "fewer") if mean >= 0 else (-1, "more")
    head = f"{name} needed {_words.labels(sign * mean)} {word} labels to {said} than chance"
    if count == 1:
        return Finding(name, level, ONE_SEED, f"{head} in the only seed: no interval.", mean)
    if _same(saved):
        return Finding(name, level, NO_INTERVAL, f"{head} in each of {count} seeds.", mean)
    status = _status(low, high)
    ends = _interval(_words.labels, sign, low, high)
    return Finding(name, level, status, f"{head} ({ends}, {count} seeds){_end(status)}", mean)


def over_curve(results: Any, metric: str, name: str) -> Finding:
    """The mean height of the curve less that of chance; more is better, also of a loss."""
    areas = results.area_under_curve(metric)
    sign = -1 if _curves.lower_is_better(metric) else 1
    gains = sign * (areas[name] - areas[CHANCE])
    gains = gains[np.isfinite(gains)]
    if len(gains) == 0:
        return Finding(name, None, NO_RUN, f"{name} and chance share no finished seed.", 0.0)
    mean, low, high = map(float, metrics.mean_interval(gains))
    way, word = (1, "better") if mean >= 0 else (-1, "worse")
    number = lambda value: _words.gap(value, metric)
    size = f"{number(way * mean)}{_words.unit(metric)}"
    head = f"Over the whole curve, {name} was {size} {word} than chance in {_words.metric(metric)}"
    if len(gains) == 1:
        return Finding(name, None, ONE_SEED, f"{head}, in the only seed: no interval.", mean)
    if _same(gains):
        return Finding(name, None, NO_INTERVAL, f"{head}, in each of {len(gains)} seeds.", mean)
    status = _status(low, high)
    ends = _interval(number, way, low, high)
    return Finding(name, None, status, f"{head} ({ends}, {len(gains)} seeds){_end(status)}", mean)


def overall(findings: tuple[Finding, ...], name: str) -> str:
    """The status of one strategy by all its findings."""
    found = {finding.status for finding in findings if finding.strategy == name}
    if {BETTER, WORSE} <= found:
        return OPEN
    return next(s for s in (BETTER, WORSE, NO_RUN, ONE_SEED, OPEN, NO_INTERVAL) if s in found)


def _same(gains: np.ndarray) -> bool:
    """Whether all seeds gain the same. Labels come in batches and test rows one by one, so that few
    seeds may agree by chance: an interval without width would claim too much.
    """
    return bool(np.ptp(gains) <= 1e-9 * max(1.0, np.abs(gains).max()))


def _status(low: float, high: float) -> str:
    return BETTER if low > 0 else WORSE if high < 0 else OPEN


def _end(status: str) -> str:
    return ": not settled." if status == OPEN else "."


def _interval(number: Any, sign: int, low: float, high: float) -> str:
    low, high = (low, high) if sign > 0 else (-high, -low)
    return f"95{_words.SPACE}% interval {number(low)} to {number(high)}"


def _not_always(name: str, own: np.ndarray, base: np.ndarray, said: str, end: int) -> str:
    """Where some run never reached the level, a difference would leave it out: counts instead."""
    if not (np.isfinite(own).any() or np.isfinite(base).any()):
        return f"Neither {name} nor chance reached {said} within {end:,} labels."
    return (
        f"{name} reached {said} within {end:,} labels in {_reached(own)}, and chance in "
        f"{_reached(base)}."
    )


def _never(results: Any, metric: str, level: float) -> bool:
    return any(np.isinf(needed).any() for needed in results.labels_needed(level, metric).values())


def _reached(needed: np.ndarray) -> str:
    reached, count = int(np.isfinite(needed).sum()), len(needed)
    middle = _curves.middle_seed(needed)
    median = f" (median {middle:,.0f} labels)" if np.isfinite(middle) else ""
    return f"{reached or 'none'} of {_shown.counted(count, 'seed')}{median}"


def _headline(results: Any, findings: list[Finding]) -> str:
    """The largest gain that is settled, labels before curves; else that nothing is."""
    curves = [f for f in findings if f.level is None]
    labels = [f for f in findings if f.level is not None]
    for kind in (labels, curves):
        if settled := [f for f in kind if f.status == BETTER]:
            return max(settled, key=lambda f: f.gain).text
    if worse := [f for f in (*labels, *curves) if f.status == WORSE]:
        return f"No strategy beat chance. {min(worse, key=lambda f: f.gain).text}"
    statuses = {f.status for f in findings}
    if statuses == {NO_RUN}:
        return "Nothing is settled: no strategy shares a finished seed with chance."
    if statuses <= {ONE_SEED, NO_INTERVAL} and ONE_SEED in statuses:
        return "Nothing is settled: one seed has no interval. Run more seeds."
    seeds = _shown.counted(len(results.seeds), "seed")
    return f"Nothing is settled: no strategy differs from chance beyond the noise of {seeds}."


def _failures(results: Any) -> tuple[str, ...]:
    """A sentence on the runs that are missing."""
    if not results.failed:
        return ()
    total = len(results.strategies) * len(results.seeds)
    missing = [f"{name}, seed {seed}" for name, seed in results.failed]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    verb = "is" if len(missing) == 1 else "are"
    count = f"{len(missing)} of {_shown.counted(total, 'run')}"
    return (
        f"{count} failed or did not finish and {verb} left out: {'; '.join(missing[:5])}{more}.",
    )
