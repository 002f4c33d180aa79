"""The one door: what it takes, what it refuses and by which name, and what it leaves alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import acquire, choose, errors, networks, pools, posteriors, predictive, scores
from bayesal.pools import _walk
from bayesal.scores import regression
from bayesal.types import Gaussian

N, K, C, F = 37, 5, 3, 4
X = np.random.default_rng(0).normal(size=(N, F)).astype(np.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(K, F, C)).astype(np.float32))


def functions(weights, x):
    """K linear functions of x, whatever its type."""
    x = x.astype(jnp.float32)
    return jax.nn.log_softmax(jnp.einsum("nf,kfc->knc", x, weights, precision="highest"), axis=-1)


LINEAR = predictive.from_samples(
    jax.tree_util.Partial(functions, WEIGHTS), K, embed=lambda x: x.astype(jnp.float32)
)
PLAIN = functools.partial(functions, WEIGHTS)
LOG_P = np.asarray(jax.jit(functions)(WEIGHTS, X))
ORDER = np.argsort(-np.asarray(jax.jit(scores.bald)(LOG_P)))
TOP, BATCH = acquire.top(scores.bald), acquire.batch_bald(configurations=9)
BY_VARIANCE = acquire.top(regression.variance)
EPIG, CENTERS = acquire.epig(X[:5]), acquire.k_center()  # one object each: programs are shared
freely = oracles.as_users_do(choose)


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "ON_DEVICE", 16)
        patch.setattr(_walk, "ON_HOST", 16)
        yield


WHERE = {
    "array": lambda x: x,
    "file": lambda x: lambda: iter([x]),
    "mesh": lambda x: pools.sharded(x, pools.mesh(jax.devices()[:4])),
}
everywhere = pytest.mark.parametrize("where", WHERE)


def picks(model, x, size=3, strategy=TOP, where="array", **more):
    return freely(0, model, WHERE[where](x), size, strategy, **more).indices.tolist()


# what it takes


@everywhere
def test_sizes_at_the_edges(where):
    assert picks(LINEAR, X[:1], 1, where=where) == [0]
    assert picks(LINEAR, X, N, where=where) == ORDER.tolist()
    assert picks(LINEAR, X, np.int64(2), where=where) == ORDER[:2].tolist()
    few = np.arange(N) == ORDER[5]
    assert picks(LINEAR, X, 1, where=where, available=few) == [ORDER[5]]
    for wrong in (np.zeros(N, bool), few):
        with pytest.raises(errors.WrongSize, match="are available") as caught:
            picks(LINEAR, X, 2, where=where, available=wrong)
        assert caught.value.argument == "size"


@pytest.mark.parametrize("key", [3, np.int64(3), jax.random.key(3)], ids=repr)
def test_keys_are_ints_or_keys(key):
    chance = acquire.uniform()
    want = choose(jax.random.key(np.uint32(3)), LINEAR, X, 4, chance).indices.tolist()
    assert freely(key, LINEAR, X, 4, chance).indices.tolist() == want
    assert choose(2**32 - 1, LINEAR, X, 4, chance).indices.shape == (4,)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint8", "bool", "bfloat16"])
def test_a_pool_of_any_type_is_the_same_everywhere(dtype):
    x = (
        np.asarray(jnp.asarray(np.abs(3 * X)).astype(dtype))
        if dtype == "bfloat16"
        else (np.abs(3 * X) > 2 if dtype == "bool" else np.abs(3 * X).astype(dtype))
    )
    want = np.argsort(-np.asarray(scores.bald(functions(WEIGHTS, jnp.asarray(x)))), kind="stable")
    for where in WHERE:
        assert picks(LINEAR, x, 3, where=where) == want[:3].tolist()


def test_a_pool_on_another_device():
    x = jax.device_put(X, jax.devices()[3])
    available = jax.device_put(np.ones(N, bool), jax.devices()[2])
    assert picks(LINEAR, x) == picks(LINEAR, X, available=available) == ORDER[:3].tolist()


@pytest.mark.slow
def test_targets_come_from_an_iterator_whose_length_nobody_knows():
    drawn = acquire.epig(9)
    assert picks(LINEAR, X, 3, drawn, "file") == picks(LINEAR, X, 3, drawn)
    assert picks(LINEAR, X, 3, EPIG, "file") == picks(LINEAR, X, 3, EPIG)


WITHIN = acquire.prefilter(12, scores.entropy, TOP)
TWICE = acquire.prefilter(20, scores.entropy, acquire.prefilter(8, scores.bald, TOP))
EVERY = acquire.prefilter(10 * N, scores.entropy, TOP)
BOTH = acquire.prefilter(
    12, scores.entropy, acquire.combined(scores.bald, scores.margin, by=scores.combine.z_score)
)


@pytest.mark.slow
@everywhere
def test_strategies_in_strategies(where):
    entropy = np.argsort(-np.asarray(scores.entropy(LOG_P)), kind="stable")
    best = lambda rows: [row for row in ORDER.tolist() if row in rows][:3]
    assert picks(LINEAR, X, 3, WITHIN, where) == best(entropy[:12])
    assert picks(LINEAR, X, 3, TWICE, where) == best(best_of(entropy[:20], 8))
    found = choose(0, LINEAR, WHERE[where](X), 3, EVERY)
    assert found.indices.tolist() == ORDER[:3].tolist() and bool(found.certified)
    rows = np.sort(entropy[:12])  # their ranks among themselves
    worth = scores.combine.z_score(scores.bald(LOG_P[:, rows]), scores.margin(LOG_P[:, rows]))
    assert picks(LINEAR, X, 3, BOTH, where) == rows[np.argsort(-np.asarray(worth))[:3]].tolist()


def best_of(rows, count):
    return [row for row in ORDER.tolist() if row in rows][:count]


class OfNumPy:
    """A model that takes NumPy arrays only, and answers in one buffer."""

    def __init__(self, change=lambda log_probs: log_probs):
        self.change, self.buffers = change, {}

    def __call__(self, x):
        assert type(x) is np.ndarray
        said = self.change(np.asarray(jax.jit(functions)(WEIGHTS, jnp.asarray(x))))
        buffer = self.buffers.setdefault(said.shape, aligned(said))
        buffer[...] = said
        return buffer

    def embed(self, x):
        return x.astype(np.float32)


def aligned(array):
    """A copy of an array where JAX can share its memory."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    place = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def test_a_function_that_jax_cannot_trace_is_asked_on_the_host():
    for strategy in (TOP, BATCH, EPIG, CENTERS):
        assert picks(OfNumPy(), X, 3, strategy) == picks(LINEAR, X, 3, strategy)
    for where in ("array", "file"):
        assert picks(lambda x: OfNumPy()(x).tolist(), X, where=where) == ORDER[:3].tolist()


