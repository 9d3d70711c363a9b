"""One connection to an endpoint, over which one exchange goes at a time.

What is received is parsed by httptools. Anything but one complete answer to the request that was
sent ends the connection and fails the exchange: an answer that is cut off, that nobody asked for,
that is no HTTP, or larger than any that the service gives.

This module must not know what is said.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import httptools

from conflict.values import value

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Source: API_BatchGetItem returns up to 16 MB; base64, names and escapes can multiply that."""

_OK = 200


class Broken(Exception):
    """The exchange failed; whether the service carried out what was asked is not known."""


@value(frozen=True, slots=True)
class Answer:
    """What came back. The names of headers are in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection. `idle` is called when it may be used again, `gone` when it is lost."""

    def __init__(
        self, *, idle: Callable[[Connection], None], gone: Callable[[Connection], None]
    ) -> None:
        self._on_idle, self._on_gone = idle, gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._received = 0
        self._complete = False
        self._keep_alive = False
        self.deadline_s = 0.0
        """Loop time after which the exchange under way, if any, is given up."""
        self.idle_since_s = 0.0

    @property
    def open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def busy(self) -> bool:
        """Whether an exchange is under way."""
        return self._answer is not None

    def send(self, request: bytes, deadline_s: float) -> asyncio.Future[Answer]:
        """Send a request; the answer, or Broken, comes by the future."""
        assert self._transport is not None
        assert self._answer is None
        answer = self._answer = self._loop.create_future()
        self.deadline_s = deadline_s
        self._transport.write(request)
        return answer

    def abort(self, reason: str) -> None:
        """End the connection now, and the exchange with it."""
        self._fail(reason)
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort("said something unasked")
            return
        self._received += len(data)
        if self._received > ANSWER_BYTES_MAX:
            self.abort(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort(f"the answer is not HTTP: {type(error).__name__}")
            return
        if self._complete:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail("closed before it answered" if error is None else type(error).__name__)
        self._on_gone(self)

    # --- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self._complete:
            raise ValueError("two answers to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.lower()] = value

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Note the end of the answer, unless it is a provisional one."""
        if self._parser.get_status_code() >= _OK:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()  # tells it only here
        else:
            self._headers, self._body = {}, []

    # --- the end of an exchange ---------------------------------------------------------------

    def _finish(self) -> None:
        parts = self._body
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        answer = Answer(self._parser.get_status_code(), self._headers, body)
        future, self._answer = self._answer, None
        self._headers, self._body, self._received, self._complete = {}, [], 0, False
        if not self._keep_alive:
            self.abort("the service closes the connection")
        elif self._transport is not None and not self._transport.is_closing():
            self.idle_since_s = self._loop.time()
            self._on_idle(self)
        if future is not None and not future.done():
            future.set_result(answer)

    def _fail(self, reason: str) -> None:
        future, self._answer = self._answer, None
        if future is not None and not future.done():
            future.set_exception(Broken(reason))
