import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesal import checks, retune
from bayesal.types import HParams

pytestmark = pytest.mark.usefixtures("strict")

START = checks.as_traced(HParams(3e-3, 1e-4, 0.3, 1.0, steps=300))
BOUNDS = HParams((5e-4, 2e-2), (1e-5, 1e-1), (0.05, 0.6), (0.1, 3.0), (50, 400))
ALL = jnp.ones(20, bool)


def losses_of(*means, spread=0.0, seed=0):
    noise = np.random.default_rng(seed).normal(size=(len(means), 20))
    noise -= noise.mean(axis=1, keepdims=True)
    return jnp.asarray(np.asarray(means)[:, None] + spread * noise, jnp.float32)


def test_a_clear_winner_wins():
    means, errors, chosen = retune.judge(losses_of(1.0, 0.9, 0.5, 0.7), ALL)
    assert int(chosen) == 2 and float(errors[0]) == 0.0
    np.testing.assert_allclose(means, [1.0, 0.9, 0.5, 0.7], rtol=1e-6)


@given(st.integers(0, 2**31), st.floats(-0.5, 0.5))
def test_the_incumbent_stays_within_the_standard_error(seed, gap):
    losses = losses_of(1.0, 1.0 + gap, spread=1.0, seed=seed)
    _, errors, chosen = retune.judge(losses, ALL)
    pairs = np.asarray(losses, np.float64)
    by_hand = (pairs[1] - pairs[0]).std(ddof=1) / np.sqrt(20)
    assert abs(float(errors[1]) - by_hand) < 1e-5
    if abs(gap + by_hand) > 1e-4:
        assert int(chosen) == (gap < -by_hand)


def test_a_tie_stays_with_the_incumbent():
    assert int(retune.judge(losses_of(1.0, 1.0, 1.0), ALL)[2]) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_candidate_never_wins(bad):  # TRAPS 4
    losses = losses_of(1.0, 0.2, 0.5).at[1, 3].set(bad)
    means, errors, chosen = retune.judge(losses, ALL)
    assert int(chosen) == 2 and float(means[1]) == np.inf and np.all(np.isfinite(errors))
    assert int(retune.judge(losses.at[2, 0].set(bad), ALL)[2]) == 0
    assert int(retune.judge(losses_of(1.0, 2.0).at[0, 0].set(bad), ALL)[2]) == 1  # a broken incumbent always loses
    assert int(retune.judge(jnp.full((3, 20), bad), ALL)[2]) == 0


@pytest.mark.parametrize("junk", [0.0, 1e6, np.nan, -np.inf])
def test_padding_changes_nothing(junk):  # TRAPS 21
    losses = losses_of(1.0, 0.9, 1.2, spread=0.3)
    padded = jnp.concatenate([losses, jnp.full((3, 60), junk)], axis=1)
    for a, b in zip(retune.judge(padded, jnp.arange(80) < 20), retune.judge(losses, ALL), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def quadratic(seen=None):
    """A fake trial: the best learning rate is 1e-2, the best dropout 0.1."""

    def trial(hparams):
        if seen is not None:
            seen.append(1)
        loss = jnp.square(jnp.log(hparams.learning_rate / 1e-2)) + jnp.square(hparams.dropout - 0.1)
        return retune.Trial(jnp.full(20, 1.0) * loss, ALL, {"rate": hparams.learning_rate})

    return trial


@pytest.mark.parametrize("size", [2, 8])
def test_proposals_are_as_many_as_asked_within_bounds_and_judged_once(size):
    retuner, trial = retune.population(size), quadratic()
    for key in jax.random.split(jax.random.key(0), 3):
        hparams, tuning = retuner(key, trial, START)
        for name, (low, high) in zip(HParams._fields, BOUNDS[:5], strict=False):
            values = np.asarray(getattr(tuning.candidates, name))
            assert values.shape == (size,)
            assert np.all((values[1:] >= low * 0.9999) & (values[1:] <= high * 1.0001)), name
        assert tuning.candidates.steps.dtype == jnp.int32
        assert all(float(a[0]) == float(b) for a, b in zip(tuning.candidates, START, strict=True))
        picked = int(tuning.chosen)
        assert all(float(a[picked]) == float(b) for a, b in zip(tuning.candidates, hparams, strict=True))
        assert float(tuning.trial.states["rate"]) == float(hparams.learning_rate)
        assert float(tuning.losses[picked]) <= float(tuning.losses[0])


def test_proposals_obey_the_key():
    retuner, trial = retune.population(8), quadratic()
    one, same, other = (retuner(jax.random.key(k), trial, START)[1].candidates.dropout for k in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one[1:], other[1:])
    assert len(set(np.asarray(one).tolist())) == 8


def test_rounds_improve_and_compile_once():  # TRAPS 20
    seen = []
    trial = quadratic(seen)
    round_ = jax.jit(lambda key, hparams: retune.population(8)(key, trial, hparams))
    hparams, best = START, np.inf
    for key in jax.random.split(jax.random.key(1), 10):
        hparams, tuning = round_(key, hparams)
        assert float(tuning.losses[tuning.chosen]) <= best
        best = float(tuning.losses[tuning.chosen])
    assert len(seen) == 1 and best < 0.1


def test_a_range_of_one_value_is_that_value():
    _, tuning = retune.population(4, dropout=(0.25, 0.25), steps=(100, 100))(jax.random.key(0), quadratic(), START)
    np.testing.assert_allclose(tuning.candidates.dropout[1:], 0.25, rtol=1e-5)
    assert tuning.candidates.steps[1:].tolist() == [100, 100, 100]


def test_keep_keeps():
    hparams, tuning = retune.keep()(jax.random.key(0), None, START)
    assert hparams is START and int(tuning.chosen) == 0 and tuning.trial is None


@pytest.mark.parametrize(
    ("argument", "options"),
    [("size", {"size": 1}), ("learning_rate", {"learning_rate": (0.0, 1.0)}), ("dropout", {"dropout": (0.1, 1.0)}),
     ("weight_decay", {"weight_decay": (0.1, 0.01)}), ("steps", {"steps": (-1, 5)}), ("prior_scale", {"prior_scale": (float("nan"), 1.0)})],
)  # fmt: skip
def test_bounds_that_are_none_are_refused_by_name(argument, options):
    with pytest.raises(checks.WrongSize, match=f"`{argument}`") as caught:
        retune.population(**options)
    assert caught.value.argument == argument
