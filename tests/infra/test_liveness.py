"""What ECS runs to learn whether the process lives: the command of the task definition itself."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.cloudformation import template
from infra.definition import Options, stack_of
from replicator.settings import HttpSettings, RegionSettings, Settings, TableSettings

HOME, AWAY = "us-east-1", "eu-west-1"


def asked(port: int, host: str = "127.0.0.1") -> int:
    """The exit status of the check of a service that is told this port."""
    settings = Settings(
        regions={name: RegionSettings(aws_region=name) for name in (HOME, AWAY)},
        tables={"orders": TableSettings(regions=(HOME, AWAY))},
        http=HttpSettings(port=port, host=host, token="t" * 32),  # type: ignore[arg-type]
    )
    document = template(stack_of(settings, HOME, Options(mode="service")))
    (container,) = document["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
    assert container["Command"][-2:] == ["--port", str(port)]
    kind, python, *arguments = container["HealthCheck"]["Command"]
    assert (kind, python) == ("CMD", "python")
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        timeout=container["HealthCheck"]["Timeout"] + 20,
        check=False,
    )
    return done.returncode


class Answer(http.server.BaseHTTPRequestHandler):
    """Red, as it is while a gap is."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        del format, args


@contextmanager
def red() -> Iterator[int]:
    """A page that answers 503, and its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - as a setting
def test_a_process_that_is_red_lives(host: str) -> None:
    """A gap is no reason to begin anew: it would be there again, and the task end again."""
    with red() as port:
        assert asked(port, host) == 0


def test_a_process_that_is_stuck_does_not() -> None:
    """Its socket still takes connections, since the kernel does that; nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert asked(listener.getsockname()[1]) != 0


def test_a_process_that_has_no_page_does_not() -> None:
    """Nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert asked(closed.getsockname()[1]) != 0
