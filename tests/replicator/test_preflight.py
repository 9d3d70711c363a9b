"""The checks before a run and the set-up: every fault is named with its remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from replicator.errors import ConfigurationError, Fatal, Transient, Unsigned
from replicator.ports import Api
from replicator.preflight import Check, Level, examine, failed
from replicator.provision import provision
from replicator.settings import Settings

BOTH = "NEW_AND_OLD_IMAGES"
STRING_KEY = (("id", "HASH", "S"),)
CONTROL_KEYS = (("pk", "HASH", "S"), ("sk", "RANGE", "S"))


@dataclass(slots=True, kw_only=True)
class FakeTable:
    """A table as DescribeTable shows it."""

    keys: tuple[tuple[str, str, str], ...] = STRING_KEY
    view: str | None = BOTH
    state: str = "ACTIVE"
    ttl: str | None = None
    replicas: tuple[str, ...] = ()
    identity: str | None = None

    def described(self, name: str) -> dict[str, Any]:
        """Give the wire form."""
        table: dict[str, Any] = {
            "TableName": name,
            "TableStatus": self.state,
            "KeySchema": [{"AttributeName": key, "KeyType": role} for key, role, _ in self.keys],
            "AttributeDefinitions": [
                {"AttributeName": key, "AttributeType": kind} for key, _, kind in self.keys
            ],
            "Replicas": [{"RegionName": region} for region in self.replicas],
        }
        if self.identity is not None:
            table["TableId"] = self.identity
        if self.view is not None:
            table["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": self.view}
            table["LatestStreamArn"] = f"arn:{name}/stream/1"
        return {"Table": table}


def control(**changes: Any) -> FakeTable:
    """Make a sound control table."""
    return FakeTable(keys=CONTROL_KEYS, view=None, ttl="expires_at", **changes)


@dataclass(slots=True)
class FakeRegion:
    """The control plane of one region, as ports.Api; new tables need two looks to be ACTIVE.

    `restoring`: new tables never are. `busy`: how often a change meets another one that is under
    way; the last of them brings a stream if `busy_with` is another `setup`'s.
    """

    tables: dict[str, FakeTable] = field(default_factory=dict)
    error: Exception | None = None
    changes: list[str] = field(default_factory=list)
    restoring: bool = False
    busy: int = 0
    busy_with: str = "an index"

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one call."""
        if self.error is not None:
            raise self.error
        name: str = request["TableName"]
        if operation == "CreateTable":
            self.changes.append(f"CreateTable {name}")
            self.tables[name] = FakeTable(keys=CONTROL_KEYS, view=None, state="CREATING")
            return {}
        if name not in self.tables:
            raise Fatal(f"{operation} on {name}: ResourceNotFoundException")
        return self._on(operation, name, self.tables[name], request)

    def _on(
        self, operation: str, name: str, table: FakeTable, request: Mapping[str, Any]
    ) -> dict[str, Any]:
        match operation:
            case "DescribeTable":
                answer = table.described(name)
                if table.state == "CREATING" and not self.restoring:
                    table.state = "ACTIVE"
                return answer
            case "DescribeTimeToLive":
                if table.ttl is None:
                    return {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}
                ttl = {"TimeToLiveStatus": "ENABLED", "AttributeName": table.ttl}
                return {"TimeToLiveDescription": ttl}
            case _ if table.state == "CREATING":
                raise Fatal(f"{operation} on {name}: ResourceInUseException")
            case "UpdateTable" if self.busy:
                self.busy -= 1
                if self.busy_with == "setup" and not self.busy:
                    table.view = BOTH
                raise Fatal(f"{operation} on {name}: ResourceInUseException")
            case "UpdateTimeToLive":
                table.ttl = request["TimeToLiveSpecification"]["AttributeName"]
            case "UpdateTable":
                table.view = request["StreamSpecification"]["StreamViewType"]
            case _:
                raise AssertionError(operation)
        self.changes.append(f"{operation} {name}")
        return {}


def settings(**table: Any) -> Settings:
    """Make the settings of one table, which by default two regions write."""
    entry = table or {"regions": ["us-east-1", "eu-west-1"]}
    regions: dict[str, Any] = {"us-east-1": {}, "eu-west-1": {"profile": "other"}}
    tables: dict[str, Any] = {"orders": entry}
    return Settings(regions=regions, tables=tables)


ONE_WAY = {"source": "us-east-1", "targets": ["eu-west-1"]}


def world() -> dict[str, FakeRegion]:
    """Make two regions in which all is well."""
    return {
        region: FakeRegion({"orders": FakeTable(), "replicator-control": control()})
        for region in ("us-east-1", "eu-west-1")
    }


