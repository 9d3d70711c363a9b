"""Sessions of botocore: where credentials come from, and how calls are made.

There is one retry layer and it is not here, so botocore makes each call once, but for one that was
refused for the clock. Its check of DynamoDB's CRC belongs to its legacy retry mode, which is chosen
for it.
"""

from __future__ import annotations

from functools import cache, partial
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
    ReadOnlyCredentials,
    create_credential_resolver,
)
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from replicator.aws.clock import ClockCorrection
from replicator.aws.failures import OF_A_GIVER, of_a_giver
from replicator.endpoints import is_loopback
from replicator.errors import ConfigurationError
from replicator.wire.access import Keys
from replicator.wire.pool import tls_context

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10

EMULATOR_CREDENTIALS = ("local", "local")
"""For an emulator on this machine where no credentials are set up. Alphanumeric, because DynamoDB
Local insists; it also keeps a database of its own for each access key, so clients must agree."""

ROLE_SESSION_NAME = "replicator"
CHECK_PLACE = "check profile, aws_region and endpoint_url"
CHECK_KEYS = "check the credentials: profile, role_arn or the environment's"


def config_of(endpoint_url: str | None, threads: int) -> Config:
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


def session_of(
    region: str, endpoint_url: str | None, profile: str | None, role_arn: str | None
) -> Session:
    """A session for one region's calls.

    Raises: ConfigurationError, or what botocore does, where there are no usable credentials.
    """
    session = _plain_session(profile)
    # Made here, for a session's own asks the STS of whichever region was used last, or the global
    # one, and no region may depend on another.
    chain = create_credential_resolver(session, region_name=region)
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
        except OF_A_GIVER as error:
            text = f"no credentials: {of_a_giver(error)}; {CHECK_KEYS}"
            raise ConfigurationError(f"region {self._region}: {text}") from None
        wrong = keys_of(found).wrong if type(found) is Credentials else None
        if wrong is not None:
            raise ConfigurationError(f"region {self._region}: {wrong}; take it out")
        return found


def refuse_wrong_bundle(session: Session, region: str) -> None:
    """Raises: ConfigurationError where certificates cannot be told by what is to tell them."""
    bundle = session.get_config_variable("ca_bundle")
    if bundle:
        try:
            tls_context(str(bundle))
        except ConfigurationError as error:
            raise ConfigurationError(f"region {region}: {error}") from None


def keys_of(found: Credentials | ReadOnlyCredentials) -> Keys:
    """The keys, as the planes take them."""
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
        client_creator=partial(source.create_client, region_name=region, config=config_of(None, 1)),
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
