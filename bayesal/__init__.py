"""bayesal: what to label next, and how sure a Bayesian net is.

`import bayesal` brings the loop; `from bayesal import scores` (or any other part) costs only what
that part needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesal import (
        acquire,
        annotators,
        calibrate,
        campaign,
        errors,
        export,
        integrations,
        likelihoods,
        metrics,
        networks,
        plots,
        pools,
        posteriors,
        predictive,
        retune,
        scores,
        select,
        service,
        tasks,
        testing,
        types,
    )
    from bayesal._choose import choose
    from bayesal._compiling import cache
    from bayesal._explain import explain
    from bayesal._simulate import Results, simulate
    from bayesal.loop import (
        Learner,
        LearnerState,
        audit_mask,
        checkpoint,
        grow,
        learner,
        out_of_fold,
        predictive_of,
        rejected,
    )
    from bayesal.predictive import Predictive
    from bayesal.types import (
        REJECTED,
        Gaussian,
        HParams,
        Labeled,
        Likelihood,
        Mixture,
        Network,
        Pool,
        Posterior,
        Selection,
        Strategy,
    )

# Where each public name lives; nothing is imported before it is asked for.
_PLACES = {
    "cache": "_compiling",
    "choose": "_choose",
    "explain": "_explain",
    "Results": "_simulate",
    "simulate": "_simulate",
    "learner": "loop",
    "Learner": "loop",
    "LearnerState": "loop",
    "predictive_of": "loop",
    "grow": "loop",
    "audit_mask": "loop",
    "out_of_fold": "loop",
    "rejected": "loop",
    "REJECTED": "types",
    "Predictive": "predictive",
    "Gaussian": "types",
    "HParams": "types",
    "Labeled": "types",
    "Likelihood": "types",
    "Mixture": "types",
    "Network": "types",
    "Pool": "types",
    "Posterior": "types",
    "Selection": "types",
    "Strategy": "types",
}
_MODULES = {
    "acquire": "acquire",
    "annotators": "annotators",
    "calibrate": "calibrate",
    "campaign": "campaign",
    "checkpoint": "loop.checkpoint",
    "errors": "errors",
    "export": "export",
    "integrations": "integrations",
    "likelihoods": "likelihoods",
    "metrics": "metrics",
    "networks": "networks",
    "plots": "plots",
    "pools": "pools",
    "posteriors": "posteriors",
    "predictive": "predictive",
    "retune": "retune",
    "scores": "scores",
    "select": "select",
    "service": "service",
    "tasks": "tasks",
    "testing": "testing",
    "types": "types",
}

__all__ = sorted({*_PLACES, *_MODULES})
__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"bayesal.{_PLACES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"bayesal.{_MODULES[name]}")
    raise AttributeError(
        f"module 'bayesal' has no attribute {name!r}; it has: {', '.join(__all__)}"
    )
