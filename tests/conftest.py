"""What every test shares: harmless credentials, and engines started once per session.

An engine that this machine cannot run skips the tests that ask for it, and the end of the run says
so in a line that cannot be missed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

import hypothesis
import pytest

from support.blows import PROPERTY, told
from support.engines import CREDENTIALS, ENGINES, Engine, EngineUnavailable

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.register_assert_rewrite("support.pages", "support.black_box")

# The same examples each time: what chance finds is for those who look for it (`make soak`).
hypothesis.settings.register_profile("the same", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("by chance", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "the same"))

EngineSource: TypeAlias = Callable[[str], Engine]

_UNAVAILABLE = "engine unavailable: "

LONGEST_FIRST = ("runbooks", "browser", "black_box", "infra", "simulation")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a headless Chromium; one per module, since Playwright keeps its thread's event loop."""
    from support.pages import BrowserUnavailable, opened_browser  # noqa: PLC0415

    with ExitStack() as stack:
        try:
            opened = stack.enter_context(opened_browser())
        except BrowserUnavailable as error:
            pytest.skip(f"{_UNAVAILABLE}{error}")
        yield opened


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what lasts longest, so that no worker is left alone with it at the end."""
    longest = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: longest.get(item.path.parent.name, len(longest)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was survived; and loudly which engines, or that a browser, were missing and how many
    tests that cost."""
    passed = terminalreporter.getreports("passed")
    figures = (dict(report.user_properties).get(PROPERTY) for report in passed)
    survived = told(figure for figure in figures if isinstance(figure, dict))
    if survived is not None:
        terminalreporter.write_line(survived)
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
