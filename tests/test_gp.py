"""Gaussian processes against float64 linear algebra, quadrature and counting; preferences end to
end.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import bayesal
from bayesal import acquire, calibrate, errors, posteriors
from bayesal.posteriors._gp import _inducing as _inducing
from bayesal.posteriors._gp._exact import evidence, latent
from bayesal.posteriors._gp._kernels import MATERN52, RBF, basis, covariance
from bayesal.posteriors._gp._process import Process
from bayesal.posteriors._gp._regression import FIRST_NOISE
from bayesal.posteriors._preference import probit_sites
from bayesal.tasks import preference
from bayesal.types import HParams, Labeled

NO_STEPS = HParams(*(jnp.float32(v) for v in (1e-2, 0.0, 0.0, 1.0)), jnp.int32(0))
FEW_STEPS = NO_STEPS._replace(steps=jnp.int32(40))
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 2)).astype(np.float32)
Y = (5.0 + 2.0 * np.sin(2 * X[:, 0])).astype(np.float32)
AT = RANDOM.normal(size=(15, 2)).astype(np.float32)
REGRESSION = posteriors.gp_regression(center=5.0, scale=2.0, waves=2048)


def padded(x, y, capacity):
    """Rows of garbage after the labels."""
    extra = capacity - len(x)
    return Labeled(
        jnp.asarray(np.r_[x, np.full((extra, *x.shape[1:]), np.nan, np.float32)]),
        jnp.asarray(np.r_[y, np.zeros(extra, y.dtype)]),
        jnp.int32(len(x)),
    )


@pytest.fixture(scope="module")
def plain():
    """Conditioned on 24 labels, kernel parameters as they start."""
    start = REGRESSION.init(jax.random.key(0), X[0])
    return jax.jit(REGRESSION.fit)(jax.random.key(1), start, padded(X, Y, 30), NO_STEPS)[0]


def exact(a, b, unit):
    return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1) / unit**2)


def by_hand(noise=FIRST_NOISE):
    """Posterior mean and covariance at AT in float64, in units of `scale` about `center`; and the
    log evidence.
    """
    x, at, y = X.astype(np.float64), AT.astype(np.float64), (Y.astype(np.float64) - 5) / 2
    unit = math.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    inner = exact(x, x, unit) + noise * np.eye(len(x))
    cross = exact(at, x, unit)
    return (
        cross @ np.linalg.solve(inner, y),
        exact(at, at, unit) - cross @ np.linalg.solve(inner, cross.T),
        stats.multivariate_normal(np.zeros(len(x)), inner).logpdf(y),
    )


def test_the_posterior_is_that_of_linear_algebra(plain):
    mean, cov, log_evidence = by_hand()
    found = latent(plain, jnp.asarray(AT)[:, None])
    assert_allclose(found.mean[0], mean, atol=2e-4)
    assert_allclose(found.variance[0], np.diag(cov), atol=2e-4)
    assert_allclose(
        evidence(plain.factor[0], plain.root[0], plain.target[0]), log_evidence, rtol=1e-4
    )


def test_the_marginal_is_that_of_linear_algebra(plain):
    mean, cov, _ = by_hand()
    found = jax.jit(jax.vmap(REGRESSION.marginal, (None, 0)))(plain, AT)
    assert_allclose(found.mean, 5 + 2 * mean, atol=1e-3)
    assert_allclose(found.variance, 4 * (np.diag(cov) + FIRST_NOISE), atol=1e-3)
    assert posteriors.gp_classification(2).marginal is None


def test_draws_have_the_posteriors_moments(plain):
    mean, cov, _ = by_hand()
    draws = REGRESSION.draw(jax.random.key(2), plain, 3000)
    values = jax.jit(
        jax.vmap(lambda d: jax.vmap(lambda x: REGRESSION.apply(plain, d, x).mean)(jnp.asarray(AT)))
    )(draws)
    values = (np.asarray(values, np.float64) - 5) / 2
    spread = np.sqrt(np.diag(cov))
    assert np.abs((values.mean(0) - mean) / spread).max() < 5 / math.sqrt(3000) + 0.02
    off = np.cov(values.T) - cov
    assert np.abs(off).max() < 0.08  # random waves and 3,000 draws; the prior's variance is 1
    assert (
        np.abs(0.64 * np.cov(values.T) - cov).max() > 0.08
    )  # draws of 0.8 of the width would be seen


def test_the_predicted_noise_is_the_noise(plain):
    draw = jax.tree.map(lambda a: a[0], REGRESSION.draw(jax.random.key(2), plain, 1))
    assert_allclose(REGRESSION.apply(plain, draw, X[0]).variance, FIRST_NOISE * 4, rtol=1e-6)


def test_the_kernel_is_learned():
    start = REGRESSION.init(jax.random.key(0), X[0])
    state, info = jax.jit(REGRESSION.fit)(jax.random.key(1), start, padded(X, Y, 30), FEW_STEPS)
    assert int(info.failed_at) == -1
    before, after = (
        evidence(s.factor[0], s.root[0], s.target[0])
        for s in (
            jax.jit(REGRESSION.fit)(jax.random.key(1), start, padded(X, Y, 30), NO_STEPS)[0],
            state,
        )
    )
    assert after > before + 3
    assert state.params.noise_variance < -0.5  # these labels have none


@pytest.mark.parametrize("kernel", [RBF, MATERN52], ids=["rbf", "matern"])
@pytest.mark.parametrize("signs", [(1,), (1, -1)], ids=["values", "differences"])
def test_waves_have_the_kernels_covariance(kernel, signs):
    a, b = (jnp.asarray(RANDOM.normal(size=(6, len(signs), 3)), jnp.float32) for _ in range(2))
    waves = kernel.waves(jax.random.key(0), 40_000, 3)
    assert_allclose(
        basis(waves, a, signs) @ basis(waves, b, signs).T,
        covariance(kernel, a, b, signs),
        atol=0.06 if len(signs) > 1 else 0.03,
    )


def test_kernels_by_hand_and_their_slopes_at_copies():
    r = 0.7
    assert_allclose(
        MATERN52.value(jnp.float32(r * r)),
        (1 + math.sqrt(5) * r + 5 * r * r / 3) * math.exp(-math.sqrt(5) * r),
        rtol=1e-6,
    )
    assert_allclose(RBF.value(jnp.float32(r * r)), math.exp(-r * r / 2), rtol=1e-6)
    copies = jnp.ones((3, 1, 2))
    for kernel in (RBF, MATERN52):
        slope = jax.grad(
            lambda scale, kernel=kernel: covariance(
                kernel, scale * copies, scale * copies, (1,)
            ).sum()
        )(1.0)
        assert np.isfinite(slope)


def test_far_from_all_labels_nothing_is_known(plain):
    far = latent(plain, jnp.full((1, 1, 2), 1e3))
    assert_allclose([far.mean[0, 0], far.variance[0, 0]], [0.0, 1.0], atol=1e-6)


# inducing points


@pytest.mark.parametrize("points", [24, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_with_every_label_inducing_the_process_is_exact(points):
    sparse = posteriors.gp_regression(center=5.0, scale=2.0, waves=64, inducing=points)
    state, _ = jax.jit(sparse.fit)(
        jax.random.key(1), sparse.init(jax.random.key(0), X[0]), padded(X, Y, 30), NO_STEPS
    )
    draws = sparse.draw(jax.random.key(2), state, 3000)
    values = jax.jit(
        jax.vmap(lambda d: jax.vmap(lambda x: sparse.apply(state, d, x).mean)(jnp.asarray(AT)))
    )(draws)
    mean, cov, _ = by_hand()
    assert np.abs((np.asarray(values).mean(0) - 5) / 2 - mean).max() < 0.03
    of = Process(RBF, None, 1, 64, None, None)
    found = _inducing.latent(of, state, jnp.asarray(AT)[:, None])
    assert_allclose(found.mean[0], mean, atol=5e-3)
    assert_allclose(found.variance[0], np.diag(cov), atol=5e-3)
    label = jax.vmap(sparse.marginal, (None, 0))(state, jnp.asarray(AT))
    assert_allclose(label.mean, 5 + 2 * mean, atol=1e-2)
    assert_allclose(label.variance, 4 * (np.diag(cov) + FIRST_NOISE), atol=2e-2)


@pytest.mark.slow
def test_few_inducing_points_bound_the_evidence_from_below():
    losses = []
    for points in (8, 24):
        sparse = posteriors.gp_regression(center=5.0, scale=2.0, waves=8, inducing=points)
        hparams = NO_STEPS._replace(
            steps=jnp.int32(1), learning_rate=jnp.float32(0.0)
        )  # one look at the loss
        losses.append(
            float(
                jax.jit(sparse.fit)(
                    jax.random.key(1),
                    sparse.init(jax.random.key(0), X[0]),
                    padded(X, Y, 30),
                    hparams,
                )[1].loss
            )
            * 24
        )
    _, _, log_evidence = by_hand()
    assert losses[0] > losses[1] + 1 and losses[1] > -log_evidence - 1e-2
    assert_allclose(losses[1], -log_evidence, atol=0.2)


# preferences


def newton_by_hand(kernel, sign):
    """Mode, and Laplace's log evidence, in float64."""
    f = np.zeros(len(sign))
    for _ in range(200):
        slope = sign * stats.norm.pdf(f) / stats.norm.cdf(sign * f)
        weight = slope * (slope + f)
        f = np.linalg.solve(np.linalg.inv(kernel) + np.diag(weight), weight * f + slope)
    slope = sign * stats.norm.pdf(f) / stats.norm.cdf(sign * f)
    weight = slope * (slope + f)
    log_evidence = (
        np.log(stats.norm.cdf(sign * f)).sum()
        - 0.5 * f @ np.linalg.solve(kernel, f)
        - 0.5 * np.linalg.slogdet(np.eye(len(f)) + kernel * weight[None])[1]
    )
    return f, weight, log_evidence


