"""The control table: what one region must not forget, beside its tables.

    pk                             sk                          holds
    key#<table>#<digest>           state                       tombstone, held write of a key
    checkpoint#<table>#<source>    <stream ARN>#<shard>        how far a shard is settled; shard *:
                                                               that the stream is read at all
    home#<table>#<source>          <stream ARN>#<shard>        how far it is settled at home
    batch#<table>#<source>         <stream ARN>#<sequence>     the same of a batch that Lambda has
    quarantine#<table>             <source>#<target>#<digest>  a change that cannot be applied
    gap#<table>#<source>           <ARN>#<shard>#<since>       records lost to retention
    read#<table>#<source>          state                       until when all had been read
    heartbeat#<table>              <source>                    the newest heartbeat to arrive here
    conflict#<table>               <time>#<source>#<digest>#…  a decision between concurrent writes
    secret#digest                  state                       what names keys in conflicts
    backfill#<table>#<source>      <job>[#<segment>]           a backfill; how far a segment is
    across#<table>                 <source>                    until when all had arrived here
    handover#<table>               state                       which region writes the table now
    reader#<table>#<source>        state                       which process reads it
    pause#<table>#<source>         <target>                    a paused link (pausing.py)

Quarantine and gaps are waiting.py's, backfills backfill/jobs.py's, conflicts ledger.py's,
heartbeats heartbeats.py's, batches lambda_home.py's, readers presence.py's, `across` and `handover`
the hand-over's. Every write but a reader's name is conditional and goes one way only, so workers
that share a shard, or come back from the dead, do no harm: a tombstone, a held write and a
checkpoint only ever rise.
Comparisons are made by DynamoDB on texts that sort as their values do: versions by their order text
(conflict.version says why a marker of the same order stands), sequence numbers as 40 digits,
because an N holds 38 only. `finished` sorts above all digits.

Keys are named by a digest, never in clear. `expires_at` (epoch seconds) is the time-to-live
attribute; a row without it stays. Tombstones and held writes are kept for the retention after the
last of them; checkpoints of finished shards as well, since the stream forgets its shards sooner.
Checkpoints of unfinished shards stay: without them a long outage would not show as a gap.

A malformed tombstone or held write stops its key: to go on as if there were none could bring back a
deleted item. A malformed checkpoint is reported and counts as none: replays are harmless. A
malformed pause is reported and is one: what a person has paused is not resumed by a row's decay.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from conflict.operations import Hold, Image, Item, Key, KeyState, RaiseTombstone, Release, marker_of
from conflict.version import SEQUENCE_DIGITS_MAX, TIME_DIGITS, Version, parse
from replicator.errors import ConditionFailed, Malformed
from replicator.packing import packed, unpacked
from replicator.ports import Api, Clock, Sleep
from replicator.records import After, Checkpoint, Finished
from replicator.requests import Wire, batch_get_request
from replicator.table import batch_get

logger = logging.getLogger(__name__)

RETENTION_S = 7 * 24 * 3600
"""How long a tombstone is kept: a stream's 24 hours and the longest backfill. Source: design.md."""

CONTROL_KEY_SCHEMA: Mapping[str, tuple[str, str]] = {"pk": ("HASH", "S"), "sk": ("RANGE", "S")}
CONTROL_TTL_ATTRIBUTE = "expires_at"
CHECKPOINT, AT_HOME = "checkpoint", "home"
"""Of what a position is: of all that is settled in every target; of what is settled at home."""

FINISHED = "finished"
STATE = "state"
_SETTLED = re.compile(rf"[0-9]{{{SEQUENCE_DIGITS_MAX}}}|{FINISHED}", re.ASCII)


def create_control_table_request(name: str) -> Wire:
    """CreateTable, billed on demand. TTL is switched on by a call of its own, once it is active."""
    schema = CONTROL_KEY_SCHEMA.items()
    return {
        "TableName": name,
        "KeySchema": [{"AttributeName": key, "KeyType": role} for key, (role, _) in schema],
        "AttributeDefinitions": [
            {"AttributeName": key, "AttributeType": kind} for key, (_, kind) in schema
        ],
        "BillingMode": "PAY_PER_REQUEST",
    }


def time_to_live_request(name: str) -> Wire:
    """UpdateTimeToLive for the control table."""
    specification = {"Enabled": True, "AttributeName": CONTROL_TTL_ATTRIBUTE}
    return {"TableName": name, "TimeToLiveSpecification": specification}


def digest(key: Key) -> str:
    """What names a key in a row: 128 bits, so that no two keys meet."""
    return blake2b(key.id.encode(), digest_size=16).hexdigest()


def row_key(pk: str, sk: str) -> Wire:
    """The key of a control row."""
    return {"pk": {"S": pk}, "sk": {"S": sk}}


