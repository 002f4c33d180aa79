"""History of a search: part of the learner's state, so that later rounds can use it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal.types import Array, HParams

__all__ = ["History", "table"]


class History(NamedTuple):
    """All candidates of all rounds, in a ring buffer of H rows; the oldest are overwritten.

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
    count: Int[Array, ""]  # type: ignore[assignment]  # hides a tuple's own `count`

    @property
    def written(self) -> Bool[Array, " H"]:
        """Which places hold a candidate."""
        return jnp.arange(self.losses.shape[0]) < self.count


def empty(places: int, hparams: HParams) -> History:
    """Empty history of a given capacity."""
    blank = jax.tree.map(lambda value: jnp.zeros(places, jnp.result_type(value)), hparams)
    numbers, whole = jnp.zeros(places, jnp.float32), jnp.zeros(places, jnp.int32)
    return History(
        blank, numbers, numbers, numbers, whole, whole, whole, jnp.zeros(places, bool), jnp.int32(0)
    )


def remember(history: History, tried: History) -> History:
    """Append one round's candidates, `tried`, a full history of as many rows."""
    places, more = history.losses.shape[0], tried.losses.shape[0]
    at = (history.count + jnp.arange(more)) % places
    put = lambda old, new: old.at[at].set(new)
    columns = jax.tree.map(put, history[:-1], tried[:-1])
    return History._make((*columns, history.count + more))


def table(history: History) -> dict[str, np.ndarray]:
    """History as columns, oldest first, for plots and data frames.

    Columns: `round`, the fields of `HParams`, `loss`, `difference`, `error`, `folds`, `chosen`.

    `plots.retuner_history` draws them, and `pandas.DataFrame` takes them.
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
