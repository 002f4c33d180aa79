"""Laplace against closed forms in float64: linear regression, a grid, and enumeration; and
simulation-based calibration.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import linen, nnx
from numpy.testing import assert_allclose
from scipy import stats

from bayesal import errors, likelihoods, networks, posteriors
from bayesal.networks import _last
from bayesal.posteriors._laplace._curvature import Task, curvature, frame
from bayesal.posteriors._laplace._fisher import fisher_root
from bayesal.posteriors._laplace._linearized import _curvature, maximize
from bayesal.posteriors._laplace._structures import STRUCTURES
from bayesal.predictive import bind
from bayesal.types import HParams, Labeled, Likelihood

NOISE, CENTER, SCALE = 0.3, 1.0, 2.0
UNTRAINED = HParams(steps=0)  # a linear network has nothing to train beside its last layer
LINEAR = networks.from_functions(
    lambda key, x: {"w": 0.1 * jax.random.normal(key, (x.size, 1)), "b": jnp.zeros(1)},
    lambda p, x, key: x @ p["w"] + p["b"],
    embed=lambda p, x: x,
)


def straight(seed, rows, features):
    """Points, and noisy labels of a line through them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, features)) * np.linspace(0.5, 2.0, features)
    y = (
        CENTER
        + SCALE * (x @ np.linspace(1.0, -0.5, features) + 0.4)
        + NOISE * random.normal(size=rows)
    )
    return x, y


def units(features):
    """The prior's standard deviations at scale 1."""
    return np.r_[np.full(features, features**-0.5), 1.0]


class Exact:
    """Bayesian linear regression in float64."""

    def __init__(self, x, y, noise, mean, covariance):
        phi = np.c_[x, np.ones(len(x))]
        precision = np.linalg.inv(covariance)
        self.covariance = np.linalg.inv(precision + phi.T @ phi / noise**2)
        self.mean = self.covariance @ (precision @ mean + phi.T @ y / noise**2)
        spread, away = phi @ covariance @ phi.T + noise**2 * np.eye(len(x)), y - phi @ mean
        self.evidence = -0.5 * (
            away @ np.linalg.solve(spread, away) + np.linalg.slogdet(2 * np.pi * spread)[1]
        )


def exact(x, y, scale):
    """The posterior of weights and bias in units of outputs, and the evidence in those
    of labels.
    """
    found = Exact(
        x,
        (y - CENTER) / SCALE,
        NOISE / SCALE,
        np.zeros(x.shape[1] + 1),
        np.diag((scale * units(x.shape[1])) ** 2),
    )
    found.evidence -= len(x) * np.log(SCALE)
    return found


@functools.partial(jax.jit, static_argnums=(0, 2))
def _rows(structure, factor, shape):
    return jax.vmap(lambda z: STRUCTURES[structure].root(factor, z).ravel())(
        jnp.eye(shape[0] * shape[1]).reshape(-1, *shape)
    )


def root(structure, factor, shape):
    """The matrix that makes noise into weights."""
    return np.asarray(_rows(structure, factor, shape), np.float64).T


def covariance(state, structure="kron"):
    """Of a last layer's weights."""
    scaled = np.repeat(np.asarray(state.unit, np.float64), state.mean.shape[1])[:, None] * root(
        structure, state.factor, state.mean.shape
    )
    return scaled @ scaled.T


X, Y = straight(0, 25, 3)
REGRESSION = posteriors.last_layer_laplace(
    LINEAR, likelihood=likelihoods.gaussian(noise_std=NOISE, center=CENTER, scale=SCALE)
)


@functools.cache
def program(posterior):
    """One compiled fit from a fresh start."""
    return jax.jit(
        lambda data, hparams: posterior.fit(
            jax.random.key(1), posterior.init(jax.random.key(0), data.x[0]), data, hparams
        )
    )


