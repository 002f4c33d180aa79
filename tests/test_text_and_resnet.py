"""The residual net, the encoder of texts, and hashed n-grams."""

import importlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

from bayesal import errors, networks, posteriors
from bayesal.types import HParams, Labeled

KEY = jax.random.key(0)
SHAPE = (8, 6, 3)


@pytest.fixture(scope="module")
def small():
    network = networks.resnet(SHAPE, 4, widths=(8, 16))
    return network, network.init(KEY, jnp.zeros(SHAPE)), jax.jit(network.apply)


@pytest.mark.slow
def test_a_resnet_is_pure_functions_of_one_image(small):
    _, params, apply = small
    image = jax.random.normal(KEY, SHAPE)
    quiet = apply(params, image, None, 0.5)
    assert quiet.shape == (4,)
    first, again, other = (apply(params, image, jax.random.key(k), 0.3) for k in (1, 1, 2))
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4
    assert_allclose(apply(params, image, jax.random.key(1), 0.0), quiet, atol=1e-5)
    assert apply._cache_size() == 2  # with a key, and without


def test_the_last_layer_is_linear_in_the_embedding(small):
    network, params, apply = small
    image = jax.random.normal(KEY, SHAPE)
    kernel, bias = (params["last"][name][...] for name in ("kernel", "bias"))
    features = jax.jit(network.embed)(params, image)
    assert features.shape == (16,)
    assert_allclose(apply(params, image, None, 0.5), features @ kernel + bias, atol=1e-5)


@pytest.mark.slow
def test_bytes_are_scaled(small):
    _, params, apply = small
    image = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    assert_allclose(
        apply(params, jnp.asarray(image), None, 0.0),
        apply(params, jnp.asarray(image / 255, jnp.float32), None, 0.0),
        atol=1e-4,
    )


def test_blocks_halve_the_image_and_drop_whole_channels(monkeypatch):
    seen, module = [], importlib.import_module("bayesal.networks._resnet")
    monkeypatch.setattr(
        module, "dropout", lambda x, rngs, rate, shape: seen.append((x.shape, shape)) or x
    )
    net = module.ResNet(3, 4, (8, 16), 2, nnx.Rngs(0))
    jax.eval_shape(lambda: net(jnp.zeros((2, *SHAPE)), nnx.Rngs(1), 0.5))
    assert [shape for shape, _ in seen] == [(2, 8, 6, 8)] * 2 + [(2, 4, 3, 16)] * 2 + [(2, 16)]
    assert [mask for _, mask in seen] == [(2, 1, 1, 8)] * 2 + [(2, 1, 1, 16)] * 2 + [(2, 16)]


def test_resnets_that_cannot_be_are_refused():
    make = oracles.as_users_do(networks.resnet)
    for options, error, argument in (
        ({"widths": (12,)}, errors.WrongSize, "widths"),
        ({"widths": ()}, errors.WrongSize, "widths"),
        ({"blocks": 0}, errors.WrongSize, "blocks"),
        ({"shape": (3, 8, 1)}, errors.WrongShape, "shape"),
        ({"shape": (8, 8)}, errors.WrongShape, "shape"),
    ):
        with pytest.raises(error, match=f"`{argument}`") as caught:
            make(**({"shape": (8, 8, 3), "classes": 3} | options))
        assert caught.value.argument == argument


@pytest.mark.slow
def test_a_resnet_learns_stripes():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 64)
    x = random.normal(size=(64, *SHAPE)).astype(np.float32) * 0.5
    x[y == 0, ::2] += 1.0
    x[y == 1, :, ::2] += 1.0
    posterior = posteriors.mc_dropout(networks.resnet(SHAPE, 2, widths=(8, 16)))
    state, info = jax.jit(posterior.fit)(
        KEY,
        posterior.init(KEY, x[0]),
        Labeled(jnp.asarray(x), jnp.asarray(y, jnp.int32), jnp.int32(64)),
        HParams(steps=60),
    )
    log_probs = jax.vmap(lambda xi: posterior.apply(state, jax.random.key(1), xi))(x)
    assert int(info.failed_at) == -1 and np.mean(np.asarray(log_probs).argmax(-1) == y) > 0.9


# texts

TEXTS = ["A good, GOOD film", "bad film!", "", "?!", "straße naïve"]


