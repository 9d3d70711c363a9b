"""A world per test, on engines that the session shares."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from random import Random

import pytest

from support.black_box import CONTROL_TABLE, World, prepared
from support.black_box_tables import Connection
from support.blows import BLOWS, PROPERTY
from support.engines import Engine


@pytest.fixture(scope="session")
def connect(engine: Callable[[str], Engine]) -> Callable[[str], Connection]:
    """Give the engine of a name with control tables in every region, made by `setup`."""
    made: dict[str, Connection] = {}

    def give(name: str) -> Connection:
        if name not in made:
            made[name] = Connection(engine(name).endpoint_url, CONTROL_TABLE)
            prepared(made[name])
        return made[name]

    return give


@pytest.fixture
def rng() -> Random:
    """Chance of a printed seed, which repeats the kills and the writes but not their timing."""
    seed = Random().randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    return Random(seed)


@pytest.fixture
def engine_name() -> str:
    """The most faithful engine; a test may ask for another by a parameter of this name."""
    return "dynamodb-local"


@pytest.fixture
def world(
    connect: Callable[[str], Connection], engine_name: str, tmp_path: Path
) -> Iterator[World]:
    """What one test has; its processes end with it."""
    made = World(connect(engine_name), tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what the replicators said: their files are gone when somebody looks."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if call.when == "call" and report.failed and isinstance(world, World):
        report.sections += [(f"log of {one.source or 'all'}", one.tail) for one in world.processes]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Tell of each test, while it runs and not of its end, what was survived."""
    BLOWS.take()
    yield
    item.user_properties.append((PROPERTY, BLOWS.take()))
