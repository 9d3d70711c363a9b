"""Lineage: parents before children, nothing dropped, nothing read twice, memory bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicator.records import After, Finished, Shard, TrimHorizon
from replicator.shards import Anomaly, AnomalyKind, Lineage

START = TrimHorizon()


def shard(name: str, parent: str | None = None, *, closed: bool = False) -> Shard:
    """A shard as a description lists it."""
    return Shard(id=name, parent=parent, closed=closed)


def lineage(*shards: Shard, checkpoints: Mapping[str, After | Finished] | None = None) -> Lineage:
    """A lineage that has seen one description."""
    made = Lineage(checkpoints or {})
    made.observe(shards)
    return made


def ready(made: Lineage) -> list[str]:
    """What may be opened, without where to start."""
    return [name for name, _ in made.ready()]


def read(made: Lineage, *names: str) -> None:
    """Open each shard and read it to its end."""
    for name in names:
        made.opened(name)
        made.ended(name)


def test_nothing_is_let_out_before_the_first_description() -> None:
    """A checkpoint alone does not say which parent its shard has to wait for."""
    assert Lineage({"a": After(5)}).ready() == []


def test_roots_start_at_trim_horizon() -> None:
    """A shard without a checkpoint is read from the oldest record it holds, never from LATEST."""
    assert lineage(shard("a"), shard("b")).ready() == [("a", START), ("b", START)]


def test_a_child_waits_until_its_parent_has_ended() -> None:
    """A child is let out when its parent was read to its end, not when that was opened."""
    made = lineage(shard("a"), shard("b", "a"), shard("c", "a"))
    assert ready(made) == ["a"]
    made.opened("a")
    assert ready(made) == []
    made.ended("a")
    assert made.ready() == [("b", START), ("c", START)]


def test_a_shard_waits_for_its_ancestors_beyond_a_finished_one() -> None:
    """One that had no records is finished, and so checkpointed, while its parent's are still being
    settled; after a restart the parent is read again, and what follows both comes after it."""
    made = lineage(shard("a"), shard("b", "a"), shard("c", "b"), checkpoints={"b": Finished()})
    assert ready(made) == ["a"]
    made.opened("a")
    assert ready(made) == []
    made.ended("a")
    assert ready(made) == ["c"]


def test_a_child_listed_before_its_parent_waits_for_it() -> None:
    """The order within a description means nothing."""
    assert ready(lineage(shard("b", "a"), shard("a"))) == ["a"]


def test_a_trimmed_parent_holds_no_child_up() -> None:
    """A parent that was never listed was trimmed away; nothing is left of it to wait for."""
    assert ready(lineage(shard("b", "trimmed"))) == ["b"]


def test_an_unlisted_shard_is_not_dropped() -> None:
    """One description that leaves an unread parent out neither drops it nor frees its child."""
    made = lineage(shard("a"), shard("b", "a"))
    made.observe([shard("b", "a")])
    assert ready(made) == ["a"]


def test_a_child_found_late_is_let_out_at_once() -> None:
    """A child first listed after its parent has ended need not wait."""
    made = lineage(shard("a"))
    read(made, "a")
    assert made.observe([shard("a", closed=True), shard("b", "a")]) == []
    assert ready(made) == ["b"]


def test_a_shard_is_let_out_once() -> None:
    """What is listed again, open or ended, is not opened again."""
    made = lineage(shard("a"), shard("b"))
    read(made, "a")
    made.opened("b")
    made.observe([shard("a"), shard("b")])
    assert ready(made) == []


def test_an_ending_sequence_number_ends_nothing() -> None:
    """A shard that is listed as closed is read like any other, and holds its children up."""
    assert ready(lineage(shard("a", closed=True), shard("b", "a"))) == ["a"]


def test_a_finished_checkpoint_is_never_read_again() -> None:
    """A re-listed shard that was finished in an earlier run counts as ended."""
    made = lineage(shard("a"), shard("b", "a"), checkpoints={"a": Finished()})
    assert ready(made) == ["b"]


def test_a_checkpoint_says_where_to_go_on() -> None:
    """A parent resumes at its checkpoint, and its child waits although it has one too."""
    made = lineage(shard("a"), shard("b", "a"), checkpoints={"b": After(9), "a": After(5)})
    assert made.ready() == [("a", After(5))]
    read(made, "a")
    assert made.ready() == [("b", After(9))]


def test_an_unlisted_checkpoint_is_asked_for_all_the_same() -> None:
    """An unfinished shard that the stream no longer lists is let out: its loss must show."""
    made = lineage(shard("b", "a"), checkpoints={"a": After(5)})
    assert made.ready() == [("a", After(5))]


def test_a_failed_reader_starts_again_where_it_is_told() -> None:
    """A reset shard is let out again, from its old start or the one given; children still wait."""
    made = lineage(shard("a"), shard("b", "a"))
    made.opened("a")
    made.reset("a")
    assert made.ready() == [("a", START)]
    made.opened("a")
    made.reset("a", After(3))
    assert made.ready() == [("a", After(3))]


def test_a_shard_that_is_its_own_parent_is_a_root() -> None:
    """A shard that names itself is read, and reported once."""
    made = Lineage({})
    wrong = Anomaly(kind=AnomalyKind.OWN_PARENT, shard="a", parent="a")
    assert made.observe([shard("a", "a")]) == [wrong]
    assert made.observe([shard("a", "a")]) == []
    assert ready(made) == ["a"]


def test_a_ring_is_broken_where_it_would_close() -> None:
    """Of shards that descend from one another the last listed is the root; none is lost."""
    made = Lineage({})
    ring = [shard("a", "c"), shard("b", "a"), shard("c", "b")]
    assert made.observe(ring) == [Anomaly(kind=AnomalyKind.RING, shard="c", parent="b")]
    for name in ("c", "a", "b"):
        assert ready(made) == [name]
        read(made, name)
        assert made.observe(reversed(ring)) == []


def test_the_first_parent_holds() -> None:
    """A shard that later names another parent goes on waiting for the first, and is reported."""
    made = lineage(shard("a"), shard("b"), shard("c", "a"))
    wrong = Anomaly(kind=AnomalyKind.PARENT_CHANGED, shard="c", parent="b")
    assert made.observe([shard("c", "b")]) == [wrong]
    read(made, "b")
    assert ready(made) == ["a"]


def test_a_parent_may_be_named_later() -> None:
    """A shard first listed without a parent waits for the one that is named before it is opened."""
    made = lineage(shard("b"), shard("a"))
    assert made.observe([shard("b", "a")]) == []
    assert ready(made) == ["a"]


def test_a_late_parent_is_read_and_reported() -> None:
    """A parent that turns up after its child was let out is not lost, but its order is."""
    made = lineage(shard("b", "a"))
    made.opened("b")
    wrong = Anomaly(kind=AnomalyKind.LATE_PARENT, shard="b", parent="a")
    assert made.observe([shard("a"), shard("b", "a")]) == [wrong]
    assert ready(made) == ["a"]


def test_a_finished_child_of_a_resumed_parent_is_no_anomaly() -> None:
    """After a restart a child may be settled before its parent; that is nothing to report."""
    made = Lineage({"a": After(5), "b": Finished()})
    assert made.observe([shard("a"), shard("b", "a")]) == []
    assert ready(made) == ["a"]


@pytest.mark.parametrize("event", ["opened", "ended", "reset"])
def test_an_event_out_of_turn_is_refused(event: str) -> None:
    """An event for a shard that is not in the state it needs is the caller's error."""
    made = lineage(shard("a"))
    read(made, "a")
    with pytest.raises(ValueError, match="shard a is ended"):
        getattr(made, event)("a")
    with pytest.raises(ValueError, match="unknown"):
        getattr(made, event)("b")


