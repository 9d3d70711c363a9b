"""What is parked, as far as one execution environment knows: looked at once in a while.

A session begins by counting what is parked, so that a later change of a key takes the parked one
out. Under Lambda each invocation is a session, and a query for each would cost more than most
batches. So what was found is kept between invocations, with what this environment has parked and
taken out since. Others may have done so too: what is known may be `EVERY_S` old, and a change that
another environment parked within that time is not yet beaten by one that arrives here.

This module must not know batches, nor when it is looked.
"""

from __future__ import annotations

from math import inf

from replicator.ports import Quarantine
from replicator.records import Parked, ParkedNote

EVERY_S = 30.0
"""As often as the process counts."""


class KnownParked:
    """ports.Quarantine of one table, whose notes are those of the last look."""

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine
        self._known: dict[tuple[str, str, str], ParkedNote] = {}
        self._looked_s = -inf

    async def look(self, table: str, now_s: float) -> None:
        """Find out what is parked, if that was long ago. Raises: ReplicatorError."""
        if now_s - self._looked_s < EVERY_S:
            return
        self._looked_s = now_s  # also where it fails: what was known stands, and no batch waits
        notes = await self._quarantine.notes(table)
        self._known = {_place(note): note for note in notes}

    async def park(self, parked: Parked) -> None:
        """Keep a change, and know of it; an older version of it gives way."""
        await self._quarantine.park(parked)
        known = self._known.get(_place(parked))
        if known is None or known.version.order < parked.version.order:
            self._known[_place(parked)] = parked.note()

    async def notes(self, table: str) -> list[ParkedNote]:
        """What is known to be parked."""
        return [note for note in self._known.values() if note.table == table]

    async def remove(self, parked: ParkedNote) -> bool:
        """Take out a change, and forget it; False when a newer one has replaced it."""
        removed = await self._quarantine.remove(parked)
        known = self._known.get(_place(parked))
        if known is not None and known.version == parked.version:
            del self._known[_place(parked)]
        return removed


def _place(note: ParkedNote) -> tuple[str, str, str]:
    return note.source, note.target, note.key.id
