"""Pools of numbers: a person's own predictions, whatever model made them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal.pools import _rows, _walk
from bayesal.predictive import _reading
from bayesal.types import Pool


@jax.tree_util.register_static
class _Given:
    """The predictive of a pool of numbers: a row is its own prediction."""

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, _walk.Answers):
            raise errors.WrongType(
                "targets",
                "a pool of numbers has no model to predict other points with: pass `targets` as an "
                "int, so many rows of the pool.",
            )
        return x(None)

    def embed(self, x: _walk.Answers) -> Any:
        return x.embed(None)


_GIVEN = _Given()  # one for all pools: a static argument of programs that is hashed by identity


def numbers(
    *,
    log_probs: Any = None,
    probs: Any = None,
    logits: Any = None,
    moments: Any = None,
    axes: str | None = None,
    features: Any = None,
) -> Pool:
    """A pool of predictions that a model of yours has made: arrays in, picks out.

    Exactly one of the first four says what the numbers are; nothing is guessed. Each may be a NumPy
    array (a memory map too), a JAX array, a torch tensor (with gradient, on CPU or GPU, bfloat16
    too) or nested lists. What is passed is only read, a chunk at a time. `bayesal.choose` takes the
    pool with `predictive=None`.

    Args:
      log_probs: normalized log-probabilities of K draws, the same K functions at every point.
      probs: probabilities that sum to 1 over the classes. Half precision is refused where draws are
        compared: it keeps too few digits.
      logits: unnormalized log-probabilities; -inf rules a class out.
      moments: `(means, variances)` of real labels, each `[K, N]`, or `[N]` for one draw.
      axes: the order of the axes: K draws, N points, C classes, such as "K N C" or "N K C".
        Required for three axes. Two axes are "N C", one prediction per point, if nothing is said.
      features: a vector per point, `[N, D]`, for strategies that need features.
    Raises:
      WrongShape, NotLogProbabilities, OutOfRange, NonFinite: naming the argument
        and rows. Rows of NaN are not refused: `choose` counts them and picks others.

    >>> votes = [[[0.9, 0.1], [0.8, 0.2]], [[0.1, 0.9], [0.7, 0.3]]]  # 2 points, 2 draws, 2 classes
    >>> numbers(probs=votes, axes="N K C").rows
    2
    """
    kind, values = _reading.the_one(
        {"log_probs": log_probs, "probs": probs, "logits": logits, "moments": moments}
    )
    read, rows, width = _moments(values) if kind == "moments" else _classes(kind, values, axes)
    vectors = None if features is None else np.asarray(_reading.read(features, "features"))
    if vectors is not None and (vectors.ndim != 2 or len(vectors) != rows):
        raise errors.WrongShape(
            "features",
            f"`features` must have shape ({rows}, D), one vector per point; got {vectors.shape}.",
        )
    chunk = int(np.clip(_walk.NUMBERS // max(width, 1), 1, _walk.ON_HOST))

    def take(some):
        some = some if isinstance(some, slice) else np.asarray(some)
        with _walk.located(np.arange(rows)[some]):
            found = None if vectors is None else _checks.features(vectors[some])
            return _walk.Answers(prediction=read(some), features=found)

    def map(predictive, fn):
        kept = []
        for start in range(0, rows, chunk):
            at = max(0, min(start, rows - chunk))  # the last chunk is moved back: one shape
            measured = _walk.part(fn, predictive, take(slice(at, at + chunk)))
            kept.append(jax.tree.map(lambda a, n=start - at: np.asarray(a)[n:], measured))
        return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *kept)

    return Pool(rows=rows, map=map, take=take, predictive=_GIVEN)


def _classes(kind: str, values: Any, axes: str | None):
    values = _rows.relaxed(_reading.read(values, kind))
    if axes is None and np.ndim(values) == 3:
        raise errors.WrongShape(
            "axes",
            f"`axes` is required for three axes, and `{kind}` has shape "
            f"{tuple(values.shape)}. Name "
            "them in their order: 'K N C' is draws, points, classes; torch and scikit-learn models "
            "often give 'N K C' or 'N C K'.",
        )
    values = _reading.laid_out(values, _reading.order("N C" if axes is None else axes), kind)
    if values.shape[1] == 0:
        raise errors.WrongSize(kind, f"`{kind}` has no points: there is nothing to ask about.")
    if kind == "probs" and str(values.dtype) in _reading.HALF and values.shape[0] > 1:
        raise errors.NotLogProbabilities(
            "probs",
            "`probs` is stored in half precision, which loses most of how draws differ near 0 and "
            "1. Pass logits= or log_probs= (half precision is enough there), or compute the "
            "probabilities in float32.",
        )
    read = lambda some: _reading.log_probs(kind, values[:, some])
    return read, values.shape[1], values.shape[0] * values.shape[2]


def _moments(values: Any):
    if not isinstance(values, tuple) or len(values) != 2:
        raise errors.WrongShape(
            "moments", "`moments` must be a pair (means [K, N], variances [K, N])."
        )
    means, variances = (np.asarray(_reading.read(part, "moments")) for part in values)
    means, variances = (part[None] if part.ndim == 1 else part for part in (means, variances))
    if means.ndim != 2 or means.shape != variances.shape or means.shape[1] == 0:
        raise errors.WrongShape(
            "moments",
            "`moments` must be means and variances of one shape [K, N] with N >= 1; got "
            f"{means.shape} and {variances.shape}.",
        )

    read = lambda some: _reading.moments(means[:, some], variances[:, some], "moments")
    return read, means.shape[1], means.shape[0]
