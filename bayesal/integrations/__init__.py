"""Loops out: bayesal inside other people's active-learning tools, one module for each.

`sklearn` has estimators, `skactiveml` a query strategy and a classifier, `modal`, `baal` and
`small_text` a query strategy, `argilla` records and answers. A module and its peer are imported
when they are asked for. The way in, models of others, is `bayesal.predictive`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesal.integrations import argilla, baal, modal, skactiveml, sklearn, small_text

__all__ = ["argilla", "baal", "modal", "skactiveml", "sklearn", "small_text"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"bayesal.integrations.{name}")
    raise AttributeError(
        f"module 'bayesal.integrations' has no attribute {name!r}; it has: {', '.join(__all__)}"
    )
