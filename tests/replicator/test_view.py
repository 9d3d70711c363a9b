"""What of a table is replicated: what a copy holds, and which views are refused."""

from __future__ import annotations

import pytest

from conflict.operations import Item
from replicator.records import Mode
from replicator.view import WHOLE, View, contradictions, wrong_view
from replicator.where import parse_where

IMAGE = {"id": {"S": "1"}, "a": {"S": "x"}, "b": {"N": "2"}, "status": {"S": "live"}}
LIVE = parse_where("status = 'live'")


def test_a_copy_is_the_item_unless_something_is_said() -> None:
    """The very same image."""
    assert WHOLE.image(IMAGE) is IMAGE
    assert View(where=LIVE).image(IMAGE) is IMAGE
    assert View(where=parse_where("status = 'dead'")).image(IMAGE) is None


def test_attributes_are_left_out_and_renamed() -> None:
    """One that takes a name replaces another of that name; two may change places."""
    assert View(without=frozenset({"a", "none"})).image(IMAGE) == {
        name: value for name, value in IMAGE.items() if name != "a"
    }
    assert View(rename={"a": "b"}).image(IMAGE) == {
        "id": {"S": "1"},
        "b": {"S": "x"},
        "status": {"S": "live"},
    }
    swapped = View(rename={"a": "b", "b": "a"}).image(IMAGE)
    assert swapped is not None
    assert (swapped["a"], swapped["b"]) == ({"N": "2"}, {"S": "x"})


def test_the_filter_looks_at_the_original() -> None:
    """Also at what is left out or renamed."""
    view = View(where=LIVE, without=frozenset({"status"}), rename={"a": "status"})
    assert view.image(IMAGE) == {"id": {"S": "1"}, "b": {"N": "2"}, "status": {"S": "x"}}


def test_an_item_keeps_its_marker() -> None:
    """Beside whatever its copy holds."""
    item = Item(IMAGE, {"S": "marker"})
    viewed = View(without=frozenset({"a"})).item(item)
    assert viewed is not None
    assert viewed.marker == {"S": "marker"}
    assert View(where=parse_where("exists(none)")).item(item) is None
    assert WHOLE.item(None) is None


@pytest.mark.parametrize(
    ("view", "mode", "words"),
    [
        (View(where=LIVE), Mode.ONE_WAY, None),
        (View(where=parse_where("id > '5'")), Mode.MULTI_WRITER, None),
        (WHOLE, Mode.MULTI_WRITER, None),
        (View(where=LIVE), Mode.MULTI_WRITER, 'filters by "status" where every region writes'),
        (
            View(where=parse_where("id = '1' and status = 'x'")),
            Mode.MULTI_WRITER,
            'filters by "status"',
        ),
        (View(without=frozenset({"id"})), Mode.ONE_WAY, 'leaves out or renames "id", which is a'),
        (View(rename={"at": "x"}), Mode.ONE_WAY, 'renames "at", which is a key'),
        (View(rename={"x": "at"}), Mode.ONE_WAY, 'renames "at", which is a key'),
        (View(without=frozenset({"_m"})), Mode.ONE_WAY, 'names the marker "_m"'),
        (View(rename={"x": "_m"}), Mode.ONE_WAY, 'names the marker "_m"'),
        (View(where=parse_where("exists(_m)")), Mode.ONE_WAY, 'names the marker "_m"'),
    ],
)
def test_a_view_under_which_copies_could_not_be_kept_equal_is_refused(
    view: View, mode: Mode, words: str | None
) -> None:
    """By one rule, for doctor, run, the function, backfill and verify."""
    wrong = wrong_view(view, mode, "_m", ("id", "at"))
    assert (wrong is None) == (words is None)
    assert words is None or words in (wrong or "")


def test_what_is_wrong_whatever_the_keys_are() -> None:
    """Reshaping where every region writes, and settings that contradict each other."""
    reshaping = View(without=frozenset({"a"}), rename={"b": "c"})
    assert [key for key, _ in contradictions(reshaping, Mode.MULTI_WRITER)] == ["without", "rename"]
    assert not list(contradictions(reshaping, Mode.ONE_WAY))
    both = View(without=frozenset({"a"}), rename={"a": "b", "c": "b"})
    assert [key for key, _ in contradictions(both, Mode.ONE_WAY)] == ["without", "rename"]
