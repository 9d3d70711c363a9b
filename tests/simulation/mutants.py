"""The rules of the protocol, each with the edit of the shipping code that switches it off.

A mutant is the shipping code with one passage replaced, in a copy of the sources, run in a process
of its own. A passage that no longer occurs exactly once is an error, so that this list cannot rot.

The common rules are missed by random schedules within a few hundred seeds. The rare ones have a
directed schedule in tests/conflict/test_rules.py (or test_found_schedules.py), which must fail on
the mutant.

Some rules are backed by another, so that without them the regions still end equal. What they are
for, and what their scene therefore looks at:

    a put to an empty place asks     the police would take it out again; nobody is to see it come
    what was left marked is finished a replay does so too; needed where its worker never comes back
    release                          a decided write is beaten by its tombstone while that is kept
    a delete finds its version       what lowers it (a later held write) is shipped above it anyway
    held for a later record          the delete that follows takes out what had come back
    what gave way is not shipped     what took its place is above it; nobody is to see it come
    others may believe by now        a stamp beneath it goes back, hence passes for a local write
    one-way: takes out its own       the delete, which is settled later, runs again and does so too
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60

_RUN_SCENE = """
import sys, test_found_schedules, test_rules
try:
    (vars(test_rules) | vars(test_found_schedules))[sys.argv[1]]()
