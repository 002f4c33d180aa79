"""Rankings of whole pools: order, facts, and files."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import bayesal
from bayesal import acquire, errors, export, pools, scores

K, N, C, SIZE = 6, 30, 3, 4
LOG_P, P = oracles.random_log_probs(3, (K, N, C), scale=1.0)
POOL = pools.numbers(log_probs=LOG_P, axes="K N C")
FREE = np.arange(N) % 5 > 0
IDS = [f"row {row}" for row in range(N)]


@pytest.fixture(scope="module")
def batch():
    return bayesal.choose(0, None, POOL, SIZE, acquire.batch_bald(), available=FREE)


@pytest.fixture(scope="module")
def ranked(batch):
    return export.ranking(batch, None, POOL, available=FREE, ids=IDS)


def test_the_batch_comes_first_and_scores_never_rise(batch, ranked):
    assert ranked.rows[:SIZE].tolist() == batch.indices.tolist()
    assert sorted(ranked.rows.tolist()) == np.flatnonzero(FREE).tolist()
    assert np.all(np.diff(ranked.score) <= 0)
    behind = ranked.rows[SIZE:]
    own = np.array([oracles.bald(P[:, row]) for row in behind])
    assert np.all(np.diff(own) <= 1e-6)  # in the order of their own BALD


def test_facts_are_those_of_an_enumeration(ranked):
    for at, row in enumerate(ranked.rows):
        assert abs(ranked.total[at] - oracles.entropy(P[:, row])) < 2e-6
        assert abs(ranked.epistemic[at] - oracles.bald(P[:, row])) < 2e-6
        assert abs(ranked.total[at] - ranked.aleatoric[at] - ranked.epistemic[at]) < 2e-6
        mean = np.asarray(P)[:, row].mean(0)
        assert ranked.prediction[at] == mean.argmax()
        assert abs(ranked.confidence[at] - mean.max()) < 1e-6


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_files_hold_the_records(ranked, tmp_path, ending):
    path = tmp_path / f"ranking.{ending}"
    records = ranked.to_records(path)
    text = path.read_text()
    if ending == "csv":
        read = list(csv.DictReader(text.splitlines()))
    else:
        read = [json.loads(line) for line in text.splitlines()]
    assert [row["id"] for row in read] == [row["id"] for row in records]
    assert [float(row["score"]) for row in read] == [row["score"] for row in records]
    assert records[0]["id"] == f"row {ranked.rows[0]}" and records[0]["rank"] == 1
    assert np.float32(records[3]["score"]) == ranked.score[3]


def test_a_model_and_its_numbers_rank_alike(batch):
    x = jnp.arange(N, dtype=jnp.float32)[:, None]
    predictive = jax.tree_util.Partial(lambda table, x: table[:, x[:, 0].astype(int)], LOG_P)
    own = export.ranking(batch, predictive, x, available=FREE)
    given = export.ranking(batch, None, POOL, available=FREE)
    assert own.rows.tolist() == given.rows.tolist()
    np.testing.assert_allclose(own.score, given.score, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        (dict(ids=IDS[:-1]), "ids"),
        (dict(ids=[*IDS[:-1], IDS[0]]), "ids"),
        (dict(ids=[1.5] * N), "ids"),
        (dict(available=np.ones(N - 1, bool)), "available"),
    ],
)
def test_what_does_not_fit_the_pool_is_refused(batch, options, argument):
    with pytest.raises(errors.BayesalError, match=f"`{argument}`") as caught:
        oracles.as_users_do(export.ranking)(batch, None, POOL, **options)
    assert caught.value.argument == argument


def test_a_batch_of_another_pool_and_an_unknown_ending_are_refused(batch, ranked, tmp_path):
    small = pools.numbers(log_probs=LOG_P[:, :3], axes="K N C")
    with pytest.raises(errors.WrongIndex):
        export.ranking(batch, None, small)
    with pytest.raises(errors.WrongShape, match="csv"):
        ranked.to_records(tmp_path / "ranking.xlsx")


def test_one_draw_is_ranked_by_entropy():
    one = pools.numbers(log_probs=LOG_P[:1], axes="K N C")
    batch = bayesal.choose(0, None, one, SIZE, acquire.top(scores.entropy))
    ranked = export.ranking(batch, None, one, score=scores.entropy)
    assert np.all(np.diff(ranked.score) <= 0) and len(set(ranked.score.tolist())) > N // 2
