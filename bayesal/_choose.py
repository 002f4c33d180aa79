"""`choose`: any strategy on any pool. The one way from predictions to a batch."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from bayesal import _checks, _compiling, errors, pools
from bayesal._warnings import warn
from bayesal.pools import _predictives, _walk
from bayesal.pools._meshes import alone
from bayesal.predictive._bound import with_its_numbers
from bayesal.types import Array, ArrayLike, Key, Pool, PyTree, Selection, Strategy


class Again(NamedTuple):
    """A pool once more, for what `Strategy.pick` looks at after everything was measured."""

    predictive: Any
    pool: Pool

    def __call__(self, rows: ArrayLike) -> Any:
        """Predictions of some rows, `[K, n, C]`."""
        return _walk.part(_prediction, self.predictive, self.pool.take(rows))

    def embedded(self, rows: ArrayLike) -> Any:
        """Features of some rows, `[n, D]`."""
        return _walk.part(_features, self.predictive, self.pool.take(rows))

    def measured(self, strategy: Strategy, aux: PyTree) -> PyTree:
        """What a strategy measures of every row, leaves `[N, ...]`."""
        if strategy.measure is None:
            return None
        return self.pool.map(self.predictive, jax.tree_util.Partial(strategy.measure, aux))

    def among(self, rows: ArrayLike) -> "Again":
        """The same, of some rows only, numbered from 0."""
        return Again(predictive=self.predictive, pool=_walk.subset(self.pool, rows))


def _prediction(predictive, x):
    return predictive(x)


def _features(predictive, x):
    return predictive.embed(x)


def choose(
    key: int | Key,
    predictive: Callable[[Any], Any] | None,
    pool: Any,
    size: int,
    strategy: Strategy,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """The `size` rows of a pool to label next: any strategy, any model, any pool.

    An array is measured and picked from in one compiled program. A file is read chunk by chunk, a
    mesh measures its rows where they are, and a pool of numbers needs no model. The batch is the
    same everywhere.

    Args:
      key: a typed JAX key, or an int in [0, 2^32). It fixes every random choice.
      predictive: K functions of x: a `Predictive`, or any function `x [n, ...] -> log-probabilities
        [K, n, C]` of the same K draws in every call. A function that JAX cannot trace gets NumPy
        arrays. None for a pool of numbers.
      pool: anything that `pools.of` takes: an array, a path, a `Pool`.
      size: points to pick.
      strategy: one of `bayesal.acquire`.
      available: mask `[N]` of the rows that may be picked; all if None.
    Returns:
      Rows of the pool, best first, with their scores and what certifies them. Rows with NaN
      predictions are counted in `nonfinite`, warned about, and never picked.
    Raises:
      WrongSize: fewer than `size` rows can be picked. ConstantScores: all have the same score.
      NotLogProbabilities: `predictive` gives something else. MissingEmbed: the strategy needs
      features, and there are none. WrongType, WrongShape: naming the argument.

    >>> from bayesal import acquire, scores
    >>> votes = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.1, 0.9], [0.7, 0.3]]])  # 2 points, 2 draws
    >>> pool = pools.numbers(probs=votes, axes="N K C")
    >>> choose(0, None, pool, 1, acquire.top(scores.entropy)).indices.tolist()
    [1]
    """
    _untraced(key=key, predictive=predictive, pool=pool, available=available)
    with alone():
        key, pool = _checks.key(key), pools.of(pool)
        strategy_of(strategy)
        _checks.at_least(1, size, "size")
        predictive, pool = _predictives.adapt(predictive, pool)
        pool = pool if pool.rows is not None else pool._replace(rows=_counted(pool))
        mask = jnp.asarray(np.asarray(_checks.available_rows(available, pool.rows)))  # one device
        size = _checks.batch_size(size, mask)
        try:
            program = "choose", strategy, size, pool.rows
            with _compiling.said("compiling the choice (some seconds, once)", "choosing", *program):
                selection, off = pick_unchecked(key, predictive, pool, mask, size, strategy)
                _predictives.refuse_bad_rows(off)
            return finalize(selection, size)
        except Exception as error:
            _predictives.explain_error(error, predictive, pool)
            raise


def pick_unchecked(
    key: Key,
    predictive: Any,
    pool: Pool,
    available: Bool[Array, " N"],
    size: int,
    strategy: Strategy,
) -> tuple[Selection, Any]:
    """The selection, unchecked, and which rows of a plain function are not normalized, or None.

    Where the pool is one array, all of it is one compiled program.
    """
    if pool.x is not None and not isinstance(predictive, _walk.OnHost):
        bound = with_its_numbers(predictive)
        return _compiled(key, bound, pool.x, available, size, strategy)
    with _checks.unseen():
        return apply_strategy(key, predictive, pool, available, size, strategy)


@functools.partial(jax.jit, static_argnames=("size", "strategy"))
def _compiled(key, predictive, x, available, size, strategy):
    return apply_strategy(key, predictive, _walk.in_memory(x), available, size, strategy)


def apply_strategy(
    key: Key,
    predictive: Any,
    pool: Pool,
    available: Bool[Array, " N"],
    size: int,
    strategy: Strategy,
) -> tuple[Selection, Any]:
    """Prepare, measure, pick: inside a program, or on the host."""
    aux = None if strategy.prepare is None else strategy.prepare(key, predictive, pool)
    again = Again(predictive=predictive, pool=pool)
    off = None
    if strategy.measure is None:
        measured = None
    elif isinstance(predictive, _predictives.Plain):
        fn = jax.tree_util.Partial(
            _predictives.measure_and_check, jax.tree_util.Partial(strategy.measure, aux)
        )
        measured, off = pool.map(predictive, fn)
    else:
        measured = again.measured(strategy, aux)
    return strategy.pick(key, aux, measured, again, available, size), off


def finalize(selection: Selection, room: int, where: str = "") -> Selection:
    """A selection as people get it: cut to what can be picked, refused or warned about.

    Args:
      selection: what a strategy picked; -1 fills up what the pool could not.
      room: the most that may be picked.
      where: how messages begin, such as "round 3: ".
    """
    _checks.not_constant(selection)
    kept = min(room, int(np.sum(np.asarray(selection.indices) >= 0)))
    broken = 0 if selection.nonfinite is None else int(selection.nonfinite)
    if kept == 0:
        raise errors.NonFinite(
            "x",
            f"{where}no point can be picked; {broken} available points have NaN or +inf scores. "
            "The usual cause is NaN in the pool.",
        )
    if broken:
        warn(
            f"{where}{broken} available points have NaN or +inf scores and were not considered.",
        )
    cut = lambda a: None if a is None else a[:kept]
    selection = selection._replace(
        indices=selection.indices[:kept],
        scores=selection.scores[:kept],
        joint=cut(selection.joint),
        saturated=cut(selection.saturated),
        audit=cut(selection.audit),
    )
    if note := selection.note():
        warn(f"{where}{note}")
    return selection


def survey(predictive: Any, pool: Any, fn: Callable[[Any, Any], PyTree]) -> tuple[PyTree, Again]:
    """`fn(predictive, x)` of every row, leaves `[N, ...]`, and the pool for a second look.

    Predictive and pool are what `choose` takes; numbers are not looked at, as under jit.
    """
    predictive, pool = _predictives.adapt(predictive, pools.of(pool))
    again = Again(predictive=predictive, pool=pool)
    plain = isinstance(predictive, _predictives.Plain)
    looked = (
        jax.tree_util.Partial(_predictives.measure_and_check, with_its_numbers(fn)) if plain else fn
    )
    with _checks.unseen():
        if pool.x is None:
            found = pool.map(predictive, looked)
        else:
            found = _mapped(with_its_numbers(looked), with_its_numbers(predictive), pool.x)
    if plain:
        found, off = found
        _predictives.refuse_bad_rows(off)
    return found, again


@jax.jit
def _mapped(fn, predictive, x):
    return _walk.in_memory(x).map(predictive, fn)


def strategy_of(value: Any) -> Strategy:
    """A strategy, or an error that says how to make one."""
    if isinstance(value, Strategy):
        return value
    raise errors.WrongType(
        "strategy",
        "`strategy` must be a Strategy, as the factories of bayesal.acquire make; got "
        f"{getattr(value, '__name__', type(value).__name__)!r}. A factory has to be called: "
        "acquire.batch_bald(); a score is wrapped: acquire.top(scores.bald).",
    )


def _counted(pool: Pool) -> int:
    """Rows of a pool that only a whole pass can tell."""
    fn = lambda predictive, x: jnp.zeros(x.shape[0], bool)
    return pool.map(_walk.Answers(prediction=None, features=None), fn).shape[0]


def _untraced(**given: Any) -> None:
    """No argument is being traced: `choose` looks at numbers, and answers with numbers."""
    given["pool"] = given["pool"].x if isinstance(given["pool"], Pool) else given["pool"]
    given["available"] = [given["available"], jnp.zeros(())]  # closed over, all is traced
    for name, value in given.items():
        if isinstance(value, list if name == "pool" else ()):
            continue  # numbers, one by one
        if not _checks.concrete(value):
            raise errors.WrongType(
                name,
                f"`{name}` is being traced by jit or vmap, and `choose` answers with numbers. Call "
                "it outside, or build the program from `bayesal.scores` and `bayesal.select`.",
            )
