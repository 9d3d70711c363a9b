"""The adapters against an engine over HTTP, as subjects of the contract.

One connection serves a session: one region, its control table, and an event loop on which the
coroutines of the adapters run to their end, one by one. The application's own hand is boto3.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar, assert_never, cast

from conflict.operations import (
    AnyOperation,
    AttributeValue,
    Delete,
    Get,
    Hold,
    Image,
    Item,
    Key,
    KeyState,
    Operation,
    Put,
    RaiseTombstone,
    ReadState,
    Release,
    Result,
    Stamp,
)
from conflict.version import Version
from contract.subject import MARKER
from replicator.aws.api import Boto3Api
from replicator.control import create_control_table_request
from replicator.key_states import ControlKeyStates
from replicator.plane import lean_api
from replicator.positions import ControlCheckpoints
from replicator.records import (
    After,
    Checkpoint,
    Page,
    StreamDescription,
    TrimHorizon,
    ViewType,
)
from replicator.stream import DynamoStream
from replicator.table import DynamoTable
from support.engines import Engine
from support.tables import HASH_ONLY, RANGED, client, create_table, unique_name

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

REGION = "eu-west-1"


class WallClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


CLOCK = WallClock()


class Connection:
    """One region of an engine, with a control table of its own; a context manager."""

    def __init__(self, engine: Engine, *, lean: bool) -> None:
        """`lean`: the lean data plane is under test, else the reference."""
        self._lean = lean
        self.endpoint_url = engine.endpoint_url
        self.control_table = unique_name("replicator-control")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._runner = self._stack.enter_context(asyncio.Runner())
        reference = Boto3Api.open(region=REGION, endpoint_url=self.endpoint_url, threads=8)
        lean = self._lean
        self.api = lean_api(REGION, reference, connections_max=8) if lean else reference
        self._stack.callback(self.api.close)
        self.run(self.api.call("CreateTable", create_control_table_request(self.control_table)))
        self.application = client(self.endpoint_url, REGION)
        self._stack.callback(self.application.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one call of an adapter to its end."""
        return self._runner.run(coroutine)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSubject:
    """One table behind the adapters; a `contract.subject.Subject`."""

    region: str
    table: str
    connection: Connection
    data: DynamoTable
    states: ControlKeyStates
    checkpoints: ControlCheckpoints
    stream: DynamoStream

    @classmethod
    def create(
        cls,
        connection: Connection,
        view_type: ViewType = ViewType.NEW_AND_OLD_IMAGES,
        *,
        ranged: bool = False,
    ) -> Self:
        """Create a table and put the adapters before it."""
        schema, name, api = RANGED if ranged else HASH_ONLY, unique_name(), connection.api
        control = connection.control_table
        arn = create_table(connection.endpoint_url, REGION, name, view_type.value, schema)
        return cls(
            region=REGION,
            table=name,
            connection=connection,
            data=DynamoTable(
                api=api, name=name, marker=MARKER, key_names=tuple(schema), sleep=asyncio.sleep
            ),
            states=ControlKeyStates(
                api=api, control_table=control, table=name, clock=CLOCK, sleep=asyncio.sleep
            ),
            checkpoints=ControlCheckpoints(api=api, control_table=control, clock=CLOCK),
            stream=DynamoStream(api=api, arn=arn),
        )

    def perform(self, operation: Operation[T]) -> T:
        """Hand the operation to the port that carries it out."""
        call = self._call(cast("AnyOperation", operation))
        return cast("T", self.connection.run(call))

    async def _call(self, operation: AnyOperation) -> Result:
        match operation:
            case Get(key=key):
                [item] = await self.data.get([key])
                return item
            case Put():
                return await self.data.put(operation)
            case Stamp():
                return await self.data.stamp(operation)
            case Delete():
                return await self.data.delete(operation)
            case _:
                return await self._call_states(operation)

    async def _call_states(
        self, operation: ReadState | RaiseTombstone | Hold | Release
    ) -> KeyState | Version | None:
        match operation:
            case ReadState(key=key):
                [state] = await self.states.read([key])
                return state
            case RaiseTombstone():
                return await self.states.raise_tombstone(operation)
            case Hold():
                await self.states.hold(operation)
            case Release():
                await self.states.release(operation)
            case _:
                assert_never(operation)
        return None

    def get(self, keys: Sequence[Key]) -> list[Item | None]:
        return self.connection.run(self.data.get(keys))

    def read(self, keys: Sequence[Key]) -> list[KeyState]:
        return self.connection.run(self.states.read(keys))

    def load(self, table: str, source: str) -> list[Checkpoint]:
        return self.connection.run(self.checkpoints.load(table, source))

    def save(self, checkpoint: Checkpoint) -> None:
        self.connection.run(self.checkpoints.save(checkpoint))

    def save_all(self, checkpoints: Iterable[Checkpoint]) -> None:
        async def together() -> None:
            await asyncio.gather(*map(self.checkpoints.save, checkpoints))

        self.connection.run(together())

    def describe(self) -> StreamDescription:
        return self.connection.run(self.stream.describe())

    def iterator(self, shard: str, position: TrimHorizon | After) -> str:
        return self.connection.run(self.stream.iterator(shard, position))

    def records(self, iterator: str, limit: int) -> Page:
        return self.connection.run(self.stream.records(iterator, limit))

    def application_put(self, image: Image) -> None:
        self._application.put_item(TableName=self.table, Item=cast("Any", image))

    def application_set(self, key: Key, attribute: str, value: AttributeValue) -> None:
        self._application.update_item(
            TableName=self.table,
            Key=cast("Any", key.attributes),
            UpdateExpression="SET #name = :value",
            ExpressionAttributeNames={"#name": attribute},
            ExpressionAttributeValues={":value": cast("Any", value)},
        )

    def application_delete(self, key: Key) -> None:
        self._application.delete_item(TableName=self.table, Key=cast("Any", key.attributes))

    def disable_stream(self) -> None:
        self._application.update_table(
            TableName=self.table, StreamSpecification={"StreamEnabled": False}
        )

    @property
    def _application(self) -> DynamoDBClient:
        return self.connection.application
