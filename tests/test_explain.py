"""Explanations against enumeration and by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import bayesal
from bayesal import errors, pools, scores, select
from bayesal._explain import Explanation
from bayesal.scores._epig import ceiling, spread
from bayesal.types import About

K, N, C, SIZE = 6, 12, 3, 4
LOG_P, P = oracles.random_log_probs(3, (K, N, C), scale=1.0)
GREEDY = select.batch_bald(jax.random.key(0), LOG_P, SIZE, configurations=243)
RANKED = select.top(scores.bald(LOG_P), SIZE)


def explain(log_probs, selection, **options):
    return bayesal.explain(
        selection, None, pools.numbers(log_probs=log_probs, axes="K N C"), **options
    )


def by_enumeration(batch):
    joint = [oracles.joint_information(P, batch[: b + 1]) for b in range(len(batch))]
    return np.diff(joint, prepend=0.0), np.array(joint)


PICKED = {
    "greedy": GREEDY,
    "ranked": RANKED,
    "power": select.power(jax.random.key(1), scores.bald(LOG_P), SIZE, beta=8.0),
    "balanced": select.class_balanced(
        LOG_P.mean(0).argmax(-1).astype(np.int32), scores.bald(LOG_P), SIZE
    ),
    "bought": select.budgeted(scores.bald(LOG_P), 1 + np.arange(N, dtype=np.float32) % 3, 6.0),
}


@pytest.mark.parametrize("selection", PICKED.values(), ids=PICKED)
def test_numbers_are_those_of_an_enumeration(selection):
    why = explain(LOG_P, selection)
    batch = selection.indices.tolist()
    gain, joint = by_enumeration(batch)
    sampled = 0.0 if selection is GREEDY else 0.02
    assert why.row.tolist() == batch
    np.testing.assert_allclose(why.total, [oracles.entropy(P[:, i]) for i in batch], atol=2e-6)
    np.testing.assert_allclose(
        why.aleatoric, [oracles.expected_entropy(P[:, i]) for i in batch], atol=2e-6
    )
    np.testing.assert_allclose(why.epistemic, [oracles.bald(P[:, i]) for i in batch], atol=2e-6)
    np.testing.assert_allclose(why.gain, gain, atol=2e-5 + sampled)
    np.testing.assert_allclose(why.joint, joint, atol=2e-5 + 2 * sampled)
    assert why.about is About.DRAWS and abs(why.ceiling - math.log(K)) < 1e-6
    np.testing.assert_allclose(why.share, why.joint / math.log(K), atol=1e-6)
    assert abs(why.gain[0] - why.epistemic[0]) < 1e-5 and np.all(why.gain <= why.epistemic + 1e-6)
    assert set(why.ordered_by) == {"gain" if selection is GREEDY else "own score"}


def test_estimated_gains_come_near_enumeration_on_average():
    seeds = [explain(LOG_P, RANKED, key=key).gain for key in oracles.keys(30)]
    np.testing.assert_allclose(
        np.mean(seeds, axis=0), by_enumeration(RANKED.indices.tolist())[0], atol=2e-3
    )
    assert np.std(seeds, axis=0)[1:].min() > 0  # the key matters


def test_copies_add_nothing_and_say_what_they_displaced():
    sure = np.log(
        np.array(
            [[[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]] * 3 + [[[0.1, 0.9], [0.1, 0.9], [0.4, 0.6]]] * 3,
            np.float32,
        )
    )
    bald = [oracles.bald(np.exp(sure[:, i])) for i in range(3)]
    batch = select.top(
        np.array([3.0, 1.0, 2.0], np.float32), 2
    )  # row 0, then row 2 although row 1 has the higher BALD
    why = explain(sure, batch)
    assert why.row.tolist() == [0, 2] and bald[1] > bald[2]
    assert (
        why.displaced.tolist() == [-1, 1]
        and abs(why.displaced_epistemic[1] - bald[1]) < 1e-6
        and np.isnan(why.displaced_epistemic[0])
    )
    only = explain(sure, batch, available=np.array([True, False, True]))
    assert only.displaced.tolist() == [-1, -1]


def test_displaced_is_the_best_left_at_every_step():
    bald = np.array([oracles.bald(P[:, i]) for i in range(N)])
    why = explain(LOG_P, GREEDY)
    for b, pick in enumerate(why.row):
        left = [i for i in range(N) if i not in why.row[:b]]
        best = max(left, key=lambda i: bald[i])
        assert why.displaced[b] == (-1 if best == pick else best)


def test_used_up_draws_are_said_and_so_is_what_ordered_the_rest():  # TRAPS 8
    z = np.random.default_rng(0).normal(size=(K, N, C)) * 30
    log_p = oracles.log_softmax(z).astype(np.float32)
    greedy = explain(log_p, select.batch_bald(jax.random.key(0), log_p, SIZE, configurations=243))
    assert greedy.saturated.any() and not greedy.saturated[0]
    assert set(greedy.ordered_by[greedy.saturated]) == {"gain, near ties by BALD"} and set(
        greedy.ordered_by[~greedy.saturated]
    ) == {"gain"}
    ranked = explain(log_p, select.top(scores.bald(log_p), SIZE))
    assert ranked.saturated[-1] and set(ranked.ordered_by) == {"own score"}
    assert "used up before pick" in greedy.caption() and "used up before pick" in str(ranked)
    for why in (greedy, ranked):
        assert (
            np.all(np.diff(why.joint) >= 0)
            and why.joint[-1] <= math.log(K) + 1e-6
            and np.all(why.gain >= 0)
        )


def test_picks_of_an_audit_came_by_chance():
    why = explain(LOG_P, GREEDY._replace(audit=jnp.arange(SIZE) < 1))
    assert why.ordered_by.tolist() == ["chance", "gain", "gain", "gain"]


def test_the_nearest_labeled_point_by_hand():
    features = np.zeros((N, 2))
    features[:, 0] = np.arange(N)
    picks = GREEDY._replace(indices=jnp.array([11, 10, 9, -1]))
    why = explain(LOG_P, picks, features=features + 1e6, labeled=np.array([8, 0, 7]))
    assert why.nearest.tolist() == [8, 8, 8] and why.distance.tolist() == [3.0, 2.0, 1.0]
    tie = explain(LOG_P, picks, features=np.zeros((N, 2)), labeled=np.array([5, 2]))
    assert tie.nearest.tolist() == [2, 2, 2] and tie.distance.tolist() == [0.0, 0.0, 0.0]
    for without in (
        explain(LOG_P, picks),
        explain(LOG_P, picks, features=features, labeled=np.array([], int)),
    ):
        assert without.nearest.tolist() == [-1, -1, -1] and np.isnan(without.distance).all()


@pytest.mark.slow
def test_a_single_draw_and_an_unfilled_batch():
    one = explain(LOG_P[:1], select.top(scores.entropy(LOG_P[:1]), SIZE))
    for zero in (one.epistemic, one.gain, one.joint, one.share):
        np.testing.assert_allclose(zero, 0.0, atol=1e-6)
    short = explain(LOG_P, GREEDY._replace(indices=GREEDY.indices.at[jnp.array([1, 3])].set(-1)))
    assert (
        short.index.tolist() == GREEDY.indices[::2].tolist()
        and short.gain.tolist() == GREEDY.scores[::2].tolist()
    )
    assert explain(LOG_P, GREEDY._replace(indices=jnp.full(SIZE, -1))).table() == []


def test_table_text_and_html_say_the_same():
    why, columns = explain(LOG_P, GREEDY), Explanation._fields[:-2]
    rows = why.table()
    assert [row["row"] for row in rows] == why.row.tolist() and all(
        tuple(row) == columns for row in rows
    )
    assert (
        rows[0]["displaced"] is None
        and rows[0]["distance"] is None
        and isinstance(rows[0]["saturated"], bool)
    )
    caption, *lines = str(why).splitlines()
    assert (
        caption
        == why.caption()
        == f"gain and joint: information about the draws, at most {math.log(K):.4f} nats (log K)"
    )
    assert (
        len(lines) == SIZE + 1
        and len({len(line) for line in lines}) == 1
        and f"{rows[1]['gain']:.4f}" in lines[2]
    )
    page = why._repr_html_()
    assert (
        page.count("<tr>") == SIZE + 1
        and page.count("<td>") == SIZE * len(columns)
        and f"<td>{rows[1]['gain']:.4f}</td>" in page
        and caption in page
    )


# information about something else than the draws

(LOG_Q, Q), TARGETS = (
    oracles.random_log_probs(4, (K, 5, C), scale=1.0),
    np.array([0.5, 0.2, 0.1, 0.1, 0.1], np.float32),
)
about_targets = jax.jit(
    lambda p, q: select.batch_epig(jax.random.key(0), p, q, 8, weights=TARGETS, configurations=6000)
)


def test_gains_of_batch_epig_are_about_the_targets_and_measured_against_their_ceiling():
    why = explain(LOG_P, about_targets(LOG_P, LOG_Q))
    batch = why.row.tolist()
    joint = np.array(
        [
            sum(w * oracles.told_about(P, Q[:, t], batch[: b + 1]) for t, w in enumerate(TARGETS))
            for b in range(SIZE)
        ]
    )
    ceiling = sum(w * oracles.bald(Q[:, t]) for t, w in enumerate(TARGETS))
    assert why.about is About.TARGETS and joint[-1] < ceiling < math.log(K) / 2
    np.testing.assert_allclose(why.ceiling, ceiling, atol=2e-6)
    np.testing.assert_allclose(why.joint[:SIZE], joint, atol=0.01)
    np.testing.assert_allclose(why.gain[:SIZE], np.diff(joint, prepend=0.0), atol=0.01)
    np.testing.assert_allclose(why.share, why.joint / why.ceiling, atol=1e-6)
    assert (
        np.all(why.gain <= why.epistemic + 1e-6)
        and f"about the targets, at most {ceiling:.4f} nats" in why.caption()
        and "log K" not in why.caption()
    )


def test_used_up_targets_are_said_and_so_is_what_ordered_the_rest():  # TRAPS 8
    log_p = oracles.log_softmax(np.random.default_rng(0).normal(size=(K, N, C)) * 30).astype(
        np.float32
    )
    picked = about_targets(log_p, log_p[:, :5])
    why, at = explain(log_p, picked), int(np.argmax(picked.saturated))
    assert 0 < at < 7 and why.saturated.tolist() == [b >= at for b in range(8)]
    assert set(why.ordered_by[:at]) == {"gain"} and set(why.ordered_by[at:]) == {
        "gain, near ties by a bound on EPIG"
    }
    bound = np.asarray(
        ceiling(jnp.asarray(log_p), spread(jnp.asarray(log_p[:, :5]), jnp.asarray(TARGETS)))
    )[picked.indices]
    assert np.all(np.asarray(picked.scores)[at + 1 :] < 1e-3) and np.all(
        np.diff(bound[at + 1 :]) <= 0.02
    )  # a gain of noise counts as much as 0.02 of the bound
    assert f"used up before pick {at + 1}" in why.caption()
    assert (
        f"first {at} of 8" in picked.note()
        and "EPIG" in picked.note()
        and "log K" not in picked.note()
    )


def test_gains_of_determinants_are_about_a_function_and_have_no_ceiling():
    features = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    means = np.random.default_rng(1).normal(size=(K, N)).astype(np.float32)
    for picked, vectors in (
        (
            select.dpp(features, SIZE),
            features / math.sqrt(1e-3 * np.square(features.astype(np.float64)).sum(1).mean()),
        ),
        (
            select.log_det_gaussian(means, np.full(N, 0.1, np.float32), SIZE),
            ((means - means.mean(0)) / math.sqrt(K * 0.1)).T,
        ),
    ):
        why, batch = explain(LOG_P, picked), picked.indices.tolist()
        joint = [
            0.5
            * np.linalg.slogdet(
                np.eye(b + 1) + (v := vectors[batch[: b + 1]].astype(np.float64)) @ v.T
            )[1]
            for b in range(SIZE)
        ]
        np.testing.assert_allclose(why.joint, joint, rtol=1e-4)
        assert why.about is About.FUNCTION and why.joint[-1] > math.log(
            K
        )  # what would have been a share above 1
        assert (
            np.isnan(why.ceiling)
            and np.isnan(why.share).all()
            and not why.saturated.any()
            and picked.note() == ""
        )
        assert (
            set(why.ordered_by) == {"gain"}
            and "about the function, without a ceiling" in str(why)
            and why.table()[0]["share"] is None
        )


def test_inputs_are_left_alone():  # TRAPS 30
    log_p, features = LOG_P.copy(), np.ones((N, 2))
    log_p.flags.writeable = features.flags.writeable = False
    explain(log_p, RANKED, features=features, labeled=np.array([1]))
    assert np.array_equal(log_p, LOG_P)


BAD = {
    "probabilities": (dict(log_probs=np.exp(LOG_P)), errors.NotLogProbabilities, "log_probs"),
    "one point": (dict(log_probs=LOG_P[:, 0]), errors.WrongShape, "log_probs"),
    "rows": (dict(selection=[1, 2]), errors.WrongShape, "selection"),
    "another pool": (dict(log_probs=LOG_P[:, :2]), errors.WrongIndex, "selection"),
    "a row twice": (
        dict(selection=RANKED._replace(indices=jnp.array([1, 1]))),
        errors.WrongIndex,
        "selection",
    ),
    "features alone": (dict(features=np.ones((N, 2))), errors.WrongShape, "labeled"),
    "labels alone": (dict(labeled=np.array([1])), errors.MissingEmbed, "features"),
    "short features": (
        dict(features=np.ones((N - 1, 2)), labeled=np.array([1])),
        errors.WrongShape,
        "features",
    ),
    "broken features": (
        dict(features=np.full((N, 2), np.nan), labeled=np.array([1])),
        errors.NonFinite,
        "features",
    ),
    "labels elsewhere": (
        dict(features=np.ones((N, 2)), labeled=np.array([N])),
        errors.WrongIndex,
        "labeled",
    ),
    "a short mask": (dict(available=np.ones(N - 1, bool)), errors.WrongShape, "available"),
    "another mask": (dict(available=np.zeros(N, bool)), errors.WrongIndex, "available"),
    "a number below 0 as key": (dict(key=-1), errors.WrongSize, "key"),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):
    call, error, argument = BAD[bad]
    with pytest.raises(error, match=f"`{argument}") as caught:
        oracles.as_users_do(explain)(**{"log_probs": LOG_P, "selection": RANKED, **call})
    assert caught.value.argument == argument
