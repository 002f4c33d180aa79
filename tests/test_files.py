"""A file is written whole or not at all, and only where a file can be."""

import os
import resource
import socket
import stat
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from bayesal import _files, errors, export


def put(path, content: bytes) -> None:
    _files.write(path, lambda file: file.write(content))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    (tmp_path / "state").write_bytes(b"old")
    return tmp_path / "state"


def test_a_file_is_replaced_and_nothing_else_is_left(path):
    for given in (path, str(path), os.fsencode(path)):
        put(given, repr(given).encode())
        assert path.read_bytes() == repr(given).encode() and names(path.parent) == ["state"]


def test_writers_of_one_path_never_meet_and_readers_see_whole_files(path):
    contents = [bytes([65 + i]) * (20_000 + i) for i in range(4)]
    put(path, contents[0])
    failed, until = [], time.monotonic() + 0.7

    def repeat(work, count):
        try:
            while time.monotonic() < until:
                work()
                count.append(1)
        except BaseException as error:
            failed.append(error)

    def read():
        assert path.read_bytes() in contents

    counts = [[] for _ in range(5)]
    works = [lambda c=c: put(path, c) for c in contents] + [read]
    threads = [
        threading.Thread(target=repeat, args=both) for both in zip(works, counts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert all(counts)  # each of them got to work
    assert names(path.parent) == ["state"]


def test_parts_of_dead_writers_are_removed_and_those_of_live_ones_kept(path):
    folder = path.parent
    dead, another = folder / ".bayesal-0123.part", folder / ".other.part"
    dead.write_bytes(b"half of it")
    another.write_bytes(b"of another program")

    def slow(file):
        file.write(b"first half, ")
        assert not dead.exists()
        mine = [name for name in names(folder) if name.startswith(".bayesal")]
        put(folder / "second", b"written meanwhile")
        assert [name for name in names(folder) if name.startswith(".bayesal")] == mine
        file.write(b"second half")

    _files.write(path, slow)
    assert path.read_bytes() == b"first half, second half"
    assert names(folder) == [".other.part", "second", "state"]


def test_a_part_that_was_cleaned_before_its_lock_is_made_again(path, monkeypatch):
    locked, lost = _files._locked, []

    def late(file):
        if not lost:
            lost.append(file.name)
            _files._clean(path.parent)  # another writer, between the creation and the lock
        return locked(file)

    monkeypatch.setattr(_files, "_locked", late)
    put(path, b"new")
    assert lost and path.read_bytes() == b"new" and names(path.parent) == ["state"]


@pytest.mark.parametrize("error", [OSError("failed"), KeyboardInterrupt(), ValueError("failed")])
def test_a_failed_write_leaves_the_old_file(path, error):
    def fail(file):
        file.write(b"half of it")
        raise error

    with pytest.raises(type(error)):
        _files.write(path, fail)
    assert path.read_bytes() == b"old" and names(path.parent) == ["state"]


def test_a_full_disk_leaves_the_old_file(path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError):
            put(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old" and names(path.parent) == ["state"]


def failing_sync(monkeypatch, folders: bool):
    sync = os.fsync

    def fail(file):
        if stat.S_ISDIR(os.fstat(file).st_mode) == folders:
            raise OSError(5, "Input/output error")
        sync(file)

    monkeypatch.setattr(os, "fsync", fail)


def test_a_failed_sync_of_the_folder_is_a_warning(path, monkeypatch):
    failing_sync(monkeypatch, folders=True)
    with pytest.warns(UserWarning, match="could not be synced"):
        put(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_failed_sync_of_the_file_is_an_error(path, monkeypatch):
    failing_sync(monkeypatch, folders=False)
    with pytest.raises(OSError, match="Input/output"):
        put(path, b"new")
    assert path.read_bytes() == b"old" and names(path.parent) == ["state"]


def test_file_and_folder_are_synced_before_and_after_the_name(path, monkeypatch):
    seen = []
    sync, replace = os.fsync, os.replace
    kind = lambda file: "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(kind(file)), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *two: (seen.append("name"), replace(*two)))
    put(path, b"new")
    assert seen == ["file", "name", "folder"]


def test_symbolic_links_stay_and_their_target_is_written(path, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    links = {"absolute": path, "relative": Path("../state"), "chained": Path("relative")}
    for name, target in links.items():
        (away / name).symlink_to(target)
        put(away / name, name.encode())
        assert (away / name).is_symlink() and not path.is_symlink()
        assert path.read_bytes() == name.encode()
    (away / "dangling").symlink_to("made")
    put(away / "dangling", b"new")
    assert (away / "dangling").is_symlink() and (away / "made").read_bytes() == b"new"
    assert names(away) == ["absolute", "chained", "dangling", "made", "relative"]
    assert names(tmp_path) == ["away", "state"]


def test_a_hard_link_keeps_the_old_content(path):
    os.link(path, path.with_name("backup"))
    put(path, b"new")
    assert path.read_bytes() == b"new" and path.with_name("backup").read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_the_mode_of_a_replaced_file_is_kept(path, mode):
    path.chmod(mode)

    def look(file):  # nobody else may read the new content either
        assert not stat.S_IMODE(os.stat(file.name).st_mode) & ~(mode | 0o600)
        file.write(b"new")

    _files.write(path, look)
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    put(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_a_replaced_file_is_kept(path):
    os.chown(path, 12345, 54321)
    path.chmod(0o600)
    put(path, b"new")
    facts = path.stat()
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (12345, 54321, 0o600)


def special(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, kind):
    special(tmp_path / "it", kind)
    (tmp_path / "link").symlink_to("it")
    before = (tmp_path / "it").stat()
    for name in ("it", "link"):
        for work in (lambda at: put(at, b"new"), _files.opened):
            with pytest.raises(errors.BadPath, match=f"is a .*{kind}") as caught:
                work(tmp_path / name)
            assert caught.value.argument == "path" and isinstance(caught.value, OSError)
    assert os.path.samestat(before, (tmp_path / "it").stat()) and names(tmp_path) == ["it", "link"]


def test_impossible_paths_are_called_what_they_are(path, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    wrong = {
        path / "below": "Not a directory",
        tmp_path / ("x" * 300): "File name too long",
        tmp_path / "loop": "Too many levels|too many levels",
        "a\0b": "null",
        "": "is a folder",
    }
    for bad, reason in wrong.items():
        for work in (lambda at: put(at, b"new"), _files.opened):
            with pytest.raises(errors.BadPath, match=reason) as caught:
                work(bad)
            assert caught.value.argument == "path" and "`path`" in str(caught.value)
    for bad in (3.5, None, ["state"]):
        with pytest.raises(errors.WrongType, match="`path`"):
            put(bad, b"new")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(errors.BadPath, match=r"folder that does not exist.*mkdir") as caught:
        put(tmp_path / "none" / "state", b"new")
    assert caught.value.argument == "path" and str(tmp_path / "none") in str(caught.value)
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        _files.opened(tmp_path / "none" / "state")


def test_a_file_system_without_locks_is_written_all_the_same(path, monkeypatch):
    stale = path.with_name(".bayesal-0123.part")
    stale.write_bytes(b"perhaps alive")

    def fail(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(_files.fcntl, "flock", fail)
    put(path, b"new")
    assert path.read_bytes() == b"new" and stale.exists()
    monkeypatch.setattr(_files, "fcntl", None)  # Windows
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put(path, b"newer")
    assert path.read_bytes() == b"newer" and stale.exists()


def test_a_ranking_is_written_the_same_way(path, monkeypatch):
    ranking = export.Ranking(
        rows=np.array([2, 0]),
        prediction=np.array([1, 0]),
        **{
            name: np.array([0.5, 0.25], np.float32)
            for name in ("score", "total", "aleatoric", "epistemic", "confidence")
        },
    )
    path.chmod(0o600)
    path.with_name("link.csv").symlink_to("state")
    synced, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), sync(file)))
    ranking.to_records(path.with_name("link.csv"))
    assert path.read_bytes().startswith(b"id,rank,score") and len(synced) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(errors.BadPath):
        ranking.to_records(path.parent, format="csv")
