import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors
from bayesal.scores import multilabel

pytestmark = pytest.mark.usefixtures("strict")

K, N, L = 5, 8, 3
as_users_do = oracles.as_users_do
NAMES = ("entropy", "expected_entropy", "bald")
each_score = pytest.mark.parametrize("name", NAMES)


def planted(seed, draws=K):
    """Random log-odds, with draws that agree, certain labels, opposite certain labels, duplicates
    and infinities.
    """
    z = np.random.default_rng(seed).normal(size=(draws, N, L)) * 3
    z[:, 0] = z[:1, 0]
    z[:, 1] = 300.0
    z[:, 2] = np.where(np.arange(draws) % 2, 300.0, -300.0)[:, None]
    z[:, 3] = np.array([np.inf, -np.inf, 0.0])
    z[:, 5] = z[:, 4]
    return z.astype(np.float32)


def by_hand(name, z):
    """One score per label from float64 probabilities `[K][2]`."""
    on, off = (np.exp(-np.logaddexp(0.0, sign * z.astype(np.float64))) for sign in (-1, 1))
    return [
        oracles.SCORES[name](np.stack([on[:, label], off[:, label]], -1).tolist())
        for label in range(z.shape[1])
    ]


@each_score
@given(st.integers(0, 2**31), st.sampled_from([1, K]))
def test_against_the_oracle_at_the_edges_and_within_bounds(name, seed, draws):  # TRAPS 1, 3, 29
    z = planted(seed, draws)
    want = np.array([by_hand(name, z[:, i]) for i in range(N)])
    score = getattr(multilabel, name)
    for how in ("sum", "mean", "max"):
        got = np.asarray(score(z, how=how))
        np.testing.assert_allclose(got, getattr(np, how)(want, axis=1), atol=3e-6)
        most = math.log(min(draws, 2)) if name == "bald" else math.log(2)
        assert got.min() >= 0 and got.max() <= most * (L if how == "sum" else 1) + 3e-6
        assert got[4] == got[5]
    np.testing.assert_allclose(score(-z), score(z), atol=3e-6)  # on and off are alike


def test_information_that_stays_small_keeps_its_digits():  # TRAPS 3
    z = 5.0 + np.random.default_rng(0).normal(size=(K, 1, 1)) * 1e-2
    z = z.astype(np.float32)
    want = by_hand("bald", z[:, 0])[0]
    assert 1e-9 < want < 1e-6
    np.testing.assert_allclose(multilabel.bald(z), [want], rtol=1e-2)


def test_masked_labels_any_axes_no_points_and_bfloat16():  # TRAPS 5, 15, 21
    z, score = planted(1), multilabel.bald
    mask = np.random.default_rng(2).random((N, L)) < 0.6
    mask[1] = False
    got = np.asarray(score(z, mask))
    want = np.where(mask, [by_hand("bald", z[:, i]) for i in range(N)], 0).sum(-1)
    np.testing.assert_allclose(got, np.where(mask.any(-1), want, -np.inf), atol=3e-6)
    np.testing.assert_allclose(score(z.reshape(K, 2, 4, L)).reshape(-1), score(z), atol=1e-6)
    assert score(z[:, :0]).shape == (0,)
    stored = score(jnp.asarray(z).astype(jnp.bfloat16))
    assert stored.dtype == jnp.float32
    np.testing.assert_allclose(stored, score(z), atol=0.05)


def test_gradients_are_finite_at_certain_labels():  # TRAPS 2
    z = planted(3)[:, :3]
    assert np.all(
        np.isfinite(
            jax.jit(jax.grad(lambda z: (multilabel.entropy(z) + multilabel.bald(z)).sum()))(z)
        )
    )


GOOD = np.zeros((K, N, L), np.float32)


@each_score
@pytest.mark.parametrize(
    ("error", "argument", "log_odds", "options"),
    [
        (
            errors.NonFinite,
            "log_odds",
            np.where(np.arange(N)[:, None] == 7, np.float32(np.nan), GOOD),
            {},
        ),
        (errors.WrongShape, "log_odds", GOOD.astype(int), {}),
        (errors.WrongShape, "log_odds", GOOD.tolist(), {}),
        (errors.WrongShape, "log_odds", GOOD[0, 0], {}),
        (errors.WrongShape, "log_odds", GOOD[..., :0], {}),
        (errors.WrongSize, "log_odds", GOOD[:0], {}),
        (errors.UnknownName, "how", GOOD, {"how": "median"}),
        (errors.WrongShape, "mask", GOOD, {"mask": np.ones(N, bool)}),
    ],
)
def test_anything_else_is_refused_by_name(name, error, argument, log_odds, options):
    with pytest.raises(error) as caught:
        as_users_do(getattr(multilabel, name))(log_odds, **options)
    assert caught.value.argument == argument and f"`{argument}`" in str(caught.value)
    if error is errors.NonFinite:
        assert caught.value.rows.tolist() == [7]
