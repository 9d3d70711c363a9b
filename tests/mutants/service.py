"""Bugs that a replicator's code may well have, each seeded into a copy, and the test that kills it.

The rules of the protocol have their mutants in simulation/mutants.py; here it is the service
around it: checkpoints, shards, requests, retries, parking. A mutant is killed when its test fails
for what the product did (an assertion), not when the copy breaks down or hangs.

A passage that no longer occurs exactly once is an error, so that this list cannot rot.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from simulation.mutants import ROOT, Mutant

TESTS = ROOT / "tests"
TIMEOUT_S = 100
VIRTUAL_S_MAX = 600
"""A test that waits in virtual time for what never comes gives up sooner than it would."""

_CALL = f"""
import importlib.util, sys
from support.clock import VirtualClock
run = VirtualClock.run
VirtualClock.run = lambda self, main, limit_s=0.0: run(self, main, limit_s={VIRTUAL_S_MAX})
spec = importlib.util.spec_from_file_location("tested", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["tested"] = module
spec.loader.exec_module(module)
test = getattr(module, sys.argv[2])
try:
    test()
except AssertionError as failure:
    sys.exit(f"AssertionError: {{failure!r}}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMutant:
    """One seeded bug. `test`: file and function; with `by_pytest` it needs fixtures."""

    bug: str
    file: str
    old: str
    new: str
    test: str
    by_pytest: bool = False

    def copy_to(self, directory: Path) -> None:
        """Write the mutated sources; raises ValueError where the passage is not found once."""
        Mutant(rule=self.bug, file=self.file, old=self.old, new=self.new).copy_to(directory)

    def is_killed(self, directory: Path) -> bool:
        """Run the test against what stands in a directory; whether it fails by an assertion.

        Raises: RuntimeError where the copy breaks down in another way, TimeoutExpired for a hang.
        """
        ended = self._run(directory)
        if ended.returncode == 0:
            return False
        told = ended.stdout + ended.stderr
        if "AssertionError" not in told and "DID NOT RAISE" not in told:
            raise RuntimeError(f"{self.bug}: {told[-2_000:]}")
        return True

    def _run(self, directory: Path) -> subprocess.CompletedProcess[str]:
        file, _, function = self.test.partition("::")
        paths = f"{directory} {TESTS}"
        command = ["-c", _CALL, str(TESTS / file), function]
        if self.by_pytest:
            command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
            command += ["-o", f"pythonpath={paths}", f"{TESTS / file}::{function}"]
        return subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths.split())},
            cwd=ROOT if self.by_pytest else directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )


_POSITIONS = "faults/test_positions.py"
_READING = "faults/test_reading.py"

