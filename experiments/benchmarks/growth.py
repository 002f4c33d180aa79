"""How does BatchBALD grow? `python -m experiments.benchmarks.growth [--full]`

`select.batch_bald` on draws of a linear net: points N, draws K, classes C and batch b, one at a
time around a center. Every size has a process of its own without a compilation cache. It makes a
first call, then up to CALLS timed ones (medians; fewer where a call takes over PATIENCE seconds).
Printed are wall and processor seconds of a later call, processor seconds of the first one, and by
how many MB memory grew beyond the pool (RssAnon, sampled every millisecond) in both: the first call
compiles, which takes most of its memory. "growth" is the slope to the size before, in logarithms of
processor seconds: 1 is linear, 2 quadratic. Results and a picture of them go to `--out`. About 3
minutes on two cores; `--full` adds a pool of 1,000,000 points (2 GB), and a minute or two.
"""

import argparse
import ctypes
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from experiments.benchmarks._memory import watched

CENTER = {"N": 10_000, "K": 50, "C": 10, "b": 10}
SIZES = {
    "N": (1_000, 10_000, 100_000),
    "K": (10, 50, 200, 1_000),
    "C": (2, 10, 100, 500),
    "b": (2, 10, 30, 100),
}
LARGE = {"N": (1_000_000,)}  # with `--full`
NAMES = {"N": "points N", "K": "draws K", "C": "classes C", "b": "batch b"}
# what a table and a picture show: the key in a record, and its head
COLUMNS = {
    "seconds": "wall s",
    "processor": "processor s",
    "first": "first call s",
    "MB": "+MB",
    "first_MB": "first +MB",
}
CALLS, PATIENCE, MB = 3, 10.0, 1e6
OUT = Path("experiments/results/growth")


def sizes(full=False):
    """Every case as `(axis, sizes)`, one axis away from the center."""
    more = LARGE if full else {}
    return [
        (axis, CENTER | {axis: value})
        for axis, values in SIZES.items()
        for value in (*values, *more.get(axis, ()))
    ]


def predictions(case):
    """Log-probabilities [K, N, C] of one linear net a draw, made draw by draw: nothing larger than
    the pool is held.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    random = np.random.default_rng(99)
    x = jax.random.normal(jax.random.key(0), (case["N"], 16))
    mean = random.normal(size=(16, case["C"]))
    one = jax.jit(lambda weights: jax.nn.log_softmax(x @ weights, axis=-1))
    pool = np.empty((case["K"], case["N"], case["C"]), np.float32)
    for draw in pool:
        weights = 0.7 * mean + 0.3 * random.normal(size=mean.shape)
        draw[:] = one(jnp.asarray(weights, jnp.float32))
    return jax.block_until_ready(jnp.asarray(pool))


def one(case):
    """In a fresh process: what a first and later calls take."""
    import jax

    from bayesal import select

    pool = predictions(case)
    key = jax.random.key(0)

    def measured():
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed cannot hide growth
        time.sleep(0.3)  # nor can what JAX is about to free
        with watched() as memory:
            wall, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(select.batch_bald(key, pool, case["b"]))
            seconds = time.perf_counter() - wall, time.process_time() - processor
        return (*seconds, (memory["peak"] - memory["before"]) / MB)

    _, first, first_grown = measured()
    later = [measured()]
    while len(later) < CALLS and later[0][0] < PATIENCE:
        later.append(measured())
    seconds, processor, grown = map(statistics.median, zip(*later, strict=True))
    found = (seconds, processor, first, grown, first_grown)
    return dict(zip(COLUMNS, found, strict=True))


def slopes(records, key="processor"):
    """Of each record, the slope in logarithms from the smaller size before it on its axis; None for
    the smallest.
    """
    before, found = {}, []
    for record in records:
        last = before.get(record["axis"])
        now = math.log(record[record["axis"]]), math.log(record[key])
        found.append(None if last is None else (now[1] - last[1]) / (now[0] - last[0]))
        before[record["axis"]] = now
    return found


def table(records):
    """The lines of a table."""
    lines = ["".join(f"{head:>13}" for head in (*CENTER, *COLUMNS.values(), "growth"))]
    for record, slope in zip(records, slopes(records), strict=True):
        cells = [f"{record[axis]:,}" for axis in CENTER]
        cells += [f"{record[key]:.{0 if 'MB' in key else 3}f}" for key in COLUMNS]
        lines.append("".join(f"{cell:>13}" for cell in (*cells, f"{slope:.2f}" if slope else "")))
    return lines


def picture(records):
    """Seconds and memory against each size, with a dotted line of linear growth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from experiments.pictures import BLUE, GRAY, VERMILION

    figure, rows = pyplot.subplots(2, len(SIZES), figsize=(12, 5.5), sharex="col", sharey="row")
    lines = (("processor", BLUE, "o-", "later call"), ("first", VERMILION, "s--", "first call"))
    memory = (("MB", BLUE, "o-", "later call"), ("first_MB", VERMILION, "s--", "first call"))
    for i, axis in enumerate(SIZES):
        mine = [record for record in records if record["axis"] == axis]
        x = [record[axis] for record in mine]
        for ax, shown in ((rows[0][i], lines), (rows[1][i], memory)):
            for key, color, style, label in shown:
                y = [max(record[key], 0.1 if "MB" in key else 1e-3) for record in mine]
                ax.loglog(x, y, style, color=color, label=label, markersize=5)
            ax.spines[["top", "right"]].set_visible(False)
        start = mine[0]["processor"]
        rows[0][i].loglog(x, [start * v / x[0] for v in x], ":", color=GRAY, label="linear")
        rows[1][i].set_xlabel(NAMES[axis])
    rows[0][0].set_ylabel("processor seconds")
    rows[1][0].set_ylabel("MB beyond the pool")
    rows[0][0].legend(frameon=False)
    figure.suptitle(
        "select.batch_bald around " + ", ".join(f"{k} = {v:,}" for k, v in CENTER.items())
    )
    figure.tight_layout()
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="a pool of 1,000,000 points too")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        return print(json.dumps(one(given.one)))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    records = []
    for axis, case in sizes(given.full):
        command = [sys.executable, "-m", __spec__.name, "--one", json.dumps(case)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
        records.append({"axis": axis} | case | json.loads(done.stdout.splitlines()[-1]))
        print("\n".join(table(records)[0 if len(records) == 1 else -1 :]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) + "\n" for record in records]
    (given.out / "results.jsonl").write_text("".join(lines))
    from experiments.pictures import save

    save(picture(records), given.out / "growth.png")


if __name__ == "__main__":
    main()
