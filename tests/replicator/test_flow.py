"""Which step runs when: one change in flight per key, and what each target still needs."""

from __future__ import annotations

import pytest

from conflict.merge import NOTHING_TO_SHIP, Delivery, Effect, Settlement, Shipment, is_conflict
from conflict.operations import Item
from conflict.origin import Nature
from conflict.version import Kind, Version
from replicator.flow import Flow
from replicator.records import After, Mode
from replicator.tasks import DeliverTask, ReleaseTask, SettleTask, Task
from support.flows import TARGETS, FlowBench, change, key, shipped
from support.scenes import KEY, World, at, change_of, image, item

# --- at home ------------------------------------------------------------------------------------


def test_one_change_of_a_key_is_in_flight_at_home() -> None:
    """Others of the key wait, other keys do not."""
    bench = FlowBench()
    bench.offer(change(1), change(2, "other"), change(3, nature=Nature.DELETED))
    assert bench.settling == [1, 2]
    bench.settle(1, NOTHING_TO_SHIP)
    assert bench.settling == [2, 3]


def test_a_whole_page_folds_before_anything_starts() -> None:
    """Of the local puts of a key in one page only the newest is worked on."""
    bench = FlowBench()
    bench.offer(change(1), change(2), change(3))
    assert bench.settling == [3]
    assert bench.flow.coalesced == 2


def test_what_runs_is_not_folded_any_more() -> None:
    """A later change of the key waits for it, and those after fold into that."""
    bench = FlowBench()
    bench.offer(change(1))
    bench.offer(change(2))
    bench.offer(change(3))
    assert bench.settling == [1]
    bench.settle(1, NOTHING_TO_SHIP)
    assert bench.settling == [3]


@pytest.mark.parametrize("nature", [Nature.DELETED, Nature.ARRIVED, Nature.TAKEN_OUT])
def test_only_local_puts_fold(nature: Nature) -> None:
    """A delete settles what was held, and an echo never replaces a local write."""
    bench = FlowBench()
    bench.offer(change(1), change(2, nature=nature), change(3), change(4))
    assert bench.settling == [1]
    bench.settle(1, NOTHING_TO_SHIP)
    assert bench.settling == [2]
    bench.settle(2, NOTHING_TO_SHIP)
    assert bench.settling == [4]


def test_an_older_record_that_is_read_again_replaces_no_newer_one() -> None:
    """Folding goes forward only, so no record is settled by the one before it."""
    bench = FlowBench(targets=())
    bench.offer(change(1))
    bench.offer(change(2), change(3))
    bench.offer(change(2))  # read again, without the third
    bench.settle(1)
    assert bench.settling == [3]


def test_a_folded_change_knows_what_those_before_it_had_seen() -> None:
    """The earliest time after it all, and the version that the first of them overwrote."""
    first_seen, later_seen = (
        Version(70, "eu", 1, Kind.REPLICATED),
        Version(50, "eu", 2, Kind.SETTLED),
    )
    bench = FlowBench()
    bench.offer(change(1, old=first_seen), change(2, old=later_seen), change(3))
    (task,) = bench.running
    assert isinstance(task, SettleTask)
    assert task.entry.change.sequence == 3
    assert task.entry.change.earliest_us == 71
    assert task.entry.change.base == first_seen


def test_a_replaced_record_is_settled_only_with_its_successor() -> None:
    """The position stays beneath all of them until the newest is in every target."""
    bench = FlowBench()
    bench.offer(change(1), change(2), change(3))
    bench.settle(3)
    bench.deliver("eu", 3)
    assert bench.flow.positions() == {}
    assert bench.flow.unsettled == 3
    bench.deliver("ap", 3)
    assert bench.flow.positions() == {"s": After(3)}
    assert bench.flow.unsettled == 0


def test_a_held_write_is_released_before_its_record_is_settled() -> None:
    """The release is durable before the position moves."""
    bench = FlowBench()
    bench.offer(change(1))
    bench.settle(1, shipped(change(1), release=True))
    bench.deliver("eu", 1)
    bench.deliver("ap", 1)
    assert bench.flow.positions() == {}
    (task,) = bench.running
    assert isinstance(task, ReleaseTask)
    assert bench.flow.released(task) == []
    assert bench.flow.positions() == {"s": After(1)}


def test_a_release_without_a_shipment_is_waited_for_as_well() -> None:
    """An expiry ships nothing and may have decided what was held."""
    bench = FlowBench()
    bench.offer(change(1))
    bench.settle(1, Settlement(release=True))
    assert bench.flow.positions() == {}
    assert isinstance(bench.running[0], ReleaseTask)


def test_without_targets_a_settled_change_is_settled() -> None:
    """There is nowhere to ship to."""
    bench = FlowBench(targets=())
    bench.offer(change(1))
    bench.settle(1)
    assert bench.running == []
    assert bench.flow.positions() == {"s": After(1)}


# --- on the links -------------------------------------------------------------------------------


