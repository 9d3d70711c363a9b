"""Items of every attribute type travel from region to region and stay the same."""

from __future__ import annotations

from collections.abc import Mapping

from support.black_box import REGIONS, World
from support.black_box_tables import Table, Wire, bare, key_text, text
from support.tables import unique_name

ITEM_BYTES_MAX = 409_600
"""Source: Quotas, maximum item size: 400 KB, names and values together."""
ROOM_FOR_MARKER = 200
DEPTH_MAX = 31
"""Source: Quotas, nested attribute depth."""


def nested(depth: int) -> dict[str, object]:
    """A value of this many levels, maps and lists in turn."""
    value: dict[str, object] = {"S": "the bottom"}
    for level in range(depth):
        value = {"M": {"m": value}} if level % 2 else {"L": [value, {"NULL": True}]}
    return value


VALUES: Mapping[str, dict[str, object]] = {
    "digits_38": {"N": "12345678901234567890123456789012345678"},
    "digits_38_small": {"N": "-0.12345678901234567890123456789012345678"},
    "largest": {"N": "9.9999999999999999999999999999999999999E+125"},
    "smallest": {"N": "1E-130"},
    "trailing_zeros": {"N": "7.500"},
    "trailing_zeros_whole": {"N": "12000"},
    "leading_zeros": {"N": "007"},
    "zero": {"N": "-0.00"},
    "empty_text": {"S": ""},
    "empty_binary": {"B": b""},
    "unicode": {"S": "\u0000\u202e\U0001f600 e\u0301 \uffff"},
    "binary": {"B": bytes(range(256))},
    "texts": {"SS": ["b", "a", "\U0001f600"]},
    "numbers": {"NS": ["1.10", "-2E+20", "12345678901234567890123456789012345678"]},
    "binaries": {"BS": [b"\x00\xff", b"", b"a"]},
    "true": {"BOOL": True},
    "false": {"BOOL": False},
    "null": {"NULL": True},
    "empty_map": {"M": {}},
    "empty_list": {"L": []},
    "deep": nested(DEPTH_MAX),
    "map": {"M": {"s": {"S": ""}, "\u00e9": {"N": "1.0"}, "m": {"M": {}}, "l": {"L": []}}},
    "list": {"L": [{"NS": ["1", "2"]}, {"B": b"x"}, {"NULL": True}, {"M": {}}]},
    "like a marker": {"S": "0"},
    "\u4e16\u754c.#:$ []": {"S": "an attribute's name"},
}

KEYS: Mapping[str, tuple[Mapping[str, str], list[Wire]]] = {
    "texts": (
        {"id": "S"},
        [
            {"id": {"S": value}}
            for value in ("plain", "\u00e9", "e\u0301", "\U0001f600", '#|\\"/', "x" * 2048)
        ],
    ),
    "numbers": (
        {"id": "N"},
        [
            {"id": {"N": value}}
            for value in ("0", "-1.50", "1E+100", "0.1", VALUES["digits_38"]["N"])
        ],
    ),
    "composite": (
        {"part": "B", "at": "N"},
        [
            {"part": {"B": part}, "at": {"N": at}}
            for part, at in ((b"\x00", "1"), (b"\x00", "10"), (b"\x00\x01", "0"), (b"\xff", "-1.5"))
        ],
    ),
}


def test_every_type_travels_from_region_to_region_verbatim(world: World) -> None:
    """A writes, C adds an attribute, then B, then A again: each sees the rest as it was written.

    One process replicates out of all regions.
    """
    tables = {
        name: world.add(Table(unique_name(name), regions=REGIONS, key_schema=schema))
        for name, (schema, _) in KEYS.items()
    }
    world.start(None)
    first = REGIONS[0]
    for name, table in tables.items():
        for key in KEYS[name][1]:
            world.connection.client(first).put_item(
                TableName=table.name,
                Item={**VALUES, **key},
            )
    large = large_item()
    world.connection.client(first).put_item(TableName=tables["texts"].name, Item=large)
    stored = {name: whole(world, table, first) for name, table in tables.items()}
    assert_stored_as_put(tables["texts"], stored["texts"], large)
    world.settle()
    for number, region in enumerate((REGIONS[2], REGIONS[1], first)):
        for name, table in tables.items():
            assert whole(world, table, region) == stored[name]
            stored[name] = add_attribute(world, table, region, f"v{number}")
        world.settle()
    for name, table in tables.items():
        for region in REGIONS:
            assert whole(world, table, region) == stored[name]


def large_item() -> Wire:
    """An item as large as leaves room for the marker and what the other regions add."""
    key = "large"
    body_bytes = ITEM_BYTES_MAX - ROOM_FOR_MARKER - len("id") - len(key) - len("body")
    return {"id": {"S": key}, "body": {"S": "\u00e9" * (body_bytes // 2)}}


def whole(world: World, table: Table, region: str) -> dict[str, Wire]:
    """Every item without its marker, as it stands there to the letter; sets in one order."""
    return {
        key_text(table, item): {name: _sorted(value) for name, value in bare(item).items()}
        for item in world.connection.scan(table, region)
    }


def add_attribute(world: World, table: Table, region: str, name: str) -> dict[str, Wire]:
    """Update every item in a region; returns what stands there after."""
    for item in world.connection.scan(table, region):
        world.connection.client(region).update_item(
            TableName=table.name,
            Key={key: item[key] for key in table.key_schema},
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":value": {"S": region}},
        )
    return whole(world, table, region)


def assert_stored_as_put(table: Table, stored: Mapping[str, Wire], large: Wire) -> None:
    """Assert that the engine kept what it was given, so that the rest of the test has a meaning."""
    assert stored[key_text(table, large)] == large
    for key in KEYS["texts"][1]:
        assert text(stored[key_text(table, key)]) == text({**VALUES, **key})


def _sorted(value: dict[str, object]) -> dict[str, object]:
    """A value whose sets, which have no order, have one."""
    ((kind, content),) = value.items()
    match content:
        case list() if kind in ("SS", "NS", "BS"):
            return {kind: sorted(content)}
        case list():
            return {kind: [_sorted(inner) for inner in content]}
        case dict():
            return {kind: {name: _sorted(inner) for name, inner in content.items()}}
        case _:
            return value
