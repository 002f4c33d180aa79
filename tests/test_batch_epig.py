"""Batch EPIG against the joint tables of picks and targets."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import errors, scores, select
from bayesal.select import _configurations
from bayesal.select import _targets as targets

module = importlib.import_module(
    "bayesal.select._batch_epig"
)  # the package has a function of that name

K, N, C, T = 20, 30, 3, 12
KEY = jax.random.key(0)


def problem(seed, rows=N):
    """Draws of a linear net at a pool and at targets."""
    rng = np.random.default_rng(seed)
    log_p = oracles.log_softmax(
        np.einsum("nf,kfc->knc", rng.normal(size=(rows + T, 6)), rng.normal(size=(K, 6, C)))
    ).astype(np.float32)
    return log_p[:, :rows], log_p[:, rows:]


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
@pytest.mark.slow
def test_the_batch_is_nearly_the_exact_greedy_one(seed):
    log_p, log_q = problem(seed)
    exact = []
    for _ in range(4):
        exact.append(
            max(
                (i for i in range(N) if i not in exact),
                key=lambda i: information(log_p, log_q, [*exact, i]),
            )
        )
    picked = select.batch_epig(KEY, log_p, log_q, 4)
    batch = np.asarray(picked.indices).tolist()
    assert batch[0] == exact[0] == int(np.argmax(scores.epig(log_p, log_q)))  # TRAPS 19
    best, mine = information(log_p, log_q, exact), information(log_p, log_q, batch)
    assert mine > 0.99 * best
    assert float(picked.joint[-1]) == pytest.approx(mine, abs=0.01)
    spread = select.batch_bald(KEY, log_p, 4)
    assert (
        mine >= information(log_p, log_q, np.asarray(spread.indices).tolist()) - 1e-9
    )  # BALD also asks about what no target needs


def sampled(copies):
    """Three uneven weightings of the draws, each `copies` times, with target labels; and both as
    float64 arrays.
    """
    log_p, log_q = problem(6, rows=5)
    weights = np.random.default_rng(0).dirichlet(np.full(K, 0.3), size=3).astype(np.float32)
    state = _configurations.Configurations(
        jnp.repeat(weights, copies, axis=0), jnp.full(3 * copies, 1 / (3 * copies), jnp.float32)
    )
    return (
        log_p,
        log_q,
        weights.astype(np.float64),
        targets.sampled(KEY, state, jnp.asarray(log_q), jnp.full(T, 1 / T, jnp.float32)),
    )


@pytest.mark.slow
def test_sampled_gains_are_right_on_average_and_have_no_tail():
    log_p, log_q, weights, pairs = sampled(1000)
    p, q = np.exp(log_p.astype(np.float64)), np.exp(log_q.astype(np.float64))
    joint = np.einsum("sk,knc,ktl->sntcl", weights, p, q)
    outer = (
        np.einsum("sk,knc->snc", weights, p)[:, :, None, :, None]
        * np.einsum("sk,ktl->stl", weights, q)[:, None, :, None]
    )
    exact = (
        (joint * np.log(joint / outer)).sum((3, 4)).mean(2)
    )  # [3, n]: mean over targets of I(y; y_t | s)
    values = np.asarray(targets.revealed(pairs, jnp.asarray(log_p)))
    error = values.reshape(3, 1000, -1).std(1) / np.sqrt(1000)
    assert np.all(np.abs(values.reshape(3, 1000, -1).mean(1) - exact) < 4 * error) and np.all(
        error < 0.05 * exact
    )
    told = (
        (
            weights[:, :, None, None]
            * q
            * np.log(q / np.einsum("sk,ktl->stl", weights, q)[:, None])
        ).sum((1, 3))
    ).mean(1)  # mean I(w; y_t | s)
    with np.errstate(divide="ignore"):
        everything = jnp.asarray(
            np.log(np.eye(K, dtype=np.float32))[:, None]
        )  # a label that is the draw itself
    np.testing.assert_allclose(
        np.asarray(targets.revealed(pairs, everything)).reshape(3, 1000),
        np.repeat(told[:, None], 1000, 1),
        rtol=2e-3,
    )
    assert np.all(values <= np.repeat(told, 1000)[:, None] * (1 + 2e-3))  # data processing


@pytest.mark.slow
def test_the_screened_limit_is_rarely_too_low():
    log_p, log_q = problem(7, rows=600)
    state = _configurations.Configurations(
        jnp.full((1000, K), 1 / K, jnp.float32), jnp.full(1000, 1e-3, jnp.float32)
    )
    pool = module.held(jnp.asarray(log_p))
    low = []
    for key in oracles.keys(3):
        pairs = targets.sampled(key, state, jnp.asarray(log_q), jnp.full(T, 1 / T, jnp.float32))
        gain = np.asarray(targets.revealed(pairs, jnp.asarray(log_p))).mean(0)
        limit = np.asarray(module.screened(pool, pairs, _configurations.STEP, 200))
        low.append(np.mean(limit < gain))
        assert np.median(limit / gain) < 2.0  # a limit that bites
    assert np.mean(low) < 0.01


def test_labels_that_cannot_be_are_worth_nothing(monkeypatch):
    monkeypatch.setattr(
        _configurations, "inverse_cdf", lambda probs, places: jnp.zeros(places.shape, jnp.int32)
    )  # as rounding of sums may lead to
    _, log_q = problem(1, rows=20)
    state = _configurations.Configurations(
        jnp.full((40, K), 1 / K, jnp.float32), jnp.full(40, 1 / 40, jnp.float32)
    )
    pairs = targets.sampled(
        KEY, state, jnp.asarray(log_q), jnp.ones(T, jnp.float32).at[0].set(0.0) / (T - 1)
    )
    assert (np.asarray(pairs.worth) == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_first_pick_is_the_highest_epig_and_few_gains_are_computed(seed):
    log_p, log_q = problem(seed, rows=600)
    picked, epig = select.batch_epig(KEY, log_p, log_q, 4), np.asarray(scores.epig(log_p, log_q))
    assert int(picked.indices[0]) == int(np.argmax(epig)) and float(
        picked.scores[0]
    ) == pytest.approx(epig.max(), rel=1e-5)
    assert float(picked.evaluated) < 0.6


@pytest.mark.slow
def test_screening_leaves_out_what_a_full_sweep_does_not_pick(monkeypatch):
    uniform, free, problems = (
        jnp.full(T, 1 / T, jnp.float32),
        jnp.ones(600, bool),
        [problem(seed, rows=600) for seed in range(5)],
    )
    lazy = [select.batch_epig(KEY, *given, 4) for given in problems]
    monkeypatch.setattr(module, "SURE", 1e6)  # nothing is left out of programs traced from here on
    full = jax.jit(lambda p, q: module.searched(KEY, module.held(p), q, uniform, free, 4, 1000))
    for picked, whole in zip(lazy, (full(*given) for given in problems), strict=True):
        np.testing.assert_array_equal(picked.indices, whole.indices)
        np.testing.assert_allclose(picked.scores, whole.scores, rtol=1e-5)
        assert float(picked.evaluated) < 0.6 and float(whole.evaluated) > 0.75


def test_copies_come_last_and_nothing_exceeds_its_bound():  # TRAPS 7, 9, 18
    log_p, log_q = problem(3)
    copies = np.arange(N) % 6  # five of each
    picked = select.batch_epig(KEY, log_p[:, copies], log_q, 4)
    assert len(set(copies[np.asarray(picked.indices)].tolist())) == 4
    entropy = float(scores.entropy(log_q).mean())
    assert np.all(np.diff(picked.joint) >= 0) and float(picked.joint[-1]) <= entropy + 1e-6
    four = np.isin(np.arange(N), [0, 6, 12, 18])  # all the same point
    same = select.batch_epig(KEY, log_p[:, copies], log_q, 4, available=four)
    assert sorted(np.asarray(same.indices).tolist()) == np.flatnonzero(four).tolist()


def test_only_available_points_and_the_key_decides():
    log_p, log_q = problem(4)
    available = np.arange(N) % 8 == 0
    picked = select.batch_epig(KEY, log_p, log_q, 4, available=available)
    assert sorted(np.asarray(picked.indices).tolist()) == np.flatnonzero(available).tolist()
    again = select.batch_epig(KEY, log_p, log_q, 4, available=available)
    assert np.array_equal(picked.indices, again.indices) and np.array_equal(
        picked.scores, again.scores
    )
    with pytest.raises(errors.WrongSize) as error:
        select.batch_epig(KEY, log_p, log_q, 5, available=available)
    assert error.value.argument == "size"


def test_targets_that_learn_nothing_are_refused():
    log_p, log_q = problem(5)
    with pytest.raises(errors.ConstantScores):
        select.batch_epig(KEY, log_p, np.repeat(log_q[:1], K, axis=0), 4)


@pytest.mark.parametrize(
    ("spoil", "error", "argument"),
    [
        (lambda p, q: (p[:1], q[:1]), errors.WrongSize, "log_probs"),
        (lambda p, q: (p, q[:5]), errors.WrongShape, "target_log_probs"),
        (lambda p, q: (p, q[:, :0]), errors.WrongSize, "target_log_probs"),
        (lambda p, q: (np.exp(p), q), errors.NotLogProbabilities, "log_probs"),
    ],
)
def test_anything_else_is_refused_by_name(spoil, error, argument):
    with pytest.raises(error) as caught:
        oracles.as_users_do(select.batch_epig)(KEY, *spoil(*problem(0)), 3)
    assert caught.value.argument == argument


@pytest.mark.slow
def test_far_more_classes_and_targets_than_a_joint_table_could_hold():  # TRAPS 6, 33
    log_p = jax.nn.log_softmax(jax.random.normal(KEY, (8, 40, 300)) * 3)
    picked = select.batch_epig(KEY, log_p, jnp.tile(log_p, (1, 5, 1)), 5, configurations=64)
    assert np.isfinite(picked.scores).all() and len(set(np.asarray(picked.indices).tolist())) == 5
