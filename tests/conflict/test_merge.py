"""Bringing one change into one region: every state that a target can be in, and every cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from conflict.merge import (
    ATTEMPTS_MAX,
    Contended,
    Delivery,
    Effect,
    Shipment,
    Steps,
    bring,
    deliver,
    is_conflict,
    is_ours,
    newest,
)
from conflict.operations import (
    AnyOperation,
    Delete,
    Item,
    Outcome,
    Put,
    RaiseTombstone,
    ReadState,
    Stamp,
)
from conflict.origin import Nature
from conflict.protocol import settle
from conflict.version import Kind, Version, order
from replicator.records import EventName
from support.memory import MARKER
from support.scenes import KEY, World, at, change_of, image, item, reruns, shipment

V = at(20, "us", 5)
OLDER, NEWER = at(10, "eu", 3), at(30, "eu", 9)

STANDING: dict[str, Item | None] = {
    "nothing": None,
    "older": item("old", OLDER),
    "older of the same origin": item("old", at(10, "us", 2)),
    "older, of an application that stamps": item("old", at(10, "eu", 3, Kind.APPLICATION)),
    "older, settled here": item("old", at(10, "eu", 3, Kind.SETTLED)),
    "older, marked": item("old", at(10, "eu", 3, Kind.REMOVING)),
    "marked by this very version": item("old", V.of_kind(Kind.REMOVING)),
    "the same": item("new", V.of_kind(Kind.REPLICATED)),
    "newer": item("old", NEWER),
    "unstamped": item("old"),
    "stamped from the future": item("old", at(10**15, "eu", 3, Kind.APPLICATION)),
    "of a replicator, from the far future": item("old", at(10**15, "eu", 3)),
    "marker that states nothing": Item(image("old"), {"N": "3"}),
    "marker of a text that states nothing": Item(image("old"), {"S": "~"}),
}
TOMBSTONES = {"": None, "older tombstone": OLDER, "same tombstone": V, "newer tombstone": NEWER}
SHIPMENTS = {
    "put": shipment(V, "new"),
    "settled put": shipment(V.of_kind(Kind.SETTLED), "new"),
    "stamped put": shipment(V.of_kind(Kind.APPLICATION), "new"),
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
        return world, lambda: deliver("eu", shipped)

    return make


def ran(make: Make) -> tuple[World, Delivery]:
    """A scene, run to its end."""
    world, start = make()
    return world, world.run(start())


def cases() -> list[object]:
    """All scenes."""
    return [
        pytest.param(STANDING[s], TOMBSTONES[t], SHIPMENTS[p], id=f"{p} over {s} {t}".strip())
        for s, t, p in itertools.product(STANDING, TOMBSTONES, SHIPMENTS)
    ]


def believed_order(standing: Item | None) -> tuple[int, str, int]:
    """The order of what stands; whatever is from far ahead counts as none."""
    version = standing.version if standing else None
    return order(None if version and version.time_us > 10**12 else version)


@pytest.mark.parametrize(("standing", "tombstone", "shipped"), cases())
def test_the_newest_stands_and_a_delete_is_remembered(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """A put lands over what is older; where no version stands, or none should, the tombstone is
    asked first. A delete takes out what is older. What expired here under this very version, and
    was written over since, stays away."""
    world, delivery = ran(scene(standing, tombstone, shipped))
    facts, below = world.facts()["eu"], believed_order(standing)
    if shipped.item is None:
        remembered = max(order(tombstone), V.order)
        assert order(facts.state.tombstone) == remembered
        is_taken = below <= V.order and order(tombstone) <= V.order
        assert facts.item == (None if is_taken else standing)
    else:
        asks = below == order(None) or shipped.fresh
        ended = standing is not None and below == order(None) and order(tombstone) == V.order
        lands = below < V.order and (order(tombstone) <= V.order or not asks) and not ended
        replicated = item("new", V.of_kind(Kind.REPLICATED))
        assert facts.item == (replicated if lands else standing)
        assert (delivery.effect is Effect.APPLIED) == lands
        assert facts.state.tombstone == tombstone


@pytest.mark.parametrize(("standing", "tombstone", "shipped"), cases())
def test_cut_anywhere_and_run_again_it_ends_the_same(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """Whatever operation a worker dies at, once or twice, the next one leaves the same behind."""
    make = scene(standing, tombstone, shipped)
    whole, _ = ran(make)
    for words, world, delivery in reruns(make):
        assert world.facts() == whole.facts(), words
        assert delivery.effect is not Effect.YIELDED, words


@pytest.mark.parametrize(("standing", "tombstone", "shipped"), cases())
def test_a_second_delivery_changes_nothing(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """What has arrived is told as a duplicate or as beaten, and no stream hears of it."""
    make = scene(standing, tombstone, shipped)
    world, first = ran(make)
    facts, told = world.facts(), world["eu"].stream.written
    again = world.run(deliver("eu", shipped))
    assert world.facts() == facts
    assert world["eu"].stream.written == told
    assert again.effect in (
        (Effect.DUPLICATE, Effect.STALE) if first.effect is Effect.APPLIED else (first.effect,)
    )


@pytest.mark.parametrize(("standing", "tombstone", "shipped"), cases())
def test_a_region_tells_every_step_of_a_replicator_as_an_echo(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """What a delivery leaves in the target's stream is never taken for a local write there."""
    make = scene(standing, tombstone, shipped)
    world, start = make()
    (shard,) = world["eu"].stream.shards
    before = len(shard.records)
    world.run(start())
    for record in shard.records[before:]:
        nature = change_of("eu", record).nature
        assert nature in (Nature.ARRIVED, Nature.MARKED, Nature.TAKEN_OUT)


