import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors
from bayesal.scores import probit

pytestmark = pytest.mark.usefixtures("strict")

as_users_do = oracles.as_users_do
erfc = np.vectorize(math.erfc)


def entropy(x):
    """h(Phi(x)) in float64, both tails without cancellation."""
    p, q = 0.5 * erfc(-x / math.sqrt(2)), 0.5 * erfc(x / math.sqrt(2))
    return -(p * np.log(np.maximum(p, 1e-300)) + q * np.log(np.maximum(q, 1e-300)))


GRID = np.linspace(-9, 9, 3601)
AT_GRID = entropy(GRID)
STANDARD = np.linspace(-9, 9, 3601)


def by_quadrature(mean, variance):
    """H[E p] - E H[p] by the trapezoid rule: over f where the prior is wide, over the prior's own
    scale where it is narrow.
    """
    scale = math.sqrt(variance)
    total = entropy(np.array(mean / math.sqrt(variance + 1)))
    if scale > 1:
        density = np.exp(-0.5 * ((GRID - mean) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
        return float(total - (density * AT_GRID).sum() * (GRID[1] - GRID[0]))
    weights = np.exp(-0.5 * STANDARD**2)
    return float(total - (weights * entropy(mean + scale * STANDARD)).sum() / weights.sum())


def test_within_three_thousandths_of_a_bit_of_quadrature():  # TRAPS 29
    means, variances = (
        a.ravel() for a in np.meshgrid(np.linspace(-10, 10, 21), 10.0 ** np.linspace(-6, 4, 11))
    )
    want = np.array([by_quadrature(*pair) for pair in zip(means, variances, strict=True)])
    got = np.asarray(probit.bald(means.astype(np.float32), variances.astype(np.float32)))
    assert np.abs(got - want).max() < 0.003 * math.log(2)
    assert (
        want.min() > -1e-9 and want.max() > 0.65
    )  # the grid reaches from nothing to nearly all there is


def by_hand(mean, variance):
    c = math.pi * math.log(2) / 2
    known = (
        math.log(2)
        * math.sqrt(c)
        * math.exp(-(mean**2) / (2 * (variance + c)))
        / math.sqrt(variance + c)
    )
    return max(float(entropy(np.array(mean / math.sqrt(variance + 1)))) - known, 0.0)


@given(st.integers(0, 2**31))
def test_bald_against_its_formula_its_bounds_and_its_symmetry(seed):
    rng = np.random.default_rng(seed)
    mean, variance = rng.normal(size=32) * 5, 10.0 ** rng.uniform(-8, 8, 32)
    mean[:4], variance[:4] = (0, 300, -300, 1e6), (1e-8, 1e-8, 1e8, 1.0)
    mean, variance = mean.astype(np.float32), variance.astype(np.float32)
    got = np.asarray(probit.bald(mean, variance))
    np.testing.assert_allclose(
        got, [by_hand(float(m), float(v)) for m, v in zip(mean, variance, strict=True)], atol=1e-6
    )
    assert got.min() >= 0 and got.max() <= np.float32(math.log(2))
    assert np.array_equal(probit.bald(-mean, variance), got)
    np.testing.assert_allclose(
        probit.bald(mean.reshape(4, 8), variance.reshape(4, 8)).reshape(-1), got, atol=1e-6
    )


def test_more_variance_tells_more_and_gradients_are_finite():  # TRAPS 2
    variance = jnp.asarray(10.0 ** np.linspace(-2, 8, 32), jnp.float32)
    assert np.all(np.diff(probit.bald(jnp.zeros(32), variance)) > 0)
    mean = jnp.asarray(np.linspace(-300, 300, 32), jnp.float32)
    for slope in jax.jit(jax.grad(lambda m, v: probit.bald(m, v).sum(), (0, 1)))(mean, variance):
        assert np.all(np.isfinite(slope))


@given(st.integers(0, 2**31))
def test_preference_is_bald_of_the_difference_and_symmetric(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6)) * 10.0 ** rng.uniform(-1, 1, (6, 1))
    mean, cov = rng.normal(size=6).astype(np.float32), (root @ root.T).astype(np.float32)
    pairs = np.array([(i, j) for i in range(6) for j in range(6) if i != j])
    contrast = np.eye(6)[pairs[:, 0]] - np.eye(6)[pairs[:, 1]]
    spread = np.einsum("pi,ij,pj->p", contrast, cov.astype(np.float64), contrast)
    got = np.asarray(probit.preference(mean, cov, pairs))
    np.testing.assert_allclose(
        got,
        [by_hand(float(d), float(v)) for d, v in zip(contrast @ mean, spread, strict=True)],
        atol=1e-4,
    )
    assert np.array_equal(probit.preference(mean, cov, pairs[:, ::-1]), got)


def test_items_that_are_copies_tell_nothing():
    same = probit.preference(
        np.ones(3, np.float32), np.full((3, 3), 7.0, np.float32), np.array([[0, 1], [1, 2]])
    )
    assert np.allclose(same, 0, atol=1e-6)
    myself = jax.jit(lambda pairs: probit.preference(jnp.ones(3), 7 * jnp.eye(3), pairs))(
        jnp.array([[1, 1]])
    )
    assert abs(float(myself[0])) < 1e-6
    assert probit.preference(jnp.ones(3), jnp.eye(3), jnp.zeros((0, 2), int)).shape == (0,)


MEAN, COV, PAIRS = np.zeros(3, np.float32), np.eye(3, dtype=np.float32), np.array([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("error", "argument", "rows", "call"),
    [
        (
            errors.OutOfRange,
            "variance",
            [1],
            lambda: probit.bald(MEAN, np.array([1, 0, 1], np.float32)),
        ),
        (
            errors.OutOfRange,
            "variance",
            [2],
            lambda: probit.bald(MEAN, np.array([1, 1, -1], np.float32)),
        ),
        (errors.NonFinite, "mean", [0, 1, 2], lambda: probit.bald(MEAN * np.nan, MEAN + 1)),
        (errors.WrongShape, "variance", [], lambda: probit.bald(MEAN, MEAN[:1] + 1)),
        (errors.WrongShape, "mean", [], lambda: probit.bald(0.0, 1.0)),
        (
            errors.WrongIndex,
            "pairs",
            [1],
            lambda: probit.preference(MEAN, COV, np.array([[0, 1], [2, 2]])),
        ),
        (errors.WrongIndex, "pairs", [0], lambda: probit.preference(MEAN, COV, np.array([[0, 3]]))),
        (
            errors.WrongIndex,
            "pairs",
            [0],
            lambda: probit.preference(MEAN, COV, np.array([[-1, 1]])),
        ),
        (errors.WrongShape, "pairs", [], lambda: probit.preference(MEAN, COV, PAIRS.astype(float))),
        (errors.WrongShape, "pairs", [], lambda: probit.preference(MEAN, COV, PAIRS[0])),
        (errors.WrongShape, "cov", [], lambda: probit.preference(MEAN, COV[:2], PAIRS)),
        (
            errors.OutOfRange,
            "cov",
            [0, 2],
            lambda: probit.preference(MEAN, COV + np.eye(3, k=2, dtype=np.float32), PAIRS),
        ),
        (
            errors.OutOfRange,
            "cov",
            [0, 1],
            lambda: probit.preference(MEAN, COV + 2 * (1 - COV) * np.eye(3)[[1, 0, 2]], PAIRS),
        ),
    ],
)
def test_anything_else_is_refused_by_name(error, argument, rows, call):
    with pytest.raises(error) as caught:
        as_users_do(call)()
    assert (
        caught.value.argument == argument
        and caught.value.rows.tolist() == rows
        and f"`{argument}`" in str(caught.value)
    )
