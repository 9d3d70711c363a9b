"""The mode of AWS Lambda: `replicator.lambda_handler.handler`, behind mappings on tables' streams.

One function per source region serves all of its tables, with one event source mapping per table.
It has `ReportBatchItemFailures` switched on: the answer names the lowest sequence number that is
not settled in every target, and the mapping goes on from there. Nothing is skipped: what cannot
pass now is handed over again, what never will is in the quarantine, with its image, and an event
that is not understood is an error, upon which the mapping keeps the batch.

What a mapping has given up all the same comes back to the function by a queue, and is stored as a
gap (lambda_failures.py). REPLICATOR_LOG_LEVEL is info if left out; the rest of the environment is
told in lambda_environment.py.

Regions are opened and tables described at the first invocation and kept for the following ones, as
is the event loop. Composition only: the parts do what they do in the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import inf
from typing import Any, Protocol, Self

from replicator.clock import SystemClock
from replicator.compose import build_pipeline, ledger, pipeline_stats
from replicator.errors import ConfigurationError, Fatal, ReplicatorError, spoken, suggestion
from replicator.lambda_batch import lowest_unsettled
from replicator.lambda_environment import settings_from, source_from
from replicator.lambda_event import Batch, batch_of
from replicator.lambda_failures import Loss, is_of_queue, loss_of
from replicator.lambda_home import ControlHomeMemory
from replicator.lambda_metrics import FunctionMetrics
from replicator.lambda_parked import KnownParked
from replicator.ledger import Ledger, LedgerLimits
from replicator.logs import LEVELS, configure, where
from replicator.parts import PipelineParts
from replicator.plane import RegionApi, open_region
from replicator.records import Gap, Mode, ViewType
from replicator.settings import Settings
from replicator.telemetry import PipelineStats
from replicator.waiting import Gaps

log = logging.getLogger(__name__)

RESERVE_S, RESERVE_SHARE = 0.5, 0.1
"""Of the time that is left to an invocation: what is kept for the answer, the larger of the two."""

LOOK_EVERY_S, LOOK_WITHIN_S = 5.0, 2.0
"""How old what is known of pauses and gaps may be: two small reads by each environment at work."""

_BOTH_IMAGES = ViewType.NEW_AND_OLD_IMAGES.value


class Context(Protocol):
    """What is needed of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: object, context: Context) -> dict[str, Any]:
    """Apply a batch; the answer names the lowest record that is to be handed over again.

    Raises: ReplicatorError, one line, upon which the mapping keeps the batch as a whole. What is
    raised is printed by Lambda, so a bug is told without its words, for they may quote an item.
    """
    try:
        return function().handle(event, context)
    except ReplicatorError:
        raise
    except Exception as error:  # noqa: BLE001 - told without its words
        sys.stderr.write(f"{where(error)}\n")
        raise Fatal(f"internal error: {spoken(error)}; please report it") from None


@cache
def function() -> Function:
    """The function of this execution environment; what could not be made is tried again."""
    level = os.environ.get("REPLICATOR_LOG_LEVEL", "info").lower()
    if level not in LEVELS:
        raise ConfigurationError(f"REPLICATOR_LOG_LEVEL: {level!r} is none of {', '.join(LEVELS)}")
    configure(level=level, as_json=True)
    return Function.of(os.environ)


