"""Strategies on features: the selector on what the predictive says of the whole pool, with the
labeled rows as centers.
"""

import inspect

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest

from bayesal import _maths, acquire, errors, posteriors, scores, select
from bayesal.predictive._bound import Predictive

N, K, C, F, B = 40, 3, 3, 4, 4
X = jnp.asarray(np.random.default_rng(0).normal(size=(N, F)).astype(np.float32))
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32))
ALL = jnp.ones(N, bool)
KEY = jax.random.key(0)


class Linear:
    """K linear functions of x, on features that are twice x: a predictive like any other."""

    def __call__(self, x):
        return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, WEIGHTS), axis=-1)

    def embed(self, x):
        return 2.0 * x


# factory, options that it passes on, and what its strategy hands to the selector besides the size
# and the available rows
STRATEGIES = {
    "k_center": (acquire.k_center, {}, {"labeled", "key"}),
    "k_means_pp": (acquire.k_means_pp, {}, {"labeled", "key"}),
    "k_means": (acquire.k_means, {"iterations": 3}, {"key"}),
    "typiclust": (acquire.typiclust, {"iterations": 3}, {"labeled", "key"}),
    "determinant": (acquire.dpp, {"noise": 0.1}, {"labeled"}),
    "badge": (acquire.badge, {}, {"key", "mean"}),
    "bait": (acquire.bait, {"ridge": 0.1}, {"labeled"}),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_its_selector_with_the_other_rows_labeled(name, monkeypatch):
    factory, options, wanted = STRATEGIES[name]
    signature, answer = (
        inspect.signature(getattr(select, name)),
        select.top(np.arange(N, dtype=np.float32), B),
    )
    handed = {}

    def selector(*args, **kwargs):
        handed.update(signature.bind(*args, **kwargs).arguments)
        return answer

    monkeypatch.setattr(select, name, selector)
    available = np.random.default_rng(3).random(N) < 0.7
    chunk = {"chunk": 7} if name in ("badge", "bait") else {}
    assert factory(**options, **chunk)(KEY, Linear(), X, jnp.asarray(available), B) is answer
    assert handed.pop("size") == B and handed.pop("available").tolist() == available.tolist()
    if "key" in wanted:
        assert handed.pop("key") is KEY
    if "labeled" in wanted:
        assert handed.pop("labeled").tolist() == (~available).tolist()
    mean = _maths.log_mean_exp(Linear()(X))[None]
    if "mean" in wanted:
        np.testing.assert_allclose(handed.pop("log_probs"), mean, atol=1e-6)
    if name == "bait":
        np.testing.assert_allclose(
            handed.pop("factors"), select.fisher_factors(mean, 2.0 * X), atol=1e-5
        )
    else:
        np.testing.assert_array_equal(handed.pop("features"), 2.0 * X)
    assert handed == options


def test_within_gives_rows_of_the_whole_pool():
    picked = acquire.prefilter(12, scores.entropy, acquire.k_center())(KEY, Linear(), X, ALL, B)
    kept = np.argsort(-np.asarray(scores.entropy(Linear()(X))), kind="stable")[:12]
    want = kept[np.asarray(select.k_center(2.0 * X[kept], B, key=KEY).indices)]
    np.testing.assert_array_equal(picked.indices, want)


def test_a_network_s_own_features_are_used(monkeypatch):
    posterior = posteriors.mc_dropout(laws.MLP)
    x = jnp.asarray(laws.problem()[0][:N])
    state = posterior.init(KEY, x[0])
    predictive = Predictive(posterior, state, posterior.draw(KEY, state, K), jnp.float32(1.0))
    handed = []
    monkeypatch.setattr(select, "badge", lambda *args, **masks: handed.extend(args))
    acquire.badge()(KEY, predictive, x, ALL, B)
    np.testing.assert_allclose(handed[1], predictive.mean(x)[None], atol=1e-6)
    np.testing.assert_array_equal(handed[2], jax.vmap(lambda one: posterior.embed(state, one))(x))


def test_a_network_without_features_is_refused():
    bare = posteriors.mc_dropout(laws.MLP._replace(embed=None))
    predictive = Predictive(bare, None, None, jnp.float32(1.0))
    with pytest.raises(errors.MissingEmbed, match="embed") as error:
        acquire.k_center()(KEY, predictive, X, ALL, B)
    assert error.value.argument == "posterior"
