"""Real labels in standard units: every fit sees labels of mean 0 and standard deviation 1, and
predictions come back in the label's own unit.

Networks, priors and kernels begin in standard units, so labels of another offset or scale would be
fitted badly or not at all. The unit is part of the state and comes from the labels of each fit:
cross-validation folds have their own, and nothing is compiled again.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _training
from bayesal.types import Array, Gaussian, Labeled, Likelihood, Mixture, Posterior, PyTree

P = ParamSpec("P")


class Standardized(NamedTuple):
    """A posterior's state, and the unit of the labels it was fitted to.

    inner:  the state in standard units.
    center: what is 0 there, in the label's unit.
    scale:  what is 1 there.
    """

    inner: PyTree
    center: Float[Array, ""]
    scale: Float[Array, ""]


def standardized(factory: Callable[P, Posterior]) -> Callable[P, Posterior]:
    """A factory of posteriors whose keyword `likelihood` may leave the label's unit to each fit:
    see `Likelihood.standard`.
    """

    @functools.wraps(factory)
    def build(*args: P.args, **kwargs: P.kwargs) -> Posterior:
        likelihood: Any = kwargs.get("likelihood")
        if not isinstance(likelihood, Likelihood) or likelihood.standard is None:
            return factory(*args, **kwargs)
        standard = likelihood.standard
        others: dict[str, Any] = {k: v for k, v in kwargs.items() if k != "likelihood"}
        make: Callable[..., Posterior] = factory
        of = lambda inner: make(*args, likelihood=inner, **others)
        if isinstance(standard, Likelihood):
            return in_standard_units(of(standard))._replace(likelihood=likelihood)
        # noise known in the label's unit is another number in standard units
        posterior = in_standard_units(of(standard(1.0)), lambda scale: of(standard(scale)))
        return posterior._replace(likelihood=likelihood)

    return build


def in_standard_units(
    standard: Posterior, at: Callable[[Float[Array, ""]], Posterior] | None = None
) -> Posterior:
    """A posterior of real labels in any unit, from one of labels in standard units.

    Args:
      standard: the posterior in standard units.
      at: `(scale) -> Posterior` where it is another one for every unit; its states must be alike.
    """
    of = at or (lambda scale: standard)

    def init(key, x):
        return Standardized(standard.init(key, x), jnp.float32(0.0), jnp.float32(1.0))

    def fit(key, state, labeled, hparams):
        center, scale = unit(labeled)
        found, info = of(scale).fit(key, state.inner, _moved(labeled, center, scale), hparams)
        # the density of a label in its own unit
        return Standardized(found, center, scale), info._replace(loss=info.loss + jnp.log(scale))

    def apply(state, draw, x):
        return _back(state, of(state.scale).apply(state.inner, draw, x))

    def head(state, draw, seen):
        return _back(state, of(state.scale).head(state.inner, draw, seen))  # type: ignore[misc]

    def marginal(state, x):
        return _back(state, of(state.scale).marginal(state.inner, x))  # type: ignore[misc]

    def warm(old, fresh):
        return fresh._replace(inner=standard.warm(old.inner, fresh.inner))  # type: ignore[misc]

    def online(state, labeled):
        new = _moved(labeled, state.center, state.scale)
        found, info = of(state.scale).online(state.inner, new)  # type: ignore[misc]
        loss = info.loss + jnp.log(state.scale)
        return state._replace(inner=found), info._replace(loss=loss)

    within = lambda function: function and (lambda state, *rest: function(state.inner, *rest))
    return standard._replace(
        init=init,
        fit=fit,
        draw=lambda key, state, num: standard.draw(key, state.inner, num),
        apply=apply,
        embed=within(standard.embed),
        trunk=within(standard.trunk),
        head=standard.head and head,
        marginal=standard.marginal and marginal,
        warm=standard.warm and warm,
        online=standard.online and online,
    )


def unit(labeled: Labeled) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and standard deviation of the labels, by weight. Labels that are all the same have the
    scale of their size, or 1 if they are 0.

    >>> labeled = Labeled(jnp.zeros((3, 1)), jnp.array([1.0, 5.0, jnp.nan]), jnp.int32(2))
    >>> unit(labeled)
    (Array(3., dtype=float32), Array(2., dtype=float32))
    """
    weight = _training.row_weights(labeled)
    (center,), deviation = _training.center_and_distance(labeled.y[:, None], weight)
    size = jnp.where(center != 0, jnp.abs(center), 1.0)
    return center, jnp.where(deviation > 0, deviation, size)


def _moved(labeled: Labeled, center: Float[Array, ""], scale: Float[Array, ""]) -> Labeled:
    """Labels in standard units; padding becomes 0."""
    there = _training.row_weights(labeled) > 0
    return labeled._replace(y=jnp.where(there, (labeled.y - center) / scale, 0.0))


def _back(state: Standardized, said: Gaussian | Mixture) -> Any:
    """A prediction in the label's unit."""
    return said._replace(
        mean=state.center + state.scale * said.mean,
        variance=jnp.square(state.scale) * said.variance,
    )
