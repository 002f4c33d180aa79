"""Laws of a posterior, checked on a user's own model and data."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, _chunks, likelihoods
from bayesal.predictive._bound import bind
from bayesal.testing._predictive import agreeing, differs, predicting, proper
from bayesal.testing._report import Report, tried
from bayesal.types import (
    ArrayLike,
    FitInfo,
    Gaussian,
    HParams,
    Labeled,
    Mixture,
    Posterior,
    Prediction,
    PyTree,
)

__all__ = ["check_posterior"]

GARBAGE = 1e6  # what stands in padding rows
RUNS = "it can be started, fitted, drawn from and asked inside compiled programs"
DATA = "hyperparameters, labels and their count are data: other values never compile again"


def check_posterior(
    posterior: Posterior,
    x: ArrayLike,
    y: ArrayLike,
    *,
    num_draws: int | None = None,
    batch: int = 10,
    hparams: HParams | None = None,
    raise_on_failure: bool = False,
) -> Report:
    """Fit a posterior on labeled rows, and check the laws of the loop and the joint scores.

    Args:
      posterior: what is tried.
      x, y: a few dozen labeled rows, at least 6, in both classes or more.
      num_draws: K; default its members, or 20.
      batch: how many points will be asked for at a time.
      hparams: of the fit; default `HParams()`.
      raise_on_failure: raise `LawBroken` instead of returning a report with failures.
    Raises:
      WrongType, WrongSize, WrongLabel: no posterior, fewer than 6 rows, labels of the wrong kind
        for its likelihood.

    >>> from bayesal import networks, posteriors
    >>> x, y = jax.random.normal(jax.random.key(0), (24, 2)), jnp.arange(24) % 3
    >>> print(
    ...     check_posterior(posteriors.point(networks.mlp(2, 3, (4,))), x, y)
    ... )  # doctest: +ELLIPSIS
    point: ... laws kept
    ...
    FAILED  the draws are different functions: all 20 draws agree at every row ...
    """
    _checks.a(Posterior, posterior, "posterior", "posteriors.mc_dropout(network)")
    x, y = jnp.asarray(x), np.asarray(y)
    _checks.at_least(6, len(x), "len(x)")
    y = (
        _checks.real_labels(y, len(x), "y")
        if posterior.real
        else _checks.labels(y, int(y.max()) + 1, len(x), "y")
    )
    name = getattr(posterior.fit, "__qualname__", "").split(".")[0] or "posterior"
    try:
        model = _fitted(posterior, x, y, num_draws or posterior.members or 20, hparams or HParams())
    except Exception as error:  # the posterior is anybody's
        law, found = _why(error)
        return tried(posterior, {law: lambda _: found}, raise_on_failure, name)
    laws: dict[str, Callable[[_Model], Any]] = {
        RUNS: lambda m: None,
        DATA: lambda m: None,
        "a fitted state has the types and shapes of a fresh one, so that no later round "
        "compiles again": _same_types,
        "the loss stays finite": _finite_loss,
        "its parameters are finite": lambda m: _not_finite(m.state),
        "padding changes nothing": _padding,
        "one key, one set of draws; another key, others": _keys,
        **{law: _of_predictions(trial) for law, trial in predicting(model.x, batch).items()},
        "predicting changes no state": _anew,
        "the network gives logits, not probabilities": _softmax_twice,
        "`head` of `trunk` is what `apply` gives": _trunk,
        "`embed` gives every row a vector of finite features": _embedded,
    }
    return tried(model, laws, raise_on_failure, name)


def _of_predictions(trial: Callable[[Callable], Any]) -> Callable[["_Model"], Any]:
    return lambda model: trial(model.predict)


class _Model(NamedTuple):
    """A fitted posterior, with everything that the laws look at."""

    posterior: Posterior
    x: jax.Array
    start: PyTree
    state: PyTree
    info: FitInfo
    num_draws: int
    draws: PyTree
    predict: Callable[[jax.Array], Prediction]
    refit: Callable[[float], PyTree]  # the same fit over padding of this number


def _fitted(
    posterior: Posterior, x: jax.Array, y: np.ndarray, count: int, hparams: HParams
) -> _Model:
    run = jax.jit(posterior.fit)
    pad = lambda a, value: jnp.asarray(np.concatenate([a, np.full_like(a, value)]))
    hparams = _checks.as_traced(hparams)

    def fit(garbage):
        return run(
            jax.random.key(1),
            start,
            Labeled(
                pad(x, garbage),
                pad(y, garbage if posterior.real else y.max() if garbage else 0),
                jnp.int32(len(y)),
            ),
            hparams,
        )

    strong = lambda a: jax.lax.convert_element_type(a, jnp.result_type(a))
    start = jax.jit(lambda key, x: jax.tree.map(strong, posterior.init(key, x)))(
        jax.random.key(0), x[0]
    )
    state, info = fit(0)
    draws = posterior.draw(jax.random.key(2), state, count)
    model = _Model(
        posterior,
        x,
        start,
        state,
        info,
        count,
        draws,
        _predictor(posterior, state, draws),
        lambda garbage: fit(garbage)[0],
    )
    jax.block_until_ready(model.predict(x))
    return model


def _predictor(
    posterior: Posterior, state: PyTree, draws: PyTree
) -> Callable[[jax.Array], Prediction]:
    """What `apply` gives as it is, not tempered and not normalized."""

    @jax.jit
    def run(state, draws, x):
        return _chunks.over_draws(
            lambda draw: jax.vmap(lambda xi: posterior.apply(state, draw, xi))(x), draws
        )

    return lambda x: run(state, draws, x)


def _why(error: Exception) -> tuple[str, str]:
    """The law that an error breaks, and how."""
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    traced = (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.UnexpectedTracerError,
    )
    if isinstance(error, traced) or "static arguments" in first:
        return (
            DATA,
            f"something looks at a value that is traced ({first}): use jnp.where, "
            "lax.fori_loop and jnp, not `if`, float(), NumPy or static_argnames",
        )
    return RUNS, f"it raised {first}"


def _same_types(model):
    kinds = lambda tree: jax.tree.map(
        lambda a: (jnp.shape(a), jnp.result_type(a), getattr(a, "weak_type", False)), tree
    )
    before, after = kinds(model.start), kinds(model.state)
    return (
        None
        if before == after
        else f"`init` made {_listed(model.start)}, and `fit` gave back {_listed(model.state)}"
    )


def _listed(tree):
    leaves = [
        f"{jnp.result_type(a)}{list(jnp.shape(a))}"
        f"{' (weak)' if getattr(a, 'weak_type', False) else ''}"
        for a in jax.tree.leaves(tree)
    ]
    return ", ".join(leaves[:6]) + (f" and {len(leaves) - 6} more" if len(leaves) > 6 else "")


def _finite_loss(model):
    at = int(np.max(np.asarray(model.info.failed_at)))
    return (
        f"the loss became non-finite at step {at}: lower `learning_rate`, or scale the inputs"
        if at >= 0
        else None
    )


def _not_finite(state):
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and not np.isfinite(leaf).all():
            return (
                f"{int((~np.isfinite(leaf)).sum())} of {np.size(leaf)} numbers at "
                f"{jax.tree_util.keystr(path)} are NaN or infinite after the fit"
            )
    return None


def _numbers(tree: PyTree) -> list[np.ndarray]:
    plain = lambda a: (
        jax.random.key_data(a) if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key) else a
    )
    return [np.array(plain(leaf)) for leaf in jax.tree.leaves(tree)]


def _gap(first: PyTree, second: PyTree) -> float:
    """The largest difference of two states, in units of each leaf's largest number; infinite where
    NaN or shapes differ.
    """
    gaps = [0.0]
    for a, b in zip(_numbers(first), _numbers(second), strict=True):
        if a.shape != b.shape or not np.array_equal(
            np.isnan(a.astype(float)), np.isnan(b.astype(float))
        ):
            return math.inf
        gaps.append(
            float(np.nan_to_num(np.abs(a.astype(float) - b.astype(float))).max(initial=0))
            / max(float(np.nan_to_num(np.abs(a.astype(float))).max(initial=0)), 1e-6)
        )
    return max(gaps)


def _padding(model):
    for garbage in (GARBAGE, np.nan) if jnp.issubdtype(model.x.dtype, jnp.floating) else (1,):
        if (gap := _gap(model.state, model.refit(garbage))) > 1e-4:
            if _gap(model.state, model.refit(0)) > 1e-4:
                return (
                    "the same key and labels give another fit each time: randomness outside the key"
                )
            return (
                f"{garbage:g} in place of 0 in the rows >= count changes the fitted state by "
                f"{100 * gap:.3g} %: losses, statistics and minibatches may look at rows < count "
                "only"
            )
    return None


def _keys(model):
    again, other = (
        _numbers(model.posterior.draw(jax.random.key(seed), model.state, model.num_draws))
        for seed in (2, 3)
    )
    same = lambda a, b: all(
        np.array_equal(p, q, equal_nan=p.dtype.kind == "f") for p, q in zip(a, b, strict=True)
    )
    if not same(_numbers(model.draws), again):
        return "the same key and state gave other draws: randomness outside the key"
    if (
        model.posterior.members is None
        and same(again, other)
        and not agreeing(model.predict(model.x))
    ):
        return "another key gave the same draws: `draw` does not use its key"
    return None


def _anew(model):
    fresh = _predictor(model.posterior, model.state, model.draws)(model.x)
    return differs(
        model.predict(model.x),
        fresh,
        "the predictions of two programs, compiled one after the other,",
        "`apply` reads something that changes in Python (a counter, a generator, running "
        "statistics); what changes belongs into the state that `fit` returns",
    )


def _softmax_twice(model):
    prediction = model.predict(model.x)
    if isinstance(prediction, Gaussian | Mixture) or proper(prediction, model.x):
        return None
    log_probs = np.asarray(prediction, np.float64)
    logits = (
        log_probs + (1 - log_probs.sum(-1, keepdims=True)) / log_probs.shape[-1]
    )  # these, if they were probabilities before a second softmax
    if not (logits.min() > -1e-4 and 0.99 < logits.max() < 1 + 1e-4):
        return None
    return (
        f"no probability exceeds {np.exp(log_probs.max()):.3g} = e / (e + C - 1), the bound of a "
        "softmax of probabilities: the network's last layer must not be a softmax"
    )


def _trunk(model):
    if model.posterior.trunk is None:
        return None
    joined = bind(model.posterior, model.state, model.draws, jnp.float32(1.0))(model.x)
    return differs(
        joined,
        likelihoods.temper(model.predict(model.x), jnp.float32(1.0)),
        "`head(state, draw, trunk(state, x))` and `apply(state, draw, x)`",
        "they are one function",
    )


def _embedded(model):
    if model.posterior.embed is None:
        return None
    features = np.asarray(
        jax.jit(jax.vmap(lambda xi: model.posterior.embed(model.state, xi)))(model.x)
    )
    if features.ndim != 2:
        return f"one example gave features of shape {features.shape[1:]}, not [D]"
    bad = np.flatnonzero(~np.isfinite(features).all(-1))
    return f"rows {bad[:5].tolist()} have NaN or infinite features" if len(bad) else None
