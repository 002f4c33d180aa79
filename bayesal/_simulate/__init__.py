"""`simulate`: strategies compared on labels that are known already, and what came of it."""

from bayesal._simulate._results import Results
from bayesal._simulate._simulate import simulate

__all__ = ["Results", "simulate"]


def __dir__() -> list[str]:
    return __all__
