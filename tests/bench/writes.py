"""Writes per change: what the target is billed for. Counted where they are sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.answers import TABLE, Answers
from bench.endpoint import NullEndpoint
from bench.figures import Bench, Figure, Goal, Round, at_most
from bench.replication import opened, replicate, settings_for
from replicator import loop
from replicator.ports import Api
from replicator.records import Mode

HOT_KEYS = 1000
WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem"})


@dataclass(slots=True)
class Counting:
    """Counts the writes to the table, not those to the control table."""

    api: Api
    counts: Counter[str] = field(default_factory=Counter)

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Count and pass on."""
        if operation in WRITES and request["TableName"] == TABLE:
            self.counts[operation] += 1
        return await self.api.call(operation, request)


@contextmanager
def _writes(figure: str, mode: Mode, answers: Answers) -> Iterator[Round]:
    with NullEndpoint(answers) as endpoint:
        settings = settings_for(mode, endpoint.url)
        with opened(settings) as apis:

            def measure() -> Mapping[str, float]:
                counted = {name: Counting(api) for name, api in apis.items()}
                loop.run(replicate(settings, counted, answers.records))
                writes = sum(each.counts.total() for each in counted.values())
                return {figure: writes / answers.records, "writes": writes}

            yield measure


def _bench(name: str, title: str, goal: Goal, mode: Mode, answers: Answers) -> Bench:
    figure = Figure(name=name, title=title, goal=goal, unit="writes per change")
    return Bench(figures=[figure], prepare=partial(_writes, name, mode, answers))


BENCHES = (
    _bench(
        "writes-uniform",
        "writes per change, each its own key, one-way",
        at_most(1.0),
        Mode.ONE_WAY,
        Answers(pages=5),
    ),
    _bench(
        "writes-hot",
        f"writes per change, {HOT_KEYS} keys by Zipf's law, one-way",
        at_most(0.6),
        Mode.ONE_WAY,
        Answers(pages=5, hot_keys=HOT_KEYS),
    ),
    _bench(
        "writes-echo",
        "writes per echo, every region writes",
        at_most(0.0),
        Mode.MULTI_WRITER,
        Answers(pages=5, echoes=True),
    ),
)
