import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import calibrate, errors, likelihoods, metrics
from bayesal.calibrate import _losses
from bayesal.types import Gaussian, Mixture

pytestmark = pytest.mark.usefixtures("strict")

T_LIMITS = (0.000999, 1001.0)


def held_out(seed, rows=500, draws=4, classes=3, wrong=0.3, scale=2.0):
    """Draws that agree in part, and labels that follow them except for a share."""
    rng = np.random.default_rng(seed)
    z = scale * (
        rng.normal(size=(1, rows, classes)) + 0.7 * rng.normal(size=(draws, rows, classes))
    )
    log_p = oracles.log_softmax(z).astype(np.float32)
    y = np.where(rng.random(rows) < wrong, rng.integers(0, classes, rows), log_p.mean(0).argmax(-1))
    return log_p, y


@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.5, 0.8]), st.sampled_from([0.5, 2.0, 6.0]))
@settings(max_examples=15)
def test_minimizes_the_nll_of_what_is_used(seed, wrong, scale):  # TRAPS 22
    log_p, y = held_out(seed, wrong=wrong, scale=scale)
    fitted = calibrate.fit_temperature(log_p, y)
    grid = np.exp(np.linspace(-3, 3, 241))
    coarse = [oracles.tempered_nll(log_p, y, t) for t in grid]
    near = np.log(grid[int(np.argmin(coarse))])
    fine = min(
        oracles.tempered_nll(log_p, y, t)
        for t in np.exp(np.clip(np.linspace(near - 0.025, near + 0.025, 101), -3, 3))
    )
    if not bool(fitted.determined):  # an optimum at the bounds: then the prior may cost a little
        assert np.argmin(coarse) in (0, 240)
        return
    at = oracles.tempered_nll(log_p, y, float(fitted.temperature))
    assert at - fine < 1e-5
    assert abs(float(fitted.nll_after) - at) < 1e-5
    assert abs(float(fitted.nll_before) - oracles.tempered_nll(log_p, y, 1.0)) < 1e-5


def test_draws_are_tempered_before_they_are_averaged():  # TRAPS 14, 22
    log_p, y = held_out(0, scale=6.0)
    fitted = float(calibrate.fit_temperature(log_p, y).temperature)
    mean = np.log(np.exp(log_p.astype(np.float64)).mean(0))[None]
    grid = np.exp(np.linspace(-3, 3, 2001))
    after = grid[
        np.argmin([oracles.tempered_nll(mean, y, t) for t in grid])
    ]  # the optimum of average-then-temper
    assert abs(np.log(fitted) - np.log(after)) > 0.05
    assert oracles.tempered_nll(log_p, y, fitted) < oracles.tempered_nll(log_p, y, after) - 1e-4


def test_no_draw_changes_its_mind():
    log_p, y = held_out(1)
    t = calibrate.fit_temperature(log_p, y).temperature
    tempered = jax.nn.log_softmax(jnp.asarray(log_p) / t, axis=-1)
    assert np.array_equal(np.argmax(tempered, -1), log_p.argmax(-1))
    np.testing.assert_allclose(np.exp(np.asarray(tempered)).sum(-1), 1.0, atol=1e-5)  # TRAPS 15


def certain(rows):
    with np.errstate(divide="ignore"):
        return np.repeat(np.log(np.eye(3, dtype=np.float32)[np.arange(rows) % 3])[None], 4, axis=0)


