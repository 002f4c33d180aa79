"""Whole files: the one atomic write of bayesal, and what counts as a file."""

import contextlib
import errno
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bayesal import errors
from bayesal._warnings import warn

try:
    import fcntl
except ImportError:  # Windows: no locks, so nothing is cleaned up there
    fcntl = None  # type: ignore[assignment]

# A part belongs to no one target, so that any save cleans up after every dead writer of the folder.
_PART = ".bayesal-{}.part"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_IMPOSSIBLE = (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


def write(path: Any, fill: Callable[[io.BufferedWriter], Any]) -> None:
    """Write a file whole or not at all: readers see the old content or the new content.

    The content goes to a new file in the same folder, is synced to disk, and takes over the name.
    A symbolic link stays, and its target is written. Mode and owner of a replaced file are kept. A
    hard link is broken: this name gets the new file, the other names keep the old one.

    Args:
      path: the file. Its folder exists.
      fill: writes the content into an open file.
    Raises:
      BadPath: a folder, a device or a pipe; a missing folder; a name that no file can have.
      OSError: the disk is full or failed, or permission is missing. The old file is untouched.
    """
    target = _target(path)
    try:
        old = _found(path, target)
    except FileNotFoundError:
        old = None
        if not target.parent.is_dir():
            raise errors.BadPath(
                "path",
                f"`path` ({path}) is in a folder that does not exist. Create it first: "
                f"Path({str(target.parent)!r}).mkdir(parents=True).",
            ) from None
    _clean(target.parent)
    with _part(target.parent, private=old is not None) as file:
        fill(file)
        file.flush()
        if old is not None:
            _inherit(file, old)
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()  # Windows renames closed files only
        os.replace(file.name, target)  # still locked: no clean-up can take the part
    _sync(target.parent)


def opened(path: Any) -> io.BufferedReader:
    """A regular file, open for reading; FileNotFoundError if there is none."""
    target = _target(path)
    _found(path, target)
    return open(target, "rb")


def _target(path: Any) -> Path:
    """The file that a path names, behind all symbolic links."""
    try:
        return Path(os.path.realpath(os.fsdecode(path)))
    except TypeError:
        raise errors.WrongType(
            "path", f"`path` must be a string or a Path, got {type(path).__name__}."
        ) from None
    except (OSError, ValueError) as error:
        raise errors.BadPath("path", f"`path` ({path!r}) cannot name a file: {error}.") from error


def _found(path: Any, target: Path) -> os.stat_result:
    """The facts of a regular file; anything else is refused, and a missing file is missing."""
    try:
        facts = os.stat(target)
    except OSError as error:
        if error.errno not in _IMPOSSIBLE:
            raise
        raise errors.BadPath(
            "path", f"`path` ({path}) cannot name a file: {error.strerror}."
        ) from error
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "no regular file")
        raise errors.BadPath("path", f"`path` ({path}) is {kind}. Pass the name of a file.")
    return facts


@contextlib.contextmanager
def _part(folder: Path, private: bool) -> Iterator[io.BufferedWriter]:
    """A new file with a unique name, locked while its writer lives, and removed if it fails."""
    mode = 0o600 if private else 0o666  # the system takes the umask off
    while True:
        name = folder / _PART.format(secrets.token_hex(8))
        opener = lambda at, flags: os.open(at, flags, mode)
        file = open(name, "xb", opener=opener)  # noqa: SIM115 - closed by the writer below
        if _locked(file):
            break
        file.close()  # a clean-up was faster than the lock
    try:
        with file:
            yield file
    finally:
        name.unlink(missing_ok=True)


def _locked(file: io.BufferedWriter) -> bool:
    """Lock a part. The system drops the lock when its process ends, however it ends."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: no clean-up gets one there either
            return True
    return os.path.exists(file.name)


def _clean(folder: Path) -> None:
    """Remove the parts of dead writers: those that nobody has locked."""
    if fcntl is None:
        return
    for part in folder.glob(_PART.format("*")):
        with contextlib.suppress(OSError):  # alive, gone already, or somebody else's
            file = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(file)


def _inherit(file: io.BufferedWriter, old: os.stat_result) -> None:
    """Owner and mode of the replaced file, as far as the system lets us."""
    with contextlib.suppress(OSError, AttributeError):
        os.chown(file.name, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):  # after the owner: a new owner clears bits of the mode
        os.chmod(file.name, stat.S_IMODE(old.st_mode))


def _sync(folder: Path) -> None:
    """Put a new name on disk. The file is in place already, so a failure is no error."""
    if fcntl is None:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        warn(
            f"The file is written, but its folder {folder} could not be synced ({error}). A power "
            "failure within seconds may bring back the previous file.",
        )
