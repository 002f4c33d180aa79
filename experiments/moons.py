"""How sure is every posterior, and where? Two moons, every method beside Hamiltonian Monte Carlo.

    python -m experiments.moons          # some minutes; the picture and the numbers go to
    runs/moons

Sixty points, one small net with two hidden layers for all methods that have one. The yardstick is a
long run of NUTS on all its weights; above each map stands the total variation distance between the
method's averaged prediction and the yardstick's, averaged over a grid much wider than the data. The
method `nuts` is another, shorter run: its distance is the noise of the measure. Gaussian processes
and logistic regression have another prior over functions than the net: their distance says that,
not that they are wrong.
The upper map shows BALD (nats), the lower the probability of class 1.

The prior is three times as wide as the default, which lets the net bend: on 2,000 fresh points NUTS
then loses 0.17 nats (at the default 0.44, with a nearly straight boundary). `variational` and `svi`
maximize the true evidence bound here; "cold" is the default `kl_weight`. All methods are fitted
with `keys` different keys; distances are means over them, maps those of the first.
"""

import argparse
import dataclasses
import itertools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpyro.diagnostics import split_gelman_rubin

from bayesal import networks, posteriors, scores
from bayesal.types import HParams, Labeled
from experiments import pictures, runs

HIDDEN = (16, 16)
NET = networks.mlp(2, 2, HIDDEN)


@dataclasses.dataclass(frozen=True)
class Config:
    """One figure: `draws` of every method on a grid of `side` x `side` points up to `reach` from
    the middle, for `keys` keys.
    """

    methods: tuple[str, ...] = ()
    points: int = 60
    noise: float = 0.15
    keys: int = 3
    draws: int = 100
    side: int = 60
    reach: float = 3.0
    steps: int = 1500
    learning_rate: float = 1e-2
    weight_decay: float = 1e-4
    dropout: float = 0.1
    prior_scale: float = 3.0
    warmup: int = 300
    chains: int = 6
    samples: int = 100


class Net(nnx.Module):
    """The layers of `networks.mlp(2, 2, HIDDEN)`, as a numpyro program takes them."""

    def __init__(self, rngs):
        sizes = (2, *HIDDEN, 2)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])

    def __call__(self, x):
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


def lifted(scale):
    """The same net with the same prior as a numpyro program: what `svi` takes."""

    def model(x):
        import numpyro.distributions as dist
        from numpyro.contrib.module import random_nnx_module

        prior = lambda name, shape: dist.Normal(
            0.0, scale * (0.1 if len(shape) < 2 else shape[0] ** -0.5)
        )
        return random_nnx_module("net", Net(nnx.Rngs(0)), prior)(x)

    return model


def guide(model):
    """Mean-field, beginning in the prior."""
    from numpyro.infer.autoguide import AutoNormal
    from numpyro.infer.initialization import init_to_sample

    return AutoNormal(model, init_loc_fn=init_to_sample, init_scale=0.05)


def waves(x):
    """Features that stand for a frozen model's: 200 random waves of length 1."""
    ways, shift = np.random.default_rng(0).normal(size=(2, 200)), np.linspace(0, 2 * np.pi, 200)
    return jnp.cos(x @ jnp.float32(ways) + jnp.float32(shift))


