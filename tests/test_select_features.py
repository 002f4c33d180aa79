"""Selectors on features, each against its own oracle. The laws of all selectors are in
test_selector_laws.py.
"""

import itertools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import errors, select
from bayesal.select import _clusters as clusters
from bayesal.select import _points as edge
from bayesal.select import _spread as spread

badge, typical = (
    sys.modules[f"bayesal.select._{name}"] for name in ("badge", "typiclust")
)  # modules behind functions of the same name
pytestmark = pytest.mark.usefixtures("strict")

N, D, B = 40, 6, 5


def opinions(x):
    """Log-probabilities that hang on the features but not on their unit; of another pool where
    these are no features at all.
    """
    sound = (
        np.ndim(x) == 2
        and np.shape(x)[1] >= 3
        and jnp.issubdtype(getattr(x, "dtype", int), jnp.floating)
    )
    signs = jnp.sign(jnp.nan_to_num(jnp.asarray(x if sound else pool()).astype(jnp.float32)))
    return jax.nn.log_softmax(signs[:, :3] * jnp.array([[1.0, 2.0, 3.0]]), axis=-1)[None]


def as_factors(x):
    """Two rows of three parameters for each point."""
    return x.reshape(-1, 2, 3)


def unlabeled(call):
    """A selector to which labeled points are no more than not available."""
    return lambda key, x, b, available, labeled: call(key, x, b, available=available & ~labeled)


SELECTORS = {
    "k_center": lambda key, x, b, **masks: select.k_center(x, b, **masks),
    "k_center_key": lambda key, x, b, **masks: select.k_center(x, b, key=key, **masks),
    "k_means_pp": select.k_means_pp,
    "k_means": unlabeled(select.k_means),
    "typiclust": select.typiclust,
    "badge": unlabeled(
        lambda key, x, b, available: select.badge(key, opinions(x), x, b, available=available)
    ),
    "determinant": lambda key, x, b, **masks: select.dpp(x, b, **masks),
    "bait": lambda key, x, b, **masks: select.bait(as_factors(x), b, **masks),
}
every_selector = pytest.mark.parametrize("name", SELECTORS)
NOTHING, ALL = np.zeros(N, bool), np.ones(N, bool)
KEY = jax.random.key(0)


def pool(seed=0, rows=N, width=D):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def run(name, x, available=ALL, labeled=NOTHING, key=KEY, b=B):
    """The selector behind its edge, as under jit but compiled once for all tests: values are not
    looked at.
    """
    with pytest.MonkeyPatch.context() as patch:
        oracles.unseen_values(patch)
        return SELECTORS[name](
            key, jnp.asarray(x), b, available=jnp.asarray(available), labeled=jnp.asarray(labeled)
        )


def rows(*args, **kwargs):
    return np.asarray(run(*args, **kwargs).indices)


BAD = {
    "a list": (errors.WrongShape, "features", lambda x: {"x": x.tolist()}),
    "one axis": (errors.WrongShape, "features", lambda x: {"x": x[:, 0]}),
    "three axes": (errors.WrongShape, "features", lambda x: {"x": x[None]}),
    "no features": (errors.WrongShape, "features", lambda x: {"x": x[:, :0]}),
    "complex": (errors.WrongShape, "features", lambda x: {"x": x.astype(np.complex64)}),
    "booleans": (errors.WrongShape, "features", lambda x: {"x": x > 0}),
    "nan": (
        errors.NonFinite,
        "features",
        lambda x: {"x": np.where(np.arange(N)[:, None] == 4, np.float32(np.nan), x)},
    ),
    "too large for float32": (
        errors.NonFinite,
        "features",
        lambda x: {"x": np.where(np.arange(N)[:, None] == 4, 1e39, x.astype(float))},
    ),
    "no points": (
        errors.WrongSize,
        "size",
        lambda x: {"x": x[:0], "available": ALL[:0], "labeled": NOTHING[:0]},
    ),
    "size too large": (errors.WrongSize, "size", lambda x: {"size": N + 1}),
    "too few available": (errors.WrongSize, "size", lambda x: {"available": np.arange(N) < 4}),
    "too few without a label": (errors.WrongSize, "size", lambda x: {"labeled": np.arange(N) >= 4}),
    "size a float": (errors.WrongSize, "size", lambda x: {"size": 2.0}),
    "rows for a mask": (errors.WrongShape, "available", lambda x: {"available": np.arange(N)}),
    "a short mask": (errors.WrongShape, "labeled", lambda x: {"labeled": NOTHING[1:]}),
}


