"""A batch is applied by the session of the process, and its answer loses nothing.

In memory and virtual time: the mapping of tests/support hands over what a table's stream says.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from replicator.errors import Fatal, Poison, Transient
from replicator.lambda_batch import lowest_unsettled
from replicator.lambda_home import covered
from replicator.records import Mode, Record
from support.event_source_mapping import EventSourceMapping, lambda_record
from support.pipelines import PipelineBench

WITHIN_S = 5.0
ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/1"


class Remembered:
    """lambda_home.HomeMemory, of one stream."""

    def __init__(self) -> None:
        self.noted: dict[int, tuple[int, bytes]] = {}

    async def recall(self, stream_arn: str, records: Sequence[Record]) -> int | None:
        """By the first sequence number, if it covers the same records."""
        assert stream_arn == ARN
        settled, of = self.noted.get(records[0].sequence, (0, b""))
        return settled if of == covered(records, settled) else None

    async def note(self, stream_arn: str, records: Sequence[Record], settled: int) -> None:
        """The newest stands."""
        assert stream_arn == ARN
        self.noted[records[0].sequence] = settled, covered(records, settled)


def _records(bench: PipelineBench) -> list[Record]:
    return bench.regions["us"].stream.shards[0].records


def _apply(
    bench: PipelineBench, records: Sequence[Record], memory: Remembered | None = None
) -> int | None:
    """One invocation, in virtual time."""
    applying = lowest_unsettled(
        bench.pipeline.parts, ARN, records, within_s=WITHIN_S, memory=memory or Remembered()
    )
    return bench.clock.run(applying, limit_s=60.0)


def _raw(record: Record) -> dict[str, object]:
    told: dict[str, object] = {
        "ApproximateCreationDateTime": record.created_us / 1e6,
        "SequenceNumber": str(record.sequence),
        "Keys": record.keys,
    }
    told |= {"OldImage": record.old} if record.old else {}
    told |= {"NewImage": record.new} if record.new else {}
    event = record.event.value if record.event else ""
    return lambda_record({"eventName": event, "dynamodb": told}, ARN, "us")


class _Driven:
    """A mapping, driven by hand, whose function applies batches to a bench."""

    def __init__(self, bench: PipelineBench, **mapping: object) -> None:
        self.bench = bench
        self.mapping = EventSourceMapping(
            stream_arn=ARN,
            now_s=lambda: bench.clock.now_us() / 1e6,
            **mapping,  # type: ignore[arg-type]
        )
        self._taken = 0
        self._memory = Remembered()

    def step(self) -> bool:
        """Hand over one batch; False when there is none."""
        records = _records(self.bench)
        self.mapping.take_in("s", [_raw(record) for record in records[self._taken :]])
        self._taken = len(records)
        if not self.mapping.slots:
            return False
        self.mapping.step(self.mapping.slots[0], self._invoke)
        return True

    def drive(self, steps_max: int = 200) -> None:
        """Until nothing is left."""
        for _ in range(steps_max):
            if not self.step():
                return
        raise AssertionError("the mapping does not come to an end")

    def _invoke(self, event: dict[str, list[dict[str, dict[str, str]]]]) -> object:
        sequences = [int(raw["dynamodb"]["SequenceNumber"]) for raw in event["Records"]]
        chosen = [record for record in _records(self.bench) if record.sequence in sequences]
        failed = _apply(self.bench, chosen, self._memory)
        return {"batchItemFailures": [] if failed is None else [{"itemIdentifier": str(failed)}]}


@pytest.mark.parametrize("mode", [Mode.MULTI_WRITER, Mode.ONE_WAY])
def test_a_batch_arrives_and_names_no_failure(mode: Mode) -> None:
    """Puts, an update and a delete; what a key went through is in one batch."""
    bench = PipelineBench(targets=("eu", "ap"), mode=mode)
    for name, content in (("1", "x"), ("2", "x"), ("1", "y"), ("2", None)):
        bench.write(name, content)

    assert _apply(bench, tuple(_records(bench))) is None
    assert bench.contents("eu") == bench.contents("ap") == {"1": "y"}


def test_a_batch_may_be_handed_over_again() -> None:
    """Whatever was settled the first time changes nothing the second time."""
    bench = PipelineBench()
    for name in "123":
        bench.write(name, "x")
    batch = tuple(_records(bench))
    assert _apply(bench, batch) is None
    before = dict(bench.regions["eu"].items)
    assert _apply(bench, batch) is None
    assert bench.regions["eu"].items == before


def test_what_is_not_settled_in_time_is_named_by_its_lowest_sequence() -> None:
    """A target that is down: the mapping is told where to go on, within the time that there was."""
    bench = PipelineBench()
    for name in "12":
        bench.write(name, "x")
    assert _apply(bench, tuple(_records(bench))) is None
    later = [bench.write(name, "y") for name in "34"]
    bench.ports["eu"].fail_always("put", Transient("down"))
    begun_s = bench.clock.monotonic_s()
    chosen = _records(bench)[2:]  # two echoes of the first batch, which need nothing, come first

    assert _apply(bench, chosen) == later[0]
    assert bench.clock.monotonic_s() - begun_s <= WITHIN_S + 1.0
    bench.ports["eu"].fail_always("put", None)
    assert _apply(bench, chosen[2:]) is None
    assert bench.contents("eu") == {"1": "x", "2": "x", "3": "y", "4": "y"}


def test_a_paused_link_does_not_keep_a_batch_from_the_others() -> None:
    """It is handed over again at once, for the paused one, and what has arrived elsewhere stays."""
    bench = PipelineBench(targets=("eu", "ap"))
    bench.stats.links["ap"].paused_since_us = 1
    first = bench.write("1", "x")
    begun_s = bench.clock.monotonic_s()
    assert _apply(bench, _records(bench)) == first
    assert bench.clock.monotonic_s() - begun_s < WITHIN_S
    assert (bench.contents("eu"), bench.contents("ap")) == ({"1": "x"}, {})
    bench.stats.links["ap"].paused_since_us = None
    assert _apply(bench, _records(bench)[:1]) is None
    assert bench.contents("ap") == {"1": "x"}


def test_what_was_settled_at_home_is_not_settled_there_again() -> None:
    """The batch that is handed over again begins at what was named; only its target is served."""
    bench, memory = PipelineBench(), Remembered()
    bench.ports["eu"].fail_always("put", Transient("down"))
    sequences = [bench.write(name, "x") for name in "123"]
    batch = tuple(_records(bench))
    assert _apply(bench, batch, memory) == sequences[0]
    assert memory.noted[sequences[0]][0] == sequences[-1]

    bench.ports["eu"].fail_always("put", None)
    home = bench.ports["us"]
    home.calls.clear()
    assert _apply(bench, batch, memory) is None
    assert bench.contents("eu") == {"1": "x", "2": "x", "3": "x"}
    assert "stamp" not in home.calls


def test_another_batch_that_begins_alike_is_settled_anew() -> None:
    """The mapping's slots were changed meanwhile: nothing may pass for settled that is not."""
    bench, memory = PipelineBench(), Remembered()
    bench.ports["eu"].fail_always("put", Transient("down"))
    sequences = [bench.write(name, "x") for name in "123"]
    first, second, third = tuple(_records(bench))
    assert _apply(bench, (first, third), memory) == sequences[0]

    bench.ports["eu"].fail_always("put", None)
    assert _apply(bench, (first, second, third), memory) is None
    assert bench.contents("eu") == {"1": "x", "2": "x", "3": "x"}


