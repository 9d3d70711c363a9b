"""Heartbeats: lag that is true when nobody writes.

For each table and source region a heartbeat sets out every few seconds with its own time, in
microseconds, and is taken down where it arrives. Its age says how long ago a write is known to have
made the way; it is null before the first one, and grows while a region is silent: never 0.

`place = "control"`, the default. The heartbeat is a row of the source's control table, so the
region takes writes. It has passed when every shard of the table's stream has been looked at since,
and everything that was read is in the target (telemetry's *complete until*). Then it is written to
the target's control table, so the target takes writes too, and a target that is dead while nobody
writes does not look well. No application's table is touched, so it also serves one-way tables,
whose source is never written to. It costs two small writes for each link and interval. It does not
go through the stream: the moment that DynamoDB takes to show a write there is not in its latency.

`place = "table"`. The heartbeat is an item of the table, under a key that no application uses, and
is replicated as any other: the full way, through the stream, stamped, so that one-second record
times do not blur it. It stays in the table of every region, counts among the changes, and beats
for the one shard that its key falls into. One-way tables keep to the control table.

The control table's own stream is not used: it would be a second stream to read in each region, full
of checkpoints, and it would tell the delay of another stream than the table's.

A heartbeat is tried once and not again: the next one follows. Of those that are on their way the
newest that has passed arrives, so that a link that lags by more than the interval has an age as
well. Nothing here holds up replication.
This module must not know how changes are replicated.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol

from conflict.operations import AttributeValue, Image
from conflict.version import Kind, Version
from replicator.control import ControlTable, moment_us, row_key
from replicator.errors import ReplicatorError, spoken
from replicator.ports import Api, Clock, Sleep
from replicator.table import describe_table
from replicator.telemetry import PipelineStats
from replicator.writer import first_of

log = logging.getLogger(__name__)

BEAT = "_replicator_heartbeat"
"""The attribute of a heartbeat in a table: when it was sent. Its key is made of the same word."""

LOOK_S, LOOK_S_MAX = 0.1, 2.0
"""Between two looks whether a heartbeat has passed. In between, a tenth of its age: a look costs
something where much is pending, and the grain of a latency may grow with it."""

BEATS_MAX = 1_024
"""Heartbeats that can be on their way to one place: an hour of them, and thinned out beyond."""

NUMBER_DIGITS = 36


class Place(Protocol):
    """Where heartbeats set out. `carried`: changes bring them to the targets by themselves."""

    @property
    def carried(self) -> bool: ...

    async def send(self, sent_us: int) -> None:
        """Write a heartbeat. Raises what an Api raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRow:
    """A row of a control table: `heartbeat#<table>`, `<source>`. It only ever rises."""

    control: ControlTable
    table: str
    source: str
    carried = False

    async def send(self, sent_us: int) -> None:
        key = row_key(f"heartbeat#{self.table}", self.source)
        await self.control.raise_moment(key, "sent_us", sent_us)

    async def newest_us(self) -> int | None:
        """When the newest heartbeat was sent that is written here; None where nobody knows."""
        for row in await self.control.query(f"heartbeat#{self.table}", since=self.source):
            if row["sk"]["S"] == self.source:
                return moment_us(row, "sent_us")
        return None


@dataclass(slots=True, kw_only=True)
class TableItem:
    """An item of the table, stamped as an application stamps its own writes."""

    api: Api
    name: str
    source: str
    marker: str
    carried = True
    _key: Image | None = None

    async def send(self, sent_us: int) -> None:
        if self._key is None:
            schema = (await describe_table(self.api, self.name)).key_schema
            self._key = reserved_key(schema, self.source)
        version = Version(sent_us, self.source, sent_us, Kind.APPLICATION)
        item = {
            **self._key,
            BEAT: {"N": str(sent_us)},
            self.marker: {"S": version.text},
        }
        await self.api.call("PutItem", {"TableName": self.name, "Item": item})


def reserved_key(schema: Mapping[str, tuple[str, str]], source: str) -> dict[str, AttributeValue]:
    """The key of a region's heartbeat in a table with this key schema."""
    text = f"{BEAT}#{source}"
    digits = str(int.from_bytes(blake2b(text.encode(), digest_size=16).digest()))
    number = f"-9.{digits[:NUMBER_DIGITS]:0<{NUMBER_DIGITS}}E+125"
    values: Mapping[str, AttributeValue] = {
        "S": {"S": text},
        "N": {"N": number},
        "B": {"B": text.encode()},
    }
    return {name: values[kind] for name, (_, kind) in schema.items()}


