"""Asking a running replicator for its status over HTTP.

This module must not know how a status is shown. No proxy is used: replicators answer on loopback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from replicator.errors import ConfigurationError

ANSWER_WITHIN_S = 5.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024


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


def ask(url: str, path: str, *, authorization: str | None = None, body: object = None) -> Any:
    """The JSON at a path of a process. A body makes it a POST.

    Raises: what urllib raises, OSErrors all of them; HTTPException; ValueError for no JSON.
    """
    headers = {} if authorization is None else {"Authorization": authorization}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    opener = build_opener(ProxyHandler({}))
    request = Request(f"{checked_url(url)}{path}", data=data, headers=headers)  # noqa: S310 - checked
    with opener.open(request, timeout=ANSWER_WITHIN_S) as answer:
        return json.loads(answer.read(ANSWER_BYTES_MAX))


def inquire(url: str, *, authorization: str | None = None) -> Report:
    """Ask the process at `url`. Raises: ConfigurationError if that is no URL of one."""
    try:
        status = ask(url, "/api/status", authorization=authorization)
    except HTTPError as error:
        remedy = "set http.token" if error.code == HTTPStatus.UNAUTHORIZED else "correct --url"
        return Report(url=url, error=f"{url}: no status: {error.code} {error.reason}; {remedy}")
    except (URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        return Report(url=url, error=f"{url}: no status: {reason}; is `replicator run` running?")
    if not isinstance(status, dict) or not {"state", "pipelines"} <= status.keys():
        return Report(url=url, error=f"{url}: answers, but is no replicator; correct --url")
    return Report(url=url, status=status)
