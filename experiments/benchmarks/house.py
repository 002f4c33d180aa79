"""What did the rebuild cost? `python -m experiments.benchmarks.house [--before c4b8024]`

A commit against the working tree, in one run: seconds, memory and compilations of the same calls.
The commit is checked out as a temporary git worktree; each case then runs in fresh processes that
take turns (before, after, before, after ...), as machines are slow and fast by the hour. A process
makes a first call, a second one whose compilations are counted, some that are timed, and one more
while its memory (RssAnon, sampled every millisecond) is watched. Printed is one line a case:

    case, ms before and after (medians of all timed calls), their ratio, MB by which memory grew
    (medians), compilations `first call + second call` (warm: 0; of `tell` the process has made one
    before, so both are warm), and whether the picks are the same

`--only TEXT` runs the cases whose names hold it, `--pairs` says how many turns (3), `--cases` lists
them. Programs are cached on disk within the run, one folder a side. About 6 minutes on two cores.
A commit against itself gave ratios of 0.94 to 1.10 and memory that differed by up to 10 MB.

The old side knows commits from c4b8024 on, up to the one that brings `bayesal.choose`. There
`backend.choose` also tells people what every point is worth, and looks at all points jointly where
`acquire.batch_bald()` screens 1,000 candidates first: those lines compare what users would type.
"""

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
DRAWS, CLASSES, ROWS, SIZE, MB = 50, 10, 10_000, 10, 1e6
FEATURES, MANY, WIDTH, FEW = 64, 1_000_000, 16, 10  # of the pool in memory; of the file
LABELED = 20


