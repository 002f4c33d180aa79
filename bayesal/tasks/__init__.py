"""Whole tasks: what a label is, what a pool is, and what to ask, together."""

from bayesal.tasks import preference

__all__ = ["preference"]


def __dir__() -> list[str]:
    return __all__
