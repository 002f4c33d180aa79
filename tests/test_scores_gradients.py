"""Gradients of every score: finite at the extremes, and those of finite differences in float64.

The references are written anew in NumPy, in float64, of logits: what a score answers for rows that
do not sum to 1 is nobody's business.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.special import ndtr

from bayesal import scores
from bayesal.scores import combine, multilabel, probit, regression

pytestmark = pytest.mark.usefixtures("strict")

DRAWS, POINTS, CLASSES, TARGETS = 5, 12, 4, 3
STEP = 1e-6


def plogp(p):
    return p * np.log(np.where(p > 0, p, 1.0))


def entropy(p):
    return -plogp(p.mean(0)).sum(-1)


def expected_entropy(p):
    return -plogp(p).sum(-1).mean(0)


def bald(p):
    return entropy(p) - expected_entropy(p)


def margin(p):
    low, high = np.sort(p.mean(0), axis=-1)[..., -2:].swapaxes(0, -1).reshape(2, -1)
    return low - high


def model_change(p):
    lengths = np.sqrt(np.square(p[..., None, :] - np.eye(p.shape[-1])).sum(-1)).mean(0)
    return (p.mean(0) * lengths).sum(-1) * 2.0  # features (1, 1, 1), and 1 for the bias


def epig(p, q):
    joint = np.einsum("knc,ktl->ntcl", p, q) / len(p)
    independent = p.mean(0)[:, None, :, None] * q.mean(0)[None, :, None]
    ratio = joint / np.where(independent > 0, independent, 1.0)
    return (joint * np.log(np.where(ratio > 0, ratio, 1.0))).sum((-1, -2)).mean(-1)


RNG = np.random.default_rng(0)
TARGET = oracles.log_softmax(RNG.normal(size=(DRAWS, TARGETS, CLASSES)))
POOL = oracles.log_softmax(RNG.normal(size=(DRAWS, POINTS, CLASSES)))
ONES = jnp.ones((POINTS, 3))
CATEGORICAL = {
    "entropy": (scores.entropy, entropy),
    "expected_entropy": (scores.expected_entropy, expected_entropy),
    "least_confidence": (scores.least_confidence, lambda p: 1 - p.mean(0).max(-1)),
    "margin": (scores.margin, margin),
    "variation_ratio": (scores.variation_ratio, lambda p: np.zeros(p.shape[1])),  # steps
    "vote_entropy": (scores.vote_entropy, lambda p: np.zeros(p.shape[1])),  # steps
    "mean_std": (scores.mean_std, lambda p: p.std(0).mean(-1)),
    "bald": (scores.bald, bald),
    "total": (lambda x: scores.decompose(x).total, entropy),
    "aleatoric": (lambda x: scores.decompose(x).aleatoric, expected_entropy),
    "epistemic": (lambda x: scores.decompose(x).epistemic, bald),
    "expected_model_change": (
        lambda x: scores.expected_model_change(x, ONES[: x.shape[1]]),
        model_change,
    ),
    "epig": (
        lambda x: scores.epig(x, jnp.asarray(TARGET, jnp.float32)),
        lambda p: epig(p, np.exp(TARGET)),
    ),
    "epig_of_targets": (
        lambda x: scores.epig(jnp.asarray(POOL, jnp.float32), x),
        lambda p: epig(np.exp(POOL), p),
    ),
    "sum_of_parts": (
        lambda x: scores.structured(scores.entropy, how="sum")(x[:, None]),
        lambda p: entropy(p).sum(keepdims=True),
    ),
    "target_weights": (
        lambda x: scores.target_weights(x, jnp.arange(1.0, 5.0) / 10),
        lambda p: (np.arange(1, 5) / 10 * p.mean(0) / p.mean(0).sum(0)).sum(-1),
    ),
}
each_categorical = pytest.mark.parametrize("name", CATEGORICAL)


def differences(function, x, step=STEP):
    """The gradient of `function(x)` by central differences in float64."""
    found = np.zeros(x.size)
    for i in range(x.size):
        apart = np.zeros(x.size)
        apart[i] = step
        apart = apart.reshape(x.shape)
        found[i] = (function(x + apart) - function(x - apart)) / (2 * step)
    return found.reshape(x.shape)


def slope(score, log_probs, weight):
    """The gradient of `sum(weight * score)` in the logits whose log-softmax `log_probs` is."""
    total = lambda x: jnp.sum(score(x) * jnp.asarray(weight, jnp.float32))
    inside = np.asarray(jax.grad(total)(jnp.asarray(log_probs, jnp.float32)), np.float64)
    return inside - np.exp(log_probs) * inside.sum(-1, keepdims=True)


@each_categorical
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_of_a_categorical_score_against_finite_differences(name, scale):  # TRAPS 2
    score, reference = CATEGORICAL[name]
    z = np.random.default_rng(1).normal(size=(DRAWS, POINTS, CLASSES)) * scale
    weight = np.random.default_rng(2).normal(size=len(reference(np.exp(oracles.log_softmax(z)))))
    want = differences(lambda z: weight @ reference(np.exp(oracles.log_softmax(z))), z)
    got = slope(score, oracles.log_softmax(z), weight)
    np.testing.assert_allclose(got, want, atol=3e-6)


def extremes():
    rng = np.random.default_rng(3)
    shape = (DRAWS, POINTS, CLASSES)
    one_hot = np.where(np.eye(CLASSES)[rng.integers(0, CLASSES, shape[:2])] > 0, 0.0, -np.inf)
    some = rng.normal(size=shape)
    some[0, :, 1], some[:, :4, 2] = -np.inf, -np.inf
    return {
        "uniform": np.zeros(shape),
        "one-hot": one_hot,
        "one-hot, all draws the same": np.broadcast_to(one_hot[:1], shape),
        "-inf in one draw and in all": some,
        "logits of +-300": rng.normal(size=shape) * 300,
        "draws agree": np.broadcast_to(rng.normal(size=shape[1:]), shape),
        "no class above one half": rng.normal(size=shape) * 0.01,
    }


@each_categorical
@pytest.mark.parametrize("what", extremes())
def test_of_a_categorical_score_is_finite_at_the_extremes(name, what):  # TRAPS 2
    log_probs = oracles.log_softmax(extremes()[what])
    slopes = slope(CATEGORICAL[name][0], log_probs, 1.0)
    assert np.isfinite(slopes).all() and np.abs(slopes).max() < 1e3


@pytest.mark.parametrize("name", ["entropy", "bald", "expected_entropy", "mean_std"])
@pytest.mark.parametrize("what", ["uniform", "one-hot", "-inf in one draw and in all"])
def test_at_the_extremes_they_are_right(name, what):  # TRAPS 2
    score, reference = CATEGORICAL[name]
    log_probs = oracles.log_softmax(extremes()[what])
    if what == "one-hot":  # for probabilities 0 the logits are so low that a step changes nothing
        log_probs = np.maximum(log_probs, -60.0)
    if name == "mean_std" and what != "uniform":
        log_probs = log_probs[:, 4:]  # the rows before have a class whose spread is 0
    finite = np.where(np.isfinite(log_probs), log_probs, -745.0)
    of = lambda z: reference(np.exp(oracles.log_softmax(z))).sum()
    np.testing.assert_allclose(
        slope(score, log_probs, 1.0), differences(of, finite, 1e-5), atol=2e-5
    )


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
@pytest.mark.parametrize("name", ["entropy", "expected_entropy", "bald"])
def test_of_labels_that_are_on_or_off(name, how):  # TRAPS 2
    reference = {"entropy": entropy, "expected_entropy": expected_entropy, "bald": bald}[name]
    combined = {"sum": np.sum, "mean": np.mean, "max": np.max}[how]

    def of(z):
        p = 1 / (1 + np.exp(-z))
        return combined(reference(np.stack([p, 1 - p], -1)), axis=-1).sum()

    score = lambda z: jnp.sum(getattr(multilabel, name)(z, how=how))
    z = np.random.default_rng(4).normal(size=(DRAWS, 6, 3))
    got = jax.grad(score)(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(got, differences(of, z), atol=3e-6)
    for extreme in (np.zeros(z.shape), np.where(z > 0, np.inf, -np.inf), 300 * z):
        assert np.isfinite(jax.grad(score)(jnp.asarray(extreme, jnp.float32))).all()


def half_log_ratio(m, v):
    return 0.5 * np.log(v.mean(0) + m.var(0)) - 0.5 * np.log(v).mean(0)


def mixture_information(m, v):
    """BALD of a mixture of Gaussians, by a fine grid."""
    y = np.linspace(-40.0, 40.0, 20001)[:, None, None]
    density = np.exp(-0.5 * np.square(y - m) / v) / np.sqrt(2 * np.pi * v)
    mean = density.mean(1)
    entropy = -(mean * np.log(np.maximum(mean, 1e-300))).sum(0) * (y[1] - y[0]).item()
    return entropy - (0.5 * np.log(2 * np.pi * np.e * v)).mean(0)


REGRESSION = {
    "variance": lambda m, v: m.var(0) + v.mean(0),
    "epistemic": lambda m, v: m.var(0),
    "aleatoric": lambda m, v: v.mean(0),
    "bald_moments": half_log_ratio,
    "bald": mixture_information,
}


@pytest.mark.parametrize("name", REGRESSION)
def test_of_a_score_of_numbers(name):  # TRAPS 2
    rng = np.random.default_rng(5)
    m, v = rng.normal(size=(4, 3)), np.exp(rng.normal(size=(4, 3)))
    score = lambda m, v: jnp.sum(getattr(regression, name)(m, v))
    single = jnp.asarray(m, jnp.float32), jnp.asarray(v, jnp.float32)
    got = jax.grad(score, (0, 1))(*single)
    of = REGRESSION[name]
    step = 1e-4 if name == "bald" else STEP
    np.testing.assert_allclose(got[0], differences(lambda m: of(m, v).sum(), m, step), atol=2e-4)
    np.testing.assert_allclose(got[1], differences(lambda v: of(m, v).sum(), v, step), atol=2e-4)
    agreeing = jnp.broadcast_to(single[0][:1], m.shape), jnp.broadcast_to(single[1][:1], v.shape)
    for extreme in (agreeing, (100 * single[0], single[1])):
        assert all(np.isfinite(g).all() for g in jax.grad(score, (0, 1))(*extreme))


def test_of_information_in_a_batch_and_about_targets():  # TRAPS 2
    rng = np.random.default_rng(6)
    m, v = rng.normal(size=(6, 3)), np.exp(rng.normal(size=(6, 3)))

    def joint(m):
        covariance = (m - m.mean(0)).T @ (m - m.mean(0)) / len(m)
        return 0.5 * np.linalg.slogdet(np.eye(3) + covariance / np.sqrt(np.outer(v[0], v[0])))[1]

    def about(m):
        all_means, targets = m - m.mean(0), m[:, :1] - m[:, :1].mean()
        cross = np.square(all_means.T @ targets / len(m))[:, 0]
        both = (m.var(0) + v.mean(0)) * (m[:, 0].var() + v[:, 0].mean())
        return (-0.5 * np.log1p(-cross / both)).sum()

    single, noise = jnp.asarray(m, jnp.float32), jnp.asarray(v, jnp.float32)
    of_targets = lambda m: jnp.sum(regression.epig(m, noise, m[:, :1], noise[:, :1]))
    of_batch = lambda m: regression.joint_information(m, noise[0])
    np.testing.assert_allclose(jax.grad(of_batch)(single), differences(joint, m), atol=1e-5)
    np.testing.assert_allclose(jax.grad(of_targets)(single), differences(about, m), atol=1e-5)
    agreeing = jnp.broadcast_to(single[:1], single.shape)
    assert np.isfinite(jax.grad(of_batch)(agreeing)).all()
    assert np.isfinite(jax.grad(of_targets)(agreeing)).all()


def test_of_a_probit_label():  # TRAPS 2
    m, v = np.array([0.3, -1.0, 0.0]), np.array([1.0, 0.5, 4.0])
    c = np.pi * np.log(2) / 2

    def of(m, v):
        p = ndtr(m / np.sqrt(v + 1))
        known = np.log(2) * np.sqrt(c / (v + c)) * np.exp(-0.5 * m**2 / (v + c))
        return (-plogp(p) - plogp(1 - p) - known).sum()

    got = jax.grad(lambda m, v: jnp.sum(probit.bald(m, v)), (0, 1))(
        jnp.asarray(m, jnp.float32), jnp.asarray(v, jnp.float32)
    )
    np.testing.assert_allclose(got[0], differences(lambda m: of(m, v), m), atol=1e-5)
    np.testing.assert_allclose(got[1], differences(lambda v: of(m, v), v), atol=1e-5)
    pairs = np.array([[0, 1], [0, 2]])
    worth = lambda m, cov: jnp.sum(probit.preference(m, cov, pairs))
    slopes = jax.grad(worth, (0, 1))(jnp.zeros(3), jnp.eye(3))
    assert all(np.isfinite(g).all() for g in slopes)


def test_of_where_points_lie():  # TRAPS 2
    rng = np.random.default_rng(7)
    x, labeled, losses = rng.normal(size=(8, 2)), rng.normal(size=(4, 2)), rng.random(4)
    apart = lambda a, b: np.sqrt(np.square(a[:, None] - b[None]).sum(-1))

    def expected(x):
        weights = np.exp(-np.square(apart(x, labeled)) / 2)
        return ((losses.mean() + weights @ losses) / (1 + weights.sum(1))).sum()

    def typical(x):
        return (1 / np.sort(apart(x, x) + 1e9 * np.eye(len(x)))[:, :2].mean(1)).sum()

    f32 = lambda a: jnp.asarray(a, jnp.float32)
    error = lambda x: jnp.sum(
        scores.neighbor_error(x, f32(labeled), f32(losses), bandwidth=1.0, prior=1.0)
    )
    dense = lambda x: jnp.sum(scores.density(x, neighbors=2))
    np.testing.assert_allclose(jax.grad(error)(f32(x)), differences(expected, x), atol=1e-5)
    np.testing.assert_allclose(
        jax.grad(dense)(f32(x)), differences(typical, x), rtol=1e-3, atol=1e-4
    )
    for extreme in (jnp.concatenate([f32(x), f32(x)]), jnp.ones((8, 2))):  # copies are at 0
        assert np.isfinite(jax.grad(dense)(extreme)).all()
        assert np.isfinite(jax.grad(error)(extreme)).all()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 1.5])
def test_of_information_density_where_nothing_is_near_or_allowed(beta):  # TRAPS 2, 28
    score, density = jnp.array([0.5, 0.0, 0.2, -jnp.inf]), jnp.array([0.0, 1.0, 2.0, 3.0])
    total = lambda s, d, b: jnp.sum(scores.information_density(s, d, b)[:3])
    got = jax.grad(total, (0, 1, 2))(score, density, jnp.float32(beta))
    assert all(np.isfinite(g).all() for g in got)
    want = np.where([True, True, True, False], np.array([0.0, 1.0, 2.0, 3.0]) ** beta, 0.0)
    np.testing.assert_allclose(got[0], want, rtol=1e-6)
    at_zero = {1.0: 0.5}.get(beta, 0.0)  # for 0 < beta < 1 there is no finite one
    np.testing.assert_allclose(got[1][0], at_zero, rtol=1e-6)


@pytest.mark.parametrize("by", [combine.rank_sum, combine.z_score, combine.product, combine.pareto])
def test_of_combined_scores_is_finite(by):  # TRAPS 2, 28
    for one in (jnp.array([0.5, 0.0, 0.2]), jnp.zeros(3), jnp.array([0.3, 0.0, -jnp.inf])):
        finite = lambda one: jnp.where(jnp.isfinite(v := by(one, jnp.ones(3))), v, 0.0).sum()
        assert np.isfinite(jax.grad(finite)(one)).all()
