"""Labels added to what is known: against Bayesian linear regression in float64, against a fit to
all labels, and through the loop.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import MLP, TEMPERATURE, same
from numpy.testing import assert_allclose
from test_laplace import (
    CENTER,
    LINEAR,
    NOISE,
    SCALE,
    UNTRAINED,
    YES_OR_NO,
    Exact,
    covariance,
    exact,
    straight,
    units,
)

import bayesal
from bayesal import acquire, checkpoint, errors, likelihoods, networks, posteriors, retune
from bayesal.posteriors._laplace._structures import STRUCTURES
from bayesal.scores import regression
from bayesal.types import HParams, Labeled

NORMAL = likelihoods.gaussian(noise_std=NOISE, center=CENTER, scale=SCALE)
KRON, FULL = (
    posteriors.last_layer_laplace(LINEAR, structure=structure, tune=False, likelihood=NORMAL)
    for structure in ("kron", "full")
)
CLASSES = networks.from_functions(
    lambda key, x: {"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)},
    lambda p, x, key: x @ p["w"] + p["b"],
    embed=lambda p, x: x,
)
SOFTMAX = posteriors.last_layer_laplace(CLASSES, structure="full", tune=False)
BATCH = 6
X, Y = straight(0, 40, 3)


@functools.cache
def fitting(posterior):
    return jax.jit(
        lambda data, hparams: posterior.fit(
            jax.random.key(1), posterior.init(jax.random.key(0), data.x[0]), data, hparams
        )[0]
    )


@functools.cache
def adding(posterior):
    return jax.jit(posterior.online)


def padded(posterior, x, y, size):
    """Rows that may hold anything after the given ones."""
    rows, labels = (
        np.full((size, x.shape[1]), np.nan, np.float32),
        np.full(size, np.nan if posterior.real else 0, np.float32),
    )
    rows[: len(x)], labels[: len(x)] = x, y
    return Labeled(
        jnp.asarray(rows),
        jnp.asarray(labels if posterior.real else labels.astype(np.int32)),
        jnp.int32(len(x)),
    )


def fit(posterior, x, y, hparams=UNTRAINED, capacity=40):
    return fitting(posterior)(padded(posterior, x, y, capacity), hparams)


def add(posterior, state, x, y, parts):
    """The parts of the data, one after the other."""
    for rows in parts:
        state, info = adding(posterior)(state, padded(posterior, x[rows], y[rows], BATCH))
        assert int(info.failed_at) == -1 and np.isfinite(info.loss)
    return state


def pieces(rows, *sizes):
    return np.split(np.arange(rows), np.cumsum(sizes))[:-1]


# linear regression


@pytest.mark.parametrize(
    ("posterior", "structure", "first"), [(KRON, "kron", 0), (KRON, "kron", 10), (FULL, "full", 10)]
)
def test_sequential_is_batch(posterior, structure, first):
    rest = np.arange(first, 40)
    state = add(
        posterior,
        fit(posterior, X[:first], Y[:first]),
        X,
        Y,
        [rest[at : at + BATCH] for at in range(0, len(rest), BATCH)],
    )
    truth = exact(X, Y, 1.0)
    assert_allclose(state.mean[:, 0], truth.mean, rtol=2e-5)
    assert_allclose(
        covariance(state, structure),
        truth.covariance,
        rtol=1e-4,
        atol=1e-6 * truth.covariance.max(),
    )
    assert_allclose(state.evidence, truth.evidence, rtol=1e-5)
    in_units = truth.covariance / np.outer(units(3), units(3))
    assert_allclose(
        STRUCTURES[structure].log_det(state.factor), -np.linalg.slogdet(in_units)[1], rtol=1e-4
    )


def test_neither_order_nor_batches_matter():
    first = fit(KRON, X[:4], Y[:4])
    forward = add(KRON, first, X, Y, [part + 4 for part in pieces(36, 6, 6, 6, 6, 6, 6)])
    order = 4 + np.random.default_rng(0).permutation(36)
    other = add(KRON, first, X, Y, [order[part] for part in pieces(36, 1, 6, 2, 5, 6, 4, 6, 3, 3)])
    assert_allclose(other.mean, forward.mean, rtol=2e-5)
    assert_allclose(covariance(other), covariance(forward), rtol=1e-4, atol=1e-7)
    assert_allclose(other.evidence, forward.evidence, rtol=1e-5)


def test_five_hundred_labels_one_at_a_time_lose_no_digits():
    x, y = straight(7, 500, 3)
    x = (x + np.array([30.0, 0.0, 0.0])).astype(
        np.float32
    )  # a feature far from 0: precisions from 1 to 1e6

    @jax.jit
    def run(state, x, y):
        return jax.lax.scan(
            lambda s, row: (
                KRON.online(s, Labeled(row[0][None], row[1][None], jnp.int32(1)))[0],
                None,
            ),
            state,
            (x, y),
        )[0]

    state = run(fit(KRON, X[:0], Y[:0]), jnp.asarray(x), jnp.asarray(y, jnp.float32))
    truth = exact(np.float64(x), np.float64(np.float32(y)), 1.0)
    spread = np.sqrt(np.diag(truth.covariance))
    assert_allclose((np.asarray(state.mean)[:, 0] - truth.mean) / spread, 0.0, atol=0.02)
    assert_allclose(
        covariance(state) / np.outer(spread, spread),
        truth.covariance / np.outer(spread, spread),
        atol=2e-3,
    )


def test_no_new_labels_change_nothing_and_what_is_not_finite_keeps_the_last_good_state():
    state = fit(KRON, X[:10], Y[:10])
    same_state, info = adding(KRON)(state, padded(KRON, X[:0], Y[:0], BATCH))
    assert_allclose(same_state.mean, state.mean, rtol=1e-6)
    assert_allclose(covariance(same_state), covariance(state), rtol=1e-5, atol=1e-8)
    kept, info = adding(KRON)(state, padded(KRON, X[:2] * 1e38, Y[:2], BATCH))
    assert int(info.failed_at) == 0 and same(kept, state)


@pytest.mark.slow
def test_noise_that_was_learned_stays_and_so_does_the_prior():
    posterior = posteriors.last_layer_laplace(
        networks.shared_noise(LINEAR), likelihood=likelihoods.gaussian(center=0.0)
    )
    first = fit(posterior, X[:10], Y[:10], HParams(steps=50, learning_rate=0.1))
    state = add(posterior, first, X, Y, [np.arange(10 + at, 16 + at) for at in range(0, 30, BATCH)])
    noise = float(jax.nn.softplus(first.fixed[0]) + likelihoods.FLOOR) ** 0.5
    truth = Exact(X, Y, noise, np.zeros(4), np.diag((float(first.prior_scale) * units(3)) ** 2))
    assert_allclose(state.mean[:, 0], truth.mean, rtol=1e-4)
    assert_allclose(covariance(state), truth.covariance, rtol=1e-3, atol=1e-6)
    assert same(
        (state.params, state.fixed, state.prior_scale),
        (first.params, first.fixed, first.prior_scale),
    )


# classes: Laplace's approximation, once for each batch


def clouds(rows):
    random = np.random.default_rng(2)
    y = random.integers(0, 3, rows)
    return np.array([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])[y] + 0.7 * random.normal(
        size=(rows, 2)
    ), y


def chances(state, x):
    return np.asarray(
        jax.vmap(lambda xi: jnp.exp(SOFTMAX.apply(state, state.mean, xi)))(
            jnp.asarray(x, jnp.float32)
        )
    )


@pytest.mark.slow
def test_classes_from_the_prior_are_laplaces_approximation_to_all():
    x, y = clouds(BATCH)
    state, batch = (
        add(SOFTMAX, fit(SOFTMAX, x[:0], y[:0]), x, y, [np.arange(BATCH)]),
        fit(SOFTMAX, x, y),
    )
    assert_allclose(state.mean, batch.mean, atol=1e-4)
    assert_allclose(covariance(state, "full"), covariance(batch, "full"), atol=1e-4)
    assert_allclose(state.evidence, batch.evidence, rtol=1e-4)


def test_classes_one_batch_after_the_other_are_near_to_a_fit_to_all():
    x, y = clouds(40)
    first = fit(SOFTMAX, x[:10], y[:10])
    state, batch = (
        add(SOFTMAX, first, x, y, [np.arange(10 + at, 16 + at) for at in range(0, 30, BATCH)]),
        fit(SOFTMAX, x, y),
    )
    away = np.abs(chances(state, x) - chances(batch, x)).max()
    assert 1e-6 < away < 0.05 and np.abs(chances(first, x) - chances(batch, x)).max() > 4 * away
    assert_allclose(
        np.sqrt(np.diag(covariance(state, "full"))),
        np.sqrt(np.diag(covariance(batch, "full"))),
        rtol=0.1,
    )


# the loop


def build(posterior=KRON, **options):
    return bayesal.learner(
        posterior,
        RANKED,
        **(
            {"size": 4, "capacity": 40, "num_draws": 8, "hparams": UNTRAINED, "update": "online"}
            | options
        ),
    )


RANKED = acquire.top(regression.bald)
POOL, TOLD = straight(3, 60, 3)
POOL = POOL.astype(np.float32)


def begun(learner):
    return learner.tell(learner.init(jax.random.key(0), POOL), POOL, np.arange(5), TOLD[:5])


def test_the_loop_fits_once_and_then_adds_and_compiles_once(tmp_path):
    traces = {"fit": 0, "online": 0}

    def counted(name):
        def traced(*args):
            traces[name] += 1
            return getattr(KRON, name)(*args)

        return traced

    learner = build(KRON._replace(fit=counted("fit"), online=counted("online")))
    state = begun(learner)
    assert same(
        state.posterior, begun(build(update="fresh")).posterior
    )  # the first labels are fitted
    once = dict(traces)
    for round in range(4):
        picks = np.asarray(learner.ask(state, POOL).indices)
        if round == 2:  # any number of labels, more than one batch of them
            picks = np.setdiff1d(np.arange(60), np.asarray(state.ledger.indices))[:11]
        state = learner.tell(state, POOL, picks, TOLD[picks])
    assert (
        traces == once and int(state.ledger.count) == 28 and int(state.report.fit.failed_at) == -1
    )
    rows = np.asarray(state.ledger.indices)[:28]
    truth = exact(np.float64(POOL[rows]), TOLD[rows], 1.0)
    assert_allclose(state.posterior.mean[:, 0], truth.mean, rtol=1e-4)
    assert_allclose(covariance(state.posterior), truth.covariance, rtol=1e-3, atol=1e-6)
    spare = np.setdiff1d(np.arange(60), rows)[:1]
    anew, added = (
        one.tell(state, POOL, spare, TOLD[spare]) for one in (build(update="fresh"), learner)
    )  # they take the same states
    assert_allclose(anew.posterior.mean, added.posterior.mean, rtol=1e-4)
    checkpoint.save(tmp_path / "state", state)
    resumed = checkpoint.restore(tmp_path / "state", learner.init(jax.random.key(0), POOL))
    picks = np.asarray(learner.ask(state, POOL).indices)
    np.testing.assert_array_equal(picks, learner.ask(resumed, POOL).indices)
    assert same(*(learner.tell(s, POOL, picks, TOLD[picks]) for s in (state, resumed)))


REFUSED = {
    "no update": (
        lambda: build(posteriors.mc_dropout(MLP)),
        "update",
        "`posteriors.last_layer_laplace`",
    ),
    "classes in a product": (
        lambda: build(posteriors.last_layer_laplace(MLP)),
        "update",
        "structure='full'",
    ),
    "variances alone": (
        lambda: build(posteriors.last_layer_laplace(LINEAR, structure="diag", likelihood=NORMAL)),
        "update",
        "structure='full'",
    ),
    "a retuner": (lambda: build(retune=retune.successive_halving(2)), "retune", "retune=None"),
    "a calibrator": (
        lambda: build(posteriors.last_layer_laplace(MLP, structure="full"), calibrate=TEMPERATURE),
        "calibrate",
        "calibrate=None",
    ),
    "two outputs": (
        lambda: begun(
            build(
                posteriors.last_layer_laplace(
                    networks.mlp(3, 2, (4,)), likelihood=likelihoods.gaussian()
                )
            )
        ),
        "update",
        "structure='full'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_with_it_is_refused_by_name(name):
    make, argument, cure = REFUSED[name]
    with pytest.raises(errors.WrongType, match=cure) as caught:
        make()
    assert caught.value.argument == argument


def test_one_output_of_any_likelihood_can():
    assert posteriors.last_layer_laplace(LINEAR, likelihood=YES_OR_NO).online is not None