@pytest.mark.slow
def test_the_mode_and_the_evidence_are_laplaces():
    points = RANDOM.normal(size=(6, 2))
    kernel = 4 * exact(points, points, 1.0) + 1e-3 * np.eye(6)
    y = np.array([1, 0, 1, 1, 0, 0])
    f, weight, log_evidence = newton_by_hand(kernel, 2.0 * y - 1)
    data = Labeled(jnp.zeros((8, 2, 2)), jnp.asarray(np.r_[y, 1, 1]), jnp.int32(6))
    prior = jnp.asarray(np.pad(kernel, (0, 2)) + np.diag([0.0] * 6 + [1.0] * 2), jnp.float32)
    sites = probit_sites(None, data, jnp.where(jnp.arange(8) < 6, 1.0, 0.0), prior)
    assert_allclose(sites.root[0, :6] ** 2, weight, rtol=1e-3)
    assert (np.asarray(sites.root[0, 6:]) == 0).all()
    factor = jnp.linalg.cholesky(jnp.eye(8) + sites.root[0][:, None] * prior * sites.root[0][None])
    assert_allclose(
        evidence(factor, sites.root[0], sites.target[0]) + sites.correction, log_evidence, rtol=1e-4
    )
    solved = np.linalg.solve(
        kernel + np.diag(1 / weight), np.asarray(sites.target[0, :6], np.float64)
    )
    assert_allclose(kernel @ solved, f, atol=1e-3)


