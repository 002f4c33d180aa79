"""Where log-probabilities come from: an array that is there, or a function that predicts part of
the pool.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayesal import errors, likelihoods
from bayesal.predictive import _arrays
from bayesal.types import Key


class Source(NamedTuple):
    """`read(rows)` gives checked log-probabilities `[K, n, C]` of a slice or of an array of rows.

    count: rows of the pool. name: the argument they came in as. coarse: whether they are stored as
      half-precision probabilities.
    predicted: whether reading means predicting.
    """

    read: Callable[[slice | np.ndarray], Float[Array, "K n C"]]
    count: int
    name: str
    coarse: bool = False
    predicted: bool = False


def of_array(kind: str, values: Any, letters: str) -> Source:
    """An array of the kind the caller said: `log_probs`, `probs` or `logits`."""
    values = _arrays.laid_out(_arrays.read(values, kind), letters, kind)
    coarse = kind == "probs" and str(values.dtype) in _arrays.HALF
    return Source(
        lambda rows: _arrays.log_probs(kind, values[:, rows]), values.shape[1], kind, coarse
    )


def of_predict(predict: Callable[[Any, Key], Any], x: Any, key: Key, letters: str) -> Source:
    """A function `(x_part, key) -> log-probabilities`, with the same key every time."""
    if not callable(predict):
        raise errors.WrongShape(
            "predict",
            "`predict` must be a function (x_part, key) -> log_probs, got "
            f"{type(predict).__name__}.",
        )
    if not hasattr(x, "shape") or len(x.shape) < 1 or hasattr(x, "iloc"):
        raise errors.WrongShape(
            "x",
            "`x` must be the pool that `predict` looks at, an array with one example per "
            "row (NumPy, np.memmap, JAX or torch), got "
            f"{type(x).__name__}. A list of texts or paths becomes one by np.array(x, "
            "dtype=object), a data frame by x.to_numpy().",
        )

    def read(rows):
        part = x[rows]
        values = _arrays.laid_out(_arrays.read(predict(part, key), "predict"), letters, "predict")
        if values.shape[1] != len(part):
            raise errors.WrongShape(
                "predict",
                f"`predict` was given {len(part)} points and answered for {values.shape[1]} "
                f"(shape {tuple(values.shape)} as [K, N, C]). "
                "If its axes come in another order, say so by `axes`.",
            )
        return _arrays.log_probs(
            "predict", values.copy()
        )  # `predict` may answer in the same buffer every time

    return Source(read, x.shape[0], "predict", predicted=True)


def spans(count: int, chunk: int) -> Iterator[slice]:
    """Slices of equal length that cover all rows; the last is moved back to end with the pool."""
    for start in range(0, count, chunk):
        yield slice(max(0, min(start, count - chunk)), min(start + chunk, count))


def read_rows(source: Source, rows: np.ndarray, chunk: int) -> Float[Array, "K n C"]:
    """Log-probabilities of some rows; a function that predicts sees parts of one length only."""
    if not source.predicted:
        return source.read(rows)
    each = min(chunk, source.count)
    padded = np.resize(rows, -(-len(rows) // each) * each)
    parts = [source.read(padded[i : i + each]) for i in range(0, len(padded), each)]
    return jnp.concatenate(parts, axis=1)[:, : len(rows)]


def must_repeat(source: Source, first: Float[Array, "K n C"]) -> None:
    """Refuse a function whose draws depend on which points are predicted together, or on when.

    The first part is predicted again, with half of its rows twice and in reverse: masks made per
    row, a hidden random state and batch statistics all show.
    """
    rows = likelihoods.in_other_company(first.shape[1])
    apart = likelihoods.apart(first[:, rows], source.read(rows))
    if apart > likelihoods.SAME:
        raise errors.DrawsDiffer(
            "predict",
            "`predict` answered differently for the same points and the same key (by "
            f"{apart:.2g} in probability): its draws "
            "are not the same functions in every chunk, so joint scores would mean nothing. "
            "Derive every dropout mask from `key` "
            "alone, one per draw and not one per row, and leave batch statistics fixed; or "
            "use a method that looks at points one by one.",
        )
