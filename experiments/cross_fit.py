"""How many folds does a temperature need? scikit-learn's digits, by the number of folds it is
fitted on and its prior.

    python -m experiments.cross_fit            # two arms, ten seeds

A temperature is fitted on predictions by nets that know only the other folds' labels: two thirds of
them with three folds, nine tenths with ten. Those nets are worse than the one that is used, and may
look too sure where it is not. After every round temperatures are fitted by every number of folds
and prior to one and the same net, and judged on the test set beside T = 1 and beside the
temperature that the test set itself would choose (`best`). Picks are made at T = 1.
"""

import argparse
import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, calibrate, networks, posteriors, scores
from experiments import calibration, digits, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """Arms share pools and first labels, seed by seed; the library's defaults, nothing retuned."""

    seeds: int = 10
    rounds: int = 9
    size: int = 10
    draws: int = 50
    test: int = 500
    hidden: int = 128
    steps: int = 300


ARMS = {"uniform": acquire.uniform(), "least_confidence": acquire.top(scores.least_confidence)}
FOLDS = (2, 3, 5, 10)
PRIORS = {
    "that of the learner": calibrate.temperature(),
    "0.5": calibrate.temperature(prior_std=0.5, doubt=0.0),
}
PLACES = {"20 to 40": (0, 40), "50 to 80": (41, 80), "90 and more": (81, 10**9)}  # labels


def judged(log_probs: jax.Array, labels: np.ndarray, temperature: jax.Array) -> dict[str, float]:
    """NLL and calibration error of draws tempered jointly."""
    found = runs.figures(calibration.tempered(log_probs, temperature), labels)
    return {"log_t": float(jnp.log(temperature)), "nll": found["nll"], "ece": found["ece"]}


def by_folds(
    config: Config, posterior: bayesal.Posterior, state: bayesal.LearnerState, data: runs.Data
) -> dict[str, dict[str, float]]:
    """What every way of fitting a temperature makes of one net."""
    draws = bayesal.predictive_of(posterior, state, config.draws)(data.test)
    labels, known = (
        jnp.asarray(data.test_labels),
        jnp.arange(state.ledger.indices.shape[0]) < state.ledger.count,
    )
    fitted = {
        "T = 1": jnp.float32(1.0),
        "best": PRIORS["0.5"](draws, labels, jnp.ones(len(labels), bool)).temperature,
    }
    for number in FOLDS:
        held_out, _, _ = bayesal.out_of_fold(
            posterior, state, data.pool, num_folds=number, num_draws=config.draws
        )
        fitted |= {
            f"{number} folds, prior {name}": fit(held_out, state.ledger.labels, known).temperature
            for name, fit in PRIORS.items()
        }
    return {
        way: judged(draws, data.test_labels, temperature) for way, temperature in fitted.items()
    }


def main(config: Config, out: Path) -> list[dict]:
    """Every seed and arm, one after another, and what follows from them."""
    posterior = posteriors.mc_dropout(networks.mlp(64, 10, (config.hidden,)))
    options = dict(
        size=config.size,
        capacity=20 + config.rounds * config.size,
        num_draws=config.draws,
        hparams=bayesal.HParams(steps=config.steps),
    )
    learners = {
        name: bayesal.learner(posterior, strategy, **options) for name, strategy in ARMS.items()
    }
    folder, records = runs.Folder(out, config), []
    for seed in range(config.seeds):
        data = digits.load(digits.Config(test=config.test), seed)
        first = runs.first_labels(data.labels, 2, seed)

        def judge(posterior, state, data, num_draws):
            del num_draws  # the configuration's
            return {"ways": by_folds(config, posterior, state, data)}

        for name, learner in learners.items():
            for record in runs.run(
                name,
                learner,
                posterior,
                data,
                first,
                seed,
                config.rounds,
                config.draws,
                judge=judge,
            ):
                records.append(
                    {k: record[k] for k in ("kind", "strategy", "seed", "round", "labels", "ways")}
                )
                folder.write(records[-1])
        screen.say(f"seed {seed} of {config.seeds} done")
    report(records, folder)
    return records


def per_seed(
    records: list[dict], arm: str, way: str, figure: str, place: tuple[int, int]
) -> np.ndarray:
    """A number for each seed: the mean of a figure over the rounds with so many labels."""
    return runs.seed_means(
        [r for r in records if r["strategy"] == arm and place[0] <= r["labels"] <= place[1]],
        lambda r: r["ways"][way][figure],
    )


def report(records: list[dict], folder: runs.Folder) -> None:
    """Each way less T = 1 and less `best`, paired, by how many labels there are."""
    table = screen.Table(title="test set; differences paired, 95 % intervals over seeds")
    for column in (
        "arm",
        "labels",
        "way",
        "T",
        "NLL",
        "NLL - T = 1",
        "NLL - best",
        "ECE",
        "ECE - T = 1",
    ):
        table.add_column(
            column, justify="left" if column in ("arm", "way") else "right", overflow="fold"
        )
    for arm in dict.fromkeys(r["strategy"] for r in records):
        for said, place in PLACES.items():
            if not any(place[0] <= r["labels"] <= place[1] for r in records):
                continue
            for way in records[0]["ways"]:
                of = lambda figure, way=way, arm=arm, place=place: per_seed(
                    records, arm, way, figure, place
                )
                means = {figure: float(of(figure).mean()) for figure in ("log_t", "nll", "ece")}
                gaps = {
                    "nll_less_one": of("nll") - of("nll", "T = 1"),
                    "nll_less_best": of("nll") - of("nll", "best"),
                    "ece_less_one": of("ece") - of("ece", "T = 1"),
                }
                gaps = {what: runs.paired(gap) for what, gap in gaps.items()}
                folder.write(
                    {
                        "kind": "summary",
                        "strategy": arm,
                        "labels": said,
                        "way": way,
                        **means,
                        **gaps,
                    }
                )
                table.add_row(
                    arm,
                    said,
                    way,
                    f"{np.exp(means['log_t']):.2f}",
                    f"{means['nll']:.3f}",
                    runs.said(gaps["nll_less_one"]),
                    runs.said(gaps["nll_less_best"]),
                    f"{means['ece']:.3f}",
                    runs.said(gaps["ece_less_one"]),
                )
    screen.console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/cross_fit"))
    for field in dataclasses.fields(Config):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    out = given.pop("out")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(Config(**given), out)
