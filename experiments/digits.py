"""The demo: which of scikit-learn's 1,797 real digits should a person label next?

    python -m experiments.digits            # four strategies, five seeds, a minute and a half on
    two cores python -m experiments.digits --quick    # one seed, fewer labels

Nothing is downloaded. 500 images are a test set that no choice is made on; the rest is the pool, of
which 20 are labeled first (two of each class) and 10 more each round. Hyperparameters are retuned
and the temperature is fitted afresh every round.
"""

import argparse
import concurrent.futures
import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, calibrate, networks, posteriors, retune, scores, select
from experiments import pictures, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment. Strategies share pools and first labels, seed by seed."""

    seeds: int = 5
    rounds: int = 20
    size: int = 10
    draws: int = 100
    test: int = 500
    hidden: int = 128
    candidates: int = 6
    max_steps: int = 300
    folds: int = 5
    threads: int = 2


QUICK = Config(seeds=1, rounds=8, candidates=4, max_steps=200)
STRATEGIES = {
    "uniform": acquire.uniform(),
    "entropy": acquire.top(scores.entropy),
    "bald": acquire.top(scores.bald),
    "batch_bald": acquire.batch_bald(),
}


def load(config: Config, seed: int) -> runs.Data:
    """The test set is the same for every seed; the pool's order is not."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    test, pool = (
        order[: config.test],
        np.random.default_rng(seed + 1).permutation(order[config.test :]),
    )
    scaled = (x / 16).astype(np.float32).reshape(-1, 8, 8)
    return runs.Data(
        jnp.asarray(scaled[pool]),
        y[pool].astype(np.int32),
        jnp.asarray(scaled[test]),
        y[test].astype(np.int32),
    )


