"""Lambda's execution environment: the runtime API, and the real runtime client as a process.

The process is `python -m awslambdaric HANDLER`, as in an AWS base image; it asks this server for
the next invocation and posts the answer or the error. A process that dies, or is not done by its
deadline, is an invocation that failed, and the next one starts a process anew.

Source: Lambda, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.black_box import environment
from support.engines import HOST

HANDLER = "replicator.lambda_handler.handler"
PATH = "/2018-06-01/runtime"
START_WITHIN_S = 60.0
LOOK_S = 0.02
_CHILD = Path(__file__).with_name("child.py")


class FunctionError(Exception):
    """The invocation failed: an error was posted, the process died, or the time was up."""


@dataclass(frozen=True)
class _Invocation:
    id: str
    body: bytes
    deadline_ms: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Connections of processes that are killed end in the midst."""


class ExecutionEnvironment:
    """One execution environment of a function; one invocation at a time."""

    def __init__(self, variables: Mapping[str, str], *, timeout_s: float, log: Path) -> None:
        self.timeout_s = timeout_s
        self.starts = 0
        self._variables, self._log = dict(variables), log
        self.next: queue.Queue[_Invocation | None] = queue.Queue()
        self.ends: queue.Queue[tuple[str, str, bytes]] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None
        self._server = _Server((HOST, 0), _api(self))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def invoke(self, event: object) -> Any:
        """One invocation. Raises: FunctionError."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        deadline_ms = int((time.time() + self.timeout_s) * 1000)
        invocation = _Invocation(uuid.uuid4().hex, json.dumps(event).encode(), deadline_ms)
        self.next.put(invocation)
        limit_s = time.monotonic() + self.timeout_s + START_WITHIN_S
        while True:
            try:
                kind, of, body = self.ends.get(timeout=LOOK_S)
            except queue.Empty:
                self._check(limit_s)
                continue
            if kind == "init" or (of == invocation.id and kind == "error"):
                raise FunctionError(body.decode())
            if of == invocation.id:
                return json.loads(body)

    def kill(self) -> bool:
        """SIGKILL, at any moment, from any thread; whether there was a process to kill."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        return True

    def cpu_s(self) -> float:
        """CPU seconds of the process so far. Source: proc(5), utime and stime."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process and the server."""
        self.kill()
        if self._process is not None:
            self._process.wait()
        self.next.put(None)
        self._server.shutdown()
        self._server.server_close()

    def said(self) -> str:
        """What the function printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _check(self, limit_s: float) -> None:
        """Whether the invocation can still end."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise FunctionError(f"Runtime exited: {self._process.returncode}")
        if time.monotonic() > limit_s:
            self.kill()
            raise FunctionError("Task timed out")

    def _start(self) -> None:
        """Start a process; what was asked for by the one before, nobody waits for any more."""
        self.starts += 1
        self.next.put(None)
        self.next = queue.Queue()
        client = [sys.executable, "-m", "awslambdaric", HANDLER]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(_CHILD), *client],
                env={
                    **environment(),
                    "AWS_LAMBDA_RUNTIME_API": f"{HOST}:{self._server.server_port}",
                    "AWS_LAMBDA_FUNCTION_NAME": "replicator",
                    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
                    **self._variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _api(owner: ExecutionEnvironment) -> type[BaseHTTPRequestHandler]:
    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            assert self.path == f"{PATH}/invocation/next", self.path
            invocation = owner.next.get()
            if invocation is None:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", invocation.id)
            self.send_header("Lambda-Runtime-Deadline-Ms", str(invocation.deadline_ms))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:::function:r")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(invocation.body)))
            self.end_headers()
            self.wfile.write(invocation.body)
            self.wfile.flush()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            *_, of, kind = self.path.split("/")
            owner.ends.put(("init" if of == "init" else kind, of, body))
            answer = b'{"status":"OK"}'
            self.send_response(202)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing to tell."""

    return Api
