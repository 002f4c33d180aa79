"""Logistic and linear regression on given features: against scikit-learn, NUTS in its place, and
closed forms in float64.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.linear_model import LogisticRegression

import bayesal
from bayesal import acquire, errors, likelihoods, posteriors, retune, scores
from bayesal.posteriors._heads import _layer, _linear, _precision
from bayesal.posteriors._heads._mode import ClassLabels, mode
from bayesal.predictive import bind
from bayesal.types import HParams, Labeled

LOGISTIC = posteriors.logistic(3)
FIXED = posteriors.logistic(3, tune=False)
SOFT = posteriors.logistic(3, tune=False, likelihood=likelihoods.categorical(soft=True))
LINEAR = posteriors.linear()
KNOWN = posteriors.linear(noise_std=0.5)


def clouds(rows=60, width=4, seed=0, apart=1.0):
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, rows)
    x = apart * np.eye(3, width)[y] + 0.5 * random.normal(size=(rows, width))
    return x.astype(np.float32), y.astype(np.int32)


def straight(rows=40, width=3, seed=0, noise=0.5):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, width))
    y = x @ np.linspace(1.0, -0.5, width) + 0.3 + noise * random.normal(size=rows)
    return x.astype(np.float32), y.astype(np.float32)


@functools.cache
def compiled(posterior):
    return jax.jit(posterior.fit), jax.jit(posterior.online)


def fit(posterior, x, y, *, capacity=None, weight=None, scale=1.0, seed=1):
    """A fit; rows of padding hold NaN."""
    capacity = capacity or len(x)
    rows = np.full((capacity, *x.shape[1:]), np.nan, np.float32)
    labels = np.zeros((capacity, *np.shape(y)[1:]), np.asarray(y).dtype)
    rows[: len(x)], labels[: len(x)] = x, y
    often = np.ones(capacity, np.float32)
    often[: len(x)] = 1.0 if weight is None else weight
    data = Labeled(*map(jnp.asarray, (rows, labels)), jnp.int32(len(x)), jnp.asarray(often))
    start = posterior.init(jax.random.key(0), jnp.asarray(rows[0]))
    return compiled(posterior)[0](jax.random.key(seed), start, data, HParams(prior_scale=scale))[0]


def add(posterior, state, x, y):
    return compiled(posterior)[1](state, Labeled(jnp.asarray(x), jnp.asarray(y), len(x)))[0]


def as_seen(x):
    """Features as a layer sees them, in float64."""
    x = np.asarray(x, np.float64)
    apart = x - x.mean(0)
    unit = np.sqrt((apart**2).sum(1).mean())
    return np.c_[apart / unit, np.ones(len(x))]


def covariance(layer):
    """A, in float64."""
    basis, energy = np.asarray(layer.basis, np.float64), np.asarray(layer.energy, np.float64)
    return np.linalg.inv(basis * energy @ basis.T + float(layer.precision) * np.eye(len(basis)))


# --- the most probable weights


@pytest.mark.parametrize("width", [4, 100])  # fewer features than labels, and more
@pytest.mark.parametrize("scale", [0.3, 10.0])
def test_the_mean_is_the_map_of_scikit_learn(width, scale):
    x, y = clouds(width=width)
    found = fit(FIXED, x, y, capacity=70, scale=scale).layer.mean
    theirs = LogisticRegression(C=scale**2, fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(as_seen(x), y)
    # one constant for all classes changes no probability, and a normal prior makes it 0
    assert_allclose(found, theirs.coef_.T, atol=2e-3 * np.abs(theirs.coef_).max())


def test_weights_are_labels_that_are_there_so_often():
    x, y = clouds(30)
    often = np.random.default_rng(0).integers(0, 3, 30)
    twice = fit(FIXED, np.repeat(x, often, axis=0), np.repeat(y, often))
    once = fit(FIXED, x, y, weight=often)
    assert_allclose(once.layer.mean, twice.layer.mean, atol=1e-4)
    assert_allclose(covariance(once.layer), covariance(twice.layer), atol=1e-4)


def test_soft_labels_that_are_sure_are_classes():
    x, y = clouds(30)
    assert_allclose(
        fit(SOFT, x, np.eye(3, dtype=np.float32)[y]).layer.mean,
        fit(FIXED, x, y).layer.mean,
        atol=1e-5,
    )


def test_a_soft_label_is_the_labels_it_is_the_shares_of():
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    half = np.tile(np.float32([[0.5, 0.5, 0.0]]), (6, 1))
    shared = fit(SOFT, x, half).layer.mean
    apart = fit(
        FIXED,
        np.repeat(x, 2, axis=0),
        np.tile(np.int32([0, 1]), 6),
        weight=np.full(12, 0.5, np.float32),
    ).layer.mean
    assert_allclose(shared, apart, atol=1e-5)


@given(st.integers(0, 10_000), st.floats(-4.0, 4.0), st.floats(-3.0, 3.0))
def test_neither_unit_nor_offset_of_features_matters(seed, log_unit, offset):
    x, y = clouds(20, seed=seed)
    moved = (10.0**log_unit) * (x + offset)
    first, second = (fit(FIXED, data, y).layer for data in (x, moved))
    assert_allclose(first.mean, second.mean, atol=2e-3)
    assert_allclose(first.energy, second.energy, rtol=2e-3, atol=1e-4)


def test_where_it_begins_changes_nothing():
    x, y = clouds()
    cold, other = fit(FIXED, x, y), fit(FIXED, *clouds(seed=3))
    data = Labeled(jnp.asarray(x), jnp.asarray(y), jnp.int32(len(x)), jnp.ones(len(x)))
    begin = FIXED.warm(other, FIXED.init(jax.random.key(0), jnp.asarray(x[0])))
    warm, _ = compiled(FIXED)[0](jax.random.key(1), begin, data, HParams())
    assert_allclose(warm.layer.mean, cold.layer.mean, atol=1e-4)


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_newtons_method_ends_where_the_slope_is_zero(size):
    x, y = clouds(40, apart=size)
    x = np.float64(x)
    labels = ClassLabels(
        jnp.float32(x), jax.nn.one_hot(y, 3), jnp.ones(40), jnp.zeros((40, 3), jnp.float32)
    )
    energy = jnp.float32(0.5 * (x**2).sum(0))
    weights = np.float64(mode(labels, jnp.float32(0.1), energy, jnp.zeros((4, 3))))
    logits = x @ weights
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    slope = x.T @ (probs - np.eye(3)[y]) + 0.1 * weights
    start = np.abs(x.T @ (1 / 3 - np.eye(3)[y])).max()
    assert np.abs(slope).max() < 1e-3 * start


# --- the covariance


@pytest.mark.parametrize("width", [4, 100])
def test_the_covariance_is_the_inverse_of_the_bound_and_the_prior(width):
    x, y = clouds(width=width)
    layer = fit(FIXED, x, y, capacity=70, scale=2.0).layer
    at = as_seen(x)
    exact = np.linalg.inv(0.5 * at.T @ at + 0.25 * np.eye(width + 1))
    assert_allclose(covariance(layer), exact, atol=1e-4)
    noise = jnp.eye(width + 1)
    half = np.asarray(_layer.root(layer, noise))
    assert_allclose(half @ half.T, exact, atol=1e-4)
    own = _layer.spread(layer, jnp.float32(at))
    assert_allclose(own, np.einsum("nd,de,ne->n", at, exact, at), rtol=1e-3)


def test_the_bound_is_never_below_the_curvature():
    """Böhning 1992: 1/2 (1 - 11'/C) - (diag p - pp') has no negative eigenvalue."""
    random = np.random.default_rng(0)
    for classes in (2, 3, 10):
        for _ in range(100):
            p = random.dirichlet(np.full(classes, 0.3))
            bound = 0.5 * (np.eye(classes) - 1 / classes)
            gap = bound - (np.diag(p) - np.outer(p, p))
            assert np.linalg.eigvalsh(gap).min() > -1e-12


def test_draws_have_the_mean_and_the_covariance():
    layer = fit(FIXED, *clouds(20)).layer
    drawn = np.asarray(_layer.draw(jax.random.key(0), layer, 20_000))
    assert_allclose(drawn.mean(0), layer.mean, atol=0.05)
    apart = (drawn - np.asarray(layer.mean))[:, :, 0]
    assert_allclose(apart.T @ apart / len(apart), covariance(layer), atol=0.05)


@pytest.mark.slow
def test_predictions_are_those_of_nuts():
    """NUTS samples the posterior itself, under the same prior: 40 labels of clouds that overlap."""
    numpyro = pytest.importorskip("numpyro")
    x, y = clouds(40, apart=1.0)
    state = fit(FIXED, x, y, scale=2.0)
    at = jnp.float32(as_seen(x))

    def model():
        weights = numpyro.sample(
            "w", numpyro.distributions.Normal(0.0, 2.0).expand((5, 3)).to_event(2)
        )
        with numpyro.plate("rows", 40):
            numpyro.sample("y", numpyro.distributions.Categorical(logits=at @ weights), obs=y)

    chain = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model), num_warmup=500, num_samples=3000, progress_bar=False
    )
    chain.run(jax.random.key(0))
    new = clouds(200, seed=5)[0]
    seen = _layer.seen(state.layer, jnp.asarray(new))
    truth = jax.nn.softmax(jnp.einsum("nd,kdc->knc", seen, chain.get_samples()["w"])).mean(0)
    ours = np.exp(bind(FIXED, state, FIXED.draw(jax.random.key(1), state, 3000)).log_probs(new))
    laplace = 0.5 * np.abs(ours - truth).sum(1)
    assert laplace.mean() < 0.04
    assert laplace.max() < 0.12


# --- the prior's precision


@pytest.mark.slow
def test_the_chosen_precision_predicts_held_out_labels_as_well_as_any():
    """The average of draws on new points, under every precision of a grid: four data sets."""
    regrets, unsearched = [], []
    for seed in range(4):
        given_labels, (new, truth) = clouds(60, 30, seed), clouds(2_000, 30, 100 + seed)

        def loss(posterior, scale, given_labels=given_labels, new=new, truth=truth):
            state = fit(posterior, *given_labels, scale=scale)
            draws = FIXED.draw(jax.random.key(2), state, 100)
            probs = np.exp(np.float64(bind(FIXED, state, draws)(new))).mean(0)
            return -np.log(probs[np.arange(len(truth)), truth]).mean()

        losses = [loss(FIXED, scale) for scale in np.exp(-0.5 * _precision.LOGS)]
        regrets.append(loss(LOGISTIC, 1.0) - min(losses))
        unsearched.append(np.mean(losses) - min(losses))
    assert np.mean(regrets) < 0.05 < 0.2 < np.mean(unsearched)


def test_labels_that_say_nothing_leave_the_precision_to_its_prior():
    x = np.zeros((10, 3), np.float32)
    state = fit(LOGISTIC, x, np.int32([0, 1] * 5))
    assert np.isfinite(np.asarray(jax.tree.leaves(state.layer)[2])).all()
    assert 1e-4 <= float(state.layer.precision) <= 1e2


@given(st.lists(st.floats(0, 10), min_size=3, max_size=3))
def test_the_vertex_is_that_of_the_parabola(values):
    y = np.float64(values)
    found = float(_precision.vertex(jnp.float32(y), jnp.int32(1)))
    if y[1] < min(y[0], y[2]) - 1e-3:
        bend, slope = y[0] - 2 * y[1] + y[2], 0.5 * (y[2] - y[0])
        assert found == pytest.approx(-slope / bend, abs=1e-3)
        assert -0.5 <= found <= 0.5


def test_folds_hold_every_row_once_and_classes_evenly():
    x, y = clouds(33)
    labels = ClassLabels(
        jnp.asarray(x), jax.nn.one_hot(y, 3), jnp.float32([1] * 30 + [0] * 3), 0 * x
    )
    dealt = _precision.deal(jax.random.key(0), labels)
    rows = np.asarray(dealt.row)[np.asarray(dealt.there)]
    assert sorted(rows) == list(range(30))
    for fold in range(_precision.FOLDS):
        mine = np.asarray(dealt.row[fold])[np.asarray(dealt.there[fold])]
        assert (np.asarray(dealt.fold)[mine] == fold).all()
        counts = np.bincount(y[mine], minlength=3)
        assert np.abs(counts - np.bincount(y[:30], minlength=3) / 5).max() < 1.5


# --- more labels


def test_added_labels_bring_the_covariance_of_all():
    x, y = clouds(40)
    first = fit(FIXED, x[:25], y[:25], capacity=40)
    both = add(FIXED, first, x[25:], y[25:])
    at = np.asarray(_layer.seen(first.layer, jnp.asarray(x)), np.float64)
    exact = np.linalg.inv(0.5 * at.T @ at + np.eye(5))
    assert_allclose(covariance(both.layer), exact, atol=1e-4)


@pytest.mark.slow
def test_added_labels_bring_the_weights_near_those_of_a_fit():
    x, y = clouds(300, apart=2.0)
    one = add(FIXED, fit(FIXED, x[:200], y[:200]), x[200:], y[200:])
    new, truth = clouds(1_000, seed=9, apart=2.0)

    def loss(state):
        logits = _layer.seen(state.layer, jnp.asarray(new)) @ state.layer.mean
        return -np.asarray(jax.nn.log_softmax(logits))[np.arange(1_000), truth].mean()

    assert loss(one) < loss(fit(FIXED, x, y)) + 0.02
    assert loss(one) < loss(fit(FIXED, x[:200], y[:200])) + 0.005


def test_linear_regression_learns_exactly_from_more_labels():
    x, y = straight(60)
    first = fit(LINEAR, x[:40], y[:40], capacity=60)
    both = add(LINEAR, add(LINEAR, first, x[40:50], y[40:50]), x[50:], y[50:])
    layer = first.inner.layer
    at = np.asarray(_layer.seen(layer, jnp.asarray(x)), np.float64)
    target = (np.float64(y) - float(first.center)) / float(first.scale)
    exact = np.linalg.solve(at.T @ at + float(layer.precision) * np.eye(4), at.T @ target)
    assert_allclose(both.inner.layer.mean[:, 0], exact, atol=1e-4)


# --- linear regression


@pytest.mark.parametrize("width", [3, 60])
def test_linear_regression_is_the_closed_form(width):
    x, y = straight(width=width)
    state = fit(LINEAR, x, y, capacity=50)
    at, ratio = as_seen(x), float(state.inner.layer.precision)
    target = (np.float64(y) - y.mean(dtype=np.float64)) / y.std(dtype=np.float64)
    inverse = np.linalg.inv(at.T @ at + ratio * np.eye(width + 1))
    mean = inverse @ at.T @ target
    assert_allclose(state.inner.layer.mean[:, 0], mean, atol=1e-3)
    missed = ((target - at @ mean) ** 2).sum() + ratio * (mean**2).sum()
    noise = (_linear.COUNT * _linear.VARIANCE + missed) / (_linear.COUNT + len(y) - 2)
    assert_allclose(state.inner.noise_variance, noise, rtol=1e-3)
    said = jax.vmap(lambda row: LINEAR.marginal(state, row))(jnp.asarray(x))
    assert_allclose(said.mean, y.mean() + y.std() * at @ mean, atol=1e-3)
    own = np.einsum("nd,de,ne->n", at, inverse, at)
    assert_allclose(said.variance, y.var() * noise * (1 + own), rtol=2e-3)


@pytest.mark.parametrize("posterior", [LINEAR, KNOWN])
def test_the_ratio_maximizes_the_evidence(posterior):
    """The marginal likelihood by SciPy: Student's t, or a normal where the noise is known."""
    x, y = straight(30, 6, noise=0.5)
    state = fit(posterior, x, y)
    at = as_seen(x)
    target = (np.float64(y) - y.mean(dtype=np.float64)) / y.std(dtype=np.float64)

    def evidence(log):
        shape = np.eye(30) + at @ at.T / np.exp(log)
        prior = -0.5 * ((log - _linear.MIDDLE) / _linear.WIDTH) ** 2
        if posterior is KNOWN:
            known = 0.25 / y.var(dtype=np.float64) * shape
            return prior + stats.multivariate_normal(np.zeros(30), known).logpdf(target)
        student = stats.multivariate_t(np.zeros(30), _linear.VARIANCE * shape, df=_linear.COUNT)
        return prior + student.logpdf(target)

    logs = np.linspace(np.log(1e-5), np.log(1e5), 2_001)
    best = logs[np.argmax([evidence(log) for log in logs])]
    assert float(jnp.log(state.inner.layer.precision)) == pytest.approx(best, abs=0.05)


