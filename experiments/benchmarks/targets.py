"""What does asking for targets cost, and what does it bring? `python -m
experiments.benchmarks.targets [--data FOLDER] [--seeds N] [pool ...]`

Pools: "linear", draws of a linear net on 10,000 random points, with 500 targets like them (K = 100,
C = 10); "digits" and "mnist", MC dropout of an mlp after 60 random labels, with 500 points of the
pool as targets (mnist: 10,500 images, where FOLDER or BAYESAL_DATA holds them).

Batches of 10: `select.batch_epig` beside a full sweep of the definition: every gain of every step,
as a difference of mean BALD scores with and without a target's label, which is sampled by its
probability, over 2,000 label configurations. All batches are judged by one independent estimate of
what their labels tell about the targets. Points alone: `acquire.epig`'s ten highest beside EPIG of
every point; and that beside the formula in plain NumPy, 100 points at a time, once with `einsum` as
it is written and once as one matrix product, of which the product alone is what any way through the
joint table has to take. Processor seconds and seconds of the clock, in one run, after a call that
compiles.
"""

import argparse
import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

import bayesal
from bayesal import _chunks, _maths, acquire, networks, posteriors, scores, select
from bayesal.select import _configurations as configurations
from experiments import certification
from experiments.benchmarks.acquisition import predictions

SIZE, TARGETS, SWEPT, JUDGED, IMAGES = 10, 500, 2_000, 100_000, 10_500


def pools(names, folder):
    """Name, log-probabilities [K, N, C] of the pool and [K, T, C] of the targets."""
    if "linear" in names:
        yield "linear", predictions(10_000), predictions(TARGETS, seed=2)
    for name, (x, y) in certification.pools(folder, IMAGES).items():
        if name in names:
            posterior = posteriors.mc_dropout(networks.mlp(x.shape[1], 10))
            init, _, tell, *_ = bayesal.learner(
                posterior, acquire.uniform(), size=1, capacity=60, num_draws=100
            )
            order = np.random.default_rng(0).permutation(len(x))
            state = tell(init(jax.random.key(0), x), x, order[:60], y[order[:60]])
            log_probs = bayesal.predictive_of(posterior, state, 100)(x[order[60:]])
            yield name, log_probs, log_probs[:, :TARGETS]


def in_numpy(log_probs, target, product, points=100):
    """The formula for every point: sum over targets' labels of p(y, y_t) log(p(y, y_t) / p(y)
    p(y_t)); `product` makes the joint table.
    """
    p, q = np.exp(np.asarray(log_probs)), np.exp(np.asarray(target))
    q_mean, found = q.mean(0), []
    for start in range(0, p.shape[1], points):
        some = p[:, start : start + points]
        joint = np.maximum(product(some, q) / len(p), 1e-30)
        found.append(
            (joint * np.log(joint / (some.mean(0)[:, None, :, None] * q_mean[None, :, None]))).sum(
                (1, 2, 3)
            )
            / q.shape[1]
        )
    return np.concatenate(found)


def by_einsum(p, q):
    return np.einsum("knc,ktd->ntcd", p, q)


def by_product(p, q):
    table = p.reshape(len(p), -1).T @ q.reshape(len(q), -1)
    return table.reshape(*p.shape[1:], *q.shape[1:]).transpose(0, 2, 1, 3)


def product_alone(log_probs, target, points=100):
    p, q = np.exp(np.asarray(log_probs)), np.exp(np.asarray(target)).reshape(len(target), -1)
    start = time.process_time(), time.perf_counter()
    for first in range(0, p.shape[1], points):
        p[:, first : first + points].reshape(len(p), -1).T @ q
    return time.process_time() - start[0], time.perf_counter() - start[1]


@jax.jit
def all_gains(state, told, log_probs):
    """BALD given the picks, less BALD given a target's label too, of every point."""
    given = state.weights * told
    given = state._replace(weights=given / given.sum(axis=1, keepdims=True))

    def some(part):
        probs, noise = jnp.exp(part).transpose(1, 2, 0), _maths.entropy(part).T
        return configurations.information(state, probs, noise) - configurations.information(
            given, probs, noise
        )

    return _chunks.over_rows(some, log_probs, 100, axis=1)