def test_a_function_that_jax_cannot_trace_is_refused_on_a_mesh():
    for strategy in (TOP, EPIG):
        with pytest.raises(errors.WrongType, match="host=True") as caught:
            picks(OfNumPy(), X, 3, strategy, "mesh")
        assert caught.value.argument == "predictive"


def test_a_function_of_real_labels():
    normal = lambda x: Gaussian(mean=x.T[:2], variance=jnp.ones((2, x.shape[0])))
    want = np.argsort(-np.abs(X[:, 0] - X[:, 1]))[:3].tolist()
    for where in WHERE:
        assert picks(normal, X, 3, acquire.top(regression.epistemic), where) == want
    host = lambda x: Gaussian(
        mean=np.asarray(x).T[:2].copy(), variance=np.ones((2, len(np.asarray(x))))
    )
    assert picks(host, X, 3, acquire.top(regression.epistemic)) == want


# once compiled, always compiled


def test_calls_share_one_program():
    traces = []

    def counted(log_probs):
        traces.append(log_probs.shape)
        return scores.bald(log_probs)

    strategy = acquire.top(counted)
    choose(0, LINEAR, X, 3, strategy)
    first = len(traces)
    for key, x in ((1, X + 1), (2, jnp.asarray(X))):
        choose(key, LINEAR, x, 3, strategy, available=np.arange(N) > key)
    model = dataclasses.replace(LINEAR.model, function=jax.tree_util.Partial(functions, -WEIGHTS))
    choose(0, dataclasses.replace(LINEAR, model=model), X, 3, strategy)  # of the same structure
    assert first and len(traces) == first


