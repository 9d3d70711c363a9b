"""What the tests do to real processes and links, and how much of it was survived.

A blow is struck in the midst of a test; it counts as survived when the tables are found equal
after it, and the test passes. What is killed at the end of a test, to be rid of it, is no blow.
Tests that hold the tables against something else, or compare nothing, are not counted.

The end of a run says the sum: `told`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum


class Blow(StrEnum):
    """Its kinds, as they are told."""

    KILL = "SIGKILL"
    STOP = "SIGSTOP"
    CUT = "cut link"


PROPERTY = "survived"
"""The property of a test's report under which it says its figures."""


class Blows:
    """Those of one test."""

    def __init__(self) -> None:
        self._struck: Counter[str] = Counter()
        self._survived: Counter[str] = Counter()

    def strike(self, blow: Blow) -> None:
        """Note one, in the moment that it is struck."""
        self._struck[blow.value] += 1

    def compared(self) -> None:
        """The tables are equal: what was struck up to now did them no harm."""
        self._survived += self._struck
        self._struck.clear()

    def take(self) -> dict[str, int]:
        """What was survived; forgotten with all else, for the next test."""
        survived = dict(self._survived)
        self._struck.clear()
        self._survived.clear()
        return survived


BLOWS = Blows()
"""Of the test that runs in this process, for it strikes from many places."""


def told(tests: Iterable[dict[str, int]]) -> str | None:
    """One line of the figures of all tests that passed; None where nothing was struck."""
    figures = [figure for figure in tests if figure]
    if not figures:
        return None
    total = sum(map(Counter, figures), Counter[str]())
    parts = ", ".join(f"{total[blow.value]} {blow.value}" for blow in Blow)
    return f"survived with equal tables: {parts} (in {len(figures)} tests)"
