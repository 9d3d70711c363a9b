"""Schedules that an earlier form of the protocol did not stand, kept by hand.

They were found by random schedules or by thinking the protocol through. What random schedules still
find (old records processed again in the very moment of a newer delete) is left out of them by
default: `python -m simulation.run --withheld` brings it back.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from conflict.operations import Get
from conflict.origin import Change
from replicator.records import TtlDeletes, ViewType
from replicator.transformer import fold
from simulation.scene import BOUND_US, KEY, Scene


def test_a_replayed_delete_leaves_what_was_re_created_in_the_same_second() -> None:
    """B deletes; A sees it gone and writes anew within the stream's grain; B's delete runs again.

    B's replicator crashed between the delivery and the checkpoint.
    """
    scene = Scene("A", "B")
    scene.put("A", 1_000, "v1")
    scene.ship("A", 1, "B")
    scene.delete("B", 1_000)
    scene.ship("B", 2, "A")
    scene.put("A", 1_000, "v2")
    scene.passed("A", 4)
    scene.passed("B", 1)

    scene.drain("B")
    scene.drain()

    assert scene.values() == ["v2", "v2"]


def test_replayed_writes_do_not_rise_above_a_later_delete() -> None:
    """A's writes all run again after B deleted the item: it stays away.

    C was out of reach, so that A's checkpoint lay far back; then A's replicator crashed.
    """
    scene = Scene("A", "B")
    for value in ("v1", "v2", "v3", "v4"):
        scene.put("A", 1_000, value)
    folded = reduce(fold, [scene.change("A", record) for record in (1, 2, 3, 4)])
    scene.deliver("B", scene.settle_change("A", folded).finish().shipment).finish()
    scene.delete("B", 1_000)
    scene.ship("B", 2, "A")
    scene.passed("B", 2)

    scene.drain()

    assert scene.values() == [None, None]


def test_a_one_way_ignored_expiry_does_not_swallow_the_write_before_it() -> None:
    """B must learn of the write, or it keeps for ever what that write replaced: no new images."""
    scene = Scene("A", "B", source="A", view=ViewType.KEYS_ONLY, ttl_deletes=TtlDeletes.IGNORE)
    scene.put("A", 100, "v1")
    scene.drain()
    scene.put("A", 200, "v2", expires=True)
    scene.expire("A", 201)

    scene.drain()

    assert scene.value("B") != "v1"


def test_a_write_after_an_ignored_expiry_of_a_stamped_one_is_shipped() -> None:
    """The stamp's own sequence number is above the stream's: that makes the next put no replay."""
    scene = Scene("A", "B", ttl_deletes=TtlDeletes.IGNORE)
    scene.put_stamped("A", 1_500, "v1", 1_500, expires=True)
    scene.drain()
    scene.expire("A", 1_600)
    scene.drain()
    scene.put("A", 1_000, "v2")  # the record's time has the grain of a second

    scene.drain()

    assert scene.values() == ["v2", "v2"]


def test_a_replay_believes_a_stamp_as_little_as_the_first_reading_did() -> None:
    """A stamp just beyond the bound is not believed; later, on a replay, it would be."""
    scene = Scene("A", "B")
    scene.put_stamped("A", 100, "v1", 100 + BOUND_US + 10)
    scene.ship("A", 1, "B")
    scene.world["A"].now_us = 200  # a crash, and the record again
    scene.ship("A", 1, "B")
    scene.passed("A", 2)
    scene.put("A", 300, "v2")

    scene.drain()

    assert scene.values() == ["v2", "v2"]


def test_the_floor_of_an_unbelieved_stamp_reaches_its_successor() -> None:
    """B's item @159 was seen by A's stamped write, hence by the update after it."""
    scene = Scene("A", "B")
    scene.put("B", 159, "b")
    scene.ship("B", 1, "A")
    scene.passed("B", 2)
    scene.put_stamped("A", 100, "ahead", 100 + 50 * BOUND_US)
    scene.update("A", 101, "later")

    scene.drain()

    assert scene.values() == ["later", "later"]


def test_a_write_that_gave_way_is_the_floor_of_its_successor() -> None:
    """W had seen C's item @159; it gives way to W2, which follows it and so is above that item."""
    scene = Scene("A", "B", "C")
    scene.put("C", 159, "c")
    of_c = scene.ship("C", 1, "A")
    scene.passed("C", 2)
    scene.put("A", 101, "w")
    scene.put("B", 151, "f")
    scene.ship("B", 1, "A", "C")
    scene.passed("B", 2)
    scene.deliver("B", of_c).finish()
    step = scene.settle("A", 2).before(Get)
    scene.put("A", 102, "w2")
    step.finish()
    scene.passed("A", 2)

    scene.drain()

    assert len(set(scene.values())) == 1


