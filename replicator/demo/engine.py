"""The embedded engine: MiniStack, one process that serves every region on one port.

Nothing of it touches the user's machine: it binds the loopback interface, keeps everything in
memory, writes only below the demo's directory, and is shown no Docker socket (at its start it
would remove other MiniStack containers).
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

from replicator.demo.children import Child, free_port
from replicator.demo.world import LOOPBACK
from replicator.errors import ConfigurationError

PACKAGE = "ministack"
READY_WITHIN_S = 20.0


def require() -> None:
    """Raises ConfigurationError when the engine is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigurationError(
            "the demo's engine is not installed: pip install 'dynamodb-stream-replicator[demo]' "
            "(or: make demo)"
        )


async def start(directory: Path) -> tuple[Child, int]:
    """Start the engine; the result is its process, to be stopped, and its port."""
    port = free_port()
    child = Child(
        "engine",
        [sys.executable, "-m", PACKAGE],
        directory=directory,
        extra={
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(port),
            "SERVICES": "dynamodb,dynamodbstreams",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "0",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "TMPDIR": str(directory),
            "DOCKER_HOST": f"unix://{directory}/no-docker.sock",
        },
    )
    try:
        await child.start()
        await child.ready(lambda: accepts(port), within_s=READY_WITHIN_S)
    except BaseException:
        await child.stop()
        raise
    return child, port


async def accepts(port: int) -> bool:
    """Whether something listens on this port of the loopback interface."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
