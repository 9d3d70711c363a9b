"""A server on the loopback that answers each request with the bytes a test puts down.

It runs on the test's own loop. `answer` is given the number of the request and its bytes, and
returns what is written: bytes, or None to close the connection without a word.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

JSON = "application/x-amz-json-1.0"


def response(body: bytes | dict[str, Any], status: int = 200, **headers: str) -> bytes:
    """An answer as DynamoDB gives it; `headers` replace or add, with _ for -."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {
        "content-type": JSON,
        "content-length": str(len(content)),
        "x-amz-crc32": str(crc32(content)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + content


@dataclass(slots=True)
class RawServer:
    """What it was asked, and over how many connections."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def header(self, number: int, name: str) -> str:
        """A header of a request, empty if it has none."""
        lines = self.requests[number].partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines)
        return next((value for said, _, value in pairs if said.lower() == name.lower()), "")


Answering = Callable[[int, bytes], bytes | None]


@asynccontextmanager
async def raw_server(
    answer: Answering | bytes, *, tls: ssl.SSLContext | None = None, end: bool = False
) -> AsyncIterator[RawServer]:
    """Serve. `end`: a connection is closed after its first answer."""
    server = RawServer("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while True:
                request = await _request(reader)
                server.requests.append(request)
                said = (
                    answer if isinstance(answer, bytes) else answer(len(server.requests), request)
                )
                if said is None:
                    return
                writer.write(said)
                await writer.drain()
                if end:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    server.url = f"{scheme}://localhost:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)
