"""Replicators that are away for 25 hours: their gaps are told, mended and closed; all is equal."""

from __future__ import annotations

import pytest

from simulation.coverage import Situation, table
from simulation.run import Span, run_span
from simulation.schedule import Loss, Outage, draw, with_outage

BLOCK_SEEDS = 250
BLOCKS = 2

AT_LEAST = {
    Situation.LOST: 800,
    Situation.GAP: 250,
    Situation.MENDED: 60,
    Situation.UNDECIDED: 20,
    Situation.ZOMBIE: 30,
}
"""In so many schedules: about a third of what is seen."""


@pytest.mark.parametrize("block", range(BLOCKS))
def test_what_retention_took_is_mended(block: int) -> None:
    """Beside live writes, with passes that are cut: no gap stays, and every region ends equal."""
    first = block * BLOCK_SEEDS

    total = run_span(Span(first, first + BLOCK_SEEDS, outage=True))

    assert not total.failures, "\n".join(total.failures)
    rare = {s: total.coverage[s] for s, least in AT_LEAST.items() if total.coverage[s] < least}
    assert not rare, f"seeds {first} to {first + BLOCK_SEEDS}:\n{table(total.coverage)}"


def test_every_kind_of_outage_is_drawn() -> None:
    """One replicator or all, a stream that is trimmed or made anew, writes all the while."""
    drawn = [(draw(seed), with_outage(draw(seed)).outage) for seed in range(300)]

    outages = [(schedule, outage) for schedule, outage in drawn if isinstance(outage, Outage)]
    assert len(outages) == len(drawn)
    assert {outage.loss for _, outage in outages} == set(Loss)
    several = [(s, o) for s, o in outages if len(s.sources) > 1]
    assert {set(o.away) == set(s.sources) for s, o in several} == {True, False}
    assert {outage.later > 0 for _, outage in outages} == {True, False}
