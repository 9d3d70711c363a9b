"""An image as one binary value, to be kept inside another item.

An image of depth 32, or one close to 400 KB, does not fit as a map into an attribute of a control
row, and one that DynamoDB refuses is refused there too. Packed, it is one binary that DynamoDB does
not look into: compressed JSON of the wire form, verbatim, binaries as `{"base64": text}`. Nothing
else in a wire form looks like that: the names beside a text are types, of one or two letters.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping

from conflict.operations import Image

_BINARY = "base64"


def packed(image: Image) -> bytes:
    """The image as bytes."""
    text = json.dumps(image, default=_encoded, ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(text.encode())


def unpacked(data: bytes) -> Image:
    """The image that `packed` was given.

    Raises: ValueError for bytes that it did not make.
    """
    try:
        text = zlib.decompress(data)
    except zlib.error as error:
        raise ValueError(f"no packed image: {error}") from None
    try:
        image = json.loads(text, object_hook=_decoded)
    except RecursionError:
        raise ValueError("no packed image: it is too deep") from None
    if not isinstance(image, dict) or not all(isinstance(value, dict) for value in image.values()):
        raise ValueError("no packed image: it is not one of attributes")
    return image


def _encoded(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return {_BINARY: base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no wire form holds a {type(value).__name__}")


def _decoded(value: dict[str, object]) -> object:
    text = value.get(_BINARY)
    return base64.b64decode(text) if isinstance(text, str) else value
