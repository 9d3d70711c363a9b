"""One application that writes in one region and keeps a journal: what it wrote where, and when.

The journal is the truth that a reported exposure is held against. Only what was acknowledged is in
it. Keys are of two kinds: some are written again and again, others once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from support.black_box import until
from support.black_box_tables import Connection, Table, Wire
from support.black_box_writers import Writing

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

HOT_KEYS = 12
PACE_S = 0.03
ARRIVAL_WITHIN_S = 30.0


@dataclass(frozen=True)
class Entry:
    """One acknowledged write. `value` None: a delete."""

    key: str
    value: str | None
    begun_s: float


@dataclass
class JournalWriter(Writing):
    """Writes from `start` to `stop`."""

    connection: Connection
    table: Table
    region: str
    rng: Random
    deletes: bool = True
    entries: list[Entry] = field(default_factory=list)
    pace_s: float = PACE_S

    def write(self) -> None:
        """Make one write and note it."""
        hot = self.rng.random() < 0.8
        number = self.rng.randrange(HOT_KEYS) if hot else len(self.entries)
        key = f"{self.region}-{'hot' if hot else 'once'}-{number}"
        begun_s = time.time()
        if hot and self.deletes and self.rng.random() < 0.2:
            self._client.delete_item(TableName=self._name, Key={"id": {"S": key}})
            value = None
        else:
            value = f"{self.region} {len(self.entries)}"
            item: Wire = {"id": {"S": key}, "v": {"S": value}}
            self._client.put_item(TableName=self._name, Item=item)
        self.entries.append(Entry(key, value, begun_s))

    def turn(self) -> bool:
        """One write, without end."""
        self.write()
        return True

    @property
    def _client(self) -> DynamoDBClient:
        return self.connection.client(self.region)

    @property
    def _name(self) -> str:
        return self.table.physical(self.region)


def held(connection: Connection, table: Table, region: str) -> dict[str, str]:
    """The value of each key in a region."""
    return {item["id"]["S"]: item["v"]["S"] for item in connection.scan(table, region)}


def missing(entries: list[Entry], present: Mapping[str, str]) -> list[Entry]:
    """The writes of a journal that are later than what a region holds of their keys."""
    left: dict[str, list[Entry]] = {}
    for entry in entries:
        left.setdefault(entry.key, []).append(entry)
        if present.get(entry.key) == entry.value:
            left[entry.key] = []
    return [entry for writes in left.values() for entry in writes]


def standing(*journals: list[Entry]) -> dict[str, str]:
    """What every region must hold in the end of journals that share no keys."""
    last = {entry.key: entry.value for entries in journals for entry in entries}
    return {key: value for key, value in last.items() if value is not None}


def await_arrival(writer: JournalWriter, region: str, after: int) -> None:
    """Wait until a region has a write that came at least some writes after this moment."""
    known = len(writer.entries) + after

    def arrived() -> bool:
        fresh = (entry.key for entry in writer.entries[known:] if "-once-" in entry.key)
        key = next(fresh, None)
        if key is None:
            return False
        return writer.connection.get(writer.table, region, {"id": {"S": key}}) is not None

    until(arrived, within_s=ARRIVAL_WITHIN_S, what=f"{writer.region}'s writes reach {region}")