def test_a_slow_target_delays_only_itself() -> None:
    """Each target takes the changes of a key one at a time, on its own."""
    bench = FlowBench()
    bench.offer(change(1))
    bench.settle(1)
    bench.deliver("eu", 1)
    bench.offer(change(2))
    bench.settle(2)
    assert bench.delivering("eu") == [2]
    assert bench.delivering("ap") == [1]


def test_of_those_that_wait_for_a_target_only_the_newest_is_sent() -> None:
    """What it replaces is settled when it is."""
    bench = FlowBench(targets=("eu",))
    for sequence in (1, 2, 3):
        bench.offer(change(sequence))
        bench.settle(sequence)
    assert bench.delivering("eu") == [1]
    assert bench.flow.pending("eu") == (2, 1)
    bench.deliver("eu", 1)
    assert bench.flow.positions() == {"s": After(1)}
    assert bench.delivering("eu") == [3]
    bench.deliver("eu", 3)
    assert bench.flow.positions() == {"s": After(3)}
    assert bench.flow.pending("eu") == (0, None)


@pytest.mark.parametrize(("mode", "newest"), [(Mode.MULTI_WRITER, 2), (Mode.ONE_WAY, 3)])
def test_which_of_two_is_the_newest_is_the_modes_rule(mode: Mode, newest: int) -> None:
    """Times decide, or where one region writes, sequences at no earlier a time."""
    bench = FlowBench(targets=("eu",), mode=mode)
    for sequence, time_us in ((1, 5), (2, 9), (3, 1)):
        bench.offer(change(sequence))
        version = Version(time_us, "us", sequence, Kind.REPLICATED)
        bench.settle(sequence, Settlement(Shipment(key("k"), version, None, 1)))
    bench.deliver("eu", 1)
    (task,) = bench.running
    assert isinstance(task, DeliverTask)
    assert (task.shipment.version.sequence, task.shipment.version.time_us) == (newest, 9)


@pytest.mark.parametrize("targets", [("eu",), TARGETS])
def test_what_waits_at_home_is_pending_for_every_target(targets: tuple[str, ...]) -> None:
    """Read and not applied is behind, wherever it is stuck."""
    bench = FlowBench(targets=targets)
    bench.offer(change(7))
    bench.offer(change(8, nature=Nature.DELETED), change(9, "other"))
    assert [bench.flow.pending(target) for target in targets] == [(3, 7)] * len(targets)
    bench.settle(7, NOTHING_TO_SHIP)
    assert [bench.flow.pending(target) for target in targets] == [(2, 8)] * len(targets)


def test_what_is_under_way_to_one_target_is_pending_there_alone() -> None:
    """The age is that of the oldest, on its way or behind it."""
    bench = FlowBench()
    for sequence in (3, 5, 6):
        bench.offer(change(sequence))
        bench.settle(sequence)
    bench.deliver("ap", 3)
    assert bench.flow.pending("eu") == (2, 3)
    assert bench.flow.pending("ap") == (1, 5)


def test_what_the_author_of_a_coalesced_write_had_seen_is_no_conflict() -> None:
    """A shipment that replaces a waiting one knows what that one had overwritten."""
    flow = Flow(home="us", targets=("eu",), mode=Mode.MULTI_WRITER)
    theirs = at(15, "eu", 3)
    world = World("us", "eu")
    deliveries: list[Task] = []
    for number in range(3):  # the first is on its way, slowly, when theirs arrives at home
        if number == 1:
            world.write("us", item("theirs", theirs), now_us=19)
        standing = world["us"].items.get(KEY.id)
        written = Item(image(str(number)), standing.marker if standing else None)
        record = world.write("us", written, now_us=18 + number)
        for task in flow.offer("s", [change_of("us", record)]):
            assert isinstance(task, SettleTask)
            deliveries += flow.settled(task, world.run(task.start()))
    (first,) = deliveries
    assert isinstance(first, DeliverTask)
    (last,) = flow.delivered(first)
    assert isinstance(last, DeliverTask)
    assert last.shipment.item is not None
    assert last.shipment.item.image == image("2")
    assert not is_conflict(last.shipment, Delivery(Effect.APPLIED, theirs))


@pytest.mark.parametrize("station", ["settle", "deliver", "release"])
def test_a_parked_task_holds_up_nothing(station: str) -> None:
    """Its record is settled as if it had been done."""
    bench = FlowBench(targets=("eu",))
    bench.offer(change(1))
    if station != "settle":
        bench.settle(1, shipped(change(1), release=station == "release"))
    if station == "release":
        bench.deliver("eu", 1)
    (task,) = bench.running
    assert bench.flow.parked(task) == []
    assert bench.flow.positions() == {"s": After(1)}


def test_a_parked_task_makes_room_for_the_next_of_its_key() -> None:
    """At home and on a link."""
    bench = FlowBench(targets=("eu",))
    bench.offer(change(1))
    bench.offer(change(2, nature=Nature.DELETED))
    (parked,) = bench.running
    bench.running = bench.flow.parked(parked)
    assert bench.settling == [2]
