"""Rounds, computed away from the people who answer.

A process of its own. A thread would share Python's one lock with the requests, and tracing a
program for JAX holds it for hundreds of milliseconds.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from bayesal import campaign as campaigns
from bayesal import errors
from bayesal.campaign import Campaign

NICE = 5  # people who answer come first


class State(NamedTuple):
    """What is told to everybody who looks.

    round, settled, size: how far the round is; `size` 0: nothing is left to ask.
    training: a round is being computed.
    error: why the last one could not be, in words.
    """

    round: int
    settled: int
    size: int
    training: bool
    error: str | None


def look(campaign: Campaign, say: Callable[[State], None]) -> None:
    """Compute rounds for as long as one is due, and say how far it is; errors are said too."""
    try:
        while (due := campaign.due()).ready:
            say(_state(due, training=True))
            if campaign.step() is None and campaign.due().ready:
                return  # another process computes it
        say(_state(due))
    except BrokenPipeError:  # the server has ended
        raise
    except Exception as error:  # whatever a recipe's functions raise: people go on
        logging.getLogger("bayesal").exception("the round could not be computed")
        say(_state(campaign.due(), error=in_words(error)))


def watch(campaign: Campaign, say: Callable[[State], None]) -> None:
    """How far the round is, where another process computes."""
    due = campaign.due()
    say(_state(due, training=due.ready))


def in_words(error: BaseException) -> str:
    """One line about an error."""
    text = str(error).strip() or "no message"
    named = text if isinstance(error, errors.BayesalError) else f"{type(error).__name__}: {text}"
    return " ".join(named.split())[:500]


def _state(due: Any, *, training: bool = False, error: str | None = None) -> State:
    return State(
        round=due.round, settled=due.settled, size=due.size, training=training, error=error
    )


def main() -> None:
    """Look whenever a line comes in; states go out as lines of JSON, and `null` ends a look.

    The first line is the store: its URL may hold a password, which arguments would show to all.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a recipe's functions print goes to the log
    if hasattr(os, "nice"):
        os.nice(NICE)

    def say(state: State | None) -> None:
        print(json.dumps(state and state._asdict()), file=out, flush=True)

    campaign = campaigns.open(sys.stdin.readline().strip())
    with contextlib.suppress(BrokenPipeError):
        for _ in sys.stdin:  # ends with the server, however that ends
            look(campaign, say)
            say(None)
