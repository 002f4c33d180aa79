"""The BatchBALD paper's MNIST protocol: 2 labels per class, 10 labels a round, the reference cnn
with MC dropout.

    python -m experiments.mnist --data FOLDER          # or BAYESAL_DATA=FOLDER; reads mnist.npz or
    the four idx files

Kirsch et al. 2019, https://arxiv.org/abs/1906.08158. Differences from the paper are all in
`Config`: how much of the pool is used, a fixed number of optimizer steps instead of early stopping,
and how many draws.
"""

import dataclasses
import gzip
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, networks, posteriors, scores
from experiments import pictures, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment. Strategies are run on the same pools and first labels, seed by seed."""

    strategies: tuple[str, ...] = ("uniform", "bald", "batch_bald")
    seeds: int = 3
    pool: int = 60_000
    test: int = 10_000
    rounds: int = 28
    size: int = 10
    draws: int = 100
    steps: int = 600
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    dropout: float = 0.5
    batch: int = 64


STRATEGIES = {
    "uniform": acquire.uniform(),
    "bald": acquire.top(scores.bald),
    "entropy": acquire.top(scores.entropy),
    "margin": acquire.top(scores.margin),
    "batch_bald": acquire.batch_bald(),
}
IDX = {
    "x_train": "train-images",
    "y_train": "train-labels",
    "x_test": "t10k-images",
    "y_test": "t10k-labels",
}


def read(folder: str | None) -> dict[str, np.ndarray]:
    """`x_train [60000, 28, 28]`, `y_train`, `x_test`, `y_test` as uint8, from `mnist.npz` or the
    standard idx files.
    """
    if folder is None:
        raise SystemExit(
            "MNIST is not part of this project. Pass --data FOLDER or set BAYESAL_DATA to a "
            "folder with `mnist.npz` (arrays x_train, y_train, "
            "x_test, y_test, as Keras ships it) or with the four files "
            "train-images-idx3-ubyte ... (plain or .gz) of yann.lecun.com/exdb/mnist."
        )
    path = Path(folder)
    if (path / "mnist.npz").exists():
        with np.load(path / "mnist.npz", allow_pickle=False) as file:
            return {name: file[name] for name in IDX}
    found = {name: sorted(path.glob(f"{stem}*")) for name, stem in IDX.items()}
    missing = [IDX[name] + "*" for name, files in found.items() if not files]
    if missing:
        raise SystemExit(
            f"{path} holds neither mnist.npz nor {', '.join(missing)}. Point --data (or "
            "BAYESAL_DATA) at the folder that does; "
            "the files are those of yann.lecun.com/exdb/mnist, or Keras' mnist.npz."
        )
    return {name: read_idx(files[0]) for name, files in found.items()}


def read_idx(path: Path) -> np.ndarray:
    """One idx file of unsigned bytes, plain or gzipped."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        raw = file.read()
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"{path} is not an idx file of unsigned bytes: it begins with {raw[:4]!r}, not "
            "00 00 08."
        )
    dims = np.frombuffer(raw, ">i4", raw[3], 4)
    if len(raw) != 4 + 4 * raw[3] + int(np.prod(dims)):
        raise ValueError(
            f"{path} is cut short: its header promises {int(np.prod(dims))} bytes, it has "
            f"{len(raw) - 4 - 4 * raw[3]}."
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(dims)


def load(config: Config, folder: str | None, seed: int) -> runs.Data:
    """A random part of the training set as the pool, and of the test set, for one seed."""
    raw, rng = read(folder), np.random.default_rng(seed)
    pool = rng.permutation(len(raw["x_train"]))[: config.pool]
    test = rng.permutation(len(raw["x_test"]))[: config.test]
    return runs.Data(
        jnp.asarray(raw["x_train"][pool][..., None]),
        raw["y_train"][pool].astype(np.int32),
        jnp.asarray(raw["x_test"][test][..., None]),
        raw["y_test"][test].astype(np.int32),
    )


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Run everything, keep the records, draw the learning curves."""
    posterior = posteriors.mc_dropout(networks.cnn((28, 28, 1), 10), batch_size=config.batch)
    hparams = bayesal.HParams(
        config.learning_rate, config.weight_decay, config.dropout, 1.0, config.steps
    )
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
    data = load(config, data_folder, 0)
    folder, records = runs.Folder(out, config), []
    with screen.Screen(config.seeds * len(learners) * (config.rounds + 1), list(learners)) as view:
        for seed in range(config.seeds):
            data = data if seed == 0 else load(config, data_folder, seed)
            first = runs.first_labels(data.labels, 2, seed)
            for name, learner in learners.items():
                for record in runs.run(
                    name, learner, posterior, data, first, seed, config.rounds, config.draws
                ):
                    folder.write(record)
                    records.append(record)
                    view.add(record)
    for level in (0.8, 0.9, 0.95):
        counts = runs.needed(records, level)
        folder.write({"kind": "labels_needed", "level": level, **counts})
        screen.say(
            f"labels to {level:.0%}: "
            + "; ".join(f"{name} {runs.spread(values)}" for name, values in counts.items())
        )
    pictures.save(
        pictures.learning_curves(records, target=(0.8, 0.9, 0.95)), out / "learning_curves.png"
    )
    screen.say(f"results and picture in {out}")
    return records


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, STRATEGIES, "runs/mnist"))
