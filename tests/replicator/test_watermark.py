"""What is settled: the low-water mark, whatever order things end in."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from conflict.merge import NOTHING_TO_SHIP
from conflict.origin import Change, Nature
from replicator.records import After, Finished
from replicator.tasks import DeliverTask, SetAside, SettleTask
from replicator.watermark import Watermark
from support.flows import TARGETS, FlowBench, change, shipped

# --- the low-water mark -------------------------------------------------------------------------


def test_the_position_stays_beneath_the_lowest_that_is_open() -> None:
    """Whatever order the records are settled in."""
    mark = Watermark()
    for sequence in (3, 5, 8):
        mark.add(sequence)
    positions = []
    for sequence in (8, 5, 3):
        mark.settle(sequence)
        positions.append(mark.position)
    assert positions == [None, None, After(8)]
    assert len(mark) == 0


def test_a_record_read_again_keeps_its_place() -> None:
    """One that is open stays open until each reading of it is settled."""
    mark = Watermark()
    for sequence in (1, 2, 1, 2):
        mark.add(sequence)
    positions = []
    for sequence in (2, 1, 2, 1):
        mark.settle(sequence)
        positions.append(mark.position)
    assert positions == [None, None, None, After(2)]


def test_a_settled_record_that_is_read_again_does_not_move_the_position_back() -> None:
    """It was durable everywhere, and still is."""
    mark = Watermark()
    for sequence in (1, 2):
        mark.add(sequence)
        mark.settle(sequence)
    mark.add(1)
    assert mark.position == After(2)
    mark.settle(1)
    assert mark.position == After(2)
    assert len(mark) == 0


def test_an_unknown_sequence_settles_nothing() -> None:
    """A task of an earlier time that comes late does no harm."""
    mark = Watermark()
    mark.add(1)
    mark.settle(7)
    assert mark.position is None


def test_a_shard_is_finished_when_it_has_ended_and_all_of_it_is_settled() -> None:
    """Not before the last record is."""
    bench = FlowBench(targets=())
    bench.offer(change(1))
    bench.flow.end("s")
    assert bench.flow.positions() == {}
    bench.settle(1)
    assert bench.flow.positions() == {"s": Finished()}
    bench.flow.forget("s")
    assert bench.flow.positions() == {}


def test_an_empty_shard_is_finished_at_its_end() -> None:
    """Nothing was in it."""
    bench = FlowBench()
    bench.flow.end("s")
    assert bench.flow.positions() == {"s": Finished()}


def test_what_needs_nothing_is_settled_at_once() -> None:
    """Our own stamps and records without a change move the position, but not over what is open."""
    bench = FlowBench()
    bench.offer(change(1, nature=Nature.SETTLED), change(2, nature=Nature.UNCHANGED))
    assert bench.flow.positions() == {"s": After(2)}
    bench.offer(change(3), change(4, nature=Nature.SETTLED))
    assert bench.flow.positions() == {"s": After(2)}
    assert bench.flow.unsettled == 2


def test_a_record_set_aside_is_settled() -> None:
    """It has been parked, and those before it are waited for."""
    bench = FlowBench()
    bench.offer(change(1), SetAside(2))
    assert bench.flow.positions() == {}
    bench.settle(1, NOTHING_TO_SHIP)
    assert bench.flow.positions() == {"s": After(2)}


def test_a_record_set_aside_in_the_middle_of_a_page_passes_over_nothing() -> None:
    """It is settled at once, and those around it are not."""
    bench = FlowBench(targets=())
    bench.offer(change(1), SetAside(2), change(3, "other"), SetAside(4))
    assert bench.flow.positions() == {}
    bench.settle(3)
    assert bench.flow.positions() == {}
    bench.settle(1)
    assert bench.flow.positions() == {"s": After(4)}


def test_shards_have_positions_of_their_own() -> None:
    """And fold into each other, since a key goes on in a child of its shard."""
    bench = FlowBench(targets=())
    bench.offer(change(1), change(2))
    bench.offer(change(3), shard="child")
    bench.offer(change(4), shard="child")
    bench.settle(2)
    assert bench.flow.positions() == {"s": After(2)}
    bench.settle(4)
    assert bench.flow.positions() == {"s": After(2), "child": After(4)}


# --- whatever order things end in ---------------------------------------------------------------

natures = st.sampled_from(
    [Nature.WRITTEN] * 4 + [Nature.DELETED, Nature.ARRIVED, Nature.SETTLED, Nature.EXPIRED]
)
SHIPS = {Nature.WRITTEN, Nature.DELETED}


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from("abc"), natures, st.booleans()), max_size=25), st.data())
def test_a_position_is_never_above_what_is_not_durable(
    stream: list[tuple[str, Nature, bool]], data: st.DataObject
) -> None:
    """Every record beneath a position is, or was replaced by what is, in every target."""
    bench = FlowBench()
    reached: dict[tuple[str, str], int] = defaultdict(int)  # (target, key): highest delivered
    ended: set[int] = set()  # settled at home with nothing to ship
    changes = [change(i + 1, name, nature) for i, (name, nature, _) in enumerate(stream)]
    unread = list(changes)

    def is_durable(made: Change) -> bool:
        if made.nature not in SHIPS:
            return made.nature.needs_nothing or made.sequence in ended
        return all(reached[target, made.key.id] >= made.sequence for target in TARGETS)

    while unread or bench.running:
        if unread and (not bench.running or data.draw(st.booleans())):
            page, rest = unread[:3], unread[3:]
            unread = rest
            bench.offer(*page)
        else:
            index = data.draw(st.integers(0, len(bench.running) - 1))
            task = bench.running.pop(index)
            if isinstance(task, SettleTask):
                made = task.entry.change
                if made.nature not in SHIPS:
                    ended.add(made.sequence)
                result = shipped(made) if made.nature in SHIPS else NOTHING_TO_SHIP
                bench.running += bench.flow.settled(task, result)
            elif isinstance(task, DeliverTask):
                place = (task.region, task.shipment.key.id)
                reached[place] = max(reached[place], task.shipment.version.sequence)
                bench.running += bench.flow.delivered(task)
        position = bench.flow.positions().get("s")
        if isinstance(position, After):
            assert all(is_durable(made) for made in changes if made.sequence <= position.sequence)
    bench.flow.end("s")
    assert bench.flow.unsettled == 0
    assert bench.flow.positions() == {"s": Finished()}
    assert all(bench.flow.pending(target) == (0, None) for target in TARGETS)
    assert not bench.flow._lanes


# --- what is settled at home --------------------------------------------------------------------


def at_home(bench: FlowBench) -> dict[int, bool]:
    """The changes that are being settled, and whether they are known to have been before."""
    tasks = [task for task in bench.running if isinstance(task, SettleTask)]
    return {task.entry.change.sequence: task.entry.change.again for task in tasks}


def test_the_position_at_home_runs_ahead_where_a_target_lacks_something() -> None:
    """It is told only then; else the checkpoint says as much."""
    bench = FlowBench(targets=("eu",))
    bench.offer(change(1, "a"), change(2, "b"))
    bench.settle(1)
    assert (bench.flow.positions(), bench.flow.positions_at_home()) == ({}, {"s": After(1)})
    bench.deliver("eu", 1)
    bench.settle(2, NOTHING_TO_SHIP)
    assert (bench.flow.positions(), bench.flow.positions_at_home()) == ({"s": After(2)}, {})


def test_what_an_earlier_session_settled_at_home_is_known_when_it_is_read_again() -> None:
    """Up to the position that was saved, and in a shard that was saved as finished, all of it."""
    bench = FlowBench()
    bench.flow.resume({"s": After(2), "done": Finished()})
    bench.offer(change(1, "a"), change(2, "b"), change(3, "c"))
    bench.offer(change(9, "d"), shard="done")
    bench.offer(change(4, "e"), shard="new")
    assert at_home(bench) == {1: True, 2: True, 3: False, 9: True, 4: False}


def test_what_this_session_settled_at_home_is_known_when_it_is_read_again() -> None:
    """Whether its first reading has ended by then, or the second waits behind it."""
    bench = FlowBench()
    bench.offer(change(1, "a"), change(2, "b"))
    bench.settle(1)
    bench.offer(change(1, "a"), change(2, "b"))
    assert at_home(bench) == {2: False, 1: True}
    bench.settle(2)
    assert at_home(bench) == {1: True, 2: True}
