"""Images that stay as they came over the wire until somebody must look inside.

Most records are read, judged by their marker and written on; nobody looks at their attributes. A
`RawImage` holds the JSON text of an image and is a Mapping like any other: it decodes itself when
it is asked for more than one attribute, once. Its text goes out again unchanged, but for the marker
that is put in, or put in place of an earlier one.

Its text is well-formed JSON, since the decoder that cut it out has gone through it, and is what the
service said, since its checksum was right: whoever makes one sees to both. A value of no known form
is kept as it is: it is the service's to refuse, on the one write that carries it.

This module must not know what a marker means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, TypedDict, cast

import msgspec

from conflict.operations import AttributeValue, Image

NAMES_MAX = 64
"""Attribute names looked for: one per table, its marker's."""


class Value(TypedDict, total=False):
    """An AttributeValue. Source: API_AttributeValue."""

    S: str
    N: str
    B: bytes
    SS: list[str]
    NS: list[str]
    BS: list[bytes]
    BOOL: bool
    NULL: bool
    L: list[Value]
    M: dict[str, Value]


_IMAGE = msgspec.json.Decoder(dict[str, Value])


class RawImage(Mapping[str, AttributeValue]):
    """An image in its wire form. `hidden`: an attribute of the text that is not the image's."""

    __slots__ = ("_content", "_hidden", "_raw")

    def __init__(self, raw: bytes, hidden: str | None = None) -> None:
        self._raw, self._hidden = raw, hidden
        self._content: Image | None = None

    @property
    def text(self) -> bytes:
        """The image as JSON."""
        if self._hidden is None:
            return self._raw
        return ENCODER.encode(self._decoded())

    def without(self, name: str) -> RawImage:
        """The same image without an attribute; one such may be left out."""
        assert self._hidden is None
        return RawImage(self._raw, name)

    def parted(self, name: str) -> tuple[RawImage, AttributeValue | None]:
        """The same image without an attribute, and that attribute, None where it has none."""
        if self._lacks(name):
            return self, None
        value = self.get(name)
        return (self, None) if value is None else (self.without(name), value)

    def joined(self, name: str, value: AttributeValue) -> Image:
        """The image with one more attribute, which it lacks or which was left out."""
        pair = _pair(name, value)
        if self._hidden is None:
            raw = self._raw
            comma = b"," if b":" in raw else b""  # none stands in an empty map
            return RawImage(b"%b%b%b}" % (raw[:-1], comma, pair))
        sought = _sought(name)
        if self._hidden == name and sought is not None:
            earlier = _pair(name, sought.decode(self._raw).value or {})
            if self._raw.count(earlier) == 1:  # else an inner map holds the same pair
                return RawImage(self._raw.replace(earlier, pair))
        return {**self, name: value}

    def get(self, name: str, default: Any = None) -> Any:
        """One attribute, for which the rest need not be decoded."""
        if name == self._hidden:
            return default
        if self._content is not None:
            return self._content.get(name, default)
        if self._lacks(name):
            return default
        sought = _sought(name)
        if sought is None:
            return self._decoded().get(name, default)
        found = sought.decode(self._raw).value
        return default if found is None else found

    def _lacks(self, name: str) -> bool:
        """Whether the text tells by itself that it holds no such attribute, at any depth."""
        return _quoted(name) not in self._raw and b"\\" not in self._raw

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or self._lacks(name):
            return False
        return self.get(name) is not None

    def __getitem__(self, name: str) -> AttributeValue:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __eq__(self, other: object) -> bool:
        """Whether the content is equal, as of two dicts.

        Two texts are by one service and differ in content, or in the order of their attributes.
        """
        if not isinstance(other, RawImage):
            return self._decoded() == other
        if self._hidden == other._hidden:
            if self._raw == other._raw:
                return True
            if len(self._raw) != len(other._raw):
                return False
        return self._decoded() == other._decoded()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "RawImage(...)"

    def _decoded(self) -> Image:
        if self._content is None:
            try:
                content: Any = _IMAGE.decode(self._raw)
            except msgspec.ValidationError:
                content = json.loads(self._raw)
            content.pop(self._hidden, None)
            self._content = cast("Image", content)
        return self._content


def parted(image: Image, name: str) -> tuple[Image, AttributeValue | None]:
    """An image without one of its attributes, and that attribute, None where it has none."""
    if isinstance(image, RawImage):
        return image.parted(name)
    rest = dict(image)
    value = rest.pop(name, None)
    return rest, value


def joined(image: Image, name: str, value: AttributeValue) -> Image:
    """An image with one more attribute."""
    if isinstance(image, RawImage):
        return image.joined(name, value)
    return {**image, name: value}


def _as_text(value: object) -> msgspec.Raw:
    if isinstance(value, RawImage):
        return msgspec.Raw(value.text)
    raise TypeError(f"no wire form holds a {type(value).__name__}")


ENCODER = msgspec.json.Encoder(enc_hook=_as_text)
"""Makes requests: binaries become base64, raw images go as they came."""


@lru_cache(maxsize=NAMES_MAX)
def _quoted(name: str) -> bytes:
    return ENCODER.encode(name)


@lru_cache(maxsize=NAMES_MAX)
def _sought(name: str) -> msgspec.json.Decoder[Any] | None:
    """A decoder that reads one attribute and passes over all others; None for an odd name."""
    if _quoted(name) != f'"{name}"'.encode():
        return None
    one: Any = msgspec.defstruct("One", [("value", Value | None, None)], rename={"value": name})
    return msgspec.json.Decoder(one)


def _pair(name: str, value: AttributeValue) -> bytes:
    return _quoted(name) + b":" + ENCODER.encode(value)
