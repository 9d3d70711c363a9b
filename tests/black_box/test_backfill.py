"""`replicator backfill` from outside: beside live writers and deletes, killed and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from socket import socket
from typing import Any

import pytest

from support.black_box import REGIONS, World, command, environment, until
from support.black_box_tables import Table, Wire
from support.black_box_writers import HOT_KEYS, Writer
from support.blows import BLOWS, Blow
from support.engines import HOST, free_port
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
WITHIN_S = 60.0
LOST = "the cluster's scheduler is lost; run the same command again"


class Backfill:
    """A backfill as a process."""

    def __init__(self, world: World, table: Table, *options: str) -> None:
        config = world.directory / "backfill.toml"
        config.write_text(world.configuration(), encoding="utf-8")
        arguments = ("--config", str(config), "--table", table.name, "--source", HOME, *options)
        self._process = subprocess.Popen(
            command("backfill", *arguments, "--json"),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL in the midst of it."""
        BLOWS.strike(Blow.KILL)
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=10)

    def ended(self) -> tuple[int, dict[str, Any], str]:
        """Wait for its end: exit status, document, and what it said beside."""
        out, said = self._process.communicate(timeout=WITHIN_S)
        assert "Traceback" not in said, said
        return self._process.returncode, json.loads(out) if out else {}, said


