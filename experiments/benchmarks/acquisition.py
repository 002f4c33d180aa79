"""How fast are batches? `python -m experiments.benchmarks.acquisition [--peer] [--quick]`

Draws of a linear net on random features: K = 100, C = 10, float32. Medians of several calls after one that compiles; the peer's own
default settings, called once. Every BatchBALD batch, ours and the peer's, is judged by one independent estimate of its joint information: labels are sampled
from the draws, and log-likelihoods are summed in float64. With `--peer`, batchbald_redux (where it is installed) runs in the same process.
"""

import argparse
import resource
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import select

DRAWS, CLASSES = 100, 10
JUDGED = 10**6  # label configurations behind the independent estimate


def predictions(rows, seed=0):
    """Log-probabilities [K, N, C] of one linear net per draw."""
    x = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    rng = np.random.default_rng(99)  # the same draws for every pool
    mean, spread = rng.normal(size=(1, 16, CLASSES)), rng.normal(size=(DRAWS, 16, CLASSES))
    weights = (0.7 * mean + 0.3 * spread).astype(np.float32)
    return jax.block_until_ready(jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights), axis=-1))


def joint_information(log_p, batch, seed=1):
    """I(labels of the batch; draw) in nats, and its standard error: mean over sampled labels of log p(y | w) - log p(y)."""
    log_p = np.asarray(log_p[:, np.asarray(batch)], np.float64)
    rng, values = np.random.default_rng(seed), []
    cumulative = np.exp(log_p).cumsum(-1)
    cumulative /= cumulative[..., -1:]
    for _ in range(JUDGED // 10_000):
        draw = rng.integers(0, len(log_p), 10_000)
        labels = (rng.random((10_000, log_p.shape[1], 1)) > cumulative[draw]).sum(-1)
        total = np.zeros((10_000, len(log_p)))
        for b in range(log_p.shape[1]):
            total += log_p[:, b, labels[:, b]].T
        top = total.max(1, keepdims=True)
        mixed = np.log(np.exp(total - top).mean(1)) + top[:, 0]
        values.append(total[np.arange(10_000), draw] - mixed)
    values = np.concatenate(values)
    return values.mean(), values.std() / np.sqrt(len(values))


def timed(run, calls):
    """Median seconds, and the last answer."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        answer = jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), answer


def batches(sizes, rows, log_p, calls, peer):
    """One line per batch size."""
    for size in sizes:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, ours = timed(lambda: select.batch_bald(jax.random.key(0), log_p, size), calls)  # noqa: B023
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        judged, error = joint_information(log_p, ours.indices) if size <= 50 else (float("nan"), float("nan"))
        line = f"batch_bald      N={rows:>6} b={size:>3}  {seconds:8.3f} s  peak +{grown:5.0f} MB  gains evaluated {float(ours.evaluated):6.1%}  joint {judged:.3f} +- {error:.3f}"
        if peer is not None and (rows, size) in ((10_000, 5), (60_000, 5), (10_000, 10)):
            theirs, batch = peer(size)
            other, _ = joint_information(log_p, batch)
            line += f"   batchbald_redux {theirs:.1f} s ({theirs / seconds:.0f}x), joint {other:.3f}"
        print(line, flush=True)


def redux(log_p):
    """`size -> (seconds, rows)` of batchbald_redux with 10,000 samples, or None where it is not installed."""
    try:
        import torch
        from batchbald_redux import batchbald
    except ImportError:
        print("batchbald_redux is not installed: ours alone")
        return None
    ordered = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(log_p), 0, 1)))

    def run(size):
        start = time.perf_counter()
        batch = batchbald.get_batchbald_batch(ordered, size, 10_000, dtype=torch.double, device="cpu")
        return time.perf_counter() - start, batch.indices

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="store_true", help="run batchbald_redux too (minutes)")
    parser.add_argument("--quick", action="store_true", help="N = 10,000 alone")
    given = parser.parse_args()
    calls = 5
    for rows, sizes in ((10_000, (5, 10, 20)), (60_000, (5, 10, 50)))[: 1 if given.quick else 2]:
        log_p = predictions(rows)
        batches(sizes, rows, log_p, calls if rows < 20_000 else 3, redux(log_p) if given.peer else None)
    log_p, target = predictions(10_000), predictions(500, seed=2)
    seconds, batch = timed(lambda: select.batch_epig(jax.random.key(0), log_p, target, 10), 1)
    print(f"batch_epig      N= 10000 T=500 b= 10  {seconds:8.3f} s  gains evaluated {float(batch.evaluated):6.1%}")


if __name__ == "__main__":
    main()
