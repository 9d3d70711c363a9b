"""A parked change is made again by the steps of replication: versions decide, nothing else does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from conflict.operations import Item, Key
from conflict.version import Kind, Version
from replicator.errors import Poison
from replicator.quarantine.replay import End, Replay, Replayed
from replicator.records import Mode, Parked, Record
from support.pipelines import PipelineBench, image

DAY_US = 86_400_000_000
TARGETS = ("eu", "ap")
MODES = pytest.mark.parametrize("mode", Mode)


class ReplayBench(PipelineBench):
    """A pipeline that parks, and a replay of what it has parked, beside it."""

    def __init__(self, mode: Mode = Mode.MULTI_WRITER) -> None:
        super().__init__(targets=TARGETS, mode=mode)
        self.replay = Replay(
            mode=mode,
            writer=self.pipeline._parts.writer,
            targets_of=lambda _: TARGETS,
            tombstone_us=7 * DAY_US,
        )

    async def settled(self) -> None:
        """Wait until every record is settled."""
        await self.until(lambda: self.stats.readable)
        await self.until(lambda: self.snapshot()["unsettled"] == 0)
        await self.clock.sleep(5.0)
        await self.until(lambda: self.snapshot()["unsettled"] == 0)

    async def parked(self, region: str, call: str, name: str, content: str | None) -> Parked:
        """A write that a region has refused once."""
        self.ports[region].fail(call, Poison("refused"))
        self.write(name, content)
        await self.until(lambda: bool(self.stores.parked))
        await self.settled()
        (found,) = self.stores.parked
        return found

    async def again(self, parked: Parked) -> Replayed:
        """Replay it now."""
        return await self.replay.run(parked, self.clock.now_us())


def played(mode: Mode, script: Callable[[ReplayBench], Awaitable[None]]) -> ReplayBench:
    """Run a script on a bench."""
    bench = ReplayBench(mode)
    bench.run(lambda: script(bench))
    return bench


@MODES
def test_what_a_target_refused_is_brought_to_it(mode: Mode) -> None:
    """Once it can be applied the regions are equal again, and once more changes nothing."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        assert bench.contents("eu") == {}
        for _ in range(2):
            assert await bench.again(parked) == Replayed(End.APPLIED)
        await bench.settled()
        assert bench.contents("eu") == bench.contents("us") == bench.contents("ap") == {"1": "x"}

    played(mode, script)


@MODES
def test_a_newer_standing_item_wins_over_a_replay(mode: Mode) -> None:
    """What was written since has arrived on its own, and stays."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        await bench.clock.sleep(2.0)
        bench.write("1", "newer")
        await bench.settled()
        assert await bench.again(parked) == Replayed(End.SUPERSEDED)
        await bench.settled()
        assert bench.contents("eu") == {"1": "newer"}

    played(mode, script)


@MODES
def test_a_newer_delete_wins_over_a_replay(mode: Mode) -> None:
    """A replay brings nothing back: the tombstone is asked."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        await bench.clock.sleep(2.0)
        bench.write("1", None)
        await bench.settled()
        assert await bench.again(parked) == Replayed(End.SUPERSEDED)
        await bench.settled()
        assert bench.contents("eu") == bench.contents("us") == {}

    played(mode, script)


@MODES
def test_a_delete_that_a_target_refused_takes_the_item_out(mode: Mode) -> None:
    """A change without an image is a delete, under its own version."""

    async def script(bench: ReplayBench) -> None:
        bench.write("1", "x")
        await bench.settled()
        parked = await bench.parked("eu", "raise_tombstone", "1", None)
        assert bench.contents("eu") == {"1": "x"}
        assert await bench.again(parked) == Replayed(End.APPLIED)
        assert bench.contents("eu") == {}

    played(mode, script)


