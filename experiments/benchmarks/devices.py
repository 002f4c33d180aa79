"""Is the batch the same on 1, 2, 4 and 8 devices, and what do they exchange? `python -m
experiments.benchmarks.devices`

`shards.batch_bald` on virtual CPU devices: N = 20,001 (which is a multiple of none), K = 100, C =
10, 1,000 candidates, b = 10. Every number of devices has its own process, in which XLA writes down
every program that it compiles; the collectives are counted in those texts, in the order of a call:
scores of the whole pool, its highest, the greedy batch among them (what stands inside the loop over
picks happens b times, the rest once), and all other programs of the process together. Virtual
devices share the cores there are: the seconds say what dividing costs, not what it gains.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS, FEATURES, CLASSES, DRAWS, SIZE, CALLS = 20_001, 16, 10, 100, 10, 5
DEVICES = (1, 2, 4, 8)
COLLECTIVES = re.compile(
    r" = \S+ "
    r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast)(?:-start)?\("
)
PROGRAMS = {"jit__scores": "scoring", "jit__top": "the highest", "jit__greedy": "greedy"}


def one(devices):
    """In a fresh process: median seconds of a call, and the batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from bayesal import shards

    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update(
        "jax_enable_compilation_cache", False
    )  # a program from the cache is not written down
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    mean, spread = (
        rng.normal(size=(1, FEATURES, CLASSES)),
        rng.normal(size=(DRAWS, FEATURES, CLASSES)),
    )
    weights = (0.7 * mean + 0.3 * spread).astype(np.float32)
    pool = shards.spread(x, shards.mesh())
    predictive = lambda x: jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights), axis=-1)
    batch = lambda: shards.batch_bald(
        jax.random.key(0), predictive, pool, SIZE
    ).indices.block_until_ready()
    batch()
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        rows = batch()
        seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds), *rows.tolist())


def counted(folder):
    """Collectives in the programs that XLA wrote down, by what the program does: inside a loop, and
    outside.
    """
    found = {name: ([], []) for name in (*PROGRAMS.values(), "all else")}
    written = sorted(folder.glob("*after_optimizations.txt"))
    names = [path.name.split(".")[1] for path in written]
    if not set(PROGRAMS) <= set(names):
        raise SystemExit(
            f"XLA wrote down {sorted(set(names))}, but not all of {', '.join(PROGRAMS)}: "
            "their names have changed."
        )
    for name, path in zip(names, written, strict=True):
        for computation in path.read_text().split("\n\n"):
            found[PROGRAMS.get(name, "all else")]["ENTRY" in computation].extend(
                COLLECTIVES.findall(computation)
            )
    return found


def told(collectives):
    return (
        ", ".join(f"{collectives.count(name)} {name}" for name in sorted(set(collectives)))
        or "none"
    )


def main():
    if sys.argv[1:2] == ["one"]:
        return one(int(sys.argv[2]))
    print(
        f"N = {ROWS:,}, K = {DRAWS}, C = {CLASSES}, b = {SIZE}; collectives: inside a loop | "
        "outside"
    )
    batches = set()
    for devices in DEVICES:
        with tempfile.TemporaryDirectory() as folder:
            flags = (
                f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text"
            )
            out = subprocess.run(
                [sys.executable, "-m", __spec__.name, "one", str(devices)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"XLA_FLAGS": flags},
            )
            found = counted(Path(folder))
        seconds, *rows = out.stdout.split()
        batches.add(tuple(rows))
        texts = "; ".join(
            f"{name}: {told(inside)} | {told(once)}" for name, (inside, once) in found.items()
        )
        print(
            f"{devices} devices  {float(seconds):6.3f} s  rows {' '.join(rows)}\n    {texts}",
            flush=True,
        )
    print(
        "the same batch for all"
        if len(batches) == 1
        else f"NOT THE SAME: {len(batches)} different batches"
    )


if __name__ == "__main__":
    main()
