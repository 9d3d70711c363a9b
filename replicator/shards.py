"""Lineage: which shards of a stream may be read now.

A stream is a forest of shards. Within a shard the changes of a key are in order; across shards they
are in order only if a shard is read after its parent. So a shard is let out when its parent has
been read to its end, and the forest is grown from every answer of DescribeStream, none of which is
taken for the whole truth: an answer may lag behind, leave shards out, list children before their
parents, bring back what was read long ago, or contradict the one before.

Invariants:
  * a shard that was once seen stays until it has been read to its end;
  * a shard is let out once, unless `reset` asks for it again; never after it has ended;
  * a shard waits for its ancestors only while one is known and unread. A parent that was never seen
    was trimmed away, and there is nothing left of it to wait for. On a restart the parent may have
    been read to its end and theirs not: what a shard without records has to settle is nothing;
  * without a checkpoint a shard starts at TRIM_HORIZON: between the birth of a shard and its
    discovery records are written, and LATEST would lose them;
  * a shard with an unfinished checkpoint that is not listed any more is let out all the same: only
    the stream can say whether something was lost there, and it must be asked;
  * links among shards never form a ring: one that would close a ring is refused and reported.

"Ended" means read, not settled: on a restart the parent resumes from its own checkpoint first.
`Shard.closed` plays no part, since there are engines that call an open shard closed; only a null
iterator ends a shard, and whoever reads it says so by `ended`.

This module does no I/O, reads no clock and draws no random numbers; equal calls give equal answers,
in equal order. It must not know how shards are read or where checkpoints are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from replicator.records import After, Finished, Shard, TrimHorizon

FORGET_AFTER_DESCRIPTIONS = 100
"""A shard that was read is forgotten when this many answers in a row did not list it. One answer
alone may be wrong, and a shard that is forgotten too early would be read again if listed again."""


class AnomalyKind(StrEnum):
    """What a description can say that cannot be so."""

    OWN_PARENT = "own_parent"
    """A shard names itself as parent; it is read as a root."""
    RING = "ring"
    """A shard's parent descends from the shard; the shard is read as a root."""
    PARENT_CHANGED = "parent_changed"
    """A shard names another parent than before; the first one holds."""
    LATE_PARENT = "late_parent"
    """A parent turned up after its child was let out. It is read too, but out of order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A contradiction in what the stream says of itself, reported once."""

    kind: AnomalyKind
    shard: str
    parent: str


class _Stage(Enum):
    WAITING = auto()
    OPEN = auto()
    ENDED = auto()


@dataclass(slots=True)
class _Node:
    """What is known of one shard. `opened`: it was let out by this lineage."""

    start: TrimHorizon | After
    stage: _Stage = _Stage.WAITING
    parent: str | None = None
    opened: bool = False
    unlisted: int = 0


