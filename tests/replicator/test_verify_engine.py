"""`replicator verify` on a real engine: finds all that was planted, nothing else, and repairs it.

Thousands of equal items stand beside the planted ones, some of them written in other forms. Deletes
are planted as the tombstones that a replicator leaves.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conflict.operations import RaiseTombstone
from conflict.version import Version, parse
from replicator.aws.api import Boto3Api
from replicator.cli import main
from replicator.clock import SystemClock
from replicator.control import STATE, create_control_table_request, digest, row_key
from replicator.errors import Fatal
from replicator.key_states import ControlKeyStates
from replicator.table import key_of
from replicator.wire.api import LeanApi
from support import black_box
from support.black_box import REGIONS, World
from support.black_box_tables import MARKER, Connection, Table, Wire
from support.engines import HOST, Engine, free_port
from support.tables import RANGED, unique_name

pytestmark = pytest.mark.xdist_group("dynamodb-local")

CONTROL_TABLE = unique_name("control")
EQUAL_ITEMS = 300
BATCH = 25
OLD, NEW = (f"{time:016d}#us-east-1#015r" for time in (10, 20))
DELETED = f"{15:016d}#us-east-1#015a"
AUTHORITY = REGIONS[0]

Verify = Callable[..., tuple[int, Any]]


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """Take back what a command does to logging."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="module")
def connection(engine: Callable[[str], Engine]) -> Connection:
    """The engine, with control tables of this module's own."""
    made = Connection(engine("dynamodb-local").endpoint_url, CONTROL_TABLE)
    for region in REGIONS:
        made.client(region).create_table(**create_control_table_request(CONTROL_TABLE))
    return made


@pytest.fixture
def world(connection: Connection, tmp_path: Path) -> World:
    """Tables of this test's own, no replicator."""
    return World(connection, tmp_path)


