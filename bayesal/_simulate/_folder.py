"""The folder of a simulation: `config.json`, and a file for each run that is finished or failed.

`runs/NAME-SEED.npz` holds a finished run as arrays, and `runs/NAME-SEED.failed.json` says how
another one ended. Both are written whole, to a name of their own first.
"""

import json
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from zipfile import BadZipFile

import jax
import numpy as np

from bayesal import _files, errors
from bayesal._simulate._runs import Failure, Run

VERSION = 1
PARTS = ("values", "hparams", "seconds")
ENDING = re.compile(r"-(\d+)(\.npz|\.failed\.json)$")  # of a run's file: its seed


class Folder(NamedTuple):
    """Where finished runs are kept; `path` None: nowhere."""

    path: Path | None

    def done(self, strategy: str, seed: int, first: np.ndarray) -> Run | None:
        """A finished run, if there is one."""
        found = self.run(strategy, seed)
        if found is not None and not np.array_equal(found.first, first):
            file = self._file(strategy, seed, ".npz")
            raise errors.BadCheckpoint(
                "folder",
                f"{file} began with other first labels: `first` differs (or the pool's order). "
                "Pass the same `first`, or another folder.",
            )
        return found

    def run(self, strategy: str, seed: int) -> Run | None:
        """A finished run, if there is one, whatever it began with."""
        if self.path is None or not (file := self._file(strategy, seed, ".npz")).exists():
            return None
        return _read(file, strategy, seed)

    def failure(self, strategy: str, seed: int) -> str | None:
        """How a run failed, as `Results.failed` says it, if it did."""
        file = self._file(strategy, seed, ".failed.json")
        if not file.exists():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return f"round {found['round']}: {found['error']}: {found['message']}"
        except (OSError, ValueError, TypeError, KeyError):
            return "failed, and the file that says why is damaged"

    def seeds(self) -> tuple[int, ...]:
        """The seeds of all runs, finished or failed, in order."""
        assert self.path is not None
        names = [path.name for path in (self.path / "runs").glob("*")]
        return tuple(sorted({int(found[1]) for name in names if (found := ENDING.search(name))}))

    def keep(self, run: Run) -> None:
        """Write a finished run."""
        if self.path is None:
            return
        arrays = {"first": run.first, "picks": run.picks}
        for part in PARTS:
            arrays |= {f"{part}.{name}": value for name, value in getattr(run, part).items()}
        file = self._file(run.strategy, run.seed, ".npz")
        _files.write(file, lambda out: np.savez(out, allow_pickle=False, **arrays))
        self._file(run.strategy, run.seed, ".failed.json").unlink(missing_ok=True)

    def fail(self, failure: Failure) -> None:
        """Write how a run failed. It is tried again by the next call."""
        if self.path is not None:
            file = self._file(failure.strategy, failure.seed, ".failed.json")
            _write_json(file, failure.record())

    def _file(self, strategy: str, seed: int, end: str) -> Path:
        assert self.path is not None
        return self.path / "runs" / f"{quote(strategy, safe=' ')}-{seed}{end}"


def opened(path: Any, config: dict[str, Any]) -> Folder:
    """The folder of this configuration: a new one, or the one of an earlier call.

    Further strategies and seeds may be added to a folder; anything else must be what it was.

    Raises:
      BadCheckpoint: the folder holds another configuration, and which key differs. BadPath: it
        cannot be made.
    """
    if path is None:
        return Folder(path=None)
    where = Path(path)
    try:
        (where / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.BadPath(
            "folder", f"`folder` ({path}) cannot be a folder: {error.strerror}."
        ) from error
    file = where / "config.json"
    if file.exists():
        config = _merged(_read_json(file), config, where)
    _write_json(file, config)
    return Folder(path=where)


def existing(path: Any) -> tuple[Folder, dict[str, Any]]:
    """A folder that an earlier call made, and what its `config.json` holds.

    Raises:
      BadCheckpoint: it is no folder of a simulation, or of another version.
    """
    where = Path(path)
    found = _read_json(where / "config.json")
    _of_this_version(found, where)
    return Folder(path=where), found


def record(
    config: dict[str, Any], strategies: dict[str, str], about: dict[str, Any]
) -> dict[str, Any]:
    """What `config.json` holds: what must agree, and what is only noted.

    Args:
      about: for people, such as names of the posterior and of the strategies.
    """
    return {
        "version": VERSION,
        "config": config,
        "strategies": strategies,
        "about": about,
        "made_with": {
            "bayesal": metadata.version("bayesal"),
            "jax": jax.__version__,
            "python": platform.python_version(),
            "device": jax.devices()[0].device_kind,
        },
    }


def _of_this_version(found: dict[str, Any], where: Path) -> None:
    if found.get("version") != VERSION:
        raise errors.BadCheckpoint(
            "folder",
            f"`folder` ({where}) is of version {found.get('version')!r}, and this bayesal reads "
            f"version {VERSION}: pass another folder.",
        )


def _merged(old: dict[str, Any], new: dict[str, Any], where: Path) -> dict[str, Any]:
    """The new record with the old one's further strategies, if both agree."""
    _of_this_version(old, where)
    differing = [
        (f"`{key}`", old["config"].get(key), new["config"].get(key))
        for key in {**new["config"], **old["config"]}
        if old["config"].get(key) != new["config"].get(key)
    ]
    differing += [
        (f"strategies[{name!r}]", old["strategies"][name], value)
        for name, value in new["strategies"].items()
        if old["strategies"].get(name, value) != value
    ]
    if differing:
        key, before, now = differing[0]
        names = ", ".join(name for name, _, _ in differing)
        raise errors.BadCheckpoint(
            "folder",
            f"`folder` ({where}) holds runs of another configuration: {names} differ"
            f"{'s' if len(differing) == 1 else ''} ({key} was {before}, now {now}). Pass the same "
            "arguments to go on, or another folder.",
        )
    names = old.get("about", {}).get("strategies", {}) | new["about"]["strategies"]
    return new | {
        "strategies": old["strategies"] | new["strategies"],
        "about": new["about"] | {"strategies": names},
    }


def _read(file: Path, strategy: str, seed: int) -> Run:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
        for name, value in found.items():
            part, dot, rest = name.partition(".")
            if dot:
                parts[part][rest] = value
        return Run(
            strategy=strategy, seed=seed, first=found["first"], picks=found["picks"], **parts
        )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise errors.BadCheckpoint(
            "folder",
            f"{file} is no run of a simulation ({type(error).__name__}: {error}). Delete it to "
            "run it again.",
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if {"config", "strategies"} <= set(found):
            return found
    except (OSError, ValueError, TypeError):
        pass
    raise errors.BadCheckpoint(
        "folder", f"{file} is no configuration of a simulation: pass another folder."
    )


def _write_json(file: Path, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=1) + "\n"
    _files.write(file, lambda out: out.write(text.encode()))
