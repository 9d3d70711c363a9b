"""Who may ask for what: names, tokens, and the headers that every answer carries.

On loopback everybody on this machine may read. Bound to any other address, the figures as well ask
for the token, and only the page's own files and the two health checks do without. A change always
asks for the token, so that without one the page is read-only.

A request must name this machine: a foreign page that rebinds its own name to this address is
refused (failures.md, Security). An address in place of a name cannot be rebound. Tokens travel in
the Authorization header alone, which no foreign page can set, and are compared in constant time.

This module must not know what the answers hold.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from replicator.endpoints import is_loopback

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
HEALTH = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a page is bound to, the further names it answers to, and its token if it has one."""

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    token: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether others than this machine can reach the page."""
        return not is_loopback(self.host)

    def answers_to(self, host: str) -> bool:
        """Whether a Host header names this page."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None:
            return False
        if is_loopback(name):
            return True
        known = {self.host.casefold(), *map(str.casefold, self.names)}
        return self.is_open and (name in known or _is_address(name))

    def admits(self, authorization: str | None) -> bool:
        """Whether an Authorization header holds the token."""
        scheme, _, given = (authorization or "").partition(" ")
        if self.token is None or scheme.casefold() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode(), self.token.encode())


def _is_address(name: str) -> bool:
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


class Gate:
    """Refuses what `access` does not allow, and sets the security headers on every answer."""

    def __init__(self, app: ASGIApp, *, access: Access, files: frozenset[str]) -> None:
        """`files`: the paths that anybody who reaches the page may have."""
        self._app = app
        self._access = access
        self._free = files | HEALTH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._answering(scope)(scope, receive, send_secured)

    def _answering(self, scope: Scope) -> ASGIApp:
        headers = Headers(scope=scope)
        if not self._access.answers_to(headers.get("host", "")):
            return _MISDIRECTED
        if self._access.is_open and scope["path"] not in self._free:
            return self._app if self._access.admits(headers.get("authorization")) else TOKEN_NEEDED
        return self._app


_MISDIRECTED = PlainTextResponse("this page answers to its own names only: http.names\n", 421)
TOKEN_NEEDED = JSONResponse(
    {"error": "the token is needed: Authorization: Bearer …"},
    401,
    headers={"WWW-Authenticate": "Bearer"},
)
