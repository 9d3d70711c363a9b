"""A runbook's commands, and a world to run them in: two regions, two tables, one replicator.

A page has the sections Symptom, Check, Act and Verify. Its commands stand in fenced blocks that
begin with `sh` and words: `exit 1` (the block ends so), or the name of a variant of the page.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from support.black_box import command, environment, until
from support.engines import HOST, Ministack, free_port
from support.tables import client, create_table

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "runbooks"
SECTIONS = ["Symptom", "Check", "Act", "Verify"]
HOME, AWAY, FAR = "us-east-1", "eu-west-1", "ap-southeast-2"
BLOCK_WITHIN_S = 150.0
_FENCE = re.compile(r"^```sh ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    section: str
    text: str
    variant: str | None
    exit_status: int

    @property
    def commands(self) -> set[str]:
        """The commands of the product that it uses."""
        words = re.findall(r"^replicator ([a-z]+)", self.text, re.MULTILINE)
        return set(words)


def sections(page: str) -> list[str]:
    """The headings of a page."""
    return _SECTION.findall((PAGES / f"{page}.md").read_text(encoding="utf-8"))


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return list(_blocks(text))


def _blocks(text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        section = _SECTION.findall(text[: match.start()])[-1]
        words = match.group(1).split()
        status = int(words[words.index("exit") + 1]) if "exit" in words else 0
        variants = [w for w in words if w not in ("exit", str(status))]
        yield Block(section, match.group(2), variants[0] if variants else None, status)


def known_commands() -> set[str]:
    """The commands that this version has."""
    helped = subprocess.run(
        command("--help"), env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    return set(re.findall(r"^    ([a-z]+) ", helped.stdout, re.MULTILINE))


@dataclass
class Ward:
    """What a page is run in; its processes end with it."""

    directory: Path
    engine: Ministack
    orders: tuple[str, ...] = (HOME, AWAY)
    settings: str = ""
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        for name, script in (
            ("replicator", f'exec {" ".join(command())} "$@"'),
            ("aws", f'exec {sys.executable} {Path(__file__).with_name("aws_cli.py")} "$@"'),
        ):
            path = self.directory / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        for region in self.orders:
            create_table(self.engine.endpoint_url, region, "orders")
        for region in (HOME, AWAY):
            view_type = "NEW_AND_OLD_IMAGES" if region == HOME else None
            create_table(self.engine.endpoint_url, region, "ledger", view_type)
        self._configure()
        self.run(Block("Setup", "replicator setup", None, 0))

    def _configure(self) -> None:
        url = self.engine.endpoint_url
        regions = "".join(
            f'[regions.{name}]\nendpoint_url = "{url}"\n' for name in (HOME, AWAY, FAR)
        )
        (self.directory / "replicator.toml").write_text(
            f"{self.settings}\n{regions}\n"
            f"[http]\nport = {self.port}\n[reader]\npoll_idle_s = 0.2\ndescribe_interval_s = 1\n"
            f"[tables.orders]\nregions = {json.dumps(self.orders)}\n"
            f'[tables.ledger]\nsource = "{HOME}"\ntargets = ["{AWAY}"]\n',
            encoding="utf-8",
        )

    def run(self, block: Block) -> None:
        """Run a block as an operator would, and start over what it asked for."""
        restarts = self.directory / "restarts"
        restarts.unlink(missing_ok=True)
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.directory,
            env=self._environment(restarts),
            capture_output=True,
            text=True,
            timeout=BLOCK_WITHIN_S,
            check=False,
        )
        said = f"{block.section}:\n{block.text}{done.stdout}{done.stderr}{self.said()}"
        assert "Traceback" not in said, said
        assert done.returncode == block.exit_status, f"ended with {done.returncode}: {said}"
        if restarts.exists():
            self.stop()
            self.start()

    def _environment(self, restarts: Path) -> dict[str, str]:
        path = f"{self.directory / 'bin'}:{os.environ['PATH']}"
        return {
            **environment(),
            "PATH": path,
            "RESTARTS": str(restarts),
            "AWS_EMULATOR_URL": self.engine.endpoint_url,
        }

    def start(self) -> None:
        """Start the replicator of all regions, and wait until it replicates."""
        with (self.directory / "run.log").open("ab") as log:
            self._process = subprocess.Popen(
                command("run", "--config", str(self.directory / "replicator.toml")),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self._is_ready, within_s=90, what="ready")

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it has ended:\n{self.said()}"
        return self.get("/readyz") is not None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the replicator, if it is there."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(60)

    def well(self) -> None:
        """Wait until the replicator says that all is well."""
        until(self._is_well, within_s=90, what="all is well")

    def _is_well(self) -> bool:
        status = self.get("/api/status")
        return status is not None and status["state"] == "ok"

    def get(self, path: str) -> Any:
        """A page of the replicator, None where it does not answer with success."""
        try:
            with build_opener(ProxyHandler({})).open(
                f"http://{HOST}:{self.port}{path}", timeout=5
            ) as answer:
                body = answer.read().decode()
                return json.loads(body) if path.startswith("/api") else body
        except (URLError, ConnectionError, TimeoutError):
            return None

    def said(self) -> str:
        """The end of what the replicator printed."""
        log = self.directory / "run.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def put(self, table: str, region: str, key: str, value: str, **more: Any) -> None:
        """Write an item as an application of a region."""
        item = {"id": {"S": key}, "v": {"S": value}, **more}
        client(self.engine.endpoint_url, region).put_item(TableName=table, Item=item)

    def held(self, table: str, region: str) -> dict[str, str]:
        """The value of each key in a region."""
        answer = client(self.engine.endpoint_url, region).scan(TableName=table, ConsistentRead=True)
        return {item["id"]["S"]: item["v"]["S"] for item in answer["Items"]}
