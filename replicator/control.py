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

States of keys are key_states.py's, positions and the last read positions.py's, quarantine and gaps
waiting.py's, backfills backfill/jobs.py's, conflicts ledger.py's, heartbeats heartbeats.py's,
batches lambda_home.py's, readers presence.py's, `across` and `handover` the hand-over's. Every
write but a reader's name is conditional and goes one way only, so workers that share a shard, or
come back from the dead, do no harm.

Keys are named by a digest, never in clear. `expires_at` (epoch seconds) is the time-to-live
attribute; a row without it stays. What a malformed row means is said where it is read: it stops its
key where a deleted item could come back, and counts as none where that is harmless. A malformed
pause is reported and is one: what a person has paused is not resumed by a row's decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from conflict.operations import Key
from conflict.version import SEQUENCE_DIGITS_MAX, TIME_DIGITS
from replicator.errors import ConditionFailed
from replicator.ports import Api, Clock, Sleep
from replicator.requests import Wire, batch_get_request
from replicator.table import batch_get

RETENTION_S = 7 * 24 * 3600
"""How long a tombstone is kept: a stream's 24 hours and the longest backfill. Source: design.md."""

CONTROL_KEY_SCHEMA: Mapping[str, tuple[str, str]] = {"pk": ("HASH", "S"), "sk": ("RANGE", "S")}
CONTROL_TTL_ATTRIBUTE = "expires_at"
STATE = "state"


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

    async def raise_moment(self, key: Wire, attribute: str, moment_us: int) -> None:
        """Store a moment in a row of its own, unless a later one stands; what is none gives way."""
        moment = {"N": str(moment_us)}
        await self.put(
            {**key, attribute: moment},
            f"attribute_not_exists({attribute}) OR {attribute} < :moment "
            f"OR NOT attribute_type({attribute}, :number) OR {attribute} >= :bound",
            {":moment": moment, ":number": {"S": "N"}, ":bound": {"N": str(10**TIME_DIGITS)}},
        )

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


def sequence_text(sequence: int) -> str:
    """A sequence number as a text that sorts as the number does."""
    return f"{sequence:0{SEQUENCE_DIGITS_MAX}d}"


def expiry(clock: Clock, retention_s: int) -> Wire:
    """The value of `expires_at` for a row that is to be kept from now on for the retention."""
    return {"N": str(clock.now_us() // 1_000_000 + retention_s)}


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
