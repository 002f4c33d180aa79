"""What a learner knows from round to round: the ledger of labels, and what was fitted to them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from bayesal import _checks, _shown, errors, pools
from bayesal import calibrate as calibration
from bayesal.loop import _audit as audit
from bayesal.predictive import Predictive, bind
from bayesal.types import (
    REJECTED,
    Array,
    FitInfo,
    HParams,
    Key,
    Likelihood,
    Posterior,
    PyTree,
    Scaling,
)


class Ledger(NamedTuple):
    """The labeled set, in order of acquisition; entries `>= count` are padding.

    indices: rows of the pool.
    labels:  a pytree, every leaf `[M, ...]`; most often one array `[M]`.
    weight:  weight of each label in fits and calibration. Weight 0: the row has an answer, which is
      never fitted (REJECTED, or "cannot tell"), and it is not available again.
    source:  who gave the label: 0 a person, 1 a model (pseudo-label), 2 an import.
    digest:  a hash of the row's features when it was labeled; it tells a reordered pool.
    count:   number of labels.
    """

    indices: Int[Array, " M"]
    labels: PyTree
    weight: Float[Array, " M"]
    source: Int[Array, " M"]
    digest: UInt32[Array, " M"]
    count: Int[Array, ""]  # type: ignore[assignment]  # it hides the tuple's own `count`

    @property
    def capacity(self) -> int:
        """How many labels there is room for."""
        return self.indices.shape[0]

    def rows(self) -> np.ndarray:
        """Rows of the pool that have a label, in order of acquisition, on the host."""
        return np.asarray(self.indices)[: int(self.count)]

    def available(self, rows: int) -> Bool[Array, " N"]:
        """Which of the pool's rows have no label yet."""
        labeled = jnp.where(jnp.arange(self.capacity) < self.count, self.indices, rows)
        return jnp.ones(rows, bool).at[labeled].set(False, mode="drop")


def empty_ledger(likelihood: Likelihood, capacity: int, classes: int | None) -> Ledger:
    """A ledger with room for `capacity` labels of a likelihood."""
    assert likelihood.blank is not None  # `likelihoods.labels_of` gave it one
    return Ledger(
        indices=jnp.zeros(capacity, jnp.int32),
        labels=likelihood.blank(capacity, classes),
        weight=jnp.zeros(capacity, jnp.float32),
        source=jnp.zeros(capacity, jnp.int32),
        digest=jnp.zeros(capacity, jnp.uint32),
        count=jnp.int32(0),
    )


class Answers(NamedTuple):
    """Checked answers about some rows, on the host: see `Ledger` for the fields."""

    indices: np.ndarray
    labels: PyTree
    weight: np.ndarray
    source: np.ndarray
    digest: np.ndarray


def append(ledger: Ledger, answers: Answers) -> Ledger:
    """The ledger with more answers; the caller has checked that they fit."""
    start = int(ledger.count)
    stop = start + len(answers.indices)
    return _written(ledger, np.arange(start, stop), answers)._replace(count=jnp.int32(stop))


def correct(ledger: Ledger, answers: Answers) -> Ledger:
    """The ledger with other answers about rows that it holds; their order stays."""
    return _written(ledger, places(ledger, answers.indices), answers)


def places(ledger: Ledger, rows: np.ndarray) -> np.ndarray:
    """Where in the ledger labeled rows of the pool are."""
    order = np.argsort(ledger.rows(), kind="stable")
    return order[np.searchsorted(ledger.rows(), rows, sorter=order)]


def _written(ledger: Ledger, at: np.ndarray, answers: Answers) -> Ledger:
    def put(old, new):
        leaf = np.array(old)  # a copy, on the host: nothing is traced or compiled
        leaf[at] = new
        return jnp.asarray(leaf)

    rest = ledger._asdict()
    count = rest.pop("count")
    return Ledger(**jax.tree.map(put, rest, answers._asdict()), count=count)


class Report(NamedTuple):
    """What the last `tell` did.

    Before the first label, and where nothing was tried or calibrated, numbers are 0 and `failed_at`
    and `chosen` are -1 (0 where the incumbent is all there was).

    fit: the fit on all labels.
    candidates, candidate_losses, chosen: what the retuner tried; all rounds: `LearnerState.search`.
    calibration: the temperature and its NLLs.
    """

    fit: FitInfo
    candidates: HParams
    candidate_losses: Float[Array, " P"]
    chosen: Int[Array, ""]
    calibration: calibration.Temperature


