"""Which labels should calibrate a net that chose its own? scikit-learn's digits, and the answer for
the rest of the pool.

    python -m experiments.calibration            # seven arms, ten seeds: two and a half minutes of
    one core

Actively chosen labels are a biased sample. After every round temperatures are fitted on out-of-fold
predictions of the labels so far: on all of them alike (`plain`), weighted so that their confidence
is spread as the pool's (`matched`), weighted by the chance with which each was picked (`sampled`,
where it was by chance), and, in the arms where a share of each batch is drawn at random, on that
audit alone (`audit`) and on all labels with a correction by the audit (`corrected`: what
`learner(audit=...)` does). Beside them stands no temperature at all (`none`). Judged on the rows of
the pool without a label, against the temperature that those rows themselves would choose (`best`):
estimated less true NLL and ECE at T = 1, log T less that of the best, and NLL and ECE after. Picks
are made at T = 1, so that all calibrations of an arm see the same labels.
"""

import argparse
import dataclasses
import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from sklearn.datasets import load_digits

import bayesal
from bayesal import acquire, calibrate, likelihoods, metrics, networks, posteriors, scores
from experiments import runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """Arms share pools and first labels, seed by seed. Audits are shares in percent."""

    seeds: int = 10
    rounds: int = 8
    size: int = 10
    draws: int = 32
    test: int = 500
    hidden: int = 64
    steps: int = 150
    folds: int = 4
    audit: int = 20
    strata: int = 4


STRATEGIES = {
    "bald": acquire.top(scores.bald),
    "margin": acquire.top(scores.margin),
    "power": acquire.power(scores.bald, beta=1.0),
    "uniform": acquire.uniform(),
}
FIT = calibrate.temperature()
CORRECTED = jax.jit(functools.partial(calibrate.corrected, FIT))
FIGURES = ("log_t", "nll_bias", "ece_bias", "nll", "ece")