@dataclass(slots=True, kw_only=True)
class Function:
    """What is kept between invocations."""

    settings: Settings
    source: str
    apis: Mapping[str, RegionApi]
    ledger: Ledger
    stats: dict[str, PipelineStats] = field(default_factory=dict)
    metrics: FunctionMetrics = field(default_factory=lambda: FunctionMetrics(clock=SystemClock()))
    _parts: dict[str, PipelineParts] = field(default_factory=dict)
    _parked: dict[str, KnownParked] = field(default_factory=dict)
    _looked_s: dict[str, float] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The function that an environment describes. Raises: ConfigurationError."""
        settings = settings_from(environment)
        source = source_from(settings, environment)
        apis = _open_regions(settings, source)
        return cls(
            settings=settings,
            source=source,
            apis=apis,
            ledger=ledger(settings, source, apis[source]),
        )

    def handle(self, event: object, context: Context) -> dict[str, Any]:
        """One invocation, see `handler`."""
        if is_of_queue(event):
            return self._note_losses(event)
        begun_s = time.monotonic()
        batch = batch_of(event)
        answer: dict[str, Any] = {"batchItemFailures": []}
        if batch.state is not None:
            answer["state"] = batch.state
        if not batch.records:
            return answer
        remaining_s = context.get_remaining_time_in_millis() / 1000
        reserve_s = max(RESERVE_S, RESERVE_SHARE * remaining_s)
        within_s = max(0.0, remaining_s - reserve_s)
        failed = self._loop.run_until_complete(self._settle(batch, within_s))
        self._loop.run_until_complete(self._write_conflicts(reserve_s / 4))
        if failed is not None:
            answer["batchItemFailures"].append({"itemIdentifier": batch.identifiers[failed]})
        self._tell(batch, failed, time.monotonic() - begun_s)
        self._tell_metrics(batch, failed)
        return answer

    def close(self) -> None:
        """Close connections and the event loop; for whoever makes more than one of these."""
        for api in self.apis.values():
            api.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _note_losses(self, event: Any) -> dict[str, Any]:
        """Store what was given up; the answer names the messages that have to come again."""
        failed = []
        for message in event["Records"]:
            try:
                self._loop.run_until_complete(self._note_loss(loss_of(message)))
            except ReplicatorError as error:
                log.error("loss.not_noted", extra={"error": spoken(error)})  # noqa: TRY400
                failed.append({"itemIdentifier": message.get("messageId")})
        return {"batchItemFailures": failed}

    async def _note_loss(self, loss: Loss) -> None:
        """A gap for each table that is read from the stream."""
        gaps = Gaps(api=self.apis[self.source], control_table=self.settings.control_table)
        for table in self._tables_read_from(loss.table):
            gap = Gap(
                table=table,
                source=self.source,
                stream_arn=loss.stream_arn,
                shard=loss.shard,
                since_us=loss.at_us,
                reason=loss.reason,
            )
            await gaps.report(gap)
            fields = {"table": table, "region": self.source, "shard": loss.shard}
            log.error("stream.gap", extra={**fields, "reason": loss.reason})
            for line in self.metrics.of_gap(pipeline_stats(self.settings, table, self.source), gap):
                sys.stdout.write(f"{line}\n")

    async def _settle(self, batch: Batch, within_s: float) -> int | None:
        """The lowest record that is not settled for some table that the stream is read for."""
        settling = [self._settle_for(table, batch, within_s) for table in self._tables_of(batch)]
        ends = await asyncio.gather(*settling, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return min((end for end in ends if isinstance(end, int)), default=None)

    async def _write_conflicts(self, within_s: float) -> None:
        """Keep what was decided between concurrent writes: the next invocation may never come."""
        stats = self.ledger.stats
        if stats.noted > stats.written + stats.unwritten:
            self.ledger.limits = LedgerLimits(drain_s=within_s)
            await self.ledger.write_rest()

    async def _settle_for(self, table: str, batch: Batch, within_s: float) -> int | None:
        parts = await self._parts_of(table)
        await self._look(parts)
        await self._look_at_parked(parts)
        if all(link.paused_since_us is not None for link in parts.stats.links.values()):
            return min(record.sequence for record in batch.records)
        multi_writer = parts.transformer.mode is Mode.MULTI_WRITER
        if multi_writer and batch.view_types != {_BOTH_IMAGES}:
            found = ", ".join(sorted(batch.view_types)) or "no view type"
            raise Fatal(
                f"event: a stream of {found}; where "
                f"several regions write it takes {_BOTH_IMAGES}; see `replicator doctor`"
            )
        memory = ControlHomeMemory(
            api=self.apis[self.source],
            control_table=self.settings.control_table,
            table=table,
            source=self.source,
            clock=parts.clock,
            sleep=parts.sleep,
        )
        return await lowest_unsettled(
            parts, batch.stream_arn, batch.records, within_s=within_s, memory=memory
        )

    async def _look(self, parts: PipelineParts) -> None:
        """Read which links are paused and what is lost; while that cannot be, what was read stands.

        A batch of a paused link is handed over again, as if its target were out of reach: until it
        is resumed, or the batch is so old that the mapping gives it up, which makes a gap.
        """
        stats, stores, now_s = parts.stats, parts.stores, parts.clock.monotonic_s()
        assert stores.pauses is not None
        if now_s - self._looked_s.get(stats.table, -inf) < LOOK_EVERY_S:
            return
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                paused = await stores.pauses.load(stats.table, stats.source)
                gaps = await stores.gaps.load(stats.table, stats.source)
        except (ReplicatorError, TimeoutError) as error:
            log.warning("pause.unread", extra={"table": stats.table, "error": spoken(error)})
            return
        for target, link in stats.links.items():
            link.paused_since_us = paused.get(target)
        stats.gap = gaps[0] if gaps else None
        self._looked_s[stats.table] = now_s

    async def _look_at_parked(self, parts: PipelineParts) -> None:
        """Read what is parked; while that cannot be, what is known stands."""
        table = parts.stats.table
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                await self._parked[table].look(table, parts.clock.monotonic_s())
        except (ReplicatorError, TimeoutError) as error:
            log.warning("quarantine.unread", extra={"table": table, "error": spoken(error)})

    def _tables_of(self, batch: Batch) -> list[str]:
        """The configured tables that are read from the stream which the batch is of."""
        return self._tables_read_from(batch.table)

    def _tables_read_from(self, stream_of: str) -> list[str]:
        physical = {
            name: self.settings.table_name(name, self.source)
            for name, entry in self.settings.tables.items()
            if self.source in entry.sources
        }
        found = [name for name, called in physical.items() if called == stream_of]
        if not found:
            known = suggestion("", physical.values())
            raise Fatal(
                f"event: table {stream_of} is not read in {self.source}; {known}; "
                "correct the mapping or the configuration"
            )
        return found

    async def _parts_of(self, table: str) -> PipelineParts:
        if table not in self._parts:
            stats = pipeline_stats(self.settings, table, self.source)
            pipeline = await build_pipeline(self.settings, self.apis, stats, self.ledger.note)
            stores = pipeline.parts.stores
            known = self._parked[table] = KnownParked(stores.quarantine)
            stores = replace(stores, quarantine=known)
            self._parts[table], self.stats[table] = replace(pipeline.parts, stores=stores), stats
        return self._parts[table]

    def _tell_metrics(self, batch: Batch, failed: int | None) -> None:
        """Lambda sends what is printed to CloudWatch Logs, which reads metrics from it."""
        left = [record for record in batch.records if failed is None or record.sequence >= failed]
        times_us = [record.created_us for record in left]
        behind_us = max(times_us) if failed is None else min(times_us)
        read = [self.stats[table] for table in self._tables_of(batch)]
        for line in self.metrics.lines(read, behind_us=behind_us):
            sys.stdout.write(f"{line}\n")

    def _tell(self, batch: Batch, failed: int | None, took_s: float) -> None:
        fields: dict[str, object] = {
            "table": batch.table,
            "region": self.source,
            "records": len(batch.records),
            "took_ms": round(took_s * 1000, 1),
        }
        if failed is None:
            log.info("batch.settled", extra=fields)
            return
        again = sum(record.sequence >= failed for record in batch.records)
        read = [self.stats[table] for table in self._tables_of(batch)]
        errors = [stats.error for stats in read]
        links = [link for stats in read for link in stats.links.values()]
        errors += [link.error for link in links]
        paused = any(link.paused_since_us is not None for link in links)
        error = next(filter(None, errors), "a link is paused" if paused else "the time was up")
        log.error("batch.unsettled", extra={**fields, "again": again, "error": error})


def _open_regions(settings: Settings, source: str) -> dict[str, RegionApi]:
    tables = [entry for entry in settings.tables.values() if source in entry.sources]
    names = dict.fromkeys(region for entry in tables for region in entry.members)
    return {name: open_region(settings, name) for name in names}