METHODS = {
    "nuts": lambda c: posteriors.nuts(
        NET, warmup=c.warmup, samples=c.draws // 4, batch_size=c.points
    ),
    "nuts, last layer": lambda c: posteriors.nuts(
        NET, on="last", warmup=c.warmup, samples=c.draws // 4, batch_size=c.points
    ),
    "mc_dropout": lambda c: posteriors.mc_dropout(NET),
    "ensemble": lambda c: posteriors.ensemble(NET, members=c.draws),
    "ensemble, priors": lambda c: posteriors.ensemble(NET, members=c.draws, priors=True),
    "variational": lambda c: posteriors.variational(NET, kl_weight=1.0),
    "variational, rank 5": lambda c: posteriors.variational(NET, rank=5, kl_weight=1.0),
    "variational, cold": lambda c: posteriors.variational(NET),
    "svi": lambda c: posteriors.svi(lifted(c.prior_scale), guide),
    "laplace": lambda c: posteriors.last_layer_laplace(NET),
    "laplace_all": lambda c: posteriors.linearized_laplace(NET),
    "swag": lambda c: posteriors.swag(NET),
    "sgmcmc": lambda c: posteriors.sgmcmc(NET, cycles=c.draws // 10, samples=10, speed=10.0),
    "logistic": lambda c: posteriors.logistic(2),
    "logistic, 200 waves": lambda c: posteriors.logistic(2, features=waves),
    "gp": lambda c: posteriors.gp_classification(2),
    "gp, 20 inducing": lambda c: posteriors.gp_classification(2, inducing=20),
}


def moons(count=60, noise=0.15, seed=0):
    """Two half circles that reach into each other, centered."""
    random = np.random.default_rng(seed)
    angle, y = random.uniform(0, np.pi, count), np.arange(count) % 2
    x = np.stack(
        [
            np.where(y == 0, np.cos(angle), 1 - np.cos(angle)),
            np.where(y == 0, np.sin(angle), 0.5 - np.sin(angle)),
        ],
        axis=1,
    )
    return (x - [0.5, 0.25] + noise * random.normal(size=x.shape)).astype(np.float32), y.astype(
        np.int32
    )


def fitting(posterior, config, draws):
    """The program `(key, data, grid) -> log-probabilities [K, n, C] of fitted draws, and what
    happened`.
    """
    hparams = HParams(
        config.learning_rate, config.weight_decay, config.dropout, config.prior_scale, config.steps
    )

    @jax.jit
    def program(key, data, grid):
        keys = jax.random.split(key, 3)
        state, info = posterior.fit(keys[1], posterior.init(keys[0], data.x[0]), data, hparams)
        found = posterior.draw(keys[2], state, draws)
        return jax.lax.map(
            lambda d: jax.vmap(lambda x: posterior.apply(state, d, x))(grid), found
        ), info

    return program


def predicted(program, key, data, grid):
    """Log-probabilities of one fit, which must have succeeded and be numbers."""
    log_probs, info = program(key, data, grid)
    if (np.asarray(info.failed_at) >= 0).any():
        raise FloatingPointError(f"a fit failed at step {info.failed_at}")
    if not np.isfinite(log_probs).all():
        raise FloatingPointError(
            f"{np.isnan(log_probs).sum()} predictions are NaN, {np.isinf(log_probs).sum()} infinite"
        )
    return log_probs


def measured(name, config, data, grid, truth, folder):
    """One method with every key: its distances to the yardstick, and the maps of the first key."""
    start = time.perf_counter()
    program = fitting(METHODS[name](config), config, config.draws)
    found = [predicted(program, jax.random.key(key), data, grid) for key in range(config.keys)]
    means = [np.exp(np.asarray(log_probs)).mean(0)[:, 1] for log_probs in found]
    bald = [np.asarray(scores.bald(log_probs)) for log_probs in found]
    record = {
        "kind": "method",
        "method": name,
        "tv": [float(np.abs(p - truth).mean()) for p in means],
        "bald": [float(b.mean()) for b in bald],
        "seconds": time.perf_counter() - start,
    }
    folder.write(record)
    print(
        f"{name:20} {record['seconds']:6.1f} s with compiling  TV "
        f"{np.mean(record['tv']):.3f} ({min(record['tv']):.3f}-{max(record['tv']):.3f})"
        f"  mean BALD {np.mean(record['bald']):.3f}",
        flush=True,
    )
    return record, {
        "p": means[0],
        "bald": bald[0],
        "title": f"{name}\nTV to HMC {np.mean(record['tv']):.3f}",
    }


def picture(maps, x, y, axis, columns=8):
    """BALD above P(class 1) for every method, in as many bands as needed."""
    import matplotlib.pyplot as plt

    columns = min(columns, len(maps))
    bands = -(-len(maps) // columns)
    figure, axes = plt.subplots(
        2 * bands,
        columns,
        figsize=(2.0 * columns + 0.6, 4.5 * bands),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    highest, shown = max(m["bald"].max() for m in maps.values()), {}
    for ax in axes.flat:
        ax.set_axis_off()
    for at, found in enumerate(maps.values()):
        band, column = divmod(at, columns)
        for row, key, top, cmap in ((0, "bald", highest, "viridis"), (1, "p", 1.0, "RdBu_r")):
            ax = axes[2 * band + row, column]
            ax.set_axis_on()
            shown[key] = ax.pcolormesh(
                axis,
                axis,
                found[key].reshape(len(axis), -1),
                vmin=0,
                vmax=top,
                cmap=cmap,
                shading="auto",
                rasterized=True,
            )
            for c, color in ((0, pictures.BLUE), (1, pictures.VERMILION)):
                ax.scatter(*x[y == c].T, s=4, color=color, edgecolor="white", linewidth=0.3)
            ax.set_xticks([]), ax.set_yticks([]), ax.set_aspect("equal")
        axes[2 * band, column].set_title(found["title"], fontsize=9)
    for band in range(bands):
        for row, (key, label) in enumerate((("bald", "BALD, nats"), ("p", "P(class 1)"))):
            figure.colorbar(
                shown[key], ax=axes[2 * band + row], label=label, fraction=0.03, aspect=18, pad=0.01
            )
    return figure


def main(config: Config, out: Path) -> list[dict]:
    """Sample the yardstick, measure every method, draw the figure."""
    x, y = moons(config.points, config.noise)
    data = Labeled(jnp.asarray(x), jnp.asarray(y), jnp.int32(len(x)))
    axis = np.linspace(-config.reach, config.reach, config.side)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), jnp.float32)
    folder = runs.Folder(out, config)
    yardstick = posteriors.nuts(
        NET,
        warmup=config.warmup,
        chains=config.chains,
        samples=config.samples,
        batch_size=config.points,
    )
    log_probs = predicted(
        fitting(yardstick, config, config.chains * config.samples), jax.random.key(100), data, grid
    )
    truth = np.exp(np.asarray(log_probs)).mean(0)[:, 1]
    by_chain = jnp.exp(log_probs[:, :, 1]).reshape(config.chains, config.samples, -1)
    r_hat = split_gelman_rubin(np.asarray(by_chain))
    folder.write(
        {
            "kind": "yardstick",
            "draws": len(log_probs),
            "bald": float(scores.bald(log_probs).mean()),
            "r_hat_median": float(np.median(r_hat)),
            "r_hat_max": float(r_hat.max()),
        }
    )
    print(
        f"yardstick: {len(log_probs)} samples of NUTS; split R-hat of the predictions, "
        f"median {np.median(r_hat):.3f}, largest {r_hat.max():.3f}",
        flush=True,
    )
    maps = {
        "yardstick": {
            "p": truth,
            "bald": np.asarray(scores.bald(log_probs)),
            "title": f"HMC: the yardstick\n{len(log_probs)} samples",
        }
    }
    records = []
    for name in config.methods or METHODS:
        record, maps[name] = measured(name, config, data, grid, truth, folder)
        records.append(record)
    print(pictures.save(picture(maps, x, y, axis), out / "moons.png"))
    return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/moons"))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    for field in dataclasses.fields(Config)[1:]:
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default
        )
    given = vars(parser.parse_args())
    where = given.pop("out")
    main(Config(**given | {"methods": tuple(given["methods"])}), where)