class ControlTable:
    """One region's control table, at the level of rows."""

    def __init__(self, *, api: Api, name: str) -> None:
        self.name = name
        self._api = api

    async def read(self, keys: Sequence[Wire], *, sleep: Sleep) -> list[Wire]:
        """The rows that are there, in any order; strongly consistent."""
        return await batch_get(self._api, batch_get_request(self.name, keys), sleep=sleep)

    async def update(self, key: Wire, expression: str, condition: str, values: Wire) -> None:
        """Raises: ConditionFailed with the row that stood."""
        await self._api.call(
            "UpdateItem",
            {
                "TableName": self.name,
                "Key": key,
                "UpdateExpression": expression,
                "ConditionExpression": condition,
                "ExpressionAttributeValues": values,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
        )

    async def put(
        self, row: Wire, condition: str, values: Wire, names: Mapping[str, str] | None = None
    ) -> bool:
        """Whether the condition held. `names`: of attributes that are reserved words."""
        subject: Wire = {"Item": row}
        if names:
            subject["ExpressionAttributeNames"] = dict(names)
        return await self._conditional("PutItem", subject, condition, values)

    async def delete(self, key: Wire, condition: str, values: Wire) -> bool:
        """Whether the condition held."""
        return await self._conditional("DeleteItem", {"Key": key}, condition, values)

    async def query(
        self, pk: str, *, since: str = "", attributes: Sequence[str] = ()
    ) -> list[Wire]:
        """The rows of a partition from a sort key on, all pages together; strongly consistent.

        With `attributes` only these of each row; their names must be no reserved words.
        """
        request: Wire = {
            "TableName": self.name,
            "KeyConditionExpression": "pk = :pk AND sk >= :since" if since else "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": pk}},
            "ConsistentRead": True,
        }
        if since:
            request["ExpressionAttributeValues"][":since"] = {"S": since}
        if attributes:
            request["ProjectionExpression"] = ", ".join(attributes)
        rows: list[Wire] = []
        while True:
            response = await self._api.call("Query", request)
            rows += response["Items"]
            last = response.get("LastEvaluatedKey")
            if not last:
                return rows
            request = {**request, "ExclusiveStartKey": last}

    async def _conditional(
        self, operation: str, subject: Wire, condition: str, values: Wire
    ) -> bool:
        request = {"TableName": self.name, **subject, "ConditionExpression": condition}
        if values:  # an empty map is refused
            request["ExpressionAttributeValues"] = values
        try:
            await self._api.call(operation, request)
        except ConditionFailed:
            return False
        return True


class ControlKeyStates:
    """ports.KeyStates of one table: one row per key, which holds its tombstone and held write."""

    def __init__(
        self,
        *,
        api: Api,
        control_table: str,
        table: str,
        clock: Clock,
        sleep: Sleep,
        retention_s: int = RETENTION_S,
    ) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._table = table
        self._clock = clock
        self._sleep = sleep
        self._retention_s = retention_s

    async def read(self, keys: Sequence[Key]) -> list[KeyState]:
        if not keys:
            return []
        wanted = [self._row_key(key) for key in keys]
        found = await self._control.read(wanted, sleep=self._sleep)
        rows = {row["pk"]["S"]: row for row in found}
        return [self._state(rows.get(row_key["pk"]["S"], {})) for row_key in wanted]

    async def raise_tombstone(self, operation: RaiseTombstone) -> Version | None:
        version = operation.version
        try:
            await self._control.update(
                self._row_key(operation.key),
                f"SET tombstone = :version, {CONTROL_TTL_ATTRIBUTE} = :expires",
                "attribute_not_exists(tombstone) OR tombstone < :order",
                {**_version_values(version), ":expires": self._expires()},
            )
        except ConditionFailed as refused:
            return self._version(refused.item or {}, "tombstone")
        return None

    async def hold(self, operation: Hold) -> None:
        version = operation.item.version
        if version is None:
            raise TypeError("a held write carries its version")
        try:
            await self._control.update(
                self._row_key(operation.key),
                "SET held_version = :version, held_sequence = :sequence, held_image = :image, "
                f"{CONTROL_TTL_ATTRIBUTE} = :expires",
                "attribute_not_exists(held_version) OR held_version < :order",
                {
                    **_version_values(version),
                    ":sequence": {"S": sequence_text(version.sequence)},
                    ":image": {"B": packed(operation.item.image)},
                    ":expires": self._expires(),
                },
            )
        except ConditionFailed:
            return  # a newer one is held already

    async def release(self, operation: Release) -> None:
        try:
            await self._control.update(
                self._row_key(operation.key),
                "REMOVE held_version, held_sequence, held_image",
                "held_sequence < :before",
                {":before": {"S": sequence_text(operation.before)}},
            )
        except ConditionFailed:
            return  # nothing is held, or a later write

    def _row_key(self, key: Key) -> Wire:
        return row_key(f"key#{self._table}#{digest(key)}", STATE)

    def _expires(self) -> Wire:
        return expiry(self._clock, self._retention_s)

    def _state(self, row: Mapping[str, Any]) -> KeyState:
        tombstone = self._version(row, "tombstone") if "tombstone" in row else None
        if "held_version" not in row:
            return KeyState(tombstone)
        marker = marker_of(self._version(row, "held_version"))
        return KeyState(tombstone, Item(self._image(row), marker))

    def _version(self, row: Mapping[str, Any], attribute: str) -> Version:
        version = parse(row.get(attribute, {}).get("S", ""))
        if version is None:
            raise self._malformed(row, attribute)
        return version

    def _image(self, row: Mapping[str, Any]) -> Image:
        try:
            return unpacked(row["held_image"]["B"])
        except (KeyError, ValueError):
            raise self._malformed(row, "held_image") from None

    def _malformed(self, row: Mapping[str, Any], attribute: str) -> Malformed:
        pk = row.get("pk", {}).get("S", f"key#{self._table}")
        text = f"{self._control.name}: {pk}: {attribute} is malformed; mend or delete it"
        return Malformed(text)