DEGENERATE = {
    "all correct": lambda: (held_out(2)[0], held_out(2)[0].mean(0).argmax(-1)),
    "all correct and certain": lambda: (certain(500), np.arange(500) % 3),
    "all wrong and certain": lambda: (certain(500), (np.arange(500) + 1) % 3),
    "constant": lambda: (np.full((4, 500, 3), -np.log(3), np.float32), held_out(2)[1]),
    "one row": lambda: (held_out(2)[0][:, :1], held_out(2)[1][:1]),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_sets_that_determine_nothing_are_finite_and_flagged(case):  # TRAPS 23
    log_p, y = DEGENERATE[case]()
    if case == "all correct":
        log_p = np.repeat(log_p[:1], 4, axis=0)  # draws that agree: sharper is always better
        y = log_p[0].argmax(-1)
    fitted = calibrate.fit_temperature(log_p, y)
    assert not bool(fitted.determined)
    assert (
        np.isfinite(float(fitted.temperature))
        and T_LIMITS[0] <= float(fitted.temperature) <= T_LIMITS[1]
    )
    assert np.isfinite(float(fitted.nll_before)) and np.isfinite(float(fitted.nll_after))
    if case in ("constant", "one row"):
        assert 0.2 < float(fitted.temperature) < 5.0


def test_one_class_held_out_is_no_reason_to_fail():
    log_p = held_out(2)[0]
    fitted = calibrate.fit_temperature(log_p, np.full(500, 1))
    assert T_LIMITS[0] <= float(fitted.temperature) <= T_LIMITS[1] and float(
        fitted.nll_after
    ) <= float(fitted.nll_before)


def test_all_wrong_is_softened():  # TRAPS 23
    log_p = np.repeat(held_out(3)[0][:1], 4, axis=0)
    fitted = calibrate.fit_temperature(log_p, log_p[0].argmin(-1))
    assert not bool(fitted.determined) and 1.0 < float(fitted.temperature) <= T_LIMITS[1]
    assert float(fitted.nll_after) < float(fitted.nll_before)


def far_off(t, rows=2000, seed=0):
    """Logits t times too large, in float64 until the end: the optimum is near T = t."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(1, rows, 5))
    p = np.exp(oracles.log_softmax(z[0]))
    return oracles.log_softmax(t * z).astype(np.float32), (
        p.cumsum(1) > rng.random((rows, 1))
    ).argmax(1)


@pytest.mark.parametrize("t", [614.0, 30.0, 1 / 30, 1 / 614])
def test_temperatures_far_from_one_are_found(t):
    """Optima that a bound of 20 cuts off, against a grid in float64."""
    log_p, y = far_off(t)
    fitted = calibrate.fit_temperature(log_p, y)
    grid = t * np.exp(np.linspace(-0.5, 0.5, 401))
    losses = [oracles.tempered_nll(log_p, y, g) for g in grid]
    assert float(fitted.temperature) == pytest.approx(grid[int(np.argmin(losses))], rel=5e-3)
    assert float(fitted.nll_after) == pytest.approx(min(losses), abs=1e-4)
    assert bool(fitted.determined) and not bool(fitted.at_bound)


@pytest.mark.parametrize("name", ["temperature", "vector"])
def test_an_optimum_beyond_the_range_is_flagged_and_no_optimum_is_another_flag(name):
    fit = FITS[name]
    beyond = fit(*far_off(20_000.0, rows=600))
    assert bool(beyond.at_bound) and not bool(beyond.determined)
    top = np.asarray(jax.tree.leaves(beyond.temperature)[0]).max()
    assert top == pytest.approx(1000.0, rel=1e-3)
    log_p, y = DEGENERATE["constant"]()
    none = fit(log_p, y)
    assert not bool(none.at_bound) and not bool(none.determined)
    fine = fit(*held_out(7))
    assert not bool(fine.at_bound) and bool(fine.determined)


def test_ruled_out_classes_stay_ruled_out_at_every_temperature():
    """A class of probability 0 adds nothing to the loss at T = 614."""
    log_p, y = far_off(614.0)
    more = np.concatenate([log_p, np.full((1, 2000, 1), -np.inf, np.float32)], axis=-1)
    one, other = (calibrate.fit_temperature(a, y) for a in (log_p, more))
    assert float(one.temperature) == pytest.approx(float(other.temperature), rel=1e-5)
    assert float(one.nll_after) == pytest.approx(float(other.nll_after), rel=1e-6)


def test_padding_changes_nothing():  # TRAPS 21
    log_p, y = held_out(4, rows=60)
    fit = calibrate.temperature()
    whole = fit(jnp.asarray(log_p), jnp.asarray(y, jnp.int32), jnp.ones(60, bool))
    edge = calibrate.fit_temperature(log_p, y, prior_std=1.0, doubt=20.0)
    for junk in (0.0, -50.0, np.nan):
        padded = np.full((4, 240, 3), junk, np.float32)
        padded[:, :60] = log_p
        labels = np.full(240, 99, np.int32)  # no class at all
        labels[:60] = y
        got = fit(jnp.asarray(padded), jnp.asarray(labels), jnp.arange(240) < 60)
        for a, b, c in zip(got, whole, edge, strict=True):
            np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-5, atol=1e-6)
            assert float(b) == float(c)


def test_few_labels_stay_near_one_and_many_do_not():
    log_p, y = held_out(5, scale=6.0)
    many = float(calibrate.fit_temperature(log_p, y).temperature)
    tight = float(calibrate.fit_temperature(log_p[:, :60], y[:60], prior_std=0.05).temperature)
    loose = float(calibrate.fit_temperature(log_p[:, :60], y[:60]).temperature)
    assert 1.0 < tight < loose and many > 1.5


def test_what_it_reports_is_what_the_metric_measures():
    log_p, y = held_out(6)
    fitted = calibrate.fit_temperature(log_p, y)
    tempered = oracles.log_softmax(log_p.astype(np.float64) / float(fitted.temperature))
    mean = np.log(np.exp(tempered).mean(0)).astype(np.float32)
    assert abs(float(metrics.nll(mean, y)) - float(fitted.nll_after)) < 1e-5


BAD = {
    "probabilities": (errors.NotLogProbabilities, "log_probs", lambda x, y: (np.exp(x), y)),
    "logits": (errors.NotLogProbabilities, "log_probs", lambda x, y: (x + 1, y)),
    "nan": (errors.NonFinite, "log_probs", lambda x, y: (x * np.float32(np.nan), y)),
    "no draws": (errors.WrongSize, "log_probs", lambda x, y: (x[:0], y)),
    "one class": (errors.WrongShape, "log_probs", lambda x, y: (x[..., :1] * 0, y)),
    "already averaged": (errors.WrongShape, "log_probs", lambda x, y: (x[0], y)),
    "no labels": (errors.WrongSize, "labels", lambda x, y: (x[:, :0], y[:0])),
    "label too high": (errors.WrongLabel, "labels", lambda x, y: (x, y + 3)),
    "label negative": (errors.WrongLabel, "labels", lambda x, y: (x, y - 3)),
    "float labels": (errors.WrongLabel, "labels", lambda x, y: (x, y.astype(float))),
    "too few labels": (errors.WrongLabel, "labels", lambda x, y: (x, y[1:])),
}
WEIGHTS = {
    "negative": (errors.OutOfRange, np.array([1.0, -1.0, 1, 1, 1, 1])),
    "all zero": (errors.WrongSize, np.zeros(6)),
    "too few": (errors.WrongShape, np.ones(5)),
    "nan": (errors.NonFinite, np.full(6, np.nan)),
}


@pytest.mark.parametrize("bad", WEIGHTS)
def test_weights_that_cannot_be(bad):
    error, weights = WEIGHTS[bad]
    log_p, y = held_out(0, rows=6)
    normal = Gaussian(jnp.zeros((2, 6)), jnp.ones((2, 6)))
    for call in (
        lambda: calibrate.fit_temperature(log_p, y, weights=weights),
        lambda: calibrate.fit_vector(log_p, y, weights=weights),
        lambda: calibrate.fit_variance(normal, np.zeros(6), weights=weights),
    ):
        with pytest.raises(error, match="`weights`") as caught:
            call()
        assert caught.value.argument == "weights"


CALIBRATORS = {"temperature": calibrate.temperature, "vector": calibrate.vector}
NOT_OF_A_CALL = ("no labels",)  # a learner's labeled set has a capacity of at least one


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("bad", [case for case in BAD if case not in NOT_OF_A_CALL])
def test_a_calibrator_refuses_what_its_fit_refuses(name, bad):
    error, argument, spoil = BAD[bad]
    log_p, y = spoil(*held_out(0, rows=6))
    valid = np.ones(len(y), bool)
    with pytest.raises(error) as caught:
        oracles.as_users_do(CALIBRATORS[name]())(log_p, y, valid)
    assert caught.value.argument == {"log_probs": "prediction"}.get(argument, argument)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_calibrator_ignores_padding_and_checks_nothing_under_jit(name):
    log_p, y = held_out(0, rows=6)
    valid = np.arange(6) < 4
    junk, labels = log_p.copy(), y.copy()
    junk[:, 4:], labels[4:] = 7.0, -3
    calibrator = CALIBRATORS[name]()
    want = calibrator(log_p, y, valid)
    for got in (calibrator(junk, labels, valid), jax.jit(calibrator.fit)(junk, labels, valid)):
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=2e-4, atol=1e-5)
    jax.jit(lambda *a: calibrator(*a))(jnp.exp(log_p), jnp.asarray(y) + 3, jnp.ones(6, bool))


def test_a_calibrator_of_real_labels_refuses_what_its_fit_refuses():
    mean, y = jnp.zeros((2, 6)), np.zeros(6, np.float32)
    of, valid = calibrate.variance(), np.ones(6, bool)
    for prediction, labels, weights, error, argument in (
        (Gaussian(mean, jnp.ones((2, 1))), y, valid, errors.WrongShape, "prediction"),
        (Gaussian(mean, -jnp.ones((2, 6))), y, valid, errors.OutOfRange, "prediction"),
        (Gaussian(mean, mean + jnp.nan), y, valid, errors.NonFinite, "prediction"),
        (jnp.zeros((2, 6, 3)), y, valid, errors.WrongType, "prediction"),
        (Gaussian(mean, mean + 1), y + np.nan, valid, errors.WrongLabel, "labels"),
        (Gaussian(mean, mean + 1), y[1:], valid, errors.WrongShape, "weights"),
        (Gaussian(mean, mean + 1), y, -np.ones(6), errors.OutOfRange, "weights"),
        (Gaussian(mean, mean + 1), y, np.full(6, np.nan), errors.NonFinite, "weights"),
    ):
        with pytest.raises(error, match=f"`{argument}`") as caught:
            oracles.as_users_do(of)(prediction, labels, weights)
        assert caught.value.argument == argument
    assert float(of(Gaussian(mean, mean + 1), y, np.zeros(6, bool)).temperature) == 1.0


def test_only_the_publics_names_are_public():
    assert sorted(calibrate.__all__) == calibrate.__all__
    for name in ("BOUND", "FADE", "density_and_slope", "nll_and_slope", "unfitted"):
        assert not hasattr(calibrate, name)
    assert calibrate.conformal.limit(np.arange(1.0, 10.0), 0.1) == 9.0


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    error, argument, spoil = BAD[bad]
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(calibrate.fit_temperature)(*spoil(*held_out(0, rows=6)))
    assert caught.value.argument == argument


@pytest.mark.parametrize("prior_std", [0.0, -1.0, float("nan"), float("inf")])
def test_a_prior_has_a_width(prior_std):
    log_p, y = held_out(0, rows=6)
    fit = lambda prior_std: calibrate.fit_temperature(log_p, y, prior_std=prior_std)
    for function in (lambda: calibrate.temperature(prior_std=prior_std), lambda: fit(prior_std)):
        with pytest.raises(errors.WrongSize, match="`prior_std`") as caught:
            function()
        assert caught.value.argument == "prior_std"


@pytest.mark.parametrize("log_t", [-2.0, 0.0, 1.5])
def test_the_slope_is_the_losss_own(log_t):
    log_p, y = held_out(7)
    loss, slope = _losses.nll_and_slope(
        jnp.asarray(log_p), jnp.asarray(y, jnp.int32), jnp.ones(len(y))
    )(jnp.float32(log_t))
    at = lambda t: oracles.tempered_nll(log_p, y, math.exp(t))
    assert float(loss) == pytest.approx(at(log_t), rel=1e-5)
    assert float(slope) == pytest.approx(
        (at(log_t + 1e-4) - at(log_t - 1e-4)) / 2e-4, rel=1e-3, abs=1e-5
    )


def test_labels_of_probability_zero_are_left_out_and_counted():
    log_p, y = held_out(8)
    clean = calibrate.fit_temperature(log_p[:, 5:], y[5:])
    spoiled = log_p.copy()
    spoiled[:, np.arange(5), y[:5]] = -np.inf
    spoiled[:, :5] -= np.log(np.exp(spoiled[:, :5]).sum(-1, keepdims=True))
    fitted = calibrate.fit_temperature(spoiled, y)
    assert int(fitted.impossible) == 5 and int(clean.impossible) == 0
    np.testing.assert_allclose(fitted.temperature, clean.temperature, rtol=1e-3)
    np.testing.assert_allclose(fitted.nll_after, clean.nll_after, rtol=1e-4)


# --- weights and priors
# -------------------------------------------------------------------------------------------------

FITS = {"temperature": calibrate.fit_temperature, "vector": calibrate.fit_vector}


@pytest.mark.parametrize("name", ["temperature", "vector"])
def test_doubt_is_more_prior_the_fewer_labels_there_are(name):
    log_p, y = held_out(9, rows=60, scale=4.0)
    fit, calibrator = FITS[name], getattr(calibrate, name)
    same = lambda a, b: jax.tree.map(
        lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5), a.temperature, b.temperature
    )
    same(
        fit(log_p, y, doubt=60.0), fit(log_p, y, prior_std=0.25)
    )  # 1 + 60 * 3 / 60 is the square of 0.5 / 0.25
    same(
        fit(log_p[:, :20], y[:20], doubt=20.0), fit(log_p[:, :20], y[:20], prior_std=0.25)
    )  # 1 + 20 * 3 / 20
    in_a_loop = lambda **options: calibrator(**options)(
        jnp.asarray(log_p), jnp.asarray(y, jnp.int32), jnp.ones(60)
    )
    same(in_a_loop(), fit(log_p, y, prior_std=1.0, doubt=20.0))
    same(in_a_loop(prior_std=0.5, doubt=0.0), fit(log_p, y))
    for doubt in (-1.0, np.nan, np.inf):
        bad = functools.partial(fit, log_p, y, doubt=doubt)
        for function in (functools.partial(calibrator, doubt=doubt), bad):
            with pytest.raises(errors.OutOfRange, match="`doubt`"):
                function()


@pytest.mark.parametrize("name", FITS)
@pytest.mark.slow
def test_a_weight_of_two_is_a_label_twice(name):
    log_p, y = held_out(9, rows=60, scale=4.0)
    weights = np.tile(np.float32([2.0, 0.0]), 30)
    twice = FITS[name](log_p[:, np.repeat(np.arange(0, 60, 2), 2)], np.repeat(y[::2], 2))
    assert float(calibrate.effective_sample_size(jnp.asarray(weights))) == 30.0
    faded = lambda per: (
        ((1 - 30 / per) / (1 - 60 / per)) ** 2
    )  # the prior of 30 labels has faded less, and balances half the data
    stds = {"prior_std": 0.5 * math.sqrt(2 * faded(500))} | (
        {"class_std": 0.1 * math.sqrt(2 * faded(1500))} if name == "vector" else {}
    )
    once = FITS[name](log_p, y, weights=weights, **stds)
    assert float(once.nll_before) == pytest.approx(float(twice.nll_before), rel=1e-5)
    for a, b in zip(
        jax.tree.leaves(once.temperature), jax.tree.leaves(twice.temperature), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)


def test_weights_move_the_optimum_to_their_population():
    (easy, right), (hard, wrong) = (
        held_out(10, rows=300, wrong=0.0),
        held_out(11, rows=300, wrong=0.9),
    )
    log_p, y = np.concatenate([easy, hard], axis=1), np.concatenate([right, wrong])
    at = lambda weight: float(
        calibrate.fit_temperature(log_p, y, weights=np.repeat([1.0, weight], 300)).temperature
    )
    assert at(0.01) < at(0.3) < at(1.0) < at(10.0)
    grid = np.exp(np.linspace(-3, 3, 1201))
    weighted = [
        oracles.tempered_nll(easy, right, t) + 0.3 * oracles.tempered_nll(hard, wrong, t)
        for t in grid
    ]
    assert at(0.3) == pytest.approx(grid[int(np.argmin(weighted))], rel=0.02)


def of_truth(seed, rows, t, classes=5, bias=None):
    """One draw whose labels follow softmax(log p / t + bias): the truth is known."""
    rng = np.random.default_rng(seed)
    log_p = oracles.log_softmax(2.5 * rng.normal(size=(1, rows, classes))).astype(np.float32)
    true = np.exp(
        oracles.log_softmax(log_p[0].astype(np.float64) / t + (0 if bias is None else bias))
    )
    return log_p, (true.cumsum(1) > rng.random((rows, 1))).argmax(1)


@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
@pytest.mark.slow
def test_ten_thousand_labels_find_the_truth(t):
    log_p, y = of_truth(0, 10_000, t)
    assert float(calibrate.fit_temperature(log_p, y).temperature) == pytest.approx(t, rel=0.05)
    scaling = calibrate.fit_vector(log_p, y).temperature
    np.testing.assert_allclose(scaling.temperature, t, rtol=0.15)
    np.testing.assert_allclose(scaling.bias, 0.0, atol=0.15)


@pytest.mark.slow
def test_twenty_labels_harm_a_calibrated_net_little_and_help_an_overconfident_one():
    test_p, test_y = of_truth(99, 4000, 1.0)
    hot_p, hot_y = of_truth(98, 4000, 4.0)
    harm, good = {}, {}
    for name, fit in FITS.items():
        of = lambda log_p, y, fitted: float(
            metrics.nll(likelihoods.average(likelihoods.temper(jnp.asarray(log_p), fitted)), y)
        )
        fits = lambda t, fit=fit: [fit(*of_truth(seed, 20, t)).temperature for seed in range(20)]
        harm[name] = np.mean([of(test_p, test_y, fitted) for fitted in fits(1.0)]) - float(
            metrics.nll(test_p[0], test_y)
        )
        good[name] = float(metrics.nll(hot_p[0], hot_y)) - np.mean(
            [of(hot_p, hot_y, fitted) for fitted in fits(4.0)]
        )
        assert 0 <= harm[name] < 0.05 and good[name] > 0.3
    assert (
        harm["vector"] < harm["temperature"] + 0.02
    )  # what sets classes apart is held by its prior


# --- vector scaling
#
#
# -------------------------------------------------------------------------------------------------

BIAS = np.array([0.8, -0.8, 0.4, -0.4, 0.0])


def test_a_vector_finds_biases_that_no_temperature_can():
    log_p, y = of_truth(1, 10_000, 2.0, bias=BIAS)
    fitted, plain = calibrate.fit_vector(log_p, y), calibrate.fit_temperature(log_p, y)
    bias = np.asarray(fitted.temperature.bias)
    np.testing.assert_allclose(bias - bias.mean(), BIAS, atol=0.2)
    assert float(fitted.nll_after) < float(plain.nll_after) - 0.03 and float(
        fitted.nll_before
    ) == float(plain.nll_before)
    scaled = likelihoods.temper(jnp.asarray(log_p), fitted.temperature)
    np.testing.assert_allclose(np.exp(scaled).sum(-1), 1.0, atol=1e-5)
    assert float(metrics.nll(likelihoods.average(scaled), y)) == pytest.approx(
        float(fitted.nll_after), rel=1e-4
    )


def test_a_vector_is_at_the_optimum_of_its_own_loss():
    """Slopes of loss plus prior vanish: computed in float64, by differences."""
    log_p, y = held_out(12, rows=60, scale=3.0)
    fitted = calibrate.fit_vector(log_p, y).temperature
    prior, apart_by = (1 - 60 / 500) ** 2 / 0.25, (1 - 60 / 1500) ** 2 / 0.01

    def loss(log_t, apart, bias):
        p = np.exp(
            oracles.log_softmax(log_p.astype(np.float64) * np.exp(-(log_t + apart)) + bias)
        ).mean(0)
        return (
            -np.log(p[np.arange(60), y]).mean()
            + (
                0.5 * prior * log_t**2
                + 0.5 * apart_by * (np.square(apart).sum() + np.square(bias).sum())
            )
            / 60
        )

    whole = np.log(np.asarray(fitted.temperature, np.float64))
    # the best split of log T_c into one log T and what sets classes apart
    log_t = whole.sum() * apart_by / (prior + len(whole) * apart_by)
    at = [log_t, whole - log_t, np.asarray(fitted.bias, np.float64)]
    for i in range(3):
        for direction in np.eye(3) if i else [1.0]:
            move = lambda e, i=i, direction=direction: [
                v + e * direction if j == i else v for j, v in enumerate(at)
            ]
            assert abs(loss(*move(1e-4)) - loss(*move(-1e-4))) / 2e-4 < 2e-4


def test_few_labels_leave_classes_together():
    log_p, y = of_truth(2, 20, 2.0, bias=BIAS)
    scaling = calibrate.fit_vector(log_p, y).temperature
    assert np.ptp(np.log(scaling.temperature)) < 0.3 and np.abs(scaling.bias).max() < 0.4


@pytest.mark.parametrize(
    "case", ["all correct", "all wrong and certain", "constant", "one class", "nothing weighs"]
)
def test_a_vector_is_finite_whatever_was_held_out(case):  # TRAPS 23
    if case in DEGENERATE:
        log_p, y = DEGENERATE[case]()
    else:
        log_p, y = held_out(2)[0], np.full(500, 2)
    weights = jnp.full(len(y), float(case != "nothing weighs"))
    fitted = calibrate.vector()(jnp.asarray(log_p), jnp.asarray(y, jnp.int32), weights)
    assert (
        np.isfinite(fitted.temperature.temperature).all()
        and np.isfinite(fitted.temperature.bias).all()
    )
    assert (np.asarray(fitted.temperature.temperature) >= T_LIMITS[0]).all() and (
        np.asarray(fitted.temperature.temperature) <= T_LIMITS[1]
    ).all()
    if case == "nothing weighs":
        np.testing.assert_allclose(fitted.temperature.temperature, 1.0, atol=1e-5)
        assert not bool(fitted.determined) and float(fitted.nll_after) == 0.0


@pytest.mark.parametrize(
    "calibrator", [calibrate.temperature(), calibrate.variance()], ids=["temperature", "variance"]
)
def test_no_labels_leave_everything_as_it_is(calibrator):
    prediction = (
        Gaussian(jnp.zeros((2, 6)), jnp.ones((2, 6)))
        if calibrator.real
        else jnp.asarray(held_out(0, rows=6)[0])
    )
    fitted = calibrator(
        prediction, jnp.zeros(6, jnp.float32 if calibrator.real else jnp.int32), jnp.zeros(6, bool)
    )
    assert (
        float(fitted.temperature) == 1.0
        and not bool(fitted.determined)
        and float(fitted.nll_before) == 0.0
    )


# --- variances of real labels
# --------------------------------------------------------------------------------------------


def residuals(seed, rows, ratio):
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.1, 3.0, (1, rows)).astype(np.float32)
    mean = rng.normal(size=(1, rows)).astype(np.float32)
    y = mean[0] + np.sqrt(ratio * variance[0]) * rng.normal(size=rows)
    return Gaussian(jnp.asarray(mean), jnp.asarray(variance)), y.astype(np.float32)


@pytest.mark.parametrize("ratio", [0.01, 1.0, 50.0])
def test_of_one_draw_and_many_labels_it_is_the_mean_squared_standardized_residual(ratio):
    prediction, y = residuals(0, 600, ratio)
    closed = np.mean(
        (y.astype(np.float64) - np.asarray(prediction.mean[0])) ** 2
        / np.asarray(prediction.variance[0])
    )
    fitted = calibrate.fit_variance(prediction, y)
    assert float(fitted.temperature) == pytest.approx(closed, rel=1e-3) and bool(fitted.determined)
    assert float(fitted.nll_after) == pytest.approx(
        float(metrics.density_nll(likelihoods.temper(prediction, fitted.temperature), y)), rel=1e-4
    )


def test_of_several_draws_it_minimizes_the_mixtures_loss():
    rng = np.random.default_rng(1)
    draws = Gaussian(jnp.asarray(rng.normal(size=(5, 600)), jnp.float32), jnp.full((5, 600), 0.2))
    y = (2.0 * rng.normal(size=600)).astype(np.float32)
    at = lambda t: float(metrics.density_nll(likelihoods.temper(draws, jnp.float32(t)), y))
    fitted = calibrate.fit_variance(draws, y)
    assert float(fitted.nll_before) == pytest.approx(at(1.0), rel=1e-5)
    assert float(fitted.nll_after) <= min(at(t) for t in np.exp(np.linspace(-5, 5, 101))) + 1e-5
    split = Mixture(
        jnp.log(jnp.full((5, 600, 2), 0.5)), *(jnp.stack([a, a], axis=-1) for a in draws)
    )  # the same density
    assert float(calibrate.fit_variance(split, y).temperature) == pytest.approx(
        float(fitted.temperature), rel=1e-3
    )


@pytest.mark.parametrize("log_t", [-2.0, 0.0, 1.5])
def test_the_slope_of_the_density_is_its_losss_own(log_t):
    rng = np.random.default_rng(2)
    draws = Gaussian(jnp.asarray(rng.normal(size=(5, 30)), jnp.float32), jnp.full((5, 30), 0.5))
    y = rng.normal(size=30)

    def loss(log_t):
        m, v = (
            np.asarray(draws.mean, np.float64),
            np.asarray(draws.variance, np.float64) * math.exp(log_t),
        )
        return -np.log((np.exp(-((y - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)).mean(0)).mean()

    value, slope = _losses.density_and_slope(draws, jnp.asarray(y, jnp.float32), jnp.ones(30))(
        jnp.float32(log_t)
    )
    assert float(value) == pytest.approx(loss(log_t), rel=1e-5)
    assert float(slope) == pytest.approx(
        (loss(log_t + 1e-4) - loss(log_t - 1e-4)) / 2e-4, rel=1e-3, abs=1e-5
    )


def test_few_real_labels_are_held_by_the_prior_and_perfect_ones_stay_finite():
    prediction, y = residuals(3, 15, 1.0)
    tight, loose = (
        float(calibrate.fit_variance(prediction, y, prior_std=s).temperature) for s in (0.05, 50.0)
    )
    assert abs(math.log(tight)) < abs(math.log(loose))
    exact = calibrate.fit_variance(prediction, np.asarray(prediction.mean[0]))
    assert not bool(exact.determined) and not bool(exact.at_bound)
    # slope of the log-density per log T is a half per label, of the prior log T
    assert float(exact.temperature) == pytest.approx(math.exp(-15 / 2), rel=1e-3)
    far = calibrate.fit_variance(prediction, np.full(15, 1e6, np.float32))
    assert not bool(far.determined) and bool(far.at_bound)
    assert float(far.temperature) == pytest.approx(1e6, rel=1e-3) and np.isfinite(far.nll_after)


def test_padding_of_real_labels_changes_nothing():  # TRAPS 21
    prediction, y = residuals(4, 30, 3.0)
    padded = Gaussian(*(jnp.pad(a, ((0, 0), (0, 10)), constant_values=np.nan) for a in prediction))
    got = calibrate.variance()(
        padded, jnp.pad(jnp.asarray(y), (0, 10), constant_values=np.nan), jnp.arange(40) < 30
    )
    want = calibrate.fit_variance(prediction, y)
    np.testing.assert_allclose(got.temperature, want.temperature, rtol=1e-5)
    np.testing.assert_allclose(got.nll_after, want.nll_after, rtol=1e-5)


def test_predictions_of_real_labels_that_are_refused():
    for prediction, error in (
        (jnp.zeros((2, 3)), errors.WrongType),
        (Gaussian(jnp.zeros(3), jnp.ones(3)), errors.WrongShape),
        (Gaussian(jnp.zeros((0, 3)), jnp.ones((0, 3))), errors.WrongSize),
    ):
        with pytest.raises(error, match="`prediction`"):
            oracles.as_users_do(calibrate.fit_variance)(prediction, np.zeros(3))
    with pytest.raises(errors.WrongLabel, match="`labels`"):
        calibrate.fit_variance(
            Gaussian(jnp.zeros((1, 2)), jnp.ones((1, 2))), np.array([0.0, np.inf])
        )
    with pytest.raises(errors.WrongSize, match="`class_std`"):
        calibrate.vector(class_std=0.0)


# --- weights for labels that are no fair sample
# --------------------------------------------------------------------------


def test_sampled_weights_are_without_bias_by_enumeration():
    loss, preference = [3.0, -1.0, 0.5, 2.0], [0.1, 0.5, 1.0, 2.0]
    mean, total = 0.0, 0.0
    for order in itertools.permutations(range(4), 2):
        left, chance, q = preference[:], 1.0, []
        for pick in order:
            q.append(left[pick] / sum(left))
            chance *= q[-1]
            left[pick] = 0.0
        weights = np.asarray(calibrate.inverse_probability_weights(np.array(q), 4), np.float64)
        mean += chance * sum(w * loss[i] for w, i in zip(weights, order, strict=True)) / 2
        total += chance * weights.sum() / 2
    assert mean == pytest.approx(sum(loss) / 4, rel=1e-5) and total == pytest.approx(1.0, rel=1e-5)


def test_uniform_draws_and_whole_pools_have_equal_weights():
    np.testing.assert_allclose(
        calibrate.inverse_probability_weights(1 / np.arange(50, 20, -1), 50), 1.0, rtol=1e-5
    )
    np.testing.assert_allclose(
        calibrate.inverse_probability_weights(np.array([0.9, 0.2, 1.0]), 3), 1.0, rtol=1e-5
    )
    for bad, error in (
        (np.array([0.5, 1.5]), errors.OutOfRange),
        (np.array([0.0]), errors.OutOfRange),
        (np.full(9, 0.5), errors.WrongSize),
    ):
        with pytest.raises(error):
            calibrate.inverse_probability_weights(bad, 8)


def test_matched_weights_give_labels_the_pools_shares():
    pool = np.linspace(0.0, 1.0, 101)
    labeled = np.r_[np.full(30, 0.1), np.full(6, 0.4), np.full(3, 0.9)]
    weights = np.asarray(calibrate.poststratification_weights(labeled, pool, strata=4))
    shares = [weights[labeled == v].sum() / 39 for v in (0.1, 0.4, 0.9)]
    np.testing.assert_allclose(
        shares, [26 / 101, 25 / 101, 25 / 101], rtol=1e-5
    )  # nobody stands for the third quarter
    np.testing.assert_allclose(
        calibrate.poststratification_weights(pool, pool, strata=7), 1.0, rtol=1e-5
    )
    np.testing.assert_allclose(
        calibrate.poststratification_weights(pool, np.zeros(5), strata=4)[:1], 101.0, rtol=1e-5
    )  # one value: one stratum, and the rest
