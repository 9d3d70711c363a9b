"""The ledger of conflicts: what is kept, when it is written, and that nothing is lost silently."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from conflict.merge import Shipment
from conflict.operations import Image, Item, Key, marker_of
from conflict.version import Kind, Version
from replicator.conflicts import Wanted, newest
from replicator.control import ControlTable, row_key
from replicator.errors import ConditionFailed, Fatal, Transient
from replicator.ledger import (
    RETENTION_S,
    RING_MAX,
    SECRET_BYTES,
    WRITE_BATCH_MAX,
    Conflict,
    LedgerLimits,
    Secret,
    Side,
    newest_conflicts,
    sides,
)
from replicator.telemetry import PipelineStats
from support.clock import START_US
from support.ledgers import OURS, PERSON, THEIRS, Desk, MemoryControl, conflict
from support.pipelines import PipelineBench, image


async def nothing() -> None:
    """A script without a step."""


# --- what is kept -------------------------------------------------------------------------------


def test_a_row_says_who_won_and_names_no_key() -> None:
    """Versions of both, when and where; the key by a digest; gone after 30 days."""
    desk = Desk()
    desk.ledger.note(conflict())
    desk.run(nothing)
    (row,) = desk.api.conflicts
    assert (row["winner"], row["loser"]) == ({"S": OURS.text}, {"S": THEIRS.text})
    assert row["decided_in"] == {"S": "eu"}
    assert row["expires_at"] == {"N": str(START_US // 1_000_000 + RETENTION_S)}
    assert PERSON not in str(desk.api.rows)
    assert not {"item_key", "winner_image", "loser_image"} & row.keys()


def test_keys_and_images_are_kept_where_the_settings_say_so() -> None:
    """Verbatim, and read back as they were."""
    desk = Desk(keys=True, images=True)
    desk.ledger.note(conflict(loser=Side(THEIRS, None)))
    desk.run(nothing)
    ((_, found),) = asyncio.run(newest(desk.api, "control", "orders", Wanted())).conflicts
    assert found["key"] == json.dumps({"id": {"S": PERSON}})
    assert found["winner"]["image"] == image(PERSON, "ours")
    assert found["loser"]["deleted"]
    assert "image" not in found["loser"]


def test_images_that_leave_no_room_are_left_out() -> None:
    """And the row says so; it is written all the same."""
    noise: Image = {"id": {"S": "1"}, "data": {"B": Random(1).randbytes(400_000)}}
    desk = Desk(images=True)
    desk.ledger.note(conflict(winner=Side(OURS, noise)))
    desk.run(nothing)
    (row,) = desk.api.conflicts
    assert row["winner"] == {"S": OURS.text}
    assert row["images_omitted"] == {"BOOL": True}
    assert "winner_image" not in row


def test_a_digest_is_keyed_and_the_same_for_the_same_key() -> None:
    """Regions with one secret agree; another secret gives another name."""
    names = []
    for given in ("a secret of ours", "a secret of ours", "another secret of"):
        desk = Desk(given=given)
        desk.run(nothing)
        names.append(desk.ledger.document(conflict())["key"])
    assert names[0] == names[1] != names[2]


def test_a_region_makes_its_secret_once() -> None:
    """A second process names keys as the first did."""
    desk, names = Desk(), []
    desk.run(nothing)
    names.append(desk.ledger.document(conflict())["key"])
    rows = dict(desk.api.rows)
    assert [pk for pk, _ in rows] == ["secret#digest"]
    again = Secret(ControlTable(api=_Keeping(desk.api), name="control"), None)
    asyncio.run(again.load())
    names.append(again.name(conflict().key))
    assert names[0] == names[1] is not None


class _Keeping:
    """An Api whose conditional puts find a row in place."""

    def __init__(self, api: MemoryControl) -> None:
        self._api = api

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Everything but puts is passed on."""
        if operation == "PutItem":
            raise ConditionFailed(None)
        return await self._api.call(operation, request)


def test_before_the_secret_is_known_a_key_is_not_named() -> None:
    """Rather nothing than the key in clear."""
    assert Desk().ledger.document(conflict())["key"] is None