def test_a_finished_shard_survives_some_descriptions_that_omit_it() -> None:
    """A shard that was read is remembered until many answers in a row left it out."""
    made = Lineage({}, forget_after=3)
    made.observe([shard("a")])
    read(made, "a")
    for _ in range(2):
        made.observe([])
    made.observe([shard("a")])
    for _ in range(2):
        made.observe([])
    assert made.ended_shards == 1
    made.observe([])
    assert made.ended_shards == 0


def test_a_parent_of_unread_shards_is_remembered() -> None:
    """A shard that was read is not forgotten before its children were opened."""
    made = Lineage({}, forget_after=1)
    made.observe([shard("a"), shard("b", "a")])
    read(made, "a")
    made.observe([shard("b", "a")])
    assert made.ended_shards == 1
    made.opened("b")
    made.observe([shard("b", "a")])
    assert made.ended_shards == 0


def test_what_was_forgotten_is_new_when_it_comes_back() -> None:
    """Nothing is kept of a forgotten shard, not even that something was wrong with it."""
    made = Lineage({}, forget_after=1)
    first = made.observe([shard("a", "a")])
    read(made, "a")
    made.observe([])
    assert made.observe([shard("a", "a")]) == first
    assert made.ready() == [("a", START)]


def test_memory_stays_bounded_over_months_of_rotation() -> None:
    """A stream that rotates every four hours for a year leaves no more behind than it lists."""
    made = Lineage({}, forget_after=2)
    for turn in range(365 * 6):
        listed = range(max(0, turn - 6), turn + 1)
        made.observe(shard(str(n), str(n - 1)) for n in listed)
        made.observe(shard(str(n), str(n - 1)) for n in listed)
        assert ready(made) == [str(turn)]
        read(made, str(turn))
        assert made.ended_shards <= 8


