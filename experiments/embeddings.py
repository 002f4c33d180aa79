"""Frozen features and a small head: which head, and which strategy?

    python -m experiments.embeddings --data FOLDER   # or BAYESAL_DATA=FOLDER, which holds
    sms_minilm.npz and uci_classification.npz; `--sets digits` needs none. A quarter of an hour

Heads: every head is fitted on the same random labels, 20 to 500, and judged on 1,000 rows that
nothing saw. `logistic` is `posteriors.logistic`; `laplace` is `posteriors.last_layer_laplace` on a
linear net, whose prior's scale maximizes the marginal likelihood; `map` is the mean of `logistic`
alone; `sklearn` is scikit-learn's `LogisticRegression` as shipped. The averages of a posterior are
of 50 draws.

Strategies: `bayesal.simulate` with `posteriors.logistic`, 20 typical rows first and then 10 a
round, on sentence embeddings of SMS (is it spam? 13 % are) and the pixels of digits.
"""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

import bayesal
from bayesal import acquire, metrics, networks, posteriors, scores, select
from bayesal.predictive import bind
from bayesal.types import Labeled
from experiments import defaults, runs

COUNTS = (20, 50, 200, 500)
HEADS = ("sms", "digits", "segment", "phoneme")
STRATEGIES = {
    "margin": acquire.top(scores.margin),
    "power": acquire.power(),
    "batch_bald": acquire.batch_bald(),
    "badge": acquire.badge(),
    "typiclust": acquire.typiclust(),
    "drop_query": acquire.drop_query(),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    sets: tuple[str, ...] = ("sms", "digits")
    seeds: int = 10
    rounds: int = 20
    size: int = 10
    draws: int = 50
    test: int = 1000
    pool: int = 3000


# --- heads


@functools.cache
def programs(head: str, width: int, classes: int, draws: int):
    """A fit, and the averages and the draws' own predictions of rows, compiled."""
    if head == "logistic":
        posterior = posteriors.logistic(classes)
    else:
        posterior = posteriors.last_layer_laplace(networks.mlp(width, classes, ()))

    @jax.jit
    def play(key, x, y, new):
        state = posterior.init(key, x[0])
        data = Labeled(x, y, jnp.int32(len(x)))
        state, _ = posterior.fit(key, state, data, bayesal.HParams(steps=0))
        drawn = posterior.draw(jax.random.fold_in(key, 1), state, draws)
        averaged = bind(posterior, state, drawn).log_probs(new)
        if head != "logistic":
            return averaged, averaged
        return averaged, bind(posterior, state, state.layer.mean[None]).log_probs(new)

    return play


def theirs(x: np.ndarray, y: np.ndarray, new: np.ndarray, classes: int) -> np.ndarray:
    """scikit-learn's log-probabilities; a class without a label has probability 0."""
    said = np.full((len(new), classes), -np.inf, np.float32)
    if len(np.unique(y)) < 2:
        said[:, y[0]] = 0.0
        return said
    found = LogisticRegression(max_iter=2_000).fit(x, y)
    said[:, found.classes_] = found.predict_log_proba(new)
    return said


def heads(config: Config, data_folder: str | None, folder: runs.Folder) -> list[dict]:
    """A record for each set, number of labels, seed and head."""
    records = []
    for name in HEADS if "sms" in config.sets else config.sets:
        x, y = defaults.load("linear", name, data_folder)
        classes = int(y.max()) + 1
        for count in COUNTS:
            for seed in range(config.seeds):
                order = np.random.default_rng(seed).permutation(len(x))
                known, asked = order[:count], order[count : count + config.test]
                given = jnp.asarray(x[known]), jnp.asarray(y[known]), jnp.asarray(x[asked])
                key = jax.random.key(seed)
                play = functools.partial(programs, width=x.shape[1], classes=classes)
                said = {}
                said["logistic"], said["map"] = play("logistic", draws=config.draws)(key, *given)
                said["laplace"], _ = play("laplace", draws=config.draws)(key, *given)
                said["sklearn"] = theirs(*map(np.asarray, given), classes)
                for head, log_probs in said.items():
                    floor = np.maximum(np.asarray(log_probs), np.log(1e-4))  # or one row is inf
                    records.append(
                        {
                            "kind": "head",
                            "set": name,
                            "labels": count,
                            "seed": seed,
                            "head": head,
                            "accuracy": float(metrics.accuracy(log_probs, y[asked])),
                            "nll": float(-floor[np.arange(len(asked)), y[asked]].mean()),
                        }
                    )
                    folder.write(records[-1])
    return records


def heads_table(records: list[dict]) -> str:
    """Mean NLL and accuracy over seeds, a line per set and number of labels."""
    names = list(dict.fromkeys(r["head"] for r in records))
    cells = list(dict.fromkeys((r["set"], r["labels"]) for r in records))
    mean = lambda cell, head, key: np.mean(
        [r[key] for r in records if (r["set"], r["labels"], r["head"]) == (*cell, head)]
    )
    lines = ["| set, labels | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for cell in cells:
        values = [f"{mean(cell, h, 'nll'):.3f} / {mean(cell, h, 'accuracy'):.3f}" for h in names]
        lines.append(f"| {cell[0]}, {cell[1]} | " + " | ".join(values) + " |")
    return "\n".join(lines)


# --- strategies


def compared(name: str, config: Config, data_folder: str | None, out: Path) -> bayesal.Results:
    """Every strategy with every seed on one set."""
    x, y = defaults.load("linear", name, data_folder)
    order = np.random.default_rng(0).permutation(len(x))
    test, pool = np.split(order[: config.test + config.pool], [config.test])
    first = [
        np.asarray(select.typiclust(jax.random.key(seed), x[pool], 20).indices)
        for seed in range(config.seeds)
    ]
    return bayesal.simulate(
        STRATEGIES,
        x[pool].astype(np.float16),
        y[pool],
        test=(x[test], y[test]),
        posterior=posteriors.logistic(int(y.max()) + 1),
        seeds=config.seeds,
        rounds=config.rounds,
        size=config.size,
        first=np.stack(first),
        metrics=("accuracy", "balanced_accuracy", "nll", "ece"),
        num_draws=config.draws,
        folder=out / "runs" / name,
    )


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Both parts: tables on screen, records and a picture in the folder."""
    folder = runs.Folder(out, config)
    records = heads(config, data_folder, folder)
    print("mean test NLL / accuracy\n" + heads_table(records))
    figure, panels = plt.subplots(
        1, len(config.sets), figsize=(7.5 * len(config.sets), 4.5), squeeze=False
    )
    for name, axes in zip(config.sets, panels[0], strict=True):
        results = compared(name, config, data_folder, out)
        print(f"\n{name}\n{results.table(metric='balanced_accuracy')}")
        for record in results.to_records():
            records.append({"kind": "round", "set": name} | record)
            folder.write(records[-1])
        results.plot(axes, metric="balanced_accuracy")
        axes.set_title(f"{name}: {axes.get_title(loc='left').lower()}", loc="left")
    figure.tight_layout()
    figure.savefig(out / "curves.png", dpi=110, bbox_inches="tight")
    return records


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, {"sms": None, "digits": None}, "runs/embeddings"))