@pytest.mark.parametrize(("standing", "tombstone", "shipped"), cases())
def test_a_region_polices_what_landed(
    standing: Item | None, tombstone: Version | None, shipped: Shipment
) -> None:
    """Once the region has seen its echoes, nothing that was brought stands beneath a tombstone."""
    world, _ = ran(scene(standing, tombstone, shipped))
    (shard,) = world["eu"].stream.shards
    for record in shard.records:  # grows while it is read
        change = change_of("eu", record)
        if not change.nature.is_local_put:
            world.run(settle("eu", change))
    facts = world.facts()["eu"]
    if facts.item is not None and facts.item.version is not None and facts.item != standing:
        assert order(facts.state.tombstone) <= facts.item.version.order


# --- how many calls -----------------------------------------------------------------------------


def test_the_common_case_is_one_call() -> None:
    """A put over an older item is a single conditional write."""
    world, delivery = ran(scene(STANDING["older"], None, SHIPMENTS["put"]))
    assert [type(operation) for operation in world.done] == [Put]
    assert delivery == Delivery(Effect.APPLIED, OLDER)


def test_a_beaten_put_is_one_call() -> None:
    """The refusal itself tells what stands."""
    world, delivery = ran(scene(STANDING["newer"], None, SHIPMENTS["put"]))
    assert [type(operation) for operation in world.done] == [Put]
    assert delivery.effect is Effect.STALE


def test_a_created_item_costs_a_look_at_the_tombstone_and_a_put() -> None:
    """Where the record says that the item is new, no write is tried over something older."""
    world, _ = ran(scene(None, None, SHIPMENTS["fresh put"]))
    assert [type(operation) for operation in world.done] == [ReadState, Put]


def test_a_delete_writes_its_tombstone_first_and_marks_before_it_deletes() -> None:
    """The order of the operations is what makes a cut harmless."""
    world, delivery = ran(scene(STANDING["older"], None, SHIPMENTS["delete"]))
    kinds = [type(operation).__name__ for operation in world.done]
    assert kinds == ["RaiseTombstone", "Get", "Stamp", "Delete"]
    assert delivery == Delivery(Effect.APPLIED, OLDER)
    removed = world.last_record("eu")
    assert removed.event is EventName.REMOVE
    assert removed.old is not None
    assert removed.old[MARKER] == {"S": V.of_kind(Kind.REMOVING).text}


# --- races --------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", range(4))
def test_a_newer_write_between_any_two_operations_of_a_delete_stays(between: int) -> None:
    """A lost race is read again, and versions decide."""
    world, start = scene(STANDING["older"], None, SHIPMENTS["delete"])()
    world.run(start(), before_each=writing(world, item("winner", NEWER), between))
    assert world.facts()["eu"].item == item("winner", NEWER)


@pytest.mark.parametrize("between", range(2))
@pytest.mark.parametrize("kind", ["put", "fresh put"])
def test_a_newer_write_between_any_two_operations_of_a_put_stays(kind: str, between: int) -> None:
    """A lost race is read again, and versions decide."""
    world, start = scene(None, None, SHIPMENTS[kind])()
    delivery = world.run(start(), before_each=writing(world, item("winner", NEWER), between))
    assert world.facts()["eu"].item == item("winner", NEWER)
    assert delivery == Delivery(Effect.STALE)


def writing(world: World, written: Item, before: int) -> Callable[[int, AnyOperation], None]:
    """Somebody who writes once, before that operation."""

    def write(number: int, _: AnyOperation) -> None:
        if number == before:
            world["eu"].write(KEY, written)

    return write


