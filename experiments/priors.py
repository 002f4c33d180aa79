"""How strong must a temperature's prior be? Eighteen settings: six data sets, nets trained too
briefly, as by default (MC dropout), and too long (point nets).

    python -m experiments.priors --data FOLDER          # or BAYESAL_DATA=FOLDER; reads
    uci_classification.npz; twenty minutes of one core

Labels come ten a round, by chance or by least confidence at T = 1. After each round the mean NLL of
the out-of-fold predictions (five folds) and that of the test set are computed for a grid of
temperatures. Any prior can then be judged without another fit: it chooses by the one curve, and the
other says what that gives. Figures are means over seeds of the test NLL less that at T = 1, for
every setting, way to choose, and range of labels: a cell. `regret` is the mean over cells of what
the best temperature of all would have gained beside it, `harm` that of the cells' losses where a
temperature was worse than none, `worst` the cell of greatest harm.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, likelihoods, networks, posteriors, scores
from experiments import runs, screen

FADE = 500  # labels at which the prior of `calibrate.temperature` is gone
LOG_T = np.linspace(-2.4, 2.4, 97)
FINE = np.linspace(-2.4, 2.4, 961)
RANGES = ((0, 20), (21, 40), (41, 80), (81, 10**9))  # labels
SETS = ("digits", "pima", "segment", "banknote", "phoneme", "ecoli")
# name -> what is built of a network, and its hyperparameters
NETS = {
    "short": (posteriors.mc_dropout, bayesal.HParams(steps=100)),
    "default": (posteriors.mc_dropout, bayesal.HParams()),
    "long": (posteriors.point, bayesal.HParams(steps=3000, dropout=0.0, weight_decay=0.0)),
}
# standard deviation of log T, and doubt: see `calibrate.temperature`
PRIORS = [
    (0.25, 0.0),
    (0.5, 0.0),
    (1.0, 0.0),
    (0.5, 10.0),
    (0.7, 20.0),
    (1.0, 20.0),
    (1.0, 40.0),
    (1.0, 60.0),
    (1.4, 80.0),
]


@dataclasses.dataclass(frozen=True)
class Config:
    """Arms share pools, test sets and first labels, seed by seed."""

    sets: tuple[str, ...] = SETS
    seeds: int = 6
    rounds: int = 9
    first: int = 20
    size: int = 10
    draws: int = 50
    pool: int = 1500
    test: int = 500
    hidden: int = 64
    folds: int = 5


def load(name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """A set's inputs, each measurement with mean 0 and deviation 1, and its classes, counted from
    0.
    """
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        x = x / 16
    else:
        if folder is None:
            raise SystemExit(
                "Say where the data is: --data FOLDER, or BAYESAL_DATA=FOLDER; the folder "
                "holds uci_classification.npz. --sets digits needs none."
            )
        with np.load(Path(folder) / "uci_classification.npz", allow_pickle=False) as file:
            part = f"{name}_train" if f"{name}_train_x" in file.files else name
            x, y = file[f"{part}_x"].astype(float), file[f"{part}_y"]
        x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0)
    return x.astype(np.float32), np.unique(y, return_inverse=True)[1].astype(np.int32)


def halves(x: np.ndarray, y: np.ndarray, config: Config, seed: int) -> runs.Data:
    """A random pool and a random test set, a third of all rows at most."""
    order, test = np.random.default_rng(seed).permutation(len(x)), min(config.test, len(x) // 3)
    known, asked = order[test : test + config.pool], order[:test]
    return runs.Data(jnp.asarray(x[known]), y[known], jnp.asarray(x[asked]), y[asked])


@jax.jit
def curve(log_probs: jax.Array, labels: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean NLL of the averaged prediction at every temperature of the grid."""

    def at(log_t):
        averaged = likelihoods.average(likelihoods.temper(log_probs, jnp.exp(log_t)))
        return (
            -jnp.sum(
                jnp.where(valid, jnp.take_along_axis(averaged, labels[:, None], axis=1)[:, 0], 0.0)
            )
            / valid.sum()
        )

    return jax.lax.map(at, jnp.asarray(LOG_T, jnp.float32))


