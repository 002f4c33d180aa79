"""Warnings that point at the user's line."""

import contextlib
import contextvars
import os
import sys
import warnings
from collections.abc import Iterator
from types import FrameType

import jax

# `learner.ask` may warn from inside a traced function, and tests call through type checkers
SKIPPED = (
    os.path.dirname(__file__) + os.sep,
    os.path.dirname(jax.__file__) + os.sep,
    os.sep + os.path.join("site-packages", "jaxtyping") + os.sep,
    "<@beartype",
)

_collected: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("collected")


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """The warnings of this thread while the block runs, in place of being shown."""
    found: list[str] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def warn(message: str) -> None:
    """`warnings.warn` at the nearest line outside bayesal, however deep the call is."""
    if (kept := _collected.get(None)) is not None:
        kept.append(message)
        return
    frame: FrameType | None = sys._getframe()
    depth = 0
    while frame is not None and any(part in frame.f_code.co_filename for part in SKIPPED):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, stacklevel=depth + 1)
