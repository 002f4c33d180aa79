"""Warnings of data that do harm: each where it should be, and nowhere else."""

import warnings

import numpy as np
import pytest

import bayesal
from bayesal import acquire, likelihoods, networks, posteriors

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
POSTERIOR = posteriors.point(networks.mlp(4, 3, (8,)))
NET = networks.mlp(4, 1, (8,))
REAL = posteriors.point(NET, likelihood=likelihoods.gaussian(noise_std=0.5, center=0.0))
STANDARDIZED = posteriors.point(NET, likelihood=likelihoods.gaussian(noise_std=0.5))


def told(x=X, labels=None, posterior=POSTERIOR, rows=9):
    labels = np.arange(rows) % 3 if labels is None else labels
    hparams = bayesal.HParams(steps=2)
    learner = bayesal.learner(posterior, acquire.uniform(), size=2, num_draws=1, hparams=hparams)
    return learner, learner.tell(learner.init(0, x), x, np.arange(rows), labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": 1e4 * X}, "features of `x` reach"),
        ({"labels": np.ones(9, int)}, "all 9 labels are of class 1"),
        ({"labels": 500 * X[:9, 0], "posterior": REAL}, "standard deviation"),
        ({"labels": 3000 + X[:9, 0], "posterior": REAL}, "mean 3e"),
    ],
    ids=["features", "one class", "spread", "far away"],
)
def test_what_does_harm_is_said_with_its_cure(options, words):
    with pytest.warns(UserWarning, match=words) as caught:
        told(**options)
    assert len(caught) == 1


def test_bytes_of_pictures_are_divided():
    pictures = np.random.default_rng(0).integers(0, 256, (20, 2, 2)).astype(np.uint8)
    flat = networks.from_functions(
        lambda key, x: np.zeros((4, 3), np.float32), lambda p, x, key: x.reshape(4) * 1.0 @ p
    )
    with pytest.warns(UserWarning, match="x / 255"):
        told(pictures, posterior=posteriors.point(flat))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": np.zeros(7, int), "rows": 7},  # few: it may be chance
        {"labels": np.full(9, bayesal.REJECTED)},
        {"labels": np.zeros(9, np.float32), "posterior": REAL},
        {"labels": 5 + X[:9, 0], "posterior": REAL},
        {"labels": 3000 + 500 * X[:9, 0], "posterior": STANDARDIZED},
    ],
    ids=["plain", "few", "rejected", "zeros", "near", "standardized"],
)
def test_what_is_well_is_not_remarked(options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told(**options)


def test_scales_are_looked_at_once_and_classes_every_time():
    with pytest.warns(UserWarning):
        learner, state = told(1e4 * X, np.ones(9, int))
    with pytest.warns(UserWarning) as caught:
        learner.tell(state, 1e4 * X, [20], [1])
    assert len(caught) == 1 and "all 10 labels" in str(caught[0].message)
