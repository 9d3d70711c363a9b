"""What is not across: told exactly where it can be, unknown where it cannot, never made up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest

from conflict.operations import Image, Item, Key
from replicator.handover.exposure import (
    Exposure,
    not_in,
    noted_exposure,
    pending_of,
    read_exposure,
)
from replicator.handover.tail import COMPARE_RECORDS, NotAcross, Tail, Write
from replicator.records import (
    WHOLE_STREAM,
    After,
    Checkpoint,
    EventName,
    Mode,
    Page,
    Record,
    Shard,
    StreamDescription,
    TrimHorizon,
    ViewType,
)
from replicator.table import key_of
from replicator.transformer import Transformer

ARN = "arn:stream"
NOW_US = 100_000_000


def image(key: str, value: str) -> Image:
    """An item."""
    return {"id": {"S": key}, "v": {"S": value}}


def record(sequence: int, key: str, value: str | None, created_s: int = 10) -> Record:
    """A put of a value, or with None a delete."""
    return Record(
        sequence=sequence,
        created_us=created_s * 1_000_000,
        event=EventName.REMOVE if value is None else EventName.MODIFY,
        keys={"id": {"S": key}},
        old=image(key, "before"),
        new=None if value is None else image(key, value),
    )


@dataclass
class Stream:
    """Shards of records; the iterator names shard and position."""

    shards: dict[str, list[Record]]

    async def describe(self) -> StreamDescription:
        shards = tuple(Shard(id=name) for name in self.shards)
        view_type = ViewType.NEW_AND_OLD_IMAGES
        return StreamDescription(arn=ARN, view_type=view_type, enabled=True, shards=shards)

    async def iterator(self, shard: str, position: TrimHorizon | After) -> str:
        return f"{shard} {position.sequence if isinstance(position, After) else 0}"

    async def records(self, iterator: str, limit: int) -> Page:
        shard, after = iterator.split()
        found = [r for r in self.shards[shard] if r.sequence > int(after)][: min(limit, 2)]
        last = found[-1].sequence if found else int(after)
        return Page(records=tuple(found), next_iterator=f"{shard} {last}")


class Paged(Stream):
    """A stream in pages as large as they are asked for; its sequence numbers have no holes."""

    async def records(self, iterator: str, limit: int) -> Page:
        shard, after = iterator.split()
        found = self.shards[shard][int(after) : int(after) + limit]
        return Page(records=tuple(found), next_iterator=f"{shard} {int(after) + len(found)}")


@dataclass
class Positions:
    """Checkpoints in memory."""

    stored: list[Checkpoint] = field(default_factory=list)

    async def load(self, table: str, source: str) -> list[Checkpoint]:
        return list(self.stored)

    async def save(self, checkpoint: Checkpoint) -> None:
        self.stored = [c for c in self.stored if c.shard != checkpoint.shard] + [checkpoint]

    async def note_read(self, table: str, source: str, read_us: int) -> None:
        raise AssertionError("a second reader stores nothing")

    async def last_read(self, table: str, source: str) -> int | None:
        return None


@dataclass
class Target:
    """The items of the target."""

    items: dict[str, Image]

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        names = [str(key.attributes["id"]["S"]) for key in keys]
        return [Item(self.items[name], None) if name in self.items else None for name in names]


@dataclass
class Now:
    def now_us(self) -> int:
        return NOW_US

    def monotonic_s(self) -> float:
        return 0.0


async def no_sleep(_: float) -> None:
    """Let others run, and go on."""
    await asyncio.sleep(0)


def checkpoint(shard: str, sequence: int, arn: str = ARN) -> Checkpoint:
    """A shard that is settled up to here."""
    return Checkpoint(
        table="t", source="here", stream_arn=arn, shard=shard, position=After(sequence)
    )


def of_a_process(*checkpoints: Checkpoint, arn: str = ARN) -> Positions:
    """What a process has stored: first of all, which stream it reads."""
    return Positions([checkpoint(WHOLE_STREAM, 0, arn), *checkpoints])


async def none_across(writes: Sequence[Write]) -> list[Write]:
    """Nothing has arrived anywhere."""
    return list(writes)


def a_tail(stream: Stream, positions: Positions, not_across: NotAcross = none_across) -> Tail:
    """The tail of a one-way table's stream."""
    return Tail(
        table="t",
        source="here",
        arn=ARN,
        stream=stream,
        checkpoints=positions,
        not_across=not_across,
        transformer=Transformer(
            home="here",
            mode=Mode.ONE_WAY,
            marker="_replicator",
            key_of=partial(key_of, key_names=("id",)),
        ),
        clock=Now(),
        sleep=no_sleep,
    )


def exposure(stream: Stream, positions: Positions, target: dict[str, Image]) -> Exposure:
    """What the target lacks after one look."""

    async def told() -> Exposure:
        tail = a_tail(stream, positions)
        await tail.look()
        return await read_exposure(tail, "there", Target(target), NOW_US)  # type: ignore[arg-type]

    return asyncio.run(told())


def test_what_arrived_and_only_awaits_its_checkpoint_does_not_count() -> None:
    """Of a key's writes those after what the target holds are missing, in records and in keys."""
    writes = [record(n, "a", str(n), created_s=n) for n in range(1, 6)]
    writes += [record(6, "b", "1"), record(7, "c", None), record(8, "d", None)]
    found = exposure(
        Stream({"s": writes}),
        of_a_process(checkpoint("s", 2)),
        {"a": image("a", "3"), "b": image("b", "1"), "d": image("d", "before")},
    )
    assert (found.records, found.keys) == (3, 2)
    assert sorted(str(key.attributes["id"]["S"]) for key in found.missing) == ["a", "d"]
    assert found.seconds == pytest.approx(100 - 4)
    assert not found.none


