"""An HTTP proxy that stands before an engine and does what networks and busy services do.

    with FaultProxy(engine.endpoint_url) as proxy:
        proxy.next("PutItem", LostAnswer(), THROTTLED)     the next two calls of that operation
        proxy.always("GetRecords", Delay(0.5))             every call until told None
        proxy.shake(Random(7), 0.2, [Reset(), CRASHED])    a fifth of all calls, at random

It knows HTTP and the name of the operation (X-Amz-Target), and of bodies only what `Partial` has to
take apart. Whatever it did is counted in `struck`, so that a test can tell that its fault came up.
A whole link that is cut, both ways, is black_box_link's.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from types import TracebackType
from typing import Any, Self, TypeAlias, assert_never
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
ENGINE_TIMEOUT_S = 30.0
HANG_S_MAX = 60.0
JSON_TYPE = "application/x-amz-json-1.0"
CRC_HEADER = "x-amz-crc32"
SKEW_MAX = timedelta(minutes=5)
"""Source: IAM User Guide, "Elements of an AWS API request signature"."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The request arrives late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset before the engine hears of the request."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing comes back, and the connection stays: a half-open socket."""


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """The engine carries it out, and the answer never arrives."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The service answers with an error of its own, and carries nothing out."""

    status: int
    code: str
    message: str = "so it is"


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something between answers 200 in HTML; nothing is carried out."""


@dataclass(frozen=True, slots=True)
class WrongCrc:
    """It is carried out; the answer's checksum does not fit its body."""


