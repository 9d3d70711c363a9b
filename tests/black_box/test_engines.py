"""Every region on an engine of its own, of which one falls silent for a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from support.black_box import CONTROL_TABLE, REGIONS, World, prepared
from support.black_box_journal import JournalWriter, await_arrival, held, standing
from support.black_box_tables import Connection, Table
from support.blows import BLOWS, Blow
from support.engines import DynamoDBLocal, Engine
from support.tables import unique_name

HOME, NEAR, FAR = REGIONS
HEAP_MAX_MB = 128
WRITES_BEFORE = 20
WRITES_MEANWHILE = 100
"""What each of the others writes, and gets of the other, while one engine is silent: seconds."""


@pytest.fixture
def far_engine(engine: Callable[[str], Engine]) -> Iterator[Engine]:
    """The engine of FAR alone; the session's own tells whether there can be one."""
    engine("dynamodb-local")
    with DynamoDBLocal(heap_max_mb=HEAP_MAX_MB) as started:
        yield started


@pytest.fixture
def apart(engine: Callable[[str], Engine], far_engine: Engine, tmp_path: Path) -> Iterator[World]:
    """A world of three engines: the session's for HOME, and two more."""
    with DynamoDBLocal(heap_max_mb=HEAP_MAX_MB) as near_engine:
        urls = {NEAR: near_engine.endpoint_url, FAR: far_engine.endpoint_url}
        connection = Connection(engine("dynamodb-local").endpoint_url, CONTROL_TABLE, urls)
        prepared(connection)
        made = World(connection, tmp_path)
        try:
            yield made
        finally:
            far_engine.signal(signal.SIGCONT)
            made.close()


def test_f01_f32_a_silent_engine_and_a_killed_process_lose_nothing(
    apart: World, far_engine: Engine, rng: Random
) -> None:
    """One engine is stopped with calls under way, the others write on and hear of each other;
    a replicator dies, the engine wakes: at rest every region holds what the writers noted."""
    table = apart.add(Table(unique_name(), regions=REGIONS))
    home, near, _ = apart.start(*REGIONS)
    writers = {
        region: JournalWriter(apart.connection, table, region, Random(rng.random()))
        for region in REGIONS
    }
    for writer in writers.values():
        writer.start()
    for region in REGIONS:
        await_arrival(writers[region], HOME if region != HOME else NEAR, WRITES_BEFORE)
    BLOWS.strike(Blow.STOP)
    far_engine.signal(signal.SIGSTOP)
    await_arrival(writers[HOME], NEAR, WRITES_MEANWHILE)
    await_arrival(writers[NEAR], HOME, 1)
    victim = rng.choice((home, near))
    victim.kill()
    far_engine.signal(signal.SIGCONT)
    await_arrival(writers[FAR], FAR, WRITES_BEFORE)
    victim.start()
    for writer in writers.values():
        writer.stop()
    apart.settle()
    apart.assert_equal()
    expected = standing(*(writer.entries for writer in writers.values()))
    for region in REGIONS:
        assert held(apart.connection, table, region) == expected
