"""Applications that stamp their writes: the later of two writes in one second wins everywhere."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from replicator.stamping import StampClock, enable
from support.black_box import World
from support.black_box_tables import Table, bare
from support.tables import client, unique_name

LOW, HIGH = "eu-west-1", "us-east-1"
"""By name; where times are equal, the higher wins."""

APART_US = 50_000


@dataclass
class Wall:
    """What both regions' clocks show."""

    us: int

    def now_us(self) -> int:
        return self.us


@pytest.mark.parametrize("engine_name", ["dynamodb-local", "ministack"])
def test_of_two_writes_in_one_second_the_later_wins(world: World) -> None:
    """50 ms apart and blind to each other, in either order of regions, by put and by update."""
    table = world.add(Table(unique_name(), regions=(HIGH, LOW)))
    wall = Wall(time.time_ns() // 1_000_000_000 * 1_000_000)
    apps = {}
    for region in (HIGH, LOW):
        apps[region] = client(world.connection.endpoint_url, region)
        enable(apps[region], region=region, clock=StampClock(wall))
    last = {"put-low": LOW, "put-high": HIGH, "update-low": LOW, "update-high": HIGH}
    for key, later in last.items():
        for region in sorted(apps, key=lambda name: name == later):
            wall.us += APART_US
            if key.startswith("put"):
                apps[region].put_item(
                    TableName=table.name, Item={"id": {"S": key}, "by": {"S": region}}
                )
            else:
                apps[region].update_item(
                    TableName=table.name,
                    Key={"id": {"S": key}},
                    UpdateExpression="SET #by = :by",
                    ExpressionAttributeNames={"#by": "by"},
                    ExpressionAttributeValues={":by": {"S": region}},
                )

    world.start(None)
    world.settle()
    world.assert_equal()
    for key, later in last.items():
        found = world.connection.get(table, HIGH, {"id": {"S": key}})
        assert found is not None
        assert bare(found) == {"id": {"S": key}, "by": {"S": later}}