@every_selector
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.filterwarnings("ignore:overflow")
def test_anything_else_is_refused_by_name(name, bad):
    error, argument, spoil = BAD[bad]
    if name in ("k_means", "badge") and argument == "labeled":
        pytest.skip("takes no labeled points")
    if name == "bait" and argument == "features":
        pytest.skip("takes factors: see test_bait.py")
    given = {"x": pool(), "size": B, "available": ALL, "labeled": NOTHING} | spoil(pool())
    with pytest.raises(error, match=f"`{argument}`") as caught:
        oracles.as_users_do(SELECTORS[name])(KEY, given.pop("x"), given.pop("size"), **given)
    assert caught.value.argument == argument
    if bad in ("nan", "too large for float32"):
        assert caught.value.rows.tolist() == [4]


def test_keys_and_iterations_are_checked():
    calls = {
        "key": [
            lambda: select.k_means_pp(-1, pool(), 2),
            lambda: select.k_center(pool(), 2, key=0.5),
        ],
        "iterations": [
            lambda i=i: select.k_means(KEY, pool(), 2, iterations=i) for i in (-1, 1.0, True)
        ]
        + [lambda: select.typiclust(KEY, pool(), 2, iterations=-1)],
    }
    for argument, bad in calls.items():
        for call in bad:
            with pytest.raises(errors.BayesalError) as caught:
                oracles.as_users_do(call)()
            assert caught.value.argument == argument


# distances


def squares(x):
    """All squared distances in float64."""
    x = np.asarray(x, np.float64)
    return np.square(x[:, None] - x[None]).sum(-1)


def test_distances_keep_their_digits_at_an_offset():  # TRAPS 25
    both = jax.jit(
        lambda columns: (
            jax.vmap(spread.squared, (None, 1))(columns, columns),
            spread.pairwise(columns, columns),
        )
    )
    for offset in (0.0, 1e4):
        x = (pool(1) + np.float32(offset)).astype(np.float32)
        for got in both(jnp.asarray(x.T)):
            np.testing.assert_allclose(got, squares(x), rtol=1e-5)
            assert np.all(np.diag(got) == 0)


def test_the_layout_is_exact_at_every_scale():
    for scale in (1e-30, 1.0, 3.0, 3e38):
        x = (pool() / np.abs(pool()).max() * np.float32(scale)).astype(np.float32)
        laid, _ = edge.points(x, B, ALL, NOTHING)
        assert 0.25 <= float(jnp.abs(laid.columns).max()) <= 4.0
        np.testing.assert_array_equal(laid.columns * laid.unit, x.T)


@pytest.mark.parametrize("features", [1, 7, 8, 19, 64])
def test_sums_down_the_features(features):
    x, center = pool(0, features, 5), pool(1, features, 1)[:, 0]
    term = lambda a, c: (jnp.square(a - c), {"product": a * c})
    squares, products = jax.jit(lambda *stacks: edge.summed(term, *stacks))(x, center)
    exact_x, exact_center = np.float64(x), np.float64(center)[:, None]
    np.testing.assert_allclose(squares, ((exact_x - exact_center) ** 2).sum(0), rtol=1e-6)
    np.testing.assert_allclose(
        products["product"], (exact_x * exact_center).sum(0), atol=1e-6 * features
    )


def test_whole_numbers_are_features_too():
    x = np.round(10 * pool()).astype(np.int32)
    np.testing.assert_array_equal(rows("k_center", x), rows("k_center", x.astype(np.float32)))


# k_center


def greedy_k_center(x, size, available, labeled):
    """Farthest-first in float64, with every step's table of distances."""
    table = np.sqrt(squares(x))
    centers, batch = list(np.flatnonzero(labeled)), []
    for _ in range(size):
        middle = np.linalg.norm(x - x[available].astype(np.float64).mean(0), axis=1)
        reach = table[:, centers].min(1) if centers else middle
        reach = np.where(available & ~np.isin(np.arange(len(x)), centers), reach, -1)
        batch.append((int(reach.argmax()), float(reach.max()) if centers else math.inf))
        centers.append(batch[-1][0])
    return batch


