"""What a pipeline is made of: values only, put together by compose.py or by a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from replicator.ledger import Conflict
from replicator.ports import (
    Checkpoints,
    Clock,
    Gaps,
    Pauses,
    Positions,
    Presence,
    Quarantine,
    Sleep,
    StreamSource,
)
from replicator.reader import ReaderLimits
from replicator.telemetry import PipelineStats
from replicator.transformer import Transformer
from replicator.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineLimits:
    """Bounds and intervals of one pipeline."""

    unsettled_records_max: int = 10_000
    performers_max: int = 256
    """Tasks performed at once per region, besides those that have run into trouble."""
    unsettled_bytes_max: int = 64 * 1024 * 1024
    announce_interval_s: float = 10.0
    """How often it is written down, and looked at, which process reads the source."""
    detach_after_s: float = 5.0
    """How long one target may hold up the others before its link is detached."""
    checkpoint_interval_s: float = 1.0
    recount_interval_s: float = 30.0
    """How often it is looked at what is still in the quarantine, while anything is."""
    drain_s: float = 20.0
    restart_base_s: float = 1.0
    restart_max_s: float = 30.0
    pause_look_s: float = 3.0
    """Between two looks at what is paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStores:
    """What survives a session: all of it in the source region's control table.

    `at_home`: how far each shard is settled at home, where targets lack what has been settled.
    """

    checkpoints: Checkpoints
    at_home: Positions
    quarantine: Quarantine
    gaps: Gaps
    presence: Presence | None = None
    """None: nobody is to be told who reads, as where a link catches up."""
    pauses: Pauses | None = None
    """None where nothing is ever paused."""


def unnoted(conflict: Conflict) -> None:
    """Where nobody keeps a ledger, conflicts are only counted."""
    del conflict


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
    note_conflict: Callable[[Conflict], None] = unnoted
