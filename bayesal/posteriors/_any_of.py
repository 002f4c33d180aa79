"""Architecture as data: several posteriors as one, chosen by a hyperparameter."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int

from bayesal import _checks, _shown, errors
from bayesal.types import Array, FitInfo, Key, Posterior, PyTree

__all__ = ["any_of"]


class AnyOf(NamedTuple):
    """States of all architectures, and the index of the one fitted last, which predicts."""

    which: Int[Array, ""]
    states: tuple[PyTree, ...]


@_shown.named
def any_of(*posteriors: Posterior) -> Posterior:
    """Combine posteriors into one; `HParams.architecture` selects which is fitted.

    The choice among widths, depths or kinds of networks is then data.

    What is asked of it goes to the architecture fitted last, and is what that posterior by itself
    would give for the same keys. A warm fit of that architecture goes on from where it ended; any
    other architecture begins afresh.

    The price: every program that fits or predicts is compiled for all architectures, once. The
    state, and every set of draws, hold those of all. Time is spent on all in `init` and `draw`, and
    on the chosen one alone in fits, predictions and features, as long as `architecture` is one
    number: `vmap` over candidates of several architectures fits every one for each candidate, and a
      loop (`jax.lax.map`) does not. With
    `mc_dropout`, what stands before the first dropout is computed for every draw.

    Args:
      posteriors: two or more, for one kind of label, with predictions and numbers of members alike.
        Features of different widths are filled up with zeros, which changes no distance and no
        inner product.
    Raises:
      WrongSize: fewer than two; other numbers of members; (`fit`, a learner of it) no such
        architecture. Where that cannot be looked at, under jit, nothing is fitted and
        `FitInfo.failed_at` is 0.
      WrongType: something else than a posterior; real labels beside classes.
      WrongShape: (`init`) predictions, or (`fit`) reports of different shapes.

    >>> from bayesal import networks, posteriors
    >>> posterior = any_of(*(posteriors.point(networks.mlp(2, 3, (width,))) for width in (4, 8)))
    >>> labeled = Labeled(jnp.ones((5, 2)), jnp.arange(5) % 3, jnp.int32(5))
    >>> state = posterior.init(jax.random.key(0), labeled.x[0])
    >>> state, info = posterior.fit(
    ...     jax.random.key(1), state, labeled, HParams(architecture=1, steps=2)
    ... )
    >>> int(state.which), posterior.embed(state, labeled.x[0]).shape
    (1, (8,))
    """
    _alike(posteriors)
    asked = functools.partial(_asked, posteriors)
    return Posterior(
        init=functools.partial(_init, posteriors),
        fit=_fitting(posteriors),
        draw=functools.partial(_draw, posteriors),
        apply=_switched([functools.partial(_apply, p.apply, i) for i, p in enumerate(posteriors)]),
        embed=asked("embed", _embed),
        members=posteriors[0].members,
        trunk=asked("trunk", _trunk),
        head=asked("head", _head),
        real=posteriors[0].real,
        likelihood=posteriors[0].likelihood,
        warm=asked("warm", _warm),
        architectures=len(posteriors),
        unused=tuple(
            name
            for name in posteriors[0].unused
            if name != "architecture" and all(name in p.unused for p in posteriors)
        ),
        scales=all(p.scales for p in posteriors),
    )


def _init(posteriors: Sequence[Posterior], key: Key, x: Any) -> AnyOf:
    # one key for all: each architecture is then what it is by itself, and no two are ever asked
    # together
    states = tuple(p.init(key, x) for p in posteriors)

    def one(posterior, state, x):
        draws = posterior.draw(key, state, posterior.members or 1)
        return posterior.apply(state, jax.tree.map(lambda a: a[0], draws), x)

    shapes = [
        jax.eval_shape(functools.partial(one, p), s, x)
        for p, s in zip(posteriors, states, strict=True)
    ]
    _same_shapes("predictions", shapes)
    return AnyOf(jnp.int32(0), states)


def _draw(posteriors: Sequence[Posterior], key: Key, state: AnyOf, num: int) -> tuple[PyTree, ...]:
    return tuple(p.draw(key, s, num) for p, s in zip(posteriors, state.states, strict=True))


# what architecture i says, given `each` architecture's own function


def _apply(apply: Callable, i: int, states: tuple, draws: tuple, x: Any) -> Any:
    return apply(states[i], draws[i], x)


def _head(each: Sequence[Callable], i: int, states: tuple, draws: tuple, shared: tuple) -> Any:
    return each[i](states[i], draws[i], shared[i])


def _embed(each: Sequence[Callable], i: int, states: tuple, x: Any) -> Array:
    """Features, filled up with zeros to those of the widest."""
    widest = max(jax.eval_shape(embed, s, x).size for embed, s in zip(each, states, strict=True))
    features = _checks.as_float(each[i](states[i], x))
    return jnp.pad(features, (0, widest - features.size))


def _trunk(each: Sequence[Callable], i: int, states: tuple, x: Any) -> tuple:
    """What its draws share, beside zeros for the others."""
    shapes = tuple(jax.eval_shape(trunk, s, x) for trunk, s in zip(each, states, strict=True))
    blank = jax.tree.map(lambda o: jnp.zeros(o.shape, o.dtype), shapes)
    return _put(blank, i, each[i](states[i], x))


def _warm(each: Sequence[Callable], i: int, old: tuple, fresh: AnyOf) -> AnyOf:
    """The architecture fitted last goes on; any other begins anew."""
    return AnyOf(jnp.int32(i), _put(fresh.states, i, each[i](old[i], fresh.states[i])))


def _asked(posteriors: Sequence[Posterior], verb: str, one: Callable) -> Callable | None:
    """`(AnyOf, ...) -> one(each, i, states, ...)`; None where not all architectures know the
    verb.
    """
    each = [getattr(posterior, verb) for posterior in posteriors]
    if not all(each):
        return None
    return _switched([functools.partial(one, each, i) for i in range(len(each))])


def _switched(branches: Sequence[Callable]) -> Callable:
    """`(AnyOf, ...) -> branches[which](states, ...)`.

    The branches are made once: an eager switch over new functions would compile each time.
    """
    return lambda state, *args: jax.lax.switch(state.which, branches, state.states, *args)


def _fitting(posteriors: Sequence[Posterior]) -> Callable:
    """The fit of the architecture that the hyperparameters name."""
    fits = [jax.jit(p.fit) for p in posteriors]  # traced once, for its shapes and for its branch

    def unfitted(states, *args):
        """The states with room for what a fit finds, and the shapes of its report."""
        shapes = [
            jax.eval_shape(fit, args[0], s, *args[1:]) for fit, s in zip(fits, states, strict=True)
        ]
        _same_shapes("reports of a fit (`FitInfo`)", [info for _, info in shapes])
        return tuple(
            jax.tree.map(_with_room, s, found) for s, (found, _) in zip(states, shapes, strict=True)
        ), shapes[0][1]

    def one(i, states, key, *args):
        found, info = fits[i](key, states[i], *args)
        return _put(unfitted(states, key, *args)[0], i, found), info

    def none(states, *args):
        states, info = unfitted(states, *args)
        return states, FitInfo(
            jnp.full(info.loss.shape, jnp.nan, info.loss.dtype),
            jnp.zeros(info.failed_at.shape, info.failed_at.dtype),
        )

    chosen = _switched([*(functools.partial(one, i) for i in range(len(fits))), none])

    def fit(key, state, labeled, hparams):
        which = _known(hparams.architecture, len(posteriors))
        states, info = chosen(AnyOf(which, state.states), key, labeled, hparams)
        return AnyOf(jnp.where(which < len(posteriors), which, state.which), states), info

    return fit


def _alike(posteriors: Sequence[Posterior]) -> None:
    """Refuses posteriors that cannot stand for one another."""
    for posterior in posteriors:
        _checks.a(
            Posterior,
            posterior,
            "posteriors",
            "one after another: any_of(posterior, another), or any_of(*posteriors)",
        )
    if len(posteriors) < 2:
        raise errors.WrongSize(
            "posteriors",
            f"`posteriors` must be two or more to choose from, got {len(posteriors)}: "
            "any_of(posterior, another).",
        )
    if len({p.real for p in posteriors}) > 1:
        raise errors.WrongType(
            "posteriors",
            "`posteriors` mix real labels and classes: give all the same kind of `likelihood`.",
        )
    if len(members := {p.members for p in posteriors}) > 1:
        raise errors.WrongSize(
            "posteriors",
            "`posteriors` have different numbers of members "
            f"({', '.join(map(str, members))}; None: any number of draws), so no number of draws "
            "suits them all: combine ensembles of one size, and nothing else with them.",
        )


def _known(architecture: Any, count: int) -> Int[Array, ""]:
    """Index of the architecture; `count` where it is out of range, which only jit lets pass."""
    which = jnp.asarray(architecture, jnp.int32)
    known = (which >= 0) & (which < count)
    if _checks.concrete(known):
        _checks.architectures(
            "hparams", f"`hparams.architecture` = {architecture}", int(architecture), count
        )
    return jnp.where(known, which, count)


def _same_shapes(what: str, each: list[PyTree]) -> None:
    shapes = [jax.tree.map(lambda o: o.shape, one) for one in each]
    if any(shape != shapes[0] for shape in shapes):
        raise errors.WrongShape(
            "posteriors",
            f"the {what} of the architectures have shapes {', '.join(map(str, shapes))}, and "
            "one program must do for all: give the networks the "
            "same outputs, and the posteriors the same numbers of chains.",
        )


def _with_room(leaf: Array, found: jax.ShapeDtypeStruct) -> Array:
    """State of an architecture that is not fitted: unchanged, or zeros of the fitted shape.

    A Gaussian process grows a row for every label.
    """
    return leaf if leaf.shape == found.shape else jax.lax.full(found.shape, 0, found.dtype)


def _put(things: tuple, i: int, thing: Any) -> tuple:
    return (*things[:i], thing, *things[i + 1 :])
