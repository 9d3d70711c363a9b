"""What a pipeline is made of: values only, put together by compose.py or by a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from replicator.ports import Checkpoints, Clock, Gaps, Quarantine, Sleep, StreamSource
from replicator.reader import ReaderLimits
from replicator.telemetry import PipelineStats
from replicator.transformer import Transformer
from replicator.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineLimits:
    """Bounds and intervals of one pipeline."""

    unsettled_records_max: int = 10_000
    checkpoint_interval_s: float = 1.0
    drain_s: float = 20.0
    restart_base_s: float = 1.0
    restart_max_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStores:
    """What survives a session: all of it in the source region's control table."""

    checkpoints: Checkpoints
    quarantine: Quarantine
    gaps: Gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """What a pipeline is made of. `find_stream` tells the ARN of the table's present stream, and
    opens it."""

    find_stream: Callable[[], Awaitable[tuple[str, StreamSource]]]
    transformer: Transformer
    writer: Writer
    stores: PipelineStores
    stats: PipelineStats
    limits: PipelineLimits
    reader_limits: ReaderLimits
    clock: Clock
    sleep: Sleep
    rng: Random