def build(config: Config) -> tuple[bayesal.Posterior, dict[str, bayesal.Learner]]:
    """One posterior and one retuner, shared by four learners, so that `tell` is compiled once for
    all.
    """
    posterior = posteriors.mc_dropout(networks.mlp(64, 10, (config.hidden,)))
    tuned = dict(
        retune=retune.successive_halving(
            config.candidates, retune.space(steps=(50, config.max_steps))
        ),
        calibrate=calibrate.temperature(),
        num_folds=config.folds,
    )
    capacity = 20 + config.rounds * config.size
    hparams = bayesal.HParams(steps=config.max_steps // 2)
    return posterior, {
        name: bayesal.learner(
            posterior,
            strategy,
            size=config.size,
            capacity=capacity,
            num_draws=config.draws,
            hparams=hparams,
            **tuned,
        )
        for name, strategy in STRATEGIES.items()
    }


class Keepsakes:
    """What the pictures need beyond the records: one first `ask` of BALD and BatchBALD, test
    predictions halfway, all that one retuner tried.
    """

    def __init__(self, config: Config, posterior: bayesal.Posterior, data: dict[int, runs.Data]):
        self.config, self.posterior, self.data = config, posterior, data
        self.asks: dict = {}
        self.halfway: dict = {}
        self.tried: dict = {}

    def __call__(self, record, state, selection) -> None:
        name, data = record["strategy"], self.data[record["seed"]]
        if (
            record["seed"] == 0
            and record["round"] == min(2, self.config.rounds - 1)
            and name in ("bald", "batch_bald")
        ):
            bound = bayesal.predictive_of(self.posterior, state, self.config.draws)
            self.asks[name] = (np.asarray(scores.bald(bound(data.pool))), bound, state, selection)
        if name == "batch_bald" and record["seed"] == 0 and record["round"] == self.config.rounds:
            self.tried = retune.table(state.search)
        if name == "batch_bald" and record["round"] == self.config.rounds // 2:
            before, after = runs.predictions(self.posterior, state, data.test, self.config.draws)
            self.halfway[record["seed"]] = (np.asarray(before), np.asarray(after), data.test_labels)


def main(config: Config, out: Path) -> list[dict]:
    """Run everything on a few threads (compiled programs let go of Python's lock), keep the
    records, draw the pictures.
    """
    if config.rounds < 1:
        raise SystemExit("--rounds must be at least 1")
    posterior, learners = build(config)
    data = {seed: load(config, seed) for seed in range(config.seeds)}
    folder, records = runs.Folder(out, config), []
    keepsakes = Keepsakes(config, posterior, data)
    jobs = [(seed, name) for seed in range(config.seeds) for name in learners]

    def one(job, view):
        seed, name = job
        first = runs.first_labels(data[seed].labels, 2, seed)
        found = []
        for record in runs.run(
            name,
            learners[name],
            posterior,
            data[seed],
            first,
            seed,
            config.rounds,
            config.draws,
            keepsakes,
        ):
            found.append(record)
            view.add(record)
        return found

    screen.say(
        f"{len(data[0].labels)} digits to choose from, {len(jobs)} runs of {config.rounds} "
        "rounds; compiling first (seconds)"
    )
    with (
        screen.Screen(len(jobs) * (config.rounds + 1), list(learners)) as view,
        concurrent.futures.ThreadPoolExecutor(config.threads) as threads,
    ):
        for found in threads.map(lambda job: one(job, view), jobs):
            records += found
            for record in found:
                folder.write(record)
    report(config, records, folder)
    draw(config, records, keepsakes, out)
    screen.say(
        f"results and pictures in {out}: " + ", ".join(sorted(p.name for p in out.iterdir()))
    )
    return records


def report(config: Config, records: list[dict], folder: runs.Folder) -> None:
    """Labels needed per strategy, and calibration before and after temperature."""
    table = screen.Table(
        title=f"labels needed, median (quartiles) of {config.seeds} seeds; ECE, NLL over all rounds"
    )
    for column in ("strategy", "to 90 %", "to 95 %", "ECE, T=1", "ECE", "NLL, T=1", "NLL"):
        table.add_column(
            column, justify="left" if column == "strategy" else "right", overflow="fold"
        )
    to_90, to_95 = runs.needed(records, 0.90), runs.needed(records, 0.95)
    for name in to_90:
        mean = {
            k: float(np.mean([r[k] for r in records if r["strategy"] == name]))
            for k in ("ece_before", "ece", "nll_before", "nll")
        }
        folder.write(
            {
                "kind": "summary",
                "strategy": name,
                "to_90": to_90[name],
                "to_95": to_95[name],
                **mean,
            }
        )
        table.add_row(
            name,
            runs.spread(to_90[name]),
            runs.spread(to_95[name]),
            *(f"{mean[k]:.3f}" for k in mean),
        )
    screen.console.print(table)


def draw(config: Config, records: list[dict], keepsakes: Keepsakes, out: Path) -> None:
    """Seven pictures."""
    data = keepsakes.data[0]
    pictures.save(
        pictures.plot_learning_curves(records, level=(0.90, 0.95)), out / "learning_curves.png"
    )
    before, after, labels = (
        np.concatenate(parts) for parts in zip(*keepsakes.halfway.values(), strict=True)
    )
    pictures.save(pictures.plot_reliability(before, after, labels), out / "reliability.png")
    pictures.save(pictures.plot_hparams(records, strategy="batch_bald"), out / "hparams.png")
    pictures.save(pictures.plot_history(keepsakes.tried), out / "history.png")
    rows = {}
    for name, (bald, bound, _, selection) in keepsakes.asks.items():
        picks = np.asarray(selection.indices)
        predicted = np.asarray(bound.predict(data.pool[picks]))
        rows[name] = (np.asarray(data.pool[picks]), bald[picks], data.labels[picks], predicted)
    about = lambda state: f"seed 0, {int(state.ledger.count)} labels"
    title = (
        f"what each asks for next ({about(keepsakes.asks['batch_bald'][2])}); red: the net is wrong"
    )
    pictures.save(pictures.plot_picks(rows, title=title, score="BALD"), out / "picks.png")
    bald, bound, state, selection = keepsakes.asks["batch_bald"]
    picks = np.asarray(selection.indices)
    bounds = {"ln C": float(np.log(10)), "ln K": float(np.log(config.draws))}
    free = np.asarray(state.ledger.available(len(bald)))
    pictures.save(
        pictures.plot_score_histogram(
            np.where(free, bald, np.nan),
            picks,
            bounds=bounds,
            name="BALD",
            about=f"batch_bald, {about(state)}",
        ),
        out / "bald_histogram.png",
    )
    top = select.top(jnp.asarray(bald), config.size, available=jnp.asarray(free))
    pictures.save(
        pictures.plot_batch_information(
            np.asarray(selection.joint),
            np.cumsum(np.asarray(top.scores)),
            bounds["ln K"],
            about=f"batch_bald, {about(state)}",
        ),
        out / "batch_information.png",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/digits"))
    parser.add_argument("--quick", action="store_true", help="one seed, 8 rounds")
    for field in dataclasses.fields(Config):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=int, help=f"default {field.default}"
        )
    given = {k: v for k, v in vars(parser.parse_args()).items() if v is not None}
    out, quick = given.pop("out"), given.pop("quick")
    if quick:
        out = out.with_name(out.name + "_quick")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(dataclasses.replace(QUICK if quick else Config(), **given), out)
