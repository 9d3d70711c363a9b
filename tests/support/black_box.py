"""`replicator run` from outside: real processes on a real engine, and the tables between them.

A `World` is what one test has: tables of its own, a configuration file, and the replicators that it
started, each a process of its own. Nothing of the product is imported; a process is spoken to by
signals, its status page and what it leaves in the tables.

At the end of a test every process that it started is killed, and none may have printed a traceback.
This module must not know how items travel.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from support.black_box_tables import Connection, Table
from support.blows import BLOWS, Blow
from support.engines import CREDENTIALS, HOST, free_port
from support.tables import unique_name

T = TypeVar("T")

REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")
FOUR_REGIONS = (*REGIONS, "sa-east-1")
CONTROL_TABLE = "replicator-control"
READY_WITHIN_S = 30.0
SETTLE_WITHIN_S = 60.0
PATIENCE = 3.0
"""How many times as long a busy machine may take. Only a failure waits that long."""

LOOK_EVERY_S = 0.05
REST_LOOK_EVERY_S = 0.25
"""To see whether all streams are at rest costs an engine a dozen calls."""

LOG_CHARACTERS_MAX = 3000
STRIKES = {signal.SIGKILL: Blow.KILL, signal.SIGSTOP: Blow.STOP}

_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).with_name("child.py")


def until(
    condition: Callable[[], T | None],
    *,
    within_s: float,
    what: str,
    every_s: float = LOOK_EVERY_S,
) -> T:
    """Wait until the condition is true, and return what it said; fail with `what` otherwise.

    `within_s`: long enough on a machine that does nothing else.
    """
    deadline_s = time.monotonic() + within_s * PATIENCE
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(every_s)


def environment() -> dict[str, str]:
    """What a replicator's environment holds: nothing of the developer's own AWS or product."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "REPLICATOR_", "PYTEST_"))
    }
    return {**kept, **CREDENTIALS, "PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"}


_SKEWED = """
import runpy, sys, time
true_ns, skew_ns = time.time_ns, int(float(sys.argv.pop(1)) * 1e9)
time.time_ns = lambda: true_ns() + skew_ns
runpy.run_module("replicator", run_name="__main__")
"""


def command(*arguments: str, skew_s: float = 0.0) -> list[str]:
    """A command of the product, as a process that dies with the test run.

    `skew_s`: how far its wall clock is ahead of the machine's.
    """
    python = [sys.executable, "-IS", str(_CHILD), sys.executable]
    if skew_s:
        return [*python, "-c", _SKEWED, str(skew_s), *arguments]
    return [*python, "-m", "replicator", *arguments]


