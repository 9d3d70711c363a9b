"""What the applications wrote, as they themselves know it: the demo's evidence.

Each write names the write that it overwrote, since it asks the table for the item that stood. That
makes the writes of a key a tree, and a fork of it a conflict: two regions wrote over the same item
because neither had seen the other. This counts conflicts without asking the replicators. It counts
too few, never too many: what was written where nothing stood has no predecessor to fork from.

Pure. This module must not know how a write is made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an application did to an item."""

    PUT = "put"
    UPDATE = "partial update"
    DELETE = "delete"
    RECREATE = "re-create"


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One acknowledged write. `overwrote`: the id of the write that it found, if any stood."""

    id: str
    region: str
    table: str
    key: str
    kind: Kind
    overwrote: str | None


class Journal:
    """All acknowledged writes."""

    def __init__(self) -> None:
        self._kinds: Counter[Kind] = Counter()
        self._regions: Counter[tuple[str, str]] = Counter()
        self._deleted: set[tuple[str, str]] = set()
        self._successors: defaultdict[str, set[str]] = defaultdict(set)

    def record(self, write: Write) -> None:
        """Take down a write, a put where a delete was the last thing known as a re-create."""
        place = (write.table, write.key)
        kind = write.kind
        if kind is Kind.PUT and write.overwrote is None and place in self._deleted:
            kind = Kind.RECREATE
        if kind is Kind.DELETE:
            self._deleted.add(place)
        else:
            self._deleted.discard(place)
        self._kinds[kind] += 1
        self._regions[write.table, write.region] += 1
        if write.overwrote is not None:
            self._successors[write.overwrote].add(write.region)

    @property
    def total(self) -> int:
        """How many writes were made."""
        return self._kinds.total()

    @property
    def conflicts(self) -> int:
        """How often a region wrote over an item that another region had written over as well."""
        return sum(len(regions) - 1 for regions in self._successors.values())

    def kinds(self) -> dict[Kind, int]:
        """How many writes of each kind were made."""
        return {kind: self._kinds[kind] for kind in Kind}

    def of(self, table: str, region: str) -> int:
        """How many writes a region made to a table."""
        return self._regions[table, region]