def test_pools_of_numbers_share_one_program():
    """Every call makes a pool of its own, as people do."""
    traces = []

    def counted(log_probs):
        traces.append(log_probs.shape)
        return scores.bald(log_probs)

    strategy = acquire.top(counted)
    for key in range(3):
        log_probs = np.roll(LOG_P, key, axis=1)
        choose(key, None, pools.numbers(log_probs=log_probs, axes="K N C"), 3, strategy)
    assert len(traces) == 1


# nothing of the caller's


def test_nothing_the_caller_passed_is_changed():
    x, available = X.copy(), np.arange(N) % 2 == 0
    x.flags.writeable = available.flags.writeable = False
    for where in WHERE:
        picks(LINEAR, x, 3, TOP, where, available=available)
    picks(OfNumPy(), x, 3, BATCH, available=available)
    assert np.array_equal(x, X)


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(TOP, id="top"),
        pytest.param(CENTERS, id="k_center"),
        pytest.param(BATCH, id="batch_bald", marks=pytest.mark.slow),
        pytest.param(EPIG, id="epig", marks=pytest.mark.slow),
    ],
)
def test_memory_that_is_used_again_after_the_call_changes_nothing(strategy):
    big = np.tile(X, (40, 1))
    want = jax.tree.map(np.array, choose(0, LINEAR, big, 5, strategy))
    for _ in range(3):
        x, available = aligned(big), aligned(np.ones(len(big), bool))
        found = choose(0, LINEAR, x, 5, strategy, available=available)
        x[...], available[...] = np.nan, False
        jax.tree.map(np.testing.assert_array_equal, found, want)


def test_targets_are_copied_when_the_strategy_is_built():
    targets = aligned(X[:5])
    strategy, want = acquire.epig(targets), picks(LINEAR, X, 3, EPIG)
    targets[...] = 0
    assert picks(LINEAR, X, 3, strategy) == want


# rows that are broken


@everywhere
@pytest.mark.parametrize("strategy", [TOP, EPIG, CENTERS], ids=["top", "epig", "k_center"])
def test_rows_with_nan_are_counted_and_warned_about(strategy, where):  # TRAPS 1, 4
    x = X.copy()
    x[ORDER[[0, 1]], 1] = np.nan
    available = np.arange(N) != ORDER[0]
    for model in (LINEAR, PLAIN) if strategy is TOP else (LINEAR,):
        with pytest.warns(UserWarning, match="^1 available points have NaN"):
            found = choose(0, model, WHERE[where](x), 3, strategy, available=available)
        assert int(found.nonfinite) == 1 and ORDER[1] not in found.indices


@everywhere
def test_a_pool_of_nothing_but_nan_is_refused(where):
    plain = lambda x: functions(WEIGHTS, x)
    with pytest.raises(errors.NonFinite, match="37 available points") as caught:
        picks(plain, X * np.nan, where=where)
    assert caught.value.argument == "x"


def test_infinite_scores_are_never_picked():
    third = np.sort(np.asarray(scores.bald(LOG_P)))[-3]
    spiked = lambda p: jnp.where(scores.bald(p) > third, jnp.inf, scores.bald(p))
    with pytest.warns(UserWarning, match="2 available points"):
        assert picks(LINEAR, X, 2, acquire.top(spiked)) == ORDER[2:4].tolist()


