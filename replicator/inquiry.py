"""Asking a running replicator for its status over HTTP.

This module must not know how a status is shown. No proxy is used: replicators answer on loopback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

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


def inquire(url: str) -> Report:
    """Ask the process at `url`. Raises: ConfigurationError if that is no URL of one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"--url: {url!r} is no URL; write it like http://127.0.0.1:8080")
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/api/status", timeout=ANSWER_WITHIN_S) as answer:
            status = json.loads(answer.read(ANSWER_BYTES_MAX))
    except (URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        return Report(url=url, error=f"{url}: no status: {reason}; is `replicator run` running?")
    if not isinstance(status, dict) or not {"state", "pipelines"} <= status.keys():
        return Report(url=url, error=f"{url}: answers, but is no replicator; correct --url")
    return Report(url=url, status=status)
