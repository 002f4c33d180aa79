"""What every experiment shares: one active-learning run as a stream of records, and a folder that
keeps them.

    python -m experiments.runs FOLDER ...   # compress the records of finished experiments
"""

import argparse
import dataclasses
import gzip
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import metrics


def arguments(
    description: str, config: type, choices: dict, out: str
) -> tuple[Any, str | None, Path]:
    """The command line of an experiment on data of one's own: its configuration, the data's folder,
    and where results go.

    The configuration's first field holds some of the `choices` (none: all of them): its strategies,
    or methods.
    """
    first, *rest = dataclasses.fields(config)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("BAYESAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument(
        f"--{first.name}", nargs="+", choices=list(choices), default=list(first.default or choices)
    )
    for field in rest:
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default
        )
    given = vars(parser.parse_args())
    folder, where = given.pop("data"), given.pop("out")
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    return config(**given | {first.name: tuple(given[first.name])}), folder, where


SMALL = 10_000  # bytes: records this short stay text, which a page of changes can show


class Data(NamedTuple):
    """A pool with hidden labels, and a test set that no choice is made on."""

    pool: jax.Array
    labels: np.ndarray
    test: jax.Array
    test_labels: np.ndarray


class Folder:
    """`results.jsonl` of one experiment: the configuration and versions first, then a line per
    record, on disk at once.
    """

    def __init__(self, path: Path, config: Any):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.file = path / "results.jsonl"
        self.file.write_text("")
        _packed(path).unlink(missing_ok=True)  # of an earlier run
        self.write({"kind": "config", "config": dataclasses.asdict(config), "versions": versions()})

    def write(self, record: dict) -> None:
        """Append one record."""
        with open(self.file, "a") as file:
            file.write(json.dumps(plain(record), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read(path: Path) -> list[dict]:
    """The records of an experiment's folder, compressed or not."""
    file = path / "results.jsonl"
    text = file.read_bytes() if file.exists() else gzip.decompress(_packed(path).read_bytes())
    return [json.loads(line) for line in text.splitlines()]


def pack(path: Path) -> None:
    """Compress a folder's `results.jsonl` to `results.jsonl.gz`, where it is larger than `SMALL`.

    Equal records give equal bytes: no time and no name is written.
    """
    file = path / "results.jsonl"
    if file.exists() and file.stat().st_size > SMALL:
        _packed(path).write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        file.unlink()


def _packed(path: Path) -> Path:
    return path / "results.jsonl.gz"


def plain(value: Any) -> Any:
    """Infinite and missing numbers as null, which every reader of JSON knows."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def versions() -> dict[str, str]:
    """What ran: packages, Python, and the device."""
    found = {name: metadata.version(name) for name in ("jax", "flax", "optax", "numpyro", "numpy")}
    return found | {
        "bayesal": bayesal.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }


def run(
    name: str,
    learner: bayesal.Learner,
    posterior: bayesal.Posterior,
    data: Data,
    first: np.ndarray,
    seed: int,
    rounds: int,
    num_draws: int,
    keep: Callable[[dict, bayesal.LearnerState, Any], None] | None = None,
    judge: Callable[..., dict] | None = None,
) -> Iterator[dict]:
    """One run: the first labels, then `rounds` times ask and tell; a record after every fit.

    `keep(record, state, selection)` may look at a round's state and at what is asked next (None
    after the last); `judge(posterior, state, data, num_draws)` gives a round's figures on the test
    set (default: `evaluate`, for classes).
    """
    init, ask, tell = learner[:3]
    began = time.perf_counter()
    state = tell(init(jax.random.key(seed), data.pool), data.pool, first, data.labels[first])
    tell_seconds = time.perf_counter() - began
    for round in range(rounds + 1):
        record = {
            "kind": "round",
            "strategy": name,
            "seed": seed,
            "round": round,
            "labels": int(state.ledger.count),
        }
        record |= (judge or evaluate)(posterior, state, data, num_draws) | {
            "tell_seconds": tell_seconds
        }
        selection = None
        if round < rounds:
            began = time.perf_counter()
            selection = ask(state, data.pool)
            picks = np.asarray(selection.indices)
            record |= {
                "ask_seconds": time.perf_counter() - began,
                "asked": picks.tolist(),
                "scores": np.asarray(selection.scores).round(5).tolist(),
            }
        if keep is not None:
            keep(record, state, selection)
        yield record
        if selection is not None:
            began = time.perf_counter()
            state = jax.block_until_ready(tell(state, data.pool, picks, data.labels[picks]))
            tell_seconds = time.perf_counter() - began


def predictions(
    posterior: bayesal.Posterior, state: bayesal.LearnerState, x: jax.Array, num_draws: int
) -> tuple[jax.Array, jax.Array]:
    """Averaged predictions `[n, C]` before and after temperature, by the same draws."""
    bound = bayesal.predictive_of(posterior, state, num_draws)
    return dataclasses.replace(bound, temperature=jnp.float32(1.0)).log_probs(x), bound.log_probs(x)


def evaluate(
    posterior: bayesal.Posterior, state: bayesal.LearnerState, data: Data, num_draws: int
) -> dict:
    """Test-set figures of a state, and its hyperparameters."""
    before, after = predictions(posterior, state, data.test, num_draws)
    labels = data.test_labels
    return {
        "accuracy": float(metrics.accuracy(before, labels)),
        "nll_before": float(metrics.nll(before, labels)),
        "nll": float(metrics.nll(after, labels)),
        "ece_before": metrics.ece(before, labels),
        "ece": metrics.ece(after, labels),
        "temperature": float(state.temperature),
        "hparams": {field: float(value) for field, value in state.hparams._asdict().items()},
    }


def figures(log_probs: jax.Array, labels: np.ndarray) -> dict[str, float]:
    """What an averaged prediction `[n, C]` is worth: `ece` less what luck adds to it, `over` the
    mean confidence less the accuracy.

    >>> figures(jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]])), np.array([0, 1]))["over"]
    0.25
    """
    accuracy, confidence = (
        float(metrics.accuracy(log_probs, labels)),
        float(jnp.exp(jnp.max(log_probs, axis=-1)).mean()),
    )
    return {
        "accuracy": accuracy,
        "nll": float(metrics.nll(log_probs, labels)),
        "ece": metrics.ece(log_probs, labels, equal_mass=True, debiased=True),
        "over": confidence - accuracy,
    }


def first_labels(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Rows of `per_class` random points of every class: the same for every strategy of a seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(
        np.concatenate([order[labels[order] == c][:per_class] for c in np.unique(labels)])
    )


def needed(records: list[dict], level: float) -> dict[str, list[float]]:
    """Labels needed to reach an accuracy, per strategy, one number a seed (inf: not reached)."""
    out: dict[str, list[float]] = {}
    for name in dict.fromkeys(r["strategy"] for r in records):
        for seed in sorted({r["seed"] for r in records}):
            curve = [
                (r["labels"], r["accuracy"])
                for r in records
                if (r["strategy"], r["seed"]) == (name, seed)
            ]
            if curve:
                out.setdefault(name, []).append(
                    metrics.labels_needed(*np.array(sorted(curve)).T, level)
                )
    return out


def spread(values: list[float]) -> str:
    """Median and quartiles as people write them; quartiles are order statistics, so that inf stays
    inf.
    """
    low, middle, high = (
        float(np.quantile(values, q, method="inverted_cdf")) for q in (0.25, 0.5, 0.75)
    )
    text = lambda v: "never" if np.isinf(v) else f"{v:.0f}"
    return text(middle) if low == high else f"{text(middle)} ({text(low)}-{text(high)})"


def seed_means(records: list[dict], read: Callable[[dict], float]) -> np.ndarray:
    """One number a seed, in their order: the mean of what is read of its records.

    >>> seed_means(
    ...     [{"seed": 1, "nll": 1.0}, {"seed": 0, "nll": 4.0}, {"seed": 1, "nll": 2.0}],
    ...     lambda r: r["nll"],
    ... )
    array([4. , 1.5])
    """
    found: dict[int, list[float]] = {}
    for record in records:
        found.setdefault(record["seed"], []).append(read(record))
    return np.array([np.mean(found[seed]) for seed in sorted(found)])


def paired(gaps: np.ndarray) -> list[float]:
    """Mean of one difference per seed, and its 95 % interval by Student's t; the mean alone, three
    times, for one seed.

    >>> [round(v, 3) for v in paired(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    middle, low, high = map(float, metrics.mean_interval(gaps))
    return [middle, low, high] if len(gaps) > 1 else [middle] * 3


def said(gap: list[float]) -> str:
    """A difference and its interval, as `paired` gives them."""
    return f"{gap[0]:+.3f} ({gap[1]:+.3f} to {gap[2]:+.3f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        pack(folder)
