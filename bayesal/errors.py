"""Every user-facing error: typed, naming the argument and the offending rows."""

from typing import Any

import numpy as np

__all__ = [
    "BadCheckpoint",
    "BadPath",
    "BadPool",
    "BadRecipe",
    "BadStore",
    "BayesalError",
    "Conflict",
    "ConstantScores",
    "DrawsDiffer",
    "MissingEmbed",
    "NonFinite",
    "NotLogProbabilities",
    "OutOfRange",
    "TrainingFailed",
    "UnknownName",
    "UnknownToken",
    "WrongIndex",
    "WrongLabel",
    "WrongShape",
    "WrongSize",
    "WrongType",
]


class BayesalError(ValueError):
    """The one parent of bayesal's errors. `argument` is the name of what was wrong, `rows` the
    offending rows.
    """

    def __init__(self, argument: str, message: str, rows: Any = ()):
        super().__init__(message)
        self.argument = argument
        self.rows = np.asarray(rows, dtype=int)


class NotLogProbabilities(BayesalError):
    """Numbers that are not the probabilities or log-probabilities they should be."""


class DrawsDiffer(BayesalError):
    """A draw was not one function of x: asked again, it answered differently."""


class NonFinite(BayesalError):
    """NaN (or +inf) where a number was needed."""


class WrongShape(BayesalError):
    """An array with the wrong rank or with sizes that do not fit."""


class WrongSize(BayesalError):
    """A batch, a capacity or a number of draws that cannot be had."""


class WrongIndex(BayesalError):
    """Indices that are not rows of the pool, that repeat, that have a label, or have none."""


class WrongLabel(BayesalError):
    """Labels of the wrong type or out of range."""


class WrongType(BayesalError, TypeError):
    """Something of another kind than was needed: a class for its instance, a name for
    a function.
    """


class UnknownName(BayesalError):
    """A name that is not among the known ones."""


class OutOfRange(BayesalError):
    """A number outside the range it can have: a share, a price, a score, a power's base."""


class ConstantScores(BayesalError):
    """All available points have one and the same score: picking the first rows would not be a
    selection.
    """


class MissingEmbed(BayesalError):
    """A strategy needs features, and the network has no `embed`."""


class TrainingFailed(BayesalError, FloatingPointError):
    """The loss of a fit became NaN or infinite."""


class BadCheckpoint(BayesalError):
    """A file that is not the state it should be."""


class BadPath(BayesalError, OSError):
    """A path that cannot be a file: a folder, a device, or in a folder that does not exist."""


class BadPool(BayesalError):
    """A pool that cannot be read, ends early, or is not the one that it was."""


class BadStore(BayesalError):
    """A database that is no campaign, or one of a newer version."""


class BadRecipe(BayesalError):
    """A recipe that cannot be read; the message names the line or the key."""


class UnknownToken(BayesalError):
    """A token that no question was handed out with, or one of another annotator."""


class Conflict(BayesalError):
    """Another answer to a question that has one."""


def __dir__() -> list[str]:
    return __all__
