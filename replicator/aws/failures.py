"""What botocore raises, as the error that says what to do about it.

No error keeps the botocore exception, whose response holds the item, and none repeats words of it
that may quote a header, for that holds the session token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError

from replicator.errors import Fatal, ReplicatorError, Transient
from replicator.refusals import ERROR_TEXT_MAX, refused

UNANSWERED = (botocore_errors.BotoCoreError, ResponseParserError)
"""What a call ends with that got no answer, or none that could be read."""

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

OF_CREDENTIALS = (
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

OF_A_GIVER = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What a program or a file that gives credentials brings about and botocore lets through: it is not
there, gives no JSON or one of another form, or what has expired already."""


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


def failed(error: Exception, place: str) -> ReplicatorError:
    """The error that a call without an answer of the service stands for."""
    name = type(error).__name__
    if isinstance(error, _TRANSIENT):
        words = words_of(error) if isinstance(error, _WORDS_OF_NO_SECRET) else ""
        return Transient(": ".join(part for part in (place, name, words) if part))
    if isinstance(error, OF_CREDENTIALS):
        return Fatal(f"{place}: no usable credentials: {words_of(error)}")
    return Fatal(f"{place}: {name}")


def words_of(error: Exception) -> str:
    """Its words in one line, cut short."""
    return " ".join(str(error).split())[:ERROR_TEXT_MAX]


def of_a_giver(error: Exception) -> str:
    """Why a program or a file gave no credentials, in words that cannot hold any."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, RuntimeError) and "expired" in str(error):
        return "what was given has expired already"
    return type(error).__name__
