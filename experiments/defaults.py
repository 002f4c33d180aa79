"""Which fixed hyperparameters serve best? A grid of settings on ten data sets, 20 to 1,000 labels.

    python -m experiments.defaults --data FOLDER      # or BAYESAL_DATA=FOLDER; reads mnist_small,
    sms_minilm, uci_classification and uci_regression.npz; about half an hour of one core

A cell is a net on a data set with so many random labels; its figures are means over seeds. Every
setting of a cell has the same labels, initialization and dropout masks. Test rows are never fitted
on, and nothing is chosen by them but the best setting that others are compared with. A setting's
regret is the mean over a net's cells of its test NLL at T = 1, less that of the net's best setting;
`all` is the mean over nets for classes, less that of the best setting of all.

Nets: `mlp` is `networks.mlp` with one hidden layer of 128, `cnn` is `networks.cnn` on 16 x 16
pixels, `dropped` a linear net with dropout at its inputs, all under MC dropout; `linear` is
`networks.mlp` without hidden layer under `point`; `ensemble` is five mlps; `real` is an mlp of mean
and variance. MC dropout is judged a second time as a point net, with nothing dropped.

An interrupted run goes on where it was: cells in the folder are not computed again.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

import bayesal
from bayesal import likelihoods, networks, posteriors
from bayesal.predictive import bind
from experiments import priors, runs, screen

COUNTS = (20, 50, 100, 200, 500, 1000)
FEW = {"cnn": (20, 100, 500), "ensemble": (20, 100, 500)}  # where fits take long
CAPACITY = 1024
SKLEARN = {"wine": datasets.load_wine, "breast_cancer": datasets.load_breast_cancer}
CLASSES = (
    "digits",
    "mnist",
    "sms",
    "segment",
    "phoneme",
    "breast_cancer",
    "wine",
    "pima",
    "banknote",
    "ecoli",
)
REAL = ("kin8nm", "power", "wine_red", "protein")
SETS = {
    "mlp": CLASSES,
    "linear": CLASSES,
    "dropped": CLASSES,
    "cnn": ("digits", "mnist"),
    "ensemble": ("digits", "sms", "phoneme", "pima"),
    "real": REAL,
}
ARMS = tuple(f"{net}/{name}" for net, names in SETS.items() for name in names)
LOG_T = (-0.7, -0.35, 0.0, 0.35, 0.7, 1.05)  # the best of them is `tempered`: a bound in hindsight


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; an arm is a net and a data set. `grid` is one of `GRIDS`."""

    arms: tuple[str, ...] = ARMS
    grid: str = "coarse"
    seeds: int = 3
    draws: int = 32
    test: int = 500
    least: int = 20
    most: int = 1000


def grid_of(rates: tuple, dropouts: tuple, steps: tuple, **others: float) -> list[bayesal.HParams]:
    """Every combination, with the other fields the same for all."""
    fixed = bayesal.HParams(weight_decay=1e-4, warmup=0.0)._replace(**others)
    return [
        fixed._replace(learning_rate=rate, dropout=dropout, steps=number)
        for rate, dropout, number in itertools.product(rates, dropouts, steps)
    ]


TODAY = bayesal.HParams(learning_rate=1e-2, weight_decay=30.0, dropout=0.3, steps=600, warmup=0.1)
BEFORE = TODAY._replace(learning_rate=3e-3, weight_decay=1e-4, steps=300, warmup=0.0)
GRIDS = {
    "coarse": grid_of((1e-3, 3e-3, 1e-2), (0.1, 0.3, 0.5), (100, 300, 600, 1000, 2000)),
    "fine": [
        hparams._replace(weight_decay=decay)
        for decay in (10.0, 30.0, 60.0)
        for hparams in grid_of((3e-3, 1e-2), (0.3, 0.5), (300, 600, 1000, 2000))
    ],
    # the same decay at every label count, instead of one that labels share: times the count
    "constant": [
        hparams._replace(weight_decay=decay)
        for decay in (0.1, 0.3, 1.0)
        for hparams in grid_of((3e-3, 1e-2), (0.3, 0.5), (300, 1000, 2000))
    ],
    "one": [
        TODAY,
        BEFORE,
        TODAY._replace(warmup=0.0),
        TODAY._replace(warmup=0.2),
        TODAY._replace(weight_decay=1e-4),
        TODAY._replace(weight_decay=15.0),
        TODAY._replace(weight_decay=60.0),
        TODAY._replace(dropout=0.1),
        TODAY._replace(dropout=0.5),
        TODAY._replace(steps=300),
        TODAY._replace(steps=1000),
        TODAY._replace(learning_rate=3e-3, steps=1000),
    ],
}


