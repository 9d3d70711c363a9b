"""A whole pipeline in memory and virtual time: scripted stream, regions, stores, and the figures.

The home region's table writes into the scripted stream, so that the replicator's own stamps come
back as echoes; the targets are regions in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from conflict.operations import Image, Item, Key
from conflict.version import Kind, Version
from replicator.compose import LinkObserver
from replicator.ledger import Conflict
from replicator.parts import PipelineLimits, PipelineParts, PipelineStores, unnoted
from replicator.pipeline import Pipeline
from replicator.ports import StreamSource
from replicator.reader import ReaderLimits
from replicator.records import After, Checkpoint, EventName, Finished, Mode, Parked, Record
from replicator.telemetry import PipelineStats
from replicator.transformer import Transformer
from replicator.writer import RegionPort, Writer, WriterLimits
from support.adapters import MemoryPorts, Stores
from support.clock import VirtualClock
from support.memory import MARKER, MemoryRegion, MemoryStream
from support.scripted_stream import ScriptedStream, Shape

FUTURE_BOUND_US = 60_000_000


def key_of(attributes: Image) -> Key:
    """The key of an item whose only key attribute is the string `id`."""
    return Key(attributes, str(attributes["id"]["S"]))


def image(name: str, content: str) -> Image:
    """An item's image."""
    return {"id": {"S": name}, "content": {"S": content}}


def checkpoint(arn: str, position: After | Finished, shard: str = "a") -> Checkpoint:
    """A stored position."""
    return Checkpoint(table="orders", source="us", stream_arn=arn, shard=shard, position=position)


def parked(target: str, name: str, source: str = "us") -> Parked:
    """A change that is kept aside since an earlier run."""
    key = Key({"id": {"S": name}}, name)
    return Parked(
        table="orders",
        source=source,
        target=target,
        key=key,
        version=Version(7, source, 1, Kind.SETTLED),
        image=image(name, "x"),
        reason="too large",
        parked_us=7,
    )


class _Bridge(MemoryStream):
    """The stream of a table in memory, told to a scripted one."""

    def __init__(self, desk: PipelineBench) -> None:
        super().__init__()
        self._desk = desk

    def append(self, key: Key, old: Image | None, new: Image | None, created_us: int) -> None:
        super().append(key, old, new, created_us)
        self._desk.stream.append(self._desk.shard, self.shards[0].records[-1])


class MemoryPauses:
    """ports.Pauses in memory, which can be out of reach."""

    def __init__(self) -> None:
        self.paused: dict[str, int] = {}
        self.error: Exception | None = None

    async def load(self, table: str, source: str) -> dict[str, int]:
        del table, source
        if self.error is not None:
            raise self.error
        return dict(self.paused)


