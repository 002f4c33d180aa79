"""Every user-facing error. Called at the edge, on concrete values; under jit, where values cannot be looked at, only
shapes are checked.

Each error names the argument, says what it got (and which rows offend, in `.rows`), and what to pass instead.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = {"float16": 2e-2, "bfloat16": 2e-1}  # |log of a row's sum| that storage alone can explain; float32: 1e-3


class BayesalError(ValueError):
    """The one parent of bayesal's errors. `argument` is the name of what was wrong, `rows` the offending rows."""

    def __init__(self, argument: str, message: str, rows: Any = ()):
        super().__init__(message)
        self.argument = argument
        self.rows = np.asarray(rows, dtype=int)


class NotLogProbabilities(BayesalError):
    """Numbers that are not normalized log-probabilities."""


class NonFinite(BayesalError):
    """NaN (or +inf) where a number was needed."""


class WrongShape(BayesalError):
    """An array with the wrong rank or with sizes that do not fit."""


class WrongSize(BayesalError):
    """A batch, a capacity or a number of draws that cannot be had."""


class WrongIndex(BayesalError):
    """Indices that are not rows of the pool, that repeat, or that were never asked."""


class WrongLabel(BayesalError):
    """Labels of the wrong type or out of range."""


class ConstantScores(BayesalError):
    """All available points have one and the same score: picking the first rows would not be a selection."""


class MissingEmbed(BayesalError):
    """A strategy needs features, and the network has no `embed`."""


class TrainingFailed(BayesalError, FloatingPointError):
    """The loss of a fit became NaN or infinite."""


class BadCheckpoint(BayesalError):
    """A file that is not the state it should be."""


class BadPool(BayesalError):
    """A streamed pool that cannot be read, ends early, or is not the same in every pass."""


def concrete(*arrays: Any) -> bool:
    """Whether all values can be looked at: none is being traced by jit or vmap."""
    try:
        for array in jax.tree.leaves(arrays):
            if isinstance(array, jax.Array):
                array.committed  # noqa: B018 - a traced value has no such fact, and says so
    except jax.errors.ConcretizationTypeError:
        return False
    return True


def listed(rows: Any, most: int = 5) -> str:
    """Rows as words: the first few, and how many more."""
    rows = np.asarray(rows).ravel()
    shown = ", ".join(str(r) for r in rows[:most])
    return shown + (f" and {len(rows) - most} more" if len(rows) > most else "")


def log_probs(values: Any, name: str = "log_probs", draws: bool = True, ndim: int | None = None) -> jax.Array:
    """Normalized log-probabilities `[K, *B, C]` (`[*B, C]` with `draws=False`), or an error that says what they are."""
    layout = "[K draws, ..., C classes]" if draws else "[..., C classes]"
    if not hasattr(values, "dtype"):
        raise WrongShape(name, f"`{name}` must be an array {layout}, got {type(values).__name__}; pass a NumPy or JAX array.")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise NotLogProbabilities(
            name, f"`{name}` must be floating-point log-probabilities {layout}, got {values.dtype}. "
            "One-hot votes become log-probabilities by jnp.log(votes.astype(float)).")
    least = 1 + draws
    if values.ndim < least or (ndim is not None and values.ndim != ndim):
        wanted = f"{ndim} axes" if ndim is not None else f"at least {least} axes"
        raise WrongShape(name, f"`{name}` must have {wanted}, {layout}; got shape {tuple(values.shape)}.")
    if draws and values.shape[0] == 0:
        raise WrongSize(name, f"`{name}` has K = 0 draws (shape {tuple(values.shape)}); at least one draw is needed.")
    if values.shape[-1] < 2:
        raise WrongShape(
            name, f"`{name}` has C = {values.shape[-1]} classes on its last axis (shape {tuple(values.shape)}). A binary "
            "problem has two: stack log p and log(1 - p) on the last axis.")
    if concrete(values):
        _normalized(values, name)
    return as_float(values)


def as_float(values: Any) -> jax.Array:
    """Arithmetic is in float32, whatever the storage."""
    return jnp.asarray(values, dtype=jnp.float32)


@jax.jit
def _row_totals(values):
    return jax.nn.logsumexp(values.astype(jnp.float32), axis=-1), jnp.isnan(values).any(-1)