SERVICE_MUTANTS = (
    ServiceMutant(
        bug="checkpoint early: a record passes those before it that are not durable",
        file="replicator/watermark.py",
        old="        while self._open and not self._open[0][1]:\n",
        new="        while self._open and (not self._open[0][1] or self._open[0][0] <= sequence):\n",
        test=f"{_POSITIONS}::test_f02_a_checkpoint_never_passes_what_is_not_durable",
    ),
    ServiceMutant(
        bug="a shard counts as finished when its end is read",
        file="replicator/watermark.py",
        old="        if self.ended and not self._entries:\n",
        new="        if self.ended:\n",
        test="replicator/test_watermark.py::"
        "test_a_shard_is_finished_when_it_has_ended_and_all_of_it_is_settled",
    ),
    ServiceMutant(
        bug="a delete is folded into the write that follows it",
        file="replicator/transformer.py",
        old="    return forward and earlier.nature.is_local_put and later.nature.is_local_put\n",
        new="    return forward and later.nature.is_local_put\n",
        test="replicator/test_flow.py::test_only_local_puts_fold",
        by_pytest=True,
    ),
    ServiceMutant(
        bug="UnprocessedKeys are taken for items that are not there",
        file="replicator/table.py",
        old="        if not unprocessed:\n",
        new="        if unprocessed is not None:\n",
        test="replicator/test_table.py::test_unprocessed_keys_are_asked_for_again",
    ),
    ServiceMutant(
        bug="throttled statements of the backfill count as written",
        file="replicator/backfill/inserts.py",
        old="                left = {place: left[place] for place, code in codes.items() if _is_passing(code)}\n",
        new="                left = {}\n",
        test="replicator/test_backfill_inserts.py::test_throttled_statements_are_made_again",
    ),
    ServiceMutant(
        bug="a child is opened at LATEST",
        file="replicator/stream.py",
        old='{"ShardIteratorType": "TRIM_HORIZON"}',
        new='{"ShardIteratorType": "LATEST"}',
        test="replicator/test_stream.py::test_the_oldest_record_needs_no_sequence_number",
    ),
    ServiceMutant(
        bug="children are read beside their parents",
        file="replicator/shards.py",
        old="            (shard, self._nodes[shard].start) for shard in self._waiting if not self._held_up(shard)\n",
        new="            (shard, self._nodes[shard].start) for shard in self._waiting\n",
        test=f"{_READING}::test_f08_a_parent_and_its_child_in_one_description_are_read_in_order",
    ),
    ServiceMutant(
        bug="an expired iterator ends the shard",
        file="replicator/reader.py",
        old="            reading.iterator = None\n            self._failed(reading.shard, error)\n",
        new="            reading.ended = True\n            self._failed(reading.shard, error)\n",
        test=f"{_READING}::test_f14_an_iterator_that_expires_is_renewed_where_reading_stood",
    ),
    ServiceMutant(
        bug="an empty page ends the shard",
        file="replicator/reader.py",
        old="            reading.ended = page.next_iterator is None\n",
        new="            reading.ended = page.next_iterator is None or not page.records\n",
        test=f"{_READING}::test_f15_empty_pages_are_not_the_end",
    ),
    ServiceMutant(
        bug="what was trimmed is skipped without a word",
        file="replicator/reader.py",
        old='            await self._gap(reading, "trimmed")\n',
        new="",
        test=f"{_READING}::test_f13_a_trimmed_stream_is_a_gap_and_is_read_from_what_is_left",
    ),
    ServiceMutant(
        bug="a long absence leaves no gap",
        file="replicator/keeper.py",
        old="        if unread_us > RETENTION_US:\n",
        new="        if unread_us > 2 * RETENTION_US:\n",
        test=f"{_READING}::test_f16_a_source_that_nobody_could_read_for_25_hours_is_a_gap",
    ),
    ServiceMutant(
        bug="a checkpoint counts for any stream of the table",
        file="replicator/keeper.py",
        old="for c in stored if c.stream_arn == self._arn}",
        new="for c in stored}",
        test=f"{_POSITIONS}::test_f19_a_checkpoint_of_another_stream_skips_nothing",
    ),
    ServiceMutant(
        bug="the comparison in the condition is swapped",
        file="replicator/requests.py",
        old='OLDER = "#m < :order"',
        new='OLDER = "#m > :order"',
        test="replicator/test_requests.py::test_older_compares_the_order_text",
    ),
    ServiceMutant(
        bug="a stamp is not guarded by the content of its record",
        file="replicator/requests.py",
        old="        if guard is not None:\n",
        new="        if guard is not None and not guard.equal:\n",
        test="replicator/test_requests.py::test_a_guard_compares_what_stands_and_what_does_not",
    ),
    ServiceMutant(
        bug="an answer that is not JSON counts as success",
        file="replicator/aws/api.py",
        old='        if not headers.get("content-type", "").startswith(JSON_TYPE):\n',
        new='        if headers.get("content-type", "") == "application/cbor":\n',
        test="replicator/test_aws.py::test_an_answer_that_is_not_dynamodbs_is_no_answer",
        by_pytest=True,
    ),
    ServiceMutant(
        bug="checksums are not looked at",
        file="replicator/aws/sessions.py",
        old='"mode": "legacy"}',
        new='"mode": "standard"}',
        test="replicator/test_aws.py::test_a_broken_answer_is_transient",
        by_pytest=True,
    ),
    ServiceMutant(
        bug="a lost answer counts as an answer",
        file="replicator/writer.py",
        old="                if not health.broken:\n                    limits = self._limits\n",
        new="                return None  # type: ignore[return-value]\n"
        "                if not health.broken:\n                    limits = self._limits\n",
        test="replicator/test_pipeline.py::test_a_checkpoint_that_cannot_be_saved_is_tried_again",
    ),
    ServiceMutant(
        bug="a stop forgets to drain",
        file="replicator/session.py",
        old="            await self._drain(reading)\n",
        new="",
        test="replicator/test_pipeline.py::test_a_stop_lets_arrive_what_is_under_way_and_saves",
    ),
    ServiceMutant(
        bug="a stop forgets the last checkpoint",
        file="replicator/session.py",
        old="        await keeper.save_finally()\n",
        new="",
        test="replicator/test_pipeline.py::test_a_stop_lets_arrive_what_is_under_way_and_saves",
    ),
    ServiceMutant(
        bug="poison is dropped instead of parked",
        file="replicator/session.py",
        old="            await self._parking.task(task, poison)\n",
        new="",
        test="replicator/test_pipeline_figures.py::"
        "test_a_delivery_is_not_settled_until_its_parking_is_durable",
    ),
    ServiceMutant(
        bug="a record that says nothing is dropped instead of parked",
        file="replicator/session.py",
        old="                await self._parking.record(record, poison)\n",
        new="",
        test=f"{_READING}::test_f04_a_record_that_says_nothing_is_parked_and_the_rest_goes_on",
    ),
    ServiceMutant(
        bug="a time from the future is believed",
        file="replicator/transformer.py",
        old="        created_us = min(record.created_us, now_us + self.future_bound_us)\n",
        new="        created_us = record.created_us\n",
        test="faults/test_order.py::test_f35_a_clock_far_ahead_is_clamped_and_told",
    ),
)
