"""Against float64 oracles: plain moments, dense numerical integration, determinants."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import _chunks, errors
from bayesal.scores import regression

pytestmark = pytest.mark.usefixtures("strict")

K, N = 5, 8
as_users_do = oracles.as_users_do
MOMENTS = ("variance", "epistemic", "aleatoric", "bald_moments", "bald")
each_score = pytest.mark.parametrize("name", MOMENTS)


def problem(seed, points=N, draws=K, spread=1.0):
    """Means and variances `[K, N]`; a point whose draws agree, one of far draws, equal ones, and
    enormous and tiny variances.
    """
    rng = np.random.default_rng(seed)
    means, log_scale = rng.normal(size=(draws, points)), spread * rng.normal(size=(draws, points))
    means[:, 0], log_scale[:, 0] = means[:1, 0], log_scale[:1, 0]
    means[:, 1] *= 1e3
    means[:, 3], log_scale[:, 3] = means[:, 2], log_scale[:, 2]
    variances = np.exp(2 * log_scale)
    variances[:, 4], variances[:, 5] = 1e-8, 1e8
    variances[:, 6] = 10.0 ** rng.integers(-8, 9, draws)
    return means.astype(np.float32), variances.astype(np.float32)


def dense_bald(m, v):
    """H(mixture) - mean H by Simpson's rule between the sorted points of a fine grid about each
    component.
    """
    m, v = m.astype(np.float64), v.astype(np.float64)
    nodes = np.unique(
        np.concatenate(
            [a + b * np.linspace(-9, 9, 2001) for a, b in zip(m, np.sqrt(v), strict=True)]
        )
    )

    def integrand(y):
        log_p = -0.5 * (np.log(2 * np.pi * v)[:, None] + (y - m[:, None]) ** 2 / v[:, None])
        log_q = np.logaddexp.reduce(log_p, axis=0) - math.log(len(m))
        return (np.exp(log_p) * (log_p - log_q)).mean(axis=0)

    middle = (nodes[1:] + nodes[:-1]) / 2
    return float(
        (
            np.diff(nodes)
            * (integrand(nodes[:-1]) + 4 * integrand(middle) + integrand(nodes[1:]))
            / 6
        ).sum()
    )


def by_hand(m, v):
    """The closed forms, as a dictionary, of one point in float64."""
    m, v = [float(x) for x in m], [float(x) for x in v]
    center, noise = math.fsum(m) / len(m), math.fsum(v) / len(v)
    signal = math.fsum((x - center) ** 2 for x in m) / len(m)
    moments = 0.5 * math.log(signal + noise) - 0.5 * math.fsum(map(math.log, v)) / len(v)
    return {
        "variance": signal + noise,
        "epistemic": signal,
        "aleatoric": noise,
        "bald_moments": moments,
    }


@pytest.mark.parametrize("name", MOMENTS[:4])
@given(st.integers(0, 2**31))
def test_the_closed_forms_against_sums_by_hand(name, seed):  # TRAPS 31
    means, variances = problem(seed)
    want = [by_hand(means[:, i], variances[:, i])[name] for i in range(N)]
    np.testing.assert_allclose(
        getattr(regression, name)(means, variances), want, rtol=1e-5, atol=1e-6
    )


@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 4.0]))
def test_bald_against_dense_integration_and_its_bounds(seed, spread):  # TRAPS 3, 31
    means, variances = problem(seed, spread=spread)
    got = np.asarray(regression.bald(means, variances))
    np.testing.assert_allclose(
        got, [dense_bald(means[:, i], variances[:, i]) for i in range(N)], atol=1e-5
    )
    assert got.min() >= 0 and got.max() <= np.float32(math.log(K))
    assert np.all(got <= regression.bald_moments(means, variances) + 1e-5)
    assert got[2] == got[3]


def test_bald_of_two_draws_from_far_apart_to_nearly_the_same():
    apart = np.array([1e12, 9.0, 1.0, 1e-2, 1e-3, 0.0], np.float32)
    means = np.stack([-apart / 2, apart / 2])
    got = np.asarray(regression.bald(means, np.ones_like(means)))
    assert got[:2].tolist() == pytest.approx([math.log(2)] * 2, abs=2e-5) and got[-1] == 0
    np.testing.assert_allclose(
        got[3:5], apart[3:5] ** 2 / 8, rtol=1e-2
    )  # the limit of small distances: signal / (2 noise)


def test_a_common_offset_costs_no_digits_and_units_do_not_matter():  # TRAPS 25
    rng = np.random.default_rng(3)
    means = np.round(rng.normal(size=(K, N)) * 64) / 64  # exact beside the offset
    variances = np.exp(rng.normal(size=(K, N)))
    for name in MOMENTS:
        score = getattr(regression, name)
        near, far = (
            score((means + offset).astype(np.float32), variances.astype(np.float32))
            for offset in (0, 65536)
        )
        np.testing.assert_allclose(far, near, rtol=1e-5, atol=1e-6)
    tiny = regression.bald((means * 1e-4).astype(np.float32), (variances * 1e-8).astype(np.float32))
    np.testing.assert_allclose(
        tiny, regression.bald(means.astype(np.float32), variances.astype(np.float32)), atol=1e-5
    )


@each_score
@given(seed=st.integers(0, 2**31))
def test_the_order_of_draws_and_points_does_not_matter(name, seed):
    means, variances = problem(seed)
    rng, score = np.random.default_rng(seed), getattr(regression, name)
    draws, points = rng.permutation(K), rng.permutation(N)
    whole = np.asarray(score(means, variances))
    np.testing.assert_allclose(score(means[draws], variances[draws]), whole, rtol=1e-5, atol=1e-5)
    assert np.array_equal(score(means[:, points], variances[:, points]), whole[points])


@each_score
def test_one_draw_any_batch_axes_and_an_empty_pool(name):
    score = getattr(regression, name)
    one = np.ones((1, N), np.float32)
    assert np.array_equal(
        score(3 * one, one), np.full(N, {"variance": 1, "aleatoric": 1}.get(name, 0))
    )
    means, variances = problem(1)
    whole = score(means, variances)
    np.testing.assert_allclose(
        score(means.reshape(K, 2, 4), variances.reshape(K, 2, 4)).reshape(-1), whole, rtol=1e-6
    )
    assert score(means[:, :0], variances[:, :0]).shape == (0,)


@pytest.mark.parametrize("apart", [0.3, 30.0, 1e3, 1e5])
def test_bald_of_many_draws_near_and_far(apart):  # TRAPS 31
    rng = np.random.default_rng(9)
    means = (apart * rng.normal(size=(40, 4))).astype(np.float32)
    variances = np.exp(rng.normal(size=(40, 4))).astype(np.float32)
    want = [dense_bald(means[:, i], variances[:, i]) for i in range(4)]
    np.testing.assert_allclose(regression.bald(means, variances), want, atol=1e-5)


def test_bald_does_not_depend_on_the_chunk(monkeypatch):  # TRAPS 10
    means, variances = problem(2)
    whole = regression.bald(means, variances)
    # three points at a time, in a program of seven points: a new one
    monkeypatch.setattr(_chunks, "IN_CACHE", 3 * K * 6)
    np.testing.assert_allclose(
        regression.bald(means[:, :7], variances[:, :7]), whole[:7], atol=1e-6
    )


def test_integers_are_numbers_too():
    assert as_users_do(regression.variance)(
        np.array([[1], [3]]), np.array([[1], [2]])
    ).tolist() == [2.5]


def test_gradients_are_finite():  # TRAPS 2
    means, variances = problem(4)
    total = lambda m, v: (regression.bald_moments(m, v) + regression.bald(m, v)).sum()
    for slope in jax.jit(jax.grad(total, (0, 1)))(means[:, :4], variances[:, :4]):
        assert np.all(np.isfinite(slope))


# epig


def epig_by_hand(m, v, tm, tv):
    m, v, tm, tv = (np.asarray(a, np.float64) for a in (m, v, tm, tv))
    m, tm = m - m.mean(0), tm - tm.mean(0)
    a, b, e, f = (
        v.mean(0)[:, None],
        tv.mean(0)[None],
        (m**2).mean(0)[:, None],
        (tm**2).mean(0)[None],
    )
    gram = np.array(
        [
            [
                ((m[:, i] @ m[:, i]) * (tm[:, j] @ tm[:, j]) - (m[:, i] @ tm[:, j]) ** 2)
                / len(m) ** 2
                for j in range(tm.shape[1])
            ]
            for i in range(m.shape[1])
        ]
    )
    gap = (a * b + a * f + e * b + np.maximum(gram, 0)) / ((a + e) * (b + f))
    return (-0.5 * np.log(gap)).mean(1)


@given(st.integers(0, 2**31))
def test_epig_against_its_formula_and_its_bounds(seed):  # TRAPS 31
    means, variances = problem(seed)
    targets = problem(seed + 1)
    got = np.asarray(regression.epig(means, variances, *targets))
    np.testing.assert_allclose(got, epig_by_hand(means, variances, *targets), rtol=1e-4, atol=1e-6)
    assert got.min() >= 0 and np.all(
        got <= regression.bald_moments(means, variances) * (1 + 1e-5) + 1e-6
    )
    assert got[0] == 0 and got[2] == got[3]


def test_epig_of_a_noiseless_point_that_is_its_own_target():  # TRAPS 31
    means = np.random.default_rng(0).normal(size=(K, 1)).astype(np.float32) * np.array(
        [1.0, 1e4], np.float32
    )
    variances = np.full((K, 2), 1e-8, np.float32)
    got = np.asarray(regression.epig(means, variances, means, variances))
    signal = means.astype(np.float64).var(0)
    share = 1e-8 / (
        signal + 1e-8
    )  # 1 - rho^2 = noise shares of both, but for terms of second order
    want = [-0.5 * np.log(share[i] + share).mean() for i in range(2)]
    np.testing.assert_allclose(got, want, rtol=2e-2)


def test_epig_does_not_depend_on_the_chunk_and_is_symmetric():  # TRAPS 10, 33
    means, variances = problem(5)
    targets = problem(6)
    whole = regression.epig(means, variances, *targets)
    np.testing.assert_allclose(
        regression.epig(means, variances, *targets, chunk=3), whole, rtol=1e-5
    )
    np.testing.assert_allclose(
        regression.epig(*targets, means, variances).mean(), whole.mean(), rtol=1e-5
    )


def test_epig_holds_nothing_of_draws_by_points_by_targets():  # TRAPS 33
    k, n, t = 16, 4096, 512
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((k, n), (k, n), (k, t), (k, t))]
    memory = (
        jax.jit(lambda *a: regression.epig(*a, chunk=64)).lower(*shapes).compile().memory_analysis()
    )
    assert memory.temp_size_in_bytes < n * t * 4 / 4


# joint information


def joint_by_hand(m, noise):
    m, noise = np.asarray(m, np.float64), np.asarray(noise, np.float64)
    scaled = (m - m.mean(0)) / np.sqrt(len(m) * noise)
    return 0.5 * np.linalg.slogdet(np.eye(m.shape[1]) + scaled.T @ scaled)[1]


@given(st.integers(0, 2**31), st.sampled_from([1e-4, 1.0, 1e8]))
def test_joint_information_against_the_determinant_and_its_bounds(seed, scale):  # TRAPS 9, 31
    means, variances = problem(seed)
    means, noise = means[:, :4], variances[:1, :4].ravel() * np.float32(scale)
    got = float(regression.joint_information(means, noise))
    assert got == pytest.approx(joint_by_hand(means, noise), rel=1e-4, abs=1e-5)
    single = [float(0.5 * np.log1p(v)) for v in means.astype(np.float64).var(0) / noise]
    assert max(single) * (1 - 1e-5) - 1e-6 <= got <= sum(single) * (1 + 1e-5) + 1e-6


def test_joint_information_of_extreme_and_of_equal_points():  # TRAPS 9, 31
    means, _ = problem(3)
    noise = np.array([1e-8, 1e8, 1.0, 1.0], np.float32)
    assert float(regression.joint_information(means[:, :4], noise)) == pytest.approx(
        joint_by_hand(means[:, :4], noise), rel=1e-4
    )
    twice, sharp = np.repeat(means[:, 2:3], 4, axis=1), np.full(4, 1e-6, np.float32)
    assert float(regression.joint_information(twice, sharp)) == pytest.approx(
        joint_by_hand(twice, sharp), rel=1e-3
    )
    assert (
        float(regression.joint_information(means[:1, :4], noise))
        == 0
        == float(regression.joint_information(means[:, :0], noise[:0]))
    )


# bad input

GOOD = np.ones((K, N), np.float32)


def spoiled(value):
    return np.where(np.arange(N) == 7, np.float32(value), GOOD)


@each_score
@pytest.mark.parametrize(
    ("error", "argument", "means", "variances", "rows"),
    [
        (errors.OutOfRange, "variances", GOOD, spoiled(0), [7]),
        (errors.OutOfRange, "variances", GOOD, spoiled(-1), [7]),
        (errors.NonFinite, "variances", GOOD, spoiled(np.nan), [7]),
        (errors.NonFinite, "means", spoiled(np.inf), GOOD, [7]),
        (errors.OutOfRange, "variances", GOOD, GOOD.astype(np.float64) * 1e-60, list(range(N))),
        (errors.WrongShape, "variances", GOOD, GOOD[0], []),
        (errors.WrongShape, "variances", GOOD, GOOD[:, :1], []),
        (errors.WrongShape, "means", [[1.0]], GOOD, []),
        (errors.WrongShape, "means", GOOD[0, 0], GOOD[0, 0], []),
        (errors.WrongSize, "means", GOOD[:0], GOOD[:0], []),
    ],
)
def test_anything_else_is_refused_by_name(name, error, argument, means, variances, rows):
    with pytest.raises(error) as caught:
        as_users_do(getattr(regression, name))(means, variances)
    assert (
        caught.value.argument == argument
        and caught.value.rows.tolist() == rows
        and f"`{argument}`" in str(caught.value)
    )


@pytest.mark.parametrize(
    ("error", "argument", "call"),
    [
        (
            errors.WrongShape,
            "target_means",
            lambda: regression.epig(GOOD, GOOD, GOOD[:2], GOOD[:2]),
        ),
        (
            errors.WrongShape,
            "target_means",
            lambda: regression.epig(GOOD, GOOD, GOOD[:, :0], GOOD[:, :0]),
        ),
        (errors.OutOfRange, "target_variances", lambda: regression.epig(GOOD, GOOD, GOOD, -GOOD)),
        (errors.WrongShape, "means", lambda: regression.epig(GOOD[0], GOOD[0], GOOD, GOOD)),
        (errors.WrongSize, "chunk", lambda: regression.epig(GOOD, GOOD, GOOD, GOOD, chunk=0)),
        (errors.WrongShape, "noise_variances", lambda: regression.joint_information(GOOD, GOOD)),
        (
            errors.OutOfRange,
            "noise_variances",
            lambda: regression.joint_information(GOOD, 0 * GOOD[0]),
        ),
        (errors.WrongSize, "means", lambda: regression.joint_information(GOOD[:0], GOOD[0])),
    ],
)
def test_targets_and_batches_that_do_not_fit_are_refused_by_name(error, argument, call):
    with pytest.raises(error) as caught:
        as_users_do(call)()
    assert caught.value.argument == argument