class Lineage:
    """The shards of one stream, and how far each has got."""

    def __init__(
        self,
        checkpoints: Mapping[str, After | Finished],
        *,
        forget_after: int = FORGET_AFTER_DESCRIPTIONS,
    ) -> None:
        """Start from stored positions; nothing is let out before the first description."""
        self._forget_after = forget_after
        self._nodes: dict[str, _Node] = {}
        self._waiting: dict[str, None] = {}
        self._reported: set[Anomaly] = set()
        self._described = False
        for shard, position in checkpoints.items():
            if isinstance(position, Finished):
                self._nodes[shard] = _Node(TrimHorizon(), _Stage.ENDED)
            else:
                self._add(shard, position)

    def observe(self, shards: Iterable[Shard]) -> list[Anomaly]:
        """Take in one description, however incomplete; returns what is newly found wrong."""
        self._described = True
        listed: set[str] = set()
        found: list[Anomaly] = []
        for shard in shards:
            listed.add(shard.id)
            found += self._learn(shard)
        found += self._late_parents()
        self._forget(listed)
        news = [anomaly for anomaly in dict.fromkeys(found) if anomaly not in self._reported]
        self._reported.update(news)
        return news

    def ready(self) -> list[tuple[str, TrimHorizon | After]]:
        """The shards that may be opened now and have not been, each with where to start."""
        if not self._described:
            return []
        return [
            (shard, self._nodes[shard].start) for shard in self._waiting if not self._held_up(shard)
        ]

    def opened(self, shard: str) -> None:
        """A reader has taken on the shard. Raises ValueError unless it was waiting."""
        node = self._expect(shard, _Stage.WAITING)
        node.stage, node.opened = _Stage.OPEN, True
        del self._waiting[shard]

    def ended(self, shard: str) -> None:
        """The shard was read to its end. Raises ValueError unless it was open."""
        self._expect(shard, _Stage.OPEN).stage = _Stage.ENDED

    def reset(self, shard: str, start: TrimHorizon | After | None = None) -> None:
        """The shard's reader failed: let the shard out again, from `start` or where it began.

        Raises ValueError unless it was open.
        """
        node = self._expect(shard, _Stage.OPEN)
        node.stage = _Stage.WAITING
        node.start = node.start if start is None else start
        self._waiting[shard] = None

    @property
    def waiting_shards(self) -> int:
        """How many known shards have not been opened."""
        return len(self._waiting)

    @property
    def open_shards(self) -> int:
        """How many shards are being read."""
        return sum(node.stage is _Stage.OPEN for node in self._nodes.values())

    @property
    def opened_shards(self) -> tuple[str, ...]:
        """The shards that are being read."""
        return tuple(name for name, node in self._nodes.items() if node.stage is _Stage.OPEN)

    @property
    def unread_shards(self) -> int:
        """How many known shards have not been read to their end."""
        return sum(node.stage is not _Stage.ENDED for node in self._nodes.values())

    @property
    def ended_shards(self) -> int:
        """How many shards have been read to their end and are not forgotten yet."""
        return sum(node.stage is _Stage.ENDED for node in self._nodes.values())

    def _learn(self, shard: Shard) -> list[Anomaly]:
        node = self._nodes.get(shard.id) or self._add(shard.id, TrimHorizon())
        parent = shard.parent
        if parent is None or parent == node.parent:
            return []
        if parent == shard.id:
            kind = AnomalyKind.OWN_PARENT
        elif node.parent is not None:
            kind = AnomalyKind.PARENT_CHANGED
        elif self._descends(parent, shard.id):
            kind = AnomalyKind.RING
        else:
            node.parent = parent
            return []
        return [Anomaly(kind=kind, shard=shard.id, parent=parent)]

    def _late_parents(self) -> list[Anomaly]:
        return [
            Anomaly(kind=AnomalyKind.LATE_PARENT, shard=shard, parent=node.parent)
            for shard, node in self._nodes.items()
            if node.opened and node.parent is not None and self._is_unread(node.parent)
        ]

    def _forget(self, listed: set[str]) -> None:
        """Drop what was read, has long been unlisted, and ties no waiting shard to another."""
        needed = {ancestor for shard in self._waiting for ancestor in self._waited_for(shard)}
        gone = []
        for shard, node in self._nodes.items():
            node.unlisted = 0 if shard in listed else node.unlisted + 1
            expired = node.stage is _Stage.ENDED and node.unlisted >= self._forget_after
            if expired and shard not in needed:
                gone.append(shard)
        for shard in gone:
            del self._nodes[shard]
        if gone:
            self._reported = {known for known in self._reported if known.shard in self._nodes}

    def _add(self, shard: str, start: TrimHorizon | After) -> _Node:
        node = self._nodes[shard] = _Node(start)
        self._waiting[shard] = None
        return node

    def _held_up(self, shard: str) -> bool:
        """Whether an ancestor is unread. It need not be the parent: of a shard that was read to its
        end nothing may be unsettled, and be checkpointed, while something of its parent still is.
        """
        return any(self._is_unread(ancestor) for ancestor in self._ancestors(shard))

    def _waited_for(self, shard: str) -> Iterator[str]:
        """The parent, and every ancestor by which the shard is tied to one that is unread."""
        way = []
        for ancestor in self._ancestors(shard):
            way.append(ancestor)
            if len(way) == 1 or self._is_unread(ancestor):
                yield from way
                way = [ancestor]

    def _is_unread(self, shard: str) -> bool:
        node = self._nodes.get(shard)
        return node is not None and node.stage is not _Stage.ENDED

    def _descends(self, shard: str, ancestor: str) -> bool:
        """Whether `ancestor` is `shard`, or among its known ancestors."""
        return shard == ancestor or ancestor in self._ancestors(shard)

    def _ancestors(self, shard: str) -> Iterator[str]:
        """Those that are known, the youngest first."""
        node = self._nodes.get(shard)
        while node is not None and node.parent is not None:
            yield node.parent
            node = self._nodes.get(node.parent)

    def _expect(self, shard: str, stage: _Stage) -> _Node:
        node = self._nodes.get(shard)
        if node is None or node.stage is not stage:
            stands = "unknown" if node is None else node.stage.name.lower()
            raise ValueError(f"shard {shard} is {stands}, not {stage.name.lower()}")
        return node
