"""The calls: ports.Api over botocore's low-level clients, on a bounded pool of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore import xform_name
from botocore.client import BaseClient
from botocore.httpsession import get_cert_path
from botocore.session import Session
from botocore.utils import get_environ_proxies

from replicator.aws.failures import (
    OF_A_GIVER,
    OF_CREDENTIALS,
    UNANSWERED,
    failed,
    of_a_giver,
    refusal,
    words_of,
)
from replicator.aws.sessions import (
    CHECK_KEYS,
    CHECK_PLACE,
    config_of,
    keys_of,
    refuse_wrong_bundle,
    session_of,
)
from replicator.endpoints import is_loopback
from replicator.errors import ConfigurationError, Fatal, Transient, Unsigned
from replicator.refusals import JSON_TYPE, NOT_DYNAMODBS, STREAM_OPERATIONS, place_of
from replicator.wire.access import Access, Keys

THREADS_DEFAULT = 32


class Boto3Api:
    """ports.Api over botocore's low-level clients. Numbers come as text, binaries as bytes."""

    def __init__(
        self,
        *,
        region: str,
        session: Session,
        tables: BaseClient,
        streams: BaseClient,
        threads: int = THREADS_DEFAULT,
    ) -> None:
        self._region = region
        self._session = session
        self._tables = tables
        self._streams = streams
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"dynamodb-{region}")

    @classmethod
    def open(
        cls,
        *,
        region: str,
        endpoint_url: str | None = None,
        profile: str | None = None,
        role_arn: str | None = None,
        threads: int = THREADS_DEFAULT,
    ) -> Self:
        """Clients of one region. Blocks for a moment: it reads files and may ask for credentials.

        The role is assumed at the region's own STS, also where `endpoint_url` is given.
        Raises: ConfigurationError when profile, region or endpoint cannot be used.
        """
        config = config_of(endpoint_url, threads)
        try:
            session = session_of(region, endpoint_url, profile, role_arn)
            tables, streams = (
                session.create_client(
                    service, region_name=region, endpoint_url=endpoint_url, config=config
                )
                for service in ("dynamodb", "dynamodbstreams")
            )
        except (botocore_errors.BotoCoreError, ValueError) as error:
            check = CHECK_KEYS if isinstance(error, OF_CREDENTIALS) else CHECK_PLACE
            raise ConfigurationError(f"region {region}: {words_of(error)}; {check}") from None
        if role_arn is not None or tables.meta.endpoint_url.startswith("https:"):
            refuse_wrong_bundle(session, region)
        return cls(region=region, session=session, tables=tables, streams=streams, threads=threads)

    @property
    def endpoint_url(self) -> str:
        """Where the table calls go."""
        url: str = self._tables.meta.endpoint_url
        return url

    @property
    def access(self) -> Access:
        """Where and how the data plane is reached, for a client that is not botocore's."""
        urls = [client.meta.endpoint_url for client in (self._tables, self._streams)]
        bundle = self._session.get_config_variable("ca_bundle")
        return Access(
            region=self._tables.meta.region_name,
            tables_url=urls[0],
            streams_url=urls[1],
            ca_bundle=str(bundle or get_cert_path(True)),
            proxied=any(get_environ_proxies(url) for url in urls),
            load_keys=self._load_keys,
        )

    def _load_keys(self) -> Keys:
        """The keys of the moment; renews them when it is time, which may block."""
        place = f"credentials in {self._region}"
        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise botocore_errors.NoCredentialsError
            keys = credentials.get_frozen_credentials()
        except botocore_errors.ClientError as error:
            raise refusal(error, "", place) from None
        except UNANSWERED as error:
            raise failed(error, place) from None
        except OF_A_GIVER as error:
            raise Unsigned(f"{place}: not to be had: {of_a_giver(error)}") from None
        found = keys_of(keys)
        if found.wrong is not None:
            raise Fatal(f"{place}: {found.wrong}")
        return found

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call. One that is cancelled goes on in its thread and may yet take effect."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, operation, request)

    def close(self) -> None:
        """Take no more calls, drop those that wait, and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._tables.close()
        self._streams.close()

    def _call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        client = self._streams if operation in STREAM_OPERATIONS else self._tables
        try:
            response: dict[str, Any] = getattr(client, xform_name(operation))(**request)
        except botocore_errors.ClientError as error:
            raise refusal(error, operation, place_of(operation, request, self._region)) from None
        except UNANSWERED as error:
            if type(error) is botocore_errors.HTTPClientError:
                self._load_keys()  # if no header can hold them, that is what is raised
            raise failed(error, place_of(operation, request, self._region)) from None
        except OF_A_GIVER:
            self._load_keys()  # if it was the credentials, that is what is raised
            raise
        headers = response.pop("ResponseMetadata", {}).get("HTTPHeaders", {})
        if not headers.get("content-type", "").startswith(JSON_TYPE):
            raise Transient(f"{place_of(operation, request, self._region)}: {NOT_DYNAMODBS}")
        return response


def event_source_mappings(
    *,
    region: str,
    stream_arn: str,
    endpoint_url: str | None = None,
    profile: str | None = None,
    role_arn: str | None = None,
) -> list[dict[str, Any]]:
    """The mappings of Lambda on a stream. An emulator's endpoint serves Lambda as well, or nobody.

    Raises: ReplicatorError, also where that endpoint has no Lambda.
    """
    local = endpoint_url if is_loopback(urlsplit(endpoint_url or "").hostname or "") else None
    session = session_of(region, endpoint_url, profile, role_arn)
    client = session.create_client(
        "lambda", region_name=region, endpoint_url=local, config=config_of(local, 1)
    )
    operation, place = "ListEventSourceMappings", f"ListEventSourceMappings in {region}"
    try:
        pages = client.get_paginator(xform_name(operation)).paginate(EventSourceArn=stream_arn)
        return [mapping for page in pages for mapping in page.get("EventSourceMappings", ())]
    except botocore_errors.ClientError as error:
        raise refusal(error, operation, place) from None
    except UNANSWERED as error:
        raise failed(error, place) from None
    finally:
        client.close()