def check(
    regions: Mapping[str, Api], config: Settings | None = None, *, sources: str = "us-east-1"
) -> list[Check]:
    """Examine the regions for a run out of `sources`."""
    return asyncio.run(
        examine(
            config or settings(),
            connect=regions.__getitem__,
            sources=frozenset(sources.split()),
        )
    )


def failures(regions: Mapping[str, Api], config: Settings | None = None) -> list[str]:
    """Examine the regions; the lines that forbid to run."""
    return [each.line for each in failed(check(regions, config))]


def test_a_sound_world_passes() -> None:
    """Nothing is found where nothing is wrong, and each thing has its line."""
    checks = check(world())
    assert [each.level for each in checks] == [Level.OK] * 6


Break = Callable[[dict[str, FakeRegion]], object]
FAULTS: dict[str, tuple[Break, str]] = {
    "no table": (
        lambda world: world["eu-west-1"].tables.pop("orders"),
        (
            "table orders in eu-west-1: does not exist; create it, or set its name: "
            "[tables.orders.names] eu-west-1 = …"
        ),
    ),
    "not active": (
        lambda world: setattr(world["eu-west-1"].tables["orders"], "state", "ARCHIVED"),
        "table orders in eu-west-1: is not ACTIVE; wait until it is, or restore it",
    ),
    "no stream": (
        lambda world: setattr(world["eu-west-1"].tables["orders"], "view", None),
        "table orders in eu-west-1: has no stream; run `replicator setup`",
    ),
    "wrong view type": (
        lambda world: setattr(world["us-east-1"].tables["orders"], "view", "NEW_IMAGE"),
        (
            "table orders in us-east-1: has a stream of NEW_IMAGE; where several regions write it "
            "takes NEW_AND_OLD_IMAGES, since only both images tell a local write from a replicated "
            "one; turn the stream off and run `replicator setup`"
        ),
    ),
    "other key": (
        lambda world: setattr(
            world["eu-west-1"].tables["orders"], "keys", (("id", "HASH", "S"), ("at", "RANGE", "N"))
        ),
        (
            "table orders in eu-west-1: has keys id (S), at (N), but in us-east-1 keys id (S); "
            "create it anew with the same keys"
        ),
    ),
    "other key type": (
        lambda world: setattr(world["eu-west-1"].tables["orders"], "keys", (("id", "HASH", "B"),)),
        (
            "table orders in eu-west-1: has keys id (B), but in us-east-1 keys id (S); create it "
            "anew with the same keys"
        ),
    ),
    "no control table": (
        lambda world: world["us-east-1"].tables.pop("replicator-control"),
        "control table replicator-control in us-east-1: does not exist; run `replicator setup`",
    ),
    "another's table": (
        lambda world: world["us-east-1"].tables.update({"replicator-control": FakeTable()}),
        (
            "control table replicator-control in us-east-1: has keys id (S), so it is another's; "
            "set control_table to a free name"
        ),
    ),
    "unreachable": (
        lambda world: setattr(world["us-east-1"], "error", Transient("DescribeTable: refused")),
        "region us-east-1: DescribeTable: refused; check endpoint_url, aws_region and the network",
    ),
    "refused credentials": (
        lambda world: setattr(
            world["us-east-1"], "error", Fatal("DescribeTable: UnrecognizedClientException")
        ),
        (
            "region us-east-1: DescribeTable: UnrecognizedClientException; check the credentials: "
            "profile, role_arn or the environment's, and their expiry"
        ),
    ),
    "not allowed": (
        lambda world: setattr(
            world["us-east-1"], "error", Fatal("DescribeTable: AccessDeniedException")
        ),
        (
            "region us-east-1: DescribeTable: AccessDeniedException; allow this operation in the "
            "policy of the role or user"
        ),
    ),
}


