"""What items weigh and cost."""

from __future__ import annotations

from typing import Any

import pytest

from replicator.backfill.units import item_bytes, scan_units, write_units


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ({"id": {"S": "abc"}}, 5),
        ({"\xfc": {"S": "\xfc"}}, 4),
        ({"n": {"N": "12345"}}, 5),
        ({"n": {"N": "-1.50E+20"}}, 3),
        ({"b": {"B": bytes(100)}}, 101),
        ({"t": {"BOOL": True}, "z": {"NULL": True}}, 4),
        ({"s": {"SS": ["ab", "c"]}, "t": {"BS": [b"abc"]}, "u": {"NS": ["1", "2"]}}, 13),
        ({"l": {"L": [{"S": "ab"}, {"S": ""}]}}, 8),
        ({"m": {"M": {"k": {"S": "v"}}}}, 7),
        ({"odd": {}}, 3),
    ],
)
def test_an_item_weighs_its_names_and_values(image: Any, size: int) -> None:
    """As the developer guide reckons."""
    assert item_bytes(image) == size


@pytest.mark.parametrize(
    ("size", "units"), [(0, 1), (1, 1), (1_024, 1), (1_025, 2), (409_600, 400)]
)
def test_a_write_costs_a_unit_per_kilobyte(size: int, units: int) -> None:
    """Begun ones count."""
    assert write_units(size) == units


@pytest.mark.parametrize(("size", "units"), [(0, 0.5), (4_096, 0.5), (4_097, 1.0), (1 << 20, 128)])
def test_a_page_costs_half_a_unit_per_four_kilobytes(size: int, units: float) -> None:
    """It is read eventually consistent."""
    assert scan_units(size) == units
