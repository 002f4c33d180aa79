"""A network that keeps distances: bounds that hold for any weights, the kernel of its waves, and
what it says far from all labels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesal import errors, likelihoods, networks, posteriors
from bayesal.networks._distance import norm_bound, residual, waves
from bayesal.predictive import bind
from bayesal.types import HParams, Labeled


def matrices():
    random = np.random.default_rng(0)
    wild = random.normal(size=(24, 24))
    turn = np.linalg.qr(wild)[0]
    return {
        "random": wild,
        "one direction": np.outer(wild[0], wild[1]),
        "all alike": turn,
        "two alike": turn @ np.diag([5.0, 5.0, *np.linspace(1, 0, 22)]) @ turn.T,
        "huge": 1e15 * wild,
        "small": 1e-12 * wild,
    }


BOUND, SLOPE = jax.jit(norm_bound), jax.jit(jax.grad(norm_bound))


@pytest.mark.parametrize("name", matrices())
def test_the_bound_is_never_too_low_and_hardly_too_high(name):
    w = matrices()[name]
    left, singular, right = np.linalg.svd(w)
    assert (
        1 - 1e-5 <= float(BOUND(jnp.asarray(w, jnp.float32))) / singular[0] <= 24 ** (1 / 64) + 1e-5
    )
    if name in ("one direction", "random"):
        slope, truth = (
            np.asarray(SLOPE(jnp.asarray(w, jnp.float32))),
            np.outer(left[:, 0], right[0]),
        )
        assert (
            np.sum(slope * truth) / np.linalg.norm(slope) > 0.6
        )  # uphill for the largest singular value


def test_no_weights_have_no_norm_and_a_finite_slope():
    assert (
        abs(float(BOUND(jnp.zeros((24, 24))))) < 1e-12
        and np.isfinite(SLOPE(jnp.zeros((24, 24)))).all()
    )


@pytest.mark.parametrize("size", [0.01, 1.0, 1e4])
@pytest.mark.parametrize("bound", [0.5, 0.95])
def test_layers_keep_distances(size, bound):
    random, depth = np.random.default_rng(1), 3
    layers = [
        {
            "w": jnp.asarray(size * random.normal(size=(24, 24)), jnp.float32),
            "b": jnp.asarray(random.normal(size=24), jnp.float32),
        }
        for _ in range(depth)
    ]
    layers[0]["w"] = -size * jnp.eye(24)  # the worst there is: h - size * relu-ed h
    x = np.float32(random.normal(size=(60, 24)))
    h = np.asarray(_hidden(layers, jnp.asarray(x), bound))
    pairs = np.triu_indices(60, 1)
    ratio = np.linalg.norm(h[pairs[0]] - h[pairs[1]], axis=1) / np.linalg.norm(
        x[pairs[0]] - x[pairs[1]], axis=1
    )
    assert (1 - bound) ** depth <= ratio.min() and ratio.max() <= (1 + bound) ** depth
    if size == 0.01:
        assert_allclose(ratio, 1.0, atol=0.3)  # small weights stay as they are


@functools.partial(jax.jit, static_argnums=2)
def _hidden(layers, x, bound):
    return jax.vmap(lambda xi: residual(layers, xi, bound))(x)


def test_waves_have_the_gaussian_kernel_within_their_sampling_error():
    random, number, length = np.random.default_rng(3), 2000, 1.7
    x = random.normal(size=(30, 5))
    frequencies = random.normal(size=(number, 5)) / length
    phi = np.asarray(
        jax.vmap(lambda xi: waves(xi, jnp.asarray(frequencies, jnp.float32)))(
            jnp.asarray(x, jnp.float32)
        ),
        np.float64,
    )
    kernel = np.exp(-np.square(x[:, None] - x[None]).sum(-1) / (2 * length**2))
    error = (1 - kernel**2) / (2 * number) ** 0.5  # standard deviation of a mean of cosines
    assert_allclose(np.diag(phi @ phi.T) / (2 * number), 1.0, rtol=1e-5)
    assert (np.abs(phi @ phi.T / (2 * number) - kernel) <= 5 * error + 1e-5).all() and np.abs(
        phi @ phi.T / (2 * number) - kernel
    ).max() > 1e-3


NEAR, FAR = (
    np.zeros((1, 2), np.float32),
    np.float32(60.0 * np.array([[1.0, 0.3], [-1.0, 0.5], [0.2, -1.0]])),
)
AWARE, PLAIN = (
    (lambda outputs: networks.sngp(2, outputs, width=16, depth=2, length=1.5)),
    lambda outputs: networks.mlp(2, outputs, (16, 16)),
)


def fitted(posterior, x, y):
    init = posterior.init(jax.random.key(0), jnp.asarray(x[0]))
    run = jax.jit(
        lambda state: posterior.fit(
            jax.random.key(1),
            state,
            Labeled(jnp.asarray(x), jnp.asarray(y), jnp.int32(len(y))),
            HParams(steps=60, learning_rate=5e-3),
        )
    )
    state, info = run(init)
    assert int(info.failed_at) == -1
    return state


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(4)
    return random.normal(size=(40, 2)).astype(np.float32)


@pytest.mark.slow
def test_the_variance_returns_to_the_prior_far_from_all_labels(data):
    y, noise = np.float32(np.sin(data[:, 0])), 0.1
    found = {}
    for name, network in (("aware", AWARE(1)), ("plain", PLAIN(1))):
        posterior = posteriors.last_layer_laplace(
            network, tune=False, likelihood=likelihoods.gaussian(noise_std=noise, center=0.0)
        )
        state = fitted(posterior, data, y)
        found[name] = [
            np.asarray(jax.vmap(posterior.marginal, (None, 0))(state, jnp.asarray(x)).variance)
            - noise**2
            for x in (NEAR, FAR)
        ]
    assert (
        found["aware"][0].max() < 0.1
        and found["aware"][1].min() > 0.85
        and found["aware"][1].max() <= 1 + 1e-3
    )
    assert not (np.abs(found["plain"][1] - 1.0) < 0.15).any()


@pytest.mark.slow
def test_classes_are_equally_probable_far_from_all_labels_and_not_with_a_plain_network(data):
    y = (data[:, 0] > 0).astype(np.int32)
    found = {}
    for name, network in (("aware", AWARE(2)), ("plain", PLAIN(2))):
        posterior = posteriors.last_layer_laplace(network, tune=False)
        state = fitted(posterior, data, y)
        p = np.exp(
            np.asarray(
                bind(
                    posterior,
                    state,
                    posterior.draw(jax.random.key(2), state, 400),
                    jnp.float32(1.0),
                ).mean(jnp.asarray(FAR[:2]))
            )
        )
        found[name] = -(p * np.log(p)).sum(1) / np.log(2)
        right = (
            np.asarray(
                bind(
                    posterior, state, posterior.draw(jax.random.key(2), state, 50), jnp.float32(1.0)
                ).mean(jnp.asarray(data))
            ).argmax(1)
            == y
        )
        assert right.mean() > 0.85
    assert found["aware"].min() > 0.95 and found["plain"].max() < 0.9


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"bound": 1.0}, "bound"),
        ({"bound": 0.0}, "bound"),
        ({"length": 0.0}, "length"),
        ({"width": 1}, "width"),
        ({"depth": -1}, "depth"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options, argument):
    with pytest.raises(errors.BayesalError) as caught:
        networks.sngp(2, 1, **options)
    assert caught.value.argument == argument


def test_examples_of_another_size_are_refused():
    with pytest.raises(errors.WrongShape, match="2 numbers"):
        AWARE(1).init(jax.random.key(0), jnp.zeros(3)) and AWARE(1).embed(
            AWARE(1).init(jax.random.key(0), jnp.zeros(3)), jnp.zeros(3)
        )
