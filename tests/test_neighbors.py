import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, scores, select
from bayesal.scores import _neighbors as neighbors

pytestmark = pytest.mark.usefixtures("strict")

N, M, D = 24, 9, 3
as_users_do = oracles.as_users_do


def cloud(seed, rows, offset=0.0):
    """Points with copies among them."""
    x = np.random.default_rng(seed).normal(size=(rows, D))
    x[1] = x[0]
    return (np.round(x * 64) / 64 + offset).astype(np.float32)  # exact beside the offset


# neighbor_error


def error_by_hand(x, labeled, losses, bandwidth, prior):
    mean = math.fsum(losses) / len(losses)
    weights = [
        math.exp(-0.5 * math.fsum((a - b) ** 2 for a, b in zip(x, row, strict=True)) / bandwidth**2)
        for row in labeled
    ]
    return (prior * mean + math.fsum(w * v for w, v in zip(weights, losses, strict=True))) / (
        prior + math.fsum(weights)
    )


@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 100.0]), st.sampled_from([0.0, 1e4]))
def test_neighbor_error_against_sums_by_hand_and_its_bounds(seed, bandwidth, offset):  # TRAPS 25
    rng = np.random.default_rng(seed)
    x, labeled, losses = (
        cloud(seed, N, offset),
        cloud(seed + 1, M, offset),
        rng.exponential(size=M).astype(np.float32),
    )
    x[2] = labeled[0]
    got = np.asarray(scores.neighbor_error(x, labeled, losses, bandwidth=bandwidth, prior=0.5))
    want = [
        error_by_hand(row.tolist(), labeled.tolist(), losses.tolist(), bandwidth, 0.5) for row in x
    ]
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert (
        losses.min() <= got.min()
        and got.max() <= losses.max()
        and got[0] == pytest.approx(got[1], rel=1e-5)
    )
    order = rng.permutation(M)
    np.testing.assert_allclose(
        scores.neighbor_error(x, labeled[order], losses[order], bandwidth=bandwidth, prior=0.5),
        got,
        rtol=1e-5,
    )


def test_padding_changes_nothing():  # TRAPS 21
    x, labeled, losses = cloud(0, N), cloud(1, M), np.arange(M, dtype=np.float32)
    want = scores.neighbor_error(x, labeled[:5], losses[:5], bandwidth=1.0)
    for garbage in (np.nan, np.inf, 1e30):
        features, values = labeled.copy(), losses.copy()
        features[5:], values[5:] = garbage, garbage
        got = scores.neighbor_error(x, features, values, bandwidth=1.0, valid=np.arange(M) < 5)
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_far_from_every_label_stands_the_mean_and_beside_one_nearly_its_loss():
    x = np.array([[1e6] * D, [0.0] * D], np.float32)
    labeled, losses = (
        np.array([[0.0] * D, [50.0] * D], np.float32),
        np.array([3.0, 1.0], np.float32),
    )
    got = scores.neighbor_error(x, labeled, losses, bandwidth=1.0, prior=1e-3)
    assert float(got[0]) == 2.0 and float(got[1]) == pytest.approx(3.0, abs=2e-3)


def test_chunks_and_jit_give_the_same(monkeypatch):  # TRAPS 10
    x, labeled, losses = cloud(2, N - 1), cloud(3, M), np.arange(M, dtype=np.float32)
    monkeypatch.setattr(
        neighbors, "BUDGET", 5 * N
    )  # in programs of another number of points than all others: new ones
    errors, densities = jax.jit(
        lambda x, w: (
            scores.neighbor_error(x, labeled, losses, bandwidth=w),
            scores.density(x, neighbors=4),
        )
    )(x, 1.0)
    np.testing.assert_allclose(
        errors,
        [error_by_hand(row.tolist(), labeled.tolist(), losses.tolist(), 1.0, 1.0) for row in x],
        rtol=1e-4,
    )
    np.testing.assert_allclose(densities, density_by_hand(x, 4), rtol=1e-4)


# density


def density_by_hand(x, neighbors):
    x = x.astype(np.float64)
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    np.fill_diagonal(distances, np.inf)
    radius = np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    return 1 / np.maximum(np.sort(distances, axis=1)[:, :neighbors].mean(1), 1e-6 * (radius or 1.0))


@given(st.integers(0, 2**31), st.sampled_from([1, 4, N - 1]), st.sampled_from([0.0, 1e4]))
def test_density_against_a_sort_of_all_distances(seed, neighbors, offset):  # TRAPS 25
    x = cloud(seed, N, offset)
    got = np.asarray(scores.density(x, neighbors=neighbors))
    np.testing.assert_allclose(got, density_by_hand(x, neighbors), rtol=1e-4)
    points = np.random.default_rng(seed).permutation(N)
    np.testing.assert_allclose(
        scores.density(x[points], neighbors=neighbors), got[points], rtol=1e-4
    )


def test_copies_are_dense_and_finite():  # TRAPS 25, 26
    equal = np.asarray(scores.density(np.full((N, D), 7.0, np.float32), neighbors=4))
    assert np.array_equal(equal, np.full(N, equal[0])) and np.isfinite(equal[0])
    x = cloud(4, N)
    x[:5] = x[0]
    got = np.asarray(scores.density(x, neighbors=4))
    assert np.all(np.isfinite(got)) and np.all(got[:5] == got.max()) and got[5:].max() < got[0]