def grown(rng: Random, size: int) -> list[Shard]:
    """A random forest, parents first."""
    forest: list[Shard] = []
    for n in range(size):
        parent = rng.choice([None, *(each.id for each in forest)])
        forest.append(shard(f"{n}", parent, closed=rng.random() < 0.5))
    return forest


def described(rng: Random, forest: list[Shard], *, whole: bool) -> list[Shard]:
    """Some of the shards in any order; `whole`: what lists a child lists its parent."""
    listed: dict[str | None, Shard] = {}
    for each in forest:
        known = not whole or each.parent is None or each.parent in listed
        if known and rng.random() < 0.7:
            listed[each.id] = each
    return rng.sample(list(listed.values()), len(listed))


@dataclass
class Walk:
    """A random life of a forest: descriptions, openings and ends in any order that may happen."""

    rng: Random
    forest: list[Shard]
    whole: bool
    opened: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    early: set[str] = field(default_factory=set)
    anomalies: list[Anomaly] = field(default_factory=list)

    def live(self) -> None:
        """Until all has been described and read; a shard that is `early` came before its parent."""
        made = Lineage({})
        while len(self.ended) < len(self.forest):
            if self.rng.random() < 0.3:
                seen = described(self.rng, self.forest, whole=self.whole)
                self.anomalies += made.observe(seen)
            elif (due := ready(made)) and self.rng.random() < 0.5:
                self.open(made, self.rng.choice(due))
            elif reading := [name for name in self.opened if name not in self.ended]:
                self.ended.append(self.rng.choice(reading))
                made.ended(self.ended[-1])
        self.anomalies += made.observe(self.forest)
        assert ready(made) == []

    def open(self, made: Lineage, name: str) -> None:
        parent = next(each.parent for each in self.forest if each.id == name)
        if parent is not None and parent not in self.ended:
            self.early.add(name)
        self.opened.append(name)
        made.opened(name)


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 12))
def test_every_shard_is_opened_once_after_its_parent(seed: int, size: int) -> None:
    """Whatever descriptions say in whatever order, if they list no child without its parent."""
    rng = Random(seed)
    walk = Walk(rng, grown(rng, size), whole=True)
    walk.live()
    assert sorted(walk.opened) == sorted(each.id for each in walk.forest)
    assert not walk.early
    assert not walk.anomalies


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 12))
def test_no_description_drops_a_shard(seed: int, size: int) -> None:
    """Where a parent was unknown when its child was opened, both are read and that is reported."""
    rng = Random(seed)
    walk = Walk(rng, grown(rng, size), whole=False)
    walk.live()
    assert sorted(walk.opened) == sorted(each.id for each in walk.forest)
    assert {wrong.shard for wrong in walk.anomalies} <= walk.early
    assert {wrong.kind for wrong in walk.anomalies} <= {AnomalyKind.LATE_PARENT}


@given(parents=st.lists(st.integers(0, 9) | st.none(), min_size=10, max_size=10), data=st.data())
def test_no_graph_hangs(parents: list[int | None], data: st.DataObject) -> None:
    """Rings and self-parents in any number, listed in any order: every shard is read once."""
    graph = [shard(f"{n}", None if p is None else f"{p}") for n, p in enumerate(parents)]
    made = lineage(*data.draw(st.permutations(graph)))
    opened: list[str] = []
    while due := ready(made):
        opened += due
        read(made, *due)
        made.observe(data.draw(st.permutations(graph)))
    assert sorted(opened) == sorted(each.id for each in graph)
