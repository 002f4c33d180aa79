"""Random numbers that compile quickly are those of `jax.random`, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import _random

KEYS = [jax.random.key(seed, impl=impl) for seed in (0, 7) for impl in ("threefry2x32", "rbg")]


@given(seed=st.integers(0, 2**31 - 1), data=st.integers(0, 2**31 - 1))
def test_folding_in_is_that_of_jax(seed, data):
    key = jax.random.key(seed)
    ours, theirs = _random.fold_in(key, data), jax.random.fold_in(key, data)
    assert (jax.random.key_data(ours) == jax.random.key_data(theirs)).all()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3, 7), (0,)])
def test_numbers_are_those_of_jax(key, shape):
    for one in (key, _random.fold_in(key, 3)):
        ours = jax.jit(_random.uniform, static_argnames="shape")(one, shape)
        np.testing.assert_array_equal(ours, jax.random.uniform(one, shape))
        assert ours.dtype == jnp.float32


def test_numbers_of_the_older_numbering_are_those_of_jax():
    with jax.threefry_partitionable(False):
        key = jax.random.key(1)
        np.testing.assert_array_equal(_random.uniform(key, (9,)), jax.random.uniform(key, (9,)))


def test_a_step_may_be_traced():
    key = jax.random.key(2)
    ours = jax.jit(lambda step: _random.uniform(_random.fold_in(key, step), (4,)))(jnp.int32(5))
    np.testing.assert_array_equal(ours, jax.random.uniform(jax.random.fold_in(key, 5), (4,)))