def fit(posterior, x, y, capacity=40, hparams=UNTRAINED, garbage=np.nan):
    rows, labels = (
        np.full((capacity, x.shape[1]), garbage, np.float32),
        np.full(capacity, garbage if posterior.real else 0, np.float32),
    )
    rows[: len(x)], labels[: len(x)] = x, y
    return program(posterior)(
        Labeled(
            jnp.asarray(rows),
            jnp.asarray(labels if posterior.real else labels.astype(np.int32)),
            jnp.int32(len(x)),
        ),
        hparams,
    )


@pytest.fixture(scope="module")
def state():
    state, info = fit(REGRESSION, X, Y)
    assert int(info.failed_at) == -1
    return state


# linear regression


@pytest.mark.slow
def test_weights_and_evidence_are_those_of_linear_regression(state):
    truth = exact(X, Y, float(state.prior_scale))
    assert_allclose(state.mean[:, 0], truth.mean, rtol=1e-5)
    assert_allclose(
        covariance(state), truth.covariance, rtol=1e-4, atol=1e-6 * truth.covariance.max()
    )
    assert_allclose(state.evidence, truth.evidence, rtol=1e-5)


def test_the_prior_maximizes_the_evidence(state):
    scales = np.exp(np.linspace(-3, 3, 601))
    evidence = [exact(X, Y, scale).evidence for scale in scales]
    assert bool(state.determined) and 0 < np.argmax(evidence) < 600
    assert_allclose(np.log(state.prior_scale), np.log(scales[np.argmax(evidence)]), atol=0.006)


@pytest.mark.slow
def test_the_closed_prediction_is_exact_and_what_draws_average_to(state):
    truth, x = (
        exact(X, Y, float(state.prior_scale)),
        np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32),
    )
    phi = np.c_[x, np.ones(6)]
    found = jax.jit(jax.vmap(REGRESSION.marginal, (None, 0)))(state, x)
    assert_allclose(found.mean, CENTER + SCALE * phi @ truth.mean, rtol=1e-5)
    assert_allclose(
        found.variance,
        NOISE**2 + SCALE**2 * np.einsum("nd,de,ne->n", phi, truth.covariance, phi),
        rtol=1e-5,
    )
    draws = REGRESSION.draw(jax.random.key(3), state, 20_000)
    average = likelihoods.average(bind(REGRESSION, state, draws, jnp.float32(1.0))(x))
    assert_allclose(average.mean, found.mean, atol=5 * float(found.variance.max() / 20_000) ** 0.5)
    assert_allclose(average.variance, found.variance, rtol=0.06)


def test_draws_have_the_covariance(state):
    draws = np.asarray(REGRESSION.draw(jax.random.key(2), state, 20_000)[:, :, 0], np.float64)
    wanted = covariance(state)
    spread = np.sqrt(np.diag(wanted))
    assert_allclose(
        draws.mean(0) / spread, np.asarray(state.mean)[:, 0] / spread, atol=5 * 20_000**-0.5
    )
    assert_allclose(
        np.cov(draws.T) / np.outer(spread, spread),
        wanted / np.outer(spread, spread),
        atol=5 * (2 / 20_000) ** 0.5,
    )


def test_padding_changes_nothing(state):
    for garbage in (np.inf, 1e30, -3.0):
        other, info = fit(REGRESSION, X, Y, garbage=garbage)
        assert int(info.failed_at) == -1
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
            assert_allclose(a, b)


def test_labels_without_information_leave_the_prior_alone():
    for rows, scale in ((0, 0.7), (1, 2.0)):
        found, info = fit(
            REGRESSION,
            X[:rows],
            np.full(rows, CENTER),
            hparams=UNTRAINED._replace(prior_scale=jnp.float32(scale)),
        )
        assert int(info.failed_at) == -1 and not bool(found.determined)
        assert_allclose(found.prior_scale, scale, rtol=1e-5)
        assert_allclose(
            covariance(found), exact(X[:rows], Y[:rows], scale).covariance, rtol=1e-4, atol=1e-5
        )


