"""SIGKILL at every single call of a whole pipeline: stream, tables, tombstones, stores.

The simulation crashes the protocol at each of its points; here it is the service around it that
dies (session, reader, keeper, parking, writer), at the first call of its life, at the second, and
so on to the last, before the call and after it took effect. The next process must end the work.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from replicator.errors import Poison, Transient
from replicator.parts import PipelineLimits
from replicator.records import After, Finished
from support.pipelines import PipelineBench

CALLS_AT_LEAST = 40
NAMES = "abcd"


class Wire:
    """Counts calls; at one of them the process stands still for ever, as the dead do."""

    def __init__(self, strike: int | None, *, after: bool) -> None:
        self.calls = 0
        self.dead = False
        self._strike, self._after = strike, after

    def tap(self, port: Any) -> Any:
        """What stands in the place of a port."""
        return _Tapped(port, self)

    async def call(self, made: Any) -> Any:
        """Make a call, if the process lives to make it."""
        self.calls += 1
        struck = self.calls == self._strike
        if (struck and not self._after) or self.dead:
            made.close()
            await self._die()
        answer = await made
        if struck or self.dead:
            await self._die()
        return answer

    def revive(self) -> None:
        """The next process lives on."""
        self.dead, self._strike = False, None

    async def _die(self) -> None:
        self.dead = True
        await asyncio.get_running_loop().create_future()


class _Tapped:
    """A port whose calls go through a wire."""

    def __init__(self, port: Any, wire: Wire) -> None:
        self._port, self._wire = port, wire

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **named: Any) -> Any:
            return await self._wire.call(found(*args, **named))

        return call


def history(bench: PipelineBench) -> None:
    """Creations, updates, deletes, a key made anew, one refused, one that is late, and a split."""
    for name in NAMES:
        bench.write(name, "first")
    bench.write("a", "second")
    bench.write("b", None)
    bench.ports["eu"].fail("put", Poison("too large"), *[Transient("busy")] * 2)
    bench.stream.split("a", "b")
    bench.shard = "b"
    bench.write("b", "again")
    bench.write("c", None)


def at_rest(bench: PipelineBench) -> bool:
    """Whether every record is settled and checkpointed."""
    child = bench.stores.positions.get(("arn:scripted", "b"))
    last = bench.stream.sequences("b")[-1]
    return bench.position == Finished() and child is not None and child.position == After(last)


def run_killed(strike: int | None, *, after: bool) -> int:
    """One life that ends at a call, and one that goes on; returns the calls of the first."""
    wire = Wire(strike, after=after)
    bench = PipelineBench(watch=wire.tap, limits=PipelineLimits(checkpoint_interval_s=0.005))
    history(bench)

    async def first() -> None:
        await bench.until(lambda: wire.dead or at_rest(bench))

    async def second() -> None:
        await bench.until(lambda: at_rest(bench))

    bench.run_and_kill(first)
    calls = wire.calls
    wire.revive()
    bench.run(second)
    at_home, away = bench.contents("us"), bench.contents("eu")
    parked = {change.key.id for change in bench.stores.parked}
    for name in NAMES:
        assert name in parked or at_home.get(name) == away.get(name), (strike, after, name)
    assert at_home == {"a": "second", "b": "again", "d": "first"}
    assert not bench.stores.reported
    return calls


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_a_process_may_die_at_any_call_of_its_life(*, after: bool) -> None:
    """Whatever call it was: what was written is everywhere or parked, nothing came back, and no
    gap is told."""
    calls = run_killed(None, after=after)
    assert calls >= CALLS_AT_LEAST
    for strike in range(1, calls + 1):
        run_killed(strike, after=after)
