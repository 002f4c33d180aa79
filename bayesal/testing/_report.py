"""What came out of trying laws on somebody's function."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """One law: its sentence, and what was found against it ("" if nothing)."""

    law: str
    found: str


class LawBroken(AssertionError):
    """A function breaks a law; `report` says which and how."""

    def __init__(self, report: "Report"):
        super().__init__(str(report))
        self.report = report


class Report(NamedTuple):
    """What was tried on a function and what came out; printed, a line for each law."""

    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no law was broken."""
        return not any(outcome.found for outcome in self.outcomes)

    def __str__(self) -> str:
        kept = sum(not outcome.found for outcome in self.outcomes)
        lines = [
            f"FAILED  {law}: {found}" if found else f"passed  {law}" for law, found in self.outcomes
        ]
        return "\n".join([f"{self.name}: {kept} of {len(self.outcomes)} laws kept", *lines])


def tried(
    function: Any,
    laws: dict[str, Callable[..., str | None]],
    raise_on_failure: bool,
    name: str | None = None,
) -> Report:
    """Every law tried on a function; a law gives what it found against it, or None."""
    outcomes = []
    for law, trial in laws.items():
        try:
            found = trial(function) or ""
        except Exception as error:  # anybody's function: whatever it raises is what was found
            found = f"it raised {type(error).__name__}: {error}".splitlines()[0]
        outcomes.append(Outcome(law, found))
    called = name or str(getattr(function, "__name__", type(function).__name__))
    report = Report(called, tuple(outcomes))
    if raise_on_failure and not report.passed:
        raise LawBroken(report)
    return report
