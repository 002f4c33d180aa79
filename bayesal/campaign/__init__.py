"""Campaigns: a durable queue of questions that people answer, round after round.

The store is one SQLite file, or a PostgreSQL database. It is the truth: the learner's state is a
cache that replaying the answers rebuilds to the bit. Needs SQLAlchemy (extra `campaign`).
"""

from bayesal import _checks

with _checks.installed("sqlalchemy", "bayesal[campaign]"):
    from bayesal.campaign._campaign import Campaign, create, open

__all__ = ["Campaign", "create", "open"]


def __dir__() -> list[str]:
    return __all__
