"""Our estimators under scikit-learn's own rules."""

import pickle
import warnings

import jax
import numpy as np
import pytest

import bayesal
from bayesal import acquire, calibrate, errors, networks, posteriors
from bayesal.integrations import _fitting
from bayesal.integrations.sklearn import BayesianClassifier, BayesianRegressor

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
NAMES = np.where(X[:, 0] + 0.3 * RNG.normal(size=40) > 0, "yes", "no")


def small_ensemble(features: int, classes: int):
    """A factory that can be imported, as a pickle needs."""
    return posteriors.ensemble(networks.mlp(features, classes, (8,)), members=3)


@pytest.fixture(scope="module")
def fitted():
    return BayesianClassifier(num_draws=20).fit(X, NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [BayesianClassifier(), BayesianRegressor()])
def test_scikit_learns_own_checks_pass(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(found) > 45
    assert not [r["check_name"] for r in found if r["status"] not in ("passed", "skipped")]
    # what is skipped needs pandas, or SciPy's switch for other arrays
    assert sum(r["status"] == "skipped" for r in found) <= 2


def test_probabilities_are_the_mean_of_the_draws(fitted):
    draws = fitted.sample_proba(X)
    assert draws.shape == (20, 40, 2) and fitted.classes_.tolist() == ["no", "yes"]
    np.testing.assert_allclose(draws.mean(axis=0), fitted.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(
        fitted.predict(X), fitted.classes_[fitted.predict_proba(X).argmax(1)]
    )
    assert fitted.score(X, NAMES) > 0.85


def test_a_draw_is_one_function_whatever_the_company(fitted):
    np.testing.assert_array_equal(fitted.sample_proba(X)[:, :3], fitted.sample_proba(X[:3]))
    np.testing.assert_array_equal(
        fitted.sample_proba(X, 5, random_state=1)[:, 7:9],
        fitted.sample_proba(X[7:9], 5, random_state=1),
    )
    others = fitted.sample_proba(X, 5, random_state=2)
    assert others.shape == (5, 40, 2) and not np.allclose(
        others, fitted.sample_proba(X, 5, random_state=1)
    )


@pytest.mark.slow
def test_its_draws_are_what_choose_takes(fitted):
    batch = bayesal.choose(0, fitted.predictive_, X.astype(np.float32), 3, acquire.power())
    assert len(set(batch.indices.tolist())) == 3


def test_a_pickle_holds_no_function_and_predicts_the_same(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(again.sample_proba(X), fitted.sample_proba(X))
    unfitted = pickle.loads(pickle.dumps(BayesianClassifier(num_draws=3)))
    assert unfitted.num_draws == 3 and not hasattr(unfitted, "predictive_")


def test_a_clone_shares_its_posterior_and_copies_its_generator():
    posterior, state = posteriors.logistic(2), np.random.RandomState(0)
    model = BayesianClassifier(posterior, num_draws=7, random_state=state)
    again = clone(model)
    assert again.posterior is posterior and again.num_draws == 7
    assert again.random_state is not state
    assert _fitting.posterior_of(None, 2, 2) is _fitting.posterior_of(None, 2, 2)


@pytest.mark.slow
def test_pipelines_and_searches_take_it():
    pipe = make_pipeline(StandardScaler(), BayesianClassifier(num_draws=5))
    search = GridSearchCV(pipe, {"bayesianclassifier__num_draws": [5, 6]}, cv=2)
    search.fit(X, NAMES)
    assert search.best_score_ > 0.8


@pytest.mark.slow
def test_weights_of_zero_leave_rows_out():
    weights = np.repeat([1.0, 0.0], 40)
    model = BayesianRegressor().fit(X, X[:, 0])
    numbers = np.concatenate([X[:, 0], -X[:, 0]])
    weighted = BayesianRegressor().fit(np.concatenate([X, X]), numbers, weights=weights)
    np.testing.assert_allclose(weighted.predict(X), model.predict(X), atol=1e-5)


def test_one_class_and_a_posterior_of_the_other_kind_are_refused():
    with pytest.raises(errors.WrongLabel, match="one class, 'a'"):
        BayesianClassifier().fit(X, ["a"] * 40)
    with pytest.raises(errors.WrongType, match="real numbers, and these labels are classes"):
        BayesianClassifier(posteriors.linear()).fit(X, NAMES)
    with pytest.raises(errors.WrongType, match="`posterior` must be a Posterior"):
        BayesianClassifier("logistic").fit(X, NAMES)
    with pytest.raises(errors.WrongType, match="`posterior` must be a Posterior"):
        BayesianClassifier(lambda features, classes: None).fit(X, NAMES)


@pytest.mark.slow
def test_a_regressor_gives_its_spread_and_labels_as_they_might_come():
    y = 3.0 * X[:, 0] + 100.0 + 0.5 * RNG.normal(size=40)
    model = BayesianRegressor(random_state=1).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == (40,) and model.score(X, y) > 0.9
    sampled = model.sample_y(X, 400, random_state=3)
    assert sampled.shape == (40, 400)
    # means within five standard errors, spreads within five of theirs
    assert np.all(np.abs(sampled.mean(1) - mean) < 5 * std / np.sqrt(400) + 0.1 * std)
    np.testing.assert_allclose(sampled.std(1), std, rtol=0.25)
    far = model.predict([[50.0, 0.0]], return_std=True)[1]
    assert far > 2 * std.max()


def test_labels_of_a_mixture_come_from_its_parts():
    two = bayesal.Mixture(
        log_weight=np.log(np.float32([[[0.25, 0.75]]])).repeat(4000, 1),
        mean=np.float32([[[-10.0, 10.0]]]).repeat(4000, 1),
        variance=np.full((1, 4000, 2), 0.01, np.float32),
    )
    found = np.asarray(_fitting.labels(jax.random.key(0), two))[0]
    assert np.all(np.abs(np.abs(found) - 10) < 1) and abs((found > 0).mean() - 0.75) < 0.035


@pytest.mark.slow
def test_a_factory_a_calibrator_and_an_ensemble_survive_a_pickle():
    many = RNG.normal(size=(120, 3))
    y = (many[:, 0] > 0).astype(int) + (many[:, 1] > 0)
    model = BayesianClassifier(
        small_ensemble,
        calibrate=calibrate.vector(),
        hparams=bayesal.HParams(steps=50),
    ).fit(many, y)
    assert model.sample_proba(many).shape == (3, 120, 3)
    assert isinstance(model.predictive_.temperature, bayesal.types.Scaling)
    calibrated = model.__getstate__()["predictive_"]
    again = _fitting.rebuilt(calibrated, _fitting.posterior_of(small_ensemble, 3, 3), 3)
    np.testing.assert_array_equal(again.probs(many.astype(np.float32)), model.predict_proba(many))
