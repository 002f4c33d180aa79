"""The state before the first label, and what is wrong with a network that cannot begin."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors, likelihoods
from bayesal.calibrate._search import unfitted
from bayesal.loop import _programs as programs
from bayesal.loop._gathered import View, kind_of, shapes, take
from bayesal.loop._programs import Parts
from bayesal.loop._state import LearnerState, empty_ledger, round_key, without_report
from bayesal.types import Array, HParams, Key


def first_state(
    key: Key, x: View, hparams: HParams, capacity: int, grouped: bool, parts: Parts
) -> LearnerState:
    """The state before the first labels, or an error that says what cannot run."""
    example = jnp.asarray(take(x, np.arange(1), 1))
    posterior, labels = parts.posterior, likelihoods.labels_of(parts.posterior)
    state = LearnerState(
        key=key,
        round=jnp.int32(0),
        ledger=empty_ledger(likelihoods.CATEGORICAL, capacity, None),  # until C is known
        posterior=None,
        hparams=hparams,
        temperature=jnp.float32(1.0),
        search=parts.retune.init(hparams),
        kind=jnp.uint32(kind_of(x)),
        report=None,
    )
    try:
        state = state._replace(posterior=_initialize(round_key(state, 0), example, posterior))
        ledger = empty_ledger(labels, capacity, classes_of(state, example, parts))
        state = state._replace(ledger=ledger)
        like = shapes(ledger, example, grouped=grouped, audited=parts.audits > 0)
        report = jax.eval_shape(
            lambda state, taken: programs.refit(state, taken, parts.telling()).report, state, like
        )
    except errors.BayesalError:
        raise
    except (TypeError, ValueError) as error:
        cause = _cause(error, state, example, parts)
        if cause is None:
            raise  # a calibrator's or a retuner's own
        raise cause from error
    _checks.parameters(state.posterior)
    # placeholders that `jax_debug_nans` lets pass
    blank = jax.tree.map(
        lambda a: jnp.full(a.shape, 0 if jnp.issubdtype(a.dtype, jnp.floating) else -1, a.dtype),
        report,
    )
    blank_fit = unfitted(report.calibration.temperature)
    return state._replace(
        temperature=blank_fit.temperature, report=blank._replace(calibration=blank_fit)
    )


def _cause(
    error: Exception, state: LearnerState, example: Array, parts: Parts
) -> errors.BayesalError | None:
    """What is wrong with a network or a posterior that cannot run; None if both can, each by
    itself.
    """
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return errors.WrongType(
            "posterior",
            "the network asks `if` of a traced number, most likely a stock Dropout layer of "
            "its `rate` argument. For a rate that "
            "the retuner may change use bayesal.networks.dropout(x, rngs, rate).",
        )
    if state.posterior is None or not _traces(lambda: classes_of(state, example, parts)):
        return errors.WrongShape(
            "posterior",
            f"the network cannot take one example of this pool, of shape {example.shape[1:]} and "
            f"type {example.dtype}: {type(error).__name__}: {error}. The usual causes: it was "
            "built for another shape (reshape the pool), or a layer needs what it is not given, "
            "such as a key (for dropout use bayesal.networks.dropout).",
        )
    labeled, fit = shapes(state.ledger, example).labeled, parts.posterior.fit
    if not _traces(lambda: jax.eval_shape(fit, state.key, state.posterior, labeled, state.hparams)):
        return errors.WrongType(
            "posterior",
            "the network predicts one example of this pool, but the posterior cannot be fitted: "
            f"{type(error).__name__}: {error}. The usual cause: it does not know labels of this "
            "kind, such as soft ones.",
        )
    return None


def _traces(function: Callable[[], object]) -> bool:
    """Whether a function raises nothing."""
    try:
        function()
    except Exception:  # of any kind: the one raised before is what is shown
        return False
    return True


@functools.partial(jax.jit, static_argnames="posterior")
def _initialize(key, x, posterior):
    # a strong type for every parameter: weakly typed ones would compile each verb once more
    return jax.tree.map(
        lambda a: jax.lax.convert_element_type(a, jnp.result_type(a)), posterior.init(key, x[0])
    )


def classes_of(state: LearnerState, x: Any, parts: Parts) -> int | None:
    """Number of classes that a posterior predicts; None where it predicts something else."""
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    first = jax.tree.map(lambda leaf: leaf[:1] if leaf.ndim else leaf, state.ledger)
    bare = without_report(state)._replace(ledger=first)  # another capacity traces nothing anew
    prediction = programs.predict.eval_shape(bare, one, parts.telling())
    classes = prediction.shape[-1] if isinstance(prediction, jax.ShapeDtypeStruct) else None
    if classes == 1:
        raise errors.WrongShape(
            "posterior",
            "the network has C = 1 output. A binary problem has two classes: give the last "
            "layer 2 outputs.",
        )
    return classes
