"""What a record leads to at home: readable scenes, and each of them cut at every operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from conflict.merge import NOTHING_TO_SHIP, Settlement, Steps, deliver
from conflict.origin import Nature
from conflict.protocol import release, settle
from conflict.version import Kind, Version, order
from support.home_scenes import (
    AHEAD,
    AHEAD_OF_TIME,
    BROUGHT,
    FOREIGN,
    SCENES,
    SETTLED,
    Scene,
    scene,
)
from support.scenes import World, at, image, item, reruns, shipment

EVERY = pytest.mark.parametrize("name", SCENES)


def whole_way(made: Scene) -> Steps[Settlement]:
    """A change as the flow runs it: settled at home, delivered, and what was held released."""
    settlement = yield from settle("us", made.change)
    if settlement.shipment is not None:
        yield from deliver("eu", settlement.shipment)
    if settlement.release:
        yield from release("us", made.change)
    return settlement


@EVERY
def test_cut_anywhere_and_run_again_it_ends_the_same(name: str) -> None:
    """Whatever operation a worker dies at, on the whole way, once or twice, the end is the same."""
    make = SCENES[name]
    whole = make()
    whole.world.run(whole_way(whole))

    def begin() -> tuple[World, Callable[[], Steps[Settlement]]]:
        made = make()
        return made.world, lambda: whole_way(made)

    for words, world, _ in reruns(begin):
        assert world.facts() == whole.world.facts(), words


@EVERY
def test_a_replay_ships_nothing_else_than_before(name: str) -> None:
    """Settled a second time, a change ships the version and content of the first time, or none."""
    made = SCENES[name]()
    first, again = made.settle().shipment, made.settle().shipment
    if again is not None:
        assert first is not None
        assert again.version.order == first.version.order
        assert (again.item and again.item.image) == (first.item and first.item.image)


@EVERY
def test_what_is_shipped_is_what_home_holds(name: str) -> None:
    """After settling, home stands where every target will: at the shipped version or later."""
    made = SCENES[name]()
    shipped = made.settle().shipment
    if shipped is None:
        return
    standing = made.item.version if made.item else None
    if shipped.item is None:
        assert order(made.state.tombstone) >= shipped.version.order
    else:
        assert max(order(standing), order(made.state.tombstone)) >= shipped.version.order


@EVERY
def test_the_applications_content_is_never_changed_by_a_stamp(name: str) -> None:
    """Whatever stands at home in the end was written by somebody, as it is."""
    made = SCENES[name]()
    made.settle()
    known = [image(text) for text in ("new", "newer", "later", "foreign", "held", "old")]
    assert made.item is None or made.item.image in known


# --- puts ---------------------------------------------------------------------------------------


def test_a_put_is_given_the_time_of_its_record() -> None:
    """A write without a version is stamped in its own table, then shipped."""
    made = scene(item("new"))
    assert made.settle().shipment == shipment(SETTLED, "new", fresh=True)
    assert made.item == item("new", SETTLED)


@pytest.mark.parametrize("kept", [True, False], ids=["update", "put"])
def test_a_write_is_later_than_what_it_overwrote(*, kept: bool) -> None:
    """The floor: whatever the clock says, and whether or not the marker was kept."""
    overwritten = at(40, "eu", 9)
    made = scene(item("new", overwritten if kept else None), over=item("old", overwritten))
    shipped = made.settle().shipment
    assert shipped is not None
    assert shipped.version == Version(41, "us", 5, Kind.SETTLED)
    assert shipped.base == overwritten


def test_a_stamped_put_is_shipped_as_it_is() -> None:
    """It carries its version, so nothing is written at home."""
    stamp = at(18, "us", 99, Kind.APPLICATION)
    made = scene(item("new", stamp))
    shipped = made.settle().shipment
    assert shipped is not None
    assert (shipped.version, shipped.item) == (stamp, item("new", stamp))
    assert [type(operation).__name__ for operation in made.world.done] == ["ReadState"]


def test_a_stamp_from_the_future_is_replaced() -> None:
    """A stamp that is not believed is given the record's time."""
    made = scene(item("new", at(10**12, "us", 99, Kind.APPLICATION)))
    shipped = made.settle().shipment
    assert shipped is not None
    assert shipped.version == SETTLED


