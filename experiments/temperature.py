"""A temperature in every round: what it mends, which picks it changes, and whether better
confidence picks better labels.

    python -m experiments.temperature            # scikit-learn's digits, five arms, ten seeds

Nothing retuned: MC dropout, 20 first labels, ten more a round, T fitted on out-of-fold predictions,
five folds as by default. Every arm fits T every round; those called `..., T = 1` pick as if none
had been fitted, so that arms of one score differ in their picks alone. After each round of `KEPT`
the same state is asked
again: by each score at T = 1 (what the temperature changes), and at the fitted T with other draws
(what luck changes), and by those that one function can have also with nothing dropped (all draws
are then the same prediction; with two classes its T could change no order, with ten it can).
"""

import argparse
import dataclasses
import operator
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, calibrate, networks, posteriors, scores
from experiments import digits, pictures, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """Arms share pools and first labels, seed by seed."""

    seeds: int = 10
    rounds: int = 9
    size: int = 10
    draws: int = 50
    test: int = 500
    hidden: int = 128
    steps: int = 300


def at_one(strategy: bayesal.Strategy) -> bayesal.Strategy:
    """A ranking strategy as it would pick if no temperature had been fitted."""

    def measure(aux, predictive, x):
        untempered = dataclasses.replace(predictive, temperature=jnp.float32(1.0))
        return strategy.measure(aux, untempered, x)

    return strategy._replace(measure=measure)


RANKED = {
    name: acquire.top(getattr(scores, name))
    for name in ("least_confidence", "margin", "entropy", "bald")
}
ASKED = RANKED | {"batch_bald": acquire.batch_bald()}
ONE_FUNCTION = ("least_confidence", "margin", "entropy")  # BALD of one function is 0 everywhere
ARMS = {"uniform": acquire.uniform()} | {
    f"{name}{end}": change(RANKED[name])
    for name in ("least_confidence", "bald")
    for end, change in (("", lambda s: s), (", T = 1", at_one))
}
KEPT = ("uniform", "least_confidence")


def judged(
    posterior: bayesal.Posterior, state: bayesal.LearnerState, data: runs.Data, num_draws: int
) -> dict[str, float]:
    """Figures on the test set at T = 1 and at the fitted T, with the same draws."""
    before, after = (
        runs.figures(p, data.test_labels)
        for p in runs.predictions(posterior, state, data.test, num_draws)
    )
    return {"accuracy": before["accuracy"], "temperature": float(state.temperature)} | {
        f"{k}{end}": found[k]
        for end, found in (("_before", before), ("", after))
        for k in ("nll", "ece", "over")
    }


def changed(
    learner: bayesal.Learner,
    state: bayesal.LearnerState,
    other: bayesal.LearnerState,
    pool: jax.Array,
) -> int:
    """How many picks of one state the other one does not make."""
    picks = [set(np.asarray(learner.ask(s, pool).indices).tolist()) for s in (state, other)]
    return len(picks[0] - picks[1])


def changes(
    learners: dict[str, bayesal.Learner], state: bayesal.LearnerState, pool: jax.Array
) -> dict[str, dict[str, int]]:
    """Picks that change with the temperature alone, with the draws alone, and with the temperature
    of one function, by score.
    """
    cold = lambda s: s._replace(temperature=jnp.float32(1.0))
    lucky = state._replace(key=jax.random.fold_in(state.key, 1))
    whole = state._replace(posterior=state.posterior._replace(rate=jnp.float32(0.0)))
    return {
        "temperature": {name: changed(learners[name], state, cold(state), pool) for name in ASKED},
        "draws": {name: changed(learners[name], state, lucky, pool) for name in ASKED},
        "one_function": {
            name: changed(learners[name], whole, cold(whole), pool) for name in ONE_FUNCTION
        },
    }


def build(
    config: Config,
) -> tuple[bayesal.Posterior, dict[str, bayesal.Learner], dict[str, bayesal.Learner]]:
    """A posterior, a learner for each arm, and one for each score that is asked on the side."""
    posterior = posteriors.mc_dropout(networks.mlp(64, 10, (config.hidden,)))
    options = dict(
        size=config.size,
        capacity=20 + config.rounds * config.size,
        num_draws=config.draws,
        hparams=bayesal.HParams(steps=config.steps),
    )
    of = lambda strategies: {
        name: bayesal.learner(posterior, s, calibrate=calibrate.temperature(), **options)
        for name, s in strategies.items()
    }
    return posterior, of(ARMS), of(ASKED)


def main(config: Config, out: Path) -> list[dict]:
    """Every seed and arm, one after another; then the tables and the picture."""
    posterior, arms, asked = build(config)
    folder, records = runs.Folder(out, config), []

    def keep(record, state, selection):
        if selection is not None and record["strategy"] in KEPT:
            record["changed"] = changes(asked, state, data.pool)

    for seed in range(config.seeds):
        data = digits.load(digits.Config(test=config.test), seed)
        first = runs.first_labels(data.labels, 2, seed)
        for name, learner in arms.items():
            for record in runs.run(
                name,
                learner,
                posterior,
                data,
                first,
                seed,
                config.rounds,
                config.draws,
                keep,
                judged,
            ):
                folder.write({k: v for k, v in record.items() if k != "scores"})
                records.append(record)
        screen.say(
            f"seed {seed}: {records[-1]['labels']} labels, accuracy {records[-1]['accuracy']:.3f}"
        )
    calibrated(records, folder)
    moved(records, folder)
    gained(records, folder)
    shown = [
        r | {"nll_gap": r["nll"] - r["nll_before"], "ece_gap": r["ece"] - r["ece_before"]}
        for r in records
        if not r["strategy"].endswith("T = 1")
    ]
    panels = {
        "temperature": "fitted temperature",
        "nll_gap": "test NLL, less that at T = 1",
        "ece_gap": "test ECE, less that at T = 1",
    }
    pictures.save(pictures.panels(shown, panels), out / "temperature.png")
    return records


