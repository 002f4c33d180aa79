"""How many candidates does a certified batch need? `python -m experiments.certification [--data
FOLDER]`

A gain never exceeds the BALD score, so a batch found among the n points of highest BALD is the
whole pool's if its smallest gain is at least the highest BALD left out. Here the whole pool is
searched, and the smallest n that would have been certified is counted, as a share of the pool: MC
dropout of an mlp, 100 draws, after 20 to 200 random labels, 3 seeds. scikit-learn's digits, and
MNIST where it is given. BatchBALD, and batch EPIG about 200 points of the pool. A strategy with
`grow=True` searches the whole pool when its candidates are not enough: it computes the share of
gains in the last column.
"""

import argparse
import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import networks, posteriors, scores, select
from experiments import mnist, runs, screen

LABELS, SIZES, SEEDS, DRAWS, TARGETS = (20, 60, 120, 200), (5, 10, 20), 3, 100, 200


@dataclasses.dataclass(frozen=True)
class Config:
    """What was run."""

    labels: tuple[int, ...] = LABELS
    sizes: tuple[int, ...] = SIZES
    seeds: int = SEEDS
    draws: int = DRAWS
    targets: int = TARGETS


def pools(folder, images=5_000):
    """Name -> (x [N, D], y): digits, and so many images of MNIST where they are."""
    x, y = load_digits(return_X_y=True)
    found = {"digits": ((x / 16).astype(np.float32), y.astype(np.int32))}
    if folder is not None:
        raw = mnist.read(folder)
        rows = np.random.default_rng(0).permutation(len(raw["x_train"]))[:images]
        found["mnist"] = (
            raw["x_train"][rows].reshape(-1, 784) / np.float32(255),
            raw["y_train"][rows].astype(np.int32),
        )
    return found


def batches(log_probs, seed):
    """Selector, size and batch from the whole pool."""
    key, log_probs = jax.random.key(seed), jnp.asarray(log_probs)
    target = log_probs[:, np.random.default_rng(seed).permutation(log_probs.shape[1])[:TARGETS]]
    for size in SIZES:
        yield "BatchBALD", size, select.batch_bald(key, log_probs, size)
        yield "batch EPIG", size, select.batch_epig(key, log_probs, target, size)


def needed(x, y):
    """(Selector, size) -> shares of the pool, one for each number of labels and seed; and the share
    of gains that were computed.
    """
    posterior = posteriors.mc_dropout(networks.mlp(x.shape[1], 10))
    init, _, tell, *_ = bayesal.learner(
        posterior, bayesal.acquire.uniform(), size=1, capacity=max(LABELS), num_draws=DRAWS
    )
    shares, evaluated = {}, {}
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(x))
        for labels in LABELS:
            known = order[:labels]
            state = tell(init(jax.random.key(seed), x), x, known, y[known])
            free = np.setdiff1d(np.arange(len(x)), known)
            log_probs = bayesal.predictive_of(posterior, state, DRAWS)(x)[:, free]
            bald = np.asarray(scores.bald(log_probs))
            for name, size, batch in batches(log_probs, seed):
                shares.setdefault((name, size), []).append(
                    float(np.mean(bald > float(batch.scores.min())))
                )
                evaluated.setdefault((name, size), []).append(float(batch.evaluated))
    return shares, evaluated


def main(folder, out):
    """One line per pool and size."""
    table = screen.Table(
        title=f"share of the pool a certified batch needs; {SEEDS} seeds x {len(LABELS)} numbers "
        "of labels"
    )
    for column in (
        "pool",
        "selector",
        "picks",
        "median",
        "quartiles",
        "certified at 10 %",
        "at 25 %",
        "gains computed",
    ):
        table.add_column(column, justify="left" if column in ("pool", "selector") else "right")
    kept = runs.Folder(out, Config())
    for name, (x, y) in pools(folder).items():
        screen.say(f"{name}: {len(x):,} points")
        shares, evaluated = needed(x, y)
        for (selector, size), share in sorted(shares.items()):
            low, middle, high = np.percentile(share, [25, 50, 75])
            within = [f"{np.mean(np.array(share) <= part):.0%}" for part in (0.10, 0.25)]
            computed = evaluated[selector, size]
            table.add_row(
                name,
                selector,
                str(size),
                f"{middle:.1%}",
                f"{low:.1%}-{high:.1%}",
                *within,
                f"{np.median(computed):.1%}",
            )
            kept.write(
                {
                    "kind": "summary",
                    "pool": name,
                    "selector": selector,
                    "size": size,
                    "shares": share,
                    "evaluated": computed,
                }
            )
    screen.console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("BAYESAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("runs/certification"))
    given = parser.parse_args()
    main(given.data, given.out)