@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([0.0, 1e3]))
def test_k_center_is_farthest_first(seed, some_labeled, offset):
    random = np.random.default_rng(seed)
    x = pool(seed) + np.float32(offset)
    labeled = random.random(N) < 0.1 if some_labeled else NOTHING
    available = (random.random(N) < 0.6) & ~labeled
    picked = run("k_center", x, available, labeled)
    want = greedy_k_center(x, B, available, labeled)
    assert picked.indices.tolist() == [row for row, _ in want]
    np.testing.assert_allclose(picked.scores, [far for _, far in want], rtol=1e-5)
    assert np.all(
        np.diff(np.asarray(picked.scores)) <= 1e-6 * (1 + abs(offset)) if labeled.any() else True
    )


@given(st.integers(0, 2**31))
def test_k_center_is_within_twice_the_best_radius(seed):
    x = pool(seed, 10)
    far = np.sqrt(squares(x))
    radius = lambda centers: far[:, list(centers)].min(1).max()
    best = min(map(radius, itertools.combinations(range(10), B)))
    assert radius(rows("k_center", np.tile(x, (4, 1))) % 10) <= 2 * best + 1e-5


def test_k_center_sends_ties_to_the_lowest_row_or_to_chance():
    x = np.zeros((N, D), np.float32)
    x[[2, 3, 5, 7]] = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]) @ np.eye(2, D)
    assert rows("k_center", x).tolist() == [2, 5, 3, 7, 0]
    assert {int(rows("k_center_key", x, key=k)[0]) for k in oracles.keys(30)} == {2, 3, 5, 7}


# k_means_pp


def test_k_means_pp_draws_in_proportion_to_squared_distance():
    x = jnp.array([[0.0], [1.0], [2.0], [3.0], [0.0]])
    draw = jax.jit(
        jax.vmap(lambda k, labeled: select.k_means_pp(k, x, 2, labeled=labeled).indices, (0, None))
    )
    picks = np.asarray(
        draw(oracles.keys(4000), np.arange(5) == 4)
    )  # the last one is labeled: weights 0, 1, 4, 9
    want = {}
    for first, weight in ((1, 1), (2, 4), (3, 9)):
        left = {i: min(i, abs(i - first)) ** 2 for i in range(4) if i != first}
        for second, value in left.items():
            want[first, second] = weight / 14 * value / sum(left.values())
    assert not any(want[pair] == 0 for pair in map(tuple, picks.tolist()))
    for pair, p in want.items():
        assert abs(np.mean((picks == pair).all(1)) - p) < 5 * math.sqrt(p * (1 - p) / 4000) + 1e-9
    firsts = np.bincount(
        np.asarray(draw(oracles.keys(4000), np.zeros(5, bool)))[:, 0], minlength=5
    )  # no center: any
    assert np.all(np.abs(firsts - 800) < 5 * math.sqrt(4000 * 0.2 * 0.8))


def test_k_means_pp_reports_distances():
    for key in oracles.keys(10):
        x = pool() * 3
        picked = run("k_means_pp", x, key=key)
        batch = picked.indices.tolist()
        want = [math.inf] + [
            min(math.dist(x[i], x[j]) for j in batch[:b]) for b, i in enumerate(batch) if b
        ]
        np.testing.assert_allclose(picked.scores, want, rtol=1e-5)


# k_means


def clouds(seed, counts, spread=0.1, offset=0.0):
    random = np.random.default_rng(seed)
    centers = np.eye(len(counts), D) * 10  # with D + 1 clouds the last one is at the origin
    y = np.repeat(np.arange(len(counts)), counts)
    return (offset + centers[y] + spread * random.normal(size=(len(y), D))).astype(np.float32), y


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_k_means_picks_the_middle_of_each_cloud_largest_first(offset):
    x, y = clouds(0, (6, 12, 9, 3, 10), offset=offset)
    for seed in range(5):
        picked = run("k_means", x, key=jax.random.key(seed))
        assert y[np.asarray(picked.indices)].tolist() == [1, 4, 2, 0, 3]
        np.testing.assert_allclose(picked.scores, np.array([12, 10, 9, 6, 3]) / N, rtol=1e-6)
        for row in picked.indices.tolist():
            cloud = np.flatnonzero(y == y[row])
            far = np.linalg.norm(x[cloud] - x[cloud].astype(np.float64).mean(0), axis=1)
            assert far[cloud == row][0] <= far.min() + 1e-6 * (1 + offset)


