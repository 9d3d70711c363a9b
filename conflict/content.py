"""Whether two images hold the same, however each was written down.

DynamoDB takes `1`, `1.0` and `1E0` for one number and gives the members of a set in any order. The
canonical form settles both and nothing else: lists keep their order, types keep apart what reads
alike, every digit counts. It is the same bytes in every process and on every machine, so that a
digest of it may be compared across regions and kept.

The marker stands beside an image and takes no part. An attribute value of no type (`{}`) and a
number that is none are compared as they stand: what an engine made up must not fail a comparison.

This module must not know what is compared with what, nor why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any

from conflict.operations import AttributeValue, Image

DIGEST_BYTES = 16
"""128 bits: no two contents that an attacker did not choose meet."""

_EXACT = Context(prec=1_000, Emax=999_999, Emin=-999_999)
"""Rounds nothing. Source: Developer Guide, "Data types": a number has up to 38 digits."""


_write = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def canonical(image: Image) -> bytes:
    """The content of an image as bytes: equal for equal content, and only for that."""
    return _write({name: _value(value) for name, value in image.items()}).encode()


def digest(image: Image) -> bytes:
    """DIGEST_BYTES that stand for the content of an image."""
    return blake2b(canonical(image), digest_size=DIGEST_BYTES).digest()


def same(one: Image | None, other: Image | None) -> bool:
    """Whether two images hold the same; None is the content of no item."""
    if one is None or other is None:
        return one is other
    if one.keys() != other.keys():
        return False
    return one == other or canonical(one) == canonical(other)


def _value(value: AttributeValue) -> object:
    for kind, content in value.items():
        form = _FORMS.get(kind)
        return value if form is None else {kind: form(content)}
    return value


def _number(text: str) -> str:
    """One text per value, exact: `1.2E+4` for 12000.0."""
    if text.isdecimal() and text.isascii() and text[0] != "0" != text[-1]:
        return text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return str(_EXACT.normalize(number)) if number else "0"


_FORMS: Mapping[str, Callable[[Any], object]] = {
    "N": _number,
    "B": lambda content: bytes(content).hex(),
    "SS": sorted,
    "NS": lambda content: sorted(map(_number, content)),
    "BS": lambda content: sorted(bytes(member).hex() for member in content),
    "L": lambda content: [_value(member) for member in content],
    "M": lambda content: {name: _value(member) for name, member in content.items()},
}
"""How the content of each type is written. What is not listed has but one form."""
