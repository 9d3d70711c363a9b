"""Keys, items and versions for the contract tests, and equality of items as DynamoDB sees it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from conflict.operations import AttributeValue, Image, Item, Key, marker_of
from conflict.version import Kind, Version
from replicator.table import key_of

INCOMING = Version(1_700_000_000_000_000, "eu-west-1", 100, Kind.REPLICATED)
"""The version that the tests write. Its neighbours differ in one part each."""

EARLIER = Version(1_699_999_999_999_999, "us-west-2", 900, Kind.REPLICATED)
LATER = Version(1_700_000_000_000_001, "ap-south-1", 1, Kind.REPLICATED)

_numbers = itertools.count(1)


def fresh_key() -> Key:
    """Return a key that no other test of this session uses."""
    return named_key(f"key-{next(_numbers)}")


def named_key(id_: str, at: str | None = None) -> Key:
    """Return the key of an item: `id`, and the number `at` in a ranged table."""
    if at is None:
        return key_of({"id": {"S": id_}}, ("id",))
    return key_of({"id": {"S": id_}, "at": {"N": at}}, ("id", "at"))


def item(of: Key, version: Version | None = None, **attributes: AttributeValue) -> Item:
    """Return an item under a key, without marker or under `version`."""
    return raw_item(of, None if version is None else marker_of(version), **attributes)


def raw_item(of: Key, marker: AttributeValue | None, **attributes: AttributeValue) -> Item:
    """Return an item under a key with any value for its marker, sensible or not."""
    return Item({**of.attributes, "text": {"S": "as it was"}, **attributes}, marker)


def same_item(one: Item | None, other: Item | None) -> bool:
    """Tell whether two items are the same to DynamoDB."""
    if one is None or other is None:
        return one is other
    return canonical(one.image) == canonical(other.image) and one.marker == other.marker


def canonical(image: Image) -> dict[str, object]:
    """Return an image so that equal values are equal: numbers by value, sets without order."""
    return {name: _canonical(value) for name, value in image.items()}


def _canonical(value: Mapping[str, Any]) -> tuple[str, object]:
    [(kind, content)] = value.items()
    match kind:
        case "N":
            return kind, Decimal(content)
        case "NS":
            return kind, frozenset(Decimal(number) for number in content)
        case "SS" | "BS":
            return kind, frozenset(content)
        case "L":
            return kind, [_canonical(element) for element in content]
        case "M":
            return kind, {name: _canonical(element) for name, element in content.items()}
        case _:
            return kind, content
