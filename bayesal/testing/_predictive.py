"""The laws of anything that predicts, `x [n, ...] -> [K, n, C]`: tried on a user's own model and
rows.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, likelihoods
from bayesal.predictive import _repeats
from bayesal.testing._report import Report, tried
from bayesal.types import ArrayLike, Gaussian, Mixture, Prediction

# draws that lie closer than this everywhere, in probability or standard deviations, are one
# function
AGREE = 1e-4
USED_UP = 0.95  # share of log K that a batch may be told
NEARLY = 1e-6  # how far rows that nearly agree lie apart, in units of the pool's spread


def check_predictive(
    predictive: Callable[[Any], Any],
    x: ArrayLike,
    *,
    batch: int = 10,
    raise_on_failure: bool = False,
) -> Report:
    """Try the laws of a predictive, `x [n, ...] -> log-probs [K, n, C]` or normals [K, n]: a
    `Predictive`, or any function.

    Args:
      predictive: what is tried.
      x: a few dozen rows of the pool, at least 6.
      batch: how many points will be asked for at a time: K draws can tell log K nats at most.
      raise_on_failure: raise `LawBroken` instead of returning a report with failures.

    >>> from bayesal.predictive import from_samples
    >>> w = jax.random.normal(jax.random.key(0), (50, 2, 3))
    >>> x = jax.random.normal(jax.random.key(1), (30, 2))
    >>> check_predictive(
    ...     from_samples(lambda x: jax.nn.log_softmax(jnp.einsum("nd,kdc->knc", x, w)), 50),
    ...     x,
    ...     batch=3,
    ... ).passed
    True
    >>> per_row = lambda x: jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (5, len(x), 2)))
    >>> print(check_predictive(per_row, x))  # doctest: +ELLIPSIS
    <lambda>: ... laws kept
    ...
    FAILED  equal rows are predicted equally: ...
    """
    x = jnp.asarray(x)
    _checks.at_least(6, len(x), "len(x)")
    asked = lambda rows: jax.tree.map(jnp.asarray, predictive(rows))
    return tried(
        asked,
        predicting(x, batch),
        raise_on_failure,
        getattr(predictive, "__name__", type(predictive).__name__),
    )


def predicting(x: jax.Array, batch: int) -> dict[str, Callable[[Any], str | None]]:
    """Every law by its sentence: a function of the predictive that gives what it found
    against it.
    """
    return {
        "each draw gives normalized log-probabilities [K, n, C], or normals [K, n] of finite "
        "means and variances above 0": lambda p: proper(p(x), x),
        "the draws are different functions": lambda p: agreeing(p(x)),
        "asked twice, it answers the same": lambda p: differs(
            p(x),
            p(x),
            "two calls on the same rows",
            "the draws must be fixed beforehand, by keys or parameters",
        ),
        "equal rows are predicted equally": lambda p: _equal_rows(p, x),
        "rows predicted together do not matter: chunks, order and number": lambda p: _company(p, x),
        "rows that nearly agree are predicted nearly alike": lambda p: _continuous(p, x),
        f"the draws suffice for batches of {batch}": lambda p: _saturated(p(x), x, batch),
    }


def _leaves(prediction: Prediction) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(prediction)]


def proper(prediction: Prediction, x: jax.Array) -> str | None:
    """Whether it is one normalized prediction for every draw and row."""
    rows = x.shape[0]
    if isinstance(prediction, Gaussian | Mixture):
        moments = _leaves(likelihoods.moments(prediction))
        if any(m.ndim != 2 or m.shape[1] != rows for m in moments):
            return (
                f"{rows} rows gave means and variances of shapes {[m.shape for m in moments]}, "
                f"not [K, {rows}]"
            )
        bad = ~(np.isfinite(moments[0]) & np.isfinite(moments[1]) & (moments[1] > 0))
        return (
            f"{int(bad.sum())} normals, the first at (draw, row) {_first(bad)}, have no "
            "finite mean and finite variance above 0"
            if bad.any()
            else None
        )
    values = np.asarray(prediction, np.float64)
    if values.ndim != 3 or values.shape[1] != rows or values.shape[2] < 2:
        return (
            f"{rows} rows of shape {x.shape[1:]} gave shape {values.shape}, not [K, {rows}, C]: "
            "a posterior's `apply` gives [C] for one draw and one example, without a batch axis"
        )
    if (bad := np.asarray(np.isnan(values).any(-1))).any():
        return (
            f"NaN at {int(bad.sum())} places, the first at (draw, row) {_first(bad)}: NaN in the "
            "parameters or in x, or log(0) - log(0) on the way"
        )
    with np.errstate(over="ignore"):
        off = abs(np.exp(values).sum(-1) - 1) > 1e-3
    if not off.any():
        return None
    if (values >= 0).all() and np.allclose(values.sum(-1), 1, atol=1e-3):
        return "these are probabilities: give their logarithms, best by jax.nn.log_softmax(logits)"
    return (
        f"the probabilities of {int(off.sum())} draws and rows, the first {_first(off)}, sum to "
        f"{np.exp(values)[off][0].sum():.4g}: logits become log-probabilities by "
        "jax.nn.log_softmax"
    )


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _scaled(prediction: Prediction) -> np.ndarray:
    """Probabilities [K, n, C], or means in standard deviations [K, n, 1]."""
    if isinstance(prediction, Gaussian | Mixture):
        mean, variance = _leaves(likelihoods.moments(prediction))
        with np.errstate(divide="ignore", invalid="ignore"):
            return (mean / np.sqrt(variance.mean(0)))[..., None]
    return np.exp(np.asarray(prediction, np.float64))


def agreeing(prediction: Prediction) -> str | None:
    """Whether all draws are one function."""
    values = _scaled(prediction)
    spread = np.ptp(values, axis=0).max()
    if not spread < AGREE:
        return None
    return (
        f"all {len(values)} draws agree at every row (to {spread:.1g}), so BALD is 0 everywhere: "
        "dropout that is not switched on, a rate or a spread of 0, or copies of one net"
    )


def differs(first: Any, second: Any, what: str, advice: str) -> str | None:
    """Whether two predictions that must be equal are."""
    apart = _repeats.apart(first, second)
    return f"{what} differ by up to {apart:.2g}: {advice}" if apart > _repeats.SAME else None


def _part(prediction: Prediction, rows: Any) -> Any:
    return jax.tree.map(lambda a: np.asarray(a)[:, rows], prediction)


def _equal_rows(predict, x):
    again = predict(x[_repeats.other_order(x.shape[0])])
    pairs = np.arange(x.shape[0] % 2, x.shape[0] - 1, 2)
    return differs(
        _part(again, pairs),
        _part(again, pairs + 1),
        "two copies of one row in one call",
        "a dropout mask belongs to a draw and is the same for all rows",
    )


def _company(predict, x):
    whole, advice = (
        predict(x),
        "statistics of the batch (BatchNorm in training mode), or masks drawn for the whole call",
    )
    rows = _repeats.other_order(x.shape[0])
    few = np.arange(max(1, x.shape[0] // 3))
    return differs(
        _part(whole, rows), predict(x[rows]), "a row alone and among others", advice
    ) or differs(
        _part(whole, few), predict(x[few]), f"a row among {len(few)} and among {x.shape[0]}", advice
    )


def _continuous(predict, x):
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    first, nudged = _scaled(predict(x)), _scaled(predict(x + NEARLY * jnp.std(x)))
    moved, spread = np.abs(first - nudged).mean(), np.abs(first - np.roll(first, 1, axis=0)).mean()
    if not moved > max(0.5 * spread, AGREE):
        return None
    return (
        f"a change of x by a millionth moves a draw's prediction by {moved:.2g}, and draws lie "
        f"{spread:.2g} apart: the masks seem to be made from the rows themselves"
    )


def _saturated(prediction, x, batch: int):
    if (
        isinstance(prediction, Gaussian | Mixture)
        or proper(prediction, x)
        or agreeing(prediction)
        or (draws := prediction.shape[0]) < 2
    ):
        return None
    told = _joint_information(np.asarray(prediction, np.float64), batch)
    if not told > USED_UP * math.log(draws):
        return None
    return (
        f"a batch of {batch} is told {told:.3g} nats, and {draws} draws hold log K = "
        f"{math.log(draws):.3g}: its last picks are noise. Take several times as many draws, "
        "or "
        "smaller batches"
    )


def _joint_information(log_probs: np.ndarray, batch: int, samples: int = 50) -> float:
    """I(labels of the rows with the highest BALD; draw), from labels sampled under every draw:
    `mean log p(y | k) - log mean_j p(y | j)`.
    """
    entropy = lambda p: -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)
    p = np.exp(log_probs)
    rows = np.argsort(entropy(p).mean(0) - entropy(p.mean(0)), kind="stable")[:batch]
    log_probs = log_probs[:, rows]
    luck = np.random.default_rng(0).gumbel(size=(samples, *log_probs.shape))
    labels = (log_probs + luck).argmax(-1)  # [S, K, b]
    under = log_probs[:, np.arange(len(rows)), labels].sum(-1)  # [K of the other draws, S, K]
    own = np.einsum("ksk->sk", under)
    return float((own - np.logaddexp.reduce(under, axis=0) + math.log(len(under))).mean())
