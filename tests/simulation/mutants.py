"""The rules of the protocol, each with the edit of the shipping code that switches it off.

A mutant is the shipping code with one passage replaced, in a copy of the sources, run in a process
of its own. A passage that no longer occurs exactly once is an error, so that this list cannot rot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule switched off. `seeds`: how many random schedules are enough to notice."""

    rule: str
    file: str
    old: str
    new: str
    seeds: int = 1_000
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

    def run(self, directory: Path, *, seeds: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run random schedules on the mutated sources in `directory`."""
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "simulation.run",
                f"--seeds={self.seeds if seeds is None else seeds}",
                f"--first={self.first}",
                "--processes=1",
            ],
            env={**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT / 'tests'}"},
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


_PROTOCOL = "conflict/protocol.py"
_MERGE = "conflict/merge.py"

MUTANTS = (
    Mutant(
        rule="adopt: a write without a version is stamped before it is shipped",
        file=_PROTOCOL,
        old="    adopted = yield from _adopt(home, change, version, tombstone if lift_us else None)\n",
        new="    adopted = _new(change).stamped(version), False\n",
    ),
    Mutant(
        rule="changed marker: an echo is told by a marker that moved, not by one that is there",
        file="conflict/origin.py",
        old="    if after is None or not moved(believed(old.marker, limit_us) if old else None, after):",
        new="    if after is None:",
    ),
    Mutant(
        rule="floor: a write is later than what it overwrote",
        file=_PROTOCOL,
        old="    return max(change.floor_us, *(v.time_us if v else -1 for v in seen))",
        new="    return max(-1, *(-1 for v in seen))",
    ),
    Mutant(
        rule="floor of what was folded",
        file="replicator/transformer.py",
        old="return replace(later, floor_us=floor_us, base=base, fresh=earlier.fresh)",
        new="return replace(later, base=base, fresh=earlier.fresh)",
    ),
    Mutant(
        rule="leave: what the home application wrote later is not taken out",
        file=_MERGE,
        old="if (own and is_ours(region, standing)) or is_buried(deleted, standing):",
        new="if is_buried(deleted, standing):",
    ),
    Mutant(
        rule="mark: an item is marked before it is taken out",
        file=_MERGE,
        old='        yield Delete(region, key, Holds({"S": mark.text}))\n',
        new="        yield Delete(region, key, Holds(current.marker))\n",
    ),
    Mutant(
        rule="mark: the REMOVE of a marked item is an echo",
        file="conflict/origin.py",
        old="return Nature.TAKEN_OUT if taken_out else Nature.DELETED",
        new="return Nature.DELETED",
    ),
    Mutant(
        rule="mark: what a crash left marked is finished",
        file=_PROTOCOL,
        old="            yield Delete(home, change.key, Holds(_new(change).marker))\n",
        new="            yield ReadState(home, change.key)\n",
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
        file=_MERGE,
        old="            if is_buried(version, state.tombstone):",
        new="            if False:",
    ),
    Mutant(
        rule="police: each region takes out what arrives beneath its tombstone",
        file=_PROTOCOL,
        old="    if tombstone is not None and is_buried(arrived, tombstone):",
        new="    if False:",
    ),
    Mutant(
        rule="hold: a write that was gone before it was stamped is kept",
        file=_PROTOCOL,
        old="    yield Hold(home, change.key, _new(change).stamped(kept))\n",
        new="",
    ),
    Mutant(
        rule="hold: a held write is the floor of what took its place",
        file=_PROTOCOL,
        old="        held.version if held else None,\n    )",
        new="        None,\n    )",
    ),
    Mutant(
        rule="release: a held write is forgotten once it was decided",
        file=_PROTOCOL,
        old="    yield Release(home, change.key, change.sequence)\n",
        new="    yield ReadState(home, change.key)\n",
    ),
    Mutant(
        rule="give way: a write put back yields to a later local one",
        file=_MERGE,
        old="        if own and current is not None and is_ours(region, standing):",
        new="        if False:",
    ),
    Mutant(
        rule="give way: what gave way is not shipped",
        file=_PROTOCOL,
        old="    return None if delivery.effect is Effect.YIELDED else (item, True)",
        new="    return item, True",
    ),
    Mutant(
        rule="replay: a record finds the version that it was given before",
        file=_PROTOCOL,
        old="            if _is_replay(home, change, settled):",
        new="            if False:",
    ),
    Mutant(
        rule="replay: a delete finds the version that it was given before",
        file=_PROTOCOL,
        old="(tombstone.origin, tombstone.sequence) == (home, change.sequence):",
        new="False:",
    ),
    Mutant(
        rule="replay: a put that was deleted since is not brought back",
        file=_PROTOCOL,
        old="        if tombstone.origin == home and tombstone.sequence > change.sequence:",
        new="        if False:",
    ),
    Mutant(
        rule="replay: what is held for a later record is left alone",
        file=_PROTOCOL,
        old="version is not None and version.sequence <= change.sequence else None",
        new="version is not None else None",
    ),
    Mutant(
        rule="guard: a stamp lands on the content of its record only",
        file=_PROTOCOL,
        old="guard = _guard(change) if as_written and marker is not None else None",
        new="guard = None",
    ),
    Mutant(
        rule="superseded: a later local record is left to speak for itself",
        file=_PROTOCOL,
        old="            if _is_superseded(home, change, settled, version):",
        new="            if False:",
    ),
    Mutant(
        rule="carried: a version beneath what was held or folded is given a new one",
        file=_PROTOCOL,
        old="version.time_us <= max(held_us, change.floor_us):",
        new="False:",
    ),
    Mutant(
        rule="future: a stamp from beyond the bound is not believed",
        file="conflict/operations.py",
        old="version.time_us > limit_us:",
        new="False:",
    ),
    Mutant(
        rule="compare-and-set: a put lands on what was read",
        file=_MERGE,
        old="        outcome = yield Put(region, key, item, still(current))\n",
        new="        outcome = yield Put(region, key, item, still((yield Get(region, key))))\n",
    ),
    Mutant(
        rule="ties: the same version never overwrites itself, a lower one never a higher",
        file="conflict/resolve.py",
        old="    return order(standing) >= order(incoming)",
        new="    return order(standing)[0] > order(incoming)[0]",
    ),
    Mutant(
        rule="one-way: two versions of one origin are ordered by sequence",
        file="conflict/version.py",
        old="        return version.lifted(standing.time_us)",
        new="        return version",
    ),
    Mutant(
        rule="one-way: what is put into an empty place is looked at again",
        file="conflict/one_way.py",
        old="                yield from _look_again(target, key, version)\n",
        new="                pass\n",
    ),
    Mutant(
        rule="one-way: what a record lacks is read back",
        file="conflict/one_way.py",
        old="    if item is None and change.nature.is_local_put:",
        new="    if False:",
    ),
    Mutant(
        rule="folding: a delete is never skipped",
        file="replicator/transformer.py",
        old="    return earlier.nature.is_local_put and later.nature.is_local_put",
        new="    return earlier.nature.is_local_put or earlier.nature.is_local_delete",
    ),
    Mutant(
        rule="one change of a key in flight at home",
        file="replicator/flow.py",
        old="        queue = self._lanes.get(change.key.id)\n        if queue is None:",
        new="        queue = self._lanes.get(change.key.id)\n        if queue is None or not queue:",
    ),
    Mutant(
        rule="watermark: the checkpoint stays below the lowest unsettled record",
        file="replicator/flow.py",
        old="        while self._open and self._open[0][1]:\n            sequence = self._open.popleft()[0]",
        new="        while self._open and entry is not None:\n            sequence = self._open.popleft()[0]",
    ),
    Mutant(
        rule="watermark: a replaced record is settled only when its successor is",
        file="replicator/flow.py",
        old="            last.tokens.append(token)\n",
        new="            last.tokens.append(token)\n            last.tokens.pop(0)[0].settle(change.sequence)\n",
    ),
    Mutant(
        rule="shards: a child waits for its parent",
        file="replicator/shards.py",
        old="        return node is not None and node.stage is not _Stage.ENDED",
        new="        return False",
    ),
)
