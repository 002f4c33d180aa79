"""bayesal: what to label next, and how sure a Bayesian net is.

`import bayesal` brings the loop; `from bayesal import scores` (or any other part) costs only what
that part needs.
"""

import importlib
from typing import Any

_NAMES = {
    "learner": "loop",
    "Learner": "loop",
    "LearnerState": "rounds",
    "Ledger": "rounds",
    "predictive": "rounds",
    "grow": "rounds",
    "audited": "rounds",
    "out_of_fold": "rounds",
    "Predictive": "predictives",
    "Gaussian": "types",
    "HParams": "types",
    "Labeled": "types",
    "Likelihood": "types",
    "Mixture": "types",
    "Network": "types",
    "Posterior": "types",
    "Selection": "types",
}
_PARTS = (
    "acquire",
    "adapters",
    "backend",
    "calibrate",
    "checkpoint",
    "checks",
    "conformal",
    "explain",
    "gaussian",
    "likelihoods",
    "metrics",
    "networks",
    "posteriors",
    "predictions",
    "preference",
    "retune",
    "scores",
    "select",
    "shards",
    "stream",
    "testing",
    "types",
)

__all__ = sorted({*_NAMES, *_PARTS})
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"bayesal.{_NAMES[name]}"), name)
    if name in _PARTS:
        return importlib.import_module(f"bayesal.{name}")
    raise AttributeError(
        f"module 'bayesal' has no attribute {name!r}; it has: {', '.join(__all__)}"
    )
