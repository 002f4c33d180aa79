"""The state before the first label, and what is wrong with a network that cannot begin."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bayesal import _checks, errors, likelihoods
from bayesal.calibrate._search import unfitted
from bayesal.loop import programs
from bayesal.loop.gathered import View, kind_of, shapes, take
from bayesal.loop.programs import Parts
from bayesal.loop.state import LearnerState, empty_ledger, round_key, without_report
from bayesal.types import HParams, Key


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
        if _runs(state, example, parts):
            raise  # the network is not the cause: a calibrator or a retuner of one's own
        raise _blamed(error, example) from error
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


def _runs(state: LearnerState, example: Array, parts: Parts) -> bool:
    """Whether the posterior alone can begin, be fitted and predict."""
    if state.posterior is None:
        return False
    like = shapes(state.ledger, example)
    try:
        jax.eval_shape(parts.posterior.fit, state.key, state.posterior, like.labeled, state.hparams)
        classes_of(state, example, parts)
    except Exception:  # of any kind: the one that was raised is shown
        return False
    return True


def _blamed(error: Exception, example: Array) -> errors.BayesalError:
    """What is wrong with a network that cannot be run."""
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return errors.WrongType(
            "posterior",
            "the network asks `if` of a traced number, most likely a stock Dropout layer of "
            "its `rate` argument. For a rate that "
            "the retuner may change use bayesal.networks.dropout(x, rngs, rate).",
        )
    return errors.WrongShape(
        "posterior",
        f"the network cannot take one example of this pool, of shape {example.shape[1:]} and "
        f"type {example.dtype}: {type(error).__name__}: {error}. The usual causes: it was built "
        "for another shape (reshape the pool), or a layer needs what it is not given, such as a "
        "key (for dropout use bayesal.networks.dropout).",
    )


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
