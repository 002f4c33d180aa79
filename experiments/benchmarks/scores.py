"""How fast are scores? `python -m experiments.benchmarks.scores [--quick]`

Draws of a linear net on random features: K = 100, C = 10, float32. The ways of one question take
turns, and the medians and the least of their times are shown: on a busy machine the least is what
the work costs. Peers are run where they are installed, each with its numbers in the layout and form
it asks for, its conversion not counted: baal gets probabilities [N, C, K], so its time has no
exponential in it; batchbald_redux gets log-probabilities [N, K, C], and `gc.collect`, which it
calls once a chunk, does nothing here (as shipped it takes twenty times as long). torch is the same
formulas by hand, in chunks of two sizes.
"""

import argparse
import gc
import importlib
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _maths, scores
from experiments.benchmarks.acquisition import CLASSES, DRAWS, predictions

TARGETS = 500


def timed(ways, repeats):
    """Median and least seconds of every way, the ways taking turns."""
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            time.sleep(0.25)  # threads of the way before spin on, waiting for more work
            jax.block_until_ready(run())  # compiles, and takes the caches over
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: (statistics.median(s), min(s)) for name, s in seconds.items()}


def show(title, times, ours, note=lambda name, seconds: ""):
    """One line per way, and how many times ours it takes."""
    for name, (median, least) in times.items():
        ratio = (
            ""
            if name == ours
            else f"{median / times[ours][0]:6.1f}x {least / times[ours][1]:6.1f}x"
        )
        print(
            f"{title:<26}{name:<34}{median * 1e3:9.1f} {least * 1e3:9.1f} ms "
            f"{ratio:<16}{note(name, least)}",
            flush=True,
        )
        title = ""


def ceilings():
    """What two plain loops over numbers in cache do on all cores, per second, and how many bytes a
    second a copy moves.
    """
    x = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1.0, (256, 1024)), jnp.float32)
    loop = lambda step: jax.jit(
        lambda x: jax.lax.fori_loop(
            0,
            100,
            lambda _, total: -1e-3 * _maths.pairwise(step(x + jnp.abs(total)[None])),
            jnp.zeros(1024),
        )
    )
    exp, log = loop(jnp.exp), loop(lambda x: x * jnp.log(x))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    source = np.ones((cores, 2**25), np.float32)
    copy = np.zeros_like(source)
    with ThreadPoolExecutor(cores) as pool:
        times = timed(
            {
                "exp": lambda: exp(x),
                "log": lambda: log(x),
                "copy": lambda: list(pool.map(np.copyto, copy, source)),
            },
            15,
        )
    least = {name: best for name, (_, best) in times.items()}
    return (
        100 * x.size / least["exp"],
        100 * x.size / least["log"],
        2 * source.nbytes / least["copy"],
    )


def plain_uncertainty(log_p):
    """Entropy, and the gap to the mean of the draws' entropies, in NumPy."""
    p = np.exp(log_p)
    mean = p.mean(0)
    total = -(mean * np.log(mean)).sum(-1)
    return total, total + (p * log_p).sum((0, 2)) / len(p)


def in_torch(log_p, torch, chunk):
    """The same in torch, for [K, N, C] in chunks of points."""
    total, gap = torch.empty(log_p.shape[1]), torch.empty(log_p.shape[1])
    for start in range(0, log_p.shape[1], chunk):
        part = log_p[:, start : start + chunk]
        p = part.exp()
        mean = p.mean(0)
        total[start : start + chunk] = -torch.special.xlogy(mean, mean).sum(-1)
        gap[start : start + chunk] = total[start : start + chunk] + p.mul_(part).sum(0).sum(
            -1
        ) / len(part)
    return total, gap


def peers(host):
    """Other people's ways to the two uncertainties, of those that are installed."""
    ways, missing = {}, []
    os.environ.setdefault(
        "TQDM_DISABLE", "1"
    )  # batchbald_redux would draw its bars between our lines
    try:
        torch = importlib.import_module("torch")
        tensor = torch.from_numpy(host)
        ways |= {
            f"torch by hand, chunks of {n}": lambda n=n: in_torch(tensor, torch, n)
            for n in (500, 1000)
        }
    except ImportError:
        missing.append("torch")
    try:
        baal = importlib.import_module("baal.active.heuristics")
        probs = np.ascontiguousarray(np.exp(host).transpose(1, 2, 0))
        bald, entropy = baal.BALD(), baal.Entropy()
        ways["baal BALD alone"] = lambda: bald.compute_score(probs)
        ways["baal BALD and Entropy"] = lambda: (
            bald.compute_score(probs),
            entropy.compute_score(probs),
        )
    except ImportError:
        missing.append("baal")
    try:
        redux = importlib.import_module("batchbald_redux.batchbald")
        ordered = torch.from_numpy(np.ascontiguousarray(host.transpose(1, 0, 2)))

        def stubbed():
            with mock.patch.object(gc, "collect", lambda *_: 0):
                return redux.compute_entropy(ordered), redux.compute_conditional_entropy(ordered)

        ways["batchbald_redux, gc stubbed"] = stubbed
    except ImportError:
        missing.append("batchbald_redux")
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}")
    return ways


