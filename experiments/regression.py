"""How near are numbers, and how sure? Every posterior on UCI regression sets, beside the published
tables.

    python -m experiments.regression --data FOLDER          # or BAYESAL_DATA=FOLDER; reads
    uci_regression.npz

The protocol of Hernandez-Lobato & Adams 2015, as MC dropout (Gal & Ghahramani 2016,
https://arxiv.org/abs/1506.02142, in its authors' later rerun) and deep ensembles (Lakshminarayanan
et al. 2017, https://arxiv.org/abs/1612.01474) follow it: random splits into 90 % and 10 %, the
literature's own permutations; inputs and labels standardized by the training part; one hidden layer
of 50 units (protein: 100), 40 epochs of batches of 100. All nets predict a mean and a variance of
their own for every x. Hyperparameters are the same for every set and not searched: both papers
search theirs. NLL is that of the draws' mixture, in the label's unit.
"""

import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import likelihoods, metrics, networks, posteriors
from bayesal.predictive import bind
from bayesal.types import Gaussian, HParams, Labeled, Posterior
from experiments import pictures, runs

# RMSE and NLL as published, means over splits
PUBLISHED = {
    "MC dropout (published)": {
        "kin8nm": (0.08, -1.14),
        "power": (4.01, 2.80),
        "protein": (4.27, 2.87),
        "wine_red": (0.62, 0.93),
    },
    "deep ensemble (published)": {
        "kin8nm": (0.09, -1.20),
        "power": (4.11, 2.79),
        "protein": (4.71, 2.83),
        "wine_red": (0.64, 0.94),
    },
}
FEW, MANY_ROWS = (
    5,
    20_000,
)  # splits of a set with so many rows, as in the literature; its nets have twice the width


@dataclasses.dataclass(frozen=True)
class Config:
    """One table: every method on the same splits of every set."""

    methods: tuple[str, ...] = ()
    sets: str = "wine_red,power"
    splits: int = 5
    rows: int = 0
    hidden: int = 50
    epochs: int = 40
    batch: int = 100
    draws: int = 50
    inducing: int = 100
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    dropout: float = 0.05


class Split(NamedTuple):
    """A standardized split, and the label's unit."""

    train: Labeled
    test: jax.Array
    answers: np.ndarray
    center: float
    scale: float


def nets(build, **changes):
    """A method that takes a network with two outputs."""
    return lambda c, inputs, hidden: (build(networks.mlp(inputs, 2, (hidden,)), c), changes)


GAUSSIAN = likelihoods.gaussian()
# name -> (config, inputs, hidden units) -> a posterior, and what it changes in the hyperparameters
METHODS = {
    "point": nets(
        lambda net, c: posteriors.point(net, batch_size=c.batch, likelihood=GAUSSIAN), dropout=0.0
    ),
    "mc_dropout": nets(
        lambda net, c: posteriors.mc_dropout(net, batch_size=c.batch, likelihood=GAUSSIAN)
    ),
    "ensemble": nets(
        lambda net, c: posteriors.ensemble(net, members=5, batch_size=c.batch, likelihood=GAUSSIAN),
        dropout=0.0,
    ),
    "variational": nets(
        lambda net, c: posteriors.variational(
            net, batch_size=c.batch, kl_weight=1.0, likelihood=GAUSSIAN
        )
    ),
    "laplace": nets(
        lambda net, c: posteriors.last_layer_laplace(net, batch_size=c.batch, likelihood=GAUSSIAN),
        dropout=0.0,
    ),
    "laplace_all": nets(
        lambda net, c: posteriors.linearized_laplace(net, batch_size=c.batch, likelihood=GAUSSIAN),
        dropout=0.0,
    ),
    "swag": nets(
        lambda net, c: posteriors.swag(net, batch_size=c.batch, likelihood=GAUSSIAN), dropout=0.0
    ),
    "sgmcmc": nets(
        lambda net, c: posteriors.sgmcmc(net, batch_size=c.batch, speed=1.0, likelihood=GAUSSIAN)
    ),
    "gp": lambda c, inputs, hidden: (posteriors.gp_regression(inducing=c.inducing), {"steps": 60}),
}


