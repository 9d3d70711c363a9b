"""Tables with one source: versions come from the records, and nobody polices the targets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from conflict.merge import ATTEMPTS_MAX, Contended, Delivery, Effect, Shipment, Steps
from conflict.one_way import deliver_one_way, newest_one_way, settle_one_way
from conflict.operations import (
    AnyOperation,
    Delete,
    Get,
    Item,
    Older,
    Put,
    RaiseTombstone,
    ReadState,
)
from conflict.version import Kind, Version, order
from replicator.records import Mode, ViewType
from support.memory import MemoryRegion
from support.scenes import KEY, Facts, World, at, change_of, item, reruns, shipment

V = at(20, "us", 5)
BACK, AHEAD = at(30, "us", 4), at(10, "us", 6)
"""Versions of the same source whose times say otherwise than their sequences do."""

STANDING: dict[str, Item | None] = {
    "nothing": None,
    "earlier": item("old", at(10, "us", 3)),
    "earlier, of the same time": item("old", at(20, "us", 4)),
    "earlier, of a later time": item("old", BACK),
    "later": item("old", at(30, "us", 6)),
    "later, of an earlier time": item("old", AHEAD),
    "the same": item("new", V),
    "a former source's, older": item("old", at(10, "eu", 9)),
    "a former source's, newer": item("old", at(30, "eu", 9)),
    "unstamped": item("old"),
    "of a marker that states nothing": Item(item("old").image, {"N": "3"}),
}
TOMBSTONES = {
    "": None,
    "earlier delete": at(10, "us", 4),
    "earlier delete of a later time": BACK,
    "later delete": at(30, "us", 6),
    "this very delete": V,
}
SHIPMENTS = {
    "put": shipment(V, "new"),
    "fresh put": shipment(V, "new", fresh=True),
    "delete": shipment(V, None),
}
Make = Callable[[], tuple[World, Callable[[], Steps[Delivery]]]]


def scene(standing: Item | None, tombstone: Version | None, shipped: Shipment) -> Make:
    """A target in that state, and the step that brings the shipment there."""

    def make() -> tuple[World, Callable[[], Steps[Delivery]]]:
        world = World("eu")
        if standing is not None:
            world["eu"].write(KEY, standing)
        if tombstone is not None:
            world.execute(RaiseTombstone("eu", KEY, tombstone))
        world.done.clear()
        return world, lambda: deliver_one_way("eu", shipped)

    return make


def ran(make: Make) -> tuple[World, Delivery]:
    """A scene, run to its end."""
    world, start = make()
    return world, world.run(start())


def cases() -> list[object]:
    """All scenes but those in which one record would be both a put and a delete."""
    return [
        pytest.param(
            STANDING[s],
            TOMBSTONES[t],
            SHIPMENTS[p],
            id=f"{p} over {s} {t}".strip(),
        )
        for s, t, p in itertools.product(STANDING, TOMBSTONES, SHIPMENTS)
        if (p, s) != ("delete", "the same") and (p == "delete" or t != "this very delete")
    ]


SCENES = pytest.mark.parametrize(("standing", "tombstone", "shipped"), cases())


def is_own_later(version: Version | None) -> bool:
    """Whether a version is of a later record of the same source."""
    return version is not None and version.origin == V.origin and version.sequence > V.sequence


def is_own_earlier(version: Version | None) -> bool:
    """Whether a version is of an earlier record of the same source."""
    return version is not None and version.origin == V.origin and version.sequence < V.sequence


def ends(whole: World, tombstone: Version | None) -> list[Facts]:
    """As a whole run left it; or without an item that stands beneath a later delete."""
    left = whole.facts()["eu"]
    under_way = is_own_later(tombstone) and left.item is not None
    return [left, replace(left, item=None)] if under_way else [left]


@SCENES
def test_the_later_record_of_the_source_stands(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """Of the source's own changes sequences decide, whatever the times say."""
    world, _ = ran(scene(standing, tombstone, shipped))
    facts, below = world.facts()["eu"], standing.version if standing else None
    if is_own_later(tombstone) or is_own_later(below):
        return  # a replay: what follows is in the same stream, and comes after it
    if below is not None and below.origin != V.origin and order(below) > order(V):
        return  # a former source's, from a later time: the last writer wins
    content = facts.item.image["content"]["S"] if facts.item else None
    assert content == (None if shipped.item is None else "new")
    if shipped.item is None:
        assert order(facts.state.tombstone) >= V.order


