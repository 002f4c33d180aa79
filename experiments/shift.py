"""Calibration under shift: nets that know 200 upright digits look at turned ones.

    python -m experiments.shift --data FOLDER          # or BAYESAL_DATA=FOLDER; reads what
    experiments.mnist reads

Each method learns the same random MNIST images and fits one temperature to them out of fold, as a
learner does in every round. Then test images are turned by more and more, and judged at T = 1 and
at that temperature, with the same draws. Ovadia et al. 2019 (https://arxiv.org/abs/1906.02530) did
so with LeNet-5 and all of MNIST.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

import bayesal
from bayesal import acquire, calibrate, likelihoods, metrics, networks, plots, posteriors, scores
from experiments import mnist, pictures, runs, screen


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; all methods see the same images, seed by seed."""

    methods: tuple[str, ...] = ("point", "mc_dropout", "ensemble", "laplace", "variational")
    seeds: int = 10
    labels: int = 200
    test: int = 2_000
    step: int = 15
    hidden: int = 64
    steps: int = 300
    members: int = 5
    draws: int = 32


# name -> (network, config) -> posterior; and the dropout rate, which only MC dropout needs
METHODS = {
    "point": (lambda net, c: posteriors.point(net), 0.0),
    "mc_dropout": (lambda net, c: posteriors.mc_dropout(net), 0.3),
    "ensemble": (lambda net, c: posteriors.ensemble(net, members=c.members), 0.0),
    "laplace": (lambda net, c: posteriors.last_layer_laplace(net), 0.0),
    "variational": (lambda net, c: posteriors.variational(net), 0.0),
}
FIGURES = ("accuracy", "nll", "ece", "over", "entropy", "auroc")
TOLD = (0, 15, 30, 45, 60, 90, 180)  # angles of the table


def turned(images: np.ndarray, degrees: int) -> np.ndarray:
    """uint8 images `[n, h, w]` turned about their middles, linearly interpolated, on black."""
    return (
        ndimage.rotate(images, degrees, axes=(1, 2), reshape=False, order=1) if degrees else images
    )


