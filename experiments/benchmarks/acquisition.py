"""How fast are batches? `python -m experiments.benchmarks.acquisition [--peer] [--quick]`

Draws of a linear net on random features: K = 100, C = 10, float32. Medians of CALLS calls after one
that compiles; the peer's own default settings, called once. Every BatchBALD batch, ours and the
peer's, is judged by one independent estimate of its joint information: labels are sampled from the
draws, and log-likelihoods are summed in float64. With `--peer`, batchbald_redux (where it is
installed) runs in the same process, with 10,000 samples and nothing else said, as its authors'
examples do but in its default float32; its progress bars are off. Memory is the growth of RssAnon
during one more call (of the peer's: the only one), sampled all along; the pool is there before, in
both layouts. A run with --peer takes about 15 minutes with the machine to itself; what is going on
is said on stderr.
"""

import argparse
import ctypes
import importlib.util
import os
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import select
from experiments.benchmarks._memory import watched

DRAWS, CLASSES, CALLS, MB = 100, 10, 5, 1e6
JUDGED = 10**6  # label configurations behind the independent estimate
LONGEST = 50  # the longest batch whose joint information is estimated: near log K it says nothing
SIZES = {10_000: (5, 10, 20), 60_000: (5, 10, 50, 100), 120_000: (10,)}
PEER = {
    (10_000, 5),
    (10_000, 10),
    (10_000, 20),
    (60_000, 5),
}  # where the peer takes minutes, and not hours
START = time.perf_counter()


def predictions(rows, seed=0):
    """Log-probabilities [K, N, C] of one linear net per draw."""
    x = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    rng = np.random.default_rng(99)  # the same draws for every pool
    mean, spread = rng.normal(size=(1, 16, CLASSES)), rng.normal(size=(DRAWS, 16, CLASSES))
    weights = (0.7 * mean + 0.3 * spread).astype(np.float32)
    return jax.block_until_ready(jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights), axis=-1))


def joint_information(log_p, batch, seed=1):
    """I(labels of the batch; draw) in nats, and its standard error: mean over sampled labels of log
    p(y | w) - log p(y).
    """
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


def progress(text):
    print(f"[{time.perf_counter() - START:5.0f} s] {text}", file=sys.stderr, flush=True)


def measured(run, every=0.001):
    """Seconds of one call, its answer, and by how many MB its memory grew."""
    ctypes.CDLL("libc.so.6").malloc_trim(
        0
    )  # what was freed is given back, so that it cannot hide growth
    with watched(seconds=every) as memory:
        start = time.perf_counter()
        answer = jax.block_until_ready(run())
        seconds = time.perf_counter() - start
    return seconds, answer, (memory["peak"] - memory["before"]) / MB


def batches(rows, log_p, peer):
    """One line per batch size, two where the peer takes part; the seconds of each size."""
    took = {}
    for size in SIZES[rows]:
        run = lambda size=size: select.batch_bald(jax.random.key(0), log_p, size)
        progress(f"batch_bald, N = {rows:,}, b = {size}: {1 + CALLS} calls and one for its memory")
        took[size], ours = timed(run, CALLS)
        *_, grown = measured(run)
        line = (
            f"batch_bald      N={rows:>6} b={size:>3}  {took[size]:8.3f} s  peak +{grown:5.0f} "
            f"MB  gains evaluated {float(ours.evaluated):6.1%}"
        )
        if size > LONGEST:
            print(line, flush=True)
            continue
        judged, error = joint_information(log_p, ours.indices)
        print(f"{line}  joint {judged:.4f} +- {error:.4f}", flush=True)
        if peer is not None and (rows, size) in PEER:
            progress(f"batchbald_redux, N = {rows:,}, b = {size}: minutes")
            seconds, batch, theirs = measured(lambda size=size: peer(size), every=0.01)
            again, _ = timed(run, CALLS)  # the machine may be another one than minutes ago
            other, error = joint_information(log_p, batch)
            print(
                f"batchbald_redux N={rows:>6} b={size:>3}  {seconds:8.1f} s  peak "
                f"+{theirs:5.0f} MB  {'':22}  joint {other:.4f} +- {error:.4f}"
            )
            print(
                f"  ours, {took[size]:.3f} s before and {again:.3f} s after: "
                f"{2 * seconds / (took[size] + again):.0f}x as fast, "
                f"{grown / theirs:.4f} of its memory, joint information "
                f"{judged - other:+.4f}",
                flush=True,
            )
    return took


def redux(log_p):
    """`size -> rows` of batchbald_redux with 10,000 samples, or None where it is not installed."""
    if importlib.util.find_spec("batchbald_redux") is None:
        progress("batchbald_redux is not installed: ours alone")
        return None
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from batchbald_redux import batchbald

    ordered = torch.from_numpy(np.moveaxis(np.asarray(log_p), 0, 1).copy())
    return lambda size: batchbald.get_batchbald_batch(ordered, size, 10_000).indices


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="store_true", help="run batchbald_redux too (minutes)")
    parser.add_argument("--quick", action="store_true", help="N = 10,000 alone")
    given = parser.parse_args()
    took = {}
    for rows in list(SIZES)[: 1 if given.quick else None]:
        log_p = predictions(rows)
        took[rows] = batches(rows, log_p, redux(log_p) if given.peer else None)
    if not given.quick:
        print(
            "  twice the pool, N = 120,000, b = 10: "
            f"{took[120_000][10] / took[60_000][10]:.2f}x the seconds"
        )
    log_p, target = predictions(10_000), predictions(500, seed=2)
    run = lambda: select.batch_epig(jax.random.key(0), log_p, target, 10)
    seconds, batch = timed(run, 3)
    *_, grown = measured(run)
    print(
        f"batch_epig      N= 10000 T=500 b= 10  {seconds:8.3f} s  peak +{grown:5.0f} MB  "
        f"gains evaluated {float(batch.evaluated):6.1%}"
    )


if __name__ == "__main__":
    main()
