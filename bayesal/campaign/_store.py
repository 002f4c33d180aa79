"""A store: an SQLite file or a PostgreSQL database; transactions that survive a killed process."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import event, select
from sqlalchemy.engine import Connection, Engine

from bayesal import errors
from bayesal.campaign import _schema as schema

WAIT = 30.0  # seconds that a writer waits for another one


class Store(NamedTuple):
    """A database and a clock.

    engine: of SQLAlchemy.
    clock: seconds since the epoch. It may jump: it decides about leases and deadlines, never about
      which answers count.
    """

    engine: Engine
    clock: Callable[[], float]

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, all of it or nothing. Writers wait for one another, so that numbers of
        answers come in the order in which they are committed.
        """
        with self.engine.connect() as connection:
            connection = connection.execution_options(immediate=True)
            with connection.begin():
                if self.engine.dialect.name != "sqlite":
                    connection.execute(select(schema.LOCK).with_for_update())
                yield connection


def connected(place: Any, clock: Callable[[], float] = time.time, *, new: bool) -> Store:
    """The store at a path or URL, which holds a campaign unless it is new.

    Raises:
      BadStore: no campaign, one of a newer version, or (new) something that is there already.
      BadPath: a folder, or a folder that does not exist.
    """
    if not isinstance(place, str | Path) or not str(place):
        raise errors.WrongType(
            "store",
            f"`store` must be a path, or the URL of a database such as postgresql+psycopg://..., "
            f"got {place!r}.",
        )
    store = Store(engine=_engine(str(place), new), clock=clock)
    try:
        tables = sqlalchemy.inspect(store.engine).get_table_names()
        if new:
            _create(store, place, tables)
        else:
            _known(store, place, tables)
    except sqlalchemy.exc.DatabaseError as error:
        raise errors.BadStore(
            "store", f"{_spoken(place)} cannot be used as a store ({error.orig})."
        ) from error
    return store


def meta(connection: Connection) -> dict[str, str]:
    """What is written once about a campaign."""
    return {row.key: row.value for row in connection.execute(select(schema.META))}


# --- engines


def _engine(place: str, new: bool) -> Engine:
    if "://" in place and not place.startswith("sqlite"):
        return sqlalchemy.create_engine(place, isolation_level="READ COMMITTED", pool_pre_ping=True)
    path = Path(place.removeprefix("sqlite:///"))
    if path.is_dir():
        raise errors.BadPath("store", f"`store` ({path}) is a folder: name a file in it.")
    if not path.parent.is_dir():
        raise errors.BadPath("store", f"`store` ({path}) is in a folder that does not exist.")
    if new == path.exists():
        raise errors.BadStore(
            "store",
            f"{path} exists already: open it by campaign.open, or name a new file."
            if new
            else f"there is no campaign at {path}. campaign.create makes one.",
        )
    # Never open the file by other means: closing it would drop SQLite's locks of this process.
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": WAIT})
    event.listen(engine, "connect", _prepared)
    event.listen(engine, "begin", _begun)
    return engine


def _prepared(connection: sqlite3.Connection, _record: Any) -> None:
    """What is committed is on disk, and readers never wait for a writer."""
    connection.isolation_level = None  # transactions begin in `_begun`, not by sqlite3's guess
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={int(WAIT * 1000)}"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


# --- what is in there


def _create(store: Store, place: Any, tables: list[str]) -> None:
    if "meta" in tables:
        raise errors.BadStore(
            "store",
            f"{_spoken(place)} holds a campaign already: open it by campaign.open, or name a new "
            "database.",
        )
    schema.TABLES.create_all(store.engine)


def _known(store: Store, place: Any, tables: list[str]) -> None:
    known = {}
    if "meta" in tables:
        with store.reading() as connection:
            known = meta(connection)
    if known.get("application") != schema.APPLICATION:
        raise errors.BadStore(
            "store",
            f"{_spoken(place)} holds no campaign of bayesal, or one whose creation was cut short "
            "(delete it then, and create it anew).",
        )
    if (written := int(known["schema"])) > schema.VERSION:
        raise errors.BadStore(
            "store",
            f"{_spoken(place)} has schema {written}, and this bayesal reads schemas up to "
            f"{schema.VERSION}. Update bayesal.",
        )


def _spoken(place: Any) -> str:
    """A place in words, without the password of its URL."""
    text = str(place)
    return sqlalchemy.make_url(text).render_as_string() if "://" in text else text
