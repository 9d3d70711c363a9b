"""What waits for a person: changes that could not be applied, and records that were lost.

A parked change keeps its image, because its stream record is gone after 24 hours. One row per
table, source, target and key: the newest change replaces an older one and never the other way.
A gap says from when on, and on which shard, records may be missing; the earliest report stands.

Neither row expires. Both are layouts of the control table, which control.py describes.
"""

from __future__ import annotations

from typing import Any

from conflict.version import parse
from replicator.control import ControlTable, digest, row_key
from replicator.errors import Fatal, Poison
from replicator.packing import packed, unpacked
from replicator.ports import Api
from replicator.records import Gap, Parked
from replicator.requests import Wire
from replicator.table import key_of


class Quarantine:
    """ports.Quarantine: the parked changes of one region's control table."""

    def __init__(self, *, api: Api, control_table: str) -> None:
        self._control = ControlTable(api=api, name=control_table)

    async def park(self, parked: Parked) -> None:
        """Store a change durably. A newer one of the same key that is parked already stays."""
        row = _parked_row(parked)
        try:
            await self._put(parked, row)
        except Poison:
            if "image" not in row:
                raise
            await self._put(parked, {**_without(row, "image"), "image_omitted": {"BOOL": True}})

    async def load(self, table: str) -> list[Parked]:
        """The parked changes of a table.

        Raises: Fatal for a row that is malformed.
        """
        rows = await self._control.query(f"quarantine#{table}")
        return [_parked(table, row) for row in rows]

    async def remove(self, parked: Parked) -> bool:
        """Take out a change that is dealt with; False when a newer one has replaced it."""
        return await self._control.delete(
            _parked_key(parked),
            "parked_version = :version",
            {":version": {"S": parked.version.text}},
        )

    async def _put(self, parked: Parked, row: Wire) -> None:
        await self._control.put(
            row,
            "attribute_not_exists(parked_version) OR parked_version < :order",
            {":order": {"S": parked.version.order_text}},
        )


def _parked_key(parked: Parked) -> Wire:
    sort = f"{parked.source}#{parked.target}#{digest(parked.key)}"
    return row_key(f"quarantine#{parked.table}", sort)


def _parked_row(parked: Parked) -> Wire:
    row = {
        **_parked_key(parked),
        "item_key": {"B": packed(parked.key.attributes)},
        "parked_version": {"S": parked.version.text},
        "reason": {"S": parked.reason},
        "parked_us": {"N": str(parked.parked_us)},
    }
    if parked.image_omitted:
        row["image_omitted"] = {"BOOL": True}
    if parked.image is not None:
        row["image"] = {"B": packed(parked.image)}
    return row


def _without(row: Wire, name: str) -> Wire:
    return {attribute: value for attribute, value in row.items() if attribute != name}


def _parked(table: str, row: Wire) -> Parked:
    sort: str = row["sk"]["S"]
    source, target, _ = sort.split("#")
    version = parse(_text(row, "parked_version"))
    if version is None:
        raise Fatal(f"quarantine of {table}: {sort}: parked_version is malformed; mend the row")
    attributes = unpacked(row["item_key"]["B"])
    return Parked(
        table=table,
        source=source,
        target=target,
        key=key_of(attributes, tuple(attributes)),
        version=version,
        image=unpacked(row["image"]["B"]) if "image" in row else None,
        reason=_text(row, "reason"),
        parked_us=int(row["parked_us"]["N"]),
        image_omitted="image_omitted" in row,
    )


class Gaps:
    """ports.Gaps: the gaps that one region's control table knows of."""

    def __init__(self, *, api: Api, control_table: str) -> None:
        self._control = ControlTable(api=api, name=control_table)

    async def report(self, gap: Gap) -> None:
        """Store a gap. An earlier report for the same shard stays."""
        await self._control.put(
            {
                **_gap_key(gap),
                "since_us": {"N": str(gap.since_us)},
                "reason": {"S": gap.reason},
            },
            "attribute_not_exists(since_us) OR since_us > :since",
            {":since": {"N": str(gap.since_us)}},
        )

    async def load(self, table: str, source: str) -> list[Gap]:
        """The gaps of a table's stream in its source region."""
        rows = await self._control.query(f"gap#{table}#{source}")
        return [_gap(table, source, row) for row in rows]

    async def remove(self, gap: Gap) -> bool:
        """Take out a gap that was repaired; False when another has been reported since."""
        since: dict[str, Any] = {":since": {"N": str(gap.since_us)}}
        return await self._control.delete(_gap_key(gap), "since_us = :since", since)


def _gap_key(gap: Gap) -> Wire:
    return row_key(f"gap#{gap.table}#{gap.source}", f"{gap.stream_arn}#{gap.shard}")


def _gap(table: str, source: str, row: Wire) -> Gap:
    arn, _, shard = row["sk"]["S"].rpartition("#")
    return Gap(
        table=table,
        source=source,
        stream_arn=arn,
        shard=shard,
        since_us=int(row["since_us"]["N"]),
        reason=_text(row, "reason"),
    )


def _text(row: Wire, attribute: str) -> str:
    text: str = row.get(attribute, {}).get("S", "")
    return text
