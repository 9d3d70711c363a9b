"""moto as a server whose requests go one at a time: `python moto_server.py PORT`.

moto's tables are plain dictionaries without a lock. Under concurrent requests it loses writes and
repeats sequence numbers; behind one lock it does neither, at the same speed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple


class OneAtATime:
    """A WSGI application that answers one request after the other."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._lock = Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        with self._lock:
            return list(self._application(environ, start_response))


def main() -> None:
    """Serve on the loopback until killed."""
    application = OneAtATime(DomainDispatcherApplication(create_backend_app))
    port = int(sys.argv[1])
    run_simple("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
