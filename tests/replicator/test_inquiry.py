"""Asking a process: the whole answer in its time, from that host alone, and sound or none."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest

from replicator import inquiry
from replicator.dashboard.gather import Gathering
from replicator.inquiry import ask, inquire
from replicator.reported import fault_of
from replicator.telemetry import PipelineStats
from support.clock import VirtualClock
from support.pages import link, pipeline, status

TOKEN = "Bearer " + "token-" * 4
ENDLESS = 2_000
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"

Answering: TypeAlias = Callable[[socket.socket, threading.Event], None]


@contextmanager
def peer(
    answer: Callable[[socket.socket, threading.Event], None],
) -> Iterator[tuple[str, list[bytes]]]:
    """A process that answers as told until the test ends; gives its URL and what it was asked."""
    over, asked = threading.Event(), list[bytes]()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65_536))
                try:
                    answer(connection, over)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", JSON_HEAD])
def test_an_answer_that_trickles_has_no_more_time_than_one_that_is_silent(head: bytes) -> None:
    """The time is that of the whole answer, so that each byte does not begin it anew."""

    def trickle(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        for _ in range(ENDLESS):
            connection.sendall(b" ")
            if over.wait(0.005):
                return
        connection.sendall(b"{}" if head == JSON_HEAD else JSON_HEAD + b"{}")

    with peer(trickle) as (url, _), pytest.raises(TimeoutError):
        ask(url, "/api/status", within_s=0.2)


def test_a_token_goes_to_no_other_host() -> None:
    """A process that sends on to another is no process that answers."""
    with peer(lambda connection, _: connection.sendall(JSON_HEAD + b"{}")) as (other, asked):
        redirect = (
            f"HTTP/1.1 302 Found\r\nLocation: {other}/api/status\r\nContent-Length: 0\r\n\r\n"
        )
        with peer(lambda connection, _: connection.sendall(redirect.encode())) as (url, heard):
            report = inquire(url, authorization=TOKEN)
    assert TOKEN.encode() in heard[0]
    assert (asked, report.error) == ([], f"{url}: no status: 302 Found; correct --url")


@pytest.mark.parametrize(
    "error", [ssl.SSLError(1, "record layer failure"), OSError(113, "no route"), TimeoutError()]
)
def test_whatever_fails_on_the_way_is_told(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what TLS finds wrong in the middle of an answer."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(inquiry, "ask", fails)
    report = inquire("http://here")
    assert report.status is None
    assert (report.error or "").startswith("http://here: no status: ")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_no_status(body: bytes) -> None:
    """However it is wrong, it is told in one line."""
    with peer(lambda connection, _: connection.sendall(JSON_HEAD + body)) as (url, _):
        report = inquire(url)
    assert (report.error or "").startswith(f"{url}: no status: ")
    assert "\n" not in (report.error or "")


def test_the_reason_of_another_host_cannot_steer_a_terminal() -> None:
    """What is told of it is one line of what can be printed, and not a long one."""
    answer = b"HTTP/1.1 500 \x1b[2J" + b"x" * 5_000 + b"\r\nContent-Length: 0\r\n\r\n"
    with peer(lambda connection, _: connection.sendall(answer)) as (url, _):
        error = inquire(url).error or ""
    assert error.isprintable()
    assert len(error) < 500


SOUND = status(pipeline("us", link("eu")), now_us=1)
_DEEP: list[Any] = []
for _ in range(2_000):
    _DEEP = [_DEEP]
NONSENSE: dict[str, dict[str, Any]] = {
    "no table": {**SOUND, "pipelines": [{"source": "us", "state": "ok", "links": []}]},
    "no links": {**SOUND, "pipelines": [{"table": "t", "source": "us", "state": "ok"}]},
    "no time": {name: value for name, value in SOUND.items() if name != "now_us"},
    "half a ledger": {**SOUND, "ledger": {"us": {"unwritten": 1}}},
    "not a list": {**SOUND, "pipelines": {}},
    "not a map": {**SOUND, "pipelines": ["orders"]},
    "a state of its own": {**SOUND, "state": "splendid"},
    "a list for a name": {**SOUND, "pipelines": [pipeline("us", link([]))]},  # type: ignore[arg-type]
    "a text for a count": {**SOUND, "pipelines": [pipeline("us", link("eu", applied="7"))]},
    "too much to count": {**SOUND, "pipelines": [pipeline("us", link("eu", applied=10**400))]},
    "no latency": {**SOUND, "pipelines": [pipeline("us", link("eu", latency_ms=7))]},
    "exposure of nothing": {**SOUND, "exposure": [1]},
    "endless exposure": {**SOUND, "exposure": {"us": {"seconds": float("inf")}}},
    "not a number": {**SOUND, "more": float("nan")},
    "half a character": {**SOUND, "more": "\ud800"},
    "nested without end": {**SOUND, "more": _DEEP},
}


@pytest.mark.parametrize("wrong", NONSENSE)
def test_what_is_no_status_is_told_and_not_taken(wrong: str) -> None:
    """Nobody behind has to ask whether a field is there and of what kind it is."""
    assert fault_of(NONSENSE[wrong])
    assert fault_of(SOUND) is None


def test_what_a_process_reports_is_sound() -> None:
    """The shape holds for what the shipping code says, and for what a dashboard makes of it."""
    stats = PipelineStats(table="orders", source="us", mode="one-way", targets=("eu", "ap"))
    reported = status(stats.snapshot(1), now_us=1)
    assert fault_of(reported) is None
    dashboard = Gathering(names=["here"], clock=VirtualClock())
    dashboard.note("here", reported)
    dashboard.note("here", None, "refused")
    assert fault_of(dashboard.document()) is None


def test_a_process_that_answers_nonsense_says_nothing() -> None:
    """The reason names the field."""
    answer = JSON_HEAD + json.dumps(NONSENSE["no table"]).encode()
    with peer(lambda connection, _: connection.sendall(answer)) as (url, _):
        report = inquire(url)
    assert report.status is None
    assert "no sound status: pipelines.0.table: Field required" in (report.error or "")