def read(folder: str | None) -> dict[str, np.ndarray]:
    """Arrays `NAME_x [N, D]` and `NAME_y [N]` of every set."""
    if folder is None:
        raise SystemExit(
            "Say where the data is: --data FOLDER, or BAYESAL_DATA=FOLDER; the folder holds "
            "uci_regression.npz (arrays NAME_x, NAME_y)."
        )
    with np.load(Path(folder) / "uci_regression.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def splits(x: np.ndarray, y: np.ndarray, count: int) -> list[Split]:
    """The literature's first splits, standardized by their training parts."""
    random, out = np.random.RandomState(1), []
    for _ in range(count):
        order = random.permutation(len(x))
        train, test = np.split(order, [round(0.9 * len(x))])
        center, scale = x[train].mean(0), x[train].std(0)
        unit = lambda rows, center=center, scale=scale: jnp.asarray(
            (x[rows] - center) / np.where(scale > 0, scale, 1.0), jnp.float32
        )
        middle, spread = float(y[train].mean()), float(y[train].std())
        labels = jnp.asarray((y[train] - middle) / spread, jnp.float32)
        out.append(
            Split(
                Labeled(unit(train), labels, jnp.int32(len(train))),
                unit(test),
                y[test],
                middle,
                spread,
            )
        )
    return out


def predicting(posterior: Posterior, draws: int):
    """The program `(key, labeled, x, hparams) -> predictions [K, n] in standard units, and what
    happened`.
    """

    @jax.jit
    def program(key, labeled, x, hparams):
        keys = jax.random.split(key, 3)
        state, info = posterior.fit(
            keys[1], posterior.init(keys[0], labeled.x[0]), labeled, hparams
        )
        drawn = posterior.draw(keys[2], state, posterior.members or draws)
        return bind(posterior, state, drawn)(x), info

    return program


def judged(prediction: Gaussian, split: Split) -> dict[str, float]:
    """RMSE of the averaged mean; NLL of the draws' mixture, and of one normal with its mean and
    variance; all in the label's unit.
    """
    there = Gaussian(
        split.center + split.scale * prediction.mean, split.scale**2 * prediction.variance
    )
    moments = Gaussian(there.mean.mean(0), there.variance.mean(0) + there.mean.var(0))
    of = lambda metric, p: float(metric(p, split.answers))
    return {
        "rmse": of(metrics.rmse, moments),
        "nll": of(metrics.density_nll, there),
        "nll_moments": of(metrics.density_nll, moments),
    }


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Every method on every split of every set; the table and its picture."""
    raw, folder, records = read(data_folder), runs.Folder(out, config), []
    for name in config.sets.split(","):
        x, y = (raw[f"{name}_{part}"][: config.rows or None].astype(np.float64) for part in "xy")
        large = len(x) > MANY_ROWS
        held = splits(x, y, min(config.splits, FEW) if large else config.splits)
        steps = config.epochs * len(held[0].train.y) // config.batch
        for method in config.methods:
            posterior, changes = METHODS[method](config, x.shape[1], config.hidden * (1 + large))
            hparams = HParams(
                config.learning_rate, config.weight_decay, config.dropout, 1.0, steps
            )._replace(**changes)
            program, began = predicting(posterior, config.draws), time.process_time()
            for number, split in enumerate(held):
                prediction, info = program(jax.random.key(number), split.train, split.test, hparams)
                if (np.asarray(info.failed_at) >= 0).any():
                    raise FloatingPointError(
                        f"{method} on {name}, split {number}: a fit failed at step {info.failed_at}"
                    )
                records.append(
                    {"kind": "split", "set": name, "method": method, "split": number}
                    | judged(prediction, split)
                )
                folder.write(records[-1])
            summary = summarized(records, name, method) | {
                "cpu_seconds": time.process_time() - began
            }
            folder.write(summary)
            print(
                f"{name:9} {method:12} RMSE {said(summary['rmse'])}  NLL "
                f"{said(summary['nll'])}  {summary['cpu_seconds']:5.0f} s of processor time",
                flush=True,
            )
    pictures.save(picture(records), out / "regression.png")
    return records


def summarized(records: list[dict], name: str, method: str) -> dict:
    """Means over splits, each with its standard error."""
    mine = [r for r in records if (r["set"], r["method"]) == (name, method)]
    spread = lambda values: [
        float(np.mean(values)),
        float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0,
    ]
    return {"kind": "summary", "set": name, "method": method, "splits": len(mine)} | {
        key: spread([r[key] for r in mine]) for key in ("rmse", "nll", "nll_moments")
    }


def said(value: list[float]) -> str:
    """A mean and its standard error, as tables have them."""
    return f"{value[0]:.3f} +- {value[1]:.3f}"


def picture(records: list[dict]):
    """RMSE and NLL of every method with bars of two standard errors, and the published means as
    lines.
    """
    import matplotlib.pyplot as plt

    sets, methods = (list(dict.fromkeys(r[key] for r in records)) for key in ("set", "method"))
    figure, axes = plt.subplots(
        2,
        len(sets),
        figsize=(3.1 * len(sets) + 0.6, 5.6),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for column, name in enumerate(sets):
        found = [summarized(records, name, method) for method in methods]
        for row, key in enumerate(("rmse", "nll")):
            ax = axes[row, column]
            middle, error = np.array([f[key] for f in found]).T
            ax.errorbar(
                middle,
                range(len(methods)),
                xerr=2 * error,
                fmt="o",
                color=pictures.BLUE,
                ms=5,
                elinewidth=1.5,
            )
            for (source, values), color, dashes in zip(
                PUBLISHED.items(), (pictures.VERMILION, pictures.GREEN), ("--", ":"), strict=True
            ):
                if name in values:
                    ax.axvline(values[name][row], color=color, lw=1.3, ls=dashes, label=source)
            ax.set_yticks(range(len(methods)), methods)
            ax.spines[["top", "right"]].set_visible(False)
            ax.set_xlabel(key.upper(), fontsize=9)
            ax.tick_params(labelsize=8)
        axes[0, column].set_title(f"{name}, {found[0]['splits']} splits", fontsize=10, loc="left")
    axes[0, 0].invert_yaxis()  # all share it
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, METHODS, "runs/regression"))
