"""Weights of labels, and labels that are distributions: laws of every posterior, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import (
    CLASSES,
    HPARAMS,
    MLP,
    close,
    every_posterior,
    fit,
    labeled,
    one_of_all,
    problem,
    same,
)
from numpy.testing import assert_allclose

from bayesal import _training, likelihoods, networks, posteriors
from bayesal.posteriors import _hmc as hmc
from bayesal.posteriors._gp import _exact as _exact
from bayesal.posteriors._laplace._structures import STRUCTURES
from bayesal.posteriors._sampled import energy_per_label, prior_energy
from bayesal.types import HParams, Labeled

SHORT = HPARAMS._replace(steps=jnp.int32(30))
STILL = HPARAMS._replace(steps=jnp.int32(0))  # parameters stay: what is fitted is a closed form
ONE = networks.mlp(16, 1, (8,))
GAUSSIAN = likelihoods.gaussian(noise_std=0.5, center=0.0)


def weighted(count, capacity, weight, garbage=0.0):
    """The problem's first labels, each with its weight."""
    full = np.full(capacity, np.nan, np.float32)  # padding's weight may be anything
    full[: len(weight)] = weight
    return labeled(count, capacity, garbage)._replace(weight=jnp.asarray(full))


@one_of_all
def test_no_weights_and_weights_of_one_are_the_same_bits(case):
    plain, ones = fit(case, labeled(), SHORT), fit(case, weighted(30, 30, np.ones(30)), SHORT)
    assert same(plain[1:], ones[1:])


@every_posterior
def test_rows_of_weight_0_behind_the_others_change_no_bit(case):
    ones = weighted(30, 40, np.ones(30))
    absent = weighted(35, 40, np.r_[np.ones(30), np.zeros(5)])
    absent = absent._replace(x=absent.x.at[30:].set(jnp.nan), y=absent.y.at[30:].set(2))
    assert same(fit(case, ones, SHORT)[1:], fit(case, absent, SHORT)[1:])


@every_posterior
def test_weights_change_the_fit(case):
    plain = fit(case, weighted(30, 30, np.ones(30)), SHORT)[1]
    assert not same(plain, fit(case, weighted(30, 30, np.arange(30) % 3), SHORT)[1])


@one_of_all
def test_a_distribution_on_one_class_is_that_class(case):
    if case.samples:
        pytest.skip("chains amplify the last bit of a slope; their energy is compared below")
    data = labeled()
    sure = data._replace(y=jax.nn.one_hot(data.y, CLASSES))
    close(fit(case, data, SHORT)[1:], fit(case, sure, SHORT)[1:], max(case.near, 1e-5))


@one_of_all
def test_labels_that_are_distributions_are_learned(case):
    data = labeled()
    _, state, info = fit(case, data._replace(y=jnp.full((30, CLASSES), 1 / CLASSES)), SHORT)
    assert (np.asarray(info.failed_at) == -1).all()
    assert not same(state, fit(case, data, SHORT)[1])


# closed forms, the parameters being what they are

ROWS = 24
OFTEN = np.r_[np.arange(ROWS) % 3]  # 0, 1 and 2 times
REPEATED = np.repeat(np.arange(ROWS), OFTEN)
X = jnp.asarray(problem()[0][:ROWS])
NUMBERS = jnp.asarray(np.sin(np.arange(ROWS)), jnp.float32)
KINDS = {"classes": jnp.asarray(problem()[1][:ROWS]), "numbers": NUMBERS}