def load(config: Config, seed: int) -> runs.Data:
    """The test set is the same for every seed; the pool's order is not."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    test, pool = (
        order[: config.test],
        np.random.default_rng(seed + 1).permutation(order[config.test :]),
    )
    scaled = (x / 16).astype(np.float32)
    return runs.Data(
        jnp.asarray(scaled[pool]),
        y[pool].astype(np.int32),
        jnp.asarray(scaled[test]),
        y[test].astype(np.int32),
    )


@jax.jit
def tempered(log_probs: jax.Array, temperature: jax.Array) -> jax.Array:
    """Averaged prediction of draws tempered jointly."""
    return likelihoods.average(likelihoods.temper(log_probs, temperature))


def chances(values: np.ndarray, free: np.ndarray, picks: np.ndarray) -> list[float]:
    """The chance of each pick among the rows that were left, in proportion to their scores."""
    left, out = np.where(free, np.maximum(values, 0.0), 0.0).astype(np.float64), []
    for pick in picks:
        out.append(float(left[pick] / left.sum()))
        left[pick] = 0.0
    return out


def judged(log_probs: jax.Array, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """NLL, and calibration error less what luck adds."""
    return float(metrics.nll(log_probs, labels, weights=weights)), metrics.ece(
        log_probs, labels, bins=10, equal_mass=True, debiased=True, weights=weights
    )


class Judge:
    """Fits every temperature after a round, and says how each does on the rest of the pool."""

    def __init__(
        self,
        config: Config,
        posterior: bayesal.Posterior,
        data: runs.Data,
        by_chance: bool,
        audited: bool,
    ):
        self.config, self.posterior, self.data, self.by_chance, self.audited = (
            config,
            posterior,
            data,
            by_chance,
            audited,
        )
        self.chances: list[float] = []

    def __call__(
        self, record: dict, state: bayesal.LearnerState, selection: bayesal.Selection | None
    ) -> None:
        """Adds the figures of each way to the record."""
        pool, labels = self.data.pool, self.data.labels
        count, rows = int(state.ledger.count), len(labels)
        if not self.chances:
            self.chances = [1 / (rows - m) for m in range(count)]  # the first labels
        known = np.arange(state.ledger.indices.shape[0]) < count
        free = np.asarray(state.ledger.available(rows))
        draws = bayesal.predictive_of(self.posterior, state, self.config.draws)(pool)
        held_out, _, _ = bayesal.out_of_fold(
            self.posterior, state, pool, num_folds=self.config.folds, num_draws=self.config.draws
        )
        own = np.asarray(state.ledger.labels)
        flat, flat_pool = tempered(held_out, jnp.float32(1.0)), tempered(draws, jnp.float32(1.0))
        truth = judged(flat_pool, labels, free)
        best = FIT(draws, jnp.asarray(labels), jnp.asarray(free)).temperature
        record["best"] = {
            "log_t": float(jnp.log(best)),
            **dict(zip(("nll", "ece"), judged(tempered(draws, best), labels, free), strict=True)),
        }
        for way, weights in self.weights(
            state, known, np.asarray(flat), np.asarray(flat_pool)
        ).items():
            fitted = FIT(held_out, state.ledger.labels, jnp.asarray(weights))
            if way == "corrected":  # its weights are the audit's
                fitted = CORRECTED(
                    held_out, state.ledger.labels, jnp.asarray(known), jnp.asarray(weights)
                )
            found = dict(
                zip(
                    ("nll", "ece"),
                    judged(tempered(draws, fitted.temperature), labels, free),
                    strict=True,
                )
            )
            estimate = judged(flat, own, weights) if weights.any() else (np.nan, np.nan)
            record[way] = {
                "log_t": float(jnp.log(fitted.temperature) - jnp.log(best)),
                "nll_bias": estimate[0] - truth[0],
                "ece_bias": estimate[1] - truth[1],
                "labels": float(calibrate.effective_sample_size(jnp.asarray(weights))),
                **found,
            }
        record["none"] = {"log_t": -float(jnp.log(best)), "nll": truth[0], "ece": truth[1]}
        if selection is not None and self.by_chance:
            self.chances += chances(
                np.asarray(scores.bald(draws)), free, np.asarray(selection.indices)
            )

    def weights(
        self,
        state: bayesal.LearnerState,
        known: np.ndarray,
        flat: np.ndarray,
        flat_pool: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """What each label counts, by each way."""
        count = int(known.sum())
        padded = lambda weights: np.pad(np.asarray(weights, np.float32), (0, len(known) - count))
        confidence = np.exp(flat.max(1))[:count]
        ways = {
            "plain": known.astype(np.float32),
            "matched": padded(
                calibrate.poststratification_weights(
                    confidence, np.exp(flat_pool.max(1)), strata=self.config.strata
                )
            ),
        }
        if self.by_chance:
            ways["sampled"] = padded(
                calibrate.inverse_probability_weights(np.array(self.chances), len(flat_pool))
            )
        if self.audited:
            ways["audit"] = ways["corrected"] = np.asarray(
                bayesal.audit_mask(state, self.data.pool)
            ).astype(np.float32)
        return ways


def arms(config: Config) -> tuple[bayesal.Posterior, dict[str, tuple[bayesal.Learner, bool, bool]]]:
    """Learners by name, whether their picks have known chances, and whether they audit."""
    posterior = posteriors.mc_dropout(networks.mlp(64, 10, (config.hidden,)))
    options = dict(
        size=config.size,
        capacity=20 + config.rounds * config.size,
        num_draws=config.draws,
        hparams=bayesal.HParams(steps=config.steps),
    )
    build = lambda strategy, audit: bayesal.learner(
        posterior, strategy, audit=audit / 100, **options
    )
    found = {
        name: (build(strategy, 0), name == "power", False) for name, strategy in STRATEGIES.items()
    }
    found |= {
        f"{name} + audit": (build(STRATEGIES[name], config.audit), False, True)
        for name in STRATEGIES
        if name != "uniform"
    }
    return posterior, found


def rounded(value: object) -> object:
    """Five digits are plenty."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def main(config: Config, out: Path) -> list[dict]:
    """Every arm and seed, one after another, and what follows from them."""
    posterior, learners = arms(config)
    folder, records = runs.Folder(out, config), []
    for seed in range(config.seeds):
        data = load(config, seed)
        first = runs.first_labels(data.labels, 2, seed)
        for name, (learner, by_chance, audited) in learners.items():
            judge = Judge(config, posterior, data, by_chance, audited)
            for record in runs.run(
                name, learner, posterior, data, first, seed, config.rounds, config.draws, judge
            ):
                record = {
                    k: rounded(v)
                    for k, v in record.items()
                    if k not in ("scores", "asked", "hparams")
                }
                folder.write(record)
                records.append(record)
        screen.say(f"seed {seed} of {config.seeds} done")
    report(records, folder)
    return records


