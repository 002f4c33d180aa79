"""The optimizer loop: which rows it touches, and how often."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesal import _training, likelihoods, networks
from bayesal.types import HParams, Labeled


def visits(count, capacity, steps, batch, seed=0):
    """How often each row is used: the gradient of row i is felt by parameter i alone."""
    x = jnp.arange(capacity, dtype=jnp.float32)[:, None]
    data = Labeled(x, jnp.zeros(capacity, jnp.int32), jnp.int32(count))
    seen = []

    def loss(params, key, batch):
        del key
        note = lambda rows, total: seen.append((np.asarray(rows).astype(int), float(total)))
        jax.debug.callback(note, batch.x[:, 0], batch.total)
        return jnp.sum(params * 0.0)

    params, info = _training.sgd(
        jax.random.key(seed), jnp.ones(2), loss, data, HParams(steps=steps), batch_size=batch
    )
    jax.effects_barrier()
    assert int(info.failed_at) == -1
    return seen, params


@pytest.mark.parametrize(
    ("count", "capacity", "batch"), [(10, 10, 4), (10, 40, 4), (3, 12, 8), (1, 5, 4), (16, 16, 16)]
)
def test_only_labeled_rows_and_each_equally_often(count, capacity, batch):
    steps = 10
    seen, _ = visits(count, capacity, steps, batch)
    assert len(seen) == steps
    rows = np.concatenate([r for r, _ in seen])
    assert rows.max() < count
    assert {n for _, n in seen} == {count}
    often = np.bincount(rows, minlength=count)
    assert often.max() - often.min() <= 1


def test_another_key_is_another_order():
    first, second, again = (
        np.concatenate([r for r, _ in visits(20, 20, 3, 4, seed)[0]]).tolist() for seed in (0, 1, 0)
    )
    assert first == again != second


def test_the_step_before_the_first_bad_one_is_kept():
    data = Labeled(jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32), jnp.int32(4))
    # the loss is NaN as soon as the parameter has fallen below 1 - 3 steps of Adam
    loss = lambda params, key, batch: jnp.where(params < 0.75, jnp.nan, params)
    hparams = HParams(learning_rate=0.1, weight_decay=0.0, steps=20, warmup=0.0)
    params, info = _training.sgd(jax.random.key(0), jnp.float32(1.0), loss, data, hparams)
    assert int(info.failed_at) == 3
    assert np.isfinite(params) and np.isnan(info.loss)


def test_the_rate_follows_a_cosine_to_zero():
    data = Labeled(jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32), jnp.int32(4))
    loss = lambda params, key, batch: params  # Adam's step is then exactly the rate
    params, _ = _training.sgd(
        jax.random.key(0),
        jnp.float32(0.0),
        loss,
        data,
        HParams(learning_rate=0.1, weight_decay=0.0, steps=10, warmup=0.0),
    )
    rates = 0.1 * 0.5 * (1 + np.cos(np.pi * np.arange(10) / 10))
    assert float(params) == pytest.approx(-rates.sum(), rel=1e-4)


def rate_by_hand(i, peak, steps, warmup, final):
    rising = warmup * steps
    if i < rising:
        return peak * i / rising
    return peak * (
        final + (1 - final) * (1 + math.cos(math.pi * (i - rising) / (steps - rising))) / 2
    )


def test_the_rate_rises_and_falls_as_by_hand():
    at = jax.jit(lambda hparams: _training.cosine(hparams)(jnp.arange(100)))
    for steps, warmup, final in itertools.product(
        (1, 7, 100), (0.0, 0.003, 0.25, 0.99), (0.0, 0.1, 1.0)
    ):
        rates = np.asarray(at(HParams(0.2, steps=steps, warmup=warmup, final_rate=final)))[:steps]
        by_hand = [rate_by_hand(i, 0.2, steps, warmup, final) for i in range(steps)]
        np.testing.assert_allclose(
            rates, by_hand, rtol=1e-5, atol=1e-7, err_msg=f"{steps} {warmup} {final}"
        )
        assert rates.max() <= np.float32(0.2)


def test_without_warmup_and_end_the_rate_is_the_plain_cosine_in_every_bit():
    @jax.jit
    def both(i, hparams):
        plain = (
            hparams.learning_rate
            * 0.5
            * (1.0 + jnp.cos(jnp.pi * i / jnp.maximum(hparams.steps, 1)))
        )
        return _training.cosine(hparams)(i), plain

    for steps in (0, 1, 17, 300):
        rates, plain = both(jnp.arange(steps + 1), HParams(3e-3, steps=steps, warmup=0.0))
        assert np.array_equal(rates, plain)


def test_no_fall_is_a_constant_rate():
    rate = _training.cosine(HParams(0.25, steps=40, warmup=0.0, final_rate=1.0))
    assert {float(rate(i)) for i in range(40)} == {0.25}


NET = networks.from_functions(
    lambda key, x: jnp.eye(3), lambda w, x, key: x @ w
)  # the inputs are the logits
LOGITS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 4


def smoothed_by_hand(logits, label, share):
    total = math.log(sum(math.exp(v) for v in logits))
    masses = [share / len(logits) + (1 - share) * (c == label) for c in range(len(logits))]
    return sum(mass * (total - v) for mass, v in zip(masses, logits, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_smoothed_labels_against_enumeration(share):
    y = jnp.array([0, 2, 1, 1, 0])
    batch = _training.Minibatch(LOGITS, y, jnp.ones(5), jnp.float32(5))
    loss = _training.nll(NET, 0.0, smoothing=jnp.float32(share))(
        jnp.eye(3), jax.random.key(0), batch
    )
    by_hand = np.mean(
        [
            smoothed_by_hand(row, int(label), share)
            for row, label in zip(LOGITS.astype(float).tolist(), y, strict=True)
        ]
    )
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_the_smoothed_loss_is_least_at_the_smoothed_label():
    share, label = 0.3, 1
    target = jnp.full(3, share / 3).at[label].add(1 - share)
    slope = jax.grad(
        lambda outputs: _training.smoothed(
            likelihoods.CATEGORICAL, outputs, jnp.int32(label), share
        )
    )
    np.testing.assert_allclose(slope(jnp.log(target)), 0.0, atol=1e-7)
    assert np.abs(slope(jnp.log(target) + jnp.arange(3.0))).min() > 1e-2


def test_without_smoothing_loss_and_slope_are_the_plain_ones_in_every_bit():
    outputs = [*LOGITS, np.array([1.0, -np.inf, 2.0], np.float32)]  # an impossible class
    plain = jax.jit(
        jax.value_and_grad(lambda o: likelihoods.loss(likelihoods.CATEGORICAL, o, jnp.int32(2)))
    )
    zero = jax.jit(
        jax.value_and_grad(
            lambda o, share: _training.smoothed(likelihoods.CATEGORICAL, o, jnp.int32(2), share)
        )
    )
    for o in outputs:
        for a, b in zip(plain(o), zero(o, jnp.float32(0.0)), strict=True):
            assert np.array_equal(a, b) and np.isfinite(a).all()


def test_real_labels_are_not_smoothed():
    normal, outputs, y = likelihoods.gaussian(), jnp.array([0.3, 0.1]), jnp.float32(2.0)
    assert float(_training.smoothed(normal, outputs, y, jnp.float32(0.5))) == float(
        likelihoods.loss(normal, outputs, y)
    )


@pytest.mark.parametrize("weight", [None, [1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 1.5, 0.5]])
def test_decay_is_decoupled_and_shared_by_all_labels(weight):
    weight = None if weight is None else jnp.array(weight)
    data = Labeled(jnp.zeros((6, 1)), jnp.zeros(6, jnp.int32), jnp.int32(4))
    padded = None if weight is None else jnp.concatenate([weight, jnp.ones(2)])
    loss = lambda params, key, batch: 0.0 * params  # no gradient: only the decay moves it
    hparams = HParams(learning_rate=0.1, weight_decay=8.0, steps=3, warmup=0.0, final_rate=1.0)
    params, _ = _training.sgd(
        jax.random.key(0), jnp.float32(2.0), loss, data._replace(weight=padded), hparams
    )
    assert float(params) == pytest.approx(2.0 / (1 + 0.1 * 8.0 / 4) ** 3)


@pytest.mark.parametrize("decay", [1e3, 1e30])
def test_a_decay_of_any_strength_never_overshoots_zero(decay):
    data = Labeled(jnp.zeros((1, 1)), jnp.zeros(1, jnp.int32), jnp.int32(1))
    loss = lambda params, key, batch: 0.0 * params
    hparams = HParams(learning_rate=0.1, weight_decay=decay, steps=5)
    params, info = _training.sgd(jax.random.key(0), jnp.float32(2.0), loss, data, hparams)
    assert 0.0 <= float(params) < 0.02 and int(info.failed_at) == -1
