"""The troubles that runbooks are about, planted in a ward, and what has to be seen of them.

A `Story` is a page in such a trouble: its Check has to print `sees`, what it has a person do by
hand is done before the block that holds the words, and what must be so at its end is `after`. Pages
for what is planned have none.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from replicator.configuration import load
from support.black_box import until
from support.fault_proxy import THROTTLED
from support.runbook_ward import AWAY, FAR, HOME, Ward
from support.tables import client

Act: TypeAlias = Callable[[Ward], None]
KEYS = [f"home-{number}" for number in range(3)]
"""Written in HOME before anything begins."""

FIVE_MINUTES_S = 300.0


def nothing(ward: Ward) -> None:
    """No trouble: a page for what is planned."""
    del ward


def equal(ward: Ward) -> None:
    """What every page leaves: services that run what the operator has, and equal copies."""
    for region in ward.services:
        assert ward.image(region).configuration == ward.config.read_text(), f"{region} has another"
    ward.alive()
    for name, table in load(ward.config, {}).tables.items():
        copies = [ward.held(table.names.get(region, name), region) for region in table.members]
        assert all(copy == copies[0] for copy in copies), name


@dataclass(frozen=True, kw_only=True)
class Story:
    """One page. `sees`: a pattern in what its Check prints."""

    page: str
    variant: str | None = None
    trouble: Act = nothing
    sees: str = ""
    by_hand: Mapping[str, Act] | None = None
    after: Act = equal


# --- a region is lost, and comes back -----------------------------------------------------------


def lost(ward: Ward) -> None:
    """Writes that nobody took across stand in HOME, and then it is gone, service and all."""
    assert ward.link is not None
    ward.stop(HOME, signal.SIGKILL)
    ward.put("orders", HOME, "behind", "2")
    ward.put("ledger", HOME, "behind", "2")
    ward.out.add(HOME)
    ward.link.cut()


def back(ward: Ward) -> None:
    """It answers again; what was written in AWAY meanwhile is there."""
    assert ward.link is not None
    ward.put("orders", AWAY, "meanwhile", "2")
    ward.put("ledger", AWAY, "meanwhile", "2")
    ward.link.heal()
    ward.out.clear()


def merged(ward: Ward) -> None:
    """What stayed behind is across, and so is what was written meanwhile, in both tables."""
    equal(ward)
    for table in ("orders", "ledger"):
        assert {"behind", "meanwhile"} <= ward.held(table, AWAY).keys(), table
    assert set(load(ward.config, {}).tables["ledger"].sources) == {HOME, AWAY}


def source_is(region: str) -> Act:
    """A check that the one-way table has its source there."""

    def check(ward: Ward) -> None:
        equal(ward)
        assert load(ward.config, {}).tables["ledger"].source == region

    return check


# --- versions and configurations ---------------------------------------------------------------


def released(ward: Ward) -> None:
    """The operator has checked the next version out."""
    ward.release("the next one")


def upgraded(ward: Ward) -> None:
    """Every service runs it."""
    equal(ward)
    assert {ward.image(region).release for region in ward.services} == {"the next one"}


def new_role(ward: Ward) -> None:
    """The operator names it, which the engine has none of."""
    with ward.config.open("a", encoding="utf-8") as file:
        file.write("# role_arn is another one\n")


# --- lag, throttles -----------------------------------------------------------------------------


def killed(ward: Ward) -> None:
    """A service is gone, and writes go on."""
    ward.stop(HOME, signal.SIGKILL)
    ward.put("orders", HOME, "behind", "2")
    ward.put("ledger", HOME, "behind", "2")


def caught_up(ward: Ward) -> None:
    """What stayed behind is across, in both tables."""
    equal(ward)
    for table in ("orders", "ledger"):
        assert ward.held(table, AWAY)["behind"] == "2"


def throttled(ward: Ward) -> None:
    """The target has too few write units for what the source spends."""
    assert ward.proxy is not None
    client(ward.engine.endpoint_url, AWAY).update_table(
        TableName="orders",
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    )
    ward.proxy.always("PutItem", THROTTLED)
    ward.put("orders", HOME, "behind", "2")
    ward.put("ledger", HOME, "behind", "2")
    until(lambda: ward.pipeline(HOME)["throttles"], within_s=60, what="calls are throttled")
    ward.unwell(HOME)


def with_units(ward: Ward) -> None:
    """AWS throttles no longer, if the table was given what it needs."""
    assert ward.proxy is not None
    described = client(ward.engine.endpoint_url, AWAY).describe_table(TableName="orders")["Table"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    ward.proxy.always("PutItem", None)


# --- copies -------------------------------------------------------------------------------------


def differs(ward: Ward) -> None:
    """An item that was copied with its marker, which passes for an echo."""
    marker = {"S": f"{1_700_000_000_000_000:016d}#{HOME}#015r"}
    ward.put("orders", AWAY, "copied", "1", _replicator=marker)


def lost_records(ward: Ward) -> None:
    """A stream was made anew while nobody read it."""
    ward.stop(HOME, signal.SIGKILL)
    ward.put("orders", HOME, "lost", "2")
    home = client(ward.engine.endpoint_url, HOME)
    home.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    home.update_table(
        TableName="orders",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    ward.deploy(HOME)  # or the policy would keep the service from the new stream
    ward.start_over([HOME])
    ward.unwell(HOME)


def mended(key: str) -> Act:
    """A check that one item is in both regions."""

    def check(ward: Ward) -> None:
        equal(ward)
        assert key in ward.held("orders", HOME)

    return check


def deleted(ward: Ward) -> None:
    """A key is deleted everywhere; the backup is from before, and holds it."""
    client(ward.engine.endpoint_url, AWAY).update_continuous_backups(
        TableName="orders",
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
    )
    ward.put("orders", HOME, "deleted", "1")
    until(partial(_marker, ward, "deleted"), within_s=30, what="it is in both")
    item = _item(ward, AWAY, "orders", "deleted")
    ward.kept["deleted"] = item
    client(ward.engine.endpoint_url, HOME).delete_item(
        TableName="orders", Key={"id": {"S": "deleted"}}
    )
    until(lambda: not _item(ward, AWAY, "orders", "deleted"), within_s=30, what="it is deleted")


def dropped(ward: Ward) -> None:
    """A table is gone. What was written elsewhere since is not in its backup, which the engine does
    not make by itself; and what was deleted elsewhere since is."""
    ward.put("orders", HOME, "deleted", "1")
    until(partial(_marker, ward, "deleted"), within_s=30, what="it is in both")
    away = client(ward.engine.endpoint_url, AWAY)
    away.create_backup(TableName="orders", BackupName="orders$DeletedTableBackup")
    away.delete_table(TableName="orders")
    client(ward.engine.endpoint_url, HOME).delete_item(
        TableName="orders", Key={"id": {"S": "deleted"}}
    )
    ward.put("orders", HOME, KEYS[0], "2")
    ward.unwell(HOME)


def from_before(ward: Ward) -> None:
    """The restored table is of an earlier moment, which the engine's, a plain copy, is not."""
    away = client(ward.engine.endpoint_url, AWAY)
    away.put_item(TableName="orders-restored", Item=ward.kept["deleted"])
    away.delete_item(TableName="orders-restored", Key={"id": {"S": KEYS[0]}})


