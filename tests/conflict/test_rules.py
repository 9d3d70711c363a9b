"""Rules that random schedules need many seeds to miss: one hand-written schedule each.

Every test passes on the shipping code and fails when its rule is switched off, which
tests/simulation/test_mutants.py proves by running this very file on mutated sources.

Times are microseconds; A, B, C are regions; `W @160` is a write under the version with that time.
"""

from __future__ import annotations

from dataclasses import replace

from conflict.merge import Delivery
from conflict.operations import Delete, Get, Hold, Put, Stamp
from replicator.flow import Flow
from replicator.records import After, Mode, TtlDeletes, ViewType
from replicator.shards import Lineage
from replicator.tasks import DeliverTask, SettleTask, Task
from replicator.transformer import fold
from replicator.watermark import Watermark
from simulation.scene import BOUND_US, KEY, Scene, Step


def test_what_a_dead_worker_left_marked_is_taken_out_by_its_own_region() -> None:
    """A's replicator dies for good between mark and delete in B: B finishes it."""
    scene = Scene("A", "B")
    scene.put("A", 100, "v")
    scene.ship("A", 1, "B")
    scene.delete("A", 110)
    delete = scene.settle("A", 3).finish()
    scene.deliver("B", delete.shipment).before(Stamp).call()
    scene.passed("B", 1)

    scene.drain("B")

    assert scene.values() == [None, None]


def test_a_copy_with_its_regions_own_marker_is_shipped() -> None:
    """A's application takes an item away and puts it back with all of its attributes."""
    scene = Scene("A", "B")
    scene.put("A", 100, "v")
    scene.drain()
    read = scene.world["A"].items[KEY.id]
    scene.delete("A", 110)
    scene.drain()
    scene.put_copy("A", 120, read)

    scene.drain()

    assert scene.values() == ["v", "v"]


def test_a_late_put_is_never_seen_beneath_the_tombstone() -> None:
    """A put that arrives after its delete does not come back to be taken out again."""
    scene = Scene("A", "B")
    scene.put("A", 100, "v")
    put = scene.settle("A", 1).finish()
    scene.delete("A", 110)
    scene.ship("A", 3, "B")

    scene.deliver("B", put.shipment).finish()

    assert scene.records("B") == 0


def test_a_one_way_put_is_never_seen_beneath_the_tombstone() -> None:
    """The same in a one-way table."""
    scene = Scene("A", "B", source="A")
    scene.put("A", 100, "v")
    put = scene.settle("A", 1).finish()
    scene.delete("A", 110)
    scene.ship("A", 2, "B")

    scene.deliver("B", put.shipment).finish()

    assert scene.records("B") == 0


def _held_write_over_a_newer_version(scene: Scene) -> None:
    """In A, W overwrote C's item @159 at 101, and B's delete @151 took it out unstamped.

    B had not seen C's item. A's stream: 1 C's item, 2 W, 3 marked, 4 taken out.
    """
    scene.put("B", 149, "b")
    scene.settle("B", 1).finish()
    scene.put("C", 159, "c")
    scene.ship("C", 1, "A")
    scene.passed("C", 2)
    scene.put("A", 101, "w")
    scene.delete("B", 150)
    scene.ship("B", 3, "A")
    scene.passed("B", 3)
    scene.settle("A", 2).finish()


def test_a_held_write_is_the_floor_of_what_took_its_place() -> None:
    """A's next write came after W, so it is above all that W had seen; C's item is beaten."""
    scene = Scene("A", "B", "C")
    _held_write_over_a_newer_version(scene)
    scene.put("A", 102, "w2")
    scene.settle("A", 4).finish()
    scene.passed("A", 4)

    scene.drain()

    assert scene.values() == ["w2", "w2", "w2"]


def test_a_held_write_is_forgotten_once_it_was_decided() -> None:
    """Nothing is kept of a held write when it is back in its place."""
    scene = Scene("A", "B", "C")
    _held_write_over_a_newer_version(scene)
    scene.passed("A", 3)

    scene.drain()

    assert scene.values() == ["w", "w", "w"]
    assert scene.world["A"].states[KEY.id].held is None


def test_a_write_put_back_yields_to_a_later_local_one() -> None:
    """The application has written again since W was taken out: its write is not overwritten."""
    scene = Scene("A", "B", "C")
    _held_write_over_a_newer_version(scene)
    scene.put("A", 102, "w2")

    settlement = scene.settle("A", 4).finish()

    assert scene.value("A") == "w2"
    assert settlement.shipment is None


