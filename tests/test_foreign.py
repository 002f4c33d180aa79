"""Scores of foreign rows against float64 NumPy, closed forms, and the extremes."""

import functools
import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import REJECTED, errors, metrics
from bayesal.scores import foreign

pytestmark = pytest.mark.usefixtures("strict")
OF_CLASSES = [foreign.mahalanobis, foreign.relative_mahalanobis]
ALL = [*OF_CLASSES, foreign.nearest]
freely = oracles.as_users_do(foreign.mahalanobis)
each = pytest.mark.parametrize("score", ALL, ids=lambda score: score.__name__)


def by_hand(x, labeled, y, relative=False):
    """The formula, in float64, with explicit inverses of D x D matrices."""
    x, labeled = np.float64(x), np.float64(labeled)
    count, width = labeled.shape
    present = np.unique(y)
    means = {c: labeled[y == c].mean(axis=0) for c in present}
    center = labeled.mean(axis=0)
    own = labeled - np.stack([means[c] for c in y])
    within, total = own.T @ own / count, (labeled - center).T @ (labeled - center) / count
    spread = np.trace(total) / width or 1.0
    level = np.trace(within) / width
    level = level if level > 1e-6 * spread else spread
    rho = width / (count + width)
    shrunk = lambda cov, level: np.linalg.inv((1 - rho) * cov + rho * level * np.eye(width))
    square = lambda mean, inverse: np.einsum("nd,de,ne->n", x - mean, inverse, x - mean)
    found = np.min([square(mean, shrunk(within, level)) for mean in means.values()], axis=0)
    return found - square(center, shrunk(total, spread)) * relative


def rows(seed, count, width, classes):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=count)
    centers = 3.0 * rng.normal(size=(classes, width))
    return (centers[y] + rng.normal(size=(count, width))).astype(np.float32), y


@pytest.mark.parametrize("score", OF_CLASSES, ids=lambda score: score.__name__)
@given(
    st.integers(0, 2**31), st.sampled_from([(3, 5), (9, 4), (40, 6), (12, 30), (1, 3), (25, 25)])
)
@settings(max_examples=15)
def test_distances_are_those_of_the_formula_in_float64(score, seed, shape):
    labeled, y = rows(seed, *shape, 3)
    x, _ = rows(seed + 1, 7, shape[1], 3)
    want = by_hand(x, labeled, y, score is foreign.relative_mahalanobis)
    got = np.asarray(score(x, labeled, y))
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * np.abs(want).max())


def test_nearest_is_the_nearest_in_plain_python():
    labeled, y = rows(0, 9, 4, 2)
    x = np.concatenate([rows(1, 6, 4, 2)[0], labeled[:2]])
    want = [min(math.dist(row.tolist(), one.tolist()) for one in labeled) for row in x]
    got = np.asarray(foreign.nearest(x, labeled, y))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got[-2:].tolist() == [0.0, 0.0]  # copies


def test_energy_is_minus_the_mean_log_sum_of_exponentials():
    logits = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    want = [
        -math.fsum(math.log(math.fsum(math.exp(v / 2.0) for v in row)) for row in logits[:, n])
        * 2.0
        / 3
        for n in range(4)
    ]
    got = foreign.energy(logits, temperature=2.0)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    big = np.array([[[1e4, -1e4], [-3e4, -3e4]]], np.float32)
    np.testing.assert_allclose(foreign.energy(big), [-1e4, 3e4 - math.log(2)], rtol=1e-6)


def test_auroc_of_two_normals_is_that_of_the_closed_form():
    """Along the one axis on which they differ, |a - m| of N(0, 1) against |b - m| of N(6, 1)."""
    rng = np.random.default_rng(0)
    labeled = rng.normal(size=(4_000, 2))
    clean, other = rng.normal(size=(20_000, 2)), rng.normal(size=(20_000, 2)) + np.array([2.0, 0.0])
    x = np.concatenate([clean, other]).astype(np.float32)
    got = np.asarray(foreign.mahalanobis(x, labeled.astype(np.float32), np.zeros(4_000, int)))
    found = metrics.auroc(got, np.arange(40_000) >= 20_000)
    # P(chi2_2 < noncentral chi2_2(4)): with A exponential(1/2), E[1 - exp(-Q / 2)] and the
    # moment generating function of Q at -1/2 is exp(-4/4) / 2
    assert found == pytest.approx(1 - math.exp(-1.0) / 2, abs=0.01)
    assert NormalDist().cdf(2 / math.sqrt(2)) > found  # less than by the axis itself


def test_a_map_that_is_affine_changes_nothing_where_nothing_is_shrunk():
    labeled, y = rows(3, 60_000, 3, 2)  # shrinkage 3 / 60,003
    x, _ = rows(4, 8, 3, 2)
    turn = np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 0.3], [0.2, 0.0, 1.0]], np.float32)
    want = np.asarray(foreign.mahalanobis(x, labeled, y))
    got = np.asarray(foreign.mahalanobis(x @ turn + 3.0, labeled @ turn + 3.0, y))
    np.testing.assert_allclose(got, want, rtol=5e-3)