def _normalized(values: Any, name: str) -> None:
    tolerance = TOLERANCE.get(str(values.dtype), 1e-3)
    with jax.ensure_compile_time_eval():  # concrete values may be closed over by a function that is being traced
        total, nan = (np.asarray(a) for a in _row_totals(jnp.asarray(values)))
    if nan.any():
        where = np.argwhere(nan)
        raise NonFinite(
            name, f"`{name}` has NaN in {len(where)} rows, first at index {tuple(int(i) for i in where[0])} "
            "(the class axis left out). The usual cause is a diverged fit, or log(0) - log(0) on the way here: use "
            "jax.nn.log_softmax.", where[:, -1] if where.shape[1] else ())
    off = np.abs(total) > tolerance
    if not off.any():
        return
    where = np.argwhere(off)
    at = tuple(int(i) for i in where[0])
    row = np.asarray(jnp.asarray(values)[at], dtype=np.float64)
    looks_like_probabilities = row.min() >= 0 and abs(row.sum() - 1) < 1e-2
    advice = "They look like probabilities: pass jnp.log(probs)." if looks_like_probabilities else (
        "Logits become log-probabilities by jax.nn.log_softmax(logits, axis=-1).")
    raise NotLogProbabilities(
        name, f"`{name}` must be normalized log-probabilities, but {len(where)} rows do not sum to 1 over the last axis; "
        f"the first, at index {at}, sums to {np.exp(np.float64(total[at])):.4g}. {advice}", where[:, -1] if where.shape[1] else ())


def available_rows(available: Any, count: int, name: str = "available") -> jax.Array:
    """A boolean mask `[N]`; None means all."""
    if available is None:
        return jnp.ones(count, bool)
    shape, dtype = np.shape(available), getattr(available, "dtype", None)
    if shape != (count,) or dtype != np.bool_:
        raise WrongShape(
            name, f"`{name}` must be a boolean mask of shape ({count},), one entry per pool point; got shape {shape}, dtype {dtype}."
            " From row numbers: mask = np.zeros(N, bool); mask[rows] = True.")
    return jnp.asarray(available)


def batch_size(size: Any, available: Any, name: str = "size") -> int:
    """A positive batch size that the available points can fill."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise WrongSize(name, f"`{name}` must be an int (it is a shape), got {size!r} of type {type(size).__name__}.")
    if size < 1:
        raise WrongSize(name, f"`{name}` must be at least 1, got {size}.")
    if size > available.shape[0]:
        raise WrongSize(name, f"`{name}` = {size}, but the pool has only {available.shape[0]} points; pass at most that.")
    if concrete(available) and size > (left := int(np.sum(np.asarray(available)))):
        raise WrongSize(name, f"`{name}` = {size}, but only {left} points are available; pass size={left} or fewer.")
    return int(size)


def scores(values: Any, name: str = "scores") -> jax.Array:
    """Scores `[N]`: real numbers, or -inf for what may not be picked."""
    if not hasattr(values, "dtype") or np.ndim(values) != 1:
        raise WrongShape(name, f"`{name}` must be one score per pool point, shape [N]; got shape {np.shape(values)}.")
    if not (jnp.issubdtype(values.dtype, jnp.floating) or jnp.issubdtype(values.dtype, jnp.integer)):
        raise WrongShape(name, f"`{name}` must be numbers, got dtype {values.dtype}.")
    if concrete(values):
        host = np.asarray(values)
        bad = np.flatnonzero(np.isnan(host) | np.isposinf(host))
        if len(bad):
            raise NonFinite(
                name, f"`{name}` is NaN or +inf at {len(bad)} rows: {listed(bad)}. -inf is the way to say `may not be picked`; "
                "NaN usually comes from a diverged fit or from 0 * log 0.", bad)
    return as_float(values)


def not_constant(selection: Any, hint: str = "") -> None:
    """Refuse a ranking in which every available point had the same score."""
    if selection.constant is not None and concrete(selection.constant) and bool(np.asarray(selection.constant)):
        raise ConstantScores(
            "scores", "all available points have one and the same score, so the first rows of the pool would be picked. The usual causes: "
            "a network without dropout under `mc_dropout`, dropout rate 0, a `point` posterior (its draws cannot disagree), or one "
            "draw (K = 1). To pick at random on purpose, use `uniform`." + hint)


def labels(values: Any, classes: int, count: int | None = None, name: str = "labels") -> np.ndarray:
    """Integer labels `[n]` in `[0, C)`, as int32."""
    host = np.asarray(values)
    if host.ndim != 1 or (count is not None and len(host) != count):
        wanted = f"({count},)" if count is not None else "[n]"
        raise WrongLabel(name, f"`{name}` must have shape {wanted}, one label per index; got shape {host.shape}.")
    if not np.issubdtype(host.dtype, np.integer):
        kind = "one-hot or soft labels: pass labels.argmax(-1)" if host.ndim == 2 else "pass labels.astype(int)"
        raise WrongLabel(name, f"`{name}` must be integers in [0, {classes}), got dtype {host.dtype}; {kind}.")
    bad = np.flatnonzero((host < 0) | (host >= classes))
    if len(bad):
        raise WrongLabel(
            name, f"`{name}` must lie in [0, {classes}); positions {listed(bad)} hold {listed(host[bad])}. Labels count from 0, and the "
            "network's last layer has one output per class.", bad)
    return host.astype(np.int32)


def at_least(least: int, value: Any, name: str) -> int:
    """An int that is not too small."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise WrongSize(name, f"`{name}` must be an int of at least {least}, got {value!r}.")
    return int(value)