@given(st.integers(0, 1_000), st.floats(-6, 6), st.floats(-100, 100))
def test_labels_in_other_units_give_predictions_in_those_units(seed, log_unit, offset):
    x, y = straight(20, seed=seed)
    unit = 10.0**log_unit
    plain, other = fit(LINEAR, x, y), fit(LINEAR, x, np.float32(unit * (y + offset)))
    one = LINEAR.marginal(plain, jnp.asarray(x[0]))
    two = LINEAR.marginal(other, jnp.asarray(x[0]))
    size = float(jnp.sqrt(one.variance))
    # labels near 100 have steps of 1e-5 in float32
    assert abs(float(two.mean) / unit - offset - float(one.mean)) < 1e-2 * size
    assert float(two.variance) == pytest.approx(unit**2 * float(one.variance), rel=2e-2)


def test_the_average_of_draws_is_the_closed_prediction():
    x, y = straight(20)
    state = fit(LINEAR, x, y)
    draws = LINEAR.draw(jax.random.key(0), state, 20_000)
    each = jax.vmap(lambda draw: LINEAR.apply(state, draw, jnp.asarray(x[0])))(draws)
    closed = LINEAR.marginal(state, jnp.asarray(x[0]))
    assert_allclose(each.mean.mean(), closed.mean, atol=0.02)
    assert_allclose(each.mean.var() + each.variance.mean(), closed.variance, rtol=0.02)


