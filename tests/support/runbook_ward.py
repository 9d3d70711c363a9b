"""The world that a runbook's commands are run in: two tables, and one service for each region.

As deployed: each region that has a service by its stack (runbook_stacks.py) has a process of its
own, which reads that region's streams with the configuration that is in its image
(runbook_images.py). Only who is asked to start over does, or whose task a deployment changes; and a
service whose stack was made from another configuration, or does not name its tables and streams, is
refused as its policy would have it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from infra.cloudformation import template
from infra.definition import Options, stack_of
from replicator.configuration import load
from replicator.settings import Settings
from support.black_box import command, environment, until
from support.black_box_link import Endpoint
from support.engines import HOST, Ministack, free_port
from support.fault_proxy import FaultProxy
from support.runbook import ROOT, Block, pasted_first
from support.runbook_images import ACCOUNT, RELEASE, Image, Images, repository
from support.runbook_stacks import Stacks
from support.tables import client, create_table

HOME, AWAY, FAR = "us-east-1", "eu-west-1", "ap-southeast-2"
BLOCK_WITHIN_S = 150.0
SERVICE = Options(mode="service")
PARAMETERS = (
    "AlarmTopicArn=topic ClusterArn=cluster ExecutionRoleArn=role Subnets=subnet "
    "SecurityGroups=group KmsKeyArn=key KmsKeyArnUsEast1=key KmsKeyArnEuWest1=key"
)
"""What an account's stacks take besides streams and image; nothing is done with it."""


