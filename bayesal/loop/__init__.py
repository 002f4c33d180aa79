"""The loop: state, programs of a round, and the verbs `init`, `ask`, `tell`."""

from bayesal.loop.learner import Learner, learner
from bayesal.loop.programs import (
    LearnerState,
    Ledger,
    audit_mask,
    grow,
    out_of_fold,
    predictive_of,
)

__all__ = [
    "Learner",
    "LearnerState",
    "Ledger",
    "audit_mask",
    "grow",
    "learner",
    "out_of_fold",
    "predictive_of",
]