@everywhere
def test_one_and_the_same_score_says_nothing(where):  # TRAPS 12
    agree = lambda x: jnp.tile(functions(WEIGHTS, x)[:1], (K, 1, 1))
    for strategy in (TOP, BATCH) if where == "array" else (TOP,):
        with pytest.raises(errors.ConstantScores, match="dropout") as caught:
            picks(agree, X, 3, strategy, where)
        assert caught.value.argument == "scores"
    assert picks(agree, X, N, TOP, where) == list(range(N))  # nothing is chosen


@given(seed=st.integers(0, 2**31))
def test_copies_are_picked_in_the_order_of_their_rows(seed):  # TRAPS 17
    rng = np.random.default_rng(seed)
    x = X[rng.integers(0, 9, N)]
    values = np.asarray(scores.bald(functions(WEIGHTS, x)))
    available = rng.random(N) < 0.7
    order = sorted(np.flatnonzero(available), key=lambda i: (-values[i], i))
    assert picks(LINEAR, x, 5, available=available) == order[:5]


# functions that do not give what they should


def late(x):
    """Log-probabilities for the pool's own rows, something else for large ones."""
    far = jnp.where(jnp.abs(x).max(axis=1) > 10, 0.5, 0.0)
    return functions(WEIGHTS, x) + far[None, :, None]


NORMAL = lambda x: Gaussian(mean=x.T[:2], variance=-jnp.ones((2, x.shape[0])))
TURNED = lambda x: Gaussian(mean=x[:, :2], variance=jnp.ones((x.shape[0], 2)))
WRONG = {
    "logits": (lambda x: PLAIN(x) + 1.0, TOP, errors.NotLogProbabilities, "log_softmax"),
    "probabilities": (lambda x: jnp.exp(PLAIN(x)), TOP, errors.NotLogProbabilities, "37 rows"),
    "integers": (
        lambda x: jnp.zeros((K, len(x), C), int),
        TOP,
        errors.NotLogProbabilities,
        "int32",
    ),
    "no draws": (lambda x: PLAIN(x)[0], TOP, errors.WrongShape, "K draws"),
    "points first": (
        lambda x: jnp.moveaxis(PLAIN(x), 0, 1),
        TOP,
        errors.WrongShape,
        r"\[K draws, n rows",
    ),
    "nothing": (lambda x: None, TOP, errors.WrongShape, "NoneType"),
    "variances below 0": (NORMAL, BY_VARIANCE, errors.OutOfRange, "above 0"),
    "normals, points first": (TURNED, BY_VARIANCE, errors.WrongShape, r"\[K draws, n rows\]"),
}


@everywhere
@pytest.mark.parametrize("wrong", WRONG)
def test_a_function_that_gives_something_else_is_refused(wrong, where):
    model, strategy, error, words = WRONG[wrong]
    with pytest.raises(error, match=words) as caught:
        picks(model, X, 3, strategy, where)
    assert caught.value.argument == "predictive"


@everywhere
@pytest.mark.parametrize("strategy", [TOP, EPIG], ids=["top", "epig"])
def test_rows_that_do_not_sum_to_one_are_rows_of_the_pool(strategy, where):
    both = np.concatenate([X, X[:5] * 100 + 100])
    with pytest.raises(errors.NotLogProbabilities, match=r"5 rows \(37, 38") as caught:
        picks(late, both, 3, strategy, where)
    assert caught.value.rows.tolist() == list(range(37, 42))


@pytest.mark.parametrize("where", ["array", "file"])
def test_a_function_on_the_host_is_checked_too(where):
    cases = [
        (lambda p: p + 1, errors.NotLogProbabilities, "log_softmax"),
        (np.exp, errors.NotLogProbabilities, "jnp.log"),
        (lambda p: p[:, :1] if p.shape[1] > 1 else p, errors.WrongShape, "n rows"),
    ]
    for change, error, words in cases:
        with pytest.raises(error, match=words) as caught:
            picks(OfNumPy(change), X, where=where)
        assert caught.value.argument == "predictive"


