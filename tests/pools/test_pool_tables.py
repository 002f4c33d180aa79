"""Lists, data frames and sparse matrices as pools, in `choose` and in a learner."""

import numpy as np
import pytest
import scipy.sparse
from laws import DROPOUT, HPARAMS, TOP, problem, same
from oracles import as_users_do

import bayesal
from bayesal import errors, pools

X, Y = problem()


class Frame:
    """What a data frame offers, without pandas: columns of several types become objects."""

    def __init__(self, **columns):
        self.columns, self.data = list(columns), list(columns.values())

    def to_numpy(self):
        types = {np.asarray(column).dtype for column in self.data}
        return np.stack(
            [np.asarray(c, object if len(types) > 1 else None) for c in self.data], axis=1
        )


def frame(x):
    return Frame(**{f"f{i}": column for i, column in enumerate(x.T)})


def test_a_frame_of_numbers_is_its_array():
    assert np.array_equal(np.asarray(pools.of(frame(X)).x), X)


def test_columns_of_several_types():
    pool = pools.of(Frame(age=[31, 40, 25], member=[True, False, True], income=[1.5, 2.5, 0.5]))
    assert np.asarray(pool.x).tolist() == [[31, 1, 1.5], [40, 0, 2.5], [25, 1, 0.5]]


@pytest.mark.parametrize("bad", [["a", "b", "c"], [1, None, 2], [1, "b", 2], [[1], [2], [3]]])
def test_other_columns_are_named(bad):
    table = Frame(age=[31, 40, 25], city=np.array([*bad, None], object)[:3], income=[1.5, 2.5, 0.5])
    with pytest.raises(errors.WrongShape, match="'city'") as caught:
        pools.of(table)
    assert caught.value.argument == "x" and "age" not in str(caught.value)


def test_columns_of_one_name_are_both_kept():
    table = Frame(a=[1, 2], b=[True, False])
    table.columns = ["a", "a"]
    assert np.asarray(pools.of(table).x).tolist() == [[1, 1], [2, 0]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x.tolist(),
        frame,
        scipy.sparse.csr_matrix,
        scipy.sparse.csr_array,
        scipy.sparse.coo_matrix,
    ],
    ids=["list", "frame", "csr_matrix", "csr_array", "coo"],
)
def test_a_learner_and_choose_take_them(wrap):
    """The same batch and the same state as of the array."""
    learner = bayesal.learner(
        DROPOUT, TOP, size=4, capacity=20, num_draws=6, hparams=HPARAMS._replace(steps=20)
    )
    x = np.where(np.abs(X) > 0.5, X, 0).astype(np.float32)
    pool = wrap(x)
    init, ask, tell = (as_users_do(verb) for verb in learner[:3])
    state = tell(init(0, x), x, np.arange(6), Y[:6])
    assert same(state, tell(init(0, pool), pool, np.arange(6), Y[:6]))
    picked = np.asarray(ask(state, x).indices)
    assert np.array_equal(picked, ask(state, pool).indices)
    predictive = bayesal.predictive_of(DROPOUT, state, 6)
    mask = np.arange(len(x)) >= 6
    chosen = as_users_do(bayesal.choose)(0, predictive, pool, 4, TOP, available=mask)
    assert np.array_equal(picked, chosen.indices)
