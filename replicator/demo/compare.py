"""Are the tables equal? The demo's own judge, which shares no code with what it judges.

Two items are equal when DynamoDB would call them so: the order within a set and the way a number
is written (7, 7.0, 0.7E1) mean nothing, everything else does. The marker is left out, for it is
the replicator's and not the application's.

Pure but for `scan`, which reads a whole table from one region with strong consistency.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from replicator.demo.world import MARKER, DemoTable
from replicator.ports import Api

WireItem: TypeAlias = Mapping[str, Mapping[str, Any]]
CanonicalValue: TypeAlias = tuple[str, Hashable]
"""An attribute's type and its content."""
Canonical: TypeAlias = frozenset[tuple[str, CanonicalValue]]
Contents: TypeAlias = Mapping[Canonical, WireItem]
"""A table's items by their canonical key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key whose item is not the same everywhere; None where no item stands."""

    table: str
    key: Canonical
    items: Mapping[str, WireItem | None]


def canonical(item: WireItem, *, without: str | None = MARKER) -> Canonical:
    """The item without its marker, in a form that is equal exactly when the items are."""
    return _pairs({name: value for name, value in item.items() if name != without})


def differences(table: DemoTable, contents: Mapping[str, Contents]) -> list[Difference]:
    """The keys whose items differ between the regions of `contents`."""
    keys = {key for items in contents.values() for key in items}
    found = []
    for key in sorted(keys, key=repr):
        items = {region: items.get(key) for region, items in contents.items()}
        if len({None if item is None else canonical(item) for item in items.values()}) > 1:
            found.append(Difference(table=table.name, key=key, items=items))
    return found


def key_of(table: DemoTable, item: WireItem) -> Canonical:
    """The canonical primary key of an item."""
    return _pairs({name: item[name] for name, _ in table.key})


async def scan(api: Api, table: DemoTable) -> Contents:
    """Every item of the table in one region, strongly consistent."""
    request: dict[str, Any] = {"TableName": table.name, "ConsistentRead": True}
    items: dict[Canonical, WireItem] = {}
    while True:
        page = await api.call("Scan", request)
        items.update((key_of(table, item), item) for item in page.get("Items", []))
        if not page.get("LastEvaluatedKey"):
            return items
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _value(value: Mapping[str, Any]) -> CanonicalValue:
    """One attribute value, its type included: {"S": "7"} is not {"N": "7"}.

    Decimal compares, and hashes, by value, exactly and to the last of 38 digits.
    """
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return kind, Decimal(content)
        case "NS":
            return kind, frozenset(map(Decimal, content))
        case "SS" | "BS":
            return kind, frozenset(content)
        case "L":
            return kind, tuple(map(_value, content))
        case "M":
            return kind, _pairs(content)
        case _:
            return kind, content


def _pairs(attributes: WireItem) -> Canonical:
    return frozenset((name, _value(value)) for name, value in attributes.items())


def describe(difference: Difference, attributes: Sequence[str]) -> str:
    """One line on a difference, with these attributes of each region's item."""
    sides = []
    for region, item in difference.items.items():
        shown = (
            "absent"
            if item is None
            else ", ".join(
                f"{name}={next(iter(item[name].values()))}" for name in attributes if name in item
            )
        )
        sides.append(f"{region}: {shown}")
    return f"{difference.table} {key_text(difference.key)} | " + " | ".join(sides)


def key_text(key: Canonical) -> str:
    """A canonical key as a person reads it."""
    parts = dict(key)
    return "/".join(str(parts[name][1]) for name in sorted(parts))