@pytest.mark.parametrize("host", [False, True], ids=["traced", "host"])
@pytest.mark.parametrize("where", ["array", "mesh"])
def test_samples_that_are_not_as_they_were_said_are_named(where, host):
    """A compiled program cannot look at values, and a callback cannot raise a typed error."""
    logits = lambda x: (
        np.einsum("nf,kfc->knc", x, np.asarray(WEIGHTS))
        if host
        else jnp.einsum("nf,kfc->knc", x, WEIGHTS)
    )
    with pytest.raises(errors.NotLogProbabilities, match="log_probs") as caught:
        picks(predictive.from_samples(logits, K, host=host), X, where=where)
    assert caught.value.argument == "log_probs"


@everywhere
def test_a_pool_of_another_width_than_the_model(where):
    posterior = posteriors.mc_dropout(networks.mlp(F, C, (4,)))
    state = posterior.init(jax.random.key(0), X[0])
    bound = predictive.bind(posterior, state, posterior.draw(jax.random.key(1), state, 2))
    for model in (LINEAR, PLAIN, bound):
        with pytest.raises(errors.WrongShape, match=r"shape \(3,\).*another width") as caught:
            picks(model, X[:, :3], where=where)
        assert caught.value.argument == "pool" and caught.value.__cause__ is not None


@everywhere
def test_an_error_of_the_callers_function_arrives(where):
    def broken(x):
        raise OSError("the model is not there")

    with pytest.raises(OSError, match="the model is not there"):
        picks(broken, X, where=where)


@everywhere
def test_scores_that_give_something_else_are_refused(where):
    per_draw = lambda log_probs: jnp.exp(log_probs[..., 0])
    cases = {
        "score": [
            acquire.top(per_draw),
            acquire.top(lambda log_probs: jnp.float32(1)),
            acquire.top(lambda log_probs: log_probs[0, :, 0] > -1),
            acquire.top(lambda log_probs: None),
            acquire.top(lambda log_probs: (log_probs[0, :, 0], 1)),
            acquire.power(per_draw),
            acquire.prefilter(9, per_draw, TOP),
        ],
        "scores": [acquire.combined(scores.bald, per_draw)],
    }
    for argument, strategies in cases.items():
        for strategy in strategies:
            with pytest.raises(errors.WrongShape, match="one real number per row") as caught:
                picks(LINEAR, X, 3, strategy, where)
            assert caught.value.argument == argument


def test_strategies_of_the_other_kind_of_labels_are_refused():
    numbers = pools.numbers(moments=(X.T[:2], np.ones((2, N))))
    for strategy in (BATCH, acquire.badge(), acquire.bait()):
        with pytest.raises(errors.WrongType, match="real labels") as caught:
            choose(0, None, numbers, 2, strategy)
        assert caught.value.argument == "strategy"
    with pytest.raises(errors.WrongType, match="predicts classes") as caught:
        picks(LINEAR, X, 2, acquire.log_det_gaussian())
    assert caught.value.argument == "strategy"
    of_classes = lambda log_probs: scores.bald(log_probs)  # the tests' type checks hide signatures
    of_numbers = lambda means, variances: regression.variance(means, variances)
    for model, pool, score in ((None, numbers, of_classes), (LINEAR, X, of_numbers)):
        with pytest.raises(errors.WrongType) as caught:
            choose(0, model, pool, 2, acquire.top(score))
        assert caught.value.argument == "score"


# anything else

