"""Images packed into one binary value."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conflict.operations import AttributeValue
from replicator.packing import packed, unpacked

names = st.one_of(st.text(max_size=5), st.sampled_from(["base64", "B", "S", "M"]))
scalars: st.SearchStrategy[AttributeValue] = st.one_of(
    st.text(max_size=8).map(lambda text: {"S": text}),
    st.integers().map(lambda number: {"N": f"{number}.50"}),
    st.binary(max_size=8).map(lambda data: {"B": data}),
    st.lists(st.binary(max_size=4), min_size=1, max_size=3).map(lambda data: {"BS": data}),
    st.booleans().map(lambda truth: {"BOOL": truth}),
    st.just({"NULL": True}),
    st.just({}),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda many: {"L": many}),
        st.dictionaries(names, inner, max_size=3).map(lambda many: {"M": many}),
    ),
    max_leaves=8,
)


@given(st.dictionaries(names, values, max_size=4))
def test_an_image_comes_back_verbatim(image: dict[str, AttributeValue]) -> None:
    """Every type, every name and every number as it was written."""
    assert unpacked(packed(image)) == image


def test_an_image_may_be_deep() -> None:
    """Depth 32 and more is no matter, unlike in an attribute of an item."""
    value: AttributeValue = {"S": "x"}
    for _ in range(100):
        value = {"M": {"inner": value}}
    assert unpacked(packed({"deep": value})) == {"deep": value}


def test_an_image_may_be_any_mapping() -> None:
    """Images are read-only values; what kind of mapping they are is nobody's business."""
    image = MappingProxyType({"id": MappingProxyType({"S": "7"})})
    assert unpacked(packed(image)) == {"id": {"S": "7"}}


@pytest.mark.parametrize("data", [b"", b"{}", packed({"id": {"S": "7"}})[:-3]])
def test_other_bytes_are_no_image(data: bytes) -> None:
    """Truncated or foreign bytes are refused."""
    with pytest.raises(ValueError, match="no packed image"):
        unpacked(data)