def test_a_write_that_gave_way_is_not_shipped() -> None:
    """The clock of A steps back between W @110 and W2 @105, and W gives way to W2."""
    scene = Scene("A", "B")
    scene.put("B", 90, "f")
    scene.put("A", 110, "w")
    scene.ship("B", 1, "A")
    scene.passed("B", 1)
    step = scene.settle("A", 1).before(Get)
    scene.put("A", 105, "w2")
    settlement = step.finish()
    if settlement.shipment is not None:
        scene.deliver("B", settlement.shipment).finish()
    seen = scene.value("B")
    scene.passed("A", 1)

    scene.drain()

    assert seen == "f"
    assert scene.values() == ["w2", "w2"]


def test_a_replayed_write_keeps_its_version() -> None:
    """A crash after the stamp: the replay does not rise above what has since been written over it.

    B's clock is behind, so that B's write is just one above Z's.
    """
    scene = Scene("B", "Z")
    scene.put("Z", 100, "w")
    scene.ship("Z", 1, "B")
    scene.update("B", 50, "later")
    scene.settle("B", 2).finish()

    scene.drain("Z")
    scene.drain()

    assert scene.values() == ["later", "later"]


def test_a_replayed_delete_keeps_its_version() -> None:
    """The write whose floor lifted the delete is no longer held: the delete still is above it."""
    scene = Scene("A", "B", "C")
    _held_write_over_a_newer_version(scene)
    scene.put("A", 102, "w2")
    scene.settle("A", 5).before(Stamp)
    scene.delete("A", 103)
    scene.settle("A", 5).finish()
    first = scene.settle("A", 6).finish()
    state = scene.world["A"].states[KEY.id]
    scene.world["A"].states[KEY.id] = replace(state, held=None)

    again = scene.settle("A", 6).finish()

    assert first.shipment is not None
    assert again.shipment is not None
    assert again.shipment.version == first.shipment.version


def test_a_replayed_put_that_was_deleted_since_is_not_brought_back() -> None:
    """Z put and deleted; B has re-created the item just above the delete. Z's put runs again."""
    scene = Scene("B", "Z")
    scene.put("Z", 100, "w")
    scene.ship("Z", 1, "B")
    scene.delete("Z", 101)
    scene.ship("Z", 3, "B")
    scene.passed("B", 3)
    scene.put("B", 50, "later")
    scene.ship("B", 4, "Z")

    scene.drain()

    assert scene.values() == ["later", "later"]


def test_a_replay_leaves_alone_what_is_held_for_a_later_record() -> None:
    """The REMOVE of an old delete runs again while a later write is held: A deleted that itself."""
    scene = Scene("A", "B")
    scene.put("B", 100, "b")
    scene.ship("B", 1, "A")
    scene.delete("B", 101)
    scene.ship("B", 3, "A")
    scene.put("A", 200, "w")
    scene.delete("A", 201)
    scene.settle("A", 4).before(Hold).call().finish()

    scene.settle("A", 3).finish()

    assert scene.value("A") is None


def test_a_stamp_lands_on_the_content_of_its_record_only() -> None:
    """B's item arrives a second time after A updated and deleted it: A's stamp must not save it."""
    scene = Scene("A", "B")
    scene.put("B", 100, "b")
    shipment = scene.ship("B", 1, "A")
    scene.update("A", 101, "a")
    scene.delete("A", 102)
    scene.deliver("A", shipment).finish()

    scene.drain()

    assert scene.values() == [None, None]


def test_a_superseded_write_does_not_speak_for_its_successor() -> None:
    """W runs again after W2: it does not lift W2 above what B has since written over it."""
    scene = Scene("B", "Z")
    scene.put("Z", 100, "w")
    scene.settle("Z", 1).finish()
    scene.put("Z", 101, "w2")
    scene.ship("Z", 3, "B")
    scene.update("B", 50, "later")
    scene.settle("B", 2).finish()

    scene.settle("Z", 1).finish()
    scene.drain("Z")
    scene.drain()

    assert scene.values() == ["later", "later"]


def test_a_folded_write_is_above_all_that_the_first_of_them_had_seen() -> None:
    """W saw C's item @159; W2 followed W at once, and only W2 is processed."""
    scene = Scene("A", "C")
    scene.put("C", 159, "c")
    scene.ship("C", 1, "A")
    scene.put("A", 101, "w")
    scene.put("A", 102, "w2")
    folded = fold(scene.change("A", 2), scene.change("A", 3))
    scene.deliver("C", scene.settle_change("A", folded).finish().shipment).finish()

    assert scene.values() == ["w2", "w2"]


