"""What waits for a person: changes that could not be applied, and records that were lost.

A parked change keeps its image, because its stream record is gone after 24 hours. One row per
table, source, target and key: the newest change replaces an older one and never the other way.
A gap says from when on, and on which shard, records may be missing. Each report has a row of its
own, so that one which came while an earlier was being mended is not closed with it.

Neither row expires. Both are layouts of the control table, which control.py describes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from conflict.origin import Nature
from conflict.version import parse
from replicator.control import ControlTable, digest, row_key, whole_number
from replicator.errors import Malformed, Poison
from replicator.packing import packed, unpacked
from replicator.ports import Api
from replicator.records import Gap, Parked, ParkedNote
from replicator.requests import Wire
from replicator.table import key_of

NoteT = TypeVar("NoteT", bound=ParkedNote)

log = logging.getLogger(__name__)

_NOTE_ATTRIBUTES = ("pk", "sk", "item_key", "parked_version", "reason", "parked_us")
_MALFORMED = "the row of this gap is malformed; mend it"
_UNREADABLE = (KeyError, ValueError, ArithmeticError)
_NATURES: Mapping[str, Nature] = {nature.value: nature for nature in Nature}


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

        A row that is malformed is reported and left out: it must not stop the table.
        """
        return _readable(table, await self._control.query(f"quarantine#{table}"), _parked)

    async def notes(self, table: str) -> list[ParkedNote]:
        """What is parked of a table, without what it holds: that of many would fill the memory.

        As with `load`, what is malformed is reported and left out.
        """
        rows = await self._control.query(f"quarantine#{table}", attributes=_NOTE_ATTRIBUTES)
        return _readable(table, rows, _note)

    async def get(self, note: ParkedNote) -> Parked | None:
        """The parked change of a key as it is now; None when it is no longer there.

        Raises: Malformed for a row that cannot be read.
        """
        rows = await self._control.read([_parked_key(note)], sleep=asyncio.sleep)
        try:
            return _parked(note.table, rows[0]) if rows else None
        except _UNREADABLE:
            place = f"quarantine of {note.table}: {note.source} to {note.target}"
            raise Malformed(f"{place}: the row is malformed; mend or drop it") from None

    async def remove(self, parked: ParkedNote) -> bool:
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


def _parked_key(parked: ParkedNote) -> Wire:
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
    if parked.nature is not None:
        row["nature"] = {"S": parked.nature.value}
        row["earliest_us"] = {"N": str(parked.earliest_us)}
    if parked.marker is not None:
        row["marker"] = {"B": packed({"marker": parked.marker})}
    if parked.image_omitted:
        row["image_omitted"] = {"BOOL": True}
    if parked.image is not None:
        row["image"] = {"B": packed(parked.image)}
    return row


def _readable(table: str, rows: Iterable[Wire], make: Callable[[str, Wire], NoteT]) -> list[NoteT]:
    made = []
    for row in rows:
        try:
            made.append(make(table, row))
        except _UNREADABLE:
            log.error(  # noqa: TRY400 - said in one line
                "quarantine.malformed", extra={"table": table, "row": row["sk"]["S"]}
            )
    return made


def _without(row: Wire, name: str) -> Wire:
    return {attribute: value for attribute, value in row.items() if attribute != name}


def _parked(table: str, row: Wire) -> Parked:
    return Parked(
        **_noted(table, row),
        image=unpacked(row["image"]["B"]) if "image" in row else None,
        image_omitted="image_omitted" in row,
        nature=_NATURES.get(_text(row, "nature")),
        marker=unpacked(row["marker"]["B"])["marker"] if "marker" in row else None,
        earliest_us=int(row["earliest_us"]["N"]) if "earliest_us" in row else -1,
    )


def _note(table: str, row: Wire) -> ParkedNote:
    return ParkedNote(**_noted(table, row))


def _noted(table: str, row: Wire) -> dict[str, Any]:
    sort: str = row["sk"]["S"]
    source, target, _ = sort.split("#")
    version = parse(_text(row, "parked_version"))
    if version is None:
        raise ValueError("parked_version is malformed")
    attributes = unpacked(row["item_key"]["B"])
    return {
        "table": table,
        "source": source,
        "target": target,
        "key": key_of(attributes, tuple(attributes)),
        "version": version,
        "reason": _text(row, "reason"),
        "parked_us": int(Decimal(row["parked_us"]["N"])),
    }


class Gaps:
    """ports.Gaps: the gaps that one region's control table knows of."""

    def __init__(self, *, api: Api, control_table: str) -> None:
        self._control = ControlTable(api=api, name=control_table)

    async def report(self, gap: Gap) -> None:
        """Store a gap; the same one twice is one row."""
        since = {"N": str(gap.since_us)}
        row = {**_gap_key(gap), "since_us": since, "reason": {"S": gap.reason}}
        first = "attribute_not_exists(since_us) OR since_us <> :since"
        await self._control.put(row, first, {":since": since})

    async def load(self, table: str, source: str) -> list[Gap]:
        """The gaps of a table's stream in its source region; of a shard the earliest first.

        One whose row is malformed stands, since for ever, until a person has mended the row.
        """
        rows = await self._control.query(f"gap#{table}#{source}")
        return [_gap(table, source, row) for row in rows]

    async def remove(self, gap: Gap) -> bool:
        """Take out a gap that was repaired; False where its row is malformed or gone."""
        since: dict[str, Any] = {":since": {"N": str(gap.since_us)}}
        return await self._control.delete(_gap_key(gap), "since_us = :since", since)


def _gap_key(gap: Gap) -> Wire:
    sort = f"{gap.stream_arn}#{gap.shard}#{gap.since_us:016d}"
    return row_key(f"gap#{gap.table}#{gap.source}", sort)


def _gap(table: str, source: str, row: Wire) -> Gap:
    arn, _, rest = row["sk"]["S"].partition("#")
    shard, _, _ = rest.partition("#")
    since_us = whole_number(row, "since_us")
    return Gap(
        table=table,
        source=source,
        stream_arn=arn,
        shard=shard,
        since_us=since_us or 0,
        reason=_text(row, "reason")
        if since_us is not None
        else "the row of this gap is malformed; mend it",
    )


def _text(row: Wire, attribute: str) -> str:
    text: str = row.get(attribute, {}).get("S", "")
    return text
