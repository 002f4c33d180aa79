"""Hyperparameters that keep up with the data, against the best that stand still. scikit-learn's
digits, labels in random order.

    python -m experiments.retuning               # ten seeds: a quarter of an hour of one core

Labels come in the same random order for every arm, from 20 to 1,000 in fourteen rounds, each a
third larger than the last. Every arm fits a temperature on its own out-of-fold labels each round;
figures are shown before and after it. Arms:

- every fixed setting of a grid (learning rate, dropout, steps): of them come `best fixed`, the
  single setting with the lowest mean test NLL (tempered) over all rounds and seeds, chosen in
  hindsight by the test set itself, and `best per round`, chosen so for each round apart: what
  nobody has;
- `default`: `HParams()`; `tuned once`: a search at the first round (as many fits as a retuner makes
  in all rounds), kept ever after, judged at a temperature each, or untempered;
- retuners, each round, by out-of-fold labels alone: `surrogate` (8 candidates a round, raced over 3
  folds: 14 fits), `nearby` (the same fits; of earlier rounds only the incumbent is known),
    `untempered` (candidates judged at T = 1), `all folds` (8 candidates, none left out: 24 fits);
- `ensemble`: as many nets of the best fixed setting as `surrogate` makes fits in a round, spent on
members instead.

Fits of a round are counted, and processor seconds taken.
"""

