"""What an answer that is no success stands for: one table of error codes, for every client.

There is one retry layer and it is not here; it goes by the class of the error alone. What an error
says is meant for logs: operation, table, region, error code. What AWS adds in words is repeated
only where it cannot quote an item. A ValidationException on a call that carries items can (it
prints numbers that it cannot parse, for example), so of its text only openings that are listed here
get through. What blames a signature may quote the headers that were signed, the session token among
them: of that, what comes before the quotation.

This module must not know how a call is made, nor which library makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from replicator.errors import (
    ConditionFailed,
    Fatal,
    IteratorExpired,
    Poison,
    ReplicatorError,
    ShardGone,
    Throttled,
    Transient,
    Trimmed,
)

JSON_TYPE = "application/x-amz-json"
"""What DynamoDB answers with. A 200 of any other type comes from something that stands between,
and must not pass for a write that was done or a table that is empty."""

NOT_DYNAMODBS = "the answer is not DynamoDB's; is the endpoint another's?"

ERROR_TEXT_MAX = 300

STREAM_OPERATIONS = frozenset({"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"})
"""What the endpoint of DynamoDB Streams answers; all else is the table endpoint's."""

_SHARD_OPERATIONS = frozenset({"GetRecords", "GetShardIterator"})
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem"})
_WITH_ITEMS = _WRITES | {"GetItem", "BatchGetItem", "Query", "Scan", "BatchExecuteStatement"}

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

_MAY_QUOTE_HEADERS = frozenset(
    {
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    }
)
_QUOTATIONS = ("The Canonical String", "Authorization", "'")
"""What such a quotation begins with. Source: IAM User Guide, "Troubleshoot AWS API requests"."""

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


def place_of(operation: str, request: Mapping[str, Any], region: str) -> str:
    """Where a call went. An iterator names no table, so GetRecords says only the region."""
    table = request.get("TableName") or ", ".join(request.get("RequestItems", ()))
    if not table and "StreamArn" in request:
        table = request["StreamArn"].partition("/")[2].partition("/")[0]
    return f"{operation} on {table} in {region}" if table else f"{operation} in {region}"


def refused(
    *,
    code: str,
    text: str,
    status: int,
    answered: str,
    item: dict[str, dict[str, object]] | None,
    operation: str,
    place: str,
) -> ReplicatorError:
    """The error that the service's answer stands for.

    `answered` is the operation that was answered: a role is assumed in the midst of another call,
    and what STS refuses blames no item. `item`: what stood where a condition did not hold.
    """
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(item or None)
    within = answered if answered != operation else ""
    kind = _kind(code, answered, status)
    words = _words(text, code, answered)
    return kind(": ".join(part for part in (place, within, code, words) if part))


def _kind(code: str, operation: str, status: int) -> type[ReplicatorError]:
    if operation in _WRITES and code in _ERRORS_ON_WRITES:
        return _ERRORS_ON_WRITES[code]
    if operation in _SHARD_OPERATIONS and code in _ERRORS_ON_SHARDS:
        return _ERRORS_ON_SHARDS[code]
    if code in _ERRORS:
        return _ERRORS[code]
    return Transient if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Fatal


def _words(text: str, code: str, operation: str) -> str:
    """What may be repeated of AWS's own words."""
    if code in _MAY_QUOTE_ITEMS and operation in _WITH_ITEMS:
        return next((opening for opening in _SAFE_OPENINGS if text.startswith(opening)), "")
    if code in _MAY_QUOTE_HEADERS:
        for quotation in _QUOTATIONS:
            text = text.partition(quotation)[0]
        text = text.strip()
    return text[:ERROR_TEXT_MAX]
