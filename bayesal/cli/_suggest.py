"""`bayesal suggest`: predictions of any model in, a ranking out, and how it was made."""

import json
import platform
import sys
from argparse import Namespace
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesal import _files, _shown, acquire, errors, export, pools, scores
from bayesal._choose import choose
from bayesal.cli import _inputs
from bayesal.export import Ranking

KINDS = ("probs", "log_probs", "logits")
INPUTS = ("predictions", "available", "features", "ids")

# What orders the rows behind the batch. Others: BALD, or the entropy where one draw has none.
BEHIND: dict[str, Callable[..., Any]] = {
    "entropy": scores.entropy,
    "least_confidence": scores.least_confidence,
    "margin": scores.margin,
    "power_margin": scores.margin,
}


def suggest(options: Namespace) -> None:
    """Pick a batch of a pool of predictions, and rank the other rows behind it."""
    out = _out(options.out)
    picks, ranking = _ranked(options)
    if out is None:
        records = ranking.to_records()[:picks]
        print(_shown.table(list(records[0]), [list(record.values()) for record in records]))
        return
    ranking.to_records(out)
    beside = out.with_name(f"{out.name}.json")
    made = json.dumps(_provenance(options, out, picks, len(ranking.rows)), indent=2) + "\n"
    _files.write(beside, lambda file: file.write(made.encode()))
    print(f"{out}: {picks} picks, {len(ranking.rows)} rows. {beside}: how", file=sys.stderr)


def _ranked(options: Namespace) -> tuple[int, Ranking]:
    """How many were picked, and the ranking that they head."""
    strategy = acquire.named(options.strategy)
    values = _inputs.array(options.predictions, "predictions")
    available = _inputs.optional(options, "available")
    ids = None if options.ids is None else _inputs.lines(options.ids, "ids")
    pool = pools.numbers(
        **{options.kind: values}, axes=options.axes, features=_inputs.optional(options, "features")
    )
    if ids is not None and len(ids) != pool.rows:  # before minutes of work
        raise errors.WrongSize(
            "ids", f"`ids` ({options.ids}) has {len(ids)} lines, and the pool {pool.rows} rows."
        )
    batch = choose(options.seed, None, pool, options.size, strategy, available=available)
    letters = "".join((options.axes or "N C").split())
    draws = values.shape[letters.index("K")] if "K" in letters else 1
    usual = scores.bald if draws > 1 else scores.entropy
    behind = BEHIND.get(options.strategy, usual)
    ranking = export.ranking(batch, None, pool, score=behind, available=available, ids=ids)
    return len(batch.indices), ranking


def _out(given: str | None) -> Path | None:
    """The file of the ranking, before minutes of work; None: the terminal."""
    if given in (None, "-"):
        return None
    out = Path(str(given))
    if out.suffix[1:] not in export.FORMATS:
        raise errors.BadPath("path", f"`path` ({out}) must end in .csv or .jsonl.")
    if not out.parent.is_dir():
        raise errors.BadPath("path", f"`path` ({out}) is in a folder that does not exist.")
    return out


def _provenance(options: Namespace, out: Path, picks: int, rows: int) -> dict[str, Any]:
    """All that is needed to make the file again, and to see whether it is the same."""
    given = {name: getattr(options, name) for name in INPUTS}
    return {
        "command": "bayesal suggest",
        "versions": {
            "bayesal": metadata.version("bayesal"),
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "strategy": options.strategy,
        "seed": options.seed,
        "size": options.size,
        "axes": options.axes,
        "kind": options.kind,
        "inputs": {
            name: {"path": place, "sha256": _inputs.sha256(place)}
            for name, place in given.items()
            if place is not None
        },
        "output": {"path": str(out), "sha256": _inputs.sha256(out), "picks": picks, "rows": rows},
    }
