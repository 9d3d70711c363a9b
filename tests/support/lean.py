"""A lean API before a server of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from contract.over_http import WallClock
from replicator.errors import Fatal
from replicator.ports import Clock
from replicator.wire.access import Access, Keys
from replicator.wire.api import LeanApi
from replicator.wire.pool import PoolLimits

REGION = "eu-west-1"
PUT: Mapping[str, Any] = {"TableName": "orders", "Item": {"id": {"S": "canary-7781"}}}


class NoControl:
    """Stands where the reference stands; nothing here may reach it."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse."""
        raise Fatal(f"{operation} with {len(request)} parameters went to the control plane")

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def lean(
    url: str,
    *,
    limits: PoolLimits | None = None,
    clock: Clock | None = None,
    load_keys: Callable[[], Keys] | None = None,
    ca_bundle: str = "",
) -> Iterator[LeanApi]:
    """Open a lean API whose two endpoints are at `url`, and close it at the end."""
    access = Access(
        region=REGION,
        tables_url=url,
        streams_url=url,
        ca_bundle=ca_bundle,
        proxied=False,
        load_keys=load_keys or (lambda: Keys("local", "local")),
    )
    api = LeanApi(
        region=REGION,
        access=access,
        control=NoControl(),
        clock=clock or WallClock(),
        limits=limits or PoolLimits(),
    )
    try:
        yield api
    finally:
        api.close()
