"""The time that an endpoint tells: the Date header of its answer to a plain GET.

DynamoDB answers one with `healthy: …`, without a signature. This module must not know what a
difference means.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from replicator.endpoints import is_loopback

ANSWER_WITHIN_S = 5.0


def endpoint_time_s(url: str, host: str) -> float | None:
    """Seconds since 1970 as the endpoint has them, whole ones; None where it does not tell."""
    opener = build_opener(ProxyHandler({})) if is_loopback(host) else build_opener()
    try:
        with opener.open(url, timeout=ANSWER_WITHIN_S) as answer:
            text = answer.headers.get("Date")
    except HTTPError as refused:  # an answer all the same
        text = refused.headers.get("Date")
        refused.close()
    except (URLError, HTTPException, TimeoutError, ConnectionError):
        return None
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