@pytest.mark.slow
def test_the_evidence_has_the_slope_of_laplaces():
    points = np.random.default_rng(5).normal(size=(6, 2))
    kernel = 4 * exact(points, points, 1.0) + 1e-3 * np.eye(6)
    y = np.array([1, 0, 1, 1, 0, 0])
    data = Labeled(jnp.zeros((6, 2, 2)), jnp.asarray(y), jnp.int32(6))

    def log_evidence(size):  # the mode moves with it
        prior = size * jnp.asarray(kernel, jnp.float32)
        found = probit_sites(None, data, jnp.ones(6), prior)
        factor = jnp.linalg.cholesky(
            jnp.eye(6) + found.root[0][:, None] * prior * found.root[0][None]
        )
        return evidence(factor, found.root[0], found.target[0]) + found.correction

    by_hand = [newton_by_hand(size * kernel, 2.0 * y - 1)[2] for size in (1 - 1e-4, 1 + 1e-4)]
    assert_allclose(jax.grad(log_evidence)(1.0), (by_hand[1] - by_hand[0]) / 2e-4, rtol=1e-3)


ITEMS = RANDOM.normal(size=(40, 2)).astype(np.float32)
WORTH = ITEMS[:, 0] - 0.5 * ITEMS[:, 1] ** 2
PREFERENCE = posteriors.preference(waves=128)


@pytest.fixture(scope="module")
def compared():
    x, rows = preference.pool(jax.random.key(0), ITEMS, 200)
    labels = preference.answers(
        rows, np.where(WORTH[rows[:, 0]] > WORTH[rows[:, 1]], rows[:, 0], rows[:, 1])
    )
    init, ask, tell = bayesal.learner(
        PREFERENCE, preference.bald(), size=5, capacity=60, hparams=FEW_STEPS
    )[:3]
    state = tell(init(jax.random.key(1), x), x, np.arange(30), labels[:30])
    picks = np.asarray(ask(state, x).indices)
    return x, rows, labels, picks, tell(state, x, picks, labels[picks])


@pytest.mark.slow
def test_worth_is_learned_from_comparisons(compared):
    *_, picks, state = compared
    assert len(set(picks.tolist())) == 5 and picks.min() >= 30
    assert stats.kendalltau(preference.utility(state.posterior, ITEMS).mean, WORTH).statistic > 0.6


