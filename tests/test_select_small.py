"""BatchBALD where draws nearly agree: gains of 1e-10 nats and above keep their order."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import errors, select
from bayesal.select import _configurations

pytestmark = pytest.mark.usefixtures("strict")


def nearly_agreeing(draws, rows, classes, apart, seed=0):
    """Log-probabilities in float32, and exact probabilities of what float32 holds."""
    rng = np.random.default_rng(seed)
    size = apart * np.exp(0.5 * rng.normal(size=(rows, 1)))
    z = rng.normal(size=(rows, classes)) + size * rng.normal(size=(draws, rows, classes))
    log_p = oracles.log_softmax(z).astype(np.float32)
    p = np.exp(log_p.astype(np.float64))
    return log_p, p / p.sum(-1, keepdims=True)


def information(p, weights):
    """BALD in float64 as a divergence, `p [K, n, C]` under weights `[K]`."""
    mean = np.tensordot(weights, p, 1)
    return np.tensordot(weights, (p * np.log(p / mean)).sum(-1), 1)


@pytest.mark.parametrize(
    ("draws", "rows", "classes", "apart"),
    [
        (10, 300, 2, 1e-4),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((10, 300, 3, 1e-4), (20, 600, 10, 1e-4), (8, 300, 2, 2e-5))
        ),
    ],
)
def test_twenty_picks_are_the_top_twenty(draws, rows, classes, apart):
    log_p, p = nearly_agreeing(draws, rows, classes, apart)
    bald = information(p, np.full(draws, 1 / draws))  # labels so weak tell nothing of one another
    best = np.argsort(-bald)[:20]
    picked = select.batch_bald(jax.random.key(0), log_p, 20)
    assert bald[best[-1]] > 1e-10 and bald.max() < 1e-6
    assert set(picked.indices.tolist()) == set(best)
    np.testing.assert_allclose(picked.scores, bald[np.asarray(picked.indices)], rtol=3e-3)
    np.testing.assert_allclose(picked.joint[-1], bald[best].sum(), rtol=1e-3)
    assert float(picked.evaluated) < 0.6  # bounds rule points out at this scale too


def test_small_gains_after_a_label_that_tells_much():
    log_p, p = nearly_agreeing(10, 200, 3, 1e-4, seed=1)
    told = np.random.default_rng(2).normal(size=(10, 1, 3)) * 2
    log_p[:, :1] = oracles.log_softmax(told)
    p[:, :1] = np.exp(log_p[:, :1].astype(np.float64))
    p[:, 0] /= p[:, 0].sum(-1, keepdims=True)
    gains = np.zeros(200)
    for label in range(3):  # the exact gain given the first label, by Bayes' rule
        weights = p[:, 0, label] / p[:, 0, label].sum()
        gains += p[:, 0, label].mean() * information(p, weights)
    gains[0] = 0.0
    picked = select.batch_bald(jax.random.key(0), log_p, 2)
    assert picked.indices.tolist()[0] == 0
    assert gains[int(picked.indices[1])] >= gains.max() * (1 - 1e-3)
    np.testing.assert_allclose(picked.scores[1], gains[int(picked.indices[1])], rtol=3e-3)


@pytest.mark.parametrize("apart", [1e-4, 1e-2, 1.0])
def test_the_two_forms_are_one_number(apart):
    log_p, p = nearly_agreeing(6, 20, 4, apart)
    rng = np.random.default_rng(3)
    weights, share = rng.dirichlet(np.ones(6), 9), rng.dirichlet(np.ones(9))
    state = _configurations.Configurations(
        jnp.asarray(weights, jnp.float32), jnp.asarray(share, jnp.float32)
    )
    want = sum(s * information(p, w / w.sum()) for s, w in zip(share, weights, strict=True))
    probs = jnp.exp(jnp.asarray(log_p)).transpose(0, 2, 1)
    got = jax.jit(_configurations.small_information)(state, probs)
    np.testing.assert_allclose(got, want, rtol=3e-3 if apart < 1e-3 else 1e-4)


@pytest.mark.slow
def test_a_class_that_no_draw_allows_adds_nothing():
    log_p = nearly_agreeing(6, 20, 3, 1e-4)[0]
    wider = np.concatenate([log_p, np.full((6, 20, 1), -np.inf, np.float32)], axis=-1)
    both = [select.batch_bald(jax.random.key(0), x, 3, configurations=100) for x in (log_p, wider)]
    assert both[0].indices.tolist() == both[1].indices.tolist()
    np.testing.assert_allclose(both[0].scores, both[1].scores, rtol=1e-3)


def test_more_configurations_than_memory_holds_are_refused():
    log_p = oracles.random_log_probs(0, (10, 20, 3))[0]
    for function in (
        lambda: select.batch_bald(jax.random.key(0), log_p, 2, configurations=10**9),
        lambda: select.batch_epig(jax.random.key(0), log_p, log_p, 2, configurations=10**9),
    ):
        with pytest.raises(errors.WrongSize, match="`configurations`") as caught:
            function()
        assert caught.value.argument == "configurations"
