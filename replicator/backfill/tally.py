"""What was counted: items and units read, and per target what became of the items.

Tallies add up: of pages to those of a segment, of segments to that of the job.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

import msgspec

from conflict.seed import Seeded

REFUSED = "refused"
"""Can never be written as it is; kept in the quarantine."""

UNITS = "units"
"""Write units of what was written."""

OUTCOMES = (*(seeded.value for seeded in Seeded), REFUSED)


class _Document(TypedDict):
    items: int
    read_units: float
    targets: dict[str, dict[str, int | float]]


@dataclass(slots=True)
class Tally:
    """Counts that only grow."""

    items: int = 0
    read_units: float = 0.0
    targets: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add another to this one."""
        self.items += other.items
        self.read_units += other.read_units
        for target, counts in other.targets.items():
            self.targets.setdefault(target, Counter()).update(counts)

    def plus(self, other: Tally) -> Tally:
        """This and another, in a tally of their own."""
        return Tally.sum((self, other))

    def count(self, outcome: str) -> int:
        """How often something came of an item, in all targets together."""
        return sum(counts[outcome] for counts in self.targets.values())

    @property
    def document(self) -> dict[str, Any]:
        """The tally, ready for JSON."""
        return {
            "items": self.items,
            "read_units": self.read_units,
            "targets": {
                target: {name: counts[name] for name in (*OUTCOMES, UNITS)}
                for target, counts in self.targets.items()
            },
        }

    @property
    def text(self) -> str:
        """The tally as one text."""
        return json.dumps(self.document)

    @classmethod
    def of(cls, text: str) -> Self:
        """The tally that a text states. Raises: msgspec.DecodeError where it states none."""
        document = msgspec.json.decode(text, type=_Document)
        targets: dict[str, Any] = {
            target: Counter(counts) for target, counts in document["targets"].items()
        }
        return cls(document["items"], document["read_units"], targets)

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Self:
        """All of them together."""
        total = cls()
        for tally in tallies:
            total.add(tally)
        return total