def populated(world: World, table: Table, items: int) -> list[str]:
    """Make a table whose source holds items that no stream tells of; returns their ids."""
    for region in table.members:
        world.connection.create(table, region, None)
    ids = [*HOT_KEYS, *(f"old-{number}" for number in range(items))]
    client = world.connection.client(HOME)
    for start in range(0, len(ids), 25):
        puts: Any = [{"PutRequest": {"Item": old_item(name)}} for name in ids[start : start + 25]]
        client.batch_write_item(RequestItems={table.physical(HOME): puts})
    for region in table.sources:
        world.connection.client(region).update_table(
            TableName=table.physical(region),
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
    world.tables.append(table)
    return ids


def old_item(name: str) -> Wire:
    """An item from before."""
    return {"id": {"S": name}, "n": {"N": "1.50"}, "text": {"S": "x" * 100}}


def arrived(world: World, table: Table) -> int:
    """How many items stand in the target."""
    answer = world.connection.client(AWAY).scan(TableName=table.physical(AWAY), Select="COUNT")
    return answer["Count"]


def delete(world: World, table: Table, region: str, names: list[str]) -> None:
    """Delete items as an application of a region."""
    for name in names:
        world.connection.client(region).delete_item(
            TableName=table.physical(region), Key={"id": {"S": name}}
        )


@pytest.mark.parametrize("one_way", [False, True], ids=["every region writes", "one-way"])
def test_killed_beside_live_writers_and_resumed(
    world: World, rng: Random, *, one_way: bool
) -> None:
    """Writes and deletes before, during and between win; every old item arrives; tables equal."""
    name = unique_name()
    table = Table(name, source=HOME, targets=(AWAY,)) if one_way else Table(name, (HOME, AWAY))
    ids = populated(world, table, 900)
    world.start(None)
    writers = [
        Writer(world.connection, table, region, Random(rng.random())) for region in table.sources
    ]
    for writer in writers:
        writer.start()
    doomed = rng.sample(ids[len(HOT_KEYS) :], 120)

    first = Backfill(world, table, "--write-rate", "60")  # 15 s, most of which it does not live
    until(lambda: arrived(world, table) > 100, within_s=30, what="some have arrived")
    delete(world, table, HOME, doomed[:40])
    first.kill()
    delete(world, table, rng.choice(table.sources), doomed[40:80])

    second = Backfill(world, table, "--write-rate", "600")
    delete(world, table, HOME, doomed[80:])
    status, document, said = second.ended()
    for writer in writers:
        writer.stop()
    world.settle()

    verified = subprocess.run(
        command("verify", "--config", str(world.directory / "backfill.toml"), "--table", name),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert ": equal;" in verified.stdout
    assert "goes on with the one that began" in said
    assert status == 0, document
    assert document["resumed"]
    world.assert_equal()
    standing = {item["id"]["S"] for item in world.connection.scan(table, AWAY)}
    assert set(ids) - set(HOT_KEYS) - set(doomed) <= standing
    # One that was deleted away from home may not have been there yet: then nothing was deleted.
    assert not standing & {*doomed[:40], *doomed[80:]}


def test_a_worker_that_is_killed_costs_no_item(world: World) -> None:
    """Its segments are given to another, which goes on from their cursors."""
    table = Table(unique_name(), (HOME, AWAY))
    ids = populated(world, table, 600)
    backfill = Backfill(world, table, "--workers", "2", "--write-rate", "100")
    until(lambda: arrived(world, table) > 50, within_s=30, what="some have arrived")
    os.kill(a_worker_of(backfill), signal.SIGKILL)

    status, document, _ = backfill.ended()

    assert status == 0
    assert document["items"] == len(ids)
    assert arrived(world, table) == len(ids)


def test_reading_keeps_to_its_rate(world: World) -> None:
    """So many read units a second and no more, but for one second's worth that may be saved up."""
    table = Table(unique_name(), (HOME, AWAY))
    ids = populated(world, table, 600)
    rate = 2.0
    status, document, said = Backfill(world, table, "--read-rate", str(rate)).ended()
    assert (status, document["items"]) == (0, len(ids)), said
    assert document["read_units"] > 2 * rate, "too few for the rate to show"
    assert document["seconds"] >= document["read_units"] / rate - 1


@contextmanager
def dask(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler or a worker as a process of its own, as somebody's cluster has them."""
    as_a_child = command()[:-1]
    process = subprocess.Popen(
        [*as_a_child, f"distributed.cli.dask_{arguments[0]}", *arguments[1:], "--no-dashboard"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=10)


@contextmanager
def cluster() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler with one worker: its address, and its process."""
    port = str(free_port())
    address = f"tcp://{HOST}:{port}"
    with (
        dask("scheduler", "--host", HOST, "--port", port) as scheduler,
        dask("worker", address, "--nthreads", "2", "--no-nanny"),
    ):
        until(lambda: is_open(int(port)), within_s=30, what="the scheduler listens")
        yield address, scheduler


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def test_a_scheduler_that_is_lost_is_one_line_and_another_goes_on(world: World) -> None:
    """On a cluster by its address: the command ends, says how to go on, and does not call the job
    finished. With a cluster that is new, it goes on where it stood."""
    table = Table(unique_name(), (HOME, AWAY))
    ids = populated(world, table, 600)
    with cluster() as (address, scheduler):
        first = Backfill(world, table, "--scheduler", address, "--write-rate", "60")
        until(lambda: arrived(world, table) > 50, within_s=60, what="some have arrived")
        scheduler.kill()
        status, _, said = first.ended()
    *progress, told = said.splitlines()
    assert status == 1, said
    assert told == f"replicator: {LOST}"
    assert all(line.startswith("backfill: ") for line in progress), said
    assert arrived(world, table) < len(ids)

    with cluster() as (address, _):
        status, document, said = Backfill(world, table, "--scheduler", address).ended()
    assert status == 0, said
    assert "goes on with the one that began" in said
    assert document["items"] == len(ids)
    assert arrived(world, table) == len(ids)


def a_worker_of(backfill: Backfill) -> int:
    """A process that does the work of another's backfill."""
    for line in Path("/proc").glob("[0-9]*/stat"):
        pid, _, rest = line.read_text().partition(" (")
        parent = int(rest.rpartition(") ")[2].split()[1])
        arguments = (line.parent / "cmdline").read_text()
        if parent == backfill.pid and "spawn_main" in arguments:
            return int(pid)
    raise AssertionError("no worker")
