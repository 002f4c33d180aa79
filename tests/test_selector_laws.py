"""Every selector x every law: adding a selector is adding a line to `SELECTORS`.

A few examples of each by default. At least 10,000 in all, over six shapes (a slow test: most of an
    hour): make test-all ARGS="tests/test_selector_laws.py --hypothesis-profile thorough"
"""

import collections
import contextlib
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from bayesal import _choose, acquire, choose, errors, pools, scores, select
from bayesal.pools import _walk
from bayesal.predictive import bind
from bayesal.scores import combine
from bayesal.select import _lazy as lazy
from bayesal.select._bait import _fisher_factors as fisher_factors
from bayesal.types import About, Posterior, Selection

pytestmark = pytest.mark.usefixtures("strict")

THOROUGH = settings.get_current_profile_name() == "thorough"
K, N, C, D, T, B = range(6)
SHAPES = [
    (4, 16, 3, 3, 4, 4),
    (2, 8, 2, 1, 1, 3),
    (3, 24, 2, 2, 5, 6),
    (6, 40, 5, 4, 7, 5),
    (8, 16, 10, 3, 4, 8),
    (5, 64, 3, 6, 3, 12),
]
CONFIGURATIONS = (
    30  # the fourth pick of the first shape, and later, is chosen by sampled configurations
)
TRIED, RAN = collections.Counter(), []


# evidence: tables of points, and which of them the pool holds. Copies of a point are rows of the
# pool with one id.


class Tables(NamedTuple):
    """What is known of `N` points; then of one point that is far too large everywhere, and of one
    that is NaN everywhere.
    """

    log_probs: np.ndarray  # [K, R, C]
    targets: np.ndarray  # [K, T, C]
    features: np.ndarray  # [R, D]
    scores: np.ndarray  # [R], at least 0 or -inf
    other: np.ndarray  # [R]
    means: np.ndarray  # [K, R]
    noise: np.ndarray  # [R]


class Pool(NamedTuple):
    tables: Tables
    ids: np.ndarray  # [N]
    available: np.ndarray  # [N] bool
    labeled: np.ndarray  # [N] bool
    draws: str
    size: int

    @property
    def free(self):
        return self.available & ~self.labeled


DRAWS = ("usual", "sure", "agree", "faint", "gated")
LEFT = ("all", "some", "size", "few", "one", "none")
COPIES = ("none", "some", "only")


def drawn(shapes):
    return st.fixed_dictionaries(
        {
            "shape": st.sampled_from(SHAPES[: shapes if THOROUGH else 1]),
            "seed": st.integers(0, 2**31),
            "draws": st.sampled_from(DRAWS),
            "left": st.sampled_from(LEFT),
            "copies": st.sampled_from(COPIES),
            "broken": st.booleans(),
        }
    )


each_pool, few_pools = drawn(6), drawn(2)


def log_probs_of(rng, draws, shape):
    z = rng.normal(size=shape) * rng.choice([0.3, 1.0, 5.0])
    if draws == "sure":
        z = np.where(
            np.arange(shape[-1]) == rng.integers(0, shape[-1], shape[:-1])[..., None], 0.0, -np.inf
        )
    elif draws == "agree":
        z[1:] = z[:1]
    elif draws == "faint":
        z[1:] = z[:1] + 1e-4 * z[1:]
    elif draws == "gated":
        ruled_out = rng.random(shape) < 0.3
        ruled_out[..., 0] = False
        z = np.where(ruled_out, -np.inf, z)
    return oracles.log_softmax(z).astype(np.float32)


