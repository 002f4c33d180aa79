import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, scores, select
from bayesal.select import _configurations
from bayesal.select._batch_bald import _batch_bald as batch_bald_program

module = importlib.import_module("bayesal.select._batch_bald")

pytestmark = pytest.mark.usefixtures("strict")


# top and uniform


def test_top_is_best_first_and_sends_ties_to_the_lowest_row():
    picked = select.top(np.array([1.0, 3.0, 3.0, -np.inf, 2.0, 3.0], np.float32), 5)
    assert picked.indices.tolist() == [1, 2, 5, 4, 0]
    assert picked.scores.tolist() == [3.0, 3.0, 3.0, 2.0, 1.0]


@given(st.integers(0, 2**31))
def test_top_against_a_sort(seed):  # TRAPS 17
    rng = np.random.default_rng(seed)
    values = rng.normal(size=20).astype(np.float32)
    available = rng.random(20) < 0.7
    available[:4] = True
    want = sorted(np.flatnonzero(available), key=lambda i: -values[i])[:4]
    assert select.top(values, 4, available=available).indices.tolist() == want


def test_top_refuses_what_cannot_be_ranked():  # TRAPS 4
    for value in (np.nan, -np.nan, np.inf):
        with pytest.raises(errors.NonFinite, match="`scores`") as caught:
            select.top(np.array([0.0, value, 1.0], np.float32), 1)
        assert caught.value.argument == "scores" and caught.value.rows.tolist() == [1]


def test_top_under_jit_replaces_counts_and_says_so():  # TRAPS 4
    values = jnp.array([jnp.nan, 2.0, jnp.inf, 1.0, -jnp.nan, -jnp.inf])
    picked = jax.jit(lambda v: select.top(v, 4))(values)
    assert picked.indices.tolist() == [1, 3, -1, -1] and int(picked.nonfinite) == 3


def test_scores_that_are_all_the_same_are_no_ranking():  # TRAPS 12, global guard 1
    with pytest.raises(errors.ConstantScores, match="dropout"):
        select.top(np.zeros(5, np.float32), 2)
    with pytest.raises(errors.ConstantScores):
        select.top(
            np.array([1.0, 0.0, 0.0], np.float32), 1, available=np.array([False, True, True])
        )
    assert select.top(np.zeros(1, np.float32), 1).indices.tolist() == [0]  # nothing to choose


@pytest.mark.parametrize("size", [0, 6, 4, 1.0, True])
def test_a_size_that_cannot_be_had(size):
    available = np.array([True, True, True, False, True])
    values = np.array([1.0, 2.0, 3.0, 4.0, -np.inf], np.float32)
    for function in (
        lambda: select.top(values, size, available=available),
        lambda: select.uniform(jax.random.key(0), 5, 5 if size == 4 else size, available=available),
    ):
        with pytest.raises(errors.WrongSize, match="`size`") as caught:
            oracles.as_users_do(function)()
        assert caught.value.argument == "size"


def test_uniform_is_distinct_available_and_even():  # global guard 3
    available = np.array([True, False, True, True, True, False, True, True])
    picks = np.asarray(
        jax.vmap(lambda k: select.uniform(k, 8, 2, available=jnp.asarray(available)).indices)(
            oracles.keys(6000)
        )
    )
    assert np.all(picks[:, 0] != picks[:, 1])
    counts = np.bincount(picks.ravel(), minlength=8)
    assert np.all(counts[~available] == 0)
    assert np.all(np.abs(counts[available] - 2000) < 5 * math.sqrt(6000 * 2 / 9))


def test_uniform_takes_all_there_is_and_obeys_its_key(key):
    assert sorted(select.uniform(key, 8, 8).indices.tolist()) == list(range(8))
    again = [select.uniform(k, 50, 5).indices.tolist() for k in (key, key, jax.random.key(1))]
    assert again[0] == again[1] != again[2]


# batch_bald

SHAPES = {2: (6, 12, 2), 3: (6, 12, 3)}


def follows_the_oracle(p, picked, size, available=None, slack=2e-5):
    """Each pick is the best of a full sweep given the picks before it, up to float32's
    near ties.
    """
    batch = picked.indices.tolist()
    for b in range(size):
        every = range(p.shape[1]) if available is None else np.flatnonzero(available)
        table = {
            i: oracles.joint_information(p, [*batch[:b], i]) for i in every if i not in batch[:b]
        }
        assert table[batch[b]] >= max(table.values()) - slack, (b, batch)


