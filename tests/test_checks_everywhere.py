"""Masked arrays, foreign byte orders and improper predictions, in front of every public function
that takes arrays.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import bayesal
from bayesal import acquire, calibrate, errors, likelihoods, metrics, pools, scores, select
from bayesal.calibrate import conformal
from bayesal.scores import combine, multilabel, probit, regression
from bayesal.tasks import preference
from bayesal.types import Gaussian, Mixture, Scaling

K, N, C, D, T = 4, 6, 3, 2, 5
KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
LOG_P = oracles.random_log_probs(0, (K, N, C))[0]
TARGET = oracles.random_log_probs(1, (K, T, C))[0]
MEAN = LOG_P[0]
VALUES = RANDOM.uniform(0.1, 1.0, N).astype(np.float32)
LABELS = RANDOM.integers(0, C, N)
FEATURES = RANDOM.normal(size=(N, D)).astype(np.float32)
REAL = RANDOM.normal(size=N).astype(np.float32)
MEANS = RANDOM.normal(size=(K, N)).astype(np.float32)
VARIANCES = RANDOM.uniform(0.5, 2.0, (K, N)).astype(np.float32)
AVAILABLE = np.arange(N) != 1
COUNTS = np.arange(10, 10 + N)
PAIRS = np.array([[0, 1], [2, 1], [3, 4]])


def gaussian(draws=False):
    return Gaussian(MEANS, VARIANCES) if draws else Gaussian(MEANS[0], VARIANCES[0])


# name -> (function of keyword arguments, its arrays); the name in an error is the argument's
CLASSES = dict(log_probs=MEAN, labels=LABELS, weights=VALUES)
NUMBERS = dict(prediction=gaussian(), labels=REAL, weights=VALUES)
DRAWN = dict(log_probs=LOG_P, labels=LABELS, weights=VALUES)
PICK = dict(scores=VALUES, available=AVAILABLE)
FUNCTIONS = {
    "scores.bald": (scores.bald, dict(log_probs=LOG_P)),
    "scores.entropy": (scores.entropy, dict(log_probs=LOG_P)),
    "scores.margin": (scores.margin, dict(log_probs=LOG_P)),
    "scores.vote_entropy": (scores.vote_entropy, dict(log_probs=LOG_P)),
    "scores.epig": (
        scores.epig,
        dict(log_probs=LOG_P, target_log_probs=TARGET, weights=VALUES[:T]),
    ),
    "scores.target_weights": (
        scores.target_weights,
        dict(target_log_probs=TARGET, prior=VALUES[:C]),
    ),
    "scores.density": (lambda **a: scores.density(**a, neighbors=2), dict(features=FEATURES)),
    "scores.reduce": (scores.reduce, dict(values=FEATURES, mask=FEATURES > -1)),
    "regression.bald": (regression.bald, dict(means=MEANS, variances=VARIANCES)),
    "regression.epistemic": (regression.epistemic, dict(means=MEANS, variances=VARIANCES)),
    "multilabel.bald": (multilabel.bald, dict(log_odds=MEANS)),
    "probit.bald": (probit.bald, dict(mean=REAL, variance=VALUES)),
    "combine.rank_sum": (
        lambda **a: combine.rank_sum(a["scores[0]"], VALUES),
        {"scores[0]": REAL},
    ),
    "select.top": (lambda **a: select.top(size=2, **a), PICK),
    "select.power": (lambda **a: select.power(KEY, size=2, **a), PICK),
    "select.softmax": (lambda **a: select.softmax(KEY, size=2, **a), PICK),
    "select.softrank": (lambda **a: select.softrank(KEY, size=2, **a), PICK),
    "select.uniform": (
        lambda **a: select.uniform(KEY, N, 2, **a),
        dict(available=AVAILABLE),
    ),
    "select.batch_bald": (
        lambda **a: select.batch_bald(KEY, size=2, **a),
        dict(log_probs=LOG_P, available=AVAILABLE),
    ),
    "select.batch_epig": (
        lambda **a: select.batch_epig(KEY, size=2, **a),
        dict(log_probs=LOG_P, target_log_probs=TARGET, weights=VALUES[:T], available=AVAILABLE),
    ),
    "select.badge": (
        lambda **a: select.badge(KEY, size=2, **a),
        dict(log_probs=LOG_P, features=FEATURES, available=AVAILABLE),
    ),
    "select.k_center": (
        lambda **a: select.k_center(size=2, **a),
        dict(features=FEATURES, available=AVAILABLE, labeled=~AVAILABLE),
    ),
    "select.k_means_pp": (
        lambda **a: select.k_means_pp(KEY, size=2, **a),
        dict(features=FEATURES, available=AVAILABLE),
    ),
    "select.typiclust": (
        lambda **a: select.typiclust(KEY, size=2, **a),
        dict(features=FEATURES, available=AVAILABLE),
    ),
    "select.dpp": (
        lambda **a: select.dpp(size=2, **a),
        dict(features=FEATURES, quality=VALUES, available=AVAILABLE),
    ),
    "select.log_det_gaussian": (
        lambda **a: select.log_det_gaussian(size=2, **a),
        dict(means=MEANS, noise_variances=VALUES),
    ),
    "select.batch_epig_gaussian": (
        lambda **a: select.batch_epig_gaussian(size=2, **a),
        dict(
            means=MEANS,
            noise_variances=VALUES,
            target_means=MEANS[:, :T],
            target_noise_variances=VALUES[:T],
            weights=VALUES[:T],
            available=AVAILABLE,
        ),
    ),
    "select.bait": (lambda **a: select.bait(size=2, **a), dict(factors=MEANS.T[:, None])),
    "scores.expected_model_change": (
        scores.expected_model_change,
        dict(log_probs=LOG_P, features=FEATURES),
    ),
    "select.class_balanced": (
        lambda **a: select.class_balanced(size=2, **a),
        dict(predictions=LABELS, scores=VALUES, available=AVAILABLE),
    ),
    "select.suppress_duplicates": (
        lambda **a: select.suppress_duplicates(size=2, radius=0.1, **a),
        dict(features=FEATURES, scores=VALUES, available=AVAILABLE),
    ),
    "select.budgeted": (
        lambda **a: select.budgeted(budget=2.0, **a),
        dict(gains=VALUES, prices=VALUES[::-1], available=AVAILABLE),
    ),
    "pools.numbers": (
        lambda **a: bayesal.choose(
            0, None, pools.numbers(axes="K N C", **a), 2, acquire.top(scores.bald)
        ),
        dict(log_probs=LOG_P),
    ),
    "metrics.accuracy": (metrics.accuracy, CLASSES),
    "metrics.nll": (metrics.nll, CLASSES),
    "metrics.brier": (metrics.brier, CLASSES),
    "metrics.brier_parts": (metrics.brier_parts, CLASSES),
    "metrics.reliability": (metrics.reliability, CLASSES),
    "metrics.ece": (metrics.ece, CLASSES),
    "metrics.squared_ece": (metrics.squared_ece, CLASSES),
    "metrics.classwise_ece": (metrics.classwise_ece, CLASSES),
    "metrics.joint_nll of classes": (
        metrics.joint_nll,
        dict(prediction=LOG_P, labels=LABELS, groups=PAIRS),
    ),
    "metrics.joint_nll": (
        metrics.joint_nll,
        dict(prediction=gaussian(True), labels=REAL, groups=PAIRS),
    ),
    "metrics.rmse": (metrics.rmse, NUMBERS),
    "metrics.density_nll": (metrics.density_nll, NUMBERS),
    "metrics.crps": (metrics.crps, NUMBERS),
    "metrics.interval_coverage": (metrics.interval_coverage, NUMBERS),
    "metrics.pit": (metrics.pit, dict(prediction=gaussian(True), labels=REAL)),
    "metrics.auroc": (
        metrics.auroc,
        dict(scores=REAL, positive=AVAILABLE, weights=VALUES),
    ),
    "metrics.risk_coverage": (metrics.risk_coverage, dict(confidence=REAL, loss=VALUES)),
    "metrics.area_under_curve": (metrics.area_under_curve, dict(counts=COUNTS, values=VALUES)),
    "metrics.labels_needed": (
        lambda **a: metrics.labels_needed(level=0.5, **a),
        dict(counts=COUNTS, values=VALUES),
    ),
    "calibrate.fit_temperature": (calibrate.fit_temperature, DRAWN),
    "calibrate.fit_vector": (calibrate.fit_vector, DRAWN),
    "calibrate.fit_variance": (
        calibrate.fit_variance,
        dict(prediction=gaussian(True), labels=REAL, weights=VALUES),
    ),
    "calibrate.temperature": (
        lambda prediction, **a: calibrate.temperature()(prediction, **a),
        dict(prediction=LOG_P, labels=LABELS, weights=VALUES),
    ),
    "calibrate.variance": (
        lambda prediction, **a: calibrate.variance()(prediction, **a),
        dict(prediction=gaussian(True), labels=REAL, weights=VALUES),
    ),
    "calibrate.inverse_probability_weights": (
        lambda **a: calibrate.inverse_probability_weights(pool=20, **a),
        dict(chances=VALUES),
    ),
    "calibrate.poststratification_weights": (
        calibrate.poststratification_weights,
        dict(labeled=REAL, pool=VALUES),
    ),
    "conformal.limit": (lambda **a: conformal.limit(alpha=0.2, **a), dict(scores=REAL)),
    "conformal.limits": (
        lambda **a: conformal.limits(classes=C, alpha=0.3, **a),
        dict(scores=REAL, labels=LABELS),
    ),
    "conformal.lac_score": (conformal.lac_score, dict(log_probs=MEAN)),
    "conformal.aps_score": (conformal.aps_score, dict(log_probs=MEAN)),
    "conformal.of_label": (conformal.of_label, dict(scores=MEAN, labels=LABELS)),
    "conformal.sets": (conformal.sets, dict(scores=MEAN, most=VALUES[:C])),
    "conformal.residual": (conformal.residual, dict(prediction=gaussian(), labels=REAL)),
    "conformal.interval": (
        lambda **a: conformal.interval(most=1.0, **a),
        dict(prediction=gaussian()),
    ),
    "conformal.cqr_score": (
        conformal.cqr_score,
        dict(low=REAL, high=REAL + 1, labels=VALUES),
    ),
    "likelihoods.temper": (
        lambda prediction: likelihoods.temper(prediction, jnp.float32(2.0)),
        dict(prediction=LOG_P),
    ),
    "likelihoods.average": (likelihoods.average, dict(prediction=gaussian(True))),
    "likelihoods.moments": (likelihoods.moments, dict(prediction=gaussian(True))),
    "likelihoods.log_likelihood": (
        likelihoods.log_likelihood,
        dict(prediction=gaussian(True), y=REAL),
    ),
    "preference.answers": (
        preference.answers,
        dict(rows=PAIRS, winners=PAIRS[:, 0]),
    ),
    "preference.pairs": (preference.pairs, dict(items=FEATURES, rows=PAIRS)),
}
ARGUMENTS = [(name, argument) for name, (_, arrays) in FUNCTIONS.items() for argument in arrays]
# these give no array back from their check, so that even an empty mask is refused
CHECKED_ONLY = {("preference.pairs", "items")}


def masked(values):
    """The array with one masked entry."""
    mask = np.zeros(values.shape, bool)
    mask[(0,) * values.ndim] = True
    return np.ma.array(values, mask=mask)


def changed(value, change):
    """Every variant of an argument in which one array is changed."""
    if not isinstance(value, tuple):
        return [change(value)]
    return [value._replace(**{field: change(getattr(value, field))}) for field in value._fields]


def with_one(name, argument, change):
    function, arrays = FUNCTIONS[name]
    call = oracles.as_users_do(function)
    return [lambda v=v: call(**arrays | {argument: v}) for v in changed(arrays[argument], change)]


def answer(found):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_a_masked_entry_is_refused_by_name(name, argument):
    for call in with_one(name, argument, masked):
        with pytest.raises(errors.WrongType, match="masked") as caught:
            call()
        assert caught.value.argument == argument and f"`{argument}`" in str(caught.value)
        assert caught.value.rows.tolist() == [0]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_an_empty_mask_and_a_foreign_byte_order_change_nothing(name, argument):
    function, arrays = FUNCTIONS[name]
    want = answer(oracles.as_users_do(function)(**arrays))
    foreign = lambda a: a.astype(a.dtype.newbyteorder())
    for change in (np.ma.array, foreign):
        for call in with_one(name, argument, change):
            refused = (
                pytest.raises(errors.WrongType, match="native")
                if (name, argument) in CHECKED_ONLY
                else contextlib.nullcontext()
            )
            with refused:
                for a, b in zip(answer(call()), want, strict=True):
                    np.testing.assert_array_equal(a, b)


# --- improper predictions
# -------------------------------------------------------------------------------------------------

WEIGHT = np.log(np.full((K, N, 2), 0.5, np.float32))
MIXED = Mixture(WEIGHT, np.stack([MEANS, MEANS + 1], -1), np.stack([VARIANCES, VARIANCES], -1))
OF_NUMBERS = [
    name for name, (_, a) in FUNCTIONS.items() if isinstance(a.get("prediction"), Gaussian)
]
PASS_NAN = [name for name in OF_NUMBERS if name.startswith("likelihoods")]


def spoilt(field, at, value):
    def spoil(prediction):
        array = getattr(prediction, field).copy()
        array[at] = value
        return prediction._replace(**{field: array})

    return spoil


IMPROPER = {
    "variance [N, 1]": (
        lambda p: p._replace(variance=p.variance[..., :1]),
        errors.WrongShape,
    ),
    "variance a number": (lambda p: p._replace(variance=np.float32(1.0)), errors.WrongShape),
    "variance of Python": (lambda p: p._replace(variance=1.0), errors.WrongType),
    "variance 0": (spoilt("variance", (..., 0), 0.0), errors.OutOfRange),
    "variance 0 in float32": (
        lambda p: p._replace(variance=p.variance.astype(np.float64) * 1e-60),
        errors.OutOfRange,
    ),
    "variance below 0": (spoilt("variance", (..., 0), -1.0), errors.OutOfRange),
    "variance inf": (spoilt("variance", (..., 0), np.inf), errors.NonFinite),
    "variance NaN": (spoilt("variance", (..., 0), np.nan), errors.NonFinite),
    "mean inf": (spoilt("mean", (..., 0), -np.inf), errors.NonFinite),
    "mean NaN": (spoilt("mean", (..., 0), np.nan), errors.NonFinite),
    "complex mean": (lambda p: p._replace(mean=p.mean + 1j), errors.WrongType),
    "words": (lambda p: p._replace(mean=p.mean.astype(str)), errors.WrongType),
}
IMPROPER_MIXTURES = {
    "weights that are no logarithms": (
        lambda p: p._replace(log_weight=np.exp(p.log_weight)),
        errors.OutOfRange,
    ),
    "unnormalized weights": (
        lambda p: p._replace(log_weight=p.log_weight + np.float32(0.01)),
        errors.OutOfRange,
    ),
    "one weight for all": (
        lambda p: p._replace(log_weight=p.log_weight[..., :1, :]),
        errors.WrongShape,
    ),
    "no components": (lambda p: Mixture(*(a[..., :0] for a in p)), errors.WrongShape),
    "variance of one component": (spoilt("variance", (..., 0, 1), -1.0), errors.OutOfRange),
}


def called(name, prediction):
    function, arrays = FUNCTIONS[name]
    return oracles.as_users_do(function)(**arrays | {"prediction": prediction})


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize("case", IMPROPER)
def test_an_improper_normal_is_refused(name, case):
    spoil, error = IMPROPER[case]
    prediction = spoil(FUNCTIONS[name][1]["prediction"])
    if "NaN" in case and name in PASS_NAN:
        assert np.isnan(np.concatenate([a.ravel() for a in answer(called(name, prediction))])).any()
        return
    with pytest.raises(error, match="`prediction`") as caught:
        called(name, prediction)
    assert caught.value.argument == "prediction"
    if "in float32" not in case and error in (errors.OutOfRange, errors.NonFinite):
        assert caught.value.rows.tolist() == [0]


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize("case", IMPROPER_MIXTURES)
def test_an_improper_mixture_is_refused(name, case):
    draws = np.ndim(FUNCTIONS[name][1]["prediction"].mean) == 2
    prediction = MIXED if draws else Mixture(*(a[0] for a in MIXED))
    called(name, prediction)
    spoil, error = IMPROPER_MIXTURES[case]
    with pytest.raises(error, match="`prediction`") as caught:
        called(name, spoil(prediction))
    assert caught.value.argument == "prediction"


def test_weights_of_minus_infinity_are_weights():
    weight = np.stack([np.zeros((K, N)), np.full((K, N), -np.inf)], -1).astype(np.float32)
    found = likelihoods.moments(MIXED._replace(log_weight=weight))
    np.testing.assert_allclose(found.mean, MEANS, rtol=1e-6)
    np.testing.assert_allclose(found.variance, VARIANCES, rtol=1e-6)


@pytest.mark.parametrize("function", [likelihoods.average, likelihoods.moments])
def test_predictions_are_not_looked_at_under_jit(function):
    improper = Gaussian(jnp.asarray(MEANS), -jnp.asarray(VARIANCES))
    assert jax.jit(function)(improper).mean is not None
    with pytest.raises(errors.WrongShape, match="`prediction`"):
        jax.jit(function)(improper._replace(variance=improper.variance[:, :1]))


def test_constants_of_a_traced_function_are_looked_at():
    with pytest.raises(errors.OutOfRange, match="`weights`"):
        jax.jit(lambda p: scores.epig(p, TARGET, weights=-VALUES[:T]))(LOG_P)
    with pytest.raises(errors.OutOfRange, match="`prediction`"):
        jax.jit(lambda y: metrics.rmse(gaussian()._replace(variance=-VARIANCES[0]), y))(REAL)


def test_arithmetic_of_classes_refuses_what_is_not_log_probabilities():
    for values in (np.exp(LOG_P), LOG_P + 1):
        for call in (
            likelihoods.average,
            lambda p: likelihoods.temper(p, 2.0),
            lambda p: likelihoods.log_likelihood(p, LABELS),
        ):
            with pytest.raises(errors.NotLogProbabilities, match="`prediction`"):
                oracles.as_users_do(call)(values)
    broken = jnp.asarray(LOG_P).at[:, 2].set(jnp.nan)
    assert np.isnan(likelihoods.average(broken)[2]).all()
    assert np.isfinite(likelihoods.average(broken)[3:]).all()
    for bad in (LABELS + C, LABELS - C):
        with pytest.raises(errors.WrongLabel, match="`y`"):
            likelihoods.log_likelihood(jnp.asarray(LOG_P), bad)
    with pytest.raises(errors.WrongSize, match="`prediction`"):
        likelihoods.average(jnp.asarray(LOG_P[:0]))


def test_a_scaling_is_for_classes():
    with pytest.raises(errors.WrongType, match="`temperature`"):
        likelihoods.temper(gaussian(True), Scaling(jnp.ones(N), jnp.zeros(N)))
