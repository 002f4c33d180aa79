"""Training beside the requests: who computes rounds, when, and who hears of it."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from bayesal.campaign import Campaign
from bayesal.service import _worker as worker
from bayesal.service._worker import State

PLACES = ("process", "thread", "elsewhere")
TICK = 30.0  # seconds between looks without an answer: deadlines, and rounds of other processes
SOON = 1.0  # while another process computes
ALIVE = 15.0  # seconds between signs of life on a quiet stream

Say = Callable[[State], None]
Look = Callable[[Say], Awaitable[None]]


class Board(NamedTuple):
    """Where the state of a campaign is written, and read by many.

    say: a new state; from the loop's thread.
    latest: the last one; None before the first.
    follow: states as they come, the last one first; None as a sign of life.
    """

    say: Say
    latest: Callable[[], State | None]
    follow: Callable[[], AsyncIterator[State | None]]


def board() -> Board:
    """A board without a state."""
    states: list[State | None] = [None]
    turned = [asyncio.Event()]

    def say(state: State) -> None:
        states[0] = state
        turned[0].set()
        turned[0] = asyncio.Event()

    async def follow() -> AsyncIterator[State | None]:
        yield states[0]
        while True:
            before, event = states[0], turned[0]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), ALIVE)
            yield None if states[0] is before else states[0]

    return Board(say=say, latest=lambda: states[0], follow=follow)


async def train(campaign: Campaign, told: Board, wake: asyncio.Event, place: str) -> None:
    """Look after every answer, and now and then; for ever. An error waits for the next answer."""
    async with _looking(campaign, place) as look:
        woken = True
        while True:
            last = told.latest()
            if woken or last is None or last.error is None:
                try:
                    await look(told.say)
                except Exception as error:
                    told.say(_failed(told.latest(), error))
            last = told.latest()
            pause = SOON if last is not None and last.training else TICK
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), pause)
            woken = wake.is_set()
            wake.clear()


def _failed(last: State | None, error: Exception) -> State:
    known = last or State(round=-1, settled=0, size=1, training=False, error=None)
    return known._replace(training=False, error=worker.in_words(error))


def _looking(campaign: Campaign, place: str) -> contextlib.AbstractAsyncContextManager[Look]:
    if place == "process":
        return _process(campaign)
    return _thread(campaign, worker.look if place == "thread" else worker.watch)


@contextlib.asynccontextmanager
async def _thread(campaign: Campaign, work: Callable[..., None]) -> AsyncIterator[Look]:
    loop = asyncio.get_running_loop()

    async def look(say: Say) -> None:
        def later(state: State) -> None:
            loop.call_soon_threadsafe(say, state)

        await asyncio.to_thread(work, campaign, later)

    yield look


@contextlib.asynccontextmanager
async def _process(campaign: Campaign) -> AsyncIterator[Look]:
    """Looks of another process, which is started again if it dies."""
    store = campaign.store.engine.url.render_as_string(hide_password=False)
    running: list[asyncio.subprocess.Process] = []

    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from bayesal.service._worker import main; main()"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        )

    async def look(say: Say) -> None:
        if not running:
            running.append(await start())
            assert running[0].stdin is not None
            running[0].stdin.write(store.encode() + b"\n")  # its URL may hold a password
        child = running[0]
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(b"look\n")
            await child.stdin.drain()
            while (line := await child.stdout.readline()) != b"null\n":
                if not line:
                    raise ChildProcessError("it ended")
                say(State(**json.loads(line)))
        except (OSError, ValueError) as error:
            running.clear()
            await _ended(child)
            raise ChildProcessError(
                f"the training process ended (status {child.returncode}); its log says why. The "
                "next answer starts it again."
            ) from error

    try:
        yield look
    finally:
        for child in running:
            await _ended(child)


async def _ended(child: asyncio.subprocess.Process) -> None:
    """End a process: at its own time for a second, then at ours. Its turn ends with it."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        await asyncio.wait_for(child.wait(), 1.0)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