def log_probs():
    """Log-probabilities [K, N, C] of linear nets that agree as trained ones do."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    x = np.random.default_rng(0).normal(size=(ROWS, 16)).astype(np.float32)
    random = np.random.default_rng(99)
    mean, spread = random.normal(size=(1, 16, CLASSES)), random.normal(size=(DRAWS, 16, CLASSES))
    weights = (0.7 * mean + 0.3 * spread).astype(np.float32)
    values = jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights), axis=-1)
    return jax.block_until_ready(values)


def selector(new, path):
    import jax

    from bayesal import select

    values = log_probs()
    return lambda: select.batch_bald(jax.random.key(0), values, SIZE)


def numbers(method, strategy):
    """Log-probabilities of any library: `backend.choose` before, `bayesal.choose` after."""

    def prepare(new, path):
        import jax
        import numpy as np

        import bayesal

        values, key = np.asarray(log_probs()), jax.random.key(0)
        if not new:
            known = {"log_probs": values, "size": SIZE, "method": method, "key": key}
            return lambda: bayesal.backend.choose(**known).selection
        how = called(strategy)
        pool = lambda: bayesal.pools.numbers(log_probs=values, axes="K N C")
        return lambda: bayesal.choose(key, None, pool(), SIZE, how)

    return prepare


def called(strategy):
    """The strategy that an expression in the names of `bayesal.acquire` and `scores` makes."""
    from bayesal import acquire, scores

    return eval(strategy, {"scores": scores}, {n: getattr(acquire, n) for n in acquire.__all__})


def learned(verb, strategy):
    """A verb of a learner that has twenty labels."""

    def prepare(new, path):
        import jax
        import numpy as np

        from bayesal import learner, networks, posteriors

        x = jax.random.normal(jax.random.key(0), (ROWS, FEATURES)).block_until_ready()
        loop = learner(
            posteriors.mc_dropout(networks.mlp(FEATURES, CLASSES)),
            called(strategy),
            size=SIZE,
            capacity=200,
            num_draws=DRAWS,
        )
        key, first = jax.random.key(1), np.arange(LABELED)
        if verb == "init":
            return lambda: loop.init(key, x)
        state = loop.tell(loop.init(key, x), x, first, first % CLASSES)
        if verb == "ask":
            return lambda: loop.ask(state, x)
        picks = np.asarray(loop.ask(state, x).indices)
        return lambda: loop.tell(state, x, picks, picks % CLASSES)

    return prepare


def on_disk(strategy):
    """A .npy file of a million rows: a function of `stream` before, `bayesal.choose` after."""

    def prepare(new, path):
        import jax
        import jax.numpy as jnp

        import bayesal
        from bayesal import networks, posteriors, scores

        posterior = posteriors.mc_dropout(networks.mlp(WIDTH, CLASSES, (16,)))
        state = posterior.init(jax.random.key(2), jnp.zeros(WIDTH))
        state = state._replace(rate=jnp.float32(0.3))
        draws, key = posterior.draw(jax.random.key(3), state, FEW), jax.random.key(0)
        if new:
            predictive, how = bayesal.predictive.bind(posterior, state, draws), called(strategy)
            return lambda: bayesal.choose(key, predictive, bayesal.pools.file(path), SIZE, how)
        predictive = bayesal.Predictive(posterior, state, draws, jnp.float32(1.0))
        if strategy == "batch_bald()":
            return lambda: bayesal.stream.batch_bald(key, predictive, path, SIZE)
        return lambda: bayesal.stream.top(predictive, path, scores.bald, SIZE)

    return prepare


# name: how it is prepared (new: bool, path: str) -> call, and how many calls are timed
CASES = {
    "select.batch_bald": (selector, 5),
    "numbers, batch_bald": (numbers("batch_bald", "batch_bald()"), 5),
    "numbers, top(bald)": (numbers("bald", "top(scores.bald)"), 10),
    "numbers, top(entropy)": (numbers("entropy", "top(scores.entropy)"), 10),
    "ask, top(bald)": (learned("ask", "top(scores.bald)"), 10),
    "ask, power(bald)": (learned("ask", "power(scores.bald)"), 10),
    "ask, batch_bald": (learned("ask", "batch_bald()"), 5),
    "init": (learned("init", "uniform()"), 10),
    "tell": (learned("tell", "uniform()"), 5),
    "file, top(bald)": (on_disk("top(scores.bald)"), 2),
    "file, batch_bald": (on_disk("batch_bald()"), 2),
}


def one(name, side, tree, path):
    """In a fresh process whose `bayesal` is that of one side: what was measured, as JSON."""
    import jax
    import numpy as np

    import bayesal
    from experiments.benchmarks._memory import watched

    if not Path(bayesal.__file__).is_relative_to(tree):
        raise SystemExit(f"bayesal came from {bayesal.__file__}, and not from {tree}")
    compiled = []

    def listen(event, seconds, **more):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(more.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    prepare, repetitions = CASES[name]
    call = prepare(side == "after", path)
    counts, times = [], []
    for _ in range(2):
        compiled.clear()
        answer = jax.block_until_ready(call())
        counts.append(len(compiled))
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - start))
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is given back: it cannot hide growth
    with watched() as memory:
        jax.block_until_ready(call())
    rows = np.asarray(getattr(answer, "indices", ()), np.int64)
    picks = hashlib.sha256(rows.tobytes()).hexdigest() if rows.size else ""
    grown = (memory["peak"] - memory["before"]) / MB
    print(json.dumps({"ms": times, "MB": grown, "compiled": counts, "picks": picks}))


def run(name, side, tree, folder):
    """One process of one side; None, and a word on stderr, where it fails."""
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / f"programs-{side}"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": str(tree),
    }
    pool = str(Path(folder) / "pool.npy")
    command = [sys.executable, "-P", str(HERE), "one", name, side, str(tree), pool]
    done = subprocess.run(command, env=os.environ | kept, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}, {side}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def checked_out(commit, folder):
    """A commit's files as a git worktree in a folder, for as long as the block runs."""
    git, tree = ["git", "-C", str(ROOT), "worktree"], Path(folder).resolve() / "before"
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def write(path):
    """The file of a million rows, from one seeded generator, a part at a time."""
    import numpy as np

    random = np.random.default_rng(0)
    header = {"descr": "<f4", "fortran_order": False, "shape": (MANY, WIDTH)}
    with open(path, "wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for _ in range(MANY // 100_000):
            random.standard_normal((100_000, WIDTH), np.float32).tofile(out)


def line(name, found):
    """One line of the table, from the runs of both sides."""
    cells, medians, picks = {}, {}, set()
    for side, runs in found.items():
        if not runs or None in runs:
            cells[side, "ms"] = cells[side, "MB"] = cells[side, "compiled"] = "-"
            continue
        medians[side] = statistics.median(ms for each in runs for ms in each["ms"])
        cells[side, "ms"] = f"{medians[side]:,.1f}"
        cells[side, "MB"] = f"{statistics.median(each['MB'] for each in runs):.1f}"
        cells[side, "compiled"] = "+".join(map(str, runs[-1]["compiled"]))
        picks |= {each["picks"] for each in runs}
    both = len(medians) == 2
    ratio = f"{medians['after'] / medians['before']:.2f}" if both else "-"
    same = ("yes" if len(picks) == 1 else "NO") if both and picks != {""} else "-"
    pairs = {k: [cells["before", k], cells["after", k]] for k in ("ms", "MB", "compiled")}
    return [name, *pairs["ms"], ratio, *pairs["MB"], *pairs["compiled"], same]


def table(cells):
    widths = (23, 11, 11, 7, 11, 11, 10, 10, 6)
    first, *rest = (
        f"{c:<{w}}" if i == 0 else f"{c:>{w}}"
        for i, (c, w) in enumerate(zip(cells, widths, strict=True))
    )
    print(first + "".join(rest), flush=True)


def main():
    if sys.argv[1:2] == ["one"]:
        return one(*sys.argv[2:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", default="c4b8024", help="the commit to compare with")
    parser.add_argument("--only", default="", help="cases whose names hold this text")
    parser.add_argument("--pairs", type=int, default=3, help="turns of every case")
    parser.add_argument("--cases", action="store_true", help="list the cases, and stop")
    given = parser.parse_args()
    names = [name for name in CASES if given.only in name]
    if given.cases:
        return print(*names, sep="\n")
    with tempfile.TemporaryDirectory() as folder, checked_out(given.before, folder) as old:
        if any(name.startswith("file") for name in names):
            write(Path(folder) / "pool.npy")
        print(f"before: {given.before}; after: the working tree. K = {DRAWS}, N = {ROWS:,},")
        print(f"C = {CLASSES}, b = {SIZE}; file: {MANY:,} x {WIDTH} float32, K = {FEW}.")
        print(f"Medians over {given.pairs} processes a side, which took turns.\n")
        table(
            [
                "case",
                "ms before",
                "after",
                "ratio",
                "MB before",
                "after",
                "compiled",
                "after",
                "same",
            ]
        )
        for name in names:
            found = {"before": [], "after": []}
            for _ in range(given.pairs):
                for side, tree in (("before", old), ("after", ROOT)):
                    if None not in found[side]:  # what failed once fails again
                        found[side].append(run(name, side, tree, folder))
            table(line(name, found))


if __name__ == "__main__":
    main()
