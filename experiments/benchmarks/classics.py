"""MC dropout, ensembles and variational inference: against torch, and against one point net.
`python -m experiments.benchmarks.classics`

Four questions. MC-dropout prediction by the reference cnn, the same masks for all rows, beside
torch that does the same, to the same numbers. Ten nets trained on 200 images, beside ten torch
trainings one after another, and for every way to run the ten on this machine: `vmap`, a loop,
devices side by side (those in a process of their own, with one CPU device per core). What training
and 50 draws cost relative to a point net and its one forward pass. Memory by the number of rows.
Torch is left out, with a word, where it is missing.
"""

import os
import statistics
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from flax import nnx
from numpyro.contrib.module import random_nnx_module
from numpyro.infer import autoguide, init_to_sample
from sklearn.datasets import load_digits

from bayesal import _chunks, _training, metrics, networks, pools, posteriors
from bayesal.predictive import bind
from bayesal.types import HParams, Labeled
from experiments.benchmarks._memory import watched
from experiments.benchmarks.copies import interleaved, loops

try:
    import torch
    from torch import nn as torch_nn
    from torch.nn import functional as F
except ImportError:
    torch = None

SHAPE, MEMBERS, RATE, LABELS, CHUNK = (28, 28, 1), 10, 0.3, 200, 250
DRAWS, ROWS = 100, 2000
STEPS = {"mlp": 300, "cnn": 30}


def digits(kind):
    """Real digits, as 64 numbers or as images of 28x28: every pixel three times each way, and a
    frame.
    """
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    if kind == "cnn":
        x = np.pad(
            np.kron(x.reshape(-1, 8, 8), np.ones((1, 3, 3), np.float32)), ((0, 0), (2, 2), (2, 2))
        )[..., None]
    return x, y.astype(np.int32)


def network(kind):
    return networks.mlp(64, 10) if kind == "mlp" else networks.cnn(SHAPE, 10)


def print_ways(title, medians, base):
    for at, (name, seconds) in enumerate(medians.items()):
        print(
            f"{'' if at else title:<46}{name:<34}{seconds:>9.3f} s{seconds / medians[base]:>8.2f}",
            flush=True,
        )


# prediction


def masks(key):
    """What the three dropout layers of the cnn multiply their channels with, for one draw."""
    rngs = nnx.Rngs(dropout=key)
    layers = (1, 1, 1, 32), (1, 1, 1, 64), (1, 128)
    return [networks.dropout(jnp.ones(shape), rngs, RATE).reshape(-1) for shape in layers]


def torch_layers(params):
    """The cnn's kernels as torch wants them."""
    pick = lambda name: (
        np.asarray(params[name]["kernel"][...]),
        torch.tensor(np.asarray(params[name]["bias"][...])),
    )
    convs = [
        (torch.tensor(k.transpose(3, 2, 0, 1).copy()), b) for k, b in (pick("conv1"), pick("conv2"))
    ]
    dense, bias = pick("dense")
    dense = dense.reshape(4, 4, 64, 128).transpose(2, 0, 1, 3).reshape(1024, 128)
    last, last_bias = pick("last")
    return convs, (torch.tensor(dense.T.copy()), bias), (torch.tensor(last.T.copy()), last_bias)


def torch_prediction(params, keys, x):
    convs, dense, last = torch_layers(params)
    drawn = [[torch.tensor(np.asarray(m)) for m in masks(key)] for key in keys]
    images = torch.tensor(x.transpose(0, 3, 1, 2).copy())

    def one(h, draw):
        for (kernel, bias), mask in zip(convs, draw[:2], strict=True):
            h = F.relu(F.max_pool2d(F.conv2d(h, kernel, bias), 2)) * mask[:, None, None]
        return F.log_softmax(F.linear(F.relu(F.linear(h.flatten(1), *dense)) * draw[2], *last), -1)

    def run():
        with torch.inference_mode():
            parts = [
                torch.stack([one(images[i : i + CHUNK], draw) for draw in drawn])
                for i in range(0, len(images), CHUNK)
            ]
            return torch.cat([torch.logsumexp(part, 0) - np.log(len(drawn)) for part in parts])

    return run


def prediction(draws=DRAWS, rows=ROWS):
    x = np.tile(digits("cnn")[0], (2, 1, 1, 1))[:rows]
    posterior = posteriors.mc_dropout(network("cnn"))
    state = jax.jit(posterior.init)(jax.random.key(0), x[0])._replace(rate=jnp.float32(RATE))
    drawn = posterior.draw(jax.random.key(1), state, draws)
    model = bind(posterior, state, drawn)
    pool = jnp.asarray(x)
    ways = {"ours": lambda: model.log_probs(pool)}
    if torch:
        ways["torch"] = torch_prediction(state.params, drawn, x)
        apart = float(np.abs(ways["torch"]().numpy() - np.asarray(model.log_probs(pool))).max())
        print(f"largest difference between ours and torch's log-probabilities: {apart:.1e}")
    print_ways(f"predict, cnn, K = {draws}, N = {rows}", interleaved(ways, 3), "ours")


