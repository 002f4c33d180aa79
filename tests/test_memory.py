"""What a score or a selector answers does not change when the caller's memory is used again."""

import jax
import numpy as np
import oracles
import pytest

from bayesal import _checks, scores, select
from bayesal.scores import combine, multilabel, probit, regression

N, K, C, D, T = 400, 16, 4, 6, 20
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
LOG_P = oracles.log_softmax(RNG.normal(size=(K, N, C))).astype(np.float32)
TARGET = LOG_P[:, :T].copy()
F = RNG.normal(size=(N, D)).astype(np.float32)
M, V = RNG.normal(size=(K, N)).astype(np.float32), np.exp(RNG.normal(size=(K, N)), dtype=np.float32)
S, P = np.exp(RNG.normal(size=(2, N))).astype(np.float32)
FREE, LABELED = RNG.random(N) < 0.7, np.arange(N) < 20
COV = np.eye(N, dtype=np.float32)
PAIRS = np.stack([np.arange(N - 1), np.arange(1, N)], axis=1)

CATEGORICAL = [
    "entropy",
    "expected_entropy",
    "least_confidence",
    "margin",
    "variation_ratio",
    "mean_std",
    "bald",
    "decompose",
    "vote_entropy",
]
CASES = {
    **{name: (getattr(scores, name), (LOG_P,)) for name in CATEGORICAL},
    "expected_model_change": (scores.expected_model_change, (LOG_P, F)),
    "epig": (scores.epig, (LOG_P, TARGET)),
    "target_weights": (scores.target_weights, (TARGET, P[:C])),
    "density": (scores.density, (F,)),
    "information_density": (scores.information_density, (S, P)),
    "neighbor_error": (
        lambda f, g, s, v: scores.neighbor_error(f, g, s, bandwidth=1.0, valid=v),
        (F, F[:20].copy(), S[:20].copy(), FREE[:20].copy()),
    ),
    "structured": (scores.structured(scores.bald), (LOG_P[:, :, None], FREE[:, None])),
    "reduce": (scores.reduce, (F, F > 0)),
    **{
        name: (getattr(multilabel, name), (M[..., None], FREE[:, None]))
        for name in ("entropy", "expected_entropy", "bald")
    },
    **{
        f"regression.{name}": (getattr(regression, name), (M, V))
        for name in ("variance", "epistemic", "aleatoric", "bald_moments", "bald")
    },
    "regression.epig": (regression.epig, (M, V, M[:, :T].copy(), V[:, :T].copy())),
    "joint_information": (regression.joint_information, (M[:, :9].copy(), V[0, :9].copy())),
    "probit": (probit.bald, (M[0].copy(), V[0].copy())),
    "preference": (probit.preference, (M[0].copy(), COV, PAIRS)),
    **{
        f"combine.{name}": (
            lambda s, p, a, name=name: getattr(combine, name)(s, p, available=a),
            (S, P, FREE),
        )
        for name in ("rank_sum", "z_score", "product", "pareto")
    },
    "top": (lambda s, a: select.top(s, 5, available=a), (S, FREE)),
    "uniform": (lambda a: select.uniform(KEY, N, 5, available=a), (FREE,)),
    **{
        name: (lambda s, a, name=name: getattr(select, name)(KEY, s, 5, available=a), (S, FREE))
        for name in ("power", "softmax", "softrank")
    },
    "class_balanced": (
        lambda y, s, a: select.class_balanced(y, s, 5, available=a),
        (PAIRS[:, 0] % 3, S[1:], FREE[1:]),
    ),
    "suppress_duplicates": (
        lambda f, s, a: select.suppress_duplicates(f, s, 5, radius=1.0, available=a),
        (F, S, FREE),
    ),
    "budgeted": (lambda s, p, a: select.budgeted(s, p, 9.0, available=a), (S, P, FREE)),
    "k_center": (lambda f, m: select.k_center(f, 5, labeled=m), (F, LABELED)),
    "k_means_pp": (lambda f, m: select.k_means_pp(KEY, f, 5, labeled=m), (F, LABELED)),
    "k_means": (lambda f, a: select.k_means(KEY, f, 5, available=a), (F, FREE)),
    "typiclust": (lambda f, m: select.typiclust(KEY, f, 5, labeled=m), (F, LABELED)),
    "dpp": (lambda f, m, q: select.dpp(f, 5, labeled=m, quality=q), (F, LABELED, P)),
    "log_det_gaussian": (lambda m, v: select.log_det_gaussian(m, v, 5), (M, V[0].copy())),
    "badge": (lambda x, f: select.badge(KEY, x, f, 5), (LOG_P, F)),
    "bait": (lambda f, m: select.bait(f, 5, labeled=m), (F[:, None], LABELED)),
    "batch_bald": (lambda x, a: select.batch_bald(KEY, x, 5, available=a), (LOG_P, FREE)),
    "batch_epig": (
        lambda x, t, w: select.batch_epig(KEY, x, t, 3, weights=w, configurations=100),
        (LOG_P, TARGET, P[:T].copy()),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_of_what_was_passed(name):
    function, inputs = CASES[name]
    function = oracles.as_users_do(function)
    want = jax.tree.map(np.asarray, function(*inputs))
    for _ in range(3):  # most results are computed after the call has returned
        buffers = [values.copy() for values in inputs]
        got = function(*buffers)
        for buffer in buffers:
            buffer[...] = buffer[::-1].copy()
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, got), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_numbers_are_copied_at_the_door(dtype):
    buffer = np.ones(2**16, dtype)
    numbers = _checks.as_float(buffer)
    mask = _checks.available_rows(buffer, 2**16) if dtype is bool else numbers
    buffer[:] = 0
    assert np.asarray(numbers).all() and np.asarray(mask).all()


def test_every_public_score_and_selector_has_its_case():
    functions = {
        name
        for room in (scores, select)
        for name in room.__all__
        if callable(getattr(room, name)) and not isinstance(getattr(room, name), type)
    }
    assert functions <= {case.split(".")[-1] for case in CASES}