def test_what_is_not_finite_keeps_the_last_good_state():
    found, info = fit(REGRESSION, X * 1e30, Y)
    assert int(info.failed_at) == 0  # after the last of no steps
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_badly_scaled_features_cost_few_digits():
    random = np.random.default_rng(5)
    x = 30.0 + random.normal(size=(40, 3)) * [
        1.0,
        0.1,
        0.01,
    ]  # condition 3e3, its square beyond float32
    y = CENTER + SCALE * ((x - 30.0) @ [0.5, 1.0, -2.0]) + NOISE * random.normal(size=40)
    found, _ = fit(REGRESSION, x, y)
    single = x.astype(np.float32).astype(np.float64)
    truth = exact(single, y, float(found.prior_scale))
    inside = np.c_[single, np.ones(40)]
    assert_allclose(
        inside @ np.asarray(found.mean, np.float64)[:, 0], inside @ truth.mean, atol=2e-3
    )
    assert_allclose(np.diag(covariance(found)), np.diag(truth.covariance), rtol=1e-2)


# the same, many times: given a prior


ONE = posteriors.last_layer_laplace(
    LINEAR, tune=False, likelihood=likelihoods.gaussian(noise_std=NOISE, center=0.0)
)
RUNS, ROWS, DRAWS = 1000, 10, 99


@pytest.fixture(scope="module")
def simulated():
    """True weights `[R, 2]` drawn from the prior, data made with them, and draws `[R, 99, 2]` of
    the posteriors.
    """
    random = np.random.default_rng(0)
    x, truth = random.normal(size=(RUNS, ROWS, 1)), random.normal(size=(RUNS, 2))
    y = x[..., 0] * truth[:, :1] + truth[:, 1:] + NOISE * random.normal(size=(RUNS, ROWS))
    count = np.where(np.arange(RUNS) == 1, 4, ROWS)
    x[1], y[1] = x[0], y[0]  # the first four rows of the first run: see below

    @jax.jit
    def run(key, x, y, count):
        state, info = ONE.fit(key, ONE.init(key, x[0]), Labeled(x, y, count), UNTRAINED)
        return state, info, ONE.draw(key, state, DRAWS)[..., 0]

    args = (
        jax.random.split(jax.random.key(0), RUNS),
        jnp.asarray(x, jnp.float32),
        jnp.asarray(y, jnp.float32),
        jnp.asarray(count),
    )
    state, info, draws = jax.vmap(run)(*args)
    assert (np.asarray(info.failed_at) == -1).all()
    return x, y, truth, state, np.asarray(draws)


def uniformity(truth, draws):
    """How probable ranks as uneven as these are, if truth and draws come from one distribution: the
    least of all weights, whole and folded.
    """
    luck = np.random.default_rng(1).uniform(size=truth.shape)
    ranks = ((draws < truth[:, None]).sum(1) + luck) / (draws.shape[1] + 1)
    return min(
        stats.kstest(column, "uniform").pvalue for column in (*ranks.T, *np.abs(2 * ranks - 1).T)
    )


@pytest.mark.slow
def test_simulation_based_calibration(simulated):
    _, _, truth, _, draws = simulated
    rest = np.arange(RUNS) != 1
    truth, draws = truth[rest], draws[rest]
    assert uniformity(truth, draws) > 1e-3
    mean, std = draws.mean(1, keepdims=True), draws.std(1, keepdims=True)
    assert uniformity(truth, draws + 0.2 * std) < 1e-4  # and the check can fail
    assert uniformity(truth, mean + 0.8 * (draws - mean)) < 1e-4


def test_sequential_is_batch(simulated):
    x, y, _, state, _ = simulated
    first = Exact(x[0, :4], y[0, :4], NOISE, np.zeros(2), np.eye(2))
    then = Exact(x[0, 4:], y[0, 4:], NOISE, first.mean, first.covariance)
    for run, truth in ((1, first), (0, then)):
        one = jax.tree.map(lambda a, run=run: a[run], state)
        assert_allclose(one.mean[:, 0], truth.mean, rtol=1e-4)
        assert_allclose(covariance(one), truth.covariance, rtol=1e-4)