def restored(ward: Ward) -> None:
    """The restored table is at the present."""
    equal(ward)
    held = ward.held("orders-restored", AWAY)
    assert KEYS[0] in held
    assert "deleted" not in held
    away = client(ward.engine.endpoint_url, AWAY)
    assert away.describe_table(TableName="orders-restored")["Table"]["DeletionProtectionEnabled"]


def _marker(ward: Ward, key: str) -> bool:
    return all("_replicator" in _item(ward, region, "orders", key) for region in (HOME, AWAY))


def _item(ward: Ward, region: str, table: str, key: str) -> dict[str, Any]:
    there = client(ward.engine.endpoint_url, region)
    answer: Mapping[str, Any] = there.get_item(
        TableName=table, Key={"id": {"S": key}}, ConsistentRead=True
    )
    return dict(answer.get("Item", {}))


# --- conflicts, poison, clocks ------------------------------------------------------------------


def stormy(ward: Ward) -> None:
    """Both regions write the same keys before either has seen the other's writes."""
    for region in (HOME, AWAY):
        ward.send(region, signal.SIGSTOP)
    for key in KEYS:
        ward.put("orders", HOME, key, "here")
        ward.put("orders", AWAY, key, "there")
    for region in (HOME, AWAY):
        ward.send(region, signal.SIGCONT)
    until(lambda: _decided(ward), within_s=60, what="conflicts are decided")
    ward.well()


