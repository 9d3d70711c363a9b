"""An event source mapping on a DynamoDB stream, with AWS's documented semantics of retry.

    stream ─► slots (shard, hash of the partition key) ─► batch ─► function ─► checkpoint
                                                            ▲          │
                                                            └─ retry ──┘ ─► on-failure destination

Per shard there are `parallelization_factor` slots; records of a partition key keep to one slot, in
order, and a slot has one invocation at a time. What the function's end means:

    no failures named         the batch is done
    failures named            the records below the lowest are done; the rest is tried again
    an error, or a name that  the whole batch is tried again, in halves one after the other where
      is not in the batch     `bisect` is on; a split does not count as an attempt
    retries used up           the rest goes to the destination, and the slot goes on
    older than the age        before an invocation: to the destination, without one

Source: Lambda, "How Lambda processes records from stream and queue-based event sources", "Retaining
discarded batches for a DynamoDB event source", "Configuring partial batch response".
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

Raw: TypeAlias = Mapping[str, Any]
"""A record as a Lambda event holds it."""

Invoke: TypeAlias = Callable[[dict[str, Any]], object]
"""The function: an event in, its answer out; raises where the invocation fails."""


@dataclass(frozen=True)
class Discarded:
    """What the on-failure destination is told."""

    condition: str
    shard: str
    sequences: tuple[str, ...]


@dataclass
class _Attempt:
    """Records that are tried together, and how often they were."""

    records: list[Raw]
    failures: int = 0


@dataclass
class Slot:
    """One lane of one shard: what waits, and the parts of a batch that are tried again."""

    shard: str
    waiting: deque[Raw] = field(default_factory=deque)
    retrying: deque[_Attempt] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.retrying


@dataclass(kw_only=True)
class EventSourceMapping:
    """One mapping; `now_s` tells the age of records. A None bound means no bound."""

    stream_arn: str
    now_s: Callable[[], float]
    batch_size: int = 100
    parallelization_factor: int = 1
    bisect: bool = True
    retries_max: int | None = None
    age_max_s: float | None = None
    reports_failures: bool = True
    discarded: list[Discarded] = field(default_factory=list)
    invocations: int = 0
    _slots: dict[tuple[str, int], Slot] = field(default_factory=dict)

    def take_in(self, shard: str, records: Iterable[Raw]) -> None:
        """What was read from a shard, in order."""
        for record in records:
            lane = self._lane(record["dynamodb"]["Keys"])
            self._slots.setdefault((shard, lane), Slot(shard)).waiting.append(record)

    @property
    def slots(self) -> list[Slot]:
        """Lanes that have work. Those of one mapping may be worked at the same time."""
        return [slot for slot in self._slots.values() if not slot.idle]

    def step(self, slot: Slot, invoke: Invoke) -> None:
        """One invocation of a slot that has work, and what follows from it."""
        if not slot.retrying:
            size = min(self.batch_size, len(slot.waiting))
            slot.retrying.append(_Attempt([slot.waiting.popleft() for _ in range(size)]))
        attempt = slot.retrying[0]
        self._drop_aged(slot, attempt)
        if not attempt.records:
            slot.retrying.popleft()
            return
        self.invocations += 1
        try:
            answer = invoke({"Records": attempt.records})
        except Exception:  # noqa: BLE001 - whatever it was, the function failed
            failed_at: int | None = 0
            named = False
        else:
            failed_at, named = self._failed_at(attempt.records, answer)
        slot.retrying.popleft()
        if failed_at is not None:
            self._again(slot, attempt, failed_at, named=named)

    def _failed_at(self, records: list[Raw], answer: object) -> tuple[int | None, bool]:
        """Where the first failure lies (None: nowhere), and whether the function named it."""
        if not self.reports_failures or not answer:
            return None, False
        assert isinstance(answer, dict)
        json.dumps(answer)
        failures = answer.get("batchItemFailures") or []
        if not failures:
            return None, False
        places = {record["dynamodb"]["SequenceNumber"]: at for at, record in enumerate(records)}
        found = [places.get(failure.get("itemIdentifier")) for failure in failures]
        known = [at for at in found if at is not None]
        return (min(known), True) if len(known) == len(found) else (0, False)

    def _again(self, slot: Slot, attempt: _Attempt, failed_at: int, *, named: bool) -> None:
        left = attempt.records[failed_at:]
        if not named and self.bisect and len(left) > 1:
            half = len(left) // 2
            parts = [_Attempt(left[:half], attempt.failures), _Attempt(left[half:], 0)]
            slot.retrying.extendleft(reversed(parts))
            return
        failures = 1 if failed_at else attempt.failures + 1
        if self.retries_max is not None and failures > self.retries_max:
            self._discard("RetryAttemptsExhausted", slot, left)
            return
        slot.retrying.appendleft(_Attempt(left, failures))

    def _drop_aged(self, slot: Slot, attempt: _Attempt) -> None:
        if self.age_max_s is None:
            return
        oldest_s = self.now_s() - self.age_max_s
        aged = [r for r in attempt.records if _created_s(r) < oldest_s]
        if aged:
            attempt.records = [r for r in attempt.records if _created_s(r) >= oldest_s]
            self._discard("MaximumRecordAgeExceeded", slot, aged)

    def _discard(self, condition: str, slot: Slot, records: list[Raw]) -> None:
        sequences = tuple(record["dynamodb"]["SequenceNumber"] for record in records)
        self.discarded.append(Discarded(condition, slot.shard, sequences))

    def _lane(self, keys: Mapping[str, Any]) -> int:
        """By the partition key, which is the first that was stated."""
        value = json.dumps(next(iter(keys.values())), sort_keys=True)
        digest = hashlib.sha256(value.encode()).digest()
        return int.from_bytes(digest[:4]) % self.parallelization_factor


def queue_event(discarded: Discarded, stream_arn: str, at_s: float) -> dict[str, Any]:
    """A queue's event with the message of what was given up.

    Source: Lambda, "Retaining discarded batches for a DynamoDB event source", example record.
    """
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {
        "requestContext": {"requestId": "r", "condition": discarded.condition},
        "version": "1.0",
        "timestamp": at,
        "DDBStreamBatchInfo": {
            "shardId": discarded.shard,
            "startSequenceNumber": discarded.sequences[0],
            "endSequenceNumber": discarded.sequences[-1],
            "approximateArrivalOfFirstRecord": at,
            "approximateArrivalOfLastRecord": at,
            "batchSize": len(discarded.sequences),
            "streamArn": stream_arn,
        },
    }
    message = {"messageId": discarded.sequences[0], "body": json.dumps(body)}
    return {"Records": [{**message, "eventSource": "aws:sqs", "awsRegion": "us-east-1"}]}


def _created_s(record: Raw) -> float:
    created_s: float = record["dynamodb"]["ApproximateCreationDateTime"]
    return created_s


def lambda_record(record: Mapping[str, Any], stream_arn: str, region: str) -> dict[str, Any]:
    """A record of GetRecords as the mapping puts it into an event, ready for JSON."""
    change = {
        name: _json(value)
        for name, value in record["dynamodb"].items()
        if name != "ApproximateCreationDateTime"
    }
    created = record["dynamodb"]["ApproximateCreationDateTime"]
    change["ApproximateCreationDateTime"] = (
        created.timestamp() if isinstance(created, datetime) else created
    )
    raw: dict[str, Any] = {
        "eventID": record.get("eventID", ""),
        "eventName": record["eventName"],
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": region,
        "dynamodb": change,
        "eventSourceARN": stream_arn,
    }
    identity = record.get("userIdentity")
    if identity:
        raw["userIdentity"] = {name[0].lower() + name[1:]: of for name, of in identity.items()}
    return raw


def _json(value: object) -> object:
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: _json(member) for name, member in value.items()}
        case list() | set() | tuple():
            return [_json(member) for member in value]
        case _:
            return value
