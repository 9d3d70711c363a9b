"""Tables of a black-box test: what they hold, what their streams say, how far they are settled.

All of it is read through boto3 and not through the code under test. Of the control table only the
layout of the checkpoint and quarantine rows is known, as the product documents it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3

from replicator.records import WHOLE_STREAM
from support.tables import HASH_ONLY, client, create_table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodbstreams import DynamoDBStreamsClient
    from mypy_boto3_dynamodbstreams.type_defs import RecordTypeDef

MARKER = "_replicator"
Wire = dict[str, dict[str, Any]]
"""An item in wire form."""


@dataclass(frozen=True)
class Table:
    """One entry of the configuration: `regions`, or a `source` with its `targets`."""

    name: str
    regions: tuple[str, ...] = ()
    source: str | None = None
    targets: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict, hash=False)
    key_schema: Mapping[str, str] = field(default_factory=lambda: HASH_ONLY, hash=False)
    options: str = ""
    """More lines of its section."""

    @property
    def members(self) -> tuple[str, ...]:
        return self.regions or (self.source or "", *self.targets)

    @property
    def sources(self) -> tuple[str, ...]:
        return self.regions or (self.source or "",)

    def physical(self, region: str) -> str:
        """Its name in a region."""
        return self.names.get(region, self.name)

    def section(self) -> str:
        """Its section of `replicator.toml`."""
        names = ", ".join(f'"{region}" = "{name}"' for region, name in self.names.items())
        members = (
            f"regions = {json.dumps(self.regions)}"
            if self.regions
            else f"source = {json.dumps(self.source)}\ntargets = {json.dumps(self.targets)}"
        )
        lines = [f"[tables.{self.name}]", members, f"names = {{ {names} }}", self.options]
        return "\n".join(lines) + "\n"


class Connection:
    """The regions as an application sees them: all on one engine, but for those named apart."""

    def __init__(
        self, endpoint_url: str, control_table: str, apart: Mapping[str, str] | None = None
    ) -> None:
        """`apart`: by region, the URL of an engine of its own."""
        self.endpoint_url = endpoint_url
        self._apart = apart or {}
        self._control_table = control_table
        self._clients: dict[str, DynamoDBClient] = {}
        self._stream_clients: dict[str, DynamoDBStreamsClient] = {}
        self._streams: dict[str, StreamLog] = {}

    def url_of(self, region: str) -> str:
        """Where a region is."""
        return self._apart.get(region, self.endpoint_url)

    def client(self, region: str) -> DynamoDBClient:
        """A boto3 client of a region."""
        if region not in self._clients:
            self._clients[region] = client(self.url_of(region), region)
        return self._clients[region]

    def create(self, table: Table, region: str, view_type: str | None) -> None:
        """Create the table in a region."""
        name, schema = table.physical(region), table.key_schema
        create_table(self.url_of(region), region, name, view_type, schema)

    def scan(self, table: Table, region: str) -> list[Wire]:
        """All items as they stand, marker inside."""
        pages = self.client(region).get_paginator("scan")
        found = pages.paginate(TableName=table.physical(region), ConsistentRead=True)
        return [item for page in found for item in page["Items"]]  # type: ignore[misc]

    def contents(self, table: Table, region: str) -> dict[str, str]:
        """The canonical text of each item by that of its key, the marker left out."""
        return {key_text(table, item): text(item) for item in self.scan(table, region)}

    def get(self, table: Table, region: str, key: Wire) -> Wire | None:
        """One item, marker inside."""
        answer = self.client(region).get_item(
            TableName=table.physical(region), Key=key, ConsistentRead=True
        )
        return answer.get("Item")  # type: ignore[return-value]

    def stream(self, table: Table, region: str) -> StreamLog:
        """The present stream of a table."""
        described = self.client(region).describe_table(TableName=table.physical(region))
        arn = described["Table"]["LatestStreamArn"]
        place = f"{region} {arn}"
        if place not in self._streams:
            self._streams[place] = StreamLog(self._stream_client(region), arn)
        return self._streams[place]

    def checkpoints(
        self, table: Table, source: str, of: StreamLog | None = None
    ) -> dict[str, int | None]:
        """How far each shard of a stream is settled; None: to its end. The present one if none is
        given."""
        arn = (of or self.stream(table, source)).arn
        rows = self.rows(source, f"checkpoint#{table.name}#{source}")
        found: dict[str, int | None] = {}
        for row in rows:
            stream, _, shard = row["sk"]["S"].rpartition("#")
            settled = row["settled"]["S"]
            if stream == arn and shard != WHOLE_STREAM:
                found[shard] = None if settled == "finished" else int(settled)
        return found

    def quarantine(self, table: Table, source: str) -> list[Wire]:
        """The rows of what could not be applied."""
        return list(self.rows(source, f"quarantine#{table.name}"))

    def gaps(self, table: Table, source: str) -> list[Wire]:
        """The rows of what was lost."""
        return list(self.rows(source, f"gap#{table.name}#{source}"))

    def rows(self, region: str, pk: str) -> Iterator[Wire]:
        """The rows of one partition of a region's control table."""
        pages = (
            self.client(region)
            .get_paginator("query")
            .paginate(
                TableName=self._control_table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": pk}},
                ConsistentRead=True,
            )
        )
        for page in pages:
            yield from page["Items"]  # type: ignore[misc]

    def _stream_client(self, region: str) -> DynamoDBStreamsClient:
        if region not in self._stream_clients:
            self._stream_clients[region] = boto3.client(
                "dynamodbstreams", region_name=region, endpoint_url=self.url_of(region)
            )
        return self._stream_clients[region]


