"""What `doctor` looks at beyond preflight.py: whether a deployment will go on working.

Permissions are found out by trying. A write is tried under a condition that can never hold, so that
it changes nothing and makes no stream record; what refuses it on other grounds than the condition
is the answer. They are the permissions of whoever runs the doctor: run it as the service.

Then how far reading lies behind what a stream holds, what is lost, whether a source was handed
over, how the machine's clock stands to the regions', and how event source mappings are set. Each
failure says what to do. Nothing here changes anything, and each region is waited for a few seconds
only.

This module must not know how a region is reached, nor how a result is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from replicator.control import CONTROL_KEY_SCHEMA, ControlCheckpoints
from replicator.errors import ConditionFailed, ReplicatorError, Transient
from replicator.handover.active import Handovers, replaced
from replicator.ports import Api, Clock
from replicator.preflight import (
    ANSWER_WITHIN_S,
    Check,
    Connect,
    Level,
    control_subject,
    remedy,
    table_subject,
)
from replicator.records import Mode
from replicator.settings import Settings, TableSettings
from replicator.table import describe_table
from replicator.waiting import Gaps

HOUR_S = 3_600
RETENTION_H = 24
READ_AGE_WARNING_S, READ_AGE_FAILED_S = 4 * HOUR_S, 20 * HOUR_S
SKEW_WARNING_S = 2.0
"""An HTTP date has whole seconds. Source: RFC 9110, section 5.6.7."""

PARTIAL = "ReportBatchItemFailures"
AGE_S_LEAST = 82_800
"""An hour before a stream forgets; sooner than that is giving up."""

NEVER = "attribute_exists(#k) AND attribute_not_exists(#k)"
_VALUES: Mapping[str, object] = {"S": "_replicator_doctor", "N": "0", "B": b"_replicator_doctor"}

DateOf: TypeAlias = Callable[[str], float | None]
"""The time (seconds since 1970) that a region's endpoint tells, None where it tells none."""

MappingsOf: TypeAlias = Callable[[str, str], Sequence[Mapping[str, Any]]]
"""The event source mappings of a region on a stream's ARN. Raises: ReplicatorError."""

Try: TypeAlias = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """The further checks of a configuration's regions."""

    settings: Settings
    connect: Connect
    clock: Clock
    date_of: DateOf
    mappings_of: MappingsOf

    async def examine(self, regions: Sequence[str]) -> list[Check]:
        """Look at these regions, all at once."""
        found = await asyncio.gather(*map(self._region, regions))
        return [check for checks in found for check in checks]

    async def _region(self, region: str) -> list[Check]:
        checks: list[Check] = []
        looks: list[Callable[[str], Awaitable[list[Check]]]] = [
            self._skew,
            self._permissions,
            self._handed_over,
            self._lost,
            self._read_age,
            self._mappings,
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
            if region in table.members:
                yield name, table

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

    async def _permissions(self, region: str) -> list[Check]:
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
            if self.settings.mending.enabled:
                tries.append(("Scan", {"TableName": physical, "Limit": 1}))
            if region != table.source:
                tries += [
                    one
                    for one in _writes(physical, keys)
                    if table.mode is Mode.MULTI_WRITER or one[0] != "UpdateItem"
                ]
            subject = table_subject(self.settings, name, region)
            found.append(await _allowed(api, subject, tries))
            if region in table.sources and description.stream_arn is not None:
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
        for name, table in self._tables(region):
            if region in table.sources:
                subject = f"{table_subject(self.settings, name, region)}, stream"
                for gap in await gaps.load(name, region):
                    text = f"records are lost ({gap.reason}); see runbooks/stream-trimmed.md"
                    found.append(_failed(subject, text))
        return found

    async def _read_age(self, region: str) -> list[Check]:
        """How far reading is behind, against the 24 hours that a stream holds."""
        checkpoints = ControlCheckpoints(
            api=self.connect(region), control_table=self.settings.control_table, clock=self.clock
        )
        found = []
        for name, table in self._tables(region):
            if region not in table.sources:
                continue
            read_us = await checkpoints.last_read(name, region)
            subject = f"{table_subject(self.settings, name, region)}, stream"
            if read_us is None:
                text = "was never read to its end; start `replicator run`, then look again"
                found.append(Check(subject=subject, level=Level.WARNING, text=text))
                continue
            found.append(_of_age(subject, (self.clock.now_us() - read_us) / 1e6))
        return found

    # --- event source mappings ----------------------------------------------------------------

    async def _mappings(self, region: str) -> list[Check]:
        api, found = self.connect(region), []
        for name, table in self._tables(region):
            if region not in table.sources:
                continue
            description = await describe_table(api, self.settings.table_name(name, region))
            if description.stream_arn is None:
                continue
            subject = f"{table_subject(self.settings, name, region)}, event source mapping"
            try:
                told = await asyncio.to_thread(self.mappings_of, region, description.stream_arn)
            except ReplicatorError as error:
                found.append(self._not_looked_at(region, subject, error))
                continue
            for mapping in told:
                found += _of_mapping(subject, mapping) or [_ok(subject, "is set as it should be")]
        return found

    def _not_looked_at(self, region: str, subject: str, error: ReplicatorError) -> Check:
        """It matters under Lambda only, and an emulator's endpoint may have none."""
        if self.settings.regions[region].endpoint_url is not None:
            return _ok(subject, "not looked at: its endpoint serves no Lambda")
        text = f"cannot be looked at, which matters under Lambda only: {error}"
        return Check(subject=subject, level=Level.WARNING, text=text)


def _of_age(subject: str, age_s: float) -> Check:
    text = f"all was read {age_s:,.0f} s ago"
    if age_s < READ_AGE_WARNING_S:
        return _ok(subject, text)
    text = f"was read to its end {age_s / HOUR_S:.1f} h ago, and a stream holds {RETENTION_H} h"
    if age_s < READ_AGE_FAILED_S:
        text += "; see runbooks/lag-high.md"
        return Check(subject=subject, level=Level.WARNING, text=text)
    return _failed(subject, f"{text}; see runbooks/stream-trimmed.md")


def _of_mapping(subject: str, mapping: Mapping[str, Any]) -> list[Check]:
    """What is wrong with one mapping."""
    found = []
    if PARTIAL not in (mapping.get("FunctionResponseTypes") or ()):
        text = f"has no partial batch responses; set FunctionResponseTypes to {PARTIAL}"
        found.append(_failed(subject, text))
    if mapping.get("State") not in ("Enabled", "Enabling", "Creating", "Updating"):
        text = f"is {mapping.get('State')}; enable it, or the stream is not read"
        found.append(_failed(subject, text))
    for name, least in (("MaximumRetryAttempts", None), ("MaximumRecordAgeInSeconds", AGE_S_LEAST)):
        value = mapping.get(name, -1)
        if value not in (None, -1) and (least is None or value < least):
            good = "-1" if least is None else f"-1, or at least {least}"
            text = f"gives batches up ({name} is {value}); set it to {good}"
            found.append(Check(subject=subject, level=Level.WARNING, text=text))
    destination = (mapping.get("DestinationConfig") or {}).get("OnFailure") or {}
    if not destination.get("Destination"):
        text = "has no destination for what it gives up; set DestinationConfig.OnFailure"
        found.append(Check(subject=subject, level=Level.WARNING, text=text))
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
