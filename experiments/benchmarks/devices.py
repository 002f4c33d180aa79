"""What does a pool over devices exchange? `python -m experiments.benchmarks.devices`

BatchBALD on 1, 2, 4 and 8 virtual CPU devices, in two ways. Commit c4b8024 (`--before`, a temporary
git worktree) deals the candidates out and exchanges each pick by a collective, in
`shards.batch_bald`. The working tree gathers what was measured and picks on one device:
`bayesal.choose` of `pools.sharded`. K = 50, C = 10, 1,000 candidates, b = 10; each N is a multiple
of no number of devices.

Every process has one number of devices and one way, and the ways take turns. XLA writes down every
program it compiles, and a line shows what those texts say: collectives of one call (inside the loop
over picks: times b), and the bytes that cross between devices in them (an all-gather of n bytes to
D devices: n (D - 1); an all-reduce: twice that). `gathered` is what goes to the first device
outside a program: what `Pool.map` gave, times (D - 1) / D. Times are medians of all calls in ms;
`scoring` is the part that measures rows. Virtual devices share the cores there are: the times say
what dividing costs, not what it gains.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
FEATURES, CLASSES, DRAWS, SIZE, CALLS = 16, 10, 50, 10, 5
DEVICES, ROWS = (1, 2, 4, 8), (20_001, 200_001)
COLLECTIVE = re.compile(
    r" = (\S+) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    r"|collective-broadcast)(?:-start)?\("
)
SHAPE = re.compile(r"(pred|[a-z]+)(\d*)\[([\d,]*)\]")


def model(rows):
    """The pool `[rows, FEATURES]`, and draws of a linear net that agree as trained ones do."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from bayesal.types import Posterior

    random = np.random.default_rng(0)
    x = random.normal(size=(rows, FEATURES)).astype(np.float32)
    mean = random.normal(size=(1, FEATURES, CLASSES))
    apart = random.normal(size=(DRAWS, FEATURES, CLASSES))
    linear = Posterior(
        init=lambda key, x: (),
        fit=lambda key, state, labeled, hparams: (state, None),
        draw=lambda key, state, count: weights[:count],
        apply=lambda state, draw, x: jax.nn.log_softmax(x @ draw),
    )
    weights = jnp.asarray(0.7 * mean + 0.3 * apart, jnp.float32)
    return x, linear, weights


def clocked(call):
    """What a call gives, and its seconds."""
    import jax

    start = time.perf_counter()
    return jax.block_until_ready(call()), time.perf_counter() - start


def before(rows):
    """A call: its batch, seconds of its scoring, and bytes gathered outside programs."""
    import jax

    from bayesal import Predictive, shards
    from bayesal.scores import bald

    x, posterior, draws = model(rows)
    predictive = Predictive(posterior, (), draws, jax.numpy.float32(1.0))
    pool = shards.spread(x, shards.mesh())

    def call():
        scoring = clocked(lambda: shards.scores(predictive, pool, bald))[1]
        found, whole = clocked(
            lambda: shards.batch_bald(jax.random.key(0), predictive, pool, SIZE).indices
        )
        return found, whole, scoring, 0

    return call


def after(rows):
    """The same of the working tree."""
    import jax

    import bayesal
    from bayesal import acquire, pools

    x, posterior, draws = model(rows)
    predictive = bayesal.predictive.bind(posterior, (), draws)
    pool, strategy = pools.sharded(x), acquire.batch_bald()

    def call():
        scoring, gathered = [], []

        def map(predictive, fn):
            measured, seconds = clocked(lambda: pool.map(predictive, fn))
            scoring.append(seconds)
            gathered.append(sum(leaf.nbytes for leaf in jax.tree.leaves(measured)))
            return measured

        found, whole = clocked(
            lambda: bayesal.choose(0, predictive, pool._replace(map=map), SIZE, strategy).indices
        )
        return found, whole, sum(scoring), sum(gathered)

    return call


