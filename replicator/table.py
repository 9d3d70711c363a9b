"""One table of one region: its data behind ports.Table, its description, and the keys of its items.

A key's `id` is one text for one key, whatever way a number in it was written: DynamoDB takes 1, 1.0
and 1E0 for the same key, and so must everything that looks for a key in a dictionary.

A batch read may leave keys unprocessed, which is an answer and no failure, so they are asked for
again here. All else that fails is raised: retries belong to the caller.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any

from conflict.operations import AttributeValue, Delete, Image, Item, Key, Outcome, Put, Stamp
from replicator.errors import ConditionFailed, Fatal, Throttled
from replicator.ports import Api, Sleep
from replicator.records import TableDescription, ViewType
from replicator.requests import TableRequests, Wire
from replicator.view import View

logger = logging.getLogger(__name__)

IDLE_ROUNDS_MAX = 8
"""Rounds of a batch read in which not one key was processed, before it is given up."""

ROUND_WAIT_S = 0.05
ROUND_WAIT_MAX_S = 1.0

_USABLE = frozenset({"ACTIVE", "UPDATING"})
"""Table states that serve reads and writes. Source: API_TableDescription, TableStatus."""


class DynamoTable:
    """ports.Table over an Api."""

    def __init__(
        self, *, api: Api, name: str, marker: str, key_names: tuple[str, ...], sleep: Sleep
    ) -> None:
        self._api = api
        self._requests = TableRequests(table=name, marker=marker, key_names=key_names)
        self._sleep = sleep

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        if not keys:
            return []
        request = self._requests.read(keys)
        found: dict[str, Item | None] = {}
        for wire in await batch_get(self._api, request, sleep=self._sleep):
            found[key_of(wire, self._requests.key_names).id] = self._requests.split(wire)
        return [found.get(key.id) for key in keys]

    def put(self, operation: Put) -> Coroutine[Any, Any, Outcome]:
        return self._write("PutItem", self._requests.put(operation))

    def stamp(self, operation: Stamp) -> Coroutine[Any, Any, Outcome]:
        return self._write("UpdateItem", self._requests.stamp(operation))

    def delete(self, operation: Delete) -> Coroutine[Any, Any, Outcome]:
        return self._write("DeleteItem", self._requests.delete(operation))

    async def _write(self, operation: str, request: Wire) -> Outcome:
        try:
            return self._requests.done(await self._api.call(operation, request))
        except ConditionFailed as refused:
            return self._requests.refused(refused.item)


class ViewedTable:
    """ports.Table of a source that is never written to: its items as their copies hold them."""

    def __init__(self, table: DynamoTable, view: View) -> None:
        self._table, self._view = table, view

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        return [self._view.item(item) for item in await self._table.get(keys)]

    def put(self, operation: Put) -> Coroutine[Any, Any, Outcome]:
        return self._table.put(operation)

    def stamp(self, operation: Stamp) -> Coroutine[Any, Any, Outcome]:
        return self._table.stamp(operation)

    def delete(self, operation: Delete) -> Coroutine[Any, Any, Outcome]:
        return self._table.delete(operation)


async def batch_get(api: Api, request: Wire, *, sleep: Sleep) -> list[Wire]:
    """The items of a BatchGetItem of one table, in any order, unprocessed keys asked for again.

    Raises: Throttled after IDLE_ROUNDS_MAX rounds without a single key.
    """
    items: list[Wire] = []
    left: Wire = request["RequestItems"]
    idle_rounds = 0
    while True:
        response = await api.call("BatchGetItem", {"RequestItems": left})
        for found in response.get("Responses", {}).values():
            items += found
        unprocessed: Wire = response.get("UnprocessedKeys") or {}
        if not unprocessed:
            return items
        idle_rounds = 0 if _count(unprocessed) < _count(left) else idle_rounds + 1
        if idle_rounds >= IDLE_ROUNDS_MAX:
            raise Throttled(f"BatchGetItem on {', '.join(left)}: keys stay unprocessed")
        await sleep(min(ROUND_WAIT_S * 2**idle_rounds, ROUND_WAIT_MAX_S))
        left = unprocessed


def _count(request_items: Wire) -> int:
    return sum(len(entry["Keys"]) for entry in request_items.values())


def key_of(image: Image, key_names: Sequence[str]) -> Key:
    """The key of an item. `key_names`: the table's key attributes, the partition key first.

    Raises: KeyError where the image lacks one of them.
    """
    if len(key_names) == 1:
        (name,) = key_names
        value = image[name]
        return Key({name: value}, _canonical(value))
    attributes = {name: image[name] for name in key_names}
    return Key(attributes, json.dumps([_canonical(value) for value in attributes.values()]))


def _canonical(value: AttributeValue) -> str:
    text = value.get("S")  # most keys are strings, and are known by no more than that
    if text.__class__ is str:
        return f"S{text}"
    match next(iter(value.items()), None):
        case ("N", str(text)):
            return f"N{_canonical_number(text)}"
        case ("B", bytes(data)):
            return f"B{data.hex()}"
        case _:
            raise ValueError("a key attribute is a string, a number or a binary")


def _canonical_number(text: str) -> str:
    """One text for one value, exact for any number of digits: `-12E3` for -12000.0."""
    sign, digits, exponent = Decimal(text).as_tuple()
    plain = "".join(map(str, digits))
    significant = plain.rstrip("0")
    if not significant:
        return "0"
    shift = len(plain) - len(significant)
    return f"{'-' if sign else ''}{significant}E{int(exponent) + shift}"


async def describe_table(api: Api, name: str) -> TableDescription:
    """What DescribeTable and DescribeTimeToLive say of a table.

    Raises: Fatal where there is no such table or it may not be described.
    """
    table: Mapping[str, Any] = (await api.call("DescribeTable", {"TableName": name}))["Table"]
    stream = table.get("StreamSpecification") or {}
    enabled = bool(stream.get("StreamEnabled"))
    return TableDescription(
        name=name,
        key_schema=_key_schema(table),
        stream_arn=table.get("LatestStreamArn") if enabled else None,
        view_type=ViewType(stream["StreamViewType"]) if enabled else None,
        active=table.get("TableStatus") in _USABLE,
        ttl_attribute=await _ttl_attribute(api, name),
        global_table_regions=tuple(
            replica["RegionName"] for replica in table.get("Replicas") or () if replica
        ),
    )


def _key_schema(table: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    schema = sorted(table["KeySchema"], key=lambda element: element["KeyType"] != "HASH")
    return {e["AttributeName"]: (e["KeyType"], types[e["AttributeName"]]) for e in schema}


async def _ttl_attribute(api: Api, name: str) -> str | None:
    """The time-to-live attribute; unknown counts as none, since some engines lack the call."""
    try:
        response = await api.call("DescribeTimeToLive", {"TableName": name})
    except Fatal as error:
        logger.warning("table.ttl_unknown", extra={"table": name, "error": str(error)})
        return None
    description = response.get("TimeToLiveDescription") or {}
    enabled = description.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    return description.get("AttributeName") if enabled else None
