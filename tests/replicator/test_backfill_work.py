"""A backfill in this process on a real engine: what is refused, parked, disputed, resumed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from conflict.operations import Key, RaiseTombstone
from conflict.version import Kind, Version
from replicator.aws.api import Boto3Api
from replicator.backfill import segment, target
from replicator.backfill.command import run_backfill
from replicator.backfill.estimate import SAMPLE_PAGES
from replicator.backfill.plan import Request
from replicator.backfill.work import SEGMENTS_AT_ONCE
from replicator.clock import SystemClock
from replicator.control import create_control_table_request, digest
from replicator.errors import ConfigurationError, Fatal, Throttled, Transient
from replicator.handover import active
from replicator.key_states import ControlKeyStates
from replicator.settings import Settings
from replicator.table import key_of
from replicator.waiting import Quarantine
from support.engines import Engine
from support.tables import client, create_table, unique_name

HOME, AWAY = "us-east-1", "eu-west-1"
CONTROL = "backfill-control"
Wire = dict[str, Any]
TOO_LARGE_WITH_A_MARKER = 409_600 - 20


class Crash(Exception):
    """The process has ended."""


@dataclass
class Watched:
    """An Api that notes its calls; `before` and `after` may raise in the midst of them."""

    api: Boto3Api
    calls: list[tuple[str, Wire]] = field(default_factory=list)
    before: Callable[[str, Wire], None] = lambda _operation, _request: None
    after: Callable[[str], None] = lambda _operation: None

    async def call(self, operation: str, request: Mapping[str, Any]) -> Wire:
        self.calls.append((operation, dict(request)))
        self.before(operation, dict(request))
        response = await self.api.call(operation, request)
        self.after(operation)
        return response

    def count(self, operation: str) -> int:
        """How often it was called."""
        return Counter(name for name, _ in self.calls)[operation]


@dataclass
class Place:
    """Two regions of one engine, and tables of one test."""

    url: str
    apis: dict[str, Watched]
    orders: str = field(default_factory=unique_name)
    ledger: str = field(default_factory=unique_name)
    filters: dict[str, Any] = field(default_factory=dict)
    """Of the one-way table."""

    def __post_init__(self) -> None:
        for region in (HOME, AWAY):
            for table in (self.orders, self.ledger):
                create_table(self.url, region, table, None)

    @property
    def settings(self) -> Settings:
        """The configuration."""
        return Settings.model_validate(
            {
                "regions": {name: {"endpoint_url": self.url} for name in (HOME, AWAY)},
                "control_table": CONTROL,
                "tables": {
                    self.orders: {"regions": [HOME, AWAY]},
                    self.ledger: {"source": HOME, "targets": [AWAY], **self.filters},
                },
            }
        )

    def put(self, region: str, table: str, *items: Wire) -> None:
        """Put items as an application."""
        for item in items:
            client(self.url, region).put_item(TableName=table, Item=item)

    def items(self, region: str, table: str) -> dict[str, Wire]:
        """What stands, marker left out."""
        found: Any = client(self.url, region).scan(TableName=table)["Items"]
        return {
            item["id"]["S"]: {k: v for k, v in item.items() if k != "_replicator"} for item in found
        }

    def backfill(self, table: str, **options: Any) -> int:
        """Run it; the exit status."""
        request = Request(table=table, source=HOME, as_json=True, **options)
        return run_backfill(request, self.settings, connect=self.apis.__getitem__)


@pytest.fixture
def place(engine: Callable[[str], Engine]) -> Iterator[Place]:
    """Tables of one test."""
    url = engine("dynamodb-local").endpoint_url
    opened = {
        name: Boto3Api.open(region=name, endpoint_url=url, threads=8) for name in (HOME, AWAY)
    }
    for region in (HOME, AWAY):
        boto = client(url, region)
        if CONTROL not in boto.list_tables()["TableNames"]:
            boto.create_table(**create_control_table_request(CONTROL))
    yield Place(url, {name: Watched(api) for name, api in opened.items()})
    for api in opened.values():
        api.close()


def numbered(count: int, text: str = "x") -> list[Wire]:
    """Some items."""
    return [{"id": {"S": str(number)}, "text": {"S": text}} for number in range(count)]


def document(capsys: pytest.CaptureFixture[str]) -> Wire:
    """What was printed."""
    printed: Wire = json.loads(capsys.readouterr().out)
    return printed


def refusing(*operations: str, table: str | None = None) -> Callable[[str, Wire], None]:
    """Access denied, for these operations."""

    def before(operation: str, request: Wire) -> None:
        if operation in operations and request.get("TableName", table) == (table or ""):
            raise Fatal(f"{operation}: AccessDeniedException")

    return before


@pytest.mark.parametrize(
    ("region", "operations"), [(HOME, ("Scan",)), (AWAY, ("PutItem", "BatchExecuteStatement"))]
)
def test_a_permission_that_is_missing_is_one_line(
    place: Place, region: str, operations: tuple[str, ...]
) -> None:
    """It ends at once and names the operation and the remedy, before anything was written."""
    place.put(HOME, place.orders, *numbered(5))
    place.apis[region].before = refusing(*operations, table=place.orders)
    with pytest.raises(ConfigurationError) as raised:
        place.backfill(place.orders)
    assert "AccessDenied" in str(raised.value)
    assert "allow this operation" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert place.items(AWAY, place.orders) == {}


@pytest.mark.parametrize(
    ("operation", "table", "options"),
    [("Scan", None, {"dry_run": True}), ("Query", CONTROL, {}), ("UpdateItem", CONTROL, {})],
)
def test_what_is_refused_before_the_first_item_is_wrong_set_up(
    place: Place, operation: str, table: str | None, options: Wire
) -> None:
    """A look at what it would cost, and what keeps the job: one line with the remedy."""
    place.put(HOME, place.orders, *numbered(3))
    place.apis[HOME].before = refusing(operation, table=table or place.orders)
    with pytest.raises(ConfigurationError, match="AccessDeniedException; allow this operation"):
        place.backfill(place.orders, **options)


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
def test_a_control_table_that_fails_now_and_then_ends_nothing(
    place: Place, capsys: pytest.CaptureFixture[str], *, one_way: bool
) -> None:
    """Every call about the job is throttled once, and every answer to one is lost once."""
    table = place.ledger if one_way else place.orders
    place.put(HOME, table, *numbered(20))
    throttled: set[str] = set()
    lost: set[str] = set()
    asked: list[str] = []

    def throttle(operation: str, request: Wire) -> None:
        asked.append("")
        names = (request.get("TableName"), *request.get("RequestItems", {}))
        if CONTROL not in names or operation.startswith("Describe"):
            return
        asked[-1] = f"{operation} {request}"
        if asked[-1] not in throttled:
            throttled.add(asked[-1])
            raise Throttled(operation)

    def lose(operation: str) -> None:
        if operation == "UpdateItem" and asked[-1] not in lost:
            lost.add(asked[-1])
            raise Transient("the answer was lost")

    place.apis[HOME].before, place.apis[HOME].after = throttle, lose
    assert place.backfill(table, segments=1) == 0
    assert document(capsys)["targets"][AWAY]["written"] == 20
    assert place.items(AWAY, table) == place.items(HOME, table)
    done = {call.split()[0] for call in throttled}
    assert done == {"Query", "UpdateItem", "BatchGetItem"}
    assert len(lost) >= 4, "begun, claimed, saved, finished"


def test_a_missing_control_table_is_one_line(place: Place) -> None:
    """With the remedy, for each region that lacks it."""
    settings = place.settings.model_copy(update={"control_table": "no-such-table"})
    request = Request(table=place.orders, source=HOME)
    with pytest.raises(ConfigurationError) as raised:
        run_backfill(request, settings, connect=place.apis.__getitem__)
    assert str(raised.value).count("does not exist; run `replicator setup`") == 2


def test_what_can_never_be_written_is_parked(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is counted, kept with its image, and holds up nothing."""
    huge: Wire = {"id": {"S": "huge"}, "t": {"S": "x" * (TOO_LARGE_WITH_A_MARKER - 7)}}
    place.put(HOME, place.orders, huge, *numbered(40))
    assert place.backfill(place.orders) == 1
    counts = document(capsys)["targets"][AWAY]
    assert (counts["written"], counts["refused"]) == (40, 1)
    quarantine = Quarantine(api=place.apis[HOME], control_table=CONTROL)
    (parked,) = asyncio.run(quarantine.load(place.orders))
    assert (parked.target, parked.image) == (AWAY, huge)
    assert parked.version == Version(0, HOME, 0, Kind.REPLICATED)


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
def test_a_control_row_that_cannot_be_read_stops_its_own_key(
    place: Place, capsys: pytest.CaptureFixture[str], *, one_way: bool
) -> None:
    """Its item is refused and kept, with the row's name and the remedy; all others arrive. Once the
    row is mended, the next run brings it."""
    table = place.ledger if one_way else place.orders
    place.put(HOME, table, *numbered(24))
    key = key_of({"id": {"S": "7"}}, ("id",))
    row: Any = {"pk": {"S": f"key#{table}#{digest(key)}"}, "sk": {"S": "state"}}
    malformed: Any = {**row, "tombstone": {"S": "nonsense"}}
    client(place.url, AWAY).put_item(TableName=CONTROL, Item=malformed)
    assert place.backfill(table) == 1
    counts = document(capsys)["targets"][AWAY]
    assert (counts["written"], counts["refused"]) == (23, 1)
    quarantine = Quarantine(api=place.apis[HOME], control_table=CONTROL)
    (parked,) = asyncio.run(quarantine.load(table))
    assert parked.key == key
    assert parked.reason.endswith("tombstone is malformed; mend or delete it")

    client(place.url, AWAY).delete_item(TableName=CONTROL, Key=row)
    assert place.backfill(table) == 0
    assert document(capsys)["targets"][AWAY]["written"] == 1
    assert place.items(AWAY, table) == place.items(HOME, table)


