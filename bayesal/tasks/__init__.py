"""Whole tasks: what a label is, what a pool is, and what to ask, together."""

from bayesal.tasks import preference

__all__ = ["preference"]
