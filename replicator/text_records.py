"""Stream records as they came over the wire: of the images, of which few are ever looked into, only
where their text begins and ends.

The text is vouched for by the answer's checksum, or nobody may make these values of it. All else is
held to its type while it is decoded.

Source: API_streams_Record, API_streams_StreamRecord.

This module must not know what a record means.
"""

from __future__ import annotations

from typing import Any

import msgspec

from replicator.errors import Transient
from replicator.images import RawImage, Value


class TextChange(msgspec.Struct, gc=False):
    """StreamRecord. SizeBytes is not looked at: what counts is what is held here."""

    created_s: float = msgspec.field(name="ApproximateCreationDateTime")
    sequence: str = msgspec.field(name="SequenceNumber")
    keys: dict[str, Value] | None = msgspec.field(name="Keys", default=None)
    new: msgspec.Raw = msgspec.field(name="NewImage", default=msgspec.Raw())
    old: msgspec.Raw = msgspec.field(name="OldImage", default=msgspec.Raw())


class TextRecord(msgspec.Struct, gc=False):
    """Record."""

    change: TextChange = msgspec.field(name="dynamodb")
    event: str | None = msgspec.field(name="eventName", default=None)
    identity: dict[str, str] | None = msgspec.field(name="userIdentity", default=None)


class _Records(msgspec.Struct):
    records: list[TextRecord] = msgspec.field(name="Records")
    following: str | None = msgspec.field(name="NextShardIterator", default=None)


class _OddChange(msgspec.Struct):
    """StreamRecord with keys of whatever form."""

    created_s: float = msgspec.field(name="ApproximateCreationDateTime")
    sequence: str = msgspec.field(name="SequenceNumber")
    keys: msgspec.Raw = msgspec.field(name="Keys", default=msgspec.Raw())
    new: msgspec.Raw = msgspec.field(name="NewImage", default=msgspec.Raw())
    old: msgspec.Raw = msgspec.field(name="OldImage", default=msgspec.Raw())


class _OddRecord(msgspec.Struct):
    change: _OddChange = msgspec.field(name="dynamodb")
    event: str | None = msgspec.field(name="eventName", default=None)
    identity: dict[str, str] | None = msgspec.field(name="userIdentity", default=None)


class _OddRecords(msgspec.Struct):
    records: list[_OddRecord] = msgspec.field(name="Records")
    following: str | None = msgspec.field(name="NextShardIterator", default=None)


_RECORDS = msgspec.json.Decoder(_Records)
_ODD_RECORDS = msgspec.json.Decoder(_OddRecords)
_KEYS = msgspec.json.Decoder(dict[str, Value])


def records_as_text(body: bytes) -> dict[str, Any]:
    """The answer of GetRecords, `Records` being TextRecords. Raises what a decoder raises.

    Keys that are none are left out, each for its own record: the others are sound.
    """
    found: _Records | _OddRecords
    try:
        found = _RECORDS.decode(body)
        records = found.records
    except msgspec.ValidationError:
        found = _ODD_RECORDS.decode(body)
        records = [_without_odd_keys(record) for record in found.records]
    answer: dict[str, Any] = {"Records": records}
    if found.following is not None:
        answer["NextShardIterator"] = found.following
    return answer


def _without_odd_keys(record: _OddRecord) -> TextRecord:
    odd = record.change
    try:
        keys = _KEYS.decode(odd.keys)
    except (msgspec.DecodeError, UnicodeDecodeError):
        keys = None
    change = TextChange(
        created_s=odd.created_s, sequence=odd.sequence, keys=keys, new=odd.new, old=odd.old
    )
    return TextRecord(change=change, event=record.event, identity=record.identity)


def image_of(text: bytes) -> RawImage | None:
    """The image that a text states, None where it states none. Raises: Transient."""
    if text[:1] == b"{":
        return RawImage(text)
    if text and text != b"null":
        raise Transient("GetRecords: the answer is garbled: an image is no object")
    return None
