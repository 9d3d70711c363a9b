"""How late a write arrives: measured from outside, in microseconds.

The times that streams give their records have a grain of one second, so the replicators' own
figures cannot be finer for writes that carry no version, and a product should not be its own
witness anyhow. Instead, each region's application keeps writing one item of its own, the canary,
with the time on its clock; a watcher in each other region keeps reading it there. From the time in
the canary to the moment that a strongly consistent read found it, or a newer one, is the lag:
it includes the write itself, and is too long by at most the watcher's interval, never too short.

A canary that was overtaken by a newer one, as happens after a cut, counts from its own time too.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replicator.demo.compare import Canonical, WireItem, key_of
from replicator.demo.world import LEDGER, DemoTable, Pair
from replicator.ports import Api, Clock

WRITE_INTERVAL_S = 0.25
WATCH_INTERVAL_S = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One canary on one link."""

    table: str
    source: str
    target: str
    written_us: int
    seen_us: int

    @property
    def lag_ms(self) -> float:
        """From the write to its being read in the target."""
        return (self.seen_us - self.written_us) / 1000


@dataclass(slots=True, kw_only=True)
class Flight:
    """The canaries of one table on their way from one region to another."""

    table: DemoTable
    source: str
    target: str
    _flying: deque[int] = field(default_factory=deque)

    def released(self, written_us: int) -> None:
        """A canary with this time is about to be written in the source."""
        self._flying.append(written_us)

    def seen(self, item: WireItem | None, now_us: int) -> list[Sample]:
        """What a read in the target says of the canaries up to the one it found."""
        samples = []
        if item is not None:
            while self._flying and self._flying[0] <= int(item["written_us"]["N"]):
                samples.append(
                    Sample(
                        table=self.table.name,
                        source=self.source,
                        target=self.target,
                        written_us=self._flying.popleft(),
                        seen_us=now_us,
                    )
                )
        return samples


class Canaries:
    """All canaries: what to write, what to watch, and the samples so far."""

    def __init__(self, tables: Iterable[DemoTable], *, clock: Clock) -> None:
        self._clock = clock
        self._flights = [
            Flight(table=table, source=source, target=target)
            for table in tables
            for source, target in table.links
        ]
        self._standing: dict[str, dict[Canonical, WireItem]] = defaultdict(dict)
        self.samples: list[Sample] = []

    async def write(self, api: Api, table: DemoTable, source: str) -> None:
        """Write the canary of `source` with the present time."""
        now_us = self._clock.now_us()
        for flight in self._flights:
            if flight.table is table and flight.source == source:
                flight.released(now_us)
        item = {**canary_key(table, source), "written_us": {"N": str(now_us)}}
        await api.call("PutItem", {"TableName": table.name, "Item": item})
        self._standing[table.name][key_of(table, item)] = item

    def standing(self, table: DemoTable) -> Mapping[Canonical, WireItem]:
        """The newest canaries that were written to this table."""
        return self._standing[table.name]

    def newest_lag_ms(self, table: DemoTable, pair: Pair) -> float | None:
        """The lag of the canary that arrived last on this link."""
        for sample in reversed(self.samples):
            if sample.table == table.name and (sample.source, sample.target) == pair:
                return sample.lag_ms
        return None

    async def watch(self, api: Api, target: str) -> None:
        """Read, in one call, every canary that is to arrive in `target`."""
        flights = [flight for flight in self._flights if flight.target == target]
        request: dict[str, Any] = {}
        for flight in flights:
            wanted = request.setdefault(flight.table.name, {"Keys": [], "ConsistentRead": True})
            wanted["Keys"].append(canary_key(flight.table, flight.source))
        answer = await api.call("BatchGetItem", {"RequestItems": request})
        now_us = self._clock.now_us()
        for flight in flights:
            found = answer["Responses"].get(flight.table.name, [])
            key = canary_key(flight.table, flight.source)
            item = next((item for item in found if key.items() <= item.items()), None)
            self.samples += flight.seen(item, now_us)


def canary_key(table: DemoTable, source: str) -> dict[str, dict[str, str]]:
    """The primary key of the canary that `source` writes to `table`."""
    if table is LEDGER:
        return {"account": {"S": f"canary/{source}"}, "entry": {"N": "0"}}
    return {"id": {"S": f"canary/{source}"}}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of all values do not exceed; None for none."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 1000) // 1000))
    return ordered[rank - 1]
