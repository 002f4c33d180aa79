"""Batch EPIG against the joint tables of picks and targets."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import checks, scores, select

K, N, C, T = 20, 30, 3, 12
KEY = jax.random.key(0)


def problem(seed):
    """Draws of a linear net at a pool and at targets."""
    rng = np.random.default_rng(seed)
    log_p = oracles.log_softmax(np.einsum("nf,kfc->knc", rng.normal(size=(N + T, 6)), rng.normal(size=(K, 6, C)))).astype(np.float32)
    return log_p[:, :N], log_p[:, N:]


def information(log_p, log_q, batch):
    """Mean over targets of I(y_batch; y_t), enumerated in float64."""
    p, q = np.exp(log_p.astype(np.float64)), np.exp(log_q.astype(np.float64))
    labels = np.ones((1, K))
    for point in batch:
        labels = np.concatenate([labels * p[:, point, c] for c in range(C)])
    joint = np.einsum("sk,ktl->tsl", labels, q) / K
    outer = labels.mean(1)[None, :, None] * q.mean(0)[:, None]
    return (joint * np.log(joint / outer)).sum((1, 2)).mean()


@pytest.mark.parametrize("seed", range(2))
def test_the_batch_is_nearly_the_exact_greedy_one(seed):
    log_p, log_q = problem(seed)
    exact = []
    for _ in range(4):
        exact.append(max((i for i in range(N) if i not in exact), key=lambda i: information(log_p, log_q, [*exact, i])))
    picked = select.batch_epig(KEY, log_p, log_q, 4)
    batch = np.asarray(picked.indices).tolist()
    assert batch[0] == exact[0] == int(np.argmax(scores.epig(log_p, log_q)))  # TRAPS 19
    best, mine = information(log_p, log_q, exact), information(log_p, log_q, batch)
    assert mine > 0.97 * best
    assert float(picked.joint[-1]) == pytest.approx(mine, abs=0.03)
    spread = select.batch_bald(KEY, log_p, 4)
    assert mine >= information(log_p, log_q, np.asarray(spread.indices).tolist()) - 1e-9  # BALD also asks about what no target needs


def test_copies_come_last_and_nothing_exceeds_its_bound():  # TRAPS 7, 9, 18
    log_p, log_q = problem(3)
    doubled = np.concatenate([log_p[:, :6], log_p[:, :6]], axis=1)
    picked = select.batch_epig(KEY, doubled, log_q, 12)
    rows = np.asarray(picked.indices)
    assert sorted(rows.tolist()) == list(range(12)) and len(set((rows[:5] % 6).tolist())) >= 4
    entropy = float(scores.entropy(log_q).mean())
    assert np.all(np.diff(picked.joint) >= 0) and float(picked.joint[-1]) <= entropy + 1e-6


def test_only_available_points_and_the_key_decides():
    log_p, log_q = problem(4)
    available = np.arange(N) % 3 == 0
    picked = select.batch_epig(KEY, log_p, log_q, 10, available=available, configurations=200)
    assert sorted(np.asarray(picked.indices).tolist()) == np.flatnonzero(available).tolist()
    again = select.batch_epig(KEY, log_p, log_q, 10, available=available, configurations=200)
    assert np.array_equal(picked.indices, again.indices) and np.array_equal(picked.scores, again.scores)
    with pytest.raises(checks.WrongSize) as error:
        select.batch_epig(KEY, log_p, log_q, 11, available=available)
    assert error.value.argument == "size"


def test_targets_that_learn_nothing_are_refused():
    log_p, log_q = problem(5)
    with pytest.raises(checks.ConstantScores):
        select.batch_epig(KEY, log_p, np.repeat(log_q[:1], K, axis=0), 3)


@pytest.mark.parametrize(("spoil", "error", "argument"), [
    (lambda p, q: (p[:1], q[:1]), checks.WrongSize, "log_probs"), (lambda p, q: (p, q[:5]), checks.WrongShape, "target_log_probs"),
    (lambda p, q: (p, q[:, :0]), checks.WrongSize, "target_log_probs"), (lambda p, q: (np.exp(p), q), checks.NotLogProbabilities, "log_probs")])
def test_anything_else_is_refused_by_name(spoil, error, argument):
    with pytest.raises(error) as caught:
        oracles.as_users_do(select.batch_epig)(KEY, *spoil(*problem(0)), 3)
    assert caught.value.argument == argument


def test_far_more_classes_and_targets_than_a_joint_table_could_hold():  # TRAPS 6, 33
    log_p = jax.nn.log_softmax(jax.random.normal(KEY, (8, 40, 300)) * 3)
    picked = select.batch_epig(KEY, log_p, jnp.tile(log_p, (1, 5, 1)), 5, configurations=64)
    assert np.isfinite(picked.scores).all() and len(set(np.asarray(picked.indices).tolist())) == 5
