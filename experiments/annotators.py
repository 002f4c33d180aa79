"""How right is the inferred truth, with 1 to 5 answers an item? Digits, and six simulated people.

    python -m experiments.annotators             # five seeds: two minutes of one core

600 of scikit-learn's digits a seed. The people: right with .95, .85, .70 and .60, wrong evenly over
the other digits; a spammer who says any digit; and one who always calls a 4 a 9, a 3 a 5 and a 7 a
1, and is right with .9 otherwise. Each item is answered by 1, 2, 3 or 5 of them, drawn at random.

The net is `posteriors.logistic` on the pixels, and predicts out of fold (5 folds). Rows: `majority`
votes; `net` out of fold, fitted on the votes; `DS` with almost no prior (off-diagonal .01); `DS
(Dirichlet)` with the default prior; `CrowdLab` of votes and net; `ours`: Dawid-Skene with the net
as prior; `ours, refitted`: `annotators.refit`, with a second net, fitted on the first truth.
`CrowdLab, last net` has that second net. Figures are the share of
the 600 items whose most probable class is the true one.

Two more tables: without a net, one label an item and a second one for a share of them; and, from
one answer an item, 300 more that `annotators.rank` chooses, beside as many chosen at random. Each
of the six is asked equally often.
"""

import argparse
import dataclasses
import os
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import bayesal
from bayesal import annotators, likelihoods, posteriors
from bayesal.predictive import bind
from bayesal.types import Labeled
from experiments import pictures, runs

CLASSES = 10
ACCURACIES = (0.95, 0.85, 0.70, 0.60)
CONFUSED = {4: 9, 3: 5, 7: 1}
COUNTS = (1, 2, 3, 5)  # answers an item
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)  # of items with a second label
SHOWN = {
    "majority": pictures.GRAY,
    "net": "#E69F00",
    "DS (Dirichlet)": pictures.GREEN,
    "CrowdLab": pictures.VERMILION,
    "ours, refitted": pictures.BLUE,
}
OTHERWISE = 0.9  # of the one who confuses three digits, on the other seven


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    seeds: int = 5
    items: int = 600
    folds: int = 5
    more: int = 300
    draws: int = 50


def confusions() -> np.ndarray:
    """P(said | true) of the six people."""
    even = lambda right: (
        np.full((CLASSES, CLASSES), (1 - right) / (CLASSES - 1))
        + (right - (1 - right) / (CLASSES - 1)) * np.eye(CLASSES)
    )
    last = even(OTHERWISE)
    for true, said in CONFUSED.items():
        last[true] = np.eye(CLASSES)[said]
    return np.stack([*map(even, ACCURACIES), np.full((CLASSES, CLASSES), 1 / CLASSES), last])


def answered(random: np.random.Generator, truth: np.ndarray, count: int) -> np.ndarray:
    """Answers `[N, 6]`: `count` people an item, -1 for the others."""
    people = confusions()
    said = np.stack([[random.choice(CLASSES, p=row[t]) for row in people] for t in truth])
    asked = random.random(said.shape).argsort(axis=1) < count
    return np.where(asked, said, -1)


class Net:
    """Out-of-fold predictions of a posterior fitted on soft labels."""

    def __init__(self, x: np.ndarray, config: Config, seed: int):
        soft = likelihoods.categorical(soft=True)
        self.posterior = posteriors.logistic(CLASSES, likelihood=soft)
        self.x, self.draws, self.key = jnp.asarray(x), config.draws, jax.random.key(seed)
        parts = np.random.default_rng(seed).permutation(len(x)) % config.folds
        self.parts = [np.flatnonzero(parts == fold) for fold in range(config.folds)]
        self.fit = jax.jit(self._fit)

    def _fit(self, key, labels, weights, left_out):
        posterior = self.posterior
        weights = weights.at[left_out].set(0.0)
        data = Labeled(self.x, labels, jnp.int32(len(self.x)), weights)
        state, _ = posterior.fit(key, posterior.init(key, self.x[0]), data, bayesal.HParams())
        drawn = posterior.draw(jax.random.fold_in(key, 1), state, self.draws)
        return bind(posterior, state, drawn).log_probs(self.x[left_out])

    def __call__(self, labels: jax.Array, weights: jax.Array) -> np.ndarray:
        """`(labels [N, C], weights [N]) -> log_probs [N, C]`."""
        said = np.zeros(labels.shape, np.float32)
        for fold, part in enumerate(self.parts):
            said[part] = self.fit(jax.random.fold_in(self.key, fold), labels, weights, part)
        self.last = said
        return said