import argparse
import dataclasses
import itertools
import math
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, calibrate, metrics, networks, posteriors, retune
from experiments import pictures, runs, screen
from experiments.calibration import load


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment. The grid is learning rates x dropout rates x steps."""

    seeds: int = 10
    rounds: int = 14
    first: int = 20
    last: int = 1000
    draws: int = 32
    test: int = 500
    hidden: int = 64
    members: int = 15
    folds: int = 3
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    dropouts: tuple[float, ...] = (0.1, 0.3)
    steps: tuple[int, ...] = (200, 400, 800)


def counts(config: Config) -> list[int]:
    """Labels at each round."""
    return np.unique(
        np.geomspace(config.first, config.last, config.rounds).round().astype(int)
    ).tolist()


def grid(config: Config) -> dict[str, bayesal.HParams]:
    """The fixed settings, by name."""
    every = itertools.product(config.rates, config.dropouts, config.steps)
    return {
        f"rate {rate:g}, dropout {dropout:g}, {steps} steps": bayesal.HParams(
            learning_rate=rate, dropout=dropout, steps=steps
        )
        for rate, dropout, steps in every
    }


def space(config: Config) -> bayesal.HParams:
    """As wide as the grid, and weight decay, which the grid leaves at its default."""
    ends = lambda values: (min(values), max(values))
    return retune.space(
        learning_rate=ends(config.rates),
        dropout=ends(config.dropouts),
        steps=ends(config.steps),
        prior_scale=None,
    )


def retuners(config: Config) -> dict[str, retune.Retuner]:
    """By name."""
    searched = space(config)
    learning = retune.gp_proposer()
    return {
        "surrogate": retune.successive_halving(8, searched, proposer=learning),
        "nearby": retune.successive_halving(8, searched, proposer=retune.local_proposer()),
        "untempered": retune.successive_halving(8, searched, proposer=learning, tempered=False),
        "all folds": retune.successive_halving(8, searched, proposer=learning, halve=False),
    }


def fits(name: str, config: Config) -> int:
    """Fits of one round, on average, the last one included, but not those of a
    temperature alone.
    """
    if name not in retuners(config) and not name.startswith("tuned once"):
        return config.members if name == "ensemble" else 1
    keep = 1.0 if name == "all folds" else 0.5  # candidates of 8 left after each fold; at least 2
    return sum(max(math.ceil(8 * keep**fold), 2) for fold in range(config.folds)) + 1


CALIBRATOR = calibrate.temperature()


class Arm:
    """One learner through all rounds of a seed; the rows are given to it."""

    def __init__(
        self,
        config: Config,
        posterior: bayesal.Posterior,
        retuner: retune.Retuner | None = None,
        once: int = 0,
    ):
        options = dict(
            size=1,
            capacity=config.last,
            num_draws=posterior.members or config.draws,
            num_folds=config.folds,
            calibrate=CALIBRATOR,
        )
        self.config, self.posterior, self.once = config, posterior, once
        self.first = bayesal.learner(posterior, acquire.uniform(), retune=retuner, **options)
        self.rest = bayesal.learner(posterior, acquire.uniform(), **options) if once else self.first

    def __call__(
        self, name: str, data: runs.Data, seed: int, hparams: bayesal.HParams | None = None
    ):
        """A record a round."""
        state, known = self.first.init(jax.random.key(seed), data.pool), 0
        if hparams is not None:
            alike = lambda value, old: jnp.asarray(value, old.dtype)  # or `tell` compiles again
            state = state._replace(hparams=jax.tree.map(alike, hparams, state.hparams))
        for round, count in enumerate(counts(self.config)):
            rows, began = np.arange(known, count), time.process_time()
            if round == 0:
                fresh = state
                for again in range(max(self.once, 1)):
                    told = self.first.tell(fresh, data.pool, rows, data.labels[rows])
                    fresh = fresh._replace(
                        hparams=told.hparams,
                        search=told.search,
                        key=jax.random.key(1000 * (seed + 1) + again),
                    )
                if self.once:
                    empty = self.rest.init(jax.random.key(seed), data.pool)
                    told = self.rest.tell(
                        empty._replace(hparams=told.hparams), data.pool, rows, data.labels[rows]
                    )
                state = told
            else:
                state = self.rest.tell(state, data.pool, rows, data.labels[rows])
            state = jax.block_until_ready(state)
            used, known = time.process_time() - began, count
            before, after = runs.predictions(
                self.posterior, state, data.test, self.posterior.members or self.config.draws
            )
            yield {
                "kind": "round",
                "strategy": name,
                "seed": seed,
                "round": round,
                "labels": count,
                "cpu": round_(used),
                "accuracy": float(metrics.accuracy(before, data.test_labels)),
                "nll": round_(metrics.nll(before, data.test_labels)),
                "nll_tempered": round_(metrics.nll(after, data.test_labels)),
                "hparams": {k: round_(v) for k, v in state.hparams._asdict().items()},
            }


def round_(value) -> float:
    """Six digits are plenty."""
    return float(f"{float(value):.6g}")


def main(config: Config, out: Path) -> list[dict]:
    """The grid, then what is compared with it."""
    network = networks.mlp(64, 10, (config.hidden,))
    posterior = posteriors.mc_dropout(network)
    folder, records = runs.Folder(out, config), []

    def play(arm, name, hparams=None):
        for seed in range(config.seeds):
            for record in arm(name, load(config, seed), seed, hparams):
                folder.write(record)
                records.append(record)
        screen.say(f"{name}: done")

    fixed = Arm(config, posterior)
    for name, hparams in grid(config).items():
        play(fixed, name, hparams)
    table = scores(records, list(grid(config)), "nll_tempered")  # [settings, seeds, rounds]
    best = list(grid(config))[int(table.mean(axis=(1, 2)).argmin())]
    play(fixed, "default")
    searchers = retuners(config)
    for name, retuner in (("tuned once", "surrogate"), ("tuned once, untempered", "untempered")):
        play(Arm(config, posterior, searchers[retuner], once=len(counts(config))), name)
    for name, retuner in searchers.items():
        play(Arm(config, posterior, retuner), name)
    play(
        Arm(config, posteriors.ensemble(network, members=config.members)),
        "ensemble",
        grid(config)[best],
    )
    report(config, records, best, folder)
    pictures.save(draw(records, best), out / "retuning.png")
    return records


def draw(records: list[dict], best: str):
    """By labels: tempered NLL less that of the best fixed setting, and the steps that each arm
    takes.
    """
    fixed = {(r["seed"], r["round"]): r["nll_tempered"] for r in records if r["strategy"] == best}
    shown = ("default", "tuned once", "tuned once, untempered", "surrogate", "ensemble")
    found = [
        r
        | {
            "excess": r["nll_tempered"] - fixed[r["seed"], r["round"]],
            "steps": r["hparams"]["steps"],
        }
        for r in records
        if r["strategy"] in shown
    ]
    return pictures.panels(
        found,
        {"excess": "tempered test NLL less the best fixed setting's", "steps": "steps of a fit"},
        logarithmic=("steps",),
    )


def scores(records: list[dict], names: list[str], figure: str) -> np.ndarray:
    """`[names, seeds, rounds]`."""
    found = {(r["strategy"], r["seed"], r["round"]): r[figure] for r in records}
    seeds, rounds = ({key[i] for key in found} for i in (1, 2))
    return np.array(
        [
            [[found[name, seed, round] for round in sorted(rounds)] for seed in sorted(seeds)]
            for name in names
        ]
    )


def report(config: Config, records: list[dict], best: str, folder: runs.Folder) -> None:
    """Test NLL and accuracy of every arm less those of the best fixed setting, paired by seed:
    early, late, and over all rounds.
    """
    labels, settings = np.array(counts(config)), list(grid(config))
    ranges = {"early": labels <= 100, "late": labels >= 400, "all": labels > 0}
    of = lambda names: {
        figure: scores(records, names, figure) for figure in ("nll_tempered", "nll", "accuracy")
    }
    every, fixed = of(settings), {figure: values[0] for figure, values in of([best]).items()}
    per_round = (
        every["nll_tempered"].mean(axis=1).argmin(axis=0)
    )  # a setting for each round, by the mean over seeds
    screen.say(
        f"best fixed setting: {best}; best by rounds: "
        + "; ".join(f"{n} labels: {settings[i]}" for n, i in zip(labels, per_round, strict=True))
    )
    folder.write({"kind": "best", "fixed": best, "per_round": [settings[i] for i in per_round]})
    arms = {
        name: {figure: values[0] for figure, values in of([name]).items()}
        for name in [
            "default",
            "tuned once",
            "tuned once, untempered",
            *retuners(config),
            "ensemble",
        ]
    }
    arms["best per round"] = {
        figure: np.stack([values[i, :, r] for r, i in enumerate(per_round)], axis=1)
        for figure, values in every.items()
    }
    table = screen.Table(
        title="less the best fixed setting, mean (95 %) over seeds; NLL in nats, tempered (and at "
        "T = 1), accuracy in points"
    )
    for column in ("arm", "fits", "<= 100 labels", ">= 400", "all", "all, T = 1", "accuracy, all"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for name, figures in arms.items():
        gap = lambda figure, where, figures=figures: runs.paired(
            (figures[figure] - fixed[figure])[:, ranges[where]].mean(axis=1)
        )
        row = {f"nll_tempered_{where}": gap("nll_tempered", where) for where in ranges}
        row |= {
            "nll_all": gap("nll", "all"),
            "accuracy_all": [100 * v for v in gap("accuracy", "all")],
        }
        price = "" if name == "best per round" else fits(name, config)
        folder.write({"kind": "summary", "strategy": name, "fits": price or None, **row})
        table.add_row(name, str(price), *(runs.said(v) for v in row.values()))
    screen.console.print(table)
    means = {figure: float(values.mean()) for figure, values in fixed.items()}
    folder.write({"kind": "means", "strategy": best, **means})
    screen.say(
        ", ".join(f"best fixed: mean {figure} {value:.3f}" for figure, value in means.items())
    )
    against = {
        name: runs.paired(
            (arms["surrogate"]["nll_tempered"] - arms[name]["nll_tempered"]).mean(axis=1)
        )
        for name in retuners(config)
        if name != "surrogate"
    }
    for name, value in against.items():
        folder.write(
            {"kind": "paired", "strategy": "surrogate", "less": name, "nll_tempered_all": value}
        )
        screen.say(f"surrogate less {name}: tempered NLL {runs.said(value)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/retuning"))
    for field in dataclasses.fields(Config):
        if isinstance(field.default, int):
            parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    out = given.pop("out")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(Config(**given), out)