class LearnerState(NamedTuple):
    """Everything the loop knows, as one pytree: save it, restore it, ask again, and the picks are
    the same.

    key: the learner's first key; a round's keys are folded out of it.
    round: how many times labels were told or corrected.
    ledger: all labels.
    posterior: the posterior's state, fitted to them.
    hparams: hyperparameters of that fit.
    temperature: what predictions are divided by.
    search: what the retuner remembers: a `retune.History`, which `retune.table` lays out.
    kind: a hash of the shape and type of one example.
    report: what the last `tell` did.
    """

    key: Key
    round: Int[Array, ""]
    ledger: Ledger
    posterior: PyTree
    hparams: HParams
    temperature: Float[Array, ""] | Scaling
    search: PyTree
    kind: UInt32[Array, ""]
    report: Report | None

    @_shown.safe
    def __repr__(self) -> str:
        return (
            f"LearnerState: round {int(self.round)}, {int(self.ledger.count)} labels (room for "
            f"{self.ledger.capacity}), T = {_shown.short(self.temperature)}, {self.hparams}"
        )


# a variance that is learned collapses in longer fits to few labels (docs/defaults.md)
FOR_NUMBERS = HParams(learning_rate=3e-3, weight_decay=0.0, steps=300, warmup=0.0)


def usual(posterior: Posterior) -> HParams:
    """Hyperparameters that a learner begins with where none are given."""
    return FOR_NUMBERS if posterior.real else HParams()


def without_report(state: LearnerState) -> LearnerState:
    """What predictions depend on, so that no report and no memory of a retuner compiles again."""
    return state._replace(report=None, search=None)


def round_key(state: LearnerState, purpose: int) -> Key:
    """A key for one purpose in one round."""
    return jax.random.fold_in(jax.random.fold_in(state.key, state.round), purpose)


def number_of_draws(posterior: Posterior, num_draws: int | None) -> int:
    """How many draws a posterior gives, asked for so many."""
    if num_draws is None:
        return posterior.members or 50
    if isinstance(num_draws, bool) or not isinstance(num_draws, int | np.integer) or num_draws < 1:
        raise errors.WrongSize(
            "num_draws", f"`num_draws` must be a positive int, got {num_draws!r}."
        )
    if posterior.members not in (None, num_draws):
        raise errors.WrongSize(
            "num_draws",
            f"`num_draws` = {num_draws}, but this posterior has exactly {posterior.members} "
            f"members: pass num_draws={posterior.members}, "
            f"or build it with members={num_draws}.",
        )
    return int(num_draws)


def predictive_of(
    posterior: Posterior, state: LearnerState, num_draws: int | None = None
) -> Predictive:
    """The state's predictive: `num_draws` draws (default: the ensemble's members, or 50), tempered;
    with the learner's own `num_draws` they are the ones that `ask` uses.

    >>> # log_probs = bayesal.predictive_of(posterior, state, 100).log_probs(x_test)   # [n, C]
    """
    draws = posterior.draw(
        round_key(state, 1), state.posterior, number_of_draws(posterior, num_draws)
    )
    return bind(posterior, state.posterior, draws, state.temperature)


def grow(state: LearnerState, capacity: int) -> LearnerState:
    """The same state with room for `capacity` labels, for a learner built with that capacity.

    A learner without a capacity grows its states by itself.

    Raises:
      WrongSize: less room than there is.
    """
    more = _checks.at_least(state.ledger.capacity, capacity, "capacity") - state.ledger.capacity
    # on the host, so that nothing is compiled for it
    pad = lambda leaf: jnp.asarray(
        np.pad(np.asarray(leaf), [(0, more)] + [(0, 0)] * (leaf.ndim - 1))
    )
    rest = state.ledger._asdict()
    count = rest.pop("count")
    return state._replace(ledger=Ledger(**jax.tree.map(pad, rest), count=count))


def rejected(state: LearnerState) -> np.ndarray:
    """Rows of the pool whose label is REJECTED, in order of acquisition: what no class of the
    learner describes.
    """
    leaves = jax.tree.leaves(state.ledger.labels)
    if len(leaves) > 1 or leaves[0].ndim > 1 or not jnp.issubdtype(leaves[0].dtype, jnp.integer):
        return np.zeros(0, np.int32)  # only a class can be one of none
    rows = state.ledger.rows()
    return rows[np.asarray(leaves[0])[: len(rows)] == REJECTED]


def audit_mask(state: LearnerState, x: Any) -> Bool[Array, " M"]:
    """Which entries of the ledger are the audit: labels of a uniform random sample of the whole
    pool, chosen for no other reason.

    The pool `x` is put in a random order that depends on the state's first key alone, and `ask`
    takes its audit from the front of what has no label. The audit is that order's front up to the
    first row without a label: who labels a row for another reason does not know the order, so the
    rows there are a fair sample of the pool, those that were chosen actively too.
    """
    return _audited(state.key, state.ledger, pools.of(x).rows)


@functools.partial(jax.jit, static_argnames="rows")
def _audited(key: Key, ledger: Ledger, rows: int) -> Bool[Array, " M"]:
    fair = audit.fair(audit.lots(key, rows), ledger.available(rows), ledger.indices)
    return fair & (jnp.arange(ledger.capacity) < ledger.count)