def both(posterior, x, y, hparams=STILL):
    """Fits to weighted rows, and to rows that are there as often as their weight says."""
    state = posterior.init(jax.random.key(0), x[0])
    run = jax.jit(posterior.fit)
    weights = Labeled(x, y, jnp.int32(ROWS), jnp.asarray(OFTEN, jnp.float32))
    copies = Labeled(x[REPEATED], y[REPEATED], jnp.int32(len(REPEATED)))
    return [run(jax.random.key(1), state, data, hparams)[0] for data in (weights, copies)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_laplace_counts_a_row_as_often_as_its_weight(structure, kind):
    network, likelihood = {
        "classes": (MLP, likelihoods.categorical()),
        "numbers": (ONE, GAUSSIAN),
    }[kind]
    posterior = posteriors.last_layer_laplace(network, structure=structure, likelihood=likelihood)
    first, second = both(posterior, X, KINDS[kind])

    def covariance(state):
        shape = state.mean.shape
        unit = jnp.eye(state.mean.size).reshape(-1, *shape)
        root = jax.vmap(lambda z: STRUCTURES[structure].root(state.factor, z).ravel())(unit)
        return root.T @ root

    assert_allclose(first.mean, second.mean, atol=1e-4)
    assert_allclose(covariance(first), covariance(second), atol=1e-4)
    assert_allclose(first.evidence, second.evidence, rtol=1e-5)
    assert_allclose(first.prior_scale, second.prior_scale, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_linearized_laplace_counts_a_row_as_often_as_its_weight(kind):
    network, likelihood = {
        "classes": (MLP, likelihoods.categorical()),
        "numbers": (ONE, GAUSSIAN),
    }[kind]
    posterior = posteriors.linearized_laplace(network, likelihood=likelihood)
    first, second = both(posterior, X, KINDS[kind])
    close(first.std, second.std, 1e-5)
    assert_allclose(first.evidence, second.evidence, rtol=1e-5)


@pytest.mark.slow
def test_labels_added_online_count_as_often_as_their_weight():
    posterior = posteriors.last_layer_laplace(ONE, structure="full", likelihood=GAUSSIAN)
    start = both(posterior, X, NUMBERS)[0]
    add = jax.jit(posterior.online)
    weights = Labeled(X, NUMBERS, jnp.int32(ROWS), jnp.asarray(OFTEN, jnp.float32))
    copies = Labeled(X[REPEATED], NUMBERS[REPEATED], jnp.int32(len(REPEATED)))
    (first, info), (second, other) = (add(start, data) for data in (weights, copies))
    assert_allclose(first.mean, second.mean, atol=1e-5)
    at = jax.vmap(posterior.marginal, (None, 0))
    close(at(first, X), at(second, X), 1e-5)
    assert_allclose([first.evidence, info.loss], [second.evidence, other.loss], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("inducing", [None, 6])
@pytest.mark.parametrize("steps", [0, 20])
def test_a_process_of_numbers_counts_a_row_as_often_as_its_weight(inducing, steps):
    """Its kernel too is that of the repeated rows: weights enter the evidence."""
    posterior = posteriors.gp_regression(waves=32, inducing=inducing)
    first, second = both(posterior, X, NUMBERS, STILL._replace(steps=jnp.int32(steps)))
    close(first.inner.params, second.inner.params, 1e-3 if steps else 0)
    at = jax.jit(jax.vmap(posterior.marginal, (None, 0)))
    close(at(first, X), at(second, X), 2e-3 if steps or inducing else 1e-5)


@pytest.mark.slow
def test_a_process_of_numbers_divides_its_noise_by_the_weight():
    state = both(posteriors.gp_regression(waves=8), X, NUMBERS)[0].inner
    assert_allclose(state.root[0] ** 2, OFTEN * state.root[0, 1] ** 2, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 20])
def test_a_process_of_classes_counts_a_row_as_often_as_its_weight(steps):
    posterior = posteriors.gp_classification(CLASSES, waves=32)
    first, second = both(posterior, X, KINDS["classes"], STILL._replace(steps=jnp.int32(steps)))
    close(first.params, second.params, 1e-3 if steps else 0)
    latent = lambda state: _exact.latent(state, X[:, None], amplitude=4.0)
    close(latent(first), latent(second), 2e-3 if steps else 1e-4)


@pytest.mark.slow
def test_preferences_count_a_pair_as_often_as_its_weight_and_a_draw_half_for_each():
    posterior = posteriors.preference(waves=32)
    pairs, wins = X.reshape(ROWS, 2, 8), jnp.asarray(np.arange(ROWS) % 2)
    first, second = both(posterior, pairs, wins)
    at = lambda state: _exact.latent(state, pairs, signs=(1, -1))
    close(at(first), at(second), 1e-4)
    # a draw: both outcomes, each with half the weight
    state, run = posterior.init(jax.random.key(0), pairs[0]), jax.jit(posterior.fit)
    drawn = Labeled(pairs, jnp.full((ROWS, 2), 0.5), jnp.int32(ROWS))
    each = jnp.asarray(np.arange(2 * ROWS) // ROWS)
    halves = Labeled(jnp.tile(pairs, (2, 1, 1)), each, jnp.int32(2 * ROWS), jnp.full(2 * ROWS, 0.5))
    drawn, halves = (run(jax.random.key(1), state, d, STILL)[0] for d in (drawn, halves))
    close(at(drawn), at(halves), 1e-4)


@pytest.mark.slow
def test_the_energy_of_chains_counts_a_row_as_often_as_its_weight():
    outputs = lambda w, x: x @ w
    prior = lambda w: 0.5 * jnp.sum(jnp.square(w))
    weights = Labeled(X, KINDS["classes"], jnp.int32(ROWS), jnp.asarray(OFTEN, jnp.float32))
    copies = Labeled(X[REPEATED], KINDS["classes"][REPEATED], jnp.int32(len(REPEATED)))
    at = jax.random.normal(jax.random.key(0), (16, CLASSES))
    soft = weights._replace(y=jax.nn.one_hot(weights.y, CLASSES))
    absent = weights._replace(x=jnp.where(weights.weight[:, None] > 0, X, jnp.nan))
    of_copies, *others = (
        jax.value_and_grad(hmc.potential(outputs, data, prior, batch_size=7))(at)
        for data in (copies, weights, soft, absent)
    )
    for energy, slope in others:
        assert_allclose(energy, of_copies[0], rtol=1e-5)
        assert_allclose(slope, of_copies[1], rtol=1e-4, atol=1e-3)


# losses of minibatches, by hand


@pytest.mark.parametrize("weight", [[1.0, 1.0, 1.0], [2.0, 0.5, 3.0], [1e-6, 0.0, 1e6]])
def test_losses_are_weighted_means_by_hand(weight):
    logits = np.array([[0.3, -1.0, 2.0], [0.0, 0.0, 0.0], [5.0, 1.0, -2.0]])
    y = np.array([2, 0, 1])
    each = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, y, strict=True)]
    by_hand = sum(w * v for w, v in zip(weight, each, strict=True)) / sum(weight)
    net = networks.from_functions(lambda key, x: jnp.eye(3), lambda w, x, key: x @ w)
    rows = _training.Minibatch(
        jnp.asarray(logits, jnp.float32), jnp.asarray(y), jnp.float32(weight), jnp.float32(7.0)
    )
    assert float(_training.nll(net, 0.0)(jnp.eye(3), jax.random.key(0), rows)) == pytest.approx(
        by_hand, rel=1e-5
    )
    energy = energy_per_label(net, 1.0)(jnp.eye(3), jax.random.key(0), rows)
    assert float(energy) == pytest.approx(
        by_hand + float(prior_energy(jnp.eye(3), 1.0)) / 7, rel=1e-5
    )


def test_steps_see_rows_that_count_and_the_weight_of_all():
    weight = jnp.array([0.0, 2.0, 0.5, 0.0, 1.0, jnp.nan])
    data = Labeled(jnp.arange(6.0)[:, None], jnp.zeros(6, jnp.int32), jnp.int32(5), weight)
    seen = []

    def loss(params, key, batch):
        note = lambda *of: seen.append([np.asarray(a) for a in of])
        jax.debug.callback(note, batch.x[:, 0], batch.weight, batch.total)
        return 0.0 * params

    hparams = HParams(steps=6)
    _training.sgd(jax.random.key(0), jnp.float32(1.0), loss, data, hparams, batch_size=2)
    jax.effects_barrier()
    rows = np.concatenate([r for r, _, _ in seen]).astype(int)
    assert np.bincount(rows, minlength=6).tolist() == [0, 4, 4, 0, 4, 0]
    assert all((w == np.asarray(weight)[r.astype(int)]).all() and t == 3.5 for r, w, t in seen)
