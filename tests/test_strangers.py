"""A stranger's module through every adapter: BatchNorm, shared layers, its own Dropout, its own
keys and constants.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from numpy.testing import assert_allclose, assert_array_equal

from bayesal import errors, networks, posteriors
from bayesal.types import HParams, Labeled

X = jnp.linspace(-1.0, 1.0, 6)
KEYS = [jax.random.key(i) for i in range(3)]


class Tied(nnx.Module):
    """One layer called in two places, a dropout with keys of its own, a constant that is no
    parameter.
    """

    def __init__(self, rngs):
        self.inner = nnx.Linear(6, 6, rngs=rngs)
        self.again = self.inner
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.other = nnx.Dropout(0.5, rngs=rngs)
        self.center = nnx.Variable(jnp.full(6, 3.0))
        self.last = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.other(self.again(self.drop(self.inner(x - self.center[...])))))


class LinenTied(linen.Module):
    def setup(self):
        self.inner, self.last = linen.Dense(6), linen.Dense(3)
        self.drop = linen.Dropout(0.5)

    def __call__(self, x, train):
        x = self.drop(self.inner(x), deterministic=not train)
        return self.last(self.drop(self.inner(x), deterministic=not train))


def masked(network, by_hand, shapes):
    """It has these parameters, draws by its key, and is `by_hand` without one."""
    params = network.init(KEYS[0], X)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(params)) == sorted(shapes)
    apply = jax.jit(lambda p, k: network.apply(p, X, k, 0.0))
    first, again, other = (apply(params, k) for k in (KEYS[1], KEYS[1], KEYS[2]))
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert_allclose(network.apply(params, X, None, 0.0), by_hand(params), atol=1e-5)
    return params


def tied(inner, last, x):
    a, b = inner
    return (((x @ a + b) @ a + b) @ last[0]) + last[1]


SHAPES = [(6, 6), (6,), (6, 3), (3,)]


def test_nnx_shares_what_it_shares_and_keeps_its_constants():
    network = networks.from_nnx(Tied)
    pair = lambda layer: (layer["kernel"][...], layer["bias"][...])
    masked(
        network,
        lambda p: tied(pair(p["again"] if "again" in p else p["inner"]), pair(p["last"]), X - 3.0),
        SHAPES,
    )


def test_linen_shares_what_it_shares():
    network = networks.from_linen(LinenTied(), train="train")
    pair = lambda layer: (layer["kernel"], layer["bias"])
    masked(network, lambda p: tied(pair(p["inner"]), pair(p["last"]), X), SHAPES)


class Counting(nnx.Module):
    """Running statistics in a variable of its own kind."""

    def __init__(self, rngs):
        self.mean, self.last = nnx.Variable(jnp.zeros(6)), nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        self.mean[...] = 0.9 * self.mean[...] + 0.1 * x[0]
        return self.last(x - self.mean[...])


class Sowing(nnx.Module):
    def __init__(self, rngs):
        self.last = nnx.Linear(6, 3, rngs=rngs)
        self.shift = nnx.Variable(jnp.ones(3))

    def __call__(self, x):
        y = self.last(x)
        self.sow(nnx.Intermediate, "seen", y)
        return y + self.shift[...]


def test_state_that_a_call_changes_is_refused_under_any_name():
    network = networks.from_nnx(Counting)
    with pytest.raises(errors.WrongShape, match="running statistics") as caught:
        network.apply(network.init(KEYS[0], X), X, None, 0.0)
    assert caught.value.argument == "make"
    network = networks.from_nnx(Sowing)  # what it only shows is no state
    assert network.apply(network.init(KEYS[0], X), X, None, 0.0).shape == (3,)


def test_outputs_of_the_wrong_rank_are_refused_by_the_loop():
    batched = networks.from_functions(
        lambda key, x: jnp.zeros((6, 3)), lambda params, x, key: (x @ params)[None]
    )
    posterior = posteriors.point(batched)
    with pytest.raises(errors.WrongShape, match=r"shape \(1, 3\)") as caught:
        posterior.fit(
            KEYS[0],
            posterior.init(KEYS[0], X),
            Labeled(X[None], jnp.zeros(1, jnp.int32), jnp.int32(1)),
            HParams(),
        )
    assert caught.value.argument == "network"


# equinox


@pytest.fixture
def equinox():
    return pytest.importorskip("equinox")


def stranger(eqx):
    class Stranger(eqx.Module):
        inner: eqx.nn.Linear
        drop: eqx.nn.Dropout
        last: eqx.nn.Linear
        center: jax.Array
        act: object

        def __init__(self, key):
            first, second = jax.random.split(key)
            self.inner, self.last = eqx.nn.Linear(6, 6, key=first), eqx.nn.Linear(6, 3, key=second)
            self.drop, self.center, self.act = eqx.nn.Dropout(0.5), jnp.arange(6), lambda x: x

        def embed(self, x):
            return self.act(self.inner(x - self.center))

        def __call__(self, x, key=None):
            return self.last(self.drop(self.embed(x), key=key))

    return Stranger


def test_equinox_modules_come_in(equinox):
    network = networks.from_equinox(stranger(equinox), embed="embed")

    def by_hand(p):
        return p[2] @ (p[0] @ (X - jnp.arange(6)) + p[1]) + p[3]

    params = masked(network, by_hand, [(6, 6), (6,), (3, 6), (3,)])
    assert network.embed(params, X).shape == (6,)
    other = network.init(KEYS[1], X)
    assert np.abs(other[0] - params[0]).max() > 1e-3


@pytest.mark.slow
def test_equinox_modules_train_in_every_posterior(equinox):
    network = networks.from_equinox(stranger(equinox), embed="embed")
    x = jax.random.normal(KEYS[0], (40, 6))
    y = (x[:, 0] > 0).astype(jnp.int32)
    posterior = posteriors.ensemble(network, members=2)
    state, info = jax.jit(posterior.fit)(
        KEYS[0],
        posterior.init(KEYS[1], x[0]),
        Labeled(x, y, jnp.int32(40)),
        HParams(steps=200, learning_rate=2e-2),
    )
    log_probs = jax.vmap(
        lambda xi: posterior.apply(state, jax.tree.map(lambda a: a[0], state), xi)
    )(x)
    assert (info.failed_at == -1).all() and np.mean(np.asarray(log_probs).argmax(-1) == y) > 0.9


def test_equinox_rates_may_be_traced(equinox):
    class Rated(equinox.Module):
        last: equinox.nn.Linear

        def __init__(self, key):
            self.last = equinox.nn.Linear(6, 3, key=key)

        def __call__(self, x, *, key=None, rate=0.0):
            return self.last(networks.dropout(x, key, rate))

    network = networks.from_equinox(Rated, rate="rate")
    params = network.init(KEYS[0], X)
    apply = jax.jit(network.apply)
    assert np.abs(apply(params, X, KEYS[1], 0.1) - apply(params, X, KEYS[1], 0.5)).max() > 1e-4
    assert_allclose(apply(params, X, KEYS[1], 0.0), network.apply(params, X, None, 0.5), atol=1e-5)
    assert apply._cache_size() == 1  # the rate is data


def test_shared_layers_of_equinox(equinox):
    nn = equinox.nn

    class Copies(equinox.Module):
        first: nn.Linear
        second: nn.Linear

        def __init__(self, key):
            self.first = self.second = nn.Linear(6, 6, key=key)

        def __call__(self, x):
            return self.second(self.first(x))

    class Shares(equinox.Module):
        shared: nn.Shared

        def __init__(self, key):
            layers = (nn.Linear(6, 6, key=key), nn.Linear(6, 6, key=key))
            self.shared = nn.Shared(
                layers, lambda pair: pair[1].weight, lambda pair: pair[0].weight
            )

        def __call__(self, x):
            first, second = self.shared()
            return second(first(x))

    with pytest.raises(errors.WrongType, match=r"eqx\.nn\.Shared") as caught:
        networks.from_equinox(Copies)
    assert caught.value.argument == "make"
    network = networks.from_equinox(Shares)
    params = network.init(KEYS[0], X)
    assert sorted(p.shape for p in params) == [(6,), (6,), (6, 6)]
    assert_allclose(
        network.apply(params, X, None, 0.0),
        params[0] @ (params[0] @ X + params[1]) + params[2],
        atol=1e-5,
    )


def test_equinox_modules_with_state_are_refused(equinox):
    nn = equinox.nn

    class Normalized(equinox.Module):
        norm: nn.BatchNorm
        last: nn.Linear

        def __init__(self, key):
            self.norm, self.last = nn.BatchNorm(6, "batch", mode="batch"), nn.Linear(6, 3, key=key)

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.last(x), state

    for make in (Normalized, lambda key: nn.make_with_state(Normalized)(key)):
        with pytest.raises(errors.WrongShape, match="GroupNorm") as caught:
            networks.from_equinox(make)
        assert caught.value.argument == "make"
    with pytest.raises(errors.WrongType, match="instance"):
        networks.from_equinox(stranger(equinox)(KEYS[0]))
    with pytest.raises(errors.WrongType, match="one equinox module"):
        networks.from_equinox(lambda key: {"w": X})
