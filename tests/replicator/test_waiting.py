"""Parked changes and gaps, kept in the control table of a real engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import pytest

from conflict.operations import Image
from conflict.origin import Nature
from conflict.version import Kind, Version
from replicator.aws.api import Boto3Api
from replicator.control import create_control_table_request
from replicator.errors import Poison
from replicator.records import Gap, Parked, ParkedNote
from replicator.table import key_of
from replicator.waiting import Gaps, Quarantine
from support.engines import Engine
from support.scripted_api import ScriptedApi
from support.tables import unique_name

T = TypeVar("T")
IMAGE: Image = {"id": {"S": "7"}, "data": {"B": b"\x00\xff"}, "odd": {}}
GAP = Gap(
    table="orders",
    source="us-east-1",
    stream_arn="arn:aws:dynamodb:us-east-1:1:table/orders/stream/2026-01-01T00:00:00.000",
    shard="shardId-1",
    since_us=5,
    reason="trimmed",
)


def version(time_us: int) -> Version:
    """Make a version of one origin."""
    return Version(time_us, "us-east-1", 1, Kind.REPLICATED)


def parked(time_us: int, name: str = "7", **changes: Any) -> Parked:
    """Make a parked change of a key."""
    plain = Parked(
        table="orders",
        source="us-east-1",
        target="eu-west-1",
        key=key_of({"id": {"S": name}}, ("id",)),
        version=version(time_us),
        image=IMAGE,
        reason="Item size has exceeded the maximum allowed size",
        parked_us=1,
    )
    return replace(plain, **changes)


@dataclass(frozen=True, slots=True)
class Control:
    """One region's control table, and a loop for the calls to it."""

    quarantine: Quarantine
    gaps: Gaps
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def park(self, *changes: Parked) -> None:
        for change in changes:
            self.run(self.quarantine.park(change))

    def waiting(self) -> list[Parked]:
        found: list[Parked] = self.run(self.quarantine.load("orders"))
        return found


@pytest.fixture(scope="module")
def server(engine: Callable[[str], Engine]) -> Engine:
    """Give an engine that evaluates conditions."""
    return engine("ministack")


@pytest.fixture
def control(server: Engine) -> Iterator[Control]:
    """Give a fresh control table."""
    api, name = Boto3Api.open(region="eu-west-1", endpoint_url=server.endpoint_url), unique_name()
    with asyncio.Runner() as runner, closing(api):
        runner.run(api.call("CreateTable", create_control_table_request(name)))
        yield Control(
            Quarantine(api=api, control_table=name), Gaps(api=api, control_table=name), runner.run
        )


def test_a_parked_change_comes_back_verbatim(control: Control) -> None:
    """Image, key, version and reason, also an attribute value that DynamoDB would refuse."""
    control.park(parked(5))
    assert control.waiting() == [parked(5)]


def test_what_makes_a_change_again_is_kept_with_it(control: Control) -> None:
    """What it was, the marker that it carried, of any type, and its floor."""
    made = parked(5, nature=Nature.WRITTEN, marker={"B": b"\x00"}, earliest_us=4)
    control.park(made)
    assert control.waiting() == [made]


def test_a_note_says_all_but_what_a_change_holds(control: Control) -> None:
    """So that thousands of large ones are listed and counted in little memory."""
    control.park(parked(5))
    (note,) = control.run(control.quarantine.notes("orders"))
    full = parked(5)
    assert type(note) is ParkedNote
    assert all(getattr(note, f.name) == getattr(full, f.name) for f in fields(ParkedNote))
    assert control.run(control.quarantine.get(note)) == full


def test_what_is_no_longer_parked_is_not_found(control: Control) -> None:
    """Somebody else may have dealt with it since it was listed."""
    assert control.run(control.quarantine.get(parked(5))) is None


def test_a_parked_delete_has_no_image(control: Control) -> None:
    """Its key is enough to make it again."""
    control.park(parked(5, image=None))
    assert control.waiting() == [parked(5, image=None)]


def test_the_newest_change_of_a_key_is_kept(control: Control) -> None:
    """A newer one replaces an older one, never the other way, in whatever order they come."""
    control.park(parked(5), parked(7, image=None), parked(6))
    assert control.waiting() == [parked(7, image=None)]


def test_parking_again_changes_nothing(control: Control) -> None:
    """A replay finds its change parked and leaves it."""
    control.park(parked(5), parked(5, reason="again"))
    assert control.waiting() == [parked(5)]


def test_changes_wait_for_each_target_apart(control: Control) -> None:
    """What one target refuses another may have taken."""
    control.park(parked(5), parked(5, target="ap-south-1"), parked(5, name="8"))
    assert len(control.waiting()) == 3


def test_a_change_that_is_dealt_with_goes(control: Control) -> None:
    """It is taken out, unless a newer one has come in the meantime."""
    control.park(parked(5), parked(6))
    assert not control.run(control.quarantine.remove(parked(5)))
    assert control.run(control.quarantine.remove(parked(6)))
    assert control.waiting() == []


def test_an_image_that_leaves_no_room_is_left_out(control: Control) -> None:
    """The change is parked all the same, and says that its image must be read elsewhere."""
    noise = random.Random(7).randbytes(409_000)
    control.park(parked(5, image={"data": {"B": noise}}))
    assert control.waiting() == [parked(5, image=None, image_omitted=True)]


def test_many_parked_changes_are_listed(control: Control) -> None:
    """More than one page of an answer holds."""
    image = {"data": {"B": random.Random(7).randbytes(300_000)}}
    control.park(*(parked(5, name=str(number), image=image) for number in range(5)))
    assert len(control.waiting()) == 5


def test_a_refused_delete_is_not_tried_twice() -> None:
    """Where there is no image to leave out, the refusal is the caller's to see."""
    api = ScriptedApi(Poison("refused"))
    with pytest.raises(Poison):
        asyncio.run(Quarantine(api=api, control_table="c").park(parked(5, image=None)))
    assert len(api.calls) == 1


def test_each_report_of_a_gap_stands(control: Control) -> None:
    """The earliest comes first; the same report twice is one."""
    for since_us in (5, 9, 3, 9):
        control.run(control.gaps.report(replace(GAP, since_us=since_us)))
    found = control.run(control.gaps.load("orders", "us-east-1"))
    assert found == [replace(GAP, since_us=since_us) for since_us in (3, 5, 9)]


def test_a_repaired_gap_goes(control: Control) -> None:
    """It alone: what was lost on the same shard since then is still to be mended."""
    control.run(control.gaps.report(GAP))
    later = replace(GAP, since_us=GAP.since_us + 1)
    assert not control.run(control.gaps.remove(later))
    control.run(control.gaps.report(later))
    assert control.run(control.gaps.remove(GAP))
    assert control.run(control.gaps.load("orders", "us-east-1")) == [later]
