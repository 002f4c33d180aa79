"""Ten million rows from disk: `python -m experiments.benchmarks.disk [--rows 10000000] [--draws 10]
[--hidden 0] [--folder DIR]`

Writes a .npy file of `rows` x 64 float32 features (seeded, in chunks) to a temporary folder, then
asks `bayesal.choose` for the 1,000 rows with the highest BALD scores under `draws` linear nets (an
MLP with `--hidden`) of 10 classes, for 10 rows by BatchBALD, and for 1,000 by PowerBALD. Reported:
seconds, rows a second, and how far the resident memory of this process rose above what it was just
before, mapped pages included. Of the rise, 4 bytes a row are the scores.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, pools, scores
from experiments.benchmarks._memory import watched

FEATURES, CLASSES, PART, FEW, GB = 64, 10, 100_000, 20_000, 2**30


def write(path, rows):
    """The pool, row after row from one seeded generator; no more than a part of it is ever in
    memory.
    """
    random = np.random.default_rng(0)
    with open(path, "wb") as out:
        np.lib.format.write_array_header_1_0(
            out, {"descr": "<f4", "fortran_order": False, "shape": (rows, FEATURES)}
        )
        for start in range(0, rows, PART):
            random.standard_normal((min(PART, rows - start), FEATURES), np.float32).tofile(out)


def network(draws, hidden):
    """Log-probabilities of `draws` linear nets, or of MLPs with one hidden layer."""
    keys = jax.random.split(jax.random.key(0))
    first = jax.random.normal(keys[0], (draws, FEATURES, hidden or CLASSES)) / 8
    second = jax.random.normal(keys[1], (draws, hidden or CLASSES, CLASSES)) / max(hidden, 1) ** 0.5

    @jax.jit
    def predictive(x):
        values = jnp.einsum("nf,kfh->knh", x, first)
        return jax.nn.log_softmax(
            jnp.einsum("knh,khc->knc", jax.nn.relu(values), second) if hidden else values, axis=-1
        )

    return predictive


def measured(call):
    """What a call gives, its seconds, and the rise of resident memory during it."""
    start = time.perf_counter()
    with watched("VmRSS", 0.005) as memory:
        result = call()
    return result, time.perf_counter() - start, memory["peak"] - memory["before"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=0)
    parser.add_argument(
        "--folder", default=None, help="where the file is written; a temporary folder if left out"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, size = Path(folder) / "pool.npy", args.rows * FEATURES * 4
        if shutil.disk_usage(folder).free < size + GB:
            raise SystemExit(
                f"{size / GB:.1f} GiB and one to spare are needed in {folder}; pass --folder "
                "or fewer --rows."
            )
        _, seconds, _ = measured(lambda: write(path, args.rows))
        print(
            f"{args.rows:,} rows x {FEATURES} float32 = {size / GB:.2f} GiB, written in "
            f"{seconds:.1f} s; K = {args.draws}, C = {CLASSES}, hidden {args.hidden}"
        )
        predictive, key = network(args.draws, args.hidden), jax.random.key(1)
        asked = {
            "top(bald)": (1_000, acquire.top(scores.bald)),
            "batch_bald": (10, acquire.batch_bald()),
            "power(bald)": (1_000, acquire.power(scores.bald)),
        }
        few = np.load(path, mmap_mode="r")[:FEW]
        for size, strategy in asked.values():  # compiles, and warms the allocator
            bayesal.choose(key, predictive, pools.file(few), size, strategy)
        print(f"{'':>12}{'seconds':>10}{'rows/s':>14}{'RSS rose by':>14}")
        for name, (size, strategy) in asked.items():
            result, seconds, rise = measured(
                lambda: bayesal.choose(key, predictive, path, size, strategy)  # noqa: B023
            )
            print(
                f"{name:>12}{seconds:>10.1f}{args.rows / seconds:>14,.0f}{rise / 2**20:>10.1f} MiB",
                flush=True,
            )
            if name == "batch_bald":
                print(f"{'':>12}certified: {bool(result.certified)}")


if __name__ == "__main__":
    main()
