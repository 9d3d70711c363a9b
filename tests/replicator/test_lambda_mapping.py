"""The harness of the event source mapping keeps to what AWS documents of retries."""

from __future__ import annotations

from typing import Any

from support.event_source_mapping import EventSourceMapping

NOW_S = 1_000.0


def _raw(sequence: int, key: str = "k", created_s: float = NOW_S) -> dict[str, Any]:
    change = {
        "SequenceNumber": str(sequence),
        "Keys": {"id": {"S": key}},
        "ApproximateCreationDateTime": created_s,
    }
    return {"dynamodb": change}


class _Function:
    """Notes the batches that it is given; fails as told."""

    def __init__(self, *failing: int, named: bool = True) -> None:
        self.failing, self.named = set(failing), named
        self.batches: list[list[int]] = []

    def __call__(self, event: dict[str, Any]) -> object:
        batch = [int(raw["dynamodb"]["SequenceNumber"]) for raw in event["Records"]]
        self.batches.append(batch)
        failed = [sequence for sequence in batch if sequence in self.failing]
        if failed and not self.named:
            raise RuntimeError("failed")
        return {"batchItemFailures": [{"itemIdentifier": str(each)} for each in failed]}


def _mapping(**settings: Any) -> EventSourceMapping:
    return EventSourceMapping(stream_arn="arn", now_s=lambda: NOW_S, **settings)


def _drive(mapping: EventSourceMapping, function: Any, steps: int = 50) -> None:
    for _ in range(steps):
        if not mapping.slots:
            return
        mapping.step(mapping.slots[0], function)


def test_a_batch_goes_on_from_its_lowest_failure() -> None:
    """What lies below it is done, what lies above is tried again, failed or not."""
    mapping, function = _mapping(batch_size=5, retries_max=1), _Function(3, 4)
    mapping.take_in("s", [_raw(number) for number in range(1, 7)])
    mapping.step(mapping.slots[0], function)
    function.failing.clear()
    _drive(mapping, function)
    assert function.batches == [[1, 2, 3, 4, 5], [3, 4, 5], [6]]


def test_an_error_splits_the_batch_in_halves() -> None:
    """One after the other, down to the record that fails; the others are done once."""
    mapping, function = _mapping(batch_size=4, retries_max=1), _Function(3, named=False)
    mapping.take_in("s", [_raw(number) for number in range(1, 5)])
    _drive(mapping, function)
    assert function.batches == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [3], [4]]
    assert [found.sequences for found in mapping.discarded] == [("3",)]


def test_without_bisection_an_error_costs_the_whole_batch() -> None:
    """It is tried again whole, and given up whole."""
    mapping = _mapping(batch_size=4, retries_max=1, bisect=False)
    function = _Function(3, named=False)
    mapping.take_in("s", [_raw(number) for number in range(1, 5)])
    _drive(mapping, function)
    assert function.batches == [[1, 2, 3, 4]] * 2
    assert [found.sequences for found in mapping.discarded] == [("1", "2", "3", "4")]


def test_a_name_that_is_not_in_the_batch_fails_the_batch() -> None:
    """As an error does."""
    mapping = _mapping(batch_size=2, retries_max=0, bisect=False)
    mapping.take_in("s", [_raw(1), _raw(2)])
    _drive(mapping, lambda _: {"batchItemFailures": [{"itemIdentifier": "9"}]})
    assert [found.sequences for found in mapping.discarded] == [("1", "2")]


def test_aged_records_go_to_the_destination_without_an_invocation() -> None:
    """The younger ones of the batch are handed over."""
    mapping, function = _mapping(age_max_s=60.0), _Function()
    mapping.take_in("s", [_raw(1, created_s=NOW_S - 61), _raw(2)])
    _drive(mapping, function)
    assert function.batches == [[2]]
    assert [(d.condition, d.sequences) for d in mapping.discarded] == [
        ("MaximumRecordAgeExceeded", ("1",))
    ]


def test_records_of_a_key_keep_to_one_slot_in_order() -> None:
    """With ten slots, one that fails holds up its own keys only."""
    mapping, function = _mapping(parallelization_factor=10, batch_size=2), _Function(1)
    mapping.take_in("s", [_raw(number, key=str(number % 7)) for number in range(1, 70)])
    held = mapping.slots[0]
    mapping.step(held, function)
    for slot in mapping.slots[1:]:
        while not slot.idle:
            mapping.step(slot, function)
    assert mapping.slots == [held]
    function.failing.clear()
    _drive(mapping, function)
    done = [sequence for batch in function.batches for sequence in batch]
    for key in range(7):
        of_key = [sequence for sequence in dict.fromkeys(done) if sequence % 7 == key]
        assert of_key == sorted(of_key)