def memory(draws=10):
    posterior = posteriors.mc_dropout(network("cnn"))
    state = jax.jit(posterior.init)(jax.random.key(0), jnp.zeros(SHAPE))._replace(
        rate=jnp.float32(RATE)
    )
    model = bind(posterior, state, posterior.draw(jax.random.key(1), state, draws))
    for rows in (2048, 8192, 32768):
        x = jax.random.uniform(jax.random.key(2), (rows, *SHAPE))
        jax.block_until_ready(model.log_probs(x))
        with watched() as seen:
            jax.block_until_ready(model.log_probs(x))
        print(
            f"{'memory of predicting, cnn, K = 10' if rows == 2048 else '':<46}N = "
            f"{rows:<30}{(seen['peak'] - seen['before']) / 2**20:>7.0f} MB",
            flush=True,
        )


# training


def torch_net(kind):
    drop = partial(torch_nn.Dropout2d, RATE)
    if kind == "mlp":
        return torch_nn.Sequential(
            torch_nn.Linear(64, 128),
            torch_nn.ReLU(),
            torch_nn.Dropout(RATE),
            torch_nn.Linear(128, 10),
        )
    convs = [
        torch_nn.Conv2d(1, 32, 5),
        torch_nn.MaxPool2d(2),
        torch_nn.ReLU(),
        drop(),
        torch_nn.Conv2d(32, 64, 5),
        torch_nn.MaxPool2d(2),
        torch_nn.ReLU(),
        drop(),
    ]
    return torch_nn.Sequential(
        *convs,
        torch_nn.Flatten(),
        torch_nn.Linear(1024, 128),
        torch_nn.ReLU(),
        torch_nn.Dropout(RATE),
        torch_nn.Linear(128, 10),
    )