def _decided(ward: Ward) -> int:
    found = [ward.pipeline(region)["records"]["conflicts"] for region in (HOME, AWAY)]
    return int(sum(found))


def calm(ward: Ward) -> None:
    """The same keys are written in one region by now: none conflicts."""
    ward.well()
    before = _decided(ward)
    for key in KEYS:
        ward.put("orders", AWAY, key, "there alone")
    equal(ward)
    assert {ward.held("orders", HOME)[key] for key in KEYS} == {"there alone"}
    assert _decided(ward) == before


def poisoned(ward: Ward) -> None:
    """An index of the target wants text where an item has a number."""
    client(ward.engine.endpoint_url, AWAY).update_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": "kind", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "by-kind",
                    "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            }
        ],
    )
    ward.put("orders", HOME, "poison", "2", kind={"N": "7"})
    ward.unwell(HOME)
    what = "it is parked"
    until(lambda: ward.pipeline(HOME)["links"][0]["quarantined"], within_s=60, what=what)


def no_index(ward: Ward) -> None:
    """The cause is mended: the index goes."""
    client(ward.engine.endpoint_url, AWAY).update_table(
        TableName="orders", GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-kind"}}]
    )


def skewed(ward: Ward) -> None:
    """The host of HOME's service has a clock that is minutes behind: all comes from its future."""
    ward.skew_s[HOME] = -FIVE_MINUTES_S
    ward.tools(-FIVE_MINUTES_S)
    ward.start_over([HOME])
    ward.put("orders", HOME, "future", "2")
    until(lambda: _clamped(ward), within_s=60, what="versions are clamped")


def chrony(ward: Ward) -> None:
    """The host's clock is right again; a process has read it when it began."""
    del ward.skew_s[HOME]
    ward.tools()


def in_time(ward: Ward) -> None:
    """Nothing comes from the future any more."""
    equal(ward)
    assert not _clamped(ward)


def _clamped(ward: Ward) -> int:
    return int(ward.pipeline(HOME)["records"]["clamped"])


# --- regions come and go ------------------------------------------------------------------------


def left(ward: Ward) -> None:
    """Nothing goes there any more, and nothing comes from there."""
    ward.put("orders", AWAY, "stray", "3")
    before = ward.held("orders", AWAY)
    equal(ward)
    equal(ward)  # what the first might have sent there has had the time of the second
    assert ward.held("orders", AWAY) == before
    assert "stray" not in ward.held("orders", HOME)


def third(ward: Ward) -> None:
    """The operator says where the new region is."""
    with ward.config.open("a", encoding="utf-8") as file:
        file.write(f'[regions.{FAR}]\nendpoint_url = "{ward.engine.endpoint_url}"\n')


def joined(ward: Ward) -> None:
    """The new region holds what was there before it came."""
    equal(ward)
    assert KEYS[0] in ward.held("orders", FAR)
