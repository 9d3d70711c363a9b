"""Gaps on a real engine: closed when the copies are seen to be equal, and never before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replicator.aws.api import Boto3Api
from replicator.clock import SystemClock
from replicator.compose import pipeline_stats, stores
from replicator.configuration import load
from replicator.control import create_control_table_request
from replicator.errors import Fatal
from replicator.handover.active import Handover, Handovers
from replicator.mending import Mender, MendLimits
from replicator.ports import Api
from replicator.records import WHOLE_STREAM, Gap
from replicator.telemetry import PipelineStats
from replicator.verify.assembly import regions_of_loss
from replicator.waiting import Gaps
from support import black_box
from support.black_box import REGIONS, World
from support.black_box_tables import MARKER, Connection, Table, Wire, bare
from support.engines import Engine
from support.tables import unique_name

pytestmark = pytest.mark.xdist_group("dynamodb-local")

CONTROL_TABLE = unique_name("control")
HOME = REGIONS[0]
STANDING = f"{10:016d}#{HOME}#015r"
LIMITS = MendLimits(settle_s=0.02, look_every_s=0.02, again_base_s=0.5)
NEVER_AGAIN = MendLimits(settle_s=0.02, look_every_s=0.02, again_base_s=1e9, again_max_s=1e9)
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def connection(engine: Callable[[str], Engine]) -> Connection:
    """The engine, with control tables of this module's own."""
    made = Connection(engine("dynamodb-local").endpoint_url, CONTROL_TABLE)
    for region in REGIONS:
        made.client(region).create_table(**create_control_table_request(CONTROL_TABLE))
    return made


class Scene:
    """A table whose pipeline at HOME has lost records."""

    def __init__(self, connection: Connection, directory: Path, *, one_way: bool = False) -> None:
        self.world = World(connection, directory)
        targets = {"source": HOME, "targets": REGIONS[1:]}
        members: dict[str, Any] = targets if one_way else {"regions": REGIONS}
        self.table = self.world.add(Table(unique_name(), **members))
        file = directory / "replicator.toml"
        text = self.world.configuration().replace(black_box.CONTROL_TABLE, CONTROL_TABLE)
        file.write_text(f"{text}\n[mending]\nafter_s = 0\n", encoding="utf-8")
        self.settings = load(file, {})
        self.stats = pipeline_stats(self.settings, self.table.name, HOME)
        self.stats.readable = self.stats.caught_up = True

    def put(self, region: str, key: str, value: str, marker: str | None = STANDING) -> None:
        """An item as it stands in a region."""
        item: Wire = {"id": {"S": key}, "value": {"S": value}}
        if marker is not None:
            item[MARKER] = {"S": marker}
        self.world.connection.client(region).put_item(TableName=self.table.name, Item=item)

    def value(self, region: str, key: str) -> str | None:
        """What an application finds there."""
        item = self.world.connection.get(self.table, region, {"id": {"S": key}})
        return None if item is None else str(bare(item)["value"]["S"])

    async def mend(
        self,
        apis: Mapping[str, Api],
        until: Callable[[PipelineStats], bool],
        limits: MendLimits = LIMITS,
    ) -> Mender:
        """Report a gap and let the mender work until a condition holds."""
        gap = Gap(
            table=self.table.name,
            source=HOME,
            stream_arn="arn:aws:dynamodb:stream/1",
            shard=WHOLE_STREAM,
            since_us=1,
            reason="trimmed",
        )
        await Gaps(api=apis[HOME], control_table=CONTROL_TABLE).report(gap)
        self.stats.gap = gap
        mender = Mender(settings=self.settings, apis=apis, pipelines=[self.stats], limits=limits)
        stop = asyncio.Event()
        working = asyncio.create_task(mender.run(stop))
        async with asyncio.timeout(WITHIN_S):
            while not until(self.stats) and not working.done():  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.02)
        stop.set()
        await working
        return mender

    @property
    def stored(self) -> list[Wire]:
        """The gaps that are written down."""
        return self.world.connection.gaps(self.table, HOME)


@pytest.fixture
def scene(connection: Connection, tmp_path: Path) -> Scene:
    """A table of this test's own."""
    return Scene(connection, tmp_path)


