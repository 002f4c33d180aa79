"""One at a time: whose turn it is to train, also after a process was killed in the middle."""

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Iterator

from sqlalchemy import select, update

from bayesal.campaign import _schema as schema
from bayesal.campaign._store import Store

BEAT = 10.0  # seconds between two signs of life
LOST = 60.0  # seconds without one after which the turn is free


@contextlib.contextmanager
def turn(store: Store) -> Iterator[int | None]:
    """The number of this turn, which no other turn has; None where somebody has the turn.

    A turn is free when it was given back, when its process is dead (seen at once on the same
    machine), or when there was no sign of life for a minute.
    """
    holder = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
    with store.writing() as connection:
        now = store.clock()
        row = connection.execute(select(schema.LOCK)).one()
        free = row.holder is None or not row.until - LOST <= now < row.until or _dead(row.holder)
        if free:
            taken = {"fence": row.fence + 1, "holder": holder, "until": now + LOST}
            connection.execute(update(schema.LOCK).values(**taken))
    if not free:
        yield None
        return
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, holder, over), daemon=True)
    beating.start()
    try:
        yield row.fence + 1
    finally:
        over.set()
        beating.join()
        with store.writing() as connection:
            mine = update(schema.LOCK).where(schema.LOCK.c.holder == holder)
            connection.execute(mine.values(holder=None, until=0.0))


def _beat(store: Store, holder: str, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(Exception), store.writing() as connection:  # the next one may work
            mine = update(schema.LOCK).where(schema.LOCK.c.holder == holder)
            connection.execute(mine.values(until=store.clock() + LOST))


def _dead(holder: str) -> bool:
    """Whether a holder was a process of this machine that is no more."""
    host, process, _ = holder.split(" ")
    if os.name != "posix" or host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)  # signal 0 asks only
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, and alive
        pass
    return False