def settings(net: str, grid: str) -> tuple[bayesal.HParams, np.ndarray]:
    """The settings of a grid that differ for a net, leaves `[g]`; and which of them each setting of
    the grid is, `[G]`. Nets without dropout have one setting for all rates.
    """
    every = [tuple(map(float, hparams)) for hparams in GRIDS[grid]]
    if net == "linear":
        every = [(*values[:2], 0.0, *values[3:]) for values in every]
    different = list(dict.fromkeys(every))
    fields = [np.array(values, np.float32) for values in zip(*different, strict=True)]
    found = bayesal.HParams(*fields)
    found = found._replace(
        steps=found.steps.astype(np.int32), architecture=found.architecture.astype(np.int32)
    )
    return found, np.array([different.index(values) for values in every])


def read(folder: str | None, name: str) -> dict[str, np.ndarray]:
    """The arrays of a file of the data's folder."""
    if folder is None:
        raise SystemExit(
            "Say where the data is: --data FOLDER, or BAYESAL_DATA=FOLDER. --arms mlp/digits needs "
            "none."
        )
    with np.load(Path(folder) / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def load(net: str, name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """A set's inputs and labels. Measurements and real labels have mean 0 and deviation 1; pixels
    lie in [0, 1]; embeddings are as they come, of length 1.
    """
    if name == "mnist":
        raw = read(folder, "mnist_small")
        x = np.concatenate([raw["x_train"], raw["x_test"]]) / 255.0
        x = np.pad(x, ((0, 0), (2, 2), (2, 2))).reshape(-1, 16, 2, 16, 2).mean((2, 4))
        y = np.concatenate([raw["y_train"], raw["y_test"]])
    elif name == "sms":
        raw = read(folder, "sms_minilm")
        x, y = raw["sms"], raw["is_spam"]
    elif name in REAL:
        raw = read(folder, "uci_regression")
        x, y = raw[f"{name}_x"].astype(float), raw[f"{name}_y"].astype(float)
        y = ((y - y.mean()) / y.std()).astype(np.float32)
    elif name in SKLEARN:
        x, y = SKLEARN[name](return_X_y=True)
    else:
        x, y = priors.load(name, folder)
    if name in REAL or name in SKLEARN:
        x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0)
    if net == "cnn":
        x = np.kron(x.reshape(-1, 8, 8), np.ones((2, 2))) if name == "digits" else x
        x = x.reshape(-1, 16, 16, 1)
    else:
        x = x.reshape(len(x), -1)
    return x.astype(np.float32), y if name in REAL else y.astype(np.int32)


def dropped(inputs: int, classes: int) -> bayesal.Network:
    """A linear net with dropout at its inputs."""
    start = jax.nn.initializers.lecun_normal()

    def init(key, x):
        del x
        return {"w": start(key, (inputs, classes)), "b": jnp.zeros(classes)}

    def apply(params, x, key, rate):
        return networks.dropout(x, key, rate) @ params["w"] + params["b"]

    return networks.from_functions(init, apply, takes_rate=True)


def posterior_of(net: str, x: np.ndarray, y: np.ndarray) -> bayesal.Posterior:
    """What is fitted."""
    inputs, classes = x.shape[1], 2 if net == "real" else int(y.max()) + 1
    if net == "linear":
        return posteriors.point(networks.mlp(inputs, classes, ()))
    if net == "ensemble":
        return posteriors.ensemble(networks.mlp(inputs, classes))
    if net == "real":
        return posteriors.mc_dropout(
            networks.mlp(inputs, classes), likelihood=likelihoods.gaussian()
        )
    if net == "cnn":
        return posteriors.mc_dropout(networks.cnn(x.shape[1:], classes))
    return posteriors.mc_dropout((dropped if net == "dropped" else networks.mlp)(inputs, classes))


def figures(said: bayesal.types.Prediction, y: jax.Array) -> dict[str, jax.Array]:
    """Figures of K draws on a test set: mean NLL at T = 1 and at the best T, and accuracy (of real
    labels: root mean squared error).
    """
    at = lambda log_t: jnp.mean(likelihoods.judged(likelihoods.temper(said, jnp.exp(log_t)), y))
    losses = jax.lax.map(at, jnp.asarray(LOG_T))
    average = likelihoods.average(said)
    if isinstance(said, bayesal.Gaussian):
        right = jnp.sqrt(jnp.mean(jnp.square(average.mean - y)))
    else:
        right = jnp.mean(jnp.argmax(average, axis=-1) == y)
    return {"nll": losses[LOG_T.index(0.0)], "tempered": jnp.min(losses), "accuracy": right}


def trials(posterior: bayesal.Posterior, draws: int) -> Callable[..., dict[str, jax.Array]]:
    """The program of an arm: figures of every setting, one after another (on CPU side by side is no
    faster). Labels are rows `< count`, so that one program serves all label counts.
    """

    def trial(key, data, test, hparams):
        begin, fit, draw = jax.random.split(key, 3)
        state, info = posterior.fit(fit, posterior.init(begin, data.x[0]), data, hparams)
        bound = bind(posterior, state, posterior.draw(draw, state, posterior.members or draws))
        found = figures(bound(test[0]), test[1])
        if hasattr(state, "rate"):  # the same net with nothing dropped
            whole = state._replace(rate=jnp.zeros_like(state.rate))
            once = bind(posterior, whole, posterior.draw(draw, whole, 1))
            found |= {f"point_{k}": v for k, v in figures(once(test[0]), test[1]).items()}
        return found | {"failed": jnp.max(info.failed_at)}

    return jax.jit(
        lambda key, data, test, grid: jax.lax.map(lambda h: trial(key, data, test, h), grid)
    )


def parts(
    x: np.ndarray, y: np.ndarray, test: int, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], int]:
    """Random rows to label `[CAPACITY, ...]`, a random test set of at most a third of all rows, and
    how many rows there are to label.
    """
    order, number = np.random.default_rng(seed).permutation(len(x)), min(test, len(x) // 3)
    known = order[number:][:CAPACITY]
    padded = np.resize(known, CAPACITY)
    return (x[padded], y[padded]), (x[order[:number]], y[order[:number]]), len(known)


class Kept:
    """`cells.jsonl`: a line per cell and seed, on disk at once, and what is there already."""

    def __init__(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        self.file = path / "cells.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.records = [json.loads(line) for line in lines]
        self.names = {self.name(record) for record in self.records}

    @staticmethod
    def name(record: dict) -> tuple:
        """What tells one cell and seed from another."""
        return tuple(record[k] for k in ("grid", "net", "set", "seed", "labels"))

    def add(self, record: dict) -> None:
        """One more."""
        self.records.append(record)
        self.names.add(self.name(record))
        with open(self.file, "a") as file:
            file.write(json.dumps(runs.plain(record)) + "\n")


@functools.cache
def prepared(net: str, name: str, folder: str | None, draws: int):
    """Data and compiled program of an arm."""
    x, y = load(net, name, folder)
    return x, y, trials(posterior_of(net, x, y), draws)


def play(arm: str, seed: int, folder: str | None, config: Config, kept: Kept) -> None:
    """All label counts of one arm and seed."""
    net, name = arm.split("/")
    x, y, program = prepared(net, name, folder, config.draws)
    grid, places = settings(net, config.grid)
    known, test, rows = parts(x, y, config.test, seed)
    for count in FEW.get(net, COUNTS):
        about = {"grid": config.grid, "net": net, "set": name, "seed": seed, "labels": count}
        if (
            count > rows
            or not config.least <= count <= config.most
            or Kept.name(about) in kept.names
        ):
            continue
        if config.grid == "constant":
            tried = grid._replace(weight_decay=grid.weight_decay * count)
        else:
            tried = grid
        data = bayesal.Labeled(*map(jnp.asarray, known), jnp.int32(count))
        found = program(jax.random.key(seed), data, tuple(map(jnp.asarray, test)), tried)
        every = {k: np.asarray(v)[places].astype(float).round(4).tolist() for k, v in found.items()}
        kept.add(about | every)


def by_setting(records: list[dict], key: str) -> dict[tuple, dict[tuple, float]]:
    """`{(net, set, labels): {setting: mean over seeds}}` of the settings of every grid but
    `constant`, over the seeds and cells that have them all.
    """
    found: dict[tuple, dict[tuple, float]] = {}
    for record in records:
        if record["grid"] == "constant" or key not in record:
            continue
        cell = found.setdefault(tuple(record[k] for k in ("net", "set", "labels", "seed")), {})
        for hparams, value in zip(GRIDS[record["grid"]], record[key], strict=True):
            cell[tuple(hparams)] = np.nan if value is None else value
    most: dict[str, int] = {}
    for (net, *_), cell in found.items():
        most[net] = max(most.get(net, 0), len(cell))
    seeds: dict[tuple, list[dict]] = {}
    for (net, name, labels, _), cell in found.items():
        if len(cell) == most[net]:
            seeds.setdefault((net, name, labels), []).append(cell)
    return {
        where: {h: float(np.mean([cell[h] for cell in cells])) for h in cells[0]}
        for where, cells in seeds.items()
    }


def told(setting: tuple) -> dict[str, float]:
    """The fields of a setting that a grid changes."""
    fields = ("learning_rate", "weight_decay", "dropout", "steps", "warmup")
    return {k: getattr(bayesal.HParams(*setting), k) for k in fields}


def mean_over(cells: dict[tuple, dict[tuple, float]], net: str, least=0, most=10**9) -> dict:
    """Mean over a net's cells of so many labels, by setting."""
    mine = [c for (n, _, labels), c in cells.items() if n == net and least <= labels <= most]
    return {h: float(np.mean([c[h] for c in mine])) for h in mine[0]}


def report(records: list[dict], folder: runs.Folder) -> None:
    """Per setting and net: figures, and how far the NLL is behind the net's best setting; then the
    mean over mlp, linear nets with and without dropout, and cnn, where all settings are known.
    """
    figures = {k: by_setting(records, k) for k in ("nll", "tempered", "accuracy", "point_nll")}
    nets = [n for n in SETS if any(where[0] == n for where in figures["nll"])]
    behind = {}
    for net in nets:
        means = {k: mean_over(c, net) for k, c in figures.items() if any(w[0] == net for w in c)}
        best = min(means["nll"].values())
        behind[net] = {h: v - best for h, v in means["nll"].items()}
        for h in means["nll"]:
            row = {k: round(of[h], 4) for k, of in means.items()}
            about = told(h)
            folder.write(
                {"kind": "setting", "net": net, "regret": round(behind[net][h], 4)} | row | about
            )
    for net in nets:
        for count in COUNTS:
            if any(w[0] == net and w[2] == count for w in figures["nll"]):
                at = mean_over(figures["nll"], net, count, count)
                values = {"new": round(at[tuple(TODAY)], 4), "before": round(at[tuple(BEFORE)], 4)}
                best = min(at, key=at.get)
                folder.write(
                    {"kind": "labels", "net": net, "labels": count, "best": round(at[best], 4)}
                    | values
                    | {"best_setting": told(best)}
                )
    judged = [n for n in ("mlp", "linear", "dropped", "cnn") if n in nets]
    shared = set.intersection(*(set(behind[n]) for n in judged))
    means = {h: float(np.mean([behind[n][h] for n in judged])) for h in shared}
    least = min(means.values())
    table = screen.Table(title="test NLL at T = 1, nats behind the best setting; mean over cells")
    for column in ("rate", "decay", "dropout", "steps", "warmup", "all", *nets):
        table.add_column(column, justify="right")
    for h in [*sorted(means, key=means.get)[:12], tuple(TODAY), tuple(BEFORE)]:
        folder.write({"kind": "one", "regret": round(means[h] - least, 4)} | told(h))
        each = (f"{behind[n][h]:+.4f}" if h in behind[n] else "" for n in nets)
        table.add_row(*map("{:g}".format, told(h).values()), f"{means[h] - least:+.4f}", *each)
    screen.console.print(table)


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Seed by seed, all arms."""
    kept = Kept(out)
    for seed in range(config.seeds):
        for arm in config.arms:
            play(arm, seed, data_folder, config, kept)
            screen.say(f"seed {seed}, {arm}: done")
    report(kept.records, runs.Folder(out, config))
    return kept.records


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, dict.fromkeys(ARMS), "runs/defaults"))