@pytest.mark.parametrize(("fault", "line"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_one_line(fault: Break, line: str) -> None:
    """One fault gives one line, which names the thing and the remedy."""
    regions = world()
    fault(regions)
    assert failures(regions) == [line]


@pytest.mark.parametrize("state", ["missing", "CREATING"])
def test_another_regions_control_table_may_be_yet_to_come(state: str) -> None:
    """Stacks are deployed side by side: the first service that starts need not fail. Of its own
    region's table, and of one that is another's, nothing is to be hoped for."""
    for source, may_pass in (("us-east-1", True), ("eu-west-1", False)):
        regions = world()
        if state == "missing":
            regions["eu-west-1"].tables.pop("replicator-control")
        else:
            regions["eu-west-1"].tables["replicator-control"].state = state
        (found,) = failed(check(regions, sources=source))
        assert found.subject == "control table replicator-control in eu-west-1"
        assert bool(found.may_pass) == may_pass
    regions["eu-west-1"].tables["replicator-control"] = FakeTable()
    (found,) = failed(check(regions, sources="us-east-1"))
    assert not found.may_pass


@pytest.mark.parametrize("view", ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", BOTH])
def test_one_way_takes_every_view_type(view: str) -> None:
    """What a record lacks is read back from the source."""
    regions = world()
    regions["us-east-1"].tables["orders"].view = view
    assert failures(regions, settings(**ONE_WAY)) == []


def test_a_target_needs_no_stream() -> None:
    """Nobody reads the stream of a one-way target."""
    regions = world()
    regions["eu-west-1"].tables["orders"].view = None
    assert failures(regions, settings(**ONE_WAY)) == []


def test_the_marker_is_no_key() -> None:
    """A key cannot be changed, so it cannot hold a version."""
    config = settings(regions=["us-east-1", "eu-west-1"], marker="id")
    assert failures(world(), config)[0] == (
        'table orders in us-east-1: has a key attribute called "id"; set marker to another name'
    )


def test_two_profiles_of_one_account_are_one_place() -> None:
    """They would share a control table, and with it what each region remembers."""
    regions = world()
    for region in regions.values():
        region.tables["replicator-control"].identity = "9d3c"
    assert failures(regions) == [
        (
            "region eu-west-1: is the same account and AWS region as us-east-1; correct its "
            "profile or role_arn"
        )
    ]


def test_a_control_table_that_only_grows_is_a_warning() -> None:
    """Without time to live no data is in danger; some engines have none."""
    regions = world()
    regions["us-east-1"].tables["replicator-control"].ttl = None
    assert [each.line for each in check(regions) if each.level is Level.WARNING] == [
        (
            "control table replicator-control in us-east-1: only grows: no time to live on "
            "expires_at; run `replicator setup`"
        )
    ]


def test_a_global_table_is_a_warning() -> None:
    """Two replicators of one table would answer each other."""
    regions = world()
    regions["us-east-1"].tables["orders"].replicas = ("us-east-1", "eu-west-1")
    (warning,) = [each for each in check(regions) if each.level is Level.WARNING]
    assert warning.text.startswith("is a global table in eu-west-1, us-east-1 already")


def test_only_what_the_sources_need_is_asked() -> None:
    """A run out of one region does not fail for a table that it does not read."""
    config = settings(**ONE_WAY)
    assert check(world(), config, sources="eu-west-1") == []


def test_a_region_that_cannot_be_opened_is_one_line() -> None:
    """An unknown profile stops only its own region's checks."""

    def connect(name: str) -> Api:
        if name == "eu-west-1":
            raise ConfigurationError("region eu-west-1: no profile called other; correct it")
        return world()[name]

    sources = frozenset({"us-east-1", "eu-west-1"})
    checks = asyncio.run(examine(settings(), connect=connect, sources=sources))
    checks += asyncio.run(provision(settings(), connect=connect, dry_run=True, sleep=_no_sleep))
    lines = [check.line for check in failed(checks)]
    assert lines == ["region eu-west-1: no profile called other; correct it"] * 2


def test_what_cannot_give_credentials_is_no_outage() -> None:
    """`run --tolerate-outage` does not begin with a region that was set up wrongly."""
    regions = world()
    regions["us-east-1"].error = Unsigned("credentials in us-east-1: not to be had: /token")
    (check_,) = failed(check(regions))
    assert not check_.may_pass
    assert "check the credentials" in check_.text


def test_a_region_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is waiting."""

    class Silent:
        async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError(operation, request)

    monkeypatch.setattr("replicator.preflight.ANSWER_WITHIN_S", 0.01)
    regions: dict[str, Api] = {**world(), "us-east-1": Silent()}
    assert failures(regions) == [
        "region us-east-1: no answer within 0 s; check endpoint_url and the network"
    ]


async def _no_sleep(_: float) -> None:
    await asyncio.sleep(0)


def make(
    regions: Mapping[str, Api],
    config: Settings | None = None,
    *,
    dry_run: bool = False,
    streams_only: bool = False,
) -> list[Check]:
    """Set the regions up."""
    return asyncio.run(
        provision(
            config or settings(),
            connect=regions.__getitem__,
            dry_run=dry_run,
            streams_only=streams_only,
            sleep=_no_sleep,
        )
    )


def bare_world() -> dict[str, FakeRegion]:
    """Make two regions that hold the application's tables and nothing else."""
    return {
        region: FakeRegion({"orders": FakeTable(view=None)})
        for region in ("us-east-1", "eu-west-1")
    }


def test_control_tables_can_be_left_to_the_stacks() -> None:
    """A stack makes its own, and would end on one that is there already."""
    regions = bare_world()
    assert failed(make(regions, streams_only=True)) == []
    assert [list(region.tables) for region in regions.values()] == [["orders"], ["orders"]]
    assert all(region.tables["orders"].view for region in regions.values())


def test_set_up_regions_pass_the_checks() -> None:
    """What `setup` makes is what `doctor` asks for, and a second time there is nothing to make."""
    regions = bare_world()
    assert failed(make(regions)) == []
    assert failures(regions) == []
    made = [
        "CreateTable replicator-control",
        "UpdateTimeToLive replicator-control",
        "UpdateTable orders",
    ]
    assert [region.changes for region in regions.values()] == [made, made]
    make(regions)
    assert [region.changes for region in regions.values()] == [made, made]


@pytest.mark.parametrize("busy_with", ["an index", "setup"])
def test_a_stream_is_asked_for_until_it_is_there(busy_with: str) -> None:
    """A change that is under way may bring it, and may not."""
    regions = bare_world()
    home = regions["us-east-1"]
    home.busy, home.busy_with = 2, busy_with
    assert failed(make(regions)) == []
    assert home.tables["orders"].view == BOTH
    assert home.changes.count("UpdateTable orders") == (busy_with == "an index")


@pytest.mark.parametrize(
    ("streams_only", "again"),
    [(False, "replicator setup"), (True, "replicator setup --streams-only")],
)
def test_a_change_that_does_not_end_is_told(streams_only: bool, again: str) -> None:
    """It brings no stream, and takes longer than anybody waits. What is to be run again makes no
    control table where the first run was to make none."""
    regions = bare_world()
    regions["us-east-1"].busy = 1_000
    (failure,) = failed(make(regions, streams_only=streams_only))
    assert failure.line == (
        "table orders in us-east-1: another change of it is under way after 60 s; wait for it, "
        f"and run `{again}` again"
    )


def test_a_table_that_is_being_made_is_waited_for() -> None:
    """It takes no change until it is ACTIVE, and then its stream is turned on."""
    regions = bare_world()
    home = regions["us-east-1"]
    home.tables["orders"].state = "CREATING"
    home.tables["replicator-control"] = control(state="CREATING")
    home.tables["replicator-control"].ttl = None
    assert failed(make(regions)) == []
    assert home.tables["orders"].view == BOTH
    assert home.tables["replicator-control"].ttl == "expires_at"


def test_a_restore_is_for_a_person_to_wait_for() -> None:
    """It takes hours. The line says what it waited for, and what to do; the others are done."""
    regions = bare_world()
    home = regions["us-east-1"]
    home.restoring, home.tables["orders"].state = True, "CREATING"
    home.tables["replicator-control"] = control()
    (failure,) = failed(make(regions))
    assert failure.line == (
        "table orders in us-east-1: is not ACTIVE after 60 s; wait for it (a restore takes hours): "
        "`aws dynamodb wait table-exists --table-name orders --region us-east-1`, "
        "and run `replicator setup` again"
    )
    assert home.changes == []
    assert regions["eu-west-1"].tables["orders"].view == BOTH


def test_a_dry_run_changes_nothing() -> None:
    """It says what would be made."""
    regions = bare_world()
    assert "would" in make(regions, dry_run=True)[0].text
    assert [region.changes for region in regions.values()] == [[], []]


def test_a_stream_that_is_on_is_never_changed() -> None:
    """Somebody else may read it; the line says what to do."""
    regions = bare_world()
    regions["us-east-1"].tables["orders"].view = "KEYS_ONLY"
    (failure,) = failed(make(regions))
    assert "turn the stream off" in failure.line
    assert regions["us-east-1"].tables["orders"].view == "KEYS_ONLY"


def test_a_one_way_source_keeps_its_view_type() -> None:
    """Any view type serves there, and the target gets no stream."""
    regions = bare_world()
    regions["us-east-1"].tables["orders"].view = "KEYS_ONLY"
    assert failed(make(regions, settings(**ONE_WAY))) == []
    assert regions["us-east-1"].tables["orders"].view == "KEYS_ONLY"
    assert regions["eu-west-1"].tables["orders"].view is None


def test_setup_never_takes_a_table_of_another() -> None:
    """A table that is called like the control table but has other keys is left alone."""
    regions = bare_world()
    regions["us-east-1"].tables["replicator-control"] = FakeTable(view=None)
    (failure,) = failed(make(regions))
    assert "set control_table to a free name" in failure.text
    assert regions["us-east-1"].tables["replicator-control"].ttl is None


def test_a_region_that_fails_does_not_stop_the_others() -> None:
    """Each region is set up by itself."""
    regions = bare_world()
    regions["us-east-1"].error = Transient("CreateTable: refused")
    assert [each.subject for each in failed(make(regions))] == ["region us-east-1"]
    assert "replicator-control" in regions["eu-west-1"].tables
