"""What real processes tell of themselves: one set of figures, whoever asks for it."""

from __future__ import annotations

import json
import signal
import subprocess
from functools import partial
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.black_box import REGIONS, Replicator, World, command, environment, until
from support.black_box_tables import Table
from support.tables import unique_name

ONE, OTHER, _ = REGIONS
HEARTBEAT = "_replicator_heartbeat"
NAMES = ("a", "b", "c", "d", "e", "f", "g")


def told(world: World, *arguments: str) -> Any:
    """What a command prints as JSON."""
    config = world.directory / "asked.toml"
    config.write_text(world.configuration(), encoding="utf-8")
    done = subprocess.run(
        command(*arguments, "--json", "--config", str(config)),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def metrics(replicator: Replicator) -> dict[tuple[str, ...], float]:
    """What a process tells Prometheus: by name and the values of the labels."""
    answer = replicator.get("/metrics")
    assert answer is not None
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer[1])
        for sample in family.samples
    }


def heard(replicator: Replicator, table: Table) -> bool:
    """Whether a heartbeat has come out of the source and arrived in each target."""
    pipeline = replicator.pipeline(table)
    ages = [pipeline["heartbeat_age_s"], *(link["heartbeat_age_s"] for link in pipeline["links"])]
    return None not in ages


def test_metrics_status_and_ledger_agree(world: World) -> None:
    """After conflicts: Prometheus, `status --json`, the page's API, and `conflicts --json`.

    Each key is written once in either region before anybody reads, so that each is one conflict,
    decided by one of the two processes, whichever is faster.
    """
    world.sections = "[heartbeat]\ninterval_s = 0.5\n"
    table = world.add(Table(unique_name(), regions=(ONE, OTHER)))
    for region in (ONE, OTHER):
        for name in NAMES:
            item = {"id": {"S": name}, "from": {"S": region}}
            world.connection.client(region).put_item(TableName=table.name, Item=item)
    replicators = world.start(ONE, OTHER)
    world.settle()
    world.assert_equal()
    for replicator in replicators:
        until(partial(heard, replicator, table), within_s=30, what="heartbeats arrive")
    conflicts = 0
    for replicator in replicators:
        conflicts += assert_agreed(world, replicator, table)
    assert conflicts == len(NAMES)

    def kept() -> bool:
        rows = f"conflict#{table.name}"
        places = (ONE, OTHER)
        return sum(len([*world.connection.rows(place, rows)]) for place in places) == conflicts

    until(kept, within_s=30, what="every conflict that was counted is in a ledger")
    answer = told(world, "conflicts", "--table", table.name)
    assert (answer["total"], answer["missing"]) == (conflicts, [])
    found = answer["conflicts"]
    assert len({conflict["winner"]["version"] for conflict in found}) == len(NAMES)
    assert_ledger(found)


def assert_agreed(world: World, replicator: Replicator, table: Table) -> int:
    """Assert that a process tells everybody the same; returns its conflicts."""
    (asked,) = told(world, "status", "--url", replicator.url)
    pipeline, scraped = asked["status"]["pipelines"][0], metrics(replicator)
    place, (link,) = (pipeline["source"], table.name), pipeline["links"]
    for name, value in (
        ("records_read_total", pipeline["records"]["read"]),
        ("conflicts_total", pipeline["records"]["conflicts"]),
        ("unsettled", pipeline["unsettled"]),
        ("throttles_total", pipeline["throttles"]),
        ("gap", 0),
    ):
        assert scraped[f"replicator_{name}", *place] == value, name
    for outcome in ("applied", "stale", "duplicate"):
        labels = (outcome, *place, link["target"])
        assert scraped["replicator_deliveries_total", *labels] == link[outcome]
    assert scraped["replicator_backlog_records", *place, link["target"]] == link["pending"] == 0
    assert scraped["replicator_link_state", pipeline["source"], link["state"], *place[1:],
                   link["target"]] == 1  # fmt: skip
    latency = "replicator_replication_latency_seconds_count"
    assert scraped[latency, *place, link["target"]] == link["applied"]
    exposure = asked["status"]["exposure"][pipeline["source"]]
    assert (exposure["records"], exposure["seconds"] is None) == (0, False)
    assert scraped["replicator_exposure_records", pipeline["source"]] == 0
    answer = replicator.get("/api/conflicts?limit=500")
    assert answer is not None
    feed = json.loads(answer[1])
    assert feed["total"] == len(feed["conflicts"]) == pipeline["records"]["conflicts"]
    return int(feed["total"])