def test_a_carried_version_beneath_a_folded_floor_is_replaced() -> None:
    """The client's clock is behind C's item @159, which the folded write before it had seen."""
    scene = Scene("A", "C")
    scene.put("C", 159, "c")
    scene.ship("C", 1, "A")
    scene.put("A", 101, "w")
    scene.put_stamped("A", 102, "w2", 102)
    folded = fold(scene.change("A", 2), scene.change("A", 3))
    scene.deliver("C", scene.settle_change("A", folded).finish().shipment).finish()

    assert scene.values() == ["w2", "w2"]


def test_a_stamp_from_the_future_drags_no_version_along() -> None:
    """One client's clock is far ahead: what is written after it has the time it was written."""
    scene = Scene("A", "B")
    scene.put_stamped("A", 100, "ahead", 100 + 50 * BOUND_US)
    scene.drain()
    scene.update("B", 200, "later")
    scene.drain()

    assert scene.values() == ["later", "later"]
    version = scene.world["A"].items[KEY.id].version
    assert version is not None
    assert version.time_us == 200


def test_a_doubted_stamp_that_others_believe_by_now_is_risen_above() -> None:
    """Just beyond the bound when it was written; since then it has kept B's item out of A."""
    scene = Scene("A", "B")
    scene.put_stamped("A", 100, "ahead", 100 + BOUND_US + 10)
    scene.put("B", 500, "b")
    scene.ship("B", 1, "A")
    scene.world["A"].now_us = 500

    scene.ship("A", 1, "B")

    assert scene.values() == ["ahead", "ahead"]


def _new_item_marked_by_a_delete_run_again(scene: Scene) -> Step[Delivery]:
    """B deleted A's item; A saw it gone and wrote v2 in the same second; the delete runs again.

    A's stream: 1 v1, 2 stamped, 3 marked, 4 taken out, 5 v2, 6 marked. The delete stands before
    its end.
    """
    scene.put("A", 1_000, "v1")
    scene.ship("A", 1, "B")
    scene.delete("B", 1_000)
    delete = scene.ship("B", 2, "A")
    scene.put("A", 1_000, "v2")
    return scene.deliver("A", delete).before(Delete)


def test_a_new_item_rises_above_the_delete_that_marked_it() -> None:
    """The write followed the delete, so it is back in its place when that has ended."""
    scene = Scene("A", "B")
    _new_item_marked_by_a_delete_run_again(scene).finish()
    scene.settle("A", 5).finish()
    scene.passed("A", 5)

    scene.drain()

    assert scene.values() == ["v2", "v2"]


def test_a_new_item_that_was_marked_before_it_was_stamped_is_held() -> None:
    """The same where the write is settled between mark and removal."""
    scene = Scene("A", "B")
    again = _new_item_marked_by_a_delete_run_again(scene)
    scene.settle("A", 5).finish()
    scene.passed("A", 5)
    again.finish()

    scene.drain()

    assert scene.values() == ["v2", "v2"]


def test_what_arrives_over_a_marked_item_decides_the_held_write() -> None:
    """C's item replaces W, which B's delete had marked: no REMOVE will tell of W."""
    scene = Scene("A", "B", "C")
    scene.put("B", 149, "b")
    scene.settle("B", 1).finish()
    scene.delete("B", 150)
    delete = scene.ship("B", 3, "C")
    scene.passed("B", 3)
    scene.put("A", 100, "w")
    marked = scene.deliver("A", delete).before(Delete)
    scene.settle("A", 1).finish()
    scene.passed("A", 1)
    scene.put("C", 150, "c")
    scene.ship("C", 1, "A", "B")
    marked.finish()

    scene.drain()

    assert scene.values() == ["w", "w", "w"]
    assert scene.world["A"].states[KEY.id].held is None


def test_one_way_versions_are_ordered_by_sequence() -> None:
    """The source's clock steps back between two puts: the later one stays."""
    scene = Scene("A", "B", source="A")
    scene.put("A", 100, "v1")
    scene.put("A", 90, "v2")

    scene.drain()

    assert scene.values() == ["v2", "v2"]


def test_a_one_way_put_into_an_empty_place_is_looked_at_again() -> None:
    """A worker thought dead puts what another has deleted, having asked before that."""
    scene = Scene("A", "B", source="A")
    scene.put("A", 100, "v")
    put = scene.settle("A", 1).finish()
    zombie = scene.deliver("B", put.shipment).before(Put)
    scene.delete("A", 110)
    scene.ship("A", 2, "B")
    zombie.finish()

    assert scene.values() == [None, None]


def test_a_one_way_put_whose_answer_was_lost_is_looked_at_again() -> None:
    """The same where the worker hears only at its second try that its put has landed."""
    scene = Scene("A", "B", source="A")
    scene.put("A", 100, "v")
    put = scene.settle("A", 1).finish()
    zombie = scene.deliver("B", put.shipment).before(Put)
    scene.delete("A", 110)
    scene.ship("A", 2, "B")
    zombie.lose().finish()

    assert scene.values() == [None, None]


