"""The parts of verify: sums of buckets, the pace of reading, and what counts as a difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from random import Random

import pytest

from conflict.content import digest
from conflict.operations import Item, Key, KeyState, marker_of
from conflict.repair import Verdict, compare
from conflict.version import Kind, Version
from replicator.errors import Poison, Throttled
from replicator.ports import Sleep
from replicator.rate import Bucket
from replicator.requests import TableRequests, Wire
from replicator.table import key_of
from replicator.verify.candidates import STEADY_LOOKS, Candidates, Difference
from replicator.verify.comparison import Comparison, ComparisonLimits
from replicator.verify.digests import (
    BUCKETS,
    Buckets,
    Suspects,
    bucket_of,
    grouped,
    key_digest,
    unequal,
)
from replicator.verify.reading import ReadingHere
from replicator.verify.report import difference_document, difference_line
from replicator.verify.scan import Scanner
from replicator.writer import RegionPort, Writer, WriterLimits
from support.adapters import MemoryPorts
from support.clock import VirtualClock
from support.memory import MARKER, MemoryRegion
from support.scripted_api import ScriptedApi

REGIONS = ("us", "eu")
V10, V20 = (Version(time, "us", 5, Kind.REPLICATED) for time in (10, 20))
SETTLE_S = 3.0
PAUSE_S = 1_000.0


def key(name: str) -> Key:
    """A key."""
    return key_of({"id": {"S": name}}, ("id",))


def item(name: str, content: str, version: Version | None = None) -> Item:
    """An item, under a version if one is given."""
    image = {**key(name).attributes, "content": {"S": content}}
    return Item(image, marker_of(version) if version else None)


# --- digests --------------------------------------------------------------------------------------


def sums(*contents: tuple[str, str]) -> Buckets:
    """What these items come to."""
    buckets = Buckets()
    for name, content in contents:
        buckets.add(bucket_of(key_digest(key(name))), digest(item(name, content).image))
    return buckets


def test_the_order_of_reading_means_nothing() -> None:
    """Regions hand their items out in any order."""
    one, other = sums(("1", "a"), ("2", "b")), sums(("2", "b"), ("1", "a"))
    assert unequal({"us": one, "eu": other}) == []


def test_every_kind_of_difference_shows_in_a_bucket() -> None:
    """Other content, a missing item, and an item that was counted twice."""
    model = sums(("1", "a"), ("2", "b"))
    bucket = bucket_of(key_digest(key("1")))
    for other in (sums(("1", "b"), ("2", "b")), sums(("2", "b")), sums(*(("1", "a"),) * 3)):
        assert bucket in unequal({"us": model, "eu": other})


def test_groups_are_bounded_and_lose_nothing() -> None:
    """Only a bucket that alone holds more than the bound goes beyond it."""
    buckets = Buckets()
    counts = {0: 3, 1: 3, 5: 20, 6: 1, BUCKETS - 1: 9}
    for bucket, count in counts.items():
        for _ in range(count):
            buckets.add(bucket, b"x" * 16)
    groups = list(grouped(list(counts), {"us": buckets}, 10))
    assert [sorted(group) for group in groups] == [[0, 1], [5], [6, BUCKETS - 1]]


def test_a_key_that_all_regions_share_is_no_suspect() -> None:
    """What came from every region with one content is equal; all else is looked at."""
    suspects = Suspects(2)
    for name, contents in {"same": "aa", "other": "ab", "once": "a", "thrice": "aaa"}.items():
        for content in contents:
            suspects.add(key_digest(key(name)), key(name), content.encode() * 16)
    assert {found.id for found in suspects.keys()} == {  # noqa: SIM118 - not a mapping
        key(name).id for name in ("other", "once", "thrice")
    }


# --- reading --------------------------------------------------------------------------------------


class Unsure:
    """An observer that takes what comes."""

    def failed(self, region: str, error: Exception) -> None: ...

    def recovered(self, region: str) -> None: ...

    def stuck(self, region: str, error: Exception, *, first: bool) -> None:
        raise error

    def freed(self, region: str) -> None: ...


class Scene:
    """Two regions in memory and a writer over them."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.regions = {name: MemoryRegion(name) for name in REGIONS}
        self.ports = {
            name: MemoryPorts(region, sleep=clock.sleep) for name, region in self.regions.items()
        }
        self.writer = Writer(
            regions={
                name: RegionPort(table=port, states=port, concurrency=8, limit_us=clock.now_us)
                for name, port in self.ports.items()
            },
            limits=WriterLimits(),
            observer=Unsure(),
            sleep=clock.sleep,
            rng=Random(1),
        )
        self.told: list[Difference] = []
        self.paid: list[Verdict] = []

    def hold(self, region: str, name: str, held: Item | None) -> None:
        """What a region holds."""
        if held is None:
            self.regions[region].items.pop(key(name).id, None)
        else:
            self.regions[region].items[key(name).id] = held

    async def _pay(self, verdict: Verdict) -> None:
        self.paid.append(verdict)
        await self.clock.sleep(PAUSE_S)

    def settle(self, *names: str, mend: bool = False, sleep: Sleep | None = None) -> int:
        """Look at these keys to the end; returns how many stay restless."""
        candidates = Candidates(
            regions=REGIONS,
            writer=self.writer,
            judge=compare,
            pay=self._pay if mend else None,
            settle_s=SETTLE_S,
            sleep=sleep or self.clock.sleep,
            report=self.told.append,
        )
        return self.clock.run(candidates.settle([key(name) for name in names]))