def judged(log_probs: jax.Array, labels: np.ndarray) -> dict[str, float]:
    """Figures of an averaged prediction, its mean entropy, and how well entropy finds the errors
    (nan if there are none, or nothing else).
    """
    entropy = np.asarray(scores.entropy(log_probs[None]))
    wrong = np.asarray(log_probs).argmax(axis=1) != labels
    found = metrics.auroc(entropy, wrong) if 0 < wrong.sum() < len(wrong) else float("nan")
    return runs.figures(log_probs, labels) | {"entropy": float(entropy.mean()), "auroc": found}


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Every method and seed at every angle; the tables and the picture."""
    raw, folder, records = mnist.read(data_folder), runs.Folder(out, config), []
    net = networks.mlp(raw["x_train"][0].size, 10, (config.hidden,))
    parts = {
        name: (
            METHODS[name][0](net, config),
            bayesal.HParams(dropout=METHODS[name][1], steps=config.steps),
        )
        for name in config.methods
    }
    learners = {
        name: bayesal.learner(
            posterior,
            acquire.uniform(),
            size=config.labels,
            capacity=config.labels,
            num_draws=posterior.members or config.draws,
            calibrate=calibrate.temperature(),
            hparams=hparams,
        )
        for name, (posterior, hparams) in parts.items()
    }
    for seed in range(config.seeds):
        rng = np.random.default_rng(seed)
        known, asked = (
            rng.permutation(len(raw[f"x_{part}"]))[:count]
            for part, count in (("train", config.labels), ("test", config.test))
        )
        x, answers = jnp.asarray(raw["x_train"][known]), raw["y_test"][asked].astype(np.int32)
        views = {
            angle: jnp.asarray(turned(raw["x_test"][asked], angle))
            for angle in range(0, 181, config.step)
        }
        for name, (init, _, tell, *_) in learners.items():
            state = tell(
                init(jax.random.key(seed), x),
                x,
                np.arange(len(x)),
                raw["y_train"][known].astype(np.int32),
            )
            bound = bayesal.predictive_of(
                parts[name][0],
                state._replace(temperature=jnp.float32(1.0)),
                parts[name][0].members or config.draws,
            )
            for angle, view in views.items():
                draws = bound(view)
                before, after = (
                    likelihoods.average(likelihoods.temper(draws, t))
                    for t in (jnp.float32(1.0), state.temperature)
                )
                record = {
                    "kind": "angle",
                    "method": name,
                    "seed": seed,
                    "angle": angle,
                    "temperature": float(state.temperature),
                }
                records.append(
                    record | {"before": judged(before, answers), "after": judged(after, answers)}
                )
                folder.write(records[-1])
        screen.say(f"seed {seed} of {config.seeds} done")
    report(records, folder)
    pictures.save(picture(records), out / "shift.png")
    return records


def per_seed(records: list[dict], method: str, way: str, figure: str, angles) -> np.ndarray:
    """A number for each seed: the mean of a figure over angles."""
    return runs.seed_means(
        [r for r in records if r["method"] == method and r["angle"] in angles],
        lambda r: r[way][figure],
    )


def report(records: list[dict], folder: runs.Folder) -> None:
    """Means at every angle, some of them as a table; then what is paired."""
    methods, angles = (list(dict.fromkeys(r[key] for r in records)) for key in ("method", "angle"))
    table = screen.Table(title="mean over seeds, T = 1 / fitted T")
    for column in (
        "method",
        "angle",
        "accuracy",
        "NLL",
        "ECE",
        "confidence - accuracy",
        "entropy",
        "AUROC, errors",
    ):
        table.add_column(column, justify="left" if column == "method" else "right", overflow="fold")
    for name in methods:
        for angle in angles:
            means = {
                way: {f: float(per_seed(records, name, way, f, (angle,)).mean()) for f in FIGURES}
                for way in ("before", "after")
            }
            folder.write({"kind": "mean", "method": name, "angle": angle, **means})
            if angle in TOLD:
                table.add_row(
                    name,
                    str(angle),
                    f"{means['before']['accuracy']:.3f}",
                    *(f"{means['before'][f]:.3f} / {means['after'][f]:.3f}" for f in FIGURES[1:]),
                )
    screen.console.print(table)
    beside(records, methods, folder)


def beside(records: list[dict], methods: list[str], folder: runs.Folder) -> None:
    """What the temperature changes, and each method less `point`: means over upright and turned
    views, paired by seed.
    """
    pairs = {
        f"{figure}, fitted T - T = 1": (figure, "after", None, "before")
        for figure in ("nll", "ece", "auroc")
    }
    if "point" in methods:
        pairs |= {
            f"{figure}, {said} - point's": (figure, way, "point", way)
            for figure in ("accuracy", "nll", "ece", "auroc")
            for said, way in (("T = 1", "before"), ("fitted T", "after"))
        }
    table = screen.Table(title="paired differences, 95 % intervals over seeds")
    for column in ("turned by", "method", *pairs):
        table.add_column(
            column,
            justify="left" if column in ("turned by", "method") else "right",
            overflow="fold",
        )
    for place, angles in {"0": (0,), "15 to 60": range(1, 61), "more": range(61, 181)}.items():
        for name in methods if any(r["angle"] in angles for r in records) else ():
            of = lambda figure, way, method, angles=angles: per_seed(
                records, method, way, figure, angles
            )
            gaps = {
                said: runs.paired(of(figure, way, name) - of(figure, other_way, other or name))
                for said, (figure, way, other, other_way) in pairs.items()
            }
            folder.write({"kind": "paired", "method": name, "turned_by": place, **gaps})
            table.add_row(place, name, *(runs.said(gap) for gap in gaps.values()))
    screen.console.print(table)


def picture(records: list[dict]):
    """Accuracy, NLL and ECE by angle: T = 1 dashed, the fitted T solid."""
    import matplotlib.pyplot as plt

    methods, angles = (list(dict.fromkeys(r[key] for r in records)) for key in ("method", "angle"))
    figure, axes = plt.subplots(1, 3, figsize=(16.0, 4.4), layout="constrained")
    for ax, field in zip(axes, ("accuracy", "nll", "ece"), strict=True):
        before, after = (
            {
                name: np.stack(
                    [per_seed(records, name, way, field, (angle,)) for angle in angles], axis=1
                )
                for name in methods
            }
            for way in ("before", "after")
        )
        plots.calibration_under_shift(
            angles, after, ax, before=before, metric=field, unit="turned by, degrees"
        )
        ax.set_xticks(range(0, 181, 30))
    figure.suptitle("Turned MNIST; the temperature is fitted on upright digits", fontsize=11)
    return figure


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, METHODS, "runs/shift"))
