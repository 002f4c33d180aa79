"""A warning points at the user's line, however deep in bayesal it was raised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import elephant

import bayesal
from bayesal import acquire, retune
from bayesal.predictive import bind

ROWS = np.arange(40, dtype=np.float32)[:, None]
FAR = 1_000 * ROWS  # features far from scale 1
SAME = dict(size=2, capacity=20, update="fresh")


def broken(log_probs):
    """NaN for one point."""
    return jnp.arange(log_probs.shape[1], dtype=jnp.float32).at[5].set(jnp.nan)


def made():
    return bayesal.learner(elephant(0), acquire.top(broken), first=acquire.uniform(), **SAME)


def started(x=ROWS):
    built = made()
    state = built.init(0, x)
    return built, built.tell(state, x, np.arange(3), [0, 1, 2])


def line_of_learner():
    space = retune.space(architecture=1)
    posterior = elephant(0)._replace(architectures=2)
    bayesal.learner(
        posterior, acquire.uniform(), retune=retune.successive_halving(2, space), **SAME
    )


def line_of_ask():
    built, state = started()
    built.ask(state, ROWS)


def line_of_a_larger_ask():
    built, state = started()
    built.ask(state, ROWS, size=5)


def line_of_tell():
    started(FAR)


def line_of_choose():
    posterior = elephant(0)
    state = posterior.init(jax.random.key(0), ROWS[0])
    predictive = bind(posterior, state, jnp.zeros(3), jnp.float32(1.0))
    bayesal.choose(0, predictive, ROWS, 2, acquire.top(broken))


@pytest.mark.parametrize(
    "line",
    [line_of_learner, line_of_ask, line_of_a_larger_ask, line_of_tell, line_of_choose],
)
def test_a_warning_points_at_the_users_line(line):
    with pytest.warns(UserWarning) as record:
        line()
    assert {warning.filename for warning in record} == {__file__}
