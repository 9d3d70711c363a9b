"""A flow without a pipeline: its changes are made by number, and its tasks end when a test says."""

from __future__ import annotations

from conflict.merge import Settlement, Shipment
from conflict.operations import Item, Key
from conflict.origin import Change, Nature
from conflict.version import Kind, Version
from replicator.flow import Flow
from replicator.records import Mode
from replicator.tasks import DeliverTask, SetAside, SettleTask, Task

TARGETS = ("eu", "ap")


def key(name: str) -> Key:
    """A key."""
    return Key({"id": {"S": name}}, name)


def change(
    sequence: int, name: str = "k", nature: Nature = Nature.WRITTEN, old: Version | None = None
) -> Change:
    """A change, whose time is its sequence."""
    image = {"id": {"S": name}, "n": {"N": str(sequence)}}
    return Change(
        key=key(name),
        sequence=sequence,
        created_us=sequence,
        nature=nature,
        old=Item(image, {"S": old.text}) if old else None,
        new=None if nature is Nature.DELETED else Item(image, None),
    )


def shipped(made: Change, *, release: bool = False) -> Settlement:
    """What settling a change would ship."""
    version = Version(made.created_us, "us", made.sequence, Kind.SETTLED)
    item = made.new.stamped(version) if made.new else None
    return Settlement(Shipment(made.key, version, item, made.created_us), release=release)


class FlowBench:
    """A flow, and the tasks that it has handed out and that have not ended."""

    def __init__(
        self, *, targets: tuple[str, ...] = TARGETS, mode: Mode = Mode.MULTI_WRITER
    ) -> None:
        self.flow = Flow(home="us", targets=targets, mode=mode)
        self.running: list[Task] = []

    def offer(self, *changes: Change | SetAside, shard: str = "s") -> None:
        """One page."""
        self.running += self.flow.offer(shard, changes)

    def settle(self, sequence: int, result: Settlement | None = None) -> None:
        """End the settling of a change."""
        (task,) = [
            task
            for task in self.running
            if isinstance(task, SettleTask) and task.entry.change.sequence == sequence
        ]
        self.running.remove(task)
        self.running += self.flow.settled(task, result or shipped(task.entry.change))

    def deliver(self, target: str, sequence: int) -> None:
        """End the delivery of a change to a target."""
        (task,) = [
            task
            for task in self.running
            if isinstance(task, DeliverTask)
            and (task.region, task.shipment.version.sequence) == (target, sequence)
        ]
        self.running.remove(task)
        self.running += self.flow.delivered(task)

    @property
    def settling(self) -> list[int]:
        """The sequences being settled at home."""
        return [t.entry.change.sequence for t in self.running if isinstance(t, SettleTask)]

    def delivering(self, target: str) -> list[int]:
        """The sequences being delivered to a target."""
        return [
            t.shipment.version.sequence
            for t in self.running
            if isinstance(t, DeliverTask) and t.region == target
        ]
