"""What a backfill may be asked to do, and the one line for what it may not."""

from __future__ import annotations

import dataclasses

import pytest

from replicator.backfill.plan import Request, plan_of
from replicator.errors import ConfigurationError
from replicator.records import Mode
from replicator.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "regions": {"us-east-1": {}, "eu-west-1": {}, "ap-south-1": {}},
        "tables": {
            "orders": {"regions": ["us-east-1", "eu-west-1", "ap-south-1"]},
            "ledger": {"source": "us-east-1", "targets": ["eu-west-1"]},
        },
    }
)
ORDERS = Request(table="orders", source="us-east-1")


def test_all_other_regions_are_targets() -> None:
    """Where none is named."""
    plan = plan_of(ORDERS, SETTINGS)
    assert (plan.source, plan.targets) == ("us-east-1", ("eu-west-1", "ap-south-1"))
    assert plan.mode is Mode.MULTI_WRITER
    assert (plan.terms.policed, plan.terms.overwrite_unstamped) == (True, False)


def test_the_authority_overwrites_only_where_it_is_the_source() -> None:
    """Seeded from another region, its items are those that stay."""
    for authority, overwrites in (("us-east-1", True), ("eu-west-1", False)):
        plan = plan_of(dataclasses.replace(ORDERS, authority=authority), SETTINGS)
        assert plan.terms.overwrite_unstamped is overwrites


def test_the_source_of_a_one_way_table_is_its_authority() -> None:
    """It need not be named."""
    plan = plan_of(Request(table="ledger"), SETTINGS)
    assert (plan.source, plan.targets) == ("us-east-1", ("eu-west-1",))
    assert (plan.terms.policed, plan.terms.overwrite_unstamped) == (False, True)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"table": "order"}, '--table: "order" is not configured; did you mean "orders"?'),
        ({"source": None}, "--source: say which region to copy from"),
        ({"source": "us-east-2"}, '"us-east-2" is no region of orders; did you mean "us-east-1"?'),
        ({"table": "ledger", "source": "eu-west-1"}, 'its source is "us-east-1"; leave it out'),
        ({"targets": ("us-east-1",)}, '--target: "us-east-1" is the source'),
        ({"targets": ("mars",)}, '--target: "mars" is no region of orders; known: '),
        ({"authority": "mars"}, '--authority: "mars" is no region of orders'),
        ({"table": "ledger", "authority": "eu-west-1"}, "--authority: of a one-way table it is"),
        ({"segments": 1_000_001}, "--segments: at most 1000000"),
    ],
)
def test_what_makes_no_sense_is_one_line(wrong: dict[str, object], line: str) -> None:
    """It names the option and the remedy."""
    with pytest.raises(ConfigurationError) as raised:
        plan_of(dataclasses.replace(ORDERS, **wrong), SETTINGS)  # type: ignore[arg-type]
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
