"""Which figures of the test set are noted, and how each is computed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal import metrics as known
from bayesal._simulate._data import hard
from bayesal._simulate._plan import Plan
from bayesal.loop import LearnerState
from bayesal.types import Prediction, Scaling

CLASSES, REAL = ("accuracy", "nll", "ece"), ("rmse", "density_nll")
# Judged before the temperature: float32 tempering may merge near ties.
OF_THE_CLASS = ("accuracy", "balanced_accuracy", "f1")
# Also noted before the temperature, as NAME_before, where there is one.
CALIBRATED = ("nll", "ece", "density_nll", "brier", "crps", "squared_ece", "classwise_ece")

Figure = Callable[[Any, Any], Any]


class Figures(NamedTuple):
    """Functions `(averaged prediction, labels) -> number`, by name."""

    functions: dict[str, Figure]
    calibrated: bool

    def of(
        self, raw: Prediction, tempered: Prediction, state: LearnerState, labels: Any
    ) -> dict[str, float]:
        """One number of each, and the temperature where it is fitted."""
        found = {}
        for name, function in self.functions.items():
            found[name] = _number(name, function(raw if name in OF_THE_CLASS else tempered, labels))
            if self.calibrated and name in CALIBRATED:
                found[f"{name}_before"] = _number(name, function(raw, labels))
        if self.calibrated and not isinstance(state.temperature, Scaling):
            found["temperature"] = float(state.temperature)
        return found


def figures(metrics: Any, plan: Plan) -> Figures:
    """The functions that were asked for, by name or as functions; default those of the labels."""
    classes = plan.classes is not None
    if metrics is None:
        plain = isinstance(plan.data.test_y, np.ndarray)
        if not plain:
            raise errors.WrongType(
                "metrics",
                "labels of this kind have no usual metric: pass metrics={'name': function of "
                "(averaged prediction, labels)}.",
            )
        metrics = CLASSES if classes else REAL
    if isinstance(metrics, str):
        metrics = (metrics,)
    if isinstance(metrics, Mapping):
        chosen = {name: _own(name, function) for name, function in metrics.items()}
    elif isinstance(metrics, Iterable):
        chosen = {str(name): _named(name, classes) for name in metrics}
    else:
        chosen = {}
    if not chosen:
        raise errors.WrongType(
            "metrics",
            "`metrics` must be names of bayesal.metrics, or a dict of names and functions of "
            f"(averaged prediction, labels); got {metrics!r}.",
        )
    return Figures(functions=chosen, calibrated=plan.calibrated)


def _named(name: Any, classes: bool) -> Figure:
    if name == "auroc":
        return _auroc
    if name not in known.__all__:
        raise errors.UnknownName(
            "metrics",
            f"`metrics` names {name!r}, which is not in bayesal.metrics. Pass a dict to give "
            "functions of your own.",
        )
    function = getattr(known, name)
    if not classes:
        return function
    return lambda prediction, labels: function(prediction, hard(labels))


def _own(name: Any, function: Any) -> Figure:
    if not isinstance(name, str):
        raise errors.WrongType("metrics", f"names in `metrics` must be strings, got {name!r}.")
    if isinstance(function, str):
        return _named(function, True)
    return _checks.function(function, "metrics", f"a dict of functions ({name!r})")


def _auroc(log_probs: Any, labels: Any) -> float:
    if log_probs.shape[-1] != 2:
        raise errors.UnknownName(
            "metrics",
            f"'auroc' is of two classes, and there are {log_probs.shape[-1]}: pass a function of "
            "your own.",
        )
    return known.auroc(np.asarray(log_probs[:, 1] - log_probs[:, 0]), hard(labels) == 1)


def _number(name: str, value: Any) -> float:
    if jnp.size(value) != 1 or isinstance(value, tuple):
        raise errors.WrongShape(
            "metrics", f"metric {name!r} must give one number, got {jax.tree.map(np.shape, value)}."
        )
    return float(np.asarray(value).reshape(()))
