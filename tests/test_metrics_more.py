"""Metrics of confidence, of ranking and of real predictions, each against plain Python or
enumeration in float64.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from test_metrics import binary

from bayesal import errors, metrics
from bayesal.types import Gaussian, Mixture

pytestmark = pytest.mark.usefixtures("strict")

ROWS = 40
LOG_P, P = oracles.random_log_probs(0, (ROWS, 3))
Y = np.random.default_rng(1).integers(0, 3, ROWS)
WHOLE = np.random.default_rng(2).integers(
    0, 4, ROWS
)  # how often each point stands there, 0 included


def repeated(*arrays):
    return [np.repeat(a, WHOLE, axis=0) for a in arrays]


# --- weights
#
#
# -------------------------------------------------------------------------------------------------

OF_CLASSES = {
    "accuracy": metrics.accuracy,
    "nll": metrics.nll,
    "brier": metrics.brier,
    "ece": metrics.ece,
    "classwise": metrics.classwise_ece,
    "ece of equal mass": lambda *a, **k: metrics.ece(*a, equal_mass=True, bins=4, **k),
    "parts": lambda *a, **k: np.array(metrics.brier_parts(*a, bins=5, **k)),
}
NORMAL = Gaussian(
    jnp.asarray(np.random.default_rng(3).normal(size=ROWS), jnp.float32),
    jnp.asarray(np.random.default_rng(4).uniform(0.1, 2.0, ROWS), jnp.float32),
)
REAL = np.random.default_rng(5).normal(size=ROWS).astype(np.float32)
OF_NUMBERS = {
    "rmse": metrics.rmse,
    "density_nll": metrics.density_nll,
    "crps": metrics.crps,
    "coverage": metrics.interval_coverage,
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_weight_of_two_is_a_point_twice_and_of_none_no_point(name):
    if name == "ece of equal mass":
        # groups of equal confidence stay together, so that copies fall in one bin as their weight
        # does
        assert (
            abs(OF_CLASSES[name](LOG_P, Y, weights=WHOLE) - OF_CLASSES[name](*repeated(LOG_P, Y)))
            < 1e-6
        )
        return
    np.testing.assert_allclose(
        OF_CLASSES[name](LOG_P, Y, weights=WHOLE), OF_CLASSES[name](*repeated(LOG_P, Y)), atol=2e-6
    )


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_weights_of_real_labels(name):
    twice = Gaussian(*(jnp.asarray(a) for a in repeated(*map(np.asarray, NORMAL))))
    np.testing.assert_allclose(
        OF_NUMBERS[name](NORMAL, REAL, weights=WHOLE),
        OF_NUMBERS[name](twice, *repeated(REAL)),
        rtol=1e-5,
    )


def test_a_point_without_weight_may_hold_anything():
    assert float(
        metrics.nll(binary([1.0, 0.5]), np.array([1, 0]), weights=np.array([False, True]))
    ) == pytest.approx(math.log(2))
    assert (
        metrics.auroc(
            np.array([0.0, 1.0, -5.0]),
            np.array([False, True, True]),
            weights=np.array([1.0, 1.0, 0.0]),
        )
        == 1.0
    )


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        (np.array([1.0, -1.0]), errors.OutOfRange),
        (np.zeros(2), errors.WrongSize),
        (np.ones(3), errors.WrongShape),
        (np.array([1.0, np.nan]), errors.NonFinite),
    ],
)
def test_weights_that_cannot_be(weights, error):
    normal = Gaussian(jnp.zeros(2), jnp.ones(2))
    calls = [
        lambda m=m: m(binary([0.9, 0.4]), np.array([0, 1]), weights=weights)
        for m in OF_CLASSES.values()
    ]
    calls += [lambda m=m: m(normal, np.zeros(2), weights=weights) for m in OF_NUMBERS.values()]
    for call in [
        *calls,
        lambda: metrics.auroc(np.zeros(2), np.array([True, False]), weights=weights),
    ]:
        with pytest.raises(error, match="`weights`") as caught:
            call()
        assert caught.value.argument == "weights"


# --- calibration errors
# -------------------------------------------------------------------------------------------------


def mean_over_labels(statistic, confidence, chance):
    """The exact mean of a statistic of `correct [n]` over all outcomes of points that are right
    with probabilities `chance`.
    """
    total = 0.0
    for correct in itertools.product((0, 1), repeat=len(chance)):
        weight = math.prod(q if c else 1 - q for q, c in zip(chance, correct, strict=True))
        total += weight * statistic(binary(confidence), 1 - np.array(correct))
    return total


@pytest.mark.parametrize("chance", [0.8, 0.6, 1.0])
def test_the_squared_error_has_the_true_square_as_its_mean(chance):
    one_bin = lambda x, y: metrics.squared_ece(x, y, bins=1)
    assert mean_over_labels(one_bin, [0.8] * 6, [chance] * 6) == pytest.approx(
        (chance - 0.8) ** 2, abs=1e-6
    )


def test_debiasing_removes_luck_and_nothing_else():
    of = lambda debiased: mean_over_labels(
        lambda x, y: metrics.ece(x, y, bins=1, debiased=debiased), [0.7] * 6, [0.7] * 6
    )
    assert of(False) > 0.12 and 0 < of(True) < 0.65 * of(False)  # the true error is 0
    far = lambda debiased: mean_over_labels(
        lambda x, y: metrics.ece(x, y, bins=1, debiased=debiased), [0.99] * 6, [0.5] * 6
    )
    assert far(True) == pytest.approx(0.49, abs=0.01) and far(False) == pytest.approx(
        0.49, abs=0.01
    )  # where luck does not matter, nothing changes


def test_the_debiased_error_by_hand():
    log_p, y = binary([0.9, 0.9, 0.9, 0.7]), np.array([0, 1, 0, 0])
    gap, std = (
        2 / 3 - 0.9,
        math.sqrt(sum((v - (2 / 3 - 0.9)) ** 2 for v in (0.1, -0.9, 0.1)) / 2 / 3),
    )
    nodes = np.linspace(-12, 12, 200001)
    folded = np.trapezoid(np.abs(gap + std * nodes) * np.exp(-(nodes**2) / 2), nodes) / math.sqrt(
        2 * math.pi
    )
    assert metrics.ece(log_p, y, bins=10, debiased=True) == pytest.approx(
        0.75 * (2 * abs(gap) - folded) + 0.25 * 0.3, abs=1e-6
    )
    assert metrics.squared_ece(log_p, y, bins=10) == pytest.approx(
        0.75 * (gap**2 - std**2) + 0.25 * 0.09, abs=1e-6
    )


def test_the_classwise_error_by_hand():
    want = sum(oracles.ece(P[:, c].tolist(), (c == Y).tolist(), 15) for c in range(3)) / 3
    assert metrics.classwise_ece(LOG_P, Y) == pytest.approx(want, abs=1e-6)
    assert (
        metrics.classwise_ece(binary([1.0, 1.0]), np.array([1, 1])) == 1.0
        and metrics.classwise_ece(binary([1.0]), np.array([0])) == 0.0
    )


def test_of_two_classes_the_classwise_error_is_that_of_either():
    log_p = binary(np.linspace(0.51, 0.99, 20))
    y = np.random.default_rng(0).integers(0, 2, 20)
    correct = (y == 0).astype(float)
    assert metrics.classwise_ece(log_p, y, bins=1) == pytest.approx(
        abs(correct.mean() - np.linspace(0.51, 0.99, 20).mean()), abs=1e-6
    )


# --- Brier's parts
#
#
# -------------------------------------------------------------------------------------------------


def parts_by_hand(p, y, group):
    rows, classes = range(len(y)), range(p.shape[1])
    onehot = [[float(c == y[i]) for c in classes] for i in rows]
    base = [sum(onehot[i][c] for i in rows) / len(y) for c in classes]
    reliability = resolution = 0.0
    for g in set(group):
        inside = [i for i in rows if group[i] == g]
        f = [sum(p[i][c] for i in inside) / len(inside) for c in classes]
        o = [sum(onehot[i][c] for i in inside) / len(inside) for c in classes]
        reliability += len(inside) / len(y) * sum((f[c] - o[c]) ** 2 for c in classes)
        resolution += len(inside) / len(y) * sum((o[c] - base[c]) ** 2 for c in classes)
    return reliability, resolution, sum(b * (1 - b) for b in base)


@pytest.mark.parametrize("bins", [None, 1, 5])
def test_briers_parts_by_hand_and_their_identity(bins):
    which = np.random.default_rng(0).integers(0, 6, ROWS)  # six distinct forecasts
    p = P[which]
    confidence = np.array(
        [next(j for j in range(bins or 1) if c <= (j + 1) / (bins or 1) + 1e-9) for c in p.max(1)]
    )
    group = which.tolist() if bins is None else list(zip(p.argmax(1), confidence, strict=True))
    found = metrics.brier_parts(LOG_P[which], Y, bins=bins)
    np.testing.assert_allclose(found[:3], parts_by_hand(p, Y, group), atol=1e-6)
    whole = found.reliability - found.resolution + found.uncertainty + found.within
    assert whole == pytest.approx(float(metrics.brier(LOG_P[which], Y)), abs=1e-6)
    assert (found.within == 0.0) == (bins is None)
    assert 0 <= found.resolution <= found.uncertainty + 1e-12 <= 2 / 3 + 1e-9


# --- joint likelihoods
#
#
# -------------------------------------------------------------------------------------------------


def test_the_joint_likelihood_by_hand():
    log_p, p = oracles.random_log_probs(7, (4, 6, 3))
    labels, groups = np.array([0, 2, 1, 1, 0, 2]), np.array([[0, 1, 1], [5, 2, 3]])
    each = [
        math.log(sum(math.prod(p[k][i][labels[i]] for i in g) for k in range(4)) / 4)
        for g in groups.tolist()
    ]
    assert float(metrics.joint_nll(log_p, labels, groups)) == pytest.approx(
        -sum(each) / 2, rel=1e-5
    )


def test_one_draw_or_one_label_has_no_joint():
    log_p, _ = oracles.random_log_probs(8, (4, 6, 3))
    labels, groups = np.array([0, 2, 1, 1, 0, 2]), np.arange(6).reshape(1, 6)
    assert float(metrics.joint_nll(log_p[:1], labels, groups)) == pytest.approx(
        6 * float(metrics.nll(log_p[0], labels)), rel=1e-5
    )
    averaged = np.log(np.exp(log_p.astype(np.float64)).mean(0)).astype(np.float32)
    assert float(metrics.joint_nll(log_p, labels, groups.T)) == pytest.approx(
        float(metrics.nll(averaged, labels)), rel=1e-5
    )
    long = jnp.zeros((1, 500), jnp.int32)
    assert (
        float(metrics.joint_nll(log_p, labels, long)) < 500 * 50
    )  # a product of 500 probabilities does not underflow


def test_the_joint_density_of_real_draws():
    draws = Gaussian(jnp.array([[0.0, 0.0], [2.0, 2.0]]), jnp.ones((2, 2)))
    density = lambda m, y: math.exp(-((y - m) ** 2) / 2) / math.sqrt(2 * math.pi)
    want = -math.log((density(0, 0.1) * density(0, 0.3) + density(2, 0.1) * density(2, 0.3)) / 2)
    assert float(
        metrics.joint_nll(draws, np.array([0.1, 0.3], np.float32), np.array([[0, 1]]))
    ) == pytest.approx(want, rel=1e-5)


def test_dyads_are_of_two_different_points():
    groups = np.asarray(metrics.dyads(jax.random.key(0), 3, 300, size=12))
    kinds = [frozenset(g) for g in groups.tolist()]
    assert all(len(kind) <= 2 for kind in kinds) and sum(len(kind) == 2 for kind in kinds) > 290
    counts = [kinds.count(frozenset(pair)) for pair in ((0, 1), (0, 2), (1, 2))]
    assert min(counts) > 60  # 100 each, on average
    same_point = np.asarray(metrics.dyads(jax.random.key(1), 2, 50, size=1))
    assert set(same_point.ravel().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        (np.array([0, 1]), errors.WrongShape),
        (np.array([[0.5]]), errors.WrongShape),
        (np.array([[6]]), errors.WrongIndex),
        (np.zeros((0, 2), int), errors.WrongShape),
    ],
)
def test_groups_are_rows(groups, error):
    log_p, _ = oracles.random_log_probs(8, (4, 6, 3))
    with pytest.raises(error, match="`groups`") as caught:
        oracles.as_users_do(metrics.joint_nll)(log_p, np.zeros(6, int), groups)
    assert caught.value.argument == "groups"


# --- ranking
#
#
# -------------------------------------------------------------------------------------------------


def test_risk_and_coverage_over_every_order_of_ties():
    confidence, loss = (
        np.array([0.5, 0.9, 0.5, 0.7, 0.5, 0.9]),
        np.array([1.0, 0.0, 0.0, 3.0, 2.0, 1.0]),
    )
    curves = []
    for order in itertools.permutations(range(6)):
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order)):
            curves.append([sum(loss[list(order[: i + 1])]) / (i + 1) for i in range(6)])
    found = metrics.risk_coverage(confidence, loss)
    np.testing.assert_allclose(found.risk, np.mean(curves, axis=0), rtol=1e-12)
    best = min(
        np.mean([sum(loss[list(o[: i + 1])]) / (i + 1) for i in range(6)])
        for o in itertools.permutations(range(6))
    )
    assert found.area == pytest.approx(np.mean(curves)) and found.excess == pytest.approx(
        found.area - best
    )
    assert found.coverage.tolist() == [pytest.approx((i + 1) / 6) for i in range(6)]


def test_confidence_that_says_nothing_and_confidence_that_says_all():
    wrong = np.array([True, False, False, True])
    flat = metrics.risk_coverage(np.ones(4), wrong)
    assert flat.risk.tolist() == [0.5] * 4 and flat.area == 0.5
    assert metrics.risk_coverage(1.0 - wrong, wrong).excess == 0.0
    assert metrics.risk_coverage(
        np.array([-np.inf, np.inf]), np.array([1.0, 0.0])
    ).risk.tolist() == [0.0, 0.5]


def test_auroc_over_every_pair():
    rng = np.random.default_rng(0)
    scores, positive, weights = (
        rng.integers(0, 6, 30).astype(float),
        rng.random(30) < 0.4,
        rng.uniform(0.1, 2.0, 30),
    )
    for w in (None, weights):
        each = np.ones(30) if w is None else w
        pairs = [
            (each[i] * each[j], (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
            for i in np.flatnonzero(positive)
            for j in np.flatnonzero(~positive)
        ]
        want = sum(v * s for v, s in pairs) / sum(v for v, _ in pairs)
        assert metrics.auroc(scores, positive, weights=w) == pytest.approx(want, rel=1e-6)
    assert metrics.auroc(-scores, positive) == pytest.approx(1 - metrics.auroc(scores, positive))
    assert (
        metrics.auroc(np.array([np.inf, -np.inf]), np.array([True, False])) == 1.0
        and metrics.auroc(np.zeros(5), np.arange(5) < 2) == 0.5
    )


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda: metrics.auroc(np.zeros(3), np.ones(3, bool)), errors.WrongLabel, "positive"),
        (lambda: metrics.auroc(np.zeros(3), np.array([0, 1, 1])), errors.WrongShape, "positive"),
        (
            lambda: metrics.auroc(np.array([0.0, np.nan]), np.array([True, False])),
            errors.NonFinite,
            "scores",
        ),
        (lambda: metrics.risk_coverage(np.zeros(3), np.zeros(2)), errors.WrongShape, "loss"),
        (lambda: metrics.risk_coverage(np.zeros(0), np.zeros(0)), errors.WrongSize, "confidence"),
        (
            lambda: metrics.risk_coverage(np.zeros((2, 2)), np.zeros(2)),
            errors.WrongShape,
            "confidence",
        ),
        (lambda: metrics.interval_coverage(NORMAL, REAL, 1.0), errors.OutOfRange, "level"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(call, error, argument):
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(call)()
    assert caught.value.argument == argument


# --- real predictions
#
#
# -------------------------------------------------------------------------------------------------

MIXTURE = Mixture(
    jnp.log(jnp.array([[0.3, 0.7], [0.5, 0.5]])),
    jnp.array([[-2.0, 1.0], [0.0, 0.0]]),
    jnp.array([[0.25, 4.0], [1.0, 1e-4]]),
)
TRUE = np.array([0.4, -0.02], np.float32)
KINDS = {
    "normal": (
        Gaussian(jnp.array([0.3, -0.5]), jnp.array([2.0, 0.09])),
        [[(1.0, 0.3, 2.0)], [(1.0, -0.5, 0.09)]],
    ),
    "draws": (
        Gaussian(jnp.array([[0.0, 1.0], [1.0, -1.0]]), jnp.array([[1.0, 2.0], [0.5, 0.1]])),
        [[(0.5, 0.0, 1.0), (0.5, 1.0, 0.5)], [(0.5, 1.0, 2.0), (0.5, -1.0, 0.1)]],
    ),
    "mixture": (
        MIXTURE,
        [[(0.3, -2.0, 0.25), (0.7, 1.0, 4.0)], [(0.5, 0.0, 1.0), (0.5, 0.0, 1e-4)]],
    ),
    "draws of mixtures": (
        Mixture(*(jnp.stack([a, a[::-1]]) for a in MIXTURE)),
        [[(0.15, -2.0, 0.25), (0.35, 1.0, 4.0), (0.25, 0.0, 1.0), (0.25, 0.0, 1e-4)]] * 2,
    ),
}


def cdf(components, t):
    return sum(w * 0.5 * math.erfc((m - t) / math.sqrt(2 * v)) for w, m, v in components)


@pytest.mark.parametrize("kind", KINDS)
def test_pit_and_crps_by_integration(kind):
    prediction, points = KINDS[kind]
    np.testing.assert_allclose(
        metrics.pit(prediction, TRUE),
        [cdf(c, float(y)) for c, y in zip(points, TRUE, strict=True)],
        atol=2e-6,
    )
    total = 0.0
    for components, y in zip(points, TRUE.astype(float), strict=True):
        for low, high, above in ((-30.0, y, 0.0), (y, 30.0, 1.0)):
            t = np.linspace(low, high, 40001)
            total += (
                np.trapezoid(np.square(np.array([cdf(components, v) for v in t]) - above), t) / 2
            )
    assert float(metrics.crps(prediction, TRUE)) == pytest.approx(total, rel=2e-4)


def test_crps_of_certainty_is_the_absolute_error_and_scales_with_the_unit():
    sure = Gaussian(jnp.array([1.0, 2.0]), jnp.full(2, 1e-12))
    assert float(metrics.crps(sure, np.array([3.0, 2.0], np.float32))) == pytest.approx(
        1.0, rel=1e-4
    )
    far = Gaussian(jnp.array([1e4, 1e4]), jnp.full(2, 4.0))
    near = Gaussian(jnp.zeros(2), jnp.ones(2))
    assert float(metrics.crps(far, np.array([1e4 + 2, 1e4], np.float32))) == pytest.approx(
        2 * float(metrics.crps(near, np.array([1.0, 0.0], np.float32))), rel=1e-4
    )


def test_the_truth_has_uniform_pit_nominal_coverage_and_the_least_crps():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=4000).astype(np.float32)
    y = (mean + rng.normal(size=4000)).astype(np.float32)
    normal = lambda variance: Gaussian(jnp.asarray(mean), jnp.full(4000, variance, jnp.float32))
    ranks = np.sort(np.asarray(metrics.pit(normal(1.0), y)))
    assert np.abs(ranks - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / math.sqrt(
        4000
    )  # Kolmogorov-Smirnov, one in 1,000
    for level in (0.5, 0.9):
        assert abs(float(metrics.interval_coverage(normal(1.0), y, level)) - level) < 4 * math.sqrt(
            level * (1 - level) / 4000
        )
        assert float(metrics.interval_coverage(normal(0.25), y, level)) < level - 0.1
    scores = [float(metrics.crps(normal(v), y)) for v in (0.25, 1.0, 4.0)]
    assert min(scores) == scores[1]
    assert np.asarray(metrics.pit(normal(1.0), np.full(4000, 1e6, np.float32))).max() == 1.0


def test_the_error_of_draws_is_that_of_their_mean():
    draws = Gaussian(jnp.array([[0.0, 2.0], [4.0, 0.0]]), jnp.ones((2, 2)))
    assert float(metrics.rmse(draws, np.array([1.0, 1.0], np.float32))) == pytest.approx(
        math.sqrt((1 + 0) / 2)
    )


# --- what would break the machine
#
#
# -------------------------------------------------------------------------------------------------

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: metrics.dyads(KEY, 12, 10**12), "groups"),
        (lambda: metrics.dyads(KEY, 12, 10**8, size=2), "groups"),
        (lambda: metrics.dyads(KEY, 12, 1, size=10**12), "size"),
        (lambda: metrics.dyads(KEY, 2**31, 1), "count"),
        (lambda: metrics.reliability(LOG_P, Y, bins=2**31), "bins"),
        (lambda: metrics.ece(LOG_P, Y, bins=2**31), "bins"),
        (lambda: metrics.squared_ece(LOG_P, Y, bins=2**31), "bins"),
        (lambda: metrics.classwise_ece(LOG_P, Y, bins=2**31), "bins"),
        (lambda: metrics.brier_parts(LOG_P, Y, bins=2**31), "bins"),
    ],
)
def test_sizes_have_limits(call, argument):
    with pytest.raises(errors.WrongSize, match=f"`{argument}` must be at most") as caught:
        call()
    assert caught.value.argument == argument


def test_many_bins_and_groups_are_still_had():
    assert metrics.reliability(LOG_P, Y, bins=10**6).count.sum() == ROWS
    assert metrics.dyads(KEY, 2**31 - 1, 5).shape == (5, 10)
