"""The null endpoint: an HTTP server in a process of its own that gives fixed answers at once.

What is measured against it is the client. Answers carry the checksum that DynamoDB's carry; with a
round trip time each is held back by so much. Connections are kept alive, any number of requests may
be under way.

    with NullEndpoint(Answers(shards=8), round_trip_s=0.07) as endpoint: ... endpoint.url
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import cache
from typing import Self
from zlib import crc32

from bench.answers import Answers

READY_LINE = b"ready on "
STOP_WITHIN_S = 3.0


class NullEndpoint:
    """The endpoint as a child process; a context manager."""

    def __init__(self, answers: Answers | None = None, *, round_trip_s: float = 0.0) -> None:
        self.answers = answers or Answers()
        self._round_trip_s = round_trip_s
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        given = [f"--{name.replace('_', '-')}={int(v)}" for name, v in asdict(self.answers).items()]
        command = [sys.executable, "-m", "bench.endpoint", f"--round-trip-s={self._round_trip_s}"]
        self._process = subprocess.Popen(
            [*command, *given],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said.startswith(READY_LINE):
            self.__exit__()
            raise RuntimeError("the null endpoint did not start")
        self.url = f"http://127.0.0.1:{int(said.removeprefix(READY_LINE))}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class _Connection(asyncio.Protocol):
    """Answers the requests of one connection in their order."""

    def __init__(self, answers: Answers, round_trip_s: float) -> None:
        self._answers, self._round_trip_s = answers, round_trip_s
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head_end = self._received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            head = bytes(self._received[:head_end])
            end = head_end + 4 + int(_header(head, b"content-length") or 0)
            if len(self._received) < end:
                return
            body = bytes(self._received[head_end + 4 : end])
            del self._received[:end]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        operation = _header(head, b"x-amz-target").rpartition(b".")[2].decode()
        response = _response(self._answers.body(operation, body))
        if not self._round_trip_s:
            self._transport.write(response)
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self._round_trip_s, self._transport.write, response)


def _header(head: bytes, name: bytes) -> bytes:
    found = head.lower().find(b"\r\n" + name + b":")
    if found < 0:
        return b""
    start = found + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


@cache
def _response(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nServer: null\r\nContent-Type: application/x-amz-json-1.0\r\n"
        f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\n"
        f"x-amzn-RequestId: 3TF3EIBBPR9GE1Q2AGO0P5T6SVVV4KQNSO5AEMVJF66Q9ASUAAJG\r\n"
        f"x-amz-crc32: {crc32(body)}\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
    )
    return head.encode() + body


async def _serve(answers: Answers, round_trip_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(answers, round_trip_s), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"{READY_LINE.decode()}{port}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--round-trip-s", type=float, default=0.0)
    for each in fields(Answers):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=int, default=each.default)
    options = vars(parser.parse_args(arguments))
    round_trip_s = options.pop("round_trip_s")
    options |= {name: bool(options[name]) for name in ("fresh", "echoes")}
    asyncio.run(_serve(Answers(**options), round_trip_s))


if __name__ == "__main__":
    main()