@pytest.fixture
def scene() -> Scene:
    """Two regions in virtual time."""
    return Scene(VirtualClock())


def signs(difference: Difference) -> str:
    """The signs of the regions."""
    return "".join(side.finding.sign for side in difference.sides.values())


def pages(*items: Item) -> Wire:
    """The answer of a Scan."""
    wires = [i.image if i.marker is None else {**i.image, MARKER: i.marker} for i in items]
    return {"Items": wires, "ConsumedCapacity": {"CapacityUnits": 2.5}}


def scanners(scene: Scene, apis: Mapping[str, ScriptedApi]) -> dict[str, Scanner]:
    """A scanner per region, of one segment."""
    return {
        region: Scanner(
            region=region,
            api=api,
            requests=TableRequests(table="orders", marker=MARKER, key_names=("id",)),
            writer=scene.writer,
            budget=Bucket(None, monotonic_s=scene.clock.monotonic_s, sleep=scene.clock.sleep),
            segments=1,
        )
        for region, api in apis.items()
    }


def compared(scene: Scene, apis: Mapping[str, ScriptedApi]) -> Comparison:
    """A comparison that has run."""
    comparison = Comparison(
        reading=ReadingHere(scanners(scene, apis)),
        writer=scene.writer,
        judge=compare,
        limits=ComparisonLimits(settle_s=SETTLE_S),
        sleep=scene.clock.sleep,
    )
    scene.clock.run(comparison.run(scene.told.append))
    return comparison


def test_equal_tables_are_read_once_and_no_item_is_looked_at(scene: Scene) -> None:
    """Markers may differ, and number forms; throttling and pages only take time."""
    seven, seventh = ({"id": {"S": "7"}, "n": {"N": text}} for text in ("7", "7.00"))
    here, there = Item(seven, marker_of(V10)), Item(seventh, marker_of(V20))
    cursor = {"LastEvaluatedKey": {"id": {"S": "7"}}}
    us = ScriptedApi({**pages(here), **cursor}, Throttled("slower"), pages(item("8", "a")))
    eu = ScriptedApi(pages(item("8", "a"), there))

    comparison = compared(scene, {"us": us, "eu": eu})

    assert comparison.stats.clean
    assert comparison.stats.items == {"us": 2, "eu": 2}
    assert comparison.reading.units["us"] == 5.0
    assert us.calls[-1][1]["ExclusiveStartKey"] == cursor["LastEvaluatedKey"]
    assert not any(port.batches for port in scene.ports.values())


def test_reading_pays_for_each_page(scene: Scene) -> None:
    """So many units a second, counted by what the service says that a page has cost."""
    cursor = {"LastEvaluatedKey": {"id": {"S": "7"}}}
    api = ScriptedApi({**pages(item("7", "a")), **cursor}, pages(item("8", "a")))
    (scanner,) = scanners(scene, {"us": api}).values()
    clock = scene.clock
    scanner.budget = Bucket(0.5, monotonic_s=clock.monotonic_s, sleep=clock.sleep)
    clock.run(scanner.scan(lambda *_: None))
    assert clock.monotonic_s() == pytest.approx(5.0 / 0.5)


def test_only_the_keys_that_look_different_are_looked_at(scene: Scene) -> None:
    """The second reading tells which keys of an unequal bucket differ; the third is of these."""
    same, old, new = item("1", "a", V10), item("2", "a", V10), item("2", "b", V20)
    scene.hold("us", "2", old)
    scene.hold("eu", "2", new)
    apis = {
        "us": ScriptedApi(*(pages(same, old),) * 2),
        "eu": ScriptedApi(*(pages(same, new),) * 2),
    }
    comparison = compared(scene, apis)
    assert comparison.stats.candidates == comparison.stats.differences == 1
    assert [signs(found) for found in scene.told] == ["*="]
    assert {ids for port in scene.ports.values() for ids in port.batches} == {(key("2").id,)}


# --- looking at each ------------------------------------------------------------------------------


