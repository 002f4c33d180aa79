"""The loop: state, programs of a round, and the verbs `init`, `ask`, `tell`, `relabel`."""

from bayesal.loop.held_out import out_of_fold
from bayesal.loop.learner import Learner, learner
from bayesal.loop.state import (
    LearnerState,
    Ledger,
    audit_mask,
    grow,
    predictive_of,
    rejected,
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
    "rejected",
]
