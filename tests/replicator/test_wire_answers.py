"""What comes over the wire and is no proper answer is an error that is tried again, never data."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicator.errors import ConditionFailed, Fatal, ReplicatorError, Transient
from replicator.requests import page
from replicator.wire import connection
from replicator.wire.pool import PoolLimits
from support.lean import PUT, lean
from support.raw_server import raw_server, response

ITEM = {"id": {"S": "canary-7781"}, "b": {"B": "AP8="}, "l": {"L": [{"BS": ["AA=="]}, {"M": {}}]}}
WRITTEN = response({"Attributes": ITEM})
QUICK = PoolLimits(answer_s=0.2, connections_max=4)
RECORD = {
    "eventName": "INSERT",
    "dynamodb": {
        "ApproximateCreationDateTime": 1.5,
        "Keys": {"id": {"S": "x"}},
        "SequenceNumber": "1",
        "NewImage": ITEM,
    },
}

ODD_KEYS = {"dynamodb": {**RECORD["dynamodb"], "Keys": 1}}  # type: ignore[dict-item]
ODD_SEQUENCE = {"dynamodb": {**RECORD["dynamodb"], "SequenceNumber": 1}}  # type: ignore[dict-item]


def outcome(answer: bytes, operation: str = "PutItem", *, end: bool = False) -> Any:
    """What a call makes of an answer: the response, or the error."""

    async def main() -> Any:
        async with raw_server(answer, end=end) as server:
            with lean(server.url, limits=QUICK) as api:
                try:
                    return await api.call(operation, PUT)
                except ReplicatorError as error:
                    return error

    return asyncio.run(main())


def test_binaries_are_bytes_where_values_stand_and_nowhere_else() -> None:
    """Base64 is undone by type, at any depth; an attribute named B is a name."""
    got = outcome(response({"Attributes": {**ITEM, "B": {"S": "AA=="}}}))

    assert got == {
        "Attributes": {
            "id": {"S": "canary-7781"},
            "b": {"B": b"\x00\xff"},
            "l": {"L": [{"BS": [b"\x00"]}, {"M": {}}]},
            "B": {"S": "AA=="},
        }
    }


def test_an_answer_in_chunks_is_an_answer() -> None:
    """The length may also be told piece by piece, after any number of provisional answers."""
    body = json.dumps({"Attributes": ITEM}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    provisional = b"HTTP/1.1 100 Continue\r\n\r\n"

    got = outcome(
        provisional + head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    )

    assert got["Attributes"]["b"] == {"B": b"\x00\xff"}


@pytest.mark.parametrize("length", range(0, len(WRITTEN), 7))
def test_a_cut_answer_is_transient(length: int) -> None:
    """Wherever the connection ends before the answer does."""
    assert type(outcome(WRITTEN[:length], end=True)) is Transient


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{",
        b'{"Attributes":{"id":{"S":"a"}}',
        b"\xff\xfe",
        b"<x>",
    ],
)
def test_a_body_of_no_form_is_transient(body: bytes) -> None:
    """A 200 that is no JSON object must not pass for a write that was done."""
    error = outcome(response(body))

    assert type(error) is Transient
    assert "on orders in eu-west-1" in str(error)


def test_a_body_too_deep_is_transient() -> None:
    """No answer can exhaust the decoder's stack."""
    deep = b'{"Attributes":{"id":' + b'{"L":[' * 100_000 + b"]}" * 100_000 + b"}}"

    assert type(outcome(response(deep))) is Transient


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("PutItem", {"Attributes": []}),
        ("PutItem", {"Attributes": {"id": "canary-7781"}}),
        ("PutItem", {"Attributes": {"id": {"S": 5}}}),
        ("PutItem", {"Attributes": {"id": {"N": 5}}}),
        ("PutItem", {"Attributes": {"id": {"B": "not base64"}}}),
        ("PutItem", {"Attributes": {"id": {"L": {}}}}),
        ("PutItem", {"Attributes": {"id": {"M": {"x": {"BOOL": "true"}}}}}),
        ("BatchGetItem", {}),
        ("BatchGetItem", {"Responses": []}),
        ("BatchGetItem", {"Responses": {"orders": {}}}),
        ("BatchGetItem", {"Responses": {}, "UnprocessedKeys": {"orders": {}}}),
        ("Query", {}),
        ("Scan", {"Items": {"id": {}}}),
        ("Scan", {"Items": [], "LastEvaluatedKey": "x"}),
        ("GetShardIterator", {}),
        ("GetShardIterator", {"ShardIterator": None}),
        ("DescribeStream", {"StreamDescription": {}}),
        ("GetRecords", {}),
        ("GetRecords", {"Records": {}}),
        ("GetRecords", {"Records": [{}]}),
        ("GetRecords", {"Records": [None]}),
        ("GetRecords", {"Records": [RECORD, ODD_SEQUENCE]}),
        ("GetRecords", {"Records": [RECORD], "NextShardIterator": 7}),
    ],
)
def test_an_answer_of_another_type_is_transient(operation: str, body: dict[str, Any]) -> None:
    """Each operation's answer has a shape, and nothing else passes for it."""
    error = outcome(response(body), operation)

    assert type(error) is Transient
    assert "canary" not in str(error)