def test_what_is_on_its_way_is_no_difference(scene: Scene) -> None:
    """A key that becomes equal while it is watched is not told of."""
    scene.hold("us", "1", item("1", "a", V10))
    arrives = partial(scene.hold, "eu", "1", item("1", "a", V10))
    assert scene.settle("1", sleep=later(scene, arrives)) == 0
    assert scene.told == []


def later(scene: Scene, act: Callable[[], None], looks: int = STEADY_LOOKS - 1) -> Sleep:
    """A sleep that does something just before the last look that counts."""
    slept = 0

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        if slept == looks:
            act()
        await scene.clock.sleep(seconds)

    return sleep


def test_what_never_stands_still_is_not_judged(scene: Scene) -> None:
    """A key that changes between all looks is neither different nor known to be equal."""
    scene.hold("us", "1", item("1", "a", V10))
    written = 0

    async def sleep(seconds: float) -> None:
        nonlocal written
        written += 1
        scene.hold("eu", "1", item("1", f"b{written}", V20))
        await scene.clock.sleep(seconds)

    assert scene.settle("1", sleep=sleep) == 1
    assert scene.told == []


def test_a_difference_is_told_once_after_it_stood_still(scene: Scene) -> None:
    """It takes STEADY_LOOKS looks, a settling time apart."""
    scene.hold("us", "1", item("1", "a", V10))
    assert scene.settle("1") == 0
    (found,) = scene.told
    assert (signs(found), found.newest, found.repaired) == ("=+", ("us",), None)
    assert scene.clock.monotonic_s() >= SETTLE_S * (STEADY_LOOKS - 1)


def test_a_repair_is_told_when_it_is_seen(scene: Scene) -> None:
    """Repaired means that a later look found all regions equal."""
    scene.hold("us", "1", item("1", "a", V10))
    scene.hold("eu", "2", item("2", "a", V10))
    scene.regions["us"].states[key("2").id] = KeyState(V20)
    scene.settle("1", "2", mend=True)
    assert {(signs(found), found.repaired) for found in scene.told} == {("=+", True), ("=-", True)}
    assert scene.regions["us"].items == scene.regions["eu"].items


def test_a_repair_waits_until_it_is_paid_for(scene: Scene) -> None:
    """Whoever limits the rate is asked before each, and nothing is written until it agrees."""
    scene.hold("us", "1", item("1", "a", V10))
    scene.settle("1", mend=True)
    assert [set(verdict.shipments) for verdict in scene.paid] == [{"eu"}]
    assert scene.clock.monotonic_s() >= PAUSE_S
    assert scene.regions["us"].items == scene.regions["eu"].items


def test_a_dispute_is_told_and_left_alone(scene: Scene) -> None:
    """Without an authority nothing is overwritten."""
    scene.hold("us", "1", item("1", "a"))
    scene.hold("eu", "1", item("1", "b"))
    scene.settle("1", mend=True)
    (found,) = scene.told
    assert (signs(found), found.decided, found.repaired) == ("!!", False, False)
    assert not any(port.writes for port in scene.ports.values())


def test_an_item_that_cannot_be_written_is_told_with_the_reason(scene: Scene) -> None:
    """One such item does not keep others from being repaired."""
    scene.hold("us", "1", item("1", "a", V10))
    scene.hold("us", "2", item("2", "a", V10))
    scene.ports["eu"].fail("put", Poison("too large"))
    scene.settle("1", "2", mend=True)
    assert sorted((f.repaired is True, f.error) for f in scene.told) == [
        (False, "too large"),
        (True, None),
    ]


# --- what is told ---------------------------------------------------------------------------------


def test_a_line_and_a_document_say_the_same(scene: Scene) -> None:
    """A difference has its signs, its key, and for each region why and how old."""
    scene.hold("us", "1", item("1", "a", V10))
    scene.hold("eu", "1", item("1", "b", V20))
    scene.settle("1")
    (found,) = scene.told

    line = difference_line(found, 3 * 3_600_000_000 + V10.time_us)
    assert line.startswith('*=  {"id": {"S": "1"}}  us: an older version (of us, 3 h ago)')
    assert line.endswith("newest in eu")

    document = difference_document(found, V20.time_us + 1_500_000)
    assert json.loads(json.dumps(document)) == document
    assert document["regions"]["eu"]["version"]["age_s"] == 1.5
    assert document["regions"]["us"]["sign"] == "*"


def test_no_key_plays_with_a_terminal(scene: Scene) -> None:
    """Control characters and the like are escaped, binaries are base64."""
    hostile = "\x1b[2J\u202e\x00<img>"
    scene.hold("us", hostile, item(hostile, "a", V10))
    scene.settle(hostile)
    line = difference_line(scene.told[0], 0)
    assert line.isascii()
    assert line.isprintable()

    binary = Key({"id": {"B": b"\x00\xff"}}, "x")
    found = Difference(key=binary, sides={}, newest=(), decided=False)
    assert difference_document(found, 0)["key"] == {"id": {"B": "AP8="}}
