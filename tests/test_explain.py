"""Explanations against enumeration and by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import checks, scores, select
from bayesal.explain import Explanation, explain

K, N, C, SIZE = 6, 12, 3, 4
LOG_P, P = oracles.random_log_probs(3, (K, N, C), scale=1.0)
GREEDY = select.batch_bald(jax.random.key(0), LOG_P, SIZE, configurations=243)
RANKED = select.top(scores.bald(LOG_P), SIZE)


def by_enumeration(batch):
    joint = [oracles.joint_information(P, batch[: b + 1]) for b in range(len(batch))]
    return np.diff(joint, prepend=0.0), np.array(joint)


@pytest.mark.parametrize("selection", [GREEDY, RANKED], ids=["greedy", "ranked"])
def test_numbers_are_those_of_an_enumeration(selection):
    why = explain(LOG_P, selection)
    batch = selection.indices.tolist()
    gain, joint = by_enumeration(batch)
    sampled = 0.0 if selection is GREEDY else 0.02
    assert why.index.tolist() == batch
    np.testing.assert_allclose(why.total, [oracles.entropy(P[:, i]) for i in batch], atol=2e-6)
    np.testing.assert_allclose(why.aleatoric, [oracles.expected_entropy(P[:, i]) for i in batch], atol=2e-6)
    np.testing.assert_allclose(why.epistemic, [oracles.bald(P[:, i]) for i in batch], atol=2e-6)
    np.testing.assert_allclose(why.gain, gain, atol=2e-5 + sampled)
    np.testing.assert_allclose(why.joint, joint, atol=2e-5 + 2 * sampled)
    np.testing.assert_allclose(why.share, why.joint / math.log(K), atol=1e-6)
    assert abs(why.gain[0] - why.epistemic[0]) < 1e-5 and np.all(why.gain <= why.epistemic + 1e-6)
    assert set(why.ordered_by) == {"gain" if selection is GREEDY else "own score"}


def test_estimated_gains_come_near_enumeration_on_average():
    seeds = [explain(LOG_P, RANKED, key=key).gain for key in oracles.keys(30)]
    np.testing.assert_allclose(np.mean(seeds, axis=0), by_enumeration(RANKED.indices.tolist())[0], atol=2e-3)
    assert np.std(seeds, axis=0)[1:].min() > 0  # the key matters


def test_copies_add_nothing_and_say_what_they_displaced():
    sure = np.log(np.array([[[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]] * 3 + [[[0.1, 0.9], [0.1, 0.9], [0.4, 0.6]]] * 3, np.float32))
    bald = [oracles.bald(np.exp(sure[:, i])) for i in range(3)]
    batch = select.top(np.array([3.0, 1.0, 2.0], np.float32), 2)  # row 0, then row 2 although row 1 has the higher BALD
    why = explain(sure, batch)
    assert why.index.tolist() == [0, 2] and bald[1] > bald[2]
    assert why.displaced.tolist() == [-1, 1] and abs(why.displaced_epistemic[1] - bald[1]) < 1e-6 and np.isnan(why.displaced_epistemic[0])
    only = explain(sure, batch, available=np.array([True, False, True]))
    assert only.displaced.tolist() == [-1, -1]


def test_displaced_is_the_best_left_at_every_step():
    bald = np.array([oracles.bald(P[:, i]) for i in range(N)])
    why = explain(LOG_P, GREEDY)
    for b, pick in enumerate(why.index):
        left = [i for i in range(N) if i not in why.index[:b]]
        best = max(left, key=lambda i: bald[i])
        assert why.displaced[b] == (-1 if best == pick else best)


def test_used_up_draws_are_said_and_so_is_what_ordered_the_rest():  # TRAPS 8
    z = np.random.default_rng(0).normal(size=(K, N, C)) * 30
    log_p = oracles.log_softmax(z).astype(np.float32)
    greedy = explain(log_p, select.batch_bald(jax.random.key(0), log_p, SIZE, configurations=243))
    assert greedy.saturated.any() and not greedy.saturated[0]
    assert set(greedy.ordered_by[greedy.saturated]) == {"gain, near ties by BALD"} and set(greedy.ordered_by[~greedy.saturated]) == {"gain"}
    ranked = explain(log_p, select.top(scores.bald(log_p), SIZE))
    assert ranked.saturated[-1] and set(ranked.ordered_by) == {"own score"}
    for why in (greedy, ranked):
        assert np.all(np.diff(why.joint) >= 0) and why.joint[-1] <= math.log(K) + 1e-6 and np.all(why.gain >= 0)


def test_the_nearest_labeled_point_by_hand():
    features = np.zeros((N, 2))
    features[:, 0] = np.arange(N)
    picks = GREEDY._replace(indices=jnp.array([11, 10, 9, -1]))
    why = explain(LOG_P, picks, features=features + 1e6, labeled=np.array([8, 0, 7]))
    assert why.nearest.tolist() == [8, 8, 8] and why.distance.tolist() == [3.0, 2.0, 1.0]
    tie = explain(LOG_P, picks, features=np.zeros((N, 2)), labeled=np.array([5, 2]))
    assert tie.nearest.tolist() == [2, 2, 2] and tie.distance.tolist() == [0.0, 0.0, 0.0]
    for without in (explain(LOG_P, picks), explain(LOG_P, picks, features=features, labeled=np.array([], int))):
        assert without.nearest.tolist() == [-1, -1, -1] and np.isnan(without.distance).all()


def test_a_single_draw_and_an_unfilled_batch():
    one = explain(LOG_P[:1], select.top(scores.entropy(LOG_P[:1]), SIZE))
    for zero in (one.epistemic, one.gain, one.joint, one.share):
        np.testing.assert_allclose(zero, 0.0, atol=1e-6)
    short = explain(LOG_P, GREEDY._replace(indices=GREEDY.indices.at[jnp.array([1, 3])].set(-1)))
    assert short.index.tolist() == GREEDY.indices[::2].tolist() and short.gain.tolist() == GREEDY.scores[::2].tolist()
    assert explain(LOG_P, GREEDY._replace(indices=jnp.full(SIZE, -1))).table() == []


def test_table_text_and_html_say_the_same():
    why = explain(LOG_P, GREEDY)
    rows = why.table()
    assert [row["index"] for row in rows] == why.index.tolist() and all(set(row) == set(Explanation._fields) for row in rows)
    assert rows[0]["displaced"] is None and rows[0]["distance"] is None and isinstance(rows[0]["saturated"], bool)
    lines = str(why).splitlines()
    assert len(lines) == SIZE + 1 and len({len(line) for line in lines}) == 1 and f"{rows[1]['gain']:.4f}" in lines[2]
    page = why._repr_html_()
    assert page.count("<tr>") == SIZE + 1 and page.count("<td>") == SIZE * len(Explanation._fields) and f"<td>{rows[1]['gain']:.4f}</td>" in page


def test_inputs_are_left_alone():  # TRAPS 30
    log_p, features = LOG_P.copy(), np.ones((N, 2))
    log_p.flags.writeable = features.flags.writeable = False
    explain(log_p, RANKED, features=features, labeled=np.array([1]))
    assert np.array_equal(log_p, LOG_P)


BAD = {
    "probabilities": (dict(log_probs=np.exp(LOG_P)), checks.NotLogProbabilities, "log_probs"),
    "one point": (dict(log_probs=LOG_P[:, 0]), checks.WrongShape, "log_probs"),
    "rows": (dict(selection=[1, 2]), checks.WrongShape, "selection"),
    "another pool": (dict(log_probs=LOG_P[:, :2]), checks.WrongIndex, "selection"),
    "a row twice": (dict(selection=RANKED._replace(indices=jnp.array([1, 1]))), checks.WrongIndex, "selection"),
    "features alone": (dict(features=np.ones((N, 2))), checks.WrongShape, "labeled"),
    "labels alone": (dict(labeled=np.array([1])), checks.WrongShape, "features"),
    "short features": (dict(features=np.ones((N - 1, 2)), labeled=np.array([1])), checks.WrongShape, "features"),
    "broken features": (dict(features=np.full((N, 2), np.nan), labeled=np.array([1])), checks.NonFinite, "features"),
    "labels elsewhere": (dict(features=np.ones((N, 2)), labeled=np.array([N])), checks.WrongIndex, "labeled"),
    "a short mask": (dict(available=np.ones(N - 1, bool)), checks.WrongShape, "available"),
    "another mask": (dict(available=np.zeros(N, bool)), checks.WrongIndex, "available"),
    "a number as key": (dict(key=0), checks.WrongShape, "key"),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):
    call, error, argument = BAD[bad]
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(explain)(**{"log_probs": LOG_P, "selection": RANKED, **call})
    assert caught.value.argument == argument
