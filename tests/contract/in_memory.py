"""The simulator's memory as a subject of the contract.

What is held to the contract is support.memory: its operations, and what they leave in its stream.
Iterators and pages, which the simulator has no use for, are made here in the plainest way.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from conflict.operations import (
    AnyOperation,
    AttributeValue,
    Get,
    Image,
    Item,
    Key,
    KeyState,
    Operation,
    ReadState,
)
from contract.subject import MARKER
from replicator.errors import ShardGone
from replicator.records import (
    After,
    Checkpoint,
    Page,
    StreamDescription,
    TrimHorizon,
    ViewType,
)
from replicator.table import key_of
from support.memory import MemoryRegion

T = TypeVar("T")

REGION = "eu-west-1"

_numbers = itertools.count(1)


class MemorySubject:
    """One table in memory; a `contract.subject.Subject` without checkpoints."""

    def __init__(
        self, view_type: ViewType = ViewType.NEW_AND_OLD_IMAGES, *, ranged: bool = False
    ) -> None:
        self.region = REGION
        self.table = f"orders-{next(_numbers)}"
        self._key_names = ("id", "at") if ranged else ("id",)
        self._memory = MemoryRegion(REGION, view=view_type)
        self._memory.now_us = time.time_ns() // 1000
        self._enabled = True

    def perform(self, operation: Operation[T]) -> T:
        return cast("T", self._memory.execute(cast("AnyOperation", operation)))

    def get(self, keys: Sequence[Key]) -> list[Item | None]:
        return [self.perform(Get(REGION, key)) for key in keys]

    def read(self, keys: Sequence[Key]) -> list[KeyState]:
        return [self.perform(ReadState(REGION, key)) for key in keys]

    def load(self, table: str, source: str) -> list[Checkpoint]:
        raise NotImplementedError

    def save(self, checkpoint: Checkpoint) -> None:
        raise NotImplementedError

    def save_all(self, checkpoints: Iterable[Checkpoint]) -> None:
        raise NotImplementedError

    def describe(self) -> StreamDescription:
        stream = self._memory.stream
        return StreamDescription(
            arn=f"memory/{self.table}",
            view_type=stream.view,
            enabled=self._enabled,
            shards=stream.describe(),
        )

    def iterator(self, shard: str, position: TrimHorizon | After) -> str:
        if shard not in {known.id for known in self._memory.stream.describe()}:
            raise ShardGone(shard)
        after = position.sequence if isinstance(position, After) else 0
        return f"{shard}/{after}"

    def records(self, iterator: str, limit: int) -> Page:
        name, _, after = iterator.rpartition("/")
        shard = self._memory.stream.shard(name)
        left = [record for record in shard.records if record.sequence > int(after)]
        page = tuple(left[:limit])
        ended = shard.closed and len(left) <= limit
        last = page[-1].sequence if page else after
        return Page(records=page, next_iterator=None if ended else f"{name}/{last}")

    def application_put(self, image: Image) -> None:
        content = {name: value for name, value in image.items() if name != MARKER}
        key = key_of(image, self._key_names)
        self._memory.write(key, Item(content, image.get(MARKER)))

    def application_set(self, key: Key, attribute: str, value: AttributeValue) -> None:
        standing = self._memory.items.get(key.id) or Item(key.attributes, None)
        self._memory.write(key, Item({**standing.image, attribute: value}, standing.marker))

    def application_delete(self, key: Key) -> None:
        self._memory.write(key, None)

    def disable_stream(self) -> None:
        self._enabled = False
        for shard in self._memory.stream.open_shards():
            shard.closed = True
