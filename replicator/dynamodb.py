"""The AWS edge: one region's DynamoDB and DynamoDB Streams, called through botocore.

The only module that imports botocore. It adds four things to it and nothing else: calls run on a
bounded pool of threads, so that coroutines can wait for them; every failure becomes one of
replicator.errors, by the tables of refusals.py; credentials come from the usual chain, a profile,
or a role that is assumed anew before it expires; and a call that was refused for this machine's
clock is signed once more by the service's own (skew.py), which botocore does not do.

There is one retry layer and it is not here, so but for that botocore makes each call once. Its
check of DynamoDB's CRC belongs to its legacy retry mode, which is chosen for it.

No error keeps the botocore exception, whose response holds the item, and none repeats words of it
that may quote a header, for that holds the session token.

This module must not know what a request means: conditions are made in requests.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, Self
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore import xform_name
from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
    ReadOnlyCredentials,
)
from botocore.httpsession import get_cert_path
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError
from botocore.session import Session
from botocore.utils import get_environ_proxies

from replicator.endpoints import is_loopback
from replicator.errors import (
    ConfigurationError,
    Fatal,
    ReplicatorError,
    Transient,
    Unsigned,
)
from replicator.refusals import (
    ERROR_TEXT_MAX,
    JSON_TYPE,
    NOT_DYNAMODBS,
    STREAM_OPERATIONS,
    place_of,
    refused,
)
from replicator.skew import OFF_S_MIN, service_time_s
from replicator.wire.access import Access, Keys
from replicator.wire.pool import tls_context

log = logging.getLogger(__name__)

THREADS_DEFAULT = 32
CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10

EMULATOR_CREDENTIALS = ("local", "local")
"""For an emulator on this machine where no credentials are set up. Alphanumeric, because DynamoDB
Local insists; it also keeps a database of its own for each access key, so clients must agree."""

ROLE_SESSION_NAME = "replicator"

_WORDS_OF_NO_SECRET = (
    botocore_errors.EndpointConnectionError,
    botocore_errors.ConnectTimeoutError,
    botocore_errors.ReadTimeoutError,
    botocore_errors.ConnectionClosedError,
    botocore_errors.ProxyConnectionError,
    botocore_errors.SSLError,
    botocore_errors.ChecksumError,
    botocore_errors.IncompleteReadError,
)
"""They name the endpoint, the proxy (its password masked), a certificate, a number. The others
repeat any error whatever, or what was answered."""

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

_OF_A_GIVER = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What a program or a file that gives credentials brings about and botocore lets through: it is not
there, gives no JSON or one of another form, or what has expired already."""

_CHECK_PLACE = "check profile, aws_region and endpoint_url"
_CHECK_KEYS = "check the credentials: profile, role_arn or the environment's"


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
            check = _CHECK_KEYS if isinstance(error, _CREDENTIALS) else _CHECK_PLACE
            raise ConfigurationError(f"region {region}: {_words(error)}; {check}") from None
        if role_arn is not None or tables.meta.endpoint_url.startswith("https:"):
            _refuse_wrong_bundle(session, region)
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
        except (botocore_errors.BotoCoreError, ResponseParserError) as error:
            raise _failed(error, place) from None
        except _OF_A_GIVER as error:
            raise Unsigned(f"{place}: not to be had: {_of_a_giver(error)}") from None
        found = _keys(keys)
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
        except (botocore_errors.BotoCoreError, ResponseParserError) as error:
            if type(error) is botocore_errors.HTTPClientError:
                self._load_keys()  # if no header can hold them, that is what is raised
            raise _failed(error, place_of(operation, request, self._region)) from None
        except _OF_A_GIVER:
            self._load_keys()  # if it was the credentials, that is what is raised
            raise
        headers = response.pop("ResponseMetadata", {}).get("HTTPHeaders", {})
        if not headers.get("content-type", "").startswith(JSON_TYPE):
            raise Transient(f"{place_of(operation, request, self._region)}: {NOT_DYNAMODBS}")
        return response


def _config(endpoint_url: str | None, threads: int) -> Config:
    """One call at a time per connection, made once.

    Parameters are not checked before a call: that takes a tenth of its CPU, requests are made in
    one place, and what the service refuses becomes an error by refusals.py all the same.
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
    chain = session.get_component("credential_provider")
    session.register_component("credential_provider", _Chain(chain.providers, region))
    if endpoint_url and is_loopback(urlsplit(endpoint_url).hostname or ""):
        # No instance metadata: asking for it takes seconds where nobody answers.
        session.get_component("credential_provider").remove("iam-role")
        if session.get_credentials() is None:
            session.set_credentials(*EMULATOR_CREDENTIALS)
    return session if role_arn is None else role_session(session, region, role_arn)


class _Chain(CredentialResolver):
    """The usual chain. What fails in it, or gives what can be no keys, is wrong set-up."""

    def __init__(self, providers: list[CredentialProvider], region: str) -> None:
        super().__init__(providers)
        self._region = region

    def load_credentials(self) -> Credentials | None:
        """Keys, or how to fetch them; those that have to be fetched are looked at when they come.

        Raises: ConfigurationError.
        """
        try:
            found: Credentials | None = super().load_credentials()
        except botocore_errors.BotoCoreError:
            raise
        except _OF_A_GIVER as error:
            text = f"no credentials: {_of_a_giver(error)}; {_CHECK_KEYS}"
            raise ConfigurationError(f"region {self._region}: {text}") from None
        wrong = _keys(found).wrong if type(found) is Credentials else None
        if wrong is not None:
            raise ConfigurationError(f"region {self._region}: {wrong}; take it out")
        return found


def _of_a_giver(error: Exception) -> str:
    """Why a program or a file gave no credentials, in words that cannot hold any."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, RuntimeError) and "expired" in str(error):
        return "what was given has expired already"
    return type(error).__name__


