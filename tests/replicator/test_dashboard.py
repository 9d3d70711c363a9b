"""The page's API: read-only without the token, for this machine alone without one, and honest."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
from typing import Any

import httpx
import pytest

from replicator.dashboard.access import Access
from replicator.dashboard.app import FILES, STATIC, create_app
from replicator.dashboard.serving import listen, serve, serve_on
from replicator.dashboard.switch import Order, Refused
from replicator.errors import ConfigurationError

STATUS: dict[str, Any] = {"state": "ok", "pipelines": [{"state": "running"}]}


def ask(
    path: str,
    *,
    status: dict[str, Any] = STATUS,
    host: str = "127.0.0.1:8080",
    method: str = "GET",
    token: str | None = None,
    content: bytes | None = None,
    **parts: Any,
) -> httpx.Response:
    """Ask the application without a network; `parts` are what it is made of."""
    headers = {"Host": host, **({} if token is None else {"Authorization": f"Bearer {token}"})}

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(lambda: status, **parts))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers, content=content)

    return asyncio.run(exchange())


def test_the_status_is_passed_on_as_it_is() -> None:
    """What the process reports is what the API says."""
    assert ask("/api/status").json() == STATUS


@pytest.mark.parametrize(("state", "code"), [("ok", 200), ("degraded", 200), ("failed", 503)])
def test_health_fails_with_the_process(state: str, code: int) -> None:
    """A degraded process is alive; a failed one is to be noticed."""
    answer = ask("/healthz", status={"state": state, "pipelines": []})
    assert (answer.status_code, answer.json()) == (code, {"state": state})


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 503),
        (["starting"], 503),
        (["running", "starting"], 503),
        (["running", "retrying"], 200),
    ],
)
def test_ready_once_every_pipeline_has_started(states: list[str], code: int) -> None:
    """Ready means past starting, not well: that is what health tells."""
    pipelines = [{"state": state} for state in states]
    assert ask("/readyz", status={"state": "ok", "pipelines": pipelines}).status_code == code


@pytest.mark.parametrize("path", [*FILES, "/api/status", "/nothing"])
def test_every_answer_forbids_foreign_content(path: str) -> None:
    """Nothing but the page's own files may load, and nobody may frame it."""
    policy = ask(path).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert ask(path).headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "10.0.0.1", "127.0.0.1.evil.example", "", "[::1"]
)
def test_a_foreign_host_is_refused(host: str) -> None:
    """A page that rebinds its own name to loopback learns nothing."""
    answer = ask("/api/status", host=host)
    assert answer.status_code == 421
    assert "pipelines" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:8080"])
def test_loopback_names_are_answered(host: str) -> None:
    """The page answers under each name of this machine."""
    assert ask("/", host=host).status_code == 200


TOKEN = "token-" * 4
OPEN = Access(host="10.1.2.3", names=("page.example",), token=TOKEN)


@pytest.mark.parametrize("path", ["/api/status", "/api/history", "/api/conflicts", "/events"])
@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x"])
def test_an_open_page_shows_no_figures_without_its_token(path: str, token: str | None) -> None:
    """Whoever can reach the address sees the empty page and whether the process lives."""
    answer = ask(path, host="10.1.2.3:8080", access=OPEN, token=token)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "pipelines" not in answer.text
    for free in ("/", "/page.js", "/healthz", "/readyz"):
        assert ask(free, host="10.1.2.3:8080", access=OPEN).status_code in (200, 503)


def test_an_open_page_answers_to_its_token() -> None:
    """With the token the figures are the same as on loopback."""
    assert ask("/api/status", host="10.1.2.3", access=OPEN, token=TOKEN).json() == STATUS


@pytest.mark.parametrize(
    ("host", "code"),
    [("page.example", 200), ("10.1.2.3:80", 200), ("[fd00::7]", 200), ("evil.example", 421)],
)
def test_an_open_page_answers_to_its_names_and_to_addresses(host: str, code: int) -> None:
    """A name that is not its own may have been rebound to it; an address cannot be."""
    assert ask("/", host=host, access=OPEN).status_code == code


