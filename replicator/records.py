"""The values that travel from the stream to the targets: all frozen, none knows any I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from conflict.operations import AttributeValue, Image, Key
from conflict.origin import Nature
from conflict.values import value
from conflict.version import Version


class ViewType(StrEnum):
    """What a stream record carries. Source: API_StreamSpecification, StreamViewType."""

    KEYS_ONLY = "KEYS_ONLY"
    NEW_IMAGE = "NEW_IMAGE"
    OLD_IMAGE = "OLD_IMAGE"
    NEW_AND_OLD_IMAGES = "NEW_AND_OLD_IMAGES"


class EventName(StrEnum):
    """What happened to the item. Source: API_streams_Record, eventName."""

    INSERT = "INSERT"
    MODIFY = "MODIFY"
    REMOVE = "REMOVE"


class Mode(StrEnum):
    """Who writes a table."""

    MULTI_WRITER = "multi-writer"
    ONE_WAY = "one-way"


class TtlDeletes(StrEnum):
    """What becomes of deletes by the time-to-live service."""

    REPLICATE = "replicate"
    IGNORE = "ignore"


class HeartbeatPlace(StrEnum):
    """Where heartbeats are written."""

    CONTROL = "control"
    TABLE = "table"
    OFF = "off"


@value(frozen=True, slots=True, kw_only=True)
class Record:
    """One stream record as read, marker still inside the images.

    `created_us` is ApproximateCreationDateTime in microseconds UTC. `ttl` tells a delete by the
    time-to-live service (userIdentity dynamodb.amazonaws.com). `event` is None for a name this
    version does not know; the images decide then. `size_bytes` is what its images take, by the
    stream's own word or as they came, 0 where that was not told.
    """

    sequence: int
    created_us: int
    event: EventName | None
    keys: Image
    old: Image | None = None
    new: Image | None = None
    ttl: bool = False
    size_bytes: int = 0


def weight(record: Record) -> int:
    """What a record takes in memory, about, in bytes of its wire form."""
    return record.size_bytes or sum(map(_weight, (record.keys, record.old, record.new)))


def _weight(value: object) -> int:
    match value:
        case str() | bytes():
            return len(value)
        case Mapping():
            return sum(len(name) + _weight(inner) for name, inner in value.items())
        case list() | tuple():
            return sum(map(_weight, value))
        case _:
            return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer of GetRecords: records in order, and where to go on (None: nowhere)."""

    records: tuple[Record, ...]
    next_iterator: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard as DescribeStream lists it. `closed`: an ending sequence number is listed."""

    id: str
    parent: str | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDescription:
    """A stream and its shards, all pages of DescribeStream together."""

    arn: str
    view_type: ViewType
    enabled: bool
    shards: tuple[Shard, ...] = ()


@dataclass(frozen=True, slots=True)
class TrimHorizon:
    """Start at the oldest record that the stream still holds."""


@dataclass(frozen=True, slots=True)
class After:
    """Start after this sequence number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The shard was read to its end and all of its records are settled."""


def covers(position: After | Finished | None, end: After | Finished) -> bool:
    """Whether a shard that has got to `position` (None: nowhere) has got as far as `end`."""
    match position:
        case None:
            return False
        case After(sequence):
            return isinstance(end, After) and sequence >= end.sequence
        case Finished():
            return True


Position = TrimHorizon | After | Finished
"""How far a shard is settled: what a checkpoint says."""


def further(one: After | Finished | None, other: After | Finished) -> After | Finished:
    """The position that lies further on; None lies before all."""
    if one is None or isinstance(other, Finished):
        return other
    if isinstance(one, Finished) or one.sequence >= other.sequence:
        return one
    return other


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far one shard of one stream is settled in every target."""

    table: str
    source: str
    stream_arn: str
    shard: str
    position: After | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedNote:
    """What is said of a parked change without its content. `target` is the region that refused it:
    another one, or the source itself where the change could not be settled at home."""

    table: str
    source: str
    target: str
    key: Key
    version: Version
    reason: str
    parked_us: int

    @property
    def at_home(self) -> bool:
        """Whether the source itself refused it."""
        return self.target == self.source

    def note(self) -> ParkedNote:
        """Without what it holds, for whoever remembers many: no bound on memory counts those."""
        return ParkedNote(
            table=self.table,
            source=self.source,
            target=self.target,
            key=self.key,
            version=self.version,
            reason=self.reason,
            parked_us=self.parked_us,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked(ParkedNote):
    """A change that can never be applied as it is, kept by key.

    `image` is None for a delete, and where the image left no room in the row for the rest
    (`image_omitted`): it must then be read from the source.

    So that a change that was refused at home can be made again: its `nature` (None where nothing
    could be made of its record), the `marker` that it carried, and `earliest_us`, the earliest time
    after all that it is known to have overwritten.
    """

    image: Image | None
    image_omitted: bool = False
    nature: Nature | None = None
    marker: AttributeValue | None = None
    earliest_us: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Records of a shard that the stream no longer held when they were due.

    `shard` is WHOLE_STREAM where the stream itself was replaced by another.
    """

    table: str
    source: str
    stream_arn: str
    shard: str
    since_us: int
    reason: str


WHOLE_STREAM = "*"
"""Stands in the place of a shard where all of them are meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDescription:
    """What DescribeTable says of one region's table.

    `key_schema` maps each key attribute to (HASH|RANGE, S|N|B), partition key first.
    """

    name: str
    key_schema: Mapping[str, tuple[str, str]]
    stream_arn: str | None = None
    view_type: ViewType | None = None
    active: bool = True
    ttl_attribute: str | None = None
    global_table_regions: tuple[str, ...] = field(default=())
