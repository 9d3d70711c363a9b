"""What every test shares: harmless credentials, and engines started once per session.

An engine that this machine cannot run skips the tests that ask for it, and the end of the run says
so in a line that cannot be missed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

import pytest

from support.engines import CREDENTIALS, ENGINES, Engine, EngineUnavailable

EngineSource: TypeAlias = Callable[[str], Engine]

_UNAVAILABLE = "engine unavailable: "


@pytest.fixture(scope="session", autouse=True)
def _credentials() -> Iterator[None]:
    """Keep a developer's own credentials and endpoints out of every test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def engine(_credentials: None) -> Iterator[EngineSource]:
    """Give the running engine of a name; each is started when a test first asks for it."""
    running: dict[str, Engine] = {}
    with ExitStack() as stack:

        def give(name: str) -> Engine:
            if name not in running:
                try:
                    running[name] = stack.enter_context(ENGINES[name]())
                except EngineUnavailable as error:
                    pytest.skip(f"{_UNAVAILABLE}{error}")
            return running[name]

        yield give


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly which engines were missing and how many tests that cost."""
    counts: dict[str, int] = {}
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, found, missing = reason.partition(_UNAVAILABLE)
        if found:
            counts[missing] = counts.get(missing, 0) + 1
    for missing, count in counts.items():
        terminalreporter.write_line(
            f"ATTENTION: {count} tests did not run. {missing}", red=True, bold=True
        )
