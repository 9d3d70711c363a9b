"""Seeding beside live replication: every order of every step, and a live write or delete wins.

A scene is one key in two regions, the scan of the source, applications that write meanwhile, and
the replicators. `explore` runs every interleaving of their operations (states that were seen before
are not entered again), so that what holds here holds whatever the timing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from conflict.merge import Steps, deliver
from conflict.one_way import deliver_one_way, settle_one_way
from conflict.operations import AnyOperation, Image, Item, Key, KeyState, marker_of
from conflict.origin import Change
from conflict.protocol import release, settle
from conflict.seed import Seeded, Terms, incoming_of, look_again, may_fill, seed
from conflict.version import Kind, Version
from replicator.records import Mode
from replicator.transformer import Transformer
from support.memory import MARKER, MemoryRegion

KEY = Key({"id": {"S": "1"}}, "1")
SOURCE, TARGET = "source", "target"
SECOND_US = 1_000_000
STATES_MAX = 60_000

Do: TypeAlias = "tuple[str, str]"
"""What an application does: put, update or delete, and a value."""


def image(content: str, **more: str) -> Image:
    """The image of the item of these tests."""
    return {
        **KEY.attributes,
        "content": {"S": content},
        **{name: {"S": value} for name, value in more.items()},
    }


def unstamped(content: str) -> Item:
    """An item that never had a version."""
    return Item(image(content), None)


def stamped(content: str, time_us: int, origin: str = SOURCE, kind: Kind = Kind.SETTLED) -> Item:
    """An item under a version from before the streams of the scene began."""
    return Item(image(content), marker_of(Version(time_us, origin, 0, kind)))


def terms(*, authority: bool = False, policed: bool = True) -> Terms:
    """How the source is seeded from."""
    return Terms(origin=SOURCE, overwrite_unstamped=authority, policed=policed)


# --- a scene and all of its schedules -----------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What stands at first, and what happens, in any order."""

    source: Item | None = None
    target: Item | None = None
    source_does: tuple[Do, ...] = ()
    target_does: tuple[Do, ...] = ()
    one_way: bool = False
    authority: bool = False
    killed_after: int | None = None
    """The seeder's process dies after so many operations, and another resumes."""

    @property
    def terms(self) -> Terms:
        """How it is seeded."""
        return terms(authority=self.authority or self.one_way, policed=not self.one_way)


Actor: TypeAlias = Generator[AnyOperation | None, Any, None]
"""Yields an operation, or None for a step of its own that is done when it is resumed."""