@pytest.mark.parametrize("classes", SHAPES)
@given(seed=st.integers(0, 2**31))
def test_exact_phase_is_brute_force_greedy(classes, seed):  # TRAPS 7, 19
    log_p, p = oracles.random_log_probs(seed, SHAPES[classes], scale=1.0)
    picked = select.batch_bald(jax.random.key(seed % 97), log_p, 4, configurations=243)
    follows_the_oracle(p, picked, 4)
    # the sum of gains and the companion are one number while everything is enumerated
    joints = [oracles.joint_information(p, picked.indices.tolist()[: b + 1]) for b in range(4)]
    np.testing.assert_allclose(picked.joint, joints, atol=2e-5)
    np.testing.assert_allclose(np.cumsum(np.asarray(picked.scores)), joints, atol=2e-5)


@pytest.mark.parametrize("classes", SHAPES)
def test_five_picks_by_brute_force(classes):  # TRAPS 7
    log_p, p = oracles.random_log_probs(11, SHAPES[classes], scale=1.0)
    picked = select.batch_bald(jax.random.key(0), log_p, 5, configurations=243)
    assert picked.indices.tolist() == oracles.greedy_batch_bald(p, 5)[0]


def test_lazy_evaluation_finds_what_a_full_sweep_finds():
    log_p, p = oracles.random_log_probs(3, (6, 600, 2), scale=1.5)
    picked = select.batch_bald(jax.random.key(0), log_p, 3, configurations=8)
    follows_the_oracle(p, picked, 3)
    assert 0 < float(picked.evaluated) < 0.8  # and left blocks out


def test_a_screening_by_few_configurations_is_an_estimate_with_its_error():
    log_p, _ = oracles.random_log_probs(5, (20, 40, 3), scale=1.5)
    probs, noise = np.exp(log_p).transpose(0, 2, 1), -(np.exp(log_p) * log_p).sum(-1)
    weights = np.random.default_rng(0).dirichlet(np.full(20, 0.3), 20 * 12).astype(np.float32)
    state = _configurations.Configurations(
        jnp.asarray(weights), jnp.full(240, 1 / 240, jnp.float32)
    )
    few = _configurations.thinned(state, 20, 4)
    assert (
        np.asarray(few.weights) == weights.reshape(20, 12, 20)[:, :4].reshape(80, 20)
    ).all()  # as many of each draw
    gain, error = _configurations.estimate(few, jnp.asarray(probs), jnp.asarray(noise, jnp.float32))
    mixed = np.einsum("kcn,sk->nsc", np.float64(probs), np.float64(few.weights))
    each = -(mixed * np.log(mixed)).sum(-1) - np.float64(noise).T @ np.float64(few.weights).T
    np.testing.assert_allclose(gain, each.mean(1), atol=1e-5)
    np.testing.assert_allclose(error, each.std(1) / 80**0.5, atol=1e-5)
    np.testing.assert_allclose(
        gain,
        _configurations.information(few, jnp.asarray(probs), jnp.asarray(noise, jnp.float32)),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("draws", "count", "few"),
    [(100, 1000, 1), (10, 1000, 12), (6, 243, 0), (100, 10_000, 12), (8, 64, 0), (100, 100, 0)],
)
def test_a_screening_takes_an_eighth_if_that_is_enough(draws, count, few):
    assert _configurations.screening(draws, count) == few


@pytest.mark.parametrize(("classes", "size"), [(10, 16), (2, 36)])
def test_powers_of_the_classes_do_not_overflow_along_a_long_batch(classes, size):
    log_p, _ = oracles.random_log_probs(0, (50, 100, classes), scale=1.0)
    gains = np.asarray(
        select.batch_bald(jax.random.key(0), log_p, size, configurations=1000).scores
    )
    assert (gains[1:] > 0.5 * gains[:-1]).all(), (
        gains
    )  # a gain summed over a part of the configurations falls to an eighth


@pytest.mark.slow
def test_screened_batches_are_those_of_a_full_sweep(monkeypatch):
    problems = [oracles.random_log_probs(seed, (20, 400, 4), scale=1.5)[0] for seed in range(8)]
    lazy = [
        select.batch_bald(jax.random.key(0), log_p, 8, configurations=640) for log_p in problems
    ]
    monkeypatch.setattr(_configurations, "screening", lambda *given: 0)
    lazily = module.best_first
    monkeypatch.setattr(
        module, "best_first", lambda bound, tie, slack, *rest: lazily(bound, tie, 1e9, *rest)
    )  # programs traced from here on leave nothing out
    full = jax.jit(
        lambda log_p: batch_bald_program.__wrapped__(
            jax.random.key(0), log_p, jnp.ones(400, bool), 8, 640
        )
    )
    for picked, whole in zip(lazy, map(full, problems), strict=True):
        np.testing.assert_array_equal(picked.indices, whole.indices)
        np.testing.assert_allclose(picked.scores, whole.scores, rtol=1e-5)
        assert float(picked.evaluated) < 0.75 and float(whole.evaluated) > 0.9


