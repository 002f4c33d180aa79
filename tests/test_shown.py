"""How records look when they are printed: short, and never an error."""

import jax
import numpy as np
import pytest

import bayesal
from bayesal import acquire, networks, pools, posteriors, scores

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
POSTERIOR = posteriors.mc_dropout(networks.mlp(4, 3, (8,)), batch_size=16)
LEARNER = bayesal.learner(
    POSTERIOR, acquire.power(), size=3, num_draws=5, hparams=bayesal.HParams(steps=5)
)


@pytest.fixture(scope="module")
def state():
    return LEARNER.tell(LEARNER.init(0, X), X, np.arange(6), np.arange(6) % 3)


def test_a_state_is_one_line(state):
    said = repr(state)
    assert said.startswith("LearnerState: round 1, 6 labels (room for 128), T = 1, HParams(")
    assert len(said) < 250 and "steps=5" in said


def test_a_batch_is_a_table(state):
    batch = LEARNER.ask(state, X)
    lines = repr(batch).splitlines()
    assert lines[0].startswith("Selection of 3") and lines[1].split() == ["row", "score"]
    assert [int(line.split()[0]) for line in lines[2:5]] == np.asarray(batch.indices).tolist()
    assert batch._repr_html_().count("<tr>") == 4


def test_a_predictive_is_one_line(state):
    said = repr(bayesal.predictive_of(POSTERIOR, state, 5))
    assert said == "Predictive: draws of mc_dropout(Network, batch_size=16), T = 1"


def test_what_was_built_is_shown_as_the_call_that_built_it():
    assert repr(POSTERIOR) == "Posterior: mc_dropout(Network, batch_size=16)"
    assert repr(acquire.top(scores.bald)) == "Strategy: top(bald)"
    assert repr(acquire.prefilter(50, scores.entropy, then=acquire.badge())) == (
        "Strategy: prefilter(50, entropy, then=badge())"
    )
    assert repr(pools.of(X)) == "Pool of 30 rows of float32[30, 4]"


def test_under_jit_and_as_shapes_nothing_is_raised(state):
    seen = []
    jax.jit(lambda state: seen.append(repr(state)) or state.round)(state)
    seen.append(repr(jax.eval_shape(lambda state: state, state)))
    seen.append(repr(jax.tree.map(lambda leaf: None, LEARNER.ask(state, X))))
    assert all(len(said) < 600 for said in seen)