@dataclass
class Run:
    """One schedule of a scene, from its beginning."""

    scene: Scene
    regions: dict[str, MemoryRegion] = field(default_factory=dict)
    seeded: list[Seeded] = field(default_factory=list)
    effects: list[tuple[str, Do, Item | None]] = field(default_factory=list)
    """What the applications did, and what stood there then."""

    def __post_init__(self) -> None:
        for name, item in ((SOURCE, self.scene.source), (TARGET, self.scene.target)):
            region = MemoryRegion(name)
            if item is not None:
                region.items[KEY.id] = item
            self.regions[name] = region
        self._history: list[int] = []
        self._told = dict.fromkeys(self.regions, 0)
        self._noted = dict.fromkeys(self.regions, 0)
        self._read = dict.fromkeys(self.regions, 0)
        self._actors: list[Actor] = []
        self._due: list[AnyOperation | None] = []
        self._ended: list[bool] = []
        for actor in self._cast():
            self._actors.append(actor)
            self._history.append(0)
            self._due.append(next(actor))
            self._ended.append(False)

    def _cast(self) -> Iterator[Actor]:
        yield self._seeder()
        yield self._application(SOURCE, self.scene.source_does)
        yield self._application(TARGET, self.scene.target_does)
        yield self._replicator(SOURCE)
        if not self.scene.one_way:
            yield self._replicator(TARGET)

    def enabled(self) -> list[int]:
        """Who can take a step."""
        return [
            number
            for number, ended in enumerate(self._ended)
            if not ended and not (number in (3, 4) and self._idle(number))
        ]

    def step(self, number: int) -> None:
        """Let one actor carry out its next operation, and go on to the one after."""
        operation = self._due[number]
        result = None if operation is None else self.regions[operation.region].execute(operation)
        self._history[number] = hash((self._history[number], repr(result)))
        try:
            self._due[number] = self._actors[number].send(result)
        except StopIteration:
            self._ended[number] = True

    def state(self) -> object:
        """All that the future depends on: what stands, what the streams told, who has seen what."""
        for name, region in self.regions.items():
            fresh = region.stream.shards[0].records[self._noted[name] :]
            if fresh:
                self._noted[name] += len(fresh)
                self._told[name] = hash((self._told[name], repr(fresh)))
        stands = [
            (repr(region.items.get(KEY.id)), repr(region.states.get(KEY.id)))
            for region in self.regions.values()
        ]
        return (*stands, *self._told.values(), *self._history)

    def _idle(self, number: int) -> bool:
        """Whether a replicator waits at the end of its stream."""
        region = self.regions[SOURCE if number == 3 else TARGET]
        return self._due[number] is None and self._read[region.name] == region.stream.written

    def _seeder(self) -> Actor:
        yield None
        scanned = self.regions[SOURCE].items.get(KEY.id)
        if scanned is None:
            return
        steps = seed(TARGET, KEY, scanned, self.scene.terms, waited=self.scene.one_way)
        if self.scene.killed_after is None:
            self.seeded.append((yield from steps))
            return
        yield from _cut(steps, self.scene.killed_after)
        yield from look_again(TARGET, KEY)
        yield None
        scanned = self.regions[SOURCE].items.get(KEY.id)
        if scanned is not None:
            self.seeded.append((yield from seed(TARGET, KEY, scanned, self.scene.terms)))

    def _application(self, name: str, does: tuple[Do, ...]) -> Actor:
        region = self.regions[name]
        for act, value in does:
            yield None
            standing = region.items.get(KEY.id)
            self.effects.append((name, (act, value), standing))
            region.now_us = SECOND_US * len(self.effects)
            if act == "delete":
                if standing is not None:
                    region.write(KEY, None)
            elif act == "update" and standing is not None:
                region.write(
                    KEY, Item({**standing.image, "updated": {"S": value}}, standing.marker)
                )
            else:
                region.write(KEY, Item(image(value), None))
        yield None

    def _replicator(self, home: str) -> Actor:
        region, other = self.regions[home], TARGET if home == SOURCE else SOURCE
        one_way = self.scene.one_way
        transformer = Transformer(
            home=home,
            mode=Mode.ONE_WAY if one_way else Mode.MULTI_WRITER,
            marker=MARKER,
            key_of=lambda _: KEY,
        )
        while True:
            yield None
            record = region.stream.shards[0].records[self._read[home]]
            self._read[home] += 1
            change = transformer.change(record, 1_000 * SECOND_US)
            yield from _replicated(home, other, change, one_way=one_way)


def _replicated(home: str, other: str, change: Change, *, one_way: bool) -> Actor:
    settlement = yield from settle_one_way(home, change) if one_way else settle(home, change)
    if settlement.shipment is not None:
        deliver_there = deliver_one_way if one_way else deliver
        yield from deliver_there(other, settlement.shipment)
    if settlement.release:
        yield from release(home, change)


def _cut(steps: Steps[Any], operations: int) -> Actor:
    """The first so many operations of some steps."""
    result = None
    for _ in range(operations):
        try:
            result = yield steps.send(result)
        except StopIteration:
            return
    steps.close()


def explore(scene: Scene) -> list[Run]:
    """The ends of all schedules of a scene, one for each state that it can end in."""
    seen: set[object] = set()
    ends: list[Run] = []
    prefixes: list[tuple[int, ...]] = [()]
    while prefixes:
        prefix = prefixes.pop()
        run = Run(scene)
        for number in prefix:
            run.step(number)
        while True:
            state = run.state()
            if state in seen:
                break
            seen.add(state)
            assert len(seen) < STATES_MAX, "the scene has too many schedules"
            enabled = run.enabled()
            if not enabled:
                ends.append(run)
                break
            prefixes += [(*prefix, number) for number in enabled[1:]]
            prefix = (*prefix, enabled[0])
            run.step(enabled[0])
    return ends


def content(run: Run, region: str) -> Image | None:
    """What stands at the end, marker left out."""
    return run.regions[region].image(KEY)


# --- beside a live write or delete --------------------------------------------------------------


