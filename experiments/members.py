"""How many members, and where the temperature goes: ensembles of 1 to 10 nets on scikit-learn's
digits.

    python -m experiments.members            # ten seeds

Ten nets are trained on the same labels, for too short a time, as long as the library's default, and
for too long; smaller ensembles are disjoint groups of them, and figures are means over groups. Four
ways of a temperature, fitted on labels that no net has seen: none (T = 1); `each`, every member its
own, then the average; `joint`, one for all members before the average (what `calibrate.temperature`
fits); `pooled`, the average of untempered members, then one. Rahaman & Thiery 2021
(https://arxiv.org/abs/2007.08792) found that averages of calibrated nets are not calibrated: they
are too unsure.
"""

import argparse
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import calibrate, likelihoods, networks, plots, posteriors
from bayesal.predictive import bind
from experiments import pictures, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment: `labels` to train on, `held` to fit temperatures on, the rest of the 1,797 to
    judge by.
    """

    seeds: int = 10
    most: int = 10
    labels: int = 100
    held: int = 200
    hidden: int = 64
    steps: tuple[int, ...] = (100, 300, 3_000)


SIZES = (1, 2, 3, 5, 10)
WAYS = ("none", "each", "joint", "pooled")
FIT = calibrate.temperature(prior_std=0.5, doubt=0.0)  # its labels were seen by no net


def tempered(
    way: str, held: jax.Array, labels: jax.Array, shown: jax.Array
) -> tuple[jax.Array, float]:
    """Averaged prediction of one group's members `[K, n, C]` by a way, and its mean log T: fitted
    on `held`, used on `shown`.
    """
    known = jnp.ones(len(labels), bool)
    fitted = lambda log_probs: FIT(log_probs, labels, known).temperature
    if way == "none":
        return likelihoods.average(shown), 0.0
    if way == "joint":
        temperature = fitted(held)
        return likelihoods.average(likelihoods.temper(shown, temperature)), float(
            jnp.log(temperature)
        )
    if way == "pooled":
        temperature = fitted(likelihoods.average(held)[None])
        return likelihoods.temper(likelihoods.average(shown), temperature), float(
            jnp.log(temperature)
        )
    each = [fitted(member[None]) for member in held]
    return likelihoods.average(
        jnp.stack([likelihoods.temper(member, t) for member, t in zip(shown, each, strict=True)])
    ), float(np.mean(np.log(each)))


def main(config: Config, out: Path) -> list[dict]:
    """Every seed, length of training, size and way; the table and the picture."""
    x, y = load_digits(return_X_y=True)
    posterior = posteriors.ensemble(networks.mlp(64, 10, (config.hidden,)), members=config.most)
    fit, folder, records = jax.jit(posterior.fit), runs.Folder(out, config), []
    for seed in range(config.seeds):
        parts = np.split(
            np.random.default_rng(seed).permutation(len(x)),
            [config.labels, config.labels + config.held],
        )
        known, held, rest = (jnp.asarray(x[rows] / 16, jnp.float32) for rows in parts)
        labels, answers, truth = (y[rows].astype(np.int32) for rows in parts)
        keys = jax.random.split(jax.random.key(seed))
        fresh = posterior.init(keys[0], known[0])
        for steps in config.steps:
            labeled = bayesal.Labeled(known, jnp.asarray(labels), jnp.int32(config.labels))
            state, info = fit(
                keys[1], fresh, labeled, bayesal.HParams(dropout=0.0, steps=jnp.int32(steps))
            )
            if (np.asarray(info.failed_at) >= 0).any():
                raise FloatingPointError(f"seed {seed}: a fit failed at step {info.failed_at}")
            bound = bind(posterior, state, state)  # a draw is a member
            for record in grouped(config, bound(held), jnp.asarray(answers), bound(rest), truth):
                records.append({"kind": "members", "seed": seed, "steps": steps} | record)
                folder.write(records[-1])
        screen.say(f"seed {seed} of {config.seeds} done")
    report(records, folder)
    pictures.save(picture(records), out / "members.png")
    return records


def grouped(
    config: Config, held: jax.Array, answers: jax.Array, rest: jax.Array, truth: np.ndarray
) -> Iterator[dict]:
    """Figures on the rest by every size and way, means over groups."""
    for size in (size for size in SIZES if size <= config.most):
        groups = [slice(at, at + size) for at in range(0, config.most - size + 1, size)]
        for way in WAYS:
            made = [tempered(way, held[rows], answers, rest[rows]) for rows in groups]
            found = [runs.figures(predicted, truth) | {"log_t": log_t} for predicted, log_t in made]
            yield {"members": size, "way": way} | {
                k: float(np.mean([f[k] for f in found])) for k in found[0]
            }


def per_seed(records: list[dict], steps: int, size: int, way: str, figure: str) -> np.ndarray:
    """A figure, seed by seed."""
    return np.array(
        [r[figure] for r in records if (r["steps"], r["members"], r["way"]) == (steps, size, way)]
    )


def report(records: list[dict], folder: runs.Folder) -> None:
    """Means, and paired differences: to the way `none` of the same size, to the way `joint`, and to
    one member by the same way.
    """
    table = screen.Table(title="mean over seeds; differences paired, 95 % intervals")
    for column in (
        "steps",
        "members",
        "way",
        "T",
        "accuracy",
        "NLL",
        "ECE",
        "confidence - accuracy",
        "NLL - none",
        "NLL - joint",
        "ECE - joint",
        "NLL - one member's",
    ):
        table.add_column(column, justify="left" if column == "way" else "right", overflow="fold")
    for steps, size in dict.fromkeys((r["steps"], r["members"]) for r in records):
        for way in WAYS:
            of = lambda figure, steps=steps, size=size, way=way: per_seed(
                records, steps, size, way, figure
            )
            means = {
                figure: float(of(figure).mean()) for figure in ("log_t", "accuracy", "nll", "ece")
            } | {"over": runs.paired(of("over"))}
            gaps = {
                "nll_less_none": of("nll") - of("nll", way="none"),
                "nll_less_joint": of("nll") - of("nll", way="joint"),
                "ece_less_joint": of("ece") - of("ece", way="joint"),
                "nll_less_one": of("nll") - of("nll", size=1),
            }
            gaps = {what: runs.paired(gap) for what, gap in gaps.items()}
            folder.write(
                {"kind": "summary", "steps": steps, "members": size, "way": way, **means, **gaps}
            )
            table.add_row(
                str(steps),
                str(size),
                way,
                f"{np.exp(means['log_t']):.2f}",
                *(f"{means[k]:.3f}" for k in ("accuracy", "nll", "ece")),
                *(runs.said(gap) for gap in (means["over"], *gaps.values())),
            )
    screen.console.print(table)


def picture(records: list[dict]):
    """NLL, ECE and confidence less accuracy by members, a line for each way; a row for each length
    of training.
    """
    import matplotlib.pyplot as plt

    lengths, sizes = (list(dict.fromkeys(r[key] for r in records)) for key in ("steps", "members"))
    figure, axes = plt.subplots(
        len(lengths), 3, figsize=(15.0, 3.4 * len(lengths)), layout="constrained", squeeze=False
    )
    shown = {"nll": "NLL (nats)", "ece": "ECE", "over": "mean confidence less accuracy"}
    for row, steps in zip(axes, lengths, strict=True):
        for ax, (field, said) in zip(row, shown.items(), strict=True):
            found = {
                way: np.stack(
                    [per_seed(records, steps, size, way, field) for size in sizes], axis=1
                )
                for way in WAYS
            }
            plots.learning_curves(found, ax, labels=sizes, metric=field)
            ax.set_title(f"{said}, {steps} steps", loc="left", fontsize=11)
            ax.set(xticks=sizes, xlabel="members", ylabel=said)
        row[2].axhline(0, color=pictures.GRAY, lw=0.8)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/members"))
    for field in dataclasses.fields(Config):
        parser.add_argument(
            f"--{field.name}",
            type=int,
            default=field.default,
            nargs="+" if field.name == "steps" else None,
        )
    given = vars(parser.parse_args())
    out = given.pop("out")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(Config(**given | {"steps": tuple(given["steps"])}), out)