def test_labels_of_one_value_are_predicted():
    x, _ = straight(10)
    state = fit(LINEAR, x, np.full(10, 7.0, np.float32))
    said = LINEAR.marginal(state, jnp.asarray(x[0]))
    assert float(said.mean) == pytest.approx(7.0, abs=1e-3)
    assert 0 < float(said.variance) < 0.2 * 7.0**2  # in units of the label's own size


# --- what broke once


@pytest.mark.slow
def test_more_features_than_a_thousand_are_exact():
    random = np.random.default_rng(0)
    x = random.normal(size=(1200, 1100)).astype(np.float32)
    y = (x @ random.normal(size=1100) / 33 + 0.5 * random.normal(size=1200)).astype(np.float32)
    layer = fit(LINEAR, x, y).inner.layer
    at, new = as_seen(x), random.normal(size=(5, 1100)).astype(np.float32)
    apart = _layer.seen(layer, jnp.asarray(new))
    inverse = np.linalg.inv(at.T @ at + float(layer.precision) * np.eye(1101))
    want = np.einsum("nd,de,ne->n", np.float64(apart), inverse, np.float64(apart))
    assert_allclose(_layer.spread(layer, apart), want, rtol=2e-3)


def test_beyond_the_rank_variances_are_wider_and_labels_are_not_added_online(monkeypatch):
    x, y = straight(40, 12)
    whole = fit(LINEAR, x, y)
    monkeypatch.setattr(_layer, "RANK", 6)
    short = posteriors.linear()
    cut = fit(short, x, y)
    assert (
        short.marginal(cut, jnp.asarray(x[0])).variance
        > LINEAR.marginal(whole, jnp.asarray(x[0])).variance
    )
    with pytest.raises(errors.WrongSize, match="update='online' is exact up to 6 features"):
        add(short, cut, x, y)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 10])
