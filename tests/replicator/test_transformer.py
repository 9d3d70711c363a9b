"""From a stream record to a change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conflict.operations import Image, Key
from conflict.origin import Change, Nature
from conflict.version import Kind, Version
from replicator.errors import Fatal, Poison
from replicator.records import EventName, Mode, Record, TtlDeletes
from replicator.transformer import Transformer, fold, folds_into

NOW_US = 1_000_000
BOUND_US = 500
KEYS: Image = {"id": {"S": "1"}}
STAMP = Version(900_000, "eu", 7, Kind.REPLICATED)


def image(content: str, marker: Version | None = None) -> Image:
    """An image as the stream tells it, the marker inside."""
    whole = {**KEYS, "content": {"S": content}}
    return {**whole, "_m": {"S": marker.text}} if marker else whole


def record(event: EventName | None, old: Image | None, new: Image | None) -> Record:
    """A record."""
    return Record(sequence=5, created_us=NOW_US - 10, event=event, keys=KEYS, old=old, new=new)


INSERT = record(EventName.INSERT, None, image("new"))
MODIFY = record(EventName.MODIFY, image("old"), image("new"))
REMOVE = record(EventName.REMOVE, image("old"), None)


def changed(
    made: Record,
    *,
    mode: Mode = Mode.MULTI_WRITER,
    ttl_deletes: TtlDeletes = TtlDeletes.REPLICATE,
    now_us: int = NOW_US,
) -> Change:
    """What a record means."""
    transformer = Transformer(
        home="us",
        mode=mode,
        marker="_m",
        key_of=lambda keys: Key(keys, str(keys["id"]["S"])),
        ttl_deletes=ttl_deletes,
        future_bound_us=BOUND_US,
    )
    return transformer.change(made, now_us)


def test_the_marker_is_taken_out_of_the_image() -> None:
    """Images and markers travel apart; nothing else in an image is touched."""
    change = changed(record(EventName.MODIFY, image("old"), image("new", STAMP)))
    assert change.new is not None
    assert change.new.image == image("new")
    assert change.new.marker == {"S": STAMP.text}
    assert change.old is not None
    assert change.old.marker is None


def test_an_image_is_never_changed_in_place() -> None:
    """The record still says what it said."""
    whole = image("new", STAMP)
    before = dict(whole)
    changed(record(EventName.INSERT, None, whole))
    assert whole == before


def test_a_change_has_the_records_key_sequence_and_time() -> None:
    """And tells whether the write created the item."""
    change = changed(MODIFY)
    assert (change.key.id, change.sequence, change.created_us) == ("1", 5, NOW_US - 10)
    assert not change.fresh
    assert changed(INSERT).fresh


@pytest.mark.parametrize(("ahead_us", "kept_us"), [(0, 0), (500, 500), (501, 500), (10**9, 500)])
def test_a_time_beyond_the_bound_is_clamped(ahead_us: int, kept_us: int) -> None:
    """A clock far ahead does not win over everybody for as long as it is."""
    made = replace(MODIFY, created_us=NOW_US + ahead_us)
    assert changed(made).created_us == NOW_US + kept_us


def test_an_applications_stamp_beyond_the_bound_is_no_stamp() -> None:
    """The write counts as one that carries no version. The bound is counted from its own time."""
    near = Version(INSERT.created_us + BOUND_US, "us", 1, Kind.APPLICATION)
    far = replace(near, time_us=near.time_us + 1)
    assert changed(record(EventName.INSERT, None, image("n", near))).nature is Nature.STAMPED
    doubted = changed(record(EventName.INSERT, None, image("n", far)))
    assert doubted.nature is Nature.WRITTEN
    assert doubted.new is not None
    assert (doubted.new.version, doubted.new.marker) == (None, {"S": far.text})


@pytest.mark.parametrize("ahead_us", [BOUND_US, BOUND_US + 1])
def test_a_record_that_is_read_again_later_means_what_it_meant(ahead_us: int) -> None:
    """A replay believes a stamp as little as the first reading did."""
    stamp = Version(INSERT.created_us + ahead_us, "us", 1, Kind.APPLICATION)
    made = record(EventName.INSERT, None, image("n", stamp))
    assert changed(made, now_us=NOW_US + 10**9) == changed(made)


def test_both_images_are_judged() -> None:
    """A stamp that is not believed is no version that the next write overwrote."""
    far = Version(NOW_US + BOUND_US + 1, "us", 1, Kind.APPLICATION)
    change = changed(record(EventName.MODIFY, image("old", far), image("new", STAMP)))
    assert change.nature is Nature.ARRIVED
    assert change.old is not None
    assert change.old.doubted


@pytest.mark.parametrize(
    ("made", "nature"),
    [
        (INSERT, Nature.WRITTEN),
        (MODIFY, Nature.WRITTEN),
        (REMOVE, Nature.DELETED),
        (record(EventName.MODIFY, image("old"), image("old")), Nature.UNCHANGED),
        (record(EventName.MODIFY, image("old"), image("new", STAMP)), Nature.ARRIVED),
        (record(None, image("old"), None), Nature.DELETED),
        (record(None, image("old"), image("new")), Nature.WRITTEN),
    ],
)
def test_where_every_region_writes_images_decide(made: Record, nature: Nature) -> None:
    """Even under an event name that this version does not know."""
    assert changed(made).nature is nature


@pytest.mark.parametrize(
    ("made", "nature"),
    [
        (record(EventName.INSERT, None, None), Nature.WRITTEN),
        (record(EventName.MODIFY, None, None), Nature.WRITTEN),
        (record(EventName.MODIFY, image("old"), None), Nature.WRITTEN),
        (record(EventName.MODIFY, None, image("new")), Nature.WRITTEN),
        (record(EventName.MODIFY, image("old"), image("new", STAMP)), Nature.WRITTEN),
        (record(EventName.MODIFY, image("old"), image("old")), Nature.UNCHANGED),
        (record(EventName.REMOVE, None, None), Nature.DELETED),
        (record(EventName.REMOVE, image("old", STAMP), None), Nature.DELETED),
        (record(None, image("old"), None), Nature.DELETED),
        (record(None, None, image("new")), Nature.WRITTEN),
    ],
)
def test_where_one_region_writes_nothing_is_an_echo(made: Record, nature: Nature) -> None:
    """All four view types: the event decides where the stream leaves images out."""
    assert changed(made, mode=Mode.ONE_WAY).nature is nature


def test_where_one_region_writes_a_marker_in_the_source_is_nobodys() -> None:
    """It is left out of the image, and says nothing."""
    change = changed(record(EventName.INSERT, None, image("new", STAMP)), mode=Mode.ONE_WAY)
    assert change.new is not None
    assert (change.new.image, change.new.marker) == (image("new"), None)


@pytest.mark.parametrize("mode", Mode)
def test_a_record_that_says_nothing_is_poison(mode: Mode) -> None:
    """Neither images nor a known event: it is parked, not guessed at."""
    with pytest.raises(Poison):
        changed(record(None, None, None), mode=mode)


@pytest.mark.parametrize("event", [EventName.INSERT, EventName.MODIFY])
@pytest.mark.parametrize("old", [None, image("old")])
def test_where_every_region_writes_a_write_without_its_image_is_fatal(
    event: EventName, old: Image | None
) -> None:
    """The stream leaves images out: taken for a delete, the write would destroy what it wrote."""
    with pytest.raises(Fatal, match="NEW_AND_OLD_IMAGES"):
        changed(record(event, old, None))


@pytest.mark.parametrize(
    ("mode", "ttl_deletes", "nature"),
    [
        (Mode.MULTI_WRITER, TtlDeletes.REPLICATE, Nature.DELETED),
        (Mode.MULTI_WRITER, TtlDeletes.IGNORE, Nature.EXPIRED),
        (Mode.ONE_WAY, TtlDeletes.REPLICATE, Nature.DELETED),
        (Mode.ONE_WAY, TtlDeletes.IGNORE, Nature.UNCHANGED),
    ],
)
def test_deletes_by_time_to_live_are_the_configurations_matter(
    mode: Mode, ttl_deletes: TtlDeletes, nature: Nature
) -> None:
    """Replicated, or left to each region's own time-to-live."""
    made = replace(REMOVE, ttl=True)
    assert changed(made, mode=mode, ttl_deletes=ttl_deletes).nature is nature
    assert changed(REMOVE, mode=mode, ttl_deletes=ttl_deletes).nature is Nature.DELETED


