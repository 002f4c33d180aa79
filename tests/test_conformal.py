"""Coverage is a theorem: by enumeration where it can be, by simulation against exact beta-binomial
bounds where it cannot.
"""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

from bayesal import errors
from bayesal.calibrate import conformal
from bayesal.types import Gaussian, Mixture

pytestmark = pytest.mark.usefixtures("strict")


# --- the limit
#
#
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 0.3, 0.2, 0.1])
def test_over_every_order_the_new_point_is_covered_as_often_as_promised(alpha):
    """Six exchangeable scores, each in turn the new one."""
    values = [0.3, -1.0, 2.5, 0.7, 9.0, 4.0]
    covered = [new <= conformal.limit(np.delete(values, i), alpha) for i, new in enumerate(values)]
    k = math.ceil(6 * (1 - Fraction(str(alpha))))
    assert sum(covered) == k >= 6 * (1 - alpha) - 1e-9


def test_ties_only_add_coverage():
    for values in itertools.product((0.0, 1.0), repeat=5):
        covered = [
            new <= conformal.limit(np.delete(values, i), 0.25) for i, new in enumerate(values)
        ]
        assert sum(covered) >= math.ceil(5 * 0.75)


def test_the_place_is_that_of_the_number_as_it_is_typed():
    """(n + 1) (1 - a) is whole for these, and floating-point products fall on either side of it."""
    for n, a in ((9, 0.1), (19, 0.05), (29, 0.1), (99, 0.07), (999, 0.003), (9, 0.7)):
        k = round((n + 1) * (1 - a))
        assert conformal.limit(np.arange(1.0, n + 1), a) == k, (n, a)
    assert (
        conformal.limit(np.arange(8.0), 0.1) == math.inf
        and conformal.limit(np.array([5, 1, 3]), 0.25) == 5.0
    )


def test_inf_among_scores_is_a_score():
    assert conformal.limit(np.array([0.0, np.inf, -np.inf]), 0.5) == 0.0


@pytest.mark.parametrize(
    ("scores", "alpha", "error", "argument"),
    [
        (np.zeros(0), 0.1, errors.WrongSize, "scores"),
        (np.zeros((2, 2)), 0.1, errors.WrongShape, "scores"),
        (np.array([0.0, np.nan]), 0.1, errors.NonFinite, "scores"),
        (np.zeros(3), 0.0, errors.OutOfRange, "alpha"),
        (np.zeros(3), 1.0, errors.OutOfRange, "alpha"),
        (np.zeros(3), True, errors.OutOfRange, "alpha"),
    ],
)
def test_what_has_no_limit_is_refused_by_name(scores, alpha, error, argument):
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(conformal.limit)(scores, alpha)
    assert caught.value.argument == argument


# --- scores of classes
#
#
# -------------------------------------------------------------------------------------------------

LOG_P, P = oracles.random_log_probs(0, (30, 5))


def adaptive_by_hand(p, u, penalty, free):
    order = sorted(range(len(p)), key=lambda c: (-p[c], c))
    out = [0.0] * len(p)
    for rank, c in enumerate(order):
        out[c] = sum(p[b] for b in order[:rank]) + u * p[c] + penalty * max(rank + 1 - free, 0)
    return out


@pytest.mark.parametrize(("penalty", "free"), [(0.0, 0), (0.1, 2)])
def test_adaptive_scores_by_hand(penalty, free, key):
    u = np.asarray(jax.random.uniform(key, (30, 1)), np.float64)[:, 0]
    np.testing.assert_allclose(
        conformal.aps_score(LOG_P, key, penalty=penalty, free=free),
        [adaptive_by_hand(p, v, penalty, free) for p, v in zip(P, u, strict=True)],
        atol=1e-5,
    )
    np.testing.assert_allclose(
        conformal.aps_score(LOG_P, penalty=penalty, free=free),
        [adaptive_by_hand(p, 1.0, penalty, free) for p in P],
        atol=1e-5,
    )