@contextmanager
def opened(scene: Scene) -> Iterator[dict[str, Api]]:
    """The regions' endpoints."""
    url = scene.world.connection.endpoint_url
    apis = {name: Boto3Api.open(region=name, endpoint_url=url, threads=4) for name in REGIONS}
    try:
        yield dict(apis)
    finally:
        for api in apis.values():
            api.close()


def is_closed(stats: PipelineStats) -> bool:
    """Whether the pipeline knows of no gap."""
    return stats.gap is None


def test_a_gap_is_closed_when_the_copies_are_equal(scene: Scene) -> None:
    """What the lost records told of is read off the tables: an update kept the marker that it
    found, a put dropped it, an insert has none; and what never arrived is brought."""
    for region in REGIONS:
        scene.put(region, "updated", "old")
        scene.put(region, "replaced", "old")
        scene.put(region, "equal", "same")
    scene.put(HOME, "updated", "new")
    scene.put(HOME, "replaced", "new", marker=None)
    scene.put(HOME, "inserted", "new", marker=None)
    scene.put(REGIONS[1], "unseen", "old")

    with opened(scene) as apis:
        asyncio.run(scene.mend(apis, is_closed))

    assert scene.stored == []
    scene.world.assert_equal()
    found = {key: scene.value(REGIONS[2], key) for key in ("updated", "replaced", "inserted")}
    assert set(found.values()) == {"new"}, found
    assert scene.value(HOME, "unseen") == "old"


def test_a_gap_is_mended_at_a_bounded_rate(scene: Scene) -> None:
    """What is read and what is repaired cost units, and so many a second are spent, no more."""
    for number in range(40):
        scene.put(HOME, f"new-{number}", "x" * 1_100, marker=None)
    mending = scene.settings.mending.model_copy(update={"write_units_per_s": 25.0})
    scene.settings = scene.settings.model_copy(update={"mending": mending})
    writes_s: list[float] = []

    with opened(scene) as apis:
        started_s = time.monotonic()
        put = Noted(apis[REGIONS[1]], lambda: writes_s.append(time.monotonic() - started_s))
        asyncio.run(scene.mend({**apis, REGIONS[1]: put}, is_closed))

    # Each costs two units; one second's worth may be saved up.
    assert len(writes_s) == 40
    assert writes_s[-1] >= (2 * 40 - 25) / 25 - 0.1
    scene.world.assert_equal()


class Noted:
    """An endpoint that tells of each put whose condition held."""

    def __init__(self, api: Api, tell: Callable[[], None]) -> None:
        self._api, self._tell = api, tell

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._api.call(operation, request)
        if operation == "PutItem":
            self._tell()
        return answer


