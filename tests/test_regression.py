"""Real labels from end to end: predictions, likelihoods, metrics, and the loop."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose

import bayesal
from bayesal import (
    acquire,
    calibrate,
    errors,
    likelihoods,
    metrics,
    networks,
    posteriors,
    retune,
    scores,
    select,
)
from bayesal.loop import _folds as folds
from bayesal.scores import regression
from bayesal.types import About, Gaussian, HParams, Labeled, Mixture

MIXTURE = Mixture(jnp.log(jnp.array([0.2, 0.8])), jnp.array([-1.0, 2.0]), jnp.array([0.5, 0.1]))
HPARAMS = HParams(*(jnp.float32(v) for v in (1e-2, 1e-4, 0.1, 1.0)), jnp.int32(150))


def density(weights, means, variances, y):
    return sum(
        w * math.exp(-((y - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
        for w, m, v in zip(weights, means, variances, strict=True)
    )


# predictions


def test_densities_by_hand():
    for y in (-3.0, 0.0, 1.9):
        assert_allclose(
            likelihoods.log_likelihood(MIXTURE, jnp.float32(y)),
            math.log(density([0.2, 0.8], [-1, 2], [0.5, 0.1], y)),
            rtol=1e-5,
        )
        assert_allclose(
            likelihoods.log_likelihood(
                Gaussian(jnp.float32(1.0), jnp.float32(4.0)), jnp.float32(y)
            ),
            math.log(density([1], [1], [4], y)),
            rtol=1e-6,
        )


@pytest.mark.parametrize("variance", [1e-8, 1.0, 1e8])
def test_a_density_integrates_to_one(variance):  # TRAPS 31
    y = np.linspace(-40, 40, 8001) * math.sqrt(variance)
    one = Mixture(
        jnp.log(jnp.full(2, 0.5)), jnp.array([-1.0, 1.0]) * variance**0.5, jnp.full(2, variance)
    )
    for prediction in (Gaussian(jnp.zeros(()), jnp.float32(variance)), one):
        p = np.exp(
            np.asarray(
                likelihoods.log_likelihood(prediction, jnp.asarray(y, jnp.float32)), np.float64
            )
        )
        assert_allclose(np.trapezoid(p, y), 1.0, rtol=1e-4)


def test_moments_of_a_mixture_are_those_of_its_density():
    y = np.linspace(-12, 12, 20001)
    p = np.array([density([0.2, 0.8], [-1, 2], [0.5, 0.1], v) for v in y])
    mean = np.trapezoid(p * y, y)
    found = likelihoods.moments(MIXTURE)
    assert_allclose(
        [found.mean, found.variance], [mean, np.trapezoid(p * (y - mean) ** 2, y)], rtol=1e-5
    )
    noise, spread = likelihoods.variance_parts(MIXTURE)
    assert_allclose([noise, spread], [0.2 * 0.5 + 0.8 * 0.1, 0.2 * 0.8 * 9], rtol=1e-6)


def test_the_average_over_draws_has_the_mixtures_moments():
    draws = Gaussian(jnp.array([[0.0], [3.0]]), jnp.array([[1.0], [2.0]]))
    found = likelihoods.average(draws)
    assert_allclose([found.mean[0], found.variance[0]], [1.5, 1.5 + 2.25])
    of_mixtures = Mixture(*(jnp.stack([a, a])[:, None] for a in MIXTURE))
    assert_allclose(
        likelihoods.average(of_mixtures).variance[0],
        likelihoods.moments(MIXTURE).variance,
        rtol=1e-6,
    )


def test_tempering_is_a_power_of_the_density():
    y = jnp.linspace(-8.0, 8.0, 2001)
    sharp = likelihoods.temper(Gaussian(jnp.float32(0.5), jnp.float32(2.0)), jnp.float32(3.0))
    power = np.exp(
        np.asarray(likelihoods.log_likelihood(Gaussian(jnp.float32(0.5), jnp.float32(2.0)), y))
        / 3.0
    )
    power /= np.trapezoid(power, y)
    assert_allclose(np.exp(likelihoods.log_likelihood(sharp, y)), power, atol=2e-3)


def test_classes_are_what_they_were():
    log_p = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (3, 4, 5)))
    y = jnp.array([0, 4, 2, 1])
    assert_allclose(likelihoods.log_likelihood(log_p, y), np.asarray(log_p)[:, np.arange(4), y])
    assert_allclose(np.exp(likelihoods.temper(log_p, jnp.float32(2.0))).sum(-1), 1.0, rtol=1e-5)


# likelihoods


def test_outputs_of_the_wrong_number_are_refused():
    for likelihood in (
        likelihoods.gaussian(),
        likelihoods.gaussian(noise_std=0.1),
        likelihoods.mixture(3),
    ):
        with pytest.raises(errors.WrongShape, match=f"{likelihood.outputs} outputs") as caught:
            likelihood.predict(jnp.zeros(4))
        assert caught.value.argument == "network"
    for bad in ({"noise_std": 0.0}, {"scale": -1.0}, {"scale": math.inf}):
        with pytest.raises(errors.WrongSize):
            likelihoods.gaussian(**bad)
    with pytest.raises(errors.WrongSize, match="`components`"):
        likelihoods.mixture(0)


def test_variances_are_positive_and_slopes_finite_at_any_output():
    for raw in (-1e4, -88.0, 0.0, 88.0, 1e4):
        loss = lambda out: likelihoods.loss(likelihoods.gaussian(), out, jnp.float32(0.3))
        value, slope = jax.value_and_grad(loss)(jnp.array([1.0, raw]))
        assert np.isfinite(value) and np.isfinite(slope).all()
        assert likelihoods.gaussian().predict(jnp.array([0.0, raw])).variance > 0
        mixed = jax.grad(
            lambda out: likelihoods.loss(likelihoods.mixture(2), out, jnp.float32(0.3))
        )(jnp.array([1.0, -1.0, 0.0, 0.0, raw, raw]))
        assert np.isfinite(mixed).all()


def test_center_and_scale_are_an_affine_change_of_unit():
    plain, moved = likelihoods.gaussian(), likelihoods.gaussian(center=10.0, scale=4.0)
    outputs = jnp.array([0.3, -0.2])
    assert_allclose(moved.predict(outputs).mean, 10 + 4 * plain.predict(outputs).mean)
    assert_allclose(
        moved.predict(outputs).variance, 16 * plain.predict(outputs).variance, rtol=1e-6
    )
    y = jnp.float32(0.7)
    assert_allclose(
        likelihoods.loss(moved, outputs, 10 + 4 * y),
        likelihoods.loss(plain, outputs, y) + math.log(4.0),
        rtol=1e-5,
    )


# metrics


def test_metrics_by_hand_and_what_they_refuse():
    prediction = Gaussian(jnp.array([1.0, 3.0]), jnp.array([1.0, 4.0]))
    y = np.array([2.0, 0.0])
    assert_allclose(metrics.rmse(prediction, y), math.sqrt((1 + 9) / 2))
    by_hand = -(math.log(density([1], [1], [1], 2.0)) + math.log(density([1], [3], [4], 0.0))) / 2
    assert_allclose(metrics.density_nll(prediction, y), by_hand, rtol=1e-6)
    draws = Gaussian(jnp.array([[1.0, 3.0], [0.0, 1.0]]), jnp.array([[1.0, 4.0], [2.0, 1.0]]))
    both = (
        -(
            math.log(density([0.5, 0.5], [1, 0], [1, 2], 2.0))
            + math.log(density([0.5, 0.5], [3, 1], [4, 1], 0.0))
        )
        / 2
    )
    assert_allclose(metrics.density_nll(draws, y), both, rtol=1e-6)
    for wrong, error in (
        (np.array([1.0, np.nan]), errors.WrongLabel),
        (np.zeros(3), errors.WrongLabel),
    ):
        with pytest.raises(error, match="`labels`"):
            metrics.rmse(prediction, wrong)
    with pytest.raises(errors.WrongType, match="`prediction`"):
        oracles.as_users_do(metrics.rmse)(jnp.zeros((2, 3)), y)


# the loop


def wave(rows, seed=0):
    """A curve whose noise grows to the right."""
    random = np.random.default_rng(seed)
    x = random.uniform(-2, 2, (rows, 1)).astype(np.float32)
    return x, (
        np.sin(2 * x[:, 0]) + (0.05 + 0.15 * (x[:, 0] > 0)) * random.normal(size=rows)
    ).astype(np.float32)


X, Y = wave(200)
POSTERIOR = posteriors.mc_dropout(networks.mlp(1, 2, (32,)), likelihood=likelihoods.gaussian())
RETUNED = bayesal.learner(
    POSTERIOR,
    acquire.top(regression.bald_moments),
    size=5,
    capacity=60,
    num_draws=8,
    hparams=HPARAMS,
    retune=retune.successive_halving(
        2, retune.space(steps=(100, 150)), proposer=retune.local_proposer()
    ),
    calibrate=calibrate.variance(),
)


@pytest.fixture(scope="module")
def state():
    init, ask, tell = RETUNED[:3]
    state = tell(init(jax.random.key(0), X), X, np.arange(40), Y[:40])
    picks = np.asarray(ask(state, X).indices)
    return tell(state, X, picks, Y[picks])


def test_the_loop_runs_on_real_labels(state):
    assert state.ledger.labels.dtype == jnp.float32 and int(state.ledger.count) == 45
    asked = np.asarray(state.ledger.indices)[40:45]
    assert len(set(asked.tolist())) == 5 and asked.min() >= 40
    assert np.isfinite(state.report.candidate_losses).all()
    prediction = bayesal.predictive_of(POSTERIOR, state, 20).moments(X)
    assert prediction.mean.shape == prediction.variance.shape == (200,)
    assert metrics.rmse(prediction, Y) < 0.8 * Y.std()


def test_a_batch_by_its_determinant_is_that_of_all_predictions(state):
    model, free = (
        bayesal.predictive_of(POSTERIOR, state, 8),
        jnp.ones(200, bool).at[jnp.arange(40)].set(False),
    )
    every = model(X)
    whole = select.log_det_gaussian(every.mean, every.variance.mean(0), 5, available=free)
    picked = bayesal.choose(0, model, X, 5, acquire.log_det_gaussian(), available=free)
    assert picked.indices.tolist() == whole.indices.tolist() and picked.about is About.FUNCTION
    assert_allclose(picked.scores, whole.scores, rtol=1e-3)


def test_real_labels_are_calibrated_out_of_fold(state):
    fitted = state.report.calibration
    assert float(state.temperature) == float(fitted.temperature) != 1.0 and float(
        fitted.nll_after
    ) <= float(fitted.nll_before)
    plain = dataclasses.replace(
        bayesal.predictive_of(POSTERIOR, state, 8), temperature=jnp.float32(1.0)
    )(X)
    assert_allclose(
        bayesal.predictive_of(POSTERIOR, state, 8)(X).variance,
        plain.variance * state.temperature,
        rtol=1e-5,
    )


def test_labels_that_are_no_numbers_are_refused(state):
    ask = np.asarray(RETUNED.ask(state, X).indices)
    for bad, match in (
        (np.array(["a"] * 5), "dtype"),
        (np.array([0.0, np.inf, 0, 0, 0]), "finite"),
        (np.zeros((5, 1)), "shape"),
    ):
        with pytest.raises(errors.WrongLabel, match=match):
            RETUNED.tell(state, X, ask, bad)
    with pytest.raises(errors.WrongType, match="calibrator") as caught:
        bayesal.learner(
            POSTERIOR, acquire.uniform(), size=1, capacity=5, calibrate=calibrate.temperature()
        )
    assert caught.value.argument == "calibrate"


def test_scores_of_classes_do_not_take_numbers(state):
    refused = [(acquire.batch_bald(), "strategy"), (acquire.top(scores.entropy), "score")]
    for strategy, argument in refused:
        with pytest.raises(errors.WrongType, match=r"scores\.regression") as caught:
            bayesal.learner(POSTERIOR, strategy, size=5, capacity=60, num_draws=8).ask(state, X)
        assert caught.value.argument == argument
    with pytest.raises(errors.WrongType, match=r"bayesal\.scores"):
        likelihoods.scored(regression.bald, jnp.zeros((2, 3, 2)))


def test_folds_are_dealt_evenly_along_the_label():
    y = jnp.asarray(
        np.r_[np.random.default_rng(0).normal(size=20), np.full(10, np.nan)], jnp.float32
    )
    split = folds.split(jax.random.key(0), Labeled(jnp.zeros((30, 1)), y, jnp.int32(20)), 4)
    order = np.asarray(y)[:20].argsort()
    for rows, valid in zip(split.test[:-1], split.test_valid[:-1], strict=True):
        ranks = np.sort(np.argsort(order)[np.asarray(rows)[np.asarray(valid)]])
        assert len(ranks) == 5 and (np.diff(ranks) <= 7).all()  # one of every four neighbors


@pytest.fixture(scope="module")
def fits():
    """Every head on the same curve, by one net each."""
    x, y = wave(400, 1)
    heads = {
        "known": (networks.mlp(1, 1, (32,)), likelihoods.gaussian(noise_std=0.15)),
        "shared": (networks.shared_noise(networks.mlp(1, 1, (32,))), likelihoods.gaussian()),
        "own": (networks.mlp(1, 2, (32,)), likelihoods.gaussian()),
        "mixture": (networks.mlp(1, 6, (32,)), likelihoods.mixture(2)),
    }
    out = {}
    for name, (network, likelihood) in heads.items():
        posterior = posteriors.point(network, likelihood=likelihood)
        hparams = HPARAMS._replace(steps=jnp.int32(1500), dropout=jnp.float32(0.0))
        fit = jax.jit(
            lambda key, data, posterior=posterior, hparams=hparams: posterior.fit(
                key, posterior.init(key, x[0]), data, hparams
            )
        )
        state, info = fit(
            jax.random.key(0), Labeled(jnp.asarray(x), jnp.asarray(y), jnp.int32(400))
        )
        assert int(info.failed_at) == -1
        out[name] = jax.vmap(
            lambda xi, state=state, posterior=posterior: posterior.apply(state, jnp.zeros(()), xi)
        )(X)
    return out


@pytest.mark.slow
def test_every_head_learns_the_curve(fits):
    for name, prediction in fits.items():
        moments = likelihoods.moments(prediction)
        assert metrics.rmse(moments, np.sin(2 * X[:, 0])) < 0.12, name


@pytest.mark.slow
def test_noise_is_learned_where_it_is(fits):
    quiet = X[:, 0] < -0.3
    loud = X[:, 0] > 0.3
    std = {name: np.sqrt(np.asarray(likelihoods.moments(p).variance)) for name, p in fits.items()}
    assert_allclose(std["known"], 0.15, rtol=1e-5)
    assert (
        np.ptp(std["shared"]) < 1e-6 and 0.1 < std["shared"][0] < 0.2
    )  # sqrt of the mean of 0.05^2 and 0.2^2 is 0.146
    for name in ("own", "mixture"):
        assert 0.02 < np.median(std[name][quiet]) < 0.1 < np.median(std[name][loud]) < 0.3, name
