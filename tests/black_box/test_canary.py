"""Marked data is found in the tables alone: not in logs, pages, errors, nor what a crash prints.

Every item of this test carries the mark in its key, in the name of an attribute and in values of
every shape; every secret is it. Then things go wrong in every way that the product knows, at the
highest log level, and everything that it says is searched, also for the mark's encoded forms.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from random import Random
from typing import Any

import pytest

from support.black_box import REGIONS, Replicator, World, command, environment, until
from support.black_box_index import index_away
from support.black_box_tables import Table, Wire
from support.fault_proxy import (
    CRASHED,
    THROTTLED,
    FaultProxy,
    Foreign,
    LostAnswer,
    Refusal,
    Reset,
    Truncated,
    WrongCrc,
)
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
MARK = "canary4f1dMARK"
QUOTED = Refusal(400, "ValidationException", f"The parameter cannot be converted: {MARK}")
SERIAL = Refusal(400, "SerializationException", f"Unexpected token {MARK}")
SHAKEN = (THROTTLED, CRASHED, Reset(), LostAnswer(), Truncated(), WrongCrc(), Foreign())
PAGES = ("/", "/api/status", "/api/conflicts", "/metrics", "/healthz", "/readyz")
SURROUNDINGS = {
    "AWS_SECRET_ACCESS_KEY": f"{MARK}secret",
    "AWS_SESSION_TOKEN": f"{MARK}token",
    "PYTHONFAULTHANDLER": "1",
}


def forms() -> list[str]:
    """The mark, and what it looks like inside base64 and hex."""
    found = [MARK, MARK.encode().hex()]
    for lead in range(3):
        text = base64.b64encode(b"x" * lead + MARK.encode()).decode()
        found.append(text[4 if lead else 0 : -4])
    return found


def leaks(said: str) -> list[str]:
    """The lines that hold the mark in some form."""
    return [line[:300] for line in said.splitlines() if any(form in line for form in forms())]


def marked(number: int) -> Wire:
    """An item with the mark in every place."""
    return {
        "id": {"S": f"{MARK}-key-{number}"},
        f"{MARK}-name": {"S": f"{MARK}-value"},
        "bytes": {"B": f"{MARK}-bytes".encode()},
        "deep": {"M": {f"{MARK}-inner": {"L": [{"SS": [f"{MARK}-member"]}]}}},
        "version": {"N": str(number)},
    }


def said_by(world: World, *arguments: str) -> str:
    """What a command prints, whatever its exit status."""
    config = world.directory / "0-all.toml"
    done = subprocess.run(
        command(*arguments, "--config", str(config), "--log-level", "debug"),
        env={**environment(), **SURROUNDINGS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.stdout + done.stderr


def write(world: World, table: Table, rounds: range) -> None:
    """Puts, updates and deletes in both regions, of the same keys."""
    for number in rounds:
        for region in (HOME, AWAY):
            client = world.connection.client(region)
            client.put_item(TableName=table.name, Item=marked(number % 7))
            client.update_item(
                TableName=table.name,
                Key={"id": {"S": f"{MARK}-key-{number % 7}"}},
                UpdateExpression="SET #n = :v",
                ExpressionAttributeNames={"#n": f"{MARK}-name"},
                ExpressionAttributeValues={":v": {"S": f"{MARK}-{region}-{number}"}},
            )
        if number % 5 == 0:
            key: dict[str, Any] = {"id": {"S": f"{MARK}-key-{number % 7}"}}
            world.connection.client(HOME).delete_item(TableName=table.name, Key=key)


def quarantined(replicator: Replicator, table: Table) -> int:
    """How many changes the status counts as set aside, in both directions."""
    status = replicator.status() or {"pipelines": []}
    mine = [found for found in status["pipelines"] if found["table"] == table.name]
    return sum(
        found["records"]["quarantined"] + sum(link["quarantined"] for link in found["links"])
        for found in mine
    )


@pytest.mark.timeout(300)
def test_marked_data_is_in_nothing_that_is_said(world: World) -> None:
    """Through poison, throttles, 5xx, lost, cut and foreign answers, conflicts and a crash."""
    table = world.add(Table(unique_name(), regions=(HOME, AWAY)))
    index_away(world.connection, table, AWAY)
    said: dict[str, str] = {}
    engine = world.connection.endpoint_url
    with FaultProxy(engine) as home, FaultProxy(engine) as away:
        replicator = world.replicator(None, {HOME: home.url, AWAY: away.url})
        replicator.options = ("--log-level", "debug")
        replicator.surroundings = SURROUNDINGS
        replicator.start()
        replicator.ready()
        away.next("PutItem", QUOTED, SERIAL, QUOTED)
        home.next("UpdateItem", QUOTED, SERIAL)
        home.next("BatchGetItem", QUOTED, SERIAL)
        away.next("Query", QUOTED)
        write(world, table, range(20))
        refused = {**marked(900), "kind": {"N": "7"}}  # the index away wants a string
        world.connection.client(HOME).put_item(TableName=table.name, Item=refused)
        for number, proxy in enumerate((home, away)):
            proxy.shake(Random(number), 0.2, SHAKEN)
        write(world, table, range(20, 40))
        until(lambda: quarantined(replicator, table), within_s=60, what="poison is parked")
        # A reader asks on while nothing is written: sooner or later each fault has come up.
        until(lambda: _all_struck(home, away), within_s=60, what="every fault has come up")
        for page in PAGES:
            said[page] = (replicator.get(page) or (0, ""))[1]
        for proxy in (home, away):
            proxy.shake(Random(), 0.0, SHAKEN)
        until(lambda: _idle(replicator), within_s=60, what="all of it is through")
        for page in PAGES:
            said[f"{page} after"] = (replicator.get(page) or (0, ""))[1]
        struck = home.struck + away.struck
        for words in (
            ("doctor", "--json"),
            ("quarantine", "list"),
            ("quarantine", "list", "--json"),
        ):
            said[" ".join(words)] = said_by(world, *words)
        said["replay"] = said_by(world, "quarantine", "replay", "--all")
        control = said_by(world, "quarantine", "show", "--table", table.name, "--image", "--json")
        replicator.signal(signal.SIGABRT)
        replicator.exit_status(within_s=20)
        said["log"] = replicator.said()

    assert leaks(control), "the search finds the mark where it is"
    assert struck["PutItem", "Refusal"]
    assert "change.parked" in said["log"]
    assert "Fatal Python error" in said["log"], "the crash has said something"
    assert json.loads(said["/api/status after"])["pipelines"]
    found = {where: leaks(text) for where, text in said.items() if leaks(text)}
    assert not found


def _all_struck(*proxies: FaultProxy) -> bool:
    struck = {fault for proxy in proxies for _, fault in list(proxy.struck)}
    return struck >= {type(fault).__name__ for fault in SHAKEN}


def _idle(replicator: Replicator) -> bool:
    status = replicator.status()
    return status is not None and not any(found["unsettled"] for found in status["pipelines"])
