"""One batch from a pool that is spread over many processes. Copy it; the three places to change are
marked.

    srun python -m experiments.distributed --pool pool.npy --out batch.json        # Slurm and Open
    MPI say who is who python -m experiments.distributed --coordinator host:1234 --processes 2
    --process-id 0 ...   # or say it yourself, in every process

Every process reads and scores its own part of the pool; the batch is the one that a single process
finds, and process 0 writes it. Without a launcher and without `--coordinator` it is an ordinary
program on one machine. If one process dies the others stop after JAX's heartbeat timeout, so a long
job should keep its state on disk after every round.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, pools

LAUNCHERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")  # how many processes a launcher started


@dataclasses.dataclass(frozen=True)
class Config:
    """What is asked. `pool` is a .npy file that every process can see, or None for seeded random
    features.
    """

    pool: str | None = None
    rows: int = 20_000
    features: int = 64
    classes: int = 10
    draws: int = 20
    size: int = 10
    candidates: int = 1000
    seed: int = 0
    out: str | None = None


def started_by(environment, coordinator=None, processes=None, process_id=None):
    """The arguments of `jax.distributed.initialize`, or None for a process on its own."""
    if coordinator is not None:
        if processes is None or process_id is None or not 0 <= process_id < processes:
            raise SystemExit(
                "--coordinator needs --processes and a --process-id below it; got "
                f"{processes} and {process_id}."
            )
        return {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process_id,
        }
    if processes is not None or process_id is not None:
        raise SystemExit(
            "--processes and --process-id need --coordinator host:port, the same in every process."
        )
    return {} if any(int(environment.get(name, 1)) > 1 for name in LAUNCHERS) else None


def reader(config):
    """How many rows there are, and `(start, stop) -> rows`: CHANGE THIS to read your pool."""
    if config.pool is not None:
        x = np.load(config.pool, mmap_mode="r", allow_pickle=False)
        return len(x), lambda start, stop: np.array(x[start:stop])

    def read(
        start, stop
    ):  # every row has a seed of its own, so the parts are the same however they are cut
        made = [
            np.random.default_rng([config.seed, row]).standard_normal(config.features, np.float32)
            for row in range(start, stop)
        ]
        return np.stack(made) if made else np.zeros((0, config.features), np.float32)

    return config.rows, read


def network(config):
    """Log-probabilities `[K, n, C]`: CHANGE THIS to your `Predictive`, the same in every process
    (restore one checkpoint in all).
    """
    weights = (
        jax.random.normal(
            jax.random.key(config.seed), (config.draws, config.features, config.classes)
        )
        / config.features**0.5
    )
    weights = np.asarray(2 * weights)
    return lambda x: jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights), axis=-1)


def ask(config, devices=None):
    """The batch, in every process: CHANGE THIS to the strategy of `bayesal.acquire` that
    you want.
    """
    rows, read = reader(config)
    pool = pools.load(read, rows, pools.mesh(devices))
    strategy = acquire.batch_bald(candidates=config.candidates)
    return bayesal.choose(config.seed, network(config), pool, config.size, strategy)


def record(config, selection):
    """What process 0 writes: rows of the pool with their gains, and what certifies them."""
    return {
        "indices": np.asarray(selection.indices).tolist(),
        "gains": np.asarray(selection.scores).tolist(),
        "joint": np.asarray(selection.joint).tolist(),
        "certified": bool(selection.certified),
        "config": dataclasses.asdict(config),
    }


def write(path, answer):
    """All of it or nothing: a reader never sees half a file."""
    part = Path(f"{path}.part")
    part.write_text(json.dumps(answer, indent=1))
    os.replace(part, path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in dataclasses.fields(Config):
        parser.add_argument(
            f"--{field.name}",
            type=str if field.name in ("pool", "out") else int,
            default=field.default,
        )
    for name, kind in (("coordinator", str), ("processes", int), ("process-id", int)):
        parser.add_argument(f"--{name}", type=kind)
    args = vars(parser.parse_args(arguments))
    start = started_by(
        os.environ, args.pop("coordinator"), args.pop("processes"), args.pop("process_id")
    )
    if start is not None:
        jax.distributed.initialize(**start)
    config = Config(**args)
    selection = ask(config)
    if jax.process_index() == 0:
        answer = record(config, selection)
        print(
            f"{jax.process_count()} processes, {jax.device_count()} devices: rows "
            f"{answer['indices']}, certified: {answer['certified']}"
        )
        if config.out is not None:
            write(config.out, answer)


if __name__ == "__main__":
    main()
