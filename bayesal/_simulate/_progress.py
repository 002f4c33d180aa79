"""What people see while a simulation runs: how far it is, and the time left."""

import sys
import threading
from collections.abc import Callable
from time import perf_counter as clock
from typing import Any, NamedTuple, TextIO

EVERY = 1.0  # seconds between two pictures of a terminal's line


class Progress(NamedTuple):
    """How far a simulation is.

    done, total: fits that are done, of how many.
    seconds: since the start.
    left: seconds that the rest will take; None while there is nothing to tell by.
    doing: what was done last, such as "margin, seed 2, round 3".
    """

    done: int
    total: int
    seconds: float
    left: float | None
    doing: str

    def __str__(self) -> str:
        left = "" if self.left is None else f", about {_time(self.left)} left"
        return f"{self.doing}: {self.done} of {self.total} fits, {_time(self.seconds)}{left}"


class Screen:
    """Counts fits, and says so: on a terminal by one line that is written over, elsewhere by a line
    for each run that is finished. Safe to call from threads.
    """

    def __init__(
        self, total: int, rounds: int, start: str, to: bool | Callable[[Progress], Any]
    ) -> None:
        self.total, self.rounds, self.to = total, rounds, to
        self.out: TextIO = sys.stderr
        self.line = to is True and self.out.isatty()
        self.lock, self.over = threading.Lock(), threading.Event()
        self.done, self.began = 0, clock()
        self.since: tuple[float, int] | None = None  # when compiling was over, and after how many
        self.doing = start
        self.width = 0
        self.thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Screen":
        self._show(True)
        if self.line:
            self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        if self.line:
            self.thread.join()
            self._show(False)
            self.out.write("\n")
            self.out.flush()

    def found(self, fits: int) -> None:
        """So many fits were done by an earlier call."""
        if fits:
            with self.lock:
                self.total -= fits
                self.doing = f"{fits} fits are done already"
                self._show(True)

    def step(self, strategy: str, seed: int, round: int) -> None:
        """One more fit is done."""
        with self.lock:
            self.done += 1
            if self.since is None and round > 0:
                self.since = clock(), self.done
            self.doing = f"{strategy}, seed {seed}, round {round}"
            self._show(round == self.rounds)

    def skip(self, strategy: str, seed: int, fits: int) -> None:
        """A run has failed, and so many fits will not come."""
        with self.lock:
            self.total -= fits
            self.doing = f"{strategy}, seed {seed} failed"
            self._show(True)

    def now(self) -> Progress:
        """How far it is."""
        seconds, left = clock() - self.began, None
        if self.since is not None and self.done > self.since[1]:
            pace = (clock() - self.since[0]) / (self.done - self.since[1])
            left = pace * (self.total - self.done)
        return Progress(
            done=self.done, total=self.total, seconds=seconds, left=left, doing=self.doing
        )

    def _tick(self) -> None:
        while not self.over.wait(EVERY):
            with self.lock:
                self._show(False)

    def _show(self, important: bool) -> None:
        """The line anew; where lines cannot be written over, only what is important."""
        if callable(self.to):
            self.to(self.now())
        elif self.line:
            text = str(self.now())
            self.out.write("\r" + text.ljust(self.width))
            self.out.flush()
            self.width = len(text)
        elif self.to and important:
            self.out.write(f"{self.now()}\n")
            self.out.flush()


def _time(seconds: float) -> str:
    """Seconds as people say them.

    >>> _time(7.4), _time(75.0), _time(7300.0)
    ('7 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
