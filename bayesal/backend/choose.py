"""`choose`: arrays in, rows to label out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayesal import _checks, _maths, errors, export, scores, select
from bayesal.backend import sources
from bayesal.predictive import _arrays
from bayesal.select._lazy import certified
from bayesal.types import Key, Score, Selection


class Method(NamedTuple):
    """One way to choose.

    score: `log_probs [K, n, C] -> [n]`, what every point is worth alone; its order also ranks the
      points behind the batch.
    draws: how many draws it takes for the score to say anything.
    luck:  `(key, scores [N]) -> [N]`, what is ranked in place of the scores, or None.
    joint: `(key, log_probs, size, available=) -> Selection` over the candidates with the highest
      scores, or None for the highest scores.
    """

    score: Score
    draws: int = 1
    luck: Callable[[Key, Float[Array, " N"]], Float[Array, " N"]] | None = None
    joint: Callable[..., Selection] | None = None


METHODS: dict[str, Method] = {
    "batch_bald": Method(scores.bald, draws=2, joint=select.batch_bald),
    "bald": Method(scores.bald, draws=2),
    "entropy": Method(scores.entropy),
    "least_confidence": Method(scores.least_confidence),
    "margin": Method(scores.margin),
    "variation_ratio": Method(scores.variation_ratio, draws=2),
    "mean_std": Method(scores.mean_std, draws=2),
    "uniform": Method(
        scores.entropy, luck=lambda key, values: jax.random.uniform(key, values.shape)
    ),
}


def choose(
    *,
    log_probs: Any = None,
    probs: Any = None,
    logits: Any = None,
    predict: Callable[[Any, Key], Any] | None = None,
    x: Any = None,
    size: int,
    method: str | Score = "batch_bald",
    axes: str = "K N C",
    available: Any = None,
    key: int | Key = 0,
    ids: Sequence[str | int] | None = None,
    chunk: int = 1024,
    candidates: int = 1000,
) -> export.Choice:
    """The `size` points of a pool to label next, from numbers of any library.

    Exactly one of `log_probs`, `probs`, `logits` or `predict` says what comes in; nothing is
    guessed. Each may be a NumPy array (np.memmap too), a JAX array, a torch tensor (with gradient,
    on CPU or GPU, bfloat16 too) or nested lists. What is passed is only read. What comes back is
    NumPy, whatever went in.

    Args:
      log_probs: normalized log-probabilities of K draws, the same K functions at every point.
      probs: probabilities that sum to 1 over the classes. Half precision is refused where draws are
        compared: it keeps too few digits.
      logits: unnormalized log-probabilities; -inf rules a class out.
      predict: `(x_part, key) -> log-probabilities` of part of `x`, for a pool too large for one
        array. The key is the same in every
        call: let it fix the draws (torch: `torch.manual_seed(int(jax.random.bits(key)))`, then
          masks of one draw for all rows). BatchBALD
        predicts its candidates a second time, and checks once that draws repeat.
      x: the pool that `predict` looks at; it is sliced, and indexed by arrays of rows.
      size: how many points to pick.
      method: a name in `METHODS`, or a function `log_probs [K, n, C] -> scores [n]`, where higher
        is more worth labeling and -inf may not be picked.
      axes: the order of the axes in the caller's arrays: draws K, points N, classes C. "N C" is one
        prediction per point.
      available: boolean mask `[N]` of the points that may be picked; all if None.
      key: an int in [0, 2^32) or a typed JAX key. It fixes every random choice.
      ids: names of the N points for `Choice.to_records`; row numbers if None.
      chunk: points looked at (or predicted) at a time.
      candidates: how many points BatchBALD compares jointly after `predict`; `selection.certified`
        says whether the rest could have mattered.
    Raises:
      WrongShape, WrongSize, NotLogProbabilities, NotProbabilities, NonFinite, ConstantScores,
      DrawsDiffer, each naming the argument.

    >>> # 3 points, 2 draws, 2 classes
    >>> votes = [[[0.9, 0.1], [0.8, 0.2]], [[0.1, 0.9], [0.7, 0.3]], [[0.5, 0.5], [0.5, 0.5]]]
    >>> choose(probs=votes, axes="N K C", size=1, method="bald").indices
    array([1])
    """
    rule, key = _rule(method), _key(key)
    chunk, candidates = (
        _checks.at_least(1, chunk, "chunk"),
        _checks.at_least(1, candidates, "candidates"),
    )
    source, key = _source(
        {"log_probs": log_probs, "probs": probs, "logits": logits, "predict": predict},
        x,
        key,
        _arrays.order(axes),
    )
    if source.coarse and rule.draws > 1:
        raise errors.NotProbabilities(
            "probs",
            "`probs` is stored in half precision, which loses most of how draws differ near "
            "0 and 1, and this method compares draws. Pass "
            "logits= or log_probs= (half precision is enough there), or compute the "
            "probabilities in float32.",
        )
    mask = _checks.available_rows(
        None if available is None else _arrays.read(available, "available"), source.count
    )
    size = _checks.batch_size(size, mask)
    names = None if ids is None else export.checked_ids(ids, source.count)
    worth, facts = _survey(source, rule, chunk)
    worth = np.where(
        mask,
        worth if rule.luck is None else np.asarray(rule.luck(key, jnp.asarray(worth))),
        -np.inf,
    ).astype(np.float32)
    selection = _pick(
        key, source, rule, worth, size, chunk, candidates if source.predicted else source.count
    )
    selection = jax.tree.map(
        np.asarray, selection._replace(indices=np.asarray(selection.indices).astype(np.int64))
    )
    return export.Choice(
        selection.indices,
        selection.scores,
        selection,
        _ranking(selection, worth, facts),
        source.count,
        names,
    )


def _rule(method: Any) -> Method:
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]
    if callable(method):
        return Method(
            lambda log_probs: method(log_probs.copy())
        )  # what it keeps may not change with the caller's array
    raise errors.UnknownName(
        "method",
        f"`method` = {method!r} is not known; pass one of {', '.join(METHODS)}, or a "
        "function log_probs [K, n, C] -> scores [n].",
    )


def _key(key: Any) -> Key:
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if not 0 <= key < 2**32:
            raise errors.WrongSize(
                "key",
                f"`key` = {key} must lie in [0, 2^32): larger seeds would be cut, and two of "
                "them could be the same.",
            )
        return jax.random.key(np.uint32(key))
    return _checks.key(key)


def _source(given: dict[str, Any], x: Any, key: Key, letters: str) -> tuple[sources.Source, Key]:
    kind, numbers = _arrays.the_one(given)
    if (x is not None) != (kind == "predict"):
        raise errors.WrongShape(
            "x", "`x` is the pool that `predict` looks at: pass both, or neither."
        )
    if kind == "predict":
        for_draws, key = jax.random.split(key)
        return sources.of_predict(numbers, x, for_draws, letters), key
    return sources.of_array(kind, numbers, letters), key


class _Facts(NamedTuple):
    total: Float[Array, " n"]
    aleatoric: Float[Array, " n"]
    epistemic: Float[Array, " n"]
    confidence: Float[Array, " n"]
    prediction: Any  # [n] ints


@jax.jit
def _look(log_probs: Float[Array, "K n C"]) -> _Facts:
    mean = _maths.log_mean_exp(log_probs)
    return _Facts(*scores.decompose(log_probs), jnp.exp(mean.max(-1)), jnp.argmax(mean, -1))


def _survey(source: sources.Source, rule: Method, chunk: int) -> tuple[np.ndarray, _Facts]:
    """The score and the facts of every point, a chunk at a time."""
    worth, facts, first = np.zeros(source.count, np.float32), None, None
    for rows in sources.spans(source.count, chunk):
        log_probs = _located(source, rows)
        shape = (log_probs.shape[0], log_probs.shape[2])
        if first is None:
            first = shape
            facts = jax.tree.map(
                lambda a: np.zeros(source.count, a.dtype), jax.eval_shape(_look, log_probs)
            )
            _enough(source, rule, shape[0])
            if source.predicted and rule.joint is not None:
                sources.must_repeat(source, log_probs)
        if shape != first:
            raise errors.WrongShape(
                source.name,
                f"`{source.name}` gave K, C = {first} for the first rows and {shape} for "
                f"rows {rows.start} to {rows.stop - 1}.",
            )
        worth[rows] = _scored(rule.score, log_probs)
        for whole, part in zip(facts, _look(log_probs), strict=True):
            whole[rows] = part
    return np.asarray(_checks.scores(worth, "method")[0]), facts


def _enough(source: sources.Source, rule: Method, draws: int) -> None:
    if draws < rule.draws:
        raise errors.WrongSize(
            source.name,
            f"`{source.name}` has K = {draws} draw, and this method compares draws: it needs "
            f"at least {rule.draws}, with one it is 0 for every "
            "point. Pass more draws, or use 'entropy', 'margin' or 'least_confidence'.",
        )


def _located(source: sources.Source, rows: slice) -> Float[Array, "K n C"]:
    """Read a part; an error about it speaks of rows of the pool."""
    try:
        return source.read(rows)
    except errors.BayesalError as error:
        if not rows.start:
            raise
        raise type(error)(
            error.argument,
            f"in rows {rows.start} to {rows.stop - 1}, counted from {rows.start}: {error}",
            error.rows + rows.start,
        ) from error


def _scored(score: Score, log_probs: Float[Array, "K n C"]) -> np.ndarray:
    values = np.asarray(_arrays.read(score(log_probs), "method"))
    if values.shape != log_probs.shape[1:2]:
        raise errors.WrongShape(
            "method",
            f"`method` must give one score per point: shape {log_probs.shape[1:2]} for "
            f"log_probs of shape {tuple(log_probs.shape)}; it gave "
            f"shape {values.shape}.",
        )
    return values


def _pick(key, source, rule, worth, size, chunk, candidates) -> Selection:
    if rule.joint is None:
        return select.top(worth, size)
    kept = max(candidates, size)
    if kept >= source.count:
        log_probs = (
            source.read(slice(None))
            if not source.predicted
            else sources.read_rows(source, np.arange(source.count), chunk)
        )
        return rule.joint(key, log_probs, size, available=worth > -np.inf)
    order = np.argsort(-worth, kind="stable")
    rows, left_out = order[:kept], worth[order[kept]]
    inner = rule.joint(
        key, sources.read_rows(source, rows, chunk), size, available=worth[rows] > -np.inf
    )
    return certified(inner, left_out)._replace(indices=rows[np.asarray(inner.indices)])


def _ranking(selection: Selection, worth: np.ndarray, facts: _Facts) -> export.Ranking:
    behind = np.setdiff1d(np.flatnonzero(worth > -np.inf), selection.indices)
    behind = behind[np.argsort(-worth[behind], kind="stable")]
    last = selection.scores[-1]
    below = np.where(worth[behind] > last, np.nextafter(last, np.float32(-np.inf)), worth[behind])
    index = np.concatenate([selection.indices, behind])
    return export.Ranking(
        index, np.concatenate([selection.scores, below]), *(fact[index] for fact in facts)
    )
