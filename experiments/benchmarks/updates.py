"""What does one more batch of labels cost, by how many there are already? `python -m
experiments.benchmarks.updates`

kin8nm's shape (8 features, made-up labels), last-layer Laplace on mlp(8, 1, (64,)) with normal
noise, 10 labels a `tell`, a ledger of 4,000. Online updates (eight at a time) and fresh fits take
turns, at every number of labels known, all in one process; what compiles is left out. Milliseconds
of `tell` as a user calls it, its checks of what is told included; medians. The ratios are of
processor time.
"""

import statistics
import time

import jax
import numpy as np

from bayesal import HParams, acquire, learner, likelihoods, networks, posteriors

KNOWN, SIZE, CAPACITY, TURNS = (50, 500, 3_500), 10, 4_000, 5
REPEATS = {"online": 8, "fresh": 1}


def clock():
    return time.perf_counter(), time.process_time()


def main():
    """Print the table."""
    random = np.random.default_rng(0)
    x = random.normal(size=(5_000, 8)).astype(np.float32)
    y = np.sin(x).sum(1).astype(np.float32)
    posterior = posteriors.last_layer_laplace(
        networks.mlp(8, 1, (64,)), likelihood=likelihoods.gaussian(noise_std=0.1)
    )
    learners = {
        update: learner(
            posterior,
            acquire.uniform(),
            size=SIZE,
            capacity=CAPACITY,
            hparams=HParams(dropout=0.0),
            update=update,
        )
        for update in ("online", "fresh")
    }
    times = {(update, known): [] for update in learners for known in KNOWN}
    states = {
        (update, known): one.tell(one.init(jax.random.key(0), x), x, np.arange(known), y[:known])
        for update, one in learners.items()
        for known in KNOWN
    }
    for turn in range(TURNS + 1):
        for update, known in [
            (update, known)
            for known in KNOWN
            for update, repeats in REPEATS.items()
            for _ in range(repeats)
        ]:
            more, began = np.arange(known, known + SIZE), clock()
            jax.block_until_ready(learners[update].tell(states[update, known], x, more, y[more]))
            if turn:
                times[update, known].append([b - a for a, b in zip(began, clock(), strict=True)])
    print(
        f"{'labels known':<14}{'update':<10}{'ms':>9}{'CPU ms':>9}{'to first':>10}{'to fresh':>10}"
    )
    middle = {
        at: [statistics.median(part) * 1e3 for part in zip(*found, strict=True)]
        for at, found in times.items()
    }
    for known in KNOWN:
        for update in learners:
            wall, used = middle[update, known]
            print(
                f"{known:<14}{update:<10}{wall:>9.1f}{used:>9.1f}"
                f"{used / middle[update, KNOWN[0]][1]:>10.2f}"
                f"{used / middle['fresh', known][1]:>10.4f}"
            )


if __name__ == "__main__":
    main()
