"""Pools of a person's own predictions: whatever library they come from, the picks are those of the
core; nothing is guessed, nothing is changed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import acquire, choose, errors, pools, scores, select
from bayesal.pools import _walk
from bayesal.scores import regression

K, N, C, SIZE = 6, 30, 3, 4
LOG_P, P = oracles.random_log_probs(0, (K, N, C))
FEATURES = np.random.default_rng(3).normal(size=(N, 2)).astype(np.float32)
MEANS = np.random.default_rng(4).normal(size=(K, N))
VARIANCES = np.random.default_rng(5).random((K, N)) + 0.1
BATCH, BALD = acquire.batch_bald(), acquire.top(scores.bald)
MARGIN, ENTROPY = acquire.top(scores.margin), acquire.top(scores.entropy)
numbers = oracles.as_users_do(pools.numbers)


@pytest.fixture(autouse=True, scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_walk, "NUMBERS", 8 * K * C)  # chunks of 8 rows, the last one moved back
        yield


@functools.cache
def want():
    return jax.jit(lambda p: select.batch_bald(jax.random.key(0), p, SIZE))(LOG_P)


def picked(strategy=BATCH, size=SIZE, available=None, **given):
    return choose(
        0, None, numbers(**{"axes": "K N C", **given}), size, strategy, available=available
    )


class Foreign:
    """A tensor of another library: it speaks DLPack, has a gradient to let go of, and cannot be
    read before.
    """

    def __init__(self, array, attached=True):
        self.array, self.attached = array, attached

    def detach(self):
        return Foreign(self.array, attached=False)

    def __dlpack__(self, **how):
        if self.attached:
            raise RuntimeError("this tensor requires a gradient")
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


FORMS = {
    "NumPy": lambda a: a,
    "NumPy float64": lambda a: a.astype(np.float64),
    "big endian": lambda a: a.astype(">f4"),
    "JAX": jnp.asarray,
    "lists": lambda a: a.tolist(),
    "DLPack": Foreign,
    "DLPack float64": lambda a: Foreign(a.astype(np.float64)),
    "a list of arrays": list,
}
KINDS = {"log_probs": LOG_P, "probs": np.exp(LOG_P), "logits": LOG_P + np.float32(3)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_library_and_every_kind_gives_the_picks_of_the_core(form, kind):
    found = picked(**{kind: FORMS[form](KINDS[kind])})
    assert found.indices.tolist() == want().indices.tolist()
    np.testing.assert_allclose(found.scores, want().scores, atol=2e-5)


def test_log_probs_are_passed_on_bit_for_bit():
    pool = numbers(log_probs=LOG_P, axes="K N C")
    rows = np.array([29, 0, 7])
    np.testing.assert_array_equal(pool.take(rows).prediction, LOG_P[:, rows])


@pytest.mark.parametrize("axes", ["K N C", "K C N", "N K C", "N C K", "C K N", "C N K"])
def test_axes_come_in_any_order(axes):
    array = LOG_P.transpose(["KNC".index(a) for a in axes.split()])
    for given in (array, Foreign(np.ascontiguousarray(array))):
        assert picked(log_probs=given, axes=axes).indices.tolist() == want().indices.tolist()


@pytest.mark.parametrize("axes", ["N C", "C N", None])
def test_one_prediction_per_point(axes):
    array = LOG_P[0].T if axes == "C N" else LOG_P[0]
    found = picked(MARGIN, 2, log_probs=array, axes=axes)
    assert found.indices.tolist() == select.top(scores.margin(LOG_P[:1]), 2).indices.tolist()
    with pytest.raises(errors.WrongSize, match="at least 2") as caught:
        picked(BATCH, log_probs=array, axes=axes)
    assert caught.value.argument == "log_probs"


@pytest.mark.parametrize("name", sorted(oracles.SCORES))
def test_each_score_is_that_of_plain_python(name):
    if not hasattr(scores, name):
        pytest.skip("no score of this name")
    found = picked(acquire.top(getattr(scores, name)), log_probs=LOG_P)
    worth = np.array([oracles.SCORES[name](P[:, i].tolist()) for i in range(N)])
    np.testing.assert_allclose(worth[found.indices], np.sort(worth)[::-1][:SIZE], atol=2e-6)


def test_real_labels_by_their_moments():
    for how in (acquire.top(regression.epistemic), acquire.top(regression.variance)):
        array = choose(0, None, numbers(moments=(MEANS, VARIANCES)), SIZE, how)
        lists = choose(0, None, numbers(moments=(MEANS.tolist(), VARIANCES.tolist())), SIZE, how)
        assert array.indices.tolist() == lists.indices.tolist()
    disagreement = MEANS.var(axis=0)
    pool = numbers(moments=(MEANS, VARIANCES))
    spread = choose(0, None, pool, SIZE, acquire.top(lambda m, v: jnp.var(m, axis=0)))
    assert spread.indices.tolist() == np.argsort(-disagreement)[:SIZE].tolist()
    one = choose(
        0, None, numbers(moments=(MEANS[0], VARIANCES[0])), SIZE, acquire.top(regression.variance)
    )
    assert one.indices.tolist() == np.argsort(-VARIANCES[0])[:SIZE].tolist()
    inner = acquire.prefilter(9, regression.variance, acquire.log_det_gaussian())
    both = acquire.combined(regression.variance, regression.epistemic)
    for how in (acquire.log_det_gaussian(), inner, both):
        assert len(set(choose(0, None, pool, SIZE, how).indices.tolist())) == SIZE


def test_rows_with_nan_are_counted_whatever_the_numbers_are():  # TRAPS 1, 4
    rows = want().indices[:2]
    for kind, values in KINDS.items():
        broken = values.copy()
        broken[1, rows, 0] = np.nan
        with pytest.warns(UserWarning, match="2 available points have NaN"):
            found = picked(BALD, **{kind: broken})
        assert int(found.nonfinite) == 2 and not set(rows.tolist()) & set(found.indices.tolist())
    means = MEANS.copy()
    means[0, 3] = np.nan
    with pytest.warns(UserWarning, match="1 available points have NaN"):
        how = acquire.top(regression.variance)
        found = choose(0, None, numbers(moments=(means, VARIANCES)), N - 1, how)
    assert 3 not in found.indices


def aligned(array):
    """A copy of an array where JAX can share its memory."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    place = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def test_nothing_is_changed_and_what_was_picked_does_not_change():  # TRAPS 30
    for kind, array in KINDS.items():
        given, available = aligned(array), np.ones(N, bool)
        given.flags.writeable = available.flags.writeable = False
        found = picked(available=available, **{kind: given})
        assert np.array_equal(given, array) and available.all()
        given.flags.writeable = available.flags.writeable = True
        given[...], available[...] = 0, False
        assert found.indices.tolist() == want().indices.tolist()
        np.testing.assert_allclose(found.scores, want().scores, atol=2e-5)


