"""Which strategy when the pool is full of copies? Repeated MNIST: every image several times, with
noise.

    python -m experiments.repeated_mnist --data FOLDER          # or BAYESAL_DATA=FOLDER; reads what
    experiments.mnist reads

The protocol of Kirsch et al. 2019 (https://arxiv.org/abs/1906.08158) and 2023
(https://arxiv.org/abs/2106.12059), with an mlp in place of the cnn, part of the training set and a
fixed number of optimizer steps, so that two CPU cores can run many seeds; all of that is in
`Config`. The authors' own medians at 100 labels (cnn, x4): random 87.4 %, margin 91.7, entropy
77.2, BALD 76.1, BatchBALD 89.1, PowerBALD 89.6 (beta 1) and 91.1 (beta 8), SoftmaxBALD 90.9 (beta
8), BADGE 85.4.
"""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, networks, posteriors, scores
from experiments import mnist, pictures, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; strategies share pools and first labels, seed by seed."""

    strategies: tuple[str, ...] = (
        "uniform",
        "margin",
        "entropy",
        "bald",
        "batch_bald",
        "power_bald_1",
        "power_bald_8",
        "softmax_bald_8",
        "badge",
        "epig",
        "batch_epig",
    )
    seeds: int = 5
    images: int = 1_500
    copies: int = 4
    noise: float = 0.1
    test: int = 1_000
    rounds: int = 13
    size: int = 10
    draws: int = 50
    hidden: int = 256
    steps: int = 400
    learning_rate: float = 1e-3
    dropout: float = 0.3
    batch: int = 32


STRATEGIES = {
    "uniform": acquire.uniform(),
    "margin": acquire.top(scores.margin),
    "entropy": acquire.top(scores.entropy),
    "bald": acquire.top(scores.bald),
    "batch_bald": acquire.batch_bald(),
    "power_bald_1": acquire.power(scores.bald, beta=1.0),
    "power_bald_8": acquire.power(scores.bald, beta=8.0),
    "softmax_bald_8": acquire.softmax(scores.bald, beta=8.0),
    "badge": acquire.badge(),
    "epig": acquire.epig(200),
    "batch_epig": acquire.batch_epig(200, candidates=500),
}


def load(config: Config, folder: str | None, seed: int) -> runs.Data:
    """`copies` noisy copies of part of the training set, in random order; the test set is clean."""
    raw, rng = mnist.read(folder), np.random.default_rng(seed)
    rows = np.tile(rng.permutation(len(raw["x_train"]))[: config.images], config.copies)
    rng.shuffle(rows)
    pool = raw["x_train"][rows] / np.float32(255)
    pool = pool + config.noise * rng.standard_normal(pool.shape, np.float32)
    test = rng.permutation(len(raw["x_test"]))[: config.test]
    return runs.Data(
        jnp.asarray(pool.astype(np.float32)),
        raw["y_train"][rows].astype(np.int32),
        jnp.asarray(raw["x_test"][test] / np.float32(255)),
        raw["y_test"][test].astype(np.int32),
    )


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Run everything, keep the records, say the medians, draw the curves."""
    posterior = posteriors.mc_dropout(
        networks.mlp(784, 10, (config.hidden,)), batch_size=config.batch
    )
    hparams = bayesal.HParams(config.learning_rate, 1e-4, config.dropout, 1.0, config.steps)
    capacity = 20 + config.rounds * config.size
    learners = {
        name: bayesal.learner(
            posterior,
            STRATEGIES[name],
            size=config.size,
            capacity=capacity,
            num_draws=config.draws,
            hparams=hparams,
        )
        for name in config.strategies
    }
    folder, records = runs.Folder(out, config), []
    with screen.Screen(config.seeds * len(learners) * (config.rounds + 1), list(learners)) as view:
        for seed in range(config.seeds):
            data = load(config, data_folder, seed)
            first = runs.first_labels(data.labels, 2, seed)
            for name, learner in learners.items():
                for record in runs.run(
                    name, learner, posterior, data, first, seed, config.rounds, config.draws
                ):
                    folder.write(record)
                    records.append(record)
                    view.add(record)
    report(config, records, folder)
    pictures.save(pictures.learning_curves(records, target=0.8), out / "learning_curves.png")
    screen.say(f"results and picture in {out}")
    return records


def report(config: Config, records: list[dict], folder: runs.Folder) -> None:
    """Median accuracy (quartiles) at three places, and labels needed."""
    places = [20 + config.size * (config.rounds * i // 3) for i in (1, 2, 3)]
    table = screen.Table(
        title=f"accuracy at ... labels, median (quartiles) of {config.seeds} seeds; copies "
        f"x{config.copies}, noise {config.noise}"
    )
    for column in ("strategy", *map(str, places), "labels to 80 %", "seconds of an ask"):
        table.add_column(
            column, justify="left" if column == "strategy" else "right", overflow="fold"
        )
    needed = runs.needed(records, 0.8)
    for name in config.strategies:
        mine = [r for r in records if r["strategy"] == name]
        quartiles = [
            np.percentile([r["accuracy"] for r in mine if r["labels"] == place], [25, 50, 75])
            for place in places
        ]
        ask = float(np.median([r["ask_seconds"] for r in mine if "ask_seconds" in r]))
        folder.write(
            {
                "kind": "summary",
                "strategy": name,
                "places": places,
                "quartiles": [q.tolist() for q in quartiles],
                "to_80": needed[name],
                "ask_seconds": ask,
            }
        )
        table.add_row(
            name,
            *(f"{m:.3f} ({a:.3f}-{b:.3f})" for a, m, b in quartiles),
            runs.spread(needed[name]),
            f"{ask:.2f}",
        )
    screen.console.print(table)


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, STRATEGIES, "runs/repeated_mnist"))