@MODES
def test_what_is_refused_again_stays(mode: Mode) -> None:
    """And it is said by whom and why."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        bench.ports["eu"].fail_always("put", Poison("still too large"))
        assert await bench.again(parked) == Replayed(End.REFUSED, "still too large")

    played(mode, script)


def test_what_home_refused_is_stamped_and_shipped_everywhere() -> None:
    """It takes the way that it would have taken, from its beginning."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("us", "stamp", "1", "x")
        assert bench.contents("eu") == bench.contents("ap") == {}
        for _ in range(2):
            assert await bench.again(parked) == Replayed(End.APPLIED)
        await bench.settled()
        assert bench.contents("eu") == bench.contents("ap") == {"1": "x"}
        (standing,) = bench.regions["us"].items.values()
        assert standing.version is not None
        assert standing.version.kind is Kind.SETTLED

    played(Mode.MULTI_WRITER, script)


def test_an_update_that_home_refused_is_later_than_what_it_overwrote() -> None:
    """It carried the marker that it found; its floor is kept with it."""

    async def script(bench: ReplayBench) -> None:
        bench.write("1", "x")
        await bench.settled()
        before = bench.regions["us"].items["1"]
        assert before.version is not None
        bench.ports["us"].fail("stamp", Poison("refused"))
        bench.regions["us"].now_us = bench.clock.now_us()
        written = Item(image("1", "y"), before.marker)
        bench.regions["us"].write(Key({"id": {"S": "1"}}, "1"), written)
        await bench.until(lambda: bool(bench.stores.parked))
        (parked,) = bench.stores.parked
        assert parked.marker == before.marker
        assert parked.earliest_us == before.version.time_us + 1
        early = replace(parked, version=replace(parked.version, time_us=1), parked_us=2)
        bench.replay = replace(bench.replay, tombstone_us=10**17)
        assert await bench.again(early) == Replayed(End.APPLIED)
        await bench.settled()
        assert bench.contents("eu") == {"1": "y"}

    played(Mode.MULTI_WRITER, script)


def test_what_home_refused_gives_way_to_a_later_write_of_home() -> None:
    """The later one was stamped and shipped on its own."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("us", "stamp", "1", "x")
        await bench.clock.sleep(2.0)
        bench.write("1", "newer")
        await bench.settled()
        assert await bench.again(parked) == Replayed(End.SUPERSEDED)
        await bench.settled()
        assert bench.contents("eu") == bench.contents("us") == {"1": "newer"}

    played(Mode.MULTI_WRITER, script)


@MODES
def test_what_is_older_than_deletes_are_remembered_is_left(mode: Mode) -> None:
    """Its tombstone may be forgotten, so it could bring back what was deleted."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        bench.replay = replace(bench.replay, tombstone_us=60_000_000)
        await bench.clock.sleep(61.0)
        assert await bench.again(parked) == Replayed(End.TOO_OLD)
        assert bench.contents("eu") == {}

    played(mode, script)


def test_a_record_that_said_nothing_is_not_taken_for_a_delete() -> None:
    """It holds no image either, and what stands must stay."""

    async def script(bench: ReplayBench) -> None:
        bench.write("1", "x")
        await bench.settled()
        malformed = Record(
            sequence=0, created_us=bench.clock.now_us(), event=None, keys={"id": {"S": "1"}}
        )
        bench.stream.append("a", malformed)
        await bench.until(lambda: bool(bench.stores.parked))
        assert await bench.again(bench.stores.parked[0]) == Replayed(End.UNREADABLE)
        assert bench.contents("us") == bench.contents("eu") == {"1": "x"}

    played(Mode.MULTI_WRITER, script)


