"""The ledger of conflicts: each time that concurrent writes were decided, who won and who lost.

Global Tables keep no such record. Here every decision is noted twice: in a ring in memory, which
the page reads, and as a row of the source region's control table, kept for 30 days:

    conflict#<table>      <time in µs>#<source>#<digest of the key>#<digest of both versions>

The time is that of the write that won, so that a row is named by what was decided, and not by when:
a decision that is made again after a restart is the same row, and the first that was written
stands. (The counter of conflicts counts it again: it tells of the process.) Rows sort by that time.

A pipeline notes a decision where it makes it, which costs little without images; rows are written
behind it, 25 at a time. A row may be written twice and is then the same row. Nothing is lost
silently: what the control table does not take is tried again, what finds no room in the queue
meanwhile, or can never be written, is counted as `unwritten`. A process that is killed takes with
it what it noted within the last second or so: the decision itself is durable before it is noted.

Rows are data of the application only where the settings say so. Unless `keys` is on, a key is named
by a digest under a secret of the region: without it, short keys could be guessed. Unless `images`
is on, no item is kept, in memory neither; where it is, items are packed as they are noted, and wait
for their row in no more than so many bytes.

This module must not know what a conflict is; the protocol says so.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from types import MappingProxyType
from typing import Any

from conflict.merge import Shipment
from conflict.operations import Image, Item, Key
from conflict.version import TIME_DIGITS, Kind, Version
from replicator.control import (
    CONTROL_TTL_ATTRIBUTE,
    STATE,
    ControlTable,
    expiry,
    row_key,
)
from replicator.errors import Fatal, ReplicatorError, spoken
from replicator.packing import packed
from replicator.ports import Clock, Sleep
from replicator.requests import Wire
from replicator.telemetry import PipelineStats
from replicator.writer import first_of

log = logging.getLogger(__name__)

RETENTION_S = 30 * 24 * 3600
"""How long a conflict is kept."""

RING_MAX = 1_000
"""Newest conflicts of a process that the page can show."""

WRITE_BATCH_MAX = 25
"""Rows that are written at once."""

ROW_BYTES_MAX = 380_000
"""Above this a row is kept without its images. Source: Quotas, item size 400 KB."""

DIGEST_ROW = "secret#digest"
SECRET_BYTES = 32


def key_text(attributes: Image) -> str:
    """A key in clear, as one line of JSON."""
    return json.dumps(attributes, default=_as_base64, ensure_ascii=False)


def _as_base64(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    raise TypeError(f"no key holds a {type(value).__name__}")


NOT_KEPT: Image = MappingProxyType({})
"""In the place of what a write wrote."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two writes: its version, and what it wrote (None: it deleted)."""

    version: Version | None
    image: Image | None

    @property
    def bare(self) -> Side:
        """The same, with nothing of what it wrote but that it did."""
        return Side(self.version, None if self.image is None else NOT_KEPT)

    @property
    def document(self) -> dict[str, Any]:
        """What may be told of it without an item's data."""
        version = self.version
        return {
            "version": version and version.order_text,
            "origin": version and version.origin,
            "time_us": version and version.time_us,
            "deleted": self.image is None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two concurrent writes of a key, decided by the pipeline of `source` in `region`."""

    at_us: int
    table: str
    source: str
    region: str
    key: Key
    winner: Side
    loser: Side

    @property
    def bare(self) -> Conflict:
        """The same without what was written."""
        return replace(self, winner=self.winner.bare, loser=self.loser.bare)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """What waits to be written: a conflict without its images, and those in the form of a row's."""

    conflict: Conflict
    images: Wire

    @property
    def images_bytes(self) -> int:
        return sum(len(value.get("B", b"")) for value in self.images.values())


def sides(shipment: Shipment, rival: Item | None, *, won: bool) -> tuple[Side, Side]:
    """Winner and loser, of a write that was shipped and what it met."""
    ours = Side(shipment.version, shipment.item.image if shipment.item else None)
    version = rival.version if rival else None
    deleted = rival is None or (version is not None and version.kind is Kind.REMOVING)
    theirs = Side(version, None if deleted or rival is None else rival.image)
    return (ours, theirs) if won else (theirs, ours)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLimits:
    """How much may wait, and how often it is written. Tests set them smaller."""

    queue_max: int = 10_000
    queue_bytes_max: int = 64_000_000
    """Of packed images."""
    interval_s: float = 1.0
    backoff_max_s: float = 30.0
    drain_s: float = 5.0


class Secret:
    """What keys are digested with: given by the settings, or the region's own, made once."""

    def __init__(self, control: ControlTable, given: str | None) -> None:
        self._control = control
        self._value = blake2b(given.encode()).digest() if given else None

    async def load(self) -> None:
        """Have a secret from now on.

        Raises: Fatal for a row that is malformed, and what the control table raises.
        """
        if self._value is not None:
            return
        offered = {"secret": {"B": secrets.token_bytes(SECRET_BYTES)}}
        row = {**row_key(DIGEST_ROW, STATE), **offered}
        await self._control.put(row, "attribute_not_exists(secret)", {})
        rows = await self._control.query(DIGEST_ROW)
        self._value = self._read(rows)

    def _read(self, rows: Sequence[Wire]) -> bytes:
        value = rows[0].get("secret", {}).get("B") if rows else None
        if not isinstance(value, bytes) or len(value) != SECRET_BYTES:
            text = f"{self._control.name}: {DIGEST_ROW}: secret is malformed; mend or delete it"
            raise Fatal(text)
        return value

    def name(self, key: Key) -> str | None:
        """The digest that names a key, None before `load`."""
        if self._value is None:
            return None
        return blake2b(key.id.encode(), key=self._value, digest_size=16).hexdigest()


@dataclass(slots=True)
class LedgerStats:
    """How the ledger of one region fares."""

    noted: int = 0
    written: int = 0
    unwritten: int = 0
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The conflicts that the pipelines of one source region decide."""

    region: str
    control: ControlTable
    secret: Secret
    clock: Clock
    sleep: Sleep
    keys: bool = False
    images: bool = False
    limits: LedgerLimits = LedgerLimits()
    stats: LedgerStats = field(default_factory=LedgerStats)
    _queue: deque[_Waiting] = field(default_factory=deque)
    _queue_bytes: int = 0
    _ring: deque[Conflict] = field(default_factory=lambda: deque(maxlen=RING_MAX))

    def note(self, conflict: Conflict) -> None:
        """Take down a decision; it is written soon."""
        self.stats.noted += 1
        bare = conflict.bare
        self._ring.append(bare)
        waiting = _Waiting(conflict=bare, images=_packed(conflict) if self.images else {})
        self._queue.append(waiting)
        self._queue_bytes += waiting.images_bytes
        while self._is_over():
            self._take_first()
            self.stats.unwritten += 1

    async def run(self, stop: asyncio.Event) -> None:
        """Write what is noted until `stop` is set; `write_rest` is for what then remains.

        A call that is under way then is dropped: its rows are written again.
        """
        writing = asyncio.create_task(self._keep_writing())
        await first_of(stop.wait(), asyncio.wait({writing}))
        if writing.done():
            writing.result()
        writing.cancel()
        await asyncio.wait({writing})

    async def write_rest(self) -> None:
        """Write what is left, for a while; what cannot be is counted and reported."""
        try:
            async with asyncio.timeout(self.limits.drain_s):
                await self._flush()
        except TimeoutError:
            pass
        if self._queue:
            self.stats.unwritten += len(self._queue)
            fields = {"region": self.region, "conflicts": len(self._queue)}
            log.error("ledger.unwritten", extra=fields)
            self._queue.clear()
            self._queue_bytes = 0

    def newest(self, limit: int) -> list[Conflict]:
        """The newest decisions of this process, newest first."""
        return list(islice(reversed(self._ring), limit))

    def document(self, conflict: Conflict) -> dict[str, Any]:
        """A decision, ready for JSON; its key in clear only if the settings allow."""
        return {
            "at_us": conflict.at_us,
            "table": conflict.table,
            "source": conflict.source,
            "region": conflict.region,
            "key": key_text(conflict.key.attributes)
            if self.keys
            else self.secret.name(conflict.key),
            "winner": conflict.winner.document,
            "loser": conflict.loser.document,
        }

    def _is_over(self) -> bool:
        limits = self.limits
        return len(self._queue) > limits.queue_max or self._queue_bytes > limits.queue_bytes_max

    def _take_first(self) -> None:
        self._queue_bytes -= self._queue.popleft().images_bytes

    async def _keep_writing(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._flush() else failures + 1
            pause_s = self.limits.interval_s * 2.0 ** min(failures, 10)
            await self.sleep(min(pause_s, self.limits.backoff_max_s))

    async def _flush(self) -> bool:
        """Write what waits, oldest first; whether all of it could be."""
        try:
            await self.secret.load()
            while self._queue:
                await self._write(tuple(islice(self._queue, WRITE_BATCH_MAX)))
        except ReplicatorError as error:  # whatever it is may be mended, and the queue is bounded
            if self.stats.error is None:
                fields = {"region": self.region, "error": spoken(error)}
                log.warning("ledger.failing", extra=fields)
            self.stats.error = spoken(error)
            return False
        self.stats.error = None
        return True

    async def _write(self, first: Sequence[_Waiting]) -> None:
        rows = [self._row(waiting.conflict) | waiting.images for waiting in first]
        puts = [self.control.put(row, "attribute_not_exists(pk)", {}) for row in rows]
        for end in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end
        for waiting in first:
            if self._queue and self._queue[0] is waiting:  # else it has given way meanwhile
                self._take_first()
                self.stats.written += 1

    def _row(self, conflict: Conflict) -> Wire:
        row: Wire = {
            **row_key(f"conflict#{conflict.table}", self._sort_key(conflict)),
            "at_us": {"N": str(conflict.at_us)},
            "decided_in": {"S": conflict.region},
            CONTROL_TTL_ATTRIBUTE: expiry(self.clock, RETENTION_S),
        }
        if self.keys:
            row["item_key"] = {"B": packed(conflict.key.attributes)}
        for name, side in (("winner", conflict.winner), ("loser", conflict.loser)):
            row[name] = {"S": side.version.text if side.version else ""}
            row[f"{name}_deleted"] = {"BOOL": side.image is None}
        return row

    def _sort_key(self, conflict: Conflict) -> str:
        versions = [side.version for side in (conflict.winner, conflict.loser)]
        time_us = next((version.time_us for version in versions if version), 0)
        both = " ".join(version.order_text if version else "" for version in versions)
        decided = blake2b(both.encode(), digest_size=8).hexdigest()
        named = self.secret.name(conflict.key)
        return f"{time_us:0{TIME_DIGITS}d}#{conflict.source}#{named}#{decided}"


def _packed(conflict: Conflict) -> Wire:
    """What was written, as the attributes of a row; that it is left out where there is no room."""
    kept = {
        f"{name}_image": {"B": packed(side.image)}
        for name, side in (("winner", conflict.winner), ("loser", conflict.loser))
        if side.image is not None
    }
    if sum(len(value["B"]) for value in kept.values()) > ROW_BYTES_MAX:
        return {"images_omitted": {"BOOL": True}}
    return kept


async def newest_conflicts(
    ledgers: Mapping[str, Ledger], pipelines: Sequence[PipelineStats], limit: int
) -> dict[str, Any]:
    """The newest decisions of a process, and how many its pipelines have counted."""
    newest = [
        (conflict.at_us, ledger.document(conflict))
        for ledger in ledgers.values()
        for conflict in ledger.newest(limit)
    ]
    newest.sort(key=lambda pair: pair[0], reverse=True)
    return {
        "total": sum(stats.records.conflicts for stats in pipelines),
        "conflicts": [document for _, document in newest[:limit]],
    }
