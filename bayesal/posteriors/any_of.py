"""Structure as data: several posteriors as one, of which the hyperparameters choose."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from bayesal import _checks, errors
from bayesal.types import ArrayLike, FitInfo, Key, Posterior, PyTree

__all__ = ["any_of"]


class AnyOf(NamedTuple):
    """The states of all architectures, and which of them was fitted last: the one that predicts."""

    which: Int[Array, ""]
    states: tuple[PyTree, ...]


def any_of(*posteriors: Posterior) -> Posterior:
    """One of several posteriors, as `HParams.architecture` says: networks of other widths, depths
    or kinds as a choice that is data.

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
    apply = lambda i, states, draws, x: posteriors[i].apply(states[i], draws[i], x)
    head = lambda i, states, draws, shared: posteriors[i].head(states[i], draws[i], shared[i])
    return Posterior(
        init=functools.partial(_init, posteriors),
        fit=_fitting(posteriors),
        draw=functools.partial(_draw, posteriors),
        apply=asked("apply", apply),
        embed=asked("embed", functools.partial(_embed, posteriors)),
        members=posteriors[0].members,
        trunk=asked("trunk", functools.partial(_trunk, posteriors)),
        head=asked("head", head),
        real=posteriors[0].real,
        warm=asked("warm", functools.partial(_warm, posteriors)),
        architectures=len(posteriors),
        likelihood=posteriors[0].likelihood,
    )


def _init(posteriors: Sequence[Posterior], key: Key, x: ArrayLike) -> AnyOf:
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


def _embed(posteriors: Sequence[Posterior], i: int, states: tuple, x: ArrayLike) -> Array:
    """Features of one architecture, filled up with zeros to the widest."""
    widest = max(
        jax.eval_shape(p.embed, s, x).size for p, s in zip(posteriors, states, strict=True)
    )
    features = _checks.as_float(posteriors[i].embed(states[i], x))
    return jnp.pad(features, (0, widest - features.size))


def _trunk(posteriors: Sequence[Posterior], i: int, states: tuple, x: ArrayLike) -> tuple:
    """What one architecture's draws share, beside zeros for the others."""
    shapes = tuple(jax.eval_shape(p.trunk, s, x) for p, s in zip(posteriors, states, strict=True))
    blank = jax.tree.map(lambda o: jnp.zeros(o.shape, o.dtype), shapes)
    return _put(blank, i, posteriors[i].trunk(states[i], x))


def _warm(posteriors: Sequence[Posterior], i: int, old: tuple, fresh: AnyOf) -> AnyOf:
    """The architecture fitted last goes on; any other begins anew."""
    return AnyOf(jnp.int32(i), _put(fresh.states, i, posteriors[i].warm(old[i], fresh.states[i])))


def _asked(
    posteriors: Sequence[Posterior], verb: str, one: Callable, *more: Callable
) -> Callable | None:
    """`(AnyOf, ...) -> one(i, states, ...)`, a branch for each i; None where not all architectures
    know the verb.

    The branches are made once: an eager switch over new functions would compile each time.
    """
    branches = [*(functools.partial(one, i) for i in range(len(posteriors))), *more]
    return (
        (lambda state, *args: jax.lax.switch(state.which, branches, state.states, *args))
        if all(getattr(p, verb) for p in posteriors)
        else None
    )


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

    asked = _asked(posteriors, "fit", one, none)

    def fit(key, state, labeled, hparams):
        which = _known(hparams.architecture, len(posteriors))
        states, info = asked(AnyOf(which, state.states), key, labeled, hparams)
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
            "`posteriors` are for real labels and for classes: pass them all the same kind "
            "of `likelihood`.",
        )
    if len(members := {p.members for p in posteriors}) > 1:
        raise errors.WrongSize(
            "posteriors",
            "`posteriors` have different numbers of members "
            f"({', '.join(map(str, members))}; None: any number of draws), and K draws are "
            "asked of whichever is fitted: build ensembles of one size, and choose among "
            "ensembles alone.",
        )


def _known(architecture: Any, count: int) -> Int[Array, ""]:
    """The architecture's number; `count` if there is none such and that is known under jit only."""
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
    """What stays of a architecture that is not fitted: all, or zeros where a fit makes room for
    every label (Gaussian processes).
    """
    return leaf if leaf.shape == found.shape else jax.lax.full(found.shape, 0, found.dtype)


def _put(things: tuple, i: int, thing: Any) -> tuple:
    return (*things[:i], thing, *things[i + 1 :])
