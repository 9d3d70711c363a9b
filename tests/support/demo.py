"""A demo that runs: `replicator demo` as a person starts it, with its page."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support.black_box import command, environment
from support.engines import free_port

ENDS_WITHIN_S = 60
_PAGE = re.compile(r"status page: (http://\S+)/")


@contextmanager
def running_demo(*, seconds: float) -> Iterator[str]:
    """Start the demo and give the URL of its page; what it has begun it cleans up at the end.

    Raises: AssertionError with what it printed, when it ends before it has a page.
    """
    demo = subprocess.Popen(
        command("demo", "--headless", "--seconds", str(seconds), "--port", str(free_port())),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    try:
        yield _page(demo.stdout)
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=ENDS_WITHIN_S)


def _page(lines: Iterator[str]) -> str:
    printed = ""
    for line in lines:
        printed += line
        if found := _PAGE.search(line):
            return found[1]
    raise AssertionError(f"the demo ended without a page:\n{printed}")