def test_a_write_in_whose_place_something_older_arrived_is_the_floor_of_its_successor() -> None:
    """B's W follows its stamped write, whose time is ahead, and hands that floor on to its delete.

    B's stamp is credible and has gone out. W brings an older stamp along and is deleted before it
    is adopted; A's older item arrives in the empty place.
    """
    scene = Scene("A", "B")
    scene.put("A", 90, "older")
    older = scene.ship("A", 1)
    scene.passed("A", 2)
    scene.put_stamped("B", 100, "ahead", 500)
    scene.ship("B", 1, "A")
    scene.put_stamped("B", 101, "w", 200)
    scene.delete("B", 102)
    step = scene.settle("B", 2)
    scene.deliver("B", older).finish()
    step.finish()
    scene.passed("B", 2)

    scene.drain()

    assert scene.values() == [None, None]


def _again(change: Change) -> Change:
    return replace(change, again=True)


def test_a_write_that_is_read_again_does_not_come_back_while_it_is_deleted() -> None:
    """A's write gave way to B's; C deletes that one, and A's record runs again just then.

    C has raised its tombstone in A and has not yet taken B's item out.
    """
    scene = Scene("A", "B", "C")
    scene.put("A", 100, "a")
    scene.ship("A", 1, "B", "C")
    scene.passed("A", 2)
    scene.put("B", 110, "b")
    scene.drain("B")
    scene.passed("C", 2)
    scene.delete("C", 120)
    deleted = scene.settle("C", 3).finish().shipment
    step = scene.deliver("A", deleted).before(Get)

    again = scene.settle_change("A", _again(scene.change("A", 1))).finish()
    step.finish()
    scene.drain()

    assert again.shipment is None
    assert scene.values() == [None, None, None]


def test_a_write_that_a_delete_took_out_is_not_held_when_it_is_read_again() -> None:
    """A's stamped write lost to a delete of B, which knew nothing of it; then B writes anew.

    A's whole page is read again. Its write is folded with the one before it, which had got no
    version, so its own comes to lie above the delete; and its removal decides what is held.
    """
    scene = Scene("A", "B")
    scene.put("A", 1_000, "first")
    scene.put_stamped("A", 1_000, "second", 1_000)
    scene.put("B", 1_000, "there")
    scene.delete("B", 1_000)
    scene.drain()
    first, second, *rest = (scene.change("A", number + 1) for number in range(scene.records("A")))

    scene.settle_change("A", _again(fold(first, second))).finish()
    scene.put("B", 1_000, "anew")
    scene.drain()
    for change in rest:
        scene.settle_change("A", _again(change)).finish()
    scene.drain()

    assert scene.values() == ["anew", "anew"]


def test_a_write_that_stands_is_shipped_again() -> None:
    """Its first delivery may have been lost with the worker that made it."""
    scene = Scene("A", "B")
    scene.put("A", 100, "v")
    scene.settle("A", 1).finish()

    again = scene.settle_change("A", _again(scene.change("A", 1))).finish()
    scene.deliver("B", again.shipment).finish()

    assert scene.values() == ["v", "v"]


def test_a_stamped_write_that_stands_is_shipped_again() -> None:
    """It carries its version, and nothing of the stream's is compared."""
    scene = Scene("A", "B")
    scene.put_stamped("A", 100, "v", 100)
    scene.settle("A", 1).finish()

    again = scene.settle_change("A", _again(scene.change("A", 1))).finish()
    scene.deliver("B", again.shipment).finish()

    assert scene.values() == ["v", "v"]


