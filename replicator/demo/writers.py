"""The applications: they write as real ones do, and know nothing of replication.

One per region works on `orders`, with puts, partial updates, deletes and re-creates, and picks its
keys so that regions meet: a few hot ones that all of them write, and many cool ones. One more, in
a single region, keeps the `ledger`. Items hold values of every type that DynamoDB has, among them
those that careless code damages: 38 digits, an empty string, an empty list, binary, all sets.

Every item carries `write` (the id of the write that made it what it is), `written_in` and
`written_us`. This module must not know of the network, the replicators or the phases of the demo.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from replicator.demo.compare import Canonical, WireItem, key_of
from replicator.demo.journal import Journal, Kind, Write
from replicator.demo.world import LEDGER, DemoTable
from replicator.ports import Api, Clock

HOT_KEYS = tuple(f"order-{number}" for number in range(1, 9))
COOL_KEYS = tuple(f"order-{number}" for number in range(100, 300))
ACCOUNTS = ("cash", "stock", "sales")
STATES = ("new", "paid", "packed", "shipped", "returned")

KINDS = (Kind.PUT, Kind.UPDATE, Kind.DELETE)
KIND_WEIGHTS = (45, 37, 18)

DIGITS_38 = 10**37
"""Source: HowItWorks.NamingRulesDataTypes, "up to 38 digits of precision"."""

WRITES_PER_S = 18.0
"""By each region's application on `orders`."""
LEDGER_WRITES_PER_S = 8.0
WriteKey: TypeAlias = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One region's access to one table: makes a write, and takes it down."""

    region: str
    table: DemoTable
    api: Api
    journal: Journal
    clock: Clock
    random: random.Random

    async def write(self, kind: Kind, key: WriteKey) -> WireItem | None:
        """Make one write; the result is the item as it stands after it, None after a delete."""
        now_us = self.clock.now_us()
        identity = f"{self.region}/{now_us}/{self.random.randrange(16**6):06x}"
        provenance = {
            "write": {"S": identity},
            "written_in": {"S": self.region},
            "written_us": {"N": str(now_us)},
        }
        after: WireItem | None = None
        if kind is Kind.DELETE:
            old = await self._call("DeleteItem", {"Key": key})
        elif kind is Kind.UPDATE:
            changed = {**provenance, "state": {"S": self.random.choice(STATES)}}
            old = await self._call("UpdateItem", {"Key": key, **_setting(changed)})
            after = {**(old or key), **changed}
        else:
            after = {**key, **provenance, **content(self.random)}
            old = await self._call("PutItem", {"Item": after})
        self.journal.record(
            Write(
                id=identity,
                region=self.region,
                table=self.table.name,
                key="/".join(value for part in key.values() for value in part.values()),
                kind=kind,
                overwrote=None if old is None else old["write"]["S"],
            )
        )
        return after

    async def _call(self, operation: str, request: Mapping[str, Any]) -> WireItem | None:
        """Make the call; the result is the item that stood before it."""
        answer = await self.api.call(
            operation, {"TableName": self.table.name, "ReturnValues": "ALL_OLD", **request}
        )
        old: WireItem | None = answer.get("Attributes") or None
        return old


@dataclass(slots=True, kw_only=True)
class Orders:
    """The application of one region on the table that all of them write."""

    writer: Writer
    hot_share: float = 0.0
    """The part of its writes that goes to the hot keys."""

    async def step(self) -> None:
        """One write of some kind to some key."""
        rng = self.writer.random
        keys = HOT_KEYS if rng.random() < self.hot_share else COOL_KEYS
        (kind,) = rng.choices(KINDS, KIND_WEIGHTS)
        await self.writer.write(kind, order_key(rng.choice(keys)))


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The application of the one region that writes the ledger: it appends, and at times corrects.

    It is alone, so what it wrote is what must stand in the source, to the byte: `written`.
    """

    writer: Writer
    written: dict[Canonical, WireItem] = field(default_factory=dict)
    _entries: int = 0

    async def step(self) -> None:
        """Append an entry, or amend or delete an earlier one."""
        rng = self.writer.random
        kind = rng.choices(KINDS, KIND_WEIGHTS)[0] if self._entries else Kind.PUT
        if kind is Kind.PUT:
            self._entries += 1
            entry = self._entries
        else:
            entry = rng.randint(1, self._entries)
        await self.write(kind, entry)

    async def write(self, kind: Kind, entry: int) -> None:
        """Write one entry and remember what must stand now."""
        account = ACCOUNTS[entry % len(ACCOUNTS)]
        key = {"account": {"S": account}, "entry": {"N": str(entry)}}
        after = await self.writer.write(kind, key)
        if after is None:
            self.written.pop(key_of(LEDGER, key), None)
        else:
            self.written[key_of(LEDGER, key)] = after


def order_key(order: str) -> WriteKey:
    """The primary key of an order."""
    return {"id": {"S": order}}


def content(rng: random.Random) -> dict[str, dict[str, Any]]:
    """Attributes of every type, with values that a careless replicator damages."""
    total = rng.randrange(DIGITS_38, DIGITS_38 * 10)
    return {
        "state": {"S": rng.choice(STATES)},
        "total": {"N": str(total)},
        "rate": {"N": f"{rng.randrange(1, 1000)}E-120"},
        "note": {"S": ""},
        "signature": {"B": rng.randbytes(24)},
        "gift": {"BOOL": rng.choice((True, False))},
        "coupon": {"NULL": True},
        "tags": {"SS": ["blue", "größe", f"batch-{rng.randrange(50)}"]},
        "sizes": {"NS": ["1", "2.5", str(rng.randrange(3, 100))]},
        "scans": {"BS": [b"", rng.randbytes(4)]},
        "address": {"M": {"city": {"S": "Sydney"}, "floor": {"N": "-3"}, "extra": {"M": {}}}},
        "lines": {
            "L": [
                {"M": {"sku": {"S": f"sku-{rng.randrange(900)}"}, "count": {"N": "2"}}},
                {"L": []},
            ]
        },
    }


def _setting(changed: WireItem) -> dict[str, Any]:
    """An UpdateItem that sets these attributes and leaves all others alone."""
    names = list(changed)
    return {
        "UpdateExpression": "SET " + ", ".join(f"#{i} = :{i}" for i in range(len(names))),
        "ExpressionAttributeNames": {f"#{i}": name for i, name in enumerate(names)},
        "ExpressionAttributeValues": {f":{i}": changed[name] for i, name in enumerate(names)},
    }
