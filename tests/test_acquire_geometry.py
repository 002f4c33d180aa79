"""Strategies on features: the selector on what the predictive says of the whole pool, with the labeled rows as centers."""

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest

from bayesal import acquire, checks, maths, posteriors, scores, select
from bayesal.predictives import Predictive

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


MEAN = maths.log_mean_exp(Linear()(X))[None]
# strategy, and what it must be on arrays: (key, x, available, labeled) -> Selection
STRATEGIES = {
    "k_center": (acquire.k_center(), lambda key, a, m: select.k_center(2.0 * X, B, available=a, labeled=m, key=key)),
    "k_means_pp": (acquire.k_means_pp(), lambda key, a, m: select.k_means_pp(key, 2.0 * X, B, available=a, labeled=m)),
    "k_means": (acquire.k_means(iterations=3), lambda key, a, m: select.k_means(key, 2.0 * X, B, available=a, iterations=3)),
    "typiclust": (acquire.typiclust(iterations=3), lambda key, a, m: select.typiclust(key, 2.0 * X, B, available=a, labeled=m, iterations=3)),
    "determinant": (acquire.determinant(noise=0.1), lambda key, a, m: select.determinant(2.0 * X, B, available=a, labeled=m, noise=0.1)),
    "badge": (acquire.badge(chunk=7), lambda key, a, m: select.badge(key, MEAN, 2.0 * X, B, available=a)),
    "bait": (
        acquire.bait(ridge=0.1, chunk=7),
        lambda key, a, m: select.bait(select.fisher_factors(MEAN, 2.0 * X), B, available=a, labeled=m, ridge=0.1)),
}
every_strategy = pytest.mark.parametrize("name", STRATEGIES)
RUN = {name: jax.jit(lambda key, x, available, s=s: s(key, Linear(), x, available, B)) for name, (s, _) in STRATEGIES.items()}


@every_strategy
def test_a_strategy_is_its_selector_with_the_other_rows_labeled(name):
    available = jnp.asarray(np.random.default_rng(3).random(N) < 0.7)
    got, want = RUN[name](KEY, X, available), jax.jit(STRATEGIES[name][1])(KEY, available, ~available)
    np.testing.assert_array_equal(got.indices, want.indices)
    np.testing.assert_allclose(got.scores, want.scores, rtol=1e-3)
    assert np.asarray(available)[np.asarray(got.indices)].all() and len(set(got.indices.tolist())) == B


@every_strategy
@pytest.mark.parametrize("left", [0, 2])
def test_the_end_of_the_pool_is_filled_with_minus_one(name, left):
    last = np.array([7, 39])[:left]
    picks = np.asarray(RUN[name](KEY, X, jnp.asarray(np.isin(np.arange(N), last))).indices)
    assert sorted(picks[:left].tolist()) == sorted(last.tolist()) and (picks[left:] == -1).all()


def test_within_gives_rows_of_the_whole_pool():
    run = jax.jit(lambda key: acquire.within(12, scores.entropy, acquire.k_center())(key, Linear(), X, ALL, B))
    kept = np.argsort(-np.asarray(scores.entropy(Linear()(X))), kind="stable")[:12]
    want = kept[np.asarray(select.k_center(2.0 * X[kept], B, key=KEY).indices)]
    np.testing.assert_array_equal(run(KEY).indices, want)


def test_a_network_s_own_features_are_used():
    posterior = posteriors.mc_dropout(laws.MLP)
    x = jnp.asarray(laws.problem()[0][:N])
    state = posterior.init(KEY, x[0])
    predictive = Predictive(posterior, state, posterior.draw(KEY, state, K), jnp.float32(1.0))
    picked = jax.jit(lambda p, x: acquire.badge()(KEY, p, x, ALL, B))(predictive, x)
    want = select.badge(KEY, predictive.mean(x)[None], predictive.embed(x), B)
    np.testing.assert_array_equal(picked.indices, want.indices)


def test_a_network_without_features_is_refused():
    bare = posteriors.mc_dropout(laws.MLP._replace(embed=None))
    predictive = Predictive(bare, None, None, jnp.float32(1.0))
    with pytest.raises(checks.MissingEmbed, match="embed") as error:
        acquire.k_center()(KEY, predictive, X, ALL, B)
    assert error.value.argument == "posterior"