@pytest.mark.parametrize("origin", ["us", "eu"])
def test_a_write_rises_above_its_doubted_stamp_when_that_has_become_credible(origin: str) -> None:
    """Others believe it by now: a stamp that was doubted is judged once more before it is left."""
    made = scene(item("new", replace(AHEAD_OF_TIME, origin=origin)))
    assert made.change.nature is Nature.WRITTEN
    made.world.now_us = AHEAD_OF_TIME.time_us
    shipped = made.settle().shipment
    assert shipped is not None
    assert shipped.version == Version(AHEAD_OF_TIME.time_us + 1, "us", 5, Kind.SETTLED)
    assert made.item == item("new", shipped.version)


def test_a_doubted_stamp_that_is_gone_is_no_floor() -> None:
    """What stands there now was written by somebody else, and is judged by itself."""
    made = scene(item("new", AHEAD_OF_TIME), then=(item("newer"),))
    made.world.now_us = AHEAD_OF_TIME.time_us
    shipped = made.settle().shipment
    assert shipped is None or shipped.version == SETTLED


@pytest.mark.parametrize("origin", ["us", "eu"])
def test_an_item_made_again_rises_above_the_tombstone(origin: str) -> None:
    """Whoever deleted it: what stands over a tombstone was written after it."""
    made = scene(item("new"), tombstone=at(30, origin, 4))
    shipped = made.settle().shipment
    assert shipped is not None
    assert shipped.version.time_us == 31
    assert made.item == item("new", shipped.version)


def test_a_put_that_its_region_has_deleted_since_is_not_shipped() -> None:
    """A replay of a record that is older than the region's own tombstone."""
    made = SCENES["a put that was deleted since, as is known"]()
    assert made.settle() == NOTHING_TO_SHIP
    assert made.item is None


def test_an_update_that_was_updated_since_is_left_to_its_successor() -> None:
    """The content of the record must still stand as written."""
    made = SCENES["an update that was updated since"]()
    assert made.settle() == NOTHING_TO_SHIP
    assert made.item == item("newer", FOREIGN)


def test_a_write_over_which_something_older_was_brought_is_put_back() -> None:
    """Versions decide, the winner stays, and the conflict is told."""
    made = SCENES["a put over which an older item was brought"]()
    settlement = made.settle()
    assert settlement.conflict
    assert made.item == item("new", at(20, "us", 5, Kind.REPLICATED))


def test_a_write_over_which_something_newer_was_brought_stays_out() -> None:
    """Versions decide, and the write that lost is shipped none the less: it loses everywhere."""
    made = SCENES["a put over which a newer item was brought"]()
    settlement = made.settle()
    assert settlement.conflict
    assert settlement.shipment is not None
    assert made.item == AHEAD


def test_a_write_that_is_gone_is_held() -> None:
    """The REMOVE that follows in the same stream decides; the kind tells that it made the item."""
    made = SCENES["a put that is gone"]()
    assert made.settle() == NOTHING_TO_SHIP
    assert made.state.held == item("new", at(20, "us", 5, Kind.SETTLED))
    over = scene(item("new"), over=BROUGHT, then=(None,))
    assert over.settle() == NOTHING_TO_SHIP
    assert over.state.held == item("new", at(20, "us", 5, Kind.REPLICATED))


def test_a_replay_of_a_held_write_holds_it_under_the_version_it_was_given_before() -> None:
    """Its own held self is not what it overwrote."""
    made = SCENES["a put that is gone"]()
    made.settle()
    held = made.state.held
    assert made.settle() == NOTHING_TO_SHIP
    assert made.state.held == held


def test_a_held_write_is_the_floor_of_what_took_its_place() -> None:
    """At the same time the sequence decides; what was held is forgotten once that is everywhere."""
    made = SCENES["a put while an earlier one is held"]()
    settlement = made.settle()
    assert settlement.release
    assert settlement.shipment is not None
    assert settlement.shipment.version == at(25, "us", 5, Kind.SETTLED)
    made.world.run(release("us", made.change))
    assert made.state.held is None


