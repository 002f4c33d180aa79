"""What a round does with new labels: fit all labels afresh, fit from where the last fit ended, or
add the new ones to what is known.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int

from bayesal import errors
from bayesal.loop._folds import rows_of
from bayesal.types import Array, FitInfo, Labeled, Posterior, PyTree

UPDATES = ("fresh", "warm", "online")


def possible(posterior: Posterior, retune: Any, calibrate: Any, update: str) -> None:
    """Refuses an update that is not known, that the posterior cannot do, or that leaves a retuner
    or a calibrator nothing to do.

    Raises:
      UnknownName: no such update. WrongType: names what does not go with it.
    """
    if update not in UPDATES:
        raise errors.UnknownName(
            "update",
            f"`update` = {update!r} is not known: begin each fit 'fresh' or 'warm', or add "
            "labels 'online'.",
        )
    if update == "warm" and posterior.warm is None:
        raise errors.WrongType(
            "update", "this posterior cannot begin where an earlier fit ended: pass update='fresh'."
        )
    if update != "online":
        return
    if posterior.online is None:
        raise errors.WrongType(
            "update",
            "this posterior cannot add labels to what it knows: pass update='fresh' or "
            "'warm'. What can is `posteriors.last_layer_laplace` of one output, such "
            "as likelihood=likelihoods.gaussian(noise_std=...), or with structure='full'.",
        )
    if retune.searches:
        raise errors.WrongType(
            "retune",
            "with update='online' only the first labels are fitted, so hyperparameters found "
            "later would change nothing: pass retune=None, or update='fresh'.",
        )
    if calibrate is not None:
        raise errors.WrongType(
            "calibrate",
            "a temperature is fitted on fits that held labels out, and with update='online' "
            "there are none: pass calibrate=None, or update='fresh'.",
        )


def begin(posterior: Posterior, old: PyTree, fresh: PyTree, round: Int[Array, ""]) -> PyTree:
    """Where a warm fit begins: the first one at a fresh initialization."""
    assert posterior.warm is not None  # `possible` saw to it
    return jax.tree.map(
        lambda warm, fresh: jnp.where(round > 0, warm, fresh), posterior.warm(old, fresh), fresh
    )


def add(
    posterior: Posterior, state: PyTree, labeled: Labeled, known: Int[Array, ""], size: int
) -> tuple[PyTree, FitInfo]:
    """The posterior's state after the labels from the `known`-th on, `size` at a time; the last
    ones are padded.
    """
    assert posterior.online is not None  # `possible` saw to it

    def some(i, carry):
        state, info = carry
        at = known + i * size
        rows = at + jnp.arange(size)  # beyond the capacity JAX gives the last place
        part = rows_of(labeled, rows, jnp.minimum(labeled.count - at, size))
        state, new = posterior.online(state, part)
        return state, new._replace(
            failed_at=jnp.where(info.failed_at < 0, new.failed_at, info.failed_at)
        )

    start = state, FitInfo(jnp.float32(0.0), jnp.int32(-1))  # no labels cost no nats
    return jax.lax.fori_loop(0, (labeled.count - known + size - 1) // size, some, start)
