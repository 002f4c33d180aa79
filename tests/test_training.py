"""The optimizer loop: which rows it touches, and how often."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesal import training
from bayesal.types import HParams, Labeled


def visits(count, capacity, steps, batch, seed=0):
    """How often each row is used: the gradient of row i is felt by parameter i alone."""
    x = jnp.arange(capacity, dtype=jnp.float32)[:, None]
    data = Labeled(x, jnp.zeros(capacity, jnp.int32), jnp.int32(count))
    seen = []

    def loss(params, key, x, y, count):
        del key, y
        jax.debug.callback(lambda rows, n: seen.append((np.asarray(rows).astype(int), int(n))), x[:, 0], count)
        return jnp.sum(params * 0.0)

    params, info = training.sgd(jax.random.key(seed), jnp.ones(2), loss, data, HParams(steps=steps), batch=batch)
    jax.effects_barrier()
    assert int(info.failed_at) == -1
    return seen, params


@pytest.mark.parametrize(("count", "capacity", "batch"), [(10, 10, 4), (10, 40, 4), (3, 12, 8), (1, 5, 4), (16, 16, 16)])
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
    first, second, again = (np.concatenate([r for r, _ in visits(20, 20, 3, 4, seed)[0]]).tolist() for seed in (0, 1, 0))
    assert first == again != second


def test_the_step_before_the_first_bad_one_is_kept():
    data = Labeled(jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32), jnp.int32(4))
    # the loss is NaN as soon as the parameter has fallen below 1 - 3 steps of Adam
    loss = lambda params, key, x, y, count: jnp.where(params < 0.75, jnp.nan, params)
    hparams = HParams(learning_rate=0.1, weight_decay=0.0, steps=20)
    params, info = training.sgd(jax.random.key(0), jnp.float32(1.0), loss, data, hparams)
    assert int(info.failed_at) == 3
    assert np.isfinite(params) and np.isnan(info.loss)


def test_the_rate_follows_a_cosine_to_zero():
    data = Labeled(jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32), jnp.int32(4))
    loss = lambda params, key, x, y, count: params  # Adam's step is then exactly the rate
    params, _ = training.sgd(jax.random.key(0), jnp.float32(0.0), loss, data, HParams(learning_rate=0.1, weight_decay=0.0, steps=10))
    rates = 0.1 * 0.5 * (1 + np.cos(np.pi * np.arange(10) / 10))
    assert float(params) == pytest.approx(-rates.sum(), rel=1e-4)


def test_decay_is_decoupled():
    data = Labeled(jnp.zeros((4, 1)), jnp.zeros(4, jnp.int32), jnp.int32(4))
    loss = lambda params, key, x, y, count: 0.0 * params  # no gradient: only the decay moves it
    params, _ = training.sgd(jax.random.key(0), jnp.float32(2.0), loss, data, HParams(learning_rate=0.1, weight_decay=0.5, steps=1))
    assert float(params) == pytest.approx(2.0 * (1 - 0.1 * 0.5))
