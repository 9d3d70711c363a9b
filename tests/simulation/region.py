"""One region of the simulated world: the table in memory, with a time-to-live service.

This module must not know replication.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from conflict.operations import Image, Item, Key, Outcome, Result, judged
from support.memory import MemoryRegion

EXPIRES = "expires"
"""The time-to-live attribute; an item that has it may expire at any moment."""

Watcher: TypeAlias = Callable[["Region", Key, Item | None], None]


def key_of(attributes: Image) -> Key:
    """The key of an item whose only key attribute is the string `id`."""
    return Key(attributes, str(attributes["id"]["S"]))


def may_expire(image: Image | None) -> bool:
    """Whether the time-to-live service may delete an item."""
    return image is not None and EXPIRES in image


def believed(answer: Result, limit_us: int) -> Result:
    """An answer as the shipping code's port hands it on: see `judged`."""
    if isinstance(answer, Item):
        return judged(answer, limit_us)
    if isinstance(answer, Outcome):
        return Outcome(answer.done, judged(answer.item, limit_us))
    return answer


class Region(MemoryRegion):
    """A table with its stream. `watcher` is told of every write that changed something."""

    watcher: Watcher | None = None

    def expire(self, key: Key) -> None:
        """Delete an item as the time-to-live service does: its record says who did it."""
        self.write(key, None)
        for shard in self.stream.shards:
            if shard.records and shard.records[-1].sequence == self.stream.written:
                shard.records[-1] = replace(shard.records[-1], ttl=True)

    def write(self, key: Key, item: Item | None) -> None:
        """Write or (None) delete an item, unconditionally."""
        before = self.stream.written
        super().write(key, item)
        if self.watcher is not None and self.stream.written != before:
            self.watcher(self, key, item)
