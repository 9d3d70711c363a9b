"""The count of what was survived is no more than what was."""

from __future__ import annotations

from support.blows import Blow, Blows, told


def test_only_what_was_struck_before_a_comparison_counts() -> None:
    """Once; and the next test begins at nothing."""
    blows = Blows()
    blows.strike(Blow.KILL)
    blows.strike(Blow.CUT)
    blows.compared()
    blows.compared()
    blows.strike(Blow.KILL)
    assert blows.take() == {"SIGKILL": 1, "cut link": 1}
    blows.compared()
    assert blows.take() == {}


def test_the_sum_is_told_in_one_line() -> None:
    """Tests that struck nothing are no tests of it."""
    found = [{"SIGKILL": 2}, {}, {"SIGKILL": 1, "SIGSTOP": 1}]
    assert told(found) == (
        "survived with equal tables: 3 SIGKILL, 1 SIGSTOP, 0 cut link (in 2 tests)"
    )
    assert told([{}]) is None