def test_nothing_missing_is_known_to_be_nothing() -> None:
    """All is checkpointed: zero, and not unknown."""
    found = exposure(Stream({"s": [record(1, "a", "1")]}), of_a_process(checkpoint("s", 1)), {})
    assert found.none
    assert (found.seconds, found.records, found.keys) == (0.0, 0, 0)
    assert "nothing" in found.line


def test_a_stream_made_anew_is_a_loss() -> None:
    """Positions of another stream tell nothing of this one: it is never called nothing."""
    found = exposure(Stream({"s": []}), of_a_process(arn="other"), {})
    assert found.lost
    assert not found.none


def test_looks_read_on_and_forget_what_is_settled() -> None:
    """Each look counts what is new, and leaves out what was checkpointed meanwhile."""

    async def looks() -> None:
        rng = Random(1)
        stream, positions = Stream({"s": [], "u": []}), of_a_process()
        tail = a_tail(stream, positions)
        for count in range(1, 20):
            shard = rng.choice(("s", "u"))
            stream.shards[shard].append(record(count, f"k{count}", "1"))
            await tail.look()
            assert tail.writes_seen == count
        for shard, records in stream.shards.items():
            await positions.save(checkpoint(shard, records[-1].sequence))
        await tail.look()
        assert tail.outstanding == []

    asyncio.run(looks())


def test_the_end_that_is_marked_is_where_reading_starts() -> None:
    """The next reader finds nothing of what was there before."""

    async def marked() -> None:
        stream, positions = Stream({"s": [record(3, "a", "1")], "empty": []}), Positions()
        tail = a_tail(stream, positions)
        await tail.look()
        await tail.mark_end()
        assert positions.stored == [checkpoint("s", 3)]

    asyncio.run(marked())


def compared(home: dict[str, Image], *targets: dict[str, Image]) -> NotAcross:
    """As a scene compares what a mapping's stream holds: by the items themselves."""

    async def not_across(writes: Sequence[Write]) -> list[Write]:
        lacking: set[int] = set()
        for target in targets:
            found = await not_in(Target(target), writes, Target(home))  # type: ignore[arg-type]
            lacking |= {write.sequence for write in found}
        return [write for write in writes if write.sequence in lacking]

    return not_across


def test_where_a_mapping_reads_what_is_in_every_target_is_across() -> None:
    """No checkpoint is stored but, maybe, where reading was told to start: neither keeps a write on
    its way. Overwritten by another region, or deleted, it is across as well; what one of the
    targets lacks is not."""
    writes = [record(1, "a", "1"), record(2, "b", "1"), record(3, "c", None), record(4, "d", "1")]
    home = {"a": image("a", "1"), "b": image("b", "of another"), "d": image("d", "1")}
    near, far = dict(home), {**home, "d": image("d", "0")}

    async def looked(*targets: dict[str, Image]) -> list[int]:
        positions = Positions([checkpoint("s", 2)])
        tail = a_tail(Stream({"s": writes}), positions, compared(home, *targets))
        await tail.look()
        assert tail.mapped
        assert tail.writes_seen == len(writes)
        return [write.sequence for write in tail.outstanding]

    assert asyncio.run(looked(near)) == []
    assert asyncio.run(looked(near, far)) == [4]


def test_what_a_mapped_stream_no_longer_holds_is_no_loss() -> None:
    """Positions of an older stream were stored by a hand-over; nobody has read by them."""
    found = exposure(Stream({"s": []}), Positions([checkpoint("s", 1, arn="other")]), {})
    assert found.none


def test_a_day_of_a_mapped_stream_is_compared_in_parts() -> None:
    """So that it does not stand in memory; what is not across is kept from part to part."""
    count = 2 * COMPARE_RECORDS + 5
    writes = [record(n, f"k{n}", "1") for n in range(1, count + 1)]
    home = {f"k{n}": image(f"k{n}", "1") for n in range(1, count + 1)}
    target = {name: item for name, item in home.items() if name != "k7"}
    most = 0

    async def look() -> list[int]:
        inner = compared(home, target)

        async def not_across(some: Sequence[Write]) -> list[Write]:
            nonlocal most
            most = max(most, len(some))
            return await inner(some)

        tail = a_tail(Paged({"s": writes}), Positions(), not_across)
        await tail.look()
        return [write.sequence for write in tail.outstanding]

    assert asyncio.run(look()) == [7]
    assert most < COMPARE_RECORDS + 2_000


def test_the_unknown_is_never_zero() -> None:
    """Of a source out of reach records and keys are unknown, and without a note the time."""
    noted = noted_exposure("t", "here", "there", until_us=40_000_000, now_us=NOW_US, pending=None)
    assert (noted.seconds, noted.records, noted.keys) == (60.0, None, None)
    never = noted_exposure("t", "here", "there", until_us=None, now_us=NOW_US, pending=0)
    assert (never.seconds, never.records) == (None, None)
    assert not noted.none
    assert "unknown" in never.line


def test_a_process_knows_what_it_had_read() -> None:
    """What it had not applied is the least that is missing."""
    link = {"target": "there", "pending": 7}
    statuses = [{"pipelines": [{"table": "t", "source": "here", "links": [link]}]}]
    pending = pending_of(statuses, "t", "here", "there")
    noted = noted_exposure("t", "here", "there", until_us=1, now_us=2, pending=pending)
    assert (noted.records, noted.at_least) == (7, True)
    assert pending_of(statuses, "t", "there", "here") is None