def sent_us_of(image: Image | None) -> int | None:
    """When the heartbeat was sent that an item is; None for what is none."""
    beat: Any = None if image is None else image.get(BEAT)
    text = beat.get("N") if beat else None
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


@dataclass(slots=True)
class Beats:
    """When heartbeats set out that are on their way to one place, in µs, oldest first.

    The last that arrived there stays among them. However long they are on their way, they are told
    apart to some hundredths of that time, and are at most BEATS_MAX.
    """

    sent_us: list[int] = field(default_factory=list)

    def add(self, sent_us: int) -> None:
        """One has set out; by a clock that was set back, or right after the last, it is none."""
        sent = self.sent_us
        if sent and sent_us - sent[-1] <= (sent_us - sent[0]) * 2 // BEATS_MAX:
            return
        sent.append(sent_us)
        if len(sent) > BEATS_MAX:
            del sent[1::2]

    def newest(self, until_us: int | None) -> int | None:
        """The newest that set out by then; those from before it are forgotten."""
        found = 0 if until_us is None else bisect_right(self.sent_us, until_us)
        if not found:
            return None
        del self.sent_us[: found - 1]
        return self.sent_us[0]

    def first_after(self, arrived_us: int | None) -> int | None:
        """The oldest that set out after one that has arrived; None where all have."""
        found = 0 if arrived_us is None else bisect_right(self.sent_us, arrived_us)
        return self.sent_us[found] if found < len(self.sent_us) else None


@dataclass(slots=True, kw_only=True)
class Heart:
    """The heartbeats of one pipeline, which it knows by its figures.

    `arrivals`: where heartbeats are written in each target, unless changes carry them there.
    """

    stats: PipelineStats
    place: Place
    arrivals: Mapping[str, ControlRow]
    interval_s: float
    clock: Clock
    sleep: Sleep
    _beats: defaultdict[str, Beats] = field(default_factory=lambda: defaultdict(Beats))
    _failing: set[str] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until `stop` is set; what is under way then is dropped."""
        beating = [asyncio.create_task(self._beat())]
        if not self.place.carried:
            beating += [asyncio.create_task(self._arrive(target)) for target in self.arrivals]
        try:
            await first_of(stop.wait(), asyncio.wait(beating, return_when=asyncio.FIRST_EXCEPTION))
        finally:
            for task in beating:
                task.cancel()
            ended = await asyncio.gather(*beating, return_exceptions=True)
        for end in ended:
            if isinstance(end, Exception):
                raise end

    async def _beat(self) -> None:
        while True:
            sent_us = self.clock.now_us()
            error = await self._tried(self.stats.source, partial(self.place.send, sent_us))
            self.stats.heartbeat_error = error
            if error is None:
                for region in (self.stats.source, *self.arrivals):
                    self._beats[region].add(sent_us)
            await self.sleep(self.interval_s)

    async def _arrive(self, target: str) -> None:
        """Take to a target the newest heartbeat from before which all is there."""
        link, row, beats = self.stats.links[target], self.arrivals[target], self._beats[target]
        while True:
            await self.sleep(self._look_s(beats, link.heartbeat_us))
            if beats.first_after(link.heartbeat_us) is None:
                continue
            self._pass_source()
            self.stats.note_complete()
            sent_us = beats.newest(link.complete_us)
            if sent_us is None or sent_us == link.heartbeat_us:
                continue
            link.heartbeat_error = await self._tried(target, partial(row.send, sent_us))
            if link.heartbeat_error is None:
                link.note_heartbeat(sent_us, self.clock.now_us())
            else:
                await self.sleep(self.interval_s)

    def _look_s(self, beats: Beats, arrived_us: int | None) -> float:
        sent_us = beats.first_after(arrived_us) or arrived_us
        age_s = 0.0 if sent_us is None else (self.clock.now_us() - sent_us) / 1e6
        return min(max(LOOK_S, age_s / 10), LOOK_S_MAX)

    def _pass_source(self) -> None:
        """Note the newest from before which everything has been read."""
        sent_us = self._beats[self.stats.source].newest(self.stats.known_until())
        if sent_us is not None:
            self.stats.heartbeat_us = sent_us

    async def _tried(self, region: str, call: Callable[[], Awaitable[None]]) -> str | None:
        """Make a call; what went wrong, told once in the log."""
        try:
            await call()
        except ReplicatorError as error:
            if region not in self._failing:
                self._failing.add(region)
                fields = {"table": self.stats.table, "region": region, "error": spoken(error)}
                log.warning("heartbeat.failing", extra=fields)
            return spoken(error)
        if region in self._failing:
            self._failing.discard(region)
            fields = {"table": self.stats.table, "region": region}
            log.info("heartbeat.recovered", extra=fields)
        return None
