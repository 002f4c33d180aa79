"""A predictive as people pass it, in the form that a pool takes; and what was wrong with it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal.pools import _walk
from bayesal.pools._sequential import file
from bayesal.predictive import Predictive
from bayesal.predictive._bound import with_its_numbers
from bayesal.types import Array, Gaussian, Mixture, Pool


def adapt(predictive: Any, pool: Pool) -> tuple[Any, Pool]:
    """Predictive and pool in the form that a compiled program or the host takes."""
    if pool.predictive is not None:
        if predictive is not None:
            raise errors.WrongType(
                "predictive",
                "`pool` holds predictions already, so `predictive` must be None. To predict with "
                "your model pass the examples themselves, as an array or a file.",
            )
        return pool.predictive, pool
    if isinstance(predictive, Predictive):
        return predictive, pool
    _checks.function(predictive, "predictive", "a Predictive, or a function of x [n, ...]")
    if _is_traceable(predictive, pool):
        function, embed = with_its_numbers(predictive), getattr(predictive, "embed", None)
        apart = function is not predictive and embed is not None  # a pytree has its own
        return Plain(function, jax.tree_util.Partial(embed) if apart else None), pool
    host = _walk.OnHost(predictive)
    return host, pool if pool.x is None else file(np.asarray(pool.x))


def _is_traceable(function: Any, pool: Pool) -> bool:
    """Whether JAX can trace a function; what is wrong with it otherwise shows when it runs."""
    one = pool.take(np.zeros(1, np.int32))
    try:
        said = jax.eval_shape(function, jax.ShapeDtypeStruct(one.shape, one.dtype))
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError):
        return False
    except Exception:  # anything: a model of another library handed a tracer
        return not _answers(function, np.asarray(one))
    _walk.laid_out(said, one)  # of one row: axes in another order cannot fit by chance
    return True


def _answers(function: Any, x: np.ndarray) -> bool:
    """Whether a function works on a NumPy array, which says that only the tracer was wrong."""
    try:
        function(x)
    except Exception:
        return False
    return True


class Plain(NamedTuple):
    """A function that somebody wrote, traced; `measure_and_check` looks at its values."""

    function: Any
    features: Any = None

    def __call__(self, x: Array) -> Any:
        return _walk.laid_out(self.function(x), x)

    def embed(self, x: Array) -> Array:
        embed = self.features or getattr(self.function, "embed", None)
        if embed is None:
            raise errors.MissingEmbed(
                "predictive",
                "the strategy needs features, and this function has no `embed`: pass "
                "predictive.from_samples(..., embed=...).",
            )
        return embed(x)


class BadRows(NamedTuple):
    """Rows of which a plain function did not give what it should."""

    unnormalized: Array
    variance: Array


def measure_and_check(fn, predictive, x):
    """What `fn` measures, and which rows the predictive gave no log-probabilities for."""
    seen = []

    class Watch:
        embed = predictive.embed

        def __call__(self, x):
            seen.append(predictive(x))
            return seen[-1]

    measured = fn(Watch(), x)
    off = BadRows(unnormalized=jnp.zeros(x.shape[0], bool), variance=jnp.zeros(x.shape[0], bool))
    for said in seen:
        if isinstance(said, Gaussian | Mixture):
            bad = said.variance <= 0  # NaN is counted, not refused
            bad = bad.any(axis=(0, *range(2, bad.ndim)))
            off = off._replace(variance=off.variance | bad)
        else:
            total = jax.nn.logsumexp(said.astype(jnp.float32), axis=-1)
            bad = jnp.abs(total) > _checks.tolerance(said)
            bad = bad.any(axis=(0, *range(2, bad.ndim)))
            off = off._replace(unnormalized=off.unnormalized | bad)
    return measured, off


def refuse_bad_rows(off: BadRows | None) -> None:
    """Refuse a function that gave something else than predictions in some rows."""
    if off is None:
        return
    if len(bad := np.flatnonzero(np.asarray(off.unnormalized))):
        raise errors.NotLogProbabilities(
            "predictive",
            "`predictive(x)` must give normalized log-probabilities [K, n, C], but "
            f"{len(bad)} rows ({_checks.listed(bad)}) do not sum to 1 over the last axis. Logits "
            "become log-probabilities by jax.nn.log_softmax(logits, axis=-1).",
            bad,
        )
    if len(bad := np.flatnonzero(np.asarray(off.variance))):
        raise errors.OutOfRange(
            "predictive",
            f"`predictive(x)` must give variances above 0, but {len(bad)} rows "
            f"({_checks.listed(bad)}) have others. A network's raw output becomes a variance by "
            "jax.nn.softplus.",
            bad,
        )


def explain_error(error: Exception, predictive: Any, pool: Pool) -> None:
    """A better error, where one row or a second look says what was wrong; the cause is kept.

    Compiled programs cannot look at values, and libraries say of shapes what only they understand.
    """
    if not isinstance(predictive, Predictive | Plain) or pool.rows is None:
        return
    if isinstance(error, errors.NonFinite | jax.errors.JaxRuntimeError):
        if isinstance(predictive, Predictive):
            _asked_again(predictive, pool)
        return
    if isinstance(error, errors.BayesalError) or not (
        isinstance(predictive, Predictive) or isinstance(error, TypeError | ValueError)
    ):
        return
    one = pool.take(np.zeros(1, np.int32))
    try:
        jax.eval_shape(lambda x: predictive(x), one)
    except errors.BayesalError:
        raise
    except Exception as cause:
        raise errors.WrongShape(
            "pool",
            f"the predictive cannot take rows of this pool, of shape {tuple(one.shape[1:])} and "
            f"type {one.dtype}: {cause} The usual cause is a pool of another width than the one "
            "that the model was trained on.",
        ) from cause


def _asked_again(predictive: Predictive, pool: Pool) -> None:
    """Every row once more outside of programs, where values are checked."""
    for start in range(0, pool.rows or 0, _walk.ON_DEVICE):
        rows = np.arange(start, min(start + _walk.ON_DEVICE, pool.rows or 0))
        with _walk.located(rows):
            predictive(pool.take(rows))