def _refuse_wrong_bundle(session: Session, region: str) -> None:
    """Raises: ConfigurationError where certificates cannot be told by what is to tell them."""
    bundle = session.get_config_variable("ca_bundle")
    if bundle:
        try:
            tls_context(str(bundle))
        except ConfigurationError as error:
            raise ConfigurationError(f"region {region}: {error}") from None


def _keys(found: Credentials | ReadOnlyCredentials) -> Keys:
    return Keys(found.access_key or "", found.secret_key or "", found.token)


def _plain_session(profile: str | None = None) -> Session:
    """AWS_ENDPOINT_URL and its kin are ignored: they would send every region to one place."""
    session = Session(profile=profile)
    session.set_config_variable("ignore_configured_endpoint_urls", True)
    session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    ClockCorrection().register(session)
    return session


@cache
def _models(data_path: str | None) -> Loader:
    """The descriptions of services, read once for all sessions; a session alone reads its own."""
    return create_loader(data_path)


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


def refusal(error: botocore_errors.ClientError, operation: str, place: str) -> ReplicatorError:
    """The error that the service's answer stands for."""
    response: Mapping[str, Any] = error.response
    said = response.get("Error", {})
    return refused(
        code=str(said.get("Code", "Unknown")),
        text=str(said.get("Message", "")),
        status=response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
        answered=error.operation_name,
        item=response.get("Item"),
        operation=operation,
        place=place,
    )


def _failed(error: Exception, place: str) -> ReplicatorError:
    """The error that a call without an answer of the service stands for."""
    name = type(error).__name__
    if isinstance(error, _TRANSIENT):
        words = _words(error) if isinstance(error, _WORDS_OF_NO_SECRET) else ""
        return Transient(": ".join(part for part in (place, name, words) if part))
    if isinstance(error, _CREDENTIALS):
        return Fatal(f"{place}: no usable credentials: {_words(error)}")
    return Fatal(f"{place}: {name}")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:ERROR_TEXT_MAX]


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
    session = _session(region, endpoint_url, profile, role_arn)
    client = session.create_client(
        "lambda", region_name=region, endpoint_url=local, config=_config(local, 1)
    )
    operation, place = "ListEventSourceMappings", f"ListEventSourceMappings in {region}"
    try:
        pages = client.get_paginator(xform_name(operation)).paginate(EventSourceArn=stream_arn)
        return [mapping for page in pages for mapping in page.get("EventSourceMappings", ())]
    except botocore_errors.ClientError as error:
        raise refusal(error, operation, place) from None
    except (botocore_errors.BotoCoreError, ResponseParserError) as error:
        raise _failed(error, place) from None
    finally:
        client.close()


CORRECTED = "v4-by-the-service's-clock"
"""A name among botocore's kinds of signatures."""


class ClockCorrection:
    """How far the service's clock is ahead of this machine's, for all clients of one session."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def register(self, session: Session) -> None:
        """Correct what the clients of a session sign, STS's among them; before any is made."""
        session.register("choose-signer", self._choose)
        session.register("needs-retry", self._mend)

    def _choose(self, **said: Any) -> Any:
        """Which signature a call is to have; None: the one that botocore has chosen."""
        said["context"]["ahead_s"] = self._ahead_s
        return CORRECTED if self._ahead_s and said["signature_version"] == "v4" else None

    def _mend(self, **said: Any) -> Any:
        """Seconds after which a call is made again; None: it is not.

        Calls under way side by side are all refused for the clock, and the first of them sets it.
        """
        context = said["request_dict"]["context"]
        unsigned = "timestamp" not in context
        if said["response"] is None or said["attempts"] > 1 or unsigned:
            return None
        answer = said["response"][1]
        code = str(answer.get("Error", {}).get("Code", ""))
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        signed_s = _time(context["timestamp"]).timestamp()
        service_s = service_time_s(code, date, signed_s)
        if service_s is None:
            return None
        ahead_s = context["ahead_s"] + service_s - signed_s
        if abs(ahead_s - self._ahead_s) >= OFF_S_MIN:
            self._ahead_s = ahead_s
            region = context.get("client_region")
            log.warning("clock.off", extra={"region": region, "ahead_s": round(ahead_s)})
        return 0


class CorrectedAuth(SigV4Auth):
    """Signature Version 4 at the time that the service has."""

    def canonical_request(self, request: AWSRequest) -> str:
        """What is signed. The time is in it, and whatever is made later takes it from there."""
        at = _time(request.context["timestamp"]) + timedelta(seconds=request.context["ahead_s"])
        request.context["timestamp"] = at.strftime(SIGV4_TIMESTAMP)
        del request.headers["X-Amz-Date"]
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        return super().canonical_request(request)


def _time(stamp: str) -> datetime:
    return datetime.strptime(stamp, SIGV4_TIMESTAMP).replace(tzinfo=UTC)


AUTH_TYPE_MAPS[CORRECTED] = CorrectedAuth  # botocore finds a signer by its name only
