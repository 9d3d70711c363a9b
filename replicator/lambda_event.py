"""A Lambda event as records: what an event source mapping on a table's stream hands over. Pure.

The event is the stream's records in JSON: binaries are base64 text, times are seconds as a number,
the names of `userIdentity` may be in lower case. A batch is of one shard, in the order of its
sequence numbers (of one slot of it, by partition key, where the mapping's parallelization factor is
above 1). Source: Lambda, "Using AWS Lambda with Amazon DynamoDB", example event.

What is not understood is one clear error and never a guess: the mapping then keeps the batch.

This module must not know configuration, tables or how a batch is applied.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conflict.operations import AttributeValue
from replicator.errors import Fatal
from replicator.records import Record
from replicator.requests import record

_ARN = re.compile(r"arn:[a-z-]+:dynamodb:[^:/]*:[^:/]*:table/(?P<table>[^/]+)/stream/.+", re.ASCII)
_IMAGES = ("Keys", "OldImage", "NewImage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The records of one invocation. `identifiers`: each sequence number as the event spells it.

    `view_types`: what the records say of their stream, which is one view type or nothing.
    `state`: that of a tumbling window, to be handed back; None where the mapping has no windows.
    """

    stream_arn: str
    table: str
    records: tuple[Record, ...]
    identifiers: Mapping[int, str]
    view_types: frozenset[str]
    state: Mapping[str, object] | None = None


def batch_of(event: object) -> Batch:
    """The batch that an event states.

    Raises: Fatal for what is no batch of records of one DynamoDB stream.
    """
    if not isinstance(event, dict) or not isinstance(event.get("Records"), list):
        raise Fatal("event: has no list of Records; is the function invoked by a stream's mapping?")
    raws: list[object] = event["Records"]
    arns = {_arn_of(raw) for raw in raws}
    if len(arns) > 1:
        raise Fatal("event: its records are of several streams; a batch is of one")
    arn = arns.pop() if arns else _arn_of(event)
    match = _ARN.fullmatch(arn)
    if match is None and raws:
        raise Fatal("event: its records name no stream of a DynamoDB table; check the mapping")
    records = tuple(_record(raw, at) for at, raw in enumerate(raws))
    identifiers = {
        each.sequence: raw["dynamodb"]["SequenceNumber"]
        for each, raw in zip(records, raws, strict=True)
        if isinstance(raw, dict)
    }
    return Batch(
        stream_arn=arn,
        table=match["table"] if match else "",
        records=records,
        identifiers=identifiers,
        view_types=frozenset(
            str(raw["dynamodb"]["StreamViewType"])
            for raw in raws
            if isinstance(raw, dict) and "StreamViewType" in raw["dynamodb"]
        ),
        state=(event.get("state") or {}) if "window" in event else None,
    )


def _arn_of(raw: object) -> str:
    """The stream that a record or an empty window names; an empty text for none."""
    arn = raw.get("eventSourceARN") if isinstance(raw, dict) else None
    return arn if isinstance(arn, str) else ""


def table_of_stream(arn: str) -> str:
    """The table whose stream that is. Raises: ValueError for what is no stream's ARN."""
    match = _ARN.fullmatch(arn)
    if match is None:
        raise ValueError(arn)
    return match["table"]


def _record(raw: object, at: int) -> Record:
    """One record. What is wrong with it is told by its place, never by its content."""
    try:
        return record(_normalised(raw))
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
        raise Fatal(f"event: record {at} is malformed; it is kept and tried again") from None


def _normalised(raw: Any) -> Mapping[str, Any]:
    change: dict[str, Any] = dict(raw["dynamodb"])
    for name in _IMAGES:
        image = change.get(name)
        if image is not None:
            change[name] = {attribute: decoded(value) for attribute, value in image.items()}
    if not change["Keys"]:
        raise ValueError("no key")
    return {**raw, "dynamodb": change}


def decoded(value: AttributeValue) -> AttributeValue:
    """An attribute value with its binaries, at any depth, as bytes."""
    for kind, content in value.items():
        match kind, content:
            case "B", str():
                return {"B": b64decode(content, validate=True)}
            case "BS", list():
                return {"BS": [b64decode(member, validate=True) for member in content]}
            case "L", list():
                return {"L": [decoded(member) for member in content]}
            case "M", dict():
                return {"M": {name: decoded(member) for name, member in content.items()}}
            case _:
                return value
    return value