@pytest.mark.slow
def test_swapping_a_pair_swaps_its_answers(compared):
    x, *_, state = compared
    model = bayesal.predictive_of(PREFERENCE, state, 5)
    assert_allclose(model(x[:9, ::-1]), model(x[:9])[..., ::-1], atol=2e-5)
    itself = jnp.stack([x[:3, 0], x[:3, 0]], axis=1)
    assert_allclose(np.exp(model(itself)), 0.5, atol=1e-4)


def test_pools_hold_each_pair_once():
    for size in (30, 700, 10_000):  # 780 pairs in all
        x, rows = preference.pool(jax.random.key(3), ITEMS, size)
        assert (
            len(rows) == min(size, 780) == len({frozenset(r) for r in rows.tolist()})
            and (rows[:, 0] != rows[:, 1]).all()
        )
        assert_allclose(x, ITEMS[rows])
    assert 0.4 < (rows[:, 0] < rows[:, 1]).mean() < 0.6


def test_what_cannot_be_compared_is_refused():
    at_the_edge = oracles.as_users_do(preference.pairs)
    for rows, error in (
        (np.array([[0, 1], [2, 2]]), errors.WrongIndex),
        (np.array([[0, 40]]), errors.WrongIndex),
        (np.zeros((2, 3), int), errors.WrongShape),
    ):
        with pytest.raises(error, match="`rows`"):
            at_the_edge(ITEMS, rows)
    with pytest.raises(errors.WrongLabel, match="`winners`") as caught:
        preference.answers(np.array([[0, 1], [2, 3]]), np.array([1, 0]))
    assert caught.value.rows.tolist() == [1]
    for rows in ([[0, 1], [2, 2]], [[0, 1], [-1, 2]]):  # an item against itself
        with pytest.raises(errors.WrongIndex, match="`rows`") as caught:
            preference.answers(np.array(rows), np.array([1, 2]))
        assert caught.value.rows.tolist() == [1]
    with pytest.raises(errors.WrongSize, match="`items`"):
        preference.pool(jax.random.key(0), ITEMS[:1], 5)
    with pytest.raises(errors.WrongSize, match="`classes`"):
        posteriors.gp_classification(1)
    for build in (posteriors.gp_regression, posteriors.preference, preference.bald):
        with pytest.raises(errors.UnknownName, match="rbf, matern52") as caught:
            build(kernel="matern")
        assert caught.value.argument == "kernel"


@pytest.mark.slow
def test_a_kernel_is_chosen_by_its_name():
    """The latent variance between two labels is the kernel's own, in closed form."""
    labeled = Labeled(jnp.array([[0.0], [3.0]]), jnp.zeros(2), jnp.int32(2))
    far = {}
    for name, kernel in (("rbf", RBF), ("matern52", MATERN52)):
        posterior = posteriors.gp_regression(kernel=name, center=0.0, waves=8)
        state = posterior.init(jax.random.key(0), labeled.x[0])
        state, _ = posterior.fit(jax.random.key(1), state, labeled, HParams(steps=0))
        of = latent(state, jnp.array([[[1.5]]]), kernel=kernel)
        noise = FIRST_NOISE * jnp.exp(state.params.noise_variance)
        far[name] = float(posterior.marginal(state, jnp.array([1.5])).variance)
        assert_allclose(far[name], float(of.variance[0, 0] + noise), rtol=1e-5)
    assert far["rbf"] != pytest.approx(far["matern52"], rel=0.01)


@pytest.mark.slow
def test_comparisons_are_cross_fitted_at_any_capacity():
    """Six fits side by side waited for one another for ever, from about a hundred places on."""
    items = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    x, rows = preference.pool(jax.random.key(0), items, 100)
    learner = bayesal.learner(
        posteriors.preference(),
        acquire.uniform(),
        size=5,
        capacity=100,
        num_draws=4,
        hparams=HParams(steps=5),
        calibrate=calibrate.temperature(),
    )
    answers = (items[rows[:10, 0], 0] < items[rows[:10, 1], 0]).astype(np.int32)
    state = learner.tell(learner.init(jax.random.key(0), x), x, np.arange(10), answers)
    assert np.isfinite(state.temperature) and 0.05 < float(state.temperature) < 20


def test_points_that_are_all_alike_have_no_distance():
    labeled = Labeled(jnp.full((3, 2), 0.1), jnp.arange(3.0), jnp.int32(3))
    posterior = posteriors.gp_regression(center=0.0, waves=8)
    state = posterior.init(jax.random.key(0), labeled.x[0])
    state, _ = posterior.fit(jax.random.key(1), state, labeled, HParams(steps=0))
    assert float(state.unit) == 1.0
