"""The values that options take: each from its text, or an error that shows what is meant.

Every value has an upper bound, and its digits are ASCII: what comes after need not think of numbers
that fit nowhere.
"""

from __future__ import annotations

import argparse
import math

PORT_MAX = 65_535
DAY_S = 86_400
AGO_S = {"s": 1, "m": 60, "h": 3_600, "d": DAY_S}
AGO_S_MAX = 3_650 * DAY_S
"""Ten years, as for settings.tombstone_days. No ledger goes back further."""

COUNT_MAX = 1_000_000
"""Source: API_Scan, TotalSegments."""

RATE_MAX = 10_000_000
"""As for write_rate in settings.py."""

DIGITS_MAX = 20
"""Python refuses to read more than some thousands. Source: Integer string conversion limitation."""

SHOWN_CHARACTERS_MAX = 60


def port(text: str) -> int:
    """A TCP port."""
    port = _whole(text)
    if not 1 <= port <= PORT_MAX:
        raise _wrong(text, f"is no port; give one of 1 to {PORT_MAX}")
    return port


def seconds(text: str) -> float:
    """A duration of up to a day."""
    seconds = _number(text)
    if not 0 < seconds <= DAY_S:
        raise _wrong(text, "is no duration; give seconds, such as 20")
    return seconds


def ago(text: str) -> float:
    """A time that lies back up to ten years, in seconds: 90s, 15m, 6h, 7d."""
    number, unit = _whole(text[:-1]), text[-1:]
    if unit not in AGO_S or number < 0:
        raise _wrong(text, "is no time; give one such as 90s, 15m, 6h, 7d")
    if number * AGO_S[unit] > AGO_S_MAX:
        raise _wrong(text, f"is too long ago; give one of up to {AGO_S_MAX // DAY_S}d, such as 7d")
    return float(number * AGO_S[unit])


def count(text: str) -> int:
    """A whole number above 0."""
    count = _whole(text)
    if not 0 < count <= COUNT_MAX:
        raise _wrong(text, f"is no count; give a whole number up to {COUNT_MAX:,}, such as 4")
    return count


def share(text: str) -> float:
    """A part of the whole, above 0 and up to 1."""
    share = _number(text)
    if not 0 < share <= 1:
        raise _wrong(text, "is no share; give one up to 1, such as 0.1")
    return share


def rate(text: str) -> float:
    """Units a second."""
    rate = _number(text)
    if not 0 < rate <= RATE_MAX:
        raise _wrong(text, f"is no rate; give units a second, up to {RATE_MAX:,}, such as 100")
    return rate


def _whole(text: str) -> int:
    """A number of ASCII digits; -1 for what is none, and what is too large for all stays so."""
    if not (text.isascii() and text.isdigit()):
        return -1
    return int(text.lstrip("0")[:DIGITS_MAX] or "0")


def _number(text: str) -> float:
    try:
        return float(text) if text.isascii() else math.nan
    except ValueError:
        return math.nan


def _wrong(text: str, remedy: str) -> argparse.ArgumentTypeError:
    """An error of one line, whatever the text."""
    shown = text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"
    return argparse.ArgumentTypeError(f"{shown!r} {remedy}")
