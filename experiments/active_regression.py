"""Which number to measure next? Active regression on UCI sets: BALD, predictive variance and EPIG
against chance.

    python -m experiments.active_regression --data FOLDER          # or BAYESAL_DATA=FOLDER; reads
    uci_regression.npz

The training part of each of the literature's first splits (`experiments.regression`) gives a pool,
standardized; its test part is what RMSE and NLL are judged on. An ensemble of nets with a mean and
a variance each is trained afresh every round. All strategies of a seed share pool and first labels,
so differences to chance are paired.
"""

import dataclasses
from pathlib import Path

import numpy as np

import bayesal
from bayesal import acquire, likelihoods, metrics, networks, posteriors
from bayesal.scores import regression as real
from experiments import pictures, regression, runs


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; a seed is one of the literature's splits."""

    strategies: tuple[str, ...] = ("uniform", "bald", "variance", "epig")
    sets: str = "kin8nm"
    seeds: int = 5
    pool: int = 1_000
    test: int = 800
    first: int = 20
    size: int = 5
    rounds: int = 10
    members: int = 10
    hidden: int = 50
    steps: int = 400
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2


STRATEGIES = {
    "uniform": acquire.uniform(),
    "bald": acquire.top(real.bald),
    "variance": acquire.top(real.variance),
    "epig": acquire.epig(),
    "batch_epig": acquire.batch_epig(),
}


def load(raw: dict[str, np.ndarray], name: str, config: Config) -> list[tuple[runs.Data, float]]:
    """For every seed a pool and a test set in standard units, and the label's unit."""
    out = []
    for split in regression.splits(
        raw[f"{name}_x"].astype(np.float64), raw[f"{name}_y"].astype(np.float64), config.seeds
    ):
        answers = ((split.answers - split.center) / split.scale).astype(np.float32)
        out.append(
            (
                runs.Data(
                    split.train.x[: config.pool],
                    np.asarray(split.train.y)[: config.pool],
                    split.test[: config.test],
                    answers[: config.test],
                ),
                split.scale,
            )
        )
    return out


def judge(scale: float):
    """Figures of a state on the test set, in the label's unit."""

    def judged(posterior, state, data, num_draws):
        prediction = bayesal.predictive_of(posterior, state, num_draws)(data.test)
        average = bayesal.predictive_of(posterior, state, num_draws).moments(data.test)
        return {
            "rmse": scale * float(metrics.rmse(average, data.test_labels)),
            "nll": float(metrics.density_nll(prediction, data.test_labels)) + float(np.log(scale)),
        }

    return judged


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Run everything, keep the records, say the paired differences, draw the curves."""
    raw, folder, records = regression.read(data_folder), runs.Folder(out, config), []
    hparams = bayesal.HParams(config.learning_rate, config.weight_decay, 0.0, 1.0, config.steps)
    for name in config.sets.split(","):
        net = networks.mlp(raw[f"{name}_x"].shape[1], 2, (config.hidden,))
        posterior = posteriors.ensemble(
            net, members=config.members, likelihood=likelihoods.gaussian()
        )
        capacity = config.first + config.rounds * config.size
        learners = {
            s: bayesal.learner(
                posterior, STRATEGIES[s], size=config.size, capacity=capacity, hparams=hparams
            )
            for s in config.strategies
        }
        for seed, (data, scale) in enumerate(load(raw, name, config)):
            for strategy, learner in learners.items():
                rounds = runs.run(
                    strategy,
                    learner,
                    posterior,
                    data,
                    np.arange(config.first),
                    seed,
                    config.rounds,
                    config.members,
                    judge=judge(scale),
                )
                for record in rounds:
                    records.append({"set": name} | record)
                    folder.write(records[-1])
                print(
                    f"{name:9} seed {seed}  {strategy:9} {capacity} labels  RMSE "
                    f"{records[-1]['rmse']:.3f}  NLL {records[-1]['nll']:.3f}",
                    flush=True,
                )
        summarize(config, name, records, folder)
    pictures.save(picture(records), out / "active_regression.png")
    return records


def summarize(config: Config, name: str, records: list[dict], folder: runs.Folder) -> None:
    """RMSE and NLL halfway, at the end and over all rounds, each with its paired difference to
    chance (and 95 % interval).
    """
    end = config.first + config.size * config.rounds
    for key in ("rmse", "nll"):
        for place in (config.first + config.size * (config.rounds // 2), end, None):
            of = lambda s, key=key, place=place: np.array(
                [
                    np.mean(
                        [
                            r[key]
                            for r in records
                            if (r["set"], r["strategy"], r["seed"]) == (name, s, seed)
                            and place in (None, r["labels"])
                        ]
                    )
                    for seed in range(config.seeds)
                ]
            )
            for strategy in config.strategies:
                values = of(strategy)
                gap = (
                    runs.paired(values - of("uniform")) if "uniform" in config.strategies else None
                )
                folder.write(
                    {
                        "kind": "summary",
                        "set": name,
                        "strategy": strategy,
                        "figure": key,
                        "labels": place or "all",
                        "mean": float(values.mean()),
                        "to_uniform": gap,
                    }
                )
                less = (
                    f"  less uniform, paired: {runs.said(gap)}"
                    if gap and strategy != "uniform"
                    else ""
                )
                print(
                    f"{name:9} {key:4} {f'at {place}' if place else 'all rounds':11} "
                    f"{strategy:9} {values.mean():.3f}{less}",
                    flush=True,
                )


def picture(records: list[dict]):
    """Median RMSE (above) and NLL (below) against labels, with quartiles over seeds; a column per
    set.
    """
    import matplotlib.pyplot as plt

    sets = list(dict.fromkeys(r["set"] for r in records))
    size = (5.0 * len(sets), 6.4)
    figure, axes = plt.subplots(2, len(sets), figsize=size, squeeze=False, layout="constrained")
    for column, name in zip(axes.T, sets, strict=True):
        for ax, key in zip(column, ("rmse", "nll"), strict=True):
            pictures.learning_curves([r for r in records if r["set"] == name], key, ax)
            ax.set_title(name, fontsize=11, loc="left")
    return figure


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, STRATEGIES, "runs/active_regression"))