# classes


YES_OR_NO = Likelihood(
    lambda outputs: jax.nn.log_softmax(jnp.concatenate([jnp.zeros(1), outputs])), 1
)
LOGISTIC = posteriors.last_layer_laplace(LINEAR, likelihood=YES_OR_NO)


def sides(rows):
    random = np.random.default_rng(3)
    x = random.normal(size=(rows, 1)).astype(np.float32)
    return x, (random.uniform(size=rows) < 1 / (1 + np.exp(-1.5 * x[:, 0] - 0.5))).astype(np.int32)


def test_logistic_regression_against_a_grid():
    x, y = sides(200)
    state, _ = fit(LOGISTIC, x, y, 200)
    assert bool(state.determined)
    mode, wide = np.asarray(state.mean, np.float64)[:, 0], covariance(state)
    spread = np.sqrt(np.diag(wide))
    w, b = (m + s * np.linspace(-6, 6, 301) for m, s in zip(mode, spread, strict=True))
    logit = x[:, 0, None, None] * w[None, :, None] + b[None, None]
    log_p = (
        -np.logaddexp(0.0, np.where(y[:, None, None] == 1, -logit, logit)).sum(0)
        - 0.5 * (w[:, None] ** 2 + b**2) / float(state.prior_scale) ** 2
    )
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    assert np.unravel_index(p.argmax(), p.shape) == (150, 150)  # the mode is the mode
    mean = np.array([(p.sum(1) * w).sum(), (p.sum(0) * b).sum()])
    away = np.stack(np.broadcast_arrays(w[:, None] - mean[0], b[None] - mean[1]))
    assert_allclose((mean - mode) / spread, 0.0, atol=0.25)  # it is skewed
    assert_allclose(
        np.einsum("wb,iwb,jwb->ij", p, away, away) / np.outer(spread, spread),
        wide / np.outer(spread, spread),
        atol=0.12,
    )
    logit = x[:, 0] * mode[0] + mode[1]
    chance, phi = 1 / (1 + np.exp(-logit)), np.c_[x, np.ones(200)]
    assert_allclose(
        np.linalg.inv(wide),
        (phi.T * chance * (1 - chance)) @ phi + np.eye(2) / float(state.prior_scale) ** 2,
        rtol=1e-3,
    )


def test_few_labels_and_a_class_never_seen_stay_finite():
    x, y = sides(200)
    for rows, labels in (
        (0, y[:0]),
        (1, y[:1]),
        (30, np.zeros(30)),
        (30, (x[:30, 0] > 0).astype(int)),
    ):
        state, info = fit(LOGISTIC, x[:rows], labels, 200)
        assert int(info.failed_at) == -1
        assert (
            all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
            and 0.01 <= float(state.prior_scale) <= 100
        )


def brute(phi, p):
    """Precision from labels of the weights `[D, C]` of a softmax layer, and the one Kronecker
    product it is near to.
    """
    fisher = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    size = phi.shape[1] * p.shape[1]
    mean = fisher.mean(0)
    shares = np.einsum("mcd,cd->m", fisher, mean) / np.sum(mean**2)
    return np.einsum("ma,mb,mcd->acbd", phi, phi, fisher).reshape(size, size), np.kron(
        (phi.T * shares) @ phi, mean
    )