def a_pool(shape, seed, draws, left, copies, broken) -> Pool:
    rng = np.random.default_rng(seed)
    rows = shape[N] + 2
    tables = Tables(
        log_probs_of(rng, draws, (shape[K], rows, shape[C])),
        log_probs_of(rng, "usual" if draws == "agree" else draws, (shape[K], shape[T], shape[C])),
        rng.normal(size=(rows, shape[D])),
        rng.choice([rng.random(rows), np.round(3 * rng.random(rows))]),
        rng.normal(size=rows),
        rng.normal(size=(shape[K], rows)),
        rng.random(rows) + 0.1,
    )
    tables = Tables(*(np.array(table, np.float32) for table in tables))
    tables.features[0] *= rng.random() < 0.5
    tables.scores[rng.random(rows) < 0.1] = -np.inf
    tables.log_probs[:, -1] = np.nan
    for table in tables[2:5]:
        table[-2:] = np.array([1e30, np.nan], np.float32).reshape(2, *(1,) * (table.ndim - 1))
    tables.features[-1, ::2] = np.inf
    tables.means[:, -2:], tables.noise[-2:] = [1e30, np.nan], [1e-30, np.nan]
    ids = {
        "none": np.arange(shape[N]),
        "some": rng.integers(0, max(2, shape[N] // 3), shape[N]),
        "only": np.zeros(shape[N], int),
    }[copies]
    rest = {
        "all": shape[N],
        "some": None,
        "size": shape[B],
        "few": shape[B] - 1,
        "one": 1,
        "none": 0,
    }[left]
    available = rng.random(shape[N]) < 0.6 if rest is None else rng.permutation(shape[N]) < rest
    if broken:
        ids = np.where(rng.random(shape[N]) < 0.1, rows - 1, ids)
    return Pool(
        tables,
        ids.astype(np.int32),
        available,
        rng.random(shape[N]) < rng.choice([0.0, 0.1, 0.5]),
        draws,
        shape[B],
    )


# a row of the pool is `[1]`, the id of a point, and its prediction lies in a table
TABLE = Posterior(
    init=None,
    fit=None,
    draw=None,
    apply=lambda state, draw, x: draw[x[0]],
    embed=lambda state, x: state[x[0]],
)


@contextlib.contextmanager
def chunks_of(rows):
    """Pools cut chunks of so many rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "ON_DEVICE", rows)
        patch.setattr(_walk, "ON_HOST", rows)
        yield


class Seen(NamedTuple):
    """What a selector is called with: the tables at the pool's ids."""

    key: Any
    tables: Any
    ids: Any
    available: Any  # labeled ones may be among them, where the selector knows what labeled means
    labeled: Any
    size: int
    chunk: int
    devices: int

    free = property(lambda s: s.available & ~s.labeled)
    log_probs = property(lambda s: s.tables.log_probs[:, s.ids])
    features = property(lambda s: s.tables.features[s.ids])
    scores = property(lambda s: s.tables.scores[s.ids])
    other = property(lambda s: s.tables.other[s.ids])
    classes = property(lambda s: s.ids % 3)
    means = property(lambda s: s.tables.means[:, s.ids])
    noise = property(lambda s: s.tables.noise[s.ids])
    masks = property(lambda s: {"available": s.available, "labeled": s.labeled})
    predictive = property(lambda s: bind(TABLE, s.tables.features, s.tables.log_probs))

    def asked(self, strategy) -> Selection:
        """What a strategy picks inside a program, unchecked."""
        pool = _walk.in_memory(self.ids[:, None])
        with chunks_of(self.chunk):
            return _choose.pick_unchecked(
                self.key, self.predictive, pool, self.free, self.size, strategy
            )[0]

    def chosen(self, predictive, pool, strategy) -> Selection:
        """What a strategy picks through the public door."""
        with chunks_of(self.chunk):
            return choose(self.key, predictive, pool, self.size, strategy, available=self.free)

    def file(self):
        return pools.file(self.ids[:, None])

    def mesh(self):
        return pools.sharded(self.ids[:, None], pools.mesh(jax.devices()[: self.devices]))

    def numbers(self):
        return pools.numbers(log_probs=self.log_probs, axes="K N C")


class Selector(NamedTuple):
    """One line of the list.

    call:   `Seen -> Selection`.
    uses:   the tables it looks at: points with NaN there are counted and never picked.
    luck:   its picks hang on the key and the row, so that a permuted pool is another draw.
    copies: when a copy of a pick may be picked: None for always; WAIT for never before everything
            else; a number if its score (a distance, a gain) must be no more than that; SURE if that
            holds for draws without noise, where a second label tells nothing.
    knows:  which of the rows that may not be picked count all the same: none, LABELED ones, or the
      REST (strategies take every such row for labeled).
    chunks, devices, host: takes a chunk size; takes a number of devices; runs on the host.
    slack:  how far apart its scores may be where nothing but the order of sums is another, relative
      to 1 + score.
    slow:   too long to compile for every run of the tests.
    """

    call: Callable[[Seen], Selection]
    uses: tuple[str, ...] = ()
    luck: bool = False
    copies: Any = None
    knows: str = ""
    chunks: bool = False
    devices: bool = False
    host: bool = False
    slack: float = 1e-4
    slow: bool = False


WAIT, SURE = "wait", "sure"
LABELED, REST = "labeled", "rest"
HALF = (
    0.5 * math.log(2) + 1e-4
)  # the most that a second measurement of one direction tells, in nats
L, F, S, P = ("log_probs",), ("features",), ("scores",), ("log_probs", "features")
OPTIONS = {"configurations": CONFIGURATIONS}
TARGETS = np.arange(3)


def of_targets(factory, **options):
    return lambda s: s.asked(factory(TARGETS[: s.size, None], **options))


SELECTORS = {
    "top": Selector(lambda s: select.top(s.scores, s.size, available=s.free), S),
    "uniform": Selector(
        lambda s: select.uniform(s.key, s.ids.shape[0], s.size, available=s.free), luck=True
    ),
    "power": Selector(
        lambda s: select.power(s.key, s.scores, s.size, beta=8.0, available=s.free), S, luck=True
    ),
    "softmax": Selector(
        lambda s: select.softmax(s.key, s.scores, s.size, available=s.free), S, luck=True, slow=True
    ),
    "softrank": Selector(
        lambda s: select.softrank(s.key, s.scores, s.size, available=s.free), S, luck=True
    ),
    "batch_bald": Selector(
        lambda s: select.batch_bald(s.key, s.log_probs, s.size, available=s.free, **OPTIONS),
        L,
        copies=SURE,
    ),
    "batch_epig": Selector(
        lambda s: select.batch_epig(
            s.key, s.log_probs, s.tables.targets, s.size, available=s.free, **OPTIONS
        ),
        L,
        copies=SURE,
    ),
    "k_center": Selector(
        lambda s: select.k_center(s.features, s.size, **s.masks), F, knows=LABELED, copies=0.0
    ),
    "k_center, ties by the key": Selector(
        lambda s: select.k_center(s.features, s.size, key=s.key, **s.masks),
        F,
        knows=LABELED,
        copies=0.0,
        slow=True,
    ),
    "k_means_pp": Selector(
        lambda s: select.k_means_pp(s.key, s.features, s.size, **s.masks),
        F,
        luck=True,
        knows=LABELED,
        copies=0.0,
    ),
    "k_means": Selector(
        lambda s: select.k_means(s.key, s.features, s.size, available=s.free, iterations=3),
        F,
        luck=True,
        copies=WAIT,
    ),
    "typiclust": Selector(
        lambda s: select.typiclust(s.key, s.features, s.size, **s.masks, iterations=3),
        F,
        luck=True,
        knows=LABELED,
        copies=WAIT,
    ),
    "badge": Selector(
        lambda s: select.badge(s.key, s.log_probs, s.features, s.size, available=s.free),
        P,
        luck=True,
        copies=0.0,
    ),
    "determinant": Selector(
        lambda s: select.dpp(s.features, s.size, **s.masks), F, knows=LABELED, copies=HALF
    ),
    "log_det_gaussian": Selector(
        lambda s: select.log_det_gaussian(s.means, s.noise, s.size, available=s.free),
        ("means", "noise"),
        copies=HALF,
        slow=True,
    ),
    "bait": Selector(
        lambda s: select.bait(fisher_factors(s.log_probs, s.features), s.size, **s.masks),
        P,
        knows=LABELED,
        slack=2e-3,
        slow=True,
    ),
    "class_balanced": Selector(
        lambda s: select.class_balanced(s.classes, s.scores, s.size, available=s.free), S
    ),
    "suppress_duplicates": Selector(
        lambda s: select.suppress_duplicates(
            s.features, s.scores, s.size, radius=0.0, available=s.free
        ),
        ("features", "scores"),
        copies=WAIT,
    ),
    "budgeted": Selector(
        lambda s: first(
            s.size,
            select.budgeted(s.scores, jnp.ones(s.ids.shape), float(s.size), available=s.free),
        ),
        S,
    ),
    "rank_sum": Selector(
        lambda s: select.top(
            combine.rank_sum(s.scores, s.other, available=s.free), s.size, available=s.free
        ),
        ("scores", "other"),
    ),
    "z_score": Selector(
        lambda s: select.top(
            combine.z_score(s.scores, s.other, available=s.free), s.size, available=s.free
        ),
        ("scores", "other"),
        slow=True,
    ),
    "product": Selector(
        lambda s: select.top(
            combine.product(s.scores, s.noise, available=s.free), s.size, available=s.free
        ),
        ("scores", "noise"),
        slow=True,
    ),
    "pareto": Selector(
        lambda s: select.top(
            combine.pareto(s.scores, s.other, available=s.free), s.size, available=s.free
        ),
        ("scores", "other"),
    ),
    "acquire.uniform": Selector(lambda s: s.asked(acquire.uniform()), luck=True, slow=True),
    "acquire.top": Selector(lambda s: s.asked(acquire.top(scores.bald)), L, chunks=True),
    "acquire.power": Selector(
        lambda s: s.asked(acquire.power()), L, luck=True, chunks=True, slow=True
    ),
    "acquire.softmax": Selector(
        lambda s: s.asked(acquire.softmax(scores.margin)),
        L,
        luck=True,
        chunks=True,
        slow=True,
    ),
    "acquire.softrank": Selector(
        lambda s: s.asked(acquire.softrank()), L, luck=True, chunks=True, slow=True
    ),
    "acquire.combined": Selector(
        lambda s: s.asked(acquire.combined(scores.bald, scores.margin)),
        L,
        chunks=True,
        slow=True,
    ),
    "acquire.prefilter": Selector(
        lambda s: s.asked(acquire.prefilter(2 * s.size, scores.entropy, acquire.top(scores.bald))),
        L,
        chunks=True,
    ),
    "acquire.batch_bald": Selector(
        lambda s: s.asked(acquire.batch_bald(candidates=2 * s.size, **OPTIONS)),
        L,
        copies=SURE,
        chunks=True,
        slow=True,
    ),
    "acquire.epig": Selector(of_targets(acquire.epig), L, chunks=True, slow=True),
    "acquire.batch_epig": Selector(
        of_targets(acquire.batch_epig, candidates=SHAPES[-1][N], **OPTIONS),
        L,
        copies=SURE,
        chunks=True,
        slow=True,
    ),
    "acquire.k_center": Selector(
        lambda s: s.asked(acquire.k_center()), F, copies=0.0, knows=REST, slow=True
    ),
    "acquire.k_means_pp": Selector(
        lambda s: s.asked(acquire.k_means_pp()), F, luck=True, copies=0.0, knows=REST, slow=True
    ),
    "acquire.k_means": Selector(
        lambda s: s.asked(acquire.k_means(iterations=3)), F, luck=True, copies=WAIT, slow=True
    ),
    "acquire.typiclust": Selector(
        lambda s: s.asked(acquire.typiclust(iterations=3)),
        F,
        luck=True,
        copies=WAIT,
        knows=REST,
        slow=True,
    ),
    "acquire.dpp": Selector(
        lambda s: s.asked(acquire.dpp()), F, copies=HALF, knows=REST, slow=True
    ),
    "acquire.badge": Selector(
        lambda s: s.asked(acquire.badge()),
        P,
        luck=True,
        copies=0.0,
        chunks=True,
        slow=True,
    ),
    "acquire.bait": Selector(
        lambda s: s.asked(acquire.bait()),
        P,
        knows=REST,
        chunks=True,
        slack=2e-3,
        slow=True,
    ),
    "file, top": Selector(
        lambda s: s.chosen(s.predictive, s.file(), top_of(s.chunk)), L, chunks=True, host=True
    ),
    "file, batch_bald": Selector(
        lambda s: s.chosen(s.predictive, s.file(), growing(2 * s.size, s.chunk)),
        L,
        copies=SURE,
        chunks=True,
        host=True,
        slow=True,
    ),
    "mesh, top": Selector(
        lambda s: s.chosen(s.predictive, s.mesh(), top_of(s.chunk)),
        L,
        chunks=True,
        devices=True,
        host=True,
    ),
    "mesh, batch_bald": Selector(
        lambda s: s.chosen(s.predictive, s.mesh(), growing(2 * s.size, s.chunk)),
        L,
        copies=SURE,
        chunks=True,
        devices=True,
        host=True,
        slow=True,
    ),
    "numbers, batch_bald": Selector(
        lambda s: s.chosen(None, s.numbers(), growing(2 * s.size, s.chunk)),
        L,
        copies=SURE,
        chunks=True,
        host=True,
        slow=True,
    ),
    "numbers, margin": Selector(
        lambda s: s.chosen(None, s.numbers(), MARGIN), L, chunks=True, host=True
    ),
}
MARGIN = acquire.top(scores.margin)


@functools.cache
def top_of(chunk):
    """A strategy for each size of chunks: a program keeps the chunks that it was traced with."""
    del chunk
    return acquire.top(scores.bald)


@functools.cache
def growing(candidates, chunk):
    del chunk
    return acquire.batch_bald(candidates=candidates, grow=True, **OPTIONS)


def first(size, selection: Selection) -> Selection:
    return selection._replace(indices=selection.indices[:size], scores=selection.scores[:size])


@functools.cache
def program(name: str, size: int, chunk: int):
    return jax.jit(
        lambda key, tables, ids, available, labeled: SELECTORS[name].call(
            Seen(key, tables, ids, available, labeled, size, chunk, 1)
        )
    )


def run(name: str, pool: Pool, key, *, chunk: int = 1024, devices: int = 1) -> Selection:
    """As under jit; what runs on the host, as it is."""
    if SELECTORS[name].host:
        return SELECTORS[name].call(
            Seen(
                key, pool.tables, pool.ids, pool.available, pool.labeled, pool.size, chunk, devices
            )
        )
    arrays = (pool.ids, pool.available, pool.labeled)
    if devices > 1:
        place = NamedSharding(pools.mesh(jax.devices()[:devices]), PartitionSpec("pool"))
        arrays = jax.device_put(arrays, place)
    return jax.tree.map(np.asarray, program(name, pool.size, chunk)(key, pool.tables, *arrays))


# the laws


class Trial(NamedTuple):
    """One selector, one pool, one key, and the batch that came out."""

    name: str
    selector: Selector
    pool: Pool
    key: Any
    picked: Selection

    def again(self, pool: Pool, **options) -> Selection:
        return run(self.name, pool, self.key, **options)


def known(t: Trial) -> np.ndarray:
    """Which rows count as labeled."""
    return {"": np.zeros_like(t.pool.labeled), LABELED: t.pool.labeled, REST: ~t.pool.free}[
        t.selector.knows
    ]


def choices(selector: Selector, pool: Pool) -> np.ndarray:
    """Which rows can be picked."""
    can = pool.free.copy()
    for name in selector.uses:
        values = (
            np.moveaxis(getattr(pool.tables, name), 1, 0)[pool.ids]
            if name in ("log_probs", "means")
            else getattr(pool.tables, name)[pool.ids]
        )
        can &= ~(np.isnan(values) | (values == np.inf)).reshape(len(can), -1).any(1)
        if name == "scores":
            can &= values > -np.inf
    return can


def a_full_batch_of_distinct_available_rows(t: Trial):  # TRAPS 4, 17, 18, global guard 3
    can, rows = choices(t.selector, t.pool), np.asarray(t.picked.indices)
    if t.name == "budgeted":
        can &= t.pool.tables.scores[t.pool.ids] > 0  # what gains nothing is not bought
    size = min(t.pool.size, can.sum())
    assert rows.shape == (t.pool.size,) and (rows[size:] == -1).all()
    assert len(set(rows[:size].tolist())) == size and can[rows[:size]].all()
    assert t.name.endswith("uniform") or np.all(np.asarray(t.picked.scores)[size:] == -np.inf)
    if t.picked.nonfinite is not None:
        assert int(t.picked.nonfinite) == int(
            (t.pool.free & (t.pool.ids == len(t.pool.tables.scores) - 1)).sum()
        )


def the_key_decides(t: Trial):
    same(t.picked, t.again(t.pool))


def a_permuted_pool_gives_the_same_points(t: Trial):
    if t.selector.luck:
        return
    order = np.random.default_rng(int(t.pool.ids.sum())).permutation(len(t.pool.ids))
    there = t.pool._replace(
        ids=t.pool.ids[order], available=t.pool.available[order], labeled=t.pool.labeled[order]
    )
    alike(t, there, t.again(there))


def copies_wait(t: Trial):  # TRAPS 9, 26
    picked, allowed = t.picked, t.selector.copies
    if allowed is None or (allowed == SURE and t.pool.draws != "sure"):
        return
    rows = np.asarray(picked.indices)[np.asarray(picked.indices) >= 0]
    before = set(t.pool.ids[known(t)].tolist())
    for row, score in zip(rows.tolist(), np.asarray(picked.scores).tolist(), strict=False):
        if t.pool.ids[row] in before:
            if allowed == WAIT:
                assert set(t.pool.ids[choices(t.selector, t.pool)].tolist()) <= before
            else:
                assert score <= (1e-4 if allowed == SURE else allowed)
        before.add(int(t.pool.ids[row]))


def what_may_not_be_picked_plays_no_part(t: Trial):  # TRAPS 21
    closed = ~t.pool.free & ~known(t)
    for row in (-2, -1):  # far too large, NaN
        other = t.pool._replace(
            ids=np.where(closed, len(t.pool.tables.scores) + row, t.pool.ids).astype(np.int32)
        )
        alike(t, other, t.again(other))


def the_unit_of_the_features_changes_nothing(t: Trial):
    if "features" not in t.selector.uses:
        return
    for exponent in (-100, 100):
        scaled = (
            t.pool.tables.features
            * np.where(
                np.arange(len(t.pool.tables.features)) < len(t.pool.tables.features) - 2,
                np.float32(2.0**exponent),
                1.0,
            )[:, None]
        )
        other = t.pool._replace(tables=t.pool.tables._replace(features=scaled.astype(np.float32)))
        assert np.array_equal(t.picked.indices, t.again(other).indices)


def used_up_information_is_said(t: Trial):  # TRAPS 7, 8
    picked = t.picked
    if picked.about is None:
        assert picked.joint is None and picked.note() == ""
        return
    joint, gains, real = (
        np.asarray(picked.joint),
        np.asarray(picked.scores),
        np.asarray(picked.indices) >= 0,
    )
    assert np.all(np.diff(joint) >= 0) and np.all(gains[real] >= 0) and np.all(gains[real] < np.inf)
    if (
        picked.about is not About.TARGETS
    ):  # what two labels tell about a target together neither may tell alone
        assert np.all(np.diff(gains[real]) <= 1e-6)
    if picked.about is About.FUNCTION:
        assert picked.ceiling is None and picked.saturated is None and picked.note() == ""
        return
    assert joint.size == 0 or joint[-1] <= picked.ceiling + 1e-6
    before = np.concatenate([[0.0], joint[:-1]])
    assert (
        np.array_equal(picked.saturated, before > 0.95 * picked.ceiling)
        and ["a bound on EPIG", "BALD"][picked.about is About.DRAWS] == picked.about.fallback
    )
    late = picked.saturated & real
    assert (
        (
            f"first {late.argmax()} of {real.sum()} " in picked.note()
            and picked.about.fallback in picked.note()
        )
        if late.any()
        else picked.note() == ""
    )


LAWS = [
    a_full_batch_of_distinct_available_rows,
    the_key_decides,
    a_permuted_pool_gives_the_same_points,
    copies_wait,
    what_may_not_be_picked_plays_no_part,
    the_unit_of_the_features_changes_nothing,
    used_up_information_is_said,
]


def same(a: Selection, b: Selection):
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(one, two)


def alike(t: Trial, pool: Pool, other: Selection):
    """The same points in the same order, up to the first near tie."""
    for b, (row, there) in enumerate(
        zip(np.asarray(t.picked.indices), np.asarray(other.indices), strict=True)
    ):
        here, score = float(t.picked.scores[b]), float(other.scores[b])
        slack = (
            0.05 if t.picked.saturated is not None and t.picked.saturated[b] else t.selector.slack
        )
        assert here == score or abs(here - score) <= slack * (1 + abs(here)), (b, here, score)
        if (row < 0) != (there < 0) or (row >= 0 and t.pool.ids[row] != pool.ids[there]):
            assert row >= 0 and there >= 0
            return


# the trials


def names(whether=lambda s: True, often=None):
    """Of the selectors that a law speaks of; those not `often` tried (all that are not slow, if
    None) are slow tests.
    """
    chosen = [name for name, s in SELECTORS.items() if whether(s)]
    rare = lambda name: SELECTORS[name].slow if often is None else name not in often
    return pytest.mark.parametrize(
        "name",
        [pytest.param(name, marks=pytest.mark.slow if rare(name) else ()) for name in chosen],
    )


tried = settings(max_examples=settings.get_profile("thorough").max_examples if THOROUGH else 4)


@pytest.fixture(autouse=True)
def ran(request):
    """Which trials this process has run."""
    if hasattr(request.node.obj, "hypothesis"):
        RAN.append(request.node.name)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """So that lazy selectors are lazy in small pools too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy, "BLOCK", 8)
        yield


def trial(name, given, seed) -> Trial | None:
    """A selector on a pool; None where it rightly refused."""
    selector = SELECTORS[name]
    given = given | ({"broken": False} if selector.host else {})
    pool, key = a_pool(**given), jax.random.key(seed)
    TRIED[name] += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "the first ")  # of a batch that is used up
            picked = run(name, pool, key)
    except errors.BayesalError as error:
        if not selector.host or isinstance(error, errors.WrongSize) != (
            pool.size > pool.free.sum()
        ):
            raise
        rows = pool.tables.log_probs[:, pool.ids[pool.free]]
        flat = pool.draws in ("agree", "sure") or np.array_equal(
            rows, np.broadcast_to(rows[:, :1], rows.shape)
        )
        assert isinstance(error, errors.WrongSize) or (
            isinstance(error, errors.ConstantScores) and flat
        )
        return None
    return Trial(name, selector, pool, key, picked)


@names()
@tried
@given(given=each_pool, seed=st.integers(0, 2**31))
def test_every_law(name, given, seed):
    tested = trial(name, given, seed)
    for law in LAWS if tested else ():
        law(tested)


@names(lambda s: s.chunks, often=("acquire.top", "file, top"))
@tried
@given(given=few_pools, seed=st.integers(0, 2**31))
def test_chunks_change_nothing(name, given, seed):  # TRAPS 10
    tested = trial(name, given, seed)
    if tested:
        alike(tested, tested.pool, tested.again(tested.pool, chunk=7))


@names(lambda s: not s.host, often=("top", "k_center"))
@tried
@given(given=few_pools, seed=st.integers(0, 2**31))
def test_storage_changes_nothing(name, given, seed):  # TRAPS 5
    pool, key = a_pool(**given), jax.random.key(seed)
    stored = pool._replace(tables=jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), pool.tables))
    exact = pool._replace(tables=jax.tree.map(lambda a: np.asarray(a, np.float32), stored.tables))
    TRIED[name] += 1
    alike(
        Trial(name, SELECTORS[name], exact, key, run(name, exact, key)),
        stored,
        run(name, stored, key),
    )


@names(lambda s: s.devices or not s.host, often=("k_center",))
@tried
@given(given=few_pools, seed=st.integers(0, 2**31))
def test_one_and_eight_devices_give_the_same_batch(name, given, seed):
    tested = trial(name, given, seed)
    if tested:
        alike(tested, tested.pool, tested.again(tested.pool, devices=8))


def test_so_many_cases_are_tried(request):
    """All that were planned here were tried; spread over several processes, each sees its own and
    what is planned in all.
    """
    cases = tried.max_examples * sum(
        hasattr(getattr(item, "obj", None), "hypothesis") and item.module is request.module
        for item in request.session.items
    )
    print(f"{sum(TRIED.values()):,} cases over {len(TRIED)} selectors here, {cases:,} in all")
    assert sum(TRIED.values()) == tried.max_examples * len(RAN) and cases >= (
        10_000 if THOROUGH else 20
    )
