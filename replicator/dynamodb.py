"""The AWS edge: one region's DynamoDB and DynamoDB Streams, called through botocore.

The only module that imports botocore. It adds three things to it and nothing else: calls run on a
bounded pool of threads, so that coroutines can wait for them; every failure becomes one of
replicator.errors, by the tables below; and credentials come from the usual chain, a profile, or a
role that is assumed anew before it expires.

There is one retry layer and it is not here, so botocore makes each call once. Its check of
DynamoDB's CRC belongs to its legacy retry mode, which is chosen for that.

What an error says is meant for logs: operation, table, region, error code. What AWS adds in words
is repeated only where it cannot quote an item. A ValidationException on a call that carries items
can (it prints numbers that it cannot parse, for example), so of its text only openings that are
listed here get through; and no error keeps the botocore exception, whose response holds the item.

This module must not know what a request means: conditions are made in requests.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore import xform_name
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.parsers import ResponseParserError
from botocore.session import Session

from replicator.endpoints import is_loopback
from replicator.errors import (
    ConditionFailed,
    ConfigurationError,
    Fatal,
    IteratorExpired,
    Poison,
    ReplicatorError,
    ShardGone,
    Throttled,
    Transient,
    Trimmed,
)

THREADS_DEFAULT = 32
JSON_TYPE = "application/x-amz-json"
"""What DynamoDB answers with. A 200 of any other type comes from something that stands between,
and must not pass for a write that was done or a table that is empty."""

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
ERROR_TEXT_MAX = 300

EMULATOR_CREDENTIALS = ("local", "local")
"""For an emulator on this machine where no credentials are set up. Alphanumeric, because DynamoDB
Local insists; it also keeps a database of its own for each access key, so clients must agree."""

ROLE_SESSION_NAME = "replicator"

_STREAM_OPERATIONS = frozenset({"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"})
_SHARD_OPERATIONS = frozenset({"GetRecords", "GetShardIterator"})
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem"})
_WITH_ITEMS = _WRITES | {"GetItem", "BatchGetItem", "Query", "Scan"}

_ERRORS: Mapping[str, type[ReplicatorError]] = {
    **dict.fromkeys(
        (
            "ProvisionedThroughputExceededException",
            "ThrottlingException",
            "Throttling",
            "RequestLimitExceeded",
            "LimitExceededException",
            "TooManyRequestsException",
        ),
        Throttled,
    ),
    **dict.fromkeys(
        (
            "InternalServerError",
            "InternalFailure",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "TransactionConflictException",
            "TransactionInProgressException",
            "ReplicatedWriteConflictException",
            "RequestTimeout",
            "RequestTimeoutException",
            "ExpiredToken",
            "ExpiredTokenException",
        ),
        Transient,
    ),
    "ExpiredIteratorException": IteratorExpired,
    "TrimmedDataAccessException": Trimmed,
}
"""What an error code means wherever it appears. A code that is not listed is Transient with a 5xx
status and Fatal otherwise: refused access, bad signatures, KMS errors, a table that is gone.
Source: Developer Guide, "Error handling with DynamoDB"; API references of both services."""

_ERRORS_ON_WRITES: Mapping[str, type[ReplicatorError]] = dict.fromkeys(
    (
        "ValidationException",
        "SerializationException",
        "ItemCollectionSizeLimitExceededException",
        "RequestEntityTooLarge",
        "413",
    ),
    Poison,
)
"""On the write of one item these blame the item. On any other call they are Fatal."""

_ERRORS_ON_SHARDS: Mapping[str, type[ReplicatorError]] = {"ResourceNotFoundException": ShardGone}

_MAY_QUOTE_ITEMS = frozenset({"ValidationException", "SerializationException"})

_SAFE_OPENINGS = (
    "Item size has exceeded the maximum allowed size",
    "Item size to update has exceeded the maximum allowed size",
    "The provided key element does not match the schema",
    "One or more parameter values were invalid: Type mismatch for Index Key",
    "One or more parameter values were invalid: Type mismatch for key",
    "One or more parameter values were invalid: Missing the key",
    "One or more parameter values were invalid: Aggregated size of all range keys has exceeded",
    "One or more parameter values were invalid: Size of hashkey has exceeded",
    "One or more parameter values are not valid. A value specified for a secondary index key",
    "One or more parameter values are not valid. The update expression attempted to update",
    "Supplied AttributeValue is empty",
    "Nesting Levels have exceeded supported limits",
    "Invalid ConditionExpression",
    "Invalid UpdateExpression",
    "Provided list of item keys contains duplicates",
)
"""Openings of AWS's words that name a rule and not yet the value that broke it."""

_TRANSIENT = (
    botocore_errors.HTTPClientError,
    botocore_errors.ConnectionError,
    botocore_errors.ChecksumError,
    botocore_errors.IncompleteReadError,
    ResponseParserError,
)

_CREDENTIALS = (
    botocore_errors.NoCredentialsError,
    botocore_errors.NoAuthTokenError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.MetadataRetrievalError,
    botocore_errors.SSOError,
    botocore_errors.LoginError,
    botocore_errors.RefreshWithMFAUnsupportedError,
)