@pytest.mark.parametrize("rows", ["differ", "are alike", "have two classes"])
def test_structures_are_those_of_the_whole_matrix(rows):
    random, classes = np.random.default_rng(4), 2 if rows == "have two classes" else 4
    phi, weights = (
        random.normal(size=(12, 3)).astype(np.float32),
        random.normal(size=(3, classes)) * (rows != "are alike"),
    )
    full, kron = brute(np.float64(phi), np.exp(oracles.log_softmax(phi @ weights)))
    precisions = {"full": full, "kron": kron, "diag": np.diag(np.diag(full))}
    assert np.allclose(full, kron, atol=1e-8) == (
        rows != "differ"
    )  # multiples of one Fisher information: then the product is exact

    @jax.jit
    def factors(phi, weights):
        task = Task(
            likelihoods.CATEGORICAL, phi, jnp.zeros(12, jnp.int32), jnp.ones(12), jnp.zeros(0)
        )
        here = curvature(task, weights, left := frame(phi, jnp.ones(12))[0], phi @ left)
        return {
            name: (one := s.factor(here, jnp.float32(0.5)), s.log_det(one))
            for name, s in STRUCTURES.items()
        }

    for name, (factor, log_det) in factors(phi, jnp.asarray(weights, jnp.float32)).items():
        precision = precisions[name] + 0.5 * np.eye(3 * classes)
        dense = root(name, factor, (3, classes))
        assert_allclose(dense @ dense.T, np.linalg.inv(precision), atol=2e-5)
        assert_allclose(log_det, np.linalg.slogdet(precision)[1], rtol=1e-5)


def test_fisher_information_is_the_expected_square_of_the_slope():
    outputs = jnp.array([0.3, -1.0, 2.0])
    information = lambda likelihood, o: (lambda r: np.float64(r.T) @ np.float64(r))(
        jax.jit(lambda o: fisher_root(likelihood, o))(o)
    )
    p = np.exp(oracles.log_softmax(outputs))
    assert_allclose(
        information(likelihoods.CATEGORICAL, outputs), np.diag(p) - np.outer(p, p), atol=1e-6
    )
    assert_allclose(
        information(likelihoods.gaussian(noise_std=0.5, scale=3.0), outputs[:1]),
        [[9 / 0.25]],
        rtol=1e-5,
    )
    normal = likelihoods.gaussian()
    variance, slope = (float(f(outputs[1])) for f in (jax.nn.softplus, jax.grad(jax.nn.softplus)))
    assert_allclose(
        information(normal, outputs[:2]),
        [[1 / variance, 0], [0, 0.5 * (slope / variance) ** 2]],
        rtol=1e-4,
        atol=1e-6,
    )
    mixed, o = likelihoods.mixture(2), jnp.array([0.3, -0.2, 0.1, 0.5, 0.2, -0.4])
    y = jnp.linspace(-8.0, 8.0, 4001)
    losses, slopes = jax.jit(
        jax.vmap(lambda v: jax.value_and_grad(lambda o: likelihoods.loss(mixed, o, v))(o))
    )(y)
    density, slopes = np.exp(-np.float64(losses)), np.float64(slopes)
    assert_allclose(
        information(mixed, o),
        np.einsum("y,yc,yd->cd", density, slopes, slopes) * float(y[1] - y[0]),
        atol=2e-3,
    )


# all weights


def test_all_weights_are_exact_where_the_curvature_is_diagonal():
    random = np.random.default_rng(6)
    x = np.linalg.qr(np.c_[np.ones(20), random.normal(size=(20, 3))])[0][:, 1:] * np.array(
        [2.0, 5.0, 9.0]
    )  # orthogonal to each other and to 1
    y = x @ [1.0, -0.5, 0.3] + 0.05 + NOISE * random.normal(size=20)
    posterior = posteriors.linearized_laplace(
        LINEAR, likelihood=likelihoods.gaussian(noise_std=NOISE, center=0.0)
    )
    state, info = fit(posterior, x, y, 25)
    prior = lambda scale: np.diag((scale * np.r_[np.full(3, 3**-0.5), 0.1]) ** 2)
    truth = Exact(x, y, NOISE, np.zeros(4), prior(float(state.prior_scale)))
    assert int(info.failed_at) == -1 and bool(state.determined)
    assert_allclose(
        np.r_[state.std["w"][:, 0], state.std["b"]] ** 2, np.diag(truth.covariance), rtol=1e-4
    )
    assert_allclose(state.evidence, truth.evidence, rtol=1e-4)
    scales = np.exp(np.linspace(-3, 3, 601))
    best = scales[
        np.argmax([Exact(x, y, NOISE, np.zeros(4), prior(scale)).evidence for scale in scales])
    ]
    assert_allclose(np.log(state.prior_scale), np.log(best), atol=0.006)
    found = posterior.marginal(state, jnp.asarray(x[0], jnp.float32))
    assert_allclose(
        found.variance, NOISE**2 + np.r_[x[0], 1] ** 2 @ np.diag(truth.covariance), rtol=1e-4
    )
    assert_allclose(
        found.mean,
        x[0] @ np.asarray(state.params["w"])[:, 0] + np.asarray(state.params["b"])[0],
        rtol=1e-5,
    )


