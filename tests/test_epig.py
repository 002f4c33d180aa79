"""EPIG against the definition, within its bounds, and in blocks that change nothing."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, scores

module = importlib.import_module("bayesal.scores._epig")  # the package has a function of that name
ceiling = jax.jit(
    lambda log_p, log_q, weights: module.ceiling(log_p, module.spread(log_q, weights))
)


def by_hand(p, q, weights=None):
    """Mutual information of every point's label with every target's, from their joint table;
    float64.
    """
    joint = np.einsum("knc,ktl->ntcl", p, q) / len(p)
    outer = p.mean(0)[:, None, :, None] * q.mean(0)[None, :, None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / outer), 0.0)
    each = terms.sum((2, 3))
    return each.mean(1) if weights is None else each @ (weights / weights.sum())


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.3, 3.0, 30.0]))
def test_against_the_joint_table_and_within_bounds(seed, scale):
    rng = np.random.default_rng(seed)
    log_p = oracles.log_softmax(scale * rng.normal(size=(6, 9, 3))).astype(np.float32)
    log_q = oracles.log_softmax(scale * rng.normal(size=(6, 5, 4))).astype(np.float32)
    weights = rng.random(5).astype(np.float32)
    p, q = (np.exp(a.astype(np.float64)) for a in (log_p, log_q))
    np.testing.assert_allclose(scores.epig(log_p, log_q), by_hand(p, q), rtol=2e-4, atol=2e-6)
    got = np.asarray(scores.epig(log_p, log_q, weights=weights))
    np.testing.assert_allclose(got, by_hand(p, q, weights), rtol=2e-4, atol=2e-6)
    assert got.min() >= 0 and np.all(
        got <= np.asarray(scores.bald(log_p)) + 2e-6
    )  # data processing
    bound = np.asarray(ceiling(log_p, log_q, weights / weights.sum()))
    assert np.all(bound >= by_hand(p, q, weights))
    if scale < 1:
        assert np.all(
            bound <= 2.5 * got + 1e-6
        )  # where little is told, twice of it: a bound that bites


def test_the_bound_holds_where_draws_hardly_differ_and_where_they_are_certain():
    rng = np.random.default_rng(2)
    close = oracles.log_softmax(
        rng.normal(size=(1, 12, 4)) + 1e-3 * rng.normal(size=(30, 12, 4))
    ).astype(np.float32)
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(4, dtype=np.float32))[rng.integers(0, 4, (30, 12))]
    for log_p, log_q in ((close, close), (certain, certain), (close, certain)):
        p, q = (np.exp(a.astype(np.float64)) for a in (log_p, log_q))
        p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
        assert np.all(
            np.asarray(ceiling(log_p, log_q, jnp.full(12, 1 / 12))) >= by_hand(p, q) - 1e-9
        )


@given(seed=st.integers(0, 2**31))
def test_the_order_of_draws_targets_and_points_does_not_matter(seed):
    log_p, log_q = (oracles.random_log_probs(seed + i, (6, 9, 3))[0] for i in range(2))
    rng = np.random.default_rng(seed)
    whole, draws, points = (
        np.asarray(scores.epig(log_p, log_q)),
        rng.permutation(6),
        rng.permutation(9),
    )
    np.testing.assert_allclose(scores.epig(log_p[draws], log_q[draws]), whole, atol=1e-6)
    np.testing.assert_allclose(scores.epig(log_p, log_q[:, points]), whole, atol=1e-6)
    np.testing.assert_allclose(scores.epig(log_p[:, points], log_q), whole[points], atol=1e-6)


def test_at_the_extremes():
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(3, dtype=np.float32))[np.array([0, 1, 2, 0])][
            :, None
        ]  # four draws, each sure of a class
    itself = 1.5 * math.log(
        2
    )  # entropy of (1/2, 1/4, 1/4): a target that is the point itself tells all of BALD
    assert float(scores.epig(certain, certain)[0]) == pytest.approx(itself, abs=1e-5)
    agreed = np.repeat(certain[:1], 4, axis=0)
    assert (
        max(float(scores.epig(agreed, certain)[0]), float(scores.epig(certain, agreed)[0])) < 1e-30
    )
    assert float(scores.epig(certain[:1], certain[:1])[0]) == 0.0  # one draw
    huge = oracles.log_softmax(300.0 * np.random.default_rng(0).normal(size=(4, 3, 3))).astype(
        np.float32
    )
    assert np.isfinite(np.asarray(scores.epig(huge, huge))).all()
    assert scores.epig(certain[:, :0], certain).shape == (0,)


def test_small_information_keeps_its_digits():
    rng = np.random.default_rng(1)
    base = rng.normal(size=(1, 20, 5))
    log_p = oracles.log_softmax(base + 1e-2 * rng.normal(size=(30, 20, 5))).astype(np.float32)
    p = np.exp(log_p.astype(np.float64))
    want = by_hand(p / p.sum(-1, keepdims=True), p / p.sum(-1, keepdims=True))
    assert want.max() < 1e-5
    np.testing.assert_allclose(scores.epig(log_p, log_p), want, rtol=2e-2)


def test_blocks_change_nothing_and_bound_the_memory(monkeypatch):  # TRAPS 33
    log_p, log_q = (oracles.random_log_probs(i, (5, 11, 3))[0] for i in range(2))
    whole = np.asarray(scores.epig(log_p, log_q))
    monkeypatch.setattr(module, "TABLE", 40)
    np.testing.assert_allclose(
        jax.jit(module.unchecked.__wrapped__)(log_p, log_q, jnp.full(11, 1 / 11)), whole, atol=1e-6
    )
    monkeypatch.undo()
    program = module.unchecked.lower(
        jnp.zeros((20, 4000, 10)), jnp.zeros((20, 300, 10)), jnp.ones(300)
    ).compile()
    assert program.memory_analysis().temp_size_in_bytes < 2**27  # the joint table would take 5 GB


def test_regions_and_priors_weigh_targets():
    log_p, log_q = (oracles.random_log_probs(i, (5, 6, 3))[0] for i in range(2))
    region = np.array([1, 1, 0, 0, 0, 0], np.float32)
    np.testing.assert_allclose(
        scores.epig(log_p, log_q, weights=region), scores.epig(log_p, log_q[:, :2]), atol=1e-6
    )
    weights = np.asarray(scores.target_weights(log_q, np.array([0.0, 0.0, 1.0], np.float32)))
    mean = np.exp(log_q).mean(0)
    np.testing.assert_allclose(weights, mean[:, 2] / mean[:, 2].sum(), rtol=1e-5)


BAD = {
    "other draws": (errors.WrongShape, "target_log_probs", lambda p, q: ((p, q[:3]), {})),
    "no targets": (errors.WrongSize, "target_log_probs", lambda p, q: ((p, q[:, :0]), {})),
    "probabilities": (
        errors.NotLogProbabilities,
        "target_log_probs",
        lambda p, q: ((p, np.exp(q)), {}),
    ),
    "negative weight": (
        errors.OutOfRange,
        "weights",
        lambda p, q: ((p, q), {"weights": np.array([1, 1, 1, 1, 1, -1.0])}),
    ),
    "no weight": (errors.OutOfRange, "weights", lambda p, q: ((p, q), {"weights": np.zeros(6)})),
    "nan weight": (
        errors.NonFinite,
        "weights",
        lambda p, q: ((p, q), {"weights": np.full(6, np.nan)}),
    ),
    "weights of another length": (
        errors.WrongShape,
        "weights",
        lambda p, q: ((p, q), {"weights": np.ones(5)}),
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):
    error, argument, spoil = BAD[bad]
    args, options = spoil(*(oracles.random_log_probs(i, (5, 6, 3))[0] for i in range(2)))
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(scores.epig)(*args, **options)
    assert caught.value.argument == argument