def torch_training(kind, x, y, seed):
    """One net, as `_training.sgd` trains it: Adam with decoupled decay, a cosine rate, one random
    order walked round and round.
    """
    torch.manual_seed(seed)
    net, x, y = (
        torch_net(kind),
        torch.tensor(np.moveaxis(x, -1, 1).copy() if kind == "cnn" else x),
        torch.tensor(y.astype(np.int64)),
    )
    adam = torch.optim.AdamW(
        net.parameters(), HParams().learning_rate, weight_decay=HParams().weight_decay
    )
    cosine, order = (
        torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS[kind]),
        torch.randperm(len(x)),
    )
    for step in range(STEPS[kind]):
        rows = order[(step * 32 + torch.arange(32)) % len(x)]
        loss = F.cross_entropy(net(x[rows]), y[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        cosine.step()
    return net.eval()


def members(kind, over):
    """`MEMBERS` fits run by `over`, compiled: a function of nothing."""
    x, y = digits(kind)
    net, labeled = (
        network(kind),
        Labeled(jnp.asarray(x[:LABELS]), jnp.asarray(y[:LABELS]), jnp.int32(LABELS)),
    )
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    params = jax.jit(lambda keys: jax.lax.map(lambda key: net.init(key, x[0]), keys))(keys)
    one = lambda key, params: _training.sgd(
        key, params, _training.nll(net, RATE), labeled, HParams(steps=jnp.int32(STEPS[kind]))
    )[0]
    run = jax.jit(lambda keys, params: over(one, keys, params))
    return lambda: run(keys, params), loops(_chunks.over_fits, keys, params)


def vmapped(function, *args):
    return jax.vmap(function)(*args)


def looped(function, *args):
    return jax.lax.map(lambda one: function(*one), args)


def trainings(kind):
    x, y = digits(kind)
    ways = {name: members(kind, over)[0] for name, over in (("vmap", vmapped), ("loop", looped))}
    chosen = "loop" if members(kind, vmapped)[1] else "vmap"
    ways = {name + (" (as chosen)" if name == chosen else ""): run for name, run in ways.items()}
    if torch:
        ways["torch, one after another"] = lambda: [
            torch_training(kind, x[:LABELS], y[:LABELS], seed) for seed in range(MEMBERS)
        ]
    medians = interleaved(ways, 3)
    print_ways(
        f"train {MEMBERS} x {kind}, {LABELS} images, {STEPS[kind]} steps",
        medians,
        f"{chosen} (as chosen)",
    )
    if kind == "mlp":
        quality(ways[f"{chosen} (as chosen)"]())


def quality(params):
    """Both sides learn the same: mean accuracy of the single nets on digits they have not seen."""
    x, y = digits("mlp")
    net = network("mlp")
    log_probs = jax.vmap(
        lambda p: jax.vmap(lambda xi: jax.nn.log_softmax(net.apply(p, xi, None, 0.0)))(x[500:])
    )(params)
    ours = statistics.mean(float(metrics.accuracy(one, y[500:])) for one in log_probs)
    theirs = "torch is missing"
    if torch:
        with torch.inference_mode():
            nets = [torch_training_graded(x, y, seed) for seed in range(MEMBERS)]
        theirs = f"torch {statistics.mean(nets):.3f}"
    print(f"{'':<46}mean accuracy of one net: ours {ours:.3f}, {theirs}")


def torch_training_graded(x, y, seed):
    with torch.inference_mode(False):
        net = torch_training("mlp", x[:LABELS], y[:LABELS], seed)
    return float((net(torch.tensor(x[500:])).argmax(-1).numpy() == y[500:]).mean())


def side_by_side():
    """The same fits, dealt to one CPU device per core."""
    mesh = pools.mesh()
    for kind in STEPS:
        ways = {
            f"{mesh.size} devices, {name}": members(
                kind, lambda f, *a, over=over: _chunks.across(partial(over, f), mesh)(*a)
            )[0]
            for name, over in (("vmap", vmapped), ("loop", looped))
        }
        ways["1 device, vmap"], ways["1 device, loop"] = (
            members(kind, vmapped)[0],
            members(kind, looped)[0],
        )
        print_ways(
            f"train {MEMBERS} x {kind}, in a process of {mesh.size} devices",
            interleaved(ways, 3),
            "1 device, loop",
        )


# relative to a point net


def relative(draws=50):
    x, y = digits("mlp")
    labeled, pool = (
        Labeled(jnp.asarray(x[:LABELS]), jnp.asarray(y[:LABELS]), jnp.int32(LABELS)),
        jnp.asarray(x),
    )
    net = network("mlp")
    methods = {
        "point": posteriors.point(net),
        "mc_dropout": posteriors.mc_dropout(net),
        "ensemble(10)": posteriors.ensemble(net, members=10),
        "ensemble(10, priors)": posteriors.ensemble(net, members=10, priors=True),
        "variational": posteriors.variational(net),
        "variational(rank=5)": posteriors.variational(net, rank=5),
        "svi(AutoNormal)": guided(),
    }
    fits, passes = {}, {}
    for name, posterior in methods.items():
        start = jax.jit(posterior.init)(jax.random.key(0), x[0])
        run = jax.jit(
            lambda key, state, posterior=posterior: posterior.fit(key, state, labeled, HParams())
        )
        fits[name] = partial(run, jax.random.key(1), start)
        state = fits[name]()[0]
        number = 1 if name == "point" else posterior.members or draws
        model = bind(posterior, state, posterior.draw(jax.random.key(2), state, number))
        passes[name] = partial(model.mean, pool)
        print(
            f"{name:<24}accuracy {metrics.accuracy(model.log_probs(pool[500:]), y[500:]):.3f}, "
            f"NLL {metrics.nll(model.log_probs(pool[500:]), y[500:]):.3f}",
            flush=True,
        )
    print_ways(f"fit, mlp, {LABELS} labels, 300 steps", interleaved(fits), "point")
    print_ways(f"predict {len(x)} rows, {draws} draws", interleaved(passes), "point")


def guided():
    module = nnx.Sequential(
        nnx.Linear(64, 128, rngs=nnx.Rngs(0)), jax.nn.relu, nnx.Linear(128, 10, rngs=nnx.Rngs(1))
    )
    prior = lambda name, shape: dist.Normal(0.0, 0.1 if len(shape) < 2 else shape[0] ** -0.5)
    guide = partial(autoguide.AutoNormal, init_loc_fn=init_to_sample, init_scale=0.05)
    return posteriors.svi(
        lambda x: random_nnx_module("net", module, prior)(x), guide, kl_weight=0.01
    )


def main():
    if "--devices" in sys.argv:
        jax.config.update("jax_num_cpu_devices", os.cpu_count())
        return side_by_side()
    print(
        f"{jax.default_backend()}; medians of interleaved runs; last column: relative to the "
        "way named first, as chosen, or the point net"
    )
    if torch is None:
        print("torch is not installed: its rows are left out (the extra `peers` brings it)")
    prediction()
    for kind in STEPS:
        trainings(kind)
    if jax.default_backend() == "cpu":
        subprocess.run(
            [sys.executable, "-m", "experiments.benchmarks.classics", "--devices"], check=True
        )
    relative()
    memory()


if __name__ == "__main__":
    main()
