"""How many members, and where the temperature goes: ensembles of 1 to 10 nets on scikit-learn's digits.

    python -m experiments.members            # ten seeds

Ten nets are trained on the same labels; smaller ensembles are disjoint groups of them, and figures are means over groups. Four ways of a temperature, fitted on labels
that no net has seen: none (T = 1); `each`, every member its own, then the average; `joint`, one for all members before the average (what `calibrate.temperature` fits);
`pooled`, the average of untempered members, then one. Rahaman & Thiery 2021 (https://arxiv.org/abs/2007.08792) found that averages of calibrated nets are not
calibrated: they are too unsure.
"""

import argparse
import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import calibrate, networks, posteriors, predictions
from bayesal.predictives import Predictive
from experiments import pictures, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment: `labels` to train on, `held` to fit temperatures on, the rest of the 1,797 to judge by."""

    seeds: int = 10
    most: int = 10
    labels: int = 100
    held: int = 200
    hidden: int = 64
    steps: int = 300


SIZES = (1, 2, 3, 5, 10)
WAYS = ("none", "each", "joint", "pooled")
FIT = calibrate.temperature()


def tempered(way: str, held: jax.Array, labels: jax.Array, shown: jax.Array) -> tuple[jax.Array, float]:
    """Averaged prediction of one group's members `[K, n, C]` by a way, and its mean log T: fitted on `held`, used on `shown`."""
    known = jnp.ones(len(labels), bool)
    fitted = lambda log_probs: FIT(log_probs, labels, known).temperature
    if way == "none":
        return predictions.average(shown), 0.0
    if way == "joint":
        temperature = fitted(held)
        return predictions.average(predictions.temper(shown, temperature)), float(jnp.log(temperature))
    if way == "pooled":
        temperature = fitted(predictions.average(held)[None])
        return predictions.temper(predictions.average(shown), temperature), float(jnp.log(temperature))
    each = [fitted(member[None]) for member in held]
    return predictions.average(jnp.stack([predictions.temper(member, t) for member, t in zip(shown, each, strict=True)])), float(np.mean(np.log(each)))


def main(config: Config, out: Path) -> list[dict]:
    """Every seed, size and way; the table and the picture."""
    x, y = load_digits(return_X_y=True)
    posterior = posteriors.ensemble(networks.mlp(64, 10, (config.hidden,)), members=config.most)
    hparams, fit = bayesal.HParams(dropout=0.0, steps=config.steps), jax.jit(posterior.fit)
    folder, records = runs.Folder(out, config), []
    for seed in range(config.seeds):
        order = np.random.default_rng(seed).permutation(len(x))
        known, held, rest = (jnp.asarray(x[rows] / 16, jnp.float32) for rows in np.split(order, [config.labels, config.labels + config.held]))
        labels, answers, truth = (y[rows].astype(np.int32) for rows in np.split(order, [config.labels, config.labels + config.held]))
        keys = jax.random.split(jax.random.key(seed))
        state, info = fit(keys[1], posterior.init(keys[0], known[0]), bayesal.Labeled(known, jnp.asarray(labels), jnp.int32(config.labels)), hparams)
        if (np.asarray(info.failed_at) >= 0).any():
            raise FloatingPointError(f"seed {seed}: a fit failed at step {info.failed_at}")
        bound = Predictive(posterior, state, state, jnp.float32(1.0))  # a draw is a member
        on_held, on_rest = bound(held), bound(rest)
        for size in (size for size in SIZES if size <= config.most):
            groups = [slice(at, at + size) for at in range(0, config.most - size + 1, size)]
            for way in WAYS:
                made = [tempered(way, on_held[rows], jnp.asarray(answers), on_rest[rows]) for rows in groups]
                found = [runs.figures(predicted, truth) | {"log_t": log_t} for predicted, log_t in made]
                records.append({"kind": "members", "seed": seed, "members": size, "way": way} | {k: float(np.mean([f[k] for f in found])) for k in found[0]})
                folder.write(records[-1])
        screen.say(f"seed {seed} of {config.seeds} done")
    report(records, folder)
    pictures.save(picture(records), out / "members.png")
    return records


def per_seed(records: list[dict], size: int, way: str, figure: str) -> np.ndarray:
    """A figure, seed by seed."""
    return np.array([r[figure] for r in records if (r["members"], r["way"]) == (size, way)])


def report(records: list[dict], folder: runs.Folder) -> None:
    """Means, and paired differences: to the way `none` of the same size, to the way `joint`, and to one member by the same way."""
    table = screen.Table(title="mean over seeds; differences paired, 95 % intervals")
    for column in ("members", "way", "T", "accuracy", "NLL", "ECE", "confidence - accuracy", "NLL - none", "NLL - joint", "ECE - joint", "NLL - one member's"):
        table.add_column(column, justify="left" if column == "way" else "right", overflow="fold")
    for size in dict.fromkeys(r["members"] for r in records):
        for way in WAYS:
            of = lambda figure, size=size, way=way: per_seed(records, size, way, figure)
            means = {figure: float(of(figure).mean()) for figure in ("log_t", "accuracy", "nll", "ece")} | {"over": runs.paired(of("over"))}
            gaps = {"nll_less_none": of("nll") - of("nll", way="none"), "nll_less_joint": of("nll") - of("nll", way="joint"),
                    "ece_less_joint": of("ece") - of("ece", way="joint"), "nll_less_one": of("nll") - of("nll", size=1)}
            gaps = {what: runs.paired(gap) for what, gap in gaps.items()}
            folder.write({"kind": "summary", "members": size, "way": way, **means, **gaps})
            table.add_row(str(size), way, f"{np.exp(means['log_t']):.2f}", *(f"{means[k]:.3f}" for k in ("accuracy", "nll", "ece")), *(
                runs.said(gap) for gap in (means["over"], *gaps.values())))
    screen.console.print(table)


def picture(records: list[dict]):
    """NLL, ECE and confidence less accuracy by members, means over seeds, a line for each way."""
    import matplotlib.pyplot as plt

    sizes, paint = list(dict.fromkeys(r["members"] for r in records)), pictures.colors(WAYS)
    figure, axes = plt.subplots(1, 3, figsize=(13.2, 3.8), layout="constrained")
    for ax, (field, title) in zip(axes, {"nll": "NLL, nats", "ece": "ECE", "over": "mean confidence less accuracy"}.items(), strict=True):
        for way in WAYS:
            ax.plot(sizes, [per_seed(records, size, way, field).mean() for size in sizes], "o-", color=paint[way], lw=2, ms=4, label=way)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title(title, loc="left", fontsize=11)
        ax.set(xlabel="members", xticks=sizes)
    axes[2].axhline(0, color=pictures.GRAY, lw=0.8)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/members"))
    for field in dataclasses.fields(Config):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    out = given.pop("out")
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax"))
    main(Config(**given), out)
