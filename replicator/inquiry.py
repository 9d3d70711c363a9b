"""Asking a running replicator for its status over HTTP.

One exchange over one connection: no proxy, since replicators answer on loopback, and no redirect,
which would carry the token on to another host. The whole answer is given a time, not each part of
it, so that one that trickles ends like one that is silent. What has not the shape of a status is
no answer (reported.py).

This module must not know how a status is shown.
"""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, urlsplit

from replicator.errors import ConfigurationError
from replicator.reported import fault_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ANSWER_WITHIN_S = 5.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024
REASON_MAX = 300
LEAST_WAIT_S = 0.001
"""A socket's timeout of 0 would mean not to wait at all, and to fail otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one process answered: a status, or an error that says why there is none."""

    url: str
    status: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def well(self) -> bool:
        """Whether the process answers and reports that all is well."""
        return self.status is not None and self.status["state"] == "ok"

    @property
    def document(self) -> Mapping[str, Any]:
        """The report, ready for JSON."""
        return {"url": self.url, "status": self.status, "error": self.error}


def checked_url(url: str) -> str:
    """`url`, if it is one that a process may be found at. Raises: ConfigurationError."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ConfigurationError(f"--url: {url!r} is no URL; write it like http://127.0.0.1:8080")
    return url.rstrip("/")


def ask(
    url: str,
    path: str,
    *,
    authorization: str | None = None,
    body: object = None,
    within_s: float = ANSWER_WITHIN_S,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> Any:
    """The JSON at a path of a process, whole within so many seconds. A body makes it a POST.

    Raises: HTTPError, which any status but 2xx is, and other OSErrors; HTTPException; ValueError
    for no JSON.
    """
    headers = {} if authorization is None else {"Authorization": authorization}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    parts = urlsplit(checked_url(url))
    connection = _connection(parts, within_s)
    deadline_s = monotonic_s() + within_s
    made = partial(_Answer, left_s=lambda: deadline_s - monotonic_s())
    connection.response_class = made  # type: ignore[assignment]  # is called like the class
    try:
        connection.request("GET" if data is None else "POST", parts.path + path, data, headers)
        with connection.getresponse() as answer:
            if answer.status // 100 != HTTPStatus.OK // 100:
                raise HTTPError(url, answer.status, answer.reason, Message(), None)
            return json.loads(answer.read(ANSWER_BYTES_MAX))
    except RecursionError:
        raise ValueError("no JSON, but nested without end") from None
    finally:
        connection.close()


def _connection(parts: SplitResult, within_s: float) -> HTTPConnection:
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=within_s)


class _Answer(HTTPResponse):
    """An answer that is read until its time is over, however it is handed out."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
        *,
        left_s: Callable[[], float],
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock, left_s))


class _Timed(io.RawIOBase):
    """What comes over a socket, as long as there is time left."""

    def __init__(self, sock: socket.socket, left_s: Callable[[], float]) -> None:
        self._socket, self._left_s = sock, left_s
        self._stream = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        left_s = self._left_s()
        if left_s <= 0:
            raise TimeoutError("the answer takes too long")
        self._socket.settimeout(max(LEAST_WAIT_S, left_s))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


def inquire(
    url: str, *, authorization: str | None = None, within_s: float = ANSWER_WITHIN_S
) -> Report:
    """Ask the process at `url`. Raises: ConfigurationError if that is no URL of one."""
    try:
        status = ask(url, "/api/status", authorization=authorization, within_s=within_s)
    except HTTPError as error:
        remedy = "set http.token" if error.code == HTTPStatus.UNAUTHORIZED else "correct --url"
        return _nothing(url, f"no status: {error.code} {error.reason}", remedy)
    except (OSError, HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
        return _nothing(url, f"no status: {reason}", "is `replicator run` running?")
    if not isinstance(status, dict) or not {"state", "pipelines"} <= status.keys():
        return _nothing(url, "answers, but is no replicator", "correct --url")
    if (fault := fault_of(status)) is not None:
        return _nothing(url, f"answers with no sound status: {fault}", "is it another version?")
    return Report(url=url, status=status)


def _nothing(url: str, reason: str, remedy: str) -> Report:
    """Why there is no status: one line, for part of it comes from over there."""
    line = "".join(each if each.isprintable() else " " for each in reason[:REASON_MAX])
    return Report(url=url, error=f"{url}: {' '.join(line.split())}; {remedy}")
