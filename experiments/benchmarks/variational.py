"""Which weight noise should variational inference use? `python -m
experiments.benchmarks.variational`

On digits with 100 labels: the gradient's variance over weight noise at one fitted state and
minibatch (relative to one shared sample), the time of one step, their product (lower is better),
and held-out NLL, accuracy and BALD when every estimator gets the wall time that one shared sample
needs for 300 steps. Mean over KEYS fits; all at `kl_weight` KL_WEIGHT.
"""

import time

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

from bayesal import _training, networks, scores
from bayesal.posteriors._variational import expected_nll, kl_to_prior, nll, sample, spread
from bayesal.types import HParams, Labeled

KL_WEIGHT, STEPS, CLOCKED, KEYS, DRAWS = 0.01, 300, 100, 4, 50
NETWORK = networks.mlp(64, 10)


def rows(x, y):
    """Labels that all count once, as losses take them."""
    return _training.Minibatch(x, y, jnp.ones(x.shape[0]), jnp.float32(x.shape[0]))


def shared(samples):
    """`samples` sets of weights, each for the whole minibatch."""

    def estimate(key, state, x, y):
        return jax.vmap(lambda k: nll(NETWORK, sample(k, state), rows(x, y)))(
            jax.random.split(key, samples)
        ).mean()

    return estimate


def per_example(key, state, x, y):
    """Fresh weights for every example."""
    one = lambda k, xi, yi: nll(NETWORK, sample(k, state), rows(xi[None], yi[None]))
    return jax.vmap(one)(jax.random.split(key, x.shape[0]), x, y).mean()


def flipout(key, state, x, y):
    """One set of noise; every example flips it by random signs of inputs and of outputs (Wen et al.
    2018).
    """
    params = sample(key, state)

    def signs(key, leaf):
        keys = jax.random.split(key)
        flip = jax.random.rademacher(keys[0], leaf.shape[-1:], leaf.dtype)
        return (
            flip
            if leaf.ndim < 2
            else flip * jax.random.rademacher(keys[1], (*leaf.shape[-2:-1], 1), leaf.dtype)
        )

    def one(key, xi, yi):
        leaves, tree = jax.tree.flatten(params)
        flips = tree.unflatten(
            [signs(k, a) for k, a in zip(jax.random.split(key, len(leaves)), leaves, strict=True)]
        )
        flipped = jax.tree.map(
            lambda m, p, f: m + (p - m) * f.reshape((1,) * (m.ndim - f.ndim) + f.shape),
            state.mean,
            params,
            flips,
        )
        return nll(NETWORK, flipped, rows(xi[None], yi[None]))

    return jax.vmap(one)(jax.random.split(jax.random.fold_in(key, 1), x.shape[0]), x, y).mean()


ESTIMATORS = {
    "shared, 1": shared(1),
    "shared, 4": shared(4),
    "antithetic pair": lambda key, state, x, y: expected_nll(NETWORK, key, state, rows(x, y)),
    "per example": per_example,
    "flipout": flipout,
}


def fit(estimate, labeled):
    """A compiled `(key, steps) -> state`."""

    def loss(state, key, batch):
        kl = KL_WEIGHT * kl_to_prior(state, 1.0) / batch.total
        return estimate(key, state, batch.x, batch.y) + kl

    def run(key, steps):
        start = spread(NETWORK.init(key, labeled.x[0]), 0.5)
        return _training.sgd(key, start, loss, labeled, HParams(weight_decay=0.0, steps=steps))[0]

    return jax.jit(run)


def step_times(fits):
    """Seconds of one step of each: the best of six turns, taken in rotation so that a busy
    neighbour hurts all alike.
    """
    best = dict.fromkeys(fits, float("inf"))
    for turn in range(7):  # the first compiles
        for name, run in fits.items():
            start = time.perf_counter()
            jax.block_until_ready(run(jax.random.key(0), jnp.int32(CLOCKED)))
            best[name] = (
                min(best[name], (time.perf_counter() - start) / CLOCKED) if turn else best[name]
            )
    return best


def variance(estimate, state, x, y):
    """Total variance of the gradient over weight noise."""
    grads = jax.lax.map(
        lambda k: jax.grad(lambda s: estimate(k, s, x, y))(state),
        jax.random.split(jax.random.key(5), 100),
    )
    return sum(g.var(0).sum() for g in jax.tree.leaves(grads))


@jax.jit
def quality(key, state, x, y):
    """Held-out NLL in nats, accuracy, mean BALD in nats."""
    draws = jax.vmap(lambda k: sample(k, state))(jax.random.split(key, DRAWS))
    log_probs = jax.nn.log_softmax(
        jax.vmap(lambda d: jax.vmap(lambda xi: NETWORK.apply(d, xi, None, 0.0))(x))(draws)
    )
    mean = jax.nn.logsumexp(log_probs, axis=0) - jnp.log(DRAWS)
    return jnp.stack(
        [
            -mean[jnp.arange(y.size), y].mean(),
            (mean.argmax(-1) == y).mean(),
            scores.bald(log_probs).mean(),
        ]
    )


def main():
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y, jnp.int32)
    fits = {
        name: fit(e, Labeled(x[:220], y[:220], jnp.int32(100))) for name, e in ESTIMATORS.items()
    }
    step = step_times(fits)
    state = fits["shared, 1"](jax.random.key(0), jnp.int32(STEPS))
    noise = {name: variance(e, state, x[:32], y[:32]) for name, e in ESTIMATORS.items()}
    print(
        f"{'weight noise':<16}{'variance':>9}{'ms/step':>9}{'product':>9}{'steps':>7}"
        f"{'NLL':>8}{'accuracy':>10}{'BALD':>7}"
    )
    for name, f in fits.items():
        ratio, cost = noise[name] / noise["shared, 1"], step[name] / step["shared, 1"]
        steps = int(STEPS / cost)
        states = [f(jax.random.key(i), jnp.int32(steps)) for i in range(KEYS)]
        nats, accuracy, bald = jnp.stack(
            [quality(jax.random.key(9), s, x[500:], y[500:]) for s in states]
        ).mean(0)
        print(
            f"{name:<16}{ratio:>9.3f}{step[name] * 1e3:>9.2f}{ratio * cost:>9.2f}{steps:>7}"
            f"{nats:>8.3f}{accuracy:>10.3f}{bald:>7.3f}"
        )


if __name__ == "__main__":
    main()