class Boto3Api:
    """ports.Api over botocore's low-level clients. Numbers come as text, binaries as bytes."""

    def __init__(
        self,
        *,
        region: str,
        tables: BaseClient,
        streams: BaseClient,
        threads: int = THREADS_DEFAULT,
    ) -> None:
        self._region = region
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
        config = _config(endpoint_url, threads)
        try:
            session = _session(region, endpoint_url, profile, role_arn)
            tables, streams = (
                session.create_client(
                    service, region_name=region, endpoint_url=endpoint_url, config=config
                )
                for service in ("dynamodb", "dynamodbstreams")
            )
        except (botocore_errors.BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"region {region}: {error}") from None
        return cls(region=region, tables=tables, streams=streams, threads=threads)

    @property
    def endpoint_url(self) -> str:
        """Where the table calls go."""
        url: str = self._tables.meta.endpoint_url
        return url

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
        client = self._streams if operation in _STREAM_OPERATIONS else self._tables
        try:
            response: dict[str, Any] = getattr(client, xform_name(operation))(**request)
        except botocore_errors.ClientError as error:
            raise refusal(error, operation, _place(operation, request, self._region)) from None
        except (botocore_errors.BotoCoreError, ResponseParserError) as error:
            raise _failed(error, _place(operation, request, self._region)) from None
        headers = response.pop("ResponseMetadata", {}).get("HTTPHeaders", {})
        if not headers.get("content-type", "").startswith(JSON_TYPE):
            place = _place(operation, request, self._region)
            raise Transient(f"{place}: the answer is not DynamoDB's; is the endpoint another's?")
        return response


def _config(endpoint_url: str | None, threads: int) -> Config:
    """One call at a time per connection, made once.

    Parameters are not checked before a call: that takes a tenth of its CPU, requests are made in
    one place, and what the service refuses becomes an error by the tables above all the same.
    """
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1, "mode": "legacy"},
        max_pool_connections=threads,
        parameter_validation=False,
        tcp_keepalive=True,
        account_id_endpoint_mode="disabled" if endpoint_url else None,
    )


def _session(
    region: str, endpoint_url: str | None, profile: str | None, role_arn: str | None
) -> Session:
    session = _plain_session(profile)
    if endpoint_url and is_loopback(urlsplit(endpoint_url).hostname or ""):
        # No instance metadata: asking for it takes seconds where nobody answers.
        session.get_component("credential_provider").remove("iam-role")
        if session.get_credentials() is None:
            session.set_credentials(*EMULATOR_CREDENTIALS)
    return session if role_arn is None else role_session(session, region, role_arn)


def _plain_session(profile: str | None = None) -> Session:
    """AWS_ENDPOINT_URL and its kin are ignored: they would send every region to one place."""
    session = Session(profile=profile)
    session.set_config_variable("ignore_configured_endpoint_urls", True)
    return session


def role_session(source: Session, region: str, role_arn: str) -> Session:
    """A session whose calls are signed with a role, assumed at the region's STS by `source`.

    Raises: ConfigurationError where `source` has no credentials.
    """
    credentials = source.get_credentials()
    if credentials is None:
        raise ConfigurationError(f"region {region}: no credentials to assume {role_arn} with")
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(source.create_client, region_name=region, config=_config(None, 1)),
        source_credentials=credentials,
        role_arn=role_arn,
        extra_args={"RoleSessionName": ROLE_SESSION_NAME},
    )
    session = _plain_session()
    session.register_component("credential_provider", CredentialResolver([_Role(fetcher)]))
    return session


class _Role(CredentialProvider):
    """Credentials of an assumed role: fetched at the first call, then anew before they expire."""

    METHOD = "assume-role"

    def __init__(self, fetcher: AssumeRoleCredentialFetcher) -> None:
        super().__init__()
        self._fetcher = fetcher

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(
            method=self.METHOD, refresh_using=self._fetcher.fetch_credentials
        )


def _place(operation: str, request: Mapping[str, Any], region: str) -> str:
    """Where a call went. An iterator names no table, so GetRecords says only the region."""
    table = request.get("TableName") or ", ".join(request.get("RequestItems", ()))
    if not table and "StreamArn" in request:
        table = request["StreamArn"].partition("/")[2].partition("/")[0]
    return f"{operation} on {table} in {region}" if table else f"{operation} in {region}"


def refusal(error: botocore_errors.ClientError, operation: str, place: str) -> ReplicatorError:
    """The error that the service's answer stands for.

    A role is assumed in the midst of another call, and what STS refuses blames no item: what
    counts is the operation that was answered.
    """
    response: Mapping[str, Any] = error.response
    code = str(response.get("Error", {}).get("Code", "Unknown"))
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(response.get("Item") or None)
    answered = error.operation_name
    within = answered if answered != operation else ""
    kind = _kind(code, answered, response)
    words = _words(response, code, answered)
    return kind(": ".join(part for part in (place, within, code, words) if part))


def _kind(code: str, operation: str, response: Mapping[str, Any]) -> type[ReplicatorError]:
    if operation in _WRITES and code in _ERRORS_ON_WRITES:
        return _ERRORS_ON_WRITES[code]
    if operation in _SHARD_OPERATIONS and code in _ERRORS_ON_SHARDS:
        return _ERRORS_ON_SHARDS[code]
    if code in _ERRORS:
        return _ERRORS[code]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Transient if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Fatal


def _words(response: Mapping[str, Any], code: str, operation: str) -> str:
    """What may be repeated of AWS's own words."""
    text = str(response.get("Error", {}).get("Message", ""))
    if code in _MAY_QUOTE_ITEMS and operation in _WITH_ITEMS:
        return next((opening for opening in _SAFE_OPENINGS if text.startswith(opening)), "")
    return text[:ERROR_TEXT_MAX]


def _failed(error: Exception, place: str) -> ReplicatorError:
    """The error that a call without an answer of the service stands for."""
    name = type(error).__name__
    if isinstance(error, _TRANSIENT):
        return Transient(f"{place}: {name}: {str(error)[:ERROR_TEXT_MAX]}")
    if isinstance(error, _CREDENTIALS):
        return Fatal(f"{place}: no usable credentials: {str(error)[:ERROR_TEXT_MAX]}")
    return Fatal(f"{place}: {name}")
