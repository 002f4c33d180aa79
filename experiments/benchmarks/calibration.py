"""What does a temperature cost? `python -m experiments.benchmarks.calibration [--quick]`

K = 64 draws of N = 10,000 points over C = 10 classes, float32. The whole fit, and one loss with its
slope by differentiation, beside one pass of `scores.bald` over the same array, all under jit; the
ways take turns, and medians and least times are shown.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import calibrate, scores
from experiments.benchmarks.scores import show, timed

DRAWS, CLASSES = 64, 10


def plain(log_probs, labels, log_t):
    """The loss and its slope as they are written, by differentiation."""

    def loss(log_t):
        tempered = jax.nn.log_softmax(log_probs * jnp.exp(-log_t), axis=-1)
        of_label = jnp.take_along_axis(tempered, labels[None, :, None], axis=-1)[..., 0]
        return -jnp.mean(jax.nn.logsumexp(of_label, axis=0) - jnp.log(DRAWS))

    return jax.value_and_grad(loss)(log_t)


def measure(rows):
    """All ways over so many points."""
    random = np.random.default_rng(0)
    log_probs = jax.nn.log_softmax(
        jnp.asarray(3 * random.normal(size=(DRAWS, rows, CLASSES)), jnp.float32)
    )
    labels, weights = jnp.asarray(random.integers(0, CLASSES, rows), jnp.int32), jnp.ones(rows)
    bald, fit, vector = jax.jit(scores.bald), calibrate.temperature(), calibrate.vector()
    written = jax.jit(plain)
    ways = {
        "scores.bald": lambda: bald(log_probs),
        "one slope, as written": lambda: written(log_probs, labels, jnp.float32(0.3)),
        "calibrate.temperature": lambda: fit.fit(log_probs, labels, weights),
    }
    if rows <= 1_000:  # a thousand passes
        ways["calibrate.vector"] = lambda: vector.fit(log_probs, labels, weights)
    times = timed(ways, 7)
    show(f"temperature N={rows:>6}", times, "scores.bald")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="N = 1,000 alone")
    for rows in (1_000,) if parser.parse_args().quick else (1_000, 10_000):
        measure(rows)


if __name__ == "__main__":
    main()