def lloyd(x, centers, iterations):
    x, centers = x.astype(np.float64), centers.astype(np.float64)
    for step in range(iterations + 1):
        member = np.square(x[:, None] - centers[None]).sum(-1).argmin(1)
        if step < iterations:
            centers = np.stack(
                [
                    x[member == c].mean(0) if (member == c).any() else centers[c]
                    for c in range(len(centers))
                ]
            )
    return centers, member


def test_lloyd_against_numpy():
    run = jax.jit(
        lambda key, laid, iterations: clusters.clusters(
            key, laid, laid.available, B, jnp.int32(B), iterations
        )
    )
    for seed, iterations in itertools.product(range(3), (0, 1, 7)):
        x, key = pool(seed), jax.random.key(seed)
        laid, _ = edge.points(x, B, None)
        found, seeds = run(key, laid, iterations), rows("k_means_pp", x, key=key)
        centers, member = lloyd(x, x[seeds], iterations)
        np.testing.assert_array_equal(found.member, member)
        np.testing.assert_allclose((found.centers * laid.unit).T, centers, atol=1e-5)
        np.testing.assert_array_equal(found.sizes, np.bincount(member, minlength=B))


def test_the_nearest_center_in_several_tiles(monkeypatch):
    monkeypatch.setattr(clusters, "TILE", 7)
    columns, real = jnp.asarray(pool().T), np.arange(30) != 4
    got = clusters._assigned(columns, columns[:, :30], jnp.asarray(real), jnp.int32(30))
    np.testing.assert_array_equal(got, np.where(real, squares(pool())[:, :30], np.inf).argmin(1))


# typiclust


def typicality(x, member):
    table = np.sqrt(squares(x))
    out = np.zeros(len(x))
    for i in range(len(x)):
        near = sorted(table[i, j] for j in range(len(x)) if j != i and member[j] == member[i])[:20]
        out[i] = len(near) / sum(near) if near else 0.0
    return out


def test_typiclust_picks_the_most_typical_of_the_largest_unlabeled_clouds():
    x, y = clouds(1, (1, 11, 8, 2, 9, 4, 5), spread=0.03)
    want = typicality(x, y)
    labeled = np.isin(np.arange(N), [np.flatnonzero(y == cloud)[0] for cloud in (1, 2)])
    for seed in range(3):
        picked = run("typiclust", x, ~labeled, labeled, jax.random.key(seed))
        assert y[np.asarray(picked.indices)].tolist() == [4, 6, 5, 3, 0]
        for row, score in zip(picked.indices.tolist(), picked.scores.tolist(), strict=True):
            assert math.isclose(want[row], score, rel_tol=1e-5) and math.isclose(
                score, want[y == y[row]].max(), rel_tol=1e-5
            )


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (16, 3),
        pytest.param(128, 1, marks=pytest.mark.slow),
        pytest.param(7, 12, marks=pytest.mark.slow),
    ],
)
def test_typicality_against_all_pairs(block, count, monkeypatch):
    monkeypatch.setattr(typical, "BLOCK", block)
    x, member = pool(3), np.random.default_rng(3).integers(-1, count, N).astype(np.int32)
    got = np.asarray(typical._typicality(KEY, jnp.asarray(x.T), jnp.asarray(member)))
    np.testing.assert_allclose(got[member >= 0], typicality(x, member)[member >= 0], rtol=1e-5)


@pytest.mark.slow
def test_typicality_in_a_large_cluster_is_among_some_of_it(monkeypatch):
    monkeypatch.setattr(typical, "MOST_COMPARED", 10)
    x = pool(4)
    got = np.asarray(typical._typicality(KEY, jnp.asarray(x.T), jnp.zeros(N, jnp.int32)))
    table = np.sqrt(squares(x))
    reference = [j for j in range(N) if got[j] > 0]
    assert len(reference) == N and np.all(
        got <= [1 / np.sort(table[i])[1:10].mean() + 1e-6 for i in range(N)]
    )


