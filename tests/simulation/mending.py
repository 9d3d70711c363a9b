"""The repair of a gap in the simulation: conflict.repair, one operation at a time, beside all else.

It goes by the rules of replicator.verify.candidates: a key is looked at in every region until all
are equal, or nothing has moved for STEADY_LOOKS looks; then the verdict is carried out, and looked
at again. The gap is closed by a pass in which no difference was left. A pass may be cut between
any two operations, and then begins anew. Where versions do not tell and nobody decides, the gap
stands; after a pass like that somebody names an authority.

This module must not know how records were lost.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from conflict.merge import Steps
from conflict.operations import AnyOperation, Key
from conflict.repair import Holding, Verdict, compare, compare_one_way, look, repair
from replicator.verify.candidates import ROUNDS_MAX, STEADY_LOOKS
from simulation.coverage import Coverage, Situation
from simulation.region import Region, believed
from simulation.schedule import FUTURE_BOUND_US, Schedule
from simulation.worker import Tell, Worker

CUT = 0.01
"""How often a pass is cut, per operation."""

PAUSE_STEPS_MAX = 40
"""Between two looks at a key."""


class Mending:
    """The mending of one worker's gap. Every `step` is one operation, or a moment of waiting."""

    def __init__(
        self,
        world: Mapping[str, Region],
        worker: Worker,
        *,
        workers: Sequence[Worker],
        schedule: Schedule,
        rng: random.Random,
        coverage: Coverage,
        tell: Tell | None,
    ) -> None:
        self._world, self._worker, self._workers = world, worker, workers
        self._schedule, self._rng = schedule, rng
        self._coverage, self._tell = coverage, tell
        self._authority: str | None = None
        self._answer: Any = None
        self._begun = False
        self._begin()

    @property
    def over(self) -> bool:
        """Whether the gap is closed."""
        return not self._worker.gaps

    def step(self) -> None:
        """Do one thing, once the worker has read on to the present."""
        if self.over or not (self._begun or self._worker.caught_up):
            return
        if self._begun and self._rng.random() < CUT:
            self._begin()
            return
        self._begun = True
        try:
            operation = self._pass.send(self._answer)
        except StopIteration as end:
            self._ended(standing=end.value)
            return
        self._answer = None
        if operation is not None:
            limit_us = self._world[self._worker.home].now_us + FUTURE_BOUND_US
            answer = self._world[operation.region].execute(operation)
            self._answer = believed(answer, limit_us)
            if self._tell:
                self._tell(f"mending {self._worker.home}", "call", (operation, answer))

    def _begin(self) -> None:
        self._lost = frozenset(worker.home for worker in self._workers if worker.gaps)
        self._seen = list(self._worker.gaps)
        self._pass = self._look_at_all()
        self._answer, self._begun = None, False

    def _ended(self, *, standing: int) -> None:
        """Close the gap if all is well, unless records were lost again meanwhile."""
        if not standing and self._worker.gaps == self._seen:
            self._worker.gaps.clear()
            return
        if standing:
            self._authority = self._rng.choice(self._schedule.regions)
        self._begin()

    def _look_at_all(self) -> Generator[AnyOperation | None, Any, int]:
        """One pass; returns how many keys were left different."""
        standing = 0
        for key in self._schedule.keys:
            standing += yield from self._settle(key)
        return standing

    def _settle(self, key: Key) -> Generator[AnyOperation | None, Any, bool]:
        """Look at a key to the end; whether it was left different."""
        before: Mapping[str, Holding] | None = None
        looks = repairs = 0
        for _ in range(ROUNDS_MAX):
            holdings: dict[str, Holding] = {}
            for region in self._schedule.regions:
                holdings[region] = yield from _driven(look(region, key))
            verdict = self._judged(key, holdings)
            if verdict.equal:
                return False
            looks = looks + 1 if holdings == before else 1
            before = holdings
            if looks >= STEADY_LOOKS:
                if not verdict.decided:
                    self._coverage.note(Situation.UNDECIDED)
                    return True
                if repairs == STEADY_LOOKS:
                    return True
                yield from _driven(repair(verdict))
                self._coverage.note(Situation.MENDED)
                repairs, looks = repairs + 1, 0
            for _ in range(self._rng.randint(1, PAUSE_STEPS_MAX)):
                yield None
        return repairs > 0

    def _judged(self, key: Key, holdings: Mapping[str, Holding]) -> Verdict:
        source = self._schedule.source
        if source is not None:
            return compare_one_way(key, source, holdings)
        return compare(key, holdings, authority=self._authority, lost=self._lost)


def _driven(steps: Steps[Any]) -> Generator[AnyOperation | None, Any, Any]:
    return (yield from steps)
