"""The values of options: in ASCII, within bounds, and one line where they are not."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from replicator.arguments import ago, count, port, rate, seconds, share

DIGITS = "9" * 400
MORE_DIGITS = "9" * 5_000
"""More than Python reads as a number."""


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (ago, "90s", 90),
        (ago, "7d", 604_800),
        (ago, "3650d", 315_360_000),
        (ago, "0s", 0),
        (count, "1000000", 1_000_000),
        (count, "0" * 50 + "4", 4),
        (rate, "1e6", 1e6),
        (seconds, "0.5", 0.5),
        (share, "1", 1),
        (port, "65535", 65_535),
    ],
)
def test_a_value_within_bounds_is_taken(
    parse: Callable[[str], float], text: str, value: float
) -> None:
    """The bounds included."""
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((ago, f"{digits}{unit}") for digits in (DIGITS, MORE_DIGITS) for unit in "sd"),
        (ago, "3651d"),
        (ago, "\u0667d"),
        *((parse, DIGITS) for parse in (count, port, rate, seconds, share)),
        *((parse, MORE_DIGITS) for parse in (count, port, rate, seconds, share)),
        *((parse, "\u0663") for parse in (count, port, rate, seconds)),
        *((parse, "nan") for parse in (rate, seconds, share)),
        (count, "1000001"),
        (rate, "1e300"),
        (share, "\u0660.\u0665"),
    ],
)
def test_a_value_out_of_bounds_is_one_line(parse: Callable[[str], float], text: str) -> None:
    """It shows what is meant, and of a long text its beginning."""
    with pytest.raises(
        argparse.ArgumentTypeError, match=r"; give (one|a whole|units|seconds)"
    ) as raised:
        parse(text)
    line = str(raised.value)
    assert text[:10] in line
    assert len(line.splitlines()) == 1
    assert len(line) < 150
