"""Every user-facing error. Called at the edge, on concrete values; under jit, where values cannot be looked at, only
shapes are checked.

Each error names the argument, says what it got (and which rows offend, in `.rows`), and what to pass instead.
"""

from bayesal.checks.arrays import (
    TOLERANCE,
    at_least_zero,
    available_rows,
    batch_size,
    features,
    layout,
    log_probs,
    not_constant,
    not_negative,
    numbers,
    positive,
    scores,
    unnormalized,
    weights,
)
from bayesal.checks.errors import (
    BadCheckpoint,
    BadPool,
    BayesalError,
    ConstantScores,
    DrawsDiffer,
    MissingEmbed,
    NegativeScores,
    NonFinite,
    NotLogProbabilities,
    NotProbabilities,
    OutOfRange,
    TrainingFailed,
    UnknownName,
    WrongIndex,
    WrongLabel,
    WrongPrice,
    WrongShape,
    WrongSize,
    WrongType,
)
from bayesal.checks.rounds import (
    as_traced,
    class_labels,
    enough_groups,
    groups,
    groups_of,
    hparams,
    indices,
    labels,
    new_labels,
    parameters,
    pool,
    real_labels,
    same_pool,
    structures,
    were_asked,
)
from bayesal.checks.values import a, as_float, at_least, concrete, function, key, listed

__all__ = [
    "TOLERANCE",
    "BadCheckpoint", "BadPool", "BayesalError", "ConstantScores", "DrawsDiffer", "MissingEmbed", "NegativeScores", "NonFinite",
    "NotLogProbabilities", "NotProbabilities", "OutOfRange", "TrainingFailed", "UnknownName", "WrongIndex", "WrongLabel", "WrongPrice",
    "WrongShape", "WrongSize", "WrongType", "a", "as_float", "as_traced", "at_least", "at_least_zero", "available_rows", "batch_size", "class_labels", "concrete",
    "enough_groups", "features", "function", "groups", "groups_of", "hparams", "indices", "key", "labels", "layout", "listed", "log_probs", "new_labels", "not_constant", "not_negative",
    "numbers", "parameters", "pool", "positive", "real_labels", "same_pool", "scores", "structures", "unnormalized", "weights", "were_asked",
]
