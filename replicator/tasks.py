"""What the flow hands out: the tasks of a change at its three stations, and how each is begun.

A task carries the records that wait for it, so that whoever is told how it ended knows what is
settled by that. Which steps a task takes is a matter of the table's mode (`PLANS`).

Pure: this module must not know when a task runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from conflict.merge import Delivery, Settlement, Shipment, Steps, deliver, newest
from conflict.one_way import deliver_one_way, newest_one_way, settle_one_way
from conflict.origin import Change
from conflict.protocol import release, settle
from conflict.values import value
from replicator.records import Mode
from replicator.watermark import Token


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that a table's mode asks for."""

    settle: Callable[[str, Change], Steps[Settlement]]
    deliver: Callable[[str, Shipment], Steps[Delivery]]
    release: Callable[[str, Change], Steps[None]]
    newest: Callable[[Shipment, Shipment], Shipment]


PLANS = {
    Mode.MULTI_WRITER: Plan(settle, deliver, release, newest),
    Mode.ONE_WAY: Plan(settle_one_way, deliver_one_way, release, newest_one_way),
}


@value(frozen=True, slots=True)
class SetAside:
    """A record that no change could be made of, and that has been parked durably."""

    sequence: int


@dataclass(slots=True)
class Entry:
    """A change at home, with the records that are settled when it is."""

    change: Change
    tokens: list[Token]


@dataclass(slots=True)
class Voyage:
    """A change under way to its targets."""

    entry: Entry
    release: bool
    remaining: int
    contended: bool


@value(frozen=True, slots=True, eq=False)
class SettleTask:
    """Settle a change at home."""

    region: str
    entry: Entry
    plan: Plan

    def start(self) -> Steps[Settlement]:
        return self.plan.settle(self.region, self.entry.change)


@value(frozen=True, slots=True, eq=False)
class DeliverTask:
    """Bring a shipment to one target."""

    region: str
    shipment: Shipment
    voyages: list[Voyage]
    plan: Plan

    def start(self) -> Steps[Delivery]:
        return self.plan.deliver(self.region, self.shipment)

    def note_conflict(self) -> bool:
        """Note that the write was decided against a concurrent one; whether that is news.

        One write that wins over the same rival in several targets is one conflict.
        """
        news = not any(voyage.contended for voyage in self.voyages)
        for voyage in self.voyages:
            voyage.contended = True
        return news


@value(frozen=True, slots=True, eq=False)
class ReleaseTask:
    """Forget a held write that has been decided."""

    region: str
    entry: Entry
    plan: Plan

    def start(self) -> Steps[None]:
        return self.plan.release(self.region, self.entry.change)


Task: TypeAlias = SettleTask | DeliverTask | ReleaseTask
