"""The table operations that a step of the protocol may ask for, and what comes back.

A step is a generator: it yields one of these values and is sent its result. It neither knows nor
cares whether DynamoDB, an emulator or a simulated world answers. Each operation is atomic, each
write is conditional, and a condition that does not hold is an outcome, not an error.

Images are AttributeValue maps in wire form (`{"id": {"S": "7"}}`); they are passed on verbatim and
never changed in place. The marker is kept beside the image, not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeAlias, TypeVar

from conflict.values import value
from conflict.version import Kind, Version, parse

AttributeValue: TypeAlias = Mapping[str, object]
Image: TypeAlias = Mapping[str, AttributeValue]

T = TypeVar("T")


@value(frozen=True, slots=True)
class Key:
    """The primary key of an item: its attributes, and a canonical text that identifies it."""

    attributes: Image
    id: str


@value(frozen=True, slots=True)
class Item:
    """An item: its image without the marker, and the marker's raw value (None: it carries none).

    `doubted`: the marker states a version from too far ahead, see `judged`.
    """

    image: Image
    marker: AttributeValue | None
    doubted: bool = False

    @property
    def version(self) -> Version | None:
        """What the marker states; None for no marker, and for one that states nothing credible."""
        return None if self.doubted else version_of(self.marker)

    def stamped(self, version: Version) -> Item:
        """The same image under another version."""
        return Item(self.image, marker_of(version))


def marker_of(version: Version) -> AttributeValue:
    """The marker's value that states `version`."""
    return {"S": version.text}


def version_of(marker: AttributeValue | None) -> Version | None:
    """The version that a marker's value states, None where it states none."""
    if marker is None:
        return None
    text = marker.get("S")
    return parse(text) if isinstance(text, str) else None


REPLICATOR_SLACK_US = 3_600_000_000
"""How much further ahead than an application's the stamp of a replicator may lie: an hour.

A replicator gives no version beyond its own clock's bound, so one that lies further ahead is a
forgery or a copy. The slack is for clocks: AWS refuses a request whose clock is minutes off.
Source: IAM, Signature Version 4, "requests must reach AWS within five minutes".
"""


def judged(item: Item | None, limit_us: int) -> Item | None:
    """The item as it is to be believed at the moment it was read.

    `limit_us`: the present time and the bound on the future. A version from beyond it counts as
    none: its item is taken for one that its application wrote without a version. The moment
    matters: a stamp that was doubted becomes credible when its time comes, so whoever reads judges
    then, never by an older limit.
    """
    if item is None or item.marker is None:
        return item
    version = version_of(item.marker)
    if version is None or version.time_us <= limit_us:
        return item
    if version.kind is not Kind.APPLICATION and version.time_us <= limit_us + REPLICATOR_SLACK_US:
        return item
    return Item(item.image, item.marker, doubted=True)


@value(frozen=True, slots=True)
class Absent:
    """Condition: no item stands under the key."""


@value(frozen=True, slots=True)
class Holds:
    """Condition: an item stands and its marker is exactly this value (None: it has no marker)."""

    marker: AttributeValue | None


@value(frozen=True, slots=True)
class Older:
    """Condition: an item stands and its marker sorts below this version."""

    than: Version


Expected: TypeAlias = Absent | Holds | Older


@value(frozen=True, slots=True)
class Guard:
    """Condition: these attributes stand with these values, those stand not."""

    equal: Image
    missing: tuple[str, ...] = ()


@value(frozen=True, slots=True)
class Outcome:
    """What a conditional write did.

    `done`: the condition held and the write is durable. `item`: after a stamp that was done, the
    item as it stands now; else the item that stood when the condition was tested (None: no item).
    """

    done: bool
    item: Item | None


@value(frozen=True, slots=True)
class KeyState:
    """What a region remembers of a key beside its table.

    `tombstone`: the version of the newest delete. `held`: a local write that was gone before it
    could be given its version; the REMOVE that follows it in the stream decides.
    """

    tombstone: Version | None = None
    held: Item | None = None


@value(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call against `region`, for one key; T is the type of its result."""

    region: str
    key: Key


@value(frozen=True, slots=True)
class Get(Operation["Item | None"]):
    """Strongly consistent read of the item."""


@value(frozen=True, slots=True)
class Put(Operation[Outcome]):
    """Replace the item as a whole."""

    item: Item
    expected: Expected


@value(frozen=True, slots=True)
class Stamp(Operation[Outcome]):
    """Change nothing but the marker of a standing item. `expected` is never Absent."""

    version: Version
    expected: Expected
    guard: Guard | None = None


@value(frozen=True, slots=True)
class Delete(Operation[Outcome]):
    """Delete the item. `expected` is Holds."""

    expected: Expected


@value(frozen=True, slots=True)
class ReadState(Operation[KeyState]):
    """Strongly consistent read of the key's state."""


@value(frozen=True, slots=True)
class RaiseTombstone(Operation["Version | None"]):
    """Raise the key's tombstone; the result is None when raised, else the one that stands.

    A tombstone only ever goes up: one of the same or a higher order stays as it is.
    """

    version: Version


@value(frozen=True, slots=True)
class Hold(Operation[None]):
    """Keep a local write aside, unless a newer one is held already."""

    item: Item


@value(frozen=True, slots=True)
class Release(Operation[None]):
    """Drop the held write if its sequence is below `before`."""

    before: int


AnyOperation: TypeAlias = Get | Put | Stamp | Delete | ReadState | RaiseTombstone | Hold | Release
Result: TypeAlias = Item | Outcome | KeyState | Version | None