def indices(values: Any, rows: int, name: str = "indices") -> np.ndarray:
    """Distinct rows of a pool of `rows` points, as int32."""
    host = np.asarray(values)
    if host.ndim != 1 or not np.issubdtype(host.dtype, np.integer):
        raise WrongIndex(name, f"`{name}` must be a vector of integers, rows of the pool; got shape {host.shape}, dtype {host.dtype}.")
    bad = np.flatnonzero((host < 0) | (host >= rows))
    if len(bad):
        raise WrongIndex(name, f"`{name}` must be rows of the pool, in [0, {rows}); got {listed(host[bad])}.", host[bad])
    unique, counts = np.unique(host, return_counts=True)
    if (counts > 1).any():
        raise WrongIndex(name, f"`{name}` holds rows more than once: {listed(unique[counts > 1])}. Pass each row with one label.", unique[counts > 1])
    return host.astype(np.int32)


def pool(x: Any, name: str = "x") -> None:
    """A pool is a numeric array with one example per row, and at least one row."""
    if not hasattr(x, "dtype") or len(x.shape) < 2:
        raise WrongShape(name, f"`{name}` must be the pool, an array [N, ...] with one example per row; got {type(x).__name__} of shape {np.shape(x)}.")
    if not (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        raise WrongShape(name, f"`{name}` must be numbers, got dtype {x.dtype}; encode text and categories first.")
    if x.shape[0] == 0:
        raise WrongSize(name, f"`{name}` is an empty pool (shape {tuple(x.shape)}); there is nothing to ask about.")


def key(value: Any, name: str = "key") -> jax.Array:
    """One typed JAX key."""
    if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or value.shape != ():
        raise WrongShape(name, f"`{name}` must be one typed key, as jax.random.key(0) makes; got {value!r}.")
    return value


def new_labels(rows: np.ndarray, labeled: np.ndarray, capacity: int) -> None:
    """Rows that have no label yet, and room for them."""
    if len(rows) == 0:
        raise WrongSize("indices", "`indices` is empty: there is nothing to tell.")
    known = rows[np.isin(rows, labeled)]
    if len(known):
        raise WrongIndex("indices", f"`indices` holds rows that are labeled already: {listed(known)}. Leave them out; a label cannot be changed.", known)
    if len(labeled) + len(rows) > capacity:
        raise WrongSize(
            "indices", f"`indices` brings {len(rows)} labels, but the ledger holds {len(labeled)} of `capacity` = {capacity}. Build the learner with a "
            f"capacity of {len(labeled) + len(rows)} or more.")


def were_asked(rows: np.ndarray, asked: np.ndarray) -> None:
    """Rows that the last `ask` gave."""
    never = rows[~np.isin(rows, asked)]
    if len(never):
        raise WrongIndex(
            "indices", f"`indices` holds rows that were never asked: {listed(never)}; this round asked for {listed(asked, 20)}. If these are labels you chose to "
            "add yourself, pass unasked=True.", never)


def same_pool(labeled: np.ndarray, rows: int) -> None:
    """The pool of every call is the one whose rows the ledger holds."""
    outside = labeled[labeled >= rows]
    if len(outside):
        raise WrongSize(
            "x", f"`x` has {rows} rows, but rows {listed(outside)} are labeled: this is not the pool the labels belong to. Pass the whole pool "
            "every time; labeled rows are left out by themselves.", outside)


def hparams(values: Any) -> None:
    """Hyperparameters in their ranges."""
    ranges = {"learning_rate": (0, np.inf), "weight_decay": (0, np.inf), "dropout": (0, 1), "prior_scale": (1e-12, np.inf), "steps": (0, np.inf)}
    for name, (low, high) in ranges.items():
        value = float(getattr(values, name))
        if not low <= value < high:
            raise WrongSize("hparams", f"`hparams.{name}` = {value:g} must lie in [{low:g}, {high:g}).")
