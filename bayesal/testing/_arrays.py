"""The laws of scores and selectors. The functions are called with NumPy arrays of float32, as a
user would.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from bayesal.testing._report import Report, tried
from bayesal.types import Selection

SHAPES = ((2, 12, 2), (5, 12, 3), (20, 12, 10))
NEAR = 2e-5  # how far float32 may be off in values of order 1


def check_score(
    score: Callable[[Any], Any],
    *,
    bounds: Callable[[int, int], tuple[float, float]] | None = None,
    raise_on_failure: bool = False,
) -> Report:
    """Try the laws of a score, `log_probs [K, N, C] -> [N]`.

    Args:
      score: what is tried.
      bounds: `(K, C) -> (lowest, highest)` value that the score may have. The lowest holds exactly:
        an information of -1e-8 is refused, since its logarithm and its powers are NaN.
      raise_on_failure: raise `LawBroken` instead of returning a report with failures.

    >>> from bayesal import scores
    >>> check_score(scores.bald, bounds=lambda K, C: (0.0, np.log(min(K, C)))).passed
    True
    >>> # the mean over the wrong axis
    >>> of_draws = lambda log_probs: np.exp(log_probs).max(-1).mean(1)
    >>> check_score(of_draws).outcomes[0].found
    'log_probs of shape (2, 12, 2) gave shape (2,), not (12,)'
    """
    laws = {
        "one finite number for every point": _finite,
        "the input stays as it was": _score_leaves_input,
        "twice the same": _score_repeats,
        "a point's score is its own: other points, their order and number do not matter": _own,
        "the order of the draws does not matter": lambda s: _reordered(s, 0),
        "the order of the classes does not matter": lambda s: _reordered(s, 2),
        "NaN is refused, or stays NaN at its point": _nan,
        "what is not log-probabilities is refused": lambda s: _refused(s, _not_log_probs()),
    }
    if bounds is not None:
        laws["within its bounds"] = lambda s: _bounded(s, bounds)
    return tried(score, laws, raise_on_failure)


def check_selector(
    selector: Callable[[Any, Any, int], Any],
    *,
    best: Callable[[Any], Any] | None = None,
    raise_on_failure: bool = False,
) -> Report:
    """Try the laws of a selector, `(key, log_probs [K, N, C], size) -> indices [size]` or a
    `Selection`.

    Args:
      selector: what is tried; `key` is a typed JAX key.
      best: a score whose highest point must be picked first; None where luck or anything else
        decides.
      raise_on_failure: raise `LawBroken` instead of returning a report with failures.

    >>> from bayesal import scores, select
    >>> check_selector(
    ...     lambda key, log_probs, size: select.top(scores.bald(log_probs), size), best=scores.bald
    ... ).passed
    True
    >>> print(check_selector(lambda key, log_probs, size: [0] * size))  # doctest: +ELLIPSIS
    <lambda>: ... laws kept
    FAILED  as many different rows of the pool as were asked for: ...
    """
    laws = {
        "as many different rows of the pool as were asked for": _distinct,
        "copies of one point are still different rows, for every key": _copies,
        "the whole pool is every row": _everything,
        "one key, one batch": _selector_repeats,
        "the input stays as it was": _selector_leaves_input,
        "a size that cannot be had is refused": lambda s: _refused(
            s, _sizes(), lambda s, case: s(jax.random.key(0), _pools()[1], case)
        ),
        "NaN and what is not log-probabilities are refused": lambda s: _refused(
            s,
            {**_not_log_probs(), "NaN": _with_nan()},
            lambda s, case: s(jax.random.key(0), case, 4),
        ),
    }
    if best is not None:
        laws["the best point comes first"] = lambda s: _best_first(s, best)
    return tried(selector, laws, raise_on_failure)


# inputs


def _log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(axis=-1, keepdims=True)
    return (z - np.log(np.exp(z).sum(axis=-1, keepdims=True))).astype(np.float32)


def _pools() -> list[np.ndarray]:
    """Ordinary pools, each with the points that break careless arithmetic among its first."""
    pools = []
    for seed, shape in enumerate(SHAPES):
        z = np.random.default_rng(seed).normal(size=shape) * 2
        z[:, 0] = z[:1, 0]  # all draws agree
        z[:, 1] = (
            z[:1, 1] + np.random.default_rng(seed).normal(size=(shape[0], shape[2])) * 1e-4
        )  # they nearly agree
        z[:, 2] = np.where(np.arange(shape[2]) == 0, 300.0, -300.0)
        z[:, 3] = np.where(
            np.arange(shape[2]) == np.arange(shape[0])[:, None] % shape[2], 0.0, -np.inf
        )  # certain draws that disagree
        z[:, 4] = z[:, 5]  # a copy
        pools.append(_log_softmax(z))
    return pools


def _agreeing() -> np.ndarray:
    """Draws that agree to the last bits: where a difference of entropies loses its sign."""
    z = np.random.default_rng(9).normal(size=(1, 200, 10)) * 3
    return _log_softmax(z + np.random.default_rng(8).normal(size=(20, 200, 10)) * 1e-5)


def _with_nan() -> np.ndarray:
    pool = _pools()[1].copy()
    pool[2, 7, 0] = np.nan
    return pool


def _not_log_probs() -> dict[str, np.ndarray]:
    pool = _pools()[1]
    return {
        "probabilities": np.exp(pool),
        "logits": np.maximum(pool, -5) + np.float32(1.0),
        "an array without draws": pool[0, 0],
    }


def _sizes() -> dict[str, Any]:
    return {"size 0": 0, "size -1": -1, "13 of 12 points": 13}


# laws of a score: each gives what it found against itself, or None


def _values(score, pool: np.ndarray) -> np.ndarray:
    return np.asarray(score(pool.copy()))


def _shown(values: np.ndarray, at: Any) -> str:
    return f"{float(values[at]):.9g}"


def _finite(score):
    for pool in _pools():
        values = _values(score, pool)
        if values.shape != pool.shape[1:2]:
            return (
                f"log_probs of shape {pool.shape} gave shape {values.shape}, not ({pool.shape[1]},)"
            )
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values))[0])
            return (
                f"point {at} has score {values[at]}; its draws are "
                f"{np.array2string(np.exp(pool[:2, at]), precision=3)} ..."
            )
    return None


def _score_leaves_input(score):
    for pool in _pools():
        given = pool.copy()
        score(given)
        if not np.array_equal(given, pool):
            return (
                f"{int((given != pool).sum())} of {pool.size} numbers of the caller's array were "
                "changed"
            )
    return None


def _score_repeats(score):
    first, second = (_values(score, _pools()[1]) for _ in range(2))
    return (
        None
        if np.array_equal(first, second, equal_nan=True)
        else f"two calls on one array differ by up to {np.nanmax(np.abs(first - second)):.3g}"
    )


def _own(score):
    for number, pool in enumerate(_pools()):
        whole = _values(score, pool)
        order = np.random.default_rng(0).permutation(pool.shape[1])
        for rows in (order, order[:5], order[:1]) if number == 1 else (order,):
            part = _values(score, np.ascontiguousarray(pool[:, rows]))
            if part.shape != rows.shape:
                return f"{len(rows)} points gave shape {part.shape}"
            if not np.allclose(part, whole[rows], atol=NEAR, equal_nan=True):
                at = int(np.argmax(np.abs(part - whole[rows])))
                return (
                    f"point {rows[at]} scores {_shown(whole, rows[at])} in the whole pool, and "
                    f"{_shown(part, at)} among {len(rows)} points in another order"
                )
    return None


def _reordered(score, axis: int):
    for pool in _pools():
        whole, other = (
            _values(score, pool),
            _values(score, np.ascontiguousarray(np.flip(pool, axis))),
        )
        if not np.allclose(whole, other, atol=NEAR, equal_nan=True):
            at = int(np.argmax(np.abs(whole - other)))
            return (
                f"point {at} of log_probs {pool.shape} scores {_shown(whole, at)}, and "
                f"{_shown(other, at)} with axis {axis} reversed"
            )
    return None


def _bounded(score, bounds):
    for pool in (*_pools(), _agreeing()):
        low, high = bounds(pool.shape[0], pool.shape[2])
        values = _values(score, pool)
        for at in np.flatnonzero((values < low) | (values > high + NEAR))[:1]:
            return (
                f"point {at} of log_probs {pool.shape} scores {_shown(values, at)}, outside "
                f"[{low:.6g}, {high:.6g}]"
            )
    return None


def _nan(score):
    pool = _with_nan()
    clean = _values(score, _pools()[1])
    try:
        values = _values(score, pool)
    except Exception:  # refused
        return None
    if not np.isnan(values[7]):
        return f"point 7 has NaN among its log-probabilities, and scores {_shown(values, 7)}"
    spoilt = np.flatnonzero(np.isnan(values) & ~np.isnan(clean))
    return None if len(spoilt) == 1 else f"NaN at point 7 spoils points {spoilt.tolist()}"


def _refused(function, cases: dict[str, Any], call=lambda function, case: function(case)):
    """What was answered although it should not have been."""
    for name, case in cases.items():
        try:
            answer = call(function, case)
        except Exception:  # refused
            continue
        return (
            f"{name} got an answer instead of an error: "
            f"{np.array2string(_rows(answer).ravel()[:3], precision=3)} ..."
        )
    return None


# laws of a selector


def _rows(answer: Any) -> np.ndarray:
    return np.asarray(answer.indices if isinstance(answer, Selection) else answer)


def _batches(selector, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for pool in _pools()[:2]:
        yield pool, _rows(selector(jax.random.key(0), pool.copy(), size))


def _faults(rows: np.ndarray, pool: np.ndarray, size: int) -> str | None:
    if rows.shape != (size,) or not np.issubdtype(rows.dtype, np.integer):
        return f"size {size} gave shape {rows.shape} of {rows.dtype}"
    if rows.min() < 0 or rows.max() >= pool.shape[1]:
        return f"{rows.tolist()} are not all rows of a pool of {pool.shape[1]} points"
    return None if len(set(rows.tolist())) == size else f"{rows.tolist()} holds a row twice"


def _distinct(selector):
    found = (_faults(rows, pool, 4) for pool, rows in _batches(selector, 4))
    return next(filter(None, found), None)


def _copies(selector):
    pool = np.repeat(_pools()[1][:, 6:8], 6, axis=1)
    found = (
        _faults(_rows(selector(jax.random.key(seed), pool.copy(), 4)), pool, 4)
        for seed in range(20)
    )
    return next(filter(None, found), None)


def _everything(selector):
    for pool, rows in _batches(selector, SHAPES[0][1]):
        if fault := _faults(rows, pool, pool.shape[1]):
            return fault
    return None


def _selector_repeats(selector):
    for (_, first), (_, second) in zip(_batches(selector, 4), _batches(selector, 4), strict=True):
        if not np.array_equal(first, second):
            return f"the same key and pool gave {first.tolist()} and then {second.tolist()}"
    return None


def _selector_leaves_input(selector):
    for pool in _pools()[:2]:
        given = pool.copy()
        selector(jax.random.key(0), given, 4)
        if not np.array_equal(given, pool):
            return (
                f"{int((given != pool).sum())} of {pool.size} numbers of the caller's array were "
                "changed"
            )
    return None


def _best_first(selector, best):
    for pool, rows in _batches(selector, 4):
        values = _values(best, pool)
        if not values[rows[0]] >= values.max() - NEAR:
            return (
                f"the first pick, row {rows[0]}, scores {_shown(values, rows[0])}; row "
                f"{int(values.argmax())} scores {_shown(values, int(values.argmax()))}"
            )
    return None