OLD = unstamped("old")
BEGINNINGS = {
    "never stamped": OLD,
    "stamped": stamped("old", 10),
    "stamped by its application": stamped("old", 10, TARGET, Kind.APPLICATION),
    "brought from the target": stamped("old", 10, TARGET, Kind.REPLICATED),
}


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
@pytest.mark.parametrize("source", BEGINNINGS.values(), ids=BEGINNINGS)
@pytest.mark.parametrize("act", ["put", "update"])
def test_a_live_write_at_the_source_wins(source: Item, act: str, *, one_way: bool) -> None:
    """Whatever of the old item is seeded when: both regions end with what was written."""
    for run in explore(Scene(source=source, source_does=((act, "live"),), one_way=one_way)):
        assert content(run, SOURCE) == content(run, TARGET)
        assert {"S": "live"} in (content(run, SOURCE) or {}).values()


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
@pytest.mark.parametrize("source", BEGINNINGS.values(), ids=BEGINNINGS)
def test_what_is_deleted_at_the_source_stays_away(source: Item, *, one_way: bool) -> None:
    """However late the scanned item arrives, the delete takes it out or keeps it out."""
    for run in explore(Scene(source=source, source_does=(("delete", ""),), one_way=one_way)):
        assert content(run, SOURCE) is None
        assert content(run, TARGET) is None


@pytest.mark.parametrize("killed_after", range(6))
@pytest.mark.parametrize("source", [OLD, stamped("old", 10)], ids=["unstamped", "stamped"])
def test_a_seeder_that_was_killed_leaves_nothing_that_was_deleted(
    source: Item, killed_after: int
) -> None:
    """The next one looks again at the keys that were under way, also at those no scan finds."""
    scene = Scene(
        source=source, source_does=(("delete", ""),), one_way=True, killed_after=killed_after
    )
    for run in explore(scene):
        assert content(run, TARGET) is None


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
def test_what_is_deleted_and_written_again_is_there(*, one_way: bool) -> None:
    """A re-created item rises above the tombstone that keeps the scanned one out."""
    does = (("delete", ""), ("put", "live"))
    for run in explore(Scene(source=OLD, source_does=does, one_way=one_way)):
        assert content(run, SOURCE) == content(run, TARGET) == image("live")


