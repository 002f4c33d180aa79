"""How sure is every posterior, and where? Two moons, every method beside Hamiltonian Monte Carlo.

    python -m experiments.moons          # a minute or two; the picture and the numbers go to runs/moons

Sixty points, one small net with two hidden layers for all methods that have one. NUTS on all its weights is the yardstick: below each map
stands the total variation distance between the method's averaged prediction and that of NUTS, averaged over a grid much wider than
the data, and between two NUTS runs of other keys as its noise. The upper row shows BALD (nats), the lower the probability of class 1.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import networks, posteriors, scores
from bayesal.types import HParams, Labeled
from experiments import pictures, runs

DRAWS, SIDE, WIDE = 100, 60, 3.0
NET = networks.mlp(2, 2, (16, 16))
HPARAMS = HParams(1e-2, 1e-4, 0.1, 1.0, 1500)


def methods():
    """Every posterior of the library that classifies two-dimensional points, the yardstick first."""
    return {
        "nuts": posteriors.nuts(NET), "mc_dropout": posteriors.mc_dropout(NET), "ensemble": posteriors.ensemble(NET, members=DRAWS),
        "variational": posteriors.variational(NET), "laplace": posteriors.laplace(NET), "swag": posteriors.swag(NET), "sgmcmc": posteriors.sgmcmc(NET, cycles=10, samples=10),
        "gp": posteriors.gp_classification(2)}


def moons(count=60, noise=0.15, seed=0):
    """Two half circles that reach into each other, centered."""
    random = np.random.default_rng(seed)
    angle, y = random.uniform(0, np.pi, count), np.arange(count) % 2
    x = np.stack([np.where(y == 0, np.cos(angle), 1 - np.cos(angle)), np.where(y == 0, np.sin(angle), 0.5 - np.sin(angle))], axis=1)
    return (x - [0.5, 0.25] + noise * random.normal(size=x.shape)).astype(np.float32), y.astype(np.int32)


def predicted(posterior, key, data, grid):
    """Log-probabilities [K, n, C] of fitted draws on the grid, and seconds with compiling."""
    start = time.perf_counter()

    @jax.jit
    def program(key, data, grid):
        keys = jax.random.split(key, 3)
        state, info = posterior.fit(keys[1], posterior.init(keys[0], data.x[0]), data, HPARAMS)
        draws = posterior.draw(keys[2], state, DRAWS)
        return jax.lax.map(lambda d: jax.vmap(lambda x: posterior.apply(state, d, x))(grid), draws), info

    log_probs, info = jax.block_until_ready(program(key, data, grid))
    if (np.asarray(info.failed_at) >= 0).any():
        raise FloatingPointError(f"a fit failed at step {info.failed_at}")
    return log_probs, time.perf_counter() - start


def picture(maps, x, y, axis):
    """A column per method: BALD above, P(class 1) below."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(maps), figsize=(2.1 * len(maps), 4.9), squeeze=False, sharex=True, sharey=True, layout="constrained")
    highest = max(m["bald"].max() for m in maps.values())
    for column, (name, found) in zip(axes.T, maps.items(), strict=True):
        for ax, key, top, cmap in ((column[0], "bald", highest, "viridis"), (column[1], "p", 1.0, "RdBu_r")):
            shown = ax.pcolormesh(axis, axis, found[key].reshape(SIDE, SIDE), vmin=0, vmax=top, cmap=cmap, shading="auto")
            for c, color in ((0, pictures.BLUE), (1, pictures.VERMILION)):
                ax.scatter(*x[y == c].T, s=5, color=color, edgecolor="white", linewidth=0.3)
            ax.set_xticks([]), ax.set_yticks([]), ax.set_aspect("equal")
            if name == list(maps)[-1]:
                figure.colorbar(shown, ax=axes[0 if key == "bald" else 1], label="BALD, nats" if key == "bald" else "P(class 1)", fraction=0.02)
        column[0].set_title(name, fontsize=10)
        column[1].set_xlabel(f"TV to nuts {found['tv']:.3f}", fontsize=9)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/moons"))
    parser.add_argument("--methods", nargs="+", choices=list(methods()), default=list(methods()))
    given = parser.parse_args()
    x, y = moons()
    data = Labeled(jnp.asarray(x), jnp.asarray(y), jnp.int32(len(x)))
    axis = np.linspace(-WIDE, WIDE, SIDE)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), jnp.float32)
    maps, truth = {}, None
    every = methods()
    for name in ["nuts", *(m for m in given.methods if m != "nuts")]:
        log_probs, seconds = predicted(every[name], jax.random.key(0), data, grid)
        p = np.exp(np.asarray(log_probs)).mean(0)[:, 1]
        if truth is None:
            truth = p
            again = np.exp(np.asarray(predicted(every["nuts"], jax.random.key(7), data, grid)[0])).mean(0)[:, 1]
            print(f"two NUTS runs: total variation {np.abs(again - truth).mean():.3f}")
        maps[name] = {"p": p, "bald": np.asarray(scores.bald(log_probs)), "tv": float(np.abs(p - truth).mean())}
        print(f"{name:12} {seconds:6.1f} s with compiling  TV to nuts {maps[name]['tv']:.3f}  mean BALD {maps[name]['bald'].mean():.3f}", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    summary = {name: {"tv": m["tv"], "bald": float(m["bald"].mean())} for name, m in maps.items()}
    (given.out / "results.json").write_text(json.dumps({"versions": runs.versions(), "between_nuts_runs": float(np.abs(again - truth).mean()), "methods": summary}, indent=1))
    print(pictures.save(picture(maps, x, y, axis), given.out / "moons.png"))


if __name__ == "__main__":
    main()