def assert_ledger(conflicts: list[dict[str, Any]]) -> None:
    """Assert that each says who won by the order of versions, and names no key."""
    for conflict in conflicts:
        winner, loser = conflict["winner"], conflict["loser"]
        assert {winner["origin"], loser["origin"]} == {ONE, OTHER}
        assert winner["version"] > loser["version"]
        assert '"S"' not in conflict["key"]
        assert "image" not in winner


@pytest.mark.parametrize("place", ["control", "table"])
def test_a_table_on_which_nobody_writes_has_heartbeats(world: World, place: str) -> None:
    """Through the table its item stands in both regions, told by its own time: DynamoDB Local's
    records know the minute only. Through the control tables the table stays as it was."""
    world.sections = f'[heartbeat]\nplace = "{place}"\ninterval_s = 0.5\n'
    table = world.add(Table(unique_name(), regions=(ONE, OTHER)))
    (replicator,) = world.start(ONE)
    until(lambda: heard(replicator, table), within_s=30, what="a heartbeat arrives")
    status = replicator.status()
    assert status is not None
    (link,) = replicator.pipeline(table)["links"]
    assert 0 < link["heartbeat_latency_ms"] * 1000 < status["now_us"] - status["started_us"]
    assert link["state"] == "ok"
    for region in (ONE, OTHER):
        found = world.connection.scan(table, region)
        assert len(found) == (1 if place == "table" else 0)
        assert all(HEARTBEAT in item for item in found)


def test_a_collector_that_is_not_there_stops_nothing(world: World) -> None:
    """The status says so, and replication goes on."""
    world.sections = '[telemetry]\notlp_endpoint = "http://127.0.0.1:9"\notlp_interval_s = 1\n'
    table = world.add(Table(unique_name(), regions=(ONE, OTHER)))
    (replicator,) = world.start(ONE)

    def failed() -> bool:
        status = replicator.status()
        return status is not None and status["telemetry"]["otlp"]["failed"] > 0

    until(failed, within_s=30, what="a push has failed")
    status = replicator.status()
    assert status is not None
    assert "is a collector running there?" in status["telemetry"]["otlp"]["error"]
    world.connection.client(ONE).put_item(TableName=table.name, Item={"id": {"S": "1"}})
    until(lambda: world.connection.scan(table, OTHER), within_s=30, what="it is replicated")
    assert replicator.said().count("otlp.failing") == 1


def printed(replicator: Replicator) -> list[dict[str, Any]]:
    """The lines for CloudWatch: each is whole, whatever the log has around it."""
    lines = [line for line in replicator.said().splitlines() if '"_aws"' in line]
    return [json.loads(line) for line in lines]


def test_a_process_prints_its_metrics_for_cloudwatch(world: World) -> None:
    """Switched on by the variable that the templates set; what was counted is told once, the end's
    as well; none of it is said by a process that was not asked to."""
    world.sections = "[telemetry]\nemf_interval_s = 1\n[heartbeat]\ninterval_s = 0.5\n"
    table = world.add(Table(unique_name(), regions=(ONE, OTHER)))
    (silent,) = world.start(OTHER)
    replicator = world.replicator(ONE)
    replicator.surroundings = {"REPLICATOR_TELEMETRY__EMF": "true"}
    replicator.start()
    replicator.ready()
    for name in ("a", "b", "c"):
        world.connection.client(ONE).put_item(TableName=table.name, Item={"id": {"S": name}})
    link = {"table": table.name, "source": ONE, "target": OTHER}

    def heartbeat() -> bool:
        return any(
            line["replicator.link.heartbeat.age"] < 60
            for line in printed(replicator)
            if line.items() >= link.items() and "replicator.link.heartbeat.age" in line
        )

    until(heartbeat, within_s=30, what="a heartbeat is told")
    until(lambda: len(world.connection.scan(table, OTHER)) == 3, within_s=30, what="they arrive")
    until(lambda: replicator.pipeline(table)["links"][0]["applied"] == 3, within_s=30, what="noted")
    replicator.signal(signal.SIGTERM)
    assert replicator.exit_status(within_s=30) == 0
    applied = [line.get("replicator.deliveries.applied", 0) for line in printed(replicator)]
    assert sum(applied) == 3
    assert not printed(silent)