@pytest.mark.parametrize("offset", [0.1, 0.3, 100.1])
def test_rows_that_are_all_alike_have_no_distance(count, offset):
    x = np.full((count, 8), offset, np.float32)
    y = np.arange(count, dtype=np.float32)
    state = fit(LINEAR, x, y)
    assert float(state.inner.layer.unit) == 1.0
    said = LINEAR.marginal(state, jnp.asarray(x[0] + 1.0))
    assert float(jnp.sqrt(said.variance)) < 10 * max(1.0, y.std())
    layer = fit(LOGISTIC, x, np.arange(count) % 3).layer
    assert float(layer.unit) == 1.0


def test_features_of_very_unequal_columns_keep_their_digits():
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)) * [1.0, 1e-2, 1e-2, 1e-2, 1e-2]
    y = x @ [1.0, 20.0, -30.0, 50.0, 10.0]
    state = fit(LINEAR, np.float32(x), np.float32(y))
    at, ratio = as_seen(np.float32(x)), float(state.inner.layer.precision)
    target = (y - y.mean()) / y.std()
    mean = np.linalg.solve(at.T @ at + ratio * np.eye(6), at.T @ target)
    assert_allclose(np.asarray(state.inner.layer.mean)[:, 0], mean, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_extreme_units_of_features_are_units(size):
    x, y = straight(20)
    one, other = (fit(LINEAR, np.float32(unit * x), y) for unit in (1.0, size))
    assert_allclose(other.inner.layer.mean, one.inner.layer.mean, atol=1e-3)


def test_one_row_in_place_of_rows_is_refused():
    x, y = clouds()
    state = fit(LOGISTIC, x, y)
    said = bind(LOGISTIC, state, LOGISTIC.draw(jax.random.key(0), state, 5))
    for bad in (x[0], x[:, :3], x[:, :1]):
        with pytest.raises(errors.WrongShape, match="features"):
            said.log_probs(bad)


def test_a_first_label_alone_gives_later_ones_no_scale():
    x, y = straight(60, noise=0.1)
    learner = bayesal.learner(
        LINEAR, acquire.uniform(), size=1, num_draws=20, update="online", capacity=60
    )
    state = learner.tell(learner.init(0, x), x, [0], 1e3 + y[:1])
    state = learner.tell(state, x, np.arange(1, 50), 1e3 + y[1:50])
    said = bayesal.predictive_of(LINEAR, state, 20).moments(x[50:])
    assert float(jnp.sqrt(said.variance).max()) < 2.0


def test_architectures_of_heads_are_searched():
    halves = posteriors.logistic(3, features=lambda x: x[:2])
    both = posteriors.any_of(LOGISTIC, halves)
    assert "architecture" not in both.unused and both.scales
    bayesal.learner(both, acquire.power(), size=3, retune=retune.successive_halving())
    with pytest.raises(errors.WrongSize, match="there is none to search"):
        bayesal.learner(LINEAR, acquire.uniform(), size=3, retune=retune.successive_halving())


def test_what_cannot_be_fitted_names_the_features():
    x, y = clouds(20)
    learner = bayesal.learner(LOGISTIC, acquire.uniform(), size=3, capacity=20)
    pool = np.where(x > 1.0, np.float32(3e38), np.float32(-3e38))
    with pytest.raises(errors.TrainingFailed, match="extreme features"):
        learner.tell(learner.init(0, pool), pool, np.arange(10), y[:10])


@pytest.mark.parametrize("targets", [np.int64(20), [[0.0] * 4] * 5, scipy.sparse.eye(5, 4)])
def test_targets_may_be_counts_lists_and_sparse(targets):
    x, y = clouds()
    learner = bayesal.learner(LOGISTIC, acquire.epig(targets), size=3, num_draws=5)
    state = learner.tell(learner.init(0, x), x, np.arange(20), y[:20])
    assert len(learner.ask(state, x).indices) == 3


def test_no_targets_are_refused():
    for bad in (np.zeros((0, 4)), np.float32(3.0), []):
        with pytest.raises(errors.WrongSize, match="`targets`"):
            acquire.epig(bad)


def test_picks_of_real_labels_are_not_explained_as_classes():
    x, y = straight(60)
    learner = bayesal.learner(LINEAR, acquire.epig(20), size=3, num_draws=20)
    state = learner.tell(learner.init(0, x), x, np.arange(20), y[:20])
    with pytest.raises(errors.WrongType, match="real labels"):
        bayesal.explain(learner.ask(state, x), bayesal.predictive_of(LINEAR, state, 20), x)


# --- at the edge, and in the loop


def test_what_is_refused():
    with pytest.raises(errors.WrongSize, match="`classes`"):
        posteriors.logistic(1)
    with pytest.raises(errors.WrongType, match="real labels"):
        posteriors.logistic(3, likelihood=likelihoods.gaussian())
    for noise in (0.0, -1.0, np.nan, np.inf, 1e-30):
        with pytest.raises(errors.OutOfRange, match="`noise_std`"):
            posteriors.linear(noise_std=noise)


def test_features_of_ones_own():
    halves = posteriors.logistic(3, features=lambda picture: picture[::2])
    x, y = clouds()
    wide = np.repeat(x, 2, axis=1)
    assert_allclose(
        fit(halves, wide, y).layer.mean, fit(LOGISTIC, x, y).layer.mean, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    "update",
    [pytest.param(way, marks=pytest.mark.slow) for way in ("warm", "online")] + ["fresh"],
)
def test_embeddings_stored_as_float16_are_asked_and_told(update):
    x, y = clouds(300, 20, apart=3.0)
    pool = x.astype(np.float16)
    learner = bayesal.learner(
        LOGISTIC, acquire.top(scores.margin), size=10, num_draws=20, update=update, capacity=60
    )
    state = learner.init(0, pool)
    for _ in range(4):
        picks = np.asarray(learner.ask(state, pool).indices)
        state = learner.tell(state, pool, picks, y[picks])
    said = bayesal.predictive_of(LOGISTIC, state, 20).predict(pool)
    assert (said == y).mean() > 0.9


def test_ids_are_remarked_on_and_features_of_any_scale_are_not():
    x, y = clouds(40)
    learner = bayesal.learner(LOGISTIC, acquire.top(scores.margin), size=5, num_draws=5)
    ids = np.random.default_rng(0).integers(0, 5_000, (40, 4))
    with pytest.warns(UserWarning, match="ids"):
        learner.tell(learner.init(0, ids), ids, np.arange(20), y[:20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pool in (1e5 * x, np.uint8(50 * np.abs(x))):
            learner.tell(learner.init(0, pool), pool, np.arange(20), y[:20])


def test_sparse_rows_and_frames_are_predicted():
    class Frame:
        """What a data frame has in common with others."""

        def __init__(self, values):
            self.values = values

        def to_numpy(self):
            return self.values

    x, y = clouds()
    state = fit(LOGISTIC, x, y)
    said = bind(LOGISTIC, state, LOGISTIC.draw(jax.random.key(0), state, 5))
    for rows in (scipy.sparse.csr_matrix(x), Frame(x)):
        assert_allclose(said.log_probs(rows), said.log_probs(x), atol=1e-6)


def test_real_labels_are_asked_and_told():
    x, y = straight(200, 5, noise=0.1)
    learner = bayesal.learner(
        LINEAR, acquire.top(scores.regression.epistemic), size=10, num_draws=50, capacity=40
    )
    state = learner.init(0, x)
    for _ in range(3):
        picks = np.asarray(learner.ask(state, x).indices)
        state = learner.tell(state, x, picks, 1e3 * y[picks])
    said = bayesal.predictive_of(LINEAR, state, 50).moments(x)
    assert np.sqrt(np.mean((np.asarray(said.mean) - 1e3 * y) ** 2)) < 130.0