def test_a_file_is_read_where_it_lies(tmp_path):
    np.save(tmp_path / "log_probs.npy", LOG_P.transpose(1, 2, 0))
    mapped = np.load(tmp_path / "log_probs.npy", mmap_mode="r")
    assert picked(log_probs=mapped, axes="N C K").indices.tolist() == want().indices.tolist()


def test_certain_classes_and_enormous_logits():  # TRAPS 1
    # 2 draws, 3 points: they disagree about point 1 only
    one_hot = np.eye(3)[np.array([[0, 1, 2], [0, 2, 2]])]
    cases = [{"probs": one_hot}, {"logits": np.where(one_hot > 0, 0.0, -np.inf)}]
    cases += [{"logits": (one_hot - 0.5) * 2 * scale} for scale in (300.0, 1e6)]
    for case in cases:
        found = picked(BALD, 1, **case)
        assert found.indices.tolist() == [1] and abs(found.scores[0] - np.log(2)) < 1e-6


def test_float64_keeps_its_digits_on_the_way_in():
    offset = picked(logits=LOG_P.astype(np.float64) + 1e9)  # float32 would keep none of them
    assert offset.indices.tolist() == want().indices.tolist()


@pytest.mark.slow
def test_half_precision():  # TRAPS 5
    z = np.random.default_rng(5).normal(size=(K, N, C)).astype(np.float32)
    exact = set(picked(BALD, 10, logits=z).indices.tolist())
    stored = {
        "logits": Foreign(jnp.asarray(z).astype(jnp.bfloat16)),
        "log_probs": Foreign(jnp.asarray(oracles.log_softmax(z)).astype(jnp.bfloat16)),
    }
    for kind, tensor in stored.items():
        assert len(exact & set(picked(BALD, 10, **{kind: tensor}).indices.tolist())) >= 8
    assert len(set(picked(log_probs=stored["log_probs"]).indices.tolist())) == SIZE


def test_half_precision_of_probabilities_is_refused_where_draws_are_compared():
    half = np.exp(LOG_P).astype(np.float16)
    with pytest.raises(errors.NotLogProbabilities, match="half precision") as caught:
        numbers(probs=half, axes="K N C")
    assert caught.value.argument == "probs"
    assert len(picked(ENTROPY, probs=half[0], axes="N C").indices) == SIZE