NET = networks.mlp(3, 3, (4,))


def test_the_diagonal_is_that_of_the_whole_information():
    x, y = jax.random.normal(jax.random.key(1), (5, 3)), jnp.array([0, 2, 1, 1, 0])
    params, outputs = NET.init(jax.random.key(0), x[0]), lambda p, xi: NET.apply(p, xi, None, 0.0)
    nll, slope, square = jax.jit(
        lambda p, x, y, n: _curvature(outputs, likelihoods.CATEGORICAL, p, Labeled(x, y, n))
    )(params, x, y, jnp.int32(4))
    both = jax.jit(jax.vmap(lambda p, xi: (outputs(p, xi), jax.jacrev(outputs)(p, xi)), (None, 0)))
    logits, jacobian = both(params, x[:4])
    p = np.exp(oracles.log_softmax(logits))
    fisher = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    for j, s, g in zip(*map(jax.tree.leaves, (jacobian, square, slope)), strict=True):
        j = np.asarray(j, np.float64).reshape(4, 3, -1)
        assert_allclose(np.ravel(s), np.einsum("mci,mcd,mdi->i", j, fisher, j), atol=1e-5)
        assert_allclose(
            np.ravel(g), np.einsum("mci,mc->i", j, p - np.eye(3)[np.asarray(y[:4])]), atol=1e-5
        )
    assert_allclose(nll, -np.log(p[np.arange(4), np.asarray(y[:4])]).sum(), rtol=1e-5)


def test_a_draw_of_all_weights_is_linear_in_them():
    posterior, x = posteriors.linearized_laplace(NET), jnp.array([0.5, -1.0, 0.2])
    state = posterior.init(jax.random.key(0), x)
    draw = jax.tree.map(lambda a: a[0], posterior.draw(jax.random.key(1), state, 2))
    at = lambda step: jax.tree.map(lambda m, d: m + step * (d - m), state.params, draw)
    linear = jax.jit(lambda step: posterior.apply(state, at(step), x))
    network = jax.jit(lambda step: jax.nn.log_softmax(NET.apply(at(step), x, None, 0.0)))
    logits = lambda step: linear(step) - linear(step)[0]
    assert_allclose(logits(3.0) - logits(0.0), 3 * (logits(1.0) - logits(0.0)), atol=1e-5)
    assert_allclose(linear(0.0), network(0.0), atol=1e-6)
    assert_allclose((linear(1e-3) - network(1e-3)) / 1e-3, 0.0, atol=1e-2)


def test_no_information_has_no_best_prior():
    precision, _, determined = maximize(jnp.zeros(3), jnp.zeros(3), jnp.float32(4.0), True)
    assert float(precision) == pytest.approx(4.0) and not bool(determined)


# the last layer


class Linen(linen.Module):
    def setup(self):
        self.first, self.last = linen.Dense(5), linen.Dense(3, use_bias=False)

    def embed(self, x):
        return jax.nn.relu(self.first(x))

    def __call__(self, x):
        return self.last(self.embed(x))


