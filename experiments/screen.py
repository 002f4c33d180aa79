"""What a person watches: one progress bar with the time left, and one table that grows round by
round.
"""

import threading
from collections import defaultdict

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console()


def say(text: str) -> None:
    """One line."""
    console.print(text, highlight=False)


class Screen:
    """Median test accuracy so far: a row per number of labels, a column per strategy. Safe to call
    from threads.
    """

    def __init__(self, total: int, strategies: list[str]):
        self.strategies, self.cells, self.lock = strategies, defaultdict(list), threading.Lock()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task("compiling", total=total)
        self.live = Live(self.picture(), console=console, refresh_per_second=4)

    def __enter__(self) -> "Screen":
        self.live.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.live.update(self.picture())
        self.live.__exit__(*error)
        if not console.is_terminal:
            console.print()  # a pipe gets the last picture without the end of its line

    def add(self, record: dict) -> None:
        """One more round of one run is done."""
        with self.lock:
            self.cells[record["labels"], record["strategy"]].append(record["accuracy"])
            self.progress.update(
                self.task, advance=1, description=f"{record['strategy']}, seed {record['seed']}"
            )
            if console.is_terminal:
                self.live.update(self.picture())
            elif self.progress.tasks[0].completed % 20 == 0:
                task = self.progress.tasks[0]
                left = (
                    ""
                    if task.time_remaining is None
                    else f", about {task.time_remaining:.0f} s left"
                )
                say(f"{task.completed:.0f} of {task.total:.0f} rounds{left}")

    def picture(self) -> Group:
        """The table, and the bar beneath it."""
        table = Table(title="test accuracy, median over seeds so far")
        table.add_column("labels", justify="right")
        for name in self.strategies:
            table.add_column(name, justify="right")
        for labels in sorted({labels for labels, _ in self.cells}):
            values = {
                name: self.cells[labels, name]
                for name in self.strategies
                if (labels, name) in self.cells
            }
            best = max(float(np.median(v)) for v in values.values())
            table.add_row(str(labels), *(_cell(values.get(name), best) for name in self.strategies))
        return Group(table, self.progress)


def _cell(values: list[float] | None, best: float) -> str:
    if not values:
        return ""
    middle = float(np.median(values))
    return f"[bold]{middle:.3f}[/]" if middle == best else f"{middle:.3f}"
