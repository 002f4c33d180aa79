"""Does `ask` need more memory for a larger pool? `python -m experiments.benchmarks.streaming`

`acquire.top(scores.bald)` with 50 draws of an mlp on pools of 64 features. Every pool has its own
process; the peak of RssAnon (sampled every millisecond over ASKS asks, after one that compiles) is
compared with RssAnon just before, when the pool is already there. Of the growth, 4 bytes per point
are the scores; what is left should not depend on the pool.
"""

import ctypes
import subprocess
import sys
import time

from experiments.benchmarks._memory import watched

SIZES, DRAWS, ASKS, MB = (20_000, 80_000, 320_000), 50, 5, 1e6


def one(rows):
    """In a fresh process: bytes before, peak bytes, median seconds of an ask."""
    import jax
    import numpy as np

    from bayesal import acquire, learner, networks, posteriors, scores

    x = jax.random.normal(jax.random.key(0), (rows, 64)).block_until_ready()
    loop = learner(
        posteriors.mc_dropout(networks.mlp(64, 10)),
        acquire.top(scores.bald),
        size=10,
        capacity=40,
        num_draws=DRAWS,
    )
    state = loop.tell(loop.init(jax.random.key(1), x), x, np.arange(20), np.arange(20) % 10)
    loop.ask(state, x)
    ctypes.CDLL("libc.so.6").malloc_trim(
        0
    )  # what compiling freed is given back, so that it cannot hide growth
    times = []
    with watched() as memory:
        for _ in range(ASKS):
            start = time.perf_counter()
            loop.ask(state, x)
            times.append(time.perf_counter() - start)
    print(memory["before"], memory["peak"], sorted(times)[ASKS // 2])


def main():
    if sys.argv[1:2] == ["one"]:
        return one(int(sys.argv[2]))
    print(
        f"MB; growth = peak RssAnon during {ASKS} asks - RssAnon just before; K = {DRAWS}, C = 10"
    )
    heads = {
        "N": 8,
        "pool": 8,
        "before": 9,
        "growth": 9,
        "scores": 9,
        "beyond": 9,
        "bytes/point": 13,
        "all [K, N, C]": 15,
        "us/point": 10,
    }
    print("".join(f"{name:>{width}}" for name, width in heads.items()))
    seen = []
    for rows in SIZES:
        out = subprocess.run(
            [sys.executable, "-m", __spec__.name, "one", str(rows)],
            check=True,
            capture_output=True,
            text=True,
        )
        before, peak, seconds = map(float, out.stdout.split())
        seen.append((rows, peak - before - 4 * rows))
        slope = (seen[-1][1] - seen[0][1]) / (rows - seen[0][0]) if len(seen) > 1 else float("nan")
        megabytes = (
            f"{rows * 256 / MB:>8.1f}{before / MB:>9.1f}{(peak - before) / MB:>9.1f}"
            f"{4 * rows / MB:>9.2f}{seen[-1][1] / MB:>9.1f}"
        )
        print(
            f"{rows:>8}{megabytes}{slope:>13.1f}{DRAWS * rows * 40 / MB:>15.0f}"
            f"{seconds / rows * 1e6:>10.2f}",
            flush=True,
        )
    print(
        "bytes/point: how `beyond` grows from the smallest pool on; 0 is flat (sorting the "
        "scores takes some)."
    )


if __name__ == "__main__":
    main()
