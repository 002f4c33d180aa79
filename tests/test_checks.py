import copy
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import _checks, errors, retune
from bayesal.types import HParams

pytestmark = pytest.mark.usefixtures("strict")

MASK = np.array([True, False, True, True])


def refused(error, argument, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert caught.value.argument == argument and f"`{argument}`" in str(caught.value)
    assert isinstance(caught.value, errors.BayesalError) and isinstance(caught.value, ValueError)
    return caught.value


def test_storage_types_have_their_own_tolerance():
    log_p, _ = oracles.random_log_probs(0, (4, 50, 10))
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        assert _checks.log_probs(jnp.asarray(log_p).astype(dtype)).dtype == jnp.float32
    refused(errors.NotLogProbabilities, "log_probs", _checks.log_probs, jnp.asarray(log_p) + 0.01)


@pytest.mark.parametrize("shape", [(3, 40, 5), (40, 5), (3, 8, 5, 5)])
def test_one_row_in_many_is_found_wherever_it_is(shape, monkeypatch):
    monkeypatch.setattr(_checks.predictions._chunks, "IN_CACHE", 2**5)  # several chunks
    jax.clear_caches()
    log_p, _ = oracles.random_log_probs(1, shape)
    _checks.log_probs(log_p, draws=len(shape) > 2)
    for by, error in (
        (0.01, errors.NotLogProbabilities),
        (-0.01, errors.NotLogProbabilities),
        (np.nan, errors.NonFinite),
    ):
        spoilt = log_p.copy()
        spoilt[..., 3, 2] += np.float32(10 * by)  # one class of the fourth row of every draw
        assert set(
            refused(
                error, "log_probs", _checks.log_probs, spoilt, draws=len(shape) > 2
            ).rows.tolist()
        ) == {3}


def test_points_that_are_off_in_any_draw():
    log_p, _ = oracles.random_log_probs(2, (4, 5, 3))
    spoilt = log_p.copy()
    spoilt[2, 1] += 1e-4
    spoilt[0, 3, 0], spoilt[1, 4] = np.nan, -np.inf
    assert _checks.unnormalized(jnp.asarray(spoilt)).tolist() == [False, True, False, True, True]


def test_values_are_not_looked_at_under_jit():
    assert jax.jit(lambda x: _checks.log_probs(x).sum())(jnp.ones((2, 3))).shape == ()
    with pytest.raises(errors.WrongShape):
        jax.jit(_checks.log_probs)(jnp.ones((2, 3, 1)))
    assert not jax.jit(lambda x: jnp.asarray(_checks.concrete(x)))(jnp.ones(2))
    assert _checks.concrete(jnp.ones(2), np.ones(2))


def test_a_row_that_sums_to_nothing_is_refused():
    error = refused(
        errors.NotLogProbabilities,
        "log_probs",
        _checks.log_probs,
        np.full((2, 3, 2), -np.inf, np.float32),
    )
    assert error.rows.max() == 2


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", True, None, 5, 4])
def test_a_batch_that_cannot_be_had(size):
    error = refused(errors.WrongSize, "size", _checks.batch_size, size, jnp.asarray(MASK))
    assert "4 points" in str(error) if size == 5 else True
    assert "size=3" in str(error) if size == 4 else True


def test_batch_sizes_that_fit():
    assert (
        _checks.batch_size(3, jnp.asarray(MASK)) == 3 and _checks.batch_size(np.int64(1), MASK) == 1
    )


@pytest.mark.parametrize(
    "mask", [[0, 2], np.ones(4), np.ones(3, bool), np.ones((4, 1), bool), [True] * 4]
)
def test_a_mask_is_boolean_and_has_one_entry_per_point(mask):
    refused(errors.WrongShape, "available", _checks.available_rows, mask, 4)
    assert _checks.available_rows(None, 4).tolist() == [True] * 4


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ([0, 1, 3], [2]),
        ([-1, 0, 1], [0]),
        ([0.0, 1.0, 2.0], []),
        ([[1, 0], [0, 1]], []),
        ([0, 1], []),
    ],
)
def test_labels_out_of_range_or_of_the_wrong_kind(values, rows):  # TRAPS 32
    error = refused(errors.WrongLabel, "labels", _checks.labels, np.array(values), 3, 3)
    assert error.rows.tolist() == rows


def test_bools_are_the_classes_0_and_1():
    assert _checks.labels([True, False, True], 2).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "values",
    [
        [1700000001, 1700000059],  # 1.7e9 twice
        [16777217],
        [2.0**24 + 1],
        [2**62 + 1],
        [20_000_000.5],
        [1e-46],
        [123456.789, 123456.7891],
    ],
    ids=str,
)
def test_numbers_that_float32_would_change_are_refused(values):
    error = refused(errors.WrongLabel, "labels", _checks.real_labels, values)
    assert "Shift or scale" in str(error)


