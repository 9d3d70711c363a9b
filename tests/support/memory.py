"""One region in memory: a table, what is remembered of its keys, and a stream with shards.

`execute` carries out one operation of the protocol, atomically, with DynamoDB's semantics: this is
the fake that the simulator runs on, and it passes the same contract suite as the real engines.
Shards close and split at will, which no obtainable engine does.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from conflict.operations import (
    Absent,
    AnyOperation,
    AttributeValue,
    Delete,
    Expected,
    Get,
    Guard,
    Hold,
    Holds,
    Image,
    Item,
    Key,
    KeyState,
    Older,
    Outcome,
    Put,
    RaiseTombstone,
    ReadState,
    Release,
    Result,
    Stamp,
)
from conflict.version import Version, order
from replicator.records import EventName, Record, Shard, ViewType

MARKER = "_replicator"


@dataclass(slots=True)
class MemoryShard:
    """A shard: the keys whose hash ends in `bits` of `depth` binary digits, and their records."""

    id: str
    parent: str | None
    depth: int = 0
    bits: int = 0
    closed: bool = False
    records: list[Record] = field(default_factory=list)
    trimmed_to: int = 0
    """The last sequence that retention has taken away."""
    gone: bool = False
    """Whether nothing is left of it, and the stream does not list it any more."""


class MemoryStream:
    """The shards of one table's stream."""

    def __init__(self, view: ViewType = ViewType.NEW_AND_OLD_IMAGES) -> None:
        self.view = view
        self.shards = [MemoryShard("shard-0", None)]
        self.written = 0
        self.generation = 0
        """Which stream of its table this is: what its ARN tells."""

    def append(self, key: Key, old: Image | None, new: Image | None, created_us: int) -> None:
        """Record a change."""
        self.written += 1
        event = EventName.REMOVE if new is None else EventName.MODIFY
        if old is None:
            event = EventName.INSERT
        keeps_old = self.view in (ViewType.OLD_IMAGE, ViewType.NEW_AND_OLD_IMAGES)
        keeps_new = self.view in (ViewType.NEW_IMAGE, ViewType.NEW_AND_OLD_IMAGES)
        self._shard_of(key).records.append(
            Record(
                sequence=self.written,
                created_us=created_us,
                event=event,
                keys=key.attributes,
                old=old if keeps_old else None,
                new=new if keeps_new else None,
            )
        )

    def split(self, shard: MemoryShard, children: int) -> None:
        """Close a shard; one child takes over its keys, or two share them."""
        shard.closed = True
        for child in range(children):
            depth = shard.depth + (children > 1)
            bits = shard.bits | child << shard.depth
            name = f"shard-{len(self.shards)}"
            self.shards.append(MemoryShard(name, shard.id, depth, bits))

    def describe(self) -> tuple[Shard, ...]:
        """The shards as DescribeStream lists them."""
        listed = (shard for shard in self.shards if not shard.gone)
        return tuple(Shard(id=s.id, parent=s.parent, closed=s.closed) for s in listed)

    def trim(self, sequence: int) -> int:
        """Take away every record up to this one, and what is empty then; how many were lost."""
        lost = 0
        for shard in self.shards:
            kept = [record for record in shard.records if record.sequence > sequence]
            if len(kept) < len(shard.records):
                shard.trimmed_to = min(sequence, shard.records[-1].sequence)
            lost += len(shard.records) - len(kept)
            shard.records = kept
            shard.gone = shard.gone or (shard.closed and not kept)
        return lost

    def renew(self) -> int:
        """Turn the stream off and on: a new one, without the records; how many were lost."""
        lost = self.trim(self.written)
        for shard in self.shards:
            shard.closed = shard.gone = True
        self.shards.append(MemoryShard(f"shard-{len(self.shards)}", None))
        self.generation += 1
        return lost

    def shard(self, name: str) -> MemoryShard:
        """A shard by its id."""
        return self.shards[int(name.rpartition("-")[2])]

    def open_shards(self) -> list[MemoryShard]:
        """The shards that take writes."""
        return [shard for shard in self.shards if not shard.closed]

    def _shard_of(self, key: Key) -> MemoryShard:
        digest = zlib.crc32(key.id.encode())
        for shard in self.shards:
            if not shard.closed and digest & ((1 << shard.depth) - 1) == shard.bits:
                return shard
        raise AssertionError("the shards do not cover every key")


