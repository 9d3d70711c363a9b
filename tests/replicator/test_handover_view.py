"""A table whose copies are not whole has none that could take the source's place."""

from __future__ import annotations

import pytest

from replicator.errors import ConfigurationError
from replicator.handover.plan import Kind, Request, tables_of
from replicator.settings import RegionSettings, Settings, TableSettings

REGIONS = {name: RegionSettings(aws_region=name) for name in ("us-east-1", "eu-west-1")}
VIEWS = ({"where": "exists(a)"}, {"without": ["a"]}, {"rename": {"a": "b"}})


def _settings(**view: object) -> Settings:
    table = TableSettings.model_validate({"source": "us-east-1", "targets": ["eu-west-1"], **view})
    return Settings(regions=REGIONS, tables={"ledger": table})


def _request(table: str | None) -> Request:
    return Request(kind=Kind.PLANNED, table=table, source="us-east-1", target="eu-west-1")


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: next(iter(view)))
def test_a_table_of_partial_copies_is_not_handed_over(view: dict[str, object]) -> None:
    """In one line, and `--all` leaves it out; a whole one is handed over."""
    with pytest.raises(ConfigurationError, match="less than the source holds") as error:
        tables_of(_settings(**view), _request("ledger"))
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigurationError, match="no table can be handed over"):
        tables_of(_settings(**view), _request(None))
    assert tables_of(_settings(), _request("ledger")) == ["ledger"]