class PipelineBench:
    """One pipeline out of `us` and everything around it."""

    def __init__(
        self,
        *,
        shape: Shape | None = None,
        targets: tuple[str, ...] = ("eu",),
        mode: Mode = Mode.MULTI_WRITER,
        limits: PipelineLimits | None = None,
        reader_limits: ReaderLimits | None = None,
        call_s: float = 0.001,
        note_conflict: Callable[[Conflict], None] = unnoted,
        watch: Callable[[Any], Any] = lambda port: port,
        clock: VirtualClock | None = None,
    ) -> None:
        """`watch` is given each port, and returns what stands in its place."""
        self.note_conflict = note_conflict
        self.clock = clock or VirtualClock()
        self._watch = watch
        self.stop = asyncio.Event()
        self.shard = "a"
        self.stream = ScriptedStream(clock=self.clock, shape=shape or {"a": {}})
        self.regions = {name: MemoryRegion(name) for name in ("us", *targets)}
        self.regions["us"].stream = _Bridge(self)
        self.ports = {
            name: MemoryPorts(region, sleep=self.clock.sleep, call_s=call_s)
            for name, region in self.regions.items()
        }
        self.stores = Stores(sleep=self.clock.sleep)
        self.pauses = MemoryPauses()
        self.find_errors: list[Exception] = []
        self.stats = PipelineStats(table="orders", source="us", mode=mode.value, targets=targets)
        self._mode, self._limits = mode, limits or PipelineLimits()
        self._reader_limits = reader_limits or ReaderLimits()
        self.pipeline = Pipeline(self._parts())

    def _parts(self) -> PipelineParts:
        return PipelineParts(
            find_stream=self._find_stream,
            transformer=Transformer(
                home="us",
                mode=self._mode,
                marker=MARKER,
                key_of=key_of,
                future_bound_us=FUTURE_BOUND_US,
            ),
            writer=Writer(
                regions={
                    name: RegionPort(
                        table=self._watch(ports),
                        states=self._watch(ports),
                        concurrency=8,
                        limit_us=lambda: self.clock.now_us() + FUTURE_BOUND_US,
                    )
                    for name, ports in self.ports.items()
                },
                limits=WriterLimits(),
                observer=LinkObserver(self.stats),
                sleep=self.clock.sleep,
                rng=Random(1),
            ),
            stores=PipelineStores(
                checkpoints=self._watch(self.stores.checkpoints),
                at_home=self._watch(self.stores.at_home),
                quarantine=self._watch(self.stores.quarantine),
                gaps=self._watch(self.stores.gaps),
                pauses=self.pauses,
            ),
            stats=self.stats,
            limits=self._limits,
            reader_limits=self._reader_limits,
            clock=self.clock,
            sleep=self.clock.sleep,
            rng=Random(2),
            note_conflict=self.note_conflict,
        )

    async def _find_stream(self) -> tuple[str, StreamSource]:
        if self.find_errors:
            raise self.find_errors.pop(0)
        return self.stream.arn, self._watch(self.stream)

    # --- what a test does ---------------------------------------------------------------------

    def write(self, name: str, content: str | None) -> int:
        """An application's put or (None) delete at home; returns the record's sequence."""
        home = self.regions["us"]
        home.now_us = self.clock.now_us() // 1_000_000 * 1_000_000
        written = None if content is None else Item(image(name, content), None)
        home.write(Key({"id": {"S": name}}, name), written)
        return self.stream.sequences(self.shard)[-1]

    def append_aged(self, name: str, age_s: float, shard: str = "a") -> int:
        """A write of some time ago that the stream still holds; returns its sequence."""
        made = Record(
            sequence=0,
            created_us=self.clock.now_us() - int(age_s * 1e6),
            event=EventName.INSERT,
            keys={"id": {"S": name}},
            new=image(name, "x"),
        )
        return self.stream.append(shard, made).sequence

    def run(self, script: Callable[[], Awaitable[None]], *, limit_s: float = 86_400.0) -> None:
        """Run the pipeline while `script` runs, then stop it."""

        async def main() -> None:
            running = asyncio.create_task(self.pipeline.run(self.stop))
            try:
                await script()
            finally:
                self.stop.set()
                await running

        self.clock.run(main(), limit_s=limit_s)

    def run_and_kill(
        self, script: Callable[[], Awaitable[None]], *, limit_s: float = 86_400.0
    ) -> None:
        """Run the pipeline while `script` runs, then end it as SIGKILL does: nothing is saved.

        What runs next is another process, which knows what is stored and nothing else.
        """

        async def main() -> None:
            running = asyncio.create_task(self.pipeline.run(self.stop))
            try:
                await script()
            finally:
                running.cancel()
                await asyncio.wait({running})

        self.clock.run(main(), limit_s=limit_s)
        self.stop = asyncio.Event()  # one belongs to its loop
        self.pipeline = self.another()

    def another(self, mode: Mode | None = None) -> Pipeline:
        """A second process for the same source: other memory, the same stores and tables.

        `mode`: the configuration was changed meanwhile.
        """
        self._mode = mode or self._mode
        links = tuple(name for name in self.regions if name != "us")
        self.stats = PipelineStats(
            table="orders", source="us", mode=self._mode.value, targets=links
        )
        return Pipeline(self._parts())

    async def until(self, condition: Callable[[], bool], *, step_s: float = 0.01) -> None:
        """Wait in virtual time."""
        await self.clock.until(condition, step_s=step_s)

    # --- what a test sees ---------------------------------------------------------------------

    def contents(self, region: str) -> dict[str, object]:
        """What a region holds, by key."""
        return {
            name: item.image["content"]["S"] for name, item in self.regions[region].items.items()
        }

    @property
    def position(self) -> After | Finished | None:
        """The stored position of the first shard of the present stream."""
        stored = self.stores.positions.get((self.stream.arn, "a"))
        return None if stored is None else stored.position

    @property
    def position_at_home(self) -> After | Finished | None:
        """How far that shard is known to be settled at home."""
        stored = self.stores.positions_at_home.get((self.stream.arn, "a"))
        return None if stored is None else stored.position

    @property
    def link(self) -> dict[str, Any]:
        """The figures of the only link."""
        (link,) = self.snapshot()["links"]
        figures: dict[str, Any] = link
        return figures

    def snapshot(self) -> dict[str, Any]:
        """The status document as of now."""
        return self.stats.snapshot(self.clock.now_us())
