"""What a function knows to be parked: for every batch, at a query now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from conflict.version import Kind, Version
from replicator.errors import Transient
from replicator.lambda_parked import EVERY_S, KnownParked
from replicator.records import Parked, ParkedNote
from replicator.table import key_of

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """To its end."""
    return asyncio.run(work)


def parked(time_us: int, name: str = "7") -> Parked:
    """A change that eu-west-1 has refused."""
    return Parked(
        table="orders",
        source="us-east-1",
        target="eu-west-1",
        key=key_of({"id": {"S": name}}, ("id",)),
        version=Version(time_us, "us-east-1", 1, Kind.SETTLED),
        image={"id": {"S": name}},
        reason="too large",
        parked_us=1,
    )


@dataclass
class Stored:
    """ports.Quarantine that all environments share, and how often it was looked at."""

    rows: dict[str, Parked] = field(default_factory=dict)
    looks: int = 0
    down: bool = False

    async def park(self, parked: Parked) -> None:
        self.rows[parked.key.id] = parked

    async def notes(self, table: str) -> list[ParkedNote]:
        assert table == "orders"
        self.looks += 1
        if self.down:
            raise Transient("down")
        return list(self.rows.values())

    async def remove(self, parked: ParkedNote) -> bool:
        return self.rows.pop(parked.key.id, None) is not None


def names(known: KnownParked) -> list[str]:
    """The keys that are known to be parked."""
    return sorted(str(note.key.attributes["id"]["S"]) for note in run(known.notes("orders")))


def test_what_others_parked_is_known_after_a_look_and_asked_for_now_and_then() -> None:
    """Each batch asks; the control table is read once in `EVERY_S`."""
    stored = Stored()
    known = KnownParked(stored)
    run(stored.park(parked(1, "a")))
    for now_s in (0.0, 1.0, EVERY_S - 1):
        run(known.look("orders", now_s))
        assert names(known) == ["a"]
    assert stored.looks == 1
    run(stored.park(parked(1, "b")))
    run(known.look("orders", EVERY_S))
    assert names(known) == ["a", "b"]


def test_what_was_parked_and_taken_out_here_is_known_at_once() -> None:
    """Without what it holds, which would fill the memory of an environment."""
    known = KnownParked(Stored())
    run(known.look("orders", 0.0))
    run(known.park(parked(2)))
    (note,) = run(known.notes("orders"))
    assert not isinstance(note, Parked)
    run(known.park(parked(1)))  # the older one gives way
    assert run(known.notes("orders")) == [note]
    assert run(known.remove(note))
    assert names(known) == []


def test_what_is_known_stands_while_nothing_can_be_read() -> None:
    """And the control table is not asked again by each batch meanwhile."""
    stored = Stored()
    run(stored.park(parked(1, "a")))
    known = KnownParked(stored)
    run(known.look("orders", 0.0))
    stored.down = True
    with pytest.raises(Transient):
        run(known.look("orders", EVERY_S))
    run(known.look("orders", EVERY_S + 1))
    assert names(known) == ["a"]