def test_a_gap_stays_while_something_is_undecided(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """All that can be repaired is; the gap stands until a person has decided the rest."""
    scene.put(REGIONS[1], "stale", "a")
    scene.put(REGIONS[2], "stale", "b")
    scene.put(HOME, "missing", "a")

    def is_told(stats: PipelineStats) -> bool:
        assert stats.gap is not None
        return any(record.message == "gap.not_clean" for record in caplog.records)

    with opened(scene) as apis:
        asyncio.run(scene.mend(apis, is_told))

    assert len(scene.stored) == 1
    assert scene.value(REGIONS[1], "missing") == "a"
    assert scene.value(REGIONS[1], "stale") == "a"


def test_a_source_that_was_replaced_mends_nothing(
    connection: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes back after a hand-over with its old configuration and a gap: what the new source has
    written and deleted since stays, in the targets that were told, and the gap stays too."""
    scene = Scene(connection, tmp_path, one_way=True)
    for key in ("written since", "deleted since"):
        scene.put(HOME, key, "stale", marker=None)
    scene.put(REGIONS[1], "written since", "new")
    scene.put(REGIONS[1], "inserted since", "new")

    def is_told(stats: PipelineStats) -> bool:
        del stats
        return any(record.message == "gap.not_mended" for record in caplog.records)

    async def mend(apis: Mapping[str, Api]) -> None:
        rows = Handovers(api=apis[REGIONS[1]], control_table=CONTROL_TABLE, sleep=asyncio.sleep)
        moved = Handover(
            table=scene.table.name, source=REGIONS[1], former=HOME, at_us=1, planned=False
        )
        assert await rows.store(moved)
        await scene.mend(apis, is_told)

    with opened(scene) as apis:
        asyncio.run(mend({**apis, HOME: Watched(apis[HOME], lambda: pytest.fail("it was read"))}))

    assert len(scene.stored) == 1
    assert scene.stats.gap is not None
    assert scene.value(REGIONS[1], "written since") == "new"
    assert scene.value(REGIONS[1], "inserted since") == "new"
    assert scene.value(REGIONS[1], "deleted since") is None
    assert scene.value(REGIONS[2], "deleted since") is None
    told = next(record for record in caplog.records if record.message == "gap.not_mended")
    assert "is its source no more, it was handed over to eu-west-1" in str(vars(told)["error"])


class Watched:
    """An endpoint that does something of a test's own before each scan."""

    def __init__(self, api: Api, before_scan: Callable[[], Awaitable[None]]) -> None:
        self._api, self._before_scan = api, before_scan

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "Scan":
            await self._before_scan()
        return await self._api.call(operation, request)


def test_f17_a_failure_leaves_the_gap_and_is_tried_again(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused scan is told of; when it is allowed again, the gap is closed."""
    scene.put(HOME, "missing", "a")
    refusals = [Fatal("Scan on orders: AccessDeniedException")]

    async def refuse() -> None:
        if refusals:
            assert scene.stats.gap is not None
            raise refusals.pop()

    with opened(scene) as apis:
        asyncio.run(scene.mend({**apis, HOME: Watched(apis[HOME], refuse)}, is_closed))

    assert scene.value(REGIONS[1], "missing") == "a"
    (told,) = [record for record in caplog.records if record.message == "gap.not_mended"]
    assert "AccessDeniedException" in str(vars(told)["error"])


def test_f17_records_lost_while_a_gap_is_mended_keep_it_open(scene: Scene) -> None:
    """A loss that is reported meanwhile, on the same shard, is looked at once more; and at once,
    since nothing failed."""
    scans = 0

    async def lose_again() -> None:
        nonlocal scans
        scans += 1
        if scans == 1 and scene.stats.gap is not None:
            gap = replace(scene.stats.gap, since_us=2)
            await Gaps(api=apis[HOME], control_table=CONTROL_TABLE).report(gap)
            scene.stats.gap = gap

    with opened(scene) as apis:
        watched = {**apis, HOME: Watched(apis[HOME], lose_again)}
        asyncio.run(scene.mend(watched, is_closed, NEVER_AGAIN))

    assert scans == 2
    assert scene.stored == []


def test_a_gap_whose_row_is_malformed_is_not_mended_without_end(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be closed, which is told; the table is not read again and again for it."""
    scans = looks = 0

    async def count() -> None:
        nonlocal scans
        scans += 1

    def is_told(stats: PipelineStats) -> bool:
        nonlocal looks
        told = [record.message for record in caplog.records].count("gap.not_removed")
        looks += told
        return looks > 10

    key = {"pk": {"S": f"gap#{scene.table.name}#{HOME}"}, "sk": {"S": "arn#shard-1"}}
    client = scene.world.connection.client(HOME)
    client.put_item(TableName=CONTROL_TABLE, Item={**key, "since_us": {"S": "yesterday"}})

    with opened(scene) as apis:
        watched = {**apis, HOME: Watched(apis[HOME], count)}
        asyncio.run(scene.mend(watched, is_told, NEVER_AGAIN))

    assert scans == 1
    assert [row["sk"] for row in scene.stored] == [key["sk"]]


@pytest.mark.parametrize(("unread_h", "lost"), [(1, False), (25, True)])
def test_a_stream_that_nobody_read_in_time_has_lost_records(
    scene: Scene, *, unread_h: int, lost: bool
) -> None:
    """Before a replicator is there to say so, verify must know that a region's writes were lost."""
    clock = SystemClock()
    read_us = clock.now_us() - unread_h * 3_600_000_000

    async def told(apis: Mapping[str, Api]) -> frozenset[str]:
        checkpoints = stores(scene.settings, apis[HOME], clock=clock).checkpoints
        await checkpoints.note_read(scene.table.name, HOME, read_us)
        return await regions_of_loss(scene.settings, scene.table.name, apis, clock)

    with opened(scene) as apis:
        assert asyncio.run(told(apis)) == (frozenset({HOME}) if lost else frozenset())
