"""Opens a region's API on the plane that is configured: lean, or botocore's throughout.

The lean plane makes the calls that every record needs; all others, and all of those where calls
have to go through a proxy, are botocore's.

This module must not know what is called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from replicator.aws.api import Boto3Api
from replicator.clock import SystemClock
from replicator.settings import ClientPlane, Settings
from replicator.wire.api import LeanApi
from replicator.wire.pool import PoolLimits

log = logging.getLogger(__name__)

THREADS_MAX = 64
"""Threads of botocore's plane per region: more of them only wait for each other."""

CONTROL_THREADS = 4
CONNECTIONS_MIN = 32
"""Room for reads beside the writes in flight."""


class RegionApi(Protocol):
    """ports.Api that can be closed."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def close(self) -> None: ...


def open_region(settings: Settings, name: str) -> RegionApi:
    """The API of a region. Blocks for a moment: it reads files and may ask for credentials.

    Raises: ConfigurationError when profile, region or endpoint cannot be used.
    """
    region, concurrency = settings.regions[name], settings.writer.concurrency
    lean = settings.client.plane is ClientPlane.LEAN
    reference = Boto3Api.open(
        region=region.aws_region,
        endpoint_url=region.endpoint_url,
        profile=region.profile,
        role_arn=region.role_arn,
        threads=CONTROL_THREADS if lean else min(concurrency, THREADS_MAX),
    )
    if lean:
        return lean_api(region.aws_region, reference, connections_max=concurrency + CONNECTIONS_MIN)
    return reference


def lean_api(region: str, reference: Boto3Api, *, connections_max: int) -> RegionApi:
    """The lean plane beside `reference`, or that alone where calls go through a proxy."""
    access = reference.access
    if access.proxied:
        log.info("plane.botocore", extra={"region": region, "reason": "a proxy is configured"})
        return reference
    limits = PoolLimits(connections_max=connections_max)
    return LeanApi(
        region=region, access=access, control=reference, clock=SystemClock(), limits=limits
    )


@contextmanager
def opened_regions(settings: Settings) -> Iterator[Callable[[str], Boto3Api]]:
    """A way to open each region on botocore's plane, all of them closed at the end."""
    opened: list[Boto3Api] = []

    def connect(name: str) -> Boto3Api:
        region = settings.regions[name]
        api = Boto3Api.open(
            region=region.aws_region,
            endpoint_url=region.endpoint_url,
            profile=region.profile,
            role_arn=region.role_arn,
        )
        opened.append(api)
        return api

    try:
        yield connect
    finally:
        for api in opened:
            api.close()


@contextmanager
def opened_planes(settings: Settings) -> Iterator[Callable[[str], RegionApi]]:
    """The same on the plane that is configured, for commands that read and write items."""
    with ExitStack() as opened:

        def connect(name: str) -> RegionApi:
            api = open_region(settings, name)
            opened.callback(api.close)
            return api

        yield connect