@pytest.mark.parametrize("kind", ["put", "delete"])
def test_a_key_that_never_rests_is_given_back(kind: str) -> None:
    """After so many lost races the step gives up; its task begins again after a pause."""
    world = World("eu")
    world["eu"].write(KEY, item("0"))

    def keep_busy(number: int, _: AnyOperation) -> None:
        marker = {"N": str(number)}  # of no version, and another each time
        world["eu"].write(KEY, Item(image("busy"), marker))

    with pytest.raises(Contended):
        world.run(deliver("eu", SHIPMENTS[kind]), before_each=keep_busy)
    writes = [operation for operation in world.done if isinstance(operation, Put | Stamp)]
    assert len(writes) in (ATTEMPTS_MAX, ATTEMPTS_MAX + 1)


def test_a_write_put_back_at_home_gives_way_to_a_later_local_write() -> None:
    """What the region's own application wrote since has a record of its own."""
    for standing in (item("later"), item("later", at(5, "us", 9, Kind.SETTLED))):
        world = World("us")
        world["us"].write(KEY, standing)
        delivery = world.run(bring("us", SHIPMENTS["put"], own=True))
        assert delivery.effect is Effect.YIELDED
        assert world.facts()["us"].item == standing


def test_a_delete_only_deletes_what_it_has_marked() -> None:
    """An application's write between the mark and the delete is left alone."""
    world, start = scene(STANDING["older"], None, SHIPMENTS["delete"])()
    steps = start()
    operation = next(steps)
    while not isinstance(operation, Delete):
        operation = steps.send(world.execute(operation))
    world["eu"].write(KEY, item("later"))
    outcome = world.execute(operation)
    assert isinstance(outcome, Outcome)
    assert not outcome.done
    assert world.facts()["eu"].item == item("later")


# --- small rules --------------------------------------------------------------------------------


def test_a_conflict_is_a_foreign_write_that_the_author_had_not_seen() -> None:
    """To replace what was seen, one's own, or nothing, is no conflict."""
    seen = shipment(V, "new", base=OLDER)
    unseen = shipment(V, "new", base=at(5, "eu", 1))
    assert not is_conflict(seen, Delivery(Effect.APPLIED, OLDER))
    assert not is_conflict(seen, Delivery(Effect.APPLIED, OLDER.of_kind(Kind.SETTLED)))
    assert not is_conflict(unseen, Delivery(Effect.APPLIED, at(10, "us", 2)))
    assert not is_conflict(unseen, Delivery(Effect.APPLIED, None))
    assert is_conflict(unseen, Delivery(Effect.APPLIED, OLDER))


def test_of_two_shipments_the_newest_is_still_needed() -> None:
    """The order of versions, the incoming one where they are of the same."""
    earlier, later = shipment(OLDER, "old"), shipment(V, "new")
    assert newest(earlier, later) == later
    assert newest(later, earlier) == later
    again = shipment(V, "other")
    assert newest(later, again) == again


@pytest.mark.parametrize(
    ("waiting", "incoming", "kept"),
    [
        (OLDER, None, OLDER),
        (OLDER, at(12, "us", 4), OLDER),
        (OLDER, at(12, "eu", 4), at(12, "eu", 4)),
        (None, at(12, "eu", 4), at(12, "eu", 4)),
        (None, at(12, "us", 4), None),
    ],
)
def test_a_shipment_that_replaces_another_has_seen_what_that_one_had(
    waiting: Version | None, incoming: Version | None, kept: Version | None
) -> None:
    """The base stays, unless the newer write has seen something foreign itself."""
    first, second = shipment(at(15, "us", 4), "a", base=waiting), shipment(V, "b", base=incoming)
    assert newest(first, second) == replace(second, base=kept)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_shipment_that_replaces_another_finds_the_target_as_that_one_would(
    *, fresh: bool
) -> None:
    """Where the first created the item, the target still has none."""
    first, second = shipment(OLDER, "a", fresh=fresh), shipment(V, "b", fresh=not fresh)
    assert newest(first, second).fresh == fresh


@pytest.mark.parametrize(
    ("standing", "is_own"),
    [
        (None, True),
        (at(1, "us", kind=Kind.SETTLED), True),
        (at(1, "us", kind=Kind.APPLICATION), True),
        (at(1, "us", kind=Kind.REPLICATED), False),
        (at(1, "us", kind=Kind.REMOVING), False),
        (at(1, "eu", kind=Kind.SETTLED), False),
        (at(1, "eu", kind=Kind.APPLICATION), False),
    ],
)
def test_ours_is_what_the_application_wrote_and_nobody_moved_since(
    standing: Version | None, *, is_own: bool
) -> None:
    """No marker, an own stamp, or our stamp on an own write."""
    assert is_ours("us", standing) == is_own