def _version_values(version: Version) -> Wire:
    return {":version": {"S": version.text}, ":order": {"S": version.order_text}}


def sequence_text(sequence: int) -> str:
    """A sequence number as a text that sorts as the number does."""
    return f"{sequence:0{SEQUENCE_DIGITS_MAX}d}"


def expiry(clock: Clock, retention_s: int) -> Wire:
    """The value of `expires_at` for a row that is to be kept from now on for the retention."""
    return {"N": str(clock.now_us() // 1_000_000 + retention_s)}


class ControlPositions:
    """ports.Positions over the control table; `kind` says what they are positions of."""

    def __init__(
        self,
        *,
        api: Api,
        control_table: str,
        clock: Clock,
        kind: str,
        retention_s: int = RETENTION_S,
    ) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._clock = clock
        self._kind = kind
        self._retention_s = retention_s

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        """The stored positions. One that is malformed is reported and left out."""
        checkpoints = []
        for row in await self._control.query(f"{self._kind}#{table}#{source}"):
            arn, _, shard = row["sk"]["S"].rpartition("#")
            position = position_of(row)
            if position is None:
                fields = {"table": table, "source": source, "shard": shard}
                logger.warning("checkpoint.malformed", extra=fields)
                continue
            checkpoints.append(
                Checkpoint(
                    table=table, source=source, stream_arn=arn, shard=shard, position=position
                )
            )
        return checkpoints

    async def save(self, checkpoint: Checkpoint) -> None:
        try:
            await self._save(checkpoint, "attribute_not_exists(settled) OR settled < :settled", {})
        except ConditionFailed as refused:
            row = refused.item or {}
            if position_of(row) is not None:
                return  # it lies behind the stored one
            # What is no position may sort above all of them, and would stand for ever.
            await self._save(checkpoint, "settled = :malformed", {":malformed": row["settled"]})

    async def _save(self, checkpoint: Checkpoint, condition: str, values: Wire) -> None:
        pk = f"{self._kind}#{checkpoint.table}#{checkpoint.source}"
        sk = f"{checkpoint.stream_arn}#{checkpoint.shard}"
        expression, values = "SET settled = :settled", dict(values)
        match checkpoint.position:
            case After(sequence=sequence):
                values[":settled"] = {"S": sequence_text(sequence)}
            case Finished():
                values[":settled"] = {"S": FINISHED}
        if self._kind != CHECKPOINT or isinstance(checkpoint.position, Finished):
            values[":expires"] = expiry(self._clock, self._retention_s)
            expression += f", {CONTROL_TTL_ATTRIBUTE} = :expires"
        await self._control.update(row_key(pk, sk), expression, condition, values)


class ControlCheckpoints(ControlPositions):
    """ports.Checkpoints over the control table."""

    def __init__(
        self, *, api: Api, control_table: str, clock: Clock, retention_s: int = RETENTION_S
    ) -> None:
        super().__init__(
            api=api,
            control_table=control_table,
            clock=clock,
            kind=CHECKPOINT,
            retention_s=retention_s,
        )

    async def note_read(self, table: str, source: str, read_us: int) -> None:
        row = {**row_key(f"read#{table}#{source}", STATE), "read_us": {"N": str(read_us)}}
        await self._control.put(
            row,
            "attribute_not_exists(read_us) OR read_us < :read_us",
            {":read_us": {"N": str(read_us)}},
        )

    async def last_read(self, table: str, source: str) -> int | None:
        rows = await self._control.query(f"read#{table}#{source}")
        if not rows:
            return None
        read_us = whole_number(rows[0], "read_us")
        if read_us is None:  # as if nobody had read for ever: a gap, which is mended
            logger.warning("last_read.malformed", extra={"table": table, "source": source})
            return 0
        return read_us


def whole_number(row: Mapping[str, Any], attribute: str) -> int | None:
    """The number of a row's attribute, rounded down; None where it has none."""
    try:
        return int(Decimal(row[attribute]["N"]))
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None


def moment_us(row: Mapping[str, Any], attribute: str) -> int | None:
    """The time in microseconds that a row's attribute states; None where it states none."""
    number = whole_number(row, attribute)
    return number if number is not None and 0 <= number < 10**TIME_DIGITS else None


def position_of(row: Mapping[str, Any]) -> After | Finished | None:
    """What a row says is settled; None where that is malformed."""
    text = row.get("settled", {}).get("S", "")
    if not isinstance(text, str) or not _SETTLED.fullmatch(text):
        return None
    return Finished() if text == FINISHED else After(int(text))
