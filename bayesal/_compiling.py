"""The first minute: what is being compiled, said aloud; programs side by side; a cache on disk."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import jax

from bayesal import errors

PATIENCE = 0.7  # seconds after which a line says what one is waiting for
_LOG = logging.getLogger("bayesal")
_LOG.setLevel(logging.INFO)  # people silence it as any logger: by setting a higher level
MOST = 512  # programs that are remembered as run before
_seen: dict[Hashable, None] = {}
_ahead: dict[Hashable, threading.Thread] = {}
_quiet = [0]


def cache(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keep compiled programs on disk, so that the next process starts at once.

    One call before the first program. Without it every process compiles anew, for some seconds.
    Programs that are compiled in less than 0.1 s are not kept.

    Args:
      folder: where; default `$JAX_COMPILATION_CACHE_DIR`, else `~/.cache/bayesal`. It may be
        deleted at any time.
    Returns:
      The folder.
    Raises:
      BadPath: the folder cannot be made or written to.
    """
    chosen = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR") or "~/.cache/bayesal"
    path = Path(chosen).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("it cannot be written to")
    except OSError as error:
        raise errors.BadPath(
            "folder", f"`folder` = {path} cannot keep compiled programs: {error}."
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


@contextlib.contextmanager
def said(first: str, later: str, *program: Hashable) -> Iterator[None]:
    """A line on stderr where the block takes long: `first` while a program was never run before,
    `later` afterwards. It goes through the logger "bayesal".
    """
    line = later if program in _seen else first
    timer = threading.Timer(PATIENCE, _say, (line,))
    timer.daemon = True
    timer.start()
    try:
        yield
        _seen[program] = None
        if len(_seen) > MOST:
            _seen.pop(next(iter(_seen)))
    finally:
        timer.cancel()


def _say(line: str) -> None:
    if _quiet[0] or not _LOG.isEnabledFor(logging.INFO):
        return
    if _LOG.hasHandlers():
        _LOG.info(line)
    else:  # nobody set up logging: where people look
        print(f"bayesal: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No lines inside the block, for what shows progress of its own."""
    _quiet[0] += 1
    try:
        yield
    finally:
        _quiet[0] -= 1


def signature(*arguments: Any) -> Hashable:
    """Shapes and types of arguments, as far as they decide which program is meant."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


def ahead(lower: Callable[[], Any], *program: Hashable) -> None:
    """Compile `lower()`, a lowered program, in a thread beside what runs now; once.

    A call with the same arguments then finds it compiled. What goes wrong here goes wrong there
    again, where people see it.
    """
    if program in _seen or program in _ahead:
        return

    def run():
        with contextlib.suppress(Exception):
            lower().compile()

    thread = threading.Thread(target=run, name="bayesal-compile")
    _ahead[program] = thread
    thread.start()


def awaited(*program: Hashable) -> None:
    """Wait for a program that is being compiled, if it is: two threads would compile it twice."""
    if thread := _ahead.get(program):
        thread.join()
        _ahead.pop(program, None)  # not before: another thread may wait for it too
