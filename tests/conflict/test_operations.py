"""What is believed of a marker, at the moment it is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conflict.operations import REPLICATOR_SLACK_US, Item, judged, marker_of, version_of
from conflict.version import TIME_DIGITS, Kind, Version
from support.scenes import at, image, item

LIMIT_US = 10**15
bounds = st.sampled_from([LIMIT_US, LIMIT_US + REPLICATOR_SLACK_US])
times = bounds.flatmap(lambda bound: st.integers(bound - 2, bound + 2))
versions = st.builds(Version, times, st.just("eu"), st.integers(1, 9), st.sampled_from(Kind))


@given(versions)
def test_a_version_from_too_far_ahead_is_doubted(version: Version) -> None:
    """An application's from beyond the limit, a replicator's from beyond the slack as well."""
    slack_us = 0 if version.kind is Kind.APPLICATION else REPLICATOR_SLACK_US
    read = judged(item("new", version), LIMIT_US)
    assert read is not None
    assert read.doubted == (version.time_us > LIMIT_US + slack_us)
    assert read.version == (None if read.doubted else version)


@given(versions)
def test_a_doubted_item_keeps_its_image_and_its_marker(version: Version) -> None:
    """Conditions are put on the marker that stands, whatever it is worth."""
    read = judged(item("new", version), LIMIT_US)
    assert read is not None
    assert (read.image, read.marker) == (image("new"), marker_of(version))


@given(versions, st.integers(0, 2 * REPLICATOR_SLACK_US))
def test_what_is_believed_once_is_believed_ever_after(version: Version, later_us: int) -> None:
    """Time only takes doubts away."""
    first = judged(item("new", version), LIMIT_US)
    again = judged(item("new", version), LIMIT_US + later_us)
    assert first is not None
    assert again is not None
    assert again.doubted <= first.doubted


def test_a_new_stamp_takes_the_doubt_away() -> None:
    """Doubted was the marker, not the content."""
    read = judged(item("new", at(10 * LIMIT_US, kind=Kind.APPLICATION)), LIMIT_US)
    assert read is not None
    assert read.stamped(at(5)) == item("new", at(5))


def test_where_nothing_stands_there_is_nothing_to_judge() -> None:
    """No item, and an item without a marker, are what they are."""
    assert judged(None, LIMIT_US) is None
    assert judged(item("new"), LIMIT_US) == item("new")


@pytest.mark.parametrize("marker", [None, {"S": "x"}, {"N": "3"}, {"M": {}}, {}, {"S": 3}])
def test_a_marker_that_is_no_text_of_a_version_states_none(
    marker: dict[str, object] | None,
) -> None:
    """Whatever an application has put under the marker's name, it raises no error."""
    assert version_of(marker) is None
    assert judged(Item({}, marker), 10**TIME_DIGITS) == Item({}, marker)