@given(st.integers(0, 2**31))
def test_the_first_pick_is_the_highest_bald(seed):  # TRAPS 19
    log_p, _ = oracles.random_log_probs(seed, (6, 12, 3), scale=3.0)
    picked = select.batch_bald(jax.random.key(seed % 97), log_p, 4, configurations=243)
    bald = np.asarray(scores.bald(log_p))
    assert (
        bald[int(picked.indices[0])] == bald.max()
        and abs(float(picked.scores[0]) - bald.max()) < 1e-6
    )


@pytest.mark.slow
def test_copies_come_after_every_original():  # TRAPS 9
    bits = np.stack(
        [np.arange(8) & 1, np.arange(8) // 2 & 1, np.arange(8) // 4 & 1], axis=1
    )  # three independent questions
    sure = np.array([4.0, 3.5, 3.0])[None, :, None] * np.where(
        bits[..., None] == np.arange(2), 1.0, -1.0
    )
    log_p = np.repeat(oracles.log_softmax(sure).astype(np.float32), 4, axis=1)
    for count in (4, 64):  # sampled, enumerated
        for seed in range(20):
            picked = select.batch_bald(jax.random.key(seed), log_p, 3, configurations=count)
            assert [i // 4 for i in picked.indices.tolist()] == [0, 1, 2]
    assert {i // 4 for i in select.top(scores.bald(log_p), 3).indices.tolist()} == {
        0
    }  # what ranking alone does


def test_sampled_configurations_come_close_to_the_enumeration():  # TRAPS 7
    errors = []
    for seed in range(5):
        log_p, p = oracles.random_log_probs(seed, (8, 12, 3), scale=1.0)
        picked = select.batch_bald(jax.random.key(seed), log_p, 6, configurations=64)
        batch = picked.indices.tolist()
        errors.append(
            [
                float(picked.joint[b]) - oracles.joint_information(p, batch[: b + 1])
                for b in range(6)
            ]
        )
        follows_the_oracle(p, picked, 6, slack=0.05)
    assert np.abs(errors).max() < 0.05, errors


@pytest.mark.slow
def test_two_hundred_picks_of_a_thousand_classes():  # TRAPS 6
    log_p, _ = oracles.random_log_probs(0, (4, 204, 1000), scale=1.0)
    picked = select.batch_bald(jax.random.key(0), log_p, 200, configurations=8)
    assert np.all(np.isfinite(picked.joint)) and np.all(np.isfinite(picked.scores))
    assert (
        len(set(picked.indices.tolist())) == 200 and float(picked.joint[-1]) <= math.log(4) + 1e-6
    )


@given(st.integers(0, 2**31))
def test_only_available_points_are_picked(seed):  # TRAPS 17, global guard 3
    log_p, p = oracles.random_log_probs(seed, (6, 12, 3), scale=1.0)
    available = np.zeros(12, bool)
    available[np.random.default_rng(seed).permutation(12)[:6]] = True
    picked = select.batch_bald(jax.random.key(0), log_p, 4, available=available, configurations=243)
    assert np.all(available[np.asarray(picked.indices)])
    follows_the_oracle(p, picked, 4, available)


def test_the_end_of_the_pool():  # global guard 3
    log_p, _ = oracles.random_log_probs(0, (6, 12, 3))
    available = np.arange(12) < 4
    assert sorted(
        select.batch_bald(
            jax.random.key(0), log_p, 4, available=available, configurations=243
        ).indices.tolist()
    ) == [0, 1, 2, 3]
    with pytest.raises(errors.WrongSize, match="`size` = 4, but only 3"):
        select.batch_bald(jax.random.key(0), log_p, 4, available=np.arange(12) < 3)


def test_inputs_are_left_alone_and_may_be_read_only():  # TRAPS 30
    log_p, _ = oracles.random_log_probs(0, (6, 12, 3))
    available = np.ones(12, bool)
    before = log_p.copy()
    log_p.flags.writeable = available.flags.writeable = False
    select.batch_bald(jax.random.key(0), log_p, 4, available=available, configurations=243)
    assert np.array_equal(log_p, before) and available.all()


def test_draws_that_agree_everywhere_are_refused():  # TRAPS 12, global guard 1
    log_p, _ = oracles.random_log_probs(0, (1, 12, 3))
    with pytest.raises(errors.ConstantScores, match="dropout"):
        select.batch_bald(jax.random.key(0), np.repeat(log_p, 6, axis=0), 4, configurations=243)


BAD = {
    "one draw": (errors.WrongSize, "log_probs", lambda x: (x[:1], 4)),
    "no draws": (errors.WrongSize, "log_probs", lambda x: (x[:0], 4)),
    "one class": (errors.WrongShape, "log_probs", lambda x: (x[..., :1], 4)),
    "one point": (errors.WrongShape, "log_probs", lambda x: (x[:, 0], 4)),
    "probabilities": (errors.NotLogProbabilities, "log_probs", lambda x: (np.exp(x), 4)),
    "logits": (errors.NotLogProbabilities, "log_probs", lambda x: (x - 1, 4)),
    "nan": (errors.NonFinite, "log_probs", lambda x: (x * np.float32(np.nan), 4)),
    "integers": (errors.NotLogProbabilities, "log_probs", lambda x: (x.astype(int), 4)),
    "a list": (errors.WrongShape, "log_probs", lambda x: (x.tolist(), 4)),
    "size too large": (errors.WrongSize, "size", lambda x: (x, 13)),
    "size zero": (errors.WrongSize, "size", lambda x: (x, 0)),
    "size a float": (errors.WrongSize, "size", lambda x: (x, 4.0)),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    error, argument, spoil = BAD[bad]
    log_p, _ = oracles.random_log_probs(0, (6, 12, 3))
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(select.batch_bald)(jax.random.key(0), *spoil(log_p))
    assert caught.value.argument == argument


def test_no_configurations_and_a_wrong_mask_are_refused():
    log_p, _ = oracles.random_log_probs(0, (6, 12, 3))
    with pytest.raises(errors.WrongSize, match="`configurations`"):
        select.batch_bald(jax.random.key(0), log_p, 4, configurations=0)
    with pytest.raises(errors.WrongShape, match="`available`"):
        oracles.as_users_do(select.batch_bald)(
            jax.random.key(0), log_p, 4, available=np.ones(11, bool)
        )


def test_an_int_is_the_key_of_that_seed():
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(3), (4, 9)).astype(np.float32))
    for call in (
        lambda key: select.uniform(key, 9, 4),
        lambda key: select.batch_bald(key, log_p, 3, configurations=9),
    ):
        assert call(7).indices.tolist() == call(jax.random.key(7)).indices.tolist()


@pytest.mark.parametrize("key", [0.5, True, np.uint32([0, 1]), None])
def test_a_key_is_a_typed_key_or_an_int(key):
    for call in (
        lambda: oracles.as_users_do(select.uniform)(key, 4, 2),
        lambda: oracles.as_users_do(select.batch_bald)(key, np.log(np.full((2, 4, 2), 0.5)), 2),
    ):
        with pytest.raises(errors.WrongShape, match=r"jax.random.key") as error:
            call()
        assert error.value.argument == "key"


@pytest.mark.parametrize(
    "values",
    [
        np.array([1e39, 0.1, 2e39]),
        1.7e9 + np.arange(300.0),
        np.arange(2**24, 2**24 + 6),
        1 + 1e-9 * np.arange(6),
        np.array([-np.inf, 1.0, 1 + 1e-12]),
    ],
    ids=str,
)
def test_top_ranks_in_the_callers_own_numbers(values):
    picked = oracles.as_users_do(select.top)(values, 2)
    assert picked.indices.tolist() == np.argsort(-values, kind="stable")[:2].tolist()
    reported = np.minimum(values[np.asarray(picked.indices)], np.finfo(np.float32).max)
    np.testing.assert_array_equal(picked.scores, reported.astype(np.float32))


def test_equal_scores_are_fine_where_nothing_is_chosen():
    assert select.top(np.zeros(3, np.float32), 3).indices.tolist() == [0, 1, 2]
    with pytest.raises(errors.ConstantScores):
        select.top(np.zeros(4, np.float32), 3)


@pytest.mark.slow
def test_memory_does_not_grow_with_classes_times_configurations():  # TRAPS 6
    args = (jax.random.key(0), jnp.zeros((20, 200, 1000)), jnp.ones(200, bool))
    pool = 20 * 200 * 1000 * 4
    for count in (1000, 4000):
        used = (
            batch_bald_program.lower(*args, 5, count).compile().memory_analysis().temp_size_in_bytes
        )
        assert used < 5 * pool, (count, used / pool)