def uncertainty(rows, repeats, limits):
    """`decompose` beside plain NumPy, torch and peers."""
    log_p = predictions(rows)
    host = np.array(log_p)
    numbers = log_p.size
    whole, bald, entropy = (
        jax.jit(score) for score in (scores.decompose, scores.bald, scores.entropy)
    )
    ways = {
        "scores.decompose": lambda: scores.decompose(log_p),
        "the same under jit: no check": lambda: whole(log_p),
        "the same, from NumPy": lambda: scores.decompose(host),
        "bald alone, under jit": lambda: bald(log_p),
        "entropy alone, under jit": lambda: entropy(log_p),
        "plain NumPy": lambda: plain_uncertainty(host),
        **peers(host),
    }
    exp, _, bandwidth = limits

    def note(name, seconds):
        if not name.startswith(("scores", "the same under", "torch", "bald", "entropy")):
            return ""
        return (
            f"{numbers / seconds / 1e9:.2f} billion numbers/s, {numbers / seconds / exp:4.0%} of "
            f"exp + sum, {4 * numbers / seconds / bandwidth:4.0%} of the bandwidth"
        )

    show(f"entropy + bald N={rows:>6}", timed(ways, repeats), "scores.decompose", note)


def plain_epig(p, q):
    """The formula in chunks of NumPy, the joint table [n * C, T * L] by a matrix product."""
    entropy = lambda a, axes: -(a * np.log(a)).sum(axes)
    flat, out = q.reshape(len(q), -1), []
    marginal = entropy(q.mean(0), -1).mean()
    for start in range(0, p.shape[1], 20):
        part = p[:, start : start + 20]
        joint = (part.reshape(len(p), -1).T @ flat / len(p)).reshape(
            part.shape[1], p.shape[2], *q.shape[1:]
        )
        out.append(entropy(part.mean(0), -1) + marginal - entropy(joint, (1, 3)).mean(1))
    return np.concatenate(out)


def broadcast_epig(p, q):
    """The formula as it is written: the joint table as the mean over draws of [K, n, C, T, L], two
    points at a time.
    """
    out = []
    for start in range(0, p.shape[1], 2):
        part = p[:, start : start + 2]
        joint = (part[:, :, :, None, None] * q[:, None, None]).mean(0)
        apart = part.mean(0)[:, :, None, None] * q.mean(0)[None, None]
        out.append((joint * np.log(joint / apart)).sum((1, 3)).mean(1))
    return np.concatenate(out)


def epig(rows, repeats, limits):
    """`epig` beside two plain evaluations, and beside its matrix product, which no way of
    evaluating it is spared.
    """
    log_p, target = predictions(rows), predictions(TARGETS, seed=2)
    p, q = np.exp(np.array(log_p)), np.exp(np.array(target))
    left, right = jnp.asarray(q.reshape(DRAWS, -1).T), jnp.asarray(p.reshape(DRAWS, rows * CLASSES))
    width = 1440  # of a block that stays in cache
    block = lambda start: jnp.matmul(
        left[:width],
        jax.lax.dynamic_slice_in_dim(right, start, width, 1),
        precision=jax.lax.Precision.HIGHEST,
    )
    several = left.shape[0] * right.shape[1] // width**2
    product = jax.jit(
        lambda: jax.lax.fori_loop(
            0,
            several,
            lambda i, _: block(i % (right.shape[1] // width) * width),
            jnp.zeros((width, width)),
        )
    )
    few = 20
    times = timed(
        {
            "scores.epig": lambda: scores.epig(log_p, target),
            "its matrix product alone": product,
            "NumPy, matrix product in chunks": lambda: plain_epig(p, q),
        },
        repeats,
    )
    times |= {
        f"NumPy, as written (x {rows // few})": tuple(
            s * rows / few for s in timed({"": lambda: broadcast_epig(p[:, :few], q)}, 3)[""]
        )
    }
    pairs = rows * CLASSES * TARGETS * CLASSES
    flops = {"its matrix product alone": lambda s: f"{2 * DRAWS * pairs / s / 1e9:.0f} GFLOP/s"}
    ours = times["scores.epig"][1] - times["its matrix product alone"][1]
    show(
        f"epig T={TARGETS} N={rows:>6}",
        times,
        "scores.epig",
        lambda name, seconds: flops.get(name, lambda _: "")(seconds),
    )
    print(
        f"{'':<26}beyond the product: {pairs / ours / 1e9:.2f} billion joint "
        f"probabilities/s, {pairs / ours / limits[1]:.0%} of x log x + sum"
    )
    print(
        f"{'':<26}largest difference from the plain evaluation "
        f"{np.abs(np.asarray(scores.epig(log_p, target)) - plain_epig(p, q)).max():.1e}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="N = 10,000 alone, without epig")
    given = parser.parse_args()
    limits = ceilings()
    print(
        f"ceilings: exp + sum {limits[0] / 1e9:.2f}, x log x + sum {limits[1] / 1e9:.2f} "
        f"billion numbers/s in cache; copy {limits[2] / 1e9:.1f} GB/s\n"
    )
    print(f"{'':<60}{'median':>9} {'least':>9}    times ours by either")
    uncertainty(10_000, 9, limits)
    if not given.quick:
        uncertainty(60_000, 5, limits)
        epig(10_000, 5, limits)


if __name__ == "__main__":
    main()
