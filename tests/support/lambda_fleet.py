"""Lambda mode from outside: a mapping per region, and functions under the real runtime client.

A `Fleet` stands in the place of `replicator run` in a black-box world. For each region that is read
it polls the stream as a mapping does, and has the slots that have work worked by as many execution
environments as may be busy at once. Nothing of the product is imported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from support.black_box import SETTLE_WITHIN_S, World, until
from support.black_box_tables import StreamLog, Table
from support.blows import BLOWS, Blow
from support.event_source_mapping import EventSourceMapping, Slot, lambda_record
from support.lambda_runtime import ExecutionEnvironment

POLL_S = 0.25
"""Source: AWS Lambda, "Using AWS Lambda with Amazon DynamoDB", four times a second."""

TIMEOUT_S = 10.0


class FunctionOfRegion:
    """One region's function with its mapping on one table's stream."""

    def __init__(
        self,
        *,
        table: Table,
        region: str,
        log: StreamLog,
        environments: list[ExecutionEnvironment],
        mapping: EventSourceMapping,
    ) -> None:
        self.region, self.mapping, self.environments = region, mapping, environments
        self._table, self._log = table, log
        self._taken = 0
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(environment,), daemon=True)
            for environment in environments
        ]

    def start(self) -> None:
        """Begin to poll and to invoke."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End it; what is under way is let go on to its end."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(SETTLE_WITHIN_S)
        for environment in self.environments:
            environment.close()

    def standing(self) -> tuple[bool, int]:
        """Whether nothing is left to do, and how many records were read."""
        with self._lock:
            self._poll()
            return not self._busy and not self.mapping.slots, self._taken

    def _work(self, environment: ExecutionEnvironment) -> None:
        while not self._stop.is_set():
            slot = self._take()
            if slot is None:
                time.sleep(POLL_S)
                continue
            try:
                self.mapping.step(slot, environment.invoke)
            finally:
                with self._lock:
                    self._busy.discard(id(slot))

    def _take(self) -> Slot | None:
        with self._lock:
            self._poll()
            free = [slot for slot in self.mapping.slots if id(slot) not in self._busy]
            if not free:
                return None
            self._busy.add(id(free[0]))
            return free[0]

    def _poll(self) -> None:
        records = self._log.records()
        fresh = [
            lambda_record(record, self.mapping.stream_arn, self.region)
            for record in records[self._taken :]
        ]
        self._taken += len(fresh)
        self.mapping.take_in("shard", fresh)


@dataclass
class Fleet(World):
    """A world whose replicators are functions."""

    functions: list[FunctionOfRegion] = field(default_factory=list)

    def deploy(self, table: Table, *, environments: int, **mapping: Any) -> None:
        """A function in each region that is read."""
        config = self.directory / "replicator.toml"
        config.write_text(self.configuration(), encoding="utf-8")
        for region in table.sources:
            log = self.connection.stream(table, region)
            variables = {
                "REPLICATOR_CONFIG": str(config),
                "REPLICATOR_SOURCE": region,
                "AWS_REGION": region,
            }
            self.functions.append(
                FunctionOfRegion(
                    table=table,
                    region=region,
                    log=log,
                    environments=[
                        ExecutionEnvironment(
                            variables,
                            timeout_s=TIMEOUT_S,
                            log=self.directory / f"{region}-{number}.log",
                        )
                        for number in range(environments)
                    ],
                    mapping=EventSourceMapping(stream_arn=log.arn, now_s=time.time, **mapping),
                )
            )

    def begin(self) -> None:
        """Let the mappings poll."""
        for function in self.functions:
            function.start()

    def settle(self, *, within_s: float = SETTLE_WITHIN_S) -> None:
        """Wait until nothing is left to do anywhere.

        All are looked at twice: what one did meanwhile shows as records of another.
        """

        def at_rest() -> bool:
            first = [function.standing() for function in self.functions]
            if not all(idle for idle, _ in first):
                return False
            return first == [function.standing() for function in self.functions]

        try:
            until(at_rest, within_s=within_s, what="every record is settled", every_s=POLL_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()[-3000:]}") from None

    def said(self) -> str:
        """What all functions printed."""
        logs: list[Path] = sorted(self.directory.glob("*.log"))
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def close(self) -> None:
        """End the functions, then what every world ends."""
        for function in self.functions:
            function.stop()
        super().close()


@contextmanager
def killing(fleet: Fleet, rng: Random, pause: Callable[[], None]) -> Iterator[list[int]]:
    """Kill one execution environment after another, in the midst of what it does."""
    stop, kills = threading.Event(), [0]

    def kill() -> None:
        while not stop.is_set():
            pause()
            function = rng.choice(fleet.functions)
            if rng.choice(function.environments).kill():
                BLOWS.strike(Blow.KILL)
                kills[0] += 1

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield kills
    finally:
        stop.set()
        thread.join()
