"""Who gets which item: pure functions of what is in the store."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Tally(NamedTuple):
    """Who said what about a row, among answers that count.

    decided: annotators with a label or a rejection.
    unsure: annotators who cannot tell.
    later: annotators who skipped it in this round.
    holding: annotators who have it in front of them now.
    """

    decided: set[str]
    unsure: set[str]
    later: set[str]
    holding: set[str]


def tallies(
    answers: Iterable[Any], leases: Iterable[Any], round: int, now: float
) -> dict[int, Tally]:
    """The tally of every row that somebody answered or holds.

    Args:
      answers: with row, annotator, round and kind; revoked ones left out.
      leases: with row, annotator, issued and until.
    """
    found: dict[int, Tally] = defaultdict(lambda: Tally(set(), set(), set(), set()))
    for answer in answers:
        row = found[answer.row]
        if answer.kind in ("label", "reject"):
            row.decided.add(answer.annotator)
        elif answer.kind == "abstain":
            row.unsure.add(answer.annotator)
        elif answer.round == round:
            row.later.add(answer.annotator)
    for lease in leases:
        if live(lease, now):
            found[lease.row].holding.add(lease.annotator)
    for row in found.values():
        row.holding.difference_update(row.decided, row.unsure, row.later)
    return found


def live(lease: Any, now: float) -> bool:
    """Whether a lease still keeps its item. One from the future is dead: the clock was set back."""
    return lease.issued <= now < lease.until


def settled(tally: Tally, wanted: int, people: int) -> bool:
    """Whether a row needs no more answers: enough decided, or nobody is left who could.

    Args:
      people: annotators who have answered anything so far.
    """
    decided, unsure = len(tally.decided), len(tally.unsure)
    return decided >= wanted or (unsure > 0 and (unsure > wanted or decided + unsure >= people))


def offered(
    rows: Mapping[int, int], found: dict[int, Tally], annotator: str, most: int
) -> list[int]:
    """Rows for an annotator, in the order of the round: what she holds, what is free, and at last
    what she has put off.

    Args:
      rows: of the batch in their order, and how many decisions are wanted about each.
    """
    nobody = Tally(set(), set(), set(), set())
    tally = {row: found.get(row, nobody) for row in rows}

    def free(row: int) -> bool:
        one, wanted = tally[row], rows[row]
        answered = annotator in one.decided | one.unsure
        others = len((one.decided | one.holding) - {annotator})
        return not answered and others < wanted and len(one.unsure) <= wanted

    held = [row for row in rows if annotator in tally[row].holding]
    fresh = [row for row in rows if row not in held and free(row)]
    later = [row for row in fresh if annotator in tally[row].later]
    return [*held, *(row for row in fresh if row not in later), *later][:most]
