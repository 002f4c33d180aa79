"""float64 and large integers: an offset changes no answer, or the numbers are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import errors, scores, select
from bayesal.scores import combine, regression

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
F = np.random.default_rng(0).normal(size=(60, 3))
LOSSES = np.random.default_rng(1).random(9)
S = np.random.default_rng(2).random(60)
LABELED = np.arange(60) < 4
BY_DISTANCE = {
    "k_center": lambda f: select.k_center(f, 5).indices,
    "k_center, labeled": lambda f: select.k_center(f, 5, labeled=LABELED).indices,
    "k_means_pp": lambda f: select.k_means_pp(KEY, f, 5).indices,
    "k_means": lambda f: select.k_means(KEY, f, 5).indices,
    "typiclust": lambda f: select.typiclust(KEY, f, 5, labeled=LABELED).indices,
    "suppress_duplicates": lambda f: select.suppress_duplicates(f, S, 8, radius=1.0).indices,
    "density": lambda f: scores.density(f, neighbors=3),
    "neighbor_error": lambda f: scores.neighbor_error(f, f[:9], LOSSES, bandwidth=0.7),
    "neighbor_error, some": lambda f: scores.neighbor_error(
        f, f[:9], LOSSES, bandwidth=0.7, valid=np.arange(9) < 5
    ),
}
each_distance = pytest.mark.parametrize("name", BY_DISTANCE)


@each_distance
@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
def test_an_offset_in_float64_changes_no_distance(name, offset):
    of = BY_DISTANCE[name]
    np.testing.assert_allclose(of(F + offset), of(F), rtol=1e-4)


@each_distance
@pytest.mark.parametrize("offset", [2**33, 2**60])
def test_an_offset_of_integers_changes_no_distance(name, offset):
    of, whole = BY_DISTANCE[name], np.round(F * 2).astype(np.int64)
    of = oracles.as_users_do(of)
    np.testing.assert_allclose(of(whole + offset), of(whole), rtol=1e-4)


@each_distance
def test_float64_at_an_ordinary_scale_is_float32(name):
    of = BY_DISTANCE[name]
    np.testing.assert_array_equal(of(F), of(F.astype(np.float32)))


def test_points_that_do_not_count_do_not_hide_an_offset():
    available = np.arange(60) >= 20
    shifted = F + 1e9
    shifted[:20] = 0.0
    for function in (select.k_center, lambda f, b, **o: select.k_means_pp(KEY, f, b, **o)):
        got = function(shifted, 5, available=available).indices
        assert got.tolist() == function(F, 5, available=available).indices.tolist()


M = np.random.default_rng(3).normal(size=(6, 9))
V = np.exp(np.random.default_rng(4).normal(size=(6, 9)))
OF_DRAWS = {
    "log_det_gaussian": lambda m: select.log_det_gaussian(m, V[0], 4).indices,
    "batch_epig_gaussian": lambda m: (
        select.batch_epig_gaussian(m, V[0], m[:, :3], V[0, :3], 4).indices
    ),
    "epig": lambda m: regression.epig(m, V, m[:, :3], V[:, :3]),
    "joint_information": lambda m: regression.joint_information(m, V[0]),
    **{
        name: lambda m, name=name: getattr(regression, name)(m, V)
        for name in ("variance", "epistemic", "aleatoric", "bald_moments", "bald")
    },
}


@pytest.mark.parametrize("name", OF_DRAWS)
@pytest.mark.parametrize("offset", [1e9, 1e9 * np.arange(9)])
def test_an_offset_of_all_draws_changes_nothing(name, offset):
    np.testing.assert_allclose(OF_DRAWS[name](M + offset), OF_DRAWS[name](M), rtol=2e-3)


LOG_P = oracles.random_log_probs(0, (4, 60, 3))[0]
BY_ANGLE = {
    "dpp": lambda f: select.dpp(f, 5),
    "badge": lambda f: select.badge(KEY, LOG_P, f, 5),
    "bait": lambda f: select.bait(f[:, None], 5),
}


@pytest.mark.parametrize("name", BY_ANGLE)
def test_an_offset_that_changes_angles_is_refused(name):
    with pytest.raises(errors.OutOfRange, match="offset") as caught:
        BY_ANGLE[name](F + 1e9)
    assert caught.value.argument == ("factors" if name == "bait" else "features")
    assert len(set(BY_ANGLE[name](F + 1.0).indices.tolist())) == 5
    same = np.full((60, 3), 0.1)  # float32 rounds them, and loses nothing by it
    assert len(BY_ANGLE[name](same).indices) == 5
    assert len(BY_ANGLE[name](same + 1e-16 * F).indices) == 5


LARGE = np.array([1e300, 0.5, 1e39, 2e39, -np.inf, 0.1])
BEST = [0, 3, 2, 1, 5]


@pytest.mark.parametrize("unit", [1.0, 1e-300])
def test_scores_beyond_float32_are_picked_by_their_rank(unit):
    values, apart = LARGE * unit, np.arange(6.0)[:, None]
    picked = {
        "top": select.top(values, 5),
        "softrank": select.softrank(KEY, values, 5, beta=1e4),
        "power": select.power(KEY, np.array([1e300, 2e299, 4e298]) * unit, 3, beta=99.0),
        "class_balanced": select.class_balanced(np.zeros(6, int), values, 5),
        "suppress_duplicates": select.suppress_duplicates(apart, values, 5, radius=0.1),
    }
    for name, selection in picked.items():
        want = [0, 1, 2] if name == "power" else BEST
        assert selection.indices.tolist() == want, name
        assert np.isfinite(selection.scores).all(), name
    np.testing.assert_allclose(combine.rank_sum(values)[:4], [1.0, 0.25, 0.5, 0.75])
    assert np.argsort(-combine.pareto(values))[:5].tolist() == BEST


@pytest.mark.parametrize(
    "function",
    [
        lambda s: select.softmax(KEY, s, 2),
        lambda s: select.budgeted(s, np.ones(6), 2.0),
        combine.z_score,
        combine.product,
        lambda s: scores.information_density(s, np.ones(6)),
    ],
)
def test_scores_beyond_float32_whose_values_count_are_refused(function):
    with pytest.raises(errors.OutOfRange, match="float32") as caught:
        function(LARGE)
    assert caught.value.rows.tolist() == [0, 2, 3]


@oracles.as_users_do
def test_large_integers_do_not_wrap():
    values = np.array([2**40, 5, 2**41, 2**62], np.int64)
    assert select.top(values, 3).indices.tolist() == [3, 2, 0]
    np.testing.assert_allclose(select.top(values, 3).scores, [2.0**62, 2.0**41, 2.0**40])
    assert select.power(KEY, values, 1, beta=8.0).indices.tolist() == [3]
    np.testing.assert_allclose(
        regression.variance(np.array([[2**40], [2**40 + 2]]), np.ones((2, 1))), [2.0]
    )
    assert float(jnp.max(select.dpp(np.array([[2**40, 0], [0, 2**41]]), 1).indices)) == 1
