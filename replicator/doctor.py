"""What `doctor` looks at beyond preflight.py: whether a deployment will go on working.

Permissions are found out by trying. A write is tried under a condition that can never hold, so that
it changes nothing and makes no stream record; what refuses it on other grounds than the condition
is the answer. They are the permissions of whoever runs the doctor: run it as the service, with the
source that the service reads (`sources`), since it may read no other region's stream.

Then how far reading lies behind what a stream holds, what is lost, whether a source was handed
over, what is in quarantine, how the machine's clock stands to the regions', and how event source
mappings are set. Each
failure says what to do. Nothing here changes anything, and each region is waited for a few seconds
only.

This module must not know how a region is reached, nor how a result is shown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from replicator.control import CONTROL_KEY_SCHEMA
from replicator.errors import ConditionFailed, ReplicatorError, Transient
from replicator.handover.active import Handovers, replaced
from replicator.ports import Api, Clock
from replicator.positions import ControlCheckpoints
from replicator.preflight import (
    ANSWER_WITHIN_S,
    Check,
    Connect,
    Level,
    control_subject,
    remedy,
    table_subject,
)
from replicator.reading import Reading, mapping_checks
from replicator.records import Mode
from replicator.settings import Settings, TableSettings
from replicator.table import describe_table
from replicator.waiting import Gaps, Quarantine

SKEW_WARNING_S = 2.0
"""An HTTP date has whole seconds. Source: RFC 9110, section 5.6.7."""

NEVER = "attribute_exists(#k) AND attribute_not_exists(#k)"
_VALUES: Mapping[str, object] = {"S": "_replicator_doctor", "N": "0", "B": b"_replicator_doctor"}

DateOf: TypeAlias = Callable[[str], float | None]
"""The time (seconds since 1970) that a region's endpoint tells, None where it tells none."""

MappingsOf: TypeAlias = Callable[[str, str], Sequence[Mapping[str, Any]]]
"""The event source mappings of a region on a stream's ARN. Raises: ReplicatorError."""

Try: TypeAlias = tuple[str, Mapping[str, Any]]

