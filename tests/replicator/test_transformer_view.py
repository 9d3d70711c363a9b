"""A record as the copies see it: what was not and is not replicated has not changed there."""

from __future__ import annotations

import pytest

from conflict.operations import Image, Key
from conflict.origin import Change, Nature
from replicator.records import EventName, Mode, Record
from replicator.transformer import Transformer
from replicator.view import View
from replicator.where import parse_where

KEYS: Image = {"id": {"S": "1"}}
LIVE: Image = {**KEYS, "status": {"S": "live"}, "secret": {"N": "1"}, "a": {"N": "1"}}
LIVE_SECRET: Image = {**LIVE, "secret": {"N": "2"}}
LIVE_LATER: Image = {**LIVE, "a": {"N": "2"}}
DEAD: Image = {**KEYS, "status": {"S": "dead"}}
VIEW = View(where=parse_where("status = 'live'"), without=frozenset({"secret"}))


def _changed(
    event: EventName, old: Image | None, new: Image | None, *, view: View, mode: Mode
) -> Change:
    transformer = Transformer(
        home="us",
        mode=mode,
        marker="_m",
        key_of=lambda keys: Key(keys, str(keys["id"]["S"])),
        view=view,
    )
    made = Record(sequence=5, created_us=10, event=event, keys=KEYS, old=old, new=new)
    return transformer.change(made, 1_000)


INSERT, MODIFY, REMOVE = EventName.INSERT, EventName.MODIFY, EventName.REMOVE


@pytest.mark.parametrize(
    ("event", "old", "new", "nature", "fresh"),
    [
        (INSERT, None, LIVE, Nature.WRITTEN, True),
        (INSERT, None, DEAD, Nature.UNCHANGED, True),
        (MODIFY, LIVE, LIVE_LATER, Nature.WRITTEN, False),
        (MODIFY, LIVE, LIVE_SECRET, Nature.UNCHANGED, False),
        (MODIFY, LIVE, DEAD, Nature.DELETED, False),
        (MODIFY, DEAD, LIVE, Nature.WRITTEN, True),
        (MODIFY, DEAD, {**DEAD, "a": {"N": "1"}}, Nature.UNCHANGED, True),
        (REMOVE, LIVE, None, Nature.DELETED, False),
        (REMOVE, DEAD, None, Nature.UNCHANGED, True),
        # a stream that leaves out old images: what is not known may stand in the copies
        (MODIFY, None, DEAD, Nature.DELETED, False),
        (MODIFY, None, LIVE, Nature.WRITTEN, False),
        (REMOVE, None, None, Nature.DELETED, False),
        # one that leaves out new ones: the table is read, through the same view
        (MODIFY, LIVE, None, Nature.WRITTEN, False),
        (MODIFY, None, None, Nature.WRITTEN, False),
    ],
)
def test_what_a_record_is_to_the_copies_of_a_source(
    event: EventName, old: Image | None, new: Image | None, nature: Nature, *, fresh: bool
) -> None:
    """An item that is not meant any more is deleted there, one that comes to be meant is made."""
    change = _changed(event, old, new, view=VIEW, mode=Mode.ONE_WAY)
    assert (change.nature, change.fresh) == (nature, fresh)
    assert change.new is None or "secret" not in change.new.image


@pytest.mark.parametrize("event", [INSERT, MODIFY, REMOVE])
@pytest.mark.parametrize("meant", [True, False])
def test_where_every_region_writes_keys_decide(event: EventName, *, meant: bool) -> None:
    """A key that is not meant is nobody's business, whatever happens to its item."""
    view = View(where=parse_where("id = '1'" if meant else "id = '2'"))
    old = None if event is INSERT else LIVE
    new = None if event is REMOVE else LIVE_LATER
    change = _changed(event, old, new, view=view, mode=Mode.MULTI_WRITER)
    plain = _changed(event, old, new, view=View(), mode=Mode.MULTI_WRITER)
    assert change.nature is (plain.nature if meant else Nature.UNCHANGED)
