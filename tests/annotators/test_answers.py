"""The doors: triples, matrices, priors and numbers that are none."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from numpy.testing import assert_array_equal

from bayesal import annotators, errors

ANSWERS = np.array([[0, 1], [2, 2], [1, -1]])
PRIOR = np.log(np.full((3, 3), 1 / 3, np.float32))
INFER = oracles.as_users_do(annotators.dawid_skene)
COIN = oracles.as_users_do(annotators.one_coin)
TABLE = oracles.as_users_do(annotators.table)
RANK = oracles.as_users_do(annotators.rank)


def test_a_table_keeps_the_last_answer_and_counts_the_others():
    random = np.random.default_rng(0)
    items, people, labels = (random.integers(0, n, 60) for n in (7, 4, 3))
    found = annotators.table(items, people, labels, shape=(8, 5))
    last, replaced = {}, 0
    for item, person, label in zip(items, people, labels, strict=True):
        replaced += (item, person) in last
        last[item, person] = label
    assert found.answers.shape == (8, 5) and found.replaced == replaced > 0
    for item in range(8):
        for person in range(5):
            assert found.answers[item, person] == last.get((item, person), -1)


def test_a_table_without_answers_has_a_shape():
    none = np.zeros(0, int)
    assert_array_equal(annotators.table(none, none, none, shape=(2, 1)).answers, [[-1], [-1]])
    with pytest.raises(errors.WrongSize, match="`shape`"):
        annotators.table(none, none, none)


@pytest.mark.parametrize(
    ("error", "argument", "change"),
    [
        (errors.WrongLabel, "labels", dict(labels=np.array([0, -1]))),  # bayesal.REJECTED
        (errors.WrongLabel, "labels", dict(labels=np.array(["a", "b"]))),
        (errors.WrongLabel, "labels", dict(labels=np.array([0.0, np.nan]))),
        (errors.WrongType, "labels", dict(labels=np.ma.array([0, 1], mask=[True, False]))),
        (errors.WrongIndex, "items", dict(items=np.array([0, -1]))),
        (errors.WrongIndex, "items", dict(shape=(1, 2))),
        (errors.WrongIndex, "annotators", dict(shape=(2, 1))),
        (errors.WrongShape, "annotators", dict(annotators=np.array([0]))),
        (errors.WrongShape, "items", dict(items=np.array([[0, 1]]))),
        (errors.WrongSize, "shape", dict(shape=(10**9, 10**9))),
        (errors.WrongSize, "shape", dict(shape=(0, 2))),
    ],
)
def test_a_bad_column_is_refused_by_name(error, argument, change):
    good = dict(items=np.array([0, 1]), annotators=np.array([0, 1]), labels=np.array([0, 1]))
    TABLE(**good)
    with pytest.raises(error, match=f"`{argument}`") as caught:
        TABLE(**good | change)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("error", "argument", "change"),
    [
        (errors.WrongLabel, "answers", dict(answers=np.array([[0, 3], [2, 2], [1, -1]]))),
        (errors.WrongLabel, "answers", dict(answers=np.array([[0, -3], [2, 2], [1, -1]]))),
        (errors.WrongLabel, "answers", dict(answers=ANSWERS.astype(float))),
        (errors.WrongLabel, "answers", dict(answers=ANSWERS == 1)),
        (errors.WrongShape, "answers", dict(answers=ANSWERS[0])),
        (errors.WrongSize, "answers", dict(answers=np.zeros((3, 0), int))),
        (errors.WrongSize, "classes", dict(classes=1)),
        (errors.WrongShape, "prior", dict(prior=PRIOR[:2])),
        (errors.WrongShape, "prior", dict(prior=PRIOR[None])),
        (errors.NotLogProbabilities, "prior", dict(prior=np.exp(PRIOR))),
        (errors.NonFinite, "prior", dict(prior=np.full_like(PRIOR, np.nan))),
        (errors.WrongSize, "steps", dict(steps=0)),
        (errors.WrongSize, "diagonal", dict(diagonal=-1.0)),
        (errors.OutOfRange, "off", dict(off=0.0)),
        (errors.WrongSize, "off", dict(off=np.inf)),
    ],
)
def test_bad_answers_are_refused_by_name(error, argument, change):
    good = dict(answers=ANSWERS, classes=3, prior=PRIOR, steps=2)
    with pytest.raises(error, match=f"`{argument}`") as caught:
        INFER(**good | change)
    assert caught.value.argument == argument


def test_other_doors_refuse_by_name():
    for name in ("right", "wrong"):
        with pytest.raises(errors.OutOfRange, match=f"`{name}`"):
            COIN(ANSWERS, classes=3, **{name: 0.0})
    with pytest.raises(errors.WrongType, match="traced"):
        jax.jit(lambda answers: INFER(answers, classes=3).log_probs)(jnp.asarray(ANSWERS))
    with pytest.raises(errors.WrongType, match="`prior` comes from `predict`"):
        annotators.refit(lambda *labels: PRIOR, ANSWERS, classes=3, prior=PRIOR)
    truth = annotators.dawid_skene(ANSWERS, classes=3, prior=PRIOR, steps=2)
    for level in (0.0, 1.0, 2.0):
        with pytest.raises(errors.OutOfRange, match="`level`"):
            annotators.intervals(truth, level=level)
    with pytest.raises(errors.WrongType, match="`truth`"):
        oracles.as_users_do(annotators.soft_labels)(PRIOR)
    with pytest.raises(errors.WrongShape, match="`answers`"):
        oracles.as_users_do(annotators.information)(truth, ANSWERS[:2])
    with pytest.raises(errors.WrongShape, match="`log_probs`"):
        oracles.as_users_do(annotators.noisy_bald)(
            truth, np.log(np.full((2, 4, 2), 0.5, np.float32))
        )
    with pytest.raises(errors.WrongShape, match="`prior`"):
        oracles.as_users_do(annotators.crowdlab)(ANSWERS[:2], PRIOR)


@pytest.mark.parametrize(
    ("error", "argument", "change"),
    [
        (errors.WrongShape, "again", dict(again=np.zeros(3))),
        (errors.NonFinite, "again", dict(again=np.array([[np.nan, 0.0]]))),
        (errors.NonFinite, "new", dict(new=np.array([[np.inf, 0.0]]))),
        (errors.WrongShape, "new", dict(new=np.zeros((2, 3)))),
        (errors.WrongShape, "again_cost", dict(again_cost=np.ones(3))),
        (errors.OutOfRange, "new_cost", dict(new_cost=0.0)),
        (errors.OutOfRange, "again_cost", dict(again_cost=np.array([1.0, np.nan]))),
        (errors.WrongSize, "size", dict(size=0)),
        (errors.WrongSize, "most", dict(most=0)),
    ],
)
def test_a_bad_ranking_is_refused_by_name(error, argument, change):
    good = dict(again=np.zeros((2, 2)), new=np.zeros((3, 2)), size=2)
    RANK(**good)
    with pytest.raises(error, match=f"`{argument}`") as caught:
        RANK(**good | change)
    assert caught.value.argument == argument