def by_hand(text, length, buckets, ngrams):
    """Ids of the n-grams, in order of the word they begin with."""
    words, word = [], ""
    for letter in text.lower() + " ":
        if letter.isalnum() or letter == "_":
            word += letter
        elif word:
            words.append(word)
            word = ""
    ids = []
    for at in range(len(words)):
        for size in sorted(ngrams):
            gram = words[at : at + size]
            if len(gram) == size:
                ids.append(1 + zlib.crc32(" ".join(gram).encode("utf-8")) % (buckets - 1))
    return (ids + [0] * length)[:length]


@pytest.mark.parametrize("ngrams", [(1,), (1, 2), (2, 1), (3,)])
@pytest.mark.parametrize("length", [1, 4, 12])
def test_hashed_is_what_it_says(ngrams, length):
    ids = networks.hashed(TEXTS, length=length, buckets=100, ngrams=ngrams)
    assert ids.dtype == np.int32 and ids.tolist() == [
        by_hand(text, length, 100, ngrams) for text in TEXTS
    ]
    assert ids.min() >= 0 and ids.max() < 100
    assert_array_equal(
        ids,
        networks.hashed(np.array(TEXTS, dtype=object), length=length, buckets=100, ngrams=ngrams),
    )


def test_hashes_are_fixed_for_all_time():
    assert networks.hashed(["good"], length=1, buckets=8192).tolist() == [
        [1 + 0x6C844E92 % 8191]
    ]  # CRC-32 of b"good"
    assert networks.hashed([], length=3).shape == (0, 3)


def test_texts_that_are_none_are_refused():
    make = oracles.as_users_do(networks.hashed)
    for texts, rows in (
        ("one string", []),
        (b"bytes", []),
        (["a", 3, None], [1, 2]),
        (["a", b"b"], [1]),
    ):
        with pytest.raises(errors.WrongType, match="`texts`") as caught:
            make(texts)
        assert caught.value.argument == "texts"
        assert all(str(row) in str(caught.value) for row in rows)
    for options in ({"length": 0}, {"buckets": 1}, {"ngrams": (0,)}):
        with pytest.raises(errors.WrongSize, match=f"`{next(iter(options))}`"):
            make(["a"], **options)


@pytest.fixture(scope="module")
def encoder():
    network = networks.text(50, 3, width=8, hidden=(16,))
    return network, network.init(KEY, jnp.zeros(4, jnp.int32)), jax.jit(network.apply)


def test_padding_and_order_change_nothing(encoder):
    network, params, apply = encoder
    ids = jnp.array([5, 9, 7, 0, 0])
    whole = apply(params, ids, None, 0.0)
    assert whole.shape == (3,) and network.embed(params, ids).shape == (16,)
    for same in (jnp.array([7, 0, 5, 9, 0]), jnp.array([9, 5, 7])):
        assert_allclose(apply(params, same, None, 0.0), whole, atol=1e-5)
    assert np.abs(apply(params, jnp.array([5, 9, 8, 0, 0]), None, 0.0) - whole).max() > 1e-4
    assert np.isfinite(apply(params, jnp.zeros(5, jnp.int32), None, 0.0)).all()
    assert (
        np.abs(
            apply(params, ids, jax.random.key(1), 0.5) - apply(params, ids, jax.random.key(2), 0.5)
        ).max()
        > 1e-4
    )
    gradient = jax.grad(lambda p: network.apply(p, jnp.zeros(5, jnp.int32), None, 0.0).sum())(
        params
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not np.asarray(
        gradient["tokens"]["embedding"][...]
    ).any()  # a text without tokens teaches no token


@pytest.mark.slow
def test_it_learns_texts():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 60)
    fill = ["the", "film", "was", "a", "long", "story"]
    texts = [
        " ".join(
            [
                *random.permutation(fill)[:4],
                ["awful", "great"][label],
                *random.permutation(fill)[:3],
            ]
        )
        for label in y
    ]
    x = networks.hashed(texts, length=24, buckets=200)
    posterior = posteriors.mc_dropout(networks.text(200, 2, width=8, hidden=()))
    data = Labeled(jnp.asarray(x[:40]), jnp.asarray(y[:40], jnp.int32), jnp.int32(40))
    state, _ = jax.jit(posterior.fit)(
        KEY, posterior.init(KEY, x[0]), data, HParams(steps=150, learning_rate=3e-2)
    )
    log_probs = jax.vmap(lambda xi: posterior.apply(state, jax.random.key(1), xi))(x[40:])
    assert np.mean(np.asarray(log_probs).argmax(-1) == y[40:]) > 0.9
