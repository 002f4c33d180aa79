"""Adapters, reference nets, and the convolution that trains fast in a loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import linen, nnx
from jax import lax

from bayesal import errors, networks
from bayesal.networks._convolution import pool
from bayesal.networks._reference import CNN, dropout

X = jnp.linspace(-1.0, 1.0, 6)
KEYS = [jax.random.key(i) for i in range(3)]


class Stock(nnx.Module):
    """flax's own dropout, at its own rate."""

    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(6, 32, rngs=rngs), nnx.Linear(32, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5)

    def embed(self, x):
        return jax.nn.relu(self.first(x))

    def __call__(self, x, rngs=None):
        return self.last(self.dropout(self.embed(x), rngs=rngs))


class Traced(Stock):
    """Dropout at a traced rate."""

    def __call__(self, x, rngs=None, p=0.0):
        x = self.embed(x)
        return self.last(dropout(x, rngs, p, x.shape))


class Linen(linen.Module):
    rate: float = 0.5

    def setup(self):
        self.first, self.last, self.drop = linen.Dense(32), linen.Dense(3), linen.Dropout(self.rate)

    def embed(self, x):
        return jax.nn.relu(self.first(x))

    def __call__(self, x, deterministic=True):
        return self.last(self.drop(self.embed(x), deterministic=deterministic))


class LinenTraced(linen.Module):
    @linen.compact
    def __call__(self, x, p=0.0, deterministic=True):
        x = jax.nn.relu(linen.Dense(32)(x))
        if not deterministic:
            x = x * jnp.where(
                jax.random.uniform(self.make_rng("dropout"), x.shape) >= p, 1 / (1 - p), 0.0
            )
        return linen.Dense(3)(x)


def plain(params, x, key, rate=0.5):
    mask = 1.0 if key is None else jax.random.bernoulli(key, 1 - rate, x.shape) / (1 - rate)
    return (x * mask) @ params