Readings: TypeAlias = Mapping[tuple[str, str], Reading | str]
"""By table and source region; a text says why it could not be found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """The further checks of a configuration's regions. `sources`: whose services are meant."""

    settings: Settings
    sources: frozenset[str]
    connect: Connect
    clock: Clock
    date_of: DateOf
    mappings_of: MappingsOf

    async def examine(self, regions: Sequence[str] | None = None) -> list[Check]:
        """Look at these regions, all at once; at all that the tables have if they are left out."""
        read = [table for table in self.settings.tables.values() if self._read(table)]
        members = dict.fromkeys(region for table in read for region in table.members)
        meant = members if regions is None else regions
        readings = await self._readings()
        found = await asyncio.gather(*(self._region(region, readings) for region in meant))
        return [check for checks in found for check in checks]

    async def _region(self, region: str, readings: Readings) -> list[Check]:
        checks: list[Check] = []
        looks: list[Callable[[str], Awaitable[list[Check]]]] = [
            self._skew,
            partial(self._permissions, readings),
            self._handed_over,
            self._lost,
            self._parked,
            partial(self._reading, readings),
        ]
        for look in looks:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    checks += await look(region)
            except TimeoutError:
                text = f"no answer within {ANSWER_WITHIN_S:.0f} s; check the network"
                checks.append(_failed(f"region {region}", text))
            except ReplicatorError as error:
                checks.append(_failed(f"region {region}", f"{error}; {remedy(error)}"))
        return checks

    def _tables(self, region: str) -> Iterator[tuple[str, TableSettings]]:
        for name, table in self.settings.tables.items():
            if region in table.members and self._read(table):
                yield name, table

    def _sourced(self, region: str) -> Iterator[tuple[str, TableSettings, str]]:
        """The tables that are read in a region, and how the stream of each is called in a line."""
        for name, table in self._tables(region):
            if region in self._read(table):
                yield name, table, f"{table_subject(self.settings, name, region)}, stream"

    def _read(self, table: TableSettings) -> list[str]:
        """The regions in which a table is read by the services that are meant."""
        return [source for source in table.sources if source in self.sources]

    # --- the clock ----------------------------------------------------------------------------

    async def _skew(self, region: str) -> list[Check]:
        """Versions are times; AWS refuses requests whose time is minutes off."""
        begun_us = self.clock.now_us()
        told_s = await asyncio.to_thread(self.date_of, region)
        if told_s is None:
            text = "tells no time, so this machine's clock cannot be compared"
            return [Check(subject=f"clock, {region}", level=Level.WARNING, text=text)]
        # The answer was given between the two moments, and its seconds are whole.
        ahead_s = begun_us / 1e6 - (told_s + 1)
        behind_s = told_s - self.clock.now_us() / 1e6
        off_s, way = max((ahead_s, "ahead"), (behind_s, "behind"))
        subject = f"clock, {region}"
        if off_s > self.settings.future_bound_s:
            text = f"this machine is {off_s:.0f} s {way}; set its clock; see runbooks/clock-skew.md"
            return [_failed(subject, text)]
        if off_s > SKEW_WARNING_S:
            text = f"this machine is {off_s:.0f} s {way}; see runbooks/clock-skew.md"
            return [Check(subject=subject, level=Level.WARNING, text=text)]
        return [_ok(subject, "agrees with this machine's to the second")]

    # --- permissions --------------------------------------------------------------------------

    async def _permissions(self, readings: Readings, region: str) -> list[Check]:
        """A process compares tables to mend them; a function that a mapping invokes scans none."""
        api = self.connect(region)
        control = self.settings.control_table
        keys = {name: kind for name, (_, kind) in CONTROL_KEY_SCHEMA.items()}
        tries = [*_reads(control, keys), *_writes(control, keys), _query(control)]
        found = [await _allowed(api, control_subject(control, region), tries)]
        for name, table in self._tables(region):
            physical = self.settings.table_name(name, region)
            description = await describe_table(api, physical)
            keys = {key: kind for key, (_, kind) in description.key_schema.items()}
            tries = _reads(physical, keys)
            if region != table.source:
                tries += [
                    one
                    for one in _writes(physical, keys)
                    if table.mode is Mode.MULTI_WRITER or one[0] != "UpdateItem"
                ]
            subject = table_subject(self.settings, name, region)
            read = [readings[name, source] for source in self._read(table)]
            known = [one for one in read if isinstance(one, Reading)]
            mapped = known == read and all(one.mapped for one in known)
            scan = ("Scan", {"TableName": physical, "Limit": 1})
            if self.settings.mending.enabled and any(one.by_process for one in known):
                tries.append(scan)
            elif self.settings.mending.enabled and not mapped:
                found.append(await _perhaps_allowed(api, subject, scan))
            found.append(await _allowed(api, subject, tries))
            if region in self._read(table) and description.stream_arn is not None:
                found.append(await _stream_allowed(api, subject, description.stream_arn))
        return found

    # --- who is the source, and how far it was read -------------------------------------------

    async def _handed_over(self, region: str) -> list[Check]:
        rows = Handovers(
            api=self.connect(region),
            control_table=self.settings.control_table,
            sleep=asyncio.sleep,
        )
        found = []
        for name, table in self._tables(region):
            if table.source is None:
                continue
            handover = await rows.load(name)
            if handover is not None and handover.source != table.source:
                subject = table_subject(self.settings, name, region)
                found.append(_failed(subject, replaced(name, table.source, handover)))
        return found

    async def _lost(self, region: str) -> list[Check]:
        """Records that are known to be lost, until a repair has closed the gap."""
        gaps = Gaps(api=self.connect(region), control_table=self.settings.control_table)
        found = []
        for name, _, subject in self._sourced(region):
            for gap in await gaps.load(name, region):
                text = f"records are lost ({gap.reason}); see runbooks/stream-trimmed.md"
                found.append(_failed(subject, text))
        return found

    async def _parked(self, region: str) -> list[Check]:
        """Changes of a region that another has refused."""
        rows = Quarantine(api=self.connect(region), control_table=self.settings.control_table)
        found = []
        for name, _, _ in self._sourced(region):
            parked = Counter(n.target for n in await rows.notes(name) if n.source == region)
            subject = table_subject(self.settings, name, region)
            for target, count in parked.items():
                text = f"{count:,} changes for {target} are in quarantine"
                text += "; see runbooks/poison-record.md"
                found.append(Check(subject=subject, level=Level.WARNING, text=text))
        return found

    # --- who reads, and how far ---------------------------------------------------------------

    async def _readings(self) -> Readings:
        places = [
            (name, source)
            for name, table in self.settings.tables.items()
            for source in self._read(table)
        ]
        found = await asyncio.gather(*(self._reading_of(*place) for place in places))
        return dict(zip(places, found, strict=True))

    async def _reading_of(self, name: str, source: str) -> Reading | str:
        api = self.connect(source)
        control = self.settings.control_table
        checkpoints = ControlCheckpoints(api=api, control_table=control, clock=self.clock)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                description = await describe_table(api, self.settings.table_name(name, source))
                read_us = await checkpoints.last_read(name, source)
        except ReplicatorError as error:
            return f"{error}; {remedy(error)}"
        except TimeoutError:
            return "no answer; check the network"
        age_s = None if read_us is None else (self.clock.now_us() - read_us) / 1e6
        if description.stream_arn is None:
            return Reading(mappings=(), age_s=age_s)
        trouble = "no answer"
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                ask = partial(self.mappings_of, source, description.stream_arn)
                return Reading(mappings=await asyncio.to_thread(ask), age_s=age_s)
        except TimeoutError:
            pass
        except ReplicatorError as error:
            trouble = f"{error}; {remedy(error)}"
        # An emulator's endpoint may serve no Lambda, and then there is no mapping.
        emulated = self.settings.regions[source].endpoint_url is not None
        return Reading(mappings=() if emulated else None, age_s=age_s, trouble=trouble)

    async def _reading(self, readings: Readings, region: str) -> list[Check]:
        """How far reading is behind, and how the mappings are set, if there are any."""
        found = []
        for name, _, subject in self._sourced(region):
            reading = readings[name, region]
            if isinstance(reading, str):
                text = f"who reads it, and how far, could not be found out: {reading}"
                found.append(_failed(subject, text))
                continue
            found.append(reading.check(subject))
            mapping = f"{table_subject(self.settings, name, region)}, event source mapping"
            for one in reading.mappings or ():
                found += mapping_checks(mapping, one)
            if reading.mappings is None:
                text = "cannot be looked at, which matters under Lambda only: "
                text += reading.trouble
                found.append(Check(subject=mapping, level=Level.WARNING, text=text))
        return found