@given(
    st.lists(
        st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        min_size=1,
        max_size=5,
    )
)
def test_numbers_that_are_taken_are_kept(values):
    host = np.array(values)
    try:
        held = _checks.real_labels(host)
    except errors.WrongLabel:
        return
    for value, kept in zip(host.tolist(), held.tolist(), strict=True):
        assert kept == value or (value != int(value) and abs(kept - value) <= 1e-6 * abs(value))
    assert len(set(host.tolist())) == len(set(held.tolist()))


def test_masked_values_are_never_read():
    masked = np.ma.array([0, 1, 1], mask=[0, 0, 1])
    whole = np.ma.array([0, 1, 2], mask=False)
    assert refused(errors.WrongType, "labels", _checks.labels, masked, 3).rows.tolist() == [2]
    refused(errors.WrongType, "labels", _checks.real_labels, masked)
    refused(errors.WrongType, "indices", _checks.indices, masked, 4)
    refused(errors.WrongType, "weights", _checks.label_weights, masked, 3)
    refused(errors.WrongType, "x", _checks.pool, masked[:, None])
    assert _checks.labels(whole, 3).tolist() == _checks.indices(whole, 4).tolist() == [0, 1, 2]
    refused(errors.WrongType, "x", _checks.pool, whole[:, None])  # callers keep x itself


def test_labels_need_not_hold_every_class():  # TRAPS 32
    assert _checks.labels(np.array([0, 0, 2], np.uint8), 4).dtype == np.int32


@pytest.mark.parametrize(
    ("values", "rows"),
    [([0, 4], [4]), ([-1], [-1]), ([1, 2, 1], [1]), ([0.0], []), ([[0]], []), ([True, False], [])],
)
def test_indices_are_distinct_rows_of_the_pool(values, rows):  # TRAPS 17, 18
    error = refused(errors.WrongIndex, "indices", _checks.indices, np.array(values), 4)
    assert error.rows.tolist() == rows


def test_scores_that_cannot_be_ranked():  # TRAPS 4
    for value in (np.nan, np.inf):
        error = refused(
            errors.NonFinite, "scores", _checks.scores, np.array([0.0, value, -np.inf], np.float32)
        )
        assert error.rows.tolist() == [1]
    for values in ([0.0, 1.0], np.zeros((2, 2)), np.array(["a"]), np.array([True])):
        refused(errors.WrongShape, "scores", _checks.scores, values)


def test_pools():
    refused(errors.WrongShape, "x", _checks.pool, np.zeros(3))
    refused(errors.WrongShape, "x", _checks.pool, [[0.0]])
    refused(errors.WrongSize, "x", _checks.pool, np.zeros((0, 3)))
    refused(errors.WrongShape, "x", _checks.pool, np.array([["a"]]))
    _checks.pool(np.zeros((2, 3)))


def test_keys():
    for value in (0.0, True, jax.random.PRNGKey(0), jax.random.split(jax.random.key(0), 2)):
        refused(errors.WrongShape, "key", _checks.key, value)
    for value in (-1, 2**32):
        refused(errors.WrongSize, "key", _checks.key, value)
    assert _checks.key(jax.random.key(7)) == jax.random.key(7)


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**32 - 1, np.int64(7)])
def test_an_int_is_the_key_of_that_seed(seed):
    assert _checks.key(seed) == jax.random.key(np.uint32(seed))


def test_every_selector_takes_an_int_inside_jit_too():
    from bayesal import select

    scores = jnp.arange(1.0, 21.0)
    one = select.power(5, scores, 4).indices
    assert (one == select.power(jax.random.key(5), scores, 4).indices).all()
    assert (one == jax.jit(lambda scores: select.power(5, scores, 4).indices)(scores)).all()


def test_labels_that_may_not_be_told():  # TRAPS 17
    refused(errors.WrongSize, "indices", _checks.new_labels, np.array([], int), np.array([3]), 4)
    assert refused(
        errors.WrongIndex, "indices", _checks.new_labels, np.array([2, 3]), np.array([3]), 4
    ).rows.tolist() == [3]
    refused(
        errors.WrongSize, "indices", _checks.new_labels, np.array([0, 1, 2, 4]), np.array([3]), 4
    )
    assert refused(
        errors.WrongIndex, "indices", _checks.known_labels, np.array([2, 3]), np.array([3])
    ).rows.tolist() == [2]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("learning_rate", (-1.0, np.inf)),
        ("dropout", (-0.1, 1.0)),
        ("steps", (-3, 2.5, np.nan)),
        ("warmup", (-0.1, 1.0)),
        ("final_rate", (-0.1, 1.01)),
        ("label_smoothing", (-0.1, 1.0, np.nan)),
        ("architecture", (-1, 0.5)),
    ],
)
def test_hyperparameters_out_of_range(field, values):
    for value in values:
        with pytest.raises(errors.WrongSize, match=f"`hparams.{field}` = ") as error:
            _checks.hparams(HParams(**{field: value}))
        assert error.value.argument == "hparams"


