import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesal import _chunks

pytestmark = pytest.mark.usefixtures("strict")

POOL = jnp.asarray(np.random.default_rng(0).normal(size=(100, 5)), jnp.float32)


def two_facts(rows):
    return {"sum": jnp.tanh(rows).sum(axis=1), "twice": jnp.stack([rows, -rows], axis=1)}


@pytest.mark.parametrize("chunk", [1, 7, 64, 99, 100, 1000])
def test_chunks_change_no_bit(chunk):  # TRAPS 10
    whole = jax.jit(two_facts)(POOL)
    parts = jax.jit(lambda x: _chunks.over_rows(two_facts, x, chunk))(POOL)
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize(("chunk", "seen"), [(1, 1), (7, 7), (64, 64), (100, 100), (1000, 100)])
def test_the_function_only_ever_sees_one_chunk(chunk, seen):
    shapes = set()

    def spy(rows):
        shapes.add(rows.shape)
        return rows

    assert np.array_equal(_chunks.over_rows(spy, POOL, chunk), POOL)
    assert shapes == {(seen, 5)}


def test_peak_memory_is_that_of_one_chunk():
    def hungry(rows):  # 4 kB a row
        return jnp.sort(rows[:, :1] * jnp.arange(1000.0)[None], axis=1)[:, 7]

    pool = jax.ShapeDtypeStruct((20_000, 5), jnp.float32)
    used = [
        jax.jit(lambda x, c=c: _chunks.over_rows(hungry, x, c))
        .lower(pool)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for c in (100, 20_000)
    ]
    assert used[0] < 100 * 1000 * 4 * 4 + 20_000 * 4 * 4 < used[1]


@pytest.mark.parametrize("chunk", [1, 64])
def test_an_empty_pool_gives_empty_results(chunk):
    assert _chunks.over_rows(two_facts, POOL[:0], chunk)["twice"].shape == (0, 2, 5)


def test_rows_of_several_entries():
    three = lambda part: part.reshape(2, -1, 3).sum(axis=(0, 2))
    flat = POOL[:, :3].reshape(2, -1)  # two draws, fifty rows of three
    for chunk in (1, 7, 50):
        np.testing.assert_allclose(
            _chunks.over_rows(three, flat, chunk, axis=1, width=3), three(flat), rtol=1e-6
        )


@pytest.mark.parametrize("first", [0.3, 0.0, 1.0, 5.0, -5.0, np.nan, np.inf, -np.inf])
def test_what_is_compiled_apart_is_what_it_is(first):
    x = POOL.at[0, 0].set(first)
    twice = jax.jit(lambda x: _chunks.apart(lambda x: {"twice": x * 2.0}, x))
    assert np.array_equal(twice(x)["twice"], x * 2.0, equal_nan=True)


def test_what_is_compiled_apart_has_slopes_and_copies():
    apart = lambda x: _chunks.apart(lambda x: (x**3).sum(), x)
    np.testing.assert_allclose(jax.grad(apart)(POOL), 3.0 * POOL**2, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(apart)(POOL), (POOL**3).sum(axis=1), rtol=1e-5)
    assert _chunks.apart(lambda x: x.sum(axis=0), jnp.zeros((3, 0))).shape == (0,)


def test_a_cache_holds_some_row_of_any_size():
    assert (
        _chunks.in_cache(1000) == _chunks.IN_CACHE // 1000
        and _chunks.in_cache(10**9) == 1
        and _chunks.in_cache(0) == _chunks.IN_CACHE
    )


def test_over_draws_and_over_fits_map_the_leading_axis():
    draws = {"a": POOL, "b": POOL[:, 0]}
    one = lambda draw: draw["a"] * draw["b"]
    want = POOL * POOL[:, :1]
    assert np.array_equal(_chunks.over_draws(one, draws), want)
    assert np.array_equal(_chunks.over_fits(one, draws), want)
    assert _chunks.on_cpu() == (jax.default_backend() == "cpu")


def test_fits_that_call_lapack_run_one_after_another_on_cpu():
    program = lambda fit: str(
        jax.make_jaxpr(lambda a: _chunks.over_fits(fit, a))(jnp.zeros((3, 2, 2)))
    )
    assert "scan" in program(lambda a: jnp.linalg.cholesky(a + jnp.eye(2))) and "scan" in program(
        lambda a: jnp.linalg.qr(a)[1]
    )
    assert "scan" not in program(lambda a: a @ a)