@SCENES
def test_a_change_never_lowers_what_stands(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """Versions in the target only rise, so that no replay can undo anything."""
    world, _ = ran(scene(standing, tombstone, shipped))
    facts = world.facts()["eu"]
    assert order(facts.state.tombstone) >= order(tombstone)
    if facts.item is not None and standing is not None:
        assert order(facts.item.version) >= order(standing.version)


@SCENES
def test_cut_anywhere_and_run_again_it_ends_the_same(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """Whatever operation a worker dies at, once or twice, the next one leaves the same behind, or
    has done already what the worker of a later delete is about to do."""
    make = scene(standing, tombstone, shipped)
    whole, _ = ran(make)
    for words, world, _ in reruns(make):
        assert world.facts()["eu"] in ends(whole, tombstone), words


@SCENES
def test_a_second_delivery_changes_nothing(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """What has arrived stays as it is, unless a later delete was begun and has yet to take it."""
    world, _ = ran(scene(standing, tombstone, shipped))
    possible, told = ends(world, tombstone), world["eu"].stream.written
    world.run(deliver_one_way("eu", shipped))
    assert world.facts()["eu"] in possible
    assert world["eu"].stream.written == told + (world.facts()["eu"] != possible[0])


def test_the_common_case_is_one_call() -> None:
    """A put over an older item is a single conditional write."""
    world, delivery = ran(scene(STANDING["earlier"], None, SHIPMENTS["put"]))
    assert [type(operation) for operation in world.done] == [Put]
    assert delivery == Delivery(Effect.APPLIED, at(10, "us", 3))


def test_a_delete_is_two_calls_and_leaves_no_mark() -> None:
    """No stream of the target is read, so no echo need be told."""
    world, delivery = ran(scene(STANDING["earlier"], None, SHIPMENTS["delete"]))
    assert [type(operation) for operation in world.done] == [RaiseTombstone, Delete]
    assert delivery == Delivery(Effect.APPLIED, at(10, "us", 3))


def test_a_created_item_is_looked_after() -> None:
    """Nobody polices the place, so the writer looks at the tombstone after the put as well."""
    world, _ = ran(scene(None, None, SHIPMENTS["fresh put"]))
    assert [type(operation) for operation in world.done] == [ReadState, Put, ReadState]


@pytest.mark.parametrize("between", [0, 1, 2])
def test_a_delete_that_comes_between_takes_the_put_out(between: int) -> None:
    """Two workers on one key: whichever operation the delete falls before, the item is gone."""
    world, start = scene(None, None, SHIPMENTS["fresh put"])()

    def delete(number: int, _: AnyOperation) -> None:
        if number == between:
            world.run(deliver_one_way("eu", shipment(at(30, "us", 6), None)))

    world.run(start(), before_each=delete)
    assert world.facts()["eu"].item is None


@pytest.mark.parametrize("kind", ["put", "fresh put"])
def test_a_put_cut_before_its_second_look_is_looked_after_when_it_is_run_again(kind: str) -> None:
    """Two workers: the delete of the other one came just before the put."""
    world, start = scene(None, None, SHIPMENTS[kind])()
    steps = start()
    operation = next(steps)
    while not isinstance(operation, Put) or isinstance(operation.expected, Older):
        operation = steps.send(world.execute(operation))
    world.run(deliver_one_way("eu", shipment(at(30, "us", 6), None)))
    world.execute(operation)
    steps.close()
    world.run(start())
    assert world.facts()["eu"].item is None


def test_an_earlier_delete_takes_out_no_later_put_whatever_its_time() -> None:
    """Of one source sequences decide, also where a put is looked after once more."""
    world, start = scene(STANDING["the same"], BACK, SHIPMENTS["put"])()
    world.run(start())
    assert world.facts()["eu"].item is not None


def test_a_lifted_delete_that_was_cut_takes_the_item_out_when_it_is_run_again() -> None:
    """Between the lifted tombstone and the delete a worker may die; the lift is found again."""
    make = scene(item("old", BACK), None, SHIPMENTS["delete"])
    for words, world, _ in reruns(make):
        facts = world.facts()["eu"]
        assert facts.item is None, words
        assert facts.state.tombstone == V.lifted(BACK.time_us), words


@pytest.mark.parametrize("kind", ["put", "delete"])
def test_a_key_that_never_rests_is_given_back(kind: str) -> None:
    """After so many lost races the step gives up; its task begins again after a pause."""
    world = World("eu")
    world["eu"].write(KEY, item("0"))

    def keep_busy(number: int, _: AnyOperation) -> None:
        world["eu"].write(KEY, Item(item("busy").image, {"N": str(number)}))

    with pytest.raises(Contended):
        world.run(deliver_one_way("eu", SHIPMENTS[kind]), before_each=keep_busy)
    writes = [operation for operation in world.done if isinstance(operation, Put | Delete)]
    assert ATTEMPTS_MAX <= len(writes) <= 2 * ATTEMPTS_MAX


# --- at the source ------------------------------------------------------------------------------


def source(view: ViewType) -> World:
    """A source whose stream tells that much."""
    world = World("us")
    world.regions["us"] = MemoryRegion("us", view=view)
    return world


@pytest.mark.parametrize("view", ViewType)
def test_every_view_type_ships_the_whole_item(view: ViewType) -> None:
    """What a record lacks is read back; the version is the record's."""
    world = source(view)
    world.write("us", item("first"), now_us=10)
    change = change_of("us", world.write("us", item("second"), now_us=20), mode=Mode.ONE_WAY)
    settlement = world.run(settle_one_way("us", change))
    shipped = settlement.shipment
    assert shipped is not None
    version = Version(20, "us", change.sequence, Kind.REPLICATED)
    assert shipped.version == version
    assert shipped.item == item("second", version)
    tells_all = view in (ViewType.NEW_IMAGE, ViewType.NEW_AND_OLD_IMAGES)
    assert [type(operation) for operation in world.done] == ([] if tells_all else [Get])


@pytest.mark.parametrize("view", ViewType)
def test_every_view_type_ships_a_delete(view: ViewType) -> None:
    """A REMOVE needs no image, and nothing is read."""
    world = source(view)
    world.write("us", item("first"), now_us=10)
    change = change_of("us", world.write("us", None, now_us=20), mode=Mode.ONE_WAY)
    shipped = world.run(settle_one_way("us", change)).shipment
    assert shipped is not None
    assert shipped.item is None
    assert shipped.version.time_us == 20
    assert world.done == []


@pytest.mark.parametrize("view", [ViewType.KEYS_ONLY, ViewType.OLD_IMAGE])
def test_an_item_that_is_gone_when_it_is_read_back_ships_its_absence(view: ViewType) -> None:
    """Its REMOVE follows, but may not be replicated; what the write replaced must go."""
    world = source(view)
    change = change_of("us", world.write("us", item("first"), now_us=10), mode=Mode.ONE_WAY)
    world.write("us", None, now_us=20)
    shipped = world.run(settle_one_way("us", change)).shipment
    assert shipped is not None
    assert (shipped.item, shipped.version) == (None, at(10, "us", change.sequence))


def test_the_source_is_never_written_to() -> None:
    """Not on any record, whatever marker an item there carries."""
    world = source(ViewType.NEW_AND_OLD_IMAGES)
    for number, marker in enumerate([None, at(5, "eu", 1), at(6, "us", 2, Kind.REMOVING), None]):
        record = world.write("us", item(str(number), marker), now_us=10 + number)
        shipped = world.run(settle_one_way("us", change_of("us", record, mode=Mode.ONE_WAY)))
        assert shipped.shipment is not None
    assert world.done == []


def test_of_two_that_wait_the_later_record_is_kept_at_no_earlier_a_time() -> None:
    """What replaces a waiting shipment inherits its time as a floor, and its stamp says so."""
    waiting, incoming = shipment(BACK, "old"), shipment(V, "new")
    kept = newest_one_way(waiting, incoming)
    assert kept.version == Version(30, "us", 5, Kind.REPLICATED)
    assert kept.item == item("new", kept.version)
    assert newest_one_way(shipment(at(10, "us", 4), "old"), incoming) == incoming
    assert newest_one_way(shipment(AHEAD, "later"), incoming).version.sequence in (5, 6)


def test_a_record_that_is_read_again_does_not_replace_a_later_one_that_waits() -> None:
    """The earlier record claims the later time: what waits is kept, and rises to it."""
    waiting, again = shipment(at(10, "us", 5), "new"), shipment(at(20, "us", 4), "old")
    kept = newest_one_way(waiting, again)
    assert kept.version == Version(20, "us", 5, Kind.REPLICATED)
    assert kept.item == item("new", kept.version)