MASKED = np.ma.array(LOG_P, mask=LOG_P > -0.1)
NEGATIVE = -np.ones((K, N))
BAD = {
    "nothing": (dict(), errors.WrongShape, "log_probs"),
    "two kinds": (dict(log_probs=LOG_P, probs=P), errors.WrongShape, "probs"),
    "axes not said": (dict(log_probs=LOG_P, axes=None), errors.WrongShape, "axes"),
    "unknown axes": (dict(log_probs=LOG_P, axes="N K"), errors.WrongShape, "axes"),
    "axes twice": (dict(log_probs=LOG_P, axes="K N N"), errors.WrongShape, "axes"),
    "axes of another type": (dict(log_probs=LOG_P, axes=3), errors.WrongShape, "axes"),
    "too few axes": (dict(log_probs=LOG_P[0]), errors.WrongShape, "log_probs"),
    "too many axes": (dict(probs=P, axes="N C"), errors.WrongShape, "probs"),
    "probabilities as logs": (dict(log_probs=P), errors.NotLogProbabilities, "log_probs"),
    "logits as logs": (dict(log_probs=LOG_P + 1), errors.NotLogProbabilities, "log_probs"),
    "logs as probabilities": (dict(probs=LOG_P), errors.NotLogProbabilities, "probs"),
    "wrong axes": (dict(probs=P, axes="K C N", size=2), errors.NotLogProbabilities, "probs"),
    "infinite logits": (dict(logits=np.where(P > 0.9, np.inf, 0.0)), errors.NonFinite, "logits"),
    "no possible class": (dict(logits=np.full((K, N, C), -np.inf)), errors.NonFinite, "logits"),
    "integers": (dict(logits=np.ones((K, N, C), int)), errors.WrongShape, "logits"),
    "ragged lists": (dict(probs=[[[0.5, 0.5], [1.0]]]), errors.WrongShape, "probs"),
    "words": (dict(probs="probs"), errors.WrongShape, "probs"),
    "one class": (dict(probs=np.ones((K, N, 1))), errors.WrongShape, "probs"),
    "no draws": (dict(log_probs=LOG_P[:0]), errors.WrongSize, "log_probs"),
    "no points": (dict(log_probs=LOG_P[:, :0]), errors.WrongSize, "log_probs"),
    "masked": (dict(log_probs=MASKED), errors.WrongType, "log_probs"),
    "one moment": (dict(moments=MEANS), errors.WrongShape, "moments"),
    "moments of two shapes": (dict(moments=(MEANS, MEANS[:1])), errors.WrongShape, "moments"),
    "moments of no points": (dict(moments=(MEANS[:, :0],) * 2), errors.WrongShape, "moments"),
    "moments in words": (dict(moments=(["a"] * N, ["b"] * N)), errors.WrongShape, "moments"),
    "negative variances": (dict(moments=(MEANS, NEGATIVE)), errors.OutOfRange, "moments"),
    "too few features": (
        dict(log_probs=LOG_P, features=FEATURES[1:]),
        errors.WrongShape,
        "features",
    ),
    "features of one axis": (
        dict(log_probs=LOG_P, features=FEATURES[:, 0]),
        errors.WrongShape,
        "features",
    ),
    "masked features": (
        dict(log_probs=LOG_P, features=np.ma.array(FEATURES, mask=FEATURES > 1)),
        errors.WrongType,
        "features",
    ),
    "draws agree": (dict(log_probs=np.repeat(LOG_P[:1], K, 0)), errors.ConstantScores, "scores"),
}


@pytest.mark.parametrize("bad", BAD)
def test_anything_else_is_refused_by_name(bad):  # TRAPS 16
    given, error, argument = BAD[bad]
    real = "moments" in given
    with pytest.raises(error) as caught:
        picked(acquire.top(regression.variance) if real else BATCH, **given)
    assert caught.value.argument == argument


def test_log_probabilities_in_other_axes_are_asked_about_their_axes():
    words = r"is `axes` right\? .* shape \(6, 1, 30\)"
    with pytest.raises(errors.NotLogProbabilities, match=words):
        picked(log_probs=LOG_P, axes="K C N", size=2)


@pytest.mark.parametrize("strategy", [BALD, BATCH, acquire.epig(5)], ids=["top", "batch", "epig"])
def test_offending_rows_are_rows_of_the_pool(strategy):
    broken = P.copy()
    broken[2, 25] *= 1.5
    for kind, values in (("probs", broken), ("log_probs", np.log(broken))):
        with pytest.raises(errors.BayesalError) as caught:
            picked(strategy, **{kind: values})
        assert caught.value.rows.tolist() == [25] and caught.value.argument == kind


def test_other_points_cannot_be_predicted():
    with pytest.raises(errors.WrongType, match="no model") as caught:
        picked(acquire.epig(FEATURES), log_probs=LOG_P)
    assert caught.value.argument == "targets"


def test_inside_jit_it_says_where_to_go():
    with pytest.raises(errors.WrongShape, match=r"bayesal\.select"):
        jax.jit(lambda p: pools.numbers(log_probs=p, axes="K N C").rows)(LOG_P)
