"""One small pool and one recipe for all tests of campaigns."""

import numpy as np
import pytest

from bayesal import campaign

CLASSES = ("left", "right")
X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
RECIPE = {
    "classes": list(CLASSES),
    "size": 4,
    "spare": 2,
    "posterior": {"call": "posteriors.logistic", "args": [2]},
    "num_draws": 4,
    "first": "k_center",
}


class Clock:
    """A clock that tests set."""

    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def right(row):
    """What a person who knows says about a row."""
    return CLASSES[int(X[row, 0] > 0)]


@pytest.fixture(scope="session")
def begun(tmp_path_factory):
    """A store with its first questions; tests copy it."""
    path = tmp_path_factory.mktemp("begun") / "campaign.db"
    campaign.create(path, X, RECIPE, clock=Clock()).store.engine.dispose()
    return path


@pytest.fixture
def store(begun, tmp_path):
    return copied(begun, tmp_path / "campaign.db")


def copied(begun, path):
    """A copy of a store that nobody has open."""
    for end in ("", "-wal"):
        old = begun.with_name(begun.name + end)
        if old.exists():
            path.with_name(path.name + end).write_bytes(old.read_bytes())
    return path


@pytest.fixture
def running(store, clock):
    return campaign.open(store, clock=clock)
