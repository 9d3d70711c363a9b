"""The version: its order, its text, and the clock rule."""

from __future__ import annotations

import re
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conflict.version import (
    LOWEST,
    ORIGIN_PATTERN,
    SEQUENCE_DIGITS_MAX,
    TIME_DIGITS,
    Kind,
    Version,
    after_own,
    earliest_after,
    earliest_beside,
    local_version,
    order,
    parse,
)

ORIGIN_LETTERS = string.ascii_letters + string.digits
NEAR = ["us", "us-1", "us-1a", "us.1", "us_1", "us1", "u", "US", "usa", "0", "z"]
"""Origins of which many begin with another."""

origins = st.sampled_from(NEAR) | st.builds(
    str.__add__,
    st.sampled_from(ORIGIN_LETTERS),
    st.text(ORIGIN_LETTERS + "._-", max_size=63),
)
digits = st.integers(min_value=1, max_value=SEQUENCE_DIGITS_MAX)
sequences = st.integers(0, 20) | digits.flatmap(
    lambda length: st.integers(10 ** (length - 1), 10**length - 1)
)
times = st.integers(0, 3) | st.integers(0, 10**TIME_DIGITS - 1)
kinds = st.sampled_from(Kind)
versions = st.builds(Version, times, origins, sequences, kinds)


def with_order_near(version: Version) -> st.SearchStrategy[Version]:
    """Versions that share most of an order, so that every part of it comes to decide."""
    return st.builds(
        Version,
        st.just(version.time_us) | times,
        st.just(version.origin) | origins,
        st.just(version.sequence) | sequences,
        kinds,
    )


pairs = versions.flatmap(lambda one: st.tuples(st.just(one), with_order_near(one)))
VERSION = Version(1_700_000_000_000_000, "eu-west-1", 120, Kind.SETTLED)


@given(pairs)
def test_texts_sort_as_orders_do(pair: tuple[Version, Version]) -> None:
    """A text is less than another exactly where its order is, or where only the kind differs."""
    one, other = pair
    if one.order == other.order:
        assert one.order_text == other.order_text
    else:
        assert (one.text < other.text) == (one.order < other.order)
        assert (one.order_text < other.order_text) == (one.order < other.order)


@given(pairs)
def test_a_marker_is_less_than_an_order_text_exactly_if_its_order_is_lower(
    pair: tuple[Version, Version],
) -> None:
    """`marker < :order` is the comparison of orders, so an equal is never overwritten."""
    standing, incoming = pair
    assert (standing.text < incoming.order_text) == (standing.order < incoming.order)


@given(versions, kinds)
def test_an_order_text_is_not_above_any_text_of_that_order(version: Version, kind: Kind) -> None:
    """Whatever the kind, a text begins with the text of its order, and goes on."""
    assert version.of_kind(kind).text.startswith(version.order_text)
    assert version.order_text < version.of_kind(kind).text


@given(pairs)
def test_bytes_sort_as_texts_do(pair: tuple[Version, Version]) -> None:
    """DynamoDB compares UTF-8 bytes, Python code points; on texts of versions they agree."""
    one, other = pair
    assert (one.text < other.text) == (one.text.encode() < other.text.encode())


@given(versions)
def test_a_text_states_its_version(version: Version) -> None:
    """What was written is read back."""
    assert parse(version.text) == version


@given(versions, st.data())
def test_a_changed_text_states_nothing_or_writes_itself_again(
    version: Version, data: st.DataObject
) -> None:
    """There is one text for one version: whatever is read at all is written the same way."""
    text = version.text
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 2))
    put_in = data.draw(
        st.sampled_from(["", "0", "00", "9", "#", "a", "x", "A", "\n", " ", "\u0663", "é"])
    )
    changed = text[:at] + put_in + text[at + cut :]
    read = parse(changed)
    assert read is None or read.text == changed


@given(st.text(max_size=80))
def test_any_text_is_read_without_an_error(text: str) -> None:
    """A marker is data that an application may have written."""
    read = parse(text)
    assert read is None or read.text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        VERSION.order_text,
        VERSION.text + "\n",
        "\n" + VERSION.text,
        VERSION.text + " ",
        VERSION.text.upper(),
        VERSION.text[:-1] + "S",
        VERSION.text[:-1] + "b",
        VERSION.text[1:],
        "0" + VERSION.text,
        VERSION.text.replace("1700", "\u0661700", 1),
        VERSION.text.replace("03120", "040120"),
        VERSION.text.replace("03120", "02120"),
        VERSION.text.replace("03120", "3120"),
        VERSION.text.replace("03120", "03012"),
        VERSION.text.replace("03120", "00"),
        VERSION.text.replace("03120", "0200"),
        VERSION.text.replace("03120", "03\u066120"),
        VERSION.text.replace("03120", "03-12"),
        VERSION.text.replace("03120", "41" + "1" * 41),
        VERSION.text.replace("eu-west-1", ""),
        VERSION.text.replace("eu-west-1", "-eu"),
        VERSION.text.replace("eu-west-1", "eu west"),
        VERSION.text.replace("eu-west-1", "eu#west"),
        VERSION.text.replace("eu-west-1", "é"),
        VERSION.text.replace("eu-west-1", "e" * 65),
        VERSION.text.replace("#", "/"),
    ],
)
def test_anything_but_the_exact_form_is_no_version(text: str) -> None:
    """A marker that no replicator could have written counts as none."""
    assert text != VERSION.text
    assert parse(text) is None