class Replicator:
    """`replicator run` as a process, which may be killed and started again.

    `source`: the one region whose streams it reads; None for all.
    """

    def __init__(self, *, config: Path, source: str | None, log: Path, skew_s: float = 0.0) -> None:
        self.source = source
        self._skew_s = skew_s
        self.config = config
        self._log = log
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.options: tuple[str, ...] = ()
        """More arguments of `run`."""
        self.surroundings: Mapping[str, str] = {}
        """More of its environment."""

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        assert not self.running
        self._port = free_port()
        source = () if self.source is None else ("--source", self.source)
        arguments = ("--config", str(self.config), *source, "--port", str(self._port))
        arguments += self.options
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command("run", *arguments, skew_s=self._skew_s),
                env={**environment(), **self.surroundings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def twin(self, log: Path) -> Replicator:
        """A second process for the same source, with the same clock, not started."""
        return Replicator(config=self.config, source=self.source, log=log, skew_s=self._skew_s)

    def configure(self, text: str) -> None:
        """Give it another configuration, before its next start."""
        self.config.write_text(text, encoding="utf-8")

    @property
    def url(self) -> str:
        """Where its page is."""
        return f"http://{HOST}:{self._port}"

    def ready(self) -> None:
        """Wait until it replicates."""
        until(self._is_ready, within_s=READY_WITHIN_S, what=f"{self.source} is ready")

    @property
    def running(self) -> bool:
        """Whether the process is there, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, which must be there."""
        assert self._process is not None
        assert self.running, self.said()
        if number in STRIKES:
            BLOWS.strike(STRIKES[number])
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, if it is there; returns when it is gone."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.exit_status(within_s=10.0)

    def exit_status(self, *, within_s: float) -> int:
        """Wait for its end, as patiently as `until`."""
        assert self._process is not None
        return self._process.wait(within_s * PATIENCE)

    def status(self) -> dict[str, Any] | None:
        """The status document, None where there is no answer."""
        answer = self.get("/api/status")
        return None if answer is None else json.loads(answer[1])

    def state(self) -> str:
        """What it says of itself as a whole; waits for an answer."""
        return str(self._answered()["state"])

    def pipeline(self, table: Table) -> dict[str, Any]:
        """The part of the status that is about one table; waits for an answer."""
        found: dict[str, Any] = next(
            found for found in self._answered()["pipelines"] if found["table"] == table.name
        )
        return found

    def _answered(self) -> dict[str, Any]:
        return until(self.status, within_s=READY_WITHIN_S, what=f"{self.source} has a status")

    def get(self, path: str) -> tuple[int, str] | None:
        """Status and body of a page, None where nobody answers."""
        opener = build_opener(ProxyHandler({}))
        try:
            with opener.open(f"http://{HOST}:{self._port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except (URLError, ConnectionError, TimeoutError) as error:
            code = getattr(error, "code", None)
            return None if code is None else (code, "")

    def said(self) -> str:
        """What it printed in all of its lives."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def tail(self) -> str:
        """The end of what it printed."""
        return self.said()[-LOG_CHARACTERS_MAX:]

    def _is_ready(self) -> bool:
        assert self.running, f"{self.source} has ended:\n{self.tail}"
        answer = self.get("/readyz")
        return answer is not None and answer[0] == 200


@dataclass
class World:
    """What one test has: tables, their configuration, and the processes it started."""

    connection: Connection
    directory: Path
    tables: list[Table] = field(default_factory=list)
    processes: list[Replicator] = field(default_factory=list)
    sections: str = ""
    """Further sections of the configuration."""

    def add(self, table: Table, *, view_type: str = "NEW_AND_OLD_IMAGES") -> Table:
        """Create a table in its regions, with streams where it is read."""
        for region in table.members:
            stream = view_type if region in table.sources else None
            self.connection.create(table, region, stream)
        self.tables.append(table)
        return table

    def replicator(
        self,
        source: str | None,
        endpoints: Mapping[str, str] | None = None,
        *,
        skew_s: float = 0.0,
    ) -> Replicator:
        """A replicator of all tables, not started. `endpoints`: where it finds some regions."""
        name = f"{len(self.processes)}-{source or 'all'}"
        config = self.directory / f"{name}.toml"
        config.write_text(self.configuration(endpoints), encoding="utf-8")
        log = self.directory / f"{name}.log"
        made = Replicator(config=config, source=source, log=log, skew_s=skew_s)
        self.processes.append(made)
        return made

    def twin(self, of: Replicator) -> Replicator:
        """A second process for the source of another, not started."""
        made = of.twin(self.directory / f"{len(self.processes)}-{of.source}-twin.log")
        self.processes.append(made)
        return made

    def start(self, *sources: str | None, far: str | None = None) -> list[Replicator]:
        """One replicator for each source (None: one for all of them), every one ready.

        `far`: by which URL each finds the regions that are not its own.
        """
        away = {region: far for table in self.tables for region in table.members if far}
        started = [
            self.replicator(source, {name: url for name, url in away.items() if name != source})
            for source in sources
        ]
        for replicator in started:
            replicator.start()
        for replicator in started:
            replicator.ready()
        return started

    def configuration(self, endpoints: Mapping[str, str] | None = None) -> str:
        """The text of `replicator.toml`."""
        regions = dict.fromkeys(region for table in self.tables for region in table.members)
        urls = {
            region: (endpoints or {}).get(region, self.connection.url_of(region))
            for region in regions
        }
        return "".join(
            (
                f'control_table = "{CONTROL_TABLE}"\n',
                "[reader]\npoll_idle_s = 0.2\ndescribe_interval_s = 1\n",
                *(f'[regions.{name}]\nendpoint_url = "{url}"\n' for name, url in urls.items()),
                *(table.section() for table in self.tables),
                self.sections,
            )
        )

    def settle(self, *, within_s: float = SETTLE_WITHIN_S) -> None:
        """Wait until every record of every stream is settled and checkpointed, for good.

        Checkpoints are read before the ends of the streams. Where they agree, all that was written
        had been settled at the moment of the first look, and nothing was left that could write.
        """
        try:
            until(
                self._at_rest,
                within_s=within_s,
                what="every stream is settled",
                every_s=REST_LOOK_EVERY_S,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._standing()}") from None

    def _at_rest(self) -> bool:
        if not self._idle():
            return False  # asked first because it costs least
        read = [(table, source) for table in self.tables for source in table.sources]
        streams = [self.connection.stream(*place) for place in read]
        settled = [
            self.connection.checkpoints(*place, of=stream)
            for place, stream in zip(read, streams, strict=True)
        ]
        ends = [stream.ends() for stream in streams]
        return all(map(_reached, settled, ends)) and self._idle()

    def _idle(self) -> bool:
        return all(_idle(process) for process in self.processes if process.running)

    def _standing(self) -> str:
        """Where everything stands, for the message of a failure."""
        lines = []
        for table in self.tables:
            for source in table.sources:
                ends = dict(self.connection.stream(table, source).ends())
                settled = self.connection.checkpoints(table, source)
                lines.append(f"{table.name} {source}: ends {ends}, settled {settled}")
        for process in self.processes:
            lines.append(f"{process.source}: {process.status() if process.running else 'ended'}")
            lines.append(process.tail)
        return "\n".join(lines)

    def assert_equal(self) -> None:
        """Assert that every table holds the same in all of its regions, the marker left out."""
        for table in self.tables:
            found = {region: self.connection.contents(table, region) for region in table.members}
            model = found[table.members[0]]
            for region, contents in found.items():
                differing = sorted(
                    key for key in model.keys() | contents if model.get(key) != contents.get(key)
                )
                assert not differing, _differences(table, found, differing, region)
        BLOWS.compared()

    def close(self) -> None:
        """Kill what still runs, and look at what was said."""
        for process in self.processes:
            process.kill()
        assert_none_left(self.directory)
        for process in self.processes:
            assert "Traceback" not in process.said(), process.tail


def _reached(settled: Mapping[str, int | None], ends: Iterable[tuple[str, int]]) -> bool:
    """Whether the checkpoint of every shard is at its last record; None: the shard is finished."""
    return all(settled.get(shard, -1) in (end, None) for shard, end in ends)


def _idle(process: Replicator) -> bool:
    status = process.status()
    return status is not None and not any(found["unsettled"] for found in status["pipelines"])


def _differences(
    table: Table, found: Mapping[str, Mapping[str, object]], keys: list[str], region: str
) -> str:
    lines = [f"{table.name}: {len(keys)} keys differ in {region}:"]
    for key in keys[:5]:
        lines += [f"  {key}", *(f"    {name}: {items.get(key)}" for name, items in found.items())]
    return "\n".join(lines)


def assert_none_left(directory: Path) -> None:
    """Assert that no process names this directory among its arguments."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if str(directory).encode() in arguments:
            left.append(arguments.replace(b"\0", b" ").decode(errors="replace"))
    assert not left


@cache
def prepared(connection: Connection) -> None:
    """Run `replicator setup` once per connection: the control tables of all regions."""
    table = Table(unique_name("setup-only"), regions=FOUR_REGIONS)
    for region in FOUR_REGIONS:
        connection.create(table, region, None)
    config = World(connection, Path(), [table]).configuration()
    done = subprocess.run(
        command("setup", "--config", "/dev/stdin"),
        input=config,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
