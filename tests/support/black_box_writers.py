"""Applications that write on top of each other: one thread per region, on the same hot keys.

Every value is written once and noted, so that a value which nobody wrote is found out. Beside the
hot keys each writer leaves keys behind which it writes once and never again: they must arrive.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from support.black_box_tables import Connection, Table, Wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import UpdateItemInputTypeDef

HOT_KEYS = tuple(f"hot-{number}" for number in range(10))
ATTRIBUTES = ("a", "b", "c")
OPERATIONS = ("put", "put", "update", "update", "strip", "delete", "recreate", "once")
OPERATIONS_MAX = 2_000
PACE_S = 0.06


class Writing:
    """Writes in a thread of its own, `turn` after turn, until it is stopped or a turn says so."""

    rng: Random
    pace_s: float

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def turn(self) -> bool:
        """Write; whether there is more to do."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; returns when the last write is acknowledged. Raises what went wrong."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self.turn():
                self._stop.wait(self.rng.uniform(0, 2 * self.pace_s))
        except BaseException as error:  # noqa: BLE001 - raised by stop
            self._error = error


@dataclass
class Writer(Writing):
    """One region's application; runs from `start` to `stop`."""

    connection: Connection
    table: Table
    region: str
    rng: Random
    pace_s: float = PACE_S
    written: dict[str, str] = field(default_factory=dict)
    """Each value, and the key that it was written to."""
    once: dict[str, Wire] = field(default_factory=dict)
    operations: int = 0

    def write(self, key: str) -> Wire:
        """Put an item of its own making; returns it."""
        item: Wire = {"id": {"S": key}, self.rng.choice(ATTRIBUTES): {"S": self._value(key)}}
        self._client.put_item(TableName=self._name, Item=item)
        return item

    def turn(self) -> bool:
        """One write."""
        self._write_something()
        self.operations += 1
        return self.operations < OPERATIONS_MAX

    def _write_something(self) -> None:
        key = self.rng.choice(HOT_KEYS)
        name: Wire = {"id": {"S": key}}
        match self.rng.choice(OPERATIONS):
            case "put":
                self.write(key)
            case "update":
                self._update(name, "SET #a = :v", {":v": {"S": self._value(key)}})
            case "strip":
                self._update(name, "REMOVE #a", {})
            case "delete":
                self._client.delete_item(TableName=self._name, Key=name)
            case "recreate":
                self._client.delete_item(TableName=self._name, Key=name)
                self.write(key)
            case _:
                key = f"once-{self.region}-{len(self.once)}"
                self.once[key] = self.write(key)

    def _update(self, key: Wire, expression: str, values: Wire) -> None:
        request: UpdateItemInputTypeDef = {
            "TableName": self._name,
            "Key": key,
            "UpdateExpression": expression,
            "ExpressionAttributeNames": {"#a": self.rng.choice(ATTRIBUTES)},
        }
        if values:
            request["ExpressionAttributeValues"] = values
        self._client.update_item(**request)

    def _value(self, key: str) -> str:
        value = f"{self.region} {len(self.written)}"
        self.written[value] = key
        return value

    @property
    def _client(self) -> DynamoDBClient:
        return self.connection.client(self.region)

    @property
    def _name(self) -> str:
        return self.table.physical(self.region)
