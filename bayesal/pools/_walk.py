"""How many rows a pool looks at together, and one chunk of work as one compiled program."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, _chunks, errors
from bayesal.predictive import _reading
from bayesal.predictive._bound import with_its_numbers
from bayesal.types import Array, ArrayLike, Gaussian, Mixture, Pool, Prediction, PyTree

ON_DEVICE = 1024  # rows of a chunk that is on a device already
ON_HOST = 8192  # rows of a chunk that is read from elsewhere
NUMBERS = 2**20  # log-probabilities of one chunk of a person's own predictions, at most: 4 MB


class Answers(NamedTuple):
    """Predictions and features that are there already, in place of a predictive."""

    prediction: Prediction | None
    features: Array | None

    def __call__(self, x: Any) -> Any:
        del x
        return self.prediction

    def embed(self, x: Any) -> Array:
        del x
        if self.features is None:
            raise errors.MissingEmbed(
                "features",
                "the strategy needs a feature vector for every point, and none were given: pass "
                "`features=` [N, D] to pools.numbers, or a predictive with `embed`.",
            )
        return self.features


def laid_out(said: Any, x: Any) -> Any:
    """What a predictive says of `x [n, ...]`, if its shape is `[K, n, C]` (normals: `[K, n]`)."""
    if isinstance(said, Gaussian | Mixture):
        axes, shapes = "[K draws, n rows]", {np.shape(leaf)[:2] for leaf in said}
        fits = all(np.ndim(leaf) == 2 + isinstance(said, Mixture) for leaf in said)
        fits &= len({np.shape(leaf) for leaf in said}) == 1
    else:
        _checks.layout(said, "predictive")  # more axes than three: the parts of structured outputs
        axes, shapes = "[K draws, n rows, C classes]", {tuple(said.shape)}
        fits = said.ndim >= 3
    if not fits or next(iter(shapes))[1] != x.shape[0]:
        raise errors.WrongShape(
            "predictive",
            f"`predictive(x)` must give {axes} for x of shape {tuple(x.shape)}; got shape "
            f"{' and '.join(map(str, sorted(shapes)))}.",
        )
    return said


@jax.tree_util.register_static
class OnHost:
    """A function of NumPy arrays that JAX cannot trace; hashed by identity."""

    def __init__(self, function: Callable[[np.ndarray], Any]):
        self.function = function

    def __call__(self, x: Any) -> Any:
        return self.answers(x, features=False).prediction

    def embed(self, x: Any) -> Array:
        return self.answers(x, features=True).embed(x)

    def answers(self, x: Any, features: bool) -> Answers:
        """What the function says of a chunk, checked; rows of NaN stay NaN."""
        x = np.asarray(x)
        said = self.function(x)
        if not isinstance(said, Gaussian | Mixture):
            said = np.array(_reading.read(said, "predictive"))  # it may answer in one buffer
        laid_out(said, x)
        if isinstance(said, Gaussian):
            said = _reading.moments(said.mean, said.variance, "predictive")
        elif not isinstance(said, Mixture):
            said = _reading.log_probs("log_probs", said, "predictive")
        embed = getattr(self.function, "embed", None)
        found = jnp.asarray(np.asarray(embed(x))) if features and embed is not None else None
        return Answers(prediction=said, features=found)


@jax.jit
def _part(fn: Callable[[Any, Any], PyTree], predictive: Any, x: Any) -> PyTree:
    return fn(predictive, x)


def part(fn: Callable[[Any, Any], PyTree], predictive: Any, x: Any) -> PyTree:
    """`fn(predictive, x)` as one compiled program, of which both functions' arrays
    are arguments.
    """
    fn = with_its_numbers(fn)
    if not isinstance(predictive, OnHost):
        return _part(fn, with_its_numbers(predictive), x)
    try:
        return _answered(fn, predictive.answers(x, features=False), x)
    except errors.MissingEmbed:  # found while tracing; only then are features worth their price
        return _answered(fn, predictive.answers(x, features=True), x)
    except _OtherRows:  # answers to `x` are no answers to what is asked: ask the function itself
        return fn(predictive, np.asarray(x))


class _OtherRows(Exception):
    """A predictive was asked about other rows than those it has answers to."""


class _AnswersTo(NamedTuple):
    """Answers to the rows of one chunk, and to no others."""

    answers: Answers
    x: Any

    def __call__(self, x: Any) -> Any:
        self._same(x)
        return self.answers(x)

    def embed(self, x: Any) -> Array:
        self._same(x)
        return self.answers.embed(x)

    def _same(self, x: Any) -> None:
        if x is not self.x:
            raise _OtherRows


@jax.jit
def _answered(fn: Callable[[Any, Any], PyTree], answers: Answers, x: Any) -> PyTree:
    return fn(_AnswersTo(answers, x), x)


@contextlib.contextmanager
def located(rows: np.ndarray) -> Iterator[None]:
    """Errors about positions in a chunk become errors about rows of the pool."""
    try:
        yield
    except errors.BayesalError as error:
        there = error.rows[error.rows < len(rows)]
        if not len(there) or np.array_equal(rows[there], there):
            raise
        where = f"{error} In rows of the pool: {_checks.listed(rows[there])}."
        raise type(error)(error.argument, where, rows[there]) from error


def in_memory(x: ArrayLike) -> Pool:
    """The pool of an array that is there, or that is being traced; nothing is checked."""

    def map(predictive, fn):
        return _chunks.over_rows(lambda rows: fn(predictive, rows), x, ON_DEVICE)

    return Pool(rows=x.shape[0], map=map, take=lambda rows: jnp.asarray(x)[rows], x=x)


def subset(pool: Pool, rows: ArrayLike) -> Pool:
    """Some rows of a pool as a pool of their own, numbered from 0."""
    if pool.x is not None:
        return in_memory(pool.x[rows])

    def map(predictive, fn):
        return part(fn, predictive, pool.take(rows))

    return Pool(rows=rows.shape[0], map=map, take=lambda some: pool.take(rows[jnp.asarray(some)]))