def test_poison_is_parked_and_counts_as_done() -> None:
    """With its image; nothing behind it waits."""
    bench = PipelineBench()
    bench.ports["eu"].fail("put", Poison("too large"))
    for name in "12":
        bench.write(name, "x")

    assert _apply(bench, _records(bench)) is None
    (parked,) = bench.stores.parked
    assert parked.reason == "too large"
    assert parked.image is not None
    assert len(bench.contents("eu")) == 1


def test_poison_that_cannot_be_parked_is_not_done() -> None:
    """Until it is durable somewhere the mapping keeps it."""
    bench = PipelineBench()
    bench.ports["eu"].fail_always("put", Poison("too large"))
    bench.stores.fail_always("park", Transient("down"))
    sequence = bench.write("1", "x")

    assert _apply(bench, _records(bench)) == sequence
    assert not bench.stores.parked


def test_what_ends_a_session_is_raised() -> None:
    """A stream that cannot serve the table is an error of the function, not of a record."""
    bench = PipelineBench()
    bench.write("1", "x")
    (record,) = _records(bench)
    keys_only = Record(
        sequence=record.sequence,
        created_us=record.created_us,
        event=record.event,
        keys=record.keys,
    )
    with pytest.raises(Fatal, match="leaves out new images"):
        _apply(bench, [keys_only])


def test_a_home_that_hangs_is_not_waited_for_beyond_the_time() -> None:
    """Whatever hangs, the answer comes, and names what is not settled."""
    bench = PipelineBench()
    sequence = bench.write("1", "x")
    bench.ports["us"].call_s = 1_000_000.0
    assert _apply(bench, _records(bench)) == sequence


# --- under the mapping -------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 3, 10])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_under_the_mapping_all_arrives(factor: int, size: int) -> None:
    """Any batch size and parallelization factor, with the replicator's own stamps as echoes."""
    bench = PipelineBench(targets=("eu", "ap"))
    driven = _Driven(bench, batch_size=size, parallelization_factor=factor)
    for round_ in range(3):
        for name in range(8):
            bench.write(str(name), None if (round_ + name) % 5 == 4 else f"{round_}")
        driven.step()
    driven.drive()

    home = bench.contents("us")
    assert home
    assert bench.contents("eu") == bench.contents("ap") == home


def test_a_target_that_is_down_for_long_is_caught_up_with() -> None:
    """The mapping tries again as often as it takes, from the lowest that is not settled."""
    bench = PipelineBench()
    driven = _Driven(bench, batch_size=10)
    bench.ports["eu"].fail_always("put", Transient("down"))
    for name in range(25):
        bench.write(str(name), "x")
    for _ in range(5):
        assert driven.step()
    assert not bench.contents("eu")
    bench.ports["eu"].fail_always("put", None)
    driven.drive()

    assert bench.contents("eu") == bench.contents("us")
    assert not driven.mapping.discarded
    assert driven.mapping.invocations > 5


def test_what_is_given_up_is_told_to_the_destination() -> None:
    """With a bound on retries the records go there, by their sequence numbers, and none is lost."""
    bench = PipelineBench()
    driven = _Driven(bench, batch_size=10, retries_max=2)
    bench.ports["eu"].fail_always("put", Transient("down"))
    sequences = [bench.write(name, "x") for name in "123"]
    for _ in range(3):
        assert driven.step()
    bench.ports["eu"].fail_always("put", None)
    driven.drive()

    (discarded,) = driven.mapping.discarded
    assert discarded.condition == "RetryAttemptsExhausted"
    assert discarded.sequences == tuple(map(str, sequences))