def test_sides_tell_a_delete_from_a_write() -> None:
    """What a replicator marked for removal is a delete, whatever image still stands."""
    key = Key({"id": {"S": "1"}}, "1")
    ours = Item(image("1", "ours"), marker_of(OURS))
    mark = Item(image("1", "theirs"), marker_of(THEIRS.of_kind(Kind.REMOVING)))
    shipment = Shipment(key, OURS, ours, 1)
    winner, loser = sides(shipment, mark, won=True)
    assert (winner.image, loser.image) == (image("1", "ours"), None)
    winner, loser = sides(shipment, mark, won=False)
    assert (winner.version, loser.version) == (THEIRS.of_kind(Kind.REMOVING), OURS)


# --- when it is written -------------------------------------------------------------------------


def test_rows_are_written_several_at_once() -> None:
    """And no more than that."""
    desk = Desk()
    for n in range(2 * WRITE_BATCH_MAX + 1):
        desk.ledger.note(conflict(START_US + n))
    desk.run(nothing)
    assert desk.api.at_once_max == WRITE_BATCH_MAX
    assert desk.tally == (51, 51, 0)


def test_a_row_that_is_there_already_is_written() -> None:
    """A call whose answer was lost is made again, and finds what it had put down."""
    desk = Desk()
    desk.ledger.note(conflict())
    desk.ledger.note(conflict())
    desk.run(nothing)
    assert (desk.tally, len(desk.api.conflicts)) == ((2, 2, 0), 1)


def test_a_decision_that_is_made_again_is_one_row() -> None:
    """A process that was killed decides once more what it had decided: at another time, as first
    seen in another region, in another role of the same versions. What was written first stands."""
    first = Desk(given="a secret of ours")
    first.ledger.note(conflict())
    first.run(nothing)
    again = Desk(given="a secret of ours")
    again.api.rows = first.api.rows
    won = Side(OURS.of_kind(Kind.REPLICATED), image(PERSON, "ours"))
    again.ledger.note(conflict(winner=won, at_us=START_US + 7_000_000, region="ap"))
    again.run(nothing)
    (row,) = again.api.conflicts
    assert again.tally == (1, 1, 0)
    assert (row["at_us"], row["decided_in"]) == ({"N": str(START_US)}, {"S": "eu"})


def test_decisions_between_other_writes_are_other_rows() -> None:
    """Of the same key too, and where a side has no version; they sort by the write that won."""
    desk = Desk()
    later = Version(START_US + 5, "us", 4, Kind.SETTLED)
    unknown = Side(None, image(PERSON, "theirs"))
    for each in (
        conflict(),
        conflict(loser=unknown),
        conflict(name="another"),
        conflict(winner=Side(later, None)),
        conflict(winner=unknown, loser=Side(THEIRS, None)),
    ):
        desk.ledger.note(each)
    desk.run(nothing)
    assert len(desk.api.conflicts) == 5
    times = sorted(int(row["sk"]["S"].split("#")[0]) for row in desk.api.conflicts)
    assert times == [THEIRS.time_us, OURS.time_us, OURS.time_us, OURS.time_us, later.time_us]


@pytest.mark.parametrize("error", [Transient("down"), Fatal("access denied")])
def test_what_the_table_does_not_take_is_tried_again(error: Exception) -> None:
    """Until it does; meanwhile the ledger says why."""
    desk = Desk()

    async def script() -> None:
        desk.api.error = error
        desk.ledger.note(conflict())
        await desk.clock.sleep(300.0)
        assert desk.ledger.stats.error == str(error)
        desk.api.error = None
        await desk.clock.until(lambda: desk.tally == (1, 1, 0), step_s=1.0)

    desk.run(script)
    assert desk.ledger.stats.error is None


