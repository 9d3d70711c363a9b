"""Child processes that never outlive the demo.

Each child leads a process group of its own, so that a Ctrl-C at the terminal reaches the demo
alone, and whatever a child starts ends with it. Each writes its output to a file, whose end is
shown when it dies before its time. Neither they nor the demo see AWS settings of the person who
starts it (`isolated_environment`), so that no real account can be reached by mistake.

POSIX only (process groups). This module must not know what the children do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from replicator.demo.world import LOOPBACK
from replicator.errors import ReplicatorError

TERMINATE_WAIT_S = 5.0
"""How long a child may take to end by itself before it is killed."""
READY_POLL_S = 0.05
LOG_TAIL_LINES = 8

PORTS = range(32_000, 32_768)
_PORTS = (PORTS[(os.getpid() + number) % len(PORTS)] for number in range(len(PORTS)))
"""Two demos on a machine begin at different ones."""

DUMMY_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "replicatordemo",
    "AWS_SECRET_ACCESS_KEY": "replicatordemo",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""What the embedded engine accepts and no AWS account does; nothing else is looked for."""


class ChildFailed(ReplicatorError):
    """A child process of the demo did not become ready, or ended before its time."""


@contextmanager
def isolated_environment() -> Iterator[None]:
    """Let nothing within see AWS or product settings of the environment, children included."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "REPLICATOR_")):
            del os.environ[name]
    os.environ.update(DUMMY_CREDENTIALS)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def free_port() -> int:
    """A port of the loopback interface that was free a moment ago, and is given out once.

    Beneath those that a system gives to connections by itself, which would soon take it.
    """
    for port in _PORTS:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise ChildFailed(f"no port from {PORTS.start} to {PORTS.stop - 1} is free")


class Child:
    """A child process: started, checked, and in the end stopped."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """`extra` is added to its environment; its output goes to a file in `directory`."""
        self.name = name
        self._command = command
        self._environment = extra or {}
        self._log = directory / f"{name.replace(' ', '-')}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, at the head of a process group of its own."""
        with self._log.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """The child's process id, which is also that of its group; None before it started."""
        return None if self._process is None else self._process.pid

    def check(self) -> None:
        """Raises ChildFailed when the child has ended."""
        status = None if self._process is None else self._process.returncode
        if status is not None:
            raise ChildFailed(f"{self.name} ended with status {status}\n{self._tail()}")

    async def ready(self, probe: Callable[[], Awaitable[bool]], *, within_s: float) -> None:
        """Wait until `probe` says yes. Raises ChildFailed when the child ends, or time does."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not await probe():
            self.check()
            if asyncio.get_running_loop().time() > deadline:
                raise ChildFailed(f"{self.name} was not ready in {within_s:.0f} s\n{self._tail()}")
            await asyncio.sleep(READY_POLL_S)

    async def finish(self, *, within_s: float) -> None:
        """Wait until it has done its work. Raises ChildFailed when it fails, or time ends."""
        if self._process is None:
            return
        try:
            status = await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            raise ChildFailed(
                f"{self.name} took more than {within_s:.0f} s\n{self._tail()}"
            ) from None
        if status != 0:
            self.check()

    async def stop(self) -> None:
        """End the child and its group: asked first, then killed."""
        if self._process is None:
            return
        self._signal(self._process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), TERMINATE_WAIT_S)
        except TimeoutError:
            pass  # the kill that follows is for this case, and for what the child left behind
        finally:
            self._signal(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    @staticmethod
    def _signal(group: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(group, number)

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"  {line}" for line in lines)