def test_density_holds_nothing_of_points_by_points():  # TRAPS 33
    n, d = 8192, 16
    memory = (
        jax.jit(lambda x: scores.density(x, neighbors=5))
        .lower(jax.ShapeDtypeStruct((n, d), jnp.float32))
        .compile()
        .memory_analysis()
    )
    assert memory.temp_size_in_bytes < n * n * 4 / 2


def test_an_empty_pool_and_a_single_point():
    labeled, losses = cloud(1, M), np.ones(M, np.float32)
    assert scores.neighbor_error(
        np.zeros((0, D), np.float32), labeled, losses, bandwidth=1.0
    ).shape == (0,)
    assert scores.density(np.zeros((0, D), np.float32), neighbors=1).shape == (0,)
    assert scores.density(np.zeros((1, D), np.float32), neighbors=1).shape == (1,)


# weighted


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_weighted_against_powers_by_hand_and_a_gate_survives(seed, beta):  # TRAPS 28
    rng = np.random.default_rng(seed)
    score, typical = (rng.exponential(size=N).astype(np.float32) for _ in range(2))
    score[:4], typical[:8] = -np.inf, 0.0
    got = np.asarray(scores.information_density(score, typical, beta))
    assert np.all(got[:4] == -np.inf)
    np.testing.assert_allclose(
        got[4:],
        [float(s) * float(d) ** beta for s, d in zip(score[4:], typical[4:], strict=True)],
        rtol=1e-5,
    )
    assert min(select.top(got, 3, available=np.arange(N) != 20).indices.tolist()) >= 4


def test_under_jit_a_negative_score_is_shown_not_turned_around():  # TRAPS 4
    got = jax.jit(scores.information_density)(
        jnp.array([-0.5, 0.5, -jnp.inf, 1.0]), jnp.array([1.0, 2.0, 3.0, -1.0]), 1.0
    )
    assert np.isnan(got[0]) and got[1] == 1.0 and got[2] == -np.inf and np.isnan(got[3])


# bad input

X, LABELED, LOSSES = cloud(5, N), cloud(6, M), np.ones(M, np.float32)
BAD_X, ONE = np.where(np.arange(N)[:, None] == 7, np.float32(np.nan), X), np.ones(N, np.float32)
BAD_LABELED = np.where(np.arange(M)[:, None] == 8, np.float32(np.nan), LABELED)


@pytest.mark.parametrize(
    ("error", "argument", "rows", "call"),
    [
        (
            errors.NonFinite,
            "features",
            [7],
            lambda: scores.neighbor_error(BAD_X, LABELED, LOSSES, bandwidth=1.0),
        ),
        (
            errors.WrongShape,
            "features",
            [],
            lambda: scores.neighbor_error(X[0], LABELED, LOSSES, bandwidth=1.0),
        ),
        (
            errors.WrongShape,
            "labeled_features",
            [],
            lambda: scores.neighbor_error(X, LABELED[:, :2], LOSSES, bandwidth=1.0),
        ),
        (
            errors.NonFinite,
            "labeled_features",
            [8],
            lambda: scores.neighbor_error(X, BAD_LABELED, LOSSES, bandwidth=1.0),
        ),
        (
            errors.WrongShape,
            "losses",
            [],
            lambda: scores.neighbor_error(X, LABELED, LOSSES[:3], bandwidth=1.0),
        ),
        (
            errors.NonFinite,
            "losses",
            list(range(M)),
            lambda: scores.neighbor_error(X, LABELED, LOSSES * np.nan, bandwidth=1.0),
        ),
        (
            errors.WrongShape,
            "valid",
            [],
            lambda: scores.neighbor_error(
                X, LABELED, LOSSES, bandwidth=1.0, valid=np.ones(3, bool)
            ),
        ),
        (
            errors.WrongSize,
            "valid",
            [],
            lambda: scores.neighbor_error(
                X, LABELED, LOSSES, bandwidth=1.0, valid=np.zeros(M, bool)
            ),
        ),
        (
            errors.OutOfRange,
            "bandwidth",
            [],
            lambda: scores.neighbor_error(X, LABELED, LOSSES, bandwidth=0.0),
        ),
        (
            errors.NonFinite,
            "bandwidth",
            [],
            lambda: scores.neighbor_error(X, LABELED, LOSSES, bandwidth=math.nan),
        ),
        (
            errors.OutOfRange,
            "prior",
            [],
            lambda: scores.neighbor_error(X, LABELED, LOSSES, bandwidth=1.0, prior=-1.0),
        ),
        (errors.NonFinite, "features", [7], lambda: scores.density(BAD_X)),
        (errors.WrongSize, "neighbors", [], lambda: scores.density(X, neighbors=N)),
        (errors.WrongSize, "neighbors", [], lambda: scores.density(X, neighbors=0)),
        (
            errors.OutOfRange,
            "score",
            [3],
            lambda: scores.information_density(
                np.where(np.arange(N) == 3, np.float32(-1), ONE), ONE
            ),
        ),
        (
            errors.NonFinite,
            "score",
            [0],
            lambda: scores.information_density(
                np.where(np.arange(N) == 0, np.float32(np.inf), ONE), ONE
            ),
        ),
        (
            errors.OutOfRange,
            "density",
            [3],
            lambda: scores.information_density(
                ONE, np.where(np.arange(N) == 3, np.float32(-1), ONE)
            ),
        ),
        (errors.WrongShape, "density", [], lambda: scores.information_density(ONE, ONE[:3])),
        (errors.OutOfRange, "beta", [0], lambda: scores.information_density(ONE, ONE, -1.0)),
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
