"""The judgement: tables equal, the last writes standing, the one-way source untouched.

Judged from outside, by what is in the tables and what the applications know that they wrote.

`settle` waits until nothing moves any more, and reports what differs if that does not come about.
A write that is then made is causally last, for its region has seen every other write: `last_round`
makes one for each of many keys, and after settling again exactly these must stand everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from replicator.demo import statuses
from replicator.demo.compare import (
    Canonical,
    Contents,
    Difference,
    WireItem,
    canonical,
    differences,
    key_of,
    scan,
)
from replicator.demo.stage import STATUS_INTERVAL_S, Stage
from replicator.demo.world import LEDGER, ORDERS, REGIONS, TABLES
from replicator.demo.writers import COOL_KEYS, HOT_KEYS, KIND_WEIGHTS, KINDS, order_key

SETTLE_WITHIN_S = 90.0
SETTLED_LOOKS = 2
"""Consecutive looks that must find all idle and equal: a record that is not read yet is in no
replicator's figures, so one look could come too early."""

LAST_ROUND_COOL_KEYS = 56

Expected = Mapping[Canonical, WireItem | None]
AllContents = Mapping[str, Mapping[str, Contents]]
"""By table and region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found; `good` is what the exit status says."""

    contents: AllContents
    settled: bool
    differences: tuple[Difference, ...]
    last_writes: int
    last_writes_lost: tuple[Canonical, ...]
    source_untouched: bool

    @property
    def good(self) -> bool:
        """Whether all is as it must be."""
        return (
            self.settled
            and not self.differences
            and self.last_writes > 0
            and not self.last_writes_lost
            and self.source_untouched
        )


async def judge(stage: Stage, *, within_s: float = SETTLE_WITHIN_S) -> Verdict:
    """Let everything settle, make the last round of writes, settle again, and judge."""
    settled, contents = await settle(stage, within_s=within_s)
    expected: Expected = {}
    if settled:
        expected = await last_round(stage)
        settled, contents = await settle(stage, within_s=within_s)
    written = {**stage.ledger.written, **stage.canaries.standing(LEDGER)}
    return Verdict(
        contents=contents,
        settled=settled,
        differences=tuple(_all_differences(contents)),
        last_writes=len(expected),
        last_writes_lost=tuple(lost(expected, contents[ORDERS.name])),
        source_untouched=untouched(written, contents[LEDGER.name][LEDGER.writers[0]]),
    )


async def settle(stage: Stage, *, within_s: float) -> tuple[bool, AllContents]:
    """Wait until all replicators are idle and all tables equal; the result is whether they are."""
    deadline = stage.clock.monotonic_s() + within_s
    looks = 0
    while True:
        await stage.poll()
        calm = statuses.idle(stage.statuses)
        late = stage.clock.monotonic_s() > deadline
        if calm or late:
            contents = await read_all(stage)
            looks = looks + 1 if calm and not _all_differences(contents) else 0
            if looks == SETTLED_LOOKS or late:
                return looks > 0, contents
        await asyncio.sleep(STATUS_INTERVAL_S)


async def last_round(stage: Stage) -> Expected:
    """Write to each of many keys once, in some region; the result is what must stand then."""
    rng = stage.orders[REGIONS[0]].writer.random
    expected = {}
    for order in (*HOT_KEYS, *rng.sample(COOL_KEYS, LAST_ROUND_COOL_KEYS)):
        key = order_key(order)
        (kind,) = rng.choices(KINDS, KIND_WEIGHTS)
        writer = stage.orders[rng.choice(REGIONS)].writer
        expected[key_of(ORDERS, key)] = await writer.write(kind, key)
    return expected


async def read_all(stage: Stage) -> AllContents:
    """Every table in every region."""
    return {
        table.name: {region: await scan(stage.apis[region], table) for region in table.regions}
        for table in TABLES
    }


def lost(expected: Expected, contents: Mapping[str, Contents]) -> list[Canonical]:
    """The keys under which some region has something else than the last write."""
    return [
        key
        for key, item in expected.items()
        if any(_form(items.get(key)) != _form(item) for items in contents.values())
    ]


def untouched(written: Contents, source: Contents) -> bool:
    """Whether the source holds what its application wrote, and not as much as a marker more."""
    return written.keys() == source.keys() and all(
        canonical(written[key]) == canonical(item, without=None) for key, item in source.items()
    )


def _all_differences(contents: AllContents) -> list[Difference]:
    return [found for table in TABLES for found in differences(table, contents[table.name])]


def _form(item: WireItem | None) -> Canonical | None:
    return None if item is None else canonical(item)