def test_two_populated_tables(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differs is reported and left; with an authority its content is everywhere."""
    monkeypatch.setattr(target, "SECOND_LOOK_S", 0.01)
    place.put(HOME, place.orders, *numbered(30, "home"))
    place.put(AWAY, place.orders, *numbered(10, "away"), *numbered(20, "home")[10:])
    assert place.backfill(place.orders) == 1
    counts = document(capsys)["targets"][AWAY]
    assert (counts["written"], counts["equal"], counts["disputed"]) == (10, 10, 10)
    assert place.items(AWAY, place.orders)["3"]["text"] == {"S": "away"}

    assert place.backfill(place.orders, authority=HOME) == 0
    counts = document(capsys)["targets"][AWAY]
    assert (counts["written"], counts["equal"], counts["disputed"]) == (10, 20, 0)
    assert place.items(AWAY, place.orders) == place.items(HOME, place.orders)


def test_what_the_authority_holds_is_not_in_dispute(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded from another region, its own content stays, and that is no finding."""
    monkeypatch.setattr(target, "SECOND_LOOK_S", 0.01)
    place.put(HOME, place.orders, *numbered(3, "home"))
    place.put(AWAY, place.orders, *numbered(2, "away"))
    assert place.backfill(place.orders, authority=AWAY) == 0
    counts = document(capsys)["targets"][AWAY]
    assert (counts["written"], counts["newer"], counts["disputed"]) == (1, 2, 0)


def test_a_dry_run_writes_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """It tells items, bytes, units, and the time that the rate demands."""
    place.put(HOME, place.orders, *numbered(50, "x" * 2_000))
    assert place.backfill(place.orders, dry_run=True, write_rate=10.0) == 0
    told = document(capsys)
    assert (told["items"], told["write_units_per_target"], told["seconds"]) == (50, 150, 15.0)
    for api in place.apis.values():
        reading = {"DescribeTable", "DescribeTimeToLive", "Scan"}
        assert {operation for operation, _ in api.calls} <= reading


def test_a_dry_run_counts_what_is_replicated(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """All items are read; those that `where` keeps at home, and what `without` leaves out, are not
    written."""
    items = numbered(50, "x" * 2_000)
    place.put(HOME, place.ledger, *({**item, "s": {"S": "live"}} for item in items[:10]))
    place.put(HOME, place.ledger, *({**item, "s": {"S": "draft"}} for item in items[10:]))
    place.filters = {"where": "s = 'live'", "without": ["text"]}
    assert place.backfill(place.ledger, dry_run=True, segments=SAMPLE_PAGES) == 0
    told = document(capsys)
    assert (told["items"], told["write_units_per_target"]) == (50, 10)
    assert place.backfill(place.ledger) == 0
    assert document(capsys)["targets"][AWAY]["units"] == 10


def test_what_is_settled_is_not_scanned_again(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished segments are left out, the others go on after their last page; each item counts."""
    monkeypatch.setattr(segment, "PAGE_ITEMS", 5)
    place.put(HOME, place.orders, *numbered(60))
    last: list[Wire] = []

    def stop_the_last_segment(operation: str, request: Wire) -> None:
        if operation != "Scan" or request["Segment"] != 3 or "ExclusiveStartKey" not in request:
            return
        rows = client(place.url, HOME).scan(TableName=CONTROL)["Items"]
        ended = [row for row in rows if place.orders in row["pk"]["S"] and "at_end" in row]
        if len(ended) < 3:
            raise Transient("not yet")
        last.append(request)
        raise Fatal("the key is disabled")

    place.apis[HOME].before = stop_the_last_segment
    with pytest.raises(Fatal):
        place.backfill(place.orders, segments=4)
    place.apis[HOME].before = lambda _operation, _request: None
    place.apis[HOME].calls.clear()
    assert place.backfill(place.orders, segments=4) == 0
    printed = capsys.readouterr()
    assert "goes on with the one that began" in printed.err
    assert json.loads(printed.out)["items"] == 60
    scans = [request for operation, request in place.apis[HOME].calls if operation == "Scan"]
    assert {request["Segment"] for request in scans} == {3}
    assert scans[0] == last[0]
    assert place.items(AWAY, place.orders) == place.items(HOME, place.orders)


def test_a_process_works_on_few_segments_at_once(place: Place) -> None:
    """However many there are: each holds a page in memory."""
    place.put(HOME, place.orders, *numbered(40))
    under_way = most = 0

    def look(operation: str, request: Wire) -> None:
        nonlocal under_way, most
        if operation == "UpdateItem" and request["TableName"] == CONTROL:
            under_way += "SET claimed_by" in request["UpdateExpression"]
            under_way -= "at_end" in request["UpdateExpression"]
            most = max(most, under_way)

    place.apis[HOME].before = look
    assert place.backfill(place.orders, segments=50) == 0
    assert (under_way, most) == (0, SEGMENTS_AT_ONCE)
    assert place.items(AWAY, place.orders) == place.items(HOME, place.orders)


def test_an_unfinished_one_with_other_targets_is_not_mixed_up(place: Place) -> None:
    """It is to be finished or discarded first."""
    place.put(HOME, place.orders, *numbered(3))
    place.apis[HOME].before = refusing("Scan", table=place.orders)
    with pytest.raises(ConfigurationError):
        place.backfill(place.orders)
    place.apis[HOME].before = lambda _operation, _request: None
    with pytest.raises(ConfigurationError, match="discard it with --restart"):
        place.backfill(place.orders, authority=HOME)
    assert place.backfill(place.orders, authority=HOME, restart=True) == 0


def test_what_was_deleted_while_nobody_worked_is_taken_out_by_the_next(place: Place) -> None:
    """One-way: killed between a write and the second look, and no scan finds the item again."""
    place.put(HOME, place.ledger, *numbered(30))
    ended = False

    def end_after_the_writes(operation: str) -> None:
        nonlocal ended
        ended = ended or operation == "BatchExecuteStatement"

    def nothing_more(_operation: str, _request: Wire) -> None:
        if ended:
            raise Crash

    place.apis[AWAY].after = end_after_the_writes
    for api in place.apis.values():
        api.before = nothing_more
    with pytest.raises(Crash):
        place.backfill(place.ledger, segments=1)
    there = place.items(AWAY, place.ledger)
    assert there
    ended = False
    place.apis[AWAY].after = lambda _operation: None
    doomed = min(there)
    client(place.url, HOME).delete_item(TableName=place.ledger, Key={"id": {"S": doomed}})
    asyncio.run(bury(place, key_of({"id": {"S": doomed}}, ("id",))))

    assert place.backfill(place.ledger) == 0

    assert doomed not in place.items(AWAY, place.ledger)
    assert place.items(AWAY, place.ledger) == place.items(HOME, place.ledger)


async def bury(place: Place, key: Key) -> None:
    """What a replicator had done of a delete before the item was put there: the tombstone."""
    clock = SystemClock()
    states = ControlKeyStates(
        api=place.apis[AWAY], control_table=CONTROL, table=place.ledger, clock=clock,
        sleep=asyncio.sleep,
    )  # fmt: skip
    version = Version(clock.now_us(), HOME, 7, Kind.APPLICATION)
    await states.raise_tombstone(RaiseTombstone(AWAY, key, version))


def hand_over(place: Place) -> None:
    """The one-way table is the other region's from now on, and HOME was not told."""
    row: Any = {
        "pk": {"S": f"handover#{place.ledger}"},
        "sk": {"S": "state"},
        "source": {"S": AWAY},
        "former": {"S": HOME},
        "at_us": {"N": "1"},
        "planned": {"BOOL": False},
    }
    client(place.url, AWAY).put_item(TableName=CONTROL, Item=row)


def test_a_source_that_was_replaced_brings_nothing(place: Place) -> None:
    """Before anything is read of it, in one line that names the remedy."""
    place.put(HOME, place.ledger, *numbered(3))
    hand_over(place)
    with pytest.raises(ConfigurationError, match="is its source no more") as raised:
        place.backfill(place.ledger)
    assert "change its section of the configuration" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert place.apis[HOME].count("Scan") == 0
    assert place.items(AWAY, place.ledger) == {}


@pytest.mark.parametrize("batches", [True, False], ids=["in batches", "one by one"])
def test_a_hand_over_in_the_midst_of_it_ends_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, batches: bool
) -> None:
    """What is written from then on is turned away by the target, in either way of writing."""
    monkeypatch.setattr(active, "FENCE_S", 0.0)
    monkeypatch.setattr(segment, "PAGE_ITEMS", 5)
    place.put(HOME, place.ledger, *numbered(60))
    write = "BatchExecuteStatement" if batches else "PutItem"
    if not batches:
        place.apis[AWAY].before = refusing("BatchExecuteStatement", table=place.ledger)

    def hand_over_once(operation: str) -> None:
        if operation == write:
            place.apis[AWAY].after = lambda _operation: None
            hand_over(place)
            there.update(place.items(AWAY, place.ledger))
            place.apis[AWAY].calls.clear()

    there: dict[str, Wire] = {}
    place.apis[AWAY].after = hand_over_once
    with pytest.raises(ConfigurationError, match="is its source no more"):
        place.backfill(place.ledger, segments=1)
    late = place.apis[AWAY].count("BatchExecuteStatement") + place.apis[AWAY].count("PutItem")
    assert late < segment.PAGE_ITEMS, "more than had passed the fence when it closed"
    assert 0 < len(there) < 60


def test_an_engine_without_batches_is_served_one_by_one(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same items arrive, and a failing call is made again."""
    place.put(HOME, place.orders, *numbered(40))
    failures = iter([Transient("reset")] * 5)

    def refuse(operation: str, _: Wire) -> None:
        if operation == "BatchExecuteStatement":
            raise Fatal("UnknownOperationException")
        if operation == "PutItem" and (error := next(failures, None)) is not None:
            raise error

    place.apis[AWAY].before = refuse
    assert place.backfill(place.orders) == 0
    assert document(capsys)["targets"][AWAY]["written"] == 40
    assert place.apis[AWAY].count("BatchExecuteStatement") == 1
    assert place.items(AWAY, place.orders) == place.items(HOME, place.orders)
