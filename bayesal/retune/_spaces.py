"""Search spaces: a distribution per hyperparameter, together a unit cube."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, _shown, errors
from bayesal.types import Array, HParams

__all__ = ["Distribution", "choice", "log_uniform", "space", "uniform"]


class Distribution(NamedTuple):
    """Prior of one hyperparameter: its quantile function and the inverse, both traceable.

    quantile: `(unit in [0, 1]) -> value`.
    rank:     `(value) -> unit`; values outside have the unit of the nearest end.
    choices:  how many unordered values there are (they are 0 to choices - 1), or 0.

    A numpyro distribution `d` with `icdf` and `cdf` is `Distribution(d.icdf, d.cdf)`.
    """

    quantile: Callable[[Array], Array]
    rank: Callable[[Array], Array]
    choices: int = 0


def uniform(low: float | int, high: float | int, *, whole: bool = False) -> Distribution:
    """Uniform between two bounds; optionally whole numbers.

    >>> float(uniform(0.0, 10.0).quantile(0.25)), float(uniform(0.0, 10.0).rank(2.5))
    (2.5, 0.25)
    """
    _bounds(low, high, -jnp.inf)
    return _between(low, high, lambda v: v, lambda v: v, whole)


def log_uniform(low: float | int, high: float | int, *, whole: bool = False) -> Distribution:
    """Log-uniform between two bounds > 0; optionally whole numbers.

    >>> (
    ...     round(float(log_uniform(1e-4, 1e-2).quantile(0.5)), 6),
    ...     int(log_uniform(50, 400, whole=True).quantile(0.5)),
    ... )
    (0.001, 141)
    """
    _bounds(low, high, 0.0)
    return _between(low, high, jnp.log, jnp.exp, whole)


def choice(number: int) -> Distribution:
    """Unordered choice: 0 to number - 1, such as the architectures of `posteriors.any_of`.

    >>> [int(choice(3).quantile(u)) for u in (0.1, 0.5, 0.9, 1.0)]
    [0, 1, 2, 2]
    """
    number = _checks.at_least(1, number, "number")
    quantile = lambda unit: jnp.minimum(jnp.floor(jnp.asarray(unit) * number), number - 1).astype(
        jnp.int32
    )
    return Distribution(
        quantile,
        lambda value: (jnp.clip(jnp.asarray(value, jnp.float32), 0, number - 1) + 0.5) / number,
        number,
    )


def _bounds(low: float | int, high: float | int, above: Any) -> None:
    if not (above < low <= high < jnp.inf):
        raise errors.WrongSize(
            "low",
            f"({low}, {high}) must be bounds with {'0 < ' if above == 0 else ''}low <= high, "
            "both finite.",
        )


def _between(low, high, forward, back, whole) -> Distribution:
    start, width = forward(jnp.float32(low)), forward(jnp.float32(high)) - forward(jnp.float32(low))

    def quantile(unit):
        value = jnp.clip(back(start + width * jnp.asarray(unit)), low, high)
        return jnp.round(value).astype(jnp.int32) if whole else value

    def rank(value):
        value = jnp.clip(jnp.asarray(value, jnp.float32), low, high)
        return jnp.where(
            width > 0, (forward(value) - start) / jnp.where(width > 0, width, 1.0), 0.5
        )

    return Distribution(quantile, rank)


# How a (low, high) pair is read: which scale, and whether the field holds whole numbers.
SCALES = {
    "learning_rate": (log_uniform, False),
    "weight_decay": (log_uniform, False),
    "dropout": (log_uniform, False),
    "prior_scale": (log_uniform, False),
    "steps": (log_uniform, True),
    "warmup": (uniform, False),
    "final_rate": (uniform, False),
    "label_smoothing": (uniform, False),
}
USUAL = {
    "learning_rate": (5e-4, 2e-2),
    "weight_decay": (1.0, 100.0),
    "dropout": (0.05, 0.6),
    "prior_scale": (0.1, 3.0),
    "steps": (100, 1000),
}


def space(**fields: Any) -> HParams:
    """Search space: for each field of `HParams` a `Distribution`, bounds, or None (not searched).

    Args:
      fields: by name, a `Distribution`; or (low, high), on the field's own scale (uniform for
        warmup, final_rate and label_smoothing, log-uniform for the others); or None, not to be
        searched; for `architecture` the number of architectures. The usual ones, if nothing is
        said: learning_rate (5e-4, 2e-2), weight_decay (1, 100), dropout (0.05, 0.6),
        prior_scale (0.1, 3), steps (100, 1000); the others are not searched.
    Raises:
      UnknownName: `HParams` has no such field. WrongSize: bounds that are none, or that the field
        does not allow, or nothing is left to search.

    >>> space(steps=(20, 100), prior_scale=None).steps.quantile(1.0)
    Array(100, dtype=int32)
    """
    if unknown := sorted(set(fields) - set(HParams._fields)):
        raise errors.UnknownName("space", _shown.no_field(HParams, unknown))
    found = HParams(
        *(
            _distribution(name, fields[name]) if name in fields else _usual(name)
            for name in HParams._fields
        )
    )
    if not searched(found):
        raise errors.WrongSize(
            "space", "every field is None, so there is nothing to search; pass retune=None."
        )
    return found


@functools.cache
def _usual(name: str) -> Distribution | None:
    """The usual distribution of a field: one object, so that it is known again."""
    return _distribution(name, USUAL.get(name))


def chosen(space: HParams) -> tuple[str, ...]:
    """The fields that are searched because somebody said so.

    >>> chosen(space(steps=(20, 100), dropout=None))
    ('steps',)
    """
    return tuple(n for n in searched(space) if getattr(space, n) is not _usual(n))


def without(space: HParams, unused: tuple[str, ...]) -> HParams:
    """The space less some fields.

    Raises:
      WrongSize: nothing is left to search.
    """
    found = space._replace(**dict.fromkeys(unused))
    if not searched(found):
        used = [n for n in HParams._fields if n not in unused and n != "architecture"]
        cure = f"add {', '.join(used)}, or" if used else "there is none to search:"
        raise errors.WrongSize(
            "retune",
            f"the space of `retune` has {', '.join(searched(space))} alone, and this posterior "
            f"does not use {'it' if len(searched(space)) == 1 else 'them'}: {cure} pass "
            "retune=None.",
        )
    return found


def at_bounds(space: HParams, old: HParams, new: HParams) -> dict[str, tuple[float, str]]:
    """Fields whose value went to a bound of the space that could lie further out.

    Args:
      old, new: the incumbent before and after a search, as numbers.
    Returns:
      Value and "lower" or "upper" by name. Choices have no bounds, nothing lies below 0, and
      `final_rate` ends at 1.

    >>> old = HParams()
    >>> at_bounds(space(), old, old._replace(steps=1000, dropout=0.3))
    {'steps': (1000.0, 'upper')}
    """
    found = {}
    for name in searched(space):
        prior, value = getattr(space, name), np.float32(getattr(new, name))
        if prior.choices or value == np.float32(getattr(old, name)):
            continue
        for unit, side, end in ((0.0, "lower", 0.0), (1.0, "upper", 1.0)):
            ends = value == end and (unit == 0.0 or name == "final_rate")
            if value == np.float32(prior.quantile(jnp.float32(unit))) and not ends:
                found[name] = (float(value), side)
    return found


def _distribution(name: str, given: Any) -> Distribution | None:
    if given is None:
        return None
    try:
        if not isinstance(given, Distribution):
            scale, whole = SCALES.get(name, (None, False))
            given = choice(given) if scale is None else scale(*given, whole=whole)
        for unit in (0.0, 1.0):
            _checks.hparams(HParams()._replace(**{name: given.quantile(jnp.float32(unit))}))
    except (errors.BayesalError, TypeError) as error:
        example = f"{name}=3" if name == "architecture" else f"{name}={USUAL.get(name, (0.0, 0.2))}"
        raise errors.WrongSize(
            name,
            f"`{name}` = {given!r} cannot be searched: {error} Pass bounds such as "
            f"{example}, a Distribution, or None.",
        ) from error
    return given


def searched(space: HParams) -> tuple[str, ...]:
    """The fields that are searched: the axes of the unit cube, in this order."""
    return tuple(
        name for name, found in zip(HParams._fields, space, strict=True) if found is not None
    )


def architectures(space: HParams) -> int:
    """How many architectures a search may come to.

    >>> architectures(space()), architectures(space(architecture=3))
    (1, 3)
    """
    return (
        1 if space.architecture is None else int(space.architecture.quantile(jnp.float32(1.0))) + 1
    )


def ranks(space: HParams, hparams: HParams) -> Float[Array, "*B D"]:
    """Where hyperparameters (leaves `[*B]`) lie in the unit cube."""
    return jnp.stack(
        [getattr(space, name).rank(getattr(hparams, name)) for name in searched(space)], axis=-1
    ).astype(jnp.float32)


def values(space: HParams, units: Float[Array, "P D"], incumbent: HParams) -> HParams:
    """Hyperparameters (leaves `[P]`) at points of the unit cube; what is not searched is the
    incumbent's.
    """
    found = {
        name: getattr(space, name).quantile(units[:, i]) for i, name in enumerate(searched(space))
    }
    kept = jax.tree.map(lambda value: jnp.broadcast_to(value, units.shape[:1]), incumbent)
    return HParams(
        *(
            found[n].astype(kept_value.dtype) if n in found else kept_value
            for n, kept_value in zip(HParams._fields, kept, strict=True)
        )
    )
