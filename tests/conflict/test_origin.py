"""What a record is, row by row of the table in conflict.origin, and rule 1 on all that can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conflict.operations import AttributeValue, Image, Item, judged, marker_of
from conflict.origin import Nature, classify
from conflict.version import Kind, Version, order

HOME = "us"
LIMIT_US = 100
OLD_IMAGE, NEW_IMAGE = {"id": {"S": "1"}, "n": {"N": "1"}}, {"id": {"S": "1"}, "n": {"N": "2"}}


def at(time_us: int, origin: str, kind: Kind, sequence: int = 5) -> Version:
    """A version."""
    return Version(time_us, origin, sequence, kind)


def nature(old: Version | None, new: Version | None) -> Nature:
    """What a change of content is, from one marker to another (None: an item without one)."""
    return classify(HOME, _item(OLD_IMAGE, old), _item(NEW_IMAGE, new))


def _item(image: Image, version: Version | None) -> Item:
    """An item as it is read: judged."""
    item = judged(Item(image, marker_of(version) if version else None), LIMIT_US)
    assert item is not None
    return item


OLD_MARKERS = [None, *(at(10, origin, kind) for origin in ("us", "eu") for kind in Kind)]
EARLIER_MARKERS = [at(9, origin, kind) for origin in ("us", "eu") for kind in Kind]


@pytest.mark.parametrize("old", OLD_MARKERS)
def test_a_marker_that_stayed_tells_a_local_write(old: Version | None) -> None:
    """An application's update keeps the marker that it found."""
    assert nature(old, old) is Nature.WRITTEN


@pytest.mark.parametrize("old", OLD_MARKERS)
def test_a_marker_that_went_missing_tells_a_local_write(old: Version | None) -> None:
    """An application's put drops the marker."""
    assert nature(old, None) is Nature.WRITTEN


@pytest.mark.parametrize("new", EARLIER_MARKERS)
@pytest.mark.parametrize("old", OLD_MARKERS[1:])
def test_a_marker_that_went_back_tells_a_local_write(old: Version, new: Version) -> None:
    """An application put an item that it had read before, with the marker of then."""
    assert nature(old, new) is Nature.WRITTEN


@pytest.mark.parametrize("old", OLD_MARKERS)
def test_an_own_newer_stamp_of_an_application_tells_a_stamped_write(old: Version | None) -> None:
    """A write that carries its version."""
    assert nature(old, at(20, HOME, Kind.APPLICATION)) is Nature.STAMPED


@pytest.mark.parametrize("old", OLD_MARKERS)
def test_an_own_newer_settled_marker_tells_our_stamp(old: Version | None) -> None:
    """The replicator's stamp on a local write."""
    assert nature(old, at(20, HOME, Kind.SETTLED)) is Nature.SETTLED


@pytest.mark.parametrize("kind", [Kind.SETTLED, Kind.REMOVING])
@pytest.mark.parametrize("origin", [HOME, "eu"])
def test_an_item_that_is_created_with_a_stamp_was_copied_by_an_application(
    origin: str, kind: Kind
) -> None:
    """A replicator stamps and marks what stands: it must not pass for an echo."""
    new = _item(NEW_IMAGE, at(20, origin, kind))
    assert classify(HOME, None, new) is Nature.WRITTEN


@pytest.mark.parametrize("origin", ["us", "eu"])
@pytest.mark.parametrize("old", OLD_MARKERS)
def test_a_newer_mark_tells_that_the_item_is_being_taken_out(
    old: Version | None, origin: str
) -> None:
    """Whichever region's delete it is."""
    assert nature(old, at(20, origin, Kind.REMOVING)) is Nature.MARKED


@pytest.mark.parametrize("old", OLD_MARKERS)
def test_an_applications_stamp_in_another_regions_name_tells_a_local_write(
    old: Version | None,
) -> None:
    """Misnamed or copied: no replicator brings kind `a`, so it must not pass for an echo."""
    assert nature(old, at(20, "eu", Kind.APPLICATION)) is Nature.WRITTEN


@pytest.mark.parametrize("new", [at(20, HOME, Kind.REPLICATED), at(20, "eu", Kind.REPLICATED)])
@pytest.mark.parametrize("old", OLD_MARKERS)
def test_any_other_newer_marker_tells_an_arrival(old: Version | None, new: Version) -> None:
    """Brought from another region, or put back at home by its origin."""
    assert nature(old, new) is Nature.ARRIVED