@MODES
def test_an_image_that_was_left_out_is_read_from_the_source(mode: Mode) -> None:
    """What had no room in its row still stands where it was written."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        lean = replace(parked, image=None, image_omitted=True)
        assert await bench.again(lean) == Replayed(End.APPLIED)
        assert bench.contents("eu") == {"1": "x"}

    played(mode, script)


def test_an_image_left_out_whose_source_holds_something_newer_is_superseded() -> None:
    """What stands there has its own record, which brings it under its own version."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        lean = replace(parked, image=None, image_omitted=True)
        bench.ports["eu"].fail("put", Poison("refused"))
        await bench.clock.sleep(2.0)
        bench.write("1", "newer")
        await bench.settled()
        assert bench.contents("eu") == {}
        assert await bench.again(lean) == Replayed(End.SUPERSEDED)
        assert bench.contents("eu") == {}

    played(Mode.MULTI_WRITER, script)


@MODES
def test_what_a_backfill_could_not_bring_gives_way_to_what_has_no_version(mode: Mode) -> None:
    """A seed claims nothing: it fills an empty place, and overwrites no live write."""

    async def script(bench: ReplayBench) -> None:
        seed = Parked(
            table="orders",
            source="us",
            target="eu",
            key=Key({"id": {"S": "1"}}, "1"),
            version=Version(0, "us", 0, Kind.REPLICATED),
            image=image("1", "copy"),
            reason="refused",
            parked_us=bench.clock.now_us(),
        )
        live = Item(image("1", "live"), None)
        bench.regions["eu"].write(seed.key, live)
        assert (await bench.again(seed)).end is End.REFUSED
        assert bench.contents("eu") == {"1": "live"}
        bench.regions["eu"].write(seed.key, None)
        assert await bench.again(seed) == Replayed(End.APPLIED)
        assert bench.contents("eu") == {"1": "copy"}

    played(mode, script)


# --- what the pipeline does about it ---------------------------------------------------------


@MODES
def test_a_later_change_that_arrives_takes_the_parked_one_out(mode: Mode) -> None:
    """It is beaten for good, so nobody has to look at it; the figures say so at once."""

    async def script(bench: ReplayBench) -> None:
        await bench.parked("eu", "put", "1", "x")
        assert [link["quarantined"] for link in bench.snapshot()["links"]] == [1, 0]
        bench.write("2", "other")
        await bench.settled()
        assert len(bench.stores.parked) == 1
        bench.write("1", "small")
        await bench.until(lambda: not bench.stores.parked)
        await bench.until(lambda: bench.contents("eu") == {"1": "small", "2": "other"})
        assert [link["quarantined"] for link in bench.snapshot()["links"]] == [0, 0]

    played(mode, script)


def test_a_later_write_that_home_can_stamp_takes_the_parked_one_out() -> None:
    """The item was made smaller, for example."""

    async def script(bench: ReplayBench) -> None:
        await bench.parked("us", "stamp", "1", "x")
        assert bench.snapshot()["records"]["quarantined"] == 1
        bench.write("1", "small")
        await bench.until(lambda: not bench.stores.parked)
        assert bench.snapshot()["records"]["quarantined"] == 0

    played(Mode.MULTI_WRITER, script)


def test_an_older_change_of_the_key_takes_nothing_out() -> None:
    """A record that is read again after the parked one says nothing about it."""

    async def script(bench: ReplayBench) -> None:
        parked = await bench.parked("eu", "put", "1", "x")
        higher = replace(parked.version, time_us=parked.version.time_us + 10**9)
        bench.stores.parked[:] = [replace(parked, version=higher)]
        bench.pipeline.stats.links["eu"].quarantined = 0
        await bench.until(lambda: bench.stats.links["eu"].quarantined == 1)  # counted again
        bench.write("1", "y")
        await bench.settled()
        assert len(bench.stores.parked) == 1

    played(Mode.MULTI_WRITER, script)


def test_what_a_person_has_dealt_with_leaves_the_figures() -> None:
    """A command is another process: the pipeline looks again while anything is parked."""

    async def script(bench: ReplayBench) -> None:
        await bench.parked("eu", "put", "1", "x")
        bench.stores.parked.clear()
        await bench.until(lambda: bench.stats.links["eu"].quarantined == 0)

    played(Mode.MULTI_WRITER, script)
