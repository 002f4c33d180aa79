"""The verbs as pure functions of arrays: nothing is checked, so `jit` and `vmap` take them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8, UInt32

from bayesal import errors
from bayesal import retune as retuning
from bayesal.loop import _classes as classing
from bayesal.loop import _programs as programs
from bayesal.loop._gathered import NARROW, Gathered, view
from bayesal.loop._programs import Parts
from bayesal.loop._start import _initialize, first_state
from bayesal.loop._state import LearnerState, Ledger, _audited, round_key, without_report
from bayesal.types import REJECTED, Array, HParams, Labeled, PyTree, Selection


class Pure(NamedTuple):
    """A learner's verbs for `jit` and `vmap`, on a pool that is one array.

    They do what the learner's own verbs do, bit for bit where they are called as they are. Nothing
    is checked, so the caller promises what the checks would have found: indices of rows without a
    label, labels of known classes, room in the capacity, a first label of weight above 0, a fit
    that did not fail (`state.report.fit.failed_at` is then -1).

    init: `(key, x) -> LearnerState`; of `x` only shape and type count. The capacity is the
      learner's.
    ask:  `(state, x) -> Selection`; -1 fills up a batch that the pool could not, and scores of an
      audit are 0. Before any label it asks the strategy, of a net that knows nothing: the first
      batch is the caller's.
    tell: `(state, x, indices [B], labels, weights=None, source=0) -> LearnerState`; B is static. It
      refuses a retuner with a budget in seconds and balanced class weights, which no compiled
      program can keep.
    """

    init: Callable[..., LearnerState]
    ask: Callable[..., Selection]
    tell: Callable[..., LearnerState]


def pure(
    parts: Parts,
    hparams: HParams,
    capacity: int,
    groups: np.ndarray | None,
    class_weights: np.ndarray | str | None,
) -> Pure:
    """The pure verbs of a learner."""

    def init(key, x):
        one = np.zeros((1, *x.shape[1:]), x.dtype)
        with jax.ensure_compile_time_eval():  # it looks at values, which no key changes
            blank = first_state(
                jax.random.key(0), view(one), hparams, capacity, groups is not None, parts
            )
        state = blank._replace(key=key)
        begun = _initialize(round_key(state, 0), jnp.asarray(one), parts.posterior)
        return state._replace(posterior=begun)

    def ask(state, x):
        x = jnp.asarray(x)
        none = jnp.zeros(x.shape[0], bool)
        return programs.choose_in(without_report(state), x, parts.asking(), none)

    def tell(state, x, indices, labels, weights=None, source=0):
        if parts.retune.seconds is not None:
            raise errors.WrongType(
                "retune",
                "a budget in seconds cannot be kept inside a compiled program: build the retuner "
                "with fits= or candidates= to use `learner.pure.tell`.",
            )
        if isinstance(class_weights, str):
            raise errors.WrongType(
                "class_weights",
                "balanced weights are computed on the host: pass a number for each class to use "
                "`learner.pure.tell`.",
            )
        x, known = jnp.asarray(x), _usable(state.ledger).sum()
        ledger = _appended(state.ledger, x[jnp.asarray(indices)], indices, labels, weights, source)
        fair = _audited(state.key, ledger, x.shape[0]) if parts.audits else None
        taken = _gathered(ledger, x, groups, fair, known)
        taken = classing.weighted(class_weights, taken)
        state = remembering(state._replace(ledger=ledger), parts.retune)._replace(report=None)
        return programs.refit(state, taken, parts.telling())

    return Pure(init=init, ask=ask, tell=tell)


def remembering(state: LearnerState, retune: retuning.Retuner) -> LearnerState:
    """The state with what this retuner remembers: where nothing was searched before, an empty
    memory.
    """
    blank = jax.eval_shape(retune.init, state.hparams)
    shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
    if not retune.searches or shapes(state.search) == shapes(blank):
        return state
    if jax.tree.leaves(state.search):
        raise errors.WrongType(
            "retune",
            "this state remembers the trials of another retuner (another search space). Build "
            "the learner with that retuner, or pass state._replace(search=()) to forget them.",
        )
    return state._replace(search=retune.init(state.hparams))


def _usable(ledger: Ledger) -> Array:
    """Which places of the ledger hold a label that counts, `[M]`."""
    return (jnp.arange(ledger.capacity) < ledger.count) & (ledger.weight > 0)


def _appended(
    ledger: Ledger, features: Array, indices: Any, labels: PyTree, weights: Any, source: Any
) -> Ledger:
    """The ledger with more answers; what does not fit is dropped."""
    count = features.shape[0]
    at = ledger.count + jnp.arange(count)
    put = lambda leaf, new: leaf.at[at].set(jnp.asarray(new).astype(leaf.dtype), mode="drop")
    weight = jnp.ones(count, jnp.float32) if weights is None else jnp.asarray(weights)
    classes = jax.tree.leaves(labels)[0]
    if classes.ndim == 1 and jnp.issubdtype(classes.dtype, jnp.integer):
        weight = jnp.where(jnp.asarray(classes) == REJECTED, 0.0, weight)
    return Ledger(
        indices=put(ledger.indices, indices),
        labels=jax.tree.map(put, ledger.labels, labels),
        weight=put(ledger.weight, weight),
        source=put(ledger.source, jnp.broadcast_to(jnp.asarray(source), (count,))),
        digest=put(ledger.digest, _digests(features)),
        count=(ledger.count + count).astype(jnp.int32),
    )


def _gathered(
    ledger: Ledger, x: Array, groups: np.ndarray | None, fair: Array | None, known: Array
) -> Gathered:
    """What `_gathered.gather` gives, inside a program: labels that count first, then zeros."""
    valid = _usable(ledger)
    order = jnp.argsort(~valid, stable=True)
    count = valid.sum().astype(jnp.int32)
    there = jnp.arange(ledger.capacity) < count

    def put(leaf):
        mask = there.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(mask, leaf[order], jnp.zeros((), leaf.dtype))

    return Gathered(
        labeled=Labeled(
            x=put(x[ledger.indices]),
            y=jax.tree.map(put, ledger.labels),
            count=count,
            weight=put(ledger.weight),
        ),
        groups=None if groups is None else put(jnp.asarray(groups)[ledger.indices]),
        fair=None if fair is None else put(fair),
        known=known.astype(jnp.int32),
    )


# --- the hash of rows: zlib.crc32, as `_gathered.digests` computes it on the host


def _table() -> np.ndarray:
    """CRC-32 of every byte (polynomial 0xEDB88320, reflected)."""
    value = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        value = np.where(value & 1, (value >> 1) ^ np.uint32(0xEDB88320), value >> 1)
    return value.astype(np.uint32)


def _digests(features: Array) -> UInt32[Array, " n"]:
    """A hash of each row's features, byte by byte: as many steps as an example has bytes."""
    narrow = features.astype(NARROW.get(str(features.dtype), features.dtype))
    data = _bytes(narrow)
    table = jnp.asarray(_table())
    step = lambda crc, byte: (table[(crc ^ byte) & 0xFF] ^ (crc >> 8), None)
    start = jnp.full(data.shape[0], 0xFFFFFFFF, jnp.uint32)
    return jax.lax.scan(step, start, data.T.astype(jnp.uint32))[0] ^ jnp.uint32(0xFFFFFFFF)


def _bytes(rows: Array) -> UInt8[Array, "n b"]:
    flat = rows.reshape(rows.shape[0], -1)
    if flat.dtype == bool:
        return flat.astype(jnp.uint8)
    return jax.lax.bitcast_convert_type(flat, jnp.uint8).reshape(rows.shape[0], -1)