MASKED = np.ma.array(X, mask=X > 1)
GIVEN = pools.numbers(log_probs=LOG_P, axes="K N C")
BAD = {
    "a factory": ({"strategy": acquire.batch_bald}, errors.WrongType, "strategy"),
    "a score": ({"strategy": scores.bald}, errors.WrongType, "strategy"),
    "a name": ({"strategy": "bald"}, errors.WrongType, "strategy"),
    "size 0": ({"size": 0}, errors.WrongSize, "size"),
    "size 1.5": ({"size": 1.5}, errors.WrongSize, "size"),
    "size True": ({"size": True}, errors.WrongSize, "size"),
    "size N + 1": ({"size": N + 1}, errors.WrongSize, "size"),
    "no model": ({"predictive": None}, errors.WrongType, "predictive"),
    "a number as model": ({"predictive": 3}, errors.WrongType, "predictive"),
    "a model and numbers": ({"pool": GIVEN}, errors.WrongType, "predictive"),
    "no pool": ({"pool": None}, errors.WrongShape, "x"),
    "a number as pool": ({"pool": 3.0}, errors.WrongShape, "x"),
    "a dict as pool": ({"pool": {"x": X}}, errors.WrongShape, "x"),
    "one axis": ({"pool": X[:, 0]}, errors.WrongShape, "x"),
    "no rows": ({"pool": X[:0]}, errors.WrongSize, "x"),
    "ragged lists": ({"pool": [[1.0, 2.0], [3.0]]}, errors.WrongShape, "x"),
    "strings": ({"pool": np.array([["a", "b"]] * 5)}, errors.WrongShape, "x"),
    "objects": ({"pool": np.array([[1, None]] * 5, object)}, errors.WrongShape, "x"),
    "dates": ({"pool": np.zeros((5, F), "M8[s]")}, errors.WrongShape, "x"),
    "complex": ({"pool": X + 1j}, errors.WrongShape, "x"),
    "masked": ({"pool": MASKED}, errors.WrongType, "x"),
    "wide integers": ({"pool": np.full((N, F), 2**40)}, errors.OutOfRange, "x"),
    "a mask as list": ({"available": [True] * N}, errors.WrongShape, "available"),
    "a mask of ints": ({"available": np.ones(N, int)}, errors.WrongShape, "available"),
    "a short mask": ({"available": np.ones(N - 1, bool)}, errors.WrongShape, "available"),
    "a mask of two axes": ({"available": np.ones((N, 1), bool)}, errors.WrongShape, "available"),
    "a masked mask": (
        {"available": np.ma.array(np.ones(N, bool), mask=np.arange(N) < 3)},
        errors.WrongType,
        "available",
    ),
    "key in words": ({"key": "a"}, errors.WrongShape, "key"),
    "raw key": ({"key": np.zeros(2, np.uint32)}, errors.WrongShape, "key"),
    "negative key": ({"key": -1}, errors.WrongSize, "key"),
    "a key too large": ({"key": 2**40}, errors.WrongSize, "key"),
    "a bool as key": ({"key": True}, errors.WrongShape, "key"),
    "a float as key": ({"key": 0.5}, errors.WrongShape, "key"),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    change, error, argument = BAD[bad]
    call = {"key": 0, "predictive": LINEAR, "pool": X, "size": 2, "strategy": TOP, **change}
    with pytest.raises(error) as caught:
        oracles.as_users_do(choose)(**call)
    assert caught.value.argument == argument


TRACED = {
    "key": lambda key: choose(key, LINEAR, X, 2, TOP),
    "pool": lambda x: choose(0, LINEAR, x, 2, TOP),
    "predictive": lambda model: choose(0, model, X, 2, TOP),
    "available": lambda mask: choose(0, LINEAR, X, 2, TOP, available=mask),
    "nothing": lambda _: choose(0, LINEAR, X, 2, TOP),
}
VALUES = {
    "key": jax.random.key(0),
    "pool": X,
    "predictive": LINEAR,
    "available": np.ones(N, bool),
    "nothing": 0.0,
}


@pytest.mark.parametrize("name", TRACED)
def test_inside_jit_it_says_where_to_go(name):
    with pytest.raises(errors.WrongType, match=r"`bayesal\.select`") as caught:
        oracles.as_users_do(jax.jit(lambda value: TRACED[name](value).indices))(VALUES[name])
    assert caught.value.argument == ("available" if name == "nothing" else name)


def test_a_predictive_is_a_value_inside_jit():
    inside = jax.jit(lambda model, x: scores.bald(model(x)))(LINEAR, X)
    np.testing.assert_allclose(inside, scores.bald(LOG_P), atol=1e-6)