@pytest.mark.parametrize("source", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_live_put_at_the_target_wins(source: Item) -> None:
    """It replaces what was seeded, and is not replaced by it."""
    for run in explore(Scene(source=source, target_does=(("put", "live"),))):
        assert content(run, SOURCE) == content(run, TARGET) == image("live")


@pytest.mark.parametrize("source", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_live_update_at_the_target_wins(source: Item) -> None:
    """It keeps the marker of the seed that it changed, and is a local write all the same."""
    for run in explore(Scene(source=source, target_does=(("update", "live"),))):
        assert content(run, SOURCE) == content(run, TARGET)
        assert {"S": "live"} in (content(run, SOURCE) or {}).values()


@pytest.mark.parametrize("source", BEGINNINGS.values(), ids=BEGINNINGS)
def test_what_is_deleted_at_the_target_goes_everywhere(source: Item) -> None:
    """A delete that found the seed takes the item out of both; one that found nothing is none."""
    ends = explore(Scene(source=source, target_does=(("delete", ""),)))
    found = {standing is not None for run in ends for _, _, standing in run.effects}
    assert found == {True, False}
    for run in ends:
        ((_, _, standing),) = run.effects
        expected = source.image if standing is None else None
        assert content(run, SOURCE) == content(run, TARGET) == expected


@pytest.mark.parametrize("standing", [stamped("own", 5), stamped("own", 20, TARGET)])
def test_a_delete_at_the_target_of_what_stood_there_stays(standing: Item) -> None:
    """The item that the target deleted is not brought back by the source's older copy."""
    scene = Scene(source=stamped("old", 10), target=standing, target_does=(("delete", ""),))
    for run in explore(scene):
        assert content(run, SOURCE) is None
        assert content(run, TARGET) is None


@pytest.mark.parametrize("does", [("update", "there"), ("delete", "")])
def test_regions_that_write_both_end_equal(does: Do) -> None:
    """Two live writes settle the matter between them; the scanned item has no say."""
    scene = Scene(source=OLD, source_does=(("put", "here"),), target_does=(does,))
    for run in explore(scene):
        assert content(run, SOURCE) == content(run, TARGET) != OLD.image


# --- two populated tables -----------------------------------------------------------------------


@pytest.mark.parametrize("authority", [False, True])
def test_a_live_write_upon_an_item_that_is_in_dispute_wins(*, authority: bool) -> None:
    """At the first look nothing is overwritten, for what stands may still be to be stamped."""
    scene = Scene(
        source=OLD, target=unstamped("own"), target_does=(("update", "live"),), authority=authority
    )
    for run in explore(scene):
        assert content(run, SOURCE) == content(run, TARGET)
        assert {"S": "live"} in (content(run, TARGET) or {}).values()
        assert run.seeded[0] in (Seeded.DISPUTED, Seeded.NEWER, Seeded.EQUAL)


@pytest.mark.parametrize("does", [("put", "live"), ("update", "live")])
def test_a_one_way_target_that_held_something_else_ends_equal(does: Do) -> None:
    """The source is the authority, before and after its live write."""
    scene = Scene(source=OLD, target=unstamped("own"), source_does=(does,), one_way=True)
    for run in explore(scene):
        assert content(run, SOURCE) == content(run, TARGET)


def test_a_one_way_target_that_held_something_else_loses_what_is_deleted() -> None:
    """Whether it had been overwritten or not."""
    scene = Scene(source=OLD, target=unstamped("own"), source_does=(("delete", ""),), one_way=True)
    for run in explore(scene):
        assert content(run, TARGET) is None


# --- one look, nothing live ---------------------------------------------------------------------


def ended(steps: Steps[Seeded], region: MemoryRegion) -> Seeded:
    """Run steps to their end against one region."""
    result = None
    while True:
        try:
            operation = steps.send(result)
        except StopIteration as stop:
            seeded: Seeded = stop.value
            return seeded
        result = region.execute(operation)


def outcome(
    scanned: Item,
    standing: Item | None,
    how: Terms,
    *,
    tombstone: Version | None = None,
    waited: bool = True,
) -> tuple[Seeded, Item | None]:
    """What became of a scanned item, and what stands after."""
    region = MemoryRegion(TARGET)
    if standing is not None:
        region.items[KEY.id] = standing
    region.states[KEY.id] = KeyState(tombstone)
    seeded = ended(seed(TARGET, KEY, scanned, how, waited=waited), region)
    return seeded, region.items.get(KEY.id)


SEED = Version(0, SOURCE, 0, Kind.REPLICATED)
AUTHORITY = Version(1, SOURCE, 0, Kind.REPLICATED)


def test_an_item_without_a_version_gets_the_lowest() -> None:
    """So that every live write is above it."""
    assert outcome(OLD, None, terms()) == (Seeded.WRITTEN, OLD.stamped(SEED))


def test_an_item_keeps_its_version_and_arrives_as_a_replicated_one() -> None:
    """Under an application's kind it would look like a new write where it is at home."""
    scanned = stamped("old", 10, TARGET, Kind.APPLICATION)
    seeded, standing = outcome(scanned, None, terms())
    assert seeded is Seeded.WRITTEN
    assert standing == stamped("old", 10, TARGET, Kind.REPLICATED)


def test_the_source_of_a_one_way_table_states_no_versions() -> None:
    """Live versions come from its records; a marker that stands there could outrank them."""
    _, standing = outcome(stamped("old", 10), None, terms(policed=False))
    assert standing == OLD.stamped(SEED)


def test_an_item_that_is_being_taken_out_is_not_brought_anywhere() -> None:
    """Its content has been deleted already."""
    scanned = stamped("old", 10, SOURCE, Kind.REMOVING)
    assert outcome(scanned, None, terms()) == (Seeded.DELETED, None)


@pytest.mark.parametrize("authority", [False, True])
def test_any_tombstone_keeps_out_what_has_no_version(*, authority: bool) -> None:
    """Nothing tells whether the item is older than the delete."""
    tombstone = Version(0, "a", 0, Kind.REPLICATED)
    for policed in (False, True):
        how = terms(authority=authority, policed=policed)
        assert outcome(OLD, None, how, tombstone=tombstone) == (Seeded.DELETED, None)


def test_a_write_whose_answer_was_lost_is_looked_at_as_well() -> None:
    """One-way: what stands may be this seeder's own, put there beneath a delete."""
    how, tombstone = terms(policed=False), Version(5, SOURCE, 1, Kind.APPLICATION)
    ours = OLD.stamped(SEED)
    assert outcome(OLD, ours, how, tombstone=tombstone) == (Seeded.DELETED, None)


def test_a_version_is_judged_by_the_tombstone() -> None:
    """A newer item stands above an older delete."""
    older, newer = (Version(time_us, "a", 0, Kind.REPLICATED) for time_us in (5, 20))
    assert outcome(stamped("old", 10), None, terms(), tombstone=older)[0] is Seeded.WRITTEN
    assert outcome(stamped("old", 10), None, terms(), tombstone=newer)[0] is Seeded.DELETED


def test_versions_decide_where_both_have_one() -> None:
    """As with any shipment."""
    here = stamped("here", 10)
    assert outcome(here, stamped("there", 20), terms())[0] is Seeded.NEWER
    assert outcome(here, stamped("there", 5), terms())[0] is Seeded.WRITTEN
    assert outcome(here, unstamped("there"), terms())[0] is Seeded.WRITTEN
    assert outcome(here, here, terms())[0] is Seeded.EQUAL


@pytest.mark.parametrize("policed", [False, True])
def test_nothing_that_has_a_version_gives_way_to_what_has_none(*, policed: bool) -> None:
    """It was live once, and may be again."""
    standing = stamped("there", 2, "a")
    how = terms(authority=True, policed=policed)
    assert outcome(OLD, standing, how) == (Seeded.NEWER, standing)


@pytest.mark.parametrize("standing", [OLD, stamped("old", 10)])
def test_equal_content_is_left_as_it_is(standing: Item) -> None:
    """Two tables that are equal take no write at all."""
    assert outcome(OLD, standing, terms(authority=True)) == (Seeded.EQUAL, standing)


def test_content_is_compared_as_dynamodb_does() -> None:
    """Another way to write a number is no difference."""
    one, other = (Item({**KEY.attributes, "n": {"N": n}}, None) for n in ("1", "1.0"))
    assert outcome(one, other, terms())[0] is Seeded.EQUAL


def test_without_an_authority_a_difference_is_reported() -> None:
    """Nobody can say which of the two is later."""
    own = unstamped("own")
    assert outcome(OLD, own, terms()) == (Seeded.DISPUTED, own)


def test_the_authority_overwrites_once_it_has_waited() -> None:
    """At the first look the item may be a live write that is still to be stamped."""
    own = unstamped("own")
    how = terms(authority=True)
    assert outcome(OLD, own, how, waited=False) == (Seeded.DISPUTED, own)
    assert outcome(OLD, own, how) == (Seeded.WRITTEN, OLD.stamped(AUTHORITY))


def test_the_authority_does_not_overwrite_what_stands_over_a_tombstone() -> None:
    """An item that was deleted and written again is live, also before it is stamped."""
    own, tombstone = unstamped("own"), Version(5, TARGET, 1, Kind.APPLICATION)
    assert outcome(OLD, own, terms(authority=True), tombstone=tombstone) == (Seeded.NEWER, own)


def test_the_source_of_a_one_way_table_overwrites_at_once() -> None:
    """No application writes there."""
    how = terms(authority=True, policed=False)
    assert outcome(OLD, unstamped("own"), how, waited=False)[1] == OLD.stamped(SEED)


def test_the_authority_stands_above_other_seeds() -> None:
    """Whichever region is seeded from first."""
    other = Item(image("other"), marker_of(Version(0, "a", 0, Kind.REPLICATED)))
    above = Item(image("other"), marker_of(Version(1, "a", 0, Kind.REPLICATED)))
    assert outcome(OLD, other, terms())[0] is Seeded.DISPUTED
    assert outcome(OLD, other, terms(authority=True))[0] is Seeded.WRITTEN
    assert outcome(OLD, above, terms())[0] is Seeded.NEWER
    assert outcome(OLD, above, terms(authority=True))[0] is Seeded.DISPUTED


def test_a_one_way_target_is_refreshed_when_seeded_again() -> None:
    """What changed at the source while nobody replicated replaces the earlier seed."""
    how = terms(authority=True, policed=False)
    seeded, standing = outcome(unstamped("new"), OLD.stamped(SEED), how)
    assert (seeded, standing) == (Seeded.WRITTEN, unstamped("new").stamped(SEED))


def test_a_seed_that_came_from_elsewhere_is_a_seed_again() -> None:
    """Carried on to a third region it claims no more than before."""
    brought = Item(image("old"), marker_of(Version(0, "a", 0, Kind.REPLICATED)))
    assert outcome(brought, None, terms()) == (Seeded.WRITTEN, brought)
    assert outcome(brought, unstamped("own"), terms())[0] is Seeded.DISPUTED


def test_what_may_be_inserted_unseen_is_told_from_the_tombstone_alone() -> None:
    """The same rule serves writes in batches, which fail on a standing item."""
    incoming = incoming_of(OLD, terms())
    assert incoming is not None
    assert may_fill(incoming, KeyState())
    assert not may_fill(incoming, KeyState(Version(5, "a", 1, Kind.APPLICATION)))
