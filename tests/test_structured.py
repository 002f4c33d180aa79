import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayesal
from bayesal import acquire, errors, scores

pytestmark = pytest.mark.usefixtures("strict")

as_users_do = oracles.as_users_do
HOW = ("mean", "sum", "max", "top")


def by_hand(values, mask, how, top):
    kept = sorted((float(v) for v, m in zip(values, mask, strict=True) if m), reverse=True)
    if not kept:
        return -math.inf
    kept = {"max": kept[:1], "top": kept[:top]}.get(how, kept)
    return sum(kept) if how == "sum" else sum(kept) / len(kept)


@pytest.mark.parametrize("how", HOW)
@given(st.integers(0, 2**31))
def test_reduce_against_a_sort_and_masked_parts_change_nothing(how, seed):  # TRAPS 21
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(7, 2, 3)).astype(np.float32)
    mask = rng.random((7, 2, 3)) < 0.5
    mask[0], mask[1], values[2, 0, 0], mask[2, 0, 0] = False, True, -np.inf, True
    want = [by_hand(v.ravel(), m.ravel(), how, 2) for v, m in zip(values, mask, strict=True)]
    clean = scores.reduce(np.where(mask, values, np.float32(0)), mask, how=how, axes=2, top=2)
    np.testing.assert_allclose(clean, want, rtol=1e-5, atol=1e-6)
    for garbage in (np.nan, -np.nan, np.inf, -np.inf, 1e30):
        assert np.array_equal(
            scores.reduce(
                np.where(mask, values, np.float32(garbage)), mask, how=how, axes=2, top=2
            ),
            clean,
        )
    order = rng.permutation(6)
    again = scores.reduce(*(a.reshape(7, 6)[:, order] for a in (values, mask)), how=how, top=2)
    np.testing.assert_allclose(again, clean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", HOW)
def test_nothing_to_reduce_and_no_pool(how):
    assert np.array_equal(scores.reduce(np.zeros((3, 0), np.float32), how=how), np.full(3, -np.inf))
    assert scores.reduce(np.zeros((0, 2), np.float32), how=how).shape == (0,)
    assert scores.reduce(np.ones(3, np.float32), how=how) == (3 if how == "sum" else 1)


@pytest.mark.parametrize("how", HOW)
def test_a_nan_that_counts_is_refused_and_under_jit_shown(how):  # TRAPS 4
    for nan in (np.nan, -np.nan):
        values = np.array([[1.0, nan], [1.0, 2.0]], np.float32)
        with pytest.raises(errors.NonFinite, match="mask") as caught:
            scores.reduce(values, how=how)
        assert caught.value.argument == "values" and caught.value.rows.tolist() == [0]
        got = jax.jit(lambda v: scores.reduce(v, how=how))(values)
        assert np.isnan(got[0]) and np.isfinite(got[1])


def test_gradients_of_masked_parts_are_zero():  # TRAPS 2
    values, mask = (
        jnp.array([[1.0, jnp.nan], [jnp.nan, jnp.nan]]),
        jnp.array([[True, False], [False, False]]),
    )
    for how in ("mean", "max"):
        slope = jax.grad(
            lambda v, how=how: jnp.sum(
                jnp.where(mask.any(-1), scores.reduce(v, mask, how=how), 0.0)
            )
        )(values)
        assert slope.tolist() == [[1.0, 0.0], [0.0, 0.0]]


# structured


def test_structured_scores_every_part_by_itself():
    log_p, p = oracles.random_log_probs(0, (5, 4, 2, 3, 3))
    mask = np.random.default_rng(0).random((4, 2, 3)) < 0.6
    mask[1] = False
    log_p[:, ~mask] = np.nan
    got = scores.structured(scores.bald, how="mean", axes=2)(log_p, mask)
    for i in range(4):
        parts = [
            oracles.bald(p[:, i, a, b].tolist())
            for a in range(2)
            for b in range(3)
            if mask[i, a, b]
        ]
        want = sum(parts) / len(parts) if parts else -math.inf
        assert float(got[i]) == pytest.approx(want, abs=2e-6)


def test_structured_takes_scores_of_one_axis_and_joins_a_strategy():
    log_p, _ = oracles.random_log_probs(1, (5, 6, 4, 3))
    plain = lambda x: scores.bald(x) + 0 * x[0, :, 0]  # [K, n, C] only
    assert np.array_equal(
        scores.structured(plain, how="max")(log_p), scores.structured(scores.bald, how="max")(log_p)
    )
    strategy = acquire.top(scores.structured(scores.bald, how="sum"))
    predict = lambda rows: jnp.moveaxis(rows, 0, 1)
    picked = bayesal.choose(0, predict, np.moveaxis(log_p, 1, 0), 2, strategy)
    want = np.argsort(-np.asarray(scores.bald(log_p)).sum(-1))[:2]
    assert picked.indices.tolist() == want.tolist()


VALUES, LOG_P = np.ones((2, 3), np.float32), oracles.random_log_probs(2, (2, 3, 4, 3))[0]


@pytest.mark.parametrize(
    ("error", "argument", "call"),
    [
        (errors.UnknownName, "how", lambda: scores.reduce(VALUES, how="median")),
        (errors.UnknownName, "how", lambda: scores.structured(scores.bald, how="median")),
        (errors.WrongSize, "axes", lambda: scores.reduce(VALUES, axes=0)),
        (errors.WrongSize, "top", lambda: scores.reduce(VALUES, how="top", top=0)),
        (errors.WrongShape, "values", lambda: scores.reduce(VALUES, axes=3)),
        (errors.WrongShape, "values", lambda: scores.reduce(VALUES.astype(int))),
        (errors.WrongShape, "values", lambda: scores.reduce([[1.0]])),
        (errors.WrongShape, "mask", lambda: scores.reduce(VALUES, VALUES[0] > 0)),
        (errors.WrongShape, "mask", lambda: scores.reduce(VALUES, VALUES)),
        (errors.WrongShape, "mask", lambda: scores.structured(scores.bald)(LOG_P, VALUES > 0)),
        (errors.WrongShape, "log_probs", lambda: scores.structured(scores.bald, axes=3)(LOG_P)),
        (errors.WrongShape, "log_probs", lambda: scores.structured(scores.bald)(LOG_P.tolist())),
        (
            errors.NotLogProbabilities,
            "log_probs",
            lambda: scores.structured(scores.bald)(np.exp(LOG_P)),
        ),
        (
            errors.NotLogProbabilities,
            "log_probs",
            lambda: scores.structured(scores.bald)(LOG_P.astype(np.int32), LOG_P[0, ..., 0] < 9),
        ),
    ],
)
def test_anything_else_is_refused_by_name(error, argument, call):
    with pytest.raises(error) as caught:
        as_users_do(call)()
    assert caught.value.argument == argument and f"`{argument}`" in str(caught.value)
