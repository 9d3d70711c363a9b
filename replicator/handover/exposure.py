"""What would be lost if a source region vanished now: in seconds, records and keys.

While the source's stream can be read it is told exactly: each unsettled write is looked for in the
target, so that what has arrived and only awaits its checkpoint does not count. When the source is
out of reach, the target's own note (across.py) tells the seconds, and a running process what it
had read and not applied; what neither knows is unknown and never zero.

This module must not know how a result is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conflict.content import digest
from conflict.operations import Item, Key
from replicator.handover.tail import Tail, Write
from replicator.ports import READ_BATCH_MAX, Table

KEYS_MAX = 100_000
"""Keys that are looked for in the target. What lies beyond counts as not across."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What of one table's writes in `source` is not in `target`. None: unknown.

    `seconds`: the age of the oldest such write, or where the source is out of reach, the time for
    which it is unknown what was written. `missing`: the keys in question. `basis`: what told it.
    """

    table: str
    source: str
    target: str
    basis: str
    seconds: float | None
    records: int | None
    keys: int | None
    missing: Sequence[Key] = ()
    at_least: bool = False
    lost: str | None = None

    @property
    def none(self) -> bool:
        """Whether it is known that nothing would be lost."""
        return self.records == 0 and self.keys == 0 and self.lost is None and not self.at_least

    @property
    def document(self) -> dict[str, Any]:
        """Ready for JSON, without the keys."""
        return {
            "table": self.table,
            "source": self.source,
            "target": self.target,
            "basis": self.basis,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "records": self.records,
            "keys": self.keys,
            "at_least": self.at_least,
            "lost": self.lost,
        }

    @property
    def line(self) -> str:
        """On one line."""
        more = " at least" if self.at_least else ""
        words = [
            "unknown for how long" if self.seconds is None else f"{self.seconds:,.1f} s",
            f"{_count(self.records)} records{more}",
            f"{_count(self.keys)} keys{more}",
        ]
        text = "nothing" if self.none else ", ".join(words)
        text += f" ({self.basis})"
        lost = f"; records are lost: {self.lost}" if self.lost else ""
        where = f"{self.table}, {self.source} → {self.target}"
        return f"{where}: not yet across: {text}{lost}"


async def read_exposure(
    tail: Tail, target: str, table: Table, now_us: int, home: Table | None = None
) -> Exposure:
    """What the target lacks of what a tail holds, once it has looked. `home`: see `not_in`."""
    missing = await not_in(table, tail.outstanding, home)
    left = {write.key.id: write.key for write in missing}
    oldest_us = min((write.created_us for write in missing), default=None)
    return Exposure(
        table=tail.table,
        source=tail.source,
        target=target,
        basis="read from the stream" if home is None else "stream and items compared",
        seconds=0.0 if oldest_us is None else max(0.0, (now_us - oldest_us) / 1e6),
        records=len(missing),
        keys=len(left),
        missing=tuple(left.values()),
        at_least=tail.unreadable > 0,
        lost=tail.lost,
    )


async def not_in(table: Table, writes: Sequence[Write], home: Table | None) -> list[Write]:
    """The writes that a target lacks.

    `home`: the source's table, where nobody tells what of its stream is settled. Then what is the
    same there and in the target is across, whoever wrote last; and all keys are looked for.
    """
    by_key: dict[str, list[Write]] = {}
    for write in writes:
        by_key.setdefault(write.key.id, []).append(write)
    keys = [of_key[-1].key for of_key in by_key.values()]
    missing: list[Write] = []
    for start in range(0, len(keys), READ_BATCH_MAX):
        batch = keys[start : start + READ_BATCH_MAX]
        if home is None and start >= KEYS_MAX:
            missing += [write for key in batch for write in by_key[key.id]]
            continue
        own = None if home is None else await home.get(batch)
        items = await table.get(batch)
        for place, (key, item) in enumerate(zip(batch, items, strict=True)):
            if own is None or _content(own[place]) != _content(item):
                missing += _not_in(by_key[key.id], item)
    return missing


def _content(item: Item | None) -> bytes | None:
    return None if item is None else digest(item.image)


def _not_in(writes: Sequence[Write], item: Item | None) -> list[Write]:
    """The writes of one key that came after what the target holds of them; all, if it holds none.

    A record that lacks its image cannot be told from another: then all of them are left.
    """
    held = _content(item)
    for index in range(len(writes) - 1, -1, -1):
        write = writes[index]
        there = held is None if write.gone else write.content is not None and write.content == held
        if there:
            return list(writes[index + 1 :])
    return list(writes)


def noted_exposure(
    table: str, source: str, target: str, *, until_us: int | None, now_us: int, pending: int | None
) -> Exposure:
    """What is known of a source that is out of reach. `pending`: read by a process, not applied."""
    seconds = None if until_us is None else max(0.0, (now_us - until_us) / 1e6)
    basis = "the source does not answer; "
    basis += "nothing was ever noted" if until_us is None else "by what was noted in the target"
    return Exposure(
        table=table,
        source=source,
        target=target,
        basis=basis,
        seconds=seconds,
        records=pending or None,
        keys=None,
        at_least=bool(pending),
    )


def pending_of(
    statuses: Sequence[Mapping[str, Any]], table: str, source: str, target: str
) -> int | None:
    """What running processes say they have read of a link and not applied; None: none runs it."""
    for status in statuses:
        for pipeline in status["pipelines"]:
            if (pipeline["table"], pipeline["source"]) != (table, source):
                continue
            for link in pipeline["links"]:
                if link["target"] == target and isinstance(link.get("pending"), int):
                    pending: int = link["pending"]
                    return pending
    return None


def _count(value: int | None) -> str:
    return "an unknown number of" if value is None else f"{value:,}"
