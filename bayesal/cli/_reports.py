"""`bayesal report`: a comparison of strategies as one file to read."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from bayesal._simulate import Results
from bayesal.cli import _inputs


def report(options: Namespace) -> None:
    """The report of a folder that `bayesal.simulate` wrote."""
    results: Any = Results
    out = Path(options.folder) / "report.html" if options.out is None else Path(options.out)
    written = results.read(options.folder).report(
        out,
        target=options.target,
        metric=options.metric,
        pool=_inputs.optional(options, "pool"),
        labels=_inputs.optional(options, "labels"),
    )
    print(written)
