"""What does a batch of each selector on features cost? `python -m experiments.benchmarks.geometry
[name ...]`

N = 100,000 points, D = 128 features, B = 100 picks; badge: C = 10 classes; log_det_gaussian: K =
128 draws; bait: one row of 128 parameters for each point. Every selector has its own process:
seconds of the first call (with compiling), median seconds and seconds of processor time of RUNS
more, and the peak of RssAnon during those (sampled every millisecond) over RssAnon just before,
when the pool is already there.
"""

import ctypes
import subprocess
import sys
import time

from experiments.benchmarks._memory import watched

ROWS, FEATURES, SIZE, CLASSES, RUNS, MB = 100_000, 128, 100, 10, 3, 1e6
NAMES = (
    "k_center",
    "k_means_pp",
    "k_means",
    "typiclust",
    "badge",
    "dpp",
    "log_det_gaussian",
    "bait",
)


def call(name):
    """The selector as a function of nothing, on standard normal features (for the last, on means of
    draws).
    """
    import jax
    import jax.numpy as jnp

    from bayesal import select

    key, x = jax.random.key(1), jax.random.normal(jax.random.key(0), (ROWS, FEATURES))
    if name in ("k_means_pp", "k_means", "typiclust"):
        return lambda: getattr(select, name)(key, x, SIZE)
    if name == "badge":
        log_probs = jax.nn.log_softmax(2.0 * jax.random.normal(key, (1, ROWS, CLASSES)), axis=-1)
        return lambda: select.badge(key, log_probs, x, SIZE)
    if name == "log_det_gaussian":
        means, noise = x.T, jnp.full(ROWS, 0.1)
        return lambda: select.log_det_gaussian(means, noise, SIZE)
    if name == "bait":
        factors = x[:, None]
        return lambda: select.bait(factors, SIZE)
    return lambda: getattr(select, name)(x, SIZE)


def one(name):
    """In a fresh process: seconds of the first call, median seconds and processor seconds of the
    others, bytes before, peak bytes.
    """
    batch = call(name)
    start = time.perf_counter()
    batch().indices.block_until_ready()
    first = time.perf_counter() - start
    ctypes.CDLL("libc.so.6").malloc_trim(
        0
    )  # what compiling freed is given back, so that it cannot hide growth
    times, worked = [], []
    with watched() as memory:
        for _ in range(RUNS):
            start, work = time.perf_counter(), time.process_time()
            batch().indices.block_until_ready()
            times.append(time.perf_counter() - start)
            worked.append(time.process_time() - work)
    print(
        first, sorted(times)[RUNS // 2], sorted(worked)[RUNS // 2], memory["before"], memory["peak"]
    )


def main():
    if sys.argv[1:2] == ["one"]:
        return one(sys.argv[2])
    print(
        f"N = {ROWS:,}, D = {FEATURES}, B = {SIZE}; the features are "
        f"{ROWS * FEATURES * 4 / MB:.0f} MB"
    )
    print(f"{'':18}{'first s':>9}{'s':>9}{'cpu s':>9}{'growth MB':>11}{'/ features':>12}")
    for name in sys.argv[1:] or NAMES:
        out = subprocess.run(
            [sys.executable, "-m", __spec__.name, "one", name],
            check=True,
            capture_output=True,
            text=True,
        )
        first, seconds, worked, before, peak = map(float, out.stdout.split())
        growth = peak - before
        print(
            f"{name:18}{first:>9.2f}{seconds:>9.2f}{worked:>9.2f}{growth / MB:>11.0f}"
            f"{growth / (ROWS * FEATURES * 4):>12.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
