"""How much memory a call takes: resident memory, sampled while it runs."""

import contextlib
import threading


def resident(kind="RssAnon"):
    """Resident memory of this process in bytes: `RssAnon` (its own), or `VmRSS` (mapped
    files too).
    """
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(kind))


@contextlib.contextmanager
def watched(kind="RssAnon", seconds=0.001):
    """A dict with `before` and, once the block has ended, `peak` bytes."""
    found = {"before": resident(kind), "peak": 0}
    stop = threading.Event()

    def watch():
        while not stop.wait(seconds):
            found["peak"] = max(found["peak"], resident(kind))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()
        found["peak"] = max(found["peak"], found["before"])
