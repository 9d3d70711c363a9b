"""Every contract test runs once per backend; what a backend gets wrong is an expected failure.

A backend is a function that is handed the engines of the session and returns a `MakeSubject`. To
add one, name it in BACKENDS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from contract.deviations import DEVIATIONS
from contract.in_memory import MemorySubject
from contract.over_http import Connection, HttpSubject
from contract.subject import MakeSubject, Subject
from support.engines import ENGINES, Engine

EngineSource: TypeAlias = Callable[[str], Engine]


def _over_http(name: str, engine: EngineSource, stack: ExitStack) -> MakeSubject:
    connection = stack.enter_context(Connection(engine(_engine_of(name)), lean=name in LEAN))
    return partial(HttpSubject.create, connection)


def _in_memory(name: str, engine: EngineSource, stack: ExitStack) -> MakeSubject:
    del name, engine, stack
    return MemorySubject


LEAN: Mapping[str, str] = {f"lean@{name}": name for name in ENGINES}
"""The lean data plane before an engine: what that gets wrong, it shows as well."""


def _engine_of(backend: str) -> str:
    return LEAN.get(backend, backend)


BACKENDS: Mapping[str, Callable[[str, EngineSource, ExitStack], MakeSubject]] = {
    "memory": _in_memory,
    **dict.fromkeys((*ENGINES, *LEAN), _over_http),
}
"""Backend -> how its tables are made."""


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(_engine_of(name))) for name in BACKENDS
    ],
)
def make_subject(request: pytest.FixtureRequest, engine: EngineSource) -> Iterator[MakeSubject]:
    """Make a table of its own, for a test that reads the stream or all of the checkpoints."""
    name: str = request.param
    with ExitStack() as stack:
        yield BACKENDS[name](name, engine, stack)


@pytest.fixture(scope="module")
def subject(make_subject: MakeSubject) -> Subject:
    """Give the module's table, in which each test uses keys of its own."""
    return make_subject()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the expected failures, and stop at an entry that names no check."""
    here = Path(__file__).parent
    checks = [item for item in items if here in item.path.parents]
    known: dict[tuple[str, str], str] = {
        (backend, check): reason
        for backend in BACKENDS
        for check, reason in DEVIATIONS.get(_engine_of(backend), {}).items()
    }
    met: set[tuple[str, str]] = set()
    for check in checks:
        backend, names = _named(check)
        for name in names:
            if (backend, name) in known:
                met.add((backend, name))
                reason = known[backend, name]
                check.add_marker(pytest.mark.xfail(reason=f"{backend}: {reason}", strict=True))
    collected = {name for check in checks for name in _named(check)[1][:1]}
    stale = {entry for entry in known.keys() - met if entry[1].partition("[")[0] in collected}
    if stale:
        raise pytest.UsageError(f"deviations that name no check: {sorted(stale)}")


def _named(check: pytest.Item) -> tuple[str, tuple[str, ...]]:
    """Return a test's backend and the names of its check: of the test, of the test and case."""
    function, _, rest = check.name.partition("[")
    case = rest.removesuffix("]")
    for backend in BACKENDS:
        if case == backend:
            return backend, (function,)
        others = case.removeprefix(f"{backend}-").removesuffix(f"-{backend}")
        if others != case:
            return backend, (function, f"{function}[{others}]")
    return "", (function,)
