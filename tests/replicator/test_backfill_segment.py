"""One segment's work: what is saved of a page before it is written fits where it is kept."""

from __future__ import annotations

from random import Random

import pytest

from conflict.operations import Image, Item
from replicator.backfill.segment import PAGE_ITEMS, saved_together
from replicator.backfill.target import Scanned
from replicator.packing import packed
from replicator.table import key_of

ROW_BYTES_MAX = 409_600
HASH_BYTES_MAX, RANGE_BYTES_MAX = 2_048, 1_024


def page(count: int, key_bytes: int, range_bytes: int) -> list[Scanned]:
    """Items whose keys no compression makes smaller."""
    rng = Random(1)
    keys: list[Image] = [
        {"id": {"B": rng.randbytes(key_bytes)}, "at": {"B": rng.randbytes(range_bytes)}}
        for _ in range(count)
    ]
    return [Scanned(key_of(key, ("id", "at")), Item(key, None), 1) for key in keys]


@pytest.mark.parametrize("sizes", [(HASH_BYTES_MAX, RANGE_BYTES_MAX), (8, 8)])
def test_the_keys_that_are_saved_together_fit_into_a_row(sizes: tuple[int, int]) -> None:
    """Whatever their size; nothing is left out, and small keys are saved by the page."""
    items = page(PAGE_ITEMS, *sizes)
    parts = list(saved_together(items))
    assert [one for part in parts for one in part] == items
    for part in parts:
        keys = [{"M": dict(one.key.attributes)} for one in part]
        assert len(packed({"keys": {"L": keys}})) < ROW_BYTES_MAX * 0.95
    if sizes == (8, 8):
        assert len(parts) == 1


def test_an_empty_page_is_one_part() -> None:
    """It is settled like any other, so that its targets are counted."""
    assert list(saved_together([])) == [[]]
