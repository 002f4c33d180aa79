"""The demo: which of scikit-learn's 1,797 real digits should a person label next?

    python -m experiments.digits            # four strategies, five seeds
    python -m experiments.digits --quick    # one seed, fewer labels

Nothing is downloaded. 500 images are a test set that no choice is made on; the rest is the pool, of
which 20 are labeled first (typical points of clusters, the same for all strategies of a seed) and
10 more each round. Hyperparameters are retuned every round. A temperature is fitted at the end, to
the labels of chance, for the picture. `report.html` has everything in one file.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before JAX is there, which takes a second or more
    print("importing JAX (seconds)", file=sys.stderr, flush=True)

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, calibrate, networks, plots, posteriors, retune, scores, select
from experiments import pictures, runs


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment. Strategies share the pool and first labels, seed by seed."""

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


TARGETS = (0.90, 0.95)
QUICK = Config(seeds=1, rounds=8, candidates=4, max_steps=200)
STRATEGIES = {
    "margin": acquire.top(scores.margin),
    "power": acquire.power(scores.bald),
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


def typical(pool: jax.Array, seed: int) -> np.ndarray:
    """The first 20 rows to label: typical points of clusters, before any net knows anything."""
    flat = pool.reshape(len(pool), -1)
    return np.asarray(select.typiclust(jax.random.key(seed), flat, 20).indices)


class Keepsakes:
    """What the pictures need beyond the curves: one early `ask` of power and BatchBALD, the test
    predictions of chance at the end, and all that one retuner tried.
    """

    def __init__(self, config: Config, posterior: bayesal.Posterior, data: runs.Data):
        self.config, self.posterior, self.data = config, posterior, data
        self.asks: dict = {}
        self.last: dict = {}
        self.tried: dict = {}

    def __call__(self, record, state, selection) -> None:
        config, data, name = self.config, self.data, record["strategy"]
        seed, round = record["seed"], record["round"]
        if seed == 0 and round == min(2, config.rounds - 1) and name in ("power", "batch_bald"):
            bound = bayesal.predictive_of(self.posterior, state, config.draws)
            self.asks[name] = (np.asarray(scores.bald(bound(data.pool))), bound, state, selection)
        if name == "batch_bald" and seed == 0 and round == config.rounds:
            self.tried = retune.table(state.search)
        if name == "chance" and round == config.rounds:  # nearly all drawn by chance
            said, labels, valid = bayesal.out_of_fold(
                self.posterior, state, data.pool, num_draws=config.draws
            )
            fitted = calibrate.fit_temperature(said[:, valid], labels[valid])
            tempered = state._replace(temperature=fitted.temperature)
            before, after = (
                np.asarray(
                    bayesal.predictive_of(self.posterior, some, config.draws).log_probs(data.test)
                )
                for some in (state, tempered)
            )
            self.last[seed] = (before, after, data.test_labels)


def main(config: Config, out: Path) -> bayesal.Results:
    """Run everything, keep the records, draw the pictures."""
    data = load(config, 0)
    posterior = posteriors.mc_dropout(networks.mlp(64, 10, (config.hidden,)))
    keepsakes = Keepsakes(config, posterior, data)
    results = bayesal.simulate(
        STRATEGIES,
        data.pool,
        data.labels,
        test=(data.test, data.test_labels),
        posterior=posterior,
        seeds=config.seeds,
        rounds=config.rounds,
        size=config.size,
        first=np.stack([typical(data.pool, seed) for seed in range(config.seeds)]),
        retune=retune.successive_halving(
            config.candidates, retune.space(steps=(50, config.max_steps), prior_scale=None)
        ),
        hparams=bayesal.HParams(steps=config.max_steps // 2),
        num_draws=config.draws,
        num_folds=config.folds,
        keep=keepsakes,
        threads=config.threads,
    )
    folder = runs.Folder(out, config)
    for record in results.to_records():
        folder.write({"kind": "round"} | record)
    to = {level: results.labels_needed(level) for level in TARGETS}
    for name in results.strategies:
        folder.write(
            {
                "kind": "summary",
                "strategy": name,
                "to_90": to[0.90][name].tolist(),
                "to_95": to[0.95][name].tolist(),
            }
        )
    print(results.table(target=TARGETS[-1]))
    drawn = draw(config, results, keepsakes, out)
    results.report(
        out / "report.html",
        target=TARGETS,
        pool=data.pool,
        labels=data.labels,
        pictures=drawn,
        title="Digits: which rows to label next?",
    )
    print(f"results and pictures in {out}: {', '.join(sorted(p.name for p in out.iterdir()))}")
    print(f"the report, for a browser: {out / 'report.html'}")
    return results


def draw(
    config: Config, results: bayesal.Results, keepsakes: Keepsakes, out: Path
) -> dict[str, Any]:
    """Seven pictures as files. Returns those that the report shows, by their captions."""
    import matplotlib.pyplot as plt

    data = keepsakes.data
    pictures.save(results.plot(target=TARGETS), out / "learning_curves.png")
    before, after, labels = (
        np.concatenate(parts) for parts in zip(*keepsakes.last.values(), strict=True)
    )
    reliable = plots.reliability(before, labels, after=after)
    pictures.save(reliable, out / "reliability.png")
    retuned = plots.hyperparameters(results, "batch_bald")
    pictures.save(retuned, out / "hparams.png")
    shown = ("learning_rate", "steps", "loss")
    figure, axes = plt.subplots(len(shown), 1, figsize=(7.2, 8.4), layout="constrained")
    for ax, field in zip(axes, shown, strict=True):
        plots.retuner_history(keepsakes.tried, field, ax)
    pictures.save(figure, out / "history.png")
    asks = keepsakes.asks.items()
    figure, axes = plt.subplots(len(asks), 1, figsize=(11, 4.6), layout="constrained")
    for ax, (name, (bald, bound, state, selection)) in zip(axes, asks, strict=True):
        picks = np.asarray(selection.indices)
        plots.picked_images(
            np.asarray(data.pool[picks]).reshape(-1, 8, 8),
            ax,
            labels=data.labels[picks],
            predicted=np.asarray(bound.predict(data.pool[picks])),
            scores=bald[picks],
            title=f"{name} asks for, after {int(state.ledger.count)} labels (BALD of each)",
        )
    pictures.save(figure, out / "picks.png")
    asked = figure
    bald, bound, state, selection = keepsakes.asks["batch_bald"]
    free = np.asarray(state.ledger.available(len(bald)))
    bounds = {"ln C": float(np.log(10)), "ln K": float(np.log(config.draws))}
    histogram = plots.score_histogram(
        np.where(free, bald, -np.inf), selection, bounds=bounds, name="BALD (nats)"
    )
    pictures.save(histogram, out / "bald_histogram.png")
    why = bayesal.explain(selection, bound, data.pool, available=free)
    information = plots.batch_information(why, name="batch_bald")
    pictures.save(information, out / "batch_information.png")
    return {
        "Reliability of chance's last fits, before and after a temperature": reliable,
        "What power and BatchBALD ask for early on, and what the net says of it": asked,
        "Information of that BatchBALD batch, point by point": information,
        "Hyperparameters of BatchBALD, chosen anew each round": retuned,
    }


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
