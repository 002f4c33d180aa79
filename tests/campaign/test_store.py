"""Stores that are none, and input that is refused: nothing is written, and the message says why."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from bayesal import campaign, errors
from tests.campaign.world import RECIPE, X, begun, clock, copied, running, store


def test_what_is_no_store(tmp_path):
    with pytest.raises(errors.BadStore, match="there is no campaign at"):
        campaign.open(tmp_path / "c.db")
    (tmp_path / "text.db").write_text("hello, this is a letter and no database at all")
    with pytest.raises(errors.BadStore, match="file is not a database"):
        campaign.open(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "other.db").execute(
        "create table meta (key, value)"
    ).connection.close()
    with pytest.raises(errors.BadStore, match="holds no campaign"):
        campaign.open(tmp_path / "other.db")
    with pytest.raises(errors.BadPath, match="is a folder"):
        campaign.open(tmp_path)
    with pytest.raises(errors.BadPath, match="does not exist"):
        campaign.open(tmp_path / "no" / "c.db")
    assert (tmp_path / "text.db").read_text().startswith("hello")


def test_a_store_is_never_created_over_something(store):
    before = store.read_bytes()
    with pytest.raises(errors.BadStore, match="exists already"):
        campaign.create(store, X, RECIPE)
    assert store.read_bytes() == before


def test_a_store_of_a_newer_version(store):
    with sqlite3.connect(store) as connection:
        connection.execute("update meta set value = '2' where key = 'schema'")
    connection.close()
    with pytest.raises(errors.BadStore, match=r"schema 2.*Update bayesal"):
        campaign.open(store)


@pytest.mark.parametrize("where", [0, 5_000, -3_000])
def test_a_damaged_file_is_never_silent(begun, tmp_path, where):
    path = copied(begun, tmp_path / "c.db")
    data = bytearray(path.read_bytes())
    data[where : where + 2000 if where >= 0 else None] = b"\xff" * len(
        data[where : where + 2000 if where >= 0 else None]
    )
    path.write_bytes(data)
    try:
        running = campaign.open(path)
        running.progress()
        running.pool()
        running.state()
    except (errors.BayesalError, Exception) as error:
        assert "campaign" in str(error) or "damaged" in str(error) or "malformed" in str(error)
    else:  # the damage hit free space, or the cached state, which is replayed
        np.testing.assert_array_equal(running.pool(), X)


def test_damaged_numbers_are_refused(store):
    with sqlite3.connect(store) as connection:
        connection.execute("update parts set data = zeroblob(length(data))")
    connection.close()
    with pytest.raises(errors.BadPool, match="are damaged"):
        campaign.open(store).pool()


def test_opening_a_store_twice_keeps_the_locks_of_the_first(store, running):
    """To open and close the file by other means would drop SQLite's locks of this process, and
    another process would write in the middle of a transaction.
    """
    write = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('begin immediate')"
    )
    with running.store.writing():
        campaign.open(store)
        other = subprocess.run([sys.executable, "-c", write, str(store)], capture_output=True)
    assert b"database is locked" in other.stderr


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c, t: c.answer("nonsense", "label", "left"), errors.UnknownToken, "no question"),
        (lambda c, t: c.answer(None, "label", "left"), errors.UnknownToken, "no question"),
        (lambda c, t: c.answer(t, "label", "left", annotator="bob"), errors.UnknownToken, "'bob'"),
        (lambda c, t: c.answer(t, "label", "middle"), errors.WrongLabel, "left, right"),
        (lambda c, t: c.answer(t, "label", 0), errors.WrongLabel, "name of a class"),
        (lambda c, t: c.answer(t, "label"), errors.WrongLabel, "name of a class"),
        (lambda c, t: c.answer(t, "reject", "left"), errors.WrongLabel, "has no value"),
        (lambda c, t: c.answer(t, "maybe"), errors.WrongLabel, "label, reject, abstain, skip"),
        (lambda c, t: c.answer(t, "label", "left", seconds=-1), errors.OutOfRange, "at least 0"),
        (lambda c, t: c.answer(t, "label", "left", seconds="x"), errors.OutOfRange, "a number"),
        (lambda c, t: c.next(""), errors.WrongType, "`annotator`"),
        (lambda c, t: c.next("x" * 101), errors.WrongType, "1 to 100 characters"),
        (lambda c, t: c.next("ann", 0), errors.WrongSize, "`n`"),
        (lambda c, t: c.add(np.zeros((2, 3), np.float32)), errors.WrongShape, "rows of this"),
        (lambda c, t: c.add(X[:2].astype(np.float64)), errors.WrongShape, "float32"),
        (lambda c, t: c.add(X[:2], ids=["0", "x"]), errors.WrongIndex, "'0' names more than one"),
        (lambda c, t: c.add(X[:2], ids=["x", "x"]), errors.WrongIndex, "'x' names more than one"),
        (lambda c, t: c.add(X[:2], show=["one"]), errors.WrongSize, "`show`"),
        (lambda c, t: c.add(X[:2], show=[b"a", b"b"]), errors.WrongType, "is shown by a text"),
        (lambda c, t: c.add(X[:2], show=[{}, {"a": float("nan")}]), errors.WrongType, "is shown"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(running, call, error, message):
    token = running.next("ann")[0].token
    with pytest.raises(error, match=message):
        call(running, token)
    report = running.progress()
    assert report.answers == 0 and report.rows == 40


def test_the_password_of_a_url_is_never_shown():
    with pytest.raises(errors.BayesalError) as caught:
        campaign.open("postgresql+psycopg://me:secret@localhost:1/none")
    assert "secret" not in str(caught.value)


def test_campaigns_need_sqlalchemy(monkeypatch):
    for name in [n for n in sys.modules if n.startswith(("bayesal.campaign", "sqlalchemy"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ImportError, match=r"pip install 'bayesal\[campaign\]'"):
        import bayesal.campaign