def test_equal_and_certain_probabilities_have_ranks_too(key):
    even = conformal.aps_score(jnp.log(jnp.full((1, 4), 0.25)))
    np.testing.assert_allclose(even, [[0.25, 0.5, 0.75, 1.0]], rtol=1e-6)
    with np.errstate(divide="ignore"):
        sure = np.log(np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(conformal.aps_score(sure)[0], [1.0, 1.0, 1.0])
    assert np.isfinite(conformal.aps_score(sure, key)).all()
    np.testing.assert_allclose(conformal.lac_score(sure), 1 - np.eye(3))


def test_sets_hold_what_scores_at_or_below_the_limit():
    scores = jnp.array([[0.2, 0.5, 0.3], [0.7, 0.8, 0.9]])
    assert conformal.sets(scores, 0.3).tolist() == [[True, False, True], [False] * 3]
    assert conformal.sets(scores, 0.3, least=1).tolist() == [
        [True, False, True],
        [True, False, False],
    ]
    assert conformal.sets(scores, math.inf).all()
    assert conformal.sets(scores, np.array([0.1, 0.5, 1.0])).tolist() == [
        [False, True, True],
        [False, False, True],
    ]
    assert conformal.of_label(scores, np.array([2, 0])).tolist() == [
        pytest.approx(0.3),
        pytest.approx(0.7),
    ]


# --- coverage
#
#
# -------------------------------------------------------------------------------------------------

HELD_OUT, NEW, RUNS = 60, 50, 60
SCORES = {
    "improbability": lambda log_p, key: conformal.lac_score(log_p),
    "adaptive": conformal.aps_score,
    "regularized": lambda log_p, key: conformal.aps_score(log_p, key, penalty=0.05, free=2),
    "not randomized": lambda log_p, key: conformal.aps_score(log_p),
}


@pytest.fixture(scope="module")
def points():
    """Predictions of a net that is far too sure, and labels from what it should have said."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(RUNS * (HELD_OUT + NEW), 6))
    true = np.exp(oracles.log_softmax(logits))
    return oracles.log_softmax(4 * logits).astype(np.float32), (
        true.cumsum(1) > rng.random((len(logits), 1))
    ).argmax(1)


def within(covered, held_out, new, alpha):
    """Whether counts of covered new points are what the theorem says: each within an exact
    beta-binomial bound, and so is their mean.
    """
    k = math.ceil((held_out + 1) * (1 - Fraction(str(alpha))))
    law = stats.betabinom(new, k, held_out + 1 - k)
    low, high = law.ppf(1e-6), law.ppf(1 - 1e-6)
    near = abs(np.mean(covered) - law.mean()) < 4.5 * law.std() / math.sqrt(len(covered))
    return bool(near and min(covered) >= low and max(covered) <= high)


def counts(scores, labels, alpha):
    """Covered new points of each run, from scores [N, C] of all points."""
    scores, out = np.asarray(scores).reshape(RUNS, HELD_OUT + NEW, -1), []
    for each, y in zip(scores, labels.reshape(RUNS, -1), strict=True):
        own = each[np.arange(len(y)), y]
        out.append(int((own[HELD_OUT:] <= conformal.limit(own[:HELD_OUT], alpha)).sum()))
    return out


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("name", SCORES)
def test_sets_cover_as_often_as_promised(points, name, alpha, key):
    log_p, labels = points
    covered = counts(SCORES[name](log_p, key), labels, alpha)
    if name == "not randomized":  # scores near 1 are tied in float32, which only adds coverage
        assert np.mean(covered) >= NEW * (1 - alpha) - 1.0
        return
    assert within(covered, HELD_OUT, NEW, alpha)


def test_the_bounds_bite(points, key):
    log_p, labels = points
    wrong = np.asarray(conformal.aps_score(log_p, key)).copy().reshape(RUNS, HELD_OUT + NEW, -1)
    wrong[:, :HELD_OUT] *= 0.97  # held-out points that a net was trained on
    assert not within(counts(wrong, labels, 0.1), HELD_OUT, NEW, 0.1)


def test_classes_are_covered_each_by_itself(points):
    log_p, labels = points
    scores = np.asarray(conformal.lac_score(log_p))
    own = scores[np.arange(len(labels)), labels]
    half = np.arange(len(labels)) < 3000
    most = conformal.limits(own[half], labels[half], 6, 0.2)
    inside = np.asarray(conformal.sets(scores[~half], most))[
        np.arange((~half).sum()), labels[~half]
    ]
    for c in range(6):
        n, new = int((labels[half] == c).sum()), int((labels[~half] == c).sum())
        assert within([int(inside[labels[~half] == c].sum())], n, new, 0.2)
        assert most[c] == conformal.limit(own[half & (labels == c)], 0.2)
    assert conformal.limits(np.zeros(4), np.array([0, 0, 0, 0]), 3, 0.5).tolist() == [
        0.0,
        math.inf,
        math.inf,
    ]


# --- real labels
#
#
# -------------------------------------------------------------------------------------------------


def test_intervals_are_all_labels_whose_residual_is_small_enough():
    prediction = Gaussian(jnp.array([1.0, -2.0]), jnp.array([4.0, 0.25]))
    for scaled in (False, True):
        low, high = conformal.interval(prediction, 1.5, scaled=scaled)
        for end in (low, high):
            np.testing.assert_allclose(
                conformal.residual(prediction, end, scaled=scaled), 1.5, rtol=1e-5
            )
    assert np.isinf(conformal.interval(prediction, math.inf)[1]).all()
    split = Mixture(
        jnp.log(jnp.full((2, 2), 0.5)),
        jnp.stack([prediction.mean] * 2, -1),
        jnp.stack([prediction.variance] * 2, -1),
    )
    np.testing.assert_allclose(
        conformal.residual(split, np.zeros(2, np.float32), scaled=True), [0.5, 4.0], rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["plain", "scaled", "quantiles"])
def test_intervals_cover_as_often_as_promised(kind):
    rng = np.random.default_rng(1)
    rows = RUNS * (HELD_OUT + NEW)
    std = rng.uniform(0.1, 2.0, rows)
    y = (std * rng.standard_t(3, rows)).astype(np.float32)  # tails that no normal prediction has
    prediction = Gaussian(jnp.zeros(rows), jnp.asarray(std**2, jnp.float32))
    scores = (
        conformal.cqr_score(-std, std, y)
        if kind == "quantiles"
        else conformal.residual(prediction, y, scaled=kind == "scaled")
    )
    assert within(counts(np.asarray(scores)[:, None], np.zeros(rows, int), 0.1), HELD_OUT, NEW, 0.1)


def test_predictions_of_draws_are_refused():
    for prediction, error in (
        (Gaussian(jnp.zeros((2, 3)), jnp.ones((2, 3))), errors.WrongShape),
        (jnp.zeros(3), errors.WrongType),
    ):
        with pytest.raises(error, match="`prediction`") as caught:
            oracles.as_users_do(conformal.residual)(prediction, np.zeros(3, np.float32))
        assert caught.value.argument == "prediction"


NORMAL = Gaussian(jnp.array([1.0, 2.0]), jnp.array([4.0, 1.0]))


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda: conformal.sets(LOG_P, math.nan), errors.NonFinite, "most"),
        (lambda: conformal.sets(LOG_P, np.full(5, np.nan)), errors.NonFinite, "most"),
        (lambda: conformal.sets(LOG_P, np.zeros(4)), errors.WrongShape, "most"),
        (lambda: conformal.sets(LOG_P, np.zeros((30, 1))), errors.WrongShape, "most"),
        (lambda: conformal.sets(LOG_P, "0.5"), errors.WrongShape, "most"),
        (lambda: conformal.sets(LOG_P, 0.5, least=-1), errors.WrongSize, "least"),
        (lambda: conformal.sets(LOG_P, 0.5, least=6), errors.WrongSize, "least"),
        (lambda: conformal.sets(LOG_P * np.nan, 0.5), errors.NonFinite, "scores"),
        (lambda: conformal.interval(NORMAL, -1.0), errors.OutOfRange, "most"),
        (lambda: conformal.interval(NORMAL, -math.inf), errors.OutOfRange, "most"),
        (lambda: conformal.interval(NORMAL, math.nan), errors.NonFinite, "most"),
        (lambda: conformal.interval(NORMAL, np.zeros(2)), errors.WrongShape, "most"),
        (
            lambda: conformal.limits(np.zeros(3), np.zeros(3, int), 10**18, 0.1),
            errors.WrongSize,
            "classes",
        ),
        (lambda: conformal.aps_score(LOG_P, free=10**18), errors.WrongSize, "free"),
        (
            lambda: conformal.cqr_score(np.zeros(2), np.ones(1), np.ones(2)),
            errors.WrongShape,
            "high",
        ),
        (
            lambda: conformal.cqr_score(np.zeros(2), np.ones(2), np.ones(1)),
            errors.WrongShape,
            "labels",
        ),
    ],
)
def test_limits_and_sizes_that_cannot_be(call, error, argument):
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(call)()
    assert caught.value.argument == argument


def test_infinite_limits_are_limits():
    assert conformal.sets(LOG_P, math.inf).all() and not conformal.sets(LOG_P, -math.inf).any()
    low, high = conformal.interval(NORMAL, math.inf, scaled=True)
    assert np.isneginf(low).all() and np.isposinf(high).all()
    low, high = conformal.interval(NORMAL, 0.0)
    np.testing.assert_array_equal(low, high)


def test_many_classes_few_of_them_seen():
    """A million classes in the time of three: only those with labels are looked up."""
    found = conformal.limits(np.arange(12.0), np.repeat([7, 999_999], [9, 3]), 10**6, 0.1)
    assert np.isinf(found).sum() == 10**6 - 1 and found[7] == 8.0


def test_limits_under_jit_are_not_checked():
    low, high = jax.jit(lambda most: conformal.interval(NORMAL, most))(jnp.float32(1.0))
    np.testing.assert_allclose(high - low, 2.0)
    assert jax.jit(lambda most: conformal.sets(jnp.asarray(LOG_P), most))(jnp.float32(9.0)).all()
