"""What an item weighs, and what reading and writing it costs in capacity units.

Sizes are an estimate, good to a few bytes: numbers are stored in a form that is not published in
full. The same estimate serves every engine, also those that report no consumed capacity.

Source: Developer Guide, "DynamoDB item sizes and formats" and "DynamoDB read and write operations".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from conflict.operations import AttributeValue, Image

WRITE_UNIT_BYTES = 1_024
READ_UNIT_BYTES = 4_096
EVENTUALLY_CONSISTENT = 0.5
"""Read units for one unit's worth of bytes, eventually consistent."""

_CONTAINER_BYTES = 3
_MEMBER_BYTES = 1
_NUMBER_BYTES_MAX = 21


def item_bytes(image: Image) -> int:
    """The size of an item: the names and the values of its attributes."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in image.items())


def write_units(size_bytes: int) -> int:
    """What one write of an item of this size costs."""
    return max(1, math.ceil(size_bytes / WRITE_UNIT_BYTES))


def scan_units(size_bytes: int) -> float:
    """What one page of a Scan costs: the sizes of its items are added up before rounding."""
    return max(1, math.ceil(size_bytes / READ_UNIT_BYTES)) * EVENTUALLY_CONSISTENT


def _value_bytes(value: AttributeValue) -> int:
    for kind, content in value.items():
        return _SIZES[kind](content) if kind in _SIZES else 1
    return 0


def _number_bytes(text: str) -> int:
    """About one byte for two significant digits, and one more."""
    digits = sum(character.isdigit() for character in text.partition("E")[0].strip("0"))
    return min(_NUMBER_BYTES_MAX, (digits + 1) // 2 + 1)


_SIZES: Mapping[str, Callable[[Any], int]] = {
    "S": lambda text: len(text.encode()),
    "N": _number_bytes,
    "B": len,
    "SS": lambda members: sum(len(text.encode()) for text in members),
    "NS": lambda members: sum(map(_number_bytes, members)),
    "BS": lambda members: sum(map(len, members)),
    "L": lambda members: _CONTAINER_BYTES + sum(_MEMBER_BYTES + _value_bytes(m) for m in members),
    "M": lambda members: _CONTAINER_BYTES + _MEMBER_BYTES * len(members) + item_bytes(members),
}