@each
def test_a_row_has_the_same_bits_in_every_chunk(score):
    labeled, y = rows(0, 20, 33, 3)
    x, _ = rows(1, 1000, 33, 3)
    whole = np.asarray(score(x, labeled, y))
    for chunk in (1, 7, 256, 300):
        cut = [np.asarray(score(x[i : i + chunk], labeled, y)) for i in range(0, 1000, chunk)]
        np.testing.assert_array_equal(np.concatenate(cut), whole)


@each
def test_padding_and_rejected_rows_change_nothing(score):
    labeled, y = rows(0, 20, 6, 3)
    x, _ = rows(1, 9, 6, 3)
    want = np.asarray(score(x, labeled, y))
    more = np.concatenate([labeled, np.full((3, 6), np.nan, np.float32), 50 * labeled[:2]])
    labels = np.concatenate([y, [0, 1, 2], [REJECTED, REJECTED]])
    valid = np.arange(25) < 20
    valid[23:] = True  # rejected, not padding
    got = np.asarray(score(x, more, labels, valid=valid))
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * np.abs(want).max())


@each
@pytest.mark.parametrize(
    "labeled",
    [
        np.array([[1.0, 2.0, 3.0]]),
        np.ones((4, 3)),
        np.zeros((4, 3)),
        np.eye(3)[[0, 0, 1, 1]],
        np.eye(3),
        np.array([[1.0, 0.0, 5.0], [2.0, 0.0, 5.0], [3.0, 0.0, 5.0], [4.0, 0.0, 5.0]]),
    ],
    ids=["one label", "copies", "zeros", "two copies", "one of a class", "constant features"],
)
def test_extremes_are_finite_and_a_far_row_is_the_most_foreign(score, labeled):
    labeled = labeled.astype(np.float32)
    y = np.arange(len(labeled)) // max(1, len(labeled) // 2)
    y[-1] = y[0] if len(labeled) == 1 else y[-1]
    near, far = labeled.mean(axis=0, keepdims=True), labeled.mean(axis=0, keepdims=True) + 1e3
    got = np.asarray(score(np.concatenate([near, labeled, far]).astype(np.float32), labeled, y))
    assert np.isfinite(got).all()
    if score is not foreign.relative_mahalanobis:  # both normals may grow alike
        assert got[-1] > got[:-1].max()


@each
def test_a_row_of_nan_is_nan_and_no_other_row_is(score):
    labeled, y = rows(0, 8, 3, 2)
    x, _ = rows(1, 5, 3, 2)
    whole = jax.jit(functools.partial(score, classes=2))
    broken = x.copy()
    broken[2, 1] = np.nan
    got, want = (np.asarray(whole(each, labeled, jnp.asarray(y))) for each in (broken, x))
    assert np.isnan(got[2])
    np.testing.assert_array_equal(np.delete(got, 2), np.delete(want, 2))
    with pytest.raises(errors.NonFinite, match="features"):
        score(broken, labeled, y)


def test_a_large_common_offset_of_float64_changes_nothing():
    labeled, y = rows(0, 12, 4, 2)
    x, _ = rows(1, 5, 4, 2)
    for score in ALL:
        want = np.asarray(score(x, labeled, y))
        got = np.asarray(score(np.float64(x) + 1e8, np.float64(labeled) + 1e8, y))
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())


REFUSED = {
    "width": (errors.WrongShape, "labeled_features", lambda x, m, y: (x[:, :2], m, y, {})),
    "labels": (errors.WrongShape, "labels", lambda x, m, y: (x, m, y[:-1], {})),
    "floats": (errors.WrongShape, "labels", lambda x, m, y: (x, m, y.astype(float), {})),
    "valid": (errors.WrongShape, "valid", lambda x, m, y: (x, m, y, {"valid": y})),
    "none": (errors.WrongSize, "labels", lambda x, m, y: (x, m, y * 0 + REJECTED, {})),
    "classes": (errors.WrongSize, "classes", lambda x, m, y: (x, m, y, {"classes": 0})),
    "NaN": (errors.NonFinite, "labeled_features", lambda x, m, y: (x, m * np.nan, y, {})),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_named(name):
    error, argument, change = REFUSED[name]
    labeled, y = rows(0, 8, 3, 2)
    *given, more = change(rows(1, 5, 3, 2)[0], labeled, y)
    with pytest.raises(error) as caught:
        freely(*given, **more)
    assert caught.value.argument == argument


def test_energy_refuses_what_is_normalized_and_bad_temperatures():
    log_probs = jax.nn.log_softmax(jnp.ones((2, 3, 4)))
    with pytest.raises(errors.WrongType, match="log_softmax"):
        foreign.energy(log_probs)
    with pytest.raises(errors.OutOfRange):
        foreign.energy(jnp.ones((2, 3, 4)), temperature=0.0)
    with pytest.raises(errors.WrongSize, match="classes"):
        jax.jit(foreign.mahalanobis)(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.zeros(2, jnp.int32))