class Switchboard:
    """A switch that notes what it is told."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    async def __call__(self, order: Order, authorization: str | None) -> int:
        if authorization != f"Bearer {TOKEN}":
            raise Refused(401, "the token is needed")
        self.orders.append(order)
        return 1


ORDER = b'{"table": "orders", "source": "us", "target": "eu", "paused": true}'


def test_an_order_with_the_token_is_carried_out() -> None:
    """The switch is given the order as it was written."""
    board = Switchboard()
    answer = ask("/api/pause", method="POST", content=ORDER, token=TOKEN, switch=board)
    assert answer.json() == {"links": 1}
    assert board.orders == [Order(table="orders", source="us", target="eu", paused=True)]


@pytest.mark.parametrize("token", [None, "wrong"])
def test_an_order_without_the_token_is_not(token: str | None) -> None:
    """The page is read-only."""
    board = Switchboard()
    answer = ask("/api/pause", method="POST", content=ORDER, token=token, switch=board)
    assert (answer.status_code, board.orders) == (401, [])
    assert ask("/api/pause", method="POST", content=ORDER, token=token).status_code == 403


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 422),
        (b"[]", 422),
        (b'{"table": "orders"}', 422),
        (b'{"table": "orders", "paused": true, "more": 1}', 422),
        (b'{"table": "", "paused": true}', 422),
        (b" " * 5_000 + ORDER, 413),
    ],
)
def test_what_is_no_order_is_refused(content: bytes, code: int) -> None:
    """In one line that says what is wrong, whatever was sent."""
    board = Switchboard()
    answer = ask("/api/pause", method="POST", content=content, token=TOKEN, switch=board)
    assert (answer.status_code, board.orders) == (code, [])
    assert isinstance(answer.json()["error"], str)


def test_conflicts_are_asked_for_with_a_bound() -> None:
    """As many as were asked for, never more than may be; where none are kept, it is said."""

    async def newest(limit: int) -> dict[str, Any]:
        return {"total": 9, "conflicts": [{"at_us": limit}]}

    answer = ask("/api/conflicts?limit=3", conflicts=newest)
    assert answer.json() == {"total": 9, "conflicts": [{"at_us": 3}]}
    assert ask("/api/conflicts?limit=501", conflicts=newest).status_code == 422
    assert ask("/api/conflicts?limit=none", conflicts=newest).status_code == 422
    assert ask("/api/conflicts").json() == {"total": None, "conflicts": [], "recorded": False}


@pytest.mark.parametrize(("query", "code"), [("", 200), ("?window=24h", 200), ("?window=1y", 422)])
def test_history_is_there_for_three_windows(query: str, code: int) -> None:
    """Anything else is wrong usage, told in one line."""
    answer = ask(f"/api/history{query}")
    assert answer.status_code == code
    assert ("error" in answer.json()) == (code != 200)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/status", "/healthz"])
def test_nothing_can_be_changed(path: str, method: str) -> None:
    """The page is read-only."""
    answer = ask(path, method=method)
    assert answer.status_code == 405
    assert answer.json() == {"error": "Method Not Allowed"}
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/", "/api/status", "/events", "/healthz"])
def test_a_head_ends(path: str) -> None:
    """Also that of the stream of events, which itself does not end."""
    answer = ask(path, method="HEAD")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/../app.py", "/app.py"])
def test_nothing_else_is_served(path: str) -> None:
    """Neither generated documentation nor other files."""
    answer = ask(path)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})


def test_the_page_holds_no_inline_code() -> None:
    """The policy would block it, and so the page would not work."""
    page = (STATIC / "index.html").read_text()
    assert set(re.findall(r"<script[^>]*>([^<]*)</script>", page)) == {""}
    assert "<style" not in page
    assert not re.search(r"\s(on\w+|style)=", page)


def test_the_script_sets_text_only() -> None:
    """A table that is called `<img onerror=…>` stays a text."""
    scripts = [name for path, (name, _) in FILES.items() if path.endswith(".js")]
    own = [(STATIC / name).read_text() for name in scripts if not name.startswith("vendor/")]
    assert len(own) >= 10
    forbidden = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    assert not [name for name in forbidden if any(name in script for script in own)]


def test_serving_ends_when_told_and_leaves_signals_alone() -> None:
    """Signals belong to the process; the page stops when its owner says so."""

    async def scenario() -> None:
        stop = asyncio.Event()
        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        before = signal.getsignal(signal.SIGTERM)
        serving = asyncio.create_task(serve_on(create_app(lambda: STATUS), listener, stop))
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        assert answer.status_code == 200
        assert signal.getsignal(signal.SIGTERM) is before
        stop.set()
        await asyncio.wait_for(serving, 5)
        with socket.create_server(("127.0.0.1", port)):
            pass  # the port is free again

    asyncio.run(scenario())


def test_a_taken_port_is_the_users_to_mend() -> None:
    """Two replicators cannot share a port; the line names it and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*--port"):
            asyncio.run(serve(create_app(lambda: STATUS), "127.0.0.1", port, asyncio.Event()))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1:80", "there is no such address"),
        ("no-such-host.invalid", "there is no such address"),
        (f"{'a' * 64}.invalid", "there is no such address"),
        ("192.0.2.1", os.strerror(errno.EADDRNOTAVAIL)),
    ],
)
def test_a_host_that_is_not_this_machine_is_to_be_corrected(host: str, reason: str) -> None:
    """No process listens there that could be ended."""
    with pytest.raises(ConfigurationError) as refused:
        listen(host, 8080)
    line = f"http.host: cannot listen on {host}:8080: {reason}; correct http.host"
    assert str(refused.value) == line


def test_a_port_that_only_root_may_have_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With which ports are for everybody."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ConfigurationError, match=r"take a port above 1023 with --port$"):
        listen("127.0.0.1", 80)