def test_hyperparameters_at_the_ends_of_their_ranges():
    _checks.hparams(HParams(0, 0, 0, 1e-12, 0, 0, 0, 0, 0))
    _checks.hparams(HParams(final_rate=1.0, warmup=0.999, architecture=jnp.int32(7)))
    traced = _checks.as_traced(HParams(1, 0, 0, 2, 3.0, warmup=0, architecture=1))
    assert [a.dtype.name for a in traced] == ["float32"] * 4 + ["int32"] + ["float32"] * 3 + [
        "int32"
    ]
    assert [float(a) for a in traced] == [1, 0, 0, 2, 3, 0, 0, 0, 1]


def test_long_lists_of_rows_are_cut():
    assert _checks.listed(range(7)) == "0, 1, 2, 3, 4 and 2 more" and _checks.listed([]) == ""


@pytest.mark.parametrize(("value", "message"), [(4, "at most 3"), (0, "at least 1"), (2.0, "int")])
def test_a_size_has_two_ends(value, message):
    error = refused(errors.WrongSize, "bins", _checks.at_least, 1, value, "bins", 3)
    assert message in str(error)
    assert _checks.at_least(1, 3, "bins", 3) == 3 and _checks.at_least(1, 10**18, "bins") == 10**18


def test_a_plain_array_is_itself():
    """No copy where none is needed."""
    array = np.arange(3.0)
    assert _checks.plain(array, "x") is array and _checks.plain([1], "x") == [1]
    empty = np.ma.array(array, mask=False)
    assert type(_checks.plain(empty, "x")) is np.ndarray
    assert np.shares_memory(_checks.plain(empty, "x"), array)
    big = _checks.plain(array.astype(">f8"), "x")
    assert big.dtype.isnative and big.tolist() == array.tolist()
    refused(errors.WrongType, "x", _checks.plain, np.ma.masked, "x")


def test_constants_stay_known_while_a_function_is_traced():
    def traced(x):
        assert _checks.concrete(_checks.as_float(np.ones(2)))
        assert not _checks.concrete(_checks.as_float(x))
        return x

    jax.jit(traced)(jnp.ones(2))


def test_positive_numbers():
    refused(errors.WrongShape, "noise", _checks.positive, np.array([1.0, 2.0j]), 2, "noise")
    refused(errors.NonFinite, "noise", _checks.positive, np.array([1.0, 1e300]), 2, "noise")
    error = refused(errors.NonFinite, "noise", _checks.positive, np.array([1.0, 0.0]), 2, "noise")
    assert error.rows.tolist() == [1]
    assert _checks.positive(np.array([1, 2]), 2, "noise").dtype == jnp.float32


def test_scores_of_which_a_power_is_taken():
    error = refused(errors.OutOfRange, "score", _checks.never_negative, lambda p: p.min((0, 2)))
    assert "softmax" in str(error)
    _checks.never_negative(lambda p: -p.min((0, 2)))
    _checks.never_negative(lambda means, variances: -means)  # of real labels: not tried
    _checks.never_negative(np.linalg.inv)


def test_rows_without_nan():
    values = np.ones((3, 2, 2), np.float32)
    _checks.finite(values, "targets")
    values[1, 0, 1] = np.nan
    assert refused(
        errors.NonFinite, "targets", _checks.finite, values, "targets"
    ).rows.tolist() == [1]
    jax.jit(lambda x: _checks.finite(x, "targets"))(values)
    _checks.finite(np.ones((2, 2), int), "targets")


def test_a_field_that_hyperparameters_do_not_have_is_named_with_the_one_that_was_meant():
    with pytest.raises(TypeError, match=r"no field lr: did you mean learning_rate.* The fields"):
        HParams(steps=300, lr=0.1)
    with pytest.raises(TypeError, match=r"no field epochs\. The fields are learning_rate, weight_"):
        HParams(epochs=3)
    with pytest.raises(errors.UnknownName, match="no field step, wd: did you mean steps, w"):
        _checks.hparams({"wd": 1.0, "step": 2})
    with pytest.raises(errors.UnknownName, match=r"did you mean dropout\?"):
        retune.space(drop=(0.1, 0.2))
    one = HParams(0.1, steps=3)  # all that a NamedTuple can do it still does
    assert one == one._replace(steps=3) == HParams(*one) == HParams._make(one)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert jax.tree.map(lambda v: 2 * v, one) == HParams(*(2 * v for v in one))
    assert list(inspect.signature(HParams).parameters) == list(HParams._fields)