# --- folding ------------------------------------------------------------------------------------


def test_local_puts_fold_and_nothing_else_does() -> None:
    """A delete settles what was held, an echo never replaces a local write, and no record that is
    read again replaces a later one."""
    change = changed(MODIFY)
    for earlier in Nature:
        for later in Nature:
            both = earlier.is_local_put and later.is_local_put
            pair = replace(change, nature=earlier), replace(change, nature=later, sequence=6)
            assert folds_into(*pair) == both
            assert not folds_into(*reversed(pair))


def test_folding_keeps_the_later_content_and_what_the_earlier_had_seen() -> None:
    """Its time, at the least; base and freshness are the first one's."""
    earlier = changed(record(EventName.MODIFY, image("a", STAMP), image("b", STAMP)))
    folded = fold(earlier, replace(changed(INSERT), sequence=6))
    assert folded.sequence == 6
    assert folded.new == changed(INSERT).new
    assert folded.earliest_us == earlier.created_us
    assert folded.base == STAMP
    assert not folded.fresh


def test_a_stamp_that_is_not_believed_is_followed_at_any_time() -> None:
    """An application's clock far ahead lifts nobody's version."""
    far = Version(NOW_US + 10**9, "us", 1, Kind.APPLICATION)
    earlier = changed(record(EventName.INSERT, None, image("a", far)))
    assert fold(earlier, changed(MODIFY)).earliest_us == earlier.created_us


def test_folding_one_after_the_other_keeps_the_first_base_and_the_highest_time() -> None:
    """However many fold."""
    high = Version(NOW_US + 5, "eu", 9, Kind.REPLICATED)
    first = changed(record(EventName.MODIFY, image("a", STAMP), image("b")))
    second = changed(record(EventName.MODIFY, image("b"), image("c", high)))
    folded = fold(fold(first, second), changed(MODIFY))
    assert (folded.base, folded.earliest_us) == (STAMP, high.time_us + 1)
