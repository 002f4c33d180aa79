"""Averages over draws: log-probabilities, probabilities, classes, moments."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesal import errors
from bayesal.predictive import from_samples
from bayesal.types import Gaussian

RANDOM = np.random.default_rng(0)
LOG_P = np.log(RANDOM.dirichlet(np.ones(4), (5, 30))).astype(np.float32)  # [K, N, C]
ROWS = np.arange(30, dtype=np.int32)[:, None]
DRAWN = from_samples(lambda x: jnp.asarray(LOG_P)[:, x[:, 0]], num_draws=5)
REAL = from_samples(
    moments=lambda x: (
        jnp.stack([x[:, 0], x[:, 0] + 2]) * 1.0,
        jnp.ones((2, x.shape[0]), jnp.float32),
    ),
    num_draws=2,
)


def by_hand(temperature):
    p = np.exp(LOG_P.astype(np.float64) / temperature)
    return (p / p.sum(-1, keepdims=True)).mean(axis=0)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_probabilities_are_those_of_plain_numpy(temperature):
    drawn = dataclasses.replace(DRAWN, temperature=jnp.float32(temperature))
    np.testing.assert_allclose(drawn.probs(ROWS), by_hand(temperature), atol=1e-6)
    np.testing.assert_allclose(np.exp(drawn.log_probs(ROWS)), by_hand(temperature), atol=1e-6)


def test_classes_are_those_without_temperature():
    hot = dataclasses.replace(DRAWN, temperature=jnp.float32(1e9))  # all probabilities are 1/4
    assert len(np.unique(np.asarray(hot.log_probs(ROWS)))) == 1
    np.testing.assert_array_equal(hot.predict(ROWS), by_hand(1.0).argmax(-1))
    names = np.array(["a", "b", "c", "d"])[hot.predict(ROWS)]
    assert names.shape == (30,) and set(names) <= set("abcd")


def test_real_labels_have_moments():
    found = REAL.moments(ROWS)
    assert isinstance(found, Gaussian)
    np.testing.assert_allclose(found.mean, ROWS[:, 0] + 1.0)
    np.testing.assert_allclose(found.variance, 2.0)  # noise 1, spread of the draws 1
    np.testing.assert_allclose(REAL.predict(ROWS), ROWS[:, 0] + 1.0)
    wide = dataclasses.replace(REAL, temperature=jnp.float32(4.0))
    np.testing.assert_allclose(wide.moments(ROWS).variance, 5.0)


@pytest.mark.parametrize(
    ("model", "verb", "cure"),
    [(DRAWN, "moments", "log_probs"), (REAL, "log_probs", "moments"), (REAL, "probs", "moments")],
)
def test_the_other_kind_is_refused_with_the_cure(model, verb, cure):
    with pytest.raises(errors.WrongType, match=rf"\.{cure}\(x\)"):
        getattr(model, verb)(ROWS)


def test_they_run_inside_jit():
    for verb in ("log_probs", "probs", "predict"):
        found = jax.jit(lambda model, x, verb=verb: getattr(model, verb)(x))(DRAWN, ROWS)
        np.testing.assert_allclose(found, getattr(DRAWN, verb)(ROWS), rtol=1e-5)