@pytest.fixture
def verify(world: World, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Run it on the world's table; its exit status and its document, or what it complained of."""

    def call(*options: str) -> tuple[int, Any]:
        config = world.directory / "replicator.toml"
        text = world.configuration().replace(black_box.CONTROL_TABLE, CONTROL_TABLE)
        config.write_text(text, encoding="utf-8")
        options = ("--table", world.tables[0].name, *options)
        status = main(["verify", "--config", str(config), "--settle", "0.05", "--json", *options])
        said = capsys.readouterr()
        assert status < 2 or not said.out or "--repair" not in options
        return status, json.loads(said.out) if status < 2 else said.err.splitlines()

    return call


def numbered(key: str, value: str, marker: str | None = None, *, members: str = "ab") -> Wire:
    """An item that holds a number and a set."""
    item: Wire = {"id": {"S": key}, "n": {"N": value}, "set": {"SS": list(members)}}
    return item if marker is None else {**item, MARKER: {"S": marker}}


def fill(world: World, table: Table, region: str, items: list[Wire]) -> None:
    """Write many items, in batches."""
    client, name = world.connection.client(region), table.physical(region)
    for start in range(0, len(items), BATCH):
        requests: Any = [{"PutRequest": {"Item": item}} for item in items[start : start + BATCH]]
        client.batch_write_item(RequestItems={name: requests})


def bury(world: World, table: Table, region: str, key: str, text: str) -> None:
    """Leave a tombstone, as a replicator does."""
    version = parse(text)
    assert isinstance(version, Version)
    api = Boto3Api.open(region=region, endpoint_url=world.connection.endpoint_url, threads=1)
    states = ControlKeyStates(
        api=api,
        control_table=CONTROL_TABLE,
        table=table.name,
        clock=SystemClock(),
        sleep=asyncio.sleep,
    )
    raised = states.raise_tombstone(
        RaiseTombstone(region, key_of({"id": {"S": key}}, ("id",)), version)
    )
    try:
        assert asyncio.run(raised) is None
    finally:
        api.close()


def signs(document: Any) -> dict[str, str]:
    """The signs of each difference by its key, in the order of the regions."""
    found = {}
    for difference in document["differences"]:
        sides = difference["regions"].values()
        found[difference["key"]["id"]["S"]] = "".join(side["sign"] for side in sides)
    assert len(found) == len(document["differences"])
    return found


PLANTED: dict[str, tuple[tuple[Wire | None, ...], str]] = {
    "missing": ((numbered("missing", "1", OLD), None, numbered("missing", "1", OLD)), "=+="),
    "older": ((numbered("older", "1", OLD), numbered("older", "2", NEW), None), "*=+"),
    "bare": ((numbered("bare", "1"), numbered("bare", "2", NEW), None), "*=+"),
    "copied": ((numbered("copied", "1"), numbered("copied", "1.0"), None), "==+"),
    "disputed": ((numbered("disputed", "1"), numbered("disputed", "2"), None), "!!+"),
    "stale": ((numbered("stale", "1", OLD), numbered("stale", "2", OLD), None), "**+"),
    "deleted": ((None, numbered("deleted", "1", OLD), numbered("deleted", "1")), "=--"),
    "again": ((numbered("again", "1"), None, None), "=++"),
    "after": ((None, None, numbered("after", "1", NEW)), "++="),
}
BURIED = ("deleted", "again", "after")
"""Each has a tombstone in the first region."""
TO_DECIDE = {"disputed", "stale"}


def plant(world: World, table: Table) -> None:
    """Put every kind of difference beside what is equal."""
    for number, region in enumerate(table.members):
        markers = (OLD, None, NEW)
        equal = [
            numbered(f"equal-{n}", f"{n}.{'0' * number}", markers[number], members="ba")
            for n in range(EQUAL_ITEMS)
        ]
        planted = [items[number] for items, _ in PLANTED.values()]
        fill(world, table, region, equal + [item for item in planted if item is not None])
    for key in BURIED:
        bury(world, table, table.members[0], key, DELETED)


def test_all_that_was_planted_is_found_and_repaired(world: World, verify: Verify) -> None:
    """Of thousands of items only the planted ones are told of; what versions decide is repaired,
    the rest when an authority is named, and then nothing is left."""
    table = world.add(Table(unique_name(), regions=REGIONS))
    plant(world, table)
    wanted = {key: expected for key, (_, expected) in PLANTED.items()}
    report = world.directory / "differences.jsonl"

    status, document = verify("--report", str(report))
    assert (status, signs(document)) == (1, wanted)
    assert [json.loads(line) for line in report.read_text().splitlines()] == document["differences"]
    assert report.stat().st_mode & 0o077 == 0, "keys in clear are their owner's alone"
    assert document["summary"]["undecided"] == len(TO_DECIDE)

    status, document = verify("--repair")
    assert (status, signs(document)) == (1, wanted)
    left = {found["key"]["id"]["S"] for found in document["differences"] if not found["repaired"]}
    assert left == TO_DECIDE

    status, document = verify("--repair", "--authority", AUTHORITY)
    assert (status, set(signs(document))) == (0, TO_DECIDE)

    status, document = verify()
    assert (status, document["differences"]) == (0, [])
    assert document["summary"]["equal"]
    world.assert_equal()
    (stale,) = [item for item in world.connection.scan(table, REGIONS[2]) if _id(item) == "stale"]
    assert stale["n"] == {"N": "1"}


def _id(item: Wire) -> str:
    return str(item["id"]["S"])


def test_the_source_of_a_one_way_table_decides(world: World, verify: Verify) -> None:
    """Targets become what the source is: nothing is asked, and the source is not touched."""
    source, target = REGIONS[:2]
    names = {target: unique_name("copy")}
    table = world.add(Table(unique_name(), source=source, targets=(target,), names=names))
    fill(world, table, source, [numbered(f"k{n}", f"{n}") for n in range(200)])
    fill(world, table, target, [numbered(f"k{n}", f"{n}", OLD) for n in range(200) if n != 7])
    fill(world, table, target, [numbered("k8", "9", NEW), numbered("alien", "1", NEW)])
    before = world.connection.scan(table, source)

    status, document = verify()
    assert (status, signs(document)) == (1, {"k7": "=+", "k8": "=*", "alien": "=-"})
    assert verify("--repair")[0] == 0
    assert verify()[0] == 0
    world.assert_equal()
    assert sorted(map(_id, world.connection.scan(table, source))) == sorted(map(_id, before))
    assert all(MARKER not in item for item in world.connection.scan(table, source))


def test_a_source_that_was_replaced_repairs_nothing(world: World, verify: Verify) -> None:
    """It is refused in one line that names the remedy, and nothing is printed for JSON; only
    looking is allowed, for it shows what the former source still holds."""
    source, target = REGIONS[:2]
    table = world.add(Table(unique_name(), source=source, targets=(target,)))
    fill(world, table, source, [numbered("k", "1")])
    fill(world, table, target, [numbered("k", "2", NEW)])
    row: Any = {
        "pk": {"S": f"handover#{table.name}"},
        "sk": {"S": "state"},
        "source": {"S": target},
        "former": {"S": source},
        "at_us": {"N": "1"},
        "planned": {"BOOL": True},
    }
    world.connection.client(target).put_item(TableName=CONTROL_TABLE, Item=row)

    status, lines = verify("--repair")
    assert (status, len(lines)) == (2, 1)
    assert "is its source no more" in lines[0]
    assert lines[0].endswith("see runbooks/failback.md")
    (standing,) = world.connection.scan(table, target)
    assert standing["n"] == {"N": "2"}
    assert verify()[0] == 1


def test_what_keeps_changing_is_not_called_equal(
    world: World, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is written between any two looks is no difference; but 0 would say that all is
    equal, and the document says that this is not known. At rest it is."""
    table = world.add(Table(unique_name(), regions=REGIONS[:2]))
    for region, value in zip(table.members, ("0", "-1"), strict=True):
        fill(world, table, region, [numbered("hot", value, OLD), numbered("cold", "1")])
    call, written = LeanApi.call, iter(range(1, 10_000))

    async def write_before_a_look(api: LeanApi, operation: str, request: Any) -> dict[str, Any]:
        if table.name in request.get("RequestItems", {}):
            fill(world, table, REGIONS[0], [numbered("hot", f"{next(written)}", OLD)])
        return await call(api, operation, request)

    with monkeypatch.context() as patched:
        patched.setattr(LeanApi, "call", write_before_a_look)
        status, document = verify()
    summary = document["summary"]
    assert (status, document["differences"]) == (1, [])
    assert (summary["restless"], summary["equal"]) == (1, False)

    fill(world, table, REGIONS[0], [numbered("hot", "-1", OLD)])
    status, document = verify()
    assert (status, document["summary"]["equal"]) == (0, True)


def test_a_sample_takes_a_share_of_the_keys_everywhere(world: World, verify: Verify) -> None:
    """Half of the keys, the same in every region: some differences, and only real ones."""
    table = world.add(Table(unique_name(), regions=REGIONS[:2], key_schema=RANGED))
    items: list[Wire] = [{"id": {"S": "a"}, "at": {"N": str(n)}} for n in range(200)]
    fill(world, table, REGIONS[0], items)
    status, document = verify("--sample", "0.5")
    assert status == 1
    assert 60 < len(document["differences"]) < 140
    assert all("at" in found["key"] for found in document["differences"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--regions", REGIONS[0]), "--regions: name at least two"),
        (("--regions", f"{REGIONS[0]},mars"), '--regions: "mars" is no region of this table'),
        (("--authority", "mars"), '--authority: "mars" is no region of this table'),
        (("--table", "nothing"), '--table: "nothing" is no table'),
        (("--report", "/no/such/place"), "--report: /no/such/place: not written"),
    ],
)
def test_wrong_usage_is_one_line(
    world: World, verify: Verify, options: tuple[str, ...], complaint: str
) -> None:
    """Options that do not fit the table name the option and what would."""
    world.tables.append(Table("orders-that-are-not-there", regions=REGIONS))
    status, lines = verify(*options)
    assert (status, len(lines)) == (2, 1)
    assert complaint in lines[0]


def test_tables_that_are_not_there_are_a_line_each(world: World, verify: Verify) -> None:
    """Every region that lacks the table is named, in the order of the configuration."""
    world.tables.append(Table("orders-that-are-not-there", regions=REGIONS))
    status, lines = verify()
    assert status == 2
    assert [line.partition(": does not exist")[0] for line in lines] == [
        f"replicator: table orders-that-are-not-there in {region}" for region in REGIONS
    ]


def test_a_scan_that_is_not_allowed_is_one_line(
    world: World, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused midway ends the command with the call, the table and the remedy."""
    world.add(Table(unique_name(), regions=REGIONS[:2]))
    call = LeanApi.call

    async def refusing(api: LeanApi, operation: str, request: Any) -> dict[str, Any]:
        if operation == "Scan":
            raise Fatal("Scan on orders in us-east-1: AccessDeniedException")
        return await call(api, operation, request)

    monkeypatch.setattr(LeanApi, "call", refusing)
    status, lines = verify()
    assert (status, len(lines)) == (2, 1)
    assert "AccessDeniedException; allow this operation" in lines[0]


def test_a_malformed_state_of_a_key_is_one_line(world: World, verify: Verify) -> None:
    """What is to be mended is named, and nobody is sent to look after credentials."""
    table = world.add(Table(unique_name(), regions=REGIONS[:2]))
    fill(world, table, REGIONS[0], [numbered("bent", "1")])
    state = row_key(f"key#{table.name}#{digest(key_of({'id': {'S': 'bent'}}, ('id',)))}", STATE)
    world.connection.client(REGIONS[0]).put_item(
        TableName=CONTROL_TABLE, Item={**state, "tombstone": {"S": "yesterday"}}
    )
    status, lines = verify()
    assert (status, len(lines)) == (2, 1)
    assert lines[0].endswith(f"{state['pk']['S']}: tombstone is malformed; mend or delete it")


def test_a_region_that_does_not_answer_is_one_line(world: World, verify: Verify) -> None:
    """Nothing listens there: the region is named, and what to look at."""
    table = world.add(Table(unique_name(), regions=REGIONS[:2]))
    assert verify()[0] == 0
    closed = Connection(f"http://{HOST}:{free_port()}", CONTROL_TABLE)
    world.connection = closed
    status, lines = verify()
    assert (status, len(lines)) == (2, 2)
    assert all("check endpoint_url" in line for line in lines)
    assert not any(table.name in line for line in lines)