class MemoryRegion:
    """A table with its stream, tombstones and held writes."""

    def __init__(
        self,
        name: str,
        *,
        view: ViewType = ViewType.NEW_AND_OLD_IMAGES,
        reports_unchanged: bool = False,
    ) -> None:
        self.name = name
        self.items: dict[str, Item] = {}
        self.states: dict[str, KeyState] = {}
        self.stream = MemoryStream(view)
        self.now_us = 0
        self._reports_unchanged = reports_unchanged  # moto and dynoxide do; AWS does not

    # --- as the protocol sees it --------------------------------------------------------------

    def execute(self, operation: AnyOperation) -> Result:
        """Carry out one operation; see conflict.operations for what comes back."""
        key = operation.key
        match operation:
            case Get():
                return self.items.get(key.id)
            case Put():
                return self._put(key, operation.item, operation.expected)
            case Stamp():
                return self._stamp(operation)
            case Delete():
                return self._delete(key, operation.expected)
            case ReadState():
                return self.states.get(key.id, KeyState())
            case RaiseTombstone():
                return self._raise_tombstone(key, operation.version)
            case Hold():
                self._hold(key, operation.item)
                return None
            case Release():
                self._release(key, operation.before)
                return None
            case _:
                assert_never(operation)

    def _put(self, key: Key, item: Item, expected: Expected) -> Outcome:
        standing = self.items.get(key.id)
        if not _meets(standing, expected):
            return Outcome(False, standing)
        self.write(key, item)
        return Outcome(True, standing)

    def _stamp(self, operation: Stamp) -> Outcome:
        standing = self.items.get(operation.key.id)
        if standing is None or not _meets(standing, operation.expected):
            return Outcome(False, standing)
        if operation.guard is not None and not _guarded(standing.image, operation.guard):
            return Outcome(False, standing)
        stamped = standing.stamped(operation.version)
        self.write(operation.key, stamped)
        return Outcome(True, stamped)

    def _delete(self, key: Key, expected: Expected) -> Outcome:
        standing = self.items.get(key.id)
        if standing is None or not _meets(standing, expected):
            return Outcome(False, standing)
        self.write(key, None)
        return Outcome(True, standing)

    def _raise_tombstone(self, key: Key, version: Version) -> Version | None:
        state = self.states.get(key.id, KeyState())
        if state.tombstone is not None and order(state.tombstone) >= order(version):
            return state.tombstone
        self.states[key.id] = replace(state, tombstone=version)
        return None

    def _hold(self, key: Key, item: Item) -> None:
        state = self.states.get(key.id, KeyState())
        held = state.held.version if state.held else None
        if order(held) < order(item.version):
            self.states[key.id] = replace(state, held=item)

    def _release(self, key: Key, before: int) -> None:
        state = self.states.get(key.id, KeyState())
        held = state.held.version if state.held else None
        if held is not None and held.sequence < before:
            self.states[key.id] = replace(state, held=None)

    # --- as an application sees it ------------------------------------------------------------

    def write(self, key: Key, item: Item | None) -> None:
        """Write or (None) delete an item, unconditionally."""
        old = self.items.get(key.id)
        if old == item and not (self._reports_unchanged and item is not None):
            return
        if item is None:
            del self.items[key.id]
        else:
            self.items[key.id] = item
        self.stream.append(key, _whole(old), _whole(item), self.now_us)

    def image(self, key: Key) -> Image | None:
        """What stands under a key, marker left out."""
        item = self.items.get(key.id)
        return None if item is None else item.image


def _meets(standing: Item | None, expected: Expected) -> bool:
    match expected:
        case Absent():
            return standing is None
        case Holds(marker):
            return standing is not None and standing.marker == marker
        case Older(than):
            return standing is not None and _text(standing.marker) < than.order_text
        case _:
            assert_never(expected)


def _text(marker: AttributeValue | None) -> str:
    """A marker's text; what is no text compares as higher than any, hence is not older."""
    text = (marker or {}).get("S")
    return text if isinstance(text, str) else "\U0010ffff"


def _guarded(image: Image, guard: Guard) -> bool:
    return all(image.get(name) == value for name, value in guard.equal.items()) and not any(
        name in image for name in guard.missing
    )


def _whole(item: Item | None) -> Image | None:
    if item is None:
        return None
    if item.marker is None:
        return item.image
    whole: Mapping[str, AttributeValue] = {**item.image, MARKER: item.marker}
    return whole