def full_sweep(key, log_probs, target, size=SIZE):
    """The greedy batch [size], by every gain of every step."""
    draws = len(log_probs)
    own = jnp.repeat(jnp.arange(draws), SWEPT // draws)
    which = jax.random.randint(jax.random.fold_in(key, 1), own.shape, 0, target.shape[1])
    told = jnp.exp(
        target[:, which, jax.random.categorical(jax.random.fold_in(key, 2), target[own, which])]
    ).T
    state = configurations.Configurations(
        jnp.full((SWEPT, draws), 1.0 / draws), jnp.full(SWEPT, 1.0 / SWEPT)
    )
    observe = jax.jit(
        functools.partial(configurations.observe, real=True, observed=1, exact_steps=0)
    )
    batch = [int(jnp.argmax(scores.epig(log_probs, target)))]
    while len(batch) < size:
        state = observe(
            jax.random.fold_in(key, 2 + len(batch)), state, jnp.exp(log_probs[:, batch[-1]])
        )
        batch.append(
            int(jnp.argmax(all_gains(state, told, log_probs).at[np.array(batch)].set(-jnp.inf)))
        )
    return np.array(batch)


@jax.jit
def surprise(weights, target):
    """KL of every target's prediction given a label configuration from the one without, averaged
    over targets.
    """
    flat = jnp.exp(target).reshape(len(target), -1)
    told = weights @ flat
    return (
        jnp.sum(told * (jnp.log(jnp.maximum(told, 1e-30)) - jnp.log(flat.mean(0))[None]), axis=1)
        / target.shape[1]
    )


def target_information(log_probs, target, batch, seed=7):
    """Mean over targets of I(labels of the batch; target's label) in nats, and its standard error:
    labels sampled from the draws.
    """
    log_p, rng, values = (
        np.asarray(log_probs[:, np.asarray(batch)], np.float64),
        np.random.default_rng(seed),
        [],
    )
    cumulative = np.exp(log_p).cumsum(-1)
    cumulative /= cumulative[..., -1:]
    for _ in range(JUDGED // 2_000):
        draw = rng.integers(0, len(log_p), 2_000)
        labels = (rng.random((2_000, log_p.shape[1], 1)) > cumulative[draw]).sum(-1)
        total = sum(log_p[:, b, labels[:, b]].T for b in range(log_p.shape[1]))
        weights = np.exp(total - total.max(1, keepdims=True))
        values.append(
            np.asarray(
                surprise((weights / weights.sum(1, keepdims=True)).astype(np.float32), target)
            )
        )
    values = np.concatenate(values)
    return values.mean(), values.std() / np.sqrt(len(values))


def highest(log_probs, target):
    """A call for the points with the highest EPIG by the strategy; predictions are looked up."""
    rows = log_probs.shape[1]
    both = jnp.concatenate([log_probs, target], axis=1)
    predictive = jax.tree_util.Partial(lambda both, at: both[:, at[:, 0]], both)
    strategy = acquire.epig(np.arange(rows, rows + target.shape[1])[:, None])
    return lambda: bayesal.choose(0, predictive, jnp.arange(rows)[:, None], SIZE, strategy)


def timed(run):
    """Processor seconds, seconds of the clock and the answer of a second call."""
    jax.block_until_ready(run())
    processor, clock = time.process_time(), time.perf_counter()
    answer = jax.block_until_ready(run())
    return time.process_time() - processor, time.perf_counter() - clock, answer


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pools", nargs="*", default=["linear", "digits", "mnist"])
    parser.add_argument("--data", default=os.environ.get("BAYESAL_DATA"))
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    for name, log_probs, target in pools(given.pools, given.data):
        rows = log_probs.shape[1]
        all_of, all_clock, epig = timed(lambda: scores.epig(log_probs, target))  # noqa: B023
        few, clock, picked = timed(highest(log_probs, target))
        right = np.allclose(np.sort(np.asarray(epig))[::-1][:SIZE], picked.scores, rtol=1e-4)
        print(
            f"{name:7} N={rows:>6} epig, 10 highest: {few:6.2f} s ({clock:.2f}), evaluated "
            f"{float(picked.evaluated):6.1%}; of every point {all_of:6.2f} s "
            f"({all_clock:.2f}): {all_of / few:.1f}x; the same points: {right}",
            flush=True,
        )
        took, clock = product_alone(log_probs, target)
        line = (
            f"{name:7} N={rows:>6} epig of every point beside NumPy: product alone {took:.2f} s "
            f"({clock:.2f}): {all_clock / clock:.1f}x its clock"
        )
        for way in (by_product, by_einsum):
            start = time.process_time(), time.perf_counter()
            theirs = in_numpy(log_probs, target, way)
            took, clock = time.process_time() - start[0], time.perf_counter() - start[1]
            line += (
                f"; {way.__name__} {took:.1f} s ({clock:.1f}), {clock / all_clock:.1f}x ours, "
                f"apart {np.abs(theirs - np.asarray(epig)).max():.1e}"
            )
        print(line, flush=True)
        for seed in range(given.seeds):
            key = jax.random.key(seed)
            ours, clock, batch = timed(
                functools.partial(select.batch_epig, key, log_probs, target, SIZE)
            )
            full, full_clock, swept = timed(functools.partial(full_sweep, key, log_probs, target))
            told, error = target_information(log_probs, target, batch.indices)
            before, _ = target_information(log_probs, target, swept)
            print(
                f"{name:7} N={rows:>6} batch_epig b={SIZE} seed {seed}: {ours:6.2f} s "
                f"({clock:.2f}), evaluated {float(batch.evaluated):6.1%}, tells {told:.4f} "
                "+- "
                f"{error:.4f}; full sweep {full:6.2f} s ({full_clock:.2f}), tells "
                f"{before:.4f}: {full / ours:.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
