"""What the library must agree with: plain Python floats by hand, or full enumeration in float64. No
JAX arithmetic.

`p` is a nested list or array of probabilities `p[k][c]` of one point unless said otherwise.
"""

import itertools
import math

import jax
import jaxtyping
import numpy as np

from bayesal import _checks


def unseen_values(patch):
    """As under jit: no check can look at values."""
    for room in (_checks, _checks.arrays, _checks.predictions, _checks.values):
        patch.setattr(room, "concrete", lambda *arrays: False)


def as_users_do(function):
    """The function without the run-time type checks of the tests: what a user calls."""

    def call(*args, **kwargs):
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            return function(*args, **kwargs)
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    return call


def rows_of(p):
    """Probabilities `[..., C]` as float64 rows that sum to 1."""
    p = np.asarray(p, dtype=np.float64)
    return p / p.sum(axis=-1, keepdims=True)


def log_softmax(z):
    z = np.asarray(z, dtype=np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def random_log_probs(seed, shape, scale=2.0):
    """float32 log-probabilities, and the float64 probabilities they stand for."""
    z = np.random.default_rng(seed).normal(size=shape) * scale
    log_p = log_softmax(z).astype(np.float32)
    return log_p, np.exp(log_p.astype(np.float64))


def h(q):
    return -sum(float(v) * math.log(v) for v in q if v > 0)


def mean(p):
    return [sum(float(v) for v in column) / len(p) for column in zip(*p, strict=True)]


def entropy(p):
    return h(mean(p))


def expected_entropy(p):
    return sum(map(h, p)) / len(p)


def bald(p):
    """As mean KL, which keeps its digits where draws nearly agree: log1p of the relative
    difference.
    """
    m = mean(p)
    total = 0.0
    for row in p:
        for v, w in zip(row, m, strict=True):
            if v > 0:
                r = (float(w) - float(v)) / float(v)  # log(v / w) = -log1p(r)
                total += float(v) * -math.log1p(r) + (float(w) - float(v))
            else:
                total += float(w)
    return total / len(p)


def least_confidence(p):
    return 1.0 - max(mean(p))


def margin(p):
    first, second = sorted(mean(p), reverse=True)[:2]
    return second - first


def variation_ratio(p):
    votes = [max(range(len(row)), key=lambda c: row[c]) for row in p]
    return 1.0 - max(votes.count(c) for c in set(votes)) / len(p)


def mean_std(p):
    columns = list(zip(*p, strict=True))
    total = 0.0
    for column in columns:
        m = sum(map(float, column)) / len(column)
        total += math.sqrt(sum((float(v) - m) ** 2 for v in column) / len(column))
    return total / len(columns)


SCORES = {
    "entropy": entropy,
    "expected_entropy": expected_entropy,
    "least_confidence": least_confidence,
    "margin": margin,
    "variation_ratio": variation_ratio,
    "mean_std": mean_std,
    "bald": bald,
}


def ece(confidence, correct, bins):
    """Equal-width bins ((j-1)/b, j/b]; the first holds 0 as well."""
    total = 0.0
    for j in range(bins):
        inside = [
            i
            for i, c in enumerate(confidence)
            if j / bins < c <= (j + 1) / bins or (j == 0 and c == 0)
        ]
        if inside:
            gap = sum(correct[i] for i in inside) / len(inside) - sum(
                confidence[i] for i in inside
            ) / len(inside)
            total += len(inside) / len(confidence) * abs(gap)
    return total


def joint_information(p, batch):
    """I(y_batch; draw) of points `batch` from probabilities `p[K, N, C]`, by enumerating every
    label configuration.
    """
    draws, _, classes = p.shape
    joint = 0.0
    for labels in itertools.product(range(classes), repeat=len(batch)):
        each = np.ones(draws)
        for point, label in zip(batch, labels, strict=True):
            each = each * p[:, point, label]
        q = each.mean()
        joint -= q * math.log(q) if q > 0 else 0.0
    noise = sum(h(p[k, point]) for k in range(draws) for point in batch) / draws
    return joint - noise


def told_about(p, q, batch):
    """I(y_batch; y_target) of points `batch` of `p[K, N, C]` and one target `q[K][C]`, by
    enumerating every label of all of them.
    """
    both = np.concatenate([p[:, batch], q[:, None]], axis=1)
    draws = list(range(len(batch)))
    noise = sum(h(row) for point in range(both.shape[1]) for row in both[:, point]) / len(both)
    entropy_of = lambda points: (
        joint_information(both, points)
        + sum(h(row) for point in points for row in both[:, point]) / len(both)
    )
    return (
        entropy_of(draws)
        + entropy_of([len(batch)])
        - joint_information(both, [*draws, len(batch)])
        - noise
    )


def greedy_batch_bald(p, size, available=None):
    """A full sweep over every point at every step. Returns the picks, their joint information, and
    per step every candidate's joint information, so that a test can tell near ties from errors."""
    available = range(p.shape[1]) if available is None else available
    batch, joints, tables = [], [], []
    for _ in range(size):
        table = {i: joint_information(p, [*batch, i]) for i in available if i not in batch}
        best = max(table, key=lambda i: table[i])
        batch.append(best)
        joints.append(table[best])
        tables.append(table)
    return batch, joints, tables


def tempered_nll(log_p, labels, t):
    """NLL of the average of draws tempered by `t`; `log_p[K, N, C]`, float64."""
    tempered = np.exp(log_softmax(np.asarray(log_p, dtype=np.float64) / t)).mean(axis=0)
    return float(-np.log(tempered[np.arange(len(labels)), labels]).mean())


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)