@dataclass(frozen=True, slots=True)
class Truncated:
    """It is carried out; the answer ends in its middle."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Of a batch the first half, at least one, is carried out; the rest is left unprocessed."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """The service's clock is so far ahead of ours: a call that was signed by another is refused,
    with the time that the service has; any other is carried out."""

    seconds: float
    code: str = "InvalidSignatureException"


Fault: TypeAlias = (
    Delay | Reset | Hang | LostAnswer | Refusal | Foreign | WrongCrc | Truncated | Partial | Ahead
)

THROTTLED = Refusal(400, "ProvisionedThroughputExceededException")
CRASHED = Refusal(500, "InternalServerError")
_UNPROCESSED = {"BatchGetItem": "UnprocessedKeys", "BatchWriteItem": "UnprocessedItems"}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class FaultProxy:
    """One port that leads to an engine; a context manager."""

    def __init__(self, engine_url: str) -> None:
        self.engine = urlsplit(engine_url).netloc
        self.struck: Counter[tuple[str, str]] = Counter()
        """How often each fault came up: by operation and the fault's class."""
        self.calls: Counter[str] = Counter()
        self.unprocessed = 0
        """How many parts of batches `Partial` has left."""
        self._turns: dict[str, deque[Fault]] = defaultdict(deque)
        self._standing: dict[str, Fault] = {}
        self._shaken: tuple[Random, float, Sequence[Fault]] | None = None
        self._lock = threading.Lock()
        self.over = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer((LOOPBACK, 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def next(self, operation: str, *faults: Fault) -> None:
        """Let the next calls of an operation meet these, one each."""
        with self._lock:
            self._turns[operation].extend(faults)

    def always(self, operation: str, fault: Fault | None) -> None:
        """Let every call of an operation (`*`: of any) meet this, until told None."""
        with self._lock:
            self._standing.pop(operation, None)
            if fault is not None:
                self._standing[operation] = fault

    def shake(self, rng: Random, rate: float, faults: Sequence[Fault]) -> None:
        """Let a share of all calls meet one of these; a rate of 0 ends it."""
        with self._lock:
            self._shaken = (rng, rate, faults) if rate else None

    def due(self, operation: str) -> Fault | None:
        """What this call is to meet; counted as struck."""
        with self._lock:
            self.calls[operation] += 1
            fault = self._due(operation)
            if fault is not None:
                self.struck[operation, type(fault).__name__] += 1
            return fault

    def _due(self, operation: str) -> Fault | None:
        if self._turns[operation]:
            return self._turns[operation].popleft()
        if self._shaken and self._shaken[0].random() < self._shaken[1]:
            return self._shaken[0].choice(self._shaken[2])
        return self._standing.get(operation) or self._standing.get("*")


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one of its own to the engine."""

    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self._engine = HTTPConnection(self.proxy.engine, timeout=ENGINE_TIMEOUT_S)

    def finish(self) -> None:
        self._engine.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Print nothing."""

    def do_POST(self) -> None:
        """Every call of DynamoDB is a POST."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        try:
            self._meet(self.proxy.due(operation), operation, body)
        except (OSError, HTTPException):
            self._reset()

    def _meet(self, fault: Fault | None, operation: str, body: bytes) -> None:
        match fault:
            case None:
                self._answer(self._forward(body))
            case Delay(seconds):
                time.sleep(seconds)
                self._answer(self._forward(body))
            case Reset():
                self._reset()
            case Hang():
                self.proxy.over.wait(HANG_S_MAX)
                self._reset()
            case Refusal(status, code, message):
                self._answer(_refusal(status, code, message))
            case Ahead():
                self._answer(self._forward(body) if self._in_time(fault) else self._late(fault))
            case Foreign():
                self._answer(_Answer(200, [("Content-Type", "text/html")], b"<html>hello</html>"))
            case Partial():
                self._answer(self._half(operation, body))
            case LostAnswer() | WrongCrc() | Truncated():
                self._spoil(fault, self._forward(body))
            case _:
                assert_never(fault)

    def _spoil(self, fault: LostAnswer | WrongCrc | Truncated, answer: _Answer) -> None:
        match fault:
            case LostAnswer():
                self._reset()
            case WrongCrc():
                kept = [pair for pair in answer.headers if pair[0].lower() != CRC_HEADER]
                self._answer(_Answer(answer.status, [*kept, (CRC_HEADER, "1")], answer.body))
            case Truncated():
                self._answer(answer, length=len(answer.body) // 2)
                self.close_connection = True
            case _:
                assert_never(fault)

    def _forward(self, body: bytes) -> _Answer:
        headers = {  # the length is that of what is sent on, which may be half of what came
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("connection", "content-length")
        }
        self._engine.request("POST", self.path, body, headers)
        response = self._engine.getresponse()
        kept = ("content-type", CRC_HEADER, "x-amzn-requestid", "date")
        found = [pair for pair in response.getheaders() if pair[0].lower() in kept]
        return _Answer(response.status, found, response.read())

    def _half(self, operation: str, body: bytes) -> _Answer:
        """Forward the first half of a batch, and name the rest as unprocessed."""
        request: dict[str, Any] = json.loads(body)
        done: dict[str, Any] = {}
        left: dict[str, Any] = {}
        for table, entry in request["RequestItems"].items():
            listed = entry if isinstance(entry, list) else entry["Keys"]
            half = (len(listed) + 1) // 2
            for parts, into in ((listed[:half], done), (listed[half:], left)):
                if into is left:
                    self.proxy.unprocessed += len(parts)
                if parts:
                    into[table] = parts if isinstance(entry, list) else {**entry, "Keys": parts}
        answer = self._forward(json.dumps({**request, "RequestItems": done}).encode())
        answered = {**json.loads(answer.body), _UNPROCESSED[operation]: left}
        headers = [("Content-Type", JSON_TYPE)]
        return _Answer(answer.status, headers, json.dumps(answered).encode())

    def _in_time(self, clock: Ahead) -> bool:
        signed = datetime.strptime(self.headers["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
        return abs(_now(clock) - signed) < SKEW_MAX

    def _late(self, clock: Ahead) -> _Answer:
        date = ("Date", format_datetime(_now(clock), usegmt=True))
        return _refusal(400, clock.code, f"Signature expired: {self.headers['X-Amz-Date']}", date)

    def _answer(self, answer: _Answer, *, length: int | None = None) -> None:
        """Send an answer; `length`: break off after so many bytes of its body."""
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[:length])
        self.wfile.flush()

    def _reset(self) -> None:
        """Close with RST, as a firewall or a dying host would."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.connection.close()
        self.close_connection = True


def _now(clock: Ahead) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=clock.seconds)


def _refusal(status: int, code: str, message: str, *headers: tuple[str, str]) -> _Answer:
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    body = json.dumps({"__type": kind, "message": message}).encode()
    return _Answer(status, [("Content-Type", JSON_TYPE), *headers], body)