def per_seed(records: list[dict], arm: str, way: str, figure: str) -> np.ndarray:
    """One mean over rounds for each seed; rounds in which there was nothing to measure are left
    out.
    """
    measured = lambda r: r.get(way, {}).get(figure) is not None and np.isfinite(r[way][figure])
    return runs.seed_means(
        [r for r in records if r["strategy"] == arm and r["round"] > 0 and measured(r)],
        lambda r: r[way][figure],
    )


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds, and half of a 95 % interval by Student's t."""
    return float(values.mean()), float(
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    ) if len(values) > 1 else np.nan


def report(records: list[dict], folder: runs.Folder) -> None:
    """Mean and 95 % interval over seeds of every figure by every way; what is below the arm's
    `none` is paired seed by seed.
    """
    table = screen.Table(
        title="rest of the pool, mean over rounds, 95 % intervals over seeds; NLL and ECE after: "
        "paired differences from T = 1"
    )
    for column in (
        "arm",
        "way",
        "NLL, est. - true",
        "ECE, est. - true",
        "log T - best",
        "NLL - none",
        "ECE - none",
        "NLL - best",
    ):
        table.add_column(
            column, justify="left" if column in ("arm", "way") else "right", overflow="fold"
        )
    for arm in dict.fromkeys(r["strategy"] for r in records):
        for way in ("none", "plain", "matched", "sampled", "audit", "corrected", "best"):
            found = {f: per_seed(records, arm, way, f) for f in FIGURES}
            if not len(found["nll"]):
                continue
            against = lambda figure, other, found=found, arm=arm: (
                found[figure] - per_seed(records, arm, other, figure)
            )
            shown = {
                "nll_bias": found["nll_bias"],
                "ece_bias": found["ece_bias"],
                "log_t": found["log_t"] if way != "best" else np.zeros(0),
                "nll_none": against("nll", "none"),
                "ece_none": against("ece", "none"),
                "nll_best": against("nll", "best"),
            }
            figures = {name: interval(values) for name, values in shown.items() if len(values)}
            levels = {figure: interval(found[figure]) for figure in ("nll", "ece")}
            folder.write(
                {
                    "kind": "summary",
                    "strategy": arm,
                    "way": way,
                    **{k: list(v) for k, v in figures.items()},
                    **{k: list(v) for k, v in levels.items()},
                }
            )
            table.add_row(
                arm,
                way,
                *(
                    f"{figures[k][0]:+.3f} ± {figures[k][1]:.3f}" if k in figures else ""
                    for k in shown
                ),
            )
    screen.console.print(table)
    audits = [
        arm for arm in dict.fromkeys(r["strategy"] for r in records) if arm.endswith(" + audit")
    ]
    pairs = [(arm, "corrected", arm, other) for arm in audits for other in ("plain", "audit")]
    pairs += [(arm, "corrected", arm.removesuffix(" + audit"), "plain") for arm in audits]
    for arm, way, other_arm, other in pairs:
        gaps = {
            figure: interval(
                per_seed(records, arm, way, figure) - per_seed(records, other_arm, other, figure)
            )
            for figure in ("nll", "ece")
        }
        folder.write(
            {
                "kind": "paired",
                "strategy": arm,
                "way": way,
                "less": [other_arm, other],
                **{k: list(v) for k, v in gaps.items()},
            }
        )
        screen.say(
            f"{arm}, {way} less {other_arm}, {other}: "
            + ", ".join(f"{k} {v[0]:+.3f} ± {v[1]:.3f}" for k, v in gaps.items())
        )
    for arm in dict.fromkeys(r["strategy"] for r in records):
        mean = np.array(
            [
                np.mean(
                    [r["accuracy"] for r in records if (r["strategy"], r["seed"]) == (arm, seed)]
                )
                for seed in sorted({r["seed"] for r in records})
            ]
        )
        folder.write({"kind": "accuracy", "strategy": arm, "accuracy": list(interval(mean))})
        screen.say(
            f"{arm}: accuracy, mean over rounds {interval(mean)[0]:.3f} ± {interval(mean)[1]:.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"))
    for field in dataclasses.fields(Config):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    out = given.pop("out")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(Config(**given), out)
