"""What is said to DynamoDB and what is understood of its answers: request and response maps.

This is the only place where conditions on a replicated table become text. (Those on the control
table stand in control.py.) The three conditions of conflict.operations and the guard:

    Absent          attribute_not_exists(#pk)
    Holds(None)     attribute_exists(#pk) AND attribute_not_exists(#m)
    Holds(value)    #m = :m
    Older(than)     #m < :order             with the order text of `than`
    Guard           #g0 = :g0 AND ... AND attribute_not_exists(#h0) AND ...

A comparison with an attribute that is not there is false. So `Older` and `Holds(value)` never hold
on an unstamped or absent item, and no Stamp can make an item: an update upserts only where its
condition lets an absent item pass. A marker of another type than S is never less than a text.

Attribute values are passed on verbatim. An AttributeValue without a type (`{}`, which DynamoDB
Local 3.x puts in place of an empty map in stream images) is read as it is: one odd attribute must
not fail a page, and a write of it is refused and parked by itself.

This module is pure: it must not know boto3, retries, regions or what a version means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, assert_never, cast

from conflict.operations import (
    Absent,
    AttributeValue,
    Delete,
    Expected,
    Guard,
    Holds,
    Image,
    Item,
    Key,
    Older,
    Outcome,
    Put,
    Stamp,
)
from replicator.images import joined, parted
from replicator.records import EventName, Page, Record
from replicator.text_records import TextRecord, image_of

Wire: TypeAlias = dict[str, Any]
"""A request or a response of the API, in the shapes of its reference."""

GUARD_ATTRIBUTES_MAX = 100
"""Attributes that a guard names. With more, an expression would pass 4 KB or 300 operators.
Source: Developer Guide, "Quotas in Amazon DynamoDB", expression parameters."""

OLDER = "#m < :order"
_FAILURE = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_KEYS: Image = {}
"""Of a record that states none: its images may tell them (transformer.py)."""

_EVENTS = {event.value: event for event in EventName}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRequests:
    """Requests against one table. `key_names`: its key attributes, the partition key first."""

    table: str
    marker: str
    key_names: tuple[str, ...]

    def put(self, operation: Put) -> Wire:
        """PutItem: replace the item as a whole. The answer holds what was displaced."""
        return {
            "TableName": self.table,
            "Item": self.join(operation.item),
            "ReturnValues": "ALL_OLD",
            **self._condition(operation.expected),
        }

    def stamp(self, operation: Stamp) -> Wire:
        """UpdateItem: change nothing but the marker. The answer holds the item as it stands now.

        Raises: TypeError for `Absent`, under which the update would make an item.
        """
        if isinstance(operation.expected, Absent):
            raise TypeError("a stamp expects a standing item")
        request = self._condition(operation.expected, operation.guard)
        values = request.setdefault("ExpressionAttributeValues", {})
        values[":v"] = {"S": operation.version.text}
        return {
            "TableName": self.table,
            "Key": dict(operation.key.attributes),
            "UpdateExpression": "SET #m = :v",
            "ReturnValues": "ALL_NEW",
            **request,
        }

    def delete(self, operation: Delete) -> Wire:
        """DeleteItem. The answer holds what was taken out.

        Raises: TypeError for `Absent`, under which there is nothing to delete.
        """
        if isinstance(operation.expected, Absent):
            raise TypeError("a delete expects a standing item")
        return {
            "TableName": self.table,
            "Key": dict(operation.key.attributes),
            "ReturnValues": "ALL_OLD",
            **self._condition(operation.expected),
        }

    def read(self, keys: Sequence[Key]) -> Wire:
        """BatchGetItem, strongly consistent, of up to 100 different keys."""
        return batch_get_request(self.table, [key.attributes for key in keys])

    def join(self, item: Item) -> Wire:
        """The wire form of an item: the marker among its attributes. To be read only."""
        if item.marker is None:
            return cast("Wire", item.image)
        return cast("Wire", joined(item.image, self.marker, item.marker))

    def split(self, wire: Mapping[str, AttributeValue] | None) -> Item | None:
        """The item that a wire form states, the marker beside its image; None for no item."""
        if not wire:
            return None
        return Item(*parted(wire, self.marker))

    def done(self, response: Wire) -> Outcome:
        """The outcome of a write whose condition held."""
        return Outcome(True, self.split(response.get("Attributes")))

    def refused(self, standing: Mapping[str, AttributeValue] | None) -> Outcome:
        """The outcome of a write whose condition did not hold on what was `standing`."""
        return Outcome(False, self.split(standing))

    def _condition(self, expected: Expected, guard: Guard | None = None) -> Wire:
        if isinstance(expected, Older) and guard is None:  # the common way
            return {
                "ConditionExpression": OLDER,
                "ExpressionAttributeNames": {"#m": self.marker},
                "ExpressionAttributeValues": {":order": {"S": expected.than.order_text}},
                **_FAILURE,
            }
        names: dict[str, str] = {}
        values: dict[str, AttributeValue] = {}
        terms = self._expected_terms(expected, names, values)
        if guard is not None:
            terms += self._guard_terms(guard, names, values)
        request: Wire = {
            "ConditionExpression": " AND ".join(terms),
            "ExpressionAttributeNames": names,
            **_FAILURE,
        }
        if values:  # an empty map is refused
            request["ExpressionAttributeValues"] = values
        return request

    def _expected_terms(
        self, expected: Expected, names: dict[str, str], values: dict[str, AttributeValue]
    ) -> list[str]:
        match expected:
            case Absent():
                names["#pk"] = self.key_names[0]
                return ["attribute_not_exists(#pk)"]
            case Holds():
                names["#m"] = self.marker
                if expected.marker is None:
                    names["#pk"] = self.key_names[0]
                    return ["attribute_exists(#pk)", "attribute_not_exists(#m)"]
                values[":m"] = expected.marker
                return ["#m = :m"]
            case Older():
                names["#m"], values[":order"] = self.marker, {"S": expected.than.order_text}
                return [OLDER]
            case _:
                assert_never(expected)

    def _guard_terms(
        self, guard: Guard, names: dict[str, str], values: dict[str, AttributeValue]
    ) -> list[str]:
        """Key attributes stand as they are by the key itself, so they take no room here."""
        terms = []
        equal = [pair for pair in guard.equal.items() if pair[0] not in self.key_names]
        for index, (name, value) in enumerate(equal[:GUARD_ATTRIBUTES_MAX]):
            names[f"#g{index}"], values[f":g{index}"] = name, value
            terms.append(f"#g{index} = :g{index}")
        for index, name in enumerate(guard.missing[: GUARD_ATTRIBUTES_MAX - len(terms)]):
            names[f"#h{index}"] = name
            terms.append(f"attribute_not_exists(#h{index})")
        return terms


def batch_get_request(table: str, keys: Sequence[Image]) -> Wire:
    """BatchGetItem, strongly consistent. Its answer has no order and may leave keys unprocessed."""
    entry = {"Keys": [dict(key) for key in keys], "ConsistentRead": True}
    return {"RequestItems": {table: entry}}


def page(response: Wire) -> Page:
    """What GetRecords answered."""
    return Page(
        records=tuple(record(raw) for raw in response["Records"]),
        next_iterator=response.get("NextShardIterator"),
    )


def record(raw: Mapping[str, Any] | TextRecord) -> Record:
    """One stream record, as the client library, a Lambda event or the lean plane presents it.

    Of a Lambda event the binaries must have been decoded before: there they are base64 text.
    """
    if isinstance(raw, TextRecord):
        return _record_of_text(raw)
    change = raw["dynamodb"]
    return Record(
        sequence=int(change["SequenceNumber"]),
        created_us=microseconds(change["ApproximateCreationDateTime"]),
        event=_EVENTS.get(raw.get("eventName", "")),
        keys=change.get("Keys") or NO_KEYS,
        old=change.get("OldImage"),
        new=change.get("NewImage"),
        ttl=_by_time_to_live(raw.get("userIdentity")),
        size_bytes=change.get("SizeBytes") or 0,
    )


def _record_of_text(raw: TextRecord) -> Record:
    change = raw.change
    new, old = bytes(change.new), bytes(change.old)  # copies: the page itself is not to be kept
    return Record(
        sequence=int(change.sequence),
        created_us=round(change.created_s * 1_000_000),
        event=_EVENTS.get(raw.event or ""),
        keys=change.keys or NO_KEYS,
        old=image_of(old),
        new=image_of(new),
        ttl=raw.identity is not None and _by_time_to_live(raw.identity),
        size_bytes=len(new) + len(old),
    )


def sequence_text(raw: Mapping[str, Any] | TextRecord) -> str:
    """The sequence number of a stream record as it is written there."""
    if isinstance(raw, TextRecord):
        return raw.change.sequence
    text: str = raw["dynamodb"]["SequenceNumber"]
    return text


def microseconds(time: datetime | float) -> int:
    """Microseconds since 1970 of a time as the client library (datetime) or Lambda states it."""
    if isinstance(time, datetime):
        return (time - _EPOCH) // timedelta(microseconds=1)
    return round(time * 1_000_000)


def _by_time_to_live(identity: Mapping[str, str] | None) -> bool:
    """Whether the time-to-live service made the change; Lambda writes the names in lower case.

    Source: Developer Guide, "DynamoDB Streams and Time to Live".
    """
    if not identity:
        return False
    kind = identity.get("Type") or identity.get("type")
    principal = identity.get("PrincipalId") or identity.get("principalId")
    return kind == "Service" and principal == "dynamodb.amazonaws.com"