class Shy(nnx.Module):
    """Its `embed` stops one layer too early."""

    def __init__(self, rngs):
        self.a, self.b, self.c = (
            nnx.Linear(4, 5, rngs=rngs),
            nnx.Linear(5, 5, rngs=rngs),
            nnx.Linear(5, 3, rngs=rngs),
        )

    def embed(self, x):
        return jax.nn.relu(self.a(x))

    def __call__(self, x):
        return self.c(jax.nn.relu(self.b(self.embed(x))))


TURNED = networks.from_functions(
    lambda key, x: [jnp.ones((4, 4)), jnp.ones((3, 4)), jnp.ones(3)],
    lambda p, x, key: p[1] @ jnp.tanh(p[0] @ x) + p[2],
    embed=lambda p, x: jnp.tanh(p[0] @ x),
)
FOUND = {
    "nnx": (networks.mlp(4, 3, (5,)), (6, 3)),
    "linen": (networks.from_linen(Linen(), embed="embed"), (5, 3)),
    "functions, [C, D]": (TURNED, (5, 3)),
    "noise beside": (networks.shared_noise(networks.mlp(4, 1, (5,))), (6, 1)),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_last_layer_is_found_by_what_it_does(name):
    network, shape = FOUND[name]
    x = jnp.linspace(-1.0, 2.0, 4)
    layer = jax.jit(
        lambda x: _last.last_layer(network, x).weights(network.init(jax.random.key(3), x))
    )(x)  # also while tracing
    assert layer.shape == shape
    params = network.init(jax.random.key(3), x)
    outputs = _last.last_layer(network, x).features(params, x) @ layer
    assert_allclose(outputs, network.apply(params, x, None, 0.0)[: shape[1]], atol=1e-6)


def test_what_has_no_linear_last_layer_is_refused():
    x = jnp.ones(4)
    softmax = TURNED._replace(apply=lambda *args: jax.nn.log_softmax(TURNED.apply(*args)))
    for network in (networks.from_nnx(Shy, embed="embed"), softmax):
        with pytest.raises(errors.WrongShape, match="not a linear layer") as error:
            posteriors.last_layer_laplace(network).init(jax.random.key(0), x)
        assert error.value.argument == "network"
    with pytest.raises(errors.WrongShape, match="must be vectors"):
        posteriors.last_layer_laplace(TURNED._replace(embed=lambda p, x: x[None])).init(
            jax.random.key(0), x
        )
    with pytest.raises(errors.MissingEmbed) as error:
        posteriors.last_layer_laplace(TURNED._replace(embed=None)).init(jax.random.key(0), x)
    assert error.value.argument == "network"
    with pytest.raises(errors.UnknownName, match="'kron'") as error:
        posteriors.last_layer_laplace(NET, structure="whole")
    assert error.value.argument == "structure"


def test_noise_that_is_learned_stays_as_learned():
    """Linear regression again, the noise being an output of its own."""
    network = networks.shared_noise(LINEAR)
    posterior = posteriors.last_layer_laplace(
        network, tune=False, likelihood=likelihoods.gaussian(center=0.0)
    )
    state, _ = fit(posterior, X, Y, 25, HParams(steps=50, learning_rate=0.1))
    noise = float(
        jnp.sqrt(posterior.marginal(state, jnp.zeros(3)).variance - covariance(state)[3, 3])
    )
    assert noise != pytest.approx(np.log(2) ** 0.5, rel=1e-2)
    truth = Exact(X, Y, noise, np.zeros(4), np.diag(units(3) ** 2))
    assert_allclose(state.mean[:, 0], truth.mean, rtol=1e-3)
    assert_allclose(covariance(state), truth.covariance, rtol=1e-3, atol=1e-5)
    assert (
        posteriors.last_layer_laplace(NET).marginal is None
        and posteriors.last_layer_laplace(NET, likelihood=likelihoods.mixture(1)).marginal is None
    )