def test_what_finds_no_room_is_counted() -> None:
    """The oldest give way, and are missing in the figures, not silently."""
    desk = Desk(limits=LedgerLimits(queue_max=10))

    async def script() -> None:
        desk.api.error = Transient("down")
        for n in range(13):
            desk.ledger.note(conflict(START_US + n))
        await desk.clock.sleep(10.0)
        desk.api.error = None
        await desk.clock.sleep(60.0)

    desk.run(script)
    assert desk.tally == (13, 10, 3)
    assert min(int(row["at_us"]["N"]) for row in desk.api.conflicts) == START_US + 3


def test_items_that_wait_are_bounded_by_their_bytes() -> None:
    """However few they are: the oldest give way and are counted; what was written makes room."""
    packed_bytes = 100_000
    desk = Desk(images=True, limits=LedgerLimits(queue_bytes_max=10 * packed_bytes))
    rng = Random(1)

    def note(at_us: int) -> None:
        noise: Image = {"data": {"B": rng.randbytes(packed_bytes * 95 // 100)}}
        desk.ledger.note(conflict(at_us, winner=Side(THEIRS.lifted(at_us), noise)))

    async def script() -> None:
        desk.api.error = Transient("down")
        for n in range(13):
            note(START_US + n)
        await desk.clock.sleep(10.0)
        desk.api.error = None
        await desk.clock.until(lambda: desk.ledger.stats.written > 0)
        assert desk.tally[2] == 3
        for n in range(13, 23):
            note(START_US + n)

    desk.run(script)
    assert desk.tally == (23, 20, 3)
    assert all("winner_image" in row for row in desk.api.conflicts)


@pytest.mark.parametrize("images", [False, True])
def test_no_item_stays_in_memory(*, images: bool) -> None:
    """Neither for the page nor for the row, unless rows are to hold it: then packed, until it is
    written. That it deleted or wrote is still told."""
    desk = Desk(images=images)
    desk.api.error = Transient("down")
    written, deleted = Watched(image(PERSON, "ours")), Side(THEIRS, None)
    item = weakref.ref(written)
    desk.ledger.note(conflict(winner=Side(OURS, written), loser=deleted))
    del written
    assert item() is None
    (shown,) = desk.ledger.newest(1)
    told = desk.ledger.document(shown)
    assert (told["winner"]["deleted"], told["loser"]["deleted"]) == (False, True)


class Watched(dict[str, Any]):
    """An image whose end can be seen."""


def test_what_is_left_at_the_end_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A stop does not wait for a dead control table."""
    desk = Desk()
    desk.api.error = Transient("down")
    desk.ledger.note(conflict())
    desk.run(nothing)
    assert desk.tally == (1, 0, 1)
    assert "ledger.unwritten" in [record.message for record in caplog.records]


def test_a_stop_does_not_wait_for_a_call_that_hangs() -> None:
    """It is dropped, and tried once more for as long as draining may take."""
    desk = Desk()

    async def script() -> None:
        await desk.clock.sleep(0.5)
        desk.api.hangs = True
        desk.ledger.note(conflict())
        await desk.clock.sleep(2.0)

    desk.run(script)
    assert desk.clock.monotonic_s() == 2.5 + desk.ledger.limits.drain_s
    assert desk.tally == (1, 0, 1)


# --- the page's feed ----------------------------------------------------------------------------


def test_the_feed_is_bounded_and_newest_first() -> None:
    """Of all source regions of the process together; the total is what was counted."""
    one, other = Desk(), Desk()
    for n in range(RING_MAX + 5):
        (one if n % 2 else other).ledger.note(conflict(START_US + n))
    for n in range(RING_MAX):
        one.ledger.note(conflict(START_US - n))
    stats = PipelineStats(table="orders", source="us", mode="multi-writer", targets=("eu",))
    stats.records.conflicts = 4321
    found = asyncio.run(newest_conflicts({"us": one.ledger, "eu": other.ledger}, [stats], 3))
    assert found["total"] == 4321
    assert [c["at_us"] - START_US for c in found["conflicts"]] == [1004, 1002, 1000]
    assert len(one.ledger.newest(10_000)) == RING_MAX


# --- through a whole pipeline ---------------------------------------------------------------------


def test_a_pipeline_notes_each_conflict_that_it_counts() -> None:
    """Who won, what it met in which region: once, however many targets it wins in."""
    noted: list[Conflict] = []
    bench = PipelineBench(targets=("eu", "ap"), note_conflict=noted.append)
    key = Key({"id": {"S": "1"}}, "1")
    foreign = Item(image("1", "theirs"), marker_of(THEIRS.of_kind(Kind.SETTLED)))
    for region in ("eu", "ap"):
        bench.regions[region].write(key, foreign)

    async def script() -> None:
        bench.write("1", "ours")
        await bench.until(lambda: bench.snapshot()["unsettled"] == 0)
        await bench.until(lambda: bench.contents("ap") == {"1": "ours"})

    bench.run(script)
    (found,) = noted
    assert bench.snapshot()["records"]["conflicts"] == 1
    assert (found.source, found.table, found.key) == ("us", "orders", key)
    assert found.region in ("eu", "ap")
    assert found.winner.image == image("1", "ours")
    assert found.loser == Side(foreign.version, image("1", "theirs"))


def test_a_conflict_that_a_killed_process_had_decided_is_decided_alike() -> None:
    """Counted by either process; the same versions, so that it is one row of the ledger."""
    noted: list[Conflict] = []
    bench = PipelineBench(note_conflict=noted.append)
    key = Key({"id": {"S": "1"}}, "1")
    later = Version(bench.clock.now_us() + 5_000_000, "eu", 1, Kind.REPLICATED)

    async def first() -> None:
        bench.write("1", "ours")
        bench.regions["us"].write(key, Item(image("1", "theirs"), marker_of(later)))
        await bench.until(lambda: bool(noted))

    async def again() -> None:
        await bench.until(lambda: len(noted) == 2)

    bench.run_and_kill(first)
    bench.run(again)
    desk = Desk()
    for each in noted:
        desk.ledger.note(each)
    desk.run(nothing)
    assert noted[0].at_us < noted[1].at_us
    assert (desk.tally, len(desk.api.conflicts)) == ((2, 2, 0), 1)


def test_a_write_that_loses_at_home_is_told_as_the_loser() -> None:
    """Foreign content of a later version took its place before it could be stamped."""
    noted: list[Conflict] = []
    bench = PipelineBench(note_conflict=noted.append)
    key = Key({"id": {"S": "1"}}, "1")
    later = Version(bench.clock.now_us() + 5_000_000, "eu", 1, Kind.REPLICATED)

    async def script() -> None:
        bench.write("1", "ours")
        bench.regions["us"].write(key, Item(image("1", "theirs"), marker_of(later)))
        await bench.until(lambda: bench.snapshot()["unsettled"] == 0 and bool(noted))

    bench.run(script)
    (found,) = noted
    assert bench.snapshot()["records"]["conflicts"] == 1
    assert found.region == "us"
    assert (found.winner.version, found.winner.image) == (later, image("1", "theirs"))
    assert (found.loser.version or later).origin == "us"
    assert found.loser.image == image("1", "ours")


@pytest.mark.parametrize("odd", [{"S": "x"}, {"B": b""}, {"B": b"short"}])
def test_a_malformed_secret_is_told_and_waited_for(odd: dict[str, Any]) -> None:
    """No key is named under it, nothing ends, and what waits is written once it is mended."""
    desk = Desk()
    at = ("secret#digest", "state")
    keeping = _Keeping(desk.api)
    desk.api.rows[at] = {**row_key(*at), "secret": odd}
    secret = Secret(ControlTable(api=keeping, name="control"), None)
    desk.ledger.secret = secret
    desk.ledger.note(conflict())

    async def script() -> None:
        await desk.clock.sleep(60.0)
        complaint = "control: secret#digest: secret is malformed; mend or delete it"
        assert desk.ledger.stats.error == complaint
        assert desk.tally == (1, 0, 0)
        desk.api.rows[at] = {**row_key(*at), "secret": {"B": bytes(SECRET_BYTES)}}
        await desk.clock.sleep(60.0)

    desk.run(script)
    assert desk.ledger.stats.error is None
    assert desk.tally == (1, 1, 0)
