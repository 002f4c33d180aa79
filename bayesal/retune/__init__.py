"""Hyperparameter search in every round, by cross-validation, in one compiled program.

A `Retuner` searches a `space` of distributions over `HParams`; a `Proposer` says what to try, from
the `History` of all rounds; candidates race over folds, and the incumbent stays unless it is beaten
by more than the standard error.
"""

from bayesal.retune.history import History, table
from bayesal.retune.proposers import Proposer, gp_proposer, local_proposer
from bayesal.retune.retuners import Retuner, fixed, for_posterior, successive_halving
from bayesal.retune.spaces import Distribution, choice, log_uniform, space, uniform

__all__ = [
    "Distribution",
    "History",
    "Proposer",
    "Retuner",
    "choice",
    "fixed",
    "for_posterior",
    "gp_proposer",
    "local_proposer",
    "log_uniform",
    "space",
    "successive_halving",
    "table",
    "uniform",
]
