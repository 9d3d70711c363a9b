"""The values that options take: each from its text, or an error that shows what is meant."""

from __future__ import annotations

import argparse

PORT_MAX = 65_535
DAY_S = 86_400
AGO_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def port(text: str) -> int:
    """A TCP port."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give one of 1 to {PORT_MAX}")
    return int(text)


def seconds(text: str) -> float:
    """A duration of up to a day."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= DAY_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; give seconds, such as 20")
    return seconds


def ago(text: str) -> float:
    """A time that lies back, in seconds: 90s, 15m, 6h, 7d."""
    number, unit = text[:-1], text[-1:]
    if unit not in AGO_S or not (number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give one such as 90s, 15m, 6h, 7d")
    return int(number) * AGO_S[unit]


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give a whole number, such as 4")
    return int(text)


def share(text: str) -> float:
    """A part of the whole, above 0 and up to 1."""
    share = _number(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; give one up to 1, such as 0.1")
    return share


def rate(text: str) -> float:
    """Units a second."""
    rate = _number(text)
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; give units a second, such as 100")
    return rate


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
