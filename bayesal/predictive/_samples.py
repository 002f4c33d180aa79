"""Any function of x as a `Predictive`: models that somebody else trained."""

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, _chunks, errors, likelihoods
from bayesal.predictive import _reading
from bayesal.predictive._bound import ROWS, Predictive, with_its_numbers
from bayesal.types import Array, Gaussian, Prediction, PyTree

# devices call back from threads of their own, and most models are not made for that
_ONE_AT_A_TIME = threading.RLock()


class Told(NamedTuple):
    """What the caller said about a function's numbers: static, compared by value."""

    kind: str  # log_probs, probs, logits, moments
    letters: str  # the order of its axes
    draws: int


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Outside:
    """A function on the host, NumPy in and checked NumPy out, without a call of JAX; the rows lie
    along `axis` of what it gives.

    Calls are made one after the other, from whatever thread.
    """

    function: Callable[[np.ndarray], Any]
    axis: int

    def __call__(self, x: Array) -> PyTree:
        """Asked at once where x can be looked at; called back from the running
        program otherwise.
        """
        if _checks.concrete(x):
            return jax.tree.map(jnp.asarray, self._ask(x))
        tried = self._ask(np.zeros((1, *x.shape[1:]), x.dtype))
        whole = lambda a: jax.ShapeDtypeStruct(
            (*a.shape[: self.axis], x.shape[0], *a.shape[self.axis + 1 :]), a.dtype
        )
        return jax.pure_callback(self._ask, jax.tree.map(whole, tried), x, vmap_method="sequential")

    def _ask(self, x):
        x = np.asarray(x)  # before the lock: whoever holds it never waits for JAX
        with _ONE_AT_A_TIME:
            return self.function(x)


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity
class _Foreign:
    """K functions that somebody else trained, as the model of a `Predictive`.

    Outside jit every number is checked. Under jit, where values cannot be looked at, rows that are
    not what was said become NaN, which selectors count and never pick; a function on the host
    raises from its callback, except for NaN.
    """

    function: Callable[..., Any]
    features: Callable[..., Any] | None
    told: Told

    def draws_at(self, x: Any, temperature: Any) -> Prediction:
        x = _pool(x)
        if isinstance(self.function, Outside):
            said = self.function(x)
            if _checks.concrete(said):
                for leaf in jax.tree.leaves(said):
                    _reading.refuse_nan(leaf, self.told.kind)
            return likelihoods.temper(said, temperature)
        raw = _laid_out(_traced(self.function, x), self.told, x.shape[0])
        return likelihoods.temper(_prediction(raw, self.told), temperature)

    def average(self, x: Any, temperature: Any) -> Float[Array, "n C"] | Gaussian:
        average = lambda part: likelihoods.average(self.draws_at(part, temperature))
        return _chunks.over_rows(average, _pool(x), ROWS)

    def embed(self, x: Any) -> Float[Array, "n D"]:
        if self.features is None:
            raise errors.MissingEmbed(
                "embed",
                "the strategy needs features, and none were given: pass `embed=`, a function of "
                "x [n, ...] to [n, D].",
            )
        x = _pool(x)
        outside = isinstance(self.features, Outside)
        values = self.features(x) if outside else _traced(self.features, x)
        if jnp.ndim(values) != 2 or values.shape[0] != x.shape[0]:
            raise errors.WrongShape(
                "embed",
                f"`embed` must give [n rows, D features] for x of shape {x.shape}; it gave shape "
                f"{jnp.shape(values)}.",
            )
        return _checks.features(values, "embed")


jax.tree_util.register_dataclass(
    _Foreign, data_fields=["function", "features"], meta_fields=["told"]
)


def from_samples(
    log_probs: Callable[[Any], Any] | None = None,
    num_draws: int | None = None,
    *,
    probs: Callable[[Any], Any] | None = None,
    logits: Callable[[Any], Any] | None = None,
    moments: Callable[[Any], Any] | None = None,
    axes: str = "K N C",
    embed: Callable[[Any], Any] | None = None,
    host: bool = False,
) -> Predictive:
    """Any function of x as a predictive, for every strategy and every pool.

    Exactly one of `log_probs`, `probs`, `logits` and `moments` says what the function gives;
    nothing is guessed. It must be the *same* K functions in every call (one dropout mask per draw,
    not per row): `from_samples(...).checked(x[:100])` tries it.

    Args:
      log_probs: `x [n, ...] -> [K, n, C]`, normalized log-probabilities.
      num_draws: K.
      probs, logits: the same in probabilities or logits.
      moments: `x [n, ...] -> (means [K, n], variances [K, n])` of real labels.
      axes: the order of the axes of what the function gives, such as "N K C", or "N C" for one
        draw. Moments are always [K, n].
      embed: `x [n, ...] -> [n, D]`, for strategies that need features.
      host: whether the functions run outside JAX (NumPy, torch, scikit-learn): they get NumPy
        arrays, give arrays of any library, and are called back from compiled programs. They must
        not call JAX, and are tried once with one row of zeros for their shapes. Otherwise JAX
        traces them; what they close over becomes a constant of the program, unless the function is
        a pytree, as `jax.tree_util.Partial(f, params)` is.
    Raises:
      WrongShape, WrongSize, WrongType, NotLogProbabilities, NonFinite: about what
        the function gives, by its name.

    >>> # two draws that swap the classes
    >>> samples = from_samples(probs=lambda x: jnp.stack([x, 1 - x]), num_draws=2)
    >>> samples.log_probs(jnp.array([[0.2, 0.8]])).round(3)
    Array([[-0.693, -0.693]], dtype=float32)
    """
    kind, function = _reading.the_one(
        {"log_probs": log_probs, "probs": probs, "logits": logits, "moments": moments}
    )
    _checks.function(function, kind, "a function of x [n, ...]")
    if embed is not None:
        _checks.function(embed, "embed", "a function of x [n, ...] to [n, D]")
    told = Told(kind, _reading.order(axes), _checks.at_least(1, num_draws, "num_draws"))
    if host:
        function = Outside(functools.partial(_answer, function, told), axis=1)
        embed = embed and Outside(functools.partial(_features, embed), axis=0)
    else:
        function, embed = with_its_numbers(function), embed and with_its_numbers(embed)
    return Predictive(_Foreign(function, embed, told), jnp.float32(1.0))