def test_a_write_that_has_expired_is_shipped_again_by_its_expiry() -> None:
    """The expiry itself is not replicated; B would keep for ever what the write replaced."""
    scene = Scene("A", "B", ttl_deletes=TtlDeletes.IGNORE)
    scene.put("A", 100, "kept")
    scene.ship("A", 1, "B")
    scene.put("A", 110, "v", expires=True)
    scene.settle("A", 3).finish()
    scene.expire("A", 120)
    scene.settle_change("A", _again(scene.change("A", 3))).finish()
    scene.passed("A", 3)

    scene.drain("A")

    assert scene.value("B") == "v"


def test_a_write_that_has_expired_is_shipped_again_although_a_delete_came_before_it() -> None:
    """What is remembered of an older delete, A's own or B's, does not tell that it took it out."""
    for deleter in ("A", "B"):
        scene = Scene("A", "B", ttl_deletes=TtlDeletes.IGNORE)
        scene.put("A", 100, "deleted")
        scene.drain()
        scene.delete(deleter, 105)
        scene.drain()
        scene.put("A", 110, "kept")
        scene.drain()
        scene.put("A", 120, "v", expires=True)
        written = scene.records("A")
        scene.settle("A", written).finish()
        scene.expire("A", 130)
        scene.settle_change("A", _again(scene.change("A", written))).finish()
        scene.passed("A", written)

        scene.drain("A")

        assert scene.value("B") == "v"


def test_what_expired_in_a_region_whose_replicator_had_died_goes_out_at_its_stamp() -> None:
    """A stamped its write above B's delete and died. The write has expired when A's record runs
    again, and is held beneath that delete; A's tombstone is that of the stamp, and B has neither.
    """
    scene = Scene("A", "B", ttl_deletes=TtlDeletes.IGNORE)
    scene.put("B", 200, "deleted")
    scene.delete("B", 200)
    scene.drain()
    written = scene.records("A") + 1
    scene.put("A", 200, "v", expires=True)
    scene.settle("A", written).finish()
    scene.expire("A", 210)
    scene.settle("A", written).finish()
    scene.passed("A", written)

    scene.drain("A")
    assert scene.value("B") == "v"

    scene.put("B", 200, "anew")
    scene.drain()
    assert scene.values() == ["anew", "anew"]


def test_a_stamped_write_that_has_expired_everywhere_stays_away_when_it_is_read_again() -> None:
    """Alone, twice before its expiry is dealt with, or folded with what it replaced: it is held at
    its own stamp, under which the others have let it expire."""
    for folded in (False, True):
        scene = Scene("A", "B", ttl_deletes=TtlDeletes.IGNORE)
        scene.put_stamped("A", 100, "v", 100, expires=True)
        scene.ship("A", 1, "B")
        scene.expire("A", 120)
        scene.expire("B", 120)
        scene.drain("B")
        again = _again(scene.change("A", 1))
        if folded:
            scene.settle("A", 2).finish()
            again = replace(again, earliest_us=101)
        for _ in range(2):
            scene.settle_change("A", again).finish()
        scene.passed("A", 1)

        scene.drain()

        assert scene.values() == [None, None]


def test_what_expired_and_was_written_anew_is_not_replaced_by_what_expired() -> None:
    """B's write expired in both regions; A writes anew, and B's delivery runs again."""
    scene = Scene("A", "B", ttl_deletes=TtlDeletes.IGNORE)
    scene.put("B", 1_000, "v", expires=True)
    shipment = scene.ship("B", 1, "A")
    scene.drain("A", "B")
    scene.expire("A", 1_100)
    scene.expire("B", 1_100)
    scene.drain("A", "B")
    scene.put("A", 1_000, "anew")

    scene.deliver("A", shipment).finish()
    scene.drain()

    assert scene.values() == ["anew", "anew"]


def test_a_stamp_does_not_save_what_arrives_again_after_a_change_and_back() -> None:
    """A locks, unlocks and deletes B's item; B's delivery runs again before A's delete."""
    scene = Scene("A", "B")
    scene.put("B", 100, "open")
    shipment = scene.ship("B", 1, "A")
    scene.update("A", 101, "locked")
    scene.update("A", 102, "open")
    scene.delete("A", 103)
    scene.deliver("A", shipment).finish()

    scene.drain()

    assert scene.values() == [None, None]
    assert KEY.id not in scene.world["A"].items
