"""Answers of several people: the true classes, each person's reliability, whom to ask what next.

`table` puts answers (item, annotator, label) into a matrix. `dawid_skene` infers the true classes
and each annotator's confusion matrix, with a net's out-of-fold prediction as prior; `refit` turns
from net to truth and back. `soft_labels` are for `tell(..., weights=...)`. `information`,
`noisy_bald` and `rank` say whom to ask about which item. `majority` and `crowdlab` are baselines.
"""

from bayesal.annotators._answers import ABSTAIN, Table, table
from bayesal.annotators._asking import Ranking, information, noisy_bald, rank
from bayesal.annotators._baselines import crowdlab, majority
from bayesal.annotators._truth import (
    Info,
    Truth,
    dawid_skene,
    intervals,
    one_coin,
    refit,
    soft_labels,
)

__all__ = [
    "ABSTAIN",
    "Info",
    "Ranking",
    "Table",
    "Truth",
    "crowdlab",
    "dawid_skene",
    "information",
    "intervals",
    "majority",
    "noisy_bald",
    "one_coin",
    "rank",
    "refit",
    "soft_labels",
    "table",
]


def __dir__() -> list[str]:
    return __all__