@dataclass
class Ward:
    """What pages are run in; its processes end with it.

    `link` stands before HOME and `proxy` before AWAY, if they are there: replicators and operator
    go through them, applications do not. `skew_s`: how far a service's clock is ahead, by region.
    """

    directory: Path
    engine: Ministack
    settings: str = ""
    link: Endpoint | None = None
    proxy: FaultProxy | None = None
    skew_s: dict[str, float] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    """Regions that do not answer: a service that is started meanwhile is not waited for."""
    kept: dict[str, Any] = field(default_factory=dict)
    """Items that a trouble sets aside for later."""

    def __post_init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._written = 0
        self.stacks = Stacks(self.directory / "stacks", self.engine.endpoint_url)
        self.images = Images(self.directory / "images")

    def make(self) -> None:
        """Make tables, configuration and stacks."""
        self.tools()
        for region in (HOME, AWAY):
            create_table(self.engine.endpoint_url, region, "orders")
            view_type = "NEW_AND_OLD_IMAGES" if region == HOME else None
            create_table(self.engine.endpoint_url, region, "ledger", view_type)
        self._configure()
        self.release("the present one")
        self.run(Block("", "Setup", "replicator setup --streams-only", None, 0))
        for region in (HOME, AWAY):
            self.deploy(region)

    def tools(self, skew_s: float = 0.0) -> None:
        """What an operator has on the path; the clock of the operator's machine is ahead so far."""
        paths = f"{ROOT}:{ROOT / 'tests'}"
        for name, words in (
            ("replicator", command(skew_s=skew_s)),
            ("aws", [sys.executable, str(Path(__file__).with_name("aws_cli.py"))]),
            ("docker", [sys.executable, str(Path(__file__).with_name("docker_cli.py"))]),
            ("python", [sys.executable]),
        ):
            path = self.directory / "bin" / name
            path.parent.mkdir(exist_ok=True)
            script = f'PYTHONPATH={shlex.quote(paths)} exec {shlex.join(words)} "$@"'
            path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def _configure(self) -> None:
        urls = dict.fromkeys((HOME, AWAY), self.engine.endpoint_url)
        if self.link is not None:
            urls[HOME] = self.link.url
        if self.proxy is not None:
            urls[AWAY] = self.proxy.url
        regions = "".join(f'[regions.{name}]\nendpoint_url = "{urls[name]}"\n' for name in urls)
        self.config.write_text(
            f"{self.settings}\n{regions}\n"
            "[reader]\npoll_idle_s = 0.2\ndescribe_interval_s = 1\n"
            f"[tables.orders]\nregions = {json.dumps((HOME, AWAY))}\n"
            f'[tables.ledger]\nsource = "{HOME}"\ntargets = ["{AWAY}"]\n',
            encoding="utf-8",
        )

    @property
    def config(self) -> Path:
        """The configuration that the operator edits, and puts into images."""
        return self.directory / "replicator.toml"

    def release(self, name: str) -> None:
        """Check a version out where the operator is."""
        (self.directory / RELEASE).write_text(name, encoding="utf-8")

    # --- pages ----------------------------------------------------------------------------------

    def run(self, block: Block) -> str:
        """Run a block as an operator would, then let ECS do what it asked for; what it printed."""
        restarts = self.directory / "restarts"
        restarts.unlink(missing_ok=True)
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", f"{_pasted_first()}\n{block.text}"],
            cwd=self.directory,
            env=self._environment(restarts),
            capture_output=True,
            text=True,
            timeout=BLOCK_WITHIN_S,
            check=False,
        )
        printed = f"{done.stdout}{done.stderr}"
        said = f"{block.page}, {block.section}:\n{block.text}{printed}{self.said()}"
        assert "Traceback" not in said, said
        assert "ValidationError: " not in printed, f"refused, and a loop went on: {said}"
        assert done.returncode == block.exit_status, f"ended with {done.returncode}: {said}"
        asked = restarts.read_text(encoding="utf-8").split() if restarts.exists() else []
        self._carry_out(asked)
        return printed

    def _environment(self, restarts: Path) -> dict[str, str]:
        return {
            **environment(),
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "RESTARTS": str(restarts),
            "STACKS": str(self.stacks.directory),
            "IMAGES": str(self.images.directory),
            "BUCKETS": str(self.directory / "buckets"),
            "AWS_EMULATOR_URL": self.engine.endpoint_url,
            "REGIONS": " ".join(self.services),
            "TASKS": json.dumps({r: f"{HOST}:{port}" for r, port in self._ports.items()}),
            "PARAMETERS": PARAMETERS,
            "KEY": "key",
            "ACCOUNT": ACCOUNT,
            "TEMPLATES": "templates",
            "BEFORE": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _carry_out(self, asked: Iterable[str]) -> None:
        """What ECS does after a block: services that are new, gone, or asked to start over."""
        running = {region for region in self._processes if self._runs(region)}
        gone = running - set(self.services)
        # One that was never started is new; one that was killed comes back when it is asked to.
        new = set(self.services) - set(self._processes) if self._processes else set()
        for region in gone:
            self.stop(region)
            del self._processes[region]
        self.start_over(dict.fromkeys([*new, *asked]))

    def deploy(self, region: str) -> None:
        """Deploy a region's stack, as the configuration is now, with its present streams."""
        settings = load(self.config, {})
        made = template(stack_of(settings, region, SERVICE))
        given = dict(pair.split("=") for pair in f"{PARAMETERS} {self._key_of(made)}".split())
        streams = self._stream_arns(settings, region)
        arns = {f"StreamArn{table.title()}": arn for table, arn in streams.items()}
        self.stacks.deploy(region, made, {**given, **arns, "Image": self._push(region)})

    def _push(self, region: str) -> str:
        release = (self.directory / RELEASE).read_text(encoding="utf-8")
        tag = f"{repository(region)}:first"
        self.images.tag(tag, Image(release=release, configuration=self.config.read_text()))
        return self.images.push(tag)

    def _key_of(self, made: Mapping[str, Any]) -> str:
        return " ".join(f"{name}=key" for name in made["Parameters"] if "KmsKeyArn" in name)

    def _stream_arns(self, settings: Settings, region: str) -> dict[str, str]:
        there = client(self.engine.endpoint_url, region)
        found = {}
        for name, table in settings.tables.items():
            if region in table.sources:
                physical = settings.table_name(name, region)
                described = there.describe_table(TableName=physical)["Table"]
                found[name] = described.get("LatestStreamArn", "")
        return found

    # --- services -------------------------------------------------------------------------------

    @property
    def services(self) -> list[str]:
        """The regions that have a service."""
        return [r for r in (HOME, AWAY, FAR) if self.stacks.service(r) is not None]

    def image(self, region: str) -> Image:
        """What the service of a region runs, and with what."""
        return self.images.pull(self.stacks.image(region), region)

    def start_over(self, regions: Iterable[str]) -> None:
        """Have the services of regions start over, all at once."""
        asked = list(regions)
        for region in asked:
            self.stop(region, wait=False)
        for region in asked:
            self._ended(region)
            self._start(region)
        for region in asked:
            until(partial(self._is_ready, region), within_s=90, what="ready")

    def _start(self, region: str) -> None:
        arguments = self.stacks.service(region)
        assert arguments is not None, f"no service in {region}"
        text = self.image(region).configuration
        assert text is not None, f"no configuration in the image of {region}"
        configured = self.directory / f"{region}.toml"
        configured.write_text(text, encoding="utf-8")
        settings = load(configured, {})
        needed = template(stack_of(settings, region, SERVICE))
        refused = self.stacks.refused(region, needed, self._stream_arns(settings, region))
        assert refused is None, refused
        arguments = [str(configured) if word == self.config.name else word for word in arguments]
        self._ports[region] = free_port()  # as each task has another address
        arguments += ["--port", str(self._ports[region])]
        with self._log(region).open("ab") as log:
            self._processes[region] = subprocess.Popen(
                command(*arguments, skew_s=self.skew_s.get(region, 0.0)),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _is_ready(self, region: str) -> bool:
        assert self._runs(region), f"{region} has ended:\n{self.said()}"
        return self.get(region, "/api/status" if self.out else "/readyz") is not None

    def _runs(self, region: str) -> bool:
        process = self._processes.get(region)
        return process is not None and process.poll() is None

    def send(self, region: str, number: signal.Signals) -> None:
        """Send a signal to a region's process, which must be there."""
        assert self._runs(region), self.said()
        self._processes[region].send_signal(number)

    def stop(
        self, region: str, number: signal.Signals = signal.SIGTERM, *, wait: bool = True
    ) -> None:
        """End a region's process, if it is there."""
        if self._runs(region):
            self._processes[region].send_signal(number)
        if wait:
            self._ended(region)

    def _ended(self, region: str) -> None:
        if region in self._processes:
            self._processes[region].wait(60)

    def end(self) -> None:
        """Kill what is left."""
        for region in self._processes:
            self.stop(region, signal.SIGKILL)

    # --- what can be seen -----------------------------------------------------------------------

    def well(self) -> None:
        """Wait until every service says that all is well."""
        for region in self.services:
            try:
                until(partial(self._is_well, region), within_s=90, what="all is well")
            except AssertionError as error:
                status = json.dumps(self.status(region))
                raise AssertionError(f"{region}: {error}\n{status}\n{self.said()}") from None

    def unwell(self, region: str) -> None:
        """Wait until a service says that not all is well."""
        until(lambda: not self._is_well(region), within_s=60, what=f"{region} shows its trouble")

    def _is_well(self, region: str) -> bool:
        status = self.status(region)
        return status is not None and status["state"] == "ok"

    def status(self, region: str) -> Any:
        """The status document of a region's service, None where it does not answer."""
        return self.get(region, "/api/status")

    def pipeline(self, region: str, table: str = "orders") -> Any:
        """The part of a status that is about one table."""
        status = self.status(region)
        assert status is not None, self.said()
        return next(found for found in status["pipelines"] if found["table"] == table)

    def _url(self, region: str) -> str:
        return f"http://{HOST}:{self._ports.get(region, 1)}"

    def get(self, region: str, path: str) -> Any:
        """A page of a region's service, None where it does not answer with success."""
        try:
            with build_opener(ProxyHandler({})).open(
                f"{self._url(region)}{path}", timeout=5
            ) as answer:
                body = answer.read().decode()
                return json.loads(body) if path.startswith("/api") else body
        except (URLError, ConnectionError, TimeoutError):
            return None

    def _log(self, region: str) -> Path:
        return self.directory / f"{region}.log"

    def said(self) -> str:
        """The end of what the services printed."""
        logs = (self._log(region) for region in self._processes)
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())

    # --- the application ------------------------------------------------------------------------

    def put(self, table: str, region: str, key: str, value: str, **more: Any) -> None:
        """Write an item as an application of a region."""
        item = {"id": {"S": key}, "v": {"S": value}, **more}
        client(self.engine.endpoint_url, region).put_item(TableName=table, Item=item)

    def held(self, table: str, region: str) -> dict[str, str]:
        """The value of each key in a region."""
        answer = client(self.engine.endpoint_url, region).scan(TableName=table, ConsistentRead=True)
        return {item["id"]["S"]: item["v"]["S"] for item in answer["Items"]}

    def alive(self) -> None:
        """A write of every region that may write reaches every other: all services know of it."""
        self._written += 1
        for name, table in load(self.config, {}).tables.items():
            physical = {region: table.names.get(region, name) for region in table.members}
            keys = {source: f"then-{self._written}-{source}" for source in table.sources}
            for source, key in keys.items():
                self.put(physical[source], source, key, "3")
            for region, there in physical.items():
                what = f"{sorted(keys.values())} in {there} in {region}"
                until(partial(self._holds, there, region, {*keys.values()}), within_s=30, what=what)

    def _holds(self, table: str, region: str, keys: set[str]) -> bool:
        return keys <= self.held(table, region).keys()


def _pasted_first() -> str:
    """The README's functions. All tasks are on one machine here, and differ by their ports."""
    before, port, after = pasted_first().partition(":8080")
    assert port, "the port of the page"
    return f"{before}{after}"
