"""Deep ensembles on MNIST: accuracy, NLL and calibration error by the number of members.

    python -m experiments.ensembles --data FOLDER      # or BAYESAL_DATA=FOLDER; reads what
    experiments.mnist reads

The largest number of members is trained once; smaller ensembles are disjoint groups of them, and
figures are means over groups. Ovadia et al. 2019 (https://arxiv.org/abs/1906.02530) give such
figures for LeNet-5 and ten members.
"""

import argparse
import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import likelihoods, metrics, networks, posteriors
from bayesal.predictive import bind
from experiments import mnist, runs

CHUNK = 500  # test images looked at together


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; `steps` of `batch` images each."""

    members: tuple[int, ...] = (1, 2, 5, 10)
    labels: int = 60_000
    test: int = 10_000
    steps: int = 800
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    dropout: float = 0.0
    seed: int = 0


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Train, and judge groups of every size."""
    raw, most = mnist.read(data_folder), max(config.members)
    x, y = (
        jnp.asarray(raw["x_train"][: config.labels, ..., None]),
        jnp.asarray(raw["y_train"][: config.labels], jnp.int32),
    )
    test, answers = (
        jnp.asarray(raw["x_test"][: config.test, ..., None]),
        raw["y_test"][: config.test].astype(np.int32),
    )
    posterior = posteriors.ensemble(
        networks.cnn((28, 28, 1), 10), members=most, batch_size=config.batch
    )
    hparams = bayesal.HParams(
        config.learning_rate, config.weight_decay, config.dropout, 1.0, jnp.int32(config.steps)
    )
    state = jax.jit(posterior.init)(jax.random.key(config.seed), x[0])
    state, info = jax.jit(posterior.fit)(
        jax.random.key(config.seed + 1), state, bayesal.Labeled(x, y, jnp.int32(len(y))), hparams
    )
    folder, records = runs.Folder(out, config), []
    bound = bind(posterior, state, state)  # a draw is a member
    log_probs = jnp.concatenate(
        [bound(test[at : at + CHUNK]) for at in range(0, len(test), CHUNK)], axis=1
    )
    for size in config.members:
        groups = [slice(at, at + size) for at in range(0, most - size + 1, size)]
        predicted = [likelihoods.average(log_probs[rows]) for rows in groups]
        of = lambda metric, predicted=predicted: float(
            np.mean([metric(p, answers) for p in predicted])
        )
        record = {
            "kind": "members",
            "members": size,
            "groups": len(groups),
            "accuracy": of(metrics.accuracy),
            "nll": of(metrics.nll),
            "ece": of(metrics.ece),
        }
        folder.write(record)
        records.append(record)
        print(
            f"{size:>3} members ({len(groups)} groups): accuracy {record['accuracy']:.4f}, "
            f"NLL {record['nll']:.4f}, ECE {record['ece']:.4f}",
            flush=True,
        )
    assert (np.asarray(info.failed_at) < 0).all()
    return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("BAYESAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("runs/ensembles"))
    for field in dataclasses.fields(Config)[1:]:
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    given = vars(parser.parse_args())
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", ".cache/jax")
    )
    folder, where = given.pop("data"), given.pop("out")
    main(Config(**given), folder, where)
