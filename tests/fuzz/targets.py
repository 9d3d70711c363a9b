"""What is fuzzed: each target takes bytes, and raises only where the product is at fault.

A reader of what others wrote either understands it or refuses it by an error of its own; any other
error would end more than what it is about. This module must not know what feeds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from conflict.operations import Key, KeyState
from conflict.origin import Change
from conflict.version import Kind, Version, parse
from replicator.backfill.jobs import Jobs
from replicator.conflicts import Wanted, newest
from replicator.control import ControlTable
from replicator.errors import (
    ConfigurationError,
    Fatal,
    Keyless,
    Malformed,
    Poison,
    Transient,
)
from replicator.handover.across import Across
from replicator.heartbeats import ControlRow
from replicator.key_states import ControlKeyStates
from replicator.lambda_event import batch_of
from replicator.lambda_home import ControlHomeMemory
from replicator.ledger import Secret
from replicator.packing import packed
from replicator.pausing import ControlPauses
from replicator.positions import ControlCheckpoints
from replicator.records import EventName, Mode, Record
from replicator.stream import DynamoStream
from replicator.table import key_of
from replicator.text_records import records_as_text
from replicator.transformer import Transformer
from replicator.waiting import Gaps, Quarantine
from replicator.wire.shapes import ANSWERS
from support.clock import VirtualClock
from support.scripted_api import ScriptedApi

MARKER = "_replicator"
NOW_US = 10**15
VERSION = Version(NOW_US, "us", 7, Kind.APPLICATION)
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the lean plane takes for a garbled answer (wire/api.py)."""

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
RECORD: dict[str, Any] = {
    "eventName": "MODIFY",
    "eventSourceARN": ARN,
    "dynamodb": {
        "ApproximateCreationDateTime": 1.5,
        "Keys": {"id": {"S": "1"}},
        "SequenceNumber": "000000000000000000007",
        "NewImage": {"id": {"S": "1"}, MARKER: {"S": VERSION.text}, "b": {"B": "AP8="}},
        "OldImage": {"id": {"S": "1"}, "n": {"N": "1E2"}, "l": {"L": [{"M": {"x": {}}}]}},
    },
    "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"},
}
ROW: dict[str, Any] = {
    "settled": {"S": "000000000000000000007"},
    "since_us": {"N": "1"},
    "reason": {"S": "trimmed"},
    "parked_version": {"S": VERSION.text},
    "parked_us": {"N": "7"},
    "tombstone": {"S": VERSION.text},
    "held_version": {"S": VERSION.text},
    "until_us": {"N": "7"},
    "sent_us": {"N": "7"},
    "at_us": {"N": "7"},
    "decided_in": {"S": "eu"},
    "winner": {"S": VERSION.text},
    "winner_deleted": {"BOOL": True},
    "loser": {"S": ""},
    "loser_deleted": {"BOOL": False},
    "asked_for": {"S": '{"targets": ["eu"], "authority": null, "segments": 3}'},
    "started_us": {"N": "7"},
    "counts": {"S": '{"items": 1, "read_units": 0.5, "targets": {"eu": {"written": 1}}}'},
}
OLD_RECORD = Record(
    sequence=7, created_us=0, event=EventName.REMOVE, keys=RECORD["dynamodb"]["Keys"],
    old=None, new=None, ttl=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`seeds`: what is well-formed, from which the feeding begins."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def records(data: bytes) -> None:
    """A page of the stream, vouched for by its checksum: each record is a change, or refused.

    The text is UTF-8, by the service's own word; that is not looked at again.
    """
    try:
        data.decode()
        answer = records_as_text(data)
    except UNDECODABLE:
        return
    try:
        read = _done(DynamoStream(api=ScriptedApi(answer), arn=ARN).records("from", 1000))
    except Transient:
        return
    assert len(read.records) == len(answer["Records"])
    for mode in Mode:
        transformer = Transformer(
            home="us", mode=mode, marker=MARKER, key_of=partial(key_of, key_names=("id",))
        )
        for record in read.records:
            try:
                change = transformer.change(record, NOW_US)
            except (Poison, Fatal, Keyless):
                continue
            assert isinstance(change, Change)
            assert change.created_us <= NOW_US + transformer.future_bound_us


def marker(data: bytes) -> None:
    """A version's text: it states nothing, or a version whose text states it as well."""
    version = parse(data.decode("utf-8", "replace"))
    if version is not None:
        assert parse(version.text) == version


def rows(data: bytes) -> None:
    """Rows of the control table: read, told and left out, or an error of their key alone."""
    try:
        found: list[dict[str, Any]] = ANSWERS["Query"].decode(data)["Items"]
    except UNDECODABLE:
        return
    clock = VirtualClock()
    for fields in found:
        sort = fields.get("sk", {}).get("S", "arn#shard")
        row = {**fields, "pk": {"S": "p"}, "sk": {"S": sort}}
        _read_row(row, clock)


def _read_row(row: dict[str, Any], clock: VirtualClock) -> None:
    answered: Callable[[], ScriptedApi] = lambda: ScriptedApi({"Items": [row]})  # noqa: E731
    positions = ControlCheckpoints(api=answered(), control_table="control", clock=clock)
    assert len(_done(positions.load("orders", "us"))) <= 1
    gaps = Gaps(api=answered(), control_table="control")
    assert len(_done(gaps.load("orders", "us"))) == 1
    assert len(_done(Quarantine(api=answered(), control_table="control").load("orders"))) <= 1
    assert len(_done(Quarantine(api=answered(), control_table="control").notes("orders"))) <= 1
    assert len(_done(ControlPauses(api=answered(), control_table="control").load("t", "us"))) <= 1
    ledger = _done(newest(answered(), "control", "orders", Wanted()))
    assert len(ledger.conflicts) + ledger.malformed == 1
    named: Callable[[str], ScriptedApi] = lambda sort: ScriptedApi(  # noqa: E731
        {"Items": [{**row, "sk": {"S": sort}}]}
    )
    across = _done(Across(api=named("us"), control_table="control").until_us("orders", "us"))
    beat = ControlRow(
        control=ControlTable(api=named("us"), name="control"), table="orders", source="us"
    )
    for time_us in (across, _done(beat.newest_us())):
        assert time_us is None or time_us >= 0
    _read_row_of_a_job(row, clock)
    _read_secret(row)

    class Echo:
        """Answers with the row, under whatever key is asked for."""

        async def call(self, _: str, request: Any) -> dict[str, Any]:
            (key,) = request["RequestItems"]["control"]["Keys"]
            return {"Responses": {"control": [{**row, **key}]}}

    states = ControlKeyStates(
        api=Echo(), control_table="control", table="orders", clock=clock, sleep=clock.sleep
    )
    memory = ControlHomeMemory(
        api=Echo(), control_table="control", table="orders", source="us",
        clock=clock, sleep=clock.sleep,
    )  # fmt: skip
    assert _done(memory.recall("arn", [OLD_RECORD])) is None or "of" in row
    try:
        (state,) = _done(states.read([Key({"id": {"S": "1"}}, "1")]))
    except Malformed:
        return
    assert isinstance(state, KeyState)


def _read_row_of_a_job(row: dict[str, Any], clock: VirtualClock) -> None:
    begun = {**ROW, "pk": {"S": "p"}, "sk": {"S": "7"}}
    for found in (
        [row],
        [{**row, "sk": {"S": "7"}}],
        [begun, {**row, "sk": {"S": "7#0000001"}}],
    ):
        jobs = Jobs(
            api=ScriptedApi({"Items": found}), control_table="control", table="orders",
            source="us", clock=clock, sleep=clock.sleep,
        )  # fmt: skip
        try:
            known = _done(jobs.load())
        except ConfigurationError:
            continue
        assert sum(job.tally.items for job in known) >= 0


def _read_secret(row: dict[str, Any]) -> None:
    secret = Secret(ControlTable(api=ScriptedApi({}, {"Items": [row]}), name="control"), None)
    try:
        _done(secret.load())
    except Fatal:
        return
    assert secret.name(Key({"id": {"S": "1"}}, "1")) is not None


def _done(work: Any) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def event(data: bytes) -> None:
    """What a function is invoked with: a batch, or one clear error."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        batch = batch_of(given)
    except Fatal:
        return
    assert len(batch.records) == len(given["Records"])


def _text(document: object) -> bytes:
    return json.dumps(document).encode()


TARGETS: Mapping[str, Target] = {
    "records": Target(
        run=records,
        seeds=(
            _text({"Records": [RECORD], "NextShardIterator": "on"}),
            _text({"Records": [{"dynamodb": {**RECORD["dynamodb"], "Keys": 1}}]}),
        ),
    ),
    "marker": Target(run=marker, seeds=(VERSION.text.encode(), b"1#us#0117s")),
    "rows": Target(
        run=rows,
        seeds=(
            _text({"Items": [ROW]}),
            msgspec.json.encode(
                {"Items": [{**ROW, "held_image": {"B": packed({"id": {"S": "1"}})}}]}
            ),
            msgspec.json.encode(
                {"Items": [{**ROW, "item_key": {"B": packed({"id": {"S": "1"}})}}]}
            ),
            msgspec.json.encode(
                {"Items": [{**ROW, "settled_to": {"B": packed({"id": {"S": "1"}})}}]}
            ),
            _text({"Items": [{**ROW, "sk": {"S": "0000000000000007#us#key#both"}}]}),
        ),
    ),
    "event": Target(
        run=event, seeds=(_text({"Records": [RECORD]}), _text({"window": {}, "Records": []}))
    ),
}