def one(side, devices, rows, tree):
    """In a fresh process whose `bayesal` is that of one side: what was measured, as JSON."""
    import jax

    import bayesal

    if not Path(bayesal.__file__).is_relative_to(tree):
        raise SystemExit(f"bayesal came from {bayesal.__file__}, and not from {tree}")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    # a program from the cache is not written down
    jax.config.update("jax_enable_compilation_cache", False)
    call = {"before": before, "after": after}[side](rows)
    call()
    found = [call() for _ in range(CALLS)]
    seconds, scoring = ([each[at] for each in found] for at in (1, 2))
    gathered = found[0][3] * (devices - 1) // devices
    picks = found[0][0].tolist()
    print(
        json.dumps({"s": seconds, "scoring": scoring, "gathered": gathered, "picks": picks}),
        flush=True,
    )


def exchanged(folder, devices):
    """Collectives of one call, and the bytes that they move, in the texts of its programs."""
    counts, moved = {}, 0
    for path in sorted(Path(folder).glob("*after_optimizations.txt")):
        for computation in path.read_text().split("\n\n"):
            times = 1 if "ENTRY" in computation else SIZE
            for shape, kind in COLLECTIVE.findall(computation):
                counts[kind] = counts.get(kind, 0) + times
                ways = 2 if kind == "all-reduce" else 1
                moved += times * ways * size_of(shape) * (devices - 1)
    return counts, moved


def size_of(shape):
    """Bytes of an array or a tuple of them, as XLA writes their types: `f32[8,10]{1,0}`."""
    width = lambda kind, bits: 1 if kind == "pred" else int(bits) // 8
    return sum(
        width(kind, bits) * math.prod(int(n) for n in dims.split(",") if n)
        for kind, bits, dims in SHAPE.findall(shape)
    )


def run(side, devices, rows, tree):
    """One process: what it measured, with what its programs exchange."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        command = [sys.executable, "-P", str(HERE), "one", side, str(devices), str(rows), str(tree)]
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(tree)},
        )
        counts, moved = exchanged(folder, devices)
    return json.loads(done.stdout.splitlines()[-1]) | {"counts": counts, "moved": moved}


def line(side, devices, rows, found):
    """One line of the table, from all processes of one way."""
    median = lambda key: statistics.median(s for each in found for s in each[key])
    last = found[-1]
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(last["counts"].items())) or "none"
    print(
        f"{rows:>9,}{devices:>9}  {side:<8}{1e3 * median('s'):>9.1f}"
        f"{1e3 * median('scoring'):>9.1f}{last['moved'] / 1e3:>12,.1f}"
        f"{last['gathered'] / 1e3:>12,.1f}  {counts}",
        flush=True,
    )


def main():
    if sys.argv[1:2] == ["one"]:
        return one(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    from experiments.benchmarks.house import checked_out  # not there in the old tree

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default="c4b8024", help="the commit to compare with")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--devices", type=int, nargs="+", default=DEVICES)
    parser.add_argument("--pairs", type=int, default=3, help="turns of every line")
    given = parser.parse_args()
    print(
        f"{'N':>9}{'devices':>9}  {'way':<8}{'ms':>9}{'scoring':>9}{'kB moved':>12}"
        f"{'gathered':>12}  collectives of a call"
    )
    with tempfile.TemporaryDirectory() as folder, checked_out(given.before, folder) as old:
        for rows in given.rows:
            picks = set()
            for devices in given.devices:
                found = {"before": [], "after": []}
                for _ in range(given.pairs):
                    for side, tree in (("before", old), ("after", ROOT)):
                        found[side].append(run(side, devices, rows, tree))
                for side, every in found.items():
                    line(side, devices, rows, every)
                    picks |= {tuple(each["picks"]) for each in every}
            print("the same batch for all" if len(picks) == 1 else f"{len(picks)} BATCHES: {picks}")


if __name__ == "__main__":
    main()
