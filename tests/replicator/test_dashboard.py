"""The status page: read-only, for this machine alone, and honest."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from replicator.dashboard.app import FILES, STATIC, create_app, listen, serve, serve_on
from replicator.errors import ConfigurationError

STATUS: dict[str, Any] = {"state": "ok", "pipelines": [{"state": "running"}]}


def ask(
    path: str, *, status: dict[str, Any] = STATUS, host: str = "127.0.0.1:8080", method: str = "GET"
) -> httpx.Response:
    """Ask the application without a network."""

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(lambda: status))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers={"Host": host})

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


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/status", "/healthz"])
def test_nothing_can_be_changed(path: str, method: str) -> None:
    """The page is read-only."""
    assert ask(path, method=method).status_code == 405


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/../app.py", "/app.py"])
def test_nothing_else_is_served(path: str) -> None:
    """Neither generated documentation nor other files."""
    assert ask(path).status_code == 404


def test_the_page_holds_no_inline_code() -> None:
    """The policy would block it, and so the page would not work."""
    page = (STATIC / "index.html").read_text()
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert "<style" not in page
    assert not re.search(r"\s(on\w+|style)=", page)


def test_the_script_sets_text_only() -> None:
    """A table that is called `<img onerror=…>` stays a text."""
    script = (STATIC / "status.js").read_text()
    forbidden = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    assert not [name for name in forbidden if name in script]


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
            asyncio.run(serve(FastAPI(), "127.0.0.1", port, asyncio.Event()))
