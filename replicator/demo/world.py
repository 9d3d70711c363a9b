"""The demo's world: which regions, tables and addresses there are.

Three regions share one embedded engine and are told apart by the region that a request is signed
for. A region's application and its replicator reach their own tables directly; whatever a
replicator does in another region passes through the link of that ordered pair (network.py), whose
address stands in that replicator's configuration in place of the engine's.

This module must not know what is written or how it is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

from replicator.ports import Api

LOOPBACK = "127.0.0.1"
REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")
CUT_OFF = "ap-southeast-2"
"""The region that the demo cuts off."""

PAIRS = tuple(permutations(REGIONS, 2))
"""Every ordered pair (region of the replicator, region that it writes to)."""

MARKER = "_replicator"
"""The attribute that the replicator adds: no business of an application's, so left out of every
comparison. The product's default; the demo does not configure another."""

Pair: TypeAlias = tuple[str, str]
Apis: TypeAlias = Mapping[str, Api]
"""The endpoint of each region as its application reaches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTable:
    """A table: its key in DynamoDB's types, who writes it and where it is copied to."""

    name: str
    key: tuple[tuple[str, str], ...]
    writers: tuple[str, ...]
    regions: tuple[str, ...] = REGIONS

    @property
    def links(self) -> tuple[Pair, ...]:
        """The ordered pairs along which this table is replicated."""
        return tuple(pair for pair in PAIRS if pair[0] in self.writers)


ORDERS = DemoTable(name="orders", key=(("id", "S"),), writers=REGIONS)
"""Active-active: every region writes."""
LEDGER = DemoTable(name="ledger", key=(("account", "S"), ("entry", "N")), writers=(REGIONS[0],))
"""Disaster recovery: one region writes, the others keep a copy."""
TABLES = (ORDERS, LEDGER)


def configuration(endpoints: Mapping[str, str]) -> str:
    """The text of replicator.toml where the regions are reached at these addresses."""
    lines = ["# Written by the demo, and removed with it."]
    for region, address in endpoints.items():
        lines += ["", f'[regions."{region}"]', f'endpoint_url = "{address}"']
    for table in TABLES:
        lines += ["", f"[tables.{table.name}]"]
        if len(table.writers) > 1:
            lines += [f"regions = {_toml_list(table.regions)}"]
        else:
            (source,) = table.writers
            targets = tuple(target for target in table.regions if target != source)
            lines += [f'source = "{source}"', f"targets = {_toml_list(targets)}"]
    return "\n".join(lines) + "\n"


async def create_tables(apis: Apis) -> None:
    """Create every table in every region, with a stream of old and new images."""
    await asyncio.gather(
        *(
            apis[region].call("CreateTable", _creation(table))
            for table in TABLES
            for region in table.regions
        )
    )


def _creation(table: DemoTable) -> dict[str, Any]:
    roles = ("HASH", "RANGE")
    return {
        "TableName": table.name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in table.key
        ],
        "KeySchema": [
            {"AttributeName": name, "KeyType": role}
            for (name, _), role in zip(table.key, roles, strict=False)
        ],
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }


def _toml_list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
