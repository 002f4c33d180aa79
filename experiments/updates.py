"""What do fresh, warm and online updates save and lose over 20 rounds of active regression?

    python -m experiments.updates --data FOLDER          # or BAYESAL_DATA=FOLDER; reads
    uci_regression.npz (kin8nm)

Last-layer Laplace on a small network with learned noise. Every round brings the same labels to all
ways, so that only the update differs: `fresh` fits all labels from a new initialization, `warm`
with a third of the steps from halfway to the last fit, `online` fits the first labels only and adds
the others to the last layer. `online_waves` does that on random waves of the inputs
(`networks.sngp`, depth 0), where no hidden layer waits to be trained. Seconds are of `tell`, wall
clock and processor; rounds 0 and 1 compile and are left out of the medians.
"""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import acquire, likelihoods, metrics, networks, posteriors
from experiments import pictures, runs


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment; all ways see the same pools, first labels and labels to come, seed
    by seed.
    """

    strategies: tuple[str, ...] = ("fresh", "warm", "online", "online_waves")
    seeds: int = 5
    rounds: int = 20
    first: int = 40
    size: int = 10
    pool: int = 2_000
    test: int = 2_000
    hidden: int = 64
    frequencies: int = 128
    steps: int = 300
    warm_steps: int = 100


WAYS = {
    "fresh": "fresh",
    "warm": "warm",
    "online": "online",
    "online_waves": "online",
}  # name -> update


def load(folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Standardized measurements, and labels as they are."""
    if folder is None:
        raise SystemExit(
            "Say where the data is: --data FOLDER, or BAYESAL_DATA=FOLDER; the folder holds "
            "uci_regression.npz."
        )
    with np.load(Path(folder) / "uci_regression.npz", allow_pickle=False) as file:
        x, y = file["kin8nm_x"], file["kin8nm_y"]
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), y.astype(np.float32)


def build(
    config: Config, x: np.ndarray, y: np.ndarray
) -> dict[str, tuple[bayesal.Posterior, bayesal.Learner]]:
    """Two posteriors, and a learner for each way."""
    likelihood = likelihoods.gaussian(center=float(y.mean()), scale=float(y.std()))
    net = posteriors.last_layer_laplace(
        networks.shared_noise(networks.mlp(x.shape[1], 1, (config.hidden,))), likelihood=likelihood
    )
    waves = posteriors.last_layer_laplace(
        networks.shared_noise(
            networks.sngp(x.shape[1], 1, depth=0, frequencies=config.frequencies)
        ),
        likelihood=likelihood,
    )
    found, capacity = {}, config.first + config.rounds * config.size
    for name in config.strategies:
        posterior = waves if name == "online_waves" else net
        hparams = bayesal.HParams(
            steps=config.warm_steps if name == "warm" else config.steps, dropout=0.0
        )
        found[name] = (
            posterior,
            bayesal.learner(
                posterior,
                acquire.uniform(),
                size=config.size,
                capacity=capacity,
                hparams=hparams,
                update=WAYS[name],
            ),
        )
    return found


def run(
    name: str, config: Config, seed: int, parts: tuple, x: np.ndarray, y: np.ndarray
) -> list[dict]:
    """One way, one seed: a record after every `tell`."""
    order = np.random.default_rng(seed).permutation(len(x))
    test, pool = order[: config.test], order[config.test : config.test + config.pool]
    posterior, (init, _, tell, *_) = parts
    predict = jax.jit(jax.vmap(posterior.marginal, (None, 0)))
    pool_x, test_x = jnp.asarray(x[pool]), jnp.asarray(x[test])
    state, records, known = init(jax.random.key(seed), pool_x), [], 0
    for round in range(config.rounds + 1):
        picks = np.arange(
            known, known + (config.size if round else config.first)
        )  # the pool is in random order
        wall, used = time.perf_counter(), time.process_time()
        state = jax.block_until_ready(tell(state, pool_x, picks, y[pool][picks]))
        wall, used = time.perf_counter() - wall, time.process_time() - used
        known = int(picks[-1]) + 1
        predicted = predict(state.posterior, test_x)
        records.append(
            {
                "kind": "round",
                "strategy": name,
                "seed": seed,
                "round": round,
                "labels": known,
                "rmse": float(metrics.rmse(predicted, y[test])),
                "nll": float(metrics.density_nll(predicted, y[test])),
                "tell_seconds": wall,
                "tell_cpu_seconds": used,
                "prior_scale": float(state.posterior.prior_scale),
            }
        )
    return records


def main(config: Config, data_folder: str | None, out: Path) -> list[dict]:
    """Run everything, the ways taking turns, keep the records, draw the picture, say
    the medians.
    """
    x, y = load(data_folder)
    learners, folder, records = build(config, x, y), runs.Folder(out, config), []
    for seed in range(config.seeds):
        for name in config.strategies:
            found = run(name, config, seed, learners[name], x, y)
            records += found
            for record in found:
                folder.write(record)
            print(
                f"seed {seed}  {name:13}{found[-1]['labels']:5d} labels  RMSE "
                f"{found[-1]['rmse']:.4f}  NLL {found[-1]['nll']:+.3f}",
                flush=True,
            )
    summarize(config, records, folder)
    panels = {
        "rmse": "test RMSE",
        "nll": "test NLL, nats",
        "tell_cpu_seconds": "processor seconds of one update",
    }
    late = [r for r in records if r["round"] > 1]
    pictures.save(
        pictures.panels(late, panels, logarithmic=("tell_cpu_seconds",)), out / "updates.png"
    )
    return records


def summarize(config: Config, records: list[dict], folder: runs.Folder) -> None:
    """At the end, and over all rounds that compiled nothing: errors beside those of fresh fits
    (paired by seed), and seconds beside theirs.
    """
    last = lambda name, field: np.array(
        [r[field] for r in records if r["strategy"] == name and r["round"] == config.rounds]
    )
    middle = lambda name, field: float(
        np.median([r[field] for r in records if r["strategy"] == name and r["round"] > 1])
    )
    for name in config.strategies:
        found = {
            field: [
                float(last(name, field).mean()),
                float(last(name, field).std(ddof=config.seeds > 1) / config.seeds**0.5),
            ]
            for field in ("rmse", "nll")
        }
        seconds = {field: middle(name, field) for field in ("tell_seconds", "tell_cpu_seconds")}
        share = (
            {
                f"{field}_of_fresh": value / middle("fresh", field)
                for field, value in seconds.items()
            }
            if "fresh" in config.strategies
            else {}
        )
        folder.write({"kind": "summary", "strategy": name, **found, **seconds, **share})
        print(
            f"{name:13} RMSE {found['rmse'][0]:.4f} +- {found['rmse'][1]:.4f}  NLL "
            f"{found['nll'][0]:+.3f} +- {found['nll'][1]:.3f}  "
            f"{1e3 * seconds['tell_seconds']:8.1f} ms "
            f"({1e3 * seconds['tell_cpu_seconds']:.1f} ms of processor)"
            + "".join(f"  {v:.3f}" for v in share.values())
        )


if __name__ == "__main__":
    main(*runs.arguments(__doc__, Config, WAYS, "runs/updates"))