# --- deletes ------------------------------------------------------------------------------------


def test_a_delete_is_later_than_what_it_deleted() -> None:
    """The floor holds for deletes as well, and the tombstone remembers it."""
    made = SCENES["a delete of a later item"]()
    shipped = made.settle().shipment
    assert shipped is not None
    assert shipped.item is None
    assert shipped.version == Version(41, "us", 5, Kind.APPLICATION)
    assert made.state.tombstone == shipped.version


def test_a_delete_takes_out_what_was_brought_beneath_it() -> None:
    """What landed meanwhile from an earlier time goes, marked first."""
    made = SCENES["a delete over which an older item was brought"]()
    made.settle()
    assert made.item is None


def test_a_delete_leaves_what_its_own_application_wrote_later() -> None:
    """That write has a record of its own."""
    made = SCENES["a delete over which the application wrote"]()
    made.settle()
    assert made.item == item("later")


def test_an_expiry_ships_the_write_that_nobody_else_has_seen() -> None:
    """It was held when it expired; the other regions are to have it, and expire it themselves."""
    made = SCENES["an expiry of a write that is held"]()
    settlement = made.settle()
    held = at(12, "us", 3)
    assert settlement.release
    assert settlement.shipment is not None
    assert settlement.shipment.item == item("old", held)
    assert order(made.state.tombstone) == held.order
    made.world.run(deliver("eu", settlement.shipment))
    assert made.world.facts()["eu"].item == item("old", held)


def test_an_expiry_ships_nothing_and_remembers_what_expired() -> None:
    """Each region expires its own copy; an item made again rises above the others' copies."""
    made = SCENES["an expiry"]()
    assert made.settle().shipment is None
    assert order(made.state.tombstone) == FOREIGN.order


# --- echoes -------------------------------------------------------------------------------------


def test_what_arrived_beneath_a_tombstone_is_taken_out() -> None:
    """Each region polices its own table."""
    made = SCENES["an arrival beneath a delete"]()
    assert made.settle() == NOTHING_TO_SHIP
    assert made.item is None


def test_what_arrived_above_a_tombstone_stays() -> None:
    """A look at the tombstone, and nothing else."""
    made = SCENES["an arrival"]()
    assert made.settle() == NOTHING_TO_SHIP
    assert [type(operation).__name__ for operation in made.world.done] == ["ReadState"]


def test_a_mark_that_a_crash_left_is_finished() -> None:
    """Any region's reader completes the delete that was begun in its table."""
    made = SCENES["a mark"]()
    assert made.settle() == NOTHING_TO_SHIP
    assert made.item is None


def test_a_held_write_that_a_replicated_delete_took_is_put_back() -> None:
    """It had no version when it was taken, and now versions decide."""
    made = SCENES["the end of a replicated delete that took a held write"]()
    settlement = made.settle()
    assert settlement.release
    assert settlement.conflict
    assert made.item == item("held", at(25, "us", 3))


def test_a_held_write_gives_way_to_a_later_local_write() -> None:
    """And stays the floor of what took its place."""
    made = SCENES["the end of a replicated delete, and a local write since"]()
    assert made.settle() == NOTHING_TO_SHIP
    assert made.item == item("later")
    assert made.state.held is not None


def test_a_held_write_of_a_later_record_is_not_touched_by_a_replay() -> None:
    """It belongs to a record that follows."""
    made = scene(None, over=item("old"), held=item("held", at(25, "us", 9)))
    settlement = made.settle()
    assert not settlement.release
    made.world.run(release("us", made.change))
    assert made.state.held is not None


@pytest.mark.parametrize("nature", [Nature.UNCHANGED, Nature.SETTLED])
def test_what_needs_nothing_asks_for_nothing(nature: Nature) -> None:
    """Not a single operation."""
    made = scene(item("new"))
    change = replace(made.change, nature=nature)
    assert made.world.run(settle("us", change)) == NOTHING_TO_SHIP
    assert made.world.done == []
