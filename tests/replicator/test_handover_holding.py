"""Two operators, one of whom does not know of the other: never two sources of a one-way table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from replicator.aws.api import Boto3Api
from replicator.control import create_control_table_request
from replicator.errors import Fatal, Transient
from replicator.handover.active import Handover
from replicator.handover.holding import check_holder, tell_regions
from replicator.handover.plan import Kind, Request
from replicator.handover.scene import Scene
from replicator.handover.steps import Outcome, Steps, carry_out
from replicator.settings import RegionSettings, Settings, TableSettings
from support.engines import Engine
from support.tables import client, create_table, unique_name

A, B, C = "us-east-1", "eu-west-1", "ap-southeast-2"


@dataclass
class Leaping:
    """A clock that goes on whenever somebody sleeps."""

    now_s: float = 1_000.0

    def now_us(self) -> int:
        return int(self.now_s * 1e6)

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


@dataclass
class Cuttable:
    """An Api of a region that may be out of reach."""

    api: Boto3Api
    cut: bool = False

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.cut:
            raise Transient(f"{operation}: no answer")
        return await self.api.call(operation, request)


@dataclass
class Operators:
    """A one-way table out of A, and whoever hands it over by that configuration."""

    settings: Settings
    table: str
    apis: dict[str, Cuttable]
    clock: Leaping = field(default_factory=Leaping)
    said: list[str] = field(default_factory=list)

    def scene(self, source: str = A) -> Scene:
        """The table as a configuration shows it that names this source."""
        others = tuple(region for region in self.apis if region != source)
        entry = TableSettings(source=source, targets=others)
        return Scene(
            settings=self.settings.model_copy(update={"tables": {self.table: entry}}),
            table=self.table,
            apis=self.apis,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def moves(self, kind: Kind, source: str, target: str) -> Outcome:
        """A hand-over from beginning to end."""
        request = Request(
            kind=kind, table=self.table, source=source, target=target, quiet_s=1.0, compare=False
        )
        outcome = Outcome(self.table)
        steps = Steps(scene=self.scene(source), request=request, tell=self.said.append)
        asyncio.run(carry_out([steps], [outcome]))
        self.clock.now_s += 60
        return outcome

    def rows(self) -> dict[str, str | None]:
        """Who the source is, as each region was told."""

        async def read() -> dict[str, str | None]:
            scene = self.scene()
            found = {region: await scene.handover(region) for region in self.apis}
            return {name: None if row is None else row.source for name, row in found.items()}

        return asyncio.run(read())


@pytest.fixture
def operators(engine: Callable[[str], Engine]) -> Operators:
    """Three regions on a real engine, where nobody writes."""
    url = engine("ministack").endpoint_url
    table, control = unique_name("one-way"), unique_name("control")
    for region in (A, B, C):
        client(url, region).create_table(**create_control_table_request(control))
        create_table(url, region, table)
    regions = {n: RegionSettings(aws_region=n, endpoint_url=url) for n in (A, B, C)}
    entry = TableSettings(source=A, targets=(B, C))
    settings = Settings(regions=regions, tables={table: entry}, control_table=control)
    apis = {n: Cuttable(Boto3Api.open(region=n, endpoint_url=url)) for n in regions}
    return Operators(settings, table, apis)


@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.UNPLANNED])
def test_a_second_operator_on_an_old_configuration_changes_nothing(
    operators: Operators, kind: Kind
) -> None:
    """C was out of reach when A handed over to B, and knows nothing; A and B do."""
    operators.apis[C].cut = True
    assert operators.moves(Kind.UNPLANNED, A, B).done
    operators.apis[C].cut = False
    assert operators.rows() == {A: B, B: B, C: None}
    second = operators.moves(kind, A, C)
    assert not second.done
    assert second.error is not None
    assert f"{B} holds it" in second.error
    assert operators.rows() == {A: B, B: B, C: None}


def test_a_source_out_of_reach_does_not_hide_who_holds_it(operators: Operators) -> None:
    """Unplanned, with A gone: B says that it holds the table."""
    operators.apis[C].cut = True
    assert operators.moves(Kind.UNPLANNED, A, B).done
    operators.apis[C].cut, operators.apis[A].cut = False, True
    assert not operators.moves(Kind.UNPLANNED, A, C).done
    operators.apis[A].cut = False
    assert operators.rows() == {A: B, B: B, C: None}


def handed(operators: Operators, target: str, former: str = A) -> Handover:
    """A hand-over out of A, now."""
    return Handover(
        table=operators.table,
        source=target,
        former=former,
        at_us=operators.clock.now_us(),
        planned=True,
    )


@pytest.mark.parametrize("gone", [None, A])
def test_of_two_at_the_same_time_one_is_refused_at_the_first_region(
    operators: Operators, gone: str | None
) -> None:
    """Both have asked, and nobody held it yet; also where the former source cannot decide it."""
    if gone is not None:
        operators.apis[gone].cut = True
    scene = operators.scene()

    async def both() -> None:
        await tell_regions(scene, handed(operators, C), None, operators.said.append)
        with pytest.raises(Fatal, match="another region holds it; nothing was changed"):
            await tell_regions(scene, handed(operators, B), None, operators.said.append)

    asyncio.run(both())
    for api in operators.apis.values():
        api.cut = False
    assert operators.rows() == {A: None if gone else C, B: C, C: C}


def test_a_region_that_missed_a_move_is_told_of_the_next(operators: Operators) -> None:
    """Its row is older than what the others know, and gives way."""
    assert operators.moves(Kind.PLANNED, A, B).done
    operators.apis[C].cut = True
    assert operators.moves(Kind.UNPLANNED, B, A).done
    operators.apis[C].cut = False
    assert operators.rows() == {A: A, B: A, C: B}
    assert operators.moves(Kind.PLANNED, A, C).done
    assert operators.rows() == {A: C, B: C, C: C}


def test_what_is_planned_asks_the_source(operators: Operators) -> None:
    """Unplanned it may be gone; the target must answer in either case."""

    def asked(kind: Kind) -> Handover | None:
        request = Request(kind=kind, table=operators.table, source=A, target=B)
        return asyncio.run(check_holder(operators.scene(), request, operators.said.append))

    operators.apis[A].cut = True
    assert asked(Kind.UNPLANNED) is None
    assert f"{A} cannot be asked who holds it" in operators.said[-1]
    with pytest.raises(Fatal, match=f"{A} cannot be asked"):
        asked(Kind.PLANNED)
    operators.apis[A].cut, operators.apis[B].cut = False, True
    with pytest.raises(Fatal, match=f"{B} cannot be asked"):
        asked(Kind.UNPLANNED)