except AssertionError as failure:
    sys.exit(f"AssertionError: {failure}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule switched off.

    `scene`: the directed schedule that notices; without one, random schedules do, `seeds` of them
    from `first` on.
    """

    rule: str
    file: str
    old: str
    new: str
    scene: str | None = None
    seeds: int = 1_500
    first: int = 0

    def copy_to(self, directory: Path) -> None:
        """Write the mutated sources; raises ValueError where the passage is not found once."""
        for package in ("conflict", "replicator"):
            shutil.copytree(
                ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        path = directory / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.rule}: the passage occurs {text.count(self.old)} times")
        path.write_text(text.replace(self.old, self.new))

    def is_noticed(self, directory: Path, *, seeds: int | None = None) -> bool:
        """Run the mutated sources; whether a schedule failed because something did not hold.

        Raises RuntimeError for a mutant that breaks down in another way, and TimeoutExpired for
        one that hangs: neither shows that the rule is missed.
        """
        ended = self._run(directory, self.seeds if seeds is None else seeds)
        told = ended.stdout + ended.stderr
        if ended.returncode == 0:
            return False
        if "Traceback" in told or not any(sign in told for sign in _SIGNS):
            raise RuntimeError(f"{self.rule}: {told[-2_000:]}")
        return True

    def _run(self, directory: Path, seeds: int) -> subprocess.CompletedProcess[str]:
        tests = ROOT / "tests"
        command = (
            ["-c", _RUN_SCENE, self.scene]
            if self.scene
            else [
                "-m",
                "simulation.run",
                f"--seeds={seeds}",
                f"--first={self.first}",
                "--processes=1",
                "--until-failure",
            ]
        )
        paths = [directory, tests, tests / "conflict"]
        return subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )


_SIGNS = ("AssertionError", "Violation", "Contended")
_PROTOCOL = "conflict/protocol.py"
_MERGE = "conflict/merge.py"

MUTANTS = (
    Mutant(
        rule="adopt: a write without a version is stamped before it is shipped",
        file=_PROTOCOL,
        old="    adopted = yield from _adopt(home, change, version, tombstone if lift_us else None)\n",
        new="    adopted = _new(change).stamped(version), None\n",
    ),
    Mutant(
        rule="changed marker: an echo is told by a marker that moved, not by one that is there",
        file="conflict/origin.py",
        old="    if after is None or not moved(old.version if old else None, after):",
        new="    if after is None:",
    ),
    Mutant(
        rule="copied: no stamp creates an item",
        scene="test_a_copy_with_its_regions_own_marker_is_shipped",
        file="conflict/origin.py",
        old="    if old is None and after.kind in _OF_STANDING_ITEMS:",
        new="    if False:",
    ),
    Mutant(
        rule="floor: a write is later than what it overwrote",
        file=_PROTOCOL,
        old="        earliest_after(change.old.version if change.old else None),\n",
        new="",
    ),
    Mutant(
        rule="floor of what was folded",
        scene="test_a_folded_write_is_above_all_that_the_first_of_them_had_seen",
        file="replicator/transformer.py",
        old="return replace(later, earliest_us=earliest_us, base=base, fresh=earlier.fresh)",
        new="return replace(later, base=base, fresh=earlier.fresh)",
    ),
    Mutant(
        rule="leave: what the home application wrote later is not taken out",
        file=_MERGE,
        old="if is_buried(version, standing) or (own and is_ours(region, standing) and not again):",
        new="if is_buried(version, standing):",
    ),
    Mutant(
        rule="again: what was deleted and was brought once more is taken out, though it is stamped",
        scene="test_a_stamp_does_not_save_what_arrives_again_after_a_change_and_back",
        file=_MERGE,
        old="        again = deleted is not None and _was_brought_again(deleted, current, version)\n",
        new="        again = False\n",
    ),
    Mutant(
        rule="again: what this region wrote itself, nobody brought",
        file=_MERGE,
        old="    if not foreign or stamp is None or stamp.kind is not Kind.SETTLED:",
        new="    if stamp is None or stamp.kind is not Kind.SETTLED:",
    ),
    Mutant(
        rule="mark: an item is marked before it is taken out",
        file=_MERGE,
        old="            outcome: Outcome = yield Stamp(region, key, mark, Holds(current.marker), guard)\n",
        new="            yield Delete(region, key, Holds(current.marker))\n            return current\n",
    ),
    Mutant(
        rule="mark: the REMOVE of a marked item is an echo",
        file="conflict/origin.py",
        old="return Nature.TAKEN_OUT if taken_out else Nature.DELETED",
        new="return Nature.DELETED",
    ),
    Mutant(
        rule="mark: what a crash left marked is finished",
        scene="test_what_a_dead_worker_left_marked_is_taken_out_by_its_own_region",
        file=_PROTOCOL,
        old="    yield Delete(home, change.key, Holds(_new(change).marker))\n",
        new="    yield ReadState(home, change.key)\n",
    ),
    Mutant(
        rule="lift: a write over its own region's delete rises above it",
        file=_PROTOCOL,
        old="version, lift_us = Version(lift_us, home, change.sequence, Kind.SETTLED), 0",
        new="lift_us = 0",
    ),
    Mutant(
        rule="lift: a write over a foreign delete rises above it",
        file=_PROTOCOL,
        old="    lift_us = beneath.time_us + 1 if beneath is not None else 0\n",
        new="    lift_us = 0\n",
    ),
    Mutant(
        rule="tombstone: a delete is remembered",
        file=_MERGE,
        old="    higher: Version | None = yield RaiseTombstone(region, shipment.key, version)\n",
        new="    higher: Version | None = None\n",
    ),
    Mutant(
        rule="tombstone: a put to an empty place asks for it",
        scene="test_a_late_put_is_never_seen_beneath_the_tombstone",
        file=_MERGE,
        old="            if is_buried(version, state.tombstone) or _has_ended(version, state, current):",
        new="            if False:",
    ),
    Mutant(
        rule="police: each region takes out what arrives beneath its tombstone",
        first=100,
        file=_PROTOCOL,
        old="    if tombstone is not None and is_buried(arrived, tombstone):",
        new="    if False:",
    ),
    Mutant(
        rule="hold: a write that was gone before it was stamped is kept",
        first=0,
        file=_PROTOCOL,
        old="    yield Hold(home, change.key, _to_hold(change, version))\n    current",
        new="    current",
    ),
    Mutant(
        rule="hold: a held write is the floor of what took its place",
        scene="test_a_held_write_is_the_floor_of_what_took_its_place",
        file=_PROTOCOL,
        old="        followed.time_us if followed else -1,\n",
        new="        -1,\n",
    ),
    Mutant(
        rule="release: a held write is forgotten once it was decided",
        scene="test_a_held_write_is_forgotten_once_it_was_decided",
        file=_PROTOCOL,
        old="    yield Release(home, change.key, change.sequence)\n",
        new="    yield ReadState(home, change.key)\n",
    ),
    Mutant(
        rule="give way: a write put back yields to a later local one",
        scene="test_a_write_put_back_yields_to_a_later_local_one",
        file=_MERGE,
        old="        if own and current is not None and is_ours(region, standing):",
        new="        if False:",
    ),
    Mutant(
        rule="give way: what gave way is not shipped",
        scene="test_a_write_that_gave_way_is_not_shipped",
        file=_PROTOCOL,
        old="  # the floor of what took its place\n    return None\n",
        new="\n    return item, delivery\n",
    ),
    Mutant(
        rule="give way: what gave way is the floor of what took its place",
        scene="test_a_write_that_gave_way_is_the_floor_of_its_successor",
        file=_PROTOCOL,
        old="    yield Hold(home, change.key, item)  # the floor of what took its place\n",
        new="",
    ),
    Mutant(
        rule="replay: a record finds the version that it was given before",
        scene="test_a_replayed_write_keeps_its_version",
        file=_PROTOCOL,
        old="        if _is_replay(home, change, current.version):\n            return current, None\n",
        new="",
    ),
    Mutant(
        rule="replay: a delete finds the version that it was given before",
        scene="test_a_replayed_delete_keeps_its_version",
        file=_PROTOCOL,
        old="(tombstone.origin, tombstone.sequence) == (home, change.sequence):",
        new="False:",
    ),
    Mutant(
        rule="replay: a put that was deleted since is not brought back",
        scene="test_a_replayed_put_that_was_deleted_since_is_not_brought_back",
        file=_PROTOCOL,
        old="        if _is_later_delete(home, change, tombstone):",
        new="        if False:",
    ),
    Mutant(
        rule="replay: what is held for a later record is left alone",
        scene="test_a_replay_leaves_alone_what_is_held_for_a_later_record",
        file=_PROTOCOL,
        old="version is not None and version.sequence <= change.sequence else None",
        new="version is not None else None",
    ),
    Mutant(
        rule="guard: a stamp lands on the content of its record only",
        scene="test_a_stamp_lands_on_the_content_of_its_record_only",
        file=_PROTOCOL,
        old="guard = _guard(change) if as_written and standing is not None else None",
        new="guard = None",
    ),
    Mutant(
        rule="superseded: a later local record is left to speak for itself",
        scene="test_a_superseded_write_does_not_speak_for_its_successor",
        file=_PROTOCOL,
        old="    if _is_superseded(home, change, standing, version):",
        new="    if False:",
    ),
    Mutant(
        rule="carried: a version beneath what was held or folded is given a new one",
        scene="test_a_carried_version_beneath_a_folded_floor_is_replaced",
        file=_PROTOCOL,
        old="version.time_us <= max(held_us, change.earliest_us):",
        new="False:",
    ),
    Mutant(
        rule="future: a stamp from beyond the bound is not believed",
        scene="test_a_stamp_from_the_future_drags_no_version_along",
        file="conflict/operations.py",
        old="    return Item(item.image, item.marker, doubted=True)",
        new="    return item",
    ),
    Mutant(
        rule="future: a stamp that others may believe by now is risen above",
        scene="test_a_doubted_stamp_that_others_believe_by_now_is_risen_above",
        file=_PROTOCOL,
        old="    if _new(change).doubted:\n",
        new="    if False:\n",
    ),
    Mutant(
        rule="mark: a write that created its item rises above the delete that marked it",
        scene="test_a_new_item_rises_above_the_delete_that_marked_it",
        file=_PROTOCOL,
        old="        yield Hold(home, change.key, held.stamped(version.lifted(mark.time_us + 1)))\n",
        new="        yield ReadState(home, change.key)\n",
    ),
    Mutant(
        rule="hold: what arrives over a marked item decides the held write, as its REMOVE would",
        scene="test_what_arrives_over_a_marked_item_decides_the_held_write",
        file=_PROTOCOL,
        old="if _was_marked(change) else NOTHING_TO_SHIP",
        new="if False else NOTHING_TO_SHIP",
    ),
    Mutant(
        rule="hold: a new item marked before it was stamped is held",
        scene="test_a_new_item_that_was_marked_before_it_was_stamped_is_held",
        file=_PROTOCOL,
        old="        if change.fresh and _is_being_taken_out(version, standing):",
        new="        if False:",
    ),
    Mutant(
        rule="compare-and-set: a put lands on what was read",
        first=1000,
        file=_MERGE,
        old="        outcome = yield Put(region, key, item, still(current))\n",
        new="        outcome = yield Put(region, key, item, still((yield Get(region, key))))\n",
    ),
    Mutant(
        rule="ties: the same version never overwrites itself, a lower one never a higher",
        first=400,
        file="conflict/resolve.py",
        old="    return order(standing) >= order(incoming)",
        new="    return order(standing)[0] > order(incoming)[0]",
    ),
    Mutant(
        rule="one-way: two versions of one origin are ordered by sequence",
        scene="test_one_way_versions_are_ordered_by_sequence",
        file="conflict/version.py",
        old="        return version.lifted(standing.time_us)",
        new="        return version",
    ),
    Mutant(
        rule="one-way: what is put into an empty place is looked at again",
        scene="test_a_one_way_put_into_an_empty_place_is_looked_at_again",
        file="conflict/one_way.py",
        old="                yield from _look_again(target, key, version)\n",
        new="                pass\n",
    ),
    Mutant(
        rule="one-way: a put whose answer was lost is looked at again",
        scene="test_a_one_way_put_whose_answer_was_lost_is_looked_at_again",
        file="conflict/one_way.py",
        old="                yield from _look_again(target, key, version)  # our",
        new="                pass  # our",
    ),
    Mutant(
        rule="one-way: a fresh put that finds a tombstone takes out its own",
        scene="test_a_one_way_put_run_again_beneath_the_tombstone_takes_out_its_own",
        file="conflict/one_way.py",
        old="                if shipment.fresh:  # nothing",
        new="                if False:  # nothing",
    ),
    Mutant(
        rule="one-way: a delete run again finds the version that it was lifted to",
        scene="test_a_one_way_delete_run_again_finds_the_version_that_it_was_lifted_to",
        file="conflict/one_way.py",
        old="        if higher is not None and _is_same_write(higher, version):",
        new="        if False:",
    ),
    Mutant(
        rule="one-way: a put to an empty place asks for the tombstone",
        scene="test_a_one_way_put_is_never_seen_beneath_the_tombstone",
        file="conflict/one_way.py",
        old="            if state.tombstone is not None and is_buried(version, state.tombstone):",
        new="            if False:",
    ),
    Mutant(
        rule="one-way: what a record lacks is read back",
        file="conflict/one_way.py",
        old="    if item is None and change.nature.is_local_put:",
        new="    if False:",
    ),
    Mutant(
        rule="folding: a delete is never skipped",
        first=100,
        file="replicator/transformer.py",
        old="    return forward and earlier.nature.is_local_put and later.nature.is_local_put",
        new="    return forward and (earlier.nature.is_local_put or earlier.nature.is_local_delete)",
    ),
    Mutant(
        rule="folding: what is read again never replaces what came after it",
        scene="test_a_record_read_again_does_not_replace_a_later_one",
        file="replicator/transformer.py",
        old="    forward = earlier.sequence < later.sequence\n",
        new="    forward = True\n",
    ),
    Mutant(
        rule="expiry: a write that expired before it was stamped goes out",
        scene="test_an_ignored_expiry_does_not_swallow_the_write_before_it",
        file=_PROTOCOL,
        old="    return Settlement(_shipped(change, _expired(change, held)), release=True)\n",
        new="    return Settlement(release=True)\n",
    ),
    Mutant(
        rule="replay: a write that is held does not rise above itself",
        scene="test_a_replayed_write_that_is_held_keeps_its_version",
        file=_PROTOCOL,
        old="followed.time_us if followed else -1,",
        new="held.version.time_us + 1 if held and held.version else -1,",
    ),
    Mutant(
        rule="one change of a key in flight at home",
        file="replicator/flow.py",
        old="        if self._lanes[key].waiting:\n            return [self._start(key)]\n        del self._lanes[key]\n",
        new="        lane = self._lanes.get(key)\n        if lane and lane.waiting:\n            return [self._start(key) for _ in tuple(lane.waiting)]\n        self._lanes.pop(key, None)\n",
    ),
    Mutant(
        rule="watermark: the checkpoint stays below the lowest unsettled record",
        file="replicator/watermark.py",
        old="        while self._open and not self._open[0][1]:\n            sequence = self._open.popleft()[0]",
        new="        while self._open and entry is not None:\n            sequence = self._open.popleft()[0]",
    ),
    Mutant(
        rule="watermark: a replaced record is settled only when its successor is",
        file="replicator/flow.py",
        old="            last.tokens.append(token)\n",
        new="            for mark, sequence in last.tokens:\n                mark.settle(sequence)\n            last.tokens = [token]\n",
    ),
    Mutant(
        rule="watermark: a record that is read twice is settled when both readings are",
        file="replicator/watermark.py",
        old="            entry[1] -= 1\n",
        new="            entry[1] = 0\n",
        scene="test_a_record_that_is_read_twice_is_settled_when_both_readings_are",
    ),
    Mutant(
        rule="shards: a child waits for its parent",
        scene="test_a_shard_is_read_after_its_parent",
        file="replicator/shards.py",
        old="        return node is not None and node.stage is not _Stage.ENDED",
        new="        return False",
    ),
    Mutant(
        rule="floor: what was overtaken by something older is held for its successor",
        file=_PROTOCOL,
        old="    yield Hold(home, change.key, _to_hold(change, version))  # the floor of what follows\n",
        new="    yield from ()\n",
        scene="test_a_write_in_whose_place_something_older_arrived_is_the_floor_of_its_successor",
    ),
    Mutant(
        rule="one-way: a record that is read again replaces no later one that waits",
        file="conflict/one_way.py",
        old="    if incoming.version.sequence < waiting.version.sequence:\n",
        new="    if incoming.version.sequence < 0:\n",
        seeds=1,
        first=5_031_063,
    ),
    Mutant(
        rule="once: a write that was settled before claims no place a second time",
        file=_PROTOCOL,
        old="    if change.again:\n",
        new="    if False:\n",
        scene="test_a_write_that_is_read_again_does_not_come_back_while_it_is_deleted",
    ),
    Mutant(
        rule="once: what has expired since goes out by its expiry",
        file=_PROTOCOL,
        old="    elif not is_buried(lowest, state.tombstone):  # it may have expired\n",
        new="    elif False:\n",
        scene="test_a_write_that_has_expired_is_shipped_again_by_its_expiry",
    ),
    Mutant(
        rule="once: what has expired is held as it was at first",
        file=_PROTOCOL,
        old="and _is_end_of(state.tombstone, lowest):",
        new="and False:",
        scene="test_a_stamped_write_that_has_expired_everywhere_stays_away_when_it_is_read_again",
    ),
    Mutant(
        rule="carried: a write that is held has not seen itself",
        file=_PROTOCOL,
        old="    before = held.version if held and not _is_itself(held, change) else None\n",
        new="    before = held.version if held else None\n",
        scene="test_a_stamped_write_that_has_expired_everywhere_stays_away_when_it_is_read_again",
    ),
    Mutant(
        rule="expiry: what was held beneath its stamp goes out at it",
        file=_PROTOCOL,
        old="    return stamped if order(version) > order(held.version) else held\n",
        new="    return held\n",
        scene="test_what_expired_in_a_region_whose_replicator_had_died_goes_out_at_its_stamp",
    ),
    Mutant(
        rule="tombstone: what expired under this version and was written anew stays",
        file=_MERGE,
        old=" or _has_ended(version, state, current):",
        new=":",
        scene="test_what_expired_and_was_written_anew_is_not_replaced_by_what_expired",
    ),
    Mutant(
        rule="once: what a delete took out is not held again",
        file=_PROTOCOL,
        old="replace(change, earliest_us=-1), None)\n",
        new="change, None)\n",
        scene="test_a_write_that_a_delete_took_out_is_not_held_when_it_is_read_again",
    ),
    Mutant(
        rule="once: what came after a delete is held again",
        file=_PROTOCOL,
        old="    elif not is_buried(lowest, state.tombstone):  # it may have expired\n",
        new="    elif state.tombstone is None:\n",
        scene="test_a_write_that_has_expired_is_shipped_again_although_a_delete_came_before_it",
    ),
)
