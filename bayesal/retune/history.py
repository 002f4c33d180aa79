"""What a retuner has tried so far: a part of the learner's state, so that later rounds know and
people can look.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bayesal.types import HParams

__all__ = ["History", "table"]


class History(NamedTuple):
    """Every candidate of every round, in a ring of H places; the oldest give way when it is full.

    candidates:  leaves `[H]`.
    losses:      mean out-of-fold NLL (nats) over the folds the candidate was fitted for; inf if a
      fit diverged.
    differences: the same less that of the round's incumbent on the same rows.
    errors:      the standard error of the difference.
    folds:       for how many folds it was fitted.
    round:       the round that tried it.
    go:          which run of the retuner tried it, by a number of its own: a round may have
      several, each with its own incumbent.
    chosen:      whether that round kept it.
    count:       how many were ever written.
    """

    candidates: HParams
    losses: Float[Array, " H"]
    differences: Float[Array, " H"]
    errors: Float[Array, " H"]
    folds: Int[Array, " H"]
    round: Int[Array, " H"]
    go: Int[Array, " H"]
    chosen: Bool[Array, " H"]
    count: Int[Array, ""]

    @property
    def written(self) -> Bool[Array, " H"]:
        """Which places hold a candidate."""
        return jnp.arange(self.losses.shape[0]) < self.count


def empty(places: int, hparams: HParams) -> History:
    """A history of nothing, with room for so many candidates."""
    blank = jax.tree.map(lambda value: jnp.zeros(places, jnp.result_type(value)), hparams)
    numbers, whole = jnp.zeros(places, jnp.float32), jnp.zeros(places, jnp.int32)
    return History(
        blank, numbers, numbers, numbers, whole, whole, whole, jnp.zeros(places, bool), jnp.int32(0)
    )


def remember(history: History, tried: History) -> History:
    """The history with the candidates of one more round, `tried`, a full one of as many places."""
    places, more = history.losses.shape[0], tried.losses.shape[0]
    at = (history.count + jnp.arange(more)) % places
    put = lambda old, new: old.at[at].set(new)
    return jax.tree.map(put, history._replace(count=None), tried._replace(count=None))._replace(
        count=history.count + more
    )


def table(history: History) -> dict[str, np.ndarray]:
    """The history as columns, oldest first: `round`, the fields of `HParams`, `loss`, `difference`,
    `error`, `folds`, `chosen`. For plots and data frames.

    >>> # pandas.DataFrame(retune.table(state.search)); experiments/pictures.py draws it
    """
    places, count = len(history.losses), int(history.count)
    order = np.arange(max(0, count - places), count) % places
    columns: dict[str, Any] = {"round": history.round, **history.candidates._asdict()}
    columns |= {
        "loss": history.losses,
        "difference": history.differences,
        "error": history.errors,
        "folds": history.folds,
        "chosen": history.chosen,
    }
    return {name: np.asarray(values)[order] for name, values in columns.items()}