start = lambda key, x: jax.random.normal(key, (x.size, 3))
NETWORKS = {
    "nnx_stock": (networks.from_nnx(Stock, embed="embed"), False),
    "nnx_rate": (networks.from_nnx(Traced, embed="embed", rate="p"), True),
    "linen_stock": (
        networks.from_linen(Linen(), embed="embed", deterministic="deterministic"),
        False,
    ),
    "linen_rate": (
        networks.from_linen(LinenTraced(), rate="p", deterministic="deterministic"),
        True,
    ),
    "functions": (
        networks.from_functions(start, lambda params, x, key: plain(params, x, key)),
        False,
    ),
    "functions_rate": (networks.from_functions(start, plain, takes_rate=True), True),
    "mlp": (networks.mlp(6, 3, (16, 8)), True),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


@every_network
def test_a_network_is_pure_functions_of_one_example(name):
    network, takes_rate = NETWORKS[name]
    params = network.init(KEYS[0], X)
    apply = jax.jit(network.apply)
    quiet = network.apply(params, X, None, 0.5)
    assert quiet.shape == (3,)
    np.testing.assert_array_equal(quiet, network.apply(params, X, None, 0.1))  # no key, no dropout
    first, again, other = (apply(params, X, k, 0.5) for k in (KEYS[1], KEYS[1], KEYS[2]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    np.testing.assert_allclose(first, network.apply(params, X, KEYS[1], 0.5), atol=1e-5)
    assert (np.abs(apply(params, X, KEYS[1], 0.1) - first).max() > 1e-4) == takes_rate
    if takes_rate:
        np.testing.assert_allclose(apply(params, X, KEYS[1], 0.0), quiet, atol=1e-5)
    assert apply._cache_size() == 1  # the rate is data


@every_network
def test_the_key_fixes_the_parameters_and_vmap_gives_many(name):
    network, _ = NETWORKS[name]
    many = (
        jax.vmap(lambda k: network.init(k, X))(jnp.stack(KEYS))
        if name in ("functions", "nnx_stock")
        else jax.lax.map(lambda k: network.init(k, X), jnp.stack(KEYS))
    )  # vmapped initializers compile for seconds
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(network.init(KEYS[1], X)), strict=True):
        np.testing.assert_allclose(a[1], b, atol=1e-6)
    logits = jax.vmap(lambda p, k: network.apply(p, X, k, 0.3))(many, jnp.stack(KEYS))
    assert logits.shape == (3, 3)


@every_network
def test_embed_is_one_vector_or_none(name):
    network, _ = NETWORKS[name]
    if network.embed is None:
        assert name.startswith("functions") or name == "linen_rate"
        return
    assert network.embed(network.init(KEYS[0], X), X).ndim == 1


def test_functions_may_bring_an_embedding():
    network = networks.from_functions(start, plain, embed=lambda params, x: x, takes_rate=True)
    np.testing.assert_array_equal(network.embed(None, X), X)


def test_stock_dropout_drops_at_its_own_rate():
    network, _ = NETWORKS["nnx_stock"]
    params = network.init(KEYS[0], X)
    draws = jax.vmap(lambda k: network.apply(params, X, k, 0.9))(jax.random.split(KEYS[1], 4000))
    np.testing.assert_allclose(
        draws.mean(0), network.apply(params, X, None, 0.9), atol=0.05
    )  # inverted: the mean is kept


def test_a_decorated_call_keeps_its_dropout():
    class Decorated(Stock):
        __call__ = functools.wraps(Stock.__call__)(
            lambda self, *args, **kwargs: Stock.__call__(self, *args, **kwargs)
        )

    network = networks.from_nnx(Decorated)
    params = network.init(KEYS[0], X)
    assert (
        np.abs(
            network.apply(params, X, KEYS[1], 0.5) - network.apply(params, X, KEYS[2], 0.5)
        ).max()
        > 1e-4
    )


class OwnKeys(Stock):
    """Dropout that holds its own keys, as flax's guide builds it."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def test_a_dropout_with_keys_of_its_own_uses_the_draws_key():
    network = networks.from_nnx(OwnKeys)
    params = network.init(KEYS[0], X)
    first, again, other = (network.apply(params, X, k, 0.5) for k in (KEYS[1], KEYS[1], KEYS[2]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert all(
        jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params)
    )  # keys are not trained


class LinenNormalized(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.BatchNorm(use_running_average=True)(x))


class SelfContained(nnx.Module):
    """The whole idiom of flax's guide: keys in the layer, a call of x alone."""

    def __init__(self, rngs):
        self.dropout, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(x))


def test_keys_in_the_layer_are_replaced_by_the_draws():
    network = networks.from_nnx(SelfContained)
    params = network.init(KEYS[0], X)
    apply = jax.jit(lambda k: network.apply(params, X, k, 0.0))
    first, again, other = (apply(k) for k in (KEYS[1], KEYS[1], KEYS[2]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    np.testing.assert_array_equal(
        network.apply(params, X, None, 0.0), network.apply(params, X, None, 0.0)
    )


class LinenTrain(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        return linen.Dense(3)(linen.Dropout(0.5, deterministic=not train)(x))


def test_a_call_that_says_train():
    network = networks.from_linen(LinenTrain(), train="train")
    params = network.init(KEYS[0], X)
    assert (
        np.abs(
            network.apply(params, X, KEYS[1], 0.0) - network.apply(params, X, KEYS[2], 0.0)
        ).max()
        > 1e-4
    )
    np.testing.assert_array_equal(
        network.apply(params, X, None, 0.0), network.apply(params, X, None, 0.5)
    )
    with pytest.raises(errors.WrongType, match="train='train'") as error:
        networks.from_linen(LinenTrain())
    assert error.value.argument == "module"


class Tutorial(nnx.Module):
    """The CNN of flax's MNIST tutorial, on 8x8 images: `rngs` by keyword, stock layers."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 8, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm1 = nnx.BatchNorm(8, rngs=rngs)
        self.dropout1 = nnx.Dropout(rate=0.025, rngs=rngs)
        self.conv2 = nnx.Conv(8, 16, kernel_size=(3, 3), rngs=rngs)
        self.batch_norm2 = nnx.BatchNorm(16, rngs=rngs)
        self.avg_pool = functools.partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(2 * 2 * 16, 32, rngs=rngs)
        self.dropout2 = nnx.Dropout(rate=0.5, rngs=rngs)
        self.linear2 = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x, rngs: nnx.Rngs | None = None):
        x = self.avg_pool(nnx.relu(self.batch_norm1(self.dropout1(self.conv1(x), rngs=rngs))))
        x = self.avg_pool(nnx.relu(self.batch_norm2(self.conv2(x))))
        x = nnx.relu(self.dropout2(self.linear1(x.reshape(x.shape[0], -1)), rngs=rngs))
        return self.linear2(x)


def test_flaxs_tutorial_is_taken_as_it_is():
    with pytest.warns(UserWarning, match="GroupNorm or LayerNorm") as caught:
        network = networks.from_nnx(Tutorial)
    assert len(caught) == 1
    x = jax.random.normal(jax.random.key(3), (8, 8, 1))
    params = network.init(KEYS[0], x)
    module = Tutorial(rngs=nnx.Rngs(KEYS[0]))
    module.eval()
    np.testing.assert_allclose(network.apply(params, x, None, 0.0), module(x[None])[0], atol=1e-5)
    noisy = [network.apply(params, x, key, 0.0) for key in (KEYS[1], KEYS[1], KEYS[2])]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert np.abs(noisy[0] - noisy[2]).max() > 1e-4
    gradient = jax.grad(lambda params: network.apply(params, x, KEYS[1], 0.0)[0])(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    scales = jax.tree.leaves(gradient["batch_norm1"])
    assert any(np.abs(scale).max() > 0 for scale in scales)  # its scale and shift are trained


def test_stock_convolutions_compute_by_ours():
    class Pictures(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
            self.last = nnx.Linear(4 * 6 * 6, 3, rngs=rngs)

        def __call__(self, x):
            return self.last(self.conv(x).reshape(1, -1))

    network, x = networks.from_nnx(Pictures), jax.random.normal(jax.random.key(3), (6, 6, 1))
    params = network.init(KEYS[0], x)
    value = lambda params: network.apply(params, x, None, 0.0).sum()

    def stock(params):
        module = Pictures(nnx.Rngs(0))
        nnx.update(module, params)
        return module(x[None])[0].sum()

    for ours, theirs in zip(
        jax.tree.leaves(jax.grad(value)(params)),
        jax.tree.leaves(jax.grad(stock)(params)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert "custom_jvp" in str(jax.make_jaxpr(value)(params))


def test_a_module_that_is_built_already_is_refused():
    with pytest.raises(errors.WrongType, match="built already") as error:
        oracles.as_users_do(networks.from_nnx)(Stock(nnx.Rngs(0)))
    assert error.value.argument == "make"


class Counting(nnx.Module):
    """BatchNorm, and one more running statistic that a call would change."""

    def __init__(self, rngs):
        self.norm, self.last = nnx.BatchNorm(6, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)
        self.seen = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x):
        return self.last(self.norm(x))


def test_running_statistics_that_are_no_batch_norms_are_refused():
    with (
        pytest.warns(UserWarning, match="BatchNorm"),
        pytest.raises(errors.WrongShape, match="GroupNorm") as error,
    ):
        networks.from_nnx(Counting)
    assert error.value.argument == "make"


def test_running_statistics_of_linen_are_refused():
    with pytest.raises(errors.WrongShape, match=r"batch_stats.*GroupNorm") as error:
        networks.from_linen(LinenNormalized()).init(KEYS[0], X)
    assert error.value.argument == "module"


class LinenEmbedding(Linen):
    def embed(self, x, deterministic):  # no default: it must be told
        return self.drop(super().embed(x), deterministic=deterministic)

    def __call__(self, x, deterministic=True):
        return self.last(self.embed(x, deterministic))


def test_linens_embed_is_told_what_it_takes():
    network = networks.from_linen(LinenEmbedding(), embed="embed", deterministic="deterministic")
    params = network.init(KEYS[0], X)
    assert set(params) == {"first", "last"}  # parameters alone are trained
    assert network.embed(params, X).shape == (32,)


@pytest.fixture(scope="module")
def cnn():
    network = networks.cnn((16, 17, 2), 5)
    return network, network.init(KEYS[0], jnp.zeros((16, 17, 2)))


def test_the_cnn_scales_bytes_and_embeds(cnn):
    network, params = cnn
    image = np.random.default_rng(0).integers(0, 256, (16, 17, 2)).astype(np.uint8)
    logits = network.apply(params, jnp.asarray(image), None, 0.0)
    assert logits.shape == (5,) and network.embed(params, jnp.asarray(image)).shape == (128,)
    np.testing.assert_allclose(
        logits, network.apply(params, jnp.asarray(image / 255.0, jnp.float32), None, 0.0), atol=1e-5
    )


def test_the_mlp_scales_bytes_and_flattens():
    network = networks.mlp(6, 3, (16, 8))
    params = network.init(KEYS[0], X)
    image = jnp.arange(6, dtype=jnp.uint8).reshape(2, 3)
    np.testing.assert_allclose(
        network.apply(params, image, None, 0.0),
        network.apply(params, image.ravel() / 255.0, None, 0.0),
        atol=1e-6,
    )
    assert network.embed(params, image).shape == (8,)


def test_small_images_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="16x16"):
        networks.cnn((8, 8, 1), 10)


def test_a_mask_drops_whole_channels_or_none_of_one():
    x = jnp.ones((1, 5, 4, 64))
    out = np.asarray(dropout(x, nnx.Rngs(dropout=KEYS[0]), jnp.float32(0.5), (1, 1, 1, 64)))[0]
    channels = out.reshape(-1, 64)
    assert (channels == channels[0]).all()
    assert set(np.unique(channels)) == {0.0, 2.0}


def test_the_cnn_drops_channels(monkeypatch):
    from bayesal.networks import _reference as reference

    shapes = []
    monkeypatch.setattr(
        reference, "dropout", lambda x, rngs, rate, shape: shapes.append((x.shape, shape)) or x
    )
    CNN((16, 16, 1), 3, nnx.Rngs(0))(jnp.zeros((2, 16, 16, 1)), nnx.Rngs(1), 0.5)
    assert shapes == [
        ((2, 6, 6, 32), (2, 1, 1, 32)),
        ((2, 1, 1, 64), (2, 1, 1, 64)),
        ((2, 128), (2, 128)),
    ]


NHWC = ("NHWC", "HWIO", "NHWC")
CASES = [
    ((2, 7, 9, 3), (3, 3, 3, 4), (1, 1), "SAME"),
    ((2, 7, 9, 3), (5, 2, 3, 4), (2, 3), "SAME"),
    ((1, 8, 11, 1), (5, 5, 1, 2), (1, 1), "VALID"),
    ((2, 11, 8, 2), (3, 4, 2, 2), (3, 2), "VALID"),
    ((1, 6, 5, 2), (3, 3, 2, 1), (2, 2), ((2, 0), (1, 3))),
]


def pair(case, seed=0):
    lhs_shape, rhs_shape, strides, padding = case
    lhs, rhs, lhs_dot, rhs_dot = (
        jax.random.normal(jax.random.key(seed + i), s)
        for i, s in enumerate((lhs_shape, rhs_shape, lhs_shape, rhs_shape))
    )
    ours = lambda a, b: networks.conv(a, b, strides, padding, dimension_numbers=NHWC)
    xlas = lambda a, b: lax.conv_general_dilated(a, b, strides, padding, dimension_numbers=NHWC)
    return ours, xlas, (lhs, rhs), (lhs_dot, rhs_dot)


def equal(a, b):
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-4), a, b)


@pytest.mark.parametrize(
    "case",
    [
        CASES[0],
        CASES[3],
        *(pytest.param(c, marks=pytest.mark.slow) for c in (CASES[1], CASES[2], CASES[4])),
    ],
    ids=str,
)
def test_conv_is_xlas_in_value_gradient_and_jvp(case):
    ours, xlas, point, direction = pair(case)
    equal(ours(*point), xlas(*point))
    equal(jax.jvp(ours, point, direction), jax.jvp(xlas, point, direction))
    square = lambda f: jax.jit(jax.grad(lambda a, b: jnp.sum(jnp.sin(f(a, b))), argnums=(0, 1)))
    equal(square(ours)(*point), square(xlas)(*point))


@pytest.mark.parametrize("case", CASES[1:4:2], ids=str)
def test_conv_under_vmap_and_in_a_loop(case):
    ours, xlas, (lhs, rhs), _ = pair(case)
    many = jnp.stack([rhs, 2 * rhs, rhs - 1])

    def train(f):
        def step(_, kernel):
            return kernel - 1e-3 * jax.grad(lambda k: jnp.sum(jnp.square(f(lhs, k))))(kernel)

        return jax.jit(jax.vmap(lambda k: lax.fori_loop(0, 3, step, k)))(many)

    equal(train(ours), train(xlas))


@pytest.mark.parametrize(
    "options",
    [
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 1)},
        {"feature_group_count": 2},
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
    ],
    ids=str,
)
def test_conv_leaves_the_rest_to_xla(options):
    options = {"dimension_numbers": NHWC} | options
    lhs = jax.random.normal(KEYS[0], (2, 8, 8, 8))
    rhs = jax.random.normal(
        KEYS[1],
        (3, 3, 8 // options.get("feature_group_count", 1), 8)
        if options["dimension_numbers"] == NHWC
        else (8, 8, 3, 3),
    )
    ours = jax.value_and_grad(
        lambda k: networks.conv(lhs, k, (1, 1), ((1, 1), (1, 1)), **options).sum()
    )
    xlas = jax.value_and_grad(
        lambda k: lax.conv_general_dilated(lhs, k, (1, 1), ((1, 1), (1, 1)), **options).sum()
    )
    equal(ours(rhs), xlas(rhs))


def test_conv_in_one_dimension_is_xlas():
    lhs, rhs = jax.random.normal(KEYS[0], (2, 9, 3)), jax.random.normal(KEYS[1], (3, 3, 4))
    options = {"dimension_numbers": ("NWC", "WIO", "NWC")}
    equal(
        networks.conv(lhs, rhs, (1,), "SAME", **options),
        lax.conv_general_dilated(lhs, rhs, (1,), "SAME", **options),
    )


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_pool_is_flaxs_in_value_and_gradient(size):
    x, weights = jax.random.normal(KEYS[0], (2, *size, 3)), jax.random.normal(KEYS[1], (2, 2, 3, 3))
    ours = jax.value_and_grad(lambda x: (weights * pool(x)).sum())
    flaxs = jax.value_and_grad(lambda x: (weights * nnx.max_pool(x, (2, 2), (2, 2))).sum())
    equal(ours(x), flaxs(x))
