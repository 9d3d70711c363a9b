"""What a contract test sees: one region with one table, whatever answers behind the ports.

`Subject` is the one place where a backend plugs in: the memory of the simulator, or the adapters
against an engine. The four ports appear as plain calls, so that a test reads as what it states.
Beside them stands the application's own hand, which writes what no replicator would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from conflict.operations import Image, Item, Key, KeyState, Operation
from replicator.records import (
    After,
    Checkpoint,
    Page,
    StreamDescription,
    TrimHorizon,
    ViewType,
)

T = TypeVar("T")

MARKER = "_replicator"
"""The marker's attribute in every table of these tests."""


class Subject(Protocol):
    """One table of one region, its key `id` (S), or `id` (S) and `at` (N) where `ranged`."""

    @property
    def region(self) -> str: ...

    @property
    def table(self) -> str:
        """Its name, which no other table of this session has."""
        ...

    def perform(self, operation: Operation[T]) -> T:
        """Carry out any operation of the protocol."""
        ...

    def get(self, keys: Sequence[Key]) -> list[Item | None]: ...

    def read(self, keys: Sequence[Key]) -> list[KeyState]: ...

    def load(self, table: str, source: str) -> list[Checkpoint]: ...

    def save(self, checkpoint: Checkpoint) -> None: ...

    def save_all(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Save many positions, at once where that is quicker."""
        ...

    def describe(self) -> StreamDescription: ...

    def iterator(self, shard: str, position: TrimHorizon | After) -> str: ...

    def records(self, iterator: str, limit: int) -> Page: ...

    def application_put(self, image: Image) -> None:
        """PutItem by the application, marker or no marker inside `image`."""
        ...

    def application_set(self, key: Key, attribute: str, value: Mapping[str, Any]) -> None:
        """UpdateItem by the application: SET of one attribute."""
        ...

    def application_delete(self, key: Key) -> None:
        """DeleteItem by the application."""
        ...

    def disable_stream(self) -> None:
        """Take the stream off the table; what it holds stays readable for 24 hours."""
        ...


class MakeSubject(Protocol):
    """Make a fresh, empty table."""

    def __call__(
        self, view_type: ViewType = ViewType.NEW_AND_OLD_IMAGES, *, ranged: bool = False
    ) -> Subject: ...