def test_the_mark_of_an_items_own_version_moved() -> None:
    """The same order in another kind is a marker that moved: a replicator did that."""
    old = at(10, HOME, Kind.SETTLED)
    assert nature(old, old.of_kind(Kind.REMOVING)) is Nature.MARKED
    assert nature(old, old.of_kind(Kind.REPLICATED)) is Nature.ARRIVED


@pytest.mark.parametrize("origin", ["us", "eu"])
def test_a_marked_item_that_is_gone_was_taken_out(origin: str) -> None:
    """The REMOVE that ends what a replicator began is an echo."""
    old = _item(OLD_IMAGE, at(10, origin, Kind.REMOVING))
    assert classify(HOME, old, None) is Nature.TAKEN_OUT


@pytest.mark.parametrize(
    "old", [v for v in OLD_MARKERS if v is None or v.kind is not Kind.REMOVING]
)
def test_any_other_item_that_is_gone_was_deleted(old: Version | None) -> None:
    """The REMOVE of an item that nobody had marked is the application's."""
    assert classify(HOME, _item(OLD_IMAGE, old), None) is Nature.DELETED


@pytest.mark.parametrize("version", OLD_MARKERS)
def test_a_record_without_a_change_is_none(version: Version | None) -> None:
    """Some engines tell a write that changed nothing; taken for a write it would go round."""
    item = _item(OLD_IMAGE, version)
    assert classify(HOME, item, item) is Nature.UNCHANGED


@pytest.mark.parametrize("marker", [{"S": "text"}, {"N": "7"}, {"M": {}}, {"NULL": True}])
def test_a_marker_that_states_nothing_is_the_applications(marker: AttributeValue) -> None:
    """No replicator writes such, so whoever did is the application."""
    new = Item(NEW_IMAGE, marker)
    for old in OLD_MARKERS:
        assert classify(HOME, _item(OLD_IMAGE, old), new) is Nature.WRITTEN


def test_a_stamp_from_beyond_the_limit_is_none() -> None:
    """An application's stamp that is not believed makes a plain local write of its record."""
    ahead = at(LIMIT_US + 1, HOME, Kind.APPLICATION)
    assert nature(None, ahead) is Nature.WRITTEN
    assert nature(None, at(LIMIT_US, HOME, Kind.APPLICATION)) is Nature.STAMPED


def test_a_believed_stamp_over_one_from_beyond_the_limit_moved() -> None:
    """What is not believed does not make the next marker look older."""
    ahead = at(LIMIT_US + 1, HOME, Kind.APPLICATION)
    assert nature(ahead, at(20, "eu", Kind.REPLICATED)) is Nature.ARRIVED


# --- all that can be ----------------------------------------------------------------------------

markers = st.none() | st.builds(
    Version,
    st.integers(1, 3) | st.integers(LIMIT_US - 1, LIMIT_US + 2),
    st.sampled_from([HOME, "eu"]),
    st.integers(1, 2),
    st.sampled_from(Kind),
)
items = st.none() | st.builds(_item, st.sampled_from([OLD_IMAGE, NEW_IMAGE]), markers)
ROLES = ("is_local_put", "is_local_delete", "is_ignored")


@given(items, items)
def test_exactly_one_role_results(old: Item | None, new: Item | None) -> None:
    """A record is a local put, a local delete, nothing, or else an echo; never two of them."""
    found = classify(HOME, old, new)
    assert sum(getattr(found, role) for role in ROLES) <= 1
    assert found is not Nature.EXPIRED  # only the caller can tell
    assert (found in (Nature.DELETED, Nature.TAKEN_OUT)) == (new is None)


@given(items, items)
def test_an_echo_is_a_marker_that_moved_and_is_not_the_applications(
    old: Item | None, new: Item | None
) -> None:
    """Rule 1: an echo's new marker differs from the old, is no older, and no application's; what
    only stands on items that were there before creates none."""
    found = classify(HOME, old, new)
    if old is None and new is None:
        return
    is_echo = not (found.is_local_put or found.is_local_delete or found.is_ignored)
    before = old.version if old else None
    if new is None:
        assert is_echo == (before is not None and before.kind is Kind.REMOVING)
        return
    after = new.version
    by_application = after is not None and after.kind is Kind.APPLICATION
    is_moved = after is not None and after != before and order(after) >= order(before)
    copied = old is None and after is not None and after.kind in (Kind.SETTLED, Kind.REMOVING)
    assert is_echo == (is_moved and not by_application and not copied)
