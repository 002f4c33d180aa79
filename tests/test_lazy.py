"""Searches that look only at candidates which could still be the best."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal.select import _lazy


def searched(gains, bound, slack, block, loop, size=1):
    """Values and how many rows were looked at, in pages of three blocks."""
    given = jnp.asarray(gains)
    values, looked = _lazy.best_first(
        jnp.asarray(bound),
        jnp.zeros(len(bound), jnp.float32),
        slack,
        block,
        lambda rows: (given[rows], given[rows]),
        size,
        loop,
    )
    return np.asarray(values), int(looked)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch):
    monkeypatch.setattr(_lazy, "PAGE", 21)


@pytest.mark.parametrize("loop", [_lazy.Evidence._field_defaults["loop"], _lazy.on_host])
@pytest.mark.parametrize("rows", [7, 20, 21, 50, 100])
def test_every_value_is_kept_where_nothing_is_left_out(rows, loop):
    random = np.random.default_rng(rows)
    gains, bound = random.random((2, rows)).astype(np.float32)
    bound[random.random(rows) < 0.2] = -np.inf
    values, looked = searched(gains, bound, 1e9, 7, loop)
    np.testing.assert_array_equal(values, np.where(bound > -np.inf, gains, -np.inf))
    assert looked >= (bound > -np.inf).sum()


@given(seed=st.integers(0, 2**16), rows=st.integers(7, 120), size=st.integers(1, 5))
def test_the_best_are_found_and_blocks_are_looked_at_in_the_order_of_bounds(seed, rows, size):
    random = np.random.default_rng(seed)
    bound = random.random(rows).astype(np.float32)
    gains = bound * random.random(rows).astype(np.float32)
    values, _ = searched(gains, bound, 0.0, 7, _lazy.on_host, size)
    best = np.sort(gains)[-size:]
    np.testing.assert_array_equal(np.sort(values)[-size:], best)
    # by hand: blocks of seven, highest bound first, until no bound reaches the best found
    order, ends = np.argsort(-bound, kind="stable"), 0
    found = np.full(size, -np.inf)
    while ends < rows and bound[order[ends]] + 1e-5 >= found.min():
        block = order[ends : ends + 7]
        found = np.sort(np.concatenate([found, gains[block]]))[-size:]
        ends += 7
    seen = np.zeros(rows, bool)
    seen[order[:ends]] = True
    np.testing.assert_array_equal(values > -np.inf, seen)
