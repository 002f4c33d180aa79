"""A comparison as one file to read: `report.html`, which loads nothing and runs no script."""

from bayesal._report._page import write

__all__ = ["write"]


def __dir__() -> list[str]:
    return __all__