def _key(keys: Mapping[str, str]) -> dict[str, dict[str, object]]:
    return {name: {kind: _VALUES[kind]} for name, kind in keys.items()}


def _reads(table: str, keys: Mapping[str, str]) -> list[Try]:
    request = {"RequestItems": {table: {"Keys": [_key(keys)], "ConsistentRead": True}}}
    return [("BatchGetItem", request)]


def _writes(table: str, keys: Mapping[str, str]) -> list[Try]:
    """Writes that are refused by their own condition, whatever stands there."""
    names = {"#k": next(iter(keys))}
    never = {"TableName": table, "ConditionExpression": NEVER}
    update = {"UpdateExpression": "REMOVE #n", "Key": _key(keys)}
    more = {**names, "#n": "_replicator_doctor"}
    return [
        ("PutItem", {**never, "Item": _key(keys), "ExpressionAttributeNames": names}),
        ("DeleteItem", {**never, "Key": _key(keys), "ExpressionAttributeNames": names}),
        ("UpdateItem", {**never, **update, "ExpressionAttributeNames": more}),
    ]


def _query(table: str) -> Try:
    request = {
        "TableName": table,
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "_replicator_doctor"}},
    }
    return ("Query", request)


async def _allowed(api: Api, subject: str, tries: Sequence[Try]) -> Check:
    refused = []
    for operation, request in tries:
        try:
            await api.call(operation, request)
        except ConditionFailed:
            continue  # allowed, and nothing was written
        except Transient:
            raise
        except ReplicatorError as error:
            refused.append((operation, error))
    if not refused:
        return _ok(subject, f"allows {', '.join(operation for operation, _ in tries)}")
    operations = ", ".join(operation for operation, _ in refused)
    _, first = refused[0]
    return _failed(subject, f"does not allow {operations}: {first}; {remedy(first)}")


async def _perhaps_allowed(api: Api, subject: str, one: Try) -> Check:
    """What only a process needs, where it is not known whether one reads."""
    check = await _allowed(api, subject, [one])
    if check.level is not Level.FAILED:
        return check
    text = f"{check.text}; under Lambda it is not needed"
    return Check(subject=subject, level=Level.WARNING, text=text)


async def _stream_allowed(api: Api, subject: str, arn: str) -> Check:
    """The three calls of a reader; the last two need a shard."""
    try:
        described = await api.call("DescribeStream", {"StreamArn": arn})
        shards = described["StreamDescription"].get("Shards") or ()
        if shards:
            place = {"StreamArn": arn, "ShardId": shards[-1]["ShardId"]}
            request = {**place, "ShardIteratorType": "LATEST"}
            iterator = (await api.call("GetShardIterator", request))["ShardIterator"]
            await api.call("GetRecords", {"ShardIterator": iterator, "Limit": 1})
    except Transient:
        raise
    except ReplicatorError as error:
        return _failed(f"{subject}, stream", f"may not be read: {error}; {remedy(error)}")
    return _ok(f"{subject}, stream", "may be read")


def _ok(subject: str, text: str) -> Check:
    return Check(subject=subject, level=Level.OK, text=text)


def _failed(subject: str, text: str) -> Check:
    return Check(subject=subject, level=Level.FAILED, text=text)
