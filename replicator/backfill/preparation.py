"""Before a backfill begins: whether the tables are there, and how much is in them.

Only the regions of the plan are asked, and nothing is changed. A stream is not asked for: where no
replicator runs, a backfill is a copy like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from replicator.backfill.plan import Plan
from replicator.compose import fence_of
from replicator.errors import ConfigurationError, Replaced, ReplicatorError
from replicator.ports import Api
from replicator.preflight import (
    ANSWER_WITHIN_S,
    control_subject,
    described,
    remedy,
    table_subject,
    wrong_control_keys,
)
from replicator.settings import Settings
from replicator.view import wrong_view


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The source table: its key attributes, and how much it holds, about.

    Source: API_TableDescription: ItemCount and TableSizeBytes are updated about every six hours.
    """

    key_names: tuple[str, ...]
    items: int
    size_bytes: int


async def prepare(plan: Plan, settings: Settings, apis: Mapping[str, Api]) -> Found:
    """Look at every region of the plan.

    Raises: ConfigurationError, one line for each thing that is missing.
    """
    regions = (plan.source, *plan.targets)
    surveys = await asyncio.gather(*(_survey(plan, settings, name, apis[name]) for name in regions))
    wrong = [line for survey in surveys if isinstance(survey, list) for line in survey]
    if wrong:
        raise ConfigurationError("\n".join(dict.fromkeys(wrong)))
    keys = [survey for survey in surveys if isinstance(survey, dict)]
    for region, schema in zip(regions[1:], keys[1:], strict=True):
        if list(schema.items()) != list(keys[0].items()):
            subject = table_subject(settings, plan.table, region)
            raise ConfigurationError(f"{subject}: has other keys than {plan.source}")
    entry = settings.tables[plan.table]
    if text := wrong_view(entry.view, entry.mode, entry.marker, keys[0]):
        raise ConfigurationError(f"table {plan.table}: {text}")
    name = settings.table_name(plan.table, plan.source)
    table = (await apis[plan.source].call("DescribeTable", {"TableName": name}))["Table"]
    return Found(
        key_names=tuple(keys[0]),
        items=table.get("ItemCount", 0),
        size_bytes=table.get("TableSizeBytes", 0),
    )


async def _survey(
    plan: Plan, settings: Settings, region: str, api: Api
) -> dict[str, tuple[str, str]] | list[str]:
    """The key schema of the table in a region, or what is wrong there."""
    fence = fence_of(settings, plan.table, plan.source, region, api)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            control = await described(api, settings.control_table)
            table = await described(api, settings.table_name(plan.table, region))
            if fence is not None and control is not None:
                await fence.check()
    except TimeoutError:
        return [f"region {region}: no answer; check endpoint_url and the network"]
    except Replaced as error:
        return [str(error)]
    except ReplicatorError as error:
        return [f"region {region}: {error}; {remedy(error)}"]
    wrong = []
    subject = control_subject(settings.control_table, region)
    if control is None:
        wrong.append(f"{subject}: does not exist; run `replicator setup`")
    elif (text := wrong_control_keys(control)) is not None:
        wrong.append(f"{subject}: {text}")
    if table is None:
        subject = table_subject(settings, plan.table, region)
        wrong.append(f"{subject}: does not exist; create it, or correct its name")
    if wrong or table is None:
        return wrong
    return dict(table.key_schema)