def _answer(
    function: Callable[[np.ndarray], Any], told: Told, x: np.ndarray
) -> np.ndarray | Gaussian:
    """What a host function gives, checked; all in NumPy."""
    raw = _laid_out(function(x), told, len(x))
    if told.kind != "moments":
        return _reading.on_host(told.kind, np.asarray(raw))
    mean, variance = (np.asarray(a, np.float32) for a in raw)
    broken = np.isnan(mean) | np.isnan(variance)
    mean, variance = (np.where(broken, np.float32(np.nan), a) for a in (mean, variance))
    if (bad := ~broken & ~(np.isfinite(mean) & (variance > 0) & (variance < np.inf))).any():
        raise errors.OutOfRange(
            "moments",
            f"`moments` gave {int(bad.sum())} pairs that are no finite mean with a finite "
            "variance above 0.",
            np.flatnonzero(bad.any(axis=0)),
        )
    return Gaussian(mean=mean, variance=variance)  # type: ignore[arg-type]  # NumPy, on the host


def _features(function: Callable[[np.ndarray], Any], x: np.ndarray) -> np.ndarray:
    return np.asarray(_reading.read(function(x), "embed"), np.float32)


def _laid_out(raw: Any, told: Told, rows: int) -> Any:
    """`[K, n, C]`, or means and variances [K, n], of the draws and rows there must be."""
    kind, letters, draws = told
    if kind == "moments":
        if not isinstance(raw, tuple) or len(raw) != 2:
            raise errors.WrongShape(
                kind,
                f"`{kind}` must give two arrays, (means [K, n], variances [K, n]); it gave "
                f"{type(raw).__name__}.",
            )
        raw = Gaussian(*(_array(a, kind) for a in raw))
        shapes = {tuple(a.shape) for a in raw}
        if shapes != {(draws, rows)}:
            raise errors.WrongShape(
                kind,
                f"`{kind}` must give means and variances of shape {(draws, rows)}, K draws "
                f"of n rows; it gave {sorted(shapes)}.",
            )
        return raw
    part = _reading.laid_out(_array(raw, kind), letters, kind)
    if part.shape[:2] != (draws, rows) or part.shape[2] < 2:
        raise errors.WrongShape(
            kind,
            f"`{kind}` must give K = {draws} draws of n = {rows} rows and at least two "
            f"classes, [K, n, C]; it gave {tuple(part.shape)}. If its axes come "
            "in another order, say so by `axes`; if K is another number, by `num_draws`.",
        )
    return part


def _array(values: Any, name: str) -> Any:
    return values if isinstance(values, jax.Array) else _reading.read(values, name)


def _pool(x: Any) -> Array:
    return jnp.asarray(_array(x, "x"))


@jax.jit
def _run(function, x):
    return function(x)


def _traced(function: Callable[..., Any], x: Array) -> Any:
    try:
        return _run(function, x)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise errors.WrongType(
            "host",
            "JAX cannot trace this function: it makes NumPy (or torch) arrays or Python "
            "numbers of its input. If it runs outside JAX, say so: host=True.",
        ) from error


def _prediction(raw: Any, told: Told) -> Prediction:
    """Checked where values can be looked at; NaN in rows that are not what was said where they
    cannot.
    """
    if told.kind == "moments":
        if _checks.concrete(raw):
            _checks.numbers(raw.mean, "moments", "means [K draws, n rows]", axis=1)
            _checks.numbers(
                raw.variance, "moments", "variances [K draws, n rows]", above=0.0, axis=1
            )
        mean, variance = (_checks.as_float(a) for a in raw)
        return Gaussian(mean, jnp.where(variance > 0, variance, jnp.nan))
    if _checks.concrete(raw):
        _reading.refuse_nan(raw, told.kind)
        return _reading.log_probs(told.kind, raw)
    values = _checks.as_float(raw)
    if told.kind == "logits":
        return values
    if told.kind == "probs":
        values = jnp.where((values < 0).any(-1, keepdims=True), jnp.nan, jnp.log(values))
    off = jnp.abs(jax.nn.logsumexp(values, axis=-1, keepdims=True)) > _checks.tolerance(raw)
    return jnp.where(off, jnp.nan, values)
