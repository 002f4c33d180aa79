"""How long until the first picks? `python -m experiments.benchmarks.cold [--runs 3]`

The README's loop in fresh processes without a compilation cache, phase by phase: processor and wall
seconds, medians over the runs. "first ask" picks before any label; "second ask" is the first one
that a net decides, and everything before it has been waited for. "warm" is a later `tell` + `ask`.
Then the first call of `bayesal.choose` and `select.batch_bald` on small arrays, each in a process
of its own. About a minute and a half on two cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("import and data", "init", "first ask", "first tell", "second ask", "warm")
SMALL = ("choose, power", "choose, batch_bald", "select.batch_bald")


class Watch:
    """Processor and wall seconds between marks."""

    def __init__(self):
        self.seen, self.at = {}, (time.process_time(), time.perf_counter())

    def mark(self, phase):
        now = time.process_time(), time.perf_counter()
        self.seen[phase] = [now[0] - self.at[0], now[1] - self.at[1]]
        self.at = time.process_time(), time.perf_counter()


def loop():
    """The README's loop, marked."""
    watch = Watch()
    import numpy as np
    from sklearn.datasets import load_digits

    import bayesal
    from bayesal import acquire, calibrate, networks, posteriors, scores

    images, digits = load_digits(return_X_y=True)
    pool, answers = np.float32(images / 16)[:1297], digits[:1297]
    posterior = posteriors.mc_dropout(networks.mlp(64, 10))
    learner = bayesal.learner(
        posterior,
        acquire.top(scores.margin),
        size=20,
        num_draws=100,
        calibrate=calibrate.temperature(),
    )
    watch.mark(PHASES[0])
    state = learner.init(0, pool)
    watch.mark(PHASES[1])
    for phase in PHASES[2:5:2]:
        picks = np.asarray(learner.ask(state, pool).indices)
        watch.mark(phase)
        state = learner.tell(state, pool, picks, answers[picks])
        watch.mark(PHASES[3] if phase == PHASES[2] else "")
    picks = np.asarray(learner.ask(state, pool).indices)
    learner.tell(state, pool, picks, answers[picks])
    watch.mark(PHASES[5])
    return watch.seen


def small(case):
    """The first call on 1,000 points, 20 draws, 5 classes."""
    import jax
    import numpy as np

    import bayesal
    from bayesal import acquire, pools, select

    logits = np.random.default_rng(0).normal(size=(20, 1000, 5)).astype(np.float32)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    watch = Watch()
    if case == SMALL[2]:
        jax.block_until_ready(select.batch_bald(jax.random.key(0), log_probs, 5))
    else:
        strategy = acquire.power() if case == SMALL[0] else acquire.batch_bald()
        pool = pools.numbers(log_probs=log_probs, axes="K N C")
        np.asarray(bayesal.choose(0, None, pool, 5, strategy).indices)
    watch.mark(case)
    return watch.seen


def fresh(case):
    """One case in a process of its own, without a cache."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    command = [sys.executable, "-m", "experiments.benchmarks.cold", "--one", case]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="processes a case")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        return print(json.dumps(loop() if given.one == "loop" else small(given.one)))
    print(f"{'phase':<24}{'processor s':>12}{'wall s':>10}", flush=True)
    for case, phases in (("loop", PHASES), *((name, (name,)) for name in SMALL)):
        runs = [fresh(case) for _ in range(given.runs)]
        sums = [0.0, 0.0]
        for phase in phases:
            seconds = [statistics.median(run[phase][i] for run in runs) for i in range(2)]
            print(f"{phase:<24}{seconds[0]:>12.2f}{seconds[1]:>10.2f}", flush=True)
            sums = [a + b for a, b in zip(sums, seconds, strict=True)]
            if phase in ("first ask", "second ask"):
                print(f"{'  until then':<24}{sums[0]:>12.2f}{sums[1]:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
