"""BAIT against its objective in float64. The laws of all selectors are
in test_select_features.py.
"""

import itertools
import sys

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesal import errors, select
from bayesal.select._bait import _fisher_factors as fisher_factors

pytestmark = pytest.mark.usefixtures("strict")

N, R, P, B = 20, 2, 4, 3
ALL, NOTHING = np.ones(N, bool), np.zeros(N, bool)


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    """Twenty points in three chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["bayesal.select._bait"], "CHUNK", 7)
        yield


def run(v, available, labeled, ridge):
    return select.bait(v, B, available=available, labeled=labeled, ridge=ridge)


def factors(seed, rows=N):
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, R, P)) * random.gamma(1.0, size=(rows, 1, 1))).astype(
        np.float32
    )


def fishers(v):
    v = np.asarray(v, np.float64)
    return np.einsum("nrp,nrq->npq", v, v)


class Objective:
    """tr(M_S^-1 F), in float64 and by inverting, as a function of the set S."""

    def __init__(self, v, available, labeled, ridge):
        each, self.labeled = fishers(v), list(np.flatnonzero(labeled))
        mean = each[available | labeled].mean(0)
        unit = np.trace(mean) / len(mean)
        self.each, self.mean, self.prior = each / unit, mean / unit, ridge * np.eye(len(mean))

    def __call__(self, batch):
        return np.trace(
            np.linalg.inv(self.prior + self.each[[*self.labeled, *batch]].sum(0)) @ self.mean
        )


def forward_backward(objective, candidates, size):
    """Batch, best first, and the least gap by which any decision was made."""
    batch, gap = [], np.inf
    for _ in range(min(2 * size, len(candidates))):
        table = sorted((objective([*batch, i]), i) for i in candidates if i not in batch)
        gap = min([gap, *(b[0] - a[0] for a, b in itertools.pairwise(table[:2]))])
        batch.append(table[0][1])
    out = []
    while batch:
        table = sorted((objective([j for j in batch if j != i]), i) for i in batch)
        gap = min([gap, *(b[0] - a[0] for a, b in itertools.pairwise(table[:2]))])
        out.append(table[0][1])
        batch.remove(table[0][1])
    return out[::-1][:size], gap


@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0]))
def test_bait_is_forward_greedy_and_backward_pruning(seed, ridge):
    random = np.random.default_rng(seed)
    labeled = random.random(N) < 0.1
    available = (random.random(N) < 0.8) & ~labeled
    v = factors(seed)
    objective = Objective(v, available, labeled, ridge)
    want, gap = forward_backward(objective, np.flatnonzero(available), B)
    picked = run(v, available, labeled, ridge)
    batch = picked.indices.tolist()
    if gap > 1e-4:  # nearer decisions are float32's to make
        assert batch == want
    steps = [objective(batch[:b]) - objective(batch[: b + 1]) for b in range(B)]
    np.testing.assert_allclose(picked.scores, steps, rtol=1e-3, atol=1e-4)


def test_bait_is_close_to_the_best_of_all_batches_and_beats_chance():
    for seed in range(3):
        v = factors(seed)
        objective = Objective(v, ALL, NOTHING, 1.0)
        every = np.sort([objective(batch) for batch in itertools.combinations(range(N), B)])
        assert np.searchsorted(
            every, objective(run(v, ALL, NOTHING, 1.0).indices.tolist())
        ) < 0.01 * len(every)


def test_labeled_information_is_not_bought_again():
    v = np.zeros((N, R, P), np.float32)
    v[np.arange(N), 0, np.arange(N) % P] = 1.0  # each point measures one parameter
    labeled = np.isin(np.arange(N) % P, [0]) & (np.arange(N) < N - P)  # parameter 0 is known
    assert sorted(np.asarray(run(v, ~labeled, labeled, 0.1).indices) % P) == [1, 2, 3]


@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_fisher_factors_are_the_expected_square_of_the_gradient(seed):
    log_p, p = oracles.random_log_probs(seed, (2, 5, 3))
    x = np.random.default_rng(seed).normal(size=(5, 2)).astype(np.float32)
    p = p.mean(0)
    got = fishers(fisher_factors(log_p, x))
    for i in range(5):
        want = sum(
            p[i, y] * np.outer(g, g)
            for y in range(3)
            for g in [np.outer(p[i] - np.eye(3)[y], x[i].astype(float)).ravel()]
        )
        np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-6)


def test_fisher_factors_of_sure_points_are_zero():  # TRAPS 1
    sure = np.where(
        np.eye(5, 3, dtype=bool) | (np.arange(3) == 2) & (np.arange(5)[:, None] > 2), 0.0, -np.inf
    ).astype(np.float32)
    assert not np.asarray(fisher_factors(np.stack([sure, sure]), np.ones((5, 2), np.float32))).any()


def test_bait_refuses_by_name():
    v, log_p = factors(0), oracles.random_log_probs(0, (1, N, 3))[0]
    broken = v.copy()
    broken[5, 1, 2] = np.nan
    cases = [
        ("factors", (), lambda: select.bait(v[0], B)),
        ("factors", (), lambda: select.bait(v.astype(int), B)),
        ("factors", (), lambda: select.bait(v[:, :0], B)),
        ("factors", (), lambda: select.bait(v.tolist(), B)),
        ("factors", (5,), lambda: select.bait(broken, B)),
        ("ridge", (), lambda: select.bait(v, B, ridge=0.0)),
        ("ridge", (), lambda: select.bait(v, B, ridge=float("nan"))),
        ("size", (), lambda: select.bait(v, N + 1)),
        ("size", (), lambda: select.bait(v, B, labeled=np.arange(N) > 1)),
        ("labeled", (), lambda: select.bait(v, B, labeled=ALL[1:])),
        ("features", (), lambda: fisher_factors(log_p, v[1:, 0])),
        ("log_probs", (), lambda: fisher_factors(np.exp(log_p), v[:, 0])),
    ]
    for argument, at, call in cases:
        with pytest.raises(errors.BayesalError, match=f"`{argument}`") as caught:
            oracles.as_users_do(call)()
        assert caught.value.argument == argument and (not at or tuple(caught.value.rows) == at)