class StreamLog:
    """All records of one stream, read beside the replicator.

    While a shard is empty its iterator is asked for anew: DynamoDB Local calls one trimmed that has
    seen the empty beginning, once records of other tables have come between.
    """

    def __init__(self, streams: DynamoDBStreamsClient, arn: str) -> None:
        self.arn = arn
        self._client = streams
        self._iterators: dict[str, str | None] = {}
        self._records: dict[str, list[RecordTypeDef]] = {}

    def records(self) -> list[RecordTypeDef]:
        """Everything up to now."""
        self._read()
        return [record for shard in self._records.values() for record in shard]

    def ends(self) -> list[tuple[str, int]]:
        """The last sequence number of each shard that has records."""
        self._read()
        return [
            (shard, int(records[-1]["dynamodb"]["SequenceNumber"]))
            for shard, records in self._records.items()
            if records
        ]

    def _read(self) -> None:
        if not any(self._iterators.values()):
            self._describe()  # none is known yet, or those known have ended
        for shard, records in self._records.items():
            if not records:
                self._iterators[shard] = self._beginning(shard)
            self._advance(shard)

    def _describe(self) -> None:
        description = self._client.describe_stream(StreamArn=self.arn)["StreamDescription"]
        for shard in description["Shards"]:
            self._records.setdefault(shard["ShardId"], [])

    def _beginning(self, shard: str) -> str:
        answer = self._client.get_shard_iterator(
            StreamArn=self.arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )
        return answer["ShardIterator"]

    def _advance(self, shard: str) -> None:
        """Read a shard to its present end: in these engines an empty page says just that."""
        while (iterator := self._iterators[shard]) is not None:
            page = self._client.get_records(ShardIterator=iterator)
            self._iterators[shard] = page.get("NextShardIterator")
            self._records[shard] += page["Records"]
            if not page["Records"]:
                return


def bare(item: Wire) -> Wire:
    """The item without its marker."""
    return {name: value for name, value in item.items() if name != MARKER}


def key_text(table: Table, item: Wire) -> str:
    """The key of an item as one text."""
    return text({name: item[name] for name in table.key_schema})


def text(item: Wire) -> str:
    """An item without its marker as one text, the same where DynamoDB would call them equal."""
    return json.dumps(_canonical({"M": bare(item)}), sort_keys=True)


def _canonical(value: Mapping[str, Any]) -> list[Any]:
    ((kind, content),) = value.items()
    return [kind, _CANONICAL.get(kind, _as_it_is)(content)]


def _as_it_is(content: Any) -> Any:
    return content


def _number(content: str) -> str:
    """One text per value, exact: `-12E3` for -12000.0."""
    sign, digits, exponent = Decimal(content).as_tuple()
    plain = "".join(map(str, digits))
    short = plain.rstrip("0")
    return f"{'-' * sign}{short}E{int(exponent) + len(plain) - len(short)}" if short else "0"


_CANONICAL: Mapping[str, Callable[[Any], Any]] = {
    "N": _number,
    "NS": lambda content: sorted(map(_number, content)),
    "SS": sorted,
    "B": bytes.hex,
    "BS": lambda content: sorted(map(bytes.hex, content)),
    "L": lambda content: [_canonical(value) for value in content],
    "M": lambda content: {name: _canonical(value) for name, value in content.items()},
}
