"""Signature Version 4 of calls to one endpoint, with all kept that does not change between them.

Every call is a POST of `/` with the same headers. What precedes the body's digest in the canonical
request, and the key of the day, are worked out once a second and once a day; a call then costs
three digests. The signature is the one that botocore makes of the same request.

Source: IAM User Guide, "Create a signed AWS API request".

This module must not know where time or keys come from.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from replicator.wire.access import Keys

CONTENT_TYPE = "application/x-amz-json-1.0"
SERVICE = "dynamodb"
"""What both endpoints, that of tables and that of streams, are signed for."""

_BLOCK = 64
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(slots=True)
class _Prepared:
    """All of a call that holds for one operation, second and pair of keys."""

    second: int
    keys: Keys
    canonical: Any
    """The digest of the canonical request as far as the body's own digest."""
    head: bytes
    inner: Any
    outer: Any
    """The two halves of the keyed digest, the inner as far as the request's own digest, the outer
    as far as the key goes. Source: RFC 2104."""


class Signer:
    """Makes the heads of requests to one endpoint. `target`: what precedes the operation's name."""

    def __init__(self, *, host: str, region: str, target: str) -> None:
        self._host, self._region, self._target = host, region, target
        self._prepared: dict[str, _Prepared] = {}
        self._day: tuple[str, Keys, Any, Any] | None = None

    def head(self, operation: str, body: bytes, keys: Keys, now_s: int) -> bytes:
        """Everything of a request but its body. `now_s`: seconds since 1970, the service's."""
        prepared = self._prepared.get(operation)
        if prepared is None or prepared.second != now_s or prepared.keys is not keys:
            prepared = self._prepared[operation] = self._prepare(operation, keys, now_s)
        canonical = prepared.canonical.copy()
        canonical.update(sha256(body).hexdigest().encode())
        inner, outer = prepared.inner.copy(), prepared.outer.copy()
        inner.update(canonical.hexdigest().encode())
        outer.update(inner.digest())
        return b"%b%b\r\nContent-Length: %d\r\n\r\n" % (
            prepared.head,
            outer.hexdigest().encode(),
            len(body),
        )

    def _prepare(self, operation: str, keys: Keys, now_s: int) -> _Prepared:
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        scope = f"{at[:8]}/{self._region}/{SERVICE}/aws4_request"
        headers = {
            "Content-Type": CONTENT_TYPE,
            "Host": self._host,
            "X-Amz-Date": at,
            **({"X-Amz-Security-Token": keys.token} if keys.token else {}),
            "X-Amz-Target": f"{self._target}.{operation}",
        }
        signed = ";".join(name.lower() for name in headers)
        lines = "".join(f"{name.lower()}:{value}\n" for name, value in headers.items())
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        authorization = (
            f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={signed}, Signature="
        )
        inner, outer = (digest.copy() for digest in self._keyed(at[:8], keys))
        inner.update(f"{_ALGORITHM}\n{at}\n{scope}\n".encode())
        return _Prepared(
            second=now_s,
            keys=keys,
            canonical=sha256(f"POST\n/\n\n{lines}\n{signed}\n".encode()),
            head=f"POST / HTTP/1.1\r\n{said}Authorization: {authorization}".encode(),
            inner=inner,
            outer=outer,
        )

    def _keyed(self, day: str, keys: Keys) -> tuple[Any, Any]:
        """The keyed digest of a day, begun."""
        if self._day is None or self._day[:2] != (day, keys):
            key = f"AWS4{keys.secret_key}".encode()
            for part in (day, self._region, SERVICE, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            padded = key.ljust(_BLOCK, b"\0")
            inner = sha256(bytes(byte ^ 0x36 for byte in padded))
            outer = sha256(bytes(byte ^ 0x5C for byte in padded))
            self._day = (day, keys, inner, outer)
        return self._day[2], self._day[3]
