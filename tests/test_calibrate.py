import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import calibrate, checks, metrics

pytestmark = pytest.mark.usefixtures("strict")

T_LIMITS = (np.exp(-calibrate.BOUND) * 0.999, np.exp(calibrate.BOUND) * 1.001)


def held_out(seed, rows=500, draws=4, classes=3, wrong=0.3, scale=2.0):
    """Draws that agree in part, and labels that follow them except for a share."""
    rng = np.random.default_rng(seed)
    z = scale * (rng.normal(size=(1, rows, classes)) + 0.7 * rng.normal(size=(draws, rows, classes)))
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
    fine = min(oracles.tempered_nll(log_p, y, t) for t in np.exp(np.clip(np.linspace(near - 0.025, near + 0.025, 101), -3, 3)))
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
    after = grid[np.argmin([oracles.tempered_nll(mean, y, t) for t in grid])]  # the optimum of average-then-temper
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
    assert np.isfinite(float(fitted.temperature)) and T_LIMITS[0] <= float(fitted.temperature) <= T_LIMITS[1]
    assert np.isfinite(float(fitted.nll_before)) and np.isfinite(float(fitted.nll_after))
    if case in ("constant", "one row"):
        assert 0.2 < float(fitted.temperature) < 5.0


def test_all_wrong_is_softened():  # TRAPS 23
    log_p = np.repeat(held_out(3)[0][:1], 4, axis=0)
    fitted = calibrate.fit_temperature(log_p, log_p[0].argmin(-1))
    assert not bool(fitted.determined) and 1.0 < float(fitted.temperature) <= T_LIMITS[1]
    assert float(fitted.nll_after) < float(fitted.nll_before)


def test_padding_changes_nothing():  # TRAPS 21
    log_p, y = held_out(4, rows=60)
    fit = calibrate.temperature()
    whole = fit(jnp.asarray(log_p), jnp.asarray(y, jnp.int32), jnp.ones(60, bool))
    edge = calibrate.fit_temperature(log_p, y)
    for junk in (0.0, -50.0, np.nan):
        padded = np.full((4, 240, 3), junk, np.float32)
        padded[:, :60] = log_p
        labels = np.zeros(240, np.int32)
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
    "probabilities": (checks.NotLogProbabilities, "log_probs", lambda x, y: (np.exp(x), y)),
    "logits": (checks.NotLogProbabilities, "log_probs", lambda x, y: (x + 1, y)),
    "nan": (checks.NonFinite, "log_probs", lambda x, y: (x * np.float32(np.nan), y)),
    "no draws": (checks.WrongSize, "log_probs", lambda x, y: (x[:0], y)),
    "one class": (checks.WrongShape, "log_probs", lambda x, y: (x[..., :1] * 0, y)),
    "already averaged": (checks.WrongShape, "log_probs", lambda x, y: (x[0], y)),
    "no labels": (checks.WrongSize, "labels", lambda x, y: (x[:, :0], y[:0])),
    "label too high": (checks.WrongLabel, "labels", lambda x, y: (x, y + 3)),
    "label negative": (checks.WrongLabel, "labels", lambda x, y: (x, y - 3)),
    "float labels": (checks.WrongLabel, "labels", lambda x, y: (x, y.astype(float))),
    "too few labels": (checks.WrongLabel, "labels", lambda x, y: (x, y[1:])),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    error, argument, spoil = BAD[bad]
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(calibrate.fit_temperature)(*spoil(*held_out(0, rows=6)))
    assert caught.value.argument == argument


@pytest.mark.parametrize("prior_std", [0.0, -1.0, float("nan")])
def test_a_prior_has_a_width(prior_std):
    log_p, y = held_out(0, rows=6)
    fit = lambda prior_std: calibrate.fit_temperature(log_p, y, prior_std=prior_std)
    for function in (lambda: calibrate.temperature(prior_std=prior_std), lambda: fit(prior_std)):
        with pytest.raises(checks.WrongSize, match="`prior_std`") as caught:
            function()
        assert caught.value.argument == "prior_std"


@pytest.mark.parametrize("log_t", [-2.0, 0.0, 1.5])
def test_the_slope_is_the_losss_own(log_t):
    log_p, y = held_out(7)
    loss, slope = calibrate.nll_and_slope(jnp.asarray(log_p), jnp.asarray(y, jnp.int32), jnp.ones(len(y), bool), jnp.float32(log_t))
    at = lambda t: oracles.tempered_nll(log_p, y, math.exp(t))
    assert float(loss) == pytest.approx(at(log_t), rel=1e-5)
    assert float(slope) == pytest.approx((at(log_t + 1e-4) - at(log_t - 1e-4)) / 2e-4, rel=1e-3, abs=1e-5)


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