def play(
    name: str, net: str, data_folder: str | None, config: Config, folder: runs.Folder
) -> list[dict]:
    """Both curves after every round of every seed, by chance and by least confidence."""
    x, y = load(name, data_folder)
    build, hparams = NETS[net]
    posterior, draws = (
        build(networks.mlp(x.shape[1], int(y.max()) + 1, (config.hidden,))),
        1 if net == "long" else config.draws,
    )
    out = []
    for arm, strategy in (
        ("uniform", acquire.uniform()),
        ("least_confidence", acquire.top(scores.least_confidence)),
    ):
        learner = bayesal.learner(
            posterior,
            strategy,
            size=config.size,
            capacity=config.first + config.rounds * config.size,
            num_draws=draws,
            hparams=hparams,
        )
        for seed in range(config.seeds):
            data, picks = halves(x, y, config, seed), np.arange(config.first)
            state = learner.init(jax.random.key(seed), data.pool)
            for turn in range(config.rounds + 1):
                state = learner.tell(state, data.pool, picks, data.labels[picks])
                held_out = curve(
                    *bayesal.out_of_fold(
                        posterior, state, data.pool, num_folds=config.folds, num_draws=draws
                    )
                )
                test = curve(
                    bayesal.predictive_of(posterior, state, draws)(data.test),
                    jnp.asarray(data.test_labels),
                    jnp.ones(len(data.test_labels), bool),
                )
                count, curves = (
                    int(state.ledger.count),
                    (np.interp(FINE, LOG_T, held_out), np.interp(FINE, LOG_T, test)),
                )
                gains = [
                    round(gain(*curves, count, int(y.max()) + 1, *prior), 4) for prior in PRIORS
                ]
                best = {
                    "best_log_t": round(float(FINE[curves[1].argmin()]), 3),
                    "best": round(float(curves[1].min() - curves[1][len(FINE) // 2]), 4),
                }
                out.append(
                    {
                        "kind": "fit",
                        "set": name,
                        "net": net,
                        "arm": arm,
                        "seed": seed,
                        "labels": count,
                        "gains": gains,
                        **best,
                    }
                )
                folder.write(out[-1])
                if turn < config.rounds:
                    picks = np.asarray(learner.ask(state, data.pool).indices)
    screen.say(f"{name}, {net}: done")
    return out


def cost(labels: int, determined: bool, prior_std: float, doubt: float, classes: int) -> float:
    """What half a squared log T costs, per label, under the prior of `calibrate.temperature`."""
    fade = max(1 - labels / (FADE * max(1, classes / 10)), 0) ** 2 if determined else 1.0
    return fade * (1 + doubt * classes / labels) / (prior_std**2 * labels)


def gain(
    held_out: np.ndarray,
    test: np.ndarray,
    labels: int,
    classes: int,
    prior_std: float,
    doubt: float,
) -> float:
    """The test NLL less that at T = 1, of the temperature that a prior chooses by the
    other curve.
    """
    determined = 0 < held_out.argmin() < len(FINE) - 1
    price = cost(labels, determined, prior_std, doubt, classes)
    return float(test[(held_out + 0.5 * price * FINE**2).argmin()] - test[len(FINE) // 2])


def report(records: list[dict], folder: runs.Folder) -> None:
    """Regret, harm and worst cell of every prior; and its mean by how many labels there are."""
    table = screen.Table(
        title="test NLL, nats, less T = 1, over cells (settings x ways to choose x ranges of "
        "labels); means over seeds"
    )
    for column in (
        "std of log T",
        "doubt",
        "mean",
        "regret",
        "harm",
        "worst",
        *(f"from {low} labels" for low, _ in RANGES),
    ):
        table.add_column(column, justify="right")
    cells: dict[tuple, list[dict]] = {}
    for record in records:
        span = next(i for i, (low, high) in enumerate(RANGES) if low <= record["labels"] <= high)
        cells.setdefault((record["set"], record["net"], record["arm"], span), []).append(record)
    for number, (prior_std, doubt) in enumerate(PRIORS):
        means = {
            cell: np.mean([(r["gains"][number], r["best"]) for r in members], axis=0)
            for cell, members in cells.items()
        }
        gained, best = np.array(list(means.values())).T
        ranges = [
            float(np.mean([v[0] for cell, v in means.items() if cell[3] == i]))
            for i in range(len(RANGES))
            if any(cell[3] == i for cell in means)
        ]
        row = {
            "mean": float(gained.mean()),
            "regret": float((gained - best).mean()),
            "harm": float(gained.clip(0).mean()),
            "worst": float(gained.max()),
        }
        folder.write(
            {
                "kind": "prior",
                "prior_std": prior_std,
                "doubt": doubt,
                "cells": len(means),
                **row,
                "ranges": ranges,
            }
        )
        table.add_row(
            f"{prior_std:g}",
            f"{doubt:g}",
            *(f"{v:+.4f}" for v in row.values()),
            *(f"{v:+.4f}" for v in ranges),
        )
    screen.console.print(table)


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """All settings, one after another, and what follows from them."""
    folder = runs.Folder(out, config)
    records = [
        record
        for name in config.sets
        for net in NETS
        for record in play(name, net, data_folder, config, folder)
    ]
    report(records, folder)
    return records


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, dict.fromkeys(SETS), "runs/priors"))