def test_keys_of_another_form_pass_only_where_a_checksum_vouches_for_them() -> None:
    """Then they are what the service says, and asking again would not help."""
    vouched = response({"Records": [RECORD, ODD_KEYS]})
    lines = vouched.split(b"\r\n")
    bare = b"\r\n".join(line for line in lines if not line.startswith(b"x-amz-crc32"))

    read = page(outcome(vouched, "GetRecords"))

    assert [record.keys for record in read.records] == [{"id": {"S": "x"}}, {}]
    assert type(outcome(bare, "GetRecords")) is Transient


def test_a_wrong_checksum_is_transient() -> None:
    """What DynamoDB's checksum does not vouch for is no data, and no refusal either."""
    refusal = {"__type": "x#ConditionalCheckFailedException", "Item": ITEM}

    assert "checksum" in str(outcome(response({}, x_amz_crc32="1")))
    assert type(outcome(response(refusal, 400, x_amz_crc32="1"))) is Transient


def test_an_answer_without_a_checksum_counts() -> None:
    """Some engines send none."""
    body = b'{"Attributes":{}}'
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 17\r\n\r\n"
    )

    assert outcome(head + body) == {"Attributes": {}}


def test_a_refusal_of_no_form_is_transient() -> None:
    """Half of a refusal must not stop a table; a stranger's page is judged by its status."""
    html = {"content_type": "text/html"}

    assert type(outcome(response(b'{"__type":"Valid', 400))) is Transient
    assert type(outcome(response(b'{"__type":5}', 400))) is Transient
    assert type(outcome(response(b"<html>", 502, **html))) is Transient
    assert type(outcome(response(b"<html>", 403, **html))) is Fatal


def test_an_answer_that_is_too_large_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that comes over the wire can take all memory."""
    monkeypatch.setattr(connection, "ANSWER_BYTES_MAX", 100_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\n"

    assert "larger" in str(outcome(response(b" " * 200_000)))
    assert "larger" in str(outcome(head + b"x: y\r\n" * 100_000))


def test_two_answers_are_no_answer() -> None:
    """One that nobody asked for must not pass for that of the next request."""
    assert type(outcome(WRITTEN + WRITTEN)) is Transient


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200))
def test_any_bytes_are_transient(said: bytes) -> None:
    """Whatever the other side says, it is not taken for an answer of DynamoDB's."""
    assert type(outcome(said, end=True)) is Transient


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    base=st.sampled_from(
        [WRITTEN, response({"__type": "ConditionalCheckFailedException", "Item": ITEM}, 400)]
    ),
    at=st.integers(0, len(WRITTEN) - 1),
    byte=st.integers(0, 255),
)
def test_a_changed_byte_never_makes_other_data(base: bytes, at: int, byte: int) -> None:
    """With one byte changed, an answer is what it was or an error, not another item."""
    changed = base[:at] + bytes([byte]) + base[at + 1 :]
    right, got = outcome(base), outcome(changed, end=True)

    if isinstance(got, ConditionFailed):
        assert isinstance(right, ConditionFailed)
        assert got.item == right.item
    elif not isinstance(got, ReplicatorError):
        assert got == right or not isinstance(right, dict)


def _counted(answer: bytes) -> Callable[[int, bytes], bytes | None]:
    return lambda number, _: None if number == 1 else answer


def test_a_broken_connection_is_not_used_again() -> None:
    """The call after a failure goes over another connection, and succeeds."""

    async def main() -> tuple[Any, int]:
        async with raw_server(_counted(WRITTEN)) as server:
            with lean(server.url, limits=QUICK) as api:
                with pytest.raises(Transient, match="closed before it answered"):
                    await api.call("PutItem", PUT)
                return await api.call("PutItem", PUT), server.connections

    got, connections = asyncio.run(main())
    assert (got["Attributes"]["id"], connections) == ({"S": "canary-7781"}, 2)