def rows(answers: np.ndarray, net: Net) -> dict[str, np.ndarray]:
    """Log-probabilities of the true classes by every way."""
    votes = annotators.majority(answers, classes=CLASSES)
    first = net(jnp.exp(votes), jnp.ones(len(answers)))
    with warnings.catch_warnings():  # of one answer an item: falls back to one coin
        warnings.simplefilter("ignore")
        plain, dirichlet = (
            annotators.dawid_skene(answers, classes=CLASSES, diagonal=diagonal, off=off)
            for diagonal, off in ((0.0, 0.01), (3.0, 0.5))
        )
    refitted = annotators.refit(net, answers, classes=CLASSES)
    found = {
        "majority": votes,
        "net": first,
        "DS": plain.log_probs,
        "DS (Dirichlet)": dirichlet.log_probs,
        "CrowdLab": annotators.crowdlab(answers, first),
        "CrowdLab, last net": annotators.crowdlab(answers, net.last),
        "ours": annotators.dawid_skene(answers, classes=CLASSES, prior=first).log_probs,
        "ours, refitted": refitted.log_probs,
    }
    return {name: np.asarray(log_probs) for name, log_probs in found.items()}


def played(config: Config, x: np.ndarray, y: np.ndarray, seed: int) -> list[dict]:
    """A record for each number of answers and each way."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(x))[: config.items]
    net, truth = Net(x[chosen], config, seed), y[chosen]
    records = []
    for count in COUNTS:
        for way, log_probs in rows(answered(random, truth, count), net).items():
            of_true = log_probs[np.arange(len(truth)), truth]
            records.append(
                {
                    "kind": "truth",
                    "way": way,
                    "answers": count,
                    "seed": seed,
                    "accuracy": right(log_probs, truth),
                    # a vote has classes of probability 0
                    "nll": float(-np.maximum(of_true, np.log(1e-4)).mean()),
                }
            )
    return records


def right(log_probs: jax.Array, truth: np.ndarray) -> float:
    """Share of items whose most probable class is the true one."""
    return float((np.asarray(log_probs).argmax(axis=1) == truth).mean())


def overlapping(config: Config, y: np.ndarray, seed: int) -> list[dict]:
    """Without a net: one label an item, and a second one for a share of them."""
    random = np.random.default_rng(seed)
    truth = y[random.permutation(len(y))[: config.items]]
    said = answered(random, truth, 2)
    records = []
    for share in SHARES:
        answers = said.copy()
        for item in np.flatnonzero(random.random(len(truth)) >= share):
            answers[item, random.choice(np.flatnonzero(said[item] >= 0))] = -1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = {
                "majority": annotators.majority(answers, classes=CLASSES),
                "one coin": annotators.one_coin(answers, classes=CLASSES).log_probs,
                "DS (Dirichlet)": annotators.dawid_skene(answers, classes=CLASSES).log_probs,
            }
        for way, log_probs in found.items():
            given = {"kind": "overlap", "way": way, "answers": share, "seed": seed}
            records.append(given | {"accuracy": right(log_probs, truth)})
    return records


def asking(config: Config, x: np.ndarray, y: np.ndarray, seed: int) -> list[dict]:
    """One answer an item, and then `more` chosen ones in three batches: by `rank`, or at random
    from those that were not asked.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(x))[: config.items]
    net, truth = Net(x[chosen], config, seed), y[chosen]
    every, batch = answered(random, truth, len(confusions())), config.more // 3
    start = np.where(answered(random, truth, 1) >= 0, every, -1)
    records = []
    for way in ("random", "rank"):
        answers = start.copy()
        for spent in range(4):
            state = annotators.refit(net, answers, classes=CLASSES)
            given = {"kind": "asking", "way": way, "answers": spent * batch, "seed": seed}
            records.append(given | {"accuracy": right(state.log_probs, truth)})
            gain = annotators.information(state, answers)
            if way == "random":
                gain = np.where(answers < 0, random.random(answers.shape), -np.inf)
            none = np.zeros((0, answers.shape[1]))
            # as many questions for each person
            asked = annotators.rank(gain, none, batch, most=-(-batch // answers.shape[1]))
            cells = asked.items, asked.annotators
            answers[cells] = every[cells]
    return records


def mean(records: list[dict], way: str, count: int, figure: str = "accuracy") -> np.ndarray:
    """A figure of each seed."""
    return np.array(
        [r[figure] for r in records if (r["way"], r["answers"]) == (way, count)], np.float64
    )


def table(records: list[dict]) -> str:
    """Mean accuracy and NLL over seeds, a line for each way."""
    lines = [
        "| way | " + " | ".join(f"{count} an item" for count in COUNTS) + " |",
        "|---" * (len(COUNTS) + 1) + "|",
    ]
    for way in dict.fromkeys(r["way"] for r in records):
        figures = [
            [mean(records, way, count, figure).mean() for figure in ("accuracy", "nll")]
            for count in COUNTS
        ]
        cells = [f"{accuracy:.3f} / {nll:.3f}" for accuracy, nll in figures]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(records: list[dict], path: Path) -> None:
    """Accuracy against answers an item, a line for each way and a point for each seed."""
    _, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for (way, color), marker in zip(SHOWN.items(), "osD^v", strict=True):
        values = np.array([mean(records, way, count) for count in COUNTS])
        axes.plot(COUNTS, values.mean(axis=1), color=color, marker=marker, label=way)
        axes.plot(COUNTS, values, ".", color=color, alpha=0.4, markersize=4)
    axes.set(xlabel="answers an item", ylabel="share of items with the right class", xticks=COUNTS)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    pictures.save(axes, path)


def main(config: Config, out: Path) -> list[dict]:
    """Every seed; a table on screen, records and a picture in the folder."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    folder, records = runs.Folder(out, config), []
    for seed in range(config.seeds):
        for record in played(config, x, y, seed):
            folder.write(record)
            records.append(record)
    print("accuracy / NLL of the inferred classes\n" + table(records))
    for rival in ("CrowdLab", "CrowdLab, last net"):
        gap = mean(records, "ours, refitted", 2) - mean(records, rival, 2)
        folder.write({"kind": "gap", "rival": rival, "answers": 2, "gap": gap.tolist()})
        print(f"2 an item, ours, refitted less {rival}: {gap.mean():+.3f} ({gap.round(3)})")
    further = []
    for seed in range(config.seeds):
        further += overlapping(config, y, seed) + asking(config, x, y, seed)
    for kind, said in (("overlap", "share of second labels"), ("asking", "answers chosen")):
        some = [record for record in further if record["kind"] == kind]
        print(f"accuracy against the {said}")
        for way in dict.fromkeys(record["way"] for record in some):
            at = sorted({record["answers"] for record in some})
            print(f"{way:>16}", *(f"{n}: {mean(some, way, n).mean():.3f} " for n in at))
    for record in further:
        folder.write(record)
    picture(records, out / "annotators.png")
    return records + further


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/annotators"))
    for field in dataclasses.fields(Config):
        parser.add_argument(f"--{field.name}", type=int, default=field.default)
    given = vars(parser.parse_args())
    where = given.pop("out")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    main(Config(**given), where)
