"""Hyperparameter search in every round, by cross-validation, in one compiled program.

A `Retuner` searches a `space` of distributions over `HParams`; a `Proposer` says what to try, from
the `History` of all rounds; candidates race over folds, and the incumbent stays unless it is beaten
by more than the standard error.
"""

from bayesal.retune._history import table
from bayesal.retune._proposers import Proposer, gp_proposer, local_proposer
from bayesal.retune._retuners import Retuner, successive_halving
from bayesal.retune._spaces import log_uniform, space, uniform

__all__ = [
    "Proposer",
    "Retuner",
    "gp_proposer",
    "local_proposer",
    "log_uniform",
    "space",
    "successive_halving",
    "table",
    "uniform",
]


def __dir__() -> list[str]:
    return __all__
