"""A crash at every point of the protocol and around it, from the sources and not from a list."""

from __future__ import annotations

import pytest

from conflict.merge import deliver
from conflict.operations import KeyState, Outcome, Result
from replicator.records import Mode
from simulation.crash_points import LONG, all_cases, pairs, sweep
from simulation.points import AROUND, UNREACHABLE, Moment, point_of, points
from support.scenes import at, shipment

SWEPT = [seed for seed in range(144) if seed % 16 not in LONG]
PAIRED = range(10_000, 10_080)
AT_LEAST = 420
"""Of the cases, this many at least have a place in the schedules of SWEPT; `make soak` has all."""


def test_a_crash_at_any_point_breaks_nothing() -> None:
    """Before a call, after it, with its answer lost, overtaken: what must hold holds."""
    tally = sweep(SWEPT)

    assert not tally.failures, "\n".join(tally.failures)
    assert len(tally.hit) >= AT_LEAST
    assert {case.moment for case in tally.hit} == set(Moment)
    assert {case.mode for case in tally.hit} == set(Mode)


def test_a_second_crash_breaks_nothing() -> None:
    """Also not while what the first has left is being put right."""
    tally = pairs(PAIRED)

    assert not tally.failures, "\n".join(tally.failures)
    assert tally.run == len(PAIRED)


@pytest.mark.parametrize("mode", Mode)
def test_points_are_read_from_the_sources(mode: Mode) -> None:
    """Each yielded operation is a point, by the way that leads to it; what no run can take is
    named with its reason."""
    found = points(mode)

    assert len(found) == len(set(found)) > len(AROUND)
    assert not set(found) & UNREACHABLE[mode].keys()
    assert len(all_cases(mode)) == 3 * (4 * (len(found) - len(AROUND)) + 3 * len(AROUND))


def test_a_stopped_step_names_its_point() -> None:
    """By the way down the generators; the second Put of a function is another than the first."""
    steps = deliver("eu", shipment(at(20, "us", 5), "v"))
    answers: list[Result] = [None, Outcome(False, None), KeyState()]
    seen = []
    for answer in answers:
        steps.send(answer)
        seen.append(point_of(steps).rpartition(" > ")[2])

    assert seen == ["bring: Put", "bring: ReadState", "bring: Put #2"]
    assert point_of(steps) in points(Mode.MULTI_WRITER)