def test_the_largest_of_everything_is_read_back() -> None:
    """Sixteen digits of time, 64 letters of origin and 40 digits of sequence fit."""
    largest = Version(10**TIME_DIGITS - 1, "z" * 64, 10**SEQUENCE_DIGITS_MAX - 1, Kind.REMOVING)
    assert parse(largest.text) == largest


def test_a_separator_sorts_below_all_that_a_name_may_hold() -> None:
    """That is what keeps a name below the longer ones that begin with it."""
    allowed = [chr(code) for code in range(128) if re.fullmatch(ORIGIN_PATTERN, "a" + chr(code))]
    assert all(letter > "#" for letter in allowed)


@given(versions)
def test_what_carries_no_version_is_below_every_version(version: Version) -> None:
    """Nothing is the lowest."""
    assert order(None) == LOWEST < order(version)


@given(versions, kinds)
def test_the_kind_takes_no_part_in_the_order(version: Version, kind: Kind) -> None:
    """A role says who wrote a marker, not when."""
    assert version.of_kind(kind).order == version.order
    assert version.of_kind(kind).kind is kind


def test_a_local_write_is_later_than_another_regions_settled_marker() -> None:
    """No replicator brings such, but an application that copies items between regions may."""
    copied = Version(5, "us", 3, Kind.SETTLED)
    version = local_version(
        created_us=5,
        earliest_us=earliest_after(copied),
        origin="eu",
        sequence=7,
        kind=Kind.SETTLED,
    )
    assert version.order > copied.order


@given(times, st.none() | versions)
def test_a_local_write_is_later_than_what_it_overwrote(
    created_us: int, overwritten: Version | None
) -> None:
    """The clock rule: the record's time, or the first after what it has seen, if that is later."""
    earliest_us = earliest_after(overwritten)
    version = local_version(
        created_us=created_us, earliest_us=earliest_us, origin="us", sequence=7, kind=Kind.SETTLED
    )
    assert version.time_us == max(created_us, earliest_us)
    assert version.order > order(overwritten)
    assert (version.origin, version.sequence, version.kind) == ("us", 7, Kind.SETTLED)


@given(times, st.integers(0, 6))
def test_writes_of_one_moment_are_not_pushed_ahead_of_the_clock(
    time_us: int, sequence: int
) -> None:
    """What the region settled for an earlier record is followed at the same time: sequences decide;
    everything else at the next microsecond."""
    settled = Version(time_us, "us", sequence, Kind.SETTLED)
    assert earliest_beside(settled, 7) == time_us
    assert earliest_beside(replace(settled, sequence=7), 7) == time_us + 1
    assert earliest_beside(replace(settled, sequence=8), 7) == time_us + 1
    for kind in (Kind.APPLICATION, Kind.REPLICATED, Kind.REMOVING):
        assert earliest_beside(settled.of_kind(kind), 7) == time_us + 1


def test_over_nothing_any_time_will_do() -> None:
    """Where nothing was seen the record's own time decides."""
    assert earliest_after(None) == -1
    assert earliest_beside(None, 7) == -1


@given(pairs)
def test_an_own_later_write_is_no_earlier_than_the_one_before(
    pair: tuple[Version, Version],
) -> None:
    """Of one origin the higher sequence wins, at the time of the standing one if need be."""
    version, standing = pair
    lifted = after_own(version, standing)
    if standing.origin == version.origin and standing.sequence < version.sequence:
        assert lifted.order > standing.order
        assert lifted.time_us == max(version.time_us, standing.time_us)
    else:
        assert lifted == version
    assert (lifted.origin, lifted.sequence, lifted.kind) == (
        version.origin,
        version.sequence,
        version.kind,
    )


@given(versions)
def test_over_nothing_an_own_write_stays_as_it_is(version: Version) -> None:
    """Where nothing stands there is no floor."""
    assert after_own(version, None) == version


@given(versions, times)
def test_lifting_never_lowers(version: Version, floor_us: int) -> None:
    """A write is moved to a floor above it, and left alone otherwise."""
    assert version.lifted(floor_us).time_us == max(version.time_us, floor_us)