@pytest.mark.slow
def test_typiclust_with_a_label_in_every_cluster_takes_the_least_labeled(monkeypatch):
    monkeypatch.setattr(typical, "MOST_CLUSTERS", 3)
    x, y = clouds(2, (8, 12, 20), spread=0.1)
    labeled = np.isin(np.arange(N), [0, 8, 9, 20, 21, 22])  # 1, 2 and 3 labels
    picked = select.typiclust(KEY, x, 2, labeled=labeled)
    assert y[np.asarray(picked.indices)].tolist() == [
        0,
        1,
    ]  # then 2, 2 and 3: the larger of the first two


# where Lloyd's algorithm leaves a cluster empty, or a copy nearest to another cluster's center
COPIES = {
    "k_means": (
        3,
        12,
        [0, 1, 2, 5, 4, 4, 3, 2, 3, 5, 5, 3],
        [[0.8, -1.56], [-0.46, 2.04], [-0.23, 0.32], [-0.16, -0.62], [-1.49, -1.14], [1.68, -0.08]],
    ),
    "typiclust": (
        4,
        215,
        [7, 3, 6, 2, 7, 6, 2, 2, 4, 3, 5, 0, 0, 0, 7, 1],
        [
            [-0.14, -1.76],
            [1.52, -1.35],
            [-1.19, 0.44],
            [0.43, 0.53],
            [-1.98, 0.53],
            [0.64, 0.24],
            [-0.59, -1.51],
            [-0.28, 1.04],
        ],
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_wait_even_where_clusters_run_empty(name):
    size, seed, ids, x = COPIES[name]
    picked = getattr(select, name)(jax.random.key(seed), np.array(x, np.float32)[ids], size)
    assert len({ids[row] for row in picked.indices.tolist()}) == size


def test_points_that_may_not_be_picked_do_not_set_the_unit():
    x = pool()
    x[3] = 1e30
    for name in ("k_center", "determinant"):
        assert len(set(np.round(run(name, x, np.arange(N) != 3).scores, 3).tolist())) == B
        np.testing.assert_array_equal(
            rows(name, x, np.arange(N) != 3), rows(name, pool(), np.arange(N) != 3)
        )
    factors = [
        select.bait(as_factors(values), B, available=np.arange(N) != 3).indices
        for values in (x, pool())
    ]
    np.testing.assert_array_equal(*factors)


# badge


def gradients(log_p, x):
    p = np.exp(np.asarray(log_p, np.float64))
    return (
        (p - np.eye(p.shape[1])[p.argmax(1)])[:, :, None] * np.asarray(x, np.float64)[:, None, :]
    ).reshape(len(p), -1)


def test_badge_distances_against_explicit_gradients():
    log_p, _ = oracles.random_log_probs(5, (N, 3), scale=2.0)
    x = pool(5)
    log_p[1], x[1] = log_p[0], x[0]  # a copy
    log_p[2], x[2] = log_p[0], np.float32(1 + 1e-3) * x[0]  # near, and parallel
    table = jax.jit(lambda a, h: jax.vmap(badge._distances(a, h))(jnp.arange(h.shape[1])))
    got = np.asarray(table(jax.jit(badge._errors)(log_p[None]), x.T))
    want = squares(gradients(log_p, x))
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-12)
    assert got[0, 1] == 0 and (got >= 0).all()
    # one gradient from two pairs of factors: (2 a) x' = a (2 x)'
    a, h = (
        np.repeat([[2.0, 1.0], [-0.6, -0.3], [0.1, 0.05]], N // 2, axis=1),
        np.repeat(np.outer(pool()[0], [1, 2]), N // 2, axis=1),
    )
    assert np.asarray(table(a.astype(np.float32), h.astype(np.float32))).max() < 1e-12


def test_badge_starts_in_proportion_to_squared_length():
    log_p = np.log(
        np.array([[0.5, 0.5], [0.8, 0.2], [1.0, 0.0], [0.9, 0.1]]),
        where=[[True, True]] * 2 + [[True, False], [True, True]],
        out=np.full((4, 2), -np.inf),
    )
    x = np.array([[1, 0], [2, 1], [9, 9], [0, 3]], np.float32)
    first = jax.jit(
        jax.vmap(
            lambda k: (
                select.badge(k, jnp.asarray(log_p, jnp.float32)[None], jnp.asarray(x), 2).indices
            )
        )
    )(oracles.keys(4000))
    weights = np.square(gradients(log_p, x)).sum(1)
    for row, p in enumerate(weights / weights.sum()):
        assert (
            abs(np.mean(np.asarray(first)[:, 0] == row) - p)
            < 5 * math.sqrt(p * (1 - p) / 4000) + 1e-9
        )


def test_badge_tells_sure_points_apart():  # TRAPS 1
    gap = np.linspace(20, 300, N)
    log_p = oracles.log_softmax(np.stack([gap, 0 * gap, 0 * gap], axis=1)).astype(np.float32)[None]
    picked = select.badge(KEY, log_p, np.ones((N, D), np.float32), B, available=ALL)
    assert int(picked.indices[0]) == 0  # the only one whose error counts, at 2e-9
    assert (
        len(set(picked.indices.tolist())) == B and np.isfinite(np.asarray(picked.scores)[1:]).all()
    )


def test_badge_with_a_thousand_classes_and_one_draw_of_each_opinion():
    log_p, p = oracles.random_log_probs(6, (2, N, 1000))
    picked = select.badge(KEY, log_p, pool(6), B)
    g = gradients(np.log(p.mean(0)), pool(6))
    batch = picked.indices.tolist()
    want = [
        math.sqrt(min(np.square(g[i] - g[j]).sum() for j in batch[:b]))
        for b, i in enumerate(batch)
        if b
    ]
    np.testing.assert_allclose(np.asarray(picked.scores)[1:], want, rtol=1e-4)


def test_badge_wants_both_of_the_same_pool():
    log_p, _ = oracles.random_log_probs(0, (2, N, 3))
    cases = {"features": (log_p[:, 1:], pool()), "log_probs": (np.exp(log_p), pool())}
    for argument, (values, x) in cases.items():
        with pytest.raises(errors.BayesalError, match=f"`{argument}`") as caught:
            oracles.as_users_do(select.badge)(KEY, values, x, B)
        assert caught.value.argument == argument


# determinant and log_det_gaussian


def information(vectors, batch):
    """1/2 log det(I + V_S V_S') in nats, in float64; vectors [N, P]."""
    v = np.asarray(vectors, np.float64)[list(batch)]
    return 0.5 * np.linalg.slogdet(np.eye(len(v)) + v @ v.T)[1]


def follows_the_information(picked, vectors, available, known=(), atol=2e-5):
    """Each pick has the largest gain of information given the picks before it, up to float32's near
    ties; gains and sums agree.
    """
    batch = picked.indices.tolist()
    before = list(known)
    for row, gain in zip(batch, picked.scores.tolist(), strict=True):
        table = {
            i: information(vectors, [*before, i]) - information(vectors, before)
            for i in np.flatnonzero(available)
            if i not in before
        }
        assert table[row] >= max(table.values()) - atol
        assert math.isclose(gain, table[row], abs_tol=atol)
        before.append(row)
    np.testing.assert_allclose(picked.joint, np.cumsum(np.asarray(picked.scores)), rtol=1e-5)
    assert np.all(np.diff(np.asarray(picked.scores)) <= 1e-6) and np.all(
        np.asarray(picked.scores) >= 0
    )


def relative(x, quality, available, noise=1e-3):
    z = np.asarray(quality, np.float64)[:, None] * x
    return z / math.sqrt(noise * np.square(z[available]).sum(1).mean())


@given(st.integers(0, 2**31))
def test_determinant_is_greedy_information(seed):
    random = np.random.default_rng(seed)
    available, labeled = random.random(N) < 0.6, random.random(N) < 0.1
    quality = random.uniform(0.1, 3.0, N).astype(np.float32)
    x = pool(seed)
    picked = select.dpp(
        x, 9, available=available, labeled=labeled, quality=quality
    )  # more than D = 6
    vectors = relative(x, quality, available & ~labeled)
    follows_the_information(picked, vectors, available & ~labeled, np.flatnonzero(labeled))


def test_determinant_without_noise_to_speak_of_is_the_determinant():
    for seed in range(5):
        x = pool(seed)
        batch = []
        for row in rows("determinant", x).tolist():
            volume = lambda i, batch=batch, x=x: np.linalg.det(
                (v := x[[*batch, i]].astype(np.float64)) @ v.T
            )
            assert volume(row) >= 0.98 * max(volume(i) for i in range(N) if i not in batch)
            batch.append(row)


def test_no_variance_turns_negative():
    x = np.tile(np.random.default_rng(0).normal(size=(4, D)).astype(np.float32), (10, 1))
    picked = select.dpp(
        x, 9, available=ALL, labeled=NOTHING, quality=np.ones(N, np.float32), noise_variance=1e-6
    )
    assert np.all(np.asarray(picked.scores) > 0) and np.all(np.isfinite(picked.joint))
    assert sorted(np.asarray(picked.indices)[:4] % 4) == [0, 1, 2, 3]
    follows_the_information(picked, relative(x, np.ones(N), ALL, 1e-6), ALL, atol=1e-3)


@given(st.integers(0, 2**31), st.sampled_from([0.0, 1e4]))
def test_log_det_gaussian_is_greedy_information(seed, offset):
    random = np.random.default_rng(seed)
    means = (random.normal(size=(8, N)) + offset).astype(np.float32)
    noise = (10.0 ** random.uniform(-2, 2, N)).astype(np.float32)
    available = random.random(N) < 0.6
    picked = select.log_det_gaussian(means, noise, 9, available=available)
    exact = means.astype(np.float64)
    vectors = ((exact - exact.mean(0)) / np.sqrt(8 * noise)).T
    follows_the_information(picked, vectors, available)


def test_log_det_gaussian_at_the_extremes():  # TRAPS 31
    means = np.random.default_rng(0).normal(size=(8, N)).astype(np.float32)
    for noise in (1e-8, 1e8):
        picked = select.log_det_gaussian(means, np.full(N, noise, np.float32), 9, available=ALL)
        vectors = (
            (means.astype(np.float64) - means.astype(np.float64).mean(0)) / math.sqrt(8 * noise)
        ).T
        batch = picked.indices.tolist()
        np.testing.assert_allclose(
            picked.joint,
            [information(vectors, batch[: b + 1]) for b in range(9)],
            rtol=2e-2,
            atol=1e-7,
        )
    agree = select.log_det_gaussian(
        means[:1] * np.ones((8, 1), np.float32), np.ones(N, np.float32), 9
    )
    assert np.all(np.asarray(agree.scores) == 0) and len(set(agree.indices.tolist())) == 9


def test_log_det_gaussian_under_jit_leaves_broken_points_out(monkeypatch):
    means = np.random.default_rng(0).normal(size=(8, N)).astype(np.float32)
    noise = np.ones(N, np.float32)
    means[2, 5], noise[6], noise[7] = np.nan, 0.0, np.inf
    oracles.unseen_values(monkeypatch)
    run = lambda available: select.log_det_gaussian(means, noise, 9, available=available)
    picked = run(np.arange(N) < 12)
    assert int(picked.nonfinite) == 3
    assert sorted(picked.indices.tolist()) == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    short = run(np.arange(N) == 1)
    assert short.indices.tolist() == [1] + [-1] * 8 and short.joint[8] == short.scores[0]


def test_determinant_and_log_det_gaussian_refuse_by_name():
    means, noise = np.zeros((8, N), np.float32), np.ones(N, np.float32)
    spoiled = noise.copy()
    spoiled[[3, 4]] = -1.0, np.nan
    broken = means.copy()
    broken[2, 5] = np.inf
    cases = [
        ("quality", (3, 4), lambda: select.dpp(pool(), 3, quality=spoiled)),
        ("quality", (), lambda: select.dpp(pool(), 3, quality=noise[1:])),
        ("noise_variance", (), lambda: select.dpp(pool(), 3, noise_variance=0.0)),
        ("noise_variances", (3, 4), lambda: select.log_det_gaussian(means, spoiled, 3)),
        ("noise_variances", (), lambda: select.log_det_gaussian(means, 1.0, 3)),
        ("means", (5,), lambda: select.log_det_gaussian(broken, noise, 3)),
        ("means", (), lambda: select.log_det_gaussian(means[0], noise, 3)),
        ("means", (), lambda: select.log_det_gaussian(means[:1], noise, 3)),
        ("size", (), lambda: select.log_det_gaussian(means, noise, N + 1)),
        ("available", (), lambda: select.log_det_gaussian(means, noise, 3, available=ALL[1:])),
    ]
    for argument, at, call in cases:
        with pytest.raises(errors.BayesalError, match=f"`{argument}`") as caught:
            oracles.as_users_do(call)()
        assert caught.value.argument == argument and tuple(caught.value.rows) == at