def test_a_one_way_put_run_again_beneath_the_tombstone_takes_out_its_own() -> None:
    """The worker died between its put and its second look; the put is delivered again."""
    scene = Scene("A", "B", source="A")
    scene.put("A", 100, "v")
    put = scene.settle("A", 1).finish()
    dead = scene.deliver("B", put.shipment).before(Put)
    scene.delete("A", 110)
    scene.ship("A", 2, "B")
    dead.call()

    scene.deliver("B", put.shipment).finish()

    assert scene.values() == [None, None]


def test_a_one_way_delete_run_again_finds_the_version_that_it_was_lifted_to() -> None:
    """The source's clock steps back before the delete; a worker dies when it has lifted it."""
    scene = Scene("A", "B", source="A")
    scene.put("A", 100, "v")
    scene.ship("A", 1, "B")
    scene.delete("A", 90)
    delete = scene.settle("A", 2).finish()
    scene.deliver("B", delete.shipment).before(Delete).call().before(Delete)

    scene.deliver("B", delete.shipment).finish()

    assert scene.values() == [None, None]


def test_a_one_way_image_that_the_record_lacks_is_read_back() -> None:
    """A stream of keys alone still brings the item."""
    scene = Scene("A", "B", source="A", view=ViewType.KEYS_ONLY)
    scene.put("A", 100, "v")

    scene.drain()

    assert scene.values() == ["v", "v"]


def test_a_record_read_again_does_not_replace_a_later_one() -> None:
    """Reading a page twice in one life must not settle a record that nobody processed."""
    scene = Scene("A", "B")
    scene.put("A", 100, "v0")
    scene.drain()
    scene.update("A", 101, "v1")
    scene.update("A", 102, "v2")
    flow = Flow(home="A", targets=["B"], mode=Mode.MULTI_WRITER)
    first, second = scene.change("A", 3), scene.change("A", 4)
    tasks: list[Task] = flow.offer("shard", [first])
    flow.offer("shard", [second])
    flow.offer("shard", [first])  # read again; its second record is not, for the worker dies
    while tasks:
        task = tasks.pop(0)
        if isinstance(task, SettleTask):
            tasks += flow.settled(task, scene.settle_change("A", task.entry.change).finish())
        elif isinstance(task, DeliverTask):
            scene.deliver(task.region, task.shipment).finish()
            tasks += flow.delivered(task)
    settled = flow.positions()["shard"]

    assert isinstance(settled, After)
    assert settled.sequence < 4 or scene.value("B") == "v2"


def test_an_ignored_expiry_does_not_swallow_the_write_before_it() -> None:
    """B must learn of the write, or it keeps for ever what that write replaced."""
    scene = Scene("A", "B", ttl_deletes=TtlDeletes.IGNORE)
    scene.put("A", 100, "v1")
    scene.drain()
    scene.put("A", 200, "v2", expires=True)
    scene.expire("A", 201)

    scene.drain()

    assert scene.value("B") != "v1"


def test_a_replayed_write_that_is_held_keeps_its_version() -> None:
    """A crash after the hold: the write itself is not what it has to rise above."""
    scene = Scene("A", "B", "C")
    _held_write_over_a_newer_version(scene)
    first = scene.world["A"].states[KEY.id].held

    scene.settle("A", 2).finish()

    assert scene.world["A"].states[KEY.id].held == first


def test_a_shard_is_read_after_its_parent() -> None:
    """A deletes, the shard splits, A's clock steps back, A writes anew: the delete is older."""
    scene = Scene("A", "B")
    scene.put("A", 1_000, "v1")
    scene.run("A", 1)
    stream = scene.world["A"].stream
    scene.delete("A", 1_000)
    stream.split(stream.shards[0], 1)
    scene.put("A", 999, "v2")
    lineage = Lineage({"shard-0": After(2)})
    while lineage.observe(stream.describe()) or lineage.ready():
        shard = lineage.ready()[-1][0]
        lineage.opened(shard)
        scene.run("A", *(r.sequence for r in stream.shard(shard).records if r.sequence > 2))
        lineage.ended(shard)

    assert scene.values() == ["v2", "v2"]


def test_a_record_that_is_read_twice_is_settled_when_both_readings_are() -> None:
    """A page is read again before its first reading has arrived: the position waits for both."""
    mark = Watermark()
    mark.add(1)
    mark.add(1)

    mark.settle(1)
    first = mark.position
    mark.settle(1)

    assert (first, mark.position) == (None, After(1))
