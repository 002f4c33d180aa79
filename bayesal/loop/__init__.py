"""The loop: state, programs of a round, and the verbs `init`, `ask`, `tell`, `relabel`."""

from bayesal.loop._held_out import out_of_fold
from bayesal.loop._learner import Learner, learner
from bayesal.loop._state import (
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


def __dir__() -> list[str]:
    return __all__
