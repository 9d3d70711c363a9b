"""Repair by comparison: what every combination of holdings asks for, and that it then is so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conflict.content import same
from conflict.merge import Shipment, Steps, deliver
from conflict.operations import Image, Item, Key, KeyState, Result, marker_of
from conflict.repair import Holding, Reason, Verdict, compare, compare_one_way, look, repair
from conflict.version import Kind, Version, order
from support.memory import MemoryRegion

T = TypeVar("T")

KEY = Key({"id": {"S": "1"}}, "1")
V10, V20, V30 = (Version(time, "us", 5, Kind.REPLICATED) for time in (10, 20, 30))
T25 = Version(25, "ap", 7, Kind.APPLICATION)


def image(content: str) -> Image:
    """The image of the item of these tests."""
    return {**KEY.attributes, "content": {"S": content}}


def item(content: str, version: Version | None = None) -> Item:
    """An item, under a version if one is given."""
    return Item(image(content), marker_of(version) if version else None)


def held(content: str, version: Version | None = None, deleted: Version | None = None) -> Holding:
    """A region that holds an item."""
    return Holding(item(content, version), deleted)


def none(deleted: Version | None = None) -> Holding:
    """A region that holds none."""
    return Holding(None, deleted)


class World:
    """Regions in memory that hold what a test says."""

    def __init__(self, holdings: Mapping[str, Holding]) -> None:
        self.regions = {name: MemoryRegion(name) for name in holdings}
        for name, holding in holdings.items():
            if holding.item is not None:
                self.regions[name].items[KEY.id] = holding.item
            self.regions[name].states[KEY.id] = KeyState(holding.tombstone)

    def run(self, steps: Steps[T], *, cut_after: int | None = None) -> T | None:
        """A step to its end, or until it is cut before its n-th operation."""
        answer: Result = None
        done = 0
        while True:
            try:
                operation = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if done == cut_after:
                steps.close()
                return None
            answer = self.regions[operation.region].execute(operation)
            done += 1

    def holdings(self) -> dict[str, Holding]:
        """What stands."""
        found = {name: self.run(look(name, KEY)) for name in self.regions}
        return {name: holding for name, holding in found.items() if holding is not None}

    def contents(self) -> dict[str, Image | None]:
        """What an application sees."""
        return {name: region.image(KEY) for name, region in self.regions.items()}


def signs(verdict: Verdict) -> str:
    """The signs of the regions in their order."""
    return "".join(finding.sign for finding in verdict.findings.values())


MARKED = V20.of_kind(Kind.REMOVING)
SEED_OF_US, SEED_OF_EU = (Version(0, origin, 0, Kind.REPLICATED) for origin in ("us", "eu"))

CASES: dict[str, tuple[tuple[Holding, ...], str, str | None]] = {
    "nothing anywhere": ((none(), none(T25), none()), "===", None),
    "one content, one version": ((held("a", V20), held("a", V20), held("a", V20)), "===", "a"),
    "one content, several versions": ((held("a", V10), held("a"), held("a", V20)), "===", "a"),
    "never arrived": ((held("a", V20), none(), held("a", V20)), "=+=", "a"),
    "older": ((held("b", V20), held("a", V10), held("b", V20)), "=*=", "b"),
    "older and missing": ((none(), held("a", V10), held("b", V20)), "+*=", "b"),
    "older, but of the newest content": ((held("b", V10), none(), held("b", V20)), "=+=", "b"),
    "without a version beside a newer": ((held("a"), held("b", V20), none()), "*=+", "b"),
    "deleted by a newer": ((none(T25), held("a", V20), held("b", V10)), "=--", None),
    "deleted, without a version": ((none(T25), held("a"), none()), "=-=", None),
    "deleted, then written": ((none(T25), held("a", V30), none(T25)), "+=+", "a"),
    "written again over its own delete": ((held("a", None, T25), none(T25), none()), "=++", "a"),
    "written again over an older delete": ((held("a", None, V10), none(T25), none()), "-==", None),
    "expired by its own version": ((none(V20), held("a", V20), held("a", V20)), "===", "a"),
    "expired by its own version, and not taken out": (
        (held("b", MARKED), held("a", V20), held("a", V20)),
        "-==",
        "a",
    ),
    "expired, then newer": ((none(V10), held("a", V20), held("a", V20)), "+==", "a"),
    "marked, and not taken out": ((held("a", MARKED), none(V20), none()), "-==", None),
    "marked beneath a newer": ((held("a", MARKED), held("b", V30), none()), "+=+", "b"),
    "marked everywhere": ((held("a", MARKED),) * 3, "---", None),
    "one content without a version": ((held("a"), none(), held("a")), "=+=", "a"),
    "a copy is older than what it copies": (
        (held("b"), held("a", SEED_OF_US), held("a", SEED_OF_US)),
        "=**",
        "b",
    ),
    "a copy outlives what it copies": ((none(), held("a", SEED_OF_US), none()), "+=+", "a"),
    "a copy beneath a write": ((held("b", V10), held("a", SEED_OF_US), none()), "=*+", "b"),
    "a copy beneath a delete": ((none(V10), held("a", SEED_OF_US), held("a")), "=--", None),
}


@pytest.mark.parametrize("case", CASES)
def test_versions_decide(case: str) -> None:
    """Each combination has its signs; once repaired, all regions hold what they should."""
    places, expected, content = CASES[case]
    world = World(dict(zip(("us", "eu", "ap"), places, strict=True)))

    verdict = compare(KEY, world.holdings())
    assert signs(verdict) == expected
    assert verdict.decided
    assert world.run(repair(verdict))

    after = compare(KEY, world.holdings())
    assert after.equal, after
    if "expired by" not in case:
        wanted = None if content is None else image(content)
        assert world.contents() == dict.fromkeys(("us", "eu", "ap"), wanted)


DISPUTES: dict[str, tuple[tuple[Holding, ...], str, Reason]] = {
    "two without a version": ((held("a"), held("b"), none()), "!!+", Reason.DISPUTED),
    "a seed of a third region": (
        (held("a", Version(0, "ap", 0, Kind.REPLICATED)), held("b"), none()),
        "!!+",
        Reason.DISPUTED,
    ),
    "one version, two contents": (
        (held("a", V20), held("b", V20), none()),
        "**+",
        Reason.ONE_VERSION,
    ),
    "two written again over one delete": (
        (held("a", None, T25), held("b", None, T25), none(T25)),
        "!!+",
        Reason.DISPUTED,
    ),
}


@pytest.mark.parametrize("authority", ["us", "eu"])
@pytest.mark.parametrize("case", DISPUTES)
def test_only_an_authority_settles_a_dispute(case: str, authority: str) -> None:
    """What versions cannot decide is reported and left alone, until somebody says who wins."""
    places, expected, reason = DISPUTES[case]
    world = World(dict(zip(("us", "eu", "ap"), places, strict=True)))
    before = world.contents()

    verdict = compare(KEY, world.holdings())
    assert signs(verdict) == expected
    assert verdict.findings["us"].reason is reason
    assert not verdict.decided
    assert not verdict.equal
    world.run(repair(verdict))
    assert world.contents() == before

    verdict = compare(KEY, world.holdings(), authority=authority)
    assert verdict.newest == (authority,)
    world.run(repair(verdict))
    assert world.contents() == dict.fromkeys(world.regions, before[authority])
    assert compare(KEY, world.holdings()).equal


def test_an_authority_without_an_item_decides_nothing() -> None:
    """To name a region that holds nothing is no word on which of two contents is right."""
    verdict = compare(KEY, {"us": held("a"), "eu": held("b"), "ap": none()}, authority="ap")
    assert not verdict.decided


@pytest.mark.parametrize("standing", [None, V20])
def test_what_lost_records_told_of_is_the_newest(standing: Version | None) -> None:
    """In a region whose records were lost, content that no version vouches for came last."""
    world = World({"us": held("b", standing), "eu": held("a", V20), "ap": none()})

    verdict = compare(KEY, world.holdings(), lost={"us"})
    assert signs(verdict) == "=*+"
    world.run(repair(verdict))

    assert world.contents() == dict.fromkeys(("us", "eu", "ap"), image("b"))
    (found,) = {order(place.item.version) for place in world.holdings().values() if place.item}
    assert found > order(V20)


def test_two_regions_that_lost_records_are_in_dispute() -> None:
    """Both may hold the later write: neither is overwritten without a word from somebody."""
    holdings = {"us": held("a"), "eu": held("b"), "ap": held("c", V20)}
    verdict = compare(KEY, holdings, lost={"us", "eu"})
    assert not verdict.decided
    assert compare(KEY, holdings, lost={"us", "eu"}, authority="eu").newest == ("eu",)
    assert compare(KEY, holdings, lost={"eu"}).newest == ("eu",)


def test_a_winner_that_changed_meanwhile_keeps_its_place() -> None:
    """What an application writes between look and repair is neither overwritten nor shipped."""
    world = World({"us": held("a", V20), "eu": held("b", V20)})
    verdict = compare(KEY, world.holdings(), authority="us")
    world.regions["us"].items[KEY.id] = item("c", V20)

    assert world.run(repair(verdict)) is False
    assert world.contents() == {"us": image("c"), "eu": image("b")}


ONE_WAY: dict[str, tuple[Holding, Holding, str]] = {
    "equal": (held("a"), held("a", V20), "=="),
    "number forms and markers mean nothing": (held("a", V30), held("a"), "=="),
    "missing": (held("a"), none(), "=+"),
    "missing beneath a tombstone": (held("a"), none(T25), "=+"),
    "different": (held("b"), held("a", V20), "=*"),
    "different, without a version": (held("b"), held("a"), "=*"),
    "different, of another origin": (held("b"), held("a", T25), "=*"),
    "extra": (none(), held("a", V20), "=-"),
    "extra, without a version": (none(), held("a"), "=-"),
    "extra beneath a tombstone": (none(), held("a", V20, T25), "=-"),
}


@pytest.mark.parametrize("case", ONE_WAY)
def test_the_source_of_a_one_way_table_is_the_authority(case: str) -> None:
    """Targets get what the source holds, and the source is never written to."""
    source, target, expected = ONE_WAY[case]
    world = World({"us": source, "eu": target})

    verdict = compare_one_way(KEY, "us", world.holdings())
    assert signs(verdict) == expected
    world.run(repair(verdict))

    assert compare_one_way(KEY, "us", world.holdings()).equal
    assert world.regions["us"].items.get(KEY.id) == source.item
    assert world.regions["us"].stream.written == 0


def test_a_one_way_repair_gives_way_to_every_later_record() -> None:
    """A repaired item stands beneath the next record of its source, whatever time that tells."""
    world = World({"us": held("b"), "eu": held("a", V20)})
    verdict = compare_one_way(KEY, "us", world.holdings())
    repaired = verdict.shipments["eu"].version
    assert (repaired.origin, repaired.sequence) == (V20.origin, V20.sequence)
    assert order(repaired) > order(V20)


# --- whatever the regions hold --------------------------------------------------------------------

VERSIONS = st.builds(
    Version,
    st.integers(0, 4),
    st.sampled_from(("ap", "eu", "us")),
    st.integers(0, 2),
    st.sampled_from((Kind.APPLICATION, Kind.SETTLED, Kind.REPLICATED, Kind.REMOVING)),
)
TOMBSTONES = VERSIONS.map(lambda version: version.of_kind(Kind.APPLICATION))
ITEMS = st.builds(item, st.sampled_from("abc"), st.none() | VERSIONS)
HOLDINGS = st.fixed_dictionaries(
    dict.fromkeys(("ap", "eu", "us"), st.builds(Holding, st.none() | ITEMS, st.none() | TOMBSTONES))
)
AUTHORITIES = st.sampled_from(("ap", "eu", "us"))


def newest_of(holdings: Mapping[str, Holding]) -> Version | None:
    """The highest version that stands, marks left out."""
    versions = [
        holding.item.version
        for holding in holdings.values()
        if holding.item and holding.item.version and holding.item.version.kind is not Kind.REMOVING
    ]
    return max(versions, key=order, default=None)


def test_what_was_written_over_an_expired_copy_is_settled_by_one_repair() -> None:
    """An unread write stands in us, where the very version that should win has expired."""
    expired = Version(0, "eu", 1, Kind.APPLICATION)
    standing = Item({**KEY.attributes, "content": {"S": "b"}}, marker_of(expired))
    holdings = {
        "ap": Holding(standing, None),
        "eu": Holding(None, None),
        "us": Holding(item("a", None), expired),
    }
    world = World(holdings)
    world.run(repair(compare(KEY, world.holdings(), authority=None, lost={"ap"})))
    assert compare(KEY, world.holdings(), authority=None, lost={"ap"}).equal


@settings(deadline=None)
@given(HOLDINGS, st.none() | AUTHORITIES, st.sets(AUTHORITIES))
def test_a_decided_verdict_is_carried_out_and_final(
    holdings: dict[str, Holding], authority: str | None, lost: set[str]
) -> None:
    """One repair suffices: all regions then agree, and a second look has nothing to do."""
    world = World(holdings)
    verdict = compare(KEY, world.holdings(), authority=authority, lost=lost)
    before = world.contents()
    world.run(repair(verdict))
    if not verdict.decided:
        assert world.contents() == before
        return
    after = compare(KEY, world.holdings(), authority=authority, lost=lost)
    assert after.equal
    expired = any(f.reason is Reason.EXPIRED for f in after.findings.values())
    assert expired or len({repr(content) for content in world.contents().values()}) == 1


@settings(deadline=None)
@given(HOLDINGS, AUTHORITIES)
def test_nothing_is_raised_from_beneath_a_tombstone(
    holdings: dict[str, Holding], authority: str
) -> None:
    """What a delete in any region covers is not brought anywhere: no version below it lands."""
    world = World(holdings)
    verdict = compare(KEY, world.holdings(), authority=authority)
    world.run(repair(verdict))
    highest = max((holding.tombstone for holding in holdings.values()), key=order)
    for name, holding in world.holdings().items():
        if holding.item is not None and holding.item != holdings[name].item:
            assert order(holding.item.version) >= order(highest)


@settings(deadline=None)
@given(HOLDINGS, st.none() | AUTHORITIES)
def test_no_newer_version_is_dropped(holdings: dict[str, Holding], authority: str | None) -> None:
    """The highest version that stands, if no delete is above it, is never replaced by a lower."""
    world = World(holdings)
    world.run(repair(compare(KEY, world.holdings(), authority=authority)))
    newest = newest_of(holdings)
    deleted = max((holding.tombstone for holding in world.holdings().values()), key=order)
    for name, holding in world.holdings().items():
        before = holdings[name].item
        if before is None or before.version is None or before.version.kind is Kind.REMOVING:
            continue
        if holding.item is None:
            assert order(deleted) >= order(newest)
        else:
            assert order(holding.item.version) >= order(before.version)


@settings(deadline=None)
@given(HOLDINGS, AUTHORITIES, st.integers(0, 12))
def test_a_repair_may_be_cut_anywhere_and_run_again(
    holdings: dict[str, Holding], authority: str, cut_after: int
) -> None:
    """A repair that died between two operations is finished by the next look and repair."""
    world, other = World(holdings), World(holdings)
    verdict = compare(KEY, world.holdings(), authority=authority)
    other.run(repair(compare(KEY, other.holdings(), authority=authority)))

    world.run(repair(verdict), cut_after=cut_after)
    world.run(repair(compare(KEY, world.holdings(), authority=authority)))

    assert all(same(content, other.contents()[name]) for name, content in world.contents().items())


@pytest.mark.parametrize("lower", [V10, None])
def test_the_winning_version_stands_in_every_region(lower: Version | None) -> None:
    """Also where its content stood already, under a lower version or none: a write between the two
    that is still on its way would replace it there, and be beaten everywhere else."""
    world = World({"ap": held("b", V20), "eu": held("a", V30), "us": held("a", lower)})
    verdict = compare(KEY, world.holdings())
    assert signs(verdict) == "*=="
    assert list(verdict.shipments) == ["us", "ap"]  # a cut between the two is seen
    world.run(repair(verdict))
    late = Shipment(key=KEY, version=T25, item=item("b", T25), created_us=25)
    for region in world.regions:
        world.run(deliver(region, late))
    assert all(same(content, image("a")) for content in world.contents().values())


def test_a_seed_replaces_no_original() -> None:
    """Content that never had a version keeps none, where another region's copy is mended."""
    world = World({"us": held("a"), "eu": held("a", SEED_OF_US), "ap": none()})
    verdict = compare(KEY, world.holdings())
    assert signs(verdict) == "==+"
    assert set(verdict.shipments) == {"ap"}


@settings(deadline=None)
@given(HOLDINGS)
def test_a_one_way_repair_is_final(holdings: dict[str, Holding]) -> None:
    """Whatever the targets hold, one repair makes them equal to the source."""
    world = World(holdings)
    world.run(repair(compare_one_way(KEY, "us", world.holdings())))
    assert compare_one_way(KEY, "us", world.holdings()).equal
    assert len({repr(content) for content in world.contents().values()}) == 1