def over_rounds(records: list[dict], name: str, read, rounds=None) -> np.ndarray:
    """A number for each seed: the mean of `read(record)` over some rounds of an arm,
    default all.
    """
    return runs.seed_means(
        [r for r in records if r["strategy"] == name and (rounds is None or r["round"] in rounds)],
        read,
    )


def calibrated(records: list[dict], folder: runs.Folder) -> None:
    """Per arm and round, and over all rounds: the temperature, NLL and ECE before and after, and
    their paired differences.
    """
    table = screen.Table(
        title="test set, mean over seeds; after less before: paired, 95 % intervals"
    )
    for column in (
        "arm",
        "labels",
        "T",
        "NLL, T = 1",
        "NLL",
        "after - before",
        "ECE, T = 1",
        "ECE",
        "after - before ",
    ):
        table.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
    counts = sorted({(r["round"], r["labels"]) for r in records})
    for name in dict.fromkeys(r["strategy"] for r in records):
        for rounds, labels in [*(((round,), count) for round, count in counts), (None, "all")]:
            of = lambda key, name=name, rounds=rounds: over_rounds(
                records, name, operator.itemgetter(key), rounds
            )
            log_t = over_rounds(records, name, lambda r: float(np.log(r["temperature"])), rounds)
            summary = {"temperature": float(np.exp(log_t.mean()))} | {
                key: float(of(key).mean())
                for key in ("nll_before", "nll", "ece_before", "ece", "over_before", "over")
            }
            gaps = {
                f"{key}_gap": runs.paired(of(key) - of(f"{key}_before")) for key in ("nll", "ece")
            }
            folder.write(
                {"kind": "calibrated", "strategy": name, "labels": labels, **summary, **gaps}
            )
            table.add_row(
                name,
                str(labels),
                f"{summary['temperature']:.2f}",
                *(
                    text
                    for k in ("nll", "ece")
                    for text in (
                        f"{summary[k + '_before']:.3f}",
                        f"{summary[k]:.3f}",
                        runs.said(gaps[k + "_gap"]),
                    )
                ),
            )
    screen.console.print(table)


def moved(records: list[dict], folder: runs.Folder) -> None:
    """How many picks change, by what changes them and by the arm whose labels the state has."""
    table = screen.Table(title="picks that change, mean over rounds, 95 % intervals over seeds")
    for column in ("labels by", "score", "T alone", "draws alone", "T, one function"):
        table.add_column(
            column, justify="left" if column in ("labels by", "score") else "right", overflow="fold"
        )
    kept = [r for r in records if "changed" in r]
    for name in dict.fromkeys(r["strategy"] for r in kept):
        for score in ASKED:
            ways = [
                way
                for way in ("temperature", "draws", "one_function")
                if score in kept[0]["changed"][way]
            ]
            found = {
                way: runs.paired(
                    over_rounds(
                        kept, name, lambda r, way=way, score=score: r["changed"][way][score]
                    )
                )
                for way in ways
            }
            folder.write({"kind": "changed", "strategy": name, "score": score, **found})
            table.add_row(
                name, score, *(f"{v[0]:.2f} ({v[1]:.2f} to {v[2]:.2f})" for v in found.values())
            )
    screen.console.print(table)


def gained(records: list[dict], folder: runs.Folder) -> None:
    """Accuracy of picks at the fitted T less that of picks at T = 1, and of both less chance:
    halfway, at the end, and over all rounds but the first fit.
    """
    last = max(r["round"] for r in records)
    of = lambda name, rounds: over_rounds(records, name, lambda r: r["accuracy"], rounds)
    for name in ("least_confidence", "bald"):
        for rounds, labels in (
            (((last + 1) // 2,), "halfway"),
            ((last,), "at the end"),
            (range(1, last + 1), "all rounds"),
        ):
            at = {arm: of(arm, rounds) for arm in (name, f"{name}, T = 1", "uniform")}
            pairs = {
                "fitted less T = 1": (name, f"{name}, T = 1"),
                "fitted less uniform": (name, "uniform"),
                "T = 1 less uniform": (f"{name}, T = 1", "uniform"),
            }
            gaps = {said: runs.paired(at[a] - at[b]) for said, (a, b) in pairs.items()}
            folder.write(
                {
                    "kind": "gained",
                    "score": name,
                    "where": labels,
                    "accuracy": {arm: float(v.mean()) for arm, v in at.items()},
                    **gaps,
                }
            )
            screen.say(
                f"{name}, accuracy {labels}: {at[name].mean():.3f}; "
                + "; ".join(f"{said} {runs.said(gap)}" for said, gap in gaps.items())
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/temperature"))
    for field in dataclasses.fields(Config):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    out = given.pop("out")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(Config(**given), out)
