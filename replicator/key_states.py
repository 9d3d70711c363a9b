"""What is remembered of a key in the control table: its tombstone and its held write.

Comparisons are made by DynamoDB on texts that sort as versions do (conflict.version says why a
marker of the same order stands); a tombstone and a held write only ever rise. Both are kept for the
retention after the last of them.

A malformed one stops its key: to go on as if there were none could bring back a deleted item.

This module must not know what the protocol makes of a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conflict.operations import Hold, Image, Item, Key, KeyState, RaiseTombstone, Release, marker_of
from conflict.version import Version, parse
from replicator.control import (
    CONTROL_TTL_ATTRIBUTE,
    RETENTION_S,
    STATE,
    ControlTable,
    digest,
    expiry,
    row_key,
    sequence_text,
)
from replicator.errors import ConditionFailed, Malformed
from replicator.packing import packed, unpacked
from replicator.ports import Api, Clock, Sleep
from replicator.requests import Wire


class ControlKeyStates:
    """ports.KeyStates of one table: one row per key, which holds its tombstone and held write."""

    def __init__(
        self,
        *,
        api: Api,
        control_table: str,
        table: str,
        clock: Clock,
        sleep: Sleep,
        retention_s: int = RETENTION_S,
    ) -> None:
        self._control = ControlTable(api=api, name=control_table)
        self._table = table
        self._clock = clock
        self._sleep = sleep
        self._retention_s = retention_s

    async def read(self, keys: Sequence[Key]) -> list[KeyState]:
        if not keys:
            return []
        wanted = [self._row_key(key) for key in keys]
        found = await self._control.read(wanted, sleep=self._sleep)
        rows = {row["pk"]["S"]: row for row in found}
        return [self._state(rows.get(row_key["pk"]["S"], {})) for row_key in wanted]

    async def raise_tombstone(self, operation: RaiseTombstone) -> Version | None:
        version = operation.version
        try:
            await self._control.update(
                self._row_key(operation.key),
                f"SET tombstone = :version, {CONTROL_TTL_ATTRIBUTE} = :expires",
                "attribute_not_exists(tombstone) OR tombstone < :order",
                {**_version_values(version), ":expires": self._expires()},
            )
        except ConditionFailed as refused:
            return self._version(refused.item or {}, "tombstone")
        return None

    async def hold(self, operation: Hold) -> None:
        version = operation.item.version
        if version is None:
            raise TypeError("a held write carries its version")
        try:
            await self._control.update(
                self._row_key(operation.key),
                "SET held_version = :version, held_sequence = :sequence, held_image = :image, "
                f"{CONTROL_TTL_ATTRIBUTE} = :expires",
                "attribute_not_exists(held_version) OR held_version < :order",
                {
                    **_version_values(version),
                    ":sequence": {"S": sequence_text(version.sequence)},
                    ":image": {"B": packed(operation.item.image)},
                    ":expires": self._expires(),
                },
            )
        except ConditionFailed:
            return  # a newer one is held already

    async def release(self, operation: Release) -> None:
        try:
            await self._control.update(
                self._row_key(operation.key),
                "REMOVE held_version, held_sequence, held_image",
                "held_sequence < :before",
                {":before": {"S": sequence_text(operation.before)}},
            )
        except ConditionFailed:
            return  # nothing is held, or a later write

    def _row_key(self, key: Key) -> Wire:
        return row_key(f"key#{self._table}#{digest(key)}", STATE)

    def _expires(self) -> Wire:
        return expiry(self._clock, self._retention_s)

    def _state(self, row: Mapping[str, Any]) -> KeyState:
        tombstone = self._version(row, "tombstone") if "tombstone" in row else None
        if "held_version" not in row:
            return KeyState(tombstone)
        marker = marker_of(self._version(row, "held_version"))
        return KeyState(tombstone, Item(self._image(row), marker))

    def _version(self, row: Mapping[str, Any], attribute: str) -> Version:
        version = parse(row.get(attribute, {}).get("S", ""))
        if version is None:
            raise self._malformed(row, attribute)
        return version

    def _image(self, row: Mapping[str, Any]) -> Image:
        try:
            return unpacked(row["held_image"]["B"])
        except (KeyError, ValueError):
            raise self._malformed(row, "held_image") from None

    def _malformed(self, row: Mapping[str, Any], attribute: str) -> Malformed:
        pk = row.get("pk", {}).get("S", f"key#{self._table}")
        text = f"{self._control.name}: {pk}: {attribute} is malformed; mend or delete it"
        return Malformed(text)


def _version_values(version: Version) -> Wire:
    return {":version": {"S": version.text}, ":order": {"S": version.order_text}}
