"""Images that stay text: whatever is done with one, it is as if it had been decoded at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conflict.operations import AttributeValue, Image
from replicator.images import ENCODER, RawImage, Value, joined, parted
from replicator.packing import packed, unpacked

MARKER = "_replicator"
NAMES = st.sampled_from([MARKER, "id", "B", 'quo"ted', "back\\slash", "ü", ""]) | st.text(
    max_size=5
)
VALUES: st.SearchStrategy[AttributeValue] = st.recursive(
    st.one_of(
        st.builds(
            lambda text: {"S": text}, st.text(max_size=8) | st.just('"_replicator":{"S":"v"}')
        ),
        st.builds(lambda number: {"N": str(number)}, st.integers()),
        st.builds(lambda data: {"B": data}, st.binary(max_size=6)),
        st.builds(lambda data: {"BS": data}, st.lists(st.binary(max_size=3), min_size=1)),
        st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
        st.just({"NULL": True}),
    ),
    lambda inner: st.one_of(
        st.builds(lambda members: {"L": members}, st.lists(inner, max_size=3)),
        st.builds(lambda members: {"M": members}, st.dictionaries(NAMES, inner, max_size=3)),
    ),
    max_leaves=6,
)
MARKERS: st.SearchStrategy[AttributeValue] = st.builds(
    lambda text: {"S": text}, st.text(max_size=9)
)
IMAGES = st.dictionaries(NAMES, VALUES, max_size=5)
DECODER = msgspec.json.Decoder(dict[str, Value])


def _compact(image: Image) -> bytes:
    return ENCODER.encode(image)


def _escaped(image: Image) -> bytes:
    """As an encoder writes it that escapes and spaces whatever it may."""
    return json.dumps(
        image, default=lambda data: base64.b64encode(data).decode(), indent=1
    ).encode()


TEXTS = pytest.mark.parametrize("text", [_compact, _escaped])


@TEXTS
@given(image=IMAGES, name=NAMES)
def test_it_holds_what_its_text_says(
    text: Callable[[Image], bytes], image: Image, name: str
) -> None:
    """One attribute or all of them, in either order."""
    raw = RawImage(text(image))

    assert raw.get(name) == image.get(name)
    assert (name in raw) == (name in image)
    assert dict(raw) == image
    assert raw == image
    assert image == raw
    assert raw.get(name) == image.get(name)
    assert raw == RawImage(text(image))


@TEXTS
@given(image=IMAGES, other=IMAGES)
def test_two_are_equal_as_their_contents_are(
    text: Callable[[Image], bytes], image: Image, other: Image
) -> None:
    """Also where one lists its attributes in another order, or leaves one out."""
    turned = dict(reversed(list(image.items())))

    assert (RawImage(text(image)) == RawImage(text(other))) == (image == other)
    assert RawImage(text(image)) == RawImage(text(turned))
    (raw_rest, _), (rest, _) = parted(RawImage(text(image)), "id"), parted(image, "id")
    assert (raw_rest == RawImage(text(other))) == (rest == other)


@TEXTS
@given(image=IMAGES, standing=MARKERS | VALUES, marker=MARKERS)
def test_a_marker_goes_in_and_out(
    text: Callable[[Image], bytes], image: Image, standing: AttributeValue, marker: AttributeValue
) -> None:
    """Text that a request carries says the same as the image would."""
    bare, _ = parted(image, MARKER)
    held, stood = parted(RawImage(text({**bare, MARKER: standing})), MARKER)
    assert stood == standing
    for raw in (RawImage(text(bare)), held):
        assert raw.get(MARKER) is None
        assert DECODER.decode(ENCODER.encode({"Item": raw})[8:-1]) == bare
        assert DECODER.decode(ENCODER.encode(joined(raw, MARKER, marker))) == {
            **bare,
            MARKER: marker,
        }
        assert raw == bare


@given(image=IMAGES)
def test_it_can_be_packed(image: Image) -> None:
    """What is kept in the control table is kept whole."""
    raw = RawImage(_compact(image))

    assert unpacked(packed(raw)) == unpacked(packed(image))


def test_a_value_of_no_known_form_is_kept() -> None:
    """It is the service's to refuse, and stops nothing here."""
    odd: Any = {"id": {"S": 5}, "x": {"Z": [1]}}

    assert RawImage(json.dumps(odd).encode()) == odd


def test_it_shows_no_data() -> None:
    """Not even where an error prints what it was about."""
    assert "canary" not in repr(RawImage(b'{"id":{"S":"canary"}}'))
